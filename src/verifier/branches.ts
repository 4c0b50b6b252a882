/**
 * Conditional jumps: which ways are possible, and what each way tells.
 *
 * Scalars are refined by the scalar domain, and with them all registers linked by id. A comparison of an or-null pointer with zero
 * decides all its copies. A comparison of a packet pointer with the packet's end proves bytes for all pointers
 * with the same id. For `raw` programs the size in r2, and the end r1 + r2, prove bytes of the memory in the same way.
 */
import type { Jump, JumpOp, Register } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { hasLock } from './locks.ts';
import { needRegister, registerPlace, slotPlace } from './precision.ts';
import { liveIn } from './prune.ts';
import { dropReference } from './references.ts';
import {
  AT_PACKET_END,
  BEYOND_PACKET_END,
  isNonNullPointer,
  isPacketPointer,
  isPointer,
  linkOf,
  RAW_SIZE_ID,
  type RegisterState,
  SUM_32,
  SUM_64,
  scalarRegister,
  sumOf,
  withFields,
  withValue,
  ZERO_SCALAR,
} from './registers.ts';
import {
  alu,
  compare,
  constant,
  constantOfInt,
  constantValue,
  intersect,
  isConstant,
  refine,
  type Scalar,
} from './scalar.ts';
import { guessOtherWay } from './speculation.ts';
import { REGISTERS, type State } from './state.ts';
import { refuseComparison } from './unprivileged.ts';

const MAX_PACKET_OFFSET = 0xffff;

/** The outcome where it is the same for all values. */
function predict(i: Jump, left: RegisterState, right: RegisterState): boolean | undefined {
  if (left.kind === 'scalar' && right.kind === 'scalar') return compare(i.op, i.width, left.value, right.value);
  if (i.width === 64 && (i.op === 'eq' || i.op === 'ne')) {
    const [pointer, other] = isPointer(left) ? [left, right] : [right, left];
    if (
      isNonNullPointer(pointer) &&
      other.kind === 'scalar' &&
      isConstant(other.value) &&
      constantValue(other.value) === 0n
    )
      return i.op === 'ne';
  }
  return i.width === 64 ? predictPastEnd(i.op, left, right) : undefined;
}

/** A packet pointer that was found at or behind the packet's end on this path is still there. */
function predictPastEnd(op: JumpOp, left: RegisterState, right: RegisterState): boolean | undefined {
  const mirrored = left.kind === 'packetEnd';
  const [pointer, end] = mirrored ? [right, left] : [left, right];
  if (pointer.kind !== 'packet' || end.kind !== 'packetEnd' || pointer.range >= 0) return undefined;
  const beyond = pointer.range === BEYOND_PACKET_END;
  switch (mirrored ? MIRRORED[op] : op) {
    case 'gt':
      return beyond ? true : undefined;
    case 'le':
      return beyond ? false : undefined;
    case 'ge':
      return true;
    case 'lt':
      return false;
    default:
      return undefined;
  }
}

/** @returns the slot to go on at; -1 where neither way is possible. */
export function executeJump(a: Analysis, i: Jump): number {
  const next = decide(a, i);
  if (next >= 0) a.log.jumped(a.insn, a.state);
  return next;
}

function decide(a: Analysis, i: Jump): number {
  const source = i.src === undefined ? undefined : a.read(i.src);
  const left = a.read(i.dst);
  const right = source ?? scalarRegister(constantOfInt(i.imm));
  const next = a.insn + 1;
  const target = next + i.offset;
  if (i.src !== undefined && !(boundsPacket(left) && boundsPacket(right))) refuseComparison(a, right, i.src);
  const known = predict(i, left, right);
  if (known !== undefined) {
    needOperands(a, i);
    guessOtherWay(a, i, known ? next : target);
    return known ? target : next;
  }
  if (left.kind === 'scalar' && right.kind === 'scalar') return branchOnScalars(a, i, left, right, next, target);

  const nullCheck =
    i.width === 64 && left.nullable && i.src === undefined && i.imm === 0 && (i.op === 'eq' || i.op === 'ne');
  if (!nullCheck && !(i.width === 64 && matchesPacket(i, left, right))) refuseComparison(a, left, i.dst);
  const taken = a.push(target, a.insn);
  const fall = a.state;
  if (i.width !== 64) return next;
  if (left.nullable && i.src === undefined && i.imm === 0 && (i.op === 'eq' || i.op === 'ne')) {
    decideNull(a, i.op === 'eq' ? taken : fall, left.id, true);
    decideNull(a, i.op === 'eq' ? fall : taken, left.id, false);
  } else if (isPointer(left) && isPointer(right) && (i.op === 'eq' || i.op === 'ne')) {
    if (left.nullable !== right.nullable)
      decideNull(a, i.op === 'eq' ? taken : fall, left.nullable ? left.id : right.id, false);
  } else {
    learnBounds(i, left, right, taken, fall);
  }
  return next;
}

const boundsPacket = (r: RegisterState): boolean => isPacketPointer(r) || r.kind === 'packetEnd';

/** A comparison that tells how far a packet reaches (the kernel's `try_match_pkt_pointers`). */
function matchesPacket(i: Jump, left: RegisterState, right: RegisterState): boolean {
  return i.src !== undefined && MIRRORED[i.op] !== undefined && (bounds(left, right) || bounds(right, left));
}

function needOperands(a: Analysis, i: Jump): void {
  needRegister(a, i.dst);
  needRegister(a, i.src);
}

function branchOnScalars(
  a: Analysis,
  i: Jump,
  left: RegisterState,
  right: RegisterState,
  next: number,
  target: number,
): number {
  if (i.src === i.dst) return branchOnItself(a, i, next, target);
  const whenTaken = refine(i.op, i.width, left.value, right.value, true);
  const whenNot = refine(i.op, i.width, left.value, right.value, false);
  const sizes = left.id === RAW_SIZE_ID || right.id === RAW_SIZE_ID;
  if (whenTaken === undefined || whenNot === undefined || sizes) needOperands(a, i);
  if (whenTaken === undefined && whenNot === undefined) return -1;
  if (whenTaken === undefined) {
    guessOtherWay(a, i, target);
    learnScalars(a, a.state, next, i, left, right, whenNot!);
    return next;
  }
  if (whenNot === undefined) {
    guessOtherWay(a, i, next);
    learnScalars(a, a.state, target, i, left, right, whenTaken);
    return target;
  }
  const taken = a.push(target, a.insn);
  learnScalars(a, taken, target, i, left, right, whenTaken);
  learnScalars(a, a.state, next, i, left, right, whenNot);
  return next;
}

const TRUE_OF_ITSELF: ReadonlySet<JumpOp> = new Set(['eq', 'ge', 'le', 'sge', 'sle']);

/** Whatever its number, a register compared with itself gives the same answer. (Linux 6.18 takes both ways, with bounds that contradict.) */
function branchOnItself(a: Analysis, i: Jump, next: number, target: number): number {
  if (i.op === 'set') {
    a.push(target, a.insn);
    return next;
  }
  const taken = TRUE_OF_ITSELF.has(i.op);
  guessOtherWay(a, i, taken ? next : target);
  return taken ? target : next;
}

interface Operands {
  readonly a: Scalar;
  readonly b: Scalar;
}

function learnScalars(
  a: Analysis,
  state: State,
  insn: number,
  i: Jump,
  left: RegisterState,
  right: RegisterState,
  known: Operands,
): void {
  const { registers } = state;
  if (a.isSeen(insn, i.dst)) registers[i.dst] = withValue(left, known.a);
  if (i.src !== undefined && a.isSeen(insn, i.src)) registers[i.src] = withValue(right, known.b);
  if (left.id !== 0) spread(a, state, left, known.a);
  if (i.src !== undefined && right.id !== 0) spread(a, state, right, known.b);
}

/** All live registers, and slots, that differ from `known` by a constant get the bounds that follow. */
function spread(a: Analysis, state: State, from: RegisterState, known: Scalar): void {
  const { id, offset } = from;
  if (id === RAW_SIZE_ID) {
    const size = shifted(known, -offset, 64);
    const least = Number(size.umin);
    if (least > state.rawSize) state.rawSize = least;
  }
  const link = linkOf(id);
  if (!noteLinked(a, state, link)) return;
  const learn = (r: RegisterState): RegisterState => {
    if (r.kind !== 'scalar' || linkOf(r.id) !== link) return r;
    // Two sums of different widths differ by a constant in neither.
    if ((sumOf(r.id) ^ sumOf(id)) === (SUM_64 | SUM_32)) return r;
    const value = shifted(known, r.offset - offset, ((sumOf(r.id) | sumOf(id)) & SUM_32) !== 0 ? 32 : 64);
    const narrowed = intersect(r.value, value) ?? value;
    // Nothing, or nothing more, was added to it: it is a copy.
    return r.offset === offset && r.id !== id ? withFields(r, { value: narrowed, id }) : withValue(r, narrowed);
  };
  for (let f = 0; f < state.frames.length; f++) {
    const frame = state.frames[f]!;
    const live = liveIn(a, state, f, a.insn);
    for (let r = 0; r < REGISTERS; r++) if ((live & (1 << r)) !== 0) frame.registers[r] = learn(frame.registers[r]!);
    for (let index = 0; index < frame.slots.length; index++) {
      const slot = frame.slots[index];
      if (slot?.spilled === undefined) continue;
      const spilled = learn(slot.spilled);
      if (spilled !== slot.spilled) frame.setSlot(index, { bytes: slot.bytes, spilled });
    }
  }
}

/**
 * Leaves on the path which registers and slots are linked: who relies on one relies on all.
 * @returns whether there are any beside the one compared
 */
function noteLinked(a: Analysis, state: State, link: number): boolean {
  if (!hasOthers(a, state, link)) return false;
  const places: number[] = [];
  for (let f = 0; f < state.frames.length; f++) {
    const { registers, slots } = state.frames[f]!;
    const live = liveIn(a, state, f, a.insn);
    for (let r = 0; r < REGISTERS; r++)
      if ((live & (1 << r)) !== 0 && isLinked(registers[r], link)) places.push(registerPlace(f, r));
    for (let i = 0; i < slots.length; i++) if (isLinked(slots[i]?.spilled, link)) places.push(slotPlace(f, i));
  }
  a.history.noteLinked(places);
  return true;
}

const isLinked = (r: RegisterState | undefined, link: number): boolean =>
  r !== undefined && r.id !== 0 && r.kind === 'scalar' && linkOf(r.id) === link;

/** Most numbers are linked with nothing any more. */
function hasOthers(a: Analysis, state: State, link: number): boolean {
  let found = 0;
  for (let f = 0; f < state.frames.length; f++) {
    const { registers, slots } = state.frames[f]!;
    const live = liveIn(a, state, f, a.insn);
    for (let r = 0; r < REGISTERS; r++)
      if ((live & (1 << r)) !== 0 && isLinked(registers[r], link) && ++found > 1) return true;
    for (let i = 0; i < slots.length; i++) if (isLinked(slots[i]?.spilled, link) && ++found > 1) return true;
  }
  return false;
}

function shifted(value: Scalar, by: number, width: 32 | 64): Scalar {
  return by === 0 ? value : alu('add', width, value, constant(BigInt(by)));
}

/** Every copy of the or-null pointer `unknown` is null, or none is. */
function decideNull(a: Analysis, state: State, unknown: number, isNull: boolean): void {
  // Nothing was acquired after all. The result of the acquiring call has the reference's own id.
  if (isNull) dropReference(state, unknown);
  state.mapRegisters(r => {
    if (r.id !== unknown || !r.nullable) return r;
    if (isNull) return ZERO_SCALAR;
    // The id of a value with a lock goes on telling which lock it is.
    const id = r.map !== undefined && hasLock(a, r.map) ? r.id : 0;
    return withFields(r, { nullable: false, id });
  });
}

/** Is `end` what bounds pointers of `pointer`'s kind? The start of the packet bounds its metadata. */
function bounds(pointer: RegisterState, end: RegisterState): boolean {
  if (pointer.kind === 'packet') return end.kind === 'packetEnd';
  if (pointer.kind === 'packetMeta')
    return end.kind === 'packet' && end.offset === 0 && isConstant(end.value) && constantValue(end.value) === 0n;
  return pointer.kind === 'raw' && end.kind === 'rawEnd';
}

/**
 * Where `pointer <= end` (or `pointer < end`) is known, the bytes before the pointer lie inside.
 * `inTaken`: known where the jump is taken, else where it is not.
 */
function learnBounds(i: Jump, left: RegisterState, right: RegisterState, taken: State, fall: State): void {
  const leftBounded = bounds(left, right);
  if (!leftBounded && !bounds(right, left)) return;
  const pointer = leftBounded ? left : right;
  const end = leftBounded ? right : left;
  // In terms of `pointer op end`: the state in which it is below, and whether strictly.
  const normal = leftBounded ? i.op : MIRRORED[i.op];
  const named = leftBounded ? i.dst : i.src!;
  switch (normal) {
    case 'gt':
      prove(fall, pointer, end, false);
      notePastEnd(taken, named, BEYOND_PACKET_END);
      break;
    case 'ge':
      prove(fall, pointer, end, true);
      notePastEnd(taken, named, AT_PACKET_END);
      break;
    case 'lt':
      prove(taken, pointer, end, true);
      notePastEnd(fall, named, AT_PACKET_END);
      break;
    case 'le':
      prove(taken, pointer, end, false);
      notePastEnd(fall, named, BEYOND_PACKET_END);
      break;
  }
}

/** Only of the register compared: how far its copies with other offsets are from the end is not known. */
function notePastEnd(state: State, named: Register, where: number): void {
  const pointer = state.registers[named]!;
  if (pointer.kind === 'packet') state.registers[named] = withFields(pointer, { range: where });
}

/** `a op b` is `b MIRRORED[op] a`. */
const MIRRORED: Readonly<Partial<Record<JumpOp, JumpOp>>> = { gt: 'lt', lt: 'gt', ge: 'le', le: 'ge' };

function prove(state: State, pointer: RegisterState, end: RegisterState, strict: boolean): void {
  const proved = pointer.offset - (pointer.kind === 'raw' ? end.offset : 0) + (strict ? 1 : 0);
  if (pointer.kind === 'raw') {
    if (isConstant(pointer.value)) {
      const bytes = proved + Number(BigInt.asIntN(64, constantValue(pointer.value)));
      if (bytes > state.rawSize) state.rawSize = bytes;
      return;
    }
    if (proved <= 0 || pointer.value.umax > 0xffffffffn) return;
  } else {
    if (pointer.offset < 0 || (pointer.offset === 0 && strict)) return;
    if (
      pointer.value.umax > BigInt(MAX_PACKET_OFFSET) ||
      pointer.value.umax + BigInt(pointer.offset) > BigInt(MAX_PACKET_OFFSET)
    )
      return;
  }
  state.mapRegisters(r =>
    r.kind === pointer.kind && r.id === pointer.id && (isPacketPointer(r) || r.id !== 0) && r.range < proved
      ? withFields(r, { range: proved })
      : r,
  );
}
