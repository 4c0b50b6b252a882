/** A loaded program: run it, replay packets through it, look at what the verifier and the compiler made of it. */
import { check } from '../arguments.ts';
import type { Lowered } from '../lowering/lowered.ts';
import type { OwnerTraits, ProgArrayEntry } from '../maps/prog-array.ts';
import { ProgramObject } from '../memory/layout.ts';
import type { ProgramSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import type { Backend, BackendName, Installed } from './backend.ts';
import { RuntimeError } from './errors.ts';
import type { GracePeriods, Side } from './grace-period.ts';
import type { Packet, PacketMemory } from './packets.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import {
  type AsyncReplayOptions,
  asPacket,
  checkCount,
  packetMemory,
  type ReplayOptions,
  type ReplayResult,
  type RunResult,
  type RunTarget,
  replay,
  replayInTurns,
  replayOnThreads,
  runOnce,
} from './replay.ts';
import type { RuntimeServices } from './run-services.ts';
import { type TailCallSiteInfo, tailCallSites } from './stages.ts';
import { addCounts, type ProgramMisses, type TailCallHit, type TailCallMiss } from './tail-call-misses.ts';

const MAX_REPEAT = 0xffff_ffff;

const replayOptions = check.options({ repeat: check.number, keep: check.boolean });
const asyncReplayOptions = check.options({
  repeat: check.number,
  workers: check.number,
  keep: check.boolean,
  onProgress: check.callable,
  signal: check.abortSignal,
});

/** A program once more, for the other side of transactions. */
interface ProgramSide {
  readonly installed: Installed;
  readonly misses: ProgramMisses | undefined;
  /** Arena offset of its ProgramObject. */
  readonly object: number;
  /** Takes its direct call sites from the arrays. */
  readonly remove: () => void;
}

export class Program {
  readonly id: number;
  readonly spec: ProgramSpec;
  /** What the verifier proved. */
  readonly verified: Verified;
  /** What the backend got. */
  readonly lowered: Lowered;
  /** The prog arrays it calls through, by the names it knows them under. */
  readonly progArrays: ReadonlyMap<string, ProgArraySlots>;
  readonly #target: RunTarget;
  readonly #object: number;
  /** Makes the second side; undefined for programs that call through no prog array: both sides share them. */
  readonly #makeSide: (() => ProgramSide) | undefined;
  #second: ProgramSide | undefined;
  readonly #entries: ProgArrayEntry[] = [];
  readonly #traits: OwnerTraits;
  readonly #misses: ProgramMisses | undefined;
  readonly #onFree: () => void;
  /** Programs that runs enter instead of this: which was asked for, and which each side has. */
  #successor: Program | undefined;
  /** @internal The programs whose runs enter this one instead. */
  readonly followers = new Set<Program>();
  readonly #entered: [Program | undefined, Program | undefined] = [undefined, undefined];
  #memory: PacketMemory | undefined;
  /** One for the user's handle, one for each slot and each run on another thread. */
  #references = 1;
  #disposed = false;
  #wasRun = false;
  #wasInSlot = false;

  /** Programs are made by `Runtime.load`. */
  constructor(parts: {
    id: number;
    object: number;
    verified: Verified;
    lowered: Lowered;
    progArrays: ReadonlyMap<string, ProgArraySlots>;
    backend: Backend;
    installed: Installed;
    traits: OwnerTraits;
    services: RuntimeServices;
    misses: ProgramMisses | undefined;
    makeSide: (() => ProgramSide) | undefined;
    onFree: () => void;
  }) {
    this.id = parts.id;
    this.spec = parts.verified.program;
    this.verified = parts.verified;
    this.lowered = parts.lowered;
    this.progArrays = parts.progArrays;
    this.#target = {
      type: this.spec.type,
      backend: parts.backend,
      installed: parts.installed,
      services: parts.services,
      object: parts.services.arena.address(parts.object),
    };
    this.#makeSide = parts.makeSide;
    this.#object = parts.object;
    this.#traits = parts.traits;
    this.#misses = parts.misses;
    this.#onFree = parts.onFree;
  }

  get name(): string {
    return this.spec.name;
  }

  get type(): ProgramSpec['type'] {
    return this.spec.type;
  }

  get backend(): BackendName {
    return this.#target.backend.name;
  }

  /** True once `dispose` was called; slots and runs in flight may still hold it. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Address range of the machine code that runs enter now: after a transaction it may be another; undefined for interpreted programs. */
  get code():
    | { readonly address: bigint; readonly length: number; readonly tailCallPrologueOffset: number }
    | undefined {
    const { code, entry } = this.#live;
    return code && { address: entry, length: code.bytes.length, tailCallPrologueOffset: code.tailCallPrologueOffset };
  }

  /** Every tail call that can be reached, with how the backend runs it. */
  get tailCalls(): readonly TailCallSiteInfo[] {
    return tailCallSites(this.verified, this.lowered);
  }

  /**
   * Tail calls of this program that fell through, in all runs on all threads so far; at any time. Empty where the program
   * was loaded with `countMisses: false`.
   * @throws RuntimeError `disposed`
   */
  tailCallMisses(): TailCallMiss[] {
    this.#alive();
    return addCounts(this.#misses?.read() ?? [], this.#second?.misses?.read() ?? []);
  }

  /**
   * Tail calls of this program that succeeded, by site and slot; empty unless it was loaded with `countHits`.
   * @throws RuntimeError `disposed`
   */
  tailCallHits(): TailCallHit[] {
    this.#alive();
    return addCounts(this.#misses?.hits() ?? [], this.#second?.misses?.hits() ?? []);
  }

  /**
   * Counts misses from zero again.
   * @returns those so far: no miss is in neither count, none in both
   * @throws RuntimeError `disposed`
   */
  resetTailCallMisses(): TailCallMiss[] {
    this.#alive();
    return addCounts(this.#misses?.reset() ?? [], this.#second?.misses?.reset() ?? []);
  }

  /** The machine code as it is in memory now, patched jumps included. */
  readCode(): Uint8Array {
    this.#alive();
    return this.#live.readMemory();
  }

  /**
   * Runs the program once on the calling thread.
   * @param packet the frame from its Ethernet header (raw: the memory); it is copied, not changed.
   * @throws RuntimeError `disposed`, `bad_argument`, `busy` (inside a host function of a run), `service_failed`
   */
  run(packet: Uint8Array | Packet): RunResult {
    this.#alive();
    this.#wasRun = true;
    this.#memory ??= packetMemory(this.#target);
    return runOnce(this.#target, this.#memory, packet);
  }

  /** Runs packets on the calling thread, one native call per batch. Errors as `run`. */
  replay(packets: readonly (Uint8Array | Packet)[], options: ReplayOptions = {}): ReplayResult {
    this.#alive();
    check.array(packets, 'packets');
    replayOptions(options, 'options');
    checkCount('repeat', options.repeat ?? 1, MAX_REPEAT);
    this.#wasRun = true;
    return replay(this.#target, packets.map(asPacket), options);
  }

  /**
   * Runs packets on other native threads; the calling thread stays free, for instance to change prog arrays.
   * Interpreted programs run on the calling thread, in turns with everything else.
   * @throws RuntimeError as `run`; `unsupported_platform` for interpreted programs with more than one worker;
   *   `busy` where fewer than `workers` threads are free.
   */
  async replayAsync(
    packets: readonly (Uint8Array | Packet)[],
    options: AsyncReplayOptions = {},
  ): Promise<ReplayResult> {
    this.#alive();
    check.array(packets, 'packets');
    asyncReplayOptions(options, 'options');
    checkCount('repeat', options.repeat ?? 1, MAX_REPEAT);
    checkCount('workers', options.workers ?? 1, 255);
    const { backend } = this.#target;
    if (!backend.threads && (options.workers ?? 1) > 1) {
      throw new RuntimeError(
        'unsupported_platform',
        `${options.workers} workers were asked for, but the interpreter runs on one thread; use workers: 1 or backend "native"`,
        { workers: options.workers },
      );
    }
    this.#wasRun = true;
    this.retain();
    try {
      const run = backend.threads ? replayOnThreads : replayInTurns;
      return await run(this.#target, packets.map(asPacket), options);
    } finally {
      this.release();
    }
  }

  /**
   * Gives the handle up. The code is freed once no slot holds the program and every run that could see it has ended.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#target.services.arena.view.setUint32(this.#object + ProgramObject.alive, 0, true);
    this.#target.services.gracePeriods.retire(() => this.release());
  }

  /** A run was started in it. */
  get wasRun(): boolean {
    return this.#wasRun;
  }

  /** As far as can be told, runs start in it: it was run, or never was in a slot. */
  get startsRuns(): boolean {
    return !this.#disposed && (this.#wasRun || !this.#wasInSlot);
  }

  /** @internal It was put into a slot. */
  enterSlot(): void {
    this.#wasInSlot = true;
    this.retain();
  }

  /** The program that runs enter that are started in this one: another one after `replace` in a transaction. */
  get entered(): Program {
    return this.#successor ?? this;
  }

  /** @internal */
  belongsTo(gracePeriods: GracePeriods): boolean {
    return this.#target.services.gracePeriods === gracePeriods;
  }

  /** @internal Each side has yet to be told, by `catchUp`. */
  enterInstead(program: Program): void {
    const before = this.#successor;
    before?.followers.delete(this);
    this.#successor = program === this ? undefined : program;
    this.#successor?.retain();
    this.#successor?.followers.add(this);
    before?.release();
  }

  /** @internal Nobody may be on that side. */
  catchUp(side: Side): void {
    const before = this.#entered[side];
    this.#entered[side] = this.#successor;
    this.#successor?.retain();
    const { view } = this.#target.services.arena;
    view.setBigUint64(this.#object + ProgramObject.entries + 8 * side, this.entered.#ownEntry(side), true);
    before?.release();
  }

  /** @internal One more holder: a slot or a run. */
  retain(): void {
    this.#references++;
  }

  /** @internal A holder is gone, and no run can reach the program through it any more. */
  release(): void {
    if (--this.#references > 0) return;
    this.#successor?.followers.delete(this);
    for (const program of [this.#successor, ...this.#entered]) program?.release();
    this.#memory?.free();
    this.dropSide();
    this.#target.installed.free();
    this.#target.services.arena.free(this.#object);
    this.#onFree();
  }

  /** @internal What a slot of that side stores for this program. */
  slotEntry(side: Side): ProgArrayEntry {
    const made = this.#entries[side];
    if (made) return made;
    const { arena } = this.#target.services;
    const second = side === 1 ? this.#second : undefined;
    const entry = {
      id: this.id,
      objectAddress: second ? arena.address(second.object) : this.#target.object,
      target: (second ?? this.#target).installed.target,
      traits: this.#traits,
    };
    this.#entries[side] = entry;
    return entry;
  }

  /** @internal Makes the second side (generations.ts), where the program needs one. @throws MemoryError, RuntimeError */
  addSide(): void {
    this.#entries.length = 0;
    this.#second ??= this.#makeSide?.();
    if (!this.#second) return;
    const { view } = this.#target.services.arena;
    view.setBigUint64(this.#object + ProgramObject.entries + 8, this.#ownEntry(1), true);
  }

  /** What `ProgramObject.entries` holds for a side where the program was not replaced. */
  #ownEntry(side: Side): bigint {
    const second = side === 1 ? this.#second : undefined;
    const { installed } = second ?? this.#target;
    if (installed.code) return installed.entry;
    const id = this.#target.services.arena.view.getUint32((second?.object ?? this.#object) + ProgramObject.id, true);
    return BigInt(id);
  }

  /** @internal Nobody may be on it. */
  dropSide(): void {
    if (!this.#second) return;
    const { installed, object, remove } = this.#second;
    this.#second = undefined;
    this.#entries.length = 0;
    remove();
    installed.free();
    this.#target.services.arena.free(object);
  }

  /** The code that runs enter now. */
  get #live(): Installed {
    const second = this.#target.services.gracePeriods.side === 1 ? this.#second : undefined;
    return (second ?? this.#target).installed;
  }

  #alive(): void {
    if (this.#disposed) {
      throw new RuntimeError('disposed', `program ${this.name} was disposed; load it again`, { program: this.name });
    }
  }
}
