/**
 * BTF types as TypeScript declarations: what `btfCodec` reads, and what it takes.
 *
 * Each named struct, union and enum becomes an exported type, anonymous ones are written where they are used, and typedefs lend
 * their name to what has none. Where a type takes more than it gives (one member of a union is enough, typed arrays will do for arrays of
 * numbers), there is a second one with the suffix `Input`. Every field says in a comment where it lies and what it is in C.
 *
 * BTF is input: names are made identifiers, and nothing of it gets into a comment that could end it.
 */
import type { Btf, BtfComposite, BtfMember, BtfType } from './btf.ts';
import { isKernelOwned } from './btf-codec.ts';
import { typeName } from './type-name.ts';

/** What a type is in the two directions. */
export interface TypeText {
  readonly read: string;
  readonly input: string;
}

/** Names that generated code needs for itself, or that would hide something from its reader. */
const RESERVED = [
  ...['Array', 'ArrayLike', 'Boolean', 'Date', 'Error', 'Function', 'Map', 'Number', 'Object', 'Partial', 'Promise'],
  ...['Record', 'Set', 'String', 'Symbol', 'Uint8Array', 'URL', 'LoadOptions', 'Program', 'Runtime', 'TypedMap'],
  ...['TypedObject', 'ProgArraySlots', 'LoadedGlobal', 'LoadedObject', 'Collection'],
];

type Enum = Extract<BtfType, { kind: 'enum' | 'enum64' }>;

export class TypeScriptTypes {
  readonly #btf: Btf;
  /** Name by type id, and every name given away. */
  readonly #names = new Map<number, string>();
  readonly #taken: Set<string>;
  readonly #declarations: string[] = [];
  readonly #texts = new Map<number, TypeText>();

  /** @param reserved further names that declarations may not have */
  constructor(btf: Btf, reserved: readonly string[] = []) {
    this.#btf = btf;
    this.#taken = new Set([...RESERVED, ...reserved]);
  }

  /** All that the types asked for so far need, each after those that it needs. */
  get declarations(): readonly string[] {
    return this.#declarations;
  }

  /** A type that has a codec. @param name for what has none of its own */
  text(typeId: number, name = ''): TypeText {
    const id = this.#btf.resolve(typeId);
    const known = this.#texts.get(id);
    if (known) return known;
    const text = this.#make(id, this.#btf.type(id), this.#typedefName(typeId) || name);
    this.#texts.set(id, text);
    return text;
  }

  /** A name for a type that is no BTF type. */
  claim(wanted: string): string {
    const base = pascal(wanted);
    let name = base;
    for (let i = 2; this.#taken.has(name) || this.#taken.has(`${name}Input`); i++) name = `${base}${i}`;
    this.#taken.add(name);
    this.#taken.add(`${name}Input`);
    return name;
  }

  /** The innermost typedef that a chain of them and qualifiers comes to. */
  #typedefName(typeId: number): string {
    let name = '';
    const end = this.#btf.resolve(typeId);
    for (let id = typeId; id !== end; ) {
      const type = this.#btf.type(id);
      if (type.kind === 'typedef') name = type.name;
      if (!('type' in type)) break;
      id = type.type;
    }
    return name;
  }

  #make(id: number, type: BtfType, name: string): TypeText {
    switch (type.kind) {
      case 'int':
        return same(type.bool ? 'boolean' : type.size > 4 ? 'bigint' : 'number');
      case 'ptr':
        return same('bigint');
      case 'float':
        return type.size === 4 || type.size === 8 ? same('number') : NUMBERS;
      case 'enum':
      case 'enum64':
        return this.#enum(id, type, name);
      case 'array':
        return this.#array(type, 0);
      case 'struct':
      case 'union':
        return this.#composite(id, type, name);
      case 'var':
        return this.text(type.type);
      default:
        return same('undefined');
    }
  }

  #array(type: Extract<BtfType, { kind: 'array' }>, depth: number): TypeText {
    const element = this.#btf.resolved(type.type);
    if (element.kind === 'int' && element.size === 1 && (element.char || element.name === 'char') && type.length > 0) {
      return { read: 'string | number[]', input: 'string | ArrayLike<number>' };
    }
    const { read, input } = this.#nested(type.type, depth);
    if (read === 'number') return NUMBERS;
    return { read: list(read), input: `readonly ${list(input)}` };
  }

  #enum(id: number, type: Enum, alias: string): TypeText {
    const other = type.size > 4 ? 'bigint' : 'number';
    const names = [...new Set(type.values.map(value => value.name))];
    const wanted = type.name || alias;
    if (wanted === '') return same([...names.map(quoted), other].join(' | '));
    const name = this.#name(id, wanted);
    const suffix = type.size > 4 ? 'n' : '';
    const seen = new Set<string>();
    const values = type.values.filter(value => !seen.has(value.name) && seen.add(value.name));
    this.#declarations.push(
      `/** \`${comment(typeName(this.#btf, id))}\`: a name, or a number that has none. */\nexport const ${name} = {\n${values
        .map(value => `  ${property(value.name)}: ${value.value}${suffix},\n`)
        .join('')}} as const;\nexport type ${name} = keyof typeof ${name} | ${other};\n`,
    );
    return same(name);
  }

  #composite(id: number, type: BtfComposite, alias: string): TypeText {
    const wanted = type.name || alias;
    if (wanted === '') return this.#body(type, 0);
    const name = this.#name(id, wanted);
    const shape = this.#shape(type, 0, 0);
    const [read, input] = [objectText(shape.fields, 'read', 0), inputText(shape, 0)];
    const what = type.name === '' ? wanted : typeName(this.#btf, id);
    const head = `/** \`${comment(what)}\`, ${plural(type.size, 'byte')}. */\n`;
    const isSame = read === objectText(shape.fields, 'input', 0) && shape.unions.length === 0;
    const declared = `${head}export interface ${name} ${read}\n`;
    if (isSame) this.#declarations.push(declared);
    else if (shape.unions.length === 0) {
      this.#declarations.push(`${declared}\n${head}export interface ${name}Input ${input}\n`);
    } else this.#declarations.push(`${declared}\n${head}export type ${name}Input = ${input};\n`);
    return { read: name, input: isSame ? name : `${name}Input` };
  }

  /** A type that is written where it is used. */
  #body(type: BtfComposite, depth: number): TypeText {
    const shape = this.#shape(type, 0, depth);
    return { read: objectText(shape.fields, 'read', depth), input: inputText(shape, depth) };
  }

  /** @param base bytes in front of the struct in the one that its fields are written into */
  #shape(type: BtfComposite, base: number, depth: number): Shape {
    const fields: Field[] = [];
    const own: Field[] = [];
    const unions: (readonly Shape[])[] = [];
    const members = type.members.flatMap(member => this.#member(member, base, depth));
    for (const member of members) fields.push(...member.fields);
    if (type.kind === 'union') return { fields, own, unions: members.length === 0 ? [] : [members] };
    for (const member of members) {
      own.push(...member.own);
      unions.push(...member.unions);
    }
    return { fields, own, unions };
  }

  /** A field, or the fields of an anonymous member; nothing for padding. */
  #member(member: BtfMember, base: number, depth: number): Shape[] {
    const inner = this.#btf.resolved(member.type);
    if (member.name !== '') {
      const field = this.#field(member, base, depth);
      return [{ fields: [field], own: [field], unions: [] }];
    }
    if (member.bitSize > 0 || (inner.kind !== 'struct' && inner.kind !== 'union')) return [];
    return [this.#shape(inner, base + member.bitOffset / 8, depth)];
  }

  #field({ name, type, bitOffset, bitSize }: BtfMember, base: number, depth: number): Field {
    const inner = this.#btf.resolved(type);
    const isPlain = inner.kind === 'int' && !inner.bool;
    const text = isPlain && bitSize > 0 ? same(bitSize > 32 ? 'bigint' : 'number') : this.#nested(type, depth + 1);
    const where =
      bitSize > 0
        ? `bit ${8 * base + bitOffset}, ${plural(bitSize, 'bit')}`
        : `offset ${base + bitOffset / 8}, ${plural(this.#btf.sizeOf(type), 'byte')}`;
    const sign = isPlain ? `, ${inner.signed ? 'signed' : 'unsigned'}` : '';
    return {
      note: `\`${comment(typeName(this.#btf, type))}\`: ${where}${sign}`,
      name: property(name),
      text,
      optional: inner.kind === 'struct' && isKernelOwned(inner.name),
    };
  }

  /** As `text`, but anonymous structs and arrays of them are indented for where they are used. */
  #nested(typeId: number, depth: number): TypeText {
    const type = this.#btf.resolved(typeId);
    if ((type.kind === 'struct' || type.kind === 'union') && type.name === '' && this.#typedefName(typeId) === '') {
      return this.#body(type, depth);
    }
    return type.kind === 'array' ? this.#array(type, depth) : this.text(typeId);
  }

  #name(id: number, wanted: string): string {
    const name = this.#names.get(id) ?? this.claim(wanted);
    this.#names.set(id, name);
    return name;
  }
}

const same = (text: string): TypeText => ({ read: text, input: text });
const NUMBERS: TypeText = { read: 'number[]', input: 'ArrayLike<number>' };

interface Field {
  readonly note: string;
  readonly name: string;
  readonly text: TypeText;
  /** May be left out where a value is written. */
  readonly optional: boolean;
}

/** What is in a struct or union, anonymous members taken apart. */
interface Shape {
  /** All that is read. */
  readonly fields: readonly Field[];
  /** Those that must be written. */
  readonly own: readonly Field[];
  /** Unions beside them: of each, one alternative must be written. */
  readonly unions: readonly (readonly Shape[])[];
}

function objectText(
  fields: readonly Field[],
  of: keyof TypeText,
  depth: number,
  others: readonly Field[] = [],
): string {
  const indent = '  '.repeat(depth + 1);
  const line = (field: Field, optional: boolean) =>
    `${indent}/** ${field.note} */\n${indent}${field.name}${optional ? '?' : ''}: ${field.text[of]};\n`;
  const lines = [
    ...fields.map(field => line(field, field.optional && of === 'input')),
    ...others.map(field => line(field, true)),
  ];
  return lines.length === 0 ? '{}' : `{\n${lines.join('')}${'  '.repeat(depth)}}`;
}

/** @param others fields that may be there as well */
function inputText({ own, unions }: Shape, depth: number, others: readonly Field[] = []): string {
  const parts = own.length + others.length > 0 || unions.length === 0 ? [objectText(own, 'input', depth, others)] : [];
  for (const alternatives of unions) {
    const texts = alternatives.map((alternative, i) =>
      inputText(
        alternative,
        depth,
        alternatives.flatMap((other, j) => (i === j ? [] : other.fields)),
      ),
    );
    parts.push(texts.join(' | '));
  }
  return parts.length === 1 ? parts[0]! : parts.map(part => (part.includes('|') ? `(${part})` : part)).join(' & ');
}

/** An array of a type. */
export const list = (text: string): string => (/^[\w$]+(\[\])*$/.test(text) ? `${text}[]` : `(${text})[]`);

export const plural = (count: number, unit: string): string => `${count} ${unit}${count === 1 ? '' : 's'}`;

/** `flow_key` becomes `FlowKey`; what no identifier may hold is left out. */
export function pascal(name: string): string {
  const words = name.split(/[^A-Za-z0-9]+/).filter(word => word !== '');
  const joined = words.map(word => word[0]!.toUpperCase() + word.slice(1)).join('');
  return /^[A-Za-z]/.test(joined) ? joined : `T${joined}`;
}

export const quoted = (name: string): string =>
  `'${JSON.stringify(name).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;

/** A property's name in an object type. */
export function property(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}

/** Text that neither ends a comment nor breaks its line. */
export function comment(text: string): string {
  return [...text.replaceAll('*/', '* /').replaceAll('`', "'")].map(each => (each < ' ' ? '?' : each)).join('');
}
