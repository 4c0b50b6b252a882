/**
 * ELF64 little-endian relocatable files of machine EM_BPF: sections, symbols and relocations.
 *
 * Everything read from the file is checked before it is used: offsets and sizes against the file, indexes against
 * their tables, strings against their string table, entry sizes against the format. Sections must not overlap each
 * other. So the rest of the room may index freely with what it gets from here.
 *
 * Source: System V ABI, chapter 4 ("Object Files"); LLVM's BPF relocation types in the kernel's
 * Documentation/bpf/llvm_reloc.rst.
 */
import { ObjectError } from './errors.ts';

export interface Section {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly executable: boolean;
  readonly writable: boolean;
  /** Bytes; for NOBITS sections the size in memory. */
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly entrySize: number;
  /** A view of the file; empty for NOBITS. */
  readonly data: Uint8Array;
}

export interface ElfSymbol {
  readonly index: number;
  readonly name: string;
  readonly value: number;
  readonly size: number;
  readonly type: 'none' | 'object' | 'function' | 'section' | 'file' | 'other';
  readonly binding: 'local' | 'global' | 'weak';
  /** False for STV_HIDDEN and STV_INTERNAL. */
  readonly visible: boolean;
  /** Section index; 0 for undefined symbols, -1 for absolute and other reserved ones. */
  readonly section: number;
}

export interface ElfRelocation {
  /** Byte offset in the section it applies to. */
  readonly offset: number;
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** RELA only. In REL sections the addend is stored at `offset`. */
  readonly addend: number | undefined;
}

export interface Elf {
  readonly sections: readonly Section[];
  readonly symbols: readonly ElfSymbol[];
  /** Relocations that apply to a section, sorted by offset. */
  relocations(section: Section): readonly ElfRelocation[];
  /** First section of that name. */
  section(name: string): Section | undefined;
}

export const SectionType = { progbits: 1, symtab: 2, strtab: 3, rela: 4, nobits: 8, rel: 9 } as const;
const ELF_HEADER_BYTES = 64;
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const EM_BPF = 247;
const SHF_WRITE = 1n;
const SHF_EXECINSTR = 4n;
const SHF_COMPRESSED = 0x800n;
const SHN_LORESERVE = 0xff00;

const SYMBOL_TYPES = ['none', 'object', 'function', 'section', 'file'] as const;
const BINDINGS = ['local', 'global', 'weak'] as const;
const decoder = new TextDecoder();

function bad(message: string, details: Readonly<Record<string, unknown>> = {}): ObjectError {
  return new ObjectError('bad_elf', message, details);
}

/**
 * @param file the whole file; kept as views, so it must not be changed afterwards.
 * @throws ObjectError `bad_elf`, `bad_symbol`; `relocations()` throws `bad_relocation`.
 */
export function readElf(file: Uint8Array): Elf {
  // A plain view: the slice() of a Node Buffer would be a view too, and sections are sliced to be changed.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkHeader(bytes, view);
  const sections = readSections(bytes, view);
  checkOverlaps(sections, view);
  const symtabs = sections.filter(section => section.type === SectionType.symtab);
  if (symtabs.length > 1) throw bad(`expected one symbol table, found ${symtabs.length}`);
  const symtab = symtabs[0];
  const symbols = symtab === undefined ? [] : readSymbols(symtab, sections);

  const byTarget = new Map<number, Section[]>();
  for (const section of sections) {
    if (section.type !== SectionType.rel && section.type !== SectionType.rela) continue;
    if (section.info === 0 || section.info >= sections.length) {
      throw bad(`relocation section ${section.name} applies to section ${section.info}, which does not exist`, {
        section: section.name,
      });
    }
    if (section.link !== symtab?.index) {
      throw bad(`relocation section ${section.name} links to section ${section.link}, not to the symbol table`, {
        section: section.name,
      });
    }
    const list = byTarget.get(section.info);
    if (list === undefined) byTarget.set(section.info, [section]);
    else list.push(section);
  }
  const cache = new Map<number, readonly ElfRelocation[]>();
  return {
    sections,
    symbols,
    relocations(section) {
      let list = cache.get(section.index);
      if (list === undefined) {
        list = (byTarget.get(section.index) ?? [])
          .flatMap(table => readRelocations(table, section, symbols))
          .sort((a, b) => a.offset - b.offset);
        cache.set(section.index, list);
      }
      return list;
    },
    section: name => sections.find(section => section.name === name),
  };
}

/**
 * The bytes of a section of any 64-bit little-endian ELF file, such as a kernel image.
 * @throws ObjectError `bad_elf`.
 */
export function elfSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkIdentification(bytes, view);
  return readSections(bytes, view).find(section => section.name === name)?.data;
}

function checkIdentification(bytes: Uint8Array, view: DataView): void {
  if (bytes.length < ELF_HEADER_BYTES) {
    throw bad(`expected an ELF file, got ${bytes.length} bytes, fewer than its header of ${ELF_HEADER_BYTES}`);
  }
  if (view.getUint32(0, false) !== 0x7f454c46)
    throw bad('expected an ELF file, but the magic number 7f 45 4c 46 is missing');
  if (bytes[4] !== 2) throw bad('expected a 64-bit ELF file; compile with clang -target bpf', { class: bytes[4] });
  if (bytes[5] !== 1) {
    throw bad('expected a little-endian ELF file; compile with clang -target bpfel', { encoding: bytes[5] });
  }
  if (bytes[6] !== 1 || view.getUint32(20, true) !== 1) throw bad('expected ELF version 1');
}

function checkHeader(bytes: Uint8Array, view: DataView): void {
  checkIdentification(bytes, view);
  const type = view.getUint16(16, true);
  if (type !== 1) throw bad(`expected a relocatable ELF file (type 1), got type ${type}`, { type });
  const machine = view.getUint16(18, true);
  // Very old compilers left the machine at 0; libbpf still takes those.
  if (machine !== EM_BPF && machine !== 0) {
    throw bad(`expected machine ${EM_BPF} (BPF), got ${machine}; compile with clang -target bpf`, { machine });
  }
}

/** u64 that must be a number below 2^53. */
function u64(view: DataView, offset: number, what: string): number {
  const value = view.getBigUint64(offset, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(`${what} is ${value}, which no file has room for`, { offset });
  return Number(value);
}

function readSections(bytes: Uint8Array, view: DataView): Section[] {
  const tableOffset = u64(view, 40, 'the section table offset');
  const entrySize = view.getUint16(58, true);
  const count = view.getUint16(60, true);
  const namesIndex = view.getUint16(62, true);
  if (tableOffset === 0 || count === 0) throw bad('expected sections, but the file has no section table');
  if (entrySize !== SECTION_HEADER_BYTES) {
    throw bad(`expected section headers of ${SECTION_HEADER_BYTES} bytes, got ${entrySize}`);
  }
  if (tableOffset + count * SECTION_HEADER_BYTES > bytes.length) {
    throw bad(`the section table (${count} entries at ${tableOffset}) ends past the file's ${bytes.length} bytes`, {
      offset: tableOffset,
    });
  }
  if (namesIndex === 0 || namesIndex >= count)
    throw bad(`section names are in section ${namesIndex}, which does not exist`);

  const raw = Array.from({ length: count }, (_, index) => {
    const at = tableOffset + index * SECTION_HEADER_BYTES;
    const type = view.getUint32(at + 4, true);
    const offset = u64(view, at + 24, `the offset of section ${index}`);
    const size = u64(view, at + 32, `the size of section ${index}`);
    const inFile = index !== 0 && type !== 0 && type !== SectionType.nobits;
    if (inFile && offset + size > bytes.length) {
      throw bad(`section ${index} (${size} bytes at ${offset}) ends past the file's ${bytes.length} bytes`, { offset });
    }
    const flags = view.getBigUint64(at + 8, true);
    if (flags & SHF_COMPRESSED) throw bad(`section ${index} is compressed, which is not supported for BPF objects`);
    return {
      index,
      nameOffset: view.getUint32(at, true),
      type,
      executable: (flags & SHF_EXECINSTR) !== 0n,
      writable: (flags & SHF_WRITE) !== 0n,
      size: index === 0 ? 0 : size,
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
      entrySize: u64(view, at + 56, `the entry size of section ${index}`),
      data: inFile ? bytes.subarray(offset, offset + size) : bytes.subarray(0, 0),
    };
  });
  const names = raw[namesIndex];
  if (names === undefined || names.type !== SectionType.strtab) {
    throw bad(`section ${namesIndex} should hold the section names, but is no string table`);
  }
  return raw.map(({ nameOffset, ...section }) => ({
    ...section,
    name: section.index === 0 ? '' : readString(names.data, nameOffset, `the name of section ${section.index}`),
  }));
}

/** Two sections that share bytes mean that at least one header is wrong. */
function checkOverlaps(sections: readonly Section[], view: DataView): void {
  const start = view.byteOffset;
  const ranges = sections
    .filter(section => section.data.length > 0)
    .map(section => ({
      name: section.name,
      from: section.data.byteOffset - start,
      to: section.data.byteOffset - start + section.size,
    }));
  const tableOffset = Number(view.getBigUint64(40, true));
  ranges.push({ name: 'the ELF header', from: 0, to: ELF_HEADER_BYTES });
  ranges.push({
    name: 'the section table',
    from: tableOffset,
    to: tableOffset + sections.length * SECTION_HEADER_BYTES,
  });
  ranges.sort((a, b) => a.from - b.from);
  for (let i = 1; i < ranges.length; i++) {
    const before = ranges[i - 1];
    const after = ranges[i];
    if (before !== undefined && after !== undefined && after.from < before.to) {
      throw bad(`${after.name} starts at ${after.from}, inside ${before.name} (${before.from} to ${before.to})`, {
        section: after.name,
        offset: after.from,
      });
    }
  }
}

function readSymbols(symtab: Section, sections: readonly Section[]): ElfSymbol[] {
  if (symtab.entrySize !== SYMBOL_BYTES || symtab.size % SYMBOL_BYTES !== 0) {
    throw bad(
      `expected symbols of ${SYMBOL_BYTES} bytes, got a table of ${symtab.size} bytes with entries of ${symtab.entrySize}`,
      {
        section: symtab.name,
      },
    );
  }
  const strings = sections[symtab.link];
  if (strings === undefined || strings.type !== SectionType.strtab) {
    throw bad(`the symbol table's names are in section ${symtab.link}, which is no string table`, {
      section: symtab.name,
    });
  }
  const view = new DataView(symtab.data.buffer, symtab.data.byteOffset, symtab.data.byteLength);
  const symbols: ElfSymbol[] = [];
  for (let at = 0; at < symtab.size; at += SYMBOL_BYTES) {
    const index = at / SYMBOL_BYTES;
    const info = view.getUint8(at + 4);
    const visibility = view.getUint8(at + 5) & 3;
    const sectionIndex = view.getUint16(at + 6, true);
    const section = sectionIndex >= SHN_LORESERVE ? -1 : sectionIndex;
    const type = SYMBOL_TYPES[info & 15] ?? 'other';
    const binding = BINDINGS[info >> 4];
    let name = readString(strings.data, view.getUint32(at, true), `the name of symbol ${index}`);
    if (binding === undefined) {
      throw new ObjectError(
        'bad_symbol',
        `symbol ${index} (${name}) has binding ${info >> 4}; expected local, global or weak`,
        { symbol: name },
      );
    }
    const home = sections[Math.max(section, 0)];
    if (home === undefined) {
      throw new ObjectError('bad_symbol', `symbol ${index} (${name}) is in section ${section}, which does not exist`, {
        symbol: name,
      });
    }
    if (type === 'section' && name === '') name = home.name;
    symbols.push({
      index,
      name,
      value: u64(view, at + 8, `the value of symbol ${name}`),
      size: u64(view, at + 16, `the size of symbol ${name}`),
      type,
      binding,
      visible: visibility === 0 || visibility === 3,
      section,
    });
  }
  return symbols;
}

function readRelocations(table: Section, target: Section, symbols: readonly ElfSymbol[]): ElfRelocation[] {
  const entry = table.type === SectionType.rela ? 24 : 16;
  if (table.entrySize !== entry || table.size % entry !== 0) {
    throw new ObjectError(
      'bad_relocation',
      `${table.name}: expected entries of ${entry} bytes, got ${table.size} bytes with entries of ${table.entrySize}`,
      { section: table.name },
    );
  }
  const view = new DataView(table.data.buffer, table.data.byteOffset, table.data.byteLength);
  const relocations: ElfRelocation[] = [];
  for (let at = 0; at < table.size; at += entry) {
    const offset = view.getBigUint64(at, true);
    const type = view.getUint32(at + 8, true);
    const symbolIndex = view.getUint32(at + 12, true);
    const symbol = symbols[symbolIndex];
    if (offset >= BigInt(target.size)) {
      throw new ObjectError(
        'bad_relocation',
        `${table.name}: relocation at ${offset} is past the end of ${target.name} (${target.size} bytes)`,
        {
          section: target.name,
        },
      );
    }
    if (symbol === undefined) {
      throw new ObjectError(
        'bad_relocation',
        `${table.name}: relocation at ${offset} names symbol ${symbolIndex} of ${symbols.length}`,
        {
          section: target.name,
          offset: Number(offset),
        },
      );
    }
    const addend = table.type === SectionType.rela ? view.getBigInt64(at + 16, true) : undefined;
    if (addend !== undefined && (addend > 0x7fffffffn || addend < -0x80000000n)) {
      throw new ObjectError(
        'bad_relocation',
        `${table.name}: relocation at ${offset} has addend ${addend}, more than 32 bits`,
        {
          section: target.name,
          offset: Number(offset),
        },
      );
    }
    relocations.push({
      offset: Number(offset),
      type,
      symbol,
      addend: addend === undefined ? undefined : Number(addend),
    });
  }
  return relocations;
}

/** NUL-terminated string in a string table. */
function readString(table: Uint8Array, offset: number, what: string): string {
  const end = offset < table.length ? table.indexOf(0, offset) : -1;
  if (end < 0)
    throw bad(`${what} is at ${offset} of a string table of ${table.length} bytes, or is not terminated`, { offset });
  return decoder.decode(table.subarray(offset, end));
}
