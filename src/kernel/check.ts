/** Arguments from outside that types cannot vouch for: JavaScript calls this too. */
import { describe, isBytes } from '../arguments.ts';
import { KernelError } from './errors.ts';

/** @throws KernelError `bad_argument` */
export function needBytes(value: unknown, what: string): Uint8Array {
  if (isBytes(value)) return value;
  throw new KernelError(
    'bad_argument',
    `${what} must be a Uint8Array, got ${value instanceof Uint8Array ? describe(value) : kindOf(value)}`,
  );
}

/** @throws KernelError `bad_argument` unless `value` is an integer from `min` to `max` */
export function needInteger(value: unknown, what: string, min: number, max: number): void {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return;
  const got = typeof value === 'number' ? `${value}` : kindOf(value);
  throw new KernelError('bad_argument', `${what} must be an integer from ${min} to ${max}, got ${got}`);
}

export const MAX_U32 = 0xffff_ffff;

/** Flags of map operations: the kernel has 64 bits of them, and uses the lowest few. */
export function flagBits(flags: unknown, map: string): bigint {
  needInteger(flags, `map ${map}: flags`, 0, Number.MAX_SAFE_INTEGER);
  return BigInt(flags as number);
}

/** What a value is, for messages. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value !== 'object') return value === undefined ? 'undefined' : `a ${typeof value}`;
  return `an object (${value.constructor?.name ?? 'without prototype'})`;
}
