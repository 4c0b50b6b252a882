/**
 * Parts of the codec (`btf-codec.ts`) that read and write one scalar, or one array of characters.
 *
 * A part reads at a place of a DataView that is known to have room, and writes to bytes that are all zero. What a value
 * can't be is told by `ValueMismatch`, to which each level above adds its piece of the path.
 */
import type { BtfType } from './btf.ts';
import type { ObjectErrorCode } from './errors.ts';

/**
 * What bytes decode to. Integers of more than 32 bits, and pointers, are bigints; smaller ones numbers. Enum values are
 * their names where they have one. `char` arrays are strings where they hold printable UTF-8 that ends in nothing but NULs,
 * else arrays of numbers. Structs and unions are objects; members of anonymous members count as their own.
 */
export type BtfValue =
  | number
  | bigint
  | boolean
  | string
  | undefined
  | readonly BtfValue[]
  | { readonly [member: string]: BtfValue };

/** One type, ready to read and write. */
export interface Part {
  /** Bytes. */
  readonly size: number;
  /** Values that reading makes, all in all. */
  readonly count: number;
  /**
   * What is lost by reading and writing again, but for padding. 0: nothing; 1: what is in floats, as there is one NaN only; 2: what
   * is in bools, as 2 is true too.
   */
  readonly loss: number;
  read(view: DataView, at: number): BtfValue;
  /** @throws ValueMismatch */
  write(view: DataView, at: number, value: unknown): void;
  /** Sets the bits that hold the value: all but padding. */
  mark(mask: Uint8Array, at: number): void;
}

/** Why a value is none of its type. `path` grows on its way up. */
export class ValueMismatch {
  readonly code: ObjectErrorCode;
  readonly problem: string;
  path = '';

  constructor(code: ObjectErrorCode, problem: string) {
    this.code = code;
    this.problem = problem;
  }
}

type BtfInt = Extract<BtfType, { kind: 'int' }>;
type BtfEnum = Extract<BtfType, { kind: 'enum' | 'enum64' }>;

/** A value as an error message shows it. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return typeof value === 'function' ? 'a function' : String(value);
}

function markBytes(mask: Uint8Array, at: number, size: number): void {
  mask.fill(0xff, at, at + size);
}

function integerRange(bits: number, signed: boolean): { min: bigint; max: bigint } {
  const top = 1n << BigInt(bits - (signed ? 1 : 0));
  return { min: signed ? -top : 0n, max: top - 1n };
}

function outOfRange(value: number | bigint, min: number | bigint, max: number | bigint): ValueMismatch {
  return new ValueMismatch('value_out_of_range', `expected an integer from ${min} to ${max}, got ${shown(value)}`);
}

/** A value that is to go into 32 bits or less. */
function checkedNumber(value: unknown, min: number, max: number): number {
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw outOfRange(value, min, max);
  }
  if (typeof value === 'bigint') {
    if (value >= BigInt(min) && value <= BigInt(max)) return Number(value);
    throw outOfRange(value, min, max);
  }
  throw new ValueMismatch('wrong_value_type', `expected an integer from ${min} to ${max}, got ${shown(value)}`);
}

/** A value that is to go into more. Numbers are taken as long as they are exact. */
function checkedBigint(value: unknown, min: bigint, max: bigint): bigint {
  if (typeof value === 'bigint') {
    if (value >= min && value <= max) return value;
    throw outOfRange(value, min, max);
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) {
      throw new ValueMismatch(
        'value_out_of_range',
        `expected a bigint from ${min} to ${max} (or a number up to 2^53 - 1), got ${value}`,
      );
    }
    return checkedBigint(BigInt(value), min, max);
  }
  throw new ValueMismatch('wrong_value_type', `expected a bigint from ${min} to ${max}, got ${shown(value)}`);
}

/** Bits `shift` to `shift + bits` of the bytes from `at` on, as unsigned integer. */
function readBits(view: DataView, at: number, shift: number, bits: number): bigint {
  let value = 0n;
  for (let i = Math.ceil((shift + bits) / 8) - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
  return BigInt.asUintN(bits, value >> BigInt(shift));
}

/** The bits must be zero before. */
function writeBits(view: DataView, at: number, shift: number, bits: number, value: bigint): void {
  let rest = BigInt.asUintN(bits, value) << BigInt(shift);
  const size = Math.ceil((shift + bits) / 8);
  for (let i = 0; i < size; i++) {
    view.setUint8(at + i, view.getUint8(at + i) | Number(rest & 0xffn));
    rest >>= 8n;
  }
}

/** How an integer of some bits becomes a value, and a value an integer: plainly, as a bool, as an enum's name. */
interface Meaning {
  readonly loss: number;
  fromInteger(value: number | bigint): BtfValue;
  toInteger(value: unknown): unknown;
}

const PLAIN: Meaning = { loss: 0, fromInteger: value => value, toInteger: value => value };

const BOOL: Meaning = {
  loss: 2,
  fromInteger: value => value !== 0 && value !== 0n,
  toInteger: value => {
    if (typeof value === 'boolean') return value ? 1 : 0;
    if (value === 0 || value === 1) return value;
    throw new ValueMismatch('wrong_value_type', `expected true or false, got ${shown(value)}`);
  },
};

/** Names that an error message lists. */
const LISTED = 12;

export function listed(names: readonly string[]): string {
  const more = names.length - LISTED;
  return names.slice(0, LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function enumMeaning(type: BtfEnum): Meaning {
  const names = new Map<bigint, string>();
  const values = new Map<string, bigint>();
  // Of several names for a value the first is shown.
  for (const { name, value } of type.values) {
    if (!names.has(value)) names.set(value, name);
    if (!values.has(name)) values.set(name, value);
  }
  const small = new Map([...names].map(([value, name]) => [Number(value), name]));
  return {
    loss: 0,
    fromInteger: value => (typeof value === 'number' ? small.get(value) : names.get(value)) ?? value,
    toInteger: value => {
      if (typeof value !== 'string') return value;
      const found = values.get(value);
      if (found !== undefined) return found;
      throw new ValueMismatch(
        'wrong_value_type',
        `${shown(value)} is no name of enum ${type.name || '(anonymous)'}; it has ${listed([...values.keys()])}`,
      );
    },
  };
}

/**
 * An enum in a bit-field. Before version 15, clang did not say which enums are signed, so that -3 reads as 2^32 - 3, which no
 * bit-field holds.
 */
function signedEnum(type: BtfEnum, bits: number): BtfEnum {
  const width = 8 * type.size;
  const values = type.values.map(({ name, value }) => ({ name, value: BigInt.asIntN(width, value) }));
  const negative = values.filter(({ value }) => value < 0n);
  const { min } = integerRange(bits, true);
  if (type.signed || negative.length === 0 || bits >= width || negative.some(({ value }) => value < min)) return type;
  return { ...type, signed: true, values };
}

function meaningOf(type: BtfInt | BtfEnum): Meaning {
  if (type.kind !== 'int') return enumMeaning(type);
  return type.bool ? BOOL : PLAIN;
}

/** Bits `shift` and on, `bits` of them: a bit-field, or an integer of an odd size. */
export function bitsPart(given: BtfInt | BtfEnum, shift: number, bits: number): Part {
  const type = given.kind === 'int' ? given : signedEnum(given, bits);
  const meaning = meaningOf(type);
  const signed = type.signed;
  const { min, max } = integerRange(bits, signed);
  const narrow = bits <= 32;
  const size = Math.ceil((shift + bits) / 8);
  const { loss } = meaning;
  const mark: Part['mark'] = (mask, at) => {
    const view = new DataView(mask.buffer, mask.byteOffset, mask.byteLength);
    const before = readBits(view, at, shift, bits);
    writeBits(view, at, shift, bits, ((1n << BigInt(bits)) - 1n) & ~before);
  };
  if (size <= 4) {
    // Without bigints: several times as fast.
    const [low, high] = [Number(min), Number(max)];
    const top = 32 - bits;
    return {
      size,
      count: 1,
      loss,
      read: (view, at) => {
        let word = 0;
        for (let i = 0; i < size; i++) word |= view.getUint8(at + i) << (8 * i);
        const value = (word >>> shift) << top;
        return meaning.fromInteger(signed ? value >> top : value >>> top);
      },
      write: (view, at, value) => {
        const integer = checkedNumber(meaning.toInteger(value), low, high);
        const word = ((integer << top) >>> top) << shift;
        for (let i = 0; i < size; i++) view.setUint8(at + i, view.getUint8(at + i) | ((word >>> (8 * i)) & 0xff));
      },
      mark,
    };
  }
  return {
    size,
    count: 1,
    loss,
    read: (view, at) => {
      const raw = readBits(view, at, shift, bits);
      const value = signed ? BigInt.asIntN(bits, raw) : raw;
      return meaning.fromInteger(narrow ? Number(value) : value);
    },
    write: (view, at, value) => {
      const plain = meaning.toInteger(value);
      const integer = narrow ? BigInt(checkedNumber(plain, Number(min), Number(max))) : checkedBigint(plain, min, max);
      writeBits(view, at, shift, bits, integer);
    },
    mark,
  };
}

type Reader = (view: DataView, at: number) => number;
type Writer = (view: DataView, at: number, value: number) => void;

const READ_UNSIGNED: Readonly<Record<number, Reader>> = {
  1: (view, at) => view.getUint8(at),
  2: (view, at) => view.getUint16(at, true),
  4: (view, at) => view.getUint32(at, true),
};
const READ_SIGNED: Readonly<Record<number, Reader>> = {
  1: (view, at) => view.getInt8(at),
  2: (view, at) => view.getInt16(at, true),
  4: (view, at) => view.getInt32(at, true),
};
/** Negative numbers are stored as their two's complement. */
const WRITE: Readonly<Record<number, Writer>> = {
  1: (view, at, value) => view.setUint8(at, value),
  2: (view, at, value) => view.setUint16(at, value, true),
  4: (view, at, value) => view.setUint32(at, value, true),
};

function wordPart(signed: boolean, meaning: Meaning): Part {
  const { min, max } = integerRange(64, signed);
  return {
    size: 8,
    count: 1,
    loss: meaning.loss,
    read: (view, at) => meaning.fromInteger(signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true)),
    write: (view, at, value) =>
      view.setBigUint64(at, BigInt.asUintN(64, checkedBigint(meaning.toInteger(value), min, max)), true),
    mark: (mask, at) => markBytes(mask, at, 8),
  };
}

/** Pointers are their 64 bits: of no use outside the run that wrote them, but nothing is lost. */
export const POINTER: Part = wordPart(false, PLAIN);

/** An integer or enum as large as its type says. */
export function integerPart(type: BtfInt | BtfEnum): Part {
  const { size, signed } = type;
  // Compilers of old described bit-fields by the integer instead of the member.
  if (type.kind === 'int' && (type.offset !== 0 || type.bits !== 8 * size)) {
    return { ...bitsPart(type, type.offset, type.bits), size };
  }
  const meaning = meaningOf(type);
  if (size === 8) return wordPart(signed, meaning);
  const read = (signed ? READ_SIGNED : READ_UNSIGNED)[size];
  const write = WRITE[size];
  if (!read || !write) return bitsPart(type, 0, 8 * size);
  const limits = integerRange(8 * size, signed);
  const [min, max] = [Number(limits.min), Number(limits.max)];
  const mark: Part['mark'] = (mask, at) => markBytes(mask, at, size);
  if (meaning === PLAIN) {
    return {
      size,
      count: 1,
      loss: 0,
      read,
      write: (view, at, value) => write(view, at, checkedNumber(value, min, max)),
      mark,
    };
  }
  return {
    size,
    count: 1,
    loss: meaning.loss,
    read: (view, at) => meaning.fromInteger(read(view, at)),
    write: (view, at, value) => write(view, at, checkedNumber(meaning.toInteger(value), min, max)),
    mark,
  };
}

/** float and double. Numbers are rounded to the nearest float, but one that would become infinite is refused. */
export function floatPart(size: 4 | 8): Part {
  return {
    size,
    count: 1,
    loss: 1,
    read: (view, at) => (size === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true)),
    write: (view, at, value) => {
      if (typeof value !== 'number') {
        throw new ValueMismatch('wrong_value_type', `expected a number, got ${shown(value)}`);
      }
      if (size === 8) {
        view.setFloat64(at, value, true);
        return;
      }
      if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) {
        throw new ValueMismatch('value_out_of_range', `expected a number that a 32-bit float can hold, got ${value}`);
      }
      view.setFloat32(at, value, true);
    },
    mark: (mask, at) => markBytes(mask, at, size),
  };
}

/** Elements of an array as they are given: an array or typed array of exactly that many. */
export function elementsOf(value: unknown, length: number): ArrayLike<unknown> {
  const isArray = Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
  if (!isArray) {
    throw new ValueMismatch('wrong_value_type', `expected an array of ${length}, got ${shown(value)}`);
  }
  const elements = value as unknown as ArrayLike<unknown>;
  if (elements.length !== length) {
    throw new ValueMismatch('value_out_of_range', `expected an array of ${length}, got ${elements.length} elements`);
  }
  return elements;
}

/** An array of characters. @param array the same as array of numbers */
export function textPart(array: Part): Part {
  const { size } = array;
  return {
    size,
    count: 1,
    loss: 0,
    read: (view, at) => textOf(new Uint8Array(view.buffer, view.byteOffset + at, size)) ?? array.read(view, at),
    write: (view, at, value) => {
      if (typeof value !== 'string') {
        array.write(view, at, value);
        return;
      }
      const bytes = utf8(value);
      if (bytes.length > size) {
        throw new ValueMismatch(
          'value_out_of_range',
          `expected at most ${size} bytes of text, got ${shown(value)} of ${bytes.length} bytes`,
        );
      }
      new Uint8Array(view.buffer, view.byteOffset + at, size).set(bytes);
    },
    mark: (mask, at) => markBytes(mask, at, size),
  };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8(text: string): Uint8Array {
  if (text.includes('\0')) {
    throw new ValueMismatch(
      'value_out_of_range',
      `a text ends at its first NUL: ${shown(text)} has one; give an array`,
    );
  }
  // What the encoder would replace can't come back.
  for (let i = 0; i < text.length; i++) {
    const code = text.codePointAt(i)!;
    if (code >= 0xd800 && code <= 0xdfff) {
      throw new ValueMismatch('value_out_of_range', `a text must be Unicode: ${shown(text)} has half a surrogate pair`);
    }
    if (code > 0xffff) i++;
  }
  return encoder.encode(text);
}

const isControl = (code: number): boolean =>
  (code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) || (code >= 0x7f && code < 0xa0);

/** Printable UTF-8 followed by NULs only; undefined for anything else. */
function textOf(bytes: Uint8Array): string | undefined {
  let end = 0;
  let ascii = true;
  for (; end < bytes.length && bytes[end] !== 0; end++) {
    const byte = bytes[end]!;
    if (byte >= 0x80) ascii = false;
    else if (isControl(byte)) return undefined;
  }
  for (let i = end; i < bytes.length; i++) if (bytes[i] !== 0) return undefined;
  const text = bytes.subarray(0, end);
  if (ascii && end < 64) return String.fromCharCode(...text);
  try {
    const decoded = decoder.decode(text);
    return ascii || ![...decoded].some(each => isControl(each.codePointAt(0)!)) ? decoded : undefined;
  } catch {
    return undefined;
  }
}
