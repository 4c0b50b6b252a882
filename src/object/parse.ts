/** `parseObject`: an ELF file in, program and map specifications out. Puts the steps in order; each has a file of its own. */
import { type Check, check, isBytes, refuse } from '../arguments.ts';
import { wellFormed } from '../isa/well-formed.ts';
import { Btf, parseBtf } from './btf.ts';
import { type BtfExt, parseBtfExt } from './btf-ext.ts';
import { asMade } from './check.ts';
import { CoreRelocator } from './core.ts';
import { type Elf, type ElfSymbol, elfSection, readElf } from './elf.ts';
import { ObjectError } from './errors.ts';
import { Externs } from './externs.ts';
import { type FunctionTable, readFunctions } from './functions.ts';
import { Kconfig } from './kconfig.ts';
import { Linker } from './link.ts';
import { readMaps, type TailProgram } from './maps.ts';
import { type ProgramKind, programSection, tailSection } from './sections.ts';
import type { Collection, ProgramSpec, UnsupportedProgram } from './spec.ts';

export interface ParseOptions {
  /**
   * Types that CO-RE relocations are resolved against: parsed BTF, raw BTF bytes (`/sys/kernel/btf/vmlinux`), or an
   * ELF file with a `.BTF` section. Only objects with such relocations need it.
   */
  readonly targetBtf?: Btf | Uint8Array;
  /**
   * Text of a kernel's configuration (`CONFIG_HZ=1000` and the like, as in `/boot/config-*`), for `extern ... __kconfig`. Without it only
   * weak ones, which are 0 then, and `LINUX_KERNEL_VERSION`, which is that of Linux 6.18.0, are known.
   */
  readonly kconfig?: string;
  /**
   * Leave programs of types that Switchyard does not run out of the collection, and list them in
   * `collection.unsupported`. By default the first of them is an error, so that nothing goes missing unnoticed.
   */
  readonly skipUnsupported?: boolean;
}

const btfOrBytes: Check = (value, name) => {
  if (!(value instanceof Btf) && !isBytes(value)) refuse(name, 'BTF: parsed, or a Uint8Array', value);
};

/**
 * Reads a BPF object as clang, libbpf's tools, cilium and aya emit them.
 *
 * Programs are complete: called functions linked in, maps referenced by name, CO-RE relocations applied. A program
 * whose CO-RE relocation found no match calls the helper 195896080 (0xbad2310) there, as with libbpf: legal where no
 * path reaches it.
 *
 * @param bytes the whole file. Not kept, not changed.
 * @throws ObjectError for anything that is corrupt, contradictory or not supported; its details name section and symbol.
 */
export function parseObject(bytes: Uint8Array, options: ParseOptions = {}): Collection {
  check.bytes(bytes, 'bytes');
  check.options({ targetBtf: btfOrBytes, kconfig: check.string, skipUnsupported: check.boolean })(options, 'options');
  const elf = readElf(bytes);
  const btf = readBtf(elf);
  const ext = readBtfExt(elf, btf);
  const license = readLicense(elf);
  const functions = readFunctions(elf, btf, ext);
  const { programs: kinds, unsupported } = programKinds(functions, options.skipUnsupported ?? false);
  const table = readMaps(elf, btf, programAt(functions), tailPrograms(functions));
  const externs = new Externs(btf, new Kconfig(options.kconfig));
  const target = targetBtf(options.targetBtf);
  const core = new CoreRelocator(ext, btf, target);
  const linker = new Linker({
    elf,
    btf,
    ext,
    functions,
    maps: table,
    externs,
    relocateCore: (fn, code) => core.relocate(fn, code),
  });

  const programs = new Map<string, ProgramSpec>();
  for (const fn of functions.functions) {
    const kind = kinds.get(fn.section.name);
    if (!fn.isProgram || kind === undefined) continue;
    if (programs.has(fn.name)) {
      throw new ObjectError('duplicate_name', `two programs are called ${fn.name}`, {
        section: fn.section.name,
        symbol: fn.name,
      });
    }
    const linked = linker.link(fn);
    const types = { btf, ...(target === undefined ? {} : { targetBtf: target }) };
    wellFormed(linked.insns);
    programs.set(fn.name, asMade({ name: fn.name, section: fn.section.name, ...kind, ...linked, license, ...types }));
  }
  const maps = new Map(table.maps);
  const kconfig = externs.kconfigMap();
  if (kconfig !== undefined) maps.set(kconfig.name, kconfig);
  for (const map of maps.values()) asMade(map);
  return asMade({ programs, maps, license, btf, ...(unsupported.length === 0 ? {} : { unsupported }) });
}

function readBtf(elf: Elf): Btf | undefined {
  const section = elf.section('.BTF');
  if (section === undefined || section.data.length === 0) return undefined;
  const offsets = new Map<string, number>();
  for (const symbol of elf.symbols) {
    if (symbol.section > 0 && symbol.binding !== 'local') {
      offsets.set(`${elf.sections[symbol.section]?.name}\0${symbol.name}`, symbol.value);
    }
  }
  return parseBtf(section.data, {
    size: name => elf.section(name)?.size,
    offset: (name, variable) => offsets.get(`${name}\0${variable}`),
  });
}

function readBtfExt(elf: Elf, btf: Btf | undefined): BtfExt {
  const section = elf.section('.BTF.ext');
  if (btf === undefined || section === undefined || section.data.length === 0) return new Map();
  return parseBtfExt(section.data, btf);
}

function readLicense(elf: Elf): string {
  const data = elf.section('license')?.data ?? new Uint8Array();
  const end = data.indexOf(0);
  return new TextDecoder().decode(end < 0 ? data : data.subarray(0, end));
}

/** What each code section's name means. */
function programKinds(
  functions: FunctionTable,
  skip: boolean,
): { programs: ReadonlyMap<string, ProgramKind>; unsupported: readonly UnsupportedProgram[] } {
  const programs = new Map<string, ProgramKind>();
  const unsupported: UnsupportedProgram[] = [];
  for (const { name, section, isProgram } of functions.functions) {
    if (!isProgram || tailSection(section.name) !== undefined) continue;
    const meaning = programSection(section.name);
    if (meaning?.supported) {
      programs.set(section.name, meaning.kind);
      continue;
    }
    if (!skip) {
      throw new ObjectError(
        meaning === undefined ? 'unknown_program_section' : 'unsupported_program_type',
        meaning === undefined
          ? `program ${name}: the section name ${section.name} stands for no program type; use "xdp", "tc", "cgroup_skb/ingress", "socket", "raw" or the like`
          : `program ${name} (section ${section.name}) is of type ${meaning.kernelType}, which Switchyard does not run`,
        { section: section.name, symbol: name, kernelType: meaning?.kernelType },
      );
    }
    unsupported.push({ name, section: section.name, kernelType: meaning?.kernelType });
  }
  const tails = functions.functions.filter(fn => fn.isProgram && tailSection(fn.section.name) !== undefined);
  const [kind, ...others] = new Map([...programs.values()].map(each => [each.type, each])).values();
  for (const { name, section } of tails) {
    if (kind === undefined || others.length > 0) {
      throw new ObjectError(
        'unknown_program_section',
        `program ${name}: section ${section.name} makes it a tail-call target of the type of its callers, but the object has ${kind === undefined ? 'no other program' : 'programs of several types'}`,
        { section: section.name, symbol: name },
      );
    }
    programs.set(section.name, kind);
  }
  return { programs, unsupported };
}

function tailPrograms(functions: FunctionTable): TailProgram[] {
  return functions.functions.flatMap(({ name, section, isProgram }) => {
    const tail = isProgram ? tailSection(section.name) : undefined;
    return tail === undefined ? [] : [{ ...tail, program: name }];
  });
}

function programAt(functions: FunctionTable): (symbol: ElfSymbol, offset: number) => string | undefined {
  return (symbol, offset) => {
    const fn = functions.at(symbol.section, offset / 8);
    return fn?.isProgram ? fn.name : undefined;
  };
}

/** Also where no relocation needs it: what was given is looked at. */
function targetBtf(given: Btf | Uint8Array | undefined): Btf | undefined {
  if (!(given instanceof Uint8Array)) return given;
  const isElf = given.length > 4 && given[0] === 0x7f && given[1] === 0x45;
  if (!isElf) return parseBtf(given);
  const section = elfSection(given, '.BTF');
  if (section === undefined) {
    throw new ObjectError(
      'bad_btf',
      'the target BTF is an ELF file without a .BTF section; give raw BTF or an ELF file that has one',
    );
  }
  return parseBtf(section);
}
