/** The functions of an object: where the code of each begins and ends, and which of them are programs. */
import type { Btf } from './btf.ts';
import type { BtfExt } from './btf-ext.ts';
import type { Elf, ElfSymbol, Section } from './elf.ts';
import { SectionType } from './elf.ts';
import { ObjectError } from './errors.ts';

const SLOT_BYTES = 8;

export interface ObjectFunction {
  readonly name: string;
  readonly section: Section;
  /** First slot in the section, and slots. */
  readonly start: number;
  readonly length: number;
  /** Functions outside `.text` are programs, unless they are static. */
  readonly isProgram: boolean;
  readonly linkage: 'static' | 'global';
  /** BTF id of the FUNC. */
  readonly btfId: number | undefined;
}

export interface FunctionTable {
  readonly functions: readonly ObjectFunction[];
  /** The function that starts at that slot. */
  at(section: number, slot: number): ObjectFunction | undefined;
}

/**
 * Functions are what STT_FUNC symbols say. Old compilers and plain assemblers leave symbols untyped; then every
 * global symbol of the section starts a function that reaches to the next.
 * @throws ObjectError `bad_symbol`, `bad_program_section`.
 */
export function readFunctions(elf: Elf, btf: Btf | undefined, ext: BtfExt): FunctionTable {
  const bySection = new Map<number, ElfSymbol[]>();
  for (const symbol of elf.symbols) {
    const list = bySection.get(symbol.section);
    if (list === undefined) bySection.set(symbol.section, [symbol]);
    else list.push(symbol);
  }
  const functions: ObjectFunction[] = [];
  const starts = new Map<string, ObjectFunction>();
  for (const section of elf.sections) {
    if (!section.executable || section.type !== SectionType.progbits || section.size === 0) continue;
    if (section.size % SLOT_BYTES !== 0) {
      throw new ObjectError(
        'bad_program_section',
        `section ${section.name} has ${section.size} bytes of code, no multiple of 8`,
        {
          section: section.name,
        },
      );
    }
    const infos = new Map(ext.get(section.name)?.functions.map(info => [info.insn, info.btfId]));
    for (const { symbol, length } of functionSymbols(section, bySection.get(section.index) ?? [])) {
      const start = symbol.value / SLOT_BYTES;
      const btfId = infos.get(start);
      const type = btfId === undefined ? undefined : btf?.type(btfId);
      const isGlobal =
        symbol.binding !== 'local' && symbol.visible && type?.kind === 'func' && type.linkage === 'global';
      const fn: ObjectFunction = {
        name: symbol.name,
        section,
        start,
        length,
        isProgram: section.name !== '.text' && symbol.binding !== 'local',
        linkage: isGlobal ? 'global' : 'static',
        btfId,
      };
      const key = `${section.index}:${start}`;
      const other = starts.get(key);
      if (other !== undefined && other.length !== length) {
        throw new ObjectError(
          'bad_symbol',
          `functions ${other.name} and ${fn.name} start together but differ in length`,
          {
            section: section.name,
            symbol: fn.name,
          },
        );
      }
      if (other === undefined) starts.set(key, fn);
      functions.push(fn);
    }
  }
  return { functions, at: (section, slot) => starts.get(`${section}:${slot}`) };
}

function functionSymbols(section: Section, symbols: readonly ElfSymbol[]): { symbol: ElfSymbol; length: number }[] {
  const typed = symbols.filter(symbol => symbol.type === 'function');
  const untyped =
    typed.length > 0 ? [] : symbols.filter(symbol => symbol.type === 'none' && symbol.binding !== 'local');
  const sorted = [...typed, ...untyped].sort((a, b) => a.value - b.value || a.index - b.index);
  if (sorted.length === 0) {
    throw new ObjectError(
      'bad_program_section',
      `section ${section.name} holds code, but no symbol names a function in it`,
      {
        section: section.name,
      },
    );
  }
  let end = 0;
  let begin = -1;
  // Where the next function starts, for symbols without a size.
  const nexts: number[] = [];
  for (let i = sorted.length - 1; i >= 0; i--) {
    const after = sorted[i + 1];
    nexts[i] = after === undefined ? section.size : after.value > sorted[i]!.value ? after.value : nexts[i + 1]!;
  }
  return sorted.map((symbol, i) => {
    const next = nexts[i]!;
    const size = symbol.size === 0 ? next - symbol.value : symbol.size;
    const details = { section: section.name, symbol: symbol.name, offset: symbol.value };
    if (symbol.name === '') throw new ObjectError('bad_symbol', `a function of ${section.name} has no name`, details);
    if (symbol.value % SLOT_BYTES !== 0 || size % SLOT_BYTES !== 0 || size <= 0 || symbol.value + size > section.size) {
      throw new ObjectError(
        'bad_symbol',
        `function ${symbol.name}: ${size} bytes at ${symbol.value} are no instructions of ${section.name} (${section.size} bytes)`,
        details,
      );
    }
    // Two names for the same function are legal; a function inside another is not.
    if (symbol.value < end && symbol.value !== begin) {
      throw new ObjectError(
        'bad_symbol',
        `function ${symbol.name} starts inside another function of ${section.name}`,
        details,
      );
    }
    begin = symbol.value;
    end = symbol.value + size;
    return { symbol, length: size / SLOT_BYTES };
  });
}
