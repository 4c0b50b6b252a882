/**
 * Tail calls that cost least: frames and call sites of 'fast' mode.
 *
 * Problem: what a hop costs once its target is cached is the count, which is loaded, compared and stored through a
 * pointer, and the frame, which is taken down only to be built again by the target.
 * Strategy: the count lives in r9 from the entry of a run to its end; trusted routines do not use that register, and
 * service thunks keep it over host functions. All functions that a hop can leave or reach have one and the same frame:
 *
 *     [rbp + 8]        return address
 *     [rbp]            caller's rbp; r10 = rbp
 *     [rbp - 512]      BPF stack, its size whatever the program uses
 *     [rbp - 544]      the caller's rbx, r13, r14, r15; rsp = rbp - 544 but for calls
 *
 * so a hop leaves rbp, rsp and the saved registers as they are: the target uses the frame that it finds, and its exit
 * restores what the function that built the frame was entered with. That is a program at its first entry, or a subprogram
 * that makes tail calls itself. Other subprograms have ordinary frames and are never hopped from or to.
 *
 * r9 holds, negative, the number of tail calls that are left, as a signed 64-bit number: it goes up by one for each populated
 * slot, so that its sign says whether one may be made, and goes with other signs into one test. A call that is refused may
 * leave it above zero, and nobody can tell that from zero.
 * Each first entry of a program sets it; so does the way in for callbacks, which gives the caller its own count back.
 *
 * Order of the checks: index in range, then slot and limit in whatever order. Which check refuses a call makes no difference to
 * the program; the count changes only where the slot is populated. Where empty slots lead to the miss stub, that takes the call
 * off the count again.
 *
 * Programs compiled so can't hop to or be reached from programs with the frames of frame.ts.
 */

import type { TailCallIndex } from '../../lowering/lowered.ts';
import { MapHeader, ProgArrayLayout } from '../../memory/layout.ts';
import { CodeBuffer, type Label } from '../shared/code-buffer.ts';
import { type FunctionShape, MAX_TAIL_CALLS, type PokeLabels } from '../shared/compile.ts';
import { CompileError } from '../shared/errors.ts';
import { PATCH_WORD_BYTES } from '../shared/patch-word.ts';
import { Condition, fillWithNops, jumpIf, loadAddress, near, nop } from './branches.ts';
import { fitsInt8 } from './emit-alu.ts';
import { encode, type Memory } from './encodings.ts';
import { PATCH_BYTES } from './patch.ts';
import { CALLEE_SAVED, machineRegister, RBP, RCX, RDX, RSI, RSP, SCRATCH, TAIL_CALLS_LEFT } from './registers.ts';

/**
 * Bytes from a program's entry to its tail-call entry: nop, frame, count, and as many nops as put the entry on a cache line
 * of its own, so that a hop that misses the instruction cache fetches as few lines as its program allows.
 */
export const FAST_PROLOGUE_OFFSET = 64;
/** 5-byte nop, push, mov, sub, four pushes, mov. */
const FIRST_ENTRY_BYTES = 30;
/** BPF stack of every frame that a hop leaves or reaches. */
const HOP_STACK_BYTES = 512;
/** Largest `maxTailCalls`. */
const LARGEST_LIMIT = 1 << 20;
const POINTER_BYTES = 8;
const MISS_STUB_BYTES = 64;

export interface FastFrame {
  readonly kind: FunctionShape['kind'];
  readonly counts: boolean;
  /** The frame that all hops share. */
  readonly hops: boolean;
  /** BPF stack, bytes. */
  readonly depth: number;
  /** Machine registers to keep, in push order. */
  readonly saved: readonly ReturnType<typeof machineRegister>[];
}

/** @throws CompileError bad_input */
export function checkLimit(limit: number): void {
  if (Number.isInteger(limit) && limit >= 1 && limit <= LARGEST_LIMIT) return;
  throw new CompileError('bad_input', `maxTailCalls must be an integer from 1 to ${LARGEST_LIMIT}, got ${limit}`, {
    maxTailCalls: limit,
  });
}

/**
 * @param limit tail calls in one run
 * @throws CompileError bad_input for a function that can't have the common frame
 */
export function fastFrame({ kind, stackDepth, used, counts, insns }: FunctionShape, limit: number): FastFrame {
  const hops = kind === 'main' || insns.some(insn => insn.kind === 'tailCall');
  if (!hops) {
    const saved = CALLEE_SAVED.filter(register => used.has(register)).map(machineRegister);
    return { kind, counts, hops, depth: stackDepth, saved };
  }
  if (stackDepth > HOP_STACK_BYTES) {
    throw new CompileError(
      'bad_input',
      `a function states a stack of ${stackDepth} bytes; with tail calls it may have ${HOP_STACK_BYTES}`,
      { stackDepth },
    );
  }
  if (kind === 'subprogram' && limit > MAX_TAIL_CALLS) {
    throw new CompileError(
      'bad_input',
      `a subprogram makes tail calls, each of which can deepen the stack; maxTailCalls can be ${MAX_TAIL_CALLS} at most, not ${limit}`,
      { maxTailCalls: limit },
    );
  }
  return { kind, counts, hops, depth: HOP_STACK_BYTES, saved: CALLEE_SAVED.map(machineRegister) };
}

export function emitFastPrologue(buffer: CodeBuffer, frame: FastFrame, limit: number, tailCallEntry: () => void): void {
  // Room for a tracer's call, as in frame.ts.
  nop(buffer, 5);
  encode(buffer, 'push r64', 32, RBP);
  encode(buffer, 'mov rm, r', 64, RBP, RSP);
  if (frame.depth > 0) {
    encode(buffer, fitsInt8(frame.depth) ? 'sub rm, imm8' : 'sub rm, imm32', 64, RSP, 0, frame.depth);
  }
  for (const register of frame.saved) encode(buffer, 'push r64', 32, register);
  if (frame.kind === 'main') {
    emitSetCount(buffer, limit);
    fill(buffer, FAST_PROLOGUE_OFFSET - FIRST_ENTRY_BYTES);
  }
  tailCallEntry();
}

export function emitFastExit(buffer: CodeBuffer, frame: FastFrame): void {
  for (const register of [...frame.saved].reverse()) encode(buffer, 'pop r64', 32, register);
  encode(buffer, 'leave', 32);
  encode(buffer, 'ret', 32);
}

/** How a callback that can reach a tail call is entered through its address. */
export function emitCallbackEntry(buffer: CodeBuffer, limit: number, entry: Label): void {
  encode(buffer, 'push r64', 32, TAIL_CALLS_LEFT);
  emitSetCount(buffer, limit);
  near(buffer, 0xe8, entry);
  encode(buffer, 'pop r64', 32, TAIL_CALLS_LEFT);
  encode(buffer, 'ret', 32);
}

function fill(buffer: CodeBuffer, count: number): void {
  const bytes = new Uint8Array(count);
  fillWithNops(bytes, 0, count);
  for (const byte of bytes) buffer.u8(byte);
}

function emitSetCount(buffer: CodeBuffer, limit: number): void {
  encode(buffer, 'mov rm, imm32', 64, TAIL_CALLS_LEFT, 0, -limit);
}

/** Emitted as for an empty slot: `target` leads to where the call that did not happen is taken off the count again. */
export function emitFastDirectTailCall(buffer: CodeBuffer, _frame: FastFrame, out: Label): PokeLabels {
  encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  jumpIf(buffer, Condition.greater, out);
  const empty = buffer.label();
  buffer.keepWithinWord(PATCH_BYTES, PATCH_WORD_BYTES, fillWithNops);
  const target = buffer.here();
  near(buffer, 0xe9, empty);
  buffer.bind(empty);
  encode(buffer, 'sub rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  return { target, out: empty };
}

/**
 * To the tail-call entry that `slot` holds, if range, limit and slot let it; rdx and rsi are kept.
 * @param size what rdx, its upper half zero, has to be below; undefined where that is known
 */
export type EmitHop = (buffer: CodeBuffer, slot: Memory, size: number | undefined, out: Label) => void;

/** @param maxEntries of the one prog array that reaches the site, which rsi therefore points to */
export function emitFastStaticTailCall(
  buffer: CodeBuffer,
  hop: EmitHop,
  out: Label,
  maxEntries: number,
  index: TailCallIndex | undefined,
): void {
  if (index?.narrow !== true) encode(buffer, 'mov rm, r', 32, RDX, RDX);
  const displacement = ProgArrayLayout.ptrs + maxEntries * POINTER_BYTES;
  const proved = index !== undefined && index.max < maxEntries;
  hop(buffer, { base: RSI, index: RDX, scale: POINTER_BYTES, displacement }, proved ? undefined : maxEntries, out);
}

/** Which array it is shows at run time only; where its cached targets start follows from its size, which is read. */
export function emitFastDynamicTailCall(buffer: CodeBuffer, hop: EmitHop, out: Label): void {
  encode(buffer, 'mov rm, r', 32, RDX, RDX);
  encode(buffer, 'mov r, rm', 32, { base: RSI, displacement: MapHeader.maxEntries }, RCX);
  encode(buffer, 'cmp rm, r', 32, RDX, RCX);
  jumpIf(buffer, Condition.aboveOrEqual, out);
  encode(buffer, 'add rm, r', 64, RCX, RDX);
  const displacement = ProgArrayLayout.ptrs;
  hop(buffer, { base: RSI, index: RCX, scale: POINTER_BYTES, displacement }, undefined, out);
}

/**
 * Empty slots hold 0. One branch asks for slot and limit: what limits short hops is how many branches a processor
 * predicts in a cycle. Addresses are below 2^47, so -target is negative unless the slot is empty, and r9 unless the limit is reached.
 */
export function emitHopOrTest(buffer: CodeBuffer, slot: Memory, size: number | undefined, out: Label): void {
  if (size !== undefined) {
    encode(buffer, fitsInt8(size) ? 'cmp rm, imm8' : 'cmp rm, imm32', 32, RDX, 0, size);
    jumpIf(buffer, Condition.aboveOrEqual, out);
  }
  encode(buffer, 'mov r, rm', 64, slot, RCX);
  encode(buffer, 'mov rm, r', 64, SCRATCH, RCX);
  encode(buffer, 'neg rm', 64, SCRATCH);
  encode(buffer, 'and rm, r', 64, SCRATCH, TAIL_CALLS_LEFT);
  jumpIf(buffer, Condition.notSign, out);
  encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  encode(buffer, 'jmp rm64', 32, RCX);
}

/**
 * Empty slots hold the address of the miss stub, which finds in r11 where the call falls through: nobody looks at the slot. One
 * branch asks for range and limit: rdx - size is negative for an index in range.
 */
export function emitHopOrStub(buffer: CodeBuffer, slot: Memory, size: number | undefined, out: Label): void {
  if (size === undefined) {
    loadAddress(buffer, SCRATCH, out);
    encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
    jumpIf(buffer, Condition.greater, out);
    encode(buffer, 'jmp rm64', 32, slot);
    return;
  }
  encode(buffer, 'lea r, m', 64, { base: RDX, displacement: -size }, RCX);
  encode(buffer, 'and rm, r', 64, RCX, TAIL_CALLS_LEFT);
  jumpIf(buffer, Condition.notSign, out);
  // Early: where the jump was predicted wrong, the processor waits for this.
  encode(buffer, 'mov r, rm', 64, slot, RCX);
  loadAddress(buffer, SCRATCH, out);
  encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  encode(buffer, 'jmp rm64', 32, RCX);
}

/** What empty slots lead to: the call did not happen. */
export function missStub(): Uint8Array {
  const buffer = new CodeBuffer(MISS_STUB_BYTES);
  encode(buffer, 'sub rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  encode(buffer, 'jmp rm64', 32, SCRATCH);
  return buffer.finish().bytes;
}
