/**
 * 64-bit arithmetic on two int32 halves.
 *
 * V8 keeps int32 values in machine registers, while a BigInt is a heap object: the interpreter's registers are
 * therefore two Int32Arrays, and each function here answers one half, so that nothing is allocated. Only division
 * of numbers beyond 2^53 goes through BigInt.
 */

const TWO_32 = 0x1_0000_0000;
/** Numbers with a high half below this are exact as JS numbers (2^53). */
const EXACT_HIGH = 0x20_0000;

export function addHigh(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  const carry = (aLow >>> 0) + (bLow >>> 0) >= TWO_32 ? 1 : 0;
  return (aHigh + bHigh + carry) | 0;
}

export function subtractHigh(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  const borrow = aLow >>> 0 < bLow >>> 0 ? 1 : 0;
  return (aHigh - bHigh - borrow) | 0;
}

/** High half of the product modulo 2^64; the low half is Math.imul(aLow, bLow). */
export function multiplyHigh(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  return (multiplyHigh32(aLow, bLow) + Math.imul(aLow, bHigh) + Math.imul(aHigh, bLow)) | 0;
}

/** Bits 32-63 of the unsigned 32 × 32-bit product, by 16-bit digits. */
function multiplyHigh32(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const low = Math.imul(a0, b0) >>> 0;
  const middle = a1 * b0 + (low >>> 16);
  const middle2 = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000)) | 0;
}

/* Shifts: `amount` is taken modulo 64, as RFC 9669 section 4.1 masks it. */

export function shiftLeftLow(low: number, amount: number): number {
  return (amount & 32) !== 0 ? 0 : low << amount;
}
export function shiftLeftHigh(low: number, high: number, amount: number): number {
  const n = amount & 31;
  if ((amount & 32) !== 0) return low << n;
  return n === 0 ? high : (high << n) | (low >>> (32 - n));
}
export function shiftRightLow(low: number, high: number, amount: number): number {
  const n = amount & 31;
  if ((amount & 32) !== 0) return (high >>> n) | 0;
  return n === 0 ? low : (low >>> n) | (high << (32 - n));
}
export function shiftRightHigh(high: number, amount: number): number {
  return (amount & 32) !== 0 ? 0 : (high >>> amount) | 0;
}
export function shiftRightSignedLow(low: number, high: number, amount: number): number {
  const n = amount & 31;
  if ((amount & 32) !== 0) return high >> n;
  return n === 0 ? low : (low >>> n) | (high << (32 - n));
}
export function shiftRightSignedHigh(high: number, amount: number): number {
  return (amount & 32) !== 0 ? high >> 31 : high >> amount;
}

export function lessUnsigned(aLow: number, aHigh: number, bLow: number, bHigh: number): boolean {
  return aHigh === bHigh ? aLow >>> 0 < bLow >>> 0 : aHigh >>> 0 < bHigh >>> 0;
}
export function lessSigned(aLow: number, aHigh: number, bLow: number, bHigh: number): boolean {
  return aHigh === bHigh ? aLow >>> 0 < bLow >>> 0 : aHigh < bHigh;
}

export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}
export function swap32(value: number): number {
  return (swap16(value) << 16) | swap16(value >>> 16);
}

/**
 * The unsigned 64-bit number as a JS number: exact below 2^53, rounded above. Good enough for addresses, which are
 * below 2^47; what is rounded is far outside any arena.
 */
export function toNumber(low: number, high: number): number {
  return (high >>> 0) * TWO_32 + (low >>> 0);
}
export function toBigInt(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
export function lowHalf(value: bigint): number {
  return Number(BigInt.asIntN(32, value));
}
export function highHalf(value: bigint): number {
  return Number(BigInt.asIntN(32, value >> 32n));
}

/** 32-bit division (RFC 9669 section 4.1): by zero gives 0; MIN / -1 gives MIN. Results as int32. */
export function divide32(a: number, b: number): number {
  return b === 0 ? 0 : ((a >>> 0) / (b >>> 0)) | 0;
}
/** By zero leaves the dividend. */
export function modulo32(a: number, b: number): number {
  return b === 0 ? a : ((a >>> 0) % (b >>> 0)) | 0;
}
export function divideSigned32(a: number, b: number): number {
  return b === 0 ? 0 : (a / b) | 0;
}
export function moduloSigned32(a: number, b: number): number {
  return b === 0 ? a : (a % b) | 0;
}

export type DivisionKind = 'div' | 'mod' | 'sdiv' | 'smod';

/**
 * 64-bit division and modulo of register `dst` in place, with the same rules for zero and overflow as in 32 bits.
 * Two results do not fit one JS number, hence the store.
 */
export function divideInPlace(
  kind: DivisionKind,
  low: Int32Array,
  high: Int32Array,
  dst: number,
  bLow: number,
  bHigh: number,
): void {
  const aLow = low[dst]!;
  const aHigh = high[dst]!;
  const modulo = kind === 'mod' || kind === 'smod';
  if ((bLow | bHigh) === 0) {
    if (!modulo) low[dst] = high[dst] = 0;
    return;
  }
  const signed = kind === 'sdiv' || kind === 'smod';
  // Both numbers are small and (seen as signed) not negative: exact in doubles, since % is exact.
  if (aHigh >>> 0 < EXACT_HIGH && bHigh >>> 0 < EXACT_HIGH) {
    const a = toNumber(aLow, aHigh);
    const b = toNumber(bLow, bHigh);
    const rest = a % b;
    const result = modulo ? rest : (a - rest) / b;
    low[dst] = result | 0;
    high[dst] = (result / TWO_32) | 0;
    return;
  }
  let a = toBigInt(aLow, aHigh);
  let b = toBigInt(bLow, bHigh);
  if (signed) {
    a = BigInt.asIntN(64, a);
    b = BigInt.asIntN(64, b);
  }
  // BigInt division truncates towards zero as BPF's does; MIN / -1 = 2^63 wraps back to MIN in the halves.
  const result = modulo ? a % b : a / b;
  low[dst] = lowHalf(result);
  high[dst] = highHalf(result);
}
