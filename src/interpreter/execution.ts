/**
 * One run of a program: registers, frames and the dispatch loop.
 *
 * Strategy: registers live in two Int32Arrays (low and high halves); `advance(limit)` runs at most `limit`
 * instructions and can be called again to go on, which is all that stop requests and a stepping debugger need: the
 * loop itself asks nobody. Between calls of `advance` the whole state is in the fields.
 *
 * Frames: `r10` of the first frame is the top of the stack region; a callee's is its caller's minus the caller's
 * frame size (`Decoded.stackDepth`, a multiple of 16). What must survive a call (return address, r6-r9, r10) is kept in a
 * JS-side array and not in the arena, so that no program can reach it.
 *
 * Why the case labels are plain numbers: V8 makes a jump table only of literals; with named constants it compares one
 * after the other, which made the loop a quarter slower. A test holds the numbers and their comments against `Op`.
 *
 * Tail calls follow these rules, in this order: the index, as u32, must be below max_entries; fewer than 33 tail calls must
 * have been made since the run began, in whatever frame; the slot must be populated. Only then does the count rise.
 * A call that fails falls through with every register kept. One that succeeds replaces the current frame only.
 */
import type { Atomic } from '../isa/instruction.ts';
import { unpackTailCall } from '../lowering/tail-call-imm.ts';
import type { Arena } from '../memory/arena.ts';
import { MapHeader, ProgArrayLayout, ProgramObject, RunContext } from '../memory/layout.ts';
import { applyAtomic } from './atomics.ts';
import { type Decoded, SLOT_SHIFT } from './decode.ts';
import { InterpreterError } from './errors.ts';
import { functionLocation } from './function-address.ts';
import * as int64 from './int64.ts';

/** Tail calls that one run may make (the kernel's MAX_TAIL_CALL_CNT): 34 program runs. */
export const MAX_TAIL_CALLS = 33;
/** Frames that may be live at once. Verified programs stay far below; the limit catches runaway recursion. */
const MAX_FRAMES = 1024;
/** Int32 words that one suspended frame saves: slot to return to, frame size, r10 (2), r6-r9 (8). */
const SAVED_WORDS = 12;

/** What the execution needs from its interpreter. */
export interface Host {
  readonly arena: Arena;
  readonly runContext: bigint;
  /** Lowest address of the stack region. */
  readonly stackBottom: number;
  routine(name: string): Decoded;
  service(name: string): (a: bigint, b: bigint, c: bigint, d: bigint, e: bigint) => bigint;
  programById(id: number): Decoded | undefined;
}

export class Execution {
  /** Low and high halves of r0-r10 and ax. */
  readonly low = new Int32Array(12);
  readonly high = new Int32Array(12);
  /** What the current frame runs. */
  current: Decoded;
  /** Next slot to run in `current`. */
  slot = 0;
  /** Tail calls made so far. */
  tailCalls = 0;
  finished = false;
  /** Instructions executed. */
  instructions = 0;

  private readonly host: Host;
  private entry: Decoded;
  private frames = 0;
  private saved = new Int32Array(SAVED_WORDS * 8);
  private readonly callers: Decoded[] = [];
  /** Size of the current frame. */
  private depth: number;

  /** @param stackTop address just past the stack that this run may use. */
  constructor(host: Host, entry: Decoded, args: readonly bigint[], stackTop: bigint) {
    this.host = host;
    this.entry = entry;
    this.current = entry;
    this.depth = entry.stackDepth;
    this.start(entry, args, stackTop);
  }

  /** Begins a new run in the place of one that has ended. */
  start(entry: Decoded, args: readonly bigint[], stackTop: bigint): void {
    this.entry = entry;
    this.current = entry;
    this.depth = entry.stackDepth;
    this.slot = 0;
    this.tailCalls = 0;
    this.finished = false;
    this.instructions = 0;
    this.frames = 0;
    this.low.fill(0);
    this.high.fill(0);
    for (let i = 0; i < args.length; i++) this.setRegister(1 + i, args[i]!);
    this.setRegister(10, stackTop);
    this.checkStack();
  }

  /** Number of frames that wait for the current one to exit. */
  get frameCount(): number {
    return this.frames;
  }

  /** @returns u64 */
  register(index: number): bigint {
    return int64.toBigInt(this.low[index]!, this.high[index]!);
  }

  setRegister(index: number, value: bigint): void {
    this.low[index] = int64.lowHalf(value);
    this.high[index] = int64.highHalf(value);
  }

  /** Lowest address of the current frame: what runs on top of this run must stay below it. */
  get stackPointer(): bigint {
    return this.register(10) - BigInt(this.depth);
  }

  /**
   * Runs until exit, but at most `limit` instructions.
   * @returns whether the run has finished; r0 is then the result.
   * @throws InterpreterError
   */
  advance(limit: number): boolean {
    const { low, high } = this;
    const { view, size: arenaSize } = this.host.arena;
    const base = Number(this.host.arena.base);
    let words = this.current.words;
    let slot = this.slot;
    let left = limit;
    if (this.finished) return true;

    while (left > 0) {
      left--;
      const at = slot << SLOT_SHIFT;
      const dst = words[at + 1]!;
      const src = words[at + 2]!;
      slot++;
      let sLow: number;
      let sHigh: number;
      if (src >= 0) {
        sLow = low[src]!;
        sHigh = high[src]!;
      } else {
        sLow = words[at + 3]!;
        sHigh = words[at + 4]!;
      }
      const dLow = low[dst]!;
      const dHigh = high[dst]!;

      switch (words[at]) {
        case 1: // nop
          break;
        case 2: // mov64
          low[dst] = sLow;
          high[dst] = sHigh;

          break;
        case 42: // loadImm64
          low[dst] = sLow;
          high[dst] = sHigh;
          slot++;
          break;
        case 3: // add64
          low[dst] = dLow + sLow;
          high[dst] = int64.addHigh(dLow, dHigh, sLow, sHigh);
          break;
        case 4: // sub64
          low[dst] = dLow - sLow;
          high[dst] = int64.subtractHigh(dLow, dHigh, sLow, sHigh);
          break;
        case 5: // mul64
          low[dst] = Math.imul(dLow, sLow);
          high[dst] = int64.multiplyHigh(dLow, dHigh, sLow, sHigh);
          break;
        case 6: // div64
          int64.divideInPlace('div', low, high, dst, sLow, sHigh);
          break;
        case 7: // sdiv64
          int64.divideInPlace('sdiv', low, high, dst, sLow, sHigh);
          break;
        case 8: // mod64
          int64.divideInPlace('mod', low, high, dst, sLow, sHigh);
          break;
        case 9: // smod64
          int64.divideInPlace('smod', low, high, dst, sLow, sHigh);
          break;
        case 10: // or64
          low[dst] = dLow | sLow;
          high[dst] = dHigh | sHigh;
          break;
        case 11: // and64
          low[dst] = dLow & sLow;
          high[dst] = dHigh & sHigh;
          break;
        case 12: // xor64
          low[dst] = dLow ^ sLow;
          high[dst] = dHigh ^ sHigh;
          break;
        case 13: // lsh64
          low[dst] = int64.shiftLeftLow(dLow, sLow);
          high[dst] = int64.shiftLeftHigh(dLow, dHigh, sLow);
          break;
        case 14: // rsh64
          low[dst] = int64.shiftRightLow(dLow, dHigh, sLow);
          high[dst] = int64.shiftRightHigh(dHigh, sLow);
          break;
        case 15: // arsh64
          low[dst] = int64.shiftRightSignedLow(dLow, dHigh, sLow);
          high[dst] = int64.shiftRightSignedHigh(dHigh, sLow);
          break;
        case 16: // neg64
          low[dst] = -dLow;
          high[dst] = int64.subtractHigh(0, 0, dLow, dHigh);
          break;

        case 17: // mov32
          low[dst] = sLow;
          high[dst] = 0;
          break;
        case 18: // add32
          low[dst] = dLow + sLow;
          high[dst] = 0;
          break;
        case 19: // sub32
          low[dst] = dLow - sLow;
          high[dst] = 0;
          break;
        case 20: // mul32
          low[dst] = Math.imul(dLow, sLow);
          high[dst] = 0;
          break;
        case 21: // div32
          low[dst] = int64.divide32(dLow, sLow);
          high[dst] = 0;
          break;
        case 22: // sdiv32
          low[dst] = int64.divideSigned32(dLow, sLow);
          high[dst] = 0;
          break;
        case 23: // mod32
          low[dst] = int64.modulo32(dLow, sLow);
          high[dst] = 0;
          break;
        case 24: // smod32
          low[dst] = int64.moduloSigned32(dLow, sLow);
          high[dst] = 0;
          break;
        case 25: // or32
          low[dst] = dLow | sLow;
          high[dst] = 0;
          break;
        case 26: // and32
          low[dst] = dLow & sLow;
          high[dst] = 0;
          break;
        case 27: // xor32
          low[dst] = dLow ^ sLow;
          high[dst] = 0;
          break;
        // JS masks the amount of a 32-bit shift to five bits, as BPF does.
        case 28: // lsh32
          low[dst] = dLow << sLow;
          high[dst] = 0;
          break;
        case 29: // rsh32
          low[dst] = dLow >>> sLow;
          high[dst] = 0;
          break;
        case 30: // arsh32
          low[dst] = dLow >> sLow;
          high[dst] = 0;
          break;
        case 31: // neg32
          low[dst] = -dLow;
          high[dst] = 0;
          break;

        case 32: // movsx64From8
          low[dst] = (sLow << 24) >> 24;
          high[dst] = (sLow << 24) >> 31;
          break;
        case 33: // movsx64From16
          low[dst] = (sLow << 16) >> 16;
          high[dst] = (sLow << 16) >> 31;
          break;
        case 34: // movsx64From32
          low[dst] = sLow;
          high[dst] = sLow >> 31;
          break;
        case 35: // movsx32From8
          low[dst] = (sLow << 24) >> 24;
          high[dst] = 0;
          break;
        case 36: // movsx32From16
          low[dst] = (sLow << 16) >> 16;
          high[dst] = 0;
          break;
        case 37: // truncate16
          low[dst] = dLow & 0xffff;
          high[dst] = 0;
          break;
        case 38: // truncate32
          high[dst] = 0;
          break;
        case 39: // swap16
          low[dst] = int64.swap16(dLow);
          high[dst] = 0;
          break;
        case 40: // swap32
          low[dst] = int64.swap32(dLow);
          high[dst] = 0;
          break;
        case 41: // swap64
          low[dst] = int64.swap32(dHigh);
          high[dst] = int64.swap32(dLow);
          break;

        case 43: {
          // loadU8
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 1)) this.outOfBounds(slot - 1, offset, 1);
          low[dst] = view.getUint8(offset);
          high[dst] = 0;
          break;
        }
        case 44: {
          // loadU16
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 2)) this.outOfBounds(slot - 1, offset, 2);
          low[dst] = view.getUint16(offset, true);
          high[dst] = 0;
          break;
        }
        case 45: {
          // loadU32
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 4)) this.outOfBounds(slot - 1, offset, 4);
          low[dst] = view.getInt32(offset, true);
          high[dst] = 0;
          break;
        }
        case 46: {
          // load64
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 8)) this.outOfBounds(slot - 1, offset, 8);
          low[dst] = view.getInt32(offset, true);
          high[dst] = view.getInt32(offset + 4, true);
          break;
        }
        case 47: {
          // loadS8
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 1)) this.outOfBounds(slot - 1, offset, 1);
          const value = view.getInt8(offset);
          low[dst] = value;
          high[dst] = value >> 31;
          break;
        }
        case 48: {
          // loadS16
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 2)) this.outOfBounds(slot - 1, offset, 2);
          const value = view.getInt16(offset, true);
          low[dst] = value;
          high[dst] = value >> 31;
          break;
        }
        case 49: {
          // loadS32
          const offset = int64.toNumber(sLow, sHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 4)) this.outOfBounds(slot - 1, offset, 4);
          const value = view.getInt32(offset, true);
          low[dst] = value;
          high[dst] = value >> 31;
          break;
        }
        case 50: {
          // store8
          const offset = int64.toNumber(dLow, dHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 1)) this.outOfBounds(slot - 1, offset, 1);
          view.setInt8(offset, sLow);
          break;
        }
        case 51: {
          // store16
          const offset = int64.toNumber(dLow, dHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 2)) this.outOfBounds(slot - 1, offset, 2);
          view.setInt16(offset, sLow, true);
          break;
        }
        case 52: {
          // store32
          const offset = int64.toNumber(dLow, dHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 4)) this.outOfBounds(slot - 1, offset, 4);
          view.setInt32(offset, sLow, true);
          break;
        }
        case 53: {
          // store64
          const offset = int64.toNumber(dLow, dHigh) + words[at + 5]! - base;
          if (!(offset >= 0 && offset <= arenaSize - 8)) this.outOfBounds(slot - 1, offset, 8);
          view.setInt32(offset, sLow, true);
          view.setInt32(offset + 4, sHigh, true);
          break;
        }
        case 54: // atomic
          this.atomic(this.current.atomics[words[at + 6]!]!, slot - 1);
          break;

        case 55: // goto
          slot = words[at + 5]!;
          break;
        case 56: // jeq64
          if (dLow === sLow && dHigh === sHigh) slot = words[at + 5]!;
          break;
        case 57: // jne64
          if (dLow !== sLow || dHigh !== sHigh) slot = words[at + 5]!;
          break;
        case 58: // jgt64
          if (int64.lessUnsigned(sLow, sHigh, dLow, dHigh)) slot = words[at + 5]!;
          break;
        case 59: // jge64
          if (!int64.lessUnsigned(dLow, dHigh, sLow, sHigh)) slot = words[at + 5]!;
          break;
        case 60: // jlt64
          if (int64.lessUnsigned(dLow, dHigh, sLow, sHigh)) slot = words[at + 5]!;
          break;
        case 61: // jle64
          if (!int64.lessUnsigned(sLow, sHigh, dLow, dHigh)) slot = words[at + 5]!;
          break;
        case 62: // jsgt64
          if (int64.lessSigned(sLow, sHigh, dLow, dHigh)) slot = words[at + 5]!;
          break;
        case 63: // jsge64
          if (!int64.lessSigned(dLow, dHigh, sLow, sHigh)) slot = words[at + 5]!;
          break;
        case 64: // jslt64
          if (int64.lessSigned(dLow, dHigh, sLow, sHigh)) slot = words[at + 5]!;
          break;
        case 65: // jsle64
          if (!int64.lessSigned(sLow, sHigh, dLow, dHigh)) slot = words[at + 5]!;
          break;
        case 66: // jset64
          if (((dLow & sLow) | (dHigh & sHigh)) !== 0) slot = words[at + 5]!;
          break;
        case 67: // jeq32
          if (dLow === sLow) slot = words[at + 5]!;
          break;
        case 68: // jne32
          if (dLow !== sLow) slot = words[at + 5]!;
          break;
        case 69: // jgt32
          if (dLow >>> 0 > sLow >>> 0) slot = words[at + 5]!;
          break;
        case 70: // jge32
          if (dLow >>> 0 >= sLow >>> 0) slot = words[at + 5]!;
          break;
        case 71: // jlt32
          if (dLow >>> 0 < sLow >>> 0) slot = words[at + 5]!;
          break;
        case 72: // jle32
          if (dLow >>> 0 <= sLow >>> 0) slot = words[at + 5]!;
          break;
        case 73: // jsgt32
          if (dLow > sLow) slot = words[at + 5]!;
          break;
        case 74: // jsge32
          if (dLow >= sLow) slot = words[at + 5]!;
          break;
        case 75: // jslt32
          if (dLow < sLow) slot = words[at + 5]!;
          break;
        case 76: // jsle32
          if (dLow <= sLow) slot = words[at + 5]!;
          break;
        case 77: // jset32
          if ((dLow & sLow) !== 0) slot = words[at + 5]!;
          break;

        case 83: // runContext
          this.setRegister(dst, this.host.runContext);
          break;
        case 78: // callSubprogram
          this.pushFrame(this.current, slot, words[at + 6]!);
          slot = words[at + 5]!;
          break;
        case 79: {
          // callRoutine
          const routine = this.routineAt(words[at + 6]!);
          this.pushFrame(routine, slot, routine.stackDepth);
          words = routine.words;
          slot = 0;
          break;
        }
        case 81: {
          // callIndirect
          const target = this.functionAt(sLow, sHigh, slot - 1);
          this.pushFrame(target.program, slot, target.stackDepth);
          words = target.program.words;
          slot = target.slot;
          break;
        }
        case 80: {
          // callService
          // A service may look at this run, or start another on top of it: leave a consistent state behind.
          this.slot = slot;
          const service = this.host.service(this.current.names[words[at + 6]!]!);
          this.setRegister(
            0,
            service(this.register(1), this.register(2), this.register(3), this.register(4), this.register(5)),
          );
          break;
        }
        case 82: {
          // tailCall
          const target = this.tailCallTarget(sLow, slot - 1);
          if (target !== undefined) {
            this.current = target;
            this.depth = target.stackDepth;
            this.checkStack();
            words = target.words;
            slot = 0;
          }
          break;
        }
        case 84: // exit
          if (this.frames === 0) {
            this.instructions += limit - left;
            this.slot = slot - 1;
            this.finished = true;
            return true;
          }
          slot = this.popFrame();
          words = this.current.words;
          break;
        default:
          throw new InterpreterError(
            'fell_through',
            `program "${this.current.program.lowered.name}": execution reached slot ${slot - 1} of ${this.current.length}, where no instruction starts`,
            { program: this.current.program.lowered.name, insn: slot - 1 },
          );
      }
    }
    this.slot = slot;
    this.instructions += limit;
    return false;
  }

  private pushFrame(callee: Decoded, returnSlot: number, calleeDepth: number): void {
    const { low, high } = this;
    if (this.frames >= MAX_FRAMES) {
      throw new InterpreterError('stack_overflow', `calls nest more than ${MAX_FRAMES} deep`, { limit: MAX_FRAMES });
    }
    const at = this.frames * SAVED_WORDS;
    if (at + SAVED_WORDS > this.saved.length) {
      const larger = new Int32Array(this.saved.length * 2);
      larger.set(this.saved);
      this.saved = larger;
    }
    const { saved } = this;
    saved[at] = returnSlot;
    saved[at + 1] = this.depth;
    saved[at + 2] = low[10]!;
    saved[at + 3] = high[10]!;
    for (let i = 0; i < 4; i++) {
      saved[at + 4 + 2 * i] = low[6 + i]!;
      saved[at + 5 + 2 * i] = high[6 + i]!;
    }
    this.callers[this.frames] = this.current;
    this.frames++;
    high[10] = int64.subtractHigh(low[10]!, high[10]!, this.depth, 0);
    low[10] = low[10]! - this.depth;
    this.depth = calleeDepth;
    this.current = callee;
    this.checkStack();
  }

  /** @returns the slot to go on at. */
  private popFrame(): number {
    const { low, high, saved } = this;
    this.frames--;
    const at = this.frames * SAVED_WORDS;
    this.depth = saved[at + 1]!;
    low[10] = saved[at + 2]!;
    high[10] = saved[at + 3]!;
    for (let i = 0; i < 4; i++) {
      low[6 + i] = saved[at + 4 + 2 * i]!;
      high[6 + i] = saved[at + 5 + 2 * i]!;
    }
    this.current = this.callers[this.frames]!;
    return saved[at]!;
  }

  private checkStack(): void {
    const bottom = int64.toNumber(this.low[10]!, this.high[10]!) - this.depth;
    if (bottom >= this.host.stackBottom) return;
    throw new InterpreterError(
      'stack_overflow',
      `the frame of "${this.current.program.lowered.name}" would reach down to 0x${bottom.toString(16)}, below the stack region at 0x${this.host.stackBottom.toString(16)}`,
      { program: this.current.program.lowered.name, address: bottom, limit: this.host.stackBottom },
    );
  }

  private routineAt(index: number): Decoded {
    const { current } = this;
    let routine = current.routines[index];
    if (routine === undefined) {
      routine = this.host.routine(current.names[index]!);
      current.routines[index] = routine;
    }
    return routine;
  }

  private functionAt(low: number, high: number, insn: number): { program: Decoded; slot: number; stackDepth: number } {
    const location = functionLocation(low, high);
    if (location !== undefined) {
      const { programId, slot } = location;
      const program = programId === this.entry.program.id ? this.entry : this.host.programById(programId);
      const stackDepth = program?.stackDepths.get(slot);
      if (program !== undefined && stackDepth !== undefined) return { program, slot, stackDepth };
    }
    throw new InterpreterError(
      'bad_call_target',
      `"${this.current.program.lowered.name}" calls 0x${int64.toBigInt(low, high).toString(16)} at ${insn}, which is no function of a known program`,
      { program: this.current.program.lowered.name, insn, address: int64.toBigInt(low, high) },
    );
  }

  /** The checks of a tail call. Counts it and returns the target where it succeeds, else undefined. */
  private tailCallTarget(packed: number, insn: number): Decoded | undefined {
    const { current } = this;
    const { view, u64 } = this.host.arena;
    const site = unpackTailCall(packed);
    const map = site.dynamic ? this.register(2) : current.program.mapAddresses[site.usedMap];
    if (map === undefined) {
      throw new InterpreterError(
        'unknown_map',
        `"${current.program.lowered.name}" tail-calls through used map ${site.usedMap} at ${insn}, but it was linked with ${current.program.mapAddresses.length} maps`,
        { program: current.program.lowered.name, insn, index: site.usedMap },
      );
    }
    const header = this.alignedOffset(Number(map), MapHeader.size, insn);
    const index = this.low[3]! >>> 0;
    if (index >= view.getUint32(header + MapHeader.maxEntries, true)) return undefined;
    if (this.tailCalls >= MAX_TAIL_CALLS) return undefined;
    const word = this.alignedOffset(Number(map) + ProgArrayLayout.ptrs + index * 8, 8, insn);
    const object = Number(Atomics.load(u64, word / 8));
    if (object === 0) return undefined;
    const id = view.getUint32(this.checkedOffset(object, ProgramObject.size, insn) + ProgramObject.id, true);
    const target = this.host.programById(id);
    if (target === undefined) {
      throw new InterpreterError(
        'unknown_program',
        `"${current.program.lowered.name}" tail-calls program id ${id} at ${insn}, which the environment does not know`,
        { program: current.program.lowered.name, insn, id },
      );
    }
    this.tailCalls++;
    return target;
  }

  private atomic(insn: Atomic, slot: number): void {
    const base = insn.op === 'loadAcquire' ? insn.src : insn.dst;
    const address = int64.toNumber(this.low[base]!, this.high[base]!) + insn.offset;
    const offset = this.alignedOffset(address, insn.size, slot);
    applyAtomic(this.host.arena, insn, offset, this.low, this.high);
  }

  /** For atomic accesses of the whole or the parts; structures are aligned to words of eight. */
  private alignedOffset(address: number, size: number, insn: number): number {
    const offset = this.checkedOffset(address, size, insn);
    const alignment = Math.min(size, 8);
    if (offset % alignment === 0) return offset;
    const { name } = this.current.program.lowered;
    throw new InterpreterError(
      'misaligned_atomic',
      `"${name}": the atomic operation at ${insn} accesses ${size} bytes at 0x${address.toString(16)}, which is no multiple of ${alignment}`,
      { program: name, insn, address, size },
    );
  }

  private checkedOffset(address: number, size: number, insn: number): number {
    const { arena } = this.host;
    const offset = address - Number(arena.base);
    if (!(offset >= 0 && offset <= arena.size - size)) this.outOfBounds(insn, offset, size);
    return offset;
  }

  private outOfBounds(insn: number, offset: number, size: number): never {
    const address = offset + Number(this.host.arena.base);
    const { name } = this.current.program.lowered;
    throw new InterpreterError(
      'memory_out_of_bounds',
      `"${name}" accesses ${size} bytes at 0x${address.toString(16)} at instruction ${insn}, outside the arena`,
      { program: name, insn, address, size },
    );
  }
}

/** Top of the stack that a run context provides. */
export function stackTopOf(arena: Arena, runContext: bigint): bigint {
  return arena.view.getBigUint64(arena.offset(runContext, RunContext.size) + RunContext.stackTop, true);
}
