/**
 * Conditional jumps: which way a comparison must go, and what each way says about the operands.
 *
 * Only four relations are worked on (=, <>, <, <= with their signedness); the others are these with the operands or
 * the outcome exchanged. 32-bit comparisons touch only what is known of the low halves; `settle` carries it to
 * the whole where the upper half is known well enough.
 */
import type { JumpOp, Width } from '../isa/instruction.ts';
import { intersect, S32_MAX, S32_MIN, S64_MAX, S64_MIN, settle, settleLow, U32_MAX, U64_MAX } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';

const LOW32 = 0xffffffffn;
const HIGH32 = 0xffffffff00000000n;

/** The outcome of `a op b` if it is the same for all values, else undefined. */
export function compare(op: JumpOp, width: Width, a: Scalar, b: Scalar): boolean | undefined {
  switch (op) {
    case 'eq':
      return equality(width, a, b);
    case 'ne': {
      const same = equality(width, a, b);
      return same === undefined ? undefined : !same;
    }
    case 'set': {
      if ((a.value32 & b.value32) !== 0) return true;
      const bits = width === 64 ? U64_MAX : LOW32;
      if ((a.tnum.value & b.tnum.value & bits) !== 0n) return true;
      if (((a.tnum.value | a.tnum.mask) & (b.tnum.value | b.tnum.mask) & bits) === 0n) return false;
      return undefined;
    }
    case 'lt':
      return isWide(width, a, b) ? less(a.umin, a.umax, b.umin, b.umax) : less(a.u32min, a.u32max, b.u32min, b.u32max);
    case 'slt':
      if (width === 64 && a.wide === undefined && b.wide === undefined) return compare('lt', 32, a, b);
      return width === 64 ? less(a.smin, a.smax, b.smin, b.smax) : less(a.s32min, a.s32max, b.s32min, b.s32max);
    case 'gt':
      return compare('lt', width, b, a);
    case 'sgt':
      return compare('slt', width, b, a);
    case 'ge':
      return not(compare('lt', width, a, b));
    case 'sge':
      return not(compare('slt', width, a, b));
    case 'le':
      return not(compare('lt', width, b, a));
    case 'sle':
      return not(compare('slt', width, b, a));
  }
}

function not(outcome: boolean | undefined): boolean | undefined {
  return outcome === undefined ? undefined : !outcome;
}

function less(
  amin: bigint | number,
  amax: bigint | number,
  bmin: bigint | number,
  bmax: bigint | number,
): boolean | undefined {
  if (amax < bmin) return true;
  if (amin >= bmax) return false;
  return undefined;
}

function equality(width: Width, a: Scalar, b: Scalar): boolean | undefined {
  if (!isWide(width, a, b)) return equalityLow(a, b);
  const s = a.tnum;
  const t = b.tnum;
  if (((s.value ^ t.value) & ~(s.mask | t.mask)) !== 0n) return false;
  if (s.mask === 0n && t.mask === 0n) return true;
  if (a.umax < b.umin || a.umin > b.umax || a.smax < b.smin || a.smin > b.smax) return false;
  // Different low halves make different numbers.
  if (a.u32max < b.u32min || a.u32min > b.u32max || a.s32max < b.s32min || a.s32min > b.s32max) return false;
  return undefined;
}

/** `equality` of the low halves. */
function equalityLow(a: Scalar, b: Scalar): boolean | undefined {
  if (((a.value32 ^ b.value32) & ~(a.mask32 | b.mask32)) !== 0) return false;
  if (a.u32min === a.u32max && b.u32min === b.u32max && a.u32min === b.u32min) return true;
  if (a.u32max < b.u32min || a.u32min > b.u32max || a.s32max < b.s32min || a.s32min > b.s32max) return false;
  return undefined;
}

/** Does a comparison need the 64-bit parts? It does not where the upper halves are 0 or are not looked at. */
function isWide(width: Width, a: Scalar, b: Scalar): boolean {
  return width === 64 && (a.wide !== undefined || b.wide !== undefined);
}

const OPPOSITE: Readonly<Record<Exclude<JumpOp, 'set'>, Exclude<JumpOp, 'set'>>> = {
  eq: 'ne',
  ne: 'eq',
  gt: 'le',
  le: 'gt',
  lt: 'ge',
  ge: 'lt',
  sgt: 'sle',
  sle: 'sgt',
  slt: 'sge',
  sge: 'slt',
};

/**
 * Both operands as they are known where `a op b` is true (`taken`) or false; undefined if that can't happen.
 * The operands are taken as independent: for a comparison of a register with itself the caller intersects both.
 */
export function refine(
  op: JumpOp,
  width: Width,
  a: Scalar,
  b: Scalar,
  taken: boolean,
): { a: Scalar; b: Scalar } | undefined {
  if (op === 'set') return refineSet(width, a, b, taken);
  switch (taken ? op : OPPOSITE[op]) {
    case 'eq':
      return width === 64 ? refineEqual(a, b) : refineEqualLow(a, b);
    case 'ne':
      return refineUnequal(width, a, b);
    case 'lt':
      return refineOrder(width, false, true, a, b);
    case 'le':
      return refineOrder(width, false, false, a, b);
    case 'slt':
      return refineOrder(width, true, true, a, b);
    case 'sle':
      return refineOrder(width, true, false, a, b);
    case 'gt':
      return exchange(refineOrder(width, false, true, b, a));
    case 'ge':
      return exchange(refineOrder(width, false, false, b, a));
    case 'sgt':
      return exchange(refineOrder(width, true, true, b, a));
    case 'sge':
      return exchange(refineOrder(width, true, false, b, a));
  }
}

type Pair = { a: Scalar; b: Scalar };

function pair(a: Scalar | undefined, b: Scalar | undefined): Pair | undefined {
  return a === undefined || b === undefined ? undefined : { a, b };
}

function exchange(refined: Pair | undefined): Pair | undefined {
  return refined === undefined ? undefined : { a: refined.b, b: refined.a };
}

function refineEqual(a: Scalar, b: Scalar): Pair | undefined {
  const both = intersect(a, b);
  return pair(both, both);
}

function refineEqualLow(a: Scalar, b: Scalar): Pair | undefined {
  const known = ~(a.tnum.mask & b.tnum.mask) & LOW32;
  if (((a.tnum.value ^ b.tnum.value) & ~(a.tnum.mask | b.tnum.mask) & LOW32) !== 0n) return undefined;
  const value = (a.tnum.value | b.tnum.value) & LOW32;
  const u32min = Math.max(a.u32min, b.u32min);
  const u32max = Math.min(a.u32max, b.u32max);
  const s32min = Math.max(a.s32min, b.s32min);
  const s32max = Math.min(a.s32max, b.s32max);
  const narrowed = (s: Scalar): Scalar | undefined => {
    const tnum = { value: (s.tnum.value & HIGH32) | value, mask: s.tnum.mask & ~known };
    return settle(tnum, s.umin, s.umax, s.smin, s.smax, u32min, u32max, s32min, s32max);
  };
  return pair(narrowed(a), narrowed(b));
}

function refineUnequal(width: Width, a: Scalar, b: Scalar): Pair | undefined {
  return isWide(width, a, b)
    ? pair(b.umin === b.umax ? without(a, b.umin) : a, a.umin === a.umax ? without(b, a.umin) : b)
    : pair(b.u32min === b.u32max ? withoutLow(a, b.u32min) : a, a.u32min === a.u32max ? withoutLow(b, a.u32min) : b);
}

/** A number that is not `excluded` (u64): only where that is an edge of a range anything is learned. */
function without(s: Scalar, excluded: bigint): Scalar | undefined {
  const signed = BigInt.asIntN(64, excluded);
  if (s.umin !== excluded && s.umax !== excluded && s.smin !== signed && s.smax !== signed) return s;
  return settle(
    s.tnum,
    s.umin === excluded ? s.umin + 1n : s.umin,
    s.umax === excluded ? s.umax - 1n : s.umax,
    s.smin === signed ? s.smin + 1n : s.smin,
    s.smax === signed ? s.smax - 1n : s.smax,
    s.u32min,
    s.u32max,
    s.s32min,
    s.s32max,
  );
}

function withoutLow(s: Scalar, excluded: number): Scalar | undefined {
  const signed = excluded | 0;
  if (s.u32min !== excluded && s.u32max !== excluded && s.s32min !== signed && s.s32max !== signed) return s;
  return boundedLow(
    s,
    s.u32min === excluded ? s.u32min + 1 : s.u32min,
    s.u32max === excluded ? s.u32max - 1 : s.u32max,
    s.s32min === signed ? s.s32min + 1 : s.s32min,
    s.s32max === signed ? s.s32max - 1 : s.s32max,
  );
}

/** `a < b` (strict) or `a <= b`. */
function refineOrder(width: Width, signed: boolean, strict: boolean, a: Scalar, b: Scalar): Pair | undefined {
  // Below 2^32 both 64-bit orders are the unsigned order of the low halves.
  if (width === 64 && !isWide(width, a, b)) return refineOrder(32, false, strict, a, b);
  if (width === 64) {
    const gap = strict ? 1n : 0n;
    if (signed) {
      const most = b.smax - gap;
      const least = a.smin + gap;
      if (least > S64_MAX || most < S64_MIN) return undefined;
      return pair(
        a.smax <= most ? a : bounded(a, a.umin, a.umax, a.smin, most),
        b.smin >= least ? b : bounded(b, b.umin, b.umax, least, b.smax),
      );
    }
    const most = b.umax - gap;
    const least = a.umin + gap;
    if (least > U64_MAX || most < 0n) return undefined;
    return pair(
      a.umax <= most ? a : bounded(a, a.umin, most, a.smin, a.smax),
      b.umin >= least ? b : bounded(b, least, b.umax, b.smin, b.smax),
    );
  }
  const gap = strict ? 1 : 0;
  if (signed) {
    const most = b.s32max - gap;
    const least = a.s32min + gap;
    if (least > S32_MAX || most < S32_MIN) return undefined;
    return pair(
      a.s32max <= most ? a : boundedLow(a, a.u32min, a.u32max, a.s32min, most),
      b.s32min >= least ? b : boundedLow(b, b.u32min, b.u32max, least, b.s32max),
    );
  }
  const most = b.u32max - gap;
  const least = a.u32min + gap;
  if (least > U32_MAX || most < 0) return undefined;
  return pair(
    a.u32max <= most ? a : boundedLow(a, a.u32min, most, a.s32min, a.s32max),
    b.u32min >= least ? b : boundedLow(b, least, b.u32max, b.s32min, b.s32max),
  );
}

function bounded(s: Scalar, umin: bigint, umax: bigint, smin: bigint, smax: bigint): Scalar | undefined {
  return settle(s.tnum, umin, umax, smin, smax, s.u32min, s.u32max, s.s32min, s.s32max);
}

function boundedLow(s: Scalar, u32min: number, u32max: number, s32min: number, s32max: number): Scalar | undefined {
  if (s.wide === undefined) return settleLow(s.value32 >>> 0, s.mask32 >>> 0, u32min, u32max, s32min, s32max);
  return settle(s.tnum, s.umin, s.umax, s.smin, s.smax, u32min, u32max, s32min, s32max);
}

function refineSet(width: Width, a: Scalar, b: Scalar, taken: boolean): Pair | undefined {
  const bits = width === 64 ? U64_MAX : LOW32;
  if (!taken) {
    // Where one operand has a 1 the other has a 0.
    return pair(withBits(a, 0n, b.tnum.value & bits), withBits(b, 0n, a.tnum.value & bits));
  }
  const common = (a.tnum.value | a.tnum.mask) & (b.tnum.value | b.tnum.mask) & bits;
  if (common === 0n) return undefined;
  // With one candidate left, that is the bit both have.
  if ((common & (common - 1n)) === 0n) return pair(withBits(a, common, 0n), withBits(b, common, 0n));
  // A number with one of these bits is at least the lowest of them.
  const least = common & -common;
  return pair(atLeast(width, a, least), atLeast(width, b, least));
}

/** The values of `s` (its low half, for width 32) that are at least `least`, a u64 (u32). */
function atLeast(width: Width, s: Scalar, least: bigint): Scalar | undefined {
  if (width === 64) return s.umin >= least ? s : bounded(s, least, s.umax, s.smin, s.smax);
  return s.u32min >= Number(least) ? s : boundedLow(s, Number(least), s.u32max, s.s32min, s.s32max);
}

/** The values of `s` with all of `set` at 1 and all of `clear` at 0. */
function withBits(s: Scalar, set: bigint, clear: bigint): Scalar | undefined {
  const { value, mask } = s.tnum;
  if ((set & ~(value | mask)) !== 0n || (clear & value) !== 0n) return undefined;
  if (((set | clear) & mask) === 0n) return s;
  const tnum = { value: value | set, mask: mask & ~(set | clear) };
  return settle(tnum, s.umin, s.umax, s.smin, s.smax, s.u32min, s.u32max, s.s32min, s.s32max);
}
