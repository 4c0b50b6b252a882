/**
 * The abstract state of one path: call frames with registers and stack, and how it relates to the states stored
 * before it on the same path.
 *
 * Registers and stack slots are immutable values; a copy of a state copies arrays of references.
 */
import type { Reference } from './references.ts';
import { type RegisterState, register, UNINITIALIZED } from './registers.ts';
import type { Scalar } from './scalar.ts';
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

export class Frame {
  readonly registers: RegisterState[];
  /**
   * Slot i covers bytes [-8(i+1), -8i) from the frame pointer. Undefined, or beyond the array's end: nothing written yet. The array
   * ends with the deepest slot written, so that copies of shallow frames are small.
   */
  readonly slots: (StackSlot | undefined)[];
  /** Slot of the call that made this frame; -1 for the first. */
  readonly callSite: number;
  readonly subprogram: number;
  /** Runs as callback of the helper called at `callSite`; exit goes back to that call. */
  readonly isCallback: boolean;
  /** Callback iterations begun from this frame so far on this path (bounds bpf_loop with a small constant count). */
  callbackDepth: number;
  /** Slots wholly written since the last stored state, as two 32-bit sets: a read of one is no read of what was there before. */
  writtenLow: number;
  writtenHigh: number;

  constructor(
    callSite: number,
    subprogram: number,
    isCallback: boolean,
    registers: RegisterState[],
    slots: (StackSlot | undefined)[],
  ) {
    this.callSite = callSite;
    this.subprogram = subprogram;
    this.isCallback = isCallback;
    this.registers = registers;
    this.slots = slots;
    this.callbackDepth = 0;
    this.writtenLow = -1;
    this.writtenHigh = -1;
  }

  static enter(callSite: number, subprogram: number, isCallback: boolean, index: number): Frame {
    const registers: RegisterState[] = new Array(REGISTERS).fill(UNINITIALIZED);
    registers[10] = register('stack', { frame: index });
    return new Frame(callSite, subprogram, isCallback, registers, []);
  }

  copy(): Frame {
    const copy = new Frame(this.callSite, this.subprogram, this.isCallback, this.registers.slice(), this.slots.slice());
    copy.callbackDepth = this.callbackDepth;
    copy.writtenLow = this.writtenLow;
    copy.writtenHigh = this.writtenHigh;
    return copy;
  }

  noteWritten(slot: number): void {
    if (slot < 32) this.writtenLow |= 1 << slot;
    else this.writtenHigh |= 1 << (slot - 32);
  }
}

export class State {
  readonly frames: Frame[];
  /** Last state stored on this path. */
  parent: Checkpoint | undefined = undefined;
  /** Bytes of raw memory proved to exist. */
  rawSize = 0;
  mayGotoDepth = 0;
  callbackUnrollDepth = 0;
  /** What must be given back before the program ends, in order of acquisition. Never changed in place. */
  references: readonly Reference[] = [];

  /** Regions that the path is in: calls of bpf_rcu_read_lock and bpf_preempt_disable less those that end them. */
  rcuDepth = 0;
  preemptDepth = 0;

  constructor(frames: Frame[]) {
    this.frames = frames;
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
    copy.rawSize = this.rawSize;
    copy.mayGotoDepth = this.mayGotoDepth;
    copy.callbackUnrollDepth = this.callbackUnrollDepth;
    copy.references = this.references;
    copy.rcuDepth = this.rcuDepth;
    copy.preemptDepth = this.preemptDepth;
    return copy;
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
        if (next !== slot.spilled) frame.slots[i] = { bytes: slot.bytes, spilled: next };
      }
    }
  }
}

/** Layout of a stored state's marks, by frame. */
const SETS = 5;
const READ = 0;
const PRECISE_REGISTERS = 2;
const PRECISE_SLOTS = 3;

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
  /** All of this and of every state before it. */
  everythingPrecise = false;
  /** Register of the innermost frame whose number, a live one, told this state from one it was compared with last; -1: none yet. */
  differentRegister = -1;
  /** What it held here. */
  differentValue: Scalar | undefined = undefined;
  /** Five sets by frame; see the constants. One array, since most states are never marked and all are kept. */
  private readonly marks: number[];

  constructor(insn: number, state: State, position: number) {
    this.insn = insn;
    this.position = position;
    this.state = state;
    this.parent = state.parent;
    this.depth = state.parent === undefined ? 0 : state.parent.depth + 1;
    this.marks = state.frames.length === 1 ? [0, 0, 0, 0, 0] : new Array(SETS * state.frames.length).fill(0);
  }

  /** Slots of half `half` (0: the first 32) that some path from here reads before writing, as a set. */
  readSlots(frame: number, half: number): number {
    return this.marks[SETS * frame + READ + half]!;
  }

  reads(frame: number, slot: number): boolean {
    return (this.readSlots(frame, slot >> 5) & (1 << (slot & 31))) !== 0;
  }

  markRead(frame: number, slot: number): void {
    this.marks[SETS * frame + READ + (slot >> 5)]! |= 1 << (slot & 31);
  }

  /** Registers whose numbers some path from here relied on, as a set. */
  preciseRegisters(frame: number): number {
    return this.marks[SETS * frame + PRECISE_REGISTERS]!;
  }

  markPreciseRegisters(frame: number, registers: number): void {
    this.marks[SETS * frame + PRECISE_REGISTERS]! |= registers;
  }

  /** Slots of half `half` whose numbers some path from here relied on, as a set. */
  preciseSlots(frame: number, half: number): number {
    return this.marks[SETS * frame + PRECISE_SLOTS + half]!;
  }

  isPreciseSlot(frame: number, slot: number): boolean {
    return (this.preciseSlots(frame, slot >> 5) & (1 << (slot & 31))) !== 0;
  }

  markPreciseSlots(frame: number, half: number, slots: number): void {
    this.marks[SETS * frame + PRECISE_SLOTS + half]! |= slots;
  }

  /** A copy of all marks, to tell later whether any was added. */
  copyMarks(): Int32Array {
    return Int32Array.from(this.marks);
  }

  markAllPrecise(): void {
    this.everythingPrecise = true;
    for (let frame = 0; frame < this.state.frames.length; frame++)
      this.marks.fill(-1, SETS * frame + PRECISE_REGISTERS, SETS * frame + SETS);
  }
}
