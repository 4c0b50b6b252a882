/** A loaded program: run it, replay packets through it, look at what the verifier and the compiler made of it. */
import type { TailCallKind } from '../jit/shared/code.ts';
import type { Lowered } from '../lowering/lowered.ts';
import type { OwnerTraits, ProgArrayEntry } from '../maps/prog-array.ts';
import { ProgramObject } from '../memory/layout.ts';
import type { LineInfo, ProgramSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import type { Backend, BackendName, Installed } from './backend.ts';
import { Batch, HISTOGRAM, PacketKind } from './batch.ts';
import type { ContextBlock } from './contexts.ts';
import { RuntimeError } from './errors.ts';
import { type Packet, PacketMemory, type PacketOutcome } from './packets.ts';
import type { RuntimeServices } from './runtime.ts';
import { addHistogram, verdictName } from './verdict.ts';

export interface RunResult extends PacketOutcome {
  /** "XDP_PASS", "TC_ACT_OK", "PASS" ...; for raw programs r0 in decimal. */
  readonly verdict: string;
}

export interface ReplayOptions {
  /** Times all packets are run, 1 to 2^32-1; default 1. */
  readonly repeat?: number;
  /** Keep what became of each packet in the last pass (`results`); default false. */
  readonly keep?: boolean;
}

export interface AsyncReplayOptions extends ReplayOptions {
  /** Native threads to share the packets, in consecutive parts; default 1. At most the runtime's `cpus` - 1. */
  readonly workers?: number;
  /** Stops the replay at the next packet boundary of each thread. */
  readonly signal?: AbortSignal;
}

export interface ReplayResult {
  /** Packets run, repeats counted. */
  readonly packets: number;
  /** Their bytes before the run. */
  readonly bytes: number;
  /** How often each verdict was given. */
  readonly verdicts: Readonly<Record<string, number>>;
  /** Wall-clock time of the native calls, ns; the longest of the threads. */
  readonly elapsedNs: number;
  /** True where a signal or the end of the runtime cut it short. */
  readonly stopped: boolean;
  /** With `keep`: one per packet, in order. */
  readonly results: readonly RunResult[] | undefined;
}

export interface TailCallSiteInfo {
  /** Slot of the call in the object's program. */
  readonly insn: number;
  readonly line: LineInfo | undefined;
  /** Names of the prog arrays that reach it. */
  readonly maps: readonly string[];
  /** The one index that reaches it, if there is just one. */
  readonly index: number | undefined;
  readonly kind: TailCallKind;
}

/** Packets per native call where each has a frame of its own: the frames of one chunk stay in the cache. */
const KEEP_CHUNK = 256;
/** Input bytes copied into the arena at once for a replay. */
const INPUT_CHUNK_BYTES = 32 << 20;

interface Totals {
  packets: number;
  bytes: number;
  elapsedNs: number;
  stopped: boolean;
  readonly verdicts: Record<string, number>;
  results: RunResult[] | undefined;
}

function emptyTotals(keep: boolean): Totals {
  return { packets: 0, bytes: 0, elapsedNs: 0, stopped: false, verdicts: {}, results: keep ? [] : undefined };
}

/** The line that covers an instruction. */
export function lineAt(lines: readonly LineInfo[], insn: number): LineInfo | undefined {
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lines[middle]!.insn <= insn) low = middle + 1;
    else high = middle;
  }
  return lines[low - 1];
}

export class Program {
  readonly id: number;
  readonly spec: ProgramSpec;
  /** What the verifier proved. */
  readonly verified: Verified;
  /** What the backend got. */
  readonly lowered: Lowered;
  readonly #backend: Backend;
  readonly #installed: Installed;
  readonly #services: RuntimeServices;
  readonly #object: number;
  readonly #traits: OwnerTraits;
  readonly #onFree: () => void;
  readonly #kind: number;
  #memory: PacketMemory | undefined;
  /** One for the user's handle, one for each slot and each run on another thread. */
  #references = 1;
  #disposed = false;

  /** Programs are made by `Runtime.load`. */
  constructor(parts: {
    id: number;
    object: number;
    verified: Verified;
    lowered: Lowered;
    backend: Backend;
    installed: Installed;
    traits: OwnerTraits;
    services: RuntimeServices;
    onFree: () => void;
  }) {
    this.id = parts.id;
    this.spec = parts.verified.program;
    this.verified = parts.verified;
    this.lowered = parts.lowered;
    this.#backend = parts.backend;
    this.#installed = parts.installed;
    this.#services = parts.services;
    this.#object = parts.object;
    this.#traits = parts.traits;
    this.#onFree = parts.onFree;
    this.#kind = {
      xdp: PacketKind.xdp,
      sched_cls: PacketKind.skb,
      sched_act: PacketKind.skb,
      socket_filter: PacketKind.skb,
      cgroup_skb: PacketKind.skbNetwork,
      raw: PacketKind.raw,
    }[this.spec.type];
  }

  get name(): string {
    return this.spec.name;
  }

  get type(): ProgramSpec['type'] {
    return this.spec.type;
  }

  get backend(): BackendName {
    return this.#backend.name;
  }

  /** True once `dispose` was called; slots and runs in flight may still hold it. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Address range of the machine code; undefined for interpreted programs. */
  get code():
    | { readonly address: bigint; readonly length: number; readonly tailCallPrologueOffset: number }
    | undefined {
    const { code, entry } = this.#installed;
    return code && { address: entry, length: code.bytes.length, tailCallPrologueOffset: code.tailCallPrologueOffset };
  }

  /** Every tail call that can be reached, with how the backend compiled it. */
  get tailCalls(): readonly TailCallSiteInfo[] {
    const kinds = new Map(
      this.#installed.code?.tailCalls.map(site => [this.lowered.origin[site.insn], site.kind] as const) ?? [],
    );
    return this.verified.facts.tailCalls.map(site => ({
      insn: site.insn,
      line: lineAt(this.spec.lines, site.insn),
      maps: site.maps,
      index: site.index,
      kind: kinds.get(site.insn) ?? (site.maps.length === 1 ? 'static' : 'dynamic'),
    }));
  }

  /** The machine code as it is in memory now, patched jumps included. */
  readCode(): Uint8Array {
    this.#alive();
    return this.#installed.readMemory();
  }

  /**
   * Runs the program once on the calling thread.
   * @param packet the frame from its Ethernet header (raw: the memory); it is copied, not changed.
   * @throws RuntimeError `disposed`, `bad_argument`, `busy` (inside a host function of a run), `service_failed`
   */
  run(packet: Uint8Array | Packet): RunResult {
    this.#alive();
    this.#memory ??= new PacketMemory(this.#services.arena, this.#kind);
    const memory = this.#memory;
    return this.#services.withControlContext(context => {
      const loaded = memory.loadFrames([asPacket(packet)]);
      this.#prepare(context, loaded.descriptors, 1, 1);
      this.#backend.runBatch(context, this.#installed);
      return this.#named(memory.outcome(0));
    });
  }

  /** Runs packets on the calling thread, one native call per batch. Errors as `run`. */
  replay(packets: readonly (Uint8Array | Packet)[], options: ReplayOptions = {}): ReplayResult {
    this.#alive();
    const repeat = checkCount('repeat', options.repeat ?? 1, 0xffff_ffff);
    const memory = new PacketMemory(this.#services.arena, this.#kind);
    const totals = emptyTotals(options.keep === true);
    try {
      for (const step of this.#steps(packets.map(asPacket), repeat, options.keep === true)) {
        const loaded = step.keep ? memory.loadFrames(step.packets) : memory.loadInputs(step.packets);
        this.#services.withControlContext(context => {
          this.#prepare(context, loaded.descriptors, loaded.count, step.repeat);
          const start = this.#services.now();
          totals.stopped = this.#backend.runBatch(context, this.#installed);
          totals.elapsedNs += this.#services.now() - start;
          this.#collect(context, loaded.bytes / Math.max(1, loaded.count), totals);
        });
        if (step.keep) for (let i = 0; i < loaded.count; i++) totals.results!.push(this.#named(memory.outcome(i)));
        if (totals.stopped) break;
      }
    } finally {
      memory.free();
    }
    return totals;
  }

  /**
   * Runs packets on other native threads; the calling thread stays free, for instance to change prog arrays.
   * @throws RuntimeError as `run`; `unsupported_platform` for interpreted programs with more than one worker;
   *   `busy` where fewer than `workers` threads are free.
   */
  async replayAsync(
    packets: readonly (Uint8Array | Packet)[],
    options: AsyncReplayOptions = {},
  ): Promise<ReplayResult> {
    this.#alive();
    const repeat = checkCount('repeat', options.repeat ?? 1, 0xffff_ffff);
    const workers = checkCount('workers', options.workers ?? 1, 1024);
    if (!this.#backend.threads) {
      if (workers > 1) {
        throw new RuntimeError(
          'unsupported_platform',
          `${workers} workers were asked for, but the interpreter runs on one thread; use workers: 1 or backend "native"`,
          { workers },
        );
      }
      return this.replay(packets, options);
    }
    const contexts = this.#services.leaseContexts(workers);
    const share = Math.ceil(packets.length / workers);
    this.retain();
    try {
      const parts = await Promise.all(
        contexts.map((context, i) =>
          this.#replayOn(context, packets.slice(i * share, (i + 1) * share).map(asPacket), repeat, options),
        ),
      );
      const totals = emptyTotals(options.keep === true);
      for (const part of parts) {
        totals.packets += part.packets;
        totals.bytes += part.bytes;
        totals.elapsedNs = Math.max(totals.elapsedNs, part.elapsedNs);
        totals.stopped ||= part.stopped;
        for (const [name, count] of Object.entries(part.verdicts))
          totals.verdicts[name] = (totals.verdicts[name] ?? 0) + count;
        if (part.results) totals.results!.push(...part.results);
      }
      return totals;
    } finally {
      this.#services.returnContexts(contexts);
      this.release();
    }
  }

  /**
   * Gives the handle up. The code is freed once no slot holds the program and every run that could see it has ended.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#services.arena.view.setUint32(this.#object + ProgramObject.alive, 0, true);
    this.#services.gracePeriods.retire(() => this.release());
  }

  /** @internal One more holder: a slot or a run. */
  retain(): void {
    this.#references++;
  }

  /** @internal A holder is gone, and no run can reach the program through it any more. */
  release(): void {
    if (--this.#references > 0) return;
    this.#memory?.free();
    this.#installed.free();
    this.#services.arena.free(this.#object);
    this.#onFree();
  }

  /** @internal What a slot stores for this program. */
  slotEntry(): ProgArrayEntry {
    return {
      id: this.id,
      objectAddress: this.#services.arena.address(this.#object),
      target: this.#installed.target,
      traits: this.#traits,
    };
  }

  #alive(): void {
    if (this.#disposed) {
      throw new RuntimeError('disposed', `program ${this.name} was disposed; load it again`, { program: this.name });
    }
  }

  async #replayOn(
    context: ContextBlock,
    packets: readonly Packet[],
    repeat: number,
    options: AsyncReplayOptions,
  ): Promise<Totals> {
    const { arena } = this.#services;
    const memory = new PacketMemory(arena, this.#kind);
    const totals = emptyTotals(options.keep === true);
    const stop = () => Atomics.store(arena.i32, (context.batch + Batch.stop) / 4, 1);
    options.signal?.addEventListener('abort', stop);
    try {
      for (const step of this.#steps(packets, repeat, options.keep === true)) {
        const loaded = step.keep ? memory.loadFrames(step.packets) : memory.loadInputs(step.packets);
        this.#prepare(context, loaded.descriptors, loaded.count, step.repeat);
        if (options.signal?.aborted) stop();
        const start = this.#services.now();
        totals.stopped = await this.#backend.runBatchAsync(context, this.#installed);
        totals.elapsedNs += this.#services.now() - start;
        this.#collect(context, loaded.bytes / Math.max(1, loaded.count), totals);
        if (totals.stopped) break;
        if (step.keep) for (let i = 0; i < loaded.count; i++) totals.results!.push(this.#named(memory.outcome(i)));
      }
    } finally {
      options.signal?.removeEventListener('abort', stop);
      memory.free();
    }
    return totals;
  }

  /** Native calls to make: all passes but the last over refilled frames, the last (with `keep`) over frames of their own. */
  *#steps(
    packets: readonly Packet[],
    repeat: number,
    keep: boolean,
  ): Generator<{ packets: readonly Packet[]; repeat: number; keep: boolean }> {
    const chunks = [...chunked(packets, INPUT_CHUNK_BYTES)];
    let passes = keep ? repeat - 1 : repeat;
    if (chunks.length === 1 && passes > 0) yield { packets: chunks[0]!, repeat: passes, keep: false };
    else for (; passes > 0; passes--) for (const chunk of chunks) yield { packets: chunk, repeat: 1, keep: false };
    if (!keep) return;
    for (let i = 0; i < packets.length; i += KEEP_CHUNK)
      yield { packets: packets.slice(i, i + KEEP_CHUNK), repeat: 1, keep: true };
  }

  #prepare(context: ContextBlock, descriptors: bigint, count: number, repeat: number): void {
    const { arena } = this.#services;
    const { view } = arena;
    const { batch } = context;
    arena.bytes.fill(0, batch, batch + Batch.size);
    view.setBigUint64(batch + Batch.descriptors, descriptors, true);
    view.setUint32(batch + Batch.count, count, true);
    view.setUint32(batch + Batch.kind, this.#kind, true);
    view.setBigUint64(batch + Batch.entry, this.#installed.entry, true);
    view.setBigUint64(batch + Batch.context, arena.address(context.packetContext), true);
    view.setUint32(batch + Batch.repeat, repeat, true);
  }

  #collect(context: ContextBlock, averageBytes: number, totals: Totals): void {
    const { view } = this.#services.arena;
    const counts: bigint[] = [];
    for (let slot = 0; slot < HISTOGRAM.slots; slot++)
      counts.push(view.getBigUint64(context.batch + Batch.histogram + slot * 8, true));
    addHistogram(this.type, counts, totals.verdicts);
    const done = Number(view.getBigUint64(context.batch + Batch.done, true));
    totals.packets += done;
    // Exact for whole passes; a stopped one is estimated from the average length.
    totals.bytes += Math.round(done * averageBytes);
  }

  #named(outcome: PacketOutcome): RunResult {
    return { ...outcome, verdict: verdictName(this.type, outcome.returnValue) };
  }
}

function asPacket(packet: Uint8Array | Packet): Packet {
  if (packet instanceof Uint8Array) return { data: packet };
  if (!(packet?.data instanceof Uint8Array)) {
    throw new RuntimeError(
      'bad_argument',
      `expected a Uint8Array or {data: Uint8Array, ...} as packet, got ${typeof packet}`,
    );
  }
  return packet;
}

function checkCount(name: string, value: number, limit: number): number {
  if (!Number.isInteger(value) || value < 1 || value > limit) {
    throw new RuntimeError('bad_argument', `${name} must be an integer from 1 to ${limit}, got ${value}`, {
      [name]: value,
      limit,
    });
  }
  return value;
}

function* chunked(packets: readonly Packet[], bytes: number): Generator<readonly Packet[]> {
  let start = 0;
  let sum = 0;
  for (let i = 0; i < packets.length; i++) {
    sum += packets[i]!.data.length;
    if (sum > bytes && i > start) {
      yield packets.slice(start, i);
      start = i;
      sum = packets[i]!.data.length;
    }
  }
  yield packets.slice(start);
}
