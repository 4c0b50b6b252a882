/**
 * Stack frames, entries and exits: the shape that Linux 6.18 gives them.
 *
 *     [rbp + 8]              return address
 *     [rbp]                  caller's rbp; r10 = rbp, the BPF stack lies below
 *     [rbp - depth ...]      BPF stack
 *     [rbp - depth - 8]      tail call count of the run (entry frames) or a second copy of the pointer to it
 *     [rbp - depth - 16]     pointer to the count
 *     ...                    callee-saved registers the function uses
 *
 * The tail call count lives in the frame of the entry; each frame below it that can reach a tail call holds a pointer
 * to it, so that all share one count. RAX hands it on: the count itself where a program is entered (0 at the first
 * entry, then what the caller's frame held), the pointer where a subprogram is called or tail-calls. A pointer is larger
 * than any count, so one comparison tells which. The two words are present only where a tail call is reachable.
 *
 * A tail call undoes everything below `mov rbp, rsp` and enters its target right behind that instruction: the return
 * address and the link to the caller's frame stay.
 */
import type { Register } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { type FunctionShape, MAX_TAIL_CALLS } from '../shared/compile.ts';
import { Condition, jump, jumpIf, nop } from './branches.ts';
import { fitsInt8 } from './emit-alu.ts';
import { encode } from './encodings.ts';
import { machineRegister, RAX, RBP, RSP } from './registers.ts';

/** Bytes from a program's entry to its tail-call entry: 5-byte nop, xor rax,rax, push rbp, mov rbp,rsp. */
export const TAIL_CALL_PROLOGUE_OFFSET = 12;

export interface Frame {
  readonly kind: FunctionShape['kind'];
  /** BPF stack, bytes, a multiple of 8. */
  readonly depth: number;
  /** Callee-saved BPF registers to keep, in push order. */
  readonly saved: readonly Register[];
  /** A tail call is reachable: the frame holds the pointer to the count. */
  readonly counts: boolean;
  /** Entered with the count or with a pointer to it: programs, and callbacks, whose caller knows no count. */
  readonly maybeEntry: boolean;
  /** rbp is linked and set up. Routines that do not use r10 leave it alone. */
  readonly linked: boolean;
}

/** @param tailCallEntry called where a tail call lands */
export function emitPrologue(buffer: CodeBuffer, frame: Frame, tailCallEntry: () => void): void {
  if (frame.kind !== 'routine') {
    // Room for a tracer's call (the kernel's fentry slot), patchable as one instruction.
    nop(buffer, 5);
    if (frame.counts && frame.kind === 'main') encode(buffer, 'xor rm, r', 64, RAX, RAX);
    else nop(buffer, 3);
  }
  if (frame.linked) {
    encode(buffer, 'push r64', 32, RBP);
    encode(buffer, 'mov rm, r', 64, RBP, RSP);
  }
  tailCallEntry();
  if (frame.depth > 0) adjustStack(buffer, 'sub', frame.depth);
  if (frame.counts) emitCounter(buffer, frame);
  for (const register of frame.saved) encode(buffer, 'push r64', 32, machineRegister(register));
}

function emitCounter(buffer: CodeBuffer, frame: Frame): void {
  if (frame.maybeEntry) {
    const isPointer = buffer.label();
    const linked = buffer.label();
    encode(buffer, 'cmp rm, imm8', 64, RAX, 0, MAX_TAIL_CALLS);
    jumpIf(buffer, Condition.above, isPointer);
    encode(buffer, 'push r64', 32, RAX);
    encode(buffer, 'mov rm, r', 64, RAX, RSP);
    jump(buffer, linked);
    buffer.bind(isPointer);
    encode(buffer, 'push r64', 32, RAX);
    buffer.bind(linked);
  } else {
    encode(buffer, 'push r64', 32, RAX);
  }
  encode(buffer, 'push r64', 32, RAX);
}

/** RAX = pointer to the tail call count. */
export function emitLoadCounterPointer(buffer: CodeBuffer, frame: Frame): void {
  encode(buffer, 'mov r, rm', 64, { base: RBP, displacement: -frame.depth - 16 }, RAX);
}

function restoreSaved(buffer: CodeBuffer, frame: Frame): void {
  for (let i = frame.saved.length - 1; i >= 0; i--) {
    encode(buffer, 'pop r64', 32, machineRegister(frame.saved[i]!));
  }
}

/** Back to the state at the tail-call entry; RAX = what the target is to find there: the count, or the pointer to it. */
export function emitUnwind(buffer: CodeBuffer, frame: Frame): void {
  restoreSaved(buffer, frame);
  encode(buffer, 'pop r64', 32, RAX);
  encode(buffer, 'pop r64', 32, RAX);
  if (frame.depth > 0) adjustStack(buffer, 'add', frame.depth);
}

export function emitExit(buffer: CodeBuffer, frame: Frame): void {
  restoreSaved(buffer, frame);
  if (frame.linked) encode(buffer, 'leave', 32);
  encode(buffer, 'ret', 32);
}

function adjustStack(buffer: CodeBuffer, op: 'add' | 'sub', bytes: number): void {
  encode(buffer, fitsInt8(bytes) ? `${op} rm, imm8` : `${op} rm, imm32`, 64, RSP, 0, bytes);
}
