/**
 * Stack slots: what a store leaves behind and what a load finds.
 *
 * A store of a scalar at the start of a slot keeps the whole register state (also 4-, 2- and 1-byte stores, and
 * constants), as does an 8-byte store of a pointer. Any other store makes its bytes `misc` or `zero` and degrades a
 * spilled register whose slot it touches. A store whose offset is not known exactly may hit any byte of its range:
 * spilled registers there are forgotten, and every byte counts as written (reads of what was really not
 * written give what the memory holds, which is the program's own).
 *
 * Offsets are relative to the frame pointer of the frame in question: [-512, 0).
 */
import type { Size } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { destroyDynptr } from './dynptr.ts';
import { formatTnum } from './format.ts';
import { needRegister, needSlot } from './precision.ts';
import {
  isPointer,
  type RegisterState,
  readyToCopy,
  scalarRegister,
  UNKNOWN_SCALAR,
  withFields,
  ZERO_SCALAR,
} from './registers.ts';
import { constantValue, fits, isConstant, isZero, truncate } from './scalar.ts';
import { noteStore } from './speculation.ts';
import { ByteState, type ByteStateValue, type Frame, STACK_BYTES, type StackSlot } from './state.ts';
import { checkCorruption, checkStackVariable } from './unprivileged.ts';

const WHOLE_POINTERS = 'Store pointers on the stack, and load them from there, as 8 bytes at an aligned offset.';

/** Bytes that a spill covers, from byte 0 on. */
function spillSize(slot: StackSlot): number {
  let size = 0;
  while (size < 8 && ((slot.bytes >> (2 * size)) & 3) === ByteState.spill) size++;
  return size;
}

const slotOf = (offset: number): number => (-offset - 1) >> 3;
/** Byte within the slot, 0 for the lowest address. */
const byteOf = (offset: number): number => offset & 7;

function byteState(slot: StackSlot | undefined, byte: number): ByteStateValue {
  return slot === undefined ? ByteState.invalid : (((slot.bytes >> (2 * byte)) & 3) as ByteStateValue);
}

/** Spill bytes become misc: the register can no longer be got back. */
function scrub(slot: StackSlot | undefined): number {
  if (slot === undefined) return 0;
  let bytes = slot.bytes;
  for (let byte = 0; byte < 8; byte++)
    if (((bytes >> (2 * byte)) & 3) === ByteState.spill)
      bytes = (bytes & ~(3 << (2 * byte))) | (ByteState.misc << (2 * byte));
  return bytes;
}

/** As the kernel does where other data partly replaces a register: what was zero in its slot is then not known to be. */
function scrubAll(slot: StackSlot | undefined): number {
  if (slot === undefined || (slot.spilled === undefined && slot.object === undefined)) return scrub(slot);
  let bytes = 0;
  for (let byte = 0; byte < 8; byte++)
    if (byteState(slot, byte) !== ByteState.invalid) bytes = setByte(bytes, byte, ByteState.misc);
  return bytes;
}

function setByte(bytes: number, byte: number, state: ByteStateValue): number {
  return (bytes & ~(3 << (2 * byte))) | (state << (2 * byte));
}

const isZeroScalar = (r: RegisterState): boolean => r.kind === 'scalar' && isZero(r.value);

/**
 * Store at a known offset. `value` is what is stored; a constant for the immediate form.
 * @returns the value the source register has afterwards: a stored scalar gets an id, so that what is learned of either copy holds for both.
 */
export function writeStack(
  a: Analysis,
  frameIndex: number,
  offset: number,
  size: Size,
  value: RegisterState,
  valueRegister: number | undefined,
): RegisterState {
  const frame = a.state.frames[frameIndex]!;
  const index = slotOf(offset);
  const first = byteOf(offset);
  destroyDynptr(a, frame, index);
  const slot = frame.slots[index];
  a.facts.useStack(frame.subprogram, -offset);
  a.log.touchSlot(index);
  checkCorruption(a, slot?.spilled, size);
  noteStore(a, slot, first, size, valueRegister === undefined ? undefined : value);
  // What the kernel does not keep track of on the stack reads back as a number.
  const forgotten = value.kind === 'constDynptr';
  if (isPointer(value) && !forgotten) {
    if (size !== 8) a.fail('invalid_memory_access', 'invalid size of register spill', 'EACCES', WHOLE_POINTERS);
    if (value.kind === 'stack' && frameIndex !== a.state.frames.length - 1)
      a.fail(
        'invalid_memory_access',
        'cannot spill pointers to stack into stack frame of the caller',
        'EINVAL',
        'Keep pointers to the stack of a function in its own frame, which is gone once it has returned.',
      );
    frame.setSlot(index, { bytes: 0xffff, spilled: value });
    a.history.remark();
    a.stackLiveness.write(frameIndex, index);
    return value;
  }
  // Without CAP_BPF the kernel keeps no numbers on the stack.
  if (first === 0 && !a.withoutBpf && !forgotten) {
    let source = value;
    let stored = value;
    if (fits(value.value, size)) {
      source = stored = readyToCopy(value, a);
    } else {
      // Whoever fills it takes as many bytes as there are.
      stored = withFields(value, { id: 0, offset: 0 });
    }
    let bytes = size === 8 ? 0 : scrub(slot);
    for (let byte = 0; byte < size; byte++) bytes = setByte(bytes, byte, ByteState.spill);
    frame.setSlot(index, { bytes, spilled: stored });
    if (size === 8) a.stackLiveness.write(frameIndex, index);
    noteSlot(a, frameIndex, index);
    return source;
  }
  let bytes = scrubAll(slot);
  const state = isZeroScalar(value) ? ByteState.zero : ByteState.misc;
  if (state === ByteState.zero) needRegister(a, valueRegister);
  for (let byte = first; byte < first + size; byte++) bytes = setByte(bytes, byte, state);
  frame.setSlot(index, { bytes, spilled: undefined });
  if (size === 8) a.stackLiveness.write(frameIndex, index);
  return value;
}

/** An atomic operation leaves some number there; it is a store of the program's own, other than what helpers write. */
export function writeAtomically(a: Analysis, frameIndex: number, offset: number, size: Size): void {
  noteStore(a, a.state.frames[frameIndex]!.slots[slotOf(offset)], byteOf(offset), size, undefined);
  clobberStack(a, frameIndex, offset, size, 'instruction');
}

/**
 * Bytes [offset, offset + size) get written with unknown contents.
 * @param by who writes. As in the kernel, a helper's bytes are stored one by one; memory that kernel functions and global functions
 *   are given is forgotten quietly.
 */
export function clobberStack(
  a: Analysis,
  frameIndex: number,
  offset: number,
  size: number,
  by: 'instruction' | 'helper' | 'function',
): void {
  const frame = a.state.frames[frameIndex]!;
  a.facts.useStack(frame.subprogram, -offset);
  for (let at = offset; at < offset + size; ) {
    const index = slotOf(at);
    const first = byteOf(at);
    const end = Math.min(8, first + offset + size - at);
    if (frame.slots[index]?.object?.kind === 'dynptr')
      a.fail(
        'invalid_memory_access',
        `potential write to dynptr at off=${at} disallowed`,
        'EACCES',
        'Keep what calls write apart from dynptrs.',
      );
    let bytes = scrubAll(frame.slots[index]);
    for (let byte = first; byte < end; byte++) bytes = setByte(bytes, byte, ByteState.misc);
    frame.setSlot(index, { bytes, spilled: undefined });
    if (by === 'instruction' && end - first === 8) a.stackLiveness.write(frameIndex, index);
    if (by !== 'function') a.log.touchSlot(index);
    at += end - first;
  }
}

/** Store somewhere in [low, high + size). Both offsets inclusive starts. */
export function writeStackRange(
  a: Analysis,
  frameIndex: number,
  low: number,
  high: number,
  size: number,
  value: RegisterState,
  valueRegister: number | undefined,
): void {
  const frame = a.state.frames[frameIndex]!;
  const zero = isZeroScalar(value);
  if (zero) needRegister(a, valueRegister);
  a.facts.useStack(frame.subprogram, -low);
  for (let at = low; at < high + size; at++) {
    const index = slotOf(at);
    const byte = byteOf(at);
    destroyDynptr(a, frame, index);
    const slot = frame.slots[index];
    const before = byteState(slot, byte);
    if (a.leaksRefused && before !== ByteState.misc && before !== ByteState.zero)
      a.fail(
        'pointer_leak',
        `spilled ptr in range of var-offset stack write; insn ${a.insn}, ptr off: ${at}`,
        'EINVAL',
      );
    if (zero && before === ByteState.spill && slot?.spilled !== undefined && isZeroScalar(slot.spilled)) {
      // Zero over a spilled zero leaves a zero, whichever byte is hit.
      needSlot(a, frameIndex, index);
      continue;
    }
    const after = zero && before === ByteState.zero ? ByteState.zero : ByteState.misc;
    frame.setSlot(index, { bytes: setByte(scrub(slot), byte, after), spilled: undefined });
    a.log.touchSlot(index);
  }
}

/** One byte of what a read finds; `undefined` spilled: plain data. */
function checkReadable(
  a: Analysis,
  frame: Frame,
  state: ByteStateValue,
  offset: number,
  index: number,
  size: number,
): void {
  if (state !== ByteState.invalid) return;
  if (a.uninitializedStackAllowed) {
    a.facts.uninitialized.add(frame.subprogram);
    return;
  }
  a.fail('uninitialized_stack', `invalid read from stack off ${offset}+${index} size ${size}`);
}

/** Load from a known offset. Sign extension is the caller's. */
export function readStack(a: Analysis, frameIndex: number, offset: number, size: Size): RegisterState {
  const frame = a.state.frames[frameIndex]!;
  const index = slotOf(offset);
  const first = byteOf(offset);
  const slot = frame.slots[index];
  a.facts.useStack(frame.subprogram, -offset);
  a.stackLiveness.read(a.state, a.insn, frameIndex, index);
  a.log.touchSlot(index);
  if (slot?.spilled !== undefined) {
    const spilled = slot.spilled;
    const covered = spillSize(slot);
    if (size !== 8 || covered !== 8) {
      if (spilled.kind !== 'scalar')
        a.fail('invalid_memory_access', 'invalid size of register fill', 'EACCES', WHOLE_POINTERS);
      if (first === 0 && size <= covered) noteSlot(a, frameIndex, index);
      if (first === 0 && size <= covered)
        return fits(spilled.value, size) ? spilled : scalarRegister(truncate(spilled.value, size));
    } else {
      noteSlot(a, frameIndex, index);
      return spilled;
    }
  }
  if (slot?.object !== undefined) refuseObject(a, `off ${offset}+0 size ${size}`);
  let zeros = 0;
  let spilled = 0;
  for (let byte = first; byte < first + size; byte++) {
    const state = byteState(slot, byte);
    checkReadable(a, frame, state, offset, byte - first, size);
    if (state === ByteState.spill) spilled++;
    else if (state === ByteState.zero) zeros++;
  }
  // Any bytes of a spilled zero are a fill of it.
  const ofZero = spilled === size && isZeroScalar(slot!.spilled!);
  if (ofZero) noteSlot(a, frameIndex, index);
  return ofZero || zeros === size ? ZERO_SCALAR : scalarRegister(truncate(UNKNOWN_SCALAR.value, size));
}

/** For walking values back: the current instruction spills to, or fills from, this slot. */
function noteSlot(a: Analysis, frameIndex: number, slot: number): void {
  a.history.noteSlot(frameIndex, slot);
}

function placeInRange(low: number, high: number, at: number): string {
  return low === high ? `off ${low}+${at - low}` : `var_off [${low},${high}]+${at - low}`;
}

function refuseObject(a: Analysis, place: string): never {
  return a.fail(
    'invalid_memory_access',
    `invalid read from stack ${place}`,
    'EACCES',
    'Iterators and dynptrs are only for the calls that work on them.',
  );
}

/** Load from anywhere in [low, high + size). */
export function readStackRange(
  a: Analysis,
  frameIndex: number,
  low: number,
  high: number,
  size: number,
  register: number,
  indirect: boolean,
): RegisterState {
  const frame = a.state.frames[frameIndex]!;
  a.facts.useStack(frame.subprogram, -low);
  if (low !== high) checkStackVariable(a, register, a.state.registers[register]!, indirect);
  let zero = true;
  for (let at = low; at < high + size; at++) {
    const index = slotOf(at);
    const slot = frame.slots[index];
    const pointer = a.leaksRefused && slot?.spilled !== undefined && slot.spilled.kind !== 'scalar';
    const state = pointer ? ByteState.invalid : byteState(slot, byteOf(at));
    a.stackLiveness.read(a.state, a.insn, frameIndex, index);
    if (frame.slots[index]?.object !== undefined)
      refuseObject(a, `R${register} ${placeInRange(low, high, at)} size ${size}`);
    if (!indirect && zero) a.log.touchSlot(index);
    if (state === ByteState.invalid && a.uninitializedStackAllowed) a.facts.uninitialized.add(frame.subprogram);
    else if (state === ByteState.invalid) {
      a.fail('uninitialized_stack', `invalid read from stack R${register} ${placeInRange(low, high, at)} size ${size}`);
    }
    if (state !== ByteState.zero) zero = false;
  }
  return zero && size <= 8
    ? ZERO_SCALAR
    : scalarRegister(truncate(UNKNOWN_SCALAR.value, size <= 8 ? (size as Size) : 8));
}

/** Largest and smallest offset that a stack pointer plus `offset` can have; refuses what may leave the frame. */
export function stackBounds(
  a: Analysis,
  register: number,
  pointer: RegisterState,
  offset: number,
  size: number,
  purpose: 'read' | 'write',
): [low: number, high: number] {
  const how = purpose === 'read' ? ' read from' : ' write to';
  const fixed = isConstant(pointer.value);
  const base = pointer.offset + offset;
  const exact = isZero(pointer.value);
  const low = exact ? base : Number(pointer.value.smin) + base;
  const high = exact ? base : Number(pointer.value.smax) + base;
  if (!fixed && (pointer.value.smax >= 1n << 29n || pointer.value.smin <= -(1n << 29n)))
    a.fail('stack_out_of_bounds', `invalid unbounded variable-offset${how} stack R${register}`);
  if (low < -STACK_BYTES || high + size > 0) {
    const place = fixed
      ? `invalid${how} stack R${register} off=${low} size=${size}`
      : `invalid variable-offset${how} stack R${register} var_off=${formatTnum(pointer.value.tnum)} off=${pointer.offset + offset} size=${size}`;
    // An access that begins in the frame and ends behind it is another error to the kernel.
    a.fail('stack_out_of_bounds', place, low >= -STACK_BYTES && low < 0 ? 'EINVAL' : 'EACCES');
  }
  return [low, high];
}

/** The number that `size` bytes on the stack hold, where it is known: a spilled constant or zeros. */
export function constantOnStack(a: Analysis, frameIndex: number, offset: number, size: number): number | undefined {
  if (offset < -STACK_BYTES || offset + size > 0) return undefined;
  const slot = a.state.frames[frameIndex]!.slots[slotOf(offset)];
  if (slot === undefined || byteOf(offset) + size > 8) return undefined;
  if (slot.spilled !== undefined && byteOf(offset) === 0) {
    const { kind, value } = slot.spilled;
    if (spillSize(slot) !== size || kind !== 'scalar' || !isConstant(value)) return undefined;
    needSlot(a, frameIndex, slotOf(offset));
    return Number(BigInt.asUintN(8 * size, constantValue(value)));
  }
  for (let byte = byteOf(offset); byte < byteOf(offset) + size; byte++)
    if (byteState(slot, byte) !== ByteState.zero) return undefined;
  return 0;
}
