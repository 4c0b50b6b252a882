/**
 * The interpreter's own form of a program, built once when the program is first run.
 *
 * Problem: a switch over `Instruction` objects chases pointers and compares strings. Strategy: one Int32Array with
 * eight words for each slot, so that slot numbers stay what they are everywhere else:
 *
 *     word 0      1    2               3        4         5                 6
 *          op     dst  src (-1: imm)   immLow   immHigh   offset / target   extra
 *
 * A jump's `target` is an absolute slot. A source operand is `src >= 0 ? register : imm`, with the immediate already
 * sign-extended to 64 bits, so that each operation needs one case and not two. `extra` is an index into `callees` or
 * `atomics`, or the callee's stack depth.
 *
 * Invariants: every target lies within the program and on no `wide` marker; behind the last slot follows a trap, so
 * the loop needs no bounds check of its own.
 */
import type { Atomic, Instruction, Reference, Size } from '../isa/instruction.ts';
import type { Lowered } from '../lowering/lowered.ts';
import { InterpreterError } from './errors.ts';
import { functionAddress } from './function-address.ts';
import { highHalf, lowHalf } from './int64.ts';
import type { LinkedProgram } from './linked-program.ts';
import { Op } from './opcodes.ts';

/** log2 of the words for each slot. */
export const SLOT_SHIFT = 3;

export interface Decoded {
  readonly program: LinkedProgram;
  readonly words: Int32Array;
  /** Slots of the program; the trap is at this slot. */
  readonly length: number;
  /** Frame size of the main program, bytes, a multiple of 16. */
  readonly stackDepth: number;
  /** Frame size by first slot of each subprogram. */
  readonly stackDepths: ReadonlyMap<number, number>;
  /** Names of routines and services, by `extra`. */
  readonly names: readonly string[];
  /** Decoded routines by `extra`, filled in when first called. */
  readonly routines: (Decoded | undefined)[];
  readonly atomics: readonly Atomic[];
}

interface Output {
  readonly words: Int32Array;
  readonly names: string[];
  readonly nameIndex: Map<string, number>;
  readonly atomics: Atomic[];
}

/** @throws InterpreterError `not_lowered`, `bad_target` or `unknown_map`. */
export function decode(program: LinkedProgram): Decoded {
  const { lowered } = program;
  const { insns } = lowered;
  const stackDepths = new Map<number, number>();
  for (const subprogram of lowered.subprograms) stackDepths.set(subprogram.start, roundTo16(subprogram.stackDepth));
  const output: Output = {
    words: new Int32Array((insns.length + 1) << SLOT_SHIFT),
    names: [],
    nameIndex: new Map(),
    atomics: [],
  };
  for (let slot = 0; slot < insns.length; slot++) decodeSlot(program, insns[slot]!, slot, stackDepths, output);
  output.words[insns.length << SLOT_SHIFT] = Op.trap;
  return {
    program,
    words: output.words,
    length: insns.length,
    stackDepth: stackDepths.get(0) ?? 0,
    stackDepths,
    names: output.names,
    routines: [],
    atomics: output.atomics,
  };
}

function decodeSlot(
  program: LinkedProgram,
  insn: Instruction,
  slot: number,
  stackDepths: ReadonlyMap<number, number>,
  output: Output,
): void {
  const { lowered } = program;
  switch (insn.kind) {
    case 'alu': {
      const op = insn.width === 64 ? ALU64[insn.op] : ALU32[insn.op];
      emit(output, slot, op, insn.dst, insn.src, insn.imm);
      return;
    }
    case 'movsx':
      emit(output, slot, insn.width === 64 ? MOVSX64[insn.from] : MOVSX32[insn.from], insn.dst, insn.src);
      return;
    case 'byteswap': {
      const op = insn.order === 'le' ? TRUNCATE[insn.size] : SWAP[insn.size];
      emit(output, slot, op, insn.dst);
      return;
    }
    case 'loadImm64': {
      const value = insn.reference === undefined ? insn.value : resolve(program, insn.reference, slot);
      emit(output, slot, Op.loadImm64, insn.dst, undefined, lowHalf(value));
      output.words[(slot << SLOT_SHIFT) + 4] = highHalf(value);
      return;
    }
    case 'aluAddress': {
      const address = resolve(program, insn.reference, slot);
      emit(output, slot, (insn.width === 64 ? ALU64 : ALU32)[insn.op], insn.dst, undefined, lowHalf(address));
      output.words[(slot << SLOT_SHIFT) + 4] = highHalf(address);
      return;
    }
    case 'load':
      emit(output, slot, insn.signed ? LOAD_SIGNED[insn.size] : LOAD[insn.size], insn.dst, insn.src, 0, insn.offset);
      return;
    case 'store':
      emit(output, slot, STORE[insn.size], insn.dst, insn.src, insn.imm, insn.offset);
      return;
    case 'atomic': {
      output.atomics.push(insn);
      emit(output, slot, Op.atomic, insn.dst, insn.src, 0, insn.offset, output.atomics.length - 1);
      return;
    }
    case 'jump': {
      const op = insn.width === 64 ? JUMP64[insn.op] : JUMP32[insn.op];
      emit(output, slot, op, insn.dst, insn.src, insn.imm, targetOf(lowered, slot, insn.offset));
      return;
    }
    case 'goto':
      emit(output, slot, Op.goto, 0, undefined, 0, targetOf(lowered, slot, insn.offset));
      return;
    case 'callSubprogram': {
      const target = targetOf(lowered, slot, insn.offset);
      const depth = stackDepths.get(target);
      if (depth === undefined) throw badTarget(lowered, slot, target, 'a call must lead to the start of a subprogram');
      emit(output, slot, Op.callSubprogram, 0, undefined, 0, target, depth);
      return;
    }
    case 'exit':
      emit(output, slot, Op.exit);
      return;
    case 'wide':
      emit(output, slot, Op.trap);
      return;
    case 'tailCall':
      emit(output, slot, Op.tailCall, 0, undefined, insn.imm | 0);
      return;
    case 'runContext':
      emit(output, slot, Op.runContext, insn.dst);
      return;
    case 'loadFence':
      // One thread: on to the next instruction.
      emit(output, slot, Op.goto, 0, undefined, 0, targetOf(lowered, slot, 0));
      return;
    case 'callRoutine':
      emit(output, slot, Op.callRoutine, 0, undefined, 0, 0, nameIndexOf(output, insn.routine));
      return;
    case 'callService':
      emit(output, slot, Op.callService, 0, undefined, 0, 0, nameIndexOf(output, insn.service));
      return;
    case 'callIndirect':
      emit(output, slot, Op.callIndirect, 0, insn.register);
      return;
    case 'addrSpaceCast':
    case 'packetLoad':
    case 'mayGoto':
    case 'callHelper':
    case 'callKfunc':
      throw new InterpreterError(
        'not_lowered',
        `program "${lowered.name}" has an instruction of kind ${insn.kind} at ${slot}; lower() the program first`,
        { program: lowered.name, insn: slot, kind: insn.kind },
      );
  }
}

function emit(
  output: Output,
  slot: number,
  op: number,
  dst = 0,
  src: number | undefined = undefined,
  imm = 0,
  offset = 0,
  extra = 0,
): void {
  const { words } = output;
  const at = slot << SLOT_SHIFT;
  words[at] = op;
  words[at + 1] = dst;
  words[at + 2] = src ?? -1;
  words[at + 3] = imm;
  words[at + 4] = imm >> 31;
  words[at + 5] = offset;
  words[at + 6] = extra;
}

function nameIndexOf(output: Output, name: string): number {
  let index = output.nameIndex.get(name);
  if (index === undefined) {
    index = output.names.push(name) - 1;
    output.nameIndex.set(name, index);
  }
  return index;
}

function resolve(program: LinkedProgram, reference: Reference, slot: number): bigint {
  const { lowered } = program;
  switch (reference.type) {
    case 'mapAddress':
      return mapAddress(program.mapAddresses, reference.index, lowered, slot);
    case 'mapValueAddress':
      return mapAddress(program.mapValueAddresses, reference.index, lowered, slot) + BigInt(reference.offset);
    case 'function': {
      const target = targetOf(lowered, slot, reference.offset);
      return functionAddress(program.id, target);
    }
    default:
      throw new InterpreterError(
        'not_lowered',
        `program "${lowered.name}" loads a reference of type ${reference.type} at ${slot}; lower() the program first`,
        { program: lowered.name, insn: slot, reference: reference.type },
      );
  }
}

function mapAddress(addresses: readonly bigint[], index: number, lowered: Lowered, slot: number): bigint {
  const address = addresses[index];
  if (address === undefined) {
    throw new InterpreterError(
      'unknown_map',
      `program "${lowered.name}" refers to used map ${index} at ${slot}, but it was linked with ${addresses.length} maps`,
      { program: lowered.name, insn: slot, index },
    );
  }
  return address;
}

function targetOf(lowered: Lowered, slot: number, offset: number): number {
  const target = slot + 1 + offset;
  const insn = lowered.insns[target];
  if (insn === undefined || insn.kind === 'wide') {
    throw badTarget(lowered, slot, target, 'expected an instruction of the program');
  }
  return target;
}

function badTarget(lowered: Lowered, slot: number, target: number, expected: string): InterpreterError {
  return new InterpreterError(
    'bad_target',
    `program "${lowered.name}": the jump or call at ${slot} leads to slot ${target} of ${lowered.insns.length}; ${expected}`,
    { program: lowered.name, insn: slot, target },
  );
}

function roundTo16(bytes: number): number {
  return (bytes + 15) & ~15;
}

const ALU64 = {
  add: Op.add64,
  sub: Op.sub64,
  mul: Op.mul64,
  div: Op.div64,
  sdiv: Op.sdiv64,
  mod: Op.mod64,
  smod: Op.smod64,
  or: Op.or64,
  and: Op.and64,
  xor: Op.xor64,
  lsh: Op.lsh64,
  rsh: Op.rsh64,
  arsh: Op.arsh64,
  neg: Op.neg64,
  mov: Op.mov64,
} as const;
const ALU32 = {
  add: Op.add32,
  sub: Op.sub32,
  mul: Op.mul32,
  div: Op.div32,
  sdiv: Op.sdiv32,
  mod: Op.mod32,
  smod: Op.smod32,
  or: Op.or32,
  and: Op.and32,
  xor: Op.xor32,
  lsh: Op.lsh32,
  rsh: Op.rsh32,
  arsh: Op.arsh32,
  neg: Op.neg32,
  mov: Op.mov32,
} as const;
const JUMP64 = {
  eq: Op.jeq64,
  ne: Op.jne64,
  gt: Op.jgt64,
  ge: Op.jge64,
  lt: Op.jlt64,
  le: Op.jle64,
  sgt: Op.jsgt64,
  sge: Op.jsge64,
  slt: Op.jslt64,
  sle: Op.jsle64,
  set: Op.jset64,
} as const;
const JUMP32 = {
  eq: Op.jeq32,
  ne: Op.jne32,
  gt: Op.jgt32,
  ge: Op.jge32,
  lt: Op.jlt32,
  le: Op.jle32,
  sgt: Op.jsgt32,
  sge: Op.jsge32,
  slt: Op.jslt32,
  sle: Op.jsle32,
  set: Op.jset32,
} as const;
const MOVSX64 = { 8: Op.movsx64From8, 16: Op.movsx64From16, 32: Op.movsx64From32 } as const;
const MOVSX32 = { 8: Op.movsx32From8, 16: Op.movsx32From16, 32: Op.mov32 } as const;
/** "le" on a little-endian host only truncates. */
const TRUNCATE = { 16: Op.truncate16, 32: Op.truncate32, 64: Op.nop } as const;
const SWAP = { 16: Op.swap16, 32: Op.swap32, 64: Op.swap64 } as const;
const LOAD: Record<Size, number> = { 1: Op.loadU8, 2: Op.loadU16, 4: Op.loadU32, 8: Op.load64 };
const LOAD_SIGNED: Record<Size, number> = { 1: Op.loadS8, 2: Op.loadS16, 4: Op.loadS32, 8: Op.load64 };
const STORE: Record<Size, number> = { 1: Op.store8, 2: Op.store16, 4: Op.store32, 8: Op.store64 };
