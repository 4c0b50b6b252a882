/**
 * Paths that a processor takes by wrong guesses, for programs of users without CAP_PERFMON.
 *
 * Problem: a jump whose outcome is known may still be guessed wrongly, and a limited pointer may be moved by nothing at all; for a
 * while the processor goes on from there, and what it touches can be told by its cache. Strategy (the kernel's): such ways are
 * walked as well, as speculative states. What would be refused there refuses nothing: the walk ends and a barrier
 * goes before that instruction, which ends later speculative walks, too; a barrier also follows a store that changes what
 * kind of thing a stack slot holds. There are no barriers in the code made here: side channels are the caller's concern. But some verdicts
 * depend on these paths, in the kernel and so here:
 *
 * - a loop without end on one of them, and limits of complexity, are refused for good;
 * - so is a real path at whose arithmetic, load or tail call a speculative one was first with another kind of value or map.
 *
 * Facts for the rooms below are of real paths only.
 *
 * Source: kernel/bpf/verifier.c of Linux 6.18: `sanitize_speculative_path`, `error_recoverable_with_nospec`, `nospec_result`.
 */
import type { Jump } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { isPointer, type RegisterState, UNKNOWN_SCALAR } from './registers.ts';
import { ByteState, type StackSlot } from './state.ts';

/** Thrown where a speculative path would be refused. */
export const WRONG_GUESS = Symbol('wrong guess');

/** The jump in work goes one way; the processor may guess the other. */
export function guessOtherWay(a: Analysis, i: Jump, next: number): void {
  if (!a.leaksRefused) return;
  const guess = a.push(next, a.insn);
  guess.speculative = true;
  guess.registers[i.dst] = UNKNOWN_SCALAR;
  if (i.src !== undefined) guess.registers[i.src] = UNKNOWN_SCALAR;
}

/** The arithmetic in work is limited by a mask: beyond the limit, the pointer moves by 0. */
export function guessUnmoved(a: Analysis, dst: number, pointer: RegisterState): void {
  const guess = a.push(a.insn + 1, a.insn);
  guess.speculative = true;
  guess.registers[dst] = pointer;
}

/** Before bytes [first, first + size) of a slot are written: is the store to be waited for? */
export function noteStore(
  a: Analysis,
  slot: StackSlot | undefined,
  first: number,
  size: number,
  value: RegisterState | undefined,
): void {
  if (!a.leaksRefused) return;
  let barrier = value !== undefined && isPointer(value);
  for (let byte = first; byte < first + size; byte++) {
    const was = ((slot?.bytes ?? 0) >> (2 * byte)) & 3;
    if (was !== ByteState.misc && was !== ByteState.zero) barrier = true;
  }
  if (barrier) a.barriersAfter.add(a.insn);
}
