/** User ring buffer: what JS gives to programs, which drain it. How they do: routines/user-ringbuf.ts. */
import { check, describe } from '../arguments.ts';
import { Dynptr, RingbufLayout, RingbufRecord } from '../memory/layout.ts';
import { checkLoop, roundUp } from './env.ts';
import { MapError } from './errors.ts';
import { Ring } from './ring.ts';
import { until } from './wait.ts';

/** A record that is being made. Programs stop before it until it is submitted or discarded. */
export interface UserRecord {
  /** The ring's own bytes, as many as asked for; what lay there before is still there. Not to be touched after `submit`. */
  readonly bytes: Uint8Array;
  /** @throws MapError `invalid_operation` where the record has been submitted or discarded; so does discard */
  submit(): void;
  /** Programs will pass over it. */
  discard(): void;
}

export class UserRingBuffer extends Ring {
  protected readonly words = { kind: 'user ring buffer', use: 'write() to it' };

  /** Bytes reserved and not yet drained, heads included. */
  get pending(): number {
    return this.filled();
  }

  /**
   * Makes room for a record, behind all others.
   * @param size bytes of data; with the head of 8 bytes at most the size of the ring, and below 16 MiB
   * @throws MapError `map_full` (ENOSPC) where there is no room until a program drains, `invalid_operation` (E2BIG) where
   *   there never will be
   */
  reserve(size: number): UserRecord {
    this.access.alive();
    const total = this.#takes(size);
    if (total > this.spec.maxEntries - this.pending)
      throw new MapError(
        'map_full',
        'ENOSPC',
        `user ring buffer ${this.spec.name} of ${this.spec.maxEntries} bytes, of which ${this.pending} are not drained, has no room for a record of ${size}`,
        { map: this.spec.name, size, pending: this.pending },
      );
    const { i32, u64, bytes } = this.env.arena;
    const start = this.load(RingbufLayout.producer);
    const mask = BigInt(this.spec.maxEntries - 1);
    const head = this.offset + RingbufLayout.data + Number(start & mask);
    const length = (head + RingbufRecord.length) / 4;
    Atomics.store(i32, length, size | RingbufRecord.busy);
    i32[(head + RingbufRecord.page) / 4] = 0;
    Atomics.store(u64, (this.offset + RingbufLayout.producer) / 8, BigInt.asUintN(64, start + BigInt(total)));
    let open = true;
    const commit = (flags: number): void => {
      this.access.alive();
      if (!open)
        throw new MapError(
          'invalid_operation',
          'EINVAL',
          `a record of user ring buffer ${this.spec.name} was submitted or discarded before: programs may have drained it`,
          { map: this.spec.name },
        );
      open = false;
      Atomics.store(i32, length, size | flags);
    };
    const data = head + RingbufRecord.size;
    return {
      bytes: bytes.subarray(data, data + size),
      submit: () => commit(0),
      discard: () => commit(RingbufRecord.discarded),
    };
  }

  /** Gives programs a copy of `record`. @throws as reserve does */
  write(record: Uint8Array): void {
    check.bytes(record, 'record');
    const { bytes, submit } = this.reserve(record.length);
    bytes.set(record);
    submit();
  }

  /**
   * The same, once there is room. Looks whenever a program has drained, as the kernel's epoll does: not after
   * BPF_RB_NO_WAKEUP; some 16 ms late at most.
   * @throws MapError as `reserve`, but not `map_full`; `disposed` where the map is freed meanwhile; the signal's reason
   */
  async writeWhenRoom(record: Uint8Array, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    check.bytes(record, 'record');
    checkLoop(options);
    const { signal } = options;
    for (;;) {
      signal?.throwIfAborted();
      this.access.alive();
      const wakeups = this.load(RingbufLayout.wakeups);
      if (this.#takes(record.length) <= this.spec.maxEntries - this.pending) return this.write(record);
      await until(() => this.disposed || signal?.aborted === true || this.load(RingbufLayout.wakeups) !== wakeups);
    }
  }

  /** Bytes of the ring that a record of `size` bytes takes. */
  #takes(size: number): number {
    if (Number.isInteger(size) && size >= 0 && size <= Dynptr.sizeMax) {
      const total = roundUp(size + RingbufRecord.size, 8);
      if (total <= this.spec.maxEntries) return total;
    }
    const most = Math.min(this.spec.maxEntries - RingbufRecord.size, Dynptr.sizeMax);
    throw new MapError(
      'invalid_operation',
      'E2BIG',
      `a record of user ring buffer ${this.spec.name} has 0 to ${most} whole bytes, not ${describe(size)}`,
      { map: this.spec.name, size, most },
    );
  }
}
