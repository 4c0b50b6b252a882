/**
 * Pass 7: may_goto and legacy packet loads.
 *
 * Reads: nothing but the program. Writes: may_goto -> a counter on the stack of the function it is in (8 bytes more of
 * stackDepth, set at its entry); LD_ABS and LD_IND -> calls of trusted routines.
 * Assumes: r6 holds the context at legacy loads, as the verifier demands. Throws: nothing.
 *
 * may_goto jumps once its function has passed such instructions 8,388,608 times (the kernel's BPF_MAX_LOOPS): whoever
 * writes it accepts an early end of the loop, but not a loop without one.
 * A legacy load that misses the packet ends the current function with r0 = 0.
 */
import type { Instruction, PacketLoad } from '../../isa/instruction.ts';
import type { SubprogramFacts } from '../../verifier/facts.ts';
import { AX, alu, aluRegister, jumpIf, load, store, storeImm } from '../build.ts';
import type { Draft } from '../draft.ts';
import { type Edit, rewrite } from '../rewrite.ts';

/** Times that may_goto lets pass in one run of a function. */
const MAX_LOOPS = 8 * 1024 * 1024;

export function lowerMayGoto(draft: Draft): Draft {
  if (!draft.insns.some(insn => insn.kind === 'mayGoto')) return draft;
  const edits = new Map<number, Edit>();
  const subprograms = draft.subprograms.map(subprogram => addCounter(subprogram, draft, edits));
  return rewrite({ ...draft, subprograms }, edits);
}

function addCounter(subprogram: SubprogramFacts, draft: Draft, edits: Map<number, Edit>): SubprogramFacts {
  const stackDepth = (subprogram.stackDepth + 7 + 8) & ~7;
  const counter = -stackDepth;
  let found = false;
  for (let slot = subprogram.start; slot < subprogram.end; slot++) {
    const insn = draft.insns[slot]!;
    if (insn.kind !== 'mayGoto') continue;
    found = true;
    edits.set(slot, {
      code: [
        load(8, AX, 10, counter),
        { kind: 'jumpOut', insn: jumpIf('eq', AX, 0, 0), to: slot + 1 + insn.offset },
        alu('sub', AX, 1),
        store(8, 10, counter, AX),
      ],
    });
  }
  if (!found) return subprogram;
  edits.set(subprogram.start, {
    ...edits.get(subprogram.start),
    prologue: [storeImm(8, 10, counter, MAX_LOOPS)],
  });
  return { ...subprogram, stackDepth };
}

export function lowerPacketLoads(draft: Draft): Draft {
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    if (insn.kind === 'packetLoad') edits.set(slot, { code: packetLoad(insn) });
  });
  return rewrite(draft, edits);
}

function packetLoad(insn: PacketLoad): readonly Instruction[] {
  return [
    ...(insn.src === undefined
      ? [alu('mov', 2, insn.imm)]
      : // First r2, since the offset may be in r1.
        [aluRegister('mov', 2, insn.src), alu('add', 2, insn.imm)]),
    aluRegister('mov', 1, 6),
    { kind: 'callRoutine', routine: `skb_load_abs_${insn.size}` },
    jumpIf('sge', 0, 0, 2),
    alu('mov', 0, 0),
    { kind: 'exit' },
  ];
}
