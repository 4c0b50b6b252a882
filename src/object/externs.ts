/**
 * Names that an object leaves to the kernel: `extern ... __kconfig` and `extern ... __ksym`. There is no kernel behind
 * us, so strong ones are refused by name. Weak ones are what their authors planned for absence: zero. Calls and addresses
 * of kernel functions keep their name, for the verifier to judge: it knows which there are.
 */
import type { Reference } from '../isa/instruction.ts';
import type { Btf } from './btf.ts';
import type { ElfSymbol } from './elf.ts';
import { ObjectError } from './errors.ts';
import type { ObjectFunction } from './functions.ts';
import type { MapSpec } from './spec.ts';

const KCONFIG = '.kconfig';
const BPF_F_RDONLY_PROG = 1 << 7;

export class Externs {
  readonly #btf: Btf | undefined;
  /** Section (`.kconfig`, `.ksyms`) and type of each extern, by name. */
  readonly #known = new Map<string, { readonly section: string; readonly type: number }>();
  readonly #offsets = new Map<string, number>();
  #kconfigSize = 0;

  constructor(btf: Btf | undefined) {
    this.#btf = btf;
    for (const section of [KCONFIG, '.ksyms']) {
      for (const id of btf?.findAll(section, 'datasec') ?? []) {
        const datasec = btf?.type(id);
        if (btf === undefined || datasec?.kind !== 'datasec') continue;
        for (const { type } of datasec.variables) this.#known.set(btf.name(type), { section, type });
      }
    }
  }

  /** Name of the kernel function that a call of an undefined symbol means. */
  kfunc(symbol: ElfSymbol, user: ObjectFunction): string {
    const extern = this.#known.get(symbol.name);
    if (extern === undefined || this.#btf?.kind(extern.type) !== 'func') throw undefinedSymbol(symbol, user);
    return symbol.name;
  }

  /**
   * What the address of an undefined symbol is replaced by: a function's name, a reference into the `.kconfig` map, or
   * undefined for the value 0.
   */
  variable(symbol: ElfSymbol, user: ObjectFunction): Reference | undefined {
    const extern = this.#known.get(symbol.name);
    if (extern === undefined) throw undefinedSymbol(symbol, user);
    if (this.#btf?.kind(extern.type) === 'func') return { type: 'kfunc', name: symbol.name };
    if (symbol.binding !== 'weak') {
      const what = extern.section === KCONFIG ? 'kernel configuration value' : 'kernel symbol';
      throw new ObjectError(
        'unsupported_extern',
        `function ${user.name} needs the ${what} ${symbol.name}; there is no kernel to take it from. Declare it __weak and test for it`,
        { section: user.section.name, symbol: symbol.name, extern: extern.section },
      );
    }
    if (extern.section !== KCONFIG || this.#btf === undefined) return undefined;
    let offset = this.#offsets.get(symbol.name);
    if (offset === undefined) {
      offset = this.#kconfigSize;
      this.#offsets.set(symbol.name, offset);
      this.#kconfigSize += Math.ceil(Math.max(1, this.#btf.sizeOf(extern.type)) / 8) * 8;
    }
    return { type: 'mapValue', map: KCONFIG, offset };
  }

  /** The map of the weak configuration values that programs use, all zero; undefined where there are none. */
  kconfigMap(): MapSpec | undefined {
    if (this.#kconfigSize === 0) return undefined;
    return {
      name: KCONFIG,
      type: 'array',
      keySize: 4,
      valueSize: this.#kconfigSize,
      maxEntries: 1,
      flags: BPF_F_RDONLY_PROG,
      pinning: 'none',
      contents: [],
      dataSection: KCONFIG,
      frozen: true,
    };
  }
}

function undefinedSymbol(symbol: ElfSymbol, user: ObjectFunction): ObjectError {
  return new ObjectError(
    'undefined_symbol',
    `function ${user.name} uses ${symbol.name || 'an unnamed symbol'}, which the object does not define; link the missing object in`,
    { section: user.section.name, symbol: symbol.name },
  );
}
