/**
 * The representation of scalars.
 *
 * Problem: scalars are made at nearly every instruction and kept by every stored state, and BigInts are objects of their own.
 * Strategy: most numbers in programs are below 2^32 (sizes, bytes, offsets, counters, results of 32-bit arithmetic), and of those
 * the low halves say everything. So six small integers hold any scalar's low half, and only those that can be 2^32 or more
 * have a second object with the 64-bit parts. The BigInts of the others are made when they are asked for.
 *
 * Invariants: `wide` is undefined exactly where `umax` is below 2^32. Fields hold int32 bit patterns, which engines keep in place
 * (a u32 from 2^31 on would be an object); accessors give what the names say.
 */
import type { Tnum } from './tnum.ts';

/** The 64-bit parts; u64 and int64. */
export class Wide {
  readonly tnum: Tnum;
  readonly umin: bigint;
  readonly umax: bigint;
  readonly smin: bigint;
  readonly smax: bigint;

  constructor(tnum: Tnum, umin: bigint, umax: bigint, smin: bigint, smax: bigint) {
    this.tnum = tnum;
    this.umin = umin;
    this.umax = umax;
    this.smin = smin;
    this.smax = smax;
  }
}

/** Bounds are inclusive. 64-bit bounds are BigInt (u64, int64), 32-bit bounds numbers (u32, int32). */
export class Scalar {
  /** Known bits of the low half. */
  readonly value32: number;
  /** Unknown bits of the low half. */
  readonly mask32: number;
  readonly s32min: number;
  readonly s32max: number;
  /** undefined: below 2^32. */
  readonly wide: Wide | undefined;
  private readonly lowest: number;
  private readonly highest: number;

  /** All numbers are taken modulo 2^32. */
  constructor(
    value: number,
    mask: number,
    u32min: number,
    u32max: number,
    s32min: number,
    s32max: number,
    wide: Wide | undefined,
  ) {
    this.value32 = value | 0;
    this.mask32 = mask | 0;
    this.s32min = s32min | 0;
    this.s32max = s32max | 0;
    this.wide = wide;
    this.lowest = u32min | 0;
    this.highest = u32max | 0;
  }

  get u32min(): number {
    return this.lowest >>> 0;
  }

  get u32max(): number {
    return this.highest >>> 0;
  }

  /** Known and unknown bits. */
  get tnum(): Tnum {
    return this.wide?.tnum ?? { value: BigInt(this.value32 >>> 0), mask: BigInt(this.mask32 >>> 0) };
  }

  get umin(): bigint {
    return this.wide?.umin ?? BigInt(this.lowest >>> 0);
  }

  get umax(): bigint {
    return this.wide?.umax ?? BigInt(this.highest >>> 0);
  }

  get smin(): bigint {
    return this.wide?.smin ?? BigInt(this.lowest >>> 0);
  }

  get smax(): bigint {
    return this.wide?.smax ?? BigInt(this.highest >>> 0);
  }
}
