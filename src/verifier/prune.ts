/**
 * Pruning: stopping a path that arrives where an earlier path was already proved safe under weaker assumptions.
 *
 * Problem: paths multiply at branches. Strategy (the kernel's): at prune points states are stored; a later path that
 * arrives there with a state contained in a stored one is finished, since whatever it could do, the stored one
 * could. Loops are unrolled until their condition decides; equal states on one path are an infinite loop.
 *
 * Why it is sound:
 * - A stored state counts only when every path from it has ended (`pending` 0), so what it proved is complete. The
 *   exceptions are the heads of `may_goto`, callback and iterator loops, which may be compared with an unfinished ancestor: the
 *   program is then contained in its own ancestor, which is a fixpoint of the loop; all stack slots are compared then,
 *   since which of them are read is known only when all paths have ended (see `loops.ts`).
 * - Registers that are not live (`liveness.ts`) and stack slots that nothing reads any more (`stack-liveness.ts`) cannot matter
 *   and are ignored.
 * - Of scalars, only those that some path from the stored state relied on are compared (`precision.ts`).
 * - Ids are compared by a one-to-one mapping: two registers linked in the stored state must be linked in the new one.
 */
import type { Analysis } from './analysis.ts';
import { formatFrame } from './format.ts';
import { depthsDiffer, isActive } from './iterators.ts';
import { finishLoop, hasAdvanced, isIncomplete, isInSameLoops, noteBackEdge } from './loops.ts';
import { inheritKey, inheritPrecision, markEverything } from './precision.ts';
import { formatStored } from './precision-trace.ts';
import {
  isPacketPointer,
  linkOf,
  RAW_SIZE_ID,
  type RegisterState,
  sumOf,
  UNINITIALIZED,
  UNKNOWN_SCALAR,
} from './registers.ts';
import { contains, equal } from './scalar.ts';
import type { StackObject } from './stack-objects.ts';
import { ByteState, Checkpoint, type Frame, REGISTERS, type StackSlot, type State } from './state.ts';
import type { StoredStates } from './stored-states.ts';

/** loose: containment of what is live. contained: containment of everything. exact: equality of everything. */
type Mode = 'loose' | 'contained' | 'exact';

/** Position of the lowest bit of a 32-bit set that is not empty. */
const lowestBit = (set: number): number => 31 - Math.clz32(set & -set);

/** One-to-one mapping between ids of the stored and of the new state. */
class IdMap {
  private readonly old: number[] = [];
  private readonly current: number[] = [];
  private used = 0;
  private temporary = -2;

  clear(): void {
    this.used = 0;
    this.temporary = -2;
  }

  check(old: number, current: number): boolean {
    if ((old === 0) !== (current === 0)) return false;
    if (old === 0) return true;
    if (old === RAW_SIZE_ID || current === RAW_SIZE_ID) return old === current;
    for (let i = 0; i < this.used; i++) {
      if (this.old[i] === old) return this.current[i] === current;
      if (this.current[i] === current) return false;
    }
    this.old[this.used] = old;
    this.current[this.used++] = current;
    return true;
  }

  /** For scalars: a new state may have fewer equalities only where the stored one relied on none. */
  checkScalar(old: number, current: number): boolean {
    if (old === 0) return true;
    return this.check(old, current === 0 ? this.temporary-- : current);
  }
}

/** Of the comparison in work; there is only one at a time. */
const comparedIds = new IdMap();

function sameFixed(a: RegisterState, b: RegisterState): boolean {
  return (
    a.kind === b.kind &&
    a.nullable === b.nullable &&
    a.offset === b.offset &&
    a.map === b.map &&
    a.frame === b.frame &&
    a.size === b.size &&
    a.readOnly === b.readOnly &&
    a.packetSlice === b.packetSlice &&
    a.structure?.id === b.structure?.id &&
    a.subprogram === b.subprogram
  );
}

/** Was everything that `current` may be already covered by `old`? */
function registerCovered(
  old: RegisterState,
  current: RegisterState,
  ids: IdMap,
  mode: Mode,
  precise: boolean,
): boolean {
  if (mode === 'exact')
    return (
      sameFixed(old, current) &&
      old.range === current.range &&
      equal(old.value, current.value) &&
      (old.kind === 'scalar'
        ? sumOf(old.id) === sumOf(current.id) && ids.checkScalar(linkOf(old.id), linkOf(current.id))
        : ids.check(old.id, current.id)) &&
      ids.check(old.reference, current.reference) &&
      ids.check(old.dynptr, current.dynptr) &&
      ids.check(old.mapUid, current.mapUid)
    );
  if (old.kind === 'uninitialized') return true;
  if (old.kind !== current.kind) return false;
  if (old.kind === 'scalar') {
    if ((mode === 'loose' && !precise) || (old === current && old.id === 0)) return true;
    if (old.id !== 0 && (old.offset !== current.offset || sumOf(old.id) !== sumOf(current.id))) return false;
    return contains(old.value, current.value) && ids.checkScalar(linkOf(old.id), linkOf(current.id));
  }
  if (!sameFixed(old, current)) return false;
  if ((isPacketPointer(old) || old.kind === 'raw') && !rangeCovered(old.range, current.range)) return false;
  return (
    contains(old.value, current.value) &&
    ids.check(old.id, current.id) &&
    ids.check(old.reference, current.reference) &&
    ids.check(old.dynptr, current.dynptr) &&
    ids.check(old.mapUid, current.mapUid)
  );
}

/** A pointer known to be past the end decides branches: such knowledge must be the same in both. */
function rangeCovered(old: number, current: number): boolean {
  return old < 0 || current < 0 ? old === current : old <= current;
}

const ALL_SPILLED = 0xffff;
const ALL_MISC = 0x5555;

/** The number that all eight bytes hold; of data that nobody kept track of, any. */
function wholeNumber({ bytes, spilled }: StackSlot, uninitialisedAllowed: boolean): RegisterState | undefined {
  if (bytes === ALL_SPILLED) return spilled?.kind === 'scalar' ? spilled : undefined;
  // Of a byte that is misc or invalid only the lower bit may be set.
  const unknown = uninitialisedAllowed ? (bytes & ~ALL_MISC) === 0 : bytes === ALL_MISC;
  return unknown ? UNKNOWN_SCALAR : undefined;
}

function slotCovered(
  old: StackSlot | undefined,
  current: StackSlot | undefined,
  ids: IdMap,
  mode: Mode,
  uninitialisedAllowed: boolean,
  precise: boolean,
): boolean {
  const matters = mode === 'exact' || (old !== undefined && old.bytes !== 0);
  if (old?.object !== undefined || (matters && current?.object !== undefined))
    return objectCovered(old?.object, current?.object, ids);
  if (old === undefined || old.bytes === 0) return mode !== 'exact' || current === undefined || current.bytes === 0;
  if (current === undefined) {
    if (mode === 'exact') return false;
    return uninitialisedAllowed && old.spilled === undefined && !hasZero(old);
  }
  if (old === current && (old.spilled === undefined || (old.spilled.id === 0 && old.spilled.reference === 0)))
    return true;
  const [wasNumber, isNumber] = [wholeNumber(old, uninitialisedAllowed), wholeNumber(current, uninitialisedAllowed)];
  if (wasNumber !== undefined && isNumber !== undefined)
    return registerCovered(wasNumber, isNumber, ids, mode, precise);
  for (let byte = 0; byte < 8; byte++) {
    const was = (old.bytes >> (2 * byte)) & 3;
    const is = (current.bytes >> (2 * byte)) & 3;
    if (was === is) continue;
    if (mode === 'exact') return false;
    if (was === ByteState.invalid) continue;
    if (was !== ByteState.misc) return false;
    if (is === ByteState.invalid && !uninitialisedAllowed) return false;
    // Data of unknown contents covers anything that is data. A pointer is not: as misc bytes it reads as a scalar of unknown value,
    // which is what a partly overwritten pointer is too; but a whole pointer could be filled as a pointer.
    if (is === ByteState.spill && current.spilled?.kind !== 'scalar') return false;
  }
  if (old.spilled === undefined) return true;
  return current.spilled !== undefined && registerCovered(old.spilled, current.spilled, ids, mode, precise);
}

/** Iterators and dynptrs are the same in all that matters; how often an iterator was asked does not. */
function objectCovered(old: StackObject | undefined, current: StackObject | undefined, ids: IdMap): boolean {
  if (old?.kind === 'iterator' && current?.kind === 'iterator')
    return (
      old.type === current.type &&
      old.first === current.first &&
      old.active === current.active &&
      ids.check(old.reference, current.reference)
    );
  return (
    old?.kind === 'dynptr' &&
    current?.kind === 'dynptr' &&
    old.type === current.type &&
    old.first === current.first &&
    old.foreign === current.foreign &&
    ids.check(old.id, current.id) &&
    ids.check(old.reference, current.reference)
  );
}

function hasZero(slot: StackSlot): boolean {
  for (let byte = 0; byte < 8; byte++) if (((slot.bytes >> (2 * byte)) & 3) === ByteState.zero) return true;
  return false;
}

/** Registers of frame `index` that can matter after the state's instruction. */
export function liveIn(a: Analysis, state: State, index: number, insn: number): number {
  if (index === state.frames.length - 1) return a.live[insn]! | (1 << 10);
  const inner = state.frames[index + 1]!;
  if (inner.isCallback) return a.live[inner.callSite]! | (1 << 10);
  return (a.live[inner.callSite + 1]! & ~0b111111) | (1 << 10);
}

/** Marks of the sources of a key, three sets by frame: registers, both halves of the slots. */
type KeyMarks = Int32Array | undefined;

function frameCovered(
  a: Analysis,
  old: Checkpoint,
  current: State,
  index: number,
  ids: IdMap,
  mode: Mode,
  key: KeyMarks,
): boolean {
  const was = old.state.frames[index]!;
  const is = current.frames[index]!;
  if (was.callbackDepth > is.callbackDepth) return false;
  const live = liveIn(a, current, index, old.insn);
  const preciseRegisters = old.preciseRegisters(index) | (key === undefined ? 0 : key[3 * index]!);
  for (let r = 0; r < REGISTERS; r++) {
    if ((live & (1 << r)) === 0) continue;
    const before = was.registers[r]!;
    const now = is.registers[r]!;
    if (registerCovered(before, now, ids, mode, (preciseRegisters & (1 << r)) !== 0)) continue;
    if (index === current.frames.length - 1 && key === undefined) noteDifference(old, r, before, now);
    return false;
  }
  if (mode === 'loose') {
    for (let half = 0; half < 2; half++) {
      for (let left = old.liveSlots(index, half); left !== 0; left &= left - 1)
        if (!slotOfFrameCovered(a, old, is, index, 32 * half + lowestBit(left), ids, mode, key)) return false;
    }
    return true;
  }
  const slots = Math.max(was.slots.length, is.slots.length);
  for (let slot = 0; slot < slots; slot++)
    if (!slotOfFrameCovered(a, old, is, index, slot, ids, mode, key)) return false;
  return true;
}

function slotOfFrameCovered(
  a: Analysis,
  old: Checkpoint,
  is: Frame,
  index: number,
  slot: number,
  ids: IdMap,
  mode: Mode,
  key: KeyMarks,
): boolean {
  const was = old.state.frames[index]!.slots;
  const precise =
    old.isPreciseSlot(index, slot) ||
    (key !== undefined && (key[3 * index + 1 + (slot >> 5)]! & (1 << (slot & 31))) !== 0);
  if (slotCovered(was[slot], is.slots[slot], ids, mode, false, precise)) return true;
  if (!a.uninitializedStackAllowed || !slotCovered(was[slot], is.slots[slot], ids, mode, true, precise)) return false;
  // The path that ends here may read what the older one had written and this one had not.
  a.facts.uninitialized.add(is.subprogram);
  return true;
}

function sameCalls(old: State, current: State): boolean {
  const frames = old.frames.length;
  if (frames !== current.frames.length) return false;
  for (let i = 0; i < frames; i++) {
    const frame = old.frames[i]!;
    const other = current.frames[i]!;
    if (
      frame.callSite !== other.callSite ||
      frame.subprogram !== other.subprogram ||
      frame.isCallback !== other.isCallback
    )
      return false;
  }
  return true;
}

/** Both must hold the same references, however they are called. */
function referencesCovered({ references: old }: State, { references: current }: State, ids: IdMap): boolean {
  if (old.length !== current.length) return false;
  return old.length === 0 || old.every(({ id, lock }, i) => lock === current[i]!.lock && ids.check(id, current[i]!.id));
}

/** Numbers that told two states apart once are likely to do so again. */
function noteDifference(old: Checkpoint, r: number, before: RegisterState, now: RegisterState): void {
  if (before.kind !== 'scalar' || now.kind !== 'scalar' || contains(before.value, now.value)) return;
  old.differentRegister = r;
  old.differentValue = before.value;
}

/** Did some path from the stored state rely on the number that told it from another one? */
function reliesOnDifference(old: Checkpoint): boolean {
  const r = old.differentRegister;
  return r >= 0 && (old.preciseRegisters(old.state.frames.length - 1) & (1 << r)) !== 0;
}

/** Does the number that told the stored state from another one tell it from this one, too? Then all else need not be looked at. */
function differsAgain(old: Checkpoint, current: State, mode: Mode): boolean {
  const r = old.differentRegister;
  if (r < 0) return false;
  if (mode === 'loose' && !reliesOnDifference(old)) return false;
  const now = current.registers[r]!;
  return now.kind === 'scalar' && !contains(old.differentValue!, now.value);
}

/** @param key counts in the sources of a key */
function covered(a: Analysis, old: Checkpoint, current: State, wanted: Mode, key?: KeyMarks): boolean {
  // Numbers that decided limits of pointer arithmetic are compared as they are.
  const mode = a.limitsExplored ? 'exact' : wanted;
  if (differsAgain(old, current, mode)) return false;
  // A speculative path is let off where a real one is refused.
  if (old.state.speculative && !current.speculative) return false;
  if (!sameCalls(old.state, current)) return false;
  if (mode === 'exact' ? old.state.rawSize !== current.rawSize : old.state.rawSize > current.rawSize) return false;
  if (old.state.rcuDepth !== current.rcuDepth || old.state.preemptDepth !== current.preemptDepth) return false;
  const ids = comparedIds;
  ids.clear();
  if (!referencesCovered(old.state, current, ids)) return false;
  for (let index = 0; index < current.frames.length; index++)
    if (!frameCovered(a, old, current, index, ids, mode, key)) return false;
  return true;
}

function dropDeadRegisters(a: Analysis, state: State, insn: number): void {
  for (let index = 0; index < state.frames.length; index++) {
    const { registers } = state.frames[index]!;
    const live = liveIn(a, state, index, insn);
    for (let r = 0; r < REGISTERS; r++) if ((live & (1 << r)) === 0) registers[r] = UNINITIALIZED;
  }
}

/** The path in work ends here, where `old` covers it: does it also cover what keys were taken from? */
function inheritKeys(a: Analysis, old: Checkpoint): void {
  for (const [call, marks] of old.keyMarks!) {
    if (a.keys.isUnknown(call)) continue;
    if (covered(a, old, a.state, 'loose', marks)) inheritKey(a, a.state, old, call, marks);
    else a.keys.forget(call);
  }
}

/** The path has come round a loop to `head`, whose paths are not all walked yet. */
function endInLoop(a: Analysis, states: StoredStates, i: number): 'covered' {
  const head = states.get(i);
  states.hit(i);
  inheritPrecision(a, a.state, head);
  turnBack(a, head);
  return 'covered';
}

/** The path goes back into a loop, to a state that is not finished. */
function turnBack(a: Analysis, target: Checkpoint): void {
  const loop = a.loops === undefined ? undefined : loopOf(a, target);
  if (loop !== undefined) a.log.write(`SCC backedge ${loop}`);
  noteBackEdge(a, target);
}

/** Nothing has changed since the path was here before, and nothing that bounds a loop has advanced. */
function refuseEndless(a: Analysis, old: Checkpoint): void {
  const { state } = a;
  if (!covered(a, old, state, 'exact')) return;
  const index = state.frames.length - 1;
  const states = `cur state:${formatFrame(state.frame, index)}\nold state:${formatStored(old, index)}`;
  a.fail('infinite_loop', `infinite loop detected at insn ${a.insn}`, 'EINVAL', undefined, states);
}

/** What a path is told at a prune point. */
export type Arrival = 'covered' | 'go on';

/** Remarkable entries of the history after which a state is stored in any case. */
const LONGEST_HISTORY = 40;

/** Times its length (and a thousand) that a program is walked before its paths count as multiplying. */
const MULTIPLYING = 8;

/** Compares the current state with those stored here; stores it where that is likely to pay. */
export function arrive(a: Analysis): Arrival {
  const insn = a.insn;
  const state = a.state;
  const forced = a.cfg.forcedCheckpoint[insn] === 1;
  const stored = a.explored.at(insn);
  const { registers } = state;
  let compared = 0;
  const multiplying = a.insnsProcessed > MULTIPLYING * (a.insns.length + 1000);
  const { checking } = a.options;
  const force = forced || a.history.remarkable > LONGEST_HISTORY;
  let store =
    force ||
    checking !== undefined ||
    (a.jumpsProcessed - a.jumpsAtCheckpoint >= 2 && a.insnsProcessed - a.insnsAtCheckpoint >= 8);
  const instruction = a.insns[insn]!;
  // Where paths multiply, comparing is cheaper than walking again what a state that was dropped too early had proved.
  const usualPatience = multiplying ? 8 : 3;
  const called = state.frames.length > 1;
  // The newest first.
  for (let i = stored === undefined ? -1 : stored.length - 1; i >= 0; i--) {
    const states = stored!;
    // States of the function as it was called elsewhere count for nothing here.
    if (called && states.get(i).state.frame.callSite !== state.frame.callSite) continue;
    compared++;
    if (states.rejects(i, registers, store)) {
      if (states.isWorn(i, usualPatience)) states.remove(i);
      continue;
    }
    const old = states.get(i);
    if (old.pending > 0) {
      if (instruction.kind === 'mayGoto') {
        if (old.state.mayGotoDepth !== state.mayGotoDepth && covered(a, old, state, 'contained')) {
          if (hasAdvanced(old.state, state)) return endInLoop(a, states, i);
          refuseEndless(a, old);
        }
      } else if (instruction.kind === 'callKfunc' && forced) {
        if (covered(a, old, state, 'contained') && isActive(a, state)) {
          if (hasAdvanced(old.state, state)) return endInLoop(a, states, i);
          refuseEndless(a, old);
        }
      } else if (instruction.kind === 'callHelper' && forced) {
        if (covered(a, old, state, 'contained')) {
          if (hasAdvanced(old.state, state)) return endInLoop(a, states, i);
          refuseEndless(a, old);
        }
      } else {
        if (
          old.state.mayGotoDepth === state.mayGotoDepth &&
          old.state.callbackUnrollDepth === state.callbackUnrollDepth &&
          !depthsDiffer(old.state, state)
        )
          refuseEndless(a, old);
        if (
          !force &&
          !checking &&
          a.jumpsProcessed - a.jumpsAtCheckpoint < 20 &&
          a.insnsProcessed - a.insnsAtCheckpoint < 100
        )
          store = false;
      }
    } else {
      const incomplete = isIncomplete(old);
      if (covered(a, old, state, incomplete ? 'contained' : 'loose') && (!incomplete || isInSameLoops(old, state))) {
        states.hit(i);
        inheritPrecision(a, state, old);
        if (old.keyMarks !== undefined) inheritKeys(a, old);
        if (incomplete) turnBack(a, old);
        return 'covered';
      }
      if (reliesOnDifference(old)) states.keep(i, old.differentRegister, old.differentValue!);
    }
    // A visit that adds no state says nothing of whether this one helps.
    if (store) states.miss(i);
    // A state that never helps costs time at each arrival. Heads of loops that converge by comparison stay longer.
    if (states.isWorn(i, forced && old.pending > 0 ? 64 : usualPatience)) states.remove(i);
  }
  if (compared > a.maxStatesPerInsn) a.maxStatesPerInsn = compared;
  if (store) storeState(a);
  return 'go on';
}

function storeState(a: Analysis): void {
  const copy = a.state.copy();
  // Comparisons ignore them anyway; the log shows them, as the kernel's does.
  if (a.log.level === 0) dropDeadRegisters(a, copy, a.insn);
  const checkpoint = new Checkpoint(a.insn, copy, a.history.length);
  a.explored.add(a.insn, checkpoint);
  a.totalStates++;
  a.peakStates++;
  a.jumpsAtCheckpoint = a.jumpsProcessed;
  a.insnsAtCheckpoint = a.insnsProcessed;
  a.history.remarkable = 0;
  enterLoop(a, checkpoint);
  // Without CAP_BPF every number counts.
  if (a.withoutBpf || a.options.checking?.precision === 'all') markEverything(checkpoint);
  a.state.parent = checkpoint;
}

/** Call sites and the outermost loop that a stored state is in, e.g. `(4,2)`; undefined: in none. */
function loopOf(a: Analysis, { insn, state }: Checkpoint): string | undefined {
  const sites: number[] = [];
  for (const [index] of state.frames.entries()) {
    const at = state.frames[index + 1]?.callSite ?? insn;
    const loop = a.loops![at]!;
    if (loop !== 0) return `(${[...sites, loop].join(',')})`;
    sites.push(at);
  }
  return undefined;
}

function enterLoop(a: Analysis, checkpoint: Checkpoint): void {
  if (a.loops === undefined) return;
  const loop = loopOf(a, checkpoint);
  if (loop === undefined || a.enteredLoops.has(loop)) return;
  a.enteredLoops.set(loop, checkpoint);
  a.log.write(`SCC enter ${loop}`);
}

function leaveLoop(a: Analysis, checkpoint: Checkpoint): void {
  if (a.loops === undefined) return;
  const loop = loopOf(a, checkpoint);
  if (loop === undefined || a.enteredLoops.get(loop) !== checkpoint) return;
  a.enteredLoops.delete(loop);
  a.log.write(`SCC exit ${loop}`);
}

/** A path has ended: its ancestors have one path less to wait for. */
export function finishPath(a: Analysis): void {
  let checkpoint = a.state.parent;
  while (checkpoint !== undefined) {
    checkpoint.pending--;
    if (checkpoint.pending > 0) return;
    if (checkpoint.isLoopHead) finishLoop(a, checkpoint);
    leaveLoop(a, checkpoint);
    if (a.options.checking !== undefined) a.finished.push(checkpoint);
    const { parent } = checkpoint;
    // Nothing walks up from here any more, unless a loop is to be finished: the states before it need not be kept for it.
    if (a.backEdges.length === 0) checkpoint.parent = undefined;
    checkpoint = parent;
  }
}

/** The last state stored at `insn` in the same frames, from `start` upwards on this path. */
export function previousEntry(state: State, insn: number, start: Checkpoint | undefined): Checkpoint | undefined {
  for (let at = start; at !== undefined; at = at.parent) {
    if (at.insn === insn && sameCalls(at.state, state)) return at;
  }
  return undefined;
}

function widen(old: RegisterState | undefined, current: RegisterState, ids: IdMap): RegisterState {
  if (old === undefined || old.kind !== 'scalar' || current.kind !== 'scalar') return current;
  if (equal(old.value, current.value) && old.offset === current.offset && ids.check(old.id, current.id)) return current;
  return current.id === RAW_SIZE_ID ? current : UNKNOWN_SCALAR;
}

/**
 * Iterations of a loop without a bound that are walked with the exact value of an index or limit, for loops that end before
 * long by their own condition. Then it becomes unknown too, so that the others converge.
 */
export const PRECISE_ITERATIONS = 256;

/**
 * Makes loops without a bound converge: scalars that changed since the loop's head was last passed become unknown in
 * `state`, which is going into the loop again.
 * @param keepPrecise leave those alone whose value something relied on
 */
export function widenChanged(old: Checkpoint, state: State, keepPrecise: boolean): void {
  const ids = comparedIds;
  ids.clear();
  state.frames.forEach((frame: Frame, index: number) => {
    const before = old.state.frames[index];
    if (before === undefined) return;
    const kept = keepPrecise ? old.preciseRegisters(index) : 0;
    for (let r = 0; r < REGISTERS; r++)
      if ((kept & (1 << r)) === 0) frame.registers[r] = widen(before.registers[r], frame.registers[r]!, ids);
    for (let i = 0; i < frame.slots.length; i++) {
      const slot = frame.slots[i];
      if (slot?.spilled === undefined) continue;
      if (keepPrecise && old.isPreciseSlot(index, i)) continue;
      const spilled = widen(before.slots[i]?.spilled, slot.spilled, ids);
      if (spilled !== slot.spilled) frame.setSlot(i, { bytes: slot.bytes, spilled });
    }
  });
}
