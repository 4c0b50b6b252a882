/** Narrowing, sign extension and byte swaps of scalars. */
import type { Size, Width } from '../isa/instruction.ts';
import { S32_MAX, S32_MIN, settle, settleLow, U32_MAX, U64_MAX, UNKNOWN } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';
import { tnumSignExtend } from './tnum.ts';

// What loads of unknown memory give.
const ANY_BYTE = settleLow(0, 0xff, 0, 0xff, S32_MIN, S32_MAX)!;
const ANY_HALF = settleLow(0, 0xffff, 0, 0xffff, S32_MIN, S32_MAX)!;
const ANY_WORD = settleLow(0, U32_MAX, 0, U32_MAX, S32_MIN, S32_MAX)!;

/** The low `bytes` bytes, zero-extended to 64 bits. */
export function truncate(a: Scalar, bytes: Size): Scalar {
  if (bytes === 8) return a;
  if (a === UNKNOWN) return bytes === 1 ? ANY_BYTE : bytes === 2 ? ANY_HALF : ANY_WORD;
  const limit = bytes === 4 ? U32_MAX : 2 ** (8 * bytes) - 1;
  if (a.wide === undefined && a.u32max <= limit) return a;
  const value = a.value32 >>> 0;
  const mask = a.mask32 >>> 0;
  if (bytes === 4) return settleLow(value, mask, a.u32min, a.u32max, a.s32min, a.s32max) ?? UNKNOWN;
  // The range survives if it does not cross a multiple of the limit; in signed order it may cross zero of u32.
  let low = 0;
  let high = limit;
  for (const [first, last] of [
    [a.u32min, a.u32max],
    [a.s32min, a.s32max],
  ] as const) {
    if (last - first > limit || (first & limit) > (last & limit)) continue;
    low = Math.max(low, first & limit);
    high = Math.min(high, last & limit);
  }
  return settleLow((value & limit) >>> 0, (mask & limit) >>> 0, low, high, S32_MIN, S32_MAX) ?? UNKNOWN;
}

/** The low `bytes` bytes, sign-extended to 64 bits. */
export function signExtend(a: Scalar, bytes: Size): Scalar {
  if (bytes === 8) return a;
  const bits = 8 * bytes;
  let low = -(2 ** (bits - 1));
  let high = 2 ** (bits - 1) - 1;
  if (a.wide === undefined ? a.u32max <= high : a.wide.smin >= BigInt(low) && a.wide.smax <= BigInt(high)) return a;
  const unused = 32 - bits;
  for (const [first, last] of [
    [a.u32min, a.u32max],
    [a.s32min, a.s32max],
  ] as const) {
    const from = (first << unused) >> unused;
    const to = (last << unused) >> unused;
    if (last - first >= 2 ** bits || from > to) continue;
    low = Math.max(low, from);
    high = Math.min(high, to);
  }
  const known = tnumSignExtend(a.tnum, bits);
  return settle(known, 0n, U64_MAX, BigInt(low), BigInt(high), 0, U32_MAX, S32_MIN, S32_MAX) ?? UNKNOWN;
}

/** MOVSX: the low `from` bits sign-extended; for width 32 to 32 bits, then zero-extended. */
export function movsx(width: Width, from: 8 | 16 | 32, a: Scalar): Scalar {
  const extended = signExtend(a, from === 8 ? 1 : from === 16 ? 2 : 4);
  return width === 64 ? extended : truncate(extended, 4);
}

/** END and BSWAP on a little-endian machine: `le` only truncates, `be` and `swap` reverse the low `size` bits; the result is zero-extended. */
export function byteswap(order: 'le' | 'be' | 'swap', size: 16 | 32 | 64, a: Scalar): Scalar {
  if (order === 'le') return truncate(a, size === 16 ? 2 : size === 32 ? 4 : 8);
  const known = { value: reverseBytes(a.tnum.value, size), mask: reverseBytes(a.tnum.mask, size) };
  const u = UNKNOWN;
  return settle(known, u.umin, u.umax, u.smin, u.smax, u.u32min, u.u32max, u.s32min, u.s32max) ?? UNKNOWN;
}

/** The low `size` bits in reverse byte order. */
function reverseBytes(x: bigint, size: number): bigint {
  let reversed = 0n;
  for (let done = 0; done < size; done += 8, x >>= 8n) reversed = (reversed << 8n) | (x & 0xffn);
  return reversed;
}
