/**
 * Arithmetic on scalars: constants are computed, numbers below 2^32 go to the 32-bit rules where the result is
 * the same, everything else to the rules of its width.
 */
import type { AluOp, Width } from '../isa/instruction.ts';
import { alu32 } from './scalar-alu32.ts';
import { alu64 } from './scalar-alu64.ts';
import { truncate } from './scalar-convert.ts';
import { constant, constantOfInt, U32_MAX } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';

const ZERO = constant(0n);

/**
 * `a op b`; for width 32 the low halves are used and the result is zero-extended. Division by zero gives 0, modulo
 * by zero leaves `a`, signed overflow wraps, shift amounts are taken modulo the width (RFC 9669, section 4.1).
 * `neg` ignores `b`; `mov` ignores `a`.
 */
export function alu(op: AluOp, width: Width, a: Scalar, b: Scalar): Scalar {
  if (op === 'mov') return width === 64 ? b : truncate(b, 4);
  if (op === 'neg') return alu('sub', width, ZERO, a);
  if (a.mask32 === 0 && b.mask32 === 0) {
    if (a.wide === undefined && b.wide === undefined) {
      const result = computeSmall(op, a.value32 >>> 0, b.value32 >>> 0);
      if (result >= 0) return constantOfInt(width === 64 ? result : result >>> 0);
    }
    const x = a.tnum;
    const y = b.tnum;
    if (x.mask === 0n && y.mask === 0n) return constant(compute(op, width, x.value, y.value));
  }
  // There is one object for the constant 0. A quotient or product with it is 0, everything else leaves `a`.
  if (b === ZERO) {
    return op === 'mul' || op === 'and' || op === 'div' || op === 'sdiv' ? ZERO : width === 64 ? a : truncate(a, 4);
  }
  if (width === 32) return alu32(op, a, b);
  const aLow = a.wide === undefined;
  const bLow = b.wide === undefined;
  if (aLow && bLow) {
    const as = lowEquivalent(op, a, b);
    if (as !== undefined) return alu32(as, a, b);
  } else if (op === 'and' && (aLow || bLow)) {
    return alu32('and', a, b);
  }
  return alu64(op, a, b);
}

/** The operation whose zero-extended 32-bit result is the 64-bit result of `op`, for operands below 2^32, if there is one. */
function lowEquivalent(op: AluOp, a: Scalar, b: Scalar): AluOp | undefined {
  switch (op) {
    case 'add':
      return a.u32max + b.u32max <= U32_MAX ? op : undefined;
    case 'sub':
      return a.u32min >= b.u32max ? op : undefined;
    case 'mul':
      return a.u32max * b.u32max <= U32_MAX ? op : undefined;
    case 'and':
    case 'or':
    case 'xor':
    case 'div':
    case 'mod':
      return op;
    case 'sdiv':
      return 'div';
    case 'smod':
      return 'mod';
    case 'lsh':
      return b.u32max < 32 && a.u32max * 2 ** b.u32max <= U32_MAX ? op : undefined;
    case 'rsh':
    case 'arsh':
      return b.u32max < 32 ? 'rsh' : undefined;
    default:
      return undefined;
  }
}

/** The commonest operations on u32 values, where the 64-bit result and the 32-bit one are the same u32; else -1. */
function computeSmall(op: AluOp, x: number, y: number): number {
  let result: number;
  switch (op) {
    case 'add':
      result = x + y;
      break;
    case 'sub':
      result = x - y;
      break;
    case 'mul':
      result = x * y;
      break;
    case 'and':
      return (x & y) >>> 0;
    case 'or':
      return (x | y) >>> 0;
    case 'xor':
      return (x ^ y) >>> 0;
    case 'rsh':
      return y < 32 ? x >>> y : -1;
    case 'lsh':
      if (y >= 32) return -1;
      result = x * 2 ** y;
      break;
    default:
      return -1;
  }
  return result >= 0 && result <= U32_MAX ? result : -1;
}

/** The concrete operation on u64 values; the result is any bigint congruent to the u64 result (32: zero-extended). */
function compute(op: AluOp, width: Width, x: bigint, y: bigint): bigint {
  if (width === 32) return BigInt.asUintN(32, computeAt(op, 32, BigInt.asUintN(32, x), BigInt.asUintN(32, y)));
  return computeAt(op, 64, x, y);
}

function computeAt(op: AluOp, width: Width, x: bigint, y: bigint): bigint {
  switch (op) {
    case 'add':
      return x + y;
    case 'sub':
      return x - y;
    case 'mul':
      return x * y;
    case 'and':
      return x & y;
    case 'or':
      return x | y;
    case 'xor':
      return x ^ y;
    case 'div':
      return y === 0n ? 0n : x / y;
    case 'mod':
      return y === 0n ? x : x % y;
    // BigInt division truncates towards zero, and the quotient of the least number by -1 wraps to itself.
    case 'sdiv':
      return y === 0n ? 0n : BigInt.asIntN(width, x) / BigInt.asIntN(width, y);
    case 'smod':
      return y === 0n ? x : BigInt.asIntN(width, x) % BigInt.asIntN(width, y);
    case 'lsh':
      return x << (y & BigInt(width - 1));
    case 'rsh':
      return x >> (y & BigInt(width - 1));
    case 'arsh':
      return BigInt.asIntN(width, x) >> (y & BigInt(width - 1));
    case 'neg':
      return -x;
    case 'mov':
      return y;
  }
}
