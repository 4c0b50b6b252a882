/**
 * The formats of bpf_trace_printk, bpf_trace_vprintk and bpf_snprintf, with the kernel's limits: no more conversions than values, out of
 * %d %i %u %x %X (with l or ll), %c, %s, %p, %px, %pK, %pks, %pus, %pB, %ps, %pS, %pI4, %pi4, %pI6, %pi6; flags and
 * width before them, no precision. Anything else is refused, as is a format without its NUL.
 *
 * Three differences: %p prints the address (the kernel prints a hash of it), symbols print as addresses, and
 * what no longer fits into the buffer of bpf_snprintf counts towards its result whatever the conversion.
 */

/** Reads memory on behalf of %s and %pI4: undefined where the address is not readable. */
export interface FormatMemory {
  readString(address: bigint, limit: number): string | undefined;
  readBytes(address: bigint, length: number): Uint8Array | undefined;
}

interface Flags {
  readonly left: boolean;
  readonly plus: boolean;
  readonly space: boolean;
  readonly zero: boolean;
  readonly width: number;
}

/** The kernel's character classes: Latin-1, though text passes through as UTF-8. */
const SPACE = /[\t\n\v\f\r \xa0]/;
const PRINTABLE = /[\x20-\x7e\x80-\xff]/;
const PUNCTUATION = /[!-/:-@[-`{-~\xa1-\xbf\xd7\xf7]/;
const ALPHANUMERIC = /[0-9A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\xff]/;
/** Kernel's buffer for strings and numbers of one call. */
const ARGUMENT_BYTES = 512;
const POINTER_DIGITS = 16;
/** A field wider than this is cut: the line could not hold it anyway. */
const WIDEST = 1024;

const ends = (c: string | undefined): boolean => c === undefined || SPACE.test(c) || PUNCTUATION.test(c);

function pad(text: string, { left, width }: Flags): string {
  return left ? text.padEnd(width) : text.padStart(width);
}

function padNumber(digits: string, sign: string, flags: Flags): string {
  if (flags.zero && !flags.left) return sign + digits.padStart(flags.width - sign.length, '0');
  return pad(sign + digits, flags);
}

function formatInteger(conversion: string, value: bigint, bits: number, flags: Flags): string {
  if (conversion === 'd' || conversion === 'i') {
    const signed = BigInt.asIntN(bits, value);
    const sign = signed < 0n ? '-' : flags.plus ? '+' : flags.space ? ' ' : '';
    return padNumber((signed < 0n ? -signed : signed).toString(), sign, flags);
  }
  const unsigned = BigInt.asUintN(bits, value);
  const hex = unsigned.toString(16);
  const digits = conversion === 'u' ? unsigned.toString() : conversion === 'X' ? hex.toUpperCase() : hex;
  return padNumber(digits, '', flags);
}

function formatPointer(value: bigint, flags: Flags): string {
  const digits = BigInt.asUintN(64, value).toString(16);
  return flags.width === 0 ? digits.padStart(POINTER_DIGITS, '0') : padNumber(digits, '', flags);
}

function formatAddress(kind: string, bytes: Uint8Array): string {
  if (kind === 'I4') return bytes.join('.');
  if (kind === 'i4') return [...bytes].map(byte => byte.toString().padStart(3, '0')).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  return groups.map(group => group.toString(16).padStart(4, '0')).join(kind === 'I6' ? ':' : '');
}

class Formatter {
  readonly #format: string;
  readonly #values: readonly bigint[];
  readonly #memory: FormatMemory;
  #at = 0;
  #used = 0;
  #out = '';

  constructor(format: string, values: readonly bigint[], memory: FormatMemory) {
    this.#format = format;
    this.#values = values;
    this.#memory = memory;
  }

  run(): string | undefined {
    while (this.#at < this.#format.length) {
      const c = this.#format[this.#at]!;
      if (!PRINTABLE.test(c) && !SPACE.test(c)) return undefined;
      this.#at++;
      if (c !== '%') {
        this.#out += c;
      } else if (this.#format[this.#at] === '%') {
        this.#at++;
        this.#out += '%';
      } else if (this.#used >= this.#values.length || !this.#convert(this.#values[this.#used++]!)) {
        return undefined;
      }
    }
    return this.#out;
  }

  #flags(): Flags {
    const start = this.#at;
    while (this.#format[this.#at] !== undefined && '0+- '.includes(this.#format[this.#at]!)) this.#at++;
    const flags = this.#format.slice(start, this.#at);
    const digits = /^[1-9]?\d*/.exec(this.#format.slice(this.#at))![0];
    this.#at += digits.length;
    return {
      left: flags.includes('-'),
      plus: flags.includes('+'),
      space: flags.includes(' '),
      zero: flags.includes('0'),
      width: Math.min(Number(digits), WIDEST),
    };
  }

  /** One conversion behind its %; false where the kernel has no such. */
  #convert(value: bigint): boolean {
    const flags = this.#flags();
    const c = this.#format[this.#at++];
    switch (c) {
      case 'p':
        return this.#pointer(value, flags);
      case 's':
        return this.#string(value, flags);
      case 'c':
        this.#out += pad(String.fromCharCode(Number(value & 0xffn)), flags);
        return true;
      default: {
        let conversion = c;
        let bits = 32;
        for (let i = 0; i < 2 && conversion === 'l'; i++) {
          bits = 64;
          conversion = this.#format[this.#at++];
        }
        if (conversion === undefined || !'iduxX'.includes(conversion)) return false;
        this.#out += formatInteger(conversion, value, bits, flags);
        return true;
      }
    }
  }

  #string(value: bigint, flags: Flags): boolean {
    if (!ends(this.#format[this.#at])) return false;
    this.#out += pad(this.#memory.readString(value, ARGUMENT_BYTES) ?? '', flags);
    return true;
  }

  #pointer(value: bigint, flags: Flags): boolean {
    const next = this.#format[this.#at];
    if (ends(next)) {
      this.#out += formatPointer(value, flags);
      return true;
    }
    const two = this.#format.slice(this.#at, this.#at + 2);
    if (two === 'ks' || two === 'us') {
      this.#at += 2;
      return this.#string(value, { ...flags, width: 0 });
    }
    if ('KxsSB'.includes(next!)) {
      this.#out += next === 'K' || next === 'x' ? formatPointer(value, flags) : `0x${value.toString(16)}`;
    } else if (/^[iI][46]$/.test(two)) {
      const length = two[1] === '4' ? 4 : 16;
      this.#out += formatAddress(two, this.#memory.readBytes(value, length) ?? new Uint8Array(length));
    } else {
      return false;
    }
    // What the kernel's printer takes as part of the conversion, and then ignores.
    while (ALPHANUMERIC.test(this.#format[this.#at] ?? '')) this.#at++;
    return true;
  }
}

/**
 * @param format without its NUL; one char per byte.
 * @returns the text, or undefined for a format that the kernel answers with EINVAL.
 */
export function formatTrace(format: string, values: readonly bigint[], memory: FormatMemory): string | undefined {
  return new Formatter(format, values, memory).run();
}

/** Whether the kernel takes a format for that many values; what they are does not matter. */
export function isFormat(format: string, values: number): boolean {
  const nothing = { readString: () => '', readBytes: () => undefined };
  return formatTrace(format, new Array<bigint>(values).fill(0n), nothing) !== undefined;
}
