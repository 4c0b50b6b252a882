/**
 * Arithmetic. Division never traps: by zero gives 0 (modulo: the dividend), MIN / -1 gives MIN (modulo: 0), as RFC 9669
 * section 4.1 demands; 32-bit results are zero-extended, which every 32-bit x86 instruction does by itself.
 */
import type { Alu, AluOp, ByteSwap, MovSx, Register, Width } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { Condition, jump, jumpIf } from './branches.ts';
import { encode, type Form } from './encodings.ts';
import { type MachineRegister, machineRegister, RAX, RCX, RDX, SCRATCH } from './registers.ts';

export const fitsInt8 = (value: number): boolean => value >= -128 && value <= 127;

/** dst = src. A 64-bit move to itself is nothing; a 32-bit one clears the upper half. */
export function move(buffer: CodeBuffer, width: Width, dst: MachineRegister, src: MachineRegister): void {
  if (width === 64 && dst === src) return;
  encode(buffer, 'mov rm, r', width, dst, src);
}

/** dst = the int32 `value`, sign-extended where `width` is 64. */
function moveImmediate(buffer: CodeBuffer, width: Width, dst: MachineRegister, value: number): void {
  if (value === 0) encode(buffer, 'xor rm, r', 32, dst, dst);
  else if (width === 32 || value > 0) encode(buffer, 'mov r32, imm32', 32, dst, 0, value);
  else encode(buffer, 'mov rm, imm32', 64, dst, 0, value);
}

/** dst = the 64-bit `value`, in the shortest form. */
export function moveImmediate64(buffer: CodeBuffer, dst: MachineRegister, value: bigint): void {
  const unsigned = BigInt.asUintN(64, value);
  if (unsigned <= 0xffffffffn) moveImmediate(buffer, 32, dst, Number(BigInt.asIntN(32, unsigned)));
  else if (BigInt.asIntN(32, unsigned) === BigInt.asIntN(64, unsigned)) {
    moveImmediate(buffer, 64, dst, Number(BigInt.asIntN(32, unsigned)));
  } else encode(buffer, 'mov r64, imm64', 64, dst, 0, unsigned);
}

export function emitAlu(buffer: CodeBuffer, insn: Alu): void {
  const { op, width, imm } = insn;
  const dst = machineRegister(insn.dst);
  const src = insn.src === undefined ? undefined : machineRegister(insn.src);
  switch (op) {
    case 'mov':
      if (src === undefined) moveImmediate(buffer, width, dst, imm);
      else move(buffer, width, dst, src);
      break;
    case 'neg':
      encode(buffer, 'neg rm', width, dst);
      break;
    case 'add':
    case 'sub':
    case 'or':
    case 'and':
    case 'xor':
      if (src !== undefined) encode(buffer, `${op} rm, r`, width, dst, src);
      else operateImmediate(buffer, op, width, dst, imm);
      break;
    case 'mul':
      if (src !== undefined) encode(buffer, 'imul r, rm', width, src, dst);
      else if (fitsInt8(imm)) encode(buffer, 'imul r, rm, imm8', width, dst, dst, imm);
      else encode(buffer, 'imul r, rm, imm32', width, dst, dst, imm);
      break;
    case 'lsh':
    case 'rsh':
    case 'arsh':
      if (src === undefined) shiftImmediate(buffer, op, width, dst, imm & (width - 1));
      else shiftRegister(buffer, op, width, dst, src);
      break;
    case 'div':
    case 'mod':
    case 'sdiv':
    case 'smod':
      if (src !== undefined) divideByRegister(buffer, op, width, dst, src);
      else divideByConstant(buffer, op, width, dst, imm);
      break;
  }
}

/** dst += src << amount. @param amount 1 to 3 */
export function emitAddShifted(buffer: CodeBuffer, dst: Register, src: Register, amount: number): void {
  const base = machineRegister(dst);
  const scale = (1 << amount) as 2 | 4 | 8;
  encode(buffer, 'lea r, m', 64, { base, displacement: 0, index: machineRegister(src), scale }, base);
}

function operateImmediate(
  buffer: CodeBuffer,
  op: 'add' | 'sub' | 'or' | 'and' | 'xor',
  width: Width,
  dst: MachineRegister,
  imm: number,
): void {
  // A mask that is not negative clears the upper half, as the shorter 32-bit form does.
  const effective = op === 'and' && imm >= 0 ? 32 : width;
  encode(buffer, fitsInt8(imm) ? `${op} rm, imm8` : `${op} rm, imm32`, effective, dst, 0, imm);
}

const SHIFT = { lsh: 'shl', rsh: 'shr', arsh: 'sar' } as const;
type ShiftOp = keyof typeof SHIFT;

function shiftImmediate(buffer: CodeBuffer, op: ShiftOp, width: Width, dst: MachineRegister, amount: number): void {
  if (amount === 0) move(buffer, width, dst, dst);
  else if (amount === 1) encode(buffer, `${SHIFT[op]} rm, 1`, width, dst);
  else encode(buffer, `${SHIFT[op]} rm, imm8`, width, dst, 0, amount);
}

/** The machine masks the amount as BPF does, but takes it from CL only, where BPF's r4 lives. */
function shiftRegister(
  buffer: CodeBuffer,
  op: ShiftOp,
  width: Width,
  dst: MachineRegister,
  src: MachineRegister,
): void {
  const form: Form = `${SHIFT[op]} rm, cl`;
  if (src === RCX && dst !== RCX) {
    encode(buffer, form, width, dst);
    return;
  }
  move(buffer, 64, SCRATCH, RCX);
  if (src !== RCX) move(buffer, 32, RCX, src);
  encode(buffer, form, width, dst === RCX ? SCRATCH : dst);
  move(buffer, 64, RCX, SCRATCH);
}

type DivideOp = Extract<AluOp, 'div' | 'mod' | 'sdiv' | 'smod'>;
const isSigned = (op: DivideOp): boolean => op === 'sdiv' || op === 'smod';
const isModulo = (op: DivideOp): boolean => op === 'mod' || op === 'smod';

function divideByRegister(
  buffer: CodeBuffer,
  op: DivideOp,
  width: Width,
  dst: MachineRegister,
  src: MachineRegister,
): void {
  const special = buffer.label();
  const done = buffer.label();
  if (isSigned(op)) {
    // Both divisors that must not reach idiv, 0 and -1, in one test: src + 1 is 1 or 0.
    encode(buffer, 'lea r, m', width, { base: src, displacement: 1 }, SCRATCH);
    encode(buffer, 'cmp rm, imm8', width, SCRATCH, 0, 1);
    jumpIf(buffer, Condition.belowOrEqual, special);
  } else {
    encode(buffer, 'test rm, r', width, src, src);
    jumpIf(buffer, Condition.equal, special);
  }
  divide(buffer, op, width, dst, src, 0);
  const skipsNothing = op === 'mod' && width === 64;
  if (!skipsNothing) jump(buffer, done);
  buffer.bind(special);
  // x / 0 = 0 and x / -1 = -x: both are x * divisor. x % 0 = x and x % -1 = 0: both are x * (divisor + 1).
  if (op === 'sdiv') encode(buffer, 'imul r, rm', width, src, dst);
  else if (op === 'smod') encode(buffer, 'imul r, rm', width, SCRATCH, dst);
  else if (op === 'div') encode(buffer, 'xor rm, r', 32, dst, dst);
  else move(buffer, width, dst, dst);
  buffer.bind(done);
}

function divideByConstant(buffer: CodeBuffer, op: DivideOp, width: Width, dst: MachineRegister, divisor: number): void {
  if (divisor === 0) {
    if (isModulo(op)) move(buffer, width, dst, dst);
    else moveImmediate(buffer, 32, dst, 0);
    return;
  }
  if (isSigned(op)) {
    if (divisor === 1 || divisor === -1) {
      if (op === 'smod') moveImmediate(buffer, 32, dst, 0);
      else if (divisor === 1) move(buffer, width, dst, dst);
      else encode(buffer, 'neg rm', width, dst);
      return;
    }
  } else {
    // A negative constant is a huge 64-bit divisor, but an ordinary one in 32 bits.
    const unsigned = width === 32 ? divisor >>> 0 : divisor;
    if (unsigned > 0 && Number.isInteger(Math.log2(unsigned))) {
      if (op === 'div') shiftImmediate(buffer, 'rsh', width, dst, Math.log2(unsigned));
      else if (unsigned === 1) moveImmediate(buffer, 32, dst, 0);
      else operateImmediate(buffer, 'and', width, dst, unsigned - 1);
      return;
    }
  }
  divide(buffer, op, width, dst, undefined, divisor);
}

/**
 * The division proper: the divisor is neither 0 nor, signed, -1. The machine divides RDX:RAX and answers in RAX and
 * RDX, which hold BPF's r0 and r3.
 * @param src divisor, or undefined for `constant`
 */
function divide(
  buffer: CodeBuffer,
  op: DivideOp,
  width: Width,
  dst: MachineRegister,
  src: MachineRegister | undefined,
  constant: number,
): void {
  // What SCRATCH holds: the divisor where it has no other place, which may be the old value of RAX or RDX; else RDX's or
  // RAX's old value. What it can't keep goes to the stack.
  let divisor: MachineRegister;
  if (src === undefined) divisor = dst === RAX || dst === RDX ? SCRATCH : dst;
  else if (src === dst) divisor = RAX;
  else divisor = src === RAX || src === RDX ? SCRATCH : src;
  const inScratch = divisor === SCRATCH ? src : dst === RDX ? RAX : RDX;
  const accumulators: MachineRegister[] = [RAX, RDX];
  const pushed = accumulators.filter(register => register !== dst && register !== inScratch);
  for (const register of pushed) encode(buffer, 'push r64', 32, register);
  if (inScratch !== undefined) move(buffer, 64, SCRATCH, inScratch);
  if (dst !== RAX) move(buffer, width, RAX, dst);
  // From here on `dst` (other than RAX and RDX) is free.
  if (src === undefined) moveImmediate(buffer, width, divisor, constant);
  if (isSigned(op)) {
    encode(buffer, 'cdq/cqo', width);
    encode(buffer, 'idiv rm', width, divisor);
  } else {
    encode(buffer, 'xor rm, r', 32, RDX, RDX);
    encode(buffer, 'div rm', width, divisor);
  }
  move(buffer, 64, dst, isModulo(op) ? RDX : RAX);
  if (inScratch !== undefined) move(buffer, 64, inScratch, SCRATCH);
  for (const register of pushed.reverse()) encode(buffer, 'pop r64', 32, register);
}

export function emitMovSx(buffer: CodeBuffer, insn: MovSx): void {
  const dst = machineRegister(insn.dst);
  const src = machineRegister(insn.src);
  if (insn.from === insn.width) move(buffer, insn.width, dst, src);
  else if (insn.from === 32) encode(buffer, 'movsxd r, rm32', 64, src, dst);
  else encode(buffer, insn.from === 8 ? 'movsx r, rm8' : 'movsx r, rm16', insn.width, src, dst);
}

export function emitByteSwap(buffer: CodeBuffer, insn: ByteSwap): void {
  const dst = machineRegister(insn.dst);
  const swaps = insn.order !== 'le';
  if (insn.size === 64) {
    if (swaps) encode(buffer, 'bswap r', 64, dst);
  } else if (insn.size === 32) {
    if (swaps) encode(buffer, 'bswap r', 32, dst);
    else move(buffer, 32, dst, dst);
  } else {
    if (swaps) encode(buffer, 'ror rm16, imm8', 32, dst, 0, 8);
    encode(buffer, 'movzx r, rm16', 32, dst, dst);
  }
}
