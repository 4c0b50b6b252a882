/** Registers, stack slots and whole frames in the notation of the kernel's log (`print_verifier_state`). */
import { kindName, linkOf, type RegisterState, sumOf } from './registers.ts';
import { constantValue, formatScalar, isConstant } from './scalar.ts';
import type { StackObject } from './stack-objects.ts';
import { ByteState, type Frame, REGISTERS, STACK_SLOTS, type StackSlot, type State } from './state.ts';
import type { Tnum } from './tnum.ts';

/** Small numbers in decimal, large ones in hexadecimal, as the kernel does. */
function formatSigned(value: bigint): string {
  const signed = BigInt.asIntN(64, value);
  if (signed >= -32768n && signed <= 32767n) return signed.toString();
  return `0x${BigInt.asUintN(64, value).toString(16)}`;
}

/** Known bits as the kernel writes them: a number, or (value; unknown bits). */
export function formatTnum({ value, mask }: Tnum): string {
  if (mask === 0n) return value === 0n ? '0' : `0x${value.toString(16)}`;
  return `(0x${value.toString(16)}; 0x${mask.toString(16)})`;
}

/** @param frame index of the frame the register belongs to: pointers into other frames are marked. */
function formatRegister(r: RegisterState, frame: number, precise: boolean): string {
  if (r.kind === 'uninitialized') return '?';
  const mark = precise && r.kind === 'scalar' ? 'P' : '';
  if (r.kind === 'scalar' && isConstant(r.value)) return mark + formatSigned(constantValue(r.value));
  let text = mark + kindName(r) + (r.structure?.name ?? '');
  if (r.kind === 'stack') {
    if (r.frame !== frame) text += `[${r.frame}]`;
    if (isConstant(r.value)) return text + formatSigned(constantValue(r.value) + BigInt(r.offset));
  }
  const parts: string[] = [];
  if (r.id !== 0)
    parts.push(
      r.kind === 'scalar' && (r.offset !== 0 || sumOf(r.id) !== 0)
        ? `id=${linkOf(r.id)}${r.offset < 0 ? '' : '+'}${r.offset}`
        : `id=${r.id}`,
    );
  if (r.reference !== 0) parts.push(`ref_obj_id=${r.reference}`);
  if (r.map !== undefined) {
    // What was found in a map of maps has no name.
    if (r.mapUid === 0) parts.push(`map=${r.map.name}`);
    parts.push(`ks=${r.map.keySize}`, `vs=${r.map.valueSize}`);
  }
  if (r.kind !== 'scalar' && r.offset !== 0) parts.push(`off=${formatSigned(BigInt(r.offset))}`);
  if (r.kind === 'packet' || r.kind === 'packetMeta' || (r.kind === 'raw' && r.range > 0))
    parts.push(`r=${r.range < 0 ? `0x${BigInt.asUintN(64, BigInt(r.range)).toString(16)}` : r.range}`);
  if (r.kind === 'memory' || r.kind === 'ringbufMemory' || r.kind === 'untrustedMemory') parts.push(`sz=${r.size}`);
  if (!isConstant(r.value)) {
    const ranges = formatScalar(r.value);
    if (ranges !== '') parts.push(ranges);
  } else if (r.kind !== 'scalar' && constantValue(r.value) !== 0n) {
    parts.push(`imm=${formatSigned(constantValue(r.value))}`);
  }
  return `${text}(${parts.join(',')})`;
}

/** Whole objects at their first slot. What the kernel prints as dynptr_id is 1 for all. */
function formatObject(object: StackObject): string {
  if (object.kind === 'iterator') {
    const { type, reference, active, depth, first } = object;
    if (!first) return '';
    return `iter_${type}(ref_id=${reference},state=${active ? 'active' : 'drained'},depth=${depth})`;
  }
  const { type, id, reference, first } = object;
  return first ? `dynptr_${type}(id=${id},${reference === 0 ? '' : `ref_id=${reference},`}dynptr_id=1)` : '';
}

const BYTE_LETTERS = ['?', 'm', '0', 'r'] as const;

/** e.g. `mmmm????`: highest address first; a spilled register stands for its bytes. Empty where nothing was written. */
function formatSlot(slot: StackSlot | undefined, frame: number, precise: boolean): string {
  if (slot === undefined || slot.bytes === 0) return '';
  if (slot.object !== undefined) return formatObject(slot.object);
  let text = '';
  for (let byte = 7; byte >= 0; byte--) {
    const state = (slot.bytes >> (2 * byte)) & 3;
    if (state === ByteState.spill && slot.spilled !== undefined)
      return text + formatRegister(slot.spilled, frame, precise);
    text += BYTE_LETTERS[state];
  }
  return text;
}

/** Set of registers (bits) and of slots to print; undefined prints everything that is known. */
export interface Selection {
  readonly registers: number;
  readonly slots: ReadonlySet<number>;
}

/** Of one frame: numbers that something relied on, marked with a P. */
export interface PreciseMarks {
  readonly registers: number;
  slot(index: number): boolean;
}

export function formatFrame(frame: Frame, index: number, selection?: Selection, precise?: PreciseMarks): string {
  let text = index > 0 ? ` frame${index}:` : '';
  for (let r = 0; r < REGISTERS; r++) {
    const state = frame.registers[r]!;
    if (state.kind === 'uninitialized' || (selection !== undefined && (selection.registers & (1 << r)) === 0)) continue;
    text += ` R${r}=${formatRegister(state, index, precise !== undefined && (precise.registers & (1 << r)) !== 0)}`;
  }
  for (let i = 0; i < STACK_SLOTS; i++) {
    if (selection !== undefined && !selection.slots.has(i)) continue;
    const slot = formatSlot(frame.slots[i], index, precise?.slot(i) === true);
    if (slot !== '') text += ` fp-${8 * (i + 1)}=${slot}`;
  }
  return text;
}

/** What follows a frame, by default the innermost one: the references that are held, and whether it is a callback's. */
export function formatReferences({ references, frames }: State, index = frames.length - 1): string {
  const ids = references.map(({ id }) => id).filter(id => id !== 0);
  return (ids.length === 0 ? '' : ` refs=${ids.join(',')}`) + (frames[index]!.isCallback ? ' cb' : '');
}

/** All frames, innermost first. */
export function formatState(state: State): string {
  return state.frames
    .map((frame, index) => formatFrame(frame, index) + (frame === state.frame ? formatReferences(state) : ''))
    .reverse()
    .join('\n')
    .trim();
}
