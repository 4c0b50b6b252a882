/**
 * 64-bit arithmetic on scalars.
 *
 * For each operation: the known bits by the tnum rule, the bounds of the whole from the exact result of the bounds
 * (BigInt does not wrap), and, where the low half of the result depends on the low halves only, its bounds likewise.
 */
import type { AluOp } from '../isa/instruction.ts';
import { alu32, shiftAmounts } from './scalar-alu32.ts';
import {
  bigMax,
  bigMin,
  S32_MAX,
  S32_MIN,
  S64_MAX,
  S64_MIN,
  settle,
  U32_MAX,
  U64_MAX,
  UNKNOWN,
} from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';
import {
  bitLength,
  lowMask,
  TNUM_UNKNOWN,
  type Tnum,
  tnumAdd,
  tnumAnd,
  tnumArsh,
  tnumLsh,
  tnumMul,
  tnumOr,
  tnumRsh,
  tnumSub,
  tnumUnion,
  tnumXor,
} from './tnum.ts';

// Results under construction; see narrow.
let umin = 0n;
let umax = U64_MAX;
let smin = S64_MIN;
let smax = S64_MAX;
let known: Tnum = TNUM_UNKNOWN;

/** As `alu`, width 64, without `neg` and `mov`. */
export function alu64(op: AluOp, a: Scalar, b: Scalar): Scalar {
  if ((op === 'add' || op === 'sub' || op === 'xor') && (a === UNKNOWN || b === UNKNOWN)) return UNKNOWN;
  umin = 0n;
  umax = U64_MAX;
  smin = S64_MIN;
  smax = S64_MAX;
  known = TNUM_UNKNOWN;
  let lowPart = false;
  switch (op) {
    case 'add':
      known = tnumAdd(a.tnum, b.tnum);
      narrow(a.umin + b.umin, a.umax + b.umax);
      narrow(a.smin + b.smin, a.smax + b.smax);
      lowPart = true;
      break;
    case 'sub':
      known = tnumSub(a.tnum, b.tnum);
      narrow(a.umin - b.umax, a.umax - b.umin);
      narrow(a.smin - b.smax, a.smax - b.smin);
      lowPart = true;
      break;
    case 'mul':
      multiply(a, b);
      lowPart = true;
      break;
    case 'and':
    case 'or':
    case 'xor':
      bitwise(op, a, b);
      lowPart = true;
      break;
    case 'lsh':
      shiftLeft(a, b);
      lowPart = b.umax < 32n;
      break;
    case 'rsh':
    case 'arsh':
      shiftRight(op, a, b);
      break;
    case 'div':
      divide(a, b);
      break;
    case 'mod':
      modulo(a, b);
      break;
    case 'sdiv':
      signedDivide(a, b);
      break;
    case 'smod':
      signedModulo(a, b);
      break;
    default:
      return UNKNOWN;
  }
  if (lowPart && umax > 0x7fffffffn) {
    const low = alu32(op, a, b);
    return settle(known, umin, umax, smin, smax, low.u32min, low.u32max, low.s32min, low.s32max) ?? UNKNOWN;
  }
  return settle(known, umin, umax, smin, smax, 0, U32_MAX, S32_MIN, S32_MAX) ?? UNKNOWN;
}

/**
 * The exact result lies in `first..last`. Wrapped to 64 bits that is an interval on a circle; this narrows the bounds of each order in which it is one interval.
 */
function narrow(first: bigint, last: bigint): void {
  if (last - first > U64_MAX) return;
  const u0 = BigInt.asUintN(64, first);
  const u1 = BigInt.asUintN(64, last);
  if (u0 <= u1) {
    if (u0 > umin) umin = u0;
    if (u1 < umax) umax = u1;
  }
  const s0 = BigInt.asIntN(64, first);
  const s1 = BigInt.asIntN(64, last);
  if (s0 <= s1) {
    if (s0 > smin) smin = s0;
    if (s1 < smax) smax = s1;
  }
}

function multiply(a: Scalar, b: Scalar): void {
  known = tnumMul(a.tnum, b.tnum);
  narrow(a.umin * b.umin, a.umax * b.umax);
  const products = [a.smin * b.smin, a.smin * b.smax, a.smax * b.smin, a.smax * b.smax];
  narrow(products.reduce(bigMin), products.reduce(bigMax));
}

function bitwise(op: 'and' | 'or' | 'xor', a: Scalar, b: Scalar): void {
  if (op === 'and') {
    known = tnumAnd(a.tnum, b.tnum);
    umax = bigMin(a.umax, b.umax);
  } else if (op === 'or') {
    known = tnumOr(a.tnum, b.tnum);
    umin = bigMax(a.umin, b.umin);
  } else {
    known = tnumXor(a.tnum, b.tnum);
  }
  if (a.smin >= 0n && b.smin >= 0n) return;
  // The result has at least as many copies of its sign bit as both operands.
  const limit = lowMask(bitLength(magnitude(a.smin) | magnitude(a.smax) | magnitude(b.smin) | magnitude(b.smax)));
  smin = ~limit;
  smax = limit;
  if (op === 'and') {
    smax = bigMin(smax, bigMax(a.smax, b.smax));
  } else if (op === 'or') {
    smin = bigMax(smin, bigMin(a.smin, b.smin));
  }
}

/** The bits of an int64 that differ from its sign. */
function magnitude(x: bigint): bigint {
  return x < 0n ? ~x : x;
}

/** The union of `shift(a, amount)` over all amounts that `b`, taken modulo 64, may have. */
function shiftedTnum(a: Tnum, b: Scalar, shift: (a: Tnum, amount: number) => Tnum): Tnum {
  const { least, most, value, mask } = shiftAmounts(b, 63);
  let union: Tnum | undefined;
  for (let amount = least; amount <= most; amount++) {
    if (((amount ^ value) & ~mask & 63) !== 0) continue;
    const shifted = shift(a, amount);
    union = union === undefined ? shifted : tnumUnion(union, shifted);
    if (union.mask === U64_MAX) break;
  }
  return union ?? TNUM_UNKNOWN;
}

function shiftLeft(a: Scalar, b: Scalar): void {
  known = shiftedTnum(a.tnum, b, tnumLsh);
  const amounts = shiftAmounts(b, 63);
  const least = BigInt(amounts.least);
  const most = BigInt(amounts.most);
  narrow(a.umin << least, a.umax << most);
  narrow(a.smin << (a.smin < 0n ? most : least), a.smax << (a.smax < 0n ? least : most));
  if (least >= 32n) {
    // Only the low half stays.
    narrow(BigInt(a.u32min) << least, BigInt(a.u32max) << most);
    narrow(BigInt(a.s32min) << (a.s32min < 0 ? most : least), BigInt(a.s32max) << (a.s32max < 0 ? least : most));
  }
}

function shiftRight(op: 'rsh' | 'arsh', a: Scalar, b: Scalar): void {
  const amounts = shiftAmounts(b, 63);
  const least = BigInt(amounts.least);
  const most = BigInt(amounts.most);
  if (op === 'rsh') {
    known = shiftedTnum(a.tnum, b, tnumRsh);
    umin = a.umin >> most;
    umax = a.umax >> least;
  } else {
    known = shiftedTnum(a.tnum, b, (t, amount) => tnumArsh(t, amount, 64));
    smin = a.smin >> (a.smin < 0n ? least : most);
    smax = a.smax >> (a.smax < 0n ? most : least);
  }
}

function isPowerOf2(n: bigint): boolean {
  return n !== 0n && (n & (n - 1n)) === 0n;
}

function divide(a: Scalar, b: Scalar): void {
  const divisor = b.umin;
  if (divisor === b.umax && isPowerOf2(divisor)) known = tnumRsh(a.tnum, bitLength(divisor) - 1);
  if (divisor !== 0n) umin = a.umin / b.umax;
  umax = divisor === 0n ? a.umax : a.umax / divisor;
}

function modulo(a: Scalar, b: Scalar): void {
  const divisor = b.umin;
  if (divisor === b.umax && isPowerOf2(divisor)) known = tnumAnd(a.tnum, { value: divisor - 1n, mask: 0n });
  umax = a.umax;
  if (divisor === 0n) return;
  if (a.umax < divisor) {
    // Nothing is taken away.
    known = a.tnum;
    umin = a.umin;
  } else if (b.umax - 1n < umax) {
    umax = b.umax - 1n;
  }
}

function signedDivide(a: Scalar, b: Scalar): void {
  if (a.smin >= 0n && b.smin >= 0n) {
    divide(a, b);
    return;
  }
  // The quotient of the least number by -1 wraps.
  if (a.smin === S64_MIN && b.smin <= -1n && b.smax >= -1n) return;
  const divisor = b.smin;
  if (divisor === b.smax && divisor !== 0n) {
    const p = a.smin / divisor;
    const q = a.smax / divisor;
    smin = bigMin(p, q);
    smax = bigMax(p, q);
    return;
  }
  const least = a.smin < 0n ? -a.smin : a.smin;
  const most = a.smax < 0n ? -a.smax : a.smax;
  const largest = bigMax(least, most);
  smin = -largest;
  if (largest < smax) smax = largest;
}

function signedModulo(a: Scalar, b: Scalar): void {
  if (a.smin >= 0n && b.smin >= 0n) {
    modulo(a, b);
    return;
  }
  // The sign is the dividend's, and the magnitude at most the dividend's and below the divisor's (unless that is 0).
  smin = a.smin < 0n ? a.smin : 0n;
  smax = a.smax > 0n ? a.smax : 0n;
  if (b.smin <= 0n && b.smax >= 0n) return;
  const least = b.smin < 0n ? -b.smin : b.smin;
  const most = b.smax < 0n ? -b.smax : b.smax;
  const limit = bigMax(least, most) - 1n;
  if (smin < -limit) smin = -limit;
  if (smax > limit) smax = limit;
}
