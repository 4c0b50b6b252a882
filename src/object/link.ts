/**
 * Linking: from the functions of an object to whole programs.
 *
 * A program is its own function followed by every function that it calls or takes the address of, in the order in
 * which a depth-first walk meets them (libbpf's order, so that instruction numbers agree with the kernel's). Work is
 * done on encoded instructions: relocations and CO-RE fix-ups change single fields of single slots. The program is
 * decoded at the end, and what the wire cannot say (a map's name) is then put on the decoded instruction.
 *
 * Source: the kernel's Documentation/bpf/llvm_reloc.rst for the relocation types.
 */
import { decode } from '../isa/codec.ts';
import type { Instruction, Reference } from '../isa/instruction.ts';
import type { Btf } from './btf.ts';
import type { BtfExt } from './btf-ext.ts';
import type { Elf, ElfRelocation } from './elf.ts';
import { ObjectError } from './errors.ts';
import type { Externs } from './externs.ts';
import type { FunctionTable, ObjectFunction } from './functions.ts';
import type { MapTable } from './maps.ts';
import type { LineInfo, SubprogramSpec } from './spec.ts';

/** The kernel's limit on the length of one program. */
const MAX_PROGRAM_SLOTS = 1_000_000;
/** On all programs of an object together: each links its own copy of what it calls. */
const MAX_OBJECT_SLOTS = 4_000_000;
const SLOT_BYTES = 8;
const LOAD_IMM64 = 0x18;
const CALL = 0x85;
const PSEUDO_CALL = 1;
const PSEUDO_KFUNC = 2;
const PSEUDO_FUNCTION = 4;

const R_BPF_64_64 = 1;
const R_BPF_64_ABS64 = 2;
const R_BPF_64_ABS32 = 3;
const R_BPF_64_NODYLD32 = 4;
const R_BPF_64_32 = 10;
const RELOCATION_NAMES: Readonly<Record<number, string>> = {
  [R_BPF_64_ABS64]: 'R_BPF_64_ABS64',
  [R_BPF_64_ABS32]: 'R_BPF_64_ABS32',
  [R_BPF_64_NODYLD32]: 'R_BPF_64_NODYLD32',
};

export interface LinkInput {
  readonly elf: Elf;
  readonly btf: Btf | undefined;
  readonly ext: BtfExt;
  readonly functions: FunctionTable;
  readonly maps: MapTable;
  readonly externs: Externs;
  /** Applies the CO-RE relocations of a function to its code. */
  readonly relocateCore: (fn: ObjectFunction, code: Uint8Array) => void;
}

export interface LinkedProgram {
  readonly insns: readonly Instruction[];
  readonly subprograms: readonly SubprogramSpec[];
  readonly lines: readonly LineInfo[];
}

/** What a slot refers to; slots are relative to the function. */
type Target =
  | { readonly kind: 'function'; readonly fn: ObjectFunction }
  | { readonly kind: 'reference'; readonly reference: Reference }
  | { readonly kind: 'kfunc'; readonly name: string };

/** A function's code after relocation, with what is left to do when its place in a program is known. */
interface Fragment {
  readonly fn: ObjectFunction;
  readonly code: Uint8Array;
  readonly targets: ReadonlyMap<number, Target>;
  readonly lines: readonly LineInfo[];
}

export class Linker {
  readonly #input: LinkInput;
  readonly #fragments = new Map<ObjectFunction, Fragment>();
  #slots = 0;

  constructor(input: LinkInput) {
    this.#input = input;
  }

  /** @throws ObjectError for relocations that cannot be applied and code that is no BPF. */
  link(main: ObjectFunction): LinkedProgram {
    const placed = this.#place(main);
    const order = [...placed.keys()];
    const last = order.at(-1);
    const slots = last === undefined ? 0 : (placed.get(last) ?? 0) + last.length;
    this.#slots += slots;
    if (slots > MAX_PROGRAM_SLOTS || this.#slots > MAX_OBJECT_SLOTS) {
      throw new ObjectError(
        'program_too_large',
        `program ${main.name} has ${slots} instructions with all that it calls; at most ${MAX_PROGRAM_SLOTS} are taken, and ${MAX_OBJECT_SLOTS} for all programs of an object`,
        { section: main.section.name, symbol: main.name },
      );
    }
    const bytes = new Uint8Array(slots * SLOT_BYTES);
    const view = new DataView(bytes.buffer);
    const named = new Map<number, Target>();
    const lines: LineInfo[] = [];
    for (const [fn, start] of placed) {
      const fragment = this.#fragment(fn);
      bytes.set(fragment.code, start * SLOT_BYTES);
      for (const [slot, target] of fragment.targets) {
        const at = start + slot;
        if (target.kind === 'function') view.setInt32(at * SLOT_BYTES + 4, placed.get(target.fn)! - at - 1, true);
        else named.set(at, target);
      }
      for (const line of fragment.lines) lines.push({ ...line, insn: line.insn + start });
    }
    return {
      insns: this.#decode(bytes, named, placed),
      subprograms: order.map(fn => ({
        name: fn.name,
        start: placed.get(fn)!,
        linkage: fn.linkage,
        btfId: fn.btfId,
      })),
      lines,
    };
  }

  /** Depth first, without recursion: a hostile object may nest calls as deep as it has functions. */
  #place(main: ObjectFunction): Map<ObjectFunction, number> {
    const placed = new Map<ObjectFunction, number>([[main, 0]]);
    let next = main.length;
    const walk = [this.#callees(main)];
    for (let callees = walk.at(-1); callees !== undefined; callees = walk.at(-1)) {
      const { value: callee, done } = callees.next();
      if (done) {
        walk.pop();
      } else if (!placed.has(callee)) {
        placed.set(callee, next);
        next += callee.length;
        if (next > MAX_PROGRAM_SLOTS) break;
        walk.push(this.#callees(callee));
      }
    }
    return placed;
  }

  *#callees(fn: ObjectFunction): Generator<ObjectFunction, undefined> {
    for (const target of this.#fragment(fn).targets.values()) if (target.kind === 'function') yield target.fn;
  }

  #decode(
    bytes: Uint8Array,
    named: ReadonlyMap<number, Target>,
    placed: ReadonlyMap<ObjectFunction, number>,
  ): readonly Instruction[] {
    let insns: Instruction[];
    try {
      insns = decode(bytes);
    } catch (error) {
      const insn = insnOf(error);
      if (insn === undefined) throw error;
      const [fn, start] = [...placed].findLast(([, first]) => first <= insn)!;
      const offset = (fn.start + insn - start) * SLOT_BYTES;
      throw new ObjectError(
        'bad_instruction',
        `${fn.section.name}+0x${offset.toString(16)}, function ${fn.name}: ${(error as Error).message}`,
        { section: fn.section.name, symbol: fn.name, offset },
        { cause: error },
      );
    }
    for (const [at, target] of named) {
      const insn = insns[at];
      if (target.kind === 'reference' && insn?.kind === 'loadImm64') {
        insns[at] = { ...insn, value: 0n, reference: target.reference };
      } else if (target.kind === 'kfunc' && insn?.kind === 'callKfunc') {
        insns[at] = { ...insn, name: target.name };
      }
    }
    return insns;
  }

  #fragment(fn: ObjectFunction): Fragment {
    let fragment = this.#fragments.get(fn);
    if (fragment === undefined) {
      fragment = this.#relocate(fn);
      this.#fragments.set(fn, fragment);
    }
    return fragment;
  }

  #relocate(fn: ObjectFunction): Fragment {
    const { elf, ext } = this.#input;
    const first = fn.start * SLOT_BYTES;
    const end = first + fn.length * SLOT_BYTES;
    const code = fn.section.data.slice(first, end);
    const view = new DataView(code.buffer);
    this.#input.relocateCore(fn, code);

    const targets = new Map<number, Target>();
    const all = elf.relocations(fn.section);
    for (let i = lowerBound(all, first); i < all.length; i++) {
      const relocation = all[i]!;
      if (relocation.offset >= end) break;
      const at = relocation.offset - first;
      if (at % SLOT_BYTES !== 0) throw bad(fn, relocation, 'it is not at the start of an instruction');
      const slot = at / SLOT_BYTES;
      if (targets.has(slot)) throw bad(fn, relocation, 'its instruction has another relocation');
      const target = this.#target(fn, relocation, view, at);
      if (target !== undefined) targets.set(slot, target);
    }
    this.#localCalls(fn, view, targets);
    const lines = (ext.get(fn.section.name)?.lines ?? [])
      .filter(line => line.insn >= fn.start && line.insn < fn.start + fn.length)
      .map(line => ({ ...line, insn: line.insn - fn.start }));
    return { fn, code, targets: new Map([...targets].sort(([a], [b]) => a - b)), lines };
  }

  /** Calls within a section need no relocation; but linking moves the functions apart. */
  #localCalls(fn: ObjectFunction, view: DataView, targets: Map<number, Target>): void {
    for (let slot = 0; slot < fn.length; slot++) {
      const at = slot * SLOT_BYTES;
      const opcode = view.getUint8(at);
      const source = view.getUint8(at + 1) >> 4;
      const isCall = opcode === CALL && source === PSEUDO_CALL;
      if ((isCall || (opcode === LOAD_IMM64 && source === PSEUDO_FUNCTION)) && !targets.has(slot)) {
        const to = fn.start + slot + 1 + view.getInt32(at + 4, true);
        const callee = this.#input.functions.at(fn.section.index, to);
        if (callee === undefined) {
          throw new ObjectError(
            'bad_relocation',
            `${fn.section.name}: function ${fn.name} calls instruction ${to}, where no function starts`,
            { section: fn.section.name, symbol: fn.name, offset: (fn.start + slot) * SLOT_BYTES },
          );
        }
        targets.set(slot, { kind: 'function', fn: callee });
      }
      if (opcode === LOAD_IMM64) slot++;
    }
  }

  /** Undefined where the relocation is done, with nothing left for later. */
  #target(fn: ObjectFunction, relocation: ElfRelocation, view: DataView, at: number): Target | undefined {
    const { type } = relocation;
    if (type === R_BPF_64_64) return this.#loadTarget(fn, relocation, view, at);
    if (type === R_BPF_64_32) return this.#callTarget(fn, relocation, view, at);
    const name = RELOCATION_NAMES[type];
    if (name !== undefined) throw bad(fn, relocation, `${name} is for data, not for instructions`);
    throw bad(fn, relocation, `type ${type} is no relocation of BPF`);
  }

  #callTarget(fn: ObjectFunction, relocation: ElfRelocation, view: DataView, at: number): Target {
    const { symbol } = relocation;
    if (view.getUint8(at) !== CALL) throw bad(fn, relocation, 'R_BPF_64_32 must be on a call');
    if (symbol.section === 0) {
      const name = this.#input.externs.kfunc(symbol, fn);
      view.setUint8(at + 1, PSEUDO_KFUNC << 4);
      view.setUint16(at + 2, 0, true);
      view.setInt32(at + 4, 0, true);
      return { kind: 'kfunc', name };
    }
    // In place, clang leaves the distance as a call states it: in slots, from the next instruction.
    const addend = relocation.addend ?? (view.getInt32(at + 4, true) + 1) * SLOT_BYTES;
    const callee = this.#functionAt(fn, relocation, symbol.value + addend);
    view.setUint8(at + 1, PSEUDO_CALL << 4);
    return { kind: 'function', fn: callee };
  }

  #loadTarget(fn: ObjectFunction, relocation: ElfRelocation, view: DataView, at: number): Target | undefined {
    const { maps, elf, externs } = this.#input;
    const { symbol } = relocation;
    if (view.getUint8(at) !== LOAD_IMM64 || at + 2 * SLOT_BYTES > view.byteLength) {
      throw bad(fn, relocation, 'R_BPF_64_64 must be on a 64-bit immediate load');
    }
    const dst = view.getUint8(at + 1) & 15;
    const offset = symbol.value + (relocation.addend ?? view.getInt32(at + 4, true));
    const setImm = (source: number): void => {
      view.setUint8(at + 1, (source << 4) | dst);
      view.setInt32(at + 4, 0, true);
      view.setInt32(at + SLOT_BYTES + 4, 0, true);
    };
    if (symbol.section === 0) {
      setImm(0);
      const reference = externs.variable(symbol, fn);
      return reference === undefined ? undefined : { kind: 'reference', reference };
    }
    const section = elf.sections[symbol.section];
    if (section?.executable) {
      setImm(PSEUDO_FUNCTION);
      return { kind: 'function', fn: this.#functionAt(fn, relocation, offset) };
    }
    const place = section === undefined ? undefined : maps.at(section.index, offset);
    if (section === undefined || place === undefined) {
      throw bad(fn, relocation, `${section?.name ?? 'an absolute symbol'} holds neither maps, data nor functions`);
    }
    const { name } = place.spec;
    if (place.address !== undefined) {
      throw new ObjectError(
        'unsupported_relocation',
        `function ${fn.name} uses section ${name}, where ${name}+${place.address.offset} should hold the address of ${place.address.symbol.name}; data maps cannot hold addresses`,
        { section: name, symbol: place.address.symbol.name, offset: place.address.offset },
      );
    }
    setImm(0);
    if (!maps.isDataSection(section.index)) return { kind: 'reference', reference: { type: 'map', map: name } };
    if (offset < 0 || offset > section.size) {
      throw bad(fn, relocation, `offset ${offset} is outside the ${section.size} bytes of ${section.name}`);
    }
    return { kind: 'reference', reference: { type: 'mapValue', map: name, offset } };
  }

  #functionAt(fn: ObjectFunction, relocation: ElfRelocation, offset: number): ObjectFunction {
    const section = this.#input.elf.sections[relocation.symbol.section];
    const callee = section === undefined ? undefined : this.#input.functions.at(section.index, offset / SLOT_BYTES);
    if (callee === undefined) throw bad(fn, relocation, `no function starts at ${section?.name ?? '?'}+${offset}`);
    return callee;
  }
}

function bad(fn: ObjectFunction, relocation: ElfRelocation, why: string): ObjectError {
  return new ObjectError(
    'bad_relocation',
    `relocation of ${fn.section.name}+${relocation.offset} (function ${fn.name}) against ${relocation.symbol.name || 'an unnamed symbol'}: ${why}`,
    { section: fn.section.name, symbol: relocation.symbol.name, offset: relocation.offset },
  );
}

function insnOf(error: unknown): number | undefined {
  const details = error instanceof Error && 'details' in error ? (error.details as Record<string, unknown>) : undefined;
  return typeof details?.insn === 'number' ? details.insn : undefined;
}

function lowerBound(relocations: readonly ElfRelocation[], offset: number): number {
  let low = 0;
  let high = relocations.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (relocations[middle]!.offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
