/**
 * What the kernel runs or compiles, as text: the program after its verifier's rewrites, as BPF_OBJ_GET_INFO_BY_FD gives it.
 *
 * Problem: that is not quite the language that goes in. Calls hold distances from a base address instead of numbers, maps are
 * named by id, and some operations have no encoding that a program may use. Strategy: those forms are told apart by their bytes,
 * everything else is an instruction like any other.
 *
 * Source: include/linux/filter.h, and bpf_insn_prepare_dump in kernel/bpf/syscall.c.
 */

import { readFileSync } from 'node:fs';
import { check } from '../arguments.ts';
import { decode } from '../isa/codec.ts';
import { formatInstruction } from '../isa/disassembler.ts';
import { IsaError } from '../isa/errors.ts';
import type { Instruction, Register } from '../isa/instruction.ts';
import { needBytes } from './check.ts';
import { KernelError } from './errors.ts';

/** How the names of a listing are found; where one is not known the number stands. */
export interface TranslatedNames {
  readonly map?: (id: number) => string | undefined;
  /** Of the function at a distance, in bytes, from what the kernel counts from. */
  readonly functionAt?: (distance: number) => string | undefined;
}

export interface TranslatedInstruction {
  /** Slot of 8 bytes. */
  readonly slot: number;
  readonly text: string;
}

const CALL = 0x85;
const LOAD_IMM64 = 0x18;
const SUBPROGRAM = 1;
const MAP = 1;
const MAP_VALUE = 2;
const TAIL_CALL = 12;
/** BPF_ST | BPF_NOSPEC */
const NO_SPECULATION = 0xc0;
/** BPF_ALU64 | BPF_MOV | BPF_X with this offset: the address of a per-CPU variable becomes that of this CPU's. */
const MOVE = 0xbf;
const PER_CPU = -1;
/** BPF_PROBE_MEM32: loads and stores in an arena; of the mode's three bits. */
const PROBE_ARENA = 0xa0;
const MODE = 0xe0;
const MEM = 0x60;
const CLASS = 0x07;
const LDX = 1;
const STX = 3;
const ST = 2;

/**
 * @param bytes as `KernelProgram.xlated` gives them
 * @throws KernelError `bad_argument` for a length that is no multiple of 8
 * @returns a line an instruction; what is no known form is listed as its bytes
 */
export function listTranslated(bytes: Uint8Array, names: TranslatedNames = {}): TranslatedInstruction[] {
  if (needBytes(bytes, 'a translated program').length % 8 !== 0)
    throw new KernelError('bad_argument', `instructions have 8 bytes each, got ${bytes.length} bytes`);
  check.options({})(names, 'names');
  const listing: TranslatedInstruction[] = [];
  for (let slot = 0; 8 * slot < bytes.length; ) {
    const slots = bytes[8 * slot] === LOAD_IMM64 ? 2 : 1;
    listing.push({ slot, text: text(bytes.slice(8 * slot, 8 * (slot + slots)), names) });
    slot += slots;
  }
  return listing;
}

function text(bytes: Uint8Array, names: TranslatedNames): string {
  const view = new DataView(bytes.buffer);
  const [opcode, registers] = [bytes[0]!, bytes[1]!];
  const [offset, imm] = [view.getInt16(2, true), view.getInt32(4, true)];
  const dst = (registers & 15) as Register;
  const src = registers >> 4;
  if (opcode === NO_SPECULATION) return 'no_speculation';
  if (opcode === CALL) {
    // The distance is in the offset, the immediate says which function it is.
    if (src === SUBPROGRAM) return formatInstruction({ kind: 'callSubprogram', offset });
    if (imm === TAIL_CALL) return 'tail_call';
    return `call ${names.functionAt?.(imm) ?? `kernel function at ${signed(imm)}`}`;
  }
  if (opcode === MOVE && offset === PER_CPU) return `r${dst} = this_cpu(r${src})`;
  if ((opcode & MODE) === PROBE_ARENA && [LDX, ST, STX].includes(opcode & CLASS)) {
    const plain = bytes.slice();
    plain[0] = (opcode & ~MODE) | MEM;
    return `${decoded(plain)} in the arena`;
  }
  if (opcode === LOAD_IMM64 && bytes.length === 16 && (src === MAP || src === MAP_VALUE)) {
    const map = names.map?.(imm >>> 0);
    const value = view.getInt32(12, true);
    if (map === undefined) return `r${dst} = map_id[${imm >>> 0}]${src === MAP_VALUE ? `+${value}` : ''} ll`;
    return formatInstruction({
      kind: 'loadImm64',
      dst,
      value: 0n,
      reference: src === MAP ? { type: 'map', map } : { type: 'mapValue', map, offset: value },
    });
  }
  return decoded(bytes);
}

function decoded(bytes: Uint8Array): string {
  try {
    const insn: Instruction = decode(bytes)[0]!;
    return formatInstruction(insn);
  } catch (error) {
    if (!(error instanceof IsaError)) throw error;
    return `bytes ${[...bytes].map(byte => byte.toString(16).padStart(2, '0')).join(' ')}`;
  }
}

const signed = (value: number): string => (value < 0 ? `-0x${(-value).toString(16)}` : `+0x${value.toString(16)}`);

/** The symbol that the kernel counts distances of calls from. */
const CALL_BASE = '__bpf_call_base';

/** Names by distance; undefined where the kernel hides its addresses. */
export function kernelFunctions(): ((distance: number) => string | undefined) | undefined {
  let symbols: string;
  try {
    symbols = readFileSync('/proc/kallsyms', 'utf8');
  } catch {
    return undefined;
  }
  const names = new Map<bigint, string>();
  let base = 0n;
  for (const [, address, name] of symbols.matchAll(/^([0-9a-f]+) [tTwW] (\S+)/gm)) {
    const at = BigInt(`0x${address}`);
    if (name === CALL_BASE) base = at;
    names.set(at, name!);
  }
  if (base === 0n) return undefined;
  return distance => {
    check.integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)(distance, 'distance');
    return names.get(base + BigInt(distance));
  };
}
