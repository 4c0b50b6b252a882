/**
 * Dynptrs: memory with its bounds, checked at run time.
 *
 * A dynptr occupies two stack slots that only calls may touch. It stands for memory whose size the verifier need not know: a
 * map value, a ring buffer record, the packet. Reads and writes through it are calls that check; a slice of constant
 * size is a pointer for direct access, or null where the memory is not there in one piece.
 *
 * What ends a slice: the release of the record, for slices of the packet whatever may move or change the packet, and for
 * what bpf_dynptr_data gave its dynptr being overwritten. (Other slices outlive it, as the memory does.)
 * A dynptr of a ring buffer record is a reference, which its clones share: the release of one ends all.
 *
 * Source: the kernel's process_dynptr_func and what it calls.
 */
import type { Analysis } from './analysis.ts';
import { formatTnum } from './format.ts';
import { forgetPackets } from './helper-call.ts';
import { acquireReference, releaseReference } from './references.ts';
import { kindName, type RegisterState, register } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';
import type { ArgumentType, DynptrKind } from './signature.ts';
import {
  type DynptrSlot,
  explained,
  overwrite,
  type Place,
  placeObject,
  placeOf,
  removeObject,
} from './stack-objects.ts';
import type { Frame } from './state.ts';

const BYTES = 16;
const SLOTS = 2;

type DynptrArgument = Extract<ArgumentType, { readonly type: 'dynptr' }>;

/** A dynptr that a call was given. */
export interface DynptrUse {
  readonly dynptr: DynptrSlot;
}

/** The whole dynptr whose first slot is at the place. */
function dynptrAt(place: Place): DynptrSlot | undefined {
  if ('complaint' in place) return undefined;
  const first = place.frame.slots[place.slot]?.object;
  const second = place.frame.slots[place.slot - 1]?.object;
  return first?.kind === 'dynptr' && first.first && second?.kind === 'dynptr' && !second.first ? first : undefined;
}

/** Checks the dynptr argument in register `number`, and makes or ends one where the call does. */
export function useDynptr(a: Analysis, number: number, argument: DynptrArgument): DynptrUse {
  const r = dynptrPointer(a, number);
  const position = number - 1;
  const { construct } = argument;
  if (construct !== undefined) return constructDynptr(a, number, r, construct, 0, false);
  if (r.kind === 'constDynptr') return useConstDynptr(a, number, r, argument);
  const place = placeOf(a, r, 'dynptr', SLOTS);
  const dynptr = dynptrAt(place);
  if (argument.release === true && ('complaint' in place || referenceAt(place) === 0))
    a.fail('invalid_argument', explained(place, `arg ${number} is an unacquired reference`), 'EINVAL');
  if ('complaint' in place || dynptr === undefined)
    return a.fail(
      'invalid_argument',
      explained(place, `Expected an initialized dynptr as arg #${position}`),
      'EINVAL',
      'Make the dynptr first, and pass the address that it was made at.',
    );
  if (argument.only !== undefined && dynptr.type !== argument.only)
    a.fail('invalid_argument', `Expected a dynptr of type ${argument.only} as arg #${position}`, 'EINVAL');
  for (let i = 0; i < SLOTS; i++) {
    a.stackLiveness.read(a.state, a.insn, r.frame, place.slot - i);
    a.log.touchSlot(place.slot - i);
  }
  return { dynptr };
}

function referenceAt(place: Exclude<Place, { readonly complaint: string }>): number {
  const object = place.frame.slots[place.slot]?.object;
  return object === undefined ? 0 : object.reference;
}

/**
 * A dynptr that the function was given: the sample of a callback of bpf_user_ringbuf_drain, or what a global function's
 * caller passed. The latter may be of any kind; it counts as local, as in the kernel, but its slices end when packets may have changed.
 */
function useConstDynptr(a: Analysis, number: number, r: RegisterState, argument: DynptrArgument): DynptrUse {
  checkConstPointer(a, number, r, argument.release === true);
  if (argument.release === true)
    a.fail('invalid_argument', 'cannot release unowned const bpf_dynptr', 'EINVAL', 'The record is the caller\u2019s.');
  if (argument.only !== undefined && argument.only !== 'local')
    a.fail('invalid_argument', `Expected a dynptr of type ${argument.only} as arg #${number - 1}`, 'EINVAL');
  return { dynptr: { kind: 'dynptr', type: 'local', id: r.id, reference: 0, first: true, foreign: true } };
}

function checkConstPointer(a: Analysis, number: number, r: RegisterState, release: boolean): void {
  const { offset, value } = r;
  const hint = 'Pass the dynptr as the callback got it.';
  if (offset !== 0 && release)
    a.fail(
      'invalid_argument',
      `R${number} must have zero offset when passed to release func or trusted arg to kfunc`,
      'EINVAL',
      hint,
    );
  if (offset !== 0)
    a.fail(
      'invalid_argument',
      `${offset < 0 ? 'negative offset' : 'dereference of modified'} dynptr_ptr ptr R${number} off=${offset} disallowed`,
      'EACCES',
      hint,
    );
  if (!isConstant(value) || constantValue(value) !== 0n)
    a.fail(
      'invalid_argument',
      `variable dynptr_ptr access var_off=${formatTnum(value.tnum)} disallowed`,
      'EACCES',
      hint,
    );
}

function dynptrPointer(a: Analysis, number: number): RegisterState {
  const r = a.state.registers[number]!;
  if (r.kind !== 'stack' && r.kind !== 'constDynptr')
    a.fail(
      'invalid_argument',
      `arg#${number - 1} expected pointer to stack or const struct bpf_dynptr`,
      'EINVAL',
      'Dynptrs live on the stack.',
    );
  return r;
}

/** A copy of `of` in the memory that register `number` points to. */
export function cloneDynptr(a: Analysis, number: number, { dynptr }: DynptrUse): void {
  constructDynptr(a, number, dynptrPointer(a, number), dynptr.type, dynptr.reference, dynptr.foreign);
}

/** @param reference to share; 0: a new one where the kind has references */
function constructDynptr(
  a: Analysis,
  number: number,
  r: RegisterState,
  type: DynptrKind,
  reference: number,
  foreign: boolean,
): DynptrUse {
  if (r.kind === 'constDynptr') a.fail('invalid_argument', 'Dynptr has to be an uninitialized dynptr', 'EINVAL');
  const place = placeOf(a, r, 'dynptr', SLOTS);
  if ('complaint' in place && place.complaint !== '')
    a.fail('invalid_argument', explained(place, 'Dynptr has to be an uninitialized dynptr'), 'EINVAL');
  overwrite(a, number, r, BYTES);
  if ('complaint' in place) return a.fail('invalid_argument', 'Dynptr has to be an uninitialized dynptr', 'EINVAL');
  const { frame, slot } = place;
  const id = a.newId();
  const held = type === 'ringbuf' && reference === 0 ? acquireReference(a, false) : reference;
  const dynptr: DynptrSlot = { kind: 'dynptr', type, id, reference: held, foreign, first: true };
  placeObject(a, frame, slot, dynptr);
  placeObject(a, frame, slot - 1, { ...dynptr, first: false });
  return { dynptr };
}

/** The call has taken the record back: all clones of the dynptr and all that was got from them are gone. */
export function releaseDynptr(a: Analysis, { dynptr }: DynptrUse): void {
  const ids = new Set<number>();
  for (const frame of a.state.frames)
    frame.slots.forEach((slot, i) => {
      const object = slot?.object;
      if (object?.kind !== 'dynptr' || object.reference !== dynptr.reference) return;
      ids.add(object.id);
      removeObject(a, frame, i);
    });
  releaseReference(a, a.state, dynptr.reference);
  a.state.mapRegisters(r => (r.dynptr !== 0 && ids.has(r.dynptr) ? a.forgotten : r));
}

/**
 * Something is about to be written over slot `slot`. If a dynptr lies there, it is gone with both its slots.
 * Refuses where it holds a reference.
 */
export function destroyDynptr(a: Analysis, frame: Frame, slot: number): void {
  const object = frame.slots[slot]?.object;
  if (object?.kind !== 'dynptr') return;
  if (object.reference !== 0)
    a.fail('invalid_memory_access', 'cannot overwrite referenced dynptr', 'EINVAL', 'Submit or discard it first.');
  const first = object.first ? slot : slot + 1;
  for (const part of [first, first - 1]) {
    removeObject(a, frame, part);
  }
  a.state.mapRegisters(r => (r.dynptr === object.id ? a.forgotten : r));
}

/** What bpf_dynptr_data gives: plain memory, good as long as its dynptr. */
export function dataOf(a: Analysis, { dynptr }: DynptrUse, size: number): RegisterState {
  return register('memory', {
    size,
    nullable: true,
    id: a.newId(),
    dynptr: dynptr.id,
    reference: dynptr.reference,
  });
}

/** What bpf_dynptr_slice and bpf_dynptr_slice_rdwr give. */
export function sliceOf(a: Analysis, { dynptr }: DynptrUse, size: number, writable: boolean): RegisterState {
  return register('memory', {
    size,
    nullable: true,
    id: a.newId(),
    dynptr: dynptr.reference === 0 ? 0 : dynptr.id,
    readOnly: !writable,
    packetSlice: dynptr.type === 'skb' || dynptr.type === 'xdp' || dynptr.foreign,
  });
}

/** What the kernel asks of some helpers beside their arguments' types. */
export function checkDynptrHelper(a: Analysis, name: string, use: DynptrUse | undefined): void {
  if (name === 'dynptr_from_mem') {
    const data = a.state.registers[1]!;
    if (data.kind !== 'mapValue')
      a.fail(
        'invalid_argument',
        `Unsupported reg type ${kindName(data)} for bpf_dynptr_from_mem data`,
        'EACCES',
        'Only map values can be behind a local dynptr.',
      );
  }
  // Writing may give the packet other memory in the kernel.
  if (name === 'dynptr_write' && use?.dynptr.type === 'skb') forgetPackets(a);
}
