/**
 * Pass: loads through addresses that may be any.
 *
 * Reads: the memory kind of loads and load-acquires. Writes: in front front of each that is untrusted, code that asks whether
 * all its bytes lie in Switchyard's own memory; if not, the register becomes 0. So do the kernel's probe reads where
 * there is nothing to read. Assumes: the verifier has refused stores. Throws: LoweringError `bad_facts` for an instruction of any
 * other kind.
 *
 * A load-acquire of an address that is not aligned gives 0, too: machines differ in what becomes of it.
 *
 * Every byte between the memory's two ends can be read, so the two comparisons are enough. The loaded register serves
 * as the address before it is loaded: `ax` alone has no room for address and limit.
 */
import type { Atomic, Instruction, Load, Size } from '../../isa/instruction.ts';
import { RunContext, RuntimeState } from '../../memory/layout.ts';
import { AX, alu, aluRegister, goto, jumpIf, load } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';

export function probeUntrusted(draft: Draft, input: LoweringInput): Draft {
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    const kind = input.facts.memoryKind.get(origin);
    if (kind !== 'untrusted' && kind !== 'untrustedStructure') return;
    if (insn.kind !== 'load' && !(insn.kind === 'atomic' && insn.op === 'loadAcquire')) {
      throw new LoweringError(
        'bad_facts',
        `${input.name}: instruction ${origin} (${insn.kind}) is said to read through an untrusted address, but only loads can`,
        { program: input.name, insn: origin },
      );
    }
    edits.set(slot, { code: probe(insn) });
  });
  return rewrite(draft, edits);
}

/** ax = a field of the state that all threads share. */
const runtimeField = (field: 'arenaStart' | 'arenaEnd'): readonly Instruction[] => [
  { kind: 'runContext', dst: AX },
  load(8, AX, AX, RunContext.runtime),
  load(8, AX, AX, RuntimeState[field]),
];

function probe(insn: Load | Atomic): Instruction[] {
  const { dst, src, offset } = insn;
  const size: Size = insn.size;
  const address: Instruction[] = [
    ...(dst === src ? [] : [aluRegister('mov', dst, src!)]),
    ...(offset === 0 ? [] : [alu('add', dst, offset)]),
  ];
  const outside = (op: 'gt' | 'lt', distance: number): Instruction => ({
    kind: 'jump',
    op,
    width: 64,
    dst,
    src: AX,
    imm: 0,
    offset: distance,
  });
  const read: Instruction[] = [{ ...insn, src: dst, offset: 0 }, goto(1)];
  const aboveStart: Instruction[] = [...runtimeField('arenaStart'), outside('lt', read.length), ...read];
  const inside: Instruction[] = [
    ...runtimeField('arenaEnd'),
    alu('sub', AX, size),
    outside('gt', aboveStart.length),
    ...aboveStart,
  ];
  const aligned = insn.kind === 'load' || size === 1 ? [] : [jumpIf('set', dst, size - 1, inside.length)];
  return [...address, ...aligned, ...inside, alu('mov', dst, 0)];
}
