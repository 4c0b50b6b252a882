/** Ring buffers and user ring buffers of an object that clang compiled, with programs on several native threads at once. */
import { afterAll, describe, expect, test } from 'vitest';
import { createRuntime, type LoadedObject } from '../../src/index.ts';
import { turn } from '../../src/maps/wait.ts';
import type { Collection } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { clang, compile } from '../clang.ts';
import { timeLimit } from '../tools.ts';
import { failure } from './tools.ts';

/** Requests, and a tenth of each producer's records; SWITCHYARD_RINGBUF_RECORDS=20000000 is some minutes. */
const RECORDS = Number(process.env.SWITCHYARD_RINGBUF_RECORDS ?? 200_000);
const RECORD_BYTES = 64;
const [PRODUCERS, WORDS] = [4, 6];
const REPEAT_MOST = 0xffff_ffff;
const packetOf = (ifindex: number) => ({ data: new Uint8Array(64), ifindex });

describe.skipIf(clang === undefined)('rings of a compiled object', () => {
  const collection: Collection =
    clang === undefined ? (undefined as never) : compile(new URL('rings.c', import.meta.url));
  const runtime = createRuntime({ arenaSize: 32 << 20 });
  afterAll(() => runtime.dispose());
  const counters = (object: LoadedObject, name: string): number[] => object.global<bigint[]>(name).get().map(Number);

  /** Checks records as they come: whole, and of each producer in order. */
  class Check {
    readonly delivered = new Array<number>(PRODUCERS).fill(0);
    readonly #last = new Array<number>(PRODUCERS).fill(-1);
    wrong = 0;

    see(record: Uint8Array): void {
      const view = new DataView(record.buffer, record.byteOffset, record.length);
      const [producer, kind] = [view.getUint32(0, true), view.getUint32(4, true)];
      const number = Number(view.getBigUint64(8, true));
      if (record.length !== RECORD_BYTES || producer >= PRODUCERS) {
        this.wrong++;
        return;
      }
      if (kind !== number % 3 || kind === 2 || number <= this.#last[producer]!) this.wrong++;
      for (let i = 0; i < WORDS; i++)
        if (Number(view.getBigUint64(16 + 8 * i, true)) !== number * 256 + producer * 16 + i) this.wrong++;
      this.#last[producer] = number;
      this.delivered[producer]!++;
    }
  }

  test.each(runtime.backends)(
    'a loop gets what a program outputs, and holds it back by being slow (%s)',
    async backend => {
      const object = runtime.load(collection, { programs: ['produce'], backend });
      const ring = object.ringBuffer('events');
      const produce = (times: number) => object.program('produce').replay([packetOf(1)], { repeat: times });
      const check = new Check();
      // Nobody reads: the ring fills, and what does not fit is counted by the program and by the ring.
      produce(1000);
      const held = Math.floor(16384 / (RECORD_BYTES + 8));
      const lost = counters(object, 'lost')[1]!;
      expect(lost).toBeGreaterThan(1000 - held - 1);
      expect(ring.dropped).toBe(lost);
      const first = 1000 - lost - counters(object, 'discarded')[1]!;
      let seen = 0;
      for await (const record of ring) {
        check.see(record);
        // A loop that stops consumes nothing more; there is room for one record then, not for two.
        if (++seen === first) break;
      }
      expect([check.wrong, check.delivered[1]]).toEqual([0, first]);
      const end = new AbortController();
      const rest = (async () => {
        for await (const record of ring.records({ signal: end.signal })) check.see(record);
      })();
      for (let round = 0; round < 20; round++) {
        produce(50);
        await new Promise(resolve => {
          setTimeout(resolve, 1);
        });
      }
      while (ring.available > 0)
        await new Promise(resolve => {
          setTimeout(resolve, 1);
        });
      end.abort();
      await rest;
      expect(check.wrong).toBe(0);
      expect(check.delivered[1]! + counters(object, 'lost')[1]! + counters(object, 'discarded')[1]!).toBe(2000);
      expect(ring.dropped).toBe(counters(object, 'lost')[1]);
      object.dispose();
    },
  );

  describe.skipIf(!nativeSupported())('native threads', () => {
    test(
      'two producers and a loop: nothing lost uncounted, nothing out of order',
      async () => {
        const object = runtime.load(collection, { programs: ['produce'], backend: 'native' });
        const ring = object.ringBuffer('events');
        const threads = [1, 2].map(producer =>
          object.program('produce').replayAsync([packetOf(producer)], { repeat: 10 * RECORDS }),
        );
        const end = new AbortController();
        void Promise.all(threads).then(() => end.abort());
        const check = new Check();
        for await (const record of ring.records({ signal: end.signal })) check.see(record);
        ring.drain(record => check.see(record));
        await Promise.all(threads);
        const [lost, discarded] = [counters(object, 'lost'), counters(object, 'discarded')];
        expect(check.wrong).toBe(0);
        expect(ring.dropped).toBe(lost[1]! + lost[2]!);
        for (const producer of [1, 2])
          expect(check.delivered[producer]! + lost[producer]! + discarded[producer]!).toBe(10 * RECORDS);
        expect(check.delivered[1]! + check.delivered[2]!).toBeGreaterThan(200);
        expect(ring.available).toBe(0);
        object.dispose();
      },
      timeLimit(60_000 + RECORDS / 10),
    );

    test(
      'two threads drain what TypeScript writes: each request once, in order',
      async () => {
        const object = runtime.load(collection, { programs: ['drain'], backend: 'native' });
        const ring = object.userRingBuffer('requests');
        const end = new AbortController();
        const threads = [1, 2].map(thread =>
          object.program('drain').replayAsync([packetOf(thread)], { repeat: REPEAT_MOST, signal: end.signal }),
        );
        const request = new Uint8Array(8 * 34);
        const words = new BigUint64Array(request.buffer);
        for (let number = 0; number < RECORDS; number++) {
          const last = number & 31;
          words[0] = BigInt(number);
          words[1 + last] = ~words[0];
          const bytes = request.subarray(0, 8 * (2 + last));
          // Discarded ones in between, and some that are made in place.
          if (number % 64 === 0 && failure(() => ring.reserve(100).discard()) === 'ENOSPC') await turn();
          if (failure(() => ring.write(bytes)) === 'ENOSPC') await ring.writeWhenRoom(bytes);
        }
        while (ring.pending > 0)
          await new Promise(resolve => {
            setTimeout(resolve, 1);
          });
        end.abort();
        await Promise.all(threads);
        const drained = counters(object, 'drained');
        expect(Number(object.global('wrong').get())).toBe(0);
        expect(drained[1]! + drained[2]!).toBe(RECORDS);
        expect(Math.min(drained[1]!, drained[2]!)).toBeGreaterThan(0);
        object.dispose();
      },
      timeLimit(60_000 + RECORDS / 5),
    );
  });
});
