/** Conditional jumps. */
import type { Jump, JumpOp } from '../../isa/instruction.ts';
import type { CodeBuffer, Label } from '../shared/code-buffer.ts';
import { Condition, jumpIf, jumpIfZero } from './branches.ts';
import { compareConstant, loadConstant } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { bitmaskImmediate } from './immediates.ts';
import { machineRegister, SCRATCH_A } from './registers.ts';

const CONDITIONS: Readonly<Record<JumpOp, Condition>> = {
  eq: Condition.equal,
  ne: Condition.notEqual,
  gt: Condition.higher,
  ge: Condition.higherOrSame,
  lt: Condition.lower,
  le: Condition.lowerOrSame,
  sgt: Condition.greater,
  sge: Condition.greaterOrEqual,
  slt: Condition.less,
  sle: Condition.lessOrEqual,
  set: Condition.notEqual,
};

export function emitJump(buffer: CodeBuffer, insn: Jump, target: Label): void {
  const { op, width, imm } = insn;
  const dst = machineRegister(insn.dst);
  if (insn.src === undefined && imm === 0 && (op === 'eq' || op === 'ne')) {
    jumpIfZero(buffer, op === 'eq', width, dst, target);
    return;
  }
  if (insn.src !== undefined) {
    encode(buffer, op === 'set' ? 'tst Rn, Rm' : 'cmp Rn, Rm', width, dst, machineRegister(insn.src));
  } else if (op !== 'set') {
    compareConstant(buffer, width, dst, imm);
  } else if (bitmaskImmediate(width, BigInt(imm)) !== undefined) {
    encode(buffer, 'tst Rn, #b', width, dst, BigInt(imm));
  } else {
    loadConstant(buffer, width, SCRATCH_A, BigInt(imm));
    encode(buffer, 'tst Rn, Rm', width, dst, SCRATCH_A);
  }
  jumpIf(buffer, CONDITIONS[op], target);
}
