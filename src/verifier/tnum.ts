/**
 * Tracked numbers ("tnums"): what is known of each bit of a 64-bit value.
 *
 * A bit is known to be 0 (`value` 0, `mask` 0), known to be 1 (`value` 1, `mask` 0) or unknown (`mask` 1, and then
 * `value` is 0). The invariant `(value & mask) === 0` holds for every tnum made here; the members are all x with
 * `(x & ~mask) === value`. Every operation gives a tnum that contains the result for each choice of members; and, or, xor, add, sub
 * and shifts by a constant give the smallest such tnum.
 *
 * The domain is described in "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers" (CGO 2022);
 * multiplication joins partial sums, as Linux does since 6.18.
 */

/** Both fields are u64; `(value & mask) === 0`. */
export interface Tnum {
  readonly value: bigint;
  readonly mask: bigint;
}

const U64_MAX = 0xffffffffffffffffn;

export const TNUM_UNKNOWN: Tnum = { value: 0n, mask: U64_MAX };

function tnumConstant(value: bigint): Tnum {
  return { value, mask: 0n };
}

/** Every member of `inner` is one of `outer`. */
export function tnumContains(outer: Tnum, inner: Tnum): boolean {
  return (inner.mask & ~outer.mask) === 0n && (inner.value & ~outer.mask) === outer.value;
}

/** The members that both have, or undefined if a bit is known to differ. */
export function tnumIntersect(a: Tnum, b: Tnum): Tnum | undefined {
  if (((a.value ^ b.value) & ~(a.mask | b.mask)) !== 0n) return undefined;
  return { value: a.value | b.value, mask: a.mask & b.mask };
}

/** The smallest tnum that holds the members of both. */
export function tnumUnion(a: Tnum, b: Tnum): Tnum {
  const mask = (a.value ^ b.value) | a.mask | b.mask;
  return { value: a.value & ~mask, mask };
}

export function tnumAdd(a: Tnum, b: Tnum): Tnum {
  // The carries differ between the sum of all minima and the sum of all maxima exactly where some choice matters.
  const low = a.value + b.value;
  const high = low + a.mask + b.mask;
  const mask = BigInt.asUintN(64, (low ^ high) | a.mask | b.mask);
  return { value: BigInt.asUintN(64, low) & ~mask, mask };
}

export function tnumSub(a: Tnum, b: Tnum): Tnum {
  const difference = a.value - b.value;
  const mask = BigInt.asUintN(64, (difference + a.mask) ^ (difference - b.mask)) | a.mask | b.mask;
  return { value: BigInt.asUintN(64, difference) & ~mask, mask };
}

export function tnumAnd(a: Tnum, b: Tnum): Tnum {
  const value = a.value & b.value;
  return { value, mask: (a.value | a.mask) & (b.value | b.mask) & ~value };
}

export function tnumOr(a: Tnum, b: Tnum): Tnum {
  const value = a.value | b.value;
  return { value, mask: (a.mask | b.mask) & ~value };
}

export function tnumXor(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask | b.mask;
  return { value: (a.value ^ b.value) & ~mask, mask };
}

/** `amount` 0..63. */
export function tnumLsh(a: Tnum, amount: number): Tnum {
  const shift = BigInt(amount);
  return { value: BigInt.asUintN(64, a.value << shift), mask: BigInt.asUintN(64, a.mask << shift) };
}

/** `amount` 0..63. */
export function tnumRsh(a: Tnum, amount: number): Tnum {
  const shift = BigInt(amount);
  return { value: a.value >> shift, mask: a.mask >> shift };
}

/** Arithmetic shift of the low `width` bits, in which the result stays. `amount` 0..width-1. An unknown sign bit fills with unknown. */
export function tnumArsh(a: Tnum, amount: number, width: 32 | 64): Tnum {
  const shift = BigInt(amount);
  return {
    value: BigInt.asUintN(width, BigInt.asIntN(width, a.value) >> shift),
    mask: BigInt.asUintN(width, BigInt.asIntN(width, a.mask) >> shift),
  };
}

/**
 * Long multiplication in both orders, since either may know bits that the other doesn't; where a bit of the multiplier is unknown the
 * sums with and without it are joined.
 */
export function tnumMul(a: Tnum, b: Tnum): Tnum {
  if (a.mask === 0n && b.mask === 0n) return tnumConstant(BigInt.asUintN(64, a.value * b.value));
  // Of a number with nothing but low bits unknown, as ranges make them, one order tells all.
  if (b.mask === 0n && isLowRange(a)) return longMul(b, a);
  if (a.mask === 0n && isLowRange(b)) return longMul(a, b);
  return tnumIntersect(longMul(a, b), longMul(b, a)) ?? TNUM_UNKNOWN;
}

function isLowRange(t: Tnum): boolean {
  return t.value === 0n && (t.mask & (t.mask + 1n)) === 0n;
}

function longMul(multiplier: Tnum, multiplicand: Tnum): Tnum {
  let sum: Tnum = { value: 0n, mask: 0n };
  let bits = multiplier.value | multiplier.mask;
  let known = multiplier.value;
  for (let position = 0; bits !== 0n; position++, bits >>= 1n, known >>= 1n) {
    if ((bits & 1n) === 0n) continue;
    const withBit = tnumAdd(sum, tnumLsh(multiplicand, position));
    sum = (known & 1n) === 1n ? withBit : tnumUnion(sum, withBit);
  }
  return sum;
}

/** The low `bits` bits, sign-extended to 64: an unknown sign bit makes all upper bits unknown. */
export function tnumSignExtend(a: Tnum, bits: number): Tnum {
  return {
    value: BigInt.asUintN(64, BigInt.asIntN(bits, a.value)),
    mask: BigInt.asUintN(64, BigInt.asIntN(bits, a.mask)),
  };
}

/** The smallest member that is at least `floor` (u64), or undefined if there is none. */
export function tnumCeiling(a: Tnum, floor: bigint): bigint | undefined {
  const known = ~a.mask & U64_MAX;
  const wrong = (floor ^ a.value) & known;
  if (wrong === 0n) return floor;
  const length = bitLength(wrong);
  const below = lowMask(length);
  if (((a.value >> BigInt(length - 1)) & 1n) === 1n) {
    // The member has a 1 where floor has a 0, so everything below may be as small as it can.
    return (floor & ~below) | (a.value & below);
  }
  // A larger upper part is needed: with the known bits filled by ones, a carry stops at the lowest unknown bit that is 0 in floor.
  const carried = (floor | known | below) + 1n;
  return carried > U64_MAX ? undefined : (carried & a.mask) | a.value;
}

/** The largest member that is at most `ceiling` (u64), or undefined if there is none. */
export function tnumFloor(a: Tnum, ceiling: bigint): bigint | undefined {
  // Complementing all bits reverses the order.
  const mirrored = tnumCeiling({ value: ~(a.value | a.mask) & U64_MAX, mask: a.mask }, ~ceiling & U64_MAX);
  return mirrored === undefined ? undefined : ~mirrored & U64_MAX;
}

/** Position of the highest set bit plus one of a u64; 0 for 0. */
export function bitLength(value: bigint): number {
  const high = Number(value >> 32n);
  return high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value & 0xffffffffn));
}

const LOW_MASKS: readonly bigint[] = Array.from({ length: 65 }, (_, bits) => (1n << BigInt(bits)) - 1n);

/** `bits` (0..64) ones. */
export function lowMask(bits: number): bigint {
  return LOW_MASKS[bits]!;
}
