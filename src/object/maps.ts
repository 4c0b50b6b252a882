/**
 * Map definitions: BTF-defined ones in `.maps`, legacy structs in `maps`, and the array maps that stand for global
 * data sections. The rules are libbpf's; where compilers and loaders disagreed over the years (legacy structs of
 * libbpf, iproute2 and aya) the size of the struct tells them apart.
 */
import type { Btf, BtfType } from './btf.ts';
import type { Elf, ElfRelocation, ElfSymbol, Section } from './elf.ts';
import { ObjectError } from './errors.ts';
import type { InitialEntry, MapSpec, MapType } from './spec.ts';

/** By the kernel's number. */
const MAP_TYPES: readonly (MapType | undefined)[] = [
  undefined,
  'hash',
  'array',
  'prog_array',
  'perf_event_array',
  'percpu_hash',
  'percpu_array',
  'stack_trace',
  'cgroup_array',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'array_of_maps',
  'hash_of_maps',
  'devmap',
  'sockmap',
  'cpumap',
  'xskmap',
  'sockhash',
  'cgroup_storage',
  'reuseport_sockarray',
  'percpu_cgroup_storage',
  'queue',
  'stack',
  'sk_storage',
  'devmap_hash',
  'struct_ops',
  'ringbuf',
  'inode_storage',
  'task_storage',
  'bloom_filter',
  'user_ringbuf',
  'cgrp_storage',
  'arena',
  'insn_array',
];

const BPF_F_RDONLY_PROG = 1 << 7;
const BPF_F_MMAPABLE = 1 << 10;
/** The kernel's limit for one array element. */
const MAX_VALUE_BYTES = 0x7fffffff;
const PAGE_BYTES = 4096;
/** Largest index of a static entry that is taken; far above any real prog array. */
const MAX_STATIC_ENTRIES = 1 << 20;

/** Where maps lie in the object, so that relocations find them. */
interface MapPlace {
  readonly section: number;
  readonly offset: number;
  readonly size: number;
  readonly spec: MapSpec;
  /**
   * Data that should hold an address, which no loader can give it: the first such place. Programs must not use the
   * section; it is no map of the collection.
   */
  readonly address?: ElfRelocation;
}

export interface MapTable {
  readonly maps: ReadonlyMap<string, MapSpec>;
  /** The map whose definition covers that byte of a `.maps` or `maps` section, or the data map of the section. */
  at(section: number, offset: number): MapPlace | undefined;
  isDataSection(section: number): boolean;
}

/** A program by its symbol, for static prog-array contents. */
export type ProgramAt = (symbol: ElfSymbol, offset: number) => string | undefined;

/** A program that iproute2 would put in a prog array, for its section is called `id/index`. */
export interface TailProgram {
  /** The `id` field of the prog array's definition. */
  readonly map: number;
  readonly key: number;
  readonly program: string;
}

/** @throws ObjectError `bad_map_definition`, `unsupported_map_type`, `duplicate_name`, `bad_btf`, `bad_relocation`. */
export function readMaps(
  elf: Elf,
  btf: Btf | undefined,
  programAt: ProgramAt,
  tails: readonly TailProgram[],
): MapTable {
  const definitions: MapPlace[] = [...legacyMaps(elf, tails), ...btfMaps(elf, btf, programAt)];
  const data = dataMaps(elf, btf);
  const arena = arenaVariables(elf, definitions);
  if (arena !== undefined) definitions.splice(arena.index, 1, arena.map);
  const maps = new Map<string, MapSpec>();
  for (const { spec, address } of [...definitions, ...data]) {
    if (address !== undefined) continue;
    if (maps.has(spec.name)) {
      throw new ObjectError('duplicate_name', `two maps are called ${spec.name}`, { symbol: spec.name });
    }
    maps.set(spec.name, spec);
  }
  const variables = arena === undefined ? data : [...data, arena.variables];
  const dataSections = new Map(variables.map(place => [place.section, place]));
  return {
    maps,
    at: (section, offset) =>
      dataSections.get(section) ??
      definitions.find(
        place => place.section === section && place.offset <= offset && offset < place.offset + place.size,
      ),
    isDataSection: section => dataSections.has(section),
  };
}

function badMap(name: string, message: string, section: string): ObjectError {
  return new ObjectError('bad_map_definition', `map ${name}: ${message}`, { section, symbol: name });
}

function mapType(number: number, name: string, section: string): MapType {
  const type = MAP_TYPES[number];
  if (type === undefined) {
    throw new ObjectError(
      'unsupported_map_type',
      `map ${name} has type ${number}; known are 1 to ${MAP_TYPES.length - 1}`,
      { section, symbol: name },
    );
  }
  return type;
}

// ---------------------------------------------------------------------------------------------------- legacy `maps`

const LEGACY_FIELDS = 20;
/** aya and cilium append id and pinning; iproute2 (struct bpf_elf_map) also inner_id and inner_idx. */
const LEGACY_PINNING = 28;
const LEGACY_INNER = 36;

interface LegacyMap {
  readonly place: MapPlace;
  readonly id: number;
  readonly innerId: number;
  readonly innerIndex: number;
}

function legacyMaps(elf: Elf, tails: readonly TailProgram[]): MapPlace[] {
  const maps = elf.sections
    .filter(section => (section.name === 'maps' || section.name.startsWith('maps/')) && section.data.length > 0)
    .flatMap(section => legacySection(elf, section));
  for (const tail of tails) {
    if (maps.some(map => map.id === tail.map && map.place.spec.type === 'prog_array')) continue;
    throw new ObjectError(
      'bad_program_section',
      `program ${tail.program}: its section ${tail.map}/${tail.key} means slot ${tail.key} of the prog array with id ${tail.map}, which no map has`,
      { section: `${tail.map}/${tail.key}`, symbol: tail.program },
    );
  }
  return fillLegacy(maps, tails);
}

function legacySection(elf: Elf, section: Section): LegacyMap[] {
  const symbols = elf.symbols
    .filter(symbol => symbol.section === section.index && symbol.type !== 'section' && symbol.name !== '')
    .sort((a, b) => a.value - b.value);
  if (symbols.length === 0) {
    throw new ObjectError('bad_map_definition', 'section maps holds definitions, but no symbol names them', {
      section: section.name,
    });
  }
  const view = new DataView(section.data.buffer, section.data.byteOffset, section.data.byteLength);
  return symbols.map((symbol, i) => {
    const { name, value: offset } = symbol;
    const size = Math.min(symbols[i + 1]?.value ?? section.size, section.size) - offset;
    if (size < LEGACY_FIELDS) {
      throw badMap(name, `expected a struct bpf_map_def of at least ${LEGACY_FIELDS} bytes, got ${size}`, 'maps');
    }
    const word = (at: number): number => (at + 4 <= size ? view.getUint32(offset + at, true) : 0);
    const rest = size >= LEGACY_INNER ? LEGACY_INNER : size >= LEGACY_PINNING ? LEGACY_PINNING : LEGACY_FIELDS;
    if (section.data.subarray(offset + rest, offset + size).some(byte => byte !== 0)) {
      throw badMap(name, `its definition of ${size} bytes has fields that are not known and not zero`, 'maps');
    }
    const spec: MapSpec = {
      name,
      type: mapType(word(0), name, 'maps'),
      keySize: word(4),
      valueSize: word(8),
      maxEntries: word(12),
      flags: word(16),
      pinning: rest > LEGACY_FIELDS && word(24) !== 0 ? 'by_name' : 'none',
      contents: [],
    };
    return {
      place: { section: section.index, offset, size, spec },
      id: rest > LEGACY_FIELDS ? word(20) : 0,
      innerId: rest === LEGACY_INNER ? word(28) : 0,
      innerIndex: rest === LEGACY_INNER ? word(32) | 0 : -1,
    };
  });
}

/**
 * What iproute2 fills maps with. Map-in-map: the outer names the inner's id; an inner with an index is also put in that
 * slot. Prog arrays: the programs whose section is called `id/index`.
 */
function fillLegacy(maps: readonly LegacyMap[], tails: readonly TailProgram[]): MapPlace[] {
  return maps.map(({ place, id, innerId }) => {
    const { spec } = place;
    if (spec.type === 'prog_array') {
      const contents = tails.filter(tail => tail.map === id).map(({ key, program }) => ({ key, program }));
      for (const { key, program } of contents) {
        if (key >= spec.maxEntries)
          throw badMap(spec.name, `program ${program} belongs in slot ${key} of ${spec.maxEntries}`, 'maps');
      }
      return { ...place, spec: { ...spec, contents } };
    }
    if (innerId === 0 || (spec.type !== 'array_of_maps' && spec.type !== 'hash_of_maps')) return place;
    const inners = maps.filter(map => map.id === innerId);
    const template = inners[0];
    if (template === undefined) throw badMap(spec.name, `its inner map has id ${innerId}, which no map has`, 'maps');
    const contents = inners
      .filter(map => map.innerIndex >= 0)
      .map(map => ({ key: map.innerIndex, map: map.place.spec.name }));
    return { ...place, spec: { ...spec, valueSize: 4, inner: template.place.spec, contents } };
  });
}

// ------------------------------------------------------------------------------------------------------ BTF `.maps`

function btfMaps(elf: Elf, btf: Btf | undefined, programAt: ProgramAt): MapPlace[] {
  const section = elf.section('.maps');
  if (section === undefined || section.size === 0) return [];
  const datasec = btf?.find('.maps', 'datasec');
  const type = datasec === undefined ? undefined : btf?.type(datasec);
  if (btf === undefined || type?.kind !== 'datasec') {
    throw new ObjectError('bad_map_definition', 'section .maps needs BTF that describes it; compile with clang -g', {
      section: '.maps',
    });
  }
  const names = new Set<string>();
  const definitions = type.variables.map(({ type: id, offset, size }) => {
    const variable = btf.type(id);
    if (variable.kind !== 'var')
      throw badMap(btf.name(id), `BTF describes a ${variable.kind}, not a variable`, '.maps');
    if (offset + size > section.size) {
      throw badMap(variable.name, `${size} bytes at ${offset} end past the ${section.size} bytes of .maps`, '.maps');
    }
    if (names.has(variable.name)) {
      throw new ObjectError('duplicate_name', `two maps are called ${variable.name}`, {
        section: '.maps',
        symbol: variable.name,
      });
    }
    names.add(variable.name);
    const definition = new Definition(btf, variable.name);
    return { section: section.index, offset, size, ...definition.read(variable.type) };
  });
  const contents = new Map<string, InitialEntry[]>();
  for (const relocation of elf.relocations(section)) {
    const home = definitions.find(map => map.offset <= relocation.offset && relocation.offset < map.offset + map.size);
    if (home === undefined) {
      throw new ObjectError('bad_relocation', `relocation at ${relocation.offset} of .maps belongs to no map`, {
        section: '.maps',
        offset: relocation.offset,
      });
    }
    const entry = staticEntry(home, relocation, section, definitions, programAt);
    const list = contents.get(home.spec.name);
    if (list === undefined) contents.set(home.spec.name, [entry]);
    else list.push(entry);
  }
  return definitions.map(({ section: index, offset, size, spec }) => ({
    section: index,
    offset,
    size,
    spec: { ...spec, contents: contents.get(spec.name) ?? spec.contents },
  }));
}

interface BtfMapDefinition {
  readonly spec: MapSpec;
  /** Byte offset of the `values` member in the definition, undefined without one. */
  readonly values: number | undefined;
}

/** A pointer in a `values` array, which the compiler left to the loader. */
function staticEntry(
  home: BtfMapDefinition & { readonly offset: number },
  relocation: ElfRelocation,
  section: Section,
  definitions: readonly { readonly offset: number; readonly spec: MapSpec }[],
  programAt: ProgramAt,
): InitialEntry {
  const { name, type, maxEntries } = home.spec;
  const at = relocation.offset - home.offset - (home.values ?? 0);
  const key = at / 8;
  if (home.values === undefined || at < 0 || at % 8 !== 0 || relocation.offset + 8 > section.data.length) {
    throw badMap(name, `relocation at ${relocation.offset} is not in its values`, '.maps');
  }
  if (
    key >= MAX_STATIC_ENTRIES ||
    ((type === 'prog_array' || type === 'array_of_maps') && maxEntries > 0 && key >= maxEntries)
  ) {
    throw badMap(name, `values[${key}] is past its ${maxEntries} entries`, '.maps');
  }
  const { symbol } = relocation;
  const view = new DataView(section.data.buffer, section.data.byteOffset, section.data.byteLength);
  const addend = relocation.addend ?? view.getInt32(relocation.offset, true);
  const target = symbol.value + addend;
  if (type === 'prog_array') {
    const program = programAt(symbol, target);
    if (program === undefined)
      throw badMap(name, `values[${key}] is ${symbol.name}, which is no program of this object`, '.maps');
    return { key, program };
  }
  const map = symbol.section === section.index ? definitions.find(other => other.offset === target) : undefined;
  if (map === undefined) throw badMap(name, `values[${key}] is ${symbol.name}, which is no map of .maps`, '.maps');
  return { key, map: map.spec.name };
}

/** The kernel takes pages, a power of 2 of them. As in libbpf, other sizes become the next larger one; 0 is for the kernel to refuse. */
function ringBytes(asked: number): number {
  if (asked === 0) return 0;
  let bytes = PAGE_BYTES;
  while (bytes < asked && bytes < 2 ** 31) bytes *= 2;
  return Math.max(bytes, asked);
}

/** Reads the anonymous struct that a `.maps` variable has as its type. */
class Definition {
  readonly #btf: Btf;
  readonly #name: string;

  constructor(btf: Btf, name: string) {
    this.#btf = btf;
    this.#name = name;
  }

  read(typeId: number, isInner = false): BtfMapDefinition {
    const btf = this.#btf;
    const struct = btf.resolved(typeId);
    if (struct.kind !== 'struct') throw this.#bad(`expected a struct, got ${struct.kind}`);
    const spec: { -readonly [K in keyof MapSpec]: MapSpec[K] } = {
      name: this.#name,
      type: 'array',
      keySize: 0,
      valueSize: 0,
      maxEntries: 0,
      flags: 0,
      pinning: 'none',
      contents: [],
    };
    let type: MapType | undefined;
    let values: { readonly offset: number; readonly type: number } | undefined;
    for (const member of struct.members) {
      switch (member.name) {
        case 'type':
          type = mapType(this.#number(member.type, 'type'), this.#name, '.maps');
          break;
        case 'max_entries':
          spec.maxEntries = this.#number(member.type, 'max_entries');
          break;
        case 'map_flags':
          spec.flags = this.#number(member.type, 'map_flags');
          break;
        case 'numa_node':
          spec.numaNode = this.#number(member.type, 'numa_node');
          break;
        case 'map_extra':
          spec.mapExtra = this.#long(member.type, 'map_extra');
          break;
        case 'key_size':
          spec.keySize = this.#size('key', spec.keySize, this.#number(member.type, 'key_size'));
          break;
        case 'value_size':
          spec.valueSize = this.#size('value', spec.valueSize, this.#number(member.type, 'value_size'));
          break;
        case 'key': {
          spec.btfKeyId = this.#pointee(member.type, 'key');
          spec.keySize = this.#size('key', spec.keySize, btf.sizeOf(spec.btfKeyId));
          break;
        }
        case 'value': {
          spec.btfValueId = this.#pointee(member.type, 'value');
          spec.valueSize = this.#size('value', spec.valueSize, btf.sizeOf(spec.btfValueId));
          break;
        }
        case 'pinning': {
          const pinning = this.#number(member.type, 'pinning');
          if (pinning > 1)
            throw this.#bad(`pinning is ${pinning}; known are LIBBPF_PIN_NONE (0) and LIBBPF_PIN_BY_NAME (1)`);
          if (isInner && pinning === 1) throw this.#bad('the inner map cannot be pinned');
          spec.pinning = pinning === 1 ? 'by_name' : 'none';
          break;
        }
        case 'values':
          if (isInner) throw this.#bad('an inner map cannot have values of its own');
          values = { offset: member.bitOffset / 8, type: member.type };
          break;
        default:
          throw this.#bad(`field ${member.name || '(anonymous)'} is not known`);
      }
    }
    if (type === undefined) throw this.#bad('its definition has no type');
    spec.type = type;
    if (type === 'ringbuf' || type === 'user_ringbuf') spec.maxEntries = ringBytes(spec.maxEntries);
    // The type of what they carry, as cilium's tools want it: their values have none.
    if (spec.btfValueId !== undefined && type === 'ringbuf') spec.valueSize = 0;
    if (spec.btfValueId !== undefined && type === 'perf_event_array') spec.keySize = spec.valueSize = 4;
    if (values !== undefined) this.#values(spec, values.type);
    if (spec.valueSize > MAX_VALUE_BYTES || spec.keySize > MAX_VALUE_BYTES) {
      throw this.#bad(`keys of ${spec.keySize} or values of ${spec.valueSize} bytes are too large`);
    }
    return { spec, values: values?.offset };
  }

  /** `__array(values, T)`: T* elements[]; T is a function type (prog array) or the inner map's struct. */
  #values(spec: { -readonly [K in keyof MapSpec]: MapSpec[K] }, typeId: number): void {
    const btf = this.#btf;
    const isOuter = spec.type === 'array_of_maps' || spec.type === 'hash_of_maps';
    if (!isOuter && spec.type !== 'prog_array') throw this.#bad(`a map of type ${spec.type} cannot have values`);
    const array = btf.resolved(typeId);
    if (array.kind !== 'array') throw this.#bad(`values should be an array, got ${array.kind}`);
    if (array.length !== 0) throw this.#bad('values should be a flexible array; use __array(values, ...)');
    const element = btf.resolved(array.type);
    if (element.kind !== 'ptr') throw this.#bad(`values should hold pointers, got ${element.kind}`);
    const target = btf.resolved(element.type);
    spec.valueSize = this.#size('value', spec.valueSize, 4);
    if (isOuter) {
      spec.inner = new Definition(btf, `${this.#name}.inner`).read(element.type, true).spec;
    } else if (target.kind !== 'func_proto') {
      throw this.#bad(`values of a prog array should point to functions, got ${target.kind}`);
    }
  }

  /** Macro __uint: a pointer to an array whose length is the number. */
  #number(typeId: number, field: string): number {
    const pointer = this.#btf.resolved(typeId);
    const array = pointer.kind === 'ptr' ? this.#btf.resolved(pointer.type) : undefined;
    if (array?.kind !== 'array') throw this.#bad(`${field} should be written with __uint(${field}, ...)`);
    return array.length;
  }

  /** Macro __ulong (an enum of one value), or __uint. */
  #long(typeId: number, field: string): bigint {
    const type: BtfType = this.#btf.resolved(typeId);
    const value = type.kind === 'enum' || type.kind === 'enum64' ? type.values[0] : undefined;
    return value === undefined ? BigInt(this.#number(typeId, field)) : BigInt.asUintN(64, value.value);
  }

  #pointee(typeId: number, field: string): number {
    const pointer = this.#btf.resolved(typeId);
    if (pointer.kind !== 'ptr')
      throw this.#bad(`${field} should be written with __type(${field}, ...), got ${pointer.kind}`);
    return pointer.type;
  }

  #size(what: string, before: number, size: number): number {
    if (before !== 0 && before !== size) throw this.#bad(`its ${what} has ${before} bytes and ${size} bytes`);
    return size;
  }

  #bad(message: string): ObjectError {
    return badMap(this.#name, message, '.maps');
  }
}

// ------------------------------------------------------------------------------------------------------ global data

/** Each data section is an array map with one entry. */
function dataMaps(elf: Elf, btf: Btf | undefined): MapPlace[] {
  return elf.sections.flatMap(section => {
    const base = /^\.(data|rodata|bss)(?:$|\.)/.exec(section.name)?.[1];
    if (base === undefined || section.size === 0 || section.type === 2) return [];
    const { name } = section;
    if (section.size > MAX_VALUE_BYTES) {
      throw new ObjectError(
        'bad_map_definition',
        `section ${name} has ${section.size} bytes; at most ${MAX_VALUE_BYTES} fit a map`,
        {
          section: name,
        },
      );
    }
    const address = elf.relocations(section)[0];
    const datasecId = btf?.find(name, 'datasec');
    const datasec = datasecId === undefined ? undefined : btf?.type(datasecId);
    // As libbpf: user space gets a mapping only where there are named variables that are not static.
    const mappable =
      datasec?.kind === 'datasec' &&
      datasec.variables.some(variable => {
        const type = btf?.type(variable.type);
        return type?.kind === 'var' && type.linkage !== 'static';
      });
    const readOnly = base === 'rodata';
    const spec: MapSpec = {
      name,
      type: 'array',
      keySize: 4,
      valueSize: section.size,
      maxEntries: 1,
      flags: (mappable ? BPF_F_MMAPABLE : 0) | (readOnly ? BPF_F_RDONLY_PROG : 0),
      pinning: 'none',
      ...(datasecId === undefined ? {} : { btfValueId: datasecId }),
      contents: section.data.length === 0 ? [] : [{ key: 0, value: section.data.slice() }],
      dataSection: name,
      frozen: readOnly,
    };
    const place: MapPlace = { section: section.index, offset: 0, size: section.size, spec };
    return [address === undefined ? place : { ...place, address }];
  });
}

/** Section of the variables that a program declares in address space 1: the start of its arena. */
const ARENA_SECTION = '.addr_space.1';
const ARENA_PAGE = 4096;

/** The arena with its variables as contents, and where the variables lie; undefined without any. */
function arenaVariables(
  elf: Elf,
  definitions: readonly MapPlace[],
): { readonly index: number; readonly map: MapPlace; readonly variables: MapPlace } | undefined {
  const section = elf.section(ARENA_SECTION);
  if (section === undefined || section.size === 0) return undefined;
  const indexes = definitions.flatMap(({ spec }, index) => (spec.type === 'arena' ? [index] : []));
  const [index] = indexes;
  const place = index === undefined ? undefined : definitions[index];
  if (index === undefined || place === undefined || indexes.length > 1) {
    throw new ObjectError(
      'bad_map_definition',
      `section ${ARENA_SECTION} holds variables of an arena, but the object defines ${indexes.length === 0 ? 'none' : `${indexes.length}`}; it must define one map of type BPF_MAP_TYPE_ARENA`,
      { section: ARENA_SECTION },
    );
  }
  const { spec } = place;
  if (section.size > spec.maxEntries * ARENA_PAGE) {
    throw badMap(
      spec.name,
      `its ${spec.maxEntries} pages can't hold the ${section.size} bytes of its variables`,
      ARENA_SECTION,
    );
  }
  const address = elf.relocations(section)[0];
  const contents = section.data.length === 0 ? [] : [{ key: 0, value: section.data.slice() }];
  const map: MapPlace = { ...place, spec: { ...spec, contents } };
  const variables: MapPlace = { section: section.index, offset: 0, size: section.size, spec: map.spec };
  return { index, map, variables: address === undefined ? variables : { ...variables, address } };
}
