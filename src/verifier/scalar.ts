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
import { hull, settle, UNKNOWN } from './scalar-settle.ts';
import { type Tnum, tnumContains } from './tnum.ts';

export { alu } from './scalar-alu.ts';
export { compare, refine } from './scalar-branch.ts';
export { byteswap, movsx, signExtend, truncate } from './scalar-convert.ts';
export { formatScalar } from './scalar-format.ts';
export { constant, UNKNOWN } from './scalar-settle.ts';

/** Bounds are inclusive. 64-bit bounds are BigInt (u64, int64), 32-bit bounds numbers (u32, int32). */
export interface Scalar {
  readonly tnum: Tnum;
  readonly umin: bigint;
  readonly umax: bigint;
  readonly smin: bigint;
  readonly smax: bigint;
  readonly u32min: number;
  readonly u32max: number;
  readonly s32min: number;
  readonly s32max: number;
}

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
  return s.tnum.mask === 0n;
}

/** The only value as u64. Call it only where `isConstant` holds; otherwise it gives the known bits. */
export function constantValue(s: Scalar): bigint {
  return s.tnum.value;
}

/** Nothing is known. */
export function isUnknown(s: Scalar): boolean {
  return s === UNKNOWN || equal(s, UNKNOWN);
}

/** The same knowledge in every part. */
export function equal(a: Scalar, b: Scalar): boolean {
  return (
    a === b ||
    (a.u32min === b.u32min &&
      a.u32max === b.u32max &&
      a.s32min === b.s32min &&
      a.s32max === b.s32max &&
      a.umin === b.umin &&
      a.umax === b.umax &&
      a.smin === b.smin &&
      a.smax === b.smax &&
      a.tnum.value === b.tnum.value &&
      a.tnum.mask === b.tnum.mask)
  );
}

/** Every value of `inner` is one of `outer` (false also where the parts alone can't show it). */
export function contains(outer: Scalar, inner: Scalar): boolean {
  return (
    outer === inner ||
    outer === UNKNOWN ||
    (outer.u32min <= inner.u32min &&
      outer.u32max >= inner.u32max &&
      outer.s32min <= inner.s32min &&
      outer.s32max >= inner.s32max &&
      outer.umin <= inner.umin &&
      outer.umax >= inner.umax &&
      outer.smin <= inner.smin &&
      outer.smax >= inner.smax &&
      tnumContains(outer.tnum, inner.tnum))
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
