/** Text to integers as bpf_strtol and bpf_strtoul do it (kernel's kstrto*: no overflow, longest run of digits). */

const EINVAL = -22;
const ERANGE = -34;
const BASES: readonly number[] = [0, 8, 10, 16];
const BASE_MASK = 0x1fn;
/** The kernel copies this much behind the sign and looks no further. */
const LONGEST = 63;
const SPACE = /^[\t\n\v\f\r \xa0]*/;
const U64_MAX = (1n << 64n) - 1n;

export interface ParsedInteger {
  /** Chars used, or a negative error number. */
  readonly result: number;
  /** As stored: 64 bits, 0 on error. */
  readonly value: bigint;
}

const failure = (result: number): ParsedInteger => ({ result, value: 0n });

/** @param text one char per byte. @param flags base 0, 8, 10 or 16 in the low five bits. */
export function parseInteger(text: string, flags: bigint, signed: boolean): ParsedInteger {
  const flagged = Number(flags & BASE_MASK);
  if (text.length === 0 || !BASES.includes(flagged) || (flags & ~BASE_MASK) !== 0n) return failure(EINVAL);
  const space = SPACE.exec(text)![0].length;
  const negative = text[space] === '-';
  const start = space + (negative ? 1 : 0);
  const digits = text.slice(start, start + LONGEST);

  const hex = /^0x/i.test(digits) && (flagged === 16 || /^0x[0-9a-f]/i.test(digits));
  let base = flagged;
  if (base === 0) base = hex ? 16 : digits[0] === '0' ? 8 : 10;
  const prefix = base === 16 && hex ? 2 : 0;
  const run = { 8: /^[0-7]*/, 10: /^\d*/, 16: /^[0-9a-f]*/i }[base as 8 | 10 | 16].exec(digits.slice(prefix))![0];
  if (run.length === 0) return failure(EINVAL);
  const radix = base === 16 ? '0x' : base === 8 ? '0o' : '';
  const magnitude = BigInt(radix + run);
  if (magnitude > U64_MAX) return failure(ERANGE);
  const result = start + prefix + run.length;
  if (!signed) return negative ? failure(EINVAL) : { result, value: magnitude };
  if (magnitude > (1n << 63n) - (negative ? 0n : 1n)) {
    return failure(ERANGE);
  }
  return { result, value: negative ? -magnitude : magnitude };
}
