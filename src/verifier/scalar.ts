/**
 * What the verifier knows of a number in a register: a product of five domains.
 *
 * A `Scalar` stands for the set of u64 values x for which all of these hold: x is a member of `tnum`; x as u64 and as
 * int64 lies in `umin..umax` and `smin..smax`; the low half of x as u32 and as int32 lies in `u32min..u32max` and
 * `s32min..s32max`. Scalars are immutable and made only by the functions of this room's `scalar*.ts`; no set is empty.
 *
 * Strategy: an operation computes each part by itself, as roughly as it likes so long as no result is left out, and
 * hands the parts to `settle` (scalar-settle.ts), which lets each part sharpen the others until nothing changes. So
 * precision comes from the exchange, and soundness can be judged for each rule alone.
 *
 * The kernel's counterpart is `reg_bounds_sync` with `adjust_scalar_min_max_vals` (kernel/bpf/verifier.c). Here a
 * contradiction between the parts is reported as "no such value" instead of being widened.
 */
import type { Size } from '../isa/instruction.ts';
import { hull, settle, UNKNOWN } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';
import { tnumContains } from './tnum.ts';

export { alu } from './scalar-alu.ts';
export { compare, refine } from './scalar-branch.ts';
export { byteswap, movsx, signExtend, truncate } from './scalar-convert.ts';
export { formatScalar } from './scalar-format.ts';
export { constant, constantOfInt, UNKNOWN } from './scalar-settle.ts';
export type { Scalar } from './scalar-value.ts';

/** All u64 from `umin` to `umax`, inclusive; both are u64 and umin <= umax, else the result is `UNKNOWN`. */
export function range(umin: bigint, umax: bigint): Scalar {
  if (umin > umax) return UNKNOWN;
  const u = UNKNOWN;
  return settle(u.tnum, umin, umax, u.smin, u.smax, u.u32min, u.u32max, u.s32min, u.s32max) ?? UNKNOWN;
}

/** All int64 from `smin` to `smax`, inclusive; smin <= smax, else the result is `UNKNOWN`. */
export function signedRange(smin: bigint, smax: bigint): Scalar {
  if (smin > smax) return UNKNOWN;
  const u = UNKNOWN;
  return settle(u.tnum, u.umin, u.umax, smin, smax, u.u32min, u.u32max, u.s32min, u.s32max) ?? UNKNOWN;
}

/** Exactly one value is possible. */
export function isConstant(s: Scalar): boolean {
  return s.mask32 === 0 && (s.wide === undefined || s.wide.tnum.mask === 0n);
}

/** The only value as u64. Call it only where `isConstant` holds; otherwise it gives the known bits. */
export function constantValue(s: Scalar): bigint {
  return s.wide === undefined ? BigInt(s.value32 >>> 0) : s.wide.tnum.value;
}

/** Is it the constant 0? */
export function isZero(s: Scalar): boolean {
  return s.mask32 === 0 && s.value32 === 0 && s.wide === undefined;
}

/** Does every value fit in `bytes` bytes, unsigned? */
export function fits(s: Scalar, bytes: Size): boolean {
  return bytes === 8 || (s.wide === undefined && (bytes === 4 || s.u32max < 1 << (8 * bytes)));
}

/** Nothing is known. */
export function isUnknown(s: Scalar): boolean {
  return s === UNKNOWN || equal(s, UNKNOWN);
}

/** The same knowledge in every part. */
export function equal(a: Scalar, b: Scalar): boolean {
  if (a === b) return true;
  if (
    a.value32 !== b.value32 ||
    a.mask32 !== b.mask32 ||
    a.u32min !== b.u32min ||
    a.u32max !== b.u32max ||
    a.s32min !== b.s32min ||
    a.s32max !== b.s32max
  )
    return false;
  const v = a.wide;
  const w = b.wide;
  if (v === w) return true;
  return (
    v !== undefined &&
    w !== undefined &&
    v.umin === w.umin &&
    v.umax === w.umax &&
    v.smin === w.smin &&
    v.smax === w.smax &&
    v.tnum.value === w.tnum.value &&
    v.tnum.mask === w.tnum.mask
  );
}

/** Every value of `inner` is one of `outer` (false also where the parts alone can't show it). */
export function contains(outer: Scalar, inner: Scalar): boolean {
  if (outer === inner || outer === UNKNOWN) return true;
  if (
    outer.u32min > inner.u32min ||
    outer.u32max < inner.u32max ||
    outer.s32min > inner.s32min ||
    outer.s32max < inner.s32max ||
    ((inner.mask32 | (inner.value32 ^ outer.value32)) & ~outer.mask32) !== 0
  )
    return false;
  const { wide } = outer;
  if (wide === undefined) return inner.wide === undefined;
  return (
    wide.umin <= inner.umin &&
    wide.umax >= inner.umax &&
    wide.smin <= inner.smin &&
    wide.smax >= inner.smax &&
    tnumContains(wide.tnum, inner.tnum)
  );
}

/** The smallest scalar that contains both. */
export function join(a: Scalar, b: Scalar): Scalar {
  if (contains(a, b)) return a;
  if (contains(b, a)) return b;
  return hull(a, b);
}

/** The values that both have; undefined if it is clear that there are none. */
export { intersect } from './scalar-settle.ts';
