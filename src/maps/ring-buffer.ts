/** Ring buffer: what programs have output, for JS to consume. How producers work: routines/ringbuf.ts. */
import { check } from '../arguments.ts';
import { RingbufLayout, RingbufRecord } from '../memory/layout.ts';
import { checkFlags, checkLoop, checkVisitor, roundUp } from './env.ts';
import { errnoName, MapError } from './errors.ts';
import { Ring } from './ring.ts';
import { turn, until } from './wait.ts';

/** Records that an iteration gives before the event loop gets its turn, though there are more. */
const RECORDS_PER_TURN = 1024;

export class RingBuffer extends Ring implements AsyncIterable<Uint8Array> {
  #iterating = false;
  #draining = false;
  protected readonly words = { kind: 'ring buffer', use: 'read() or drain() it' };

  /** Records that producers could not place since the map was made: the consumer was too slow, or they were too long. */
  get dropped(): number {
    this.access.alive();
    return Number(this.load(RingbufLayout.dropped));
  }

  /** Bytes reserved and not yet consumed, heads included. */
  get available(): number {
    return this.filled();
  }

  /** A copy of the next record; undefined where there is none, or where the next one is not committed yet. */
  read(): Uint8Array | undefined {
    let record: Uint8Array | undefined;
    this.drain(view => {
      record = view.slice();
    }, 1);
    return record;
  }

  /**
   * Consumes the records that are there, oldest first.
   * @param visit gets each record's bytes, which are the ring's own: they are overwritten after it has returned. Where it
   *   throws, the record is not consumed.
   * @param limit most records
   * @returns how many
   */
  drain(visit: (record: Uint8Array) => void, limit = Number.POSITIVE_INFINITY): number {
    this.access.alive();
    checkVisitor(this.spec.name, visit, limit);
    if (this.#draining) this.#busy('is being drained: visit must not consume more');
    this.#draining = true;
    try {
      return this.#drain(visit, limit);
    } finally {
      this.#draining = false;
    }
  }

  #drain(visit: (record: Uint8Array) => void, limit: number): number {
    const { i32, bytes } = this.env.arena;
    const mask = this.spec.maxEntries - 1;
    const data = this.offset + RingbufLayout.data;
    const start = this.load(RingbufLayout.consumer);
    let consumed = 0;
    let [count, available] = [0, 0];
    while (count < limit) {
      if (consumed === available) {
        available = Number(this.load(RingbufLayout.producer) - start);
        if (consumed === available) return count;
      }
      const head = data + (Number(BigInt.asUintN(32, start) + BigInt(consumed)) & mask);
      const length = Atomics.load(i32, (head + RingbufRecord.length) / 4) >>> 0;
      if ((length & RingbufRecord.busy) !== 0) return count;
      const size = length & (RingbufRecord.discarded - 1);
      if ((length & RingbufRecord.discarded) === 0) {
        const from = head + RingbufRecord.size;
        visit(bytes.subarray(from, from + size));
        count++;
        if (this.disposed) return count;
      }
      consumed += roundUp(size + RingbufRecord.size, 8);
      Atomics.store(
        this.env.arena.u64,
        (this.offset + RingbufLayout.consumer) / 8,
        BigInt.asUintN(64, start + BigInt(consumed)),
      );
    }
    return count;
  }

  /**
   * Copies of the records, as they come, until the map is disposed. A record is consumed when the loop asks for it, so a slow
   * loop fills the ring, and what does not fit is counted in `dropped`. Waits as the kernel's epoll does: a record that was
   * committed with BPF_RB_NO_WAKEUP wakes nobody. While it waits it looks for wakeups every 16 ms at least.
   * @throws MapError `busy` where another loop goes over the same map
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    return this.records();
  }

  /** The same iteration, with a signal that ends it. */
  async *records(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<Uint8Array> {
    this.access.alive();
    checkLoop(options);
    const { signal } = options;
    const ended = (): boolean => this.disposed || signal?.aborted === true;
    if (this.#iterating) this.#busy('has a consumer already');
    this.#iterating = true;
    try {
      for (let given = 1; !ended(); given++) {
        const wakeups = this.load(RingbufLayout.wakeups);
        const record = this.read();
        if (record === undefined) {
          await until(() => ended() || this.load(RingbufLayout.wakeups) !== wakeups);
        } else {
          yield record;
          if (given % RECORDS_PER_TURN === 0) await turn();
        }
      }
    } finally {
      this.#iterating = false;
    }
  }

  /**
   * Puts a record in, as bpf_ringbuf_output does.
   * @param flags BPF_RB_NO_WAKEUP (1), BPF_RB_FORCE_WAKEUP (2)
   * @throws MapError EAGAIN where there is no room; it is counted as dropped
   */
  output(record: Uint8Array, flags = 0): void {
    this.access.alive();
    check.bytes(record, 'record');
    checkFlags(flags);
    const { arena, routines } = this.env;
    const staged = arena.allocate(Math.max(record.length, 1));
    arena.bytes.set(record, staged);
    const size = BigInt(record.length);
    const result = routines.call('bpf_ringbuf_output', this.address, arena.address(staged), size, BigInt(flags));
    arena.free(staged);
    if (result === 0n) return;
    const errno = errnoName(BigInt.asIntN(64, result));
    throw new MapError(
      errno === 'EAGAIN' ? 'map_full' : 'invalid_operation',
      errno,
      errno === 'EAGAIN'
        ? `ring buffer ${this.spec.name} of ${this.spec.maxEntries} bytes has no room for a record of ${record.length}`
        : `ring buffer ${this.spec.name}: unknown flags ${flags}`,
      { map: this.spec.name, size: record.length, flags },
    );
  }

  #busy(why: string): never {
    throw new MapError('busy', 'EBUSY', `ring buffer ${this.spec.name} ${why}`, { map: this.spec.name });
  }
}
