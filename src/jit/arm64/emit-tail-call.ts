/**
 * Tail call sites. r1 (x0) holds the context, r2 (x1) the prog array, r3 (x2) the index; a site that fails falls
 * through with r6-r10 and the stack kept. Order of the checks: index in range (as u32), limit, slot populated; the
 * count of calls left (x26) falls only if the slot is populated.
 *
 *   direct   map and index known: nothing is read; a branch, patched whenever the slot changes. (Linux has none on arm64.)
 *   static   map known: its size is an immediate, the target's address is read from the second half of the array.
 *   dynamic  size, program and code address are read at run time; what every site did before cached targets
 *            ('baseline' mode compiles static sites so).
 *
 * Mode 'fast' drops the checks of what the verifier proved, and lets dynamic sites read cached targets too, whose place
 * follows from the array's size.
 */
import type { TailCallIndex } from '../../lowering/lowered.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../memory/layout.ts';
import type { CodeBuffer, Label } from '../shared/code-buffer.ts';
import type { PokeLabels } from '../shared/compile.ts';
import { Condition, jump, jumpIf, jumpIfZero } from './branches.ts';
import { compareConstant, loadConstant } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { emitUnwind, type Frame, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { type MachineRegister, SCRATCH_A, SCRATCH_B, TAIL_CALLS_LEFT, X1, X2 } from './registers.ts';

const POINTER_BYTES = 8;
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

/** SCRATCH_A = the word that `index` (u32) selects of the array's words from `displacement` on; leaves for `out` where it is 0. */
function emitLoadSlot(buffer: CodeBuffer, index: MachineRegister, displacement: number, out: Label): void {
  encode(buffer, 'add Xd|SP, Xn|SP, Wm, uxtw #3', 64, SCRATCH_A, X1, index);
  if (displacement <= MAX_DISPLACEMENT) {
    encode(buffer, 'ldr Xt, [Xn|SP, #i*8]', 64, SCRATCH_A, SCRATCH_A, displacement);
  } else {
    loadConstant(buffer, 64, SCRATCH_B, BigInt(displacement));
    encode(buffer, 'ldr Xt, [Xn|SP, Xm]', 64, SCRATCH_A, SCRATCH_A, SCRATCH_B);
  }
  jumpIfZero(buffer, true, 64, SCRATCH_A, out);
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

/**
 * @param maxEntries of the one prog array that reaches the site, which x1 therefore points to
 * @param index what was proved and may be relied on
 */
export function emitStaticTailCall(
  buffer: CodeBuffer,
  frame: Frame,
  out: Label,
  maxEntries: number,
  index?: TailCallIndex,
): void {
  if (index === undefined || index.max >= maxEntries) {
    // As int32: both sides are compared as 32 bits.
    compareConstant(buffer, 32, X2, maxEntries | 0);
    jumpIf(buffer, Condition.higherOrSame, out);
  }
  emitLimitCheck(buffer, out);
  emitLoadSlot(buffer, X2, ProgArrayLayout.ptrs + maxEntries * POINTER_BYTES, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}

/** SCRATCH_A = the array's size; leaves for `out` where the index is out of range. */
function emitDynamicRangeCheck(buffer: CodeBuffer, out: Label): void {
  encode(buffer, 'ldr Wt, [Xn|SP, #i*4]', 64, SCRATCH_A, X1, MapHeader.maxEntries);
  encode(buffer, 'cmp Rn, Rm', 32, X2, SCRATCH_A);
  jumpIf(buffer, Condition.higherOrSame, out);
}

export function emitFastDynamicTailCall(buffer: CodeBuffer, frame: Frame, out: Label): void {
  emitDynamicRangeCheck(buffer, out);
  emitLimitCheck(buffer, out);
  encode(buffer, 'add Rd, Rn, Rm', 32, SCRATCH_A, SCRATCH_A, X2);
  emitLoadSlot(buffer, SCRATCH_A, ProgArrayLayout.ptrs, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}

export function emitDynamicTailCall(buffer: CodeBuffer, frame: Frame, out: Label): void {
  emitDynamicRangeCheck(buffer, out);
  emitLimitCheck(buffer, out);
  emitLoadSlot(buffer, X2, ProgArrayLayout.ptrs, out);
  emitCount(buffer);
  encode(buffer, 'ldr Xt, [Xn|SP, #i*8]', 64, SCRATCH_A, SCRATCH_A, ProgramObject.bpfFunc);
  encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, SCRATCH_A, SCRATCH_A, TAIL_CALL_PROLOGUE_OFFSET);
  emitUnwind(buffer, frame);
  encode(buffer, 'br Xn', 64, SCRATCH_A);
}
