/**
 * Trusted routines as lowered programs, so that a backend needs no second way in. Nothing is rewritten: routines are
 * written in lowered terms already. Only the frame size has to be found out, which for verified programs is a fact:
 * it is the lowest offset from r10 that the text names, in a memory operand or by `rX = r10; rX += -N`. A routine
 * whose stack addresses are computed in any other way would be miscompiled: don't write one.
 */
import { assemble } from '../isa/assembler.ts';
import type { Instruction, Register } from '../isa/instruction.ts';
import type { Routine } from '../isa/routine.ts';
import type { SubprogramFacts } from '../verifier/facts.ts';
import type { Lowered } from './lowered.ts';

/** @throws IsaError where the routine's text is malformed. */
export function lowerRoutine(routine: Routine): Lowered {
  const insns = assemble(routine.text, { internal: true });
  return {
    name: routine.name,
    type: 'raw',
    insns,
    origin: Int32Array.from(insns, (_, slot) => slot),
    usedMaps: [],
    pokeTable: [],
    subprograms: routineSubprograms(routine.name, insns),
  };
}

function routineSubprograms(name: string, insns: readonly Instruction[]): SubprogramFacts[] {
  const starts = new Set([0]);
  insns.forEach((insn, slot) => {
    if (insn.kind === 'callSubprogram') starts.add(slot + 1 + insn.offset);
  });
  const sorted = [...starts].sort((a, b) => a - b);
  return sorted.map((start, i) => {
    const end = sorted[i + 1] ?? insns.length;
    return {
      name: start === 0 ? name : `${name}+${start}`,
      start,
      end,
      stackDepth: stackDepthOf(insns.slice(start, end)),
      hasTailCall: false,
      tailCallReachable: false,
      isCallback: false,
    };
  });
}

/** Bytes below r10 that the instructions name, rounded up to 8. */
function stackDepthOf(insns: readonly Instruction[]): number {
  let lowest = 0;
  /** Registers that hold r10 plus a known offset, in the order of the text. */
  const stackPointers = new Map<Register, number>([[10, 0]]);
  const touch = (base: Register, offset: number) => {
    const at = stackPointers.get(base);
    if (at !== undefined) lowest = Math.min(lowest, at + offset);
  };
  for (const insn of insns) {
    switch (insn.kind) {
      case 'store':
        touch(insn.dst, insn.offset);
        break;
      case 'load':
        touch(insn.src, insn.offset);
        stackPointers.delete(insn.dst);
        break;
      case 'atomic':
        touch(insn.op === 'loadAcquire' ? insn.src : insn.dst, insn.offset);
        break;
      case 'alu': {
        const from = insn.op === 'mov' && insn.src !== undefined ? stackPointers.get(insn.src) : undefined;
        const at = stackPointers.get(insn.dst);
        if (from !== undefined) {
          stackPointers.set(insn.dst, from);
        } else if (at !== undefined && insn.op === 'add' && insn.src === undefined) {
          stackPointers.set(insn.dst, at + insn.imm);
          touch(insn.dst, 0);
        } else {
          stackPointers.delete(insn.dst);
        }
        break;
      }
      default:
        break;
    }
  }
  return (-lowest + 7) & ~7;
}
