/**
 * Perf event array, delivered to TypeScript. In the kernel each entry is a perf event that somebody opened, bound to a CPU, with
 * a buffer that is mapped into the consumer; here `attach` makes such buffers for all CPUs at once. While nobody is attached,
 * bpf_perf_event_output answers ENOENT. Entries that are set as in other arrays of targets are numbers without effect.
 */
import { check } from '../arguments.ts';
import { MapHeader, PerfBuffer, PerfRecord } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import type { MapEnv } from './env.ts';
import { checkLoop, checkVisitor, roundUp } from './env.ts';
import { MapError } from './errors.ts';
import { TargetArray } from './target-array.ts';
import { turn, until } from './wait.ts';

export interface AttachOptions {
  /** Bytes for each CPU: a power of two from 4096 to 2^30; default 65536. */
  readonly size?: number;
}

export interface PerfSample {
  readonly cpu: number;
  /** What the program gave, without padding. */
  readonly data: Uint8Array;
  /** The start of the packet, as long as the flags' BPF_F_CTXLEN_MASK asked. */
  readonly context: Uint8Array;
  /** Samples of this CPU that were lost since the one before. */
  readonly lost: number;
}

const DEFAULT_SIZE = 65536;
const SIZE_MAX = 2 ** 30;
const SAMPLES_PER_TURN = 1024;

/** Of one CPU, for `size` bytes of samples: what crosses the end goes on behind it. */
const bufferBytes = (size: number): number => PerfBuffer.data + 2 * size;

const attachOptions = check.options({ size: check.number });

export class PerfEventArray extends TargetArray {
  readonly #env: MapEnv;
  /** Offsets of the buffers by CPU, of each size that was ever asked for: a program may be in one for as long as the map lives. */
  readonly #buffers = new Map<number, readonly number[]>();
  #reader: PerfReader | undefined;

  constructor(spec: MapSpec, env: MapEnv) {
    super(spec, env);
    this.#env = env;
  }

  /**
   * From now on samples of all CPUs that the array has entries for are kept for the reader that this returns.
   * @throws MapError `busy` while another reader is attached, `invalid_operation` for a size, `out_of_memory`
   */
  attach(options: AttachOptions = {}): PerfReader {
    attachOptions(options, 'options');
    const { size = DEFAULT_SIZE } = options;
    const { name } = this.spec;
    this.access.alive();
    if (this.#reader)
      throw new MapError('busy', 'EBUSY', `map ${name} has a reader attached: close it first`, { map: name });
    if (!Number.isInteger(size) || size < 4096 || size > SIZE_MAX || (size & (size - 1)) !== 0) {
      throw new MapError(
        'invalid_operation',
        'EINVAL',
        `map ${name}: a buffer's size is a power of two from 4096 to 2^30, not ${size}`,
        { map: name, size },
      );
    }
    const buffers = this.#buffers.get(size) ?? this.#allocate(size);
    this.#connect(buffers);
    this.#reader = new PerfReader(this.#env, buffers, () => {
      this.#connect(buffers.map(() => undefined));
      this.#reader = undefined;
    });
    return this.#reader;
  }

  override get memoryUsage(): number {
    let bytes = super.memoryUsage;
    for (const [size, buffers] of this.#buffers) bytes += buffers.length * bufferBytes(size);
    return bytes;
  }

  override dispose(): void {
    this.access.unused();
    this.#reader?.close();
    for (const buffers of this.#buffers.values()) for (const buffer of buffers) this.#env.arena.free(buffer);
    this.#buffers.clear();
    super.dispose();
  }

  #allocate(size: number): readonly number[] {
    const { arena, cpus } = this.#env;
    const buffers: number[] = [];
    try {
      for (let cpu = 0; cpu < Math.min(cpus, this.spec.maxEntries); cpu++) {
        const buffer = arena.allocate(bufferBytes(size), 64);
        buffers.push(buffer);
        arena.view.setBigUint64(buffer + PerfBuffer.mask, BigInt(size - 1), true);
      }
    } catch (cause) {
      for (const buffer of buffers) arena.free(buffer);
      const { name } = this.spec;
      throw new MapError(
        'out_of_memory',
        'ENOMEM',
        `map ${name}: no room for the buffers of ${cpus} CPUs, ${2 * size} bytes each: ${(cause as Error).message}`,
        { map: name, size, cpus },
        { cause },
      );
    }
    this.#buffers.set(size, buffers);
    return buffers;
  }

  #connect(buffers: readonly (number | undefined)[]): void {
    const { arena } = this.#env;
    const table = arena.offset(this.address, MapHeader.size) + MapHeader.size + 8 * this.spec.maxEntries;
    for (const [cpu, buffer] of buffers.entries()) {
      Atomics.store(arena.u64, table / 8 + cpu, buffer === undefined ? 0n : arena.address(buffer));
    }
  }
}

/** Consumes what programs output to a perf event array. Samples of one CPU come in order. */
export class PerfReader implements AsyncIterable<PerfSample> {
  readonly #env: MapEnv;
  readonly #buffers: readonly number[];
  readonly #detach: () => void;
  #closed = false;
  #lostBefore = 0;
  #first = 0;
  #iterating = false;
  #draining = false;

  /** Made by `PerfEventArray.attach`. */
  constructor(env: MapEnv, buffers: readonly number[], detach: () => void) {
    this.#env = env;
    this.#buffers = buffers;
    this.#detach = detach;
  }

  /** Samples that did not fit since buffers of this size were first attached. */
  get lost(): number {
    if (this.#closed) return this.#lostBefore;
    return this.#buffers.reduce((sum, buffer) => sum + Number(this.#load(buffer + PerfBuffer.lost)), 0);
  }

  /**
   * Consumes the samples that are there, CPU by CPU.
   * @param visit its sample's bytes are the buffer's own and overwritten after it has returned; where it throws, the sample
   *   is not consumed
   * @param limit most samples
   * @returns how many
   */
  drain(visit: (sample: PerfSample) => void, limit = Number.POSITIVE_INFINITY): number {
    if (this.#closed) throw new MapError('disposed', 'EBADF', 'this reader was closed');
    checkVisitor('perf event array', visit, limit);
    if (this.#draining)
      throw new MapError('busy', 'EBUSY', 'this reader is being drained: visit must not consume more');
    this.#draining = true;
    try {
      let count = 0;
      // Each time from another CPU on, so that none is kept waiting by a limit.
      const first = this.#first++;
      for (let i = 0; i < this.#buffers.length && count < limit && !this.#closed; i++) {
        count += this.#drain((first + i) % this.#buffers.length, visit, limit - count);
      }
      return count;
    } finally {
      this.#draining = false;
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<PerfSample> {
    return this.samples();
  }

  /**
   * Copies of the samples, as they come, until the reader is closed or the signal says so. A sample is consumed when the loop asks
   * for it. While it waits it looks for more every 16 ms at least.
   * @throws MapError `busy` where another loop goes over the same reader
   */
  async *samples(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<PerfSample> {
    checkLoop(options);
    if (this.#iterating) throw new MapError('busy', 'EBUSY', 'this reader has a loop over it already');
    this.#iterating = true;
    const ended = (): boolean => this.#closed || options.signal?.aborted === true;
    try {
      for (let given = 1; !ended(); given++) {
        let sample: PerfSample | undefined;
        this.drain(seen => {
          sample = { ...seen, data: seen.data.slice(), context: seen.context.slice() };
        }, 1);
        if (sample === undefined) await until(() => ended() || this.#filled());
        else {
          yield sample;
          if (given % SAMPLES_PER_TURN === 0) await turn();
        }
      }
    } finally {
      this.#iterating = false;
    }
  }

  /** Detaches: bpf_perf_event_output answers ENOENT again, loops end. */
  close(): void {
    if (this.#closed) return;
    this.#lostBefore = this.lost;
    this.#closed = true;
    this.#detach();
  }

  #filled(): boolean {
    return this.#buffers.some(at => this.#load(at + PerfBuffer.head) !== this.#load(at + PerfBuffer.tail));
  }

  #drain(cpu: number, visit: (sample: PerfSample) => void, limit: number): number {
    const { bytes, view, u64 } = this.#env.arena;
    const buffer = this.#buffers[cpu]!;
    const head = this.#load(buffer + PerfBuffer.head);
    const mask = view.getBigUint64(buffer + PerfBuffer.mask, true);
    let count = 0;
    for (let tail = this.#load(buffer + PerfBuffer.tail); tail !== head && count < limit; count++) {
      const at = buffer + PerfBuffer.data + Number(tail & mask);
      const dataLength = view.getUint32(at + PerfRecord.dataLength, true);
      const contextLength = view.getUint32(at + PerfRecord.contextLength, true);
      const data = at + PerfRecord.size;
      visit({
        cpu,
        data: bytes.subarray(data, data + dataLength),
        context: bytes.subarray(data + dataLength, data + dataLength + contextLength),
        lost: Number(view.getBigUint64(at + PerfRecord.lost, true)),
      });
      if (this.#closed) return count + 1;
      tail += BigInt(roundUp(PerfRecord.size + dataLength + contextLength, 8));
      Atomics.store(u64, (buffer + PerfBuffer.tail) / 8, tail);
    }
    return count;
  }

  #load(offset: number): bigint {
    return Atomics.load(this.#env.arena.u64, offset / 8);
  }
}
