/**
 * 32-bit arithmetic on scalars, in plain numbers. The result is below 2^32.
 *
 * Exactness: sums, differences and shifted bounds of 32-bit numbers are exact as doubles, and the bit operators take
 * doubles modulo 2^32, exactly; products are used only up to 2^53.
 */
import type { AluOp } from '../isa/instruction.ts';
import { ones, S32_MAX, S32_MIN, settleLow, U32_MAX } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';

const ANY_LOW = settleLow(0, U32_MAX, 0, U32_MAX, S32_MIN, S32_MAX)!;

// Results under construction; the functions below narrow them. No function here calls `alu32` again, so they can be shared.
let umin = 0;
let umax = U32_MAX;
let smin = S32_MIN;
let smax = S32_MAX;
let value = 0;
let mask = U32_MAX;

/** As `alu`, width 32, without `neg` and `mov`. */
export function alu32(op: AluOp, a: Scalar, b: Scalar): Scalar {
  umin = 0;
  umax = U32_MAX;
  smin = S32_MIN;
  smax = S32_MAX;
  value = 0;
  mask = U32_MAX;
  switch (op) {
    case 'add':
      add32(a, b);
      break;
    case 'sub':
      subtract32(a, b);
      break;
    case 'mul':
      multiply32(a, b);
      break;
    case 'and':
    case 'or':
    case 'xor':
      bitwise32(op, a, b);
      break;
    case 'lsh':
    case 'rsh':
    case 'arsh':
      shift32(op, a, b);
      break;
    case 'div':
      divide32(a, b);
      break;
    case 'mod':
      modulo32(a, b);
      break;
    case 'sdiv':
      signedDivide32(a, b);
      break;
    case 'smod':
      signedModulo32(a, b);
      break;
    default:
      return ANY_LOW;
  }
  return settleLow(value, mask, umin, umax, smin, smax) ?? ANY_LOW;
}

/**
 * The result lies at most `last - first` past `first` on the circle of u32; both are exact integers. Narrows the order in which that is one interval.
 */
function narrowLow(first: number, last: number): void {
  if (last - first > U32_MAX) return;
  const u0 = first >>> 0;
  const u1 = last >>> 0;
  if (u0 <= u1) {
    if (u0 > umin) umin = u0;
    if (u1 < umax) umax = u1;
  }
  const s0 = first | 0;
  const s1 = last | 0;
  if (s0 <= s1) {
    if (s0 > smin) smin = s0;
    if (s1 < smax) smax = s1;
  }
}

function lowValue(s: Scalar): number {
  return s.value32 >>> 0;
}

function lowMaskOf(s: Scalar): number {
  return s.mask32 >>> 0;
}

function add32(a: Scalar, b: Scalar): void {
  const am = lowMaskOf(a);
  const bm = lowMaskOf(b);
  const low = lowValue(a) + lowValue(b);
  mask = ((low ^ (low + am + bm)) | am | bm) >>> 0;
  value = (low & ~mask) >>> 0;
  narrowLow(a.u32min + b.u32min, a.u32max + b.u32max);
  narrowLow(a.s32min + b.s32min, a.s32max + b.s32max);
}

function subtract32(a: Scalar, b: Scalar): void {
  const am = lowMaskOf(a);
  const bm = lowMaskOf(b);
  const difference = lowValue(a) - lowValue(b);
  mask = (((difference + am) ^ (difference - bm)) | am | bm) >>> 0;
  value = (difference & ~mask) >>> 0;
  narrowLow(a.u32min - b.u32max, a.u32max - b.u32min);
  narrowLow(a.s32min - b.s32max, a.s32max - b.s32min);
}

function multiply32(a: Scalar, b: Scalar): void {
  const av = lowValue(a);
  const am = lowMaskOf(a);
  const bv = lowValue(b);
  const bm = lowMaskOf(b);
  // As for tnumMul: of a low range one order tells all, else both are tried.
  const oneOrder = (bm === 0 && av === 0 && (am & (am + 1)) === 0) || (am === 0 && bv === 0 && (bm & (bm + 1)) === 0);
  if (!oneOrder || am === 0) longMul32(av, am, bv, bm);
  if (!oneOrder || am !== 0) {
    const first = { value, mask };
    longMul32(bv, bm, av, am);
    if (!oneOrder) {
      value = (value | first.value) >>> 0;
      mask = (mask & first.mask) >>> 0;
    }
  }
  narrowProductLow(a, b);
}

/** The known bits of a product by long multiplication, into `value` and `mask`. */
function longMul32(known: number, unknown: number, multiplicandValue: number, multiplicandMask: number): void {
  value = 0;
  mask = 0;
  for (; (known | unknown) !== 0; known >>>= 1, unknown >>>= 1) {
    if (((known | unknown) & 1) !== 0) {
      const low = value + multiplicandValue;
      const sumMask = (low ^ (low + mask + multiplicandMask)) | mask | multiplicandMask;
      const sumValue = low & ~sumMask;
      // Where the bit is unknown, the sums with and without it are joined.
      mask = ((known & 1) !== 0 ? sumMask : (sumValue ^ value) | sumMask | mask) >>> 0;
      value = (sumValue & ~mask) >>> 0;
    }
    multiplicandValue = (multiplicandValue << 1) >>> 0;
    multiplicandMask = (multiplicandMask << 1) >>> 0;
  }
}

/** The low half of a product, where the products of the bounds are exact. */
function narrowProductLow(a: Scalar, b: Scalar): void {
  if (a.u32max * b.u32max <= Number.MAX_SAFE_INTEGER) narrowLow(a.u32min * b.u32min, a.u32max * b.u32max);
  const p = a.s32min * b.s32min;
  const q = a.s32min * b.s32max;
  const r = a.s32max * b.s32min;
  const s = a.s32max * b.s32max;
  const first = Math.min(p, q, r, s);
  const last = Math.max(p, q, r, s);
  if (first >= Number.MIN_SAFE_INTEGER && last <= Number.MAX_SAFE_INTEGER) narrowLow(first, last);
}

function bitwise32(op: 'and' | 'or' | 'xor', a: Scalar, b: Scalar): void {
  const av = lowValue(a);
  const bv = lowValue(b);
  const am = lowMaskOf(a);
  const bm = lowMaskOf(b);
  if (op === 'and') {
    value = (av & bv) >>> 0;
    mask = ((av | am) & (bv | bm) & ~value) >>> 0;
    umax = Math.min(a.u32max, b.u32max);
  } else if (op === 'or') {
    value = (av | bv) >>> 0;
    mask = ((am | bm) & ~value) >>> 0;
    umin = Math.max(a.u32min, b.u32min);
  } else {
    mask = (am | bm) >>> 0;
    value = ((av ^ bv) & ~mask) >>> 0;
  }
  if (a.s32min >= 0 && b.s32min >= 0) return;
  // The result has at least as many copies of its sign bit as both operands.
  const limit = ones(magnitude(a.s32min) | magnitude(a.s32max) | magnitude(b.s32min) | magnitude(b.s32max));
  smin = ~limit;
  smax = limit;
  if (op === 'and') smax = Math.min(smax, Math.max(a.s32max, b.s32max));
  if (op === 'or') smin = Math.max(smin, Math.min(a.s32min, b.s32min));
}

/** The bits of an int32 that differ from its sign. */
function magnitude(x: number): number {
  return x ^ (x >> 31);
}

function shift32(op: 'lsh' | 'rsh' | 'arsh', a: Scalar, b: Scalar): void {
  const amounts = shiftAmounts(b, 31);
  const { least, most } = amounts;
  const av = lowValue(a);
  const am = lowMaskOf(a);
  let first = true;
  for (let amount = least; amount <= most; amount++) {
    if (((amount ^ amounts.value) & ~amounts.mask & 31) !== 0) continue;
    const v = op === 'lsh' ? av << amount : op === 'rsh' ? av >>> amount : av >> amount;
    const m = op === 'lsh' ? am << amount : op === 'rsh' ? am >>> amount : am >> amount;
    mask = (first ? m : m | mask | (v ^ value)) >>> 0;
    value = (v & ~mask) >>> 0;
    first = false;
  }
  if (op === 'lsh') {
    narrowLow(a.u32min * 2 ** least, a.u32max * 2 ** most);
    narrowLow(a.s32min * 2 ** (a.s32min < 0 ? most : least), a.s32max * 2 ** (a.s32max < 0 ? least : most));
  } else if (op === 'rsh') {
    umin = a.u32min >>> most;
    umax = a.u32max >>> least;
  } else {
    smin = a.s32min >> (a.s32min < 0 ? least : most);
    smax = a.s32max >> (a.s32max < 0 ? most : least);
  }
}

/** What is known of a shift amount taken modulo `limit + 1` (31 or 63): its range and its bits. */
export function shiftAmounts(b: Scalar, limit: number): { least: number; most: number; value: number; mask: number } {
  const bits = { value: lowValue(b) & limit, mask: lowMaskOf(b) & limit };
  const inRange = b.wide === undefined && b.u32max <= limit;
  return {
    least: inRange ? b.u32min : bits.value,
    most: inRange ? b.u32max : bits.value | bits.mask,
    value: bits.value,
    mask: bits.mask,
  };
}

function isPowerOf2(n: number): boolean {
  return n !== 0 && (n & (n - 1)) === 0;
}

function divide32(a: Scalar, b: Scalar): void {
  const divisor = b.u32min;
  if (divisor === b.u32max && isPowerOf2(divisor)) {
    const amount = 31 - Math.clz32(divisor);
    value = lowValue(a) >>> amount;
    mask = lowMaskOf(a) >>> amount;
  }
  umin = b.u32min === 0 ? 0 : (a.u32min / b.u32max) >>> 0;
  umax = (a.u32max / Math.max(1, b.u32min)) >>> 0;
}

function modulo32(a: Scalar, b: Scalar): void {
  const divisor = b.u32min;
  if (divisor === b.u32max && isPowerOf2(divisor)) {
    value = (lowValue(a) & (divisor - 1)) >>> 0;
    mask = (lowMaskOf(a) & (divisor - 1)) >>> 0;
  }
  umax = a.u32max;
  if (divisor === 0) return;
  if (a.u32max < divisor) {
    // Nothing is taken away.
    value = lowValue(a);
    mask = lowMaskOf(a);
    umin = a.u32min;
  } else {
    umax = Math.min(umax, b.u32max - 1);
  }
}

function signedDivide32(a: Scalar, b: Scalar): void {
  if (a.s32min >= 0 && b.s32min >= 0) {
    divide32(a, b);
    return;
  }
  if (a.s32min === S32_MIN && b.s32min <= -1 && b.s32max >= -1) return;
  const divisor = b.s32min;
  if (divisor === b.s32max && divisor !== 0) {
    const p = (a.s32min / divisor) | 0;
    const q = (a.s32max / divisor) | 0;
    smin = Math.min(p, q);
    smax = Math.max(p, q);
    return;
  }
  const largest = Math.max(Math.abs(a.s32min), Math.abs(a.s32max));
  smin = -largest;
  smax = Math.min(S32_MAX, largest);
}

function signedModulo32(a: Scalar, b: Scalar): void {
  if (a.s32min >= 0 && b.s32min >= 0) {
    modulo32(a, b);
    return;
  }
  // The sign is the dividend's, and the magnitude at most the dividend's and below the divisor's (unless that is 0).
  const zero = b.s32min <= 0 && b.s32max >= 0;
  const limit = zero ? 2 ** 32 : Math.max(Math.abs(b.s32min), Math.abs(b.s32max)) - 1;
  smin = a.s32min < 0 ? Math.max(a.s32min, -limit) : 0;
  smax = a.s32max > 0 ? Math.min(a.s32max, limit) : 0;
}
