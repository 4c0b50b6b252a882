/**
 * Open-coded iterators (`bpf_for`, `bpf_repeat`): loops whose end the verifier need not see.
 *
 * `bpf_iter_T_new` makes an iterator on the stack, `_next` gives a pointer to the next element or null, `_destroy` ends
 * it. Whatever the count, `_next` comes to null in the end and stays there, so a loop around it ends. What has to be
 * proved is that every iteration is safe: the call of `_next` splits the path. One side got null and leaves (the iterator is
 * drained); the other goes through the body and comes back to the call. Numbers that the body changed and nothing relied on
 * become unknown there, so that after a few rounds the state is contained in one that was at the call before; then
 * the path ends, since any further iteration is like that one (`prune.ts`, `loops.ts`).
 *
 * An iterator is a reference: it must be destroyed on every path. Source: the kernel's process_iter_next_call.
 */
import type { Analysis } from './analysis.ts';
import type { IteratorArgument } from './kfunc-signature.ts';
import { previousEntry, widenChanged } from './prune.ts';
import { acquireReference, releaseReference } from './references.ts';
import { type RegisterState, withFields, ZERO_SCALAR } from './registers.ts';
import {
  explained,
  type IteratorSlot,
  overwrite,
  type Place,
  placeObject,
  placeOf,
  removeObject,
} from './stack-objects.ts';
import type { Frame, State } from './state.ts';

/** The whole iterator whose first slot this is. */
function iteratorAt(place: Place, type: string, slots: number): IteratorSlot | undefined {
  if ('complaint' in place) return undefined;
  const { frame, slot } = place;
  const object = frame.slots[slot]?.object;
  if (object?.kind !== 'iterator' || !object.first || object.type !== type) return undefined;
  for (let i = 1; i < slots; i++) {
    const part = frame.slots[slot - i]?.object;
    if (part?.kind !== 'iterator' || part.first || part.reference !== object.reference) return undefined;
  }
  return object;
}

function hasIterator(place: Exclude<Place, { readonly complaint: string }>, slots: number): boolean {
  for (let i = 0; i < slots; i++) if (place.frame.slots[place.slot - i]?.object?.kind === 'iterator') return true;
  return false;
}

/** What a call knows of the iterator it was given. */
export interface IteratorUse {
  readonly frame: Frame;
  readonly slot: number;
  readonly iterator: IteratorSlot;
}

/**
 * Checks the iterator argument in register `number`, and applies what making and destroying does.
 * @returns the iterator, for `_next`
 */
export function useIterator(a: Analysis, number: number, argument: IteratorArgument): IteratorUse | undefined {
  const r = a.state.registers[number]!;
  const { of: type, slots, use } = argument;
  const position = number - 1;
  if (r.kind !== 'stack')
    a.fail('invalid_argument', `arg#${position} expected pointer to an iterator on stack`, 'EINVAL');
  const place = placeOf(a, r, 'iter', slots);
  if (use === 'new') {
    const free = 'complaint' in place ? place.complaint === '' : !hasIterator(place, slots);
    if (!free)
      a.fail(
        'invalid_argument',
        explained(place, `expected uninitialized iter_${type} as arg #${position}`),
        'EINVAL',
        'Destroy an iterator before its memory is used for another.',
      );
    overwrite(a, number, r, 8 * slots);
    if ('complaint' in place) return undefined;
    const reference = acquireReference(a, false);
    const made: IteratorSlot = { kind: 'iterator', type, reference, active: true, depth: 0, first: true };
    for (let i = 0; i < slots; i++) placeObject(a, place.frame, place.slot - i, { ...made, first: i === 0 });
    return undefined;
  }
  const iterator = iteratorAt(place, type, slots);
  if ('complaint' in place || iterator === undefined)
    return a.fail(
      'invalid_argument',
      explained(place, `expected an initialized iter_${type} as arg #${position}`),
      'EINVAL',
      `Make the iterator with bpf_iter_${type}_new first.`,
    );
  for (let i = 0; i < slots; i++) {
    a.stackLiveness.read(a.state, a.insn, r.frame, place.slot - i);
    a.log.touchSlot(place.slot - i);
  }
  if (use === 'destroy') {
    releaseReference(a, a.state, iterator.reference);
    for (let i = 0; i < slots; i++) removeObject(a, place.frame, place.slot - i);
  }
  return { ...place, iterator };
}

/** After a call of `_next`: the path goes on with null, and one with an element in `element` is queued. */
export function splitAtNext(a: Analysis, { frame, slot, iterator }: IteratorUse, element: RegisterState): void {
  const { state } = a;
  if (iterator.active) {
    // The state at this very arrival was stored just now: the one before it is what the loop came from.
    const before = previousEntry(state, a.insn, state.parent?.parent);
    const body = a.push(a.insn + 1, a.insn);
    setIterator(body, state.frames.indexOf(frame), slot, { ...iterator, depth: iterator.depth + 1 });
    if (before !== undefined) widenChanged(before, body, a.options.checking?.precision !== 'all');
    body.registers[0] = withFields(element, { nullable: false });
    frame.setSlot(slot, { ...frame.slots[slot]!, object: { ...iterator, active: false } });
  }
  a.write(0, ZERO_SCALAR);
}

function setIterator(state: State, frame: number, slot: number, object: IteratorSlot): void {
  const holder = state.frames[frame]!;
  holder.setSlot(slot, { ...holder.slots[slot]!, object });
}

/** Is the iterator that r1 points to at a call of `_next` one that may still give elements? */
export function isActive(a: Analysis, state: State): boolean {
  const r = state.registers[1]!;
  if (r.kind !== 'stack') return false;
  const place = placeOf(a, r, 'iter', 1);
  if ('complaint' in place) return false;
  const object = state.frames[r.frame]!.slots[place.slot]?.object;
  return object?.kind === 'iterator' && object.active;
}

/** Has some active iterator given another number of elements? Then states that are else the same are no endless loop. */
export function depthsDiffer(old: State, current: State): boolean {
  return old.frames.some((frame, f) =>
    frame.slots.some((slot, i) => {
      if (slot?.object?.kind !== 'iterator' || !slot.object.active) return false;
      const other = current.frames[f]?.slots[i]?.object;
      return other?.kind === 'iterator' && other.depth !== slot.object.depth;
    }),
  );
}
