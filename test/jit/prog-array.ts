/** A prog array in the test's data region, with the poke list that the runtime would keep. */
import type { Code } from '../../src/jit/shared/code.ts';
import { mergePatch } from '../../src/jit/shared/patch-word.ts';
import { jumpBytes, nopBytes, trapBytes } from '../../src/jit/x64/patch.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../src/memory/layout.ts';
import type { Native } from './native.ts';

interface Site {
  readonly bypass: bigint;
  readonly target: bigint;
  readonly out: bigint;
}

export class TestProgArray {
  readonly address: bigint;
  readonly maxEntries: number;
  private readonly native: Native;
  private readonly sites = new Map<number, Site[]>();

  constructor(native: Native, maxEntries: number) {
    this.native = native;
    this.maxEntries = maxEntries;
    this.address = native.allocate(ProgArrayLayout.ptrs + 16 * maxEntries);
    native.view.setUint32(native.offset(this.address) + MapHeader.maxEntries, maxEntries, true);
  }

  /** @param entry code address, undefined to empty the slot */
  set(index: number, entry: bigint | undefined, prologueOffset: number): void {
    const { native } = this;
    const slot = native.offset(this.address) + ProgArrayLayout.ptrs + 8 * index;
    let object = 0n;
    if (entry !== undefined) {
      object = native.allocate(ProgramObject.size);
      native.view.setBigUint64(native.offset(object) + ProgramObject.bpfFunc, entry, true);
    }
    const target = entry === undefined ? 0n : entry + BigInt(prologueOffset);
    native.view.setBigUint64(slot, object, true);
    native.view.setBigUint64(slot + 8 * this.maxEntries, target, true);
    for (const site of this.sites.get(index) ?? []) this.patch(site, target);
  }

  /** Registers the direct sites of installed code. `keys` are the poke table's. */
  addSites(code: Code, entry: bigint, keys: readonly number[]): void {
    for (const site of code.pokeSites) {
      const key = keys[site.poke]!;
      const at = (offset: number): bigint => entry + BigInt(offset);
      const list = this.sites.get(key) ?? [];
      const patched = { bypass: at(site.bypass), target: at(site.target), out: at(site.out) };
      list.push(patched);
      this.sites.set(key, list);
      this.patch(patched, this.cachedTarget(key));
    }
  }

  private cachedTarget(index: number): bigint {
    const at = this.native.offset(this.address) + ProgArrayLayout.ptrs + 8 * (this.maxEntries + index);
    return this.native.view.getBigUint64(at, true);
  }

  private patch(site: Site, target: bigint): void {
    if (target === 0n) {
      this.write(site.bypass, jumpBytes(site.bypass, site.out));
      this.write(site.target, trapBytes());
    } else {
      this.write(site.target, jumpBytes(site.target, target));
      this.write(site.bypass, nopBytes());
    }
  }
  private write(address: bigint, bytes: Uint8Array): void {
    const word = address & ~7n;
    this.native.setCodeWord(word, mergePatch(this.native.codeWord(word), Number(address & 7n), bytes));
  }
}
