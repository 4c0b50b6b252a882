/**
 * Things on the stack that only calls may touch: open-coded iterators and dynptrs.
 *
 * Each occupies whole, aligned slots. A slot's `object` says what it is part of; the memory itself belongs to the routines
 * behind the calls. Loads from it are refused. A store over an iterator leaves plain data (and the iterator's reference,
 * which can then never be given back); one over a dynptr ends it, or is refused where it holds a reference.
 */
import type { Analysis } from './analysis.ts';
import { destroyDynptr } from './dynptr.ts';
import type { RegisterState } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';
import type { DynptrKind } from './signature.ts';
import { stackBounds } from './stack.ts';
import { type Frame, STACK_SLOTS } from './state.ts';

export interface IteratorSlot {
  readonly kind: 'iterator';
  /** "num" of bpf_iter_num_new. */
  readonly type: string;
  /** That it was made and not yet destroyed. */
  readonly reference: number;
  /** false: it has given null, and will again. */
  readonly active: boolean;
  /** How many elements it has given on this path. */
  readonly depth: number;
  /** The slot at the lowest address: the one that tells how the iterator is. */
  readonly first: boolean;
}

export interface DynptrSlot {
  readonly kind: 'dynptr';
  readonly type: DynptrKind;
  /** What slices of it carry. */
  readonly id: number;
  /** Of a ring buffer record; clones share it. 0 for memory that nobody has to give back. */
  readonly reference: number;
  /** A copy of one that a caller passed: its memory may be the packet whatever its type says. */
  readonly foreign: boolean;
  /** The one at the lower address. */
  readonly first: boolean;
}

export type StackObject = IteratorSlot | DynptrSlot;

/** All eight bytes misc. */
const MISC = 0x5555;

/** The slots of an object by the pointer to it, or why there cannot be one. */
export type Place =
  | { readonly frame: Frame; readonly slot: number }
  /** In the kernel's words; empty where it lies outside the stack. */
  | { readonly complaint: string };

/**
 * @param slots that the object takes: the one that the pointer names, and those of lower numbers
 * @param what in the kernel's words: "dynptr", "iter"
 */
export function placeOf(a: Analysis, r: RegisterState, what: string, slots: number): Place {
  if (!isConstant(r.value)) return { complaint: `${what} has to be at a constant offset` };
  const offset = r.offset + Number(BigInt.asIntN(64, constantValue(r.value)));
  const slot = Math.trunc((-offset - 1) / 8);
  if (offset % 8 !== 0 || slot + 1 < slots) return { complaint: `cannot pass in ${what} at an offset=${offset}` };
  return slot >= STACK_SLOTS ? { complaint: '' } : { frame: a.state.frames[r.frame]!, slot };
}

/** A refusal with its complaint, if any, on a line before it. */
export const explained = (place: Place, text: string): string =>
  'complaint' in place && place.complaint !== '' ? `${place.complaint}\n${text}` : text;

/** Makes room for an object, as stores of eight bytes would. */
export function overwrite(a: Analysis, number: number, r: RegisterState, bytes: number): void {
  const frame = a.state.frames[r.frame]!;
  for (let at = 0; at < bytes; at += 8) {
    const [low] = stackBounds(a, number, r, at, 8, 'write');
    a.facts.useStack(frame.subprogram, -low);
    destroyDynptr(a, frame, (-low - 1) >> 3);
  }
}

export function placeObject(a: Analysis, frame: Frame, slot: number, object: StackObject): void {
  frame.setSlot(slot, { bytes: MISC, spilled: undefined, object });
  a.stackLiveness.write(a.state.frames.indexOf(frame), slot);
  a.log.touchSlot(slot);
}

/** What is left is as good as never written. */
export function removeObject(a: Analysis, frame: Frame, slot: number): void {
  frame.setSlot(slot, undefined);
  a.stackLiveness.write(a.state.frames.indexOf(frame), slot);
  a.log.touchSlot(slot);
}
