/**
 * Soundness by execution: holds every concrete state of a run against what the verifier claimed at that instruction.
 *
 * `claimsOf` verifies a program and keeps each state that was walked. `Witness` watches the interpreter: before each
 * instruction at least one of that instruction's states must contain, all at once, every live register (scalars: tnum, all
 * ranges, equal ids; pointers: what they point into, offset, proved range) and, where the state was stored, every stack
 * slot that some path reads. A run that reaches an instruction which the verifier never did is unsound, too.
 *
 * Pruning lets numbers that nothing relied on differ. So each program can be checked in two ways (`CheckingOptions.precision`):
 * "all" makes every number count, which tests the arithmetic; "marked" prunes as usual and compares, at stored
 * states, the numbers that are marked, which tests precision tracking.
 *
 * Lowering keeps registers at the boundaries of instructions, so only slots that begin one are looked at.
 */
import { KFUNCS } from '../../src/helpers/kfuncs.ts';
import { HELPERS } from '../../src/helpers/table.ts';
import type { InstructionEvent } from '../../src/interpreter/interpreter.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { DynptrType, HashBucket, HashLayout, MapHeader, RunContext, XdpContext } from '../../src/memory/layout.ts';
import type { MapSpec, ProgramSpec } from '../../src/object/spec.ts';
import { createBufferHost, type Host } from '../../src/runtime/host.ts';
import { InterpreterBackend } from '../../src/runtime/interpreter-backend.ts';
import type { LoadedObject } from '../../src/runtime/loaded-object.ts';
import { Runtime } from '../../src/runtime/runtime.ts';
import type { CheckingOptions } from '../../src/verifier/analysis.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { formatState } from '../../src/verifier/format.ts';
import {
  AT_PACKET_END,
  BEYOND_PACKET_END,
  linkOf,
  RAW_SIZE_ID,
  type RegisterState,
  SUM_32,
  sumOf,
} from '../../src/verifier/registers.ts';
import { type Scalar, truncate } from '../../src/verifier/scalar.ts';
import type { StackObject } from '../../src/verifier/stack-objects.ts';
import { ByteState, type Checkpoint, type StackSlot, type State } from '../../src/verifier/state.ts';
import { type VerifyOptions, verify } from '../../src/verifier/verify.ts';

export type Precision = CheckingOptions['precision'];

interface Claim {
  readonly state: State;
  readonly live: number;
  /** Where the state was stored. Its marks are complete once verification has ended. */
  readonly checkpoint: Checkpoint | undefined;
}

export interface Claims {
  readonly program: ProgramSpec;
  readonly precision: Precision;
  /** By slot of the program as it was verified. */
  readonly byInsn: readonly (Claim[] | undefined)[];
  /** By slot of a lookup in an array: the largest key. */
  readonly largestKeys: ReadonlyMap<number, number>;
}

/** States beyond which a program is left out: their copies would fill the memory. */
const MAX_STATES = 4000;
/** Any object's address is above this: what is lower is no pointer. */
const LOWEST_ADDRESS = 4096n;

/** Instructions that are compared in one run. */
const MAX_COMPARED = 20_000;
/** Instructions of one run, those of routines included: a loop of millions may compare few. */
const MAX_STEPS = 1_000_000;

class TooManyStates extends Error {}

/** Ends a run that has been watched long enough. */
class Enough extends Error {}

/** A concrete state that the verifier did not foresee. */
export class Unsound extends Error {}

/**
 * @returns undefined where the program is too large to be checked, or passes only because numbers that do not matter
 *   are ignored, or depending on the states that are stored, or because paths on which pointers move too far are pruned
 * @throws VerifierError where the program is refused for another reason
 */
export function claimsOf(
  program: ProgramSpec,
  maps: ReadonlyMap<string, MapSpec>,
  precision: Precision,
  options: Partial<VerifyOptions> = {},
): Claims | undefined {
  const byInsn: (Claim[] | undefined)[] = new Array(program.insns.length).fill(undefined);
  let states = 0;
  const onState = (insn: number, state: State, live: number, stored: boolean): void => {
    if (++states > MAX_STATES) throw new TooManyStates();
    const claim: Claim = { state: state.copy(), live, checkpoint: stored ? state.parent : undefined };
    const claims = byInsn[insn];
    if (claims === undefined) byInsn[insn] = [claim];
    else claims.push(claim);
  };
  const largestKeys = new Map<number, number>();
  try {
    const { facts } = verify(program, {
      maps,
      helpers: HELPERS,
      kfuncs: KFUNCS,
      ...options,
      checking: { onState, precision },
    });
    for (const { insn, keyMax } of facts.helperCalls) if (keyMax !== undefined) largestKeys.set(insn, keyMax);
  } catch (error) {
    if (error instanceof TooManyStates) return undefined;
    if (error instanceof VerifierError && error.code === 'too_complex') return undefined;
    // Where loops converge because numbers that changed become unknown, those are kept that the state before was known to rely on:
    // which they are depends on what is stored and marked, and here that is more than usual.
    if (error instanceof VerifierError && program.insns.some(convergesByWidening)) return undefined;
    // Of an amount by which a pointer is moved only the least value and what was added to a linked number are looked at, as in the
    // kernel: a number that is less known passes, and stands for one that would not.
    if (error instanceof VerifierError && MOVES_TOO_FAR.test(error.text)) return undefined;
    throw error;
  }
  return { program, precision, byInsn, largestKeys };
}

const MOVES_TOO_FAR =
  /^(?:math between \w+ pointer and -?\d+ is not allowed|value -?\d+ makes \w+ pointer be out of bounds|\w+ pointer offset -?\d+ is not allowed)/;

/** `may_goto`, the address of a callback, the call of an iterator. */
function convergesByWidening(insn: Instruction): boolean {
  const { kind } = insn;
  return kind === 'mayGoto' || kind === 'callKfunc' || (kind === 'loadImm64' && insn.reference?.type === 'function');
}

/** Is the u64 `x` one of the numbers that `s` stands for? */
function isMember(s: Scalar, x: bigint): boolean {
  const signed = BigInt.asIntN(64, x);
  const low = Number(BigInt.asUintN(32, x));
  const signedLow = Number(BigInt.asIntN(32, x));
  return (
    (x & ~s.tnum.mask) === s.tnum.value &&
    s.umin <= x &&
    x <= s.umax &&
    s.smin <= signed &&
    signed <= s.smax &&
    s.u32min <= low &&
    low <= s.u32max &&
    s.s32min <= signedLow &&
    signedLow <= s.s32max
  );
}

/** What the routines left in a slot of an iterator or dynptr, by its layout. */
function objectHolds(object: StackObject, content: bigint): boolean {
  if (object.kind === 'iterator' && object.type === 'num') return object.active || content === 0n;
  if (object.kind === 'iterator') return object.first || isPosition(content);
  if (content === 0n) return true;
  return object.first ? content >= LOWEST_ADDRESS : ((content >> 28n) & 7n) === BigInt(DynptrType[object.type]);
}

/** The second word of an iterator over bits: how many there are, in the upper half the one given last. */
function isPosition(content: bigint): boolean {
  const count = Number(content & 0xffff_ffffn);
  const bit = Number(BigInt.asIntN(32, content >> 32n));
  return count % 64 === 0 && count <= 511 * 64 && bit >= -1 && bit <= count;
}

/** A frame of a program that is suspended or running. */
interface LiveFrame {
  /** The interpreter's number, routines counted. */
  readonly number: number;
  framePointer: bigint;
}

/** What one instruction's claims are compared with. */
interface Concrete {
  readonly event: InstructionEvent;
  readonly lowered: Lowered;
  readonly context: bigint;
  readonly rawSize: bigint;
}

class Witness {
  /** Instructions that were compared. */
  compared = 0;
  /** Keys of lookups among them. */
  keys = 0;
  #left = 0;
  #steps = 0;
  #toTheEnd = false;
  readonly #claims = new Map<Lowered, Claims>();
  readonly #frames: LiveFrame[] = [];
  #arena!: Arena;
  #runContext = 0;

  /** From now on runs of `lowered` are held against `claims`. */
  expect(lowered: Lowered, claims: Claims): void {
    this.#claims.set(lowered, claims);
  }

  /**
   * Runs the program, but not for ever.
   * @param toTheEnd go on, without comparing, when enough was compared
   * @returns did it come to its end?
   * @throws Unsound
   */
  watch(run: () => unknown, toTheEnd = false): boolean {
    this.#left = MAX_COMPARED;
    this.#steps = MAX_STEPS;
    this.#toTheEnd = toTheEnd;
    try {
      run();
      return true;
    } catch (error) {
      if (!(error instanceof Enough)) throw error;
      return false;
    }
  }

  forget(): void {
    this.#claims.clear();
  }

  /** A host whose interpreted programs are watched. */
  host(arenaSize: number): Host {
    const host = createBufferHost(arenaSize);
    this.#arena = host.arena;
    return {
      ...host,
      createBackends: (contexts, routines, services) => {
        this.#runContext = contexts.blocks[0]!.offset;
        const onInstruction = (event: InstructionEvent): void => this.#look(event);
        return [new InterpreterBackend(host.arena, contexts, routines, services, { onInstruction })];
      },
    };
  }

  #look(event: InstructionEvent): void {
    const { lowered } = event.program;
    const slot = event.insn;
    const insn = lowered.origin[slot]!;
    if (this.#steps-- <= 0) throw new Enough();
    // Routines have no subprograms with claims, but their frames lie between those of programs and callbacks.
    if (event.program.id === 0) return;
    this.#enter(event);
    const claims = this.#claims.get(lowered);
    if (claims === undefined || insn < 0 || (slot > 0 && lowered.origin[slot - 1] === insn)) return;
    if (this.#left-- <= 0) {
      if (this.#toTheEnd) return;
      throw new Enough();
    }
    this.compared++;
    const { view } = this.#arena;
    const largest = claims.largestKeys.get(insn);
    if (largest !== undefined) {
      this.keys++;
      const key = view.getUint32(this.#arena.offset(event.register(2), 4), true);
      if (key > largest) throw new Unsound(`${claims.program.name}, instruction ${insn}: key ${key} above ${largest}`);
    }
    const concrete: Concrete = {
      event,
      lowered,
      context: view.getBigUint64(this.#runContext + RunContext.context, true),
      rawSize: view.getBigUint64(this.#runContext + RunContext.rawSize, true),
    };
    const here = claims.byInsn[insn] ?? [];
    let why = 'the verifier never came here';
    for (let i = 0; i < here.length; i++) {
      const difference = this.#differs(here[i]!, claims, concrete);
      if (difference === undefined) {
        // The next run of the loop will most likely find the same state.
        if (i > 0) [here[i], here[i - 1]] = [here[i - 1]!, here[i]!];
        return;
      }
      if (i === 0) why = difference;
    }
    const registers = Array.from({ length: 11 }, (_, r) => `r${r}=0x${event.register(r).toString(16)}`).join(' ');
    const claimed = here.slice(0, 5).map(claim => formatState(claim.state));
    throw new Unsound(
      `${claims.program.name}, instruction ${insn} (${claims.precision}): in none of ${here.length} states; ${why}\n${registers}\n${claimed.join('\n')}`,
    );
  }

  #enter(event: InstructionEvent): void {
    const frames = this.#frames;
    const number = event.frame;
    while (frames.length > 0 && frames.at(-1)!.number > number) frames.pop();
    const framePointer = event.register(10);
    const top = frames.at(-1);
    if (top?.number === number) top.framePointer = framePointer;
    else frames.push({ number, framePointer });
  }

  /** The frame pointer of frame `index` of a state with `count` frames; undefined where there is no such frame. */
  #framePointer(index: number, count: number): bigint | undefined {
    return this.#frames[this.#frames.length - count + index]?.framePointer;
  }

  /** @returns what is not as claimed */
  #differs(claim: Claim, claims: Claims, concrete: Concrete): string | undefined {
    const { state, live, checkpoint } = claim;
    const count = state.frames.length;
    const all = claims.precision === 'all';
    const linked = new Map<number, bigint>();
    if (BigInt(state.rawSize) > concrete.rawSize && claims.program.type === 'raw')
      return `raw memory of ${concrete.rawSize} bytes, claimed ${state.rawSize}`;
    const precise = checkpoint?.preciseRegisters(count - 1) ?? 0;
    for (let r = 0; r <= 10; r++) {
      if ((live & (1 << r)) === 0) continue;
      const claimed = state.registers[r]!;
      const value = concrete.event.register(r);
      if (claimed.kind === 'uninitialized') continue;
      if (claimed.kind === 'scalar') {
        if (!all && (precise & (1 << r)) === 0) continue;
        if (!isMember(claimed.value, value)) return `r${r}`;
        if (all && claimed.id !== 0) {
          const link = linkOf(claimed.id);
          const base = BigInt.asUintN(sumOf(claimed.id) === SUM_32 ? 32 : 64, value - BigInt(claimed.offset));
          if (link === RAW_SIZE_ID) linked.set(RAW_SIZE_ID, concrete.rawSize);
          const other = linked.get(link);
          if (other !== undefined && other !== base) return `r${r}, id ${link}`;
          linked.set(link, base);
        }
        continue;
      }
      if (!this.#pointsThere(claimed, value, count, concrete)) return `r${r}`;
    }
    if (checkpoint === undefined) return undefined;
    for (let f = 0; f < count; f++) {
      const framePointer = this.#framePointer(f, count);
      if (framePointer === undefined) return `frame ${f}`;
      for (let i = 0; i < 64; i++) {
        const slot = state.frames[f]!.slots[i];
        if (slot === undefined || ((checkpoint.liveSlots(f, i >> 5) >> (i & 31)) & 1) === 0) continue;
        const marked = checkpoint.isPreciseSlot(f, i);
        if (!this.#slotHolds(slot, framePointer - BigInt(8 * (i + 1)), all || marked, count, concrete))
          return `fp${f}-${8 * (i + 1)}`;
      }
    }
    return undefined;
  }

  #slotHolds(slot: StackSlot, address: bigint, precise: boolean, count: number, concrete: Concrete): boolean {
    const content = this.#arena.view.getBigUint64(this.#arena.offset(address, 8), true);
    const byteState = (byte: number): number => (slot.bytes >> (2 * byte)) & 3;
    for (let byte = 0; byte < 8; byte++)
      if (byteState(byte) === ByteState.zero && ((content >> BigInt(8 * byte)) & 0xffn) !== 0n) return false;
    const { spilled, object } = slot;
    if (object !== undefined) return objectHolds(object, content);
    if (spilled === undefined) return true;
    if (spilled.kind !== 'scalar') return this.#pointsThere(spilled, content, count, concrete);
    if (!precise) return true;
    let size = 0;
    while (size < 8 && byteState(size) === ByteState.spill) size++;
    if (size !== 1 && size !== 2 && size !== 4) return size !== 8 || isMember(spilled.value, content);
    return isMember(truncate(spilled.value, size), BigInt.asUintN(8 * size, content));
  }

  #pointsThere(r: RegisterState, value: bigint, count: number, concrete: Concrete): boolean {
    if (value === 0n && r.nullable) return true;
    const { view } = this.#arena;
    const offset = BigInt(r.offset);
    const from = (base: bigint): boolean => isMember(r.value, BigInt.asUintN(64, value - base - offset));
    const field = (at: number): bigint => view.getBigUint64(this.#arena.offset(concrete.context + BigInt(at), 8), true);
    switch (r.kind) {
      case 'context':
        return from(concrete.context);
      case 'stack': {
        const framePointer = this.#framePointer(r.frame, count);
        return framePointer !== undefined && from(framePointer);
      }
      case 'packet':
      case 'packetMeta': {
        const end = field(r.kind === 'packet' ? XdpContext.dataEnd : XdpContext.data);
        if (!from(field(r.kind === 'packet' ? XdpContext.data : XdpContext.dataMeta))) return false;
        if (r.range === AT_PACKET_END) return value >= end;
        if (r.range === BEYOND_PACKET_END) return value > end;
        return r.range === 0 || value - offset + BigInt(r.range) <= end;
      }
      case 'packetEnd':
        return value === field(XdpContext.dataEnd);
      case 'raw':
        return from(concrete.context) && value - offset + BigInt(r.range) <= concrete.context + concrete.rawSize;
      case 'rawEnd':
        return from(concrete.context + concrete.rawSize);
      case 'map':
        return r.mapUid !== 0 || value === this.#mapAddress(r.map!, concrete);
      case 'mapValue':
        return r.mapUid === 0 ? this.#inMap(r, value, concrete) : value >= LOWEST_ADDRESS;
      case 'memory':
        // Of no bytes: what stands for a kernel function, whose address has no meaning.
        return value >= LOWEST_ADDRESS || (r.size === 0 && value !== 0n);
      default:
        return true;
    }
  }

  #mapAddress(map: MapSpec, { event, lowered }: Concrete): bigint | undefined {
    return event.program.mapAddresses[lowered.usedMaps.findIndex(({ name }) => name === map.name)];
  }

  /** Is it, but for the variable part, `offset` bytes behind the start of some element's value? */
  #inMap(r: RegisterState, value: bigint, concrete: Concrete): boolean {
    const { view } = this.#arena;
    const address = this.#mapAddress(r.map!, concrete);
    if (address === undefined) return false;
    const header = this.#arena.offset(address, MapHeader.size);
    const { type, maxEntries } = r.map!;
    const start = value - BigInt(r.offset);
    const isAmong = (first: bigint, stride: number, count: number): boolean => {
      // With a variable part of less than an element only one or two elements come into question.
      const nearest = stride === 0 ? 0 : Number((start - r.value.smin - first) / BigInt(stride));
      return [nearest, nearest - 1, ...Array.from({ length: Math.min(count, 64) }, (_, i) => i)].some(
        element =>
          element >= 0 &&
          element < count &&
          isMember(r.value, BigInt.asUintN(64, start - first - BigInt(element) * BigInt(stride))),
      );
    };
    const values = view.getBigUint64(header + MapHeader.values, true);
    const stride = view.getUint32(header + MapHeader.stride, true);
    if (type === 'hash' || type === 'lru_hash') {
      // One value or two of each element, in the pool or in the bucket's home.
      const one = view.getUint32(header + HashLayout.valueOffset, true);
      const both = view.getUint32(header + HashLayout.bothValues, true);
      const pool = view.getUint32(header + HashLayout.pool, true);
      const homes = view.getBigUint64(header + HashLayout.buckets, true) + BigInt(HashBucket.size);
      const bucket = view.getUint32(header + HashLayout.bucketStride, true);
      const buckets = bucket === HashBucket.size ? 0 : view.getUint32(header + MapHeader.mask, true) + 1;
      return (both === 0 ? [one] : [one, both - one]).some(
        offset => isAmong(values + BigInt(offset), stride, pool) || isAmong(homes + BigInt(offset), bucket, buckets),
      );
    }
    if (type !== 'array' && type !== 'percpu_array') return value >= LOWEST_ADDRESS;
    const cpus = type === 'percpu_array' ? view.getUint32(header + MapHeader.cpus, true) : 1;
    const cpuStride = view.getBigUint64(header + MapHeader.cpuStride, true);
    for (let cpu = 0n; cpu < cpus; cpu++) {
      if (isAmong(values + cpu * cpuStride, stride, maxEntries)) return true;
    }
    return false;
  }
}

/** A runtime in which runs are held against the claims of the programs that were put on trial. */
export interface Court {
  readonly runtime: Runtime;
  readonly witness: Witness;
  /** @returns whether all of the object's programs are being watched */
  try(
    object: LoadedObject,
    maps: ReadonlyMap<string, MapSpec>,
    precision: Precision,
    options?: Partial<VerifyOptions>,
  ): boolean;
}

export function openCourt(arenaSize = 64 << 20): Court {
  const witness = new Witness();
  const runtime = new Runtime(witness.host(arenaSize));
  return {
    runtime,
    witness,
    try(object, maps, precision, options = {}) {
      let complete = true;
      for (const program of object.programs.values()) {
        const claims = claimsOf(program.spec, maps, precision, options);
        if (claims === undefined) complete = false;
        else witness.expect(program.lowered, claims);
      }
      return complete;
    },
  };
}
