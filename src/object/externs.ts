/**
 * Names that an object leaves to the kernel: `extern ... __kconfig` and `extern ... __ksym`. There is no kernel behind
 * us, so configuration values are those of a configuration that is given (`kconfig.ts`), and other strong ones are refused by name. Weak ones
 * are what their authors planned for absence: zero. Calls and addresses of kernel functions keep their name, for the verifier to
 * judge: it knows which there are.
 */
import type { Reference } from '../isa/instruction.ts';
import type { Btf } from './btf.ts';
import type { ElfSymbol } from './elf.ts';
import { ObjectError } from './errors.ts';
import type { ObjectFunction } from './functions.ts';
import type { Kconfig } from './kconfig.ts';
import type { MapSpec } from './spec.ts';

const KCONFIG = '.kconfig';
const BPF_F_RDONLY_PROG = 1 << 7;

export class Externs {
  readonly #btf: Btf | undefined;
  /** Section (`.kconfig`, `.ksyms`) and type of each extern, by name. */
  readonly #known = new Map<string, { readonly section: string; readonly type: number }>();
  readonly #kconfig: Kconfig;
  readonly #offsets = new Map<string, number>();
  /** Of configuration values that are not zero, by offset. */
  readonly #values = new Map<number, Uint8Array>();
  #kconfigSize = 0;

  constructor(btf: Btf | undefined, kconfig: Kconfig) {
    this.#btf = btf;
    this.#kconfig = kconfig;
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
    const configured = extern.section === KCONFIG;
    let offset = configured ? this.#offsets.get(symbol.name) : undefined;
    if (offset === undefined) {
      const value = configured && this.#btf ? this.#kconfig.bytes(symbol.name, extern.type, this.#btf) : undefined;
      if (value === undefined && symbol.binding !== 'weak') throw this.#unresolved(symbol, user, extern.section);
      if (!configured || this.#btf === undefined) return undefined;
      offset = this.#kconfigSize;
      this.#offsets.set(symbol.name, offset);
      if (value?.some(byte => byte !== 0)) this.#values.set(offset, value);
      this.#kconfigSize += Math.ceil(Math.max(1, this.#btf.sizeOf(extern.type)) / 8) * 8;
    }
    return { type: 'mapValue', map: KCONFIG, offset };
  }

  #unresolved(symbol: ElfSymbol, user: ObjectFunction, section: string): ObjectError {
    const details = { section: user.section.name, symbol: symbol.name, extern: section };
    if (section !== KCONFIG)
      return new ObjectError(
        'unsupported_extern',
        `function ${user.name} needs the kernel symbol ${symbol.name}; there is no kernel to take it from. Declare it __weak and test for it`,
        details,
      );
    return new ObjectError(
      this.#kconfig.given ? 'unsupported_extern' : 'kconfig_missing',
      `function ${user.name} needs the kernel configuration value ${symbol.name}; ${this.#kconfig.given ? 'the configuration that was given does not set it' : 'give a configuration that it is taken from'}, or declare it __weak`,
      details,
    );
  }

  /** The map of the configuration values that programs use, zero where they are not known; undefined where there are none. */
  kconfigMap(): MapSpec | undefined {
    if (this.#kconfigSize === 0) return undefined;
    const value = new Uint8Array(this.#kconfigSize);
    for (const [offset, bytes] of this.#values) value.set(bytes, offset);
    return {
      name: KCONFIG,
      type: 'array',
      keySize: 4,
      valueSize: this.#kconfigSize,
      maxEntries: 1,
      flags: BPF_F_RDONLY_PROG,
      pinning: 'none',
      contents: this.#values.size === 0 ? [] : [{ key: 0, value }],
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
