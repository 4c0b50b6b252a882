/**
 * The abstract state of one path: call frames with registers and stack, and how it relates to the states stored
 * before it on the same path.
 *
 * Registers and stack slots are immutable values; a copy of a state copies arrays of references.
 */
import type { Packed } from './packed.ts';
import type { Reference } from './references.ts';
import { type RegisterState, register, UNINITIALIZED } from './registers.ts';
import type { Scalar } from './scalar.ts';
import { type CallChain, liveSlots } from './stack-liveness.ts';
import type { StackObject } from './stack-objects.ts';

export const REGISTERS = 11;
export const STACK_BYTES = 512;
export const STACK_SLOTS = STACK_BYTES / 8;
export const MAX_FRAMES = 8;

/** State of one stack byte. */
export const ByteState = { invalid: 0, misc: 1, zero: 2, spill: 3 } as const;
export type ByteStateValue = 0 | 1 | 2 | 3;

/**
 * Eight aligned stack bytes. `bytes` holds two bits per byte, byte 0 (lowest address) in the lowest bits. `spilled` is
 * the register that was stored, defined exactly while byte 0 is in state `spill`; a 4-byte spill covers bytes 0 to 3.
 */
export interface StackSlot {
  readonly bytes: number;
  readonly spilled: RegisterState | undefined;
  /** An iterator or dynptr, or a part of one: only calls may touch it (see `stack-objects.ts`). Its bytes count as misc. */
  readonly object?: StackObject;
}

/** What made a frame; all copies of the frame have it in common. */
interface Call {
  /** Slot of the call; -1 for the first frame. */
  readonly site: number;
  readonly subprogram: number;
  readonly isCallback: boolean;
  readonly chain: CallChain;
}

export class Frame {
  readonly registers: RegisterState[];
  private readonly call: Call;
  private slotsNow: (StackSlot | undefined)[];
  /** Copies of the frame have the same slots, until one of them is written. */
  private slotsShared = false;
  /** Callback iterations begun from this frame so far on this path (bounds bpf_loop with a small constant count). */
  callbackDepth = 0;
  /** Changes whenever the path goes on behind a call that runs callbacks: iterations on both sides are not of one loop. */
  callbackLoop = 0;
  /** Bodies of `may_goto` loops entered in this frame on this path. */
  mayGotos = 0;

  private constructor(call: Call, registers: RegisterState[], slots: (StackSlot | undefined)[]) {
    this.call = call;
    this.registers = registers;
    this.slotsNow = slots;
  }

  static enter(site: number, subprogram: number, isCallback: boolean, chain: CallChain): Frame {
    const registers: RegisterState[] = new Array(REGISTERS).fill(UNINITIALIZED);
    registers[10] = register('stack', { frame: chain.depth });
    return new Frame({ site, subprogram, isCallback, chain }, registers, []);
  }

  /**
   * Slot i covers bytes [-8(i+1), -8i) from the frame pointer. Undefined, or beyond the array's end: nothing written yet. The array
   * ends with the deepest slot written, so that copies of shallow frames are small.
   */
  get slots(): readonly (StackSlot | undefined)[] {
    return this.slotsNow;
  }

  /** Slot of the call that made this frame; -1 for the first. */
  get callSite(): number {
    return this.call.site;
  }

  get subprogram(): number {
    return this.call.subprogram;
  }

  /** Runs as callback of the helper called at `callSite`; exit goes back to that call. */
  get isCallback(): boolean {
    return this.call.isCallback;
  }

  /** Where what it does to the stack is kept. */
  get chain(): CallChain {
    return this.call.chain;
  }

  /** Is `other` a state of the same activation of the function, at another time? */
  isSameActivation(other: Frame): boolean {
    return this.call === other.call;
  }

  copy(): Frame {
    const copy = new Frame(this.call, this.registers.slice(), this.slotsNow);
    this.slotsShared = true;
    copy.slotsShared = true;
    copy.callbackDepth = this.callbackDepth;
    copy.callbackLoop = this.callbackLoop;
    copy.mayGotos = this.mayGotos;
    return copy;
  }

  /**
   * Puts what it holds to `packed`; it is of no more use then.
   * @param live registers that matter, as a set
   */
  pack(packed: Packed, live: number): void {
    packed.put(this.call);
    packed.put(this.slotsNow);
    packed.putSome(this.registers, live, UNINITIALIZED);
    packed.putNumbers(this.callbackDepth, this.callbackLoop, this.mayGotos);
  }

  static unpack(packed: Packed): Frame {
    const registers: RegisterState[] = new Array(REGISTERS);
    packed.takeInto(registers);
    const slots = packed.take<(StackSlot | undefined)[]>();
    const frame = new Frame(packed.take(), registers, slots);
    frame.mayGotos = packed.takeNumber();
    frame.callbackLoop = packed.takeNumber();
    frame.callbackDepth = packed.takeNumber();
    // Whoever else had the slots may have them still.
    frame.slotsShared = true;
    return frame;
  }

  setSlot(index: number, slot: StackSlot | undefined): void {
    if (this.slotsShared) {
      this.slotsNow = this.slotsNow.slice();
      this.slotsShared = false;
    }
    this.slotsNow[index] = slot;
  }
}

/** What seldom changes along a path. Never changed in place, so that states share it. */
interface Circumstances {
  readonly rawSize: number;
  readonly mayGotoDepth: number;
  readonly callbackUnrollDepth: number;
  readonly references: readonly Reference[];
  readonly rcuDepth: number;
  readonly preemptDepth: number;
  readonly speculative: boolean;
}

const AT_START: Circumstances = {
  rawSize: 0,
  mayGotoDepth: 0,
  callbackUnrollDepth: 0,
  references: [],
  rcuDepth: 0,
  preemptDepth: 0,
  speculative: false,
};

export class State {
  readonly frames: Frame[];
  /** Last state stored on this path. */
  parent: Checkpoint | undefined = undefined;
  private circumstances = AT_START;

  constructor(frames: Frame[]) {
    this.frames = frames;
  }

  /** Bytes of raw memory proved to exist. */
  get rawSize(): number {
    return this.circumstances.rawSize;
  }

  set rawSize(rawSize: number) {
    this.circumstances = { ...this.circumstances, rawSize };
  }

  get mayGotoDepth(): number {
    return this.circumstances.mayGotoDepth;
  }

  set mayGotoDepth(mayGotoDepth: number) {
    this.circumstances = { ...this.circumstances, mayGotoDepth };
  }

  get callbackUnrollDepth(): number {
    return this.circumstances.callbackUnrollDepth;
  }

  set callbackUnrollDepth(callbackUnrollDepth: number) {
    this.circumstances = { ...this.circumstances, callbackUnrollDepth };
  }

  /** What must be given back before the program ends, in order of acquisition. Never changed in place. */
  get references(): readonly Reference[] {
    return this.circumstances.references;
  }

  set references(references: readonly Reference[]) {
    this.circumstances = { ...this.circumstances, references };
  }

  /** Regions that the path is in: calls of bpf_rcu_read_lock less those that end them. */
  get rcuDepth(): number {
    return this.circumstances.rcuDepth;
  }

  set rcuDepth(rcuDepth: number) {
    this.circumstances = { ...this.circumstances, rcuDepth };
  }

  /** The same of bpf_preempt_disable. */
  get preemptDepth(): number {
    return this.circumstances.preemptDepth;
  }

  set preemptDepth(preemptDepth: number) {
    this.circumstances = { ...this.circumstances, preemptDepth };
  }

  /** Only a processor that guesses a jump wrongly gets here (see `speculation.ts`). */
  get speculative(): boolean {
    return this.circumstances.speculative;
  }

  set speculative(speculative: boolean) {
    this.circumstances = { ...this.circumstances, speculative };
  }

  get frame(): Frame {
    return this.frames[this.frames.length - 1]!;
  }

  get registers(): RegisterState[] {
    return this.frames[this.frames.length - 1]!.registers;
  }

  copy(): State {
    const frames = this.frames.slice();
    for (let i = 0; i < frames.length; i++) frames[i] = frames[i]!.copy();
    const copy = new State(frames);
    copy.parent = this.parent;
    copy.circumstances = this.circumstances;
    return copy;
  }

  /**
   * Puts what it holds to `packed`; it is of no more use then.
   * @param live by frame: registers that matter, as a set
   */
  pack(packed: Packed, live: (frame: number) => number): void {
    for (let i = 0; i < this.frames.length; i++) this.frames[i]!.pack(packed, live(i));
    packed.put(this.parent);
    packed.put(this.circumstances);
    packed.putNumbers(this.frames.length);
  }

  static unpack(packed: Packed): State {
    const frames: Frame[] = new Array(packed.takeNumber());
    const circumstances = packed.take<Circumstances>();
    const parent = packed.take<Checkpoint | undefined>();
    for (let i = frames.length - 1; i >= 0; i--) frames[i] = Frame.unpack(packed);
    const state = new State(frames);
    state.parent = parent;
    state.circumstances = circumstances;
    return state;
  }

  /** Calls `change` for each register and spilled register of all frames; a returned state replaces it. */
  mapRegisters(change: (r: RegisterState) => RegisterState): void {
    for (const frame of this.frames) {
      for (let i = 0; i < REGISTERS; i++) {
        const old = frame.registers[i]!;
        const next = change(old);
        if (next !== old) frame.registers[i] = next;
      }
      for (let i = 0; i < frame.slots.length; i++) {
        const slot = frame.slots[i];
        if (slot?.spilled === undefined) continue;
        const next = change(slot.spilled);
        if (next !== slot.spilled) frame.setSlot(i, { bytes: slot.bytes, spilled: next });
      }
    }
  }
}

/** Layout of a stored state's marks, by frame. */
const SETS = 3;
const PRECISE_REGISTERS = 0;
const PRECISE_SLOTS = 1;

/** A stored state at an instruction, to compare later arrivals with. */
export class Checkpoint {
  readonly insn: number;
  /** Never changed once stored, but for dropping what turned out to be dead. */
  readonly state: State;
  /** The one before it on the same path; undefined for the first, and once everything from here was walked. */
  parent: Checkpoint | undefined;
  /** Length of the path's history when it was stored. */
  readonly position: number;
  /** Head of an unfinished loop that some path from here leads back to: marks of this state may still grow (see `loops.ts`). */
  loopHead: Checkpoint | undefined = undefined;
  isLoopHead = false;
  /** How many stored states lie before it on its path. */
  readonly depth: number;
  /** Paths from here that are not yet finished; 0: everything reachable from here was proved safe. */
  pending = 1;
  /** How often it was compared in vain, and not. Among many, its row has them (see `stored-states.ts`). */
  misses = 0;
  hits = 0;
  /** All of this and of every state before it. */
  everythingPrecise = false;
  /** Register of the innermost frame whose number, a live one, told this state from one it was compared with last; -1: none yet. */
  differentRegister = -1;
  /** What it held here. */
  differentValue: Scalar | undefined = undefined;
  /** By lookup: registers and slots that its key's range comes from, three sets by frame (`key-ranges.ts`). */
  keyMarks: Map<number, Int32Array> | undefined = undefined;
  private live: number[] | undefined = undefined;
  /** Three sets by frame; see the constants. Most states are never marked and all are kept: made when there is something to mark. */
  private marks: number[] | undefined = undefined;

  constructor(insn: number, state: State, position: number) {
    this.insn = insn;
    this.position = position;
    this.state = state;
    this.parent = state.parent;
    this.depth = state.parent === undefined ? 0 : state.parent.depth + 1;
    // Only the path itself walks up through it.
    state.parent = undefined;
  }

  /**
   * Slots of half `half` (0: the first 32) that matter to paths from here, as a set. What it is when first asked is kept: later on it
   * may grow by what other paths do at the same place.
   */
  liveSlots(frame: number, half: number): number {
    return this.keepLive()[2 * frame + half]!;
  }

  keepLive(): readonly number[] {
    if (this.live === undefined) {
      this.live = [];
      for (let f = 0; f < this.state.frames.length; f++)
        this.live.push(liveSlots(this.state, this.insn, f, 0), liveSlots(this.state, this.insn, f, 1));
    }
    return this.live;
  }

  /** Registers whose numbers some path from here relied on, as a set. */
  preciseRegisters(frame: number): number {
    return this.set(SETS * frame + PRECISE_REGISTERS);
  }

  markPreciseRegisters(frame: number, registers: number): void {
    this.add(SETS * frame + PRECISE_REGISTERS, registers);
  }

  /** Slots of half `half` whose numbers some path from here relied on, as a set. */
  preciseSlots(frame: number, half: number): number {
    return this.set(SETS * frame + PRECISE_SLOTS + half);
  }

  isPreciseSlot(frame: number, slot: number): boolean {
    return (this.preciseSlots(frame, slot >> 5) & (1 << (slot & 31))) !== 0;
  }

  markPreciseSlots(frame: number, half: number, slots: number): void {
    this.add(SETS * frame + PRECISE_SLOTS + half, slots);
  }

  /** A copy of all marks, to tell later whether any was added. */
  copyMarks(): Int32Array {
    return this.marks === undefined ? new Int32Array(SETS * this.state.frames.length) : Int32Array.from(this.marks);
  }

  markAllPrecise(): void {
    this.everythingPrecise = true;
    for (let frame = 0; frame < this.state.frames.length; frame++)
      for (let set = PRECISE_REGISTERS; set < SETS; set++) this.add(SETS * frame + set, -1);
  }

  private set(index: number): number {
    return this.marks === undefined ? 0 : this.marks[index]!;
  }

  private add(index: number, members: number): void {
    const { frames } = this.state;
    this.marks ??= frames.length === 1 ? [0, 0, 0] : new Array(SETS * frames.length).fill(0);
    this.marks[index]! |= members;
  }
}
