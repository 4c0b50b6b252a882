/**
 * Addresses of BPF functions in the interpreter, which has no code in memory. A callback's "address" names its
 * program and slot:
 *
 *     bits 63-60  59-56  55-24        23-0
 *          0001   0000   program id   slot
 *
 * It lies above 2^48, where no user-space address can be, so that it never collides with the arena and a program that
 * dereferenced it would be stopped.
 */
import { toBigInt } from './int64.ts';

const TAG = 0x1000_0000;
const SLOT_BITS = 24;
const SLOT_MASK = 0xff_ffff;

export interface FunctionLocation {
  /** u32 */
  readonly programId: number;
  readonly slot: number;
}

/** @param slot below 2^24 (programs have at most a million slots). */
export function functionAddress(programId: number, slot: number): bigint {
  return toBigInt((programId << SLOT_BITS) | (slot & SLOT_MASK), TAG | (programId >>> (32 - SLOT_BITS)));
}

/** @returns undefined where the address (as two halves) names no function. */
export function functionLocation(low: number, high: number): FunctionLocation | undefined {
  if ((high & 0xff00_0000) !== TAG) return undefined;
  return { programId: ((high << (32 - SLOT_BITS)) | (low >>> SLOT_BITS)) >>> 0, slot: low & SLOT_MASK };
}
