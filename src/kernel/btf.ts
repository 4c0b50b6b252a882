/**
 * An object's types for the kernel: BTF as the compiler left it does not load as it stands, and line information
 * points into its strings.
 *
 * What changes, as libbpf does it: hidden functions that were linked as static ones are static in BTF too (so that they
 * are verified inline), the strings of line information are put behind those that are there, and what names kernel
 * functions (the compiler's extern FUNCs and their section) becomes something harmless of the same length. Of an array that clang took
 * apart each variable still has the array's type, and gets its element's. The kernel's check
 * is strict and types are seldom needed; who loads an object goes on without them where the kernel refuses.
 */
import type { Btf } from '../object/btf.ts';
import type { ProgramSpec } from '../object/spec.ts';
import { Attr, Command, closeFd, fixed, fixedCopy, refusal } from './bpf.ts';
import { needBytes } from './check.ts';
import { KernelError } from './errors.ts';
import { objectInfo } from './info.ts';
import { BtfInfo } from './uapi.ts';

const HEADER_BYTES = 24;
const MAGIC = 0xeb9f;
const LOG_BYTES = 1 << 16;
/** Kind and vlen in a type's second word: of a FUNC, vlen is the linkage, and 0 is static. */
const VLEN = 0xffff;

/** Types in the kernel. Owns one file descriptor. */
export class KernelBtf {
  readonly fd: number;
  readonly #strings: ReadonlyMap<string, number>;
  #disposed = false;

  /**
   * @param bytes a `.BTF` section
   * @param strings where strings begin that it holds for line information
   * @throws KernelError `btf_refused` with the kernel's log, `not_permitted` and the like
   */
  constructor(bytes: Uint8Array, strings: ReadonlyMap<string, number> = new Map()) {
    this.#strings = strings;
    const data = fixedCopy(needBytes(bytes, 'a .BTF section'));
    const load = (log?: Uint8Array) =>
      new Attr()
        .pointer(0, data)
        .pointer(8, log)
        .u32(16, data.length)
        .u32(20, log?.length ?? 0)
        .u32(24, log === undefined ? 0 : 1)
        .call(Command.btfLoad);
    const outcome = load();
    if (outcome.value < 0) {
      const log = fixed(LOG_BYTES);
      if (outcome.errno !== 'EPERM') load(log);
      const text = new TextDecoder().decode(log.subarray(0, log.indexOf(0)));
      const last = text.trimEnd().split('\n').at(-1) ?? '';
      const error = refusal('btf_refused', `the types${last === '' ? '' : `: ${last}`}`, outcome, { log: text });
      throw error;
    }
    this.fd = outcome.value;
  }

  /** Where a string of line information is. */
  string(text: string): number {
    return this.#strings.get(text) ?? 0;
  }

  /** What the kernel says of the types. @throws KernelError `info_failed`, `disposed` */
  info(): KernelBtfInfo {
    if (this.#disposed) throw new KernelError('disposed', 'these types were disposed; load them again');
    const info = objectInfo(this.fd, BtfInfo.size, 'the types');
    return { id: info.getUint32(BtfInfo.id, true), bytes: info.getUint32(BtfInfo.bytes, true) };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    closeFd(this.fd);
  }
}

/** Part of struct bpf_btf_info. */
export interface KernelBtfInfo {
  readonly id: number;
  /** Length of the section. */
  readonly bytes: number;
}

/**
 * Loads the types of an object, with the strings of its programs' lines.
 * @throws KernelError as the constructor of KernelBtf
 */
export function loadBtf(btf: Btf, programs: Iterable<ProgramSpec>): KernelBtf {
  const { types, strings: given } = btf.sections();
  const encoder = new TextEncoder();
  const offsets = new Map<string, number>();
  const added: Uint8Array[] = [];
  let end = given.length;
  const view = new DataView(types.buffer, types.byteOffset, types.byteLength);
  for (const { lines, subprograms } of programs) {
    for (const { file, text } of lines) {
      for (const string of [file, text]) {
        if (string === '' || offsets.has(string)) continue;
        const bytes = encoder.encode(`${string}\0`);
        offsets.set(string, end);
        added.push(bytes);
        end += bytes.length;
      }
    }
    for (const { start, linkage, btfId } of subprograms) {
      if (start === 0 || linkage !== 'static' || btfId === undefined) continue;
      const info = btf.typeOffset(btfId) + 4;
      view.setUint32(info, (view.getUint32(info, true) & ~VLEN) >>> 0, true);
    }
  }
  hideExterns(btf, view);
  sizeVariables(btf, view);
  return new KernelBtf(section(types, [given, ...added]), offsets);
}

const KIND_MASK = 0x1f << 24;
const KIND_STRUCT = 4 << 24;
const KIND_TYPEDEF = 8 << 24;

/**
 * The kernel takes no extern functions and variables: a function becomes a typedef of its prototype, a variable an allocated
 * one, the section `.ksyms` a struct with as many members.
 */
function hideExterns(btf: Btf, view: DataView): void {
  const words = (id: number): number => btf.typeOffset(id);
  let int: number | undefined;
  for (let id = 1; id < btf.size; id++) {
    const type = btf.type(id);
    const at = words(id);
    if (type.kind === 'int' && type.size === 4) int ??= id;
    else if (type.kind === 'func' && type.linkage === 'extern') view.setUint32(at + 4, KIND_TYPEDEF, true);
    else if (type.kind === 'var' && type.linkage === 'extern') view.setUint32(at + 12, 1, true);
  }
  for (const id of int === undefined ? [] : btf.findAll('.ksyms', 'datasec')) {
    const at = words(id);
    const info = view.getUint32(at + 4, true);
    const members = info & VLEN;
    // The name of a section is none that a struct may have.
    view.setUint32(at, 0, true);
    view.setUint32(at + 4, (info & ~KIND_MASK) | KIND_STRUCT, true);
    view.setUint32(at + 8, 4 * members, true);
    for (let i = 0; i < members; i++) {
      view.setUint32(at + 12 + 12 * i, 0, true);
      view.setUint32(at + 16 + 12 * i, int!, true);
      view.setUint32(at + 20 + 12 * i, 32 * i, true);
    }
  }
}

/** The kernel wants no variable smaller than its type. */
function sizeVariables(btf: Btf, view: DataView): void {
  for (let id = 1; id < btf.size; id++) {
    const section = btf.type(id);
    if (section.kind !== 'datasec') continue;
    for (const { type, size } of section.variables) {
      const variable = btf.type(type);
      if (variable.kind !== 'var') continue;
      const array = btf.type(variable.type);
      if (array.kind === 'array' && array.length > 1 && btf.sizeOf(array.type) === size)
        view.setUint32(btf.typeOffset(type) + 8, array.type, true);
    }
  }
}

/** A `.BTF` section. */
function section(types: Uint8Array, strings: readonly Uint8Array[]): Uint8Array {
  const stringBytes = strings.reduce((sum, { length }) => sum + length, 0);
  const image = new Uint8Array(HEADER_BYTES + types.length + stringBytes);
  const header = new DataView(image.buffer);
  header.setUint16(0, MAGIC, true);
  image[2] = 1;
  for (const [i, word] of [HEADER_BYTES, 0, types.length, types.length, stringBytes].entries()) {
    header.setUint32(4 + 4 * i, word, true);
  }
  image.set(types, HEADER_BYTES);
  let at = HEADER_BYTES + types.length;
  for (const bytes of strings) {
    image.set(bytes, at);
    at += bytes.length;
  }
  return image;
}

/** Second words of the types that `plainFunctions` writes: their kinds. */
const INT = 1 << 24;
const FUNC = 12 << 24;
const FUNC_PROTO = 13 << 24;
/** A signed int of 32 bits. */
const INT_ENCODING = (1 << 24) | 32;

/**
 * Types for a program that comes without: each function a static one that returns int. The kernel wants to know as much
 * before it lets a subprogram make tail calls or read the packet the old way.
 * @throws KernelError as the constructor of KernelBtf
 */
export function plainFunctions(spec: ProgramSpec): DebugInfo {
  const words = [1, INT, 4, INT_ENCODING, 0, FUNC_PROTO, 1];
  const names: Uint8Array[] = [new TextEncoder().encode('\0int\0')];
  const functions: number[] = [];
  let name = 5;
  for (const [i, { start }] of spec.subprograms.entries()) {
    const text = new TextEncoder().encode(`f${i}\0`);
    words.push(name, FUNC, 2);
    functions.push(start, 3 + i);
    names.push(text);
    name += text.length;
  }
  return {
    btf: new KernelBtf(section(bytesOf(words), names)),
    functions: bytesOf(functions),
    lines: new Uint8Array(0),
  };
}

/** What BPF_PROG_LOAD takes beside the code: which type each function has, which line each instruction. */
export interface DebugInfo {
  readonly btf: KernelBtf;
  /** struct bpf_func_info[] and bpf_line_info[]; the latter possibly empty. */
  readonly functions: Uint8Array;
  readonly lines: Uint8Array;
}

export const FUNCTION_INFO_BYTES = 8;
export const LINE_INFO_BYTES = 16;

/** @returns undefined where not every function's type is known, which the kernel insists on */
export function debugInfo(btf: KernelBtf, spec: ProgramSpec): DebugInfo | undefined {
  const { subprograms, insns } = spec;
  const words: number[] = [];
  for (const { start, btfId } of subprograms) {
    if (btfId === undefined) return undefined;
    words.push(start, btfId);
  }
  if (words.length === 0) return undefined;
  // One line an instruction, in order, none at the second half of a 64-bit load.
  const byInsn = new Map(spec.lines.map(line => [line.insn, line]));
  const lines = [...byInsn.values()]
    .filter(({ insn }) => insn < insns.length && insns[insn]?.kind !== 'wide')
    .sort((a, b) => a.insn - b.insn);
  const complete = subprograms.every(({ start }) => byInsn.has(start));
  const lineWords = complete
    ? lines.flatMap(({ insn, file, line, column, text }) => [
        insn,
        btf.string(file),
        btf.string(text),
        ((line << 10) | (column & 0x3ff)) >>> 0,
      ])
    : [];
  return { btf, functions: bytesOf(words), lines: bytesOf(lineWords) };
}

function bytesOf(words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** Types are an extra: without them programs load, but for those that need them, which the verifier names. */
export function tryLoadBtf(btf: Btf | undefined, programs: Iterable<ProgramSpec>): KernelBtf | undefined {
  if (btf === undefined) return undefined;
  try {
    return loadBtf(btf, programs);
  } catch (error) {
    if (error instanceof KernelError && error.code === 'btf_refused') return undefined;
    throw error;
  }
}
