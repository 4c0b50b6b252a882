/**
 * Tail call sites. r1 (rdi) holds the context, r2 (rsi) the prog array, r3 (rdx) the index; a site that fails falls
 * through with r6-r10 and the stack kept. Order of the checks: index in range (as u32), limit, slot populated; the
 * count rises only if the slot is populated.
 *
 *   direct   map and index known: nothing is read but the count; a jump, patched whenever the slot changes.
 *   static   map known: its size is an immediate, the target's address is read from the second half of the array.
 *   dynamic  size, program and code address are read at run time; what every site did before cached targets
 *            ('baseline' mode compiles static sites so).
 */
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../memory/layout.ts';
import type { CodeBuffer, Label } from '../shared/code-buffer.ts';
import { MAX_TAIL_CALLS, type PokeLabels } from '../shared/compile.ts';
import { PATCH_WORD_BYTES } from '../shared/patch-word.ts';
import { Condition, fillWithNops, jumpIf, near } from './branches.ts';
import { fitsInt8 } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { emitLoadCounterPointer, emitUnwind, type Frame, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { PATCH_BYTES, trapBytes } from './patch.ts';
import { RAX, RCX, RDX, RSI } from './registers.ts';

const POINTER_BYTES = 8;
/** Largest array whose cached targets lie within a 32-bit displacement; sites of larger ones are compiled as dynamic. */
export const MAX_STATIC_ENTRIES = Math.floor((0x7fffffff - ProgArrayLayout.ptrs) / POINTER_BYTES);

/** RAX = pointer to the count; leaves for `out` at the limit. */
function emitLimitCheck(buffer: CodeBuffer, frame: Frame, out: Label): void {
  emitLoadCounterPointer(buffer, frame);
  encode(buffer, 'cmp rm, imm8', 64, { base: RAX, displacement: 0 }, 0, MAX_TAIL_CALLS);
  jumpIf(buffer, Condition.aboveOrEqual, out);
}

function emitCount(buffer: CodeBuffer): void {
  encode(buffer, 'add rm, imm8', 64, { base: RAX, displacement: 0 }, 0, 1);
}

/** Emitted as for an empty slot: `bypass` jumps out, `target` traps. */
export function emitDirectTailCall(buffer: CodeBuffer, frame: Frame, out: Label): PokeLabels {
  emitLimitCheck(buffer, frame, out);
  buffer.keepWithinWord(PATCH_BYTES, PATCH_WORD_BYTES, fillWithNops);
  const bypass = buffer.here();
  near(buffer, 0xe9, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  buffer.keepWithinWord(PATCH_BYTES, PATCH_WORD_BYTES, fillWithNops);
  const target = buffer.here();
  for (const byte of trapBytes()) buffer.u8(byte);
  return { bypass, target };
}

/** @param maxEntries of the one prog array that reaches the site, which rsi therefore points to */
export function emitStaticTailCall(buffer: CodeBuffer, frame: Frame, out: Label, maxEntries: number): void {
  encode(buffer, 'mov rm, r', 32, RDX, RDX);
  encode(buffer, fitsInt8(maxEntries) ? 'cmp rm, imm8' : 'cmp rm, imm32', 32, RDX, 0, maxEntries);
  jumpIf(buffer, Condition.aboveOrEqual, out);
  emitLimitCheck(buffer, frame, out);
  const displacement = ProgArrayLayout.ptrs + maxEntries * POINTER_BYTES;
  encode(buffer, 'mov r, rm', 64, { base: RSI, index: RDX, scale: POINTER_BYTES, displacement }, RCX);
  encode(buffer, 'test rm, r', 64, RCX, RCX);
  jumpIf(buffer, Condition.equal, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  encode(buffer, 'jmp rm64', 32, RCX);
}

export function emitDynamicTailCall(buffer: CodeBuffer, frame: Frame, out: Label): void {
  encode(buffer, 'mov rm, r', 32, RDX, RDX);
  encode(buffer, 'cmp rm, r', 32, { base: RSI, displacement: MapHeader.maxEntries }, RDX);
  jumpIf(buffer, Condition.belowOrEqual, out);
  emitLimitCheck(buffer, frame, out);
  const displacement = ProgArrayLayout.ptrs;
  encode(buffer, 'mov r, rm', 64, { base: RSI, index: RDX, scale: POINTER_BYTES, displacement }, RCX);
  encode(buffer, 'test rm, r', 64, RCX, RCX);
  jumpIf(buffer, Condition.equal, out);
  emitCount(buffer);
  emitUnwind(buffer, frame);
  encode(buffer, 'mov r, rm', 64, { base: RCX, displacement: ProgramObject.bpfFunc }, RCX);
  encode(buffer, 'add rm, imm8', 64, RCX, 0, TAIL_CALL_PROLOGUE_OFFSET);
  encode(buffer, 'jmp rm64', 32, RCX);
}
