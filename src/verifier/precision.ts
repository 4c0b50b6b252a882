/**
 * Which numbers matter: precision tracking by walking back.
 *
 * Problem: most scalars never decide anything (counters that are only added up, data that is only copied), and states that
 * differ in them alone should count as the same, or loops would multiply states without end.
 *
 * Strategy (the kernel's): a scalar counts as precise only once something relied on its value: a branch that it decided, an offset it
 * became, a size, an index. Then the instructions of the path are walked back, from where the value was used to where
 * it came from, and the registers and stack slots that held it are marked precise in each stored state on the way.
 * Pruning compares precise scalars by containment and ignores all others.
 *
 * Why it is sound: what a stored state proved depends, for imprecise scalars, on no value: every decision of the paths
 * from it that looked at a number has marked that number's sources. A path that is pruned inherits the marks of
 * the state that stood for it. An iteration of a callback changes nothing of its caller's registers; what it stores through its
 * context is followed like any other store. The call that made it is come to again after it, with the same arguments, so what the
 * call relies on is marked in the states of the iteration at once. (Linux 6.18 does not, and lets an iteration of a few times stand
 * for one of many.)
 */
import type { Register } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import type { History } from './history.ts';
import { logInherited, Trace } from './precision-trace.ts';
import { type Checkpoint, MAX_FRAMES, REGISTERS, type State } from './state.ts';

const CALLER_SAVED = 0b111111;
const ARGUMENTS = 0b111110;
const ALL_REGISTERS = (1 << REGISTERS) - 1;

/** Sets of registers and slots, by frame, whose values are wanted at some point of the path. */
class Wanted {
  readonly registers = new Int32Array(MAX_FRAMES + 1);
  readonly low = new Int32Array(MAX_FRAMES + 1);
  readonly high = new Int32Array(MAX_FRAMES + 1);
  /** No frame above this one has anything wanted. */
  private top = 0;

  /** @param top index of the innermost frame at the point where the walk starts */
  clear(top: number): void {
    for (let f = 0; f <= this.top; f++) this.clearFrame(f);
    this.top = top;
  }

  get empty(): boolean {
    for (let f = this.top; f >= 0; f--) if ((this.registers[f]! | this.low[f]! | this.high[f]!) !== 0) return false;
    return true;
  }

  /** Walking back past an exit, the walk gets into frames that are gone. */
  enter(frame: number): void {
    if (frame > this.top) this.top = frame;
  }

  hasSlot(frame: number, slot: number): boolean {
    return ((slot < 32 ? this.low[frame]! : this.high[frame]!) & (1 << (slot & 31))) !== 0;
  }

  addSlot(frame: number, slot: number): void {
    this.enter(frame);
    const half = slot < 32 ? this.low : this.high;
    half[frame]! |= 1 << (slot & 31);
  }

  addRegisters(frame: number, registers: number): void {
    this.enter(frame);
    this.registers[frame]! |= registers;
  }

  removeSlot(frame: number, slot: number): void {
    const half = slot < 32 ? this.low : this.high;
    half[frame]! &= ~(1 << (slot & 31));
  }

  clearFrame(frame: number): void {
    this.registers[frame] = 0;
    this.low[frame] = 0;
    this.high[frame] = 0;
  }
}

/** Of the walk in work; there is only one at a time. */
const wantedNow = new Wanted();

/** Packs a place for `History`: a register, or a slot. */
export const registerPlace = (frame: number, r: number): number => (frame << 8) | r;
export const slotPlace = (frame: number, slot: number): number => (frame << 8) | 0x80 | slot;

/** If one of the registers that shared bounds at this jump is wanted, all are. */
function wantLinked(wanted: Wanted, linked: readonly number[] | undefined): void {
  if (linked === undefined) return;
  const has = linked.some(place => {
    const frame = place >> 8;
    return (place & 0x80) !== 0
      ? wanted.hasSlot(frame, place & 0x7f)
      : (wanted.registers[frame]! & (1 << (place & 0x7f))) !== 0;
  });
  if (!has) return;
  for (const place of linked) {
    const frame = place >> 8;
    if ((place & 0x80) !== 0) wanted.addSlot(frame, place & 0x7f);
    else wanted.addRegisters(frame, 1 << (place & 0x7f));
  }
}

/** `dst` was a copy of `src`; undefined: of nothing that could be wanted. */
function replace(registers: Int32Array, frame: number, dst: Register, src: Register | undefined): void {
  if ((registers[frame]! & (1 << dst)) === 0) return;
  registers[frame]! &= ~(1 << dst);
  if (src !== undefined) registers[frame]! |= 1 << src;
}

/** Marks arguments that a call relies on in the states that were stored while the callback in frame `f` ran, the last of which is `stored`. */
function markInCallback(stored: Checkpoint | undefined, f: number, args: number): void {
  if (args === 0) return;
  for (let at = stored; at !== undefined && at.state.frames.length > f; at = at.parent) {
    const { registers } = at.state.frames[f - 1]!;
    for (let left = args; left !== 0; left &= left - 1) {
      const bit = left & -left;
      if (registers[31 - Math.clz32(bit)]!.kind === 'scalar') at.markPreciseRegisters(f - 1, bit);
    }
  }
}

/**
 * From what is wanted after an instruction to what is wanted before it.
 * @param stored the last state stored before the instruction
 */
function before(a: Analysis, wanted: Wanted, at: number, stored: Checkpoint | undefined): void {
  const { history } = a;
  const i = a.insns[history.insn(at)]!;
  const f = history.frame(at);
  const registers = wanted.registers;
  switch (i.kind) {
    case 'alu':
      if (i.op === 'mov') replace(registers, f, i.dst, i.src);
      else if (i.src !== undefined && (registers[f]! & (1 << i.dst)) !== 0) registers[f]! |= 1 << i.src;
      return;
    case 'movsx':
      replace(registers, f, i.dst, i.src);
      return;
    case 'loadImm64':
      replace(registers, f, i.dst, undefined);
      return;
    case 'load':
      load(wanted, history, at, i.dst);
      return;
    case 'store':
      store(wanted, history, at, i.src);
      return;
    case 'atomic':
      if (i.op === 'loadAcquire') load(wanted, history, at, i.dst);
      else if (i.op === 'storeRelease') store(wanted, history, at, i.src);
      else exchange(wanted, history, at, i.fetch ? (i.op === 'cmpxchg' ? 0 : i.src) : undefined);
      return;
    case 'jump':
      if (i.src !== undefined && (registers[f]! & ((1 << i.dst) | (1 << i.src))) !== 0)
        registers[f]! |= (1 << i.dst) | (1 << i.src);
      return;
    case 'callHelper':
      if (history.isCallback(at)) {
        // What a callback is given is no number of its caller's.
        wanted.clearFrame(f + 1);
        return;
      }
      registers[f]! &= ~CALLER_SAVED;
      return;
    case 'callKfunc':
    case 'packetLoad':
      registers[f]! &= ~CALLER_SAVED;
      return;
    case 'callSubprogram': {
      const passed = registers[f + 1]! & ARGUMENTS;
      registers[f] = (registers[f]! & ~CALLER_SAVED) | passed;
      wanted.clearFrame(f + 1);
      return;
    }
    case 'exit':
      if (f > 0) {
        wanted.enter(f);
        // Back at its helper's call the caller has all registers as they were; what the call relied on was walked back when it first came there.
        if (history.isCallback(at)) {
          markInCallback(stored, f, registers[f - 1]! & ARGUMENTS);
          registers[f - 1]! &= ~ARGUMENTS;
          return;
        }
        registers[f] = registers[f - 1]! & 1;
        registers[f - 1]! &= ~CALLER_SAVED;
      }
      return;
  }
}

function load(wanted: Wanted, history: History, at: number, dst: Register): void {
  const frame = history.frame(at);
  if ((wanted.registers[frame]! & (1 << dst)) === 0) return;
  wanted.registers[frame]! &= ~(1 << dst);
  const slot = history.slot(at);
  if (slot >= 0) wanted.addSlot(history.slotFrame(at), slot);
}

function store(wanted: Wanted, history: History, at: number, src: Register | undefined): void {
  const slot = history.slot(at);
  const slotFrame = history.slotFrame(at);
  if (slot < 0 || !wanted.hasSlot(slotFrame, slot)) return;
  wanted.removeSlot(slotFrame, slot);
  if (src !== undefined) wanted.addRegisters(history.frame(at), 1 << src);
}

/** Memory gets an unknown number; `result` gets what memory held. */
function exchange(wanted: Wanted, history: History, at: number, result: Register | undefined): void {
  const slot = history.slot(at);
  if (slot >= 0) wanted.removeSlot(history.slotFrame(at), slot);
  if (result !== undefined) load(wanted, history, at, result);
}

/** Marks what is wanted in a stored state and drops what needs no further search. */
function mark(checkpoint: Checkpoint, wanted: Wanted): void {
  const { frames } = checkpoint.state;
  for (let f = 0; f <= MAX_FRAMES; f++) {
    const frame = frames[f];
    if (frame === undefined) {
      wanted.clearFrame(f);
      continue;
    }
    let registers = wanted.registers[f]! & ~checkpoint.preciseRegisters(f);
    for (let left = registers; left !== 0; left &= left - 1) {
      const bit = left & -left;
      if (frame.registers[31 - Math.clz32(bit)]!.kind !== 'scalar') registers &= ~bit;
    }
    if (registers !== 0) checkpoint.markPreciseRegisters(f, registers);
    wanted.registers[f] = registers;
    wanted.low[f] = markSlots(checkpoint, f, 0, wanted.low[f]!);
    wanted.high[f] = markSlots(checkpoint, f, 1, wanted.high[f]!);
  }
}

/** @returns the slots that were marked now */
function markSlots(checkpoint: Checkpoint, frame: number, half: number, wanted: number): number {
  if (wanted === 0) return 0;
  const { slots } = checkpoint.state.frames[frame]!;
  let marked = wanted & ~checkpoint.preciseSlots(frame, half);
  for (let left = marked; left !== 0; left &= left - 1) {
    const bit = left & -left;
    if (slots[32 * half + 31 - Math.clz32(bit)]?.spilled?.kind !== 'scalar') marked &= ~bit;
  }
  if (marked !== 0) checkpoint.markPreciseSlots(frame, half, marked);
  return marked;
}

/** The same for the sources of the key of the lookup at `call`, in sets of its own. Those of precise numbers are marked already. */
function markKey(checkpoint: Checkpoint, wanted: Wanted, call: number): void {
  const { frames } = checkpoint.state;
  checkpoint.keyMarks ??= new Map();
  const marks = checkpoint.keyMarks.get(call) ?? new Int32Array(3 * frames.length);
  checkpoint.keyMarks.set(call, marks);
  for (let f = 0; f <= MAX_FRAMES; f++) {
    const frame = frames[f];
    if (frame === undefined) {
      wanted.clearFrame(f);
      continue;
    }
    let registers = wanted.registers[f]! & ~checkpoint.preciseRegisters(f) & ~marks[3 * f]!;
    for (let left = registers; left !== 0; left &= left - 1) {
      const bit = left & -left;
      if (frame.registers[31 - Math.clz32(bit)]!.kind !== 'scalar') registers &= ~bit;
    }
    wanted.registers[f] = registers;
    marks[3 * f]! |= registers;
    for (let half = 0; half < 2; half++) {
      const words = half === 0 ? wanted.low : wanted.high;
      let slots = words[f]! & ~checkpoint.preciseSlots(f, half) & ~marks[3 * f + 1 + half]!;
      for (let left = slots; left !== 0; left &= left - 1) {
        const bit = left & -left;
        if (frame.slots[32 * half + 31 - Math.clz32(bit)]?.spilled?.kind !== 'scalar') slots &= ~bit;
      }
      words[f] = slots;
      marks[3 * f + 1 + half]! |= slots;
    }
  }
}

/** Every scalar of every stored state from `start` to the beginning of the path is precise. */
export function markEverything(start: Checkpoint | undefined): void {
  for (let at = start; at !== undefined && !at.everythingPrecise; at = at.parent) {
    at.markAllPrecise();
  }
}

/**
 * Walks back from position `end` of the history, exclusive, through the stored states that `state` came through.
 * @param key what is wanted are the sources of the key of the lookup in this slot; -1: numbers that something relied on
 */
function walk(a: Analysis, wanted: Wanted, end: number, state: State, key = -1): void {
  const { history } = a;
  let position = end;
  let stored = state.parent;
  if (wanted.empty) return;
  const trace = a.log.level === 2 && key < 0 ? new Trace(a, wanted, state) : undefined;
  while (!wanted.empty) {
    const start = stored === undefined ? 0 : stored.position;
    while (--position >= start) {
      trace?.step(history.insn(position), history.frame(position), history.isCallback(position));
      const linked = history.linked(position);
      wantLinked(wanted, linked);
      before(a, wanted, position, stored);
      wantLinked(wanted, linked);
      if (wanted.empty) return;
    }
    if (stored === undefined || stored.everythingPrecise) return;
    if (key < 0) mark(stored, wanted);
    else markKey(stored, wanted, key);
    trace?.parent(stored, start > 0 ? history.insn(start - 1) : -1);
    position = start;
    stored = stored.parent;
  }
}

/** The current instruction relies on the value of register `r`. */
export function needRegister(a: Analysis, r: number | undefined): void {
  if (r === undefined) return;
  const { state } = a;
  if (state.registers[r]?.kind !== 'scalar') return;
  const wanted = wantedNow;
  const top = state.frames.length - 1;
  wanted.clear(top);
  wanted.registers[top] = 1 << r;
  walk(a, wanted, a.history.length - 1, state);
}

/** The current instruction relies on the number in a stack slot. */
export function needSlot(a: Analysis, frame: number, slot: number): void {
  const wanted = wantedNow;
  wanted.clear(a.state.frames.length - 1);
  wanted.addSlot(frame, slot);
  walk(a, wanted, a.history.length - 1, a.state);
}

/** The path in work continues as paths from `old` did: what those relied on, it relies on. */
export function inheritPrecision(a: Analysis, state: State, old: Checkpoint): void {
  const wanted = wantedNow;
  const { frames } = old.state;
  wanted.clear(frames.length - 1);
  for (let f = 0; f < frames.length; f++) {
    const { registers } = frames[f]!;
    for (let left = old.preciseRegisters(f) & ALL_REGISTERS; left !== 0; left &= left - 1) {
      const bit = left & -left;
      if (registers[31 - Math.clz32(bit)]!.kind === 'scalar') wanted.registers[f]! |= bit;
    }
    wanted.low[f] = old.preciseSlots(f, 0);
    wanted.high[f] = old.preciseSlots(f, 1);
  }
  if (a.log.level === 2) logInherited(a, wanted, frames.length);
  walk(a, wanted, a.history.length, state);
}

/** The current instruction stores register `r`, from which the lookup at `call` takes its key. */
export function traceKey(a: Analysis, r: number, call: number): void {
  const { state } = a;
  const wanted = wantedNow;
  const top = state.frames.length - 1;
  wanted.clear(top);
  wanted.registers[top] = 1 << r;
  walk(a, wanted, a.history.length - 1, state, call);
}

/** The path in work continues as paths from `old` did, which took a key from what `marks` has. */
export function inheritKey(a: Analysis, state: State, old: Checkpoint, call: number, marks: Int32Array): void {
  const wanted = wantedNow;
  const { length } = old.state.frames;
  wanted.clear(length - 1);
  for (let f = 0; f < length; f++) {
    wanted.registers[f] = marks[3 * f]!;
    wanted.low[f] = marks[3 * f + 1]!;
    wanted.high[f] = marks[3 * f + 2]!;
  }
  walk(a, wanted, a.history.length, state, call);
}
