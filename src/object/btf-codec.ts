/**
 * Values of a BTF type as plain JavaScript values, both ways.
 *
 * Problem: bytes of a map become objects, and objects become bytes, with nothing lost in silence: what a type can't hold is
 * an error that names the field. And BTF is input: types may nest without end, overlap, or lie about their sizes.
 *
 * Strategy: a type is compiled once to a tree of parts that know their places, so that a value costs no look at the BTF; types
 * used twice are compiled once. All that could be wrong with a type is found then, before there are any bytes.
 *
 * Invariants:
 * 1. `decode(encode(v))` equals v for each v that encode takes, but that numbers given for bigints become bigints (and for enum
 *    values their names, and 0.1 for a float the nearest float), and that of a union all members are read.
 * 2. `encode(decode(bytes))` gives the same bytes but for padding (zeros), bools above 1 (1) and the payloads of NaNs.
 *
 * Unions: reading gives every member. To write one, give a single member, or several that agree on all bits that they share. Members
 * of anonymous structs and unions are members of the struct around them. Members of the kernel's own types (`bpf_spin_lock`,
 * `bpf_timer`, ...) may be left out.
 */

import { check, isBytes } from '../arguments.ts';
import type { Btf, BtfComposite, BtfType } from './btf.ts';
import {
  type BtfValue,
  bitsPart,
  elementsOf,
  floatPart,
  integerPart,
  listed,
  type Part,
  POINTER,
  shown,
  textPart,
  ValueMismatch,
} from './btf-scalars.ts';
import { isBtf } from './check.ts';
import { ObjectError } from './errors.ts';
import { typeName } from './type-name.ts';

const MAX_DEPTH = 64;
/** Real types make no more values than they have bits; overlapping members of nested types could make endlessly many. */
const MAX_VALUES = 1_000_000;

/** Larger values are read and written where they are. */
const SCRATCH_BYTES = 1024;

/** Types that belong to the kernel: user space has no use for their values. */
const KERNEL_OWNED = new Set([
  'bpf_spin_lock',
  'bpf_res_spin_lock',
  'bpf_timer',
  'bpf_wq',
  'bpf_task_work',
  'bpf_refcount',
  'bpf_list_head',
  'bpf_list_node',
  'bpf_rb_root',
  'bpf_rb_node',
]);

/** A struct type whose value may be left out where one is written. */
export function isKernelOwned(structName: string): boolean {
  return KERNEL_OWNED.has(structName);
}

function place(bytes: unknown, offset: unknown): void {
  if (!isBytes(bytes)) check.bytes(bytes, 'bytes');
  if (!Number.isInteger(offset)) check.natural(offset, 'offset');
}

/** Reads and writes values of one type. Made by `btfCodec`, which see. */
export class BtfCodec<T = BtfValue> {
  readonly btf: Btf;
  /** Without typedefs and qualifiers. */
  readonly typeId: number;
  /** Bytes of a value. */
  readonly size: number;
  readonly #part: Part;
  /** A view costs more than copying some bytes to one that is there. */
  readonly #scratch: Uint8Array;
  readonly #view: DataView;
  /** Getters of a value that is being encoded may use the codec. */
  #busy = false;

  /** @internal */
  constructor(btf: Btf, typeId: number, part: Part) {
    isBtf(btf, 'btf');
    check.record({ size: check.natural })(part, 'part');
    this.btf = btf;
    this.typeId = typeId;
    this.size = part.size;
    this.#part = part;
    this.#scratch = new Uint8Array(part.size <= SCRATCH_BYTES ? part.size : 0);
    this.#view = new DataView(this.#scratch.buffer);
  }

  /**
   * @param bytes at least `size` from `offset` on; what follows is ignored
   * @throws ObjectError `bad_value` where bytes are missing
   */
  decode(bytes: Uint8Array, offset = 0): T {
    place(bytes, offset);
    if (!(bytes.length - offset >= this.size) || offset < 0) {
      throw new ObjectError(
        'bad_value',
        `${typeName(this.btf, this.typeId)} has ${this.size} bytes, but ${Math.max(0, bytes.length - offset)} were given`,
        { expected: this.size, actual: bytes.length - offset },
      );
    }
    if (offset === 0 && bytes.length === this.#scratch.length && !this.#busy) {
      this.#scratch.set(bytes);
      return this.#part.read(this.#view, 0) as T;
    }
    return this.#part.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset) as T;
  }

  /**
   * @returns `size` bytes
   * @throws ObjectError `missing_field`, `unknown_field`, `value_out_of_range`, `wrong_value_type`, `conflicting_members`, with
   *   the field's path
   */
  encode(value: T): Uint8Array {
    if (this.#busy || this.size > SCRATCH_BYTES) {
      const bytes = new Uint8Array(this.size);
      this.encodeInto(value, bytes);
      return bytes;
    }
    this.#busy = true;
    try {
      this.#scratch.fill(0);
      this.#write(value, this.#view, 0);
      return this.#scratch.slice();
    } finally {
      this.#busy = false;
    }
  }

  /**
   * Writes the `size` bytes from `offset` on; after an error they hold anything.
   * @throws ObjectError as `encode`; `bad_value` where there are fewer
   */
  encodeInto(value: unknown, bytes: Uint8Array, offset = 0): void {
    place(bytes, offset);
    if (!(bytes.length - offset >= this.size) || offset < 0) {
      throw new ObjectError('bad_value', `the value needs ${this.size} bytes, but there are ${bytes.length - offset}`, {
        expected: this.size,
        actual: bytes.length - offset,
      });
    }
    bytes.fill(0, offset, offset + this.size);
    this.#write(value, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset);
  }

  #write(value: unknown, view: DataView, offset: number): void {
    try {
      this.#part.write(view, offset, value);
    } catch (error) {
      if (!(error instanceof ValueMismatch)) throw error;
      const path = error.path.replace(/^\./, '');
      throw new ObjectError(
        error.code,
        `${path === '' ? '' : `${path}: `}${error.problem} (type ${typeName(this.btf, this.typeId)})`,
        { path },
      );
    }
  }
}

const cache = new WeakMap<Btf, Map<number, BtfCodec<never>>>();

/**
 * The codec of a type: the same one for each call.
 * @param T what `decode` gives, if the caller knows; nothing checks it
 * @throws ObjectError `bad_value` where the type has no values (functions), unfolds without end or has members outside itself;
 *   `bad_btf`
 */
export function btfCodec<T = BtfValue>(btf: Btf, typeId: number): BtfCodec<T> {
  isBtf(btf, 'btf');
  check.u32(typeId, 'typeId');
  let codecs = cache.get(btf);
  if (!codecs) {
    codecs = new Map();
    cache.set(btf, codecs);
  }
  const id = btf.resolve(typeId);
  let codec = codecs.get(id);
  if (!codec) {
    codec = new BtfCodec<never>(btf, id, new Compiler(btf).part(id, 0));
    codecs.set(id, codec);
  }
  return codec as unknown as BtfCodec<T>;
}

/**
 * @param bytes at least as many as the type has; more are ignored.
 * @throws ObjectError `bad_value` where bytes are missing or the type has no values (functions), `bad_btf`.
 */
export function decodeValue(btf: Btf, typeId: number, bytes: Uint8Array): BtfValue {
  return btfCodec(btf, typeId).decode(bytes);
}

/** A struct or union. Anonymous ones are read from and written to the object around them. */
interface CompositePart extends Part {
  /** Names of all fields, those of anonymous members included. */
  readonly names: readonly string[];
  readInto(view: DataView, at: number, target: Record<string, BtfValue>): void;
  writeFrom(view: DataView, at: number, source: object): void;
}

interface Member {
  /** '' where it is anonymous. */
  readonly name: string;
  /** Bytes from the start of the struct. */
  readonly at: number;
  readonly part: Part;
  /** The same part, where the member is anonymous. */
  readonly group: CompositePart | undefined;
  readonly optional: boolean;
}

class Compiler {
  readonly #btf: Btf;
  /** By id; undefined while a type is being compiled. */
  readonly #parts = new Map<number, Part | undefined>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  part(typeId: number, depth: number): Part {
    const id = this.#btf.resolve(typeId);
    const known = this.#parts.get(id);
    if (known) return known;
    if (depth > MAX_DEPTH || this.#parts.has(id)) {
      throw this.#bad(id, depth > MAX_DEPTH ? `nests deeper than ${MAX_DEPTH}` : 'contains itself');
    }
    this.#parts.set(id, undefined);
    const part = this.#compile(id, this.#btf.type(id), depth);
    if (part.count > MAX_VALUES + 8 * part.size) throw this.#bad(id, `has ${part.count} parts in ${part.size} bytes`);
    this.#parts.set(id, part);
    return part;
  }

  #compile(id: number, type: BtfType, depth: number): Part {
    switch (type.kind) {
      case 'void':
        return NOTHING;
      case 'ptr':
        return POINTER;
      case 'int':
      case 'enum':
      case 'enum64':
        // Members of 16-byte integers exist; anything larger is no integer.
        if (type.size > 16) throw this.#bad(id, `is an integer of ${type.size} bytes`);
        if (type.kind === 'int' && type.offset + type.bits > 8 * type.size) {
          throw this.#bad(id, `has bits ${type.offset} to ${type.offset + type.bits} of ${type.size} bytes`);
        }
        return type.size === 0 ? NOTHING : integerPart(type);
      case 'float':
        return type.size === 4 || type.size === 8 ? floatPart(type.size) : arrayPart(BYTE, type.size);
      case 'array': {
        // Elements without size would not be stopped by the bytes.
        const element = this.part(type.type, depth + 1);
        const length = element.size === 0 ? 0 : type.length;
        this.#btf.sizeOf(id);
        const of = this.#btf.resolved(type.type);
        const array = arrayPart(element, length);
        return length > 0 && of.kind === 'int' && of.size === 1 && (of.char || of.name === 'char') && !of.bool
          ? textPart(array)
          : array;
      }
      case 'struct':
      case 'union':
        return this.#composite(id, type, depth);
      case 'var':
        return this.part(type.type, depth + 1);
      case 'datasec':
        return this.#section(id, type, depth);
      default:
        throw this.#bad(id, 'has no values');
    }
  }

  #composite(id: number, type: BtfComposite, depth: number): CompositePart {
    const members: Member[] = [];
    for (const { name, type: memberId, bitOffset, bitSize } of type.members) {
      const inner = this.#btf.resolved(memberId);
      const at = Math.floor(bitOffset / 8);
      let part: Part;
      if (bitSize > 0) {
        // Without a name it is padding.
        if (name === '') continue;
        if (inner.kind !== 'int' && inner.kind !== 'enum' && inner.kind !== 'enum64') {
          throw this.#bad(id, `has a bit-field ${name} of kind ${inner.kind}`);
        }
        part = bitsPart(inner, bitOffset % 8, bitSize);
      } else {
        if (bitOffset % 8 !== 0) throw this.#bad(id, `has a member ${name} that starts at bit ${bitOffset}`);
        part = this.part(memberId, depth + 1);
      }
      if (at + part.size > type.size) {
        throw this.#bad(id, `has ${type.size} bytes, and a member ${name} of ${part.size} bytes at ${at}`);
      }
      const isGroup = name === '' && (inner.kind === 'struct' || inner.kind === 'union');
      members.push({
        name,
        at,
        part,
        group: isGroup ? (part as CompositePart) : undefined,
        optional: inner.kind === 'struct' && isKernelOwned(inner.name),
      });
    }
    return compositePart(type.kind, type.size, members);
  }

  /** Global data: a struct of variables. Static ones of several functions may share a name: the later get a number. */
  #section(id: number, type: Extract<BtfType, { kind: 'datasec' }>, depth: number): CompositePart {
    const seen = new Map<string, number>();
    const members = type.variables.map(({ type: variable, offset }): Member => {
      const plain = this.#btf.name(variable);
      const times = (seen.get(plain) ?? 0) + 1;
      seen.set(plain, times);
      const name = times === 1 ? plain : `${plain}#${times}`;
      const part = this.part(variable, depth + 1);
      if (offset + part.size > type.size) {
        throw this.#bad(id, `has ${type.size} bytes, and a variable ${name} of ${part.size} bytes at ${offset}`);
      }
      return { name, at: offset, part, group: undefined, optional: false };
    });
    return compositePart('struct', type.size, members);
  }

  #bad(id: number, why: string): ObjectError {
    let name = '';
    try {
      name = ` (${typeName(this.#btf, id)})`;
    } catch {
      // Types without end have no name either.
    }
    return new ObjectError('bad_value', `BTF type ${id}${name} ${why}`, { type: id });
  }
}

const NOTHING: Part = {
  size: 0,
  count: 1,
  loss: 0,
  read: () => undefined,
  write: (_view, _at, value) => {
    if (value !== undefined)
      throw new ValueMismatch('wrong_value_type', `expected nothing (void), got ${shown(value)}`);
  },
  mark: () => {},
};

/** A byte of what JavaScript has no numbers for: floats of 2, 10, 12 and 16 bytes. */
const BYTE = integerPart({
  kind: 'int',
  name: '',
  size: 1,
  bits: 8,
  offset: 0,
  signed: false,
  char: false,
  bool: false,
});

function arrayPart(element: Part, length: number): Part {
  const step = element.size;
  return {
    size: step * length,
    count: 1 + element.count * length,
    loss: element.loss,
    read: (view, at) => {
      const values: BtfValue[] = [];
      for (let i = 0, place = at; i < length; i++, place += step) values.push(element.read(view, place));
      return values;
    },
    write: (view, at, value) => {
      const elements = elementsOf(value, length);
      let i = 0;
      try {
        for (; i < length; i++) element.write(view, at + i * step, elements[i]);
      } catch (error) {
        if (error instanceof ValueMismatch) error.path = `[${i}]${error.path}`;
        throw error;
      }
    },
    mark: (mask, at) => {
      for (let i = 0; i < length; i++) element.mark(mask, at + i * step);
    },
  };
}

/** On an object's prototype there is a `__proto__`, and functions that are no fields either. */
function fieldOf(source: object, name: string): unknown {
  if (name === '__proto__') return Object.getOwnPropertyDescriptor(source, name)?.value;
  const value = (source as Record<string, unknown>)[name];
  return typeof value === 'function' && !Object.hasOwn(source, name) ? undefined : value;
}

function store(target: Record<string, BtfValue>, name: string, value: BtfValue): void {
  if (name !== '__proto__') target[name] = value;
  else Object.defineProperty(target, name, { value, enumerable: true, writable: true, configurable: true });
}

function isPresent({ name, group }: Member, source: object): boolean {
  return group ? group.names.some(each => fieldOf(source, each) !== undefined) : fieldOf(source, name) !== undefined;
}

function writeMember({ name, at, part, group }: Member, view: DataView, base: number, source: object): void {
  if (group) {
    group.writeFrom(view, base + at, source);
    return;
  }
  try {
    part.write(view, base + at, fieldOf(source, name));
  } catch (error) {
    if (error instanceof ValueMismatch) error.path = `.${name}${error.path}`;
    throw error;
  }
}

function compositePart(kind: 'struct' | 'union', size: number, members: readonly Member[]): CompositePart {
  const names = members.flatMap(({ name, group }) => (group ? group.names : [name]));
  const known = new Set(names);
  const readInto: CompositePart['readInto'] = (view, at, target) => {
    for (const member of members) {
      if (member.group) member.group.readInto(view, at + member.at, target);
      else store(target, member.name, member.part.read(view, at + member.at));
    }
  };
  const writeStruct: CompositePart['writeFrom'] = (view, at, source) => {
    for (const member of members) {
      if (!member.group && fieldOf(source, member.name) === undefined && member.part.size > 0) {
        if (member.optional) continue;
        const mismatch = new ValueMismatch('missing_field', 'the field is missing');
        mismatch.path = `.${member.name}`;
        throw mismatch;
      }
      writeMember(member, view, at, source);
    }
  };
  // What is exact comes first: the rest is compared with it by value, not by bits.
  const ordered = members.toSorted((a, b) => a.part.loss - b.part.loss);
  const writeUnion: CompositePart['writeFrom'] = (view, at, source) => {
    const given = ordered.filter(member => isPresent(member, source));
    if (given.length === 1) {
      writeMember(given[0]!, view, at, source);
      return;
    }
    if (given.length === 0) {
      if (members.length === 0 || size === 0) return;
      throw new ValueMismatch('missing_field', `a union needs one of its members: ${listed(names)}`);
    }
    const bytes = new Uint8Array(size);
    const written = new Uint8Array(size);
    for (const member of given) mergeMember(member, source, bytes, written);
    new Uint8Array(view.buffer, view.byteOffset + at, size).set(bytes);
  };
  const writeFrom = kind === 'struct' ? writeStruct : writeUnion;
  return {
    size,
    count: members.reduce((sum, { part }) => sum + part.count, 1),
    loss: Math.max(0, ...members.map(({ part }) => part.loss)),
    names,
    readInto,
    writeFrom,
    read: (view, at) => {
      const value: Record<string, BtfValue> = {};
      readInto(view, at, value);
      return value;
    },
    write: (view, at, value) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
        throw new ValueMismatch('wrong_value_type', `expected an object with ${listed(names)}, got ${shown(value)}`);
      }
      for (const name of Object.keys(value)) {
        if (known.has(name) || fieldOf(value, name) === undefined) continue;
        const mismatch = new ValueMismatch('unknown_field', `there is no such field; there are ${listed(names)}`);
        mismatch.path = `.${name}`;
        throw mismatch;
      }
      writeFrom(view, at, value);
    },
    mark: (mask, at) => {
      for (const member of members) member.part.mark(mask, at + member.at);
    },
  };
}

/** Adds a member of a union to its bytes. `written` has the bits that others have set. */
function mergeMember(member: Member, source: object, bytes: Uint8Array, written: Uint8Array): void {
  const own = new Uint8Array(bytes.length);
  const view = new DataView(own.buffer);
  writeMember(member, view, 0, source);
  const mask = new Uint8Array(bytes.length);
  member.part.mark(mask, member.at);
  const together = bytes.map((byte, i) => byte | (own[i]! & mask[i]! & ~written[i]!));
  const differs = bytes.some((byte, i) => ((byte ^ own[i]!) & mask[i]! & written[i]!) !== 0);
  if (differs) {
    const others = member.part.read(new DataView(together.buffer), member.at);
    if (member.part.loss === 0 || !same(others, member.part.read(view, member.at))) {
      throw new ValueMismatch(
        'conflicting_members',
        `union member ${member.name || `{${listed(member.group?.names ?? [])}}`} and those before it give the same bytes different values; give one of them`,
      );
    }
  }
  bytes.set(together);
  for (const [i, bits] of mask.entries()) written[i]! |= bits;
}

function same(a: BtfValue, b: BtfValue): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return Object.is(a, b);
  return Object.keys(a).every(name =>
    same((a as Record<string, BtfValue>)[name], (b as Record<string, BtfValue>)[name]),
  );
}
