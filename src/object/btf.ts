/**
 * BTF: the type information of BPF objects and of the kernel.
 *
 * The kernel's BTF has about 150,000 types in 5 MB, and a load needs a handful of them. So parsing makes one pass that
 * notes where each type starts and checks every size, type id and string offset; types are decoded when asked for.
 * What comes out of a `Btf` can thus be indexed without further checks, except that type graphs may have cycles:
 * whoever follows references uses `resolve` and `sizeOf`, which limit the depth.
 *
 * Source: the kernel's Documentation/bpf/btf.rst.
 */
import { check as expect } from '../arguments.ts';
import { ObjectError } from './errors.ts';

export type BtfType =
  | { readonly kind: 'void' }
  | {
      readonly kind: 'int';
      readonly name: string;
      readonly size: number;
      /** Significant bits, and their offset in the storage (0 unless very old). */
      readonly bits: number;
      readonly offset: number;
      readonly signed: boolean;
      readonly char: boolean;
      readonly bool: boolean;
    }
  | { readonly kind: 'ptr'; readonly type: number }
  | { readonly kind: 'array'; readonly type: number; readonly indexType: number; readonly length: number }
  | BtfComposite
  | {
      readonly kind: 'enum' | 'enum64';
      readonly name: string;
      readonly size: number;
      readonly signed: boolean;
      readonly values: readonly { readonly name: string; readonly value: bigint }[];
    }
  | { readonly kind: 'fwd'; readonly name: string; readonly forwards: 'struct' | 'union' }
  | {
      readonly kind: 'typedef' | 'volatile' | 'const' | 'restrict' | 'type_tag';
      readonly name: string;
      readonly type: number;
    }
  | { readonly kind: 'func'; readonly name: string; readonly type: number; readonly linkage: BtfLinkage }
  | {
      readonly kind: 'func_proto';
      readonly returnType: number;
      readonly params: readonly { readonly name: string; readonly type: number }[];
      /** Ends with `...`. */
      readonly variadic: boolean;
    }
  | { readonly kind: 'var'; readonly name: string; readonly type: number; readonly linkage: BtfLinkage }
  | {
      readonly kind: 'datasec';
      readonly name: string;
      readonly size: number;
      readonly variables: readonly { readonly type: number; readonly offset: number; readonly size: number }[];
    }
  | { readonly kind: 'float'; readonly name: string; readonly size: number }
  /** `component` is a member or parameter index, -1 for the whole type. */
  | { readonly kind: 'decl_tag'; readonly name: string; readonly type: number; readonly component: number };

type BtfLinkage = 'static' | 'global' | 'extern';

export interface BtfComposite {
  readonly kind: 'struct' | 'union';
  readonly name: string;
  readonly size: number;
  readonly members: readonly BtfMember[];
}
export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** 0 where it is no bit-field. */
  readonly bitSize: number;
}
export type BtfKind = BtfType['kind'];

/** By number on the wire. */
const KINDS: readonly BtfKind[] = [
  'void',
  'int',
  'ptr',
  'array',
  'struct',
  'union',
  'enum',
  'fwd',
  'typedef',
  'volatile',
  'const',
  'restrict',
  'func',
  'func_proto',
  'var',
  'datasec',
  'float',
  'decl_tag',
  'type_tag',
  'enum64',
];
/** Bytes behind the 12-byte head: once, and per element of `vlen`. */
const FIXED_TAIL: Readonly<Partial<Record<BtfKind, number>>> = { int: 4, array: 12, var: 4, decl_tag: 4 };
const ELEMENT_BYTES: Readonly<Partial<Record<BtfKind, number>>> = {
  struct: 12,
  union: 12,
  enum: 8,
  func_proto: 8,
  datasec: 12,
  enum64: 12,
};
const TAILS = KINDS.map(kind => FIXED_TAIL[kind] ?? 0);
const ELEMENTS = KINDS.map(kind => ELEMENT_BYTES[kind] ?? 0);
/** Kinds whose second word is a type id, not a size. */
const REFERS = KINDS.map(kind =>
  ['ptr', 'typedef', 'volatile', 'const', 'restrict', 'func', 'func_proto', 'var', 'decl_tag', 'type_tag'].includes(
    kind,
  ),
);
const LINKAGES: readonly BtfLinkage[] = ['static', 'global', 'extern'];
const HEAD_BYTES = 12;
const BTF_HEADER_BYTES = 24;
const MAGIC = 0xeb9f;
/** Longest chain of typedefs, qualifiers and arrays that is followed; the kernel's own limit. */
const MAX_DEPTH = 32;
const POINTER_BYTES = 8;
const decoder = new TextDecoder();

/** One parsed `.BTF` section. Type id 0 is `void`; real types start at 1. */
export class Btf {
  readonly #types: DataView;
  readonly #strings: Uint8Array;
  /** Byte offset of each type in the type section, by id; [0] unused. */
  readonly #offsets: Uint32Array;
  readonly #cache = new Map<number, BtfType>();

  /** @internal Use `parseBtf`. */
  constructor(types: DataView, strings: Uint8Array, offsets: Uint32Array) {
    this.#types = types;
    this.#strings = strings;
    this.#offsets = offsets;
  }

  /** Copies of the type and the string section, as they are on the wire. */
  sections(): { readonly types: Uint8Array; readonly strings: Uint8Array } {
    const { buffer, byteOffset, byteLength } = this.#types;
    return { types: new Uint8Array(buffer, byteOffset, byteLength).slice(), strings: this.#strings.slice() };
  }

  /** A `.BTF` section that `parseBtf` reads as the same types. */
  encode(): Uint8Array {
    const { types, strings } = this.sections();
    const bytes = new Uint8Array(BTF_HEADER_BYTES + types.length + strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, MAGIC, true);
    bytes[2] = 1;
    const words = [BTF_HEADER_BYTES, 0, types.length, types.length, strings.length];
    for (const [i, word] of words.entries()) view.setUint32(4 + 4 * i, word, true);
    bytes.set(types, BTF_HEADER_BYTES);
    bytes.set(strings, BTF_HEADER_BYTES + types.length);
    return bytes;
  }

  /** Byte offset of a type in the type section. @throws ObjectError `bad_btf` where there is no such type. */
  typeOffset(id: number): number {
    return this.#at(id);
  }

  /** Number of types, `void` included: valid ids are 0 to size - 1. */
  get size(): number {
    return this.#offsets.length;
  }

  kind(id: number): BtfKind {
    return id === 0 ? 'void' : KINDS[(this.#types.getUint32(this.#at(id) + 4, true) >>> 24) & 31]!;
  }

  /** @throws ObjectError `bad_btf` where there is no such type. */
  type(id: number): BtfType {
    let type = this.#cache.get(id);
    if (type === undefined) {
      type = id === 0 ? { kind: 'void' } : this.#decode(this.#at(id));
      this.#cache.set(id, type);
    }
    return type;
  }

  /** The name of a type, empty for anonymous ones and for kinds without a name. */
  name(id: number): string {
    return id === 0 ? '' : this.string(this.#types.getUint32(this.#at(id), true));
  }

  /** All types of that exact name, in order of their ids. */
  findAll(name: string, kind?: BtfKind): number[] {
    return this.findByPrefix(
      name,
      (candidate, id) => candidate === name && (kind === undefined || this.kind(id) === kind),
    );
  }

  find(name: string, kind?: BtfKind): number | undefined {
    return this.findAll(name, kind)[0];
  }

  /** Types whose name starts with `prefix` and that `accept` takes; decodes no other names. */
  findByPrefix(prefix: string, accept: (name: string, id: number) => boolean): number[] {
    const bytes = new TextEncoder().encode(prefix);
    const found: number[] = [];
    if (bytes.length === 0) return found;
    const first = bytes[0];
    const last = bytes[bytes.length - 1];
    for (let id = 1; id < this.#offsets.length; id++) {
      const at = this.#types.getUint32(this.#offsets[id]!, true);
      if (this.#strings[at] !== first || this.#strings[at + bytes.length - 1] !== last) continue;
      if (bytes.every((byte, i) => this.#strings[at + i] === byte) && accept(this.string(at), id)) found.push(id);
    }
    return found;
  }

  /** @throws ObjectError `bad_btf` for an offset outside the string section. */
  string(offset: number): string {
    if (offset >= this.#strings.length) {
      throw new ObjectError('bad_btf', `BTF string at ${offset} is past the ${this.#strings.length} bytes of strings`, {
        offset,
      });
    }
    if (this.#strings[offset] === 0) return '';
    return decoder.decode(this.#strings.subarray(offset, this.#strings.indexOf(0, offset)));
  }

  /**
   * Skips typedefs, qualifiers and type tags.
   * @throws ObjectError `bad_btf` where the chain is longer than 32, so on cycles.
   */
  resolve(id: number): number {
    let at = id;
    for (let depth = 0; depth <= MAX_DEPTH; depth++) {
      const kind = this.kind(at);
      if (kind !== 'typedef' && kind !== 'const' && kind !== 'volatile' && kind !== 'restrict' && kind !== 'type_tag') {
        return at;
      }
      at = this.#types.getUint32(this.#at(at) + 8, true);
    }
    throw new ObjectError('bad_btf', `BTF type ${id} is a chain of more than ${MAX_DEPTH} typedefs or qualifiers`, {
      type: id,
    });
  }

  /** `type(resolve(id))`. */
  resolved(id: number): BtfType {
    return this.type(this.resolve(id));
  }

  /**
   * Size in bytes; pointers have 8.
   * @throws ObjectError `bad_btf` for types without a size (void, functions, forward declarations) and sizes past 2^32.
   */
  sizeOf(id: number): number {
    let elements = 1;
    let at = this.resolve(id);
    for (let depth = 0; depth <= MAX_DEPTH; depth++) {
      const type = this.type(at);
      let size: number;
      switch (type.kind) {
        case 'array':
          elements *= type.length;
          if (elements > 0xffffffff)
            throw new ObjectError('bad_btf', `BTF type ${id} is an array of ${elements} elements`);
          at = this.resolve(type.type);
          continue;
        case 'var':
          at = this.resolve(type.type);
          continue;
        case 'ptr':
          size = POINTER_BYTES;
          break;
        case 'int':
        case 'struct':
        case 'union':
        case 'enum':
        case 'enum64':
        case 'float':
        case 'datasec':
          size = type.size;
          break;
        default:
          throw new ObjectError('bad_btf', `BTF type ${id} (${type.kind} ${this.name(at)}) has no size`, { type: id });
      }
      if (elements * size > 0xffffffff)
        throw new ObjectError('bad_btf', `BTF type ${id} has ${elements * size} bytes`, { type: id });
      return elements * size;
    }
    throw new ObjectError('bad_btf', `BTF type ${id} nests arrays more than ${MAX_DEPTH} deep`, { type: id });
  }

  #at(id: number): number {
    const at = this.#offsets[id];
    if (at === undefined || id === 0) {
      throw new ObjectError('bad_btf', `BTF type id ${id} does not exist; ids end at ${this.#offsets.length - 1}`, {
        type: id,
      });
    }
    return at;
  }

  #decode(at: number): BtfType {
    const view = this.#types;
    const word = (offset: number): number => view.getUint32(at + offset, true);
    const name = this.string(word(0));
    const info = word(4);
    const kind = KINDS[(info >>> 24) & 31]!;
    const kindFlag = info >>> 31 === 1;
    const vlen = info & 0xffff;
    const size = word(8);
    const elements = <T>(bytes: number, read: (offset: number) => T): T[] =>
      Array.from({ length: vlen }, (_, i) => read(HEAD_BYTES + i * bytes));
    switch (kind) {
      case 'void':
        return { kind };
      case 'int': {
        const encoding = word(12) >>> 24;
        return {
          kind,
          name,
          size,
          bits: word(12) & 0xff,
          offset: (word(12) >>> 16) & 0xff,
          signed: (encoding & 1) !== 0,
          char: (encoding & 2) !== 0,
          bool: (encoding & 4) !== 0,
        };
      }
      case 'ptr':
        return { kind, type: size };
      case 'array':
        return { kind, type: word(12), indexType: word(16), length: word(20) };
      case 'struct':
      case 'union':
        return {
          kind,
          name,
          size,
          members: elements(12, offset => ({
            name: this.string(word(offset)),
            type: word(offset + 4),
            bitOffset: kindFlag ? word(offset + 8) & 0xffffff : word(offset + 8),
            bitSize: kindFlag ? word(offset + 8) >>> 24 : 0,
          })),
        };
      case 'enum':
        return {
          kind,
          name,
          size,
          signed: kindFlag,
          values: elements(8, offset => ({
            name: this.string(word(offset)),
            value: BigInt(kindFlag ? word(offset + 4) | 0 : word(offset + 4)),
          })),
        };
      case 'enum64':
        return {
          kind,
          name,
          size,
          signed: kindFlag,
          values: elements(12, offset => {
            const value = (BigInt(word(offset + 8)) << 32n) | BigInt(word(offset + 4));
            return { name: this.string(word(offset)), value: kindFlag ? BigInt.asIntN(64, value) : value };
          }),
        };
      case 'fwd':
        return { kind, name, forwards: kindFlag ? 'union' : 'struct' };
      case 'typedef':
      case 'volatile':
      case 'const':
      case 'restrict':
      case 'type_tag':
        return { kind, name, type: size };
      case 'func':
        return { kind, name, type: size, linkage: LINKAGES[vlen] ?? 'static' };
      case 'func_proto': {
        const params = elements(8, offset => ({ name: this.string(word(offset)), type: word(offset + 4) }));
        // A last parameter without name and type stands for `...`.
        const variadic = params.at(-1)?.type === 0 && params.at(-1)?.name === '';
        return { kind, returnType: size, params: variadic ? params.slice(0, -1) : params, variadic };
      }
      case 'var':
        return { kind, name, type: size, linkage: LINKAGES[word(12)] ?? 'static' };
      case 'datasec':
        return {
          kind,
          name,
          size,
          variables: elements(12, offset => ({ type: word(offset), offset: word(offset + 4), size: word(offset + 8) })),
        };
      case 'float':
        return { kind, name, size };
      case 'decl_tag':
        return { kind, name, type: size, component: word(12) | 0 };
    }
  }
}

/** What the linker knows and the compiler did not: see `parseBtf`. */
export interface DatasecLayout {
  /** Size of the section in the ELF file, or undefined where it has none. */
  size(section: string): number | undefined;
  /** Offset in the section of a global variable, or undefined. */
  offset(section: string, variable: string): number | undefined;
}

/**
 * Parses a `.BTF` section (or `/sys/kernel/btf/vmlinux`). The bytes are copied.
 * @param layout compilers leave sizes and offsets of DATASECs at 0 for the linker; given this, they are filled in.
 * @throws ObjectError `bad_btf` for whatever is out of range, of an unknown kind, or cut short.
 */
export function parseBtf(bytes: Uint8Array, layout?: DatasecLayout): Btf {
  expect.bytes(bytes, 'bytes');
  // Not slice(): on a Node Buffer that is a view.
  const data = new Uint8Array(bytes);
  const view = new DataView(data.buffer);
  if (data.length < 24)
    throw new ObjectError('bad_btf', `expected BTF, got ${data.length} bytes, fewer than its header of 24`);
  const magic = view.getUint16(0, true);
  if (magic === 0x9feb) throw new ObjectError('bad_btf', 'expected little-endian BTF, got big-endian');
  if (magic !== MAGIC) {
    throw new ObjectError(
      'bad_btf',
      `expected BTF magic 0xeb9f, got 0x${magic.toString(16)}; raw BTF or a .BTF section is needed`,
    );
  }
  if (data[2] !== 1) throw new ObjectError('bad_btf', `expected BTF version 1, got ${data[2]}`);
  const headerBytes = view.getUint32(4, true);
  const typeStart = headerBytes + view.getUint32(8, true);
  const typeBytes = view.getUint32(12, true);
  const stringStart = headerBytes + view.getUint32(16, true);
  const stringBytes = view.getUint32(20, true);
  if (headerBytes < 24 || typeStart + typeBytes > data.length || stringStart + stringBytes > data.length) {
    throw new ObjectError(
      'bad_btf',
      `BTF types (${typeBytes} bytes at ${typeStart}) or strings (${stringBytes} at ${stringStart}) end past its ${data.length} bytes`,
    );
  }
  if (typeStart < stringStart + stringBytes && stringStart < typeStart + typeBytes) {
    throw new ObjectError('bad_btf', `BTF types (at ${typeStart}) and strings (at ${stringStart}) overlap`);
  }
  const strings = data.subarray(stringStart, stringStart + stringBytes);
  if (stringBytes === 0 || strings[0] !== 0 || strings[stringBytes - 1] !== 0) {
    throw new ObjectError('bad_btf', 'BTF strings must start and end with a NUL byte');
  }
  const types = new DataView(data.buffer, typeStart, typeBytes);
  const offsets = scan(types);
  check(types, offsets, stringBytes);
  const btf = new Btf(types, strings, offsets);
  if (layout !== undefined) fillDatasecs(btf, types, offsets, layout);
  return btf;
}

/** Where each type starts. */
function scan(types: DataView): Uint32Array {
  const offsets = new Uint32Array(Math.floor(types.byteLength / HEAD_BYTES) + 1);
  let count = 1;
  let at = 0;
  while (at < types.byteLength) {
    if (at + HEAD_BYTES > types.byteLength)
      throw new ObjectError('bad_btf', `BTF type ${count} at ${at} is cut short`, { offset: at });
    const info = types.getUint32(at + 4, true);
    const kind = (info >>> 24) & 31;
    if (kind === 0 || kind >= KINDS.length) {
      throw new ObjectError('bad_btf', `BTF type ${count} has kind ${kind}; known are 1 to ${KINDS.length - 1}`, {
        offset: at,
      });
    }
    const end = at + HEAD_BYTES + TAILS[kind]! + ELEMENTS[kind]! * (info & 0xffff);
    if (end > types.byteLength)
      throw new ObjectError('bad_btf', `BTF type ${count} at ${at} is cut short`, { offset: at });
    offsets[count++] = at;
    at = end;
  }
  return offsets.slice(0, count);
}

/** Every type id and string offset in range, so that decoding needs no checks. */
function check(types: DataView, offsets: Uint32Array, stringBytes: number): void {
  const count = offsets.length;
  const checkString = (offset: number, id: number): void => {
    if (offset >= stringBytes) {
      throw new ObjectError('bad_btf', `BTF type ${id} has a name at ${offset} of ${stringBytes} bytes of strings`, {
        type: id,
      });
    }
  };
  const checkId = (reference: number, id: number): void => {
    if (reference >= count) {
      throw new ObjectError('bad_btf', `BTF type ${id} refers to type ${reference}; ids end at ${count - 1}`, {
        type: id,
      });
    }
  };
  for (let id = 1; id < count; id++) {
    const at = offsets[id]!;
    const info = types.getUint32(at + 4, true);
    const number = (info >>> 24) & 31;
    const kind = KINDS[number];
    checkString(types.getUint32(at, true), id);
    if (REFERS[number]) checkId(types.getUint32(at + 8, true), id);
    if (kind === 'array') {
      checkId(types.getUint32(at + 12, true), id);
      checkId(types.getUint32(at + 16, true), id);
    }
    const step = ELEMENTS[number]!;
    if (step === 0) continue;
    const end = at + HEAD_BYTES + step * (info & 0xffff);
    for (let element = at + HEAD_BYTES; element < end; element += step) {
      if (kind === 'datasec') checkId(types.getUint32(element, true), id);
      else checkString(types.getUint32(element, true), id);
      if (kind === 'struct' || kind === 'union' || kind === 'func_proto')
        checkId(types.getUint32(element + 4, true), id);
    }
  }
}

/** Static variables already have their offsets, through relocations that the compiler resolved in place. */
function fillDatasecs(btf: Btf, types: DataView, offsets: Uint32Array, layout: DatasecLayout): void {
  for (let id = 1; id < offsets.length; id++) {
    if (btf.kind(id) !== 'datasec') continue;
    const at = offsets[id]!;
    const section = btf.name(id);
    const size = layout.size(section);
    if (size !== undefined) types.setUint32(at + 8, size, true);
    const vlen = types.getUint32(at + 4, true) & 0xffff;
    for (let i = 0; i < vlen; i++) {
      const element = at + HEAD_BYTES + i * 12;
      const variable = btf.type(types.getUint32(element, true));
      if (variable.kind !== 'var' || variable.linkage === 'static') continue;
      const offset = layout.offset(section, variable.name);
      if (offset !== undefined) types.setUint32(element + 4, offset, true);
    }
  }
}

/** An array of length 0 as last member: its elements lie behind the struct. */
export function isFlexibleArray(type: BtfComposite, member: number, length: number): boolean {
  return length === 0 && member === type.members.length - 1;
}
