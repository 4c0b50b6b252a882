/** Conditional jumps. */
import type { Jump, JumpOp } from '../../isa/instruction.ts';
import type { CodeBuffer, Label } from '../shared/code-buffer.ts';
import { Condition, jumpIf } from './branches.ts';
import { fitsInt8 } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { machineRegister } from './registers.ts';

const CONDITIONS: Readonly<Record<JumpOp, Condition>> = {
  eq: Condition.equal,
  ne: Condition.notEqual,
  gt: Condition.above,
  ge: Condition.aboveOrEqual,
  lt: Condition.below,
  le: Condition.belowOrEqual,
  sgt: Condition.greater,
  sge: Condition.greaterOrEqual,
  slt: Condition.less,
  sle: Condition.lessOrEqual,
  set: Condition.notEqual,
};

export function emitJump(buffer: CodeBuffer, insn: Jump, target: Label): void {
  const { width, imm } = insn;
  const dst = machineRegister(insn.dst);
  if (insn.op === 'set') {
    if (insn.src !== undefined) encode(buffer, 'test rm, r', width, dst, machineRegister(insn.src));
    // With a mask that is not negative the upper half cannot matter; the 32-bit form is shorter.
    else encode(buffer, 'test rm, imm32', imm < 0 ? width : 32, dst, 0, imm);
  } else if (insn.src !== undefined) {
    encode(buffer, 'cmp rm, r', width, dst, machineRegister(insn.src));
  } else if (imm === 0) {
    // Sets every flag as a comparison with 0 does.
    encode(buffer, 'test rm, r', width, dst, dst);
  } else {
    encode(buffer, fitsInt8(imm) ? 'cmp rm, imm8' : 'cmp rm, imm32', width, dst, 0, imm);
  }
  jumpIf(buffer, CONDITIONS[insn.op], target);
}
