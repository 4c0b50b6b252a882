/**
 * Tail call sites. r1 (x0) holds the context, r2 (x1) the prog array, r3 (x2) the index; a site that fails falls
 * through with r6-r10 and the stack kept. Order of the checks: index in range (as u32), limit, slot populated; the
 * count of calls left (x26) falls only if the slot is populated.
 *
 *   direct   map and index known: nothing is read; a branch, patched whenever the slot changes. (Linux has none on arm64.)
 *   static   map known: its size is an immediate, the target's address is read from the second half of the array.
 *   dynamic  size, program and code address are read at run time; what every site did before cached targets
 *            ('baseline' mode compiles static sites so). In mode 'fast' they read cached targets too, whose place follows
 *            from the array's size.
 *
 * In mode 'fast' frames are common (frame.ts), so that there is nothing to undo, and a call can be taken back behind the
 * jump: by the miss stub, to which empty slots lead, or where an empty direct site leads.
 */
import type { TailCallIndex } from '../../lowering/lowered.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../memory/layout.ts';
import { CodeBuffer, type Label } from '../shared/code-buffer.ts';
import type { PokeLabels } from '../shared/compile.ts';
import type { TailCallChoices } from '../shared/tail-call-choices.ts';
import { Condition, jump, jumpIf, jumpIfZero, loadAddress } from './branches.ts';
import { compareConstant, loadConstant } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { emitUnwind, type Frame, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { type MachineRegister, SCRATCH_A, SCRATCH_B, SCRATCH_C, TAIL_CALLS_LEFT, X1, X2 } from './registers.ts';

const POINTER_BYTES = 8;
const MISS_STUB_BYTES = 64;
/** Any array's: displacements are built in a register where no immediate holds them. */
export const MAX_STATIC_ENTRIES = 0xffffffff;
/** Largest displacement of a scaled 8-byte load. */
const MAX_DISPLACEMENT = 4095 * POINTER_BYTES;

function emitLimitCheck(buffer: CodeBuffer, out: Label): void {
  jumpIfZero(buffer, true, 64, TAIL_CALLS_LEFT, out);
}

function emitCount(buffer: CodeBuffer): void {
  encode(buffer, 'sub Rd|SP, Rn|SP, #i', 64, TAIL_CALLS_LEFT, TAIL_CALLS_LEFT, 1);
}

function emitUncount(buffer: CodeBuffer): void {
  encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, TAIL_CALLS_LEFT, TAIL_CALLS_LEFT, 1);
}

/** SCRATCH_A = the word that `index` (u32) selects of the array's words from `displacement` on. Changes SCRATCH_B. */
function emitLoadSlot(buffer: CodeBuffer, index: MachineRegister, displacement: number): void {
  encode(buffer, 'add Xd|SP, Xn|SP, Wm, uxtw #3', 64, SCRATCH_A, X1, index);
  if (displacement <= MAX_DISPLACEMENT) {
    encode(buffer, 'ldr Xt, [Xn|SP, #i*8]', 64, SCRATCH_A, SCRATCH_A, displacement);
  } else {
    loadConstant(buffer, 64, SCRATCH_B, BigInt(displacement));
    encode(buffer, 'ldr Xt, [Xn|SP, Xm]', 64, SCRATCH_A, SCRATCH_A, SCRATCH_B);
  }
}

/** Emitted as for an empty slot: `bypass` jumps out, `target` traps. */
export function emitDirectTailCall(buffer: CodeBuffer, frame: Frame, out: Label): PokeLabels {
  emitLimitCheck(buffer, out);
  const bypass = buffer.here();
  jump(buffer, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  const target = buffer.here();
  encode(buffer, 'brk #i', 64, 0);
  return { bypass, target };
}

/** Emitted as for an empty slot: `target` leads to where the call that did not happen is taken off the count again. */
export function emitFastDirectTailCall(buffer: CodeBuffer, _frame: Frame, out: Label): PokeLabels {
  emitLimitCheck(buffer, out);
  emitCount(buffer);
  const empty = buffer.label();
  const target = buffer.here();
  jump(buffer, empty);
  buffer.bind(empty);
  emitUncount(buffer);
  return { target, out: empty };
}

/** Leaves for `out` where the index is not below the array's size. */
function emitStaticRangeCheck(buffer: CodeBuffer, maxEntries: number, out: Label): void {
  // As int32: both sides are compared as 32 bits.
  compareConstant(buffer, 32, X2, maxEntries | 0);
  jumpIf(buffer, Condition.higherOrSame, out);
}

/** @param maxEntries of the one prog array that reaches the site, which x1 therefore points to */
export function emitStaticTailCall(buffer: CodeBuffer, frame: Frame, out: Label, maxEntries: number): void {
  emitStaticRangeCheck(buffer, maxEntries, out);
  emitLimitCheck(buffer, out);
  emitLoadSlot(buffer, X2, ProgArrayLayout.ptrs + maxEntries * POINTER_BYTES);
  jumpIfZero(buffer, true, 64, SCRATCH_A, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}

/** @param index what was proved and may be relied on */
export function emitFastStaticTailCall(
  buffer: CodeBuffer,
  emptySlots: TailCallChoices['emptySlots'],
  out: Label,
  maxEntries: number,
  index: TailCallIndex | undefined,
): void {
  if (index === undefined || index.max >= maxEntries) emitStaticRangeCheck(buffer, maxEntries, out);
  emitHop(buffer, emptySlots, X2, ProgArrayLayout.ptrs + maxEntries * POINTER_BYTES, out);
}

/** SCRATCH_A = the array's size; leaves for `out` where the index is out of range. */
function emitDynamicRangeCheck(buffer: CodeBuffer, out: Label): void {
  encode(buffer, 'ldr Wt, [Xn|SP, #i*4]', 64, SCRATCH_A, X1, MapHeader.maxEntries);
  encode(buffer, 'cmp Rn, Rm', 32, X2, SCRATCH_A);
  jumpIf(buffer, Condition.higherOrSame, out);
}

export function emitFastDynamicTailCall(
  buffer: CodeBuffer,
  emptySlots: TailCallChoices['emptySlots'],
  out: Label,
): void {
  emitDynamicRangeCheck(buffer, out);
  encode(buffer, 'add Rd, Rn, Rm', 32, SCRATCH_A, SCRATCH_A, X2);
  emitHop(buffer, emptySlots, SCRATCH_A, ProgArrayLayout.ptrs, out);
}

/** To the tail-call entry in a slot of the array's second half, if the limit and the slot let it. Common frames. */
function emitHop(
  buffer: CodeBuffer,
  emptySlots: TailCallChoices['emptySlots'],
  index: MachineRegister,
  displacement: number,
  out: Label,
): void {
  emitLimitCheck(buffer, out);
  emitLoadSlot(buffer, index, displacement);
  if (emptySlots === 'stub') loadAddress(buffer, SCRATCH_C, out);
  else jumpIfZero(buffer, true, 64, SCRATCH_A, out);
  emitCount(buffer);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}

/** What empty slots lead to: the call did not happen. */
export function missStub(): Uint8Array {
  const buffer = new CodeBuffer(MISS_STUB_BYTES);
  emitUncount(buffer);
  encode(buffer, 'br Xn', 64, SCRATCH_C);
  return buffer.finish().bytes;
}

export function emitDynamicTailCall(buffer: CodeBuffer, frame: Frame, out: Label): void {
  emitDynamicRangeCheck(buffer, out);
  emitLimitCheck(buffer, out);
  emitLoadSlot(buffer, X2, ProgArrayLayout.ptrs);
  jumpIfZero(buffer, true, 64, SCRATCH_A, out);
  emitCount(buffer);
  encode(buffer, 'ldr Xt, [Xn|SP, #i*8]', 64, SCRATCH_A, SCRATCH_A, ProgramObject.bpfFunc);
  encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, SCRATCH_A, SCRATCH_A, TAIL_CALL_PROLOGUE_OFFSET);
  emitUnwind(buffer, frame);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}
