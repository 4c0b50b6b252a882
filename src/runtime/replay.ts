/**
 * Many packets through one program: cut into native calls, on the control thread or shared among others.
 *
 * Two kinds of step. Passes whose packets nobody wants to see again run over inputs that the routine copies into one
 * frame, as many passes in one native call as take some 50 ms. A pass with `keep` gives each packet a frame of its own, a few hundred at a
 * time so that the frames stay in the cache.
 */
import { describe, isBytes } from '../arguments.ts';
import type { ProgramType } from '../object/spec.ts';
import type { Backend, Installed } from './backend.ts';
import { Batch, HISTOGRAM, PacketKind } from './batch.ts';
import type { ContextBlock } from './contexts.ts';
import { RuntimeError } from './errors.ts';
import { type Packet, PacketMemory, type PacketOutcome } from './packets.ts';
import type { RuntimeServices } from './run-services.ts';
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
  /** Called about ten times a second with the number of packets run so far. */
  readonly onProgress?: (packets: number) => void;
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
  /** Wall-clock time during which a batch ran on any thread, ns, without what JS does around them. */
  readonly elapsedNs: number;
  /** True where a signal or the end of the runtime cut it short. */
  readonly stopped: boolean;
  /** With `keep`: one per packet, in order. */
  readonly results: readonly RunResult[] | undefined;
}

/** What is run. */
export interface RunTarget {
  readonly type: ProgramType;
  readonly backend: Backend;
  readonly installed: Installed;
  /** Address of its ProgramObject. */
  readonly object: bigint;
  readonly services: RuntimeServices;
}

/** Packets per native call where each has a frame of its own. */
const KEEP_CHUNK = 256;
/** Packets per turn of the interpreter, which shares its thread with everybody else. */
const INTERPRETED_CHUNK = 256;
/**
 * What a native call of many passes should take, ns. Nothing can interrupt one: a worker thread that is told to terminate waits for
 * its end.
 */
const CALL_NS = 50e6;
/** Packets of the first call, when nothing is known of their cost. */
const FIRST_CALL_PACKETS = 1 << 16;
/** Input bytes copied into the arena at once. */
const INPUT_CHUNK_BYTES = 32 << 20;
const PROGRESS_MS = 100;

const KINDS: Record<ProgramType, number> = {
  xdp: PacketKind.xdp,
  sched_cls: PacketKind.skb,
  sched_act: PacketKind.skb,
  socket_filter: PacketKind.skb,
  cgroup_skb: PacketKind.skbNetwork,
  raw: PacketKind.raw,
};

interface Totals {
  packets: number;
  bytes: number;
  elapsedNs: number;
  stopped: boolean;
  readonly verdicts: Record<string, number>;
  results: RunResult[] | undefined;
  /** Where several threads run at once: when each batch started and ended. */
  readonly spans?: Span[];
}

/** Monotonic, ns. */
type Span = readonly [started: number, ended: number];

interface Step {
  readonly packets: readonly Packet[];
  readonly repeat: number;
  readonly keep: boolean;
}

export function packetMemory(target: RunTarget): PacketMemory {
  return new PacketMemory(target.services.arena, target.type === 'raw');
}

/** One packet on the control thread, in memory that is used again for the next. */
export function runOnce(target: RunTarget, memory: PacketMemory, packet: Uint8Array | Packet): RunResult {
  return target.services.withControlContext(context => {
    const loaded = memory.loadFrames([asPacket(packet)]);
    prepare(target, context, loaded.descriptors, 1, 1);
    if (target.backend.runBatch(context)) throw stoppedError();
    return outcome(target, memory, 0);
  });
}

export function replay(target: RunTarget, packets: readonly Packet[], options: ReplayOptions): ReplayResult {
  const memory = packetMemory(target);
  const totals = emptyTotals(options.keep === true);
  try {
    for (const step of steps(packets, options, INPUT_CHUNK_BYTES)) {
      target.services.withControlContext(context => runStep(target, context, memory, step, totals));
      if (totals.stopped) break;
    }
  } finally {
    memory.free();
  }
  return totals;
}

/** On the control thread all the same, but in turns with everything else that happens there. */
export async function replayInTurns(
  target: RunTarget,
  packets: readonly Packet[],
  options: AsyncReplayOptions,
): Promise<ReplayResult> {
  const memory = packetMemory(target);
  const totals = emptyTotals(options.keep === true);
  let reported = target.services.now();
  try {
    for (const step of steps(packets, options, 0)) {
      if (options.signal?.aborted) {
        totals.stopped = true;
        break;
      }
      target.services.withControlContext(context => runStep(target, context, memory, step, totals));
      if (totals.stopped) break;
      if (target.services.now() - reported > PROGRESS_MS * 1e6) {
        options.onProgress?.(totals.packets);
        reported = target.services.now();
        await new Promise(resolve => setTimeout(resolve, 0));
      }
    }
  } finally {
    memory.free();
  }
  return totals;
}

export async function replayOnThreads(
  target: RunTarget,
  packets: readonly Packet[],
  options: AsyncReplayOptions,
): Promise<ReplayResult> {
  const workers = options.workers ?? 1;
  const contexts = target.services.leaseContexts(workers);
  const share = Math.ceil(packets.length / workers);
  const spans: Span[] = [];
  const parts = contexts.map(() => ({ ...emptyTotals(options.keep === true), spans }));
  const { view } = target.services.arena;
  const timer = options.onProgress
    ? setInterval(() => {
        let done = 0;
        for (const [i, part] of parts.entries()) {
          done += part.packets + Number(view.getBigUint64(contexts[i]!.batch + Batch.done, true));
        }
        options.onProgress?.(done);
      }, PROGRESS_MS)
    : undefined;
  try {
    // All threads must have ended before their contexts are given back, also when one of them failed.
    const ends = await Promise.allSettled(
      contexts.map((context, i) =>
        runSteps(target, context, packets.slice(i * share, (i + 1) * share), options, parts[i]!),
      ),
    );
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  } finally {
    clearInterval(timer);
    target.services.returnContexts(contexts);
  }
  const sum = emptyTotals(options.keep === true);
  sum.elapsedNs = covered(spans);
  for (const part of parts) {
    sum.packets += part.packets;
    sum.bytes += part.bytes;
    sum.stopped ||= part.stopped;
    for (const [name, count] of Object.entries(part.verdicts)) sum.verdicts[name] = (sum.verdicts[name] ?? 0) + count;
    for (const result of part.results ?? []) sum.results!.push(result);
  }
  return sum;
}

/** Length of the union: threads may run side by side or, where there are more than the machine lends, in turns. */
function covered(spans: Span[]): number {
  let sum = 0;
  let last = 0;
  for (const [started, ended] of spans.sort(([a], [b]) => a - b)) {
    sum += Math.max(0, ended - Math.max(started, last));
    last = Math.max(last, ended);
  }
  return sum;
}

async function runSteps(
  target: RunTarget,
  context: ContextBlock,
  packets: readonly Packet[],
  options: AsyncReplayOptions,
  totals: Totals,
): Promise<void> {
  const { arena } = target.services;
  const memory = packetMemory(target);
  const stop = () => Atomics.store(arena.i32, (context.batch + Batch.stop) / 4, 1);
  options.signal?.addEventListener('abort', stop);
  try {
    for (const step of steps(packets, options, INPUT_CHUNK_BYTES)) {
      const loaded = step.keep ? memory.loadFrames(step.packets) : memory.loadInputs(step.packets);
      for (const call of calls(step, totals)) {
        prepare(target, context, loaded.descriptors, loaded.count, call.repeat);
        if (options.signal?.aborted) stop();
        totals.stopped = await target.backend.runBatchAsync(context);
        collect(target, context, call, memory, totals);
        if (totals.stopped) break;
      }
      if (totals.stopped) break;
    }
  } finally {
    options.signal?.removeEventListener('abort', stop);
    memory.free();
  }
}

function runStep(target: RunTarget, context: ContextBlock, memory: PacketMemory, step: Step, totals: Totals): void {
  const loaded = step.keep ? memory.loadFrames(step.packets) : memory.loadInputs(step.packets);
  for (const call of calls(step, totals)) {
    prepare(target, context, loaded.descriptors, loaded.count, call.repeat);
    totals.stopped = target.backend.runBatch(context);
    collect(target, context, call, memory, totals);
    if (totals.stopped) return;
  }
}

/** A step in native calls that are over soon: the time that the totals grow by says how many passes the next one may have. */
function* calls(step: Step, totals: Totals): Generator<Step> {
  let left = step.repeat;
  let passes = Math.max(1, Math.floor(FIRST_CALL_PACKETS / Math.max(1, step.packets.length)));
  while (left > 0) {
    const repeat = Math.min(left, passes);
    const before = totals.elapsedNs;
    yield { ...step, repeat };
    left -= repeat;
    const taken = Math.max(1, totals.elapsedNs - before);
    passes = Math.max(1, Math.min(8 * passes, Math.floor((repeat * CALL_NS) / taken)));
  }
}

/** @param chunkBytes most input bytes of one step; 0: the interpreter's small steps */
function* steps(packets: readonly Packet[], options: ReplayOptions, chunkBytes: number): Generator<Step> {
  const repeat = options.repeat ?? 1;
  const keep = options.keep === true;
  const chunks = [...chunked(packets, chunkBytes)];
  const passes = keep ? repeat - 1 : repeat;
  if (chunks.length === 1 && chunkBytes > 0 && passes > 0) yield { packets: chunks[0]!, repeat: passes, keep: false };
  else {
    for (let pass = 0; pass < passes; pass++) {
      for (const chunk of chunks) yield { packets: chunk, repeat: 1, keep: false };
    }
  }
  if (!keep) return;
  for (let i = 0; i < packets.length; i += KEEP_CHUNK) {
    yield { packets: packets.slice(i, i + KEEP_CHUNK), repeat: 1, keep: true };
  }
}

function* chunked(packets: readonly Packet[], bytes: number): Generator<readonly Packet[]> {
  let start = 0;
  let sum = 0;
  for (const [i, packet] of packets.entries()) {
    sum += packet.data.length;
    const full = bytes === 0 ? i - start >= INTERPRETED_CHUNK : sum > bytes && i > start;
    if (full) {
      yield packets.slice(start, i);
      start = i;
      sum = packet.data.length;
    }
  }
  yield packets.slice(start);
}

function prepare(target: RunTarget, context: ContextBlock, descriptors: bigint, count: number, repeat: number): void {
  const { arena } = target.services;
  const { view } = arena;
  const { batch } = context;
  arena.bytes.fill(0, batch, batch + Batch.size);
  view.setBigUint64(batch + Batch.descriptors, descriptors, true);
  view.setUint32(batch + Batch.count, count, true);
  view.setUint32(batch + Batch.kind, KINDS[target.type], true);
  view.setBigUint64(batch + Batch.program, target.object, true);
  view.setBigUint64(batch + Batch.context, arena.address(context.packetContext), true);
  view.setUint32(batch + Batch.repeat, repeat, true);
}

function collect(target: RunTarget, context: ContextBlock, step: Step, memory: PacketMemory, totals: Totals): void {
  const { view } = target.services.arena;
  const { batch } = context;
  const counts: bigint[] = [];
  for (let slot = 0; slot < HISTOGRAM.slots; slot++) {
    counts.push(view.getBigUint64(batch + Batch.histogram + slot * 8, true));
  }
  addHistogram(target.type, counts, totals.verdicts);
  const done = Number(view.getBigUint64(batch + Batch.done, true));
  view.setBigUint64(batch + Batch.done, 0n, true);
  totals.packets += done;
  const time = (at: number) => Number(view.getBigInt64(at, true)) * 1e9 + Number(view.getBigInt64(at + 8, true));
  const started = time(batch + Batch.started);
  const ended = time(batch + Batch.ended);
  totals.elapsedNs += ended - started;
  totals.spans?.push([started, ended]);
  const perPass = step.packets.reduce((sum, packet) => sum + packet.data.length, 0);
  const passes = step.packets.length === 0 ? 0 : Math.floor(done / step.packets.length);
  totals.bytes += passes * perPass;
  for (let i = 0; i < done - passes * step.packets.length; i++) totals.bytes += step.packets[i]!.data.length;
  if (step.keep) for (let i = 0; i < done; i++) totals.results!.push(outcome(target, memory, i));
}

function outcome(target: RunTarget, memory: PacketMemory, index: number): RunResult {
  const result = memory.outcome(index, target.services.mapName);
  return { ...result, verdict: verdictName(target.type, result.returnValue) };
}

function emptyTotals(keep: boolean): Totals {
  return { packets: 0, bytes: 0, elapsedNs: 0, stopped: false, verdicts: {}, results: keep ? [] : undefined };
}

function stoppedError(): RuntimeError {
  return new RuntimeError('disposed', 'the runtime was told to stop; create another one');
}

/** @throws RuntimeError `bad_argument` */
export function asPacket(packet: Uint8Array | Packet): Packet {
  if (isBytes(packet)) return { data: packet };
  const data = (packet as Partial<Packet> | null)?.data;
  if (packet instanceof Uint8Array || !isBytes(data)) {
    throw new RuntimeError(
      'bad_argument',
      `expected a Uint8Array or {data: Uint8Array, ...} as packet, got ${describe(data ?? packet)}`,
    );
  }
  // A copy: what was looked at is what is used.
  return { ...packet, data };
}

/** @throws RuntimeError `bad_argument` */
export function checkCount(name: string, value: number, limit: number): void {
  if (!Number.isInteger(value) || value < 1 || value > limit) {
    throw new RuntimeError('bad_argument', `${name} must be an integer from 1 to ${limit}, got ${describe(value)}`, {
      [name]: value,
      limit,
    });
  }
}
