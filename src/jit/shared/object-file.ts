/**
 * Compiled code as a relocatable ELF64 file, for linkers, disassemblers and debuggers that we did not write.
 *
 * One section `.text` with the code as it is in `Code.bytes`, one symbol for each function, and a relocation for each of
 * `Code.relocations`, expressed in the machine's own relocation types, so that any ELF linker does to the code what
 * relocate.ts does. What the code refers to is undefined in the file; the kinds have name spaces of their own, which no
 * C identifier gets into:
 *
 *   map.NAME        address of the map object         routine.NAME   entry of a trusted routine
 *   values.NAME     address of its first value        service.NAME   thunk around a host function
 *
 * Nothing but the arguments gets into the file: the same code gives the same bytes.
 *
 * Sources: System V ABI, chapter 4; AMD64 psABI, table 4.10; ELF for the Arm 64-bit Architecture (AAELF64), 5.7.
 */
import { check } from '../../arguments.ts';
import type { UsedMap } from '../../lowering/lowered.ts';
import type { Code, CompileOptions, Machine, Relocation, RelocationTarget } from './code.ts';
import { CODE_ALIGNMENT } from './placement.ts';

type Arch = Machine['arch'];

export interface ObjectFileInput {
  readonly arch: Arch;
  readonly kind: CompileOptions['kind'];
  /** Of the program or routine. */
  readonly name: string;
  readonly code: Code;
  /** Names for `Code.relocations`. */
  readonly usedMaps: readonly UsedMap[];
}

/**
 * The name that the file gives to what a relocation refers to; undefined for the code itself.
 * @throws ArgumentError where there is no map of that index
 */
export function symbolName(target: RelocationTarget, usedMaps: readonly UsedMap[]): string | undefined {
  check.record({ kind: check.oneOf('map', 'mapValue', 'routine', 'service', 'self') })(target, 'target');
  switch (target.kind) {
    case 'map':
    case 'mapValue': {
      check.arrayOf(check.record({ name: check.string }))(usedMaps, 'usedMaps');
      check.integer(0, usedMaps.length - 1)(target.index, 'target.index');
      return `${target.kind === 'map' ? 'map' : 'values'}.${usedMaps[target.index]!.name}`;
    }
    case 'routine':
    case 'service':
      return `${target.kind}.${target.name}`;
    case 'self':
      return undefined;
  }
}

const ELF_HEADER_BYTES = 64;
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 24;
const ET_REL = 1;
const MACHINE: Readonly<Record<Arch, number>> = { x64: 62, arm64: 183 };
const SectionType = { null: 0, progbits: 1, symtab: 2, strtab: 3, rela: 4 } as const;
const SHF_ALLOC = 2;
const SHF_EXECINSTR = 4;
const SHF_INFO_LINK = 0x40;
const SymbolType = { none: 0, function: 2, section: 3 } as const;
const STB_GLOBAL = 1;
/** A64: bl, as opposed to b. */
const LINK_BIT = 0x80000000;

const R_X86_64 = { R_64: 1, PC32: 2 } as const;
const R_AARCH64 = {
  ABS64: 257,
  MOVW_UABS_G0_NC: 264,
  MOVW_UABS_G1_NC: 266,
  MOVW_UABS_G2: 267,
  JUMP26: 282,
  CALL26: 283,
};

interface NewSymbol {
  readonly name: string;
  readonly type: number;
  readonly global: boolean;
  /** Index of the section; 0: undefined. */
  readonly section: number;
  readonly value: number;
  readonly size: number;
}
interface NewSection {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly link: number;
  readonly info: number;
  readonly alignment: number;
  readonly entrySize: number;
  readonly data: Uint8Array;
}

class Strings {
  private text = '\0';
  private readonly known = new Map<string, number>([['', 0]]);

  add(name: string): number {
    let at = this.known.get(name);
    if (at === undefined) {
      at = new TextEncoder().encode(this.text).length;
      this.known.set(name, at);
      this.text += `${name}\0`;
    }
    return at;
  }
  get bytes(): Uint8Array {
    return new TextEncoder().encode(this.text);
  }
}

/** Types and places of the ELF relocations that write what one of ours does. */
function elfTypes(arch: Arch, { form, offset }: Relocation, bytes: Uint8Array): readonly [type: number, at: number][] {
  switch (form) {
    case 'absolute64':
      return [[arch === 'x64' ? R_X86_64.R_64 : R_AARCH64.ABS64, offset]];
    case 'relative32':
      return [[R_X86_64.PC32, offset]];
    case 'branch26': {
      const word = new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
      return [[(word & LINK_BIT) !== 0 ? R_AARCH64.CALL26 : R_AARCH64.JUMP26, offset]];
    }
    case 'moveWide48':
      return [
        [R_AARCH64.MOVW_UABS_G0_NC, offset],
        [R_AARCH64.MOVW_UABS_G1_NC, offset + 4],
        // Checked: the value must be below 2^48.
        [R_AARCH64.MOVW_UABS_G2, offset + 8],
      ];
  }
}

const TEXT = 1;
const SYMTAB = 3;
const STRTAB = 4;

/** @returns the bytes of an ET_REL file for a linker of that machine */
export function objectFile({ arch, kind, name, code, usedMaps }: ObjectFileInput): Uint8Array {
  const strings = new Strings();
  const own = kind === 'routine' ? `routine.${name}` : name;
  const symbols = symbolsOf(arch, own, kind, code);
  const numbers = new Map<string, number>();
  const undefinedSymbol = (symbol: string): number => {
    let number = numbers.get(symbol);
    if (number === undefined) {
      // A routine may call itself.
      const defined = symbols.findIndex(({ global, name }) => global && name === symbol);
      number = defined >= 0 ? defined : symbols.length;
      numbers.set(symbol, number);
      if (defined < 0) {
        symbols.push({ name: symbol, type: SymbolType.none, global: true, section: 0, value: 0, size: 0 });
      }
    }
    return number;
  };
  const relocations = code.relocations.flatMap(relocation => {
    const symbol = symbolName(relocation.target, usedMaps);
    const number = symbol === undefined ? SECTION_SYMBOL : undefinedSymbol(symbol);
    return elfTypes(arch, relocation, code.bytes).map(([type, at]) => ({
      type,
      at,
      number,
      addend: relocation.addend,
    }));
  });
  const section = (
    sectionName: string,
    type: number,
    data: Uint8Array,
    more: Partial<NewSection> = {},
  ): NewSection => ({ name: sectionName, type, flags: 0, link: 0, info: 0, alignment: 1, entrySize: 0, data, ...more });
  const symtab = symbolTable(symbols, strings);
  return assembleFile(arch, [
    section('', SectionType.null, new Uint8Array(), { alignment: 0 }),
    section('.text', SectionType.progbits, code.bytes, {
      flags: SHF_ALLOC | SHF_EXECINSTR,
      alignment: CODE_ALIGNMENT,
    }),
    section('.rela.text', SectionType.rela, relocationTable(relocations), {
      flags: SHF_INFO_LINK,
      link: SYMTAB,
      info: TEXT,
      alignment: 8,
      entrySize: RELOCATION_BYTES,
    }),
    section('.symtab', SectionType.symtab, symtab, {
      link: STRTAB,
      info: symbols.findIndex(({ global }) => global),
      alignment: 8,
      entrySize: SYMBOL_BYTES,
    }),
    section('.strtab', SectionType.strtab, strings.bytes),
    // Without it linkers take the stack to be executable.
    section('.note.GNU-stack', SectionType.progbits, new Uint8Array()),
  ]);
}

const SECTION_SYMBOL = 1;

/** Local symbols come first, as the format demands. */
function symbolsOf(arch: Arch, own: string, kind: CompileOptions['kind'], code: Code): NewSymbol[] {
  const local = { global: false, section: TEXT, value: 0, size: 0 };
  const symbols: NewSymbol[] = [
    { ...local, name: '', type: SymbolType.none, section: 0 },
    { ...local, name: '', type: SymbolType.section },
  ];
  // Says that A64 instructions start here, not data.
  if (arch === 'arm64') symbols.push({ ...local, name: '$x', type: SymbolType.none });
  for (const [i, { name, start, end }] of code.functions.entries()) {
    if (i > 0) symbols.push({ ...local, name, type: SymbolType.function, value: start, size: end - start });
  }
  const size = code.functions[0]!.end;
  symbols.push({ ...local, name: own, type: SymbolType.function, global: true, size });
  if (kind === 'program') {
    const value = code.tailCallPrologueOffset;
    symbols.push({ ...local, name: `${own}.tail_call_entry`, type: SymbolType.none, global: true, value });
  }
  return symbols;
}

function symbolTable(symbols: readonly NewSymbol[], strings: Strings): Uint8Array {
  const bytes = new Uint8Array(symbols.length * SYMBOL_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, symbol] of symbols.entries()) {
    const at = i * SYMBOL_BYTES;
    view.setUint32(at, strings.add(symbol.name), true);
    view.setUint8(at + 4, (symbol.global ? STB_GLOBAL << 4 : 0) | symbol.type);
    view.setUint16(at + 6, symbol.section, true);
    view.setBigUint64(at + 8, BigInt(symbol.value), true);
    view.setBigUint64(at + 16, BigInt(symbol.size), true);
  }
  return bytes;
}

function relocationTable(
  relocations: readonly { type: number; at: number; number: number; addend: number }[],
): Uint8Array {
  const bytes = new Uint8Array(relocations.length * RELOCATION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, { type, at, number, addend }] of relocations.entries()) {
    view.setBigUint64(i * RELOCATION_BYTES, BigInt(at), true);
    view.setUint32(i * RELOCATION_BYTES + 8, type, true);
    view.setUint32(i * RELOCATION_BYTES + 12, number, true);
    view.setBigInt64(i * RELOCATION_BYTES + 16, BigInt(addend), true);
  }
  return bytes;
}

/** Header, contents, the section names, section headers. */
function assembleFile(arch: Arch, contents: readonly NewSection[]): Uint8Array {
  const names = new Strings();
  for (const { name } of contents) names.add(name);
  names.add('.shstrtab');
  const sections: NewSection[] = [
    ...contents,
    {
      name: '.shstrtab',
      type: SectionType.strtab,
      flags: 0,
      link: 0,
      info: 0,
      alignment: 1,
      entrySize: 0,
      data: names.bytes,
    },
  ];
  let end = ELF_HEADER_BYTES;
  const offsets = sections.map(({ data, alignment }) => {
    const offset = alignment > 1 ? Math.ceil(end / alignment) * alignment : end;
    end = offset + data.length;
    return offset;
  });
  const headers = Math.ceil(end / 8) * 8;
  const file = new Uint8Array(headers + sections.length * SECTION_HEADER_BYTES);
  const view = new DataView(file.buffer);
  // Magic, 64 bits, little-endian, version 1, System V.
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
  view.setUint16(16, ET_REL, true);
  view.setUint16(18, MACHINE[arch], true);
  view.setUint32(20, 1, true);
  view.setBigUint64(40, BigInt(headers), true);
  view.setUint16(52, ELF_HEADER_BYTES, true);
  view.setUint16(58, SECTION_HEADER_BYTES, true);
  view.setUint16(60, sections.length, true);
  view.setUint16(62, sections.length - 1, true);
  for (const [i, section] of sections.entries()) {
    const at = headers + i * SECTION_HEADER_BYTES;
    file.set(section.data, offsets[i]!);
    view.setUint32(at, names.add(section.name), true);
    view.setUint32(at + 4, section.type, true);
    view.setBigUint64(at + 8, BigInt(section.flags), true);
    if (section.type !== SectionType.null) view.setBigUint64(at + 24, BigInt(offsets[i]!), true);
    view.setBigUint64(at + 32, BigInt(section.data.length), true);
    view.setUint32(at + 40, section.link, true);
    view.setUint32(at + 44, section.info, true);
    view.setBigUint64(at + 48, BigInt(section.alignment), true);
    view.setBigUint64(at + 56, BigInt(section.entrySize), true);
  }
  return file;
}
