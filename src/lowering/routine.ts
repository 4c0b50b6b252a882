/**
 * Trusted routines as lowered programs, so that a backend needs no second way in. Nothing is rewritten: routines are
 * written in lowered terms already. Only the frame size has to be found out, which for verified programs is a fact:
 * it is the lowest offset from r10 that the text names, in a memory operand or by `rX = r10; rX += -N`, to which an
 * index may be added. Stack addresses that are computed in any other way are refused, since the frame could turn out too small for them.
 */
import { assemble } from '../isa/assembler.ts';
import { formatInstruction } from '../isa/disassembler.ts';
import type { Instruction, Register } from '../isa/instruction.ts';
import type { Routine } from '../isa/routine.ts';
import type { SubprogramFacts } from '../verifier/facts.ts';
import { LoweringError } from './errors.ts';
import type { Lowered } from './lowered.ts';

/** @throws IsaError where the routine's text is malformed; LoweringError `stack_address` */
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
      stackDepth: stackDepthOf(name, insns, start, end),
      hasTailCall: false,
      tailCallReachable: false,
      isCallback: false,
    };
  });
}

/** Registers that a call leaves with other values. */
const CALLER_SAVED: readonly Register[] = [0, 1, 2, 3, 4, 5];

/** Bytes below r10 that the instructions from `start` to `end` name, rounded up to 8. */
function stackDepthOf(name: string, insns: readonly Instruction[], start: number, end: number): number {
  let lowest = 0;
  /** Registers that hold r10 plus a known offset, in the order of the text. */
  const stackPointers = new Map<Register, number>([[10, 0]]);
  const touch = (base: Register, offset: number) => {
    const at = stackPointers.get(base);
    if (at !== undefined) lowest = Math.min(lowest, at + offset);
  };
  for (let slot = start; slot < end; slot++) {
    const insn = insns[slot]!;
    const refuse = (): never => {
      throw new LoweringError(
        'stack_address',
        `routine ${name}, instruction ${slot}: ${formatInstruction(insn)} makes a stack address in a way that its frame's size cannot ` +
          'be told from; write rX = r10 and rX += -N, or name r10 in the memory operand',
        { routine: name, insn: slot },
      );
    };
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
        const from = insn.src === undefined ? undefined : stackPointers.get(insn.src);
        const at = stackPointers.get(insn.dst);
        if (insn.dst === 10) refuse();
        if (insn.op === 'mov') {
          if (from === undefined) stackPointers.delete(insn.dst);
          else if (insn.width === 64) stackPointers.set(insn.dst, from);
          else refuse();
        } else if (from !== undefined) refuse();
        else if (at !== undefined) {
          if (insn.op !== 'add' || insn.width !== 64) refuse();
          else if (insn.src === undefined) {
            stackPointers.set(insn.dst, at + insn.imm);
            touch(insn.dst, 0);
          } else if (at < 0) {
            // An index into an area whose start was named: it leads upwards.
            stackPointers.delete(insn.dst);
          } else refuse();
        }
        break;
      }
      case 'movsx':
        if (stackPointers.has(insn.src)) refuse();
        stackPointers.delete(insn.dst);
        break;
      case 'byteswap':
      case 'aluAddress':
        if (stackPointers.has(insn.dst)) refuse();
        break;
      case 'loadImm64':
      case 'runContext':
        stackPointers.delete(insn.dst);
        break;
      case 'callHelper':
      case 'callSubprogram':
      case 'callKfunc':
      case 'callRoutine':
      case 'callIndirect':
      case 'callService':
        for (const register of CALLER_SAVED) stackPointers.delete(register);
        break;
      default:
        break;
    }
  }
  return (-lowest + 7) & ~7;
}
