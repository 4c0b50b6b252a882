/** A prog array in the test's data region, with the poke list that the runtime would keep. */
import type { Code } from '../../src/jit/shared/code.ts';
import { mergePatch } from '../../src/jit/shared/patch-word.ts';
import type { TailCallChoices } from '../../src/jit/shared/tail-call-choices.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../src/memory/layout.ts';
import type { Computer } from './computer.ts';

interface Site {
  readonly bypass: bigint | undefined;
  readonly target: bigint;
  readonly out: bigint;
}

export class TestProgArray {
  readonly address: bigint;
  readonly maxEntries: number;
  private readonly computer: Computer;
  private readonly sites = new Map<number, Site[]>();
  /** What empty slots of the second half hold. */
  readonly emptyTarget: bigint;

  /** @param emptySlots as the programs around the array were compiled; what mode 'fast' chooses, or 'test' for other modes */
  constructor(computer: Computer, maxEntries: number, emptySlots: TailCallChoices['emptySlots'] = 'test') {
    this.computer = computer;
    this.maxEntries = maxEntries;
    this.address = computer.allocate(ProgArrayLayout.ptrs + 16 * maxEntries);
    this.emptyTarget = emptySlots === 'stub' ? computer.place(computer.machine.missStub()) : 0n;
    const { view } = computer;
    const base = computer.offset(this.address);
    view.setUint32(base + MapHeader.maxEntries, maxEntries, true);
    for (let slot = maxEntries; slot < 2 * maxEntries; slot++) {
      view.setBigUint64(base + ProgArrayLayout.ptrs + 8 * slot, this.emptyTarget, true);
    }
  }

  /** @param entry code address, undefined to empty the slot */
  set(index: number, entry: bigint | undefined, prologueOffset: number): void {
    const { computer } = this;
    const slot = computer.offset(this.address) + ProgArrayLayout.ptrs + 8 * index;
    let object = 0n;
    if (entry !== undefined) {
      object = computer.allocate(ProgramObject.size);
      computer.view.setBigUint64(computer.offset(object) + ProgramObject.bpfFunc, entry, true);
    }
    const target = entry === undefined ? this.emptyTarget : entry + BigInt(prologueOffset);
    computer.view.setBigUint64(slot, object, true);
    computer.view.setBigUint64(slot + 8 * this.maxEntries, target, true);
    for (const site of this.sites.get(index) ?? []) this.patch(site, index);
  }

  /** Registers the direct sites of installed code. `keys` are the poke table's. */
  addSites(code: Code, entry: bigint, keys: readonly number[]): void {
    for (const site of code.pokeSites) {
      const key = keys[site.poke]!;
      const at = (offset: number): bigint => entry + BigInt(offset);
      const list = this.sites.get(key) ?? [];
      const patched = {
        bypass: site.bypass === undefined ? undefined : at(site.bypass),
        target: at(site.target),
        out: at(site.out),
      };
      list.push(patched);
      this.sites.set(key, list);
      this.patch(patched, key);
    }
  }

  private cachedTarget(index: number): bigint {
    const at = this.computer.offset(this.address) + ProgArrayLayout.ptrs + 8 * (this.maxEntries + index);
    return this.computer.view.getBigUint64(at, true);
  }

  private patch(site: Site, index: number): void {
    const { machine } = this.computer;
    const target = this.cachedTarget(index);
    const empty = target === this.emptyTarget;
    if (site.bypass === undefined) {
      this.write(site.target, machine.jump(site.target, empty ? site.out : target));
    } else if (empty) {
      this.write(site.bypass, machine.jump(site.bypass, site.out));
      this.write(site.target, machine.trap());
    } else {
      this.write(site.target, machine.jump(site.target, target));
      this.write(site.bypass, machine.nop());
    }
  }
  private write(address: bigint, bytes: Uint8Array): void {
    const word = address & ~7n;
    this.computer.setCodeWord(word, mergePatch(this.computer.codeWord(word), Number(address & 7n), bytes));
  }
}
