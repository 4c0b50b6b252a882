/**
 * Arithmetic. The machine's division is BPF's: by zero gives 0, MIN / -1 gives MIN, so that the remainder, computed
 * from the quotient, is the dividend or 0 as RFC 9669 section 4.1 demands. Shifts by registers mask the amount.
 * 32-bit instructions clear the upper half.
 */
import type { Alu, AluOp, ByteSwap, MovSx, Width } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { encode } from './encodings.ts';
import { bitmaskImmediate, constantSteps } from './immediates.ts';
import { type MachineRegister, machineRegister, SCRATCH_A, SP, ZR } from './registers.ts';

/** dst = src. A 64-bit move to itself is nothing; a 32-bit one clears the upper half. */
export function move(buffer: CodeBuffer, width: Width, dst: MachineRegister, src: MachineRegister): void {
  if (width === 64 && dst === src) return;
  encode(buffer, 'mov Rd, Rm', width, dst, src);
}

/** dst = `value` modulo 2^width, in as few instructions as possible. */
export function loadConstant(buffer: CodeBuffer, width: Width, dst: MachineRegister, value: bigint): void {
  const unsigned = BigInt.asUintN(width, value);
  // Writing the lower half clears the upper.
  const shortest = unsigned <= 0xffffffffn ? 32 : 64;
  const steps = constantSteps(shortest, unsigned);
  if (steps.length > 1 && bitmaskImmediate(shortest, unsigned) !== undefined) {
    encode(buffer, 'orr Rd|SP, Rn, #b', shortest, dst, ZR, unsigned);
    return;
  }
  for (const { op, chunk, shift } of steps) encode(buffer, `${op} Rd, #i, lsl #h*16`, shortest, dst, chunk, shift);
}

const IMMEDIATE_LIMIT = 1 << 12;
const SHIFTED_LIMIT = 1 << 24;

/**
 * dst = src + value, for |value| below 2^24; nothing for 0 where dst is src. Both may be the stack pointer.
 * @param width of the addition
 */
export function addConstant(
  buffer: CodeBuffer,
  dst: MachineRegister,
  src: MachineRegister,
  value: number,
  width: Width = 64,
): void {
  const op = value < 0 ? 'sub' : 'add';
  const amount = Math.abs(value);
  const low = amount & (IMMEDIATE_LIMIT - 1);
  const high = amount - low;
  if (high !== 0) encode(buffer, `${op} Rd|SP, Rn|SP, #i, lsl #12`, width, dst, src, high / IMMEDIATE_LIMIT);
  if (low !== 0) encode(buffer, `${op} Rd|SP, Rn|SP, #i`, width, dst, high === 0 ? src : dst, low);
  if (amount !== 0 || (dst === src && width === 64)) return;
  if (dst === SP || src === SP) encode(buffer, 'add Rd|SP, Rn|SP, #i', width, dst, src, 0);
  else move(buffer, width, dst, src);
}

/** Flags of `register - value`. May use SCRATCH_A. */
export function compareConstant(buffer: CodeBuffer, width: Width, register: MachineRegister, value: number): void {
  const op = value < 0 ? 'cmn' : 'cmp';
  const amount = Math.abs(value);
  if (amount < IMMEDIATE_LIMIT) encode(buffer, `${op} Rn|SP, #i`, width, register, amount);
  else if (amount < SHIFTED_LIMIT && amount % IMMEDIATE_LIMIT === 0) {
    encode(buffer, `${op} Rn|SP, #i, lsl #12`, width, register, amount / IMMEDIATE_LIMIT);
  } else {
    loadConstant(buffer, width, SCRATCH_A, BigInt(value));
    encode(buffer, 'cmp Rn, Rm', width, register, SCRATCH_A);
  }
}

const LOGIC = { and: 'and', or: 'orr', xor: 'eor' } as const;
const SHIFT = { lsh: 'lsl', rsh: 'lsr', arsh: 'asr' } as const;
type ShiftOp = keyof typeof SHIFT;

export function emitAlu(buffer: CodeBuffer, insn: Alu): void {
  const dst = machineRegister(insn.dst);
  if (insn.op === 'neg') encode(buffer, 'neg Rd, Rm', insn.width, dst, dst);
  else if (insn.src === undefined) emitAluConstant(buffer, insn.op, insn.width, dst, insn.imm);
  else emitAluRegister(buffer, insn.op, insn.width, dst, machineRegister(insn.src));
}

type BinaryOp = Exclude<AluOp, 'neg'>;

function emitAluRegister(
  buffer: CodeBuffer,
  op: BinaryOp,
  width: Width,
  dst: MachineRegister,
  src: MachineRegister,
): void {
  switch (op) {
    case 'mov':
      move(buffer, width, dst, src);
      break;
    case 'add':
    case 'sub':
    case 'mul':
      encode(buffer, `${op} Rd, Rn, Rm`, width, dst, dst, src);
      break;
    case 'or':
    case 'and':
    case 'xor':
      encode(buffer, `${LOGIC[op]} Rd, Rn, Rm`, width, dst, dst, src);
      break;
    case 'lsh':
    case 'rsh':
    case 'arsh':
      encode(buffer, `${SHIFT[op]} Rd, Rn, Rm`, width, dst, dst, src);
      break;
    case 'div':
    case 'sdiv':
      encode(buffer, op === 'div' ? 'udiv Rd, Rn, Rm' : 'sdiv Rd, Rn, Rm', width, dst, dst, src);
      break;
    case 'mod':
    case 'smod':
      encode(buffer, op === 'mod' ? 'udiv Rd, Rn, Rm' : 'sdiv Rd, Rn, Rm', width, SCRATCH_A + 1, dst, src);
      encode(buffer, 'msub Rd, Rn, Rm, Ra', width, dst, SCRATCH_A + 1, src, dst);
      break;
  }
}

function emitAluConstant(buffer: CodeBuffer, op: BinaryOp, width: Width, dst: MachineRegister, imm: number): void {
  const value = BigInt(imm);
  switch (op) {
    case 'mov':
      loadConstant(buffer, width, dst, value);
      return;
    case 'add':
    case 'sub': {
      const addend = op === 'add' ? imm : -imm;
      if (Math.abs(addend) < SHIFTED_LIMIT) {
        addConstant(buffer, dst, dst, addend, width);
        return;
      }
      break;
    }
    case 'or':
    case 'and':
    case 'xor': {
      // A mask that is not negative clears the upper half, as the 32-bit form does, and more masks fit that.
      const effective = op === 'and' && imm >= 0 ? 32 : width;
      if (bitmaskImmediate(effective, value) !== undefined) {
        encode(buffer, `${LOGIC[op]} Rd|SP, Rn, #b`, effective, dst, dst, value);
        return;
      }
      break;
    }
    case 'lsh':
    case 'rsh':
    case 'arsh':
      shiftConstant(buffer, op, width, dst, imm & (width - 1));
      return;
    case 'div':
    case 'mod': {
      // A negative constant is a huge 64-bit divisor, but an ordinary one in 32 bits.
      const divisor = BigInt.asUintN(width, value);
      if (divisor === 0n || (divisor & (divisor - 1n)) !== 0n) break;
      if (op === 'div') shiftConstant(buffer, 'rsh', width, dst, divisor.toString(2).length - 1);
      else if (divisor === 1n) loadConstant(buffer, width, dst, 0n);
      else encode(buffer, 'and Rd|SP, Rn, #b', width, dst, dst, divisor - 1n);
      return;
    }
    case 'sdiv':
    case 'smod':
    case 'mul':
      break;
  }
  loadConstant(buffer, width, SCRATCH_A, value);
  emitAluRegister(buffer, op, width, dst, SCRATCH_A);
}

/** @param amount 0 to width - 1 */
function shiftConstant(buffer: CodeBuffer, op: ShiftOp, width: Width, dst: MachineRegister, amount: number): void {
  if (amount === 0) move(buffer, width, dst, dst);
  else if (op === 'lsh') {
    encode(buffer, 'ubfm Rd, Rn, #r, #s', width, dst, dst, width - amount, width - 1 - amount);
  } else {
    encode(buffer, op === 'rsh' ? 'ubfm Rd, Rn, #r, #s' : 'sbfm Rd, Rn, #r, #s', width, dst, dst, amount, width - 1);
  }
}

export function emitMovSx(buffer: CodeBuffer, insn: MovSx): void {
  const dst = machineRegister(insn.dst);
  const src = machineRegister(insn.src);
  encode(buffer, 'sbfm Rd, Rn, #r, #s', insn.width, dst, src, 0, insn.from - 1);
}

export function emitByteSwap(buffer: CodeBuffer, insn: ByteSwap): void {
  const { size } = insn;
  const dst = machineRegister(insn.dst);
  if (insn.order !== 'le') {
    if (size === 16) encode(buffer, 'rev16 Rd, Rn', 32, dst, dst);
    else encode(buffer, 'rev Rd, Rn', size, dst, dst);
  }
  if (size === 16) encode(buffer, 'ubfm Rd, Rn, #r, #s', 32, dst, dst, 0, 15);
  else if (size === 32 && insn.order === 'le') move(buffer, 32, dst, dst);
}
