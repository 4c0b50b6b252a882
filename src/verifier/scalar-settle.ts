/**
 * Making scalars: the exchange of knowledge between the parts (reduced product).
 *
 * Invariants: each rule below only drops values that some other part already excludes, so the set of values that
 * satisfy all parts never changes; a scalar that comes out has umin <= umax and so on, and each part lies within
 * what the others allow. The rules are applied until nothing changes, at most `MAX_ROUNDS` times: one or two rounds are
 * the rule, but rare combinations of known bits and a low range would walk through the upper half one by one, and stopping early
 * costs precision only. There is one object for "nothing known", `UNKNOWN`, so that it can be told by identity.
 */
import { Scalar, Wide } from './scalar-value.ts';
import { bitLength, lowMask, TNUM_UNKNOWN, type Tnum, tnumCeiling, tnumFloor, tnumUnion } from './tnum.ts';

export const U64_MAX = 0xffffffffffffffffn;
export const S64_MIN = -0x8000000000000000n;
export const S64_MAX = 0x7fffffffffffffffn;
export const U32_MAX = 0xffffffff;
export const S32_MIN = -0x80000000;
export const S32_MAX = 0x7fffffff;
const SIGN64 = 0x8000000000000000n;
const LOW32 = 0xffffffffn;
const HIGH32 = 0xffffffff00000000n;
const TWO32 = 0x100000000;
const MAX_ROUNDS = 8;

/** Any number at all. */
export const UNKNOWN: Scalar = make(TNUM_UNKNOWN, 0n, U64_MAX, S64_MIN, S64_MAX, 0, U32_MAX, S32_MIN, S32_MAX);

// Small immediates, shift amounts, offsets and sizes make up most of the constants of real programs. Each is made when it first occurs.
const LEAST_KEPT = -1024;
const MOST_KEPT = 8191;
const KEPT_CONSTANTS: (Scalar | undefined)[] = new Array(MOST_KEPT - LEAST_KEPT + 1).fill(undefined);

/** Exactly `value`, wrapped to u64. */
export function constant(value: bigint): Scalar {
  const signed = BigInt.asIntN(64, value);
  if (signed >= -0x80000000n && signed <= LOW32) return constantOfInt(Number(signed));
  const unsigned = BigInt.asUintN(64, value);
  const low = Number(unsigned & LOW32);
  return new Scalar(
    low,
    0,
    low,
    low,
    low,
    low,
    new Wide({ value: unsigned, mask: 0n }, unsigned, unsigned, signed, signed),
  );
}

/** Exactly `value`, a whole number from -2^31 to 2^32-1; a negative one is sign-extended to 64 bits. */
export function constantOfInt(value: number): Scalar {
  if (value < LEAST_KEPT || value > MOST_KEPT) return newConstant(value);
  return KEPT_CONSTANTS[value - LEAST_KEPT] ?? (KEPT_CONSTANTS[value - LEAST_KEPT] = newConstant(value));
}

function newConstant(value: number): Scalar {
  let wide: Wide | undefined;
  if (value < 0) {
    const signed = BigInt(value);
    const unsigned = BigInt.asUintN(64, signed);
    wide = new Wide({ value: unsigned, mask: 0n }, unsigned, unsigned, signed, signed);
  }
  return new Scalar(value, 0, value, value, value, value, wide);
}

function make(
  tnum: Tnum,
  umin: bigint,
  umax: bigint,
  smin: bigint,
  smax: bigint,
  u32min: number,
  u32max: number,
  s32min: number,
  s32max: number,
): Scalar {
  const wide = umax <= LOW32 ? undefined : new Wide(tnum, umin, umax, smin, smax);
  const value = Number(tnum.value & LOW32);
  const mask = Number(tnum.mask & LOW32);
  return new Scalar(value, mask, u32min, u32max, s32min, s32max, wide);
}

/** The values that both have; undefined if it is clear that there are none. */
export function intersect(a: Scalar, b: Scalar): Scalar | undefined {
  if (a === b || b === UNKNOWN) return a;
  if (a === UNKNOWN) return b;
  if (a.wide === undefined && b.wide === undefined) {
    if (((a.value32 ^ b.value32) & ~(a.mask32 | b.mask32)) !== 0) return undefined;
    return settleLow(
      (a.value32 | b.value32) >>> 0,
      (a.mask32 & b.mask32) >>> 0,
      Math.max(a.u32min, b.u32min),
      Math.min(a.u32max, b.u32max),
      Math.max(a.s32min, b.s32min),
      Math.min(a.s32max, b.s32max),
    );
  }
  if (((a.tnum.value ^ b.tnum.value) & ~(a.tnum.mask | b.tnum.mask)) !== 0n) return undefined;
  return settle(
    { value: a.tnum.value | b.tnum.value, mask: a.tnum.mask & b.tnum.mask },
    bigMax(a.umin, b.umin),
    bigMin(a.umax, b.umax),
    bigMax(a.smin, b.smin),
    bigMin(a.smax, b.smax),
    Math.max(a.u32min, b.u32min),
    Math.min(a.u32max, b.u32max),
    Math.max(a.s32min, b.s32min),
    Math.min(a.s32max, b.s32max),
  );
}

/** The least bounds and known bits around both. */
export function hull(a: Scalar, b: Scalar): Scalar {
  const tnum = tnumUnion(a.tnum, b.tnum);
  const umin = bigMin(a.umin, b.umin);
  const umax = bigMax(a.umax, b.umax);
  const smin = bigMin(a.smin, b.smin);
  const smax = bigMax(a.smax, b.smax);
  const u32min = Math.min(a.u32min, b.u32min);
  const u32max = Math.max(a.u32max, b.u32max);
  const s32min = Math.min(a.s32min, b.s32min);
  const s32max = Math.max(a.s32max, b.s32max);
  if (tnum.mask === U64_MAX && umin === 0n && umax === U64_MAX && smin === S64_MIN && smax === S64_MAX) {
    return settle(tnum, umin, umax, smin, smax, u32min, u32max, s32min, s32max) ?? UNKNOWN;
  }
  return make(tnum, umin, umax, smin, smax, u32min, u32max, s32min, s32max);
}

/**
 * The scalar whose values satisfy all parts, each part made as sharp as the others allow; undefined if the parts
 * contradict each other. Bounds may be crossed (min > max): that too means no value.
 */
export function settle(
  tnum: Tnum,
  umin: bigint,
  umax: bigint,
  smin: bigint,
  smax: bigint,
  u32min: number,
  u32max: number,
  s32min: number,
  s32max: number,
): Scalar | undefined {
  let value = tnum.value;
  let mask = tnum.mask;
  for (let round = 0; ; round++) {
    // Known bits bound the ranges.
    let bound = value | mask;
    if (umin < value) umin = value;
    if (umax > bound) umax = bound;
    if (umax <= LOW32) {
      // The upper half is zero: all that is known fits into 32 bits, and numbers do.
      if (smax < umax) umax = smax;
      if (smin > umin) umin = smin;
      if (umin > umax) return undefined;
      return settleLow(
        Number(value),
        Number(mask & LOW32),
        Math.max(u32min, Number(umin)),
        Math.min(u32max, Number(umax)),
        s32min,
        s32max,
      );
    }
    bound = BigInt.asIntN(64, value | (mask & SIGN64));
    if (smin < bound) smin = bound;
    bound = BigInt.asIntN(64, value | (mask & S64_MAX));
    if (smax > bound) smax = bound;
    let value32 = Number(value & LOW32);
    let mask32 = Number(mask & LOW32);
    u32min = Math.max(u32min, value32);
    u32max = Math.min(u32max, (value32 | mask32) >>> 0);
    s32min = Math.max(s32min, value32 | (mask32 & S32_MIN));
    s32max = Math.min(s32max, value32 | (mask32 & S32_MAX));
    if (umin > umax || smin > smax || u32min > u32max || s32min > s32max) return undefined;

    // Unsigned and signed order agree on each side of the sign boundary.
    if (smin >= 0n || umax <= S64_MAX) {
      if (umin < smin) umin = smin;
      if (umax > smax) umax = smax;
      if (umin > umax) return undefined;
      smin = umin;
      smax = umax;
    } else {
      const low = umin > S64_MAX ? bigMax(smin, BigInt.asIntN(64, umin)) : smin;
      const high = bigMin(bigMin(smax, -1n), BigInt.asIntN(64, umax));
      const negative = low <= high;
      const positive = umin <= smax;
      if (!positive) {
        if (!negative) return undefined;
        smin = low;
        smax = high;
        umin = BigInt.asUintN(64, low);
        umax = BigInt.asUintN(64, high);
      } else if (!negative) {
        umax = smax;
        smin = umin;
      }
    }
    // The whole, where it spans less than 2^32, bounds the low half: an interval on the circle of u32, which may
    // be one in unsigned order, in signed order, or in both.
    if (umax - umin <= LOW32) {
      const first = Number(umin & LOW32);
      const last = Number(umax & LOW32);
      if (first <= last) {
        u32min = Math.max(u32min, first);
        u32max = Math.min(u32max, last);
      }
      if ((first | 0) <= (last | 0)) {
        s32min = Math.max(s32min, first | 0);
        s32max = Math.min(s32max, last | 0);
      }
    } else if (smax - smin <= LOW32) {
      const first = Number(BigInt.asUintN(32, smin));
      const last = Number(BigInt.asUintN(32, smax));
      if (first <= last) {
        u32min = Math.max(u32min, first);
        u32max = Math.min(u32max, last);
      }
      if ((first | 0) <= (last | 0)) {
        s32min = Math.max(s32min, first | 0);
        s32max = Math.min(s32max, last | 0);
      }
    }
    if (u32min > u32max || s32min > s32max) return undefined;
    if (s32min >= 0 || u32max <= S32_MAX) {
      u32min = Math.max(u32min, s32min);
      u32max = Math.min(u32max, s32max);
      if (u32min > u32max) return undefined;
      s32min = u32min;
      s32max = u32max;
    } else {
      const low = u32min > S32_MAX ? Math.max(s32min, u32min | 0) : s32min;
      const high = Math.min(s32max, -1, u32max | 0);
      const negative = low <= high;
      const positive = u32min <= s32max;
      if (!positive) {
        if (!negative) return undefined;
        s32min = low;
        s32max = high;
        u32min = low >>> 0;
        u32max = high >>> 0;
      } else if (!negative) {
        u32max = s32max;
        s32min = u32min;
      }
    }

    // The parts agree with each other now; what follows calls for another round only if it changes something.
    if (round === MAX_ROUNDS) break;
    const umin0 = umin;
    const umax0 = umax;
    const smin0 = smin;
    const smax0 = smax;
    const mask0 = mask;

    // The low half bounds the whole: a bound whose low half is not possible moves to the nearest that is.
    if (u32min > 0 || u32max < U32_MAX) {
      const length = u32max - u32min;
      umin = roundUp(umin, u32min, length);
      umax = roundDown(umax, u32min, length);
      smin = roundUp(smin, u32min, length);
      smax = roundDown(smax, u32min, length);
    }
    if ((s32min > S32_MIN || s32max < S32_MAX) && s32min < 0 && s32max >= 0) {
      const length = s32max - s32min;
      umin = roundUp(umin, s32min, length);
      umax = roundDown(umax, s32min, length);
      smin = roundUp(smin, s32min, length);
      smax = roundDown(smax, s32min, length);
    }
    if (umin > umax || smin > smax) return undefined;

    // The bits above the first that differs between the bounds are known.
    let open = lowMask(bitLength(umin ^ umax));
    if ((mask & ~open) !== 0n) {
      if (((value ^ umin) & ~(open | mask)) !== 0n) return undefined;
      value |= umin & ~open;
      mask &= open;
    }
    value32 = Number(value & LOW32);
    mask32 = Number(mask & LOW32);
    const open32 = ones(u32min ^ u32max);
    if ((mask32 & ~open32) !== 0) {
      if (((value32 ^ u32min) & ~(open32 | mask32)) !== 0) return undefined;
      open = BigInt(open32 >>> 0);
      value |= BigInt(u32min) & ~open;
      mask &= open | HIGH32;
    }

    // The least and the greatest value have the known bits.
    if (((umin ^ value) & ~mask) !== 0n) {
      const least = tnumCeiling({ value, mask }, umin);
      if (least === undefined || least > umax) return undefined;
      umin = least;
    }
    if (((umax ^ value) & ~mask) !== 0n) {
      const greatest = tnumFloor({ value, mask }, umax);
      if (greatest === undefined || greatest < umin) return undefined;
      umax = greatest;
    }
    if (mask === mask0 && umin === umin0 && umax === umax0 && smin === smin0 && smax === smax0) {
      break;
    }
  }
  if (mask === 0n) return constant(value);
  if (mask === U64_MAX && umin === 0n && umax === U64_MAX && u32min === 0 && u32max === U32_MAX) {
    if (smin === S64_MIN && smax === S64_MAX && s32min === S32_MIN && s32max === S32_MAX) return UNKNOWN;
  }
  return make({ value, mask }, umin, umax, smin, smax, u32min, u32max, s32min, s32max);
}

/**
 * `settle` for values below 2^32, from numbers only: `value` and `mask` as u32 (disjoint), the values from `low` to
 * `high` (u32), and also from `s32min` to `s32max` as int32.
 */
export function settleLow(
  value: number,
  mask: number,
  low: number,
  high: number,
  s32min: number,
  s32max: number,
): Scalar | undefined {
  if (value > U32_MAX) return undefined;
  let changed = true;
  for (let round = 0; changed && round < MAX_ROUNDS; round++) {
    const low0 = low;
    const high0 = high;
    const s32min0 = s32min;
    const s32max0 = s32max;
    const mask0 = mask;

    low = Math.max(low, value);
    high = Math.min(high, (value | mask) >>> 0);
    s32min = Math.max(s32min, value | (mask & S32_MIN));
    s32max = Math.min(s32max, value | (mask & S32_MAX));
    if (low > high || s32min > s32max) return undefined;
    if (s32min >= 0 || high <= S32_MAX) {
      low = Math.max(low, s32min);
      high = Math.min(high, s32max);
      s32min = low;
      s32max = high;
    } else {
      const first = low > S32_MAX ? Math.max(s32min, low | 0) : s32min;
      const last = Math.min(s32max, -1, high | 0);
      const negative = first <= last;
      const positive = low <= s32max;
      if (!positive) {
        if (!negative) return undefined;
        s32min = first;
        s32max = last;
        low = first >>> 0;
        high = last >>> 0;
      } else if (!negative) {
        high = s32max;
        s32min = low;
      }
    }
    if (low > high) return undefined;

    const open = ones(low ^ high);
    if ((mask & ~open) !== 0) {
      if (((value ^ low) & ~(open | mask)) !== 0) return undefined;
      value = (value | (low & ~open)) >>> 0;
      mask = (mask & open) >>> 0;
    } else if (((value ^ low) & ~(open | mask)) !== 0) {
      return undefined;
    }
    if (((low ^ value) & ~mask) !== 0) low = ceiling32(value, mask, low);
    if (((high ^ value) & ~mask) !== 0) {
      high = U32_MAX - ceiling32(~(value | mask) >>> 0, mask, ~high >>> 0);
    }
    if (low > high) return undefined;
    changed = mask !== mask0 || low !== low0 || high !== high0 || s32min !== s32min0 || s32max !== s32max0;
  }
  if (mask === 0) return constantOfInt(value >>> 0);
  return new Scalar(value, mask, low, high, s32min, s32max, undefined);
}

/** The smallest number at or above `floor` with the known bits, which may be 2^32 or more if there is none below. */
function ceiling32(value: number, mask: number, floor: number): number {
  const below = ones((floor ^ value) & ~mask);
  if ((value & (below ^ (below >>> 1))) !== 0) return ((floor & ~below) | (value & below)) >>> 0;
  const carried = ((floor | ~mask | below) >>> 0) + 1;
  return carried > U32_MAX ? carried : ((carried & mask) | value) >>> 0;
}

/** Ones from the highest set bit of a 32-bit number down. */
export function ones(bits: number): number {
  const zeros = Math.clz32(bits);
  return zeros === 32 ? 0 : U32_MAX >>> zeros;
}

/** The least y >= x whose low half lies at most `length` past `start` on the circle of u32. */
function roundUp(x: bigint, start: number, length: number): bigint {
  const past = (Number(BigInt.asUintN(32, x)) - start) >>> 0;
  return past <= length ? x : x + BigInt(TWO32 - past);
}

/** The greatest y <= x whose low half lies at most `length` past `start` on the circle of u32. */
function roundDown(x: bigint, start: number, length: number): bigint {
  const past = (Number(BigInt.asUintN(32, x)) - start) >>> 0;
  return past <= length ? x : x - BigInt(past - length);
}

export function bigMin(a: bigint, b: bigint): bigint {
  if (a < b) return a;
  return b;
}

export function bigMax(a: bigint, b: bigint): bigint {
  if (a > b) return a;
  return b;
}
