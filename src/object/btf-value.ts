/** Bytes and types as people read them: values of maps with their field names, types in C's notation. */
import type { Btf, BtfMember, BtfType } from './btf.ts';
import { ObjectError } from './errors.ts';

/**
 * What bytes decode to. Integers of more than 32 bits, and pointers, are bigints; smaller ones numbers. Enum values are
 * their names where they have one. `char` arrays are strings where they hold text that ends in nothing but NULs.
 * Structs and unions are objects; members of anonymous members count as their own.
 */
export type BtfValue =
  | number
  | bigint
  | boolean
  | string
  | undefined
  | readonly BtfValue[]
  | { readonly [member: string]: BtfValue };

const MAX_DEPTH = 64;
/** More than any map value has in practice; nested overlapping types could ask for endless ones. */
const MAX_NODES = 1_000_000;
const MAX_NAME_NODES = 1000;

/**
 * @param bytes at least as many as the type has; more are ignored.
 * @throws ObjectError `bad_value` where bytes are missing or the type has no values (functions), `bad_btf`.
 */
export function decodeValue(btf: Btf, typeId: number, bytes: Uint8Array): BtfValue {
  return new ValueDecoder(btf, bytes).decode(typeId, 0, 0);
}

class ValueDecoder {
  readonly #btf: Btf;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #nodes = 0;

  constructor(btf: Btf, bytes: Uint8Array) {
    this.#btf = btf;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(typeId: number, offset: number, depth: number): BtfValue {
    if (depth > MAX_DEPTH || ++this.#nodes > MAX_NODES) {
      throw new ObjectError(
        'bad_value',
        `BTF type ${typeId} nests deeper than ${MAX_DEPTH} or has more than ${MAX_NODES} parts`,
      );
    }
    const type = this.#btf.resolved(typeId);
    switch (type.kind) {
      case 'void':
        return undefined;
      case 'ptr':
        return this.#integer(offset, 8, false);
      case 'int': {
        const value = narrow(this.#integer(offset, type.size, type.signed), type.size);
        return type.bool ? value !== 0 : value;
      }
      case 'float':
        return this.#float(offset, type.size);
      case 'enum':
      case 'enum64':
        return enumName(type, this.#integer(offset, type.size, type.signed));
      case 'array':
        return this.#array(type, offset, depth);
      case 'struct':
      case 'union':
        return Object.fromEntries(this.#members(type.members, offset, depth));
      case 'var':
        return this.decode(type.type, offset, depth + 1);
      case 'datasec':
        return Object.fromEntries(
          type.variables.map(variable => [
            this.#btf.name(variable.type),
            this.decode(variable.type, offset + variable.offset, depth + 1),
          ]),
        );
      default:
        throw new ObjectError('bad_value', `BTF type ${typeId} (${typeName(this.#btf, typeId)}) has no values`);
    }
  }

  #members(members: readonly BtfMember[], offset: number, depth: number): [string, BtfValue][] {
    return members.flatMap((member): [string, BtfValue][] => {
      if (member.bitSize > 0) {
        return member.name === '' ? [] : [[member.name, this.#bitfield(member, offset)]];
      }
      const at = offset + member.bitOffset / 8;
      const inner = this.#btf.resolved(member.type);
      if (member.name === '' && (inner.kind === 'struct' || inner.kind === 'union')) {
        if (depth > MAX_DEPTH)
          throw new ObjectError('bad_value', `BTF type ${member.type} nests deeper than ${MAX_DEPTH}`);
        this.#nodes++;
        return this.#members(inner.members, at, depth + 1);
      }
      return [[member.name, this.decode(member.type, at, depth + 1)]];
    });
  }

  #bitfield(member: BtfMember, offset: number): BtfValue {
    const { bitOffset, bitSize } = member;
    const type = this.#btf.resolved(member.type);
    const first = offset + Math.floor(bitOffset / 8);
    const shift = bitOffset % 8;
    const raw = this.#integer(first, Math.ceil((shift + bitSize) / 8), false) >> BigInt(shift);
    const signed = (type.kind === 'int' || type.kind === 'enum' || type.kind === 'enum64') && type.signed;
    const value = signed ? BigInt.asIntN(bitSize, raw) : BigInt.asUintN(bitSize, raw);
    if (type.kind === 'enum' || type.kind === 'enum64') return enumName(type, value);
    if (type.kind === 'int' && type.bool) return value !== 0n;
    return narrow(value, Math.ceil(bitSize / 8));
  }

  #array(type: Extract<BtfType, { kind: 'array' }>, offset: number, depth: number): BtfValue {
    const element = this.#btf.resolved(type.type);
    const size = this.#btf.sizeOf(type.type);
    this.#need(offset, size * type.length);
    if (element.kind === 'int' && element.size === 1 && (element.char || element.name === 'char')) {
      const text = textOf(this.#bytes.subarray(offset, offset + type.length));
      if (text !== undefined) return text;
    }
    // Elements without size would not be stopped by the bytes.
    if (size === 0) return [];
    return Array.from({ length: type.length }, (_, i) => this.decode(type.type, offset + i * size, depth + 1));
  }

  #float(offset: number, size: number): BtfValue {
    this.#need(offset, size);
    if (size === 4) return this.#view.getFloat32(offset, true);
    if (size === 8) return this.#view.getFloat64(offset, true);
    return Array.from(this.#bytes.subarray(offset, offset + size));
  }

  #integer(offset: number, size: number, signed: boolean): bigint {
    // Members of 16-byte integers exist; anything larger is no integer.
    if (size > 16) throw new ObjectError('bad_value', `an integer of ${size} bytes cannot be shown`);
    this.#need(offset, size);
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#view.getUint8(offset + i));
    return signed ? BigInt.asIntN(size * 8, value) : value;
  }

  #need(offset: number, size: number): void {
    if (offset + size > this.#bytes.length) {
      throw new ObjectError(
        'bad_value',
        `the type needs ${size} bytes at ${offset}, but the value has ${this.#bytes.length}`,
        { offset },
      );
    }
  }
}

function narrow(value: bigint, size: number): number | bigint {
  return size <= 4 ? Number(value) : value;
}

function enumName(type: Extract<BtfType, { kind: 'enum' | 'enum64' }>, value: bigint): BtfValue {
  return type.values.find(candidate => candidate.value === value)?.name ?? narrow(value, type.size);
}

/** Printable ASCII followed by NULs only; undefined for anything else, all NULs included only as ''. */
function textOf(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  const text = end < 0 ? bytes : bytes.subarray(0, end);
  if (end >= 0 && bytes.subarray(end).some(byte => byte !== 0)) return undefined;
  if (text.some(byte => (byte < 0x20 || byte > 0x7e) && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d))
    return undefined;
  return new TextDecoder().decode(text);
}

/**
 * A type in C's notation: `struct foo *`, `char[16]`, `int (*)(void *, __u32)`. Functions and variables with their name.
 * @throws ObjectError `bad_btf` where there is no such type or it nests too deep.
 */
export function typeName(btf: Btf, id: number): string {
  let nodes = 0;
  /** C declarations wrap around the declared name: `inner` is what has been written so far. */
  const declare = (at: number, inner: string, depth: number): string => {
    if (depth > MAX_DEPTH || ++nodes > MAX_NAME_NODES) {
      throw new ObjectError('bad_btf', `BTF type ${id} nests too deep to be named`, { type: id });
    }
    const type = btf.type(at);
    const around = (base: string): string =>
      inner === '' || inner.startsWith('[') ? base + inner : `${base} ${inner}`;
    // A star binds less than the brackets and parentheses that follow it.
    const suffixed = (suffix: string): string => (inner.startsWith('*') ? `(${inner})${suffix}` : inner + suffix);
    switch (type.kind) {
      case 'void':
        return around('void');
      case 'ptr':
        return declare(type.type, `*${inner}`, depth + 1);
      case 'array':
        return declare(type.type, suffixed(`[${type.length}]`), depth + 1);
      case 'func_proto': {
        const params = type.params.map(param => declare(param.type, '', depth + 1));
        if (type.variadic) params.push('...');
        return declare(type.returnType, suffixed(`(${params.length === 0 ? 'void' : params.join(', ')})`), depth + 1);
      }
      case 'const':
      case 'volatile':
      case 'restrict':
        // Qualifiers of a pointer stand behind its star, all others before the type.
        if (btf.kind(type.type) === 'ptr') {
          return declare(type.type, inner === '' ? type.kind : `${type.kind} ${inner}`, depth + 1);
        }
        return `${type.kind} ${declare(type.type, inner, depth + 1)}`;
      case 'struct':
      case 'union':
      case 'enum':
      case 'enum64':
        return around(`${type.kind === 'enum64' ? 'enum' : type.kind} ${type.name === '' ? '{...}' : type.name}`);
      case 'fwd':
        return around(`${type.forwards} ${type.name}`);
      case 'func':
      case 'var':
        return declare(type.type, type.name, depth + 1);
      case 'type_tag':
      case 'decl_tag':
        return declare(type.type, inner, depth + 1);
      default:
        return around(type.name);
    }
  };
  return declare(id, '', 0);
}
