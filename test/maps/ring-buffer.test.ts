/** Ring buffers by themselves, and filled by native threads; against the kernel: differential-ringbuf.test.ts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import { RingBuffer } from '../../src/maps/ring-buffer.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { timeLimit } from '../tools.ts';
import { createNativePlatform, PLATFORMS, type Platform, randomStep } from './platform.ts';
import { expectNoKeys, failure, spec, stageBytes } from './tools.ts';

/** How long threads fill a ring, in records of each; SWITCHYARD_RINGBUF_RECORDS=50000000 is some minutes. */
const RECORDS = Number(process.env.SWITCHYARD_RINGBUF_RECORDS ?? 400_000);

function make(platform: Platform, maxEntries = 4096): RingBuffer {
  return createMap(spec({ type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries }), {
    ...platform,
    id: 1,
  }) as RingBuffer;
}

const text = (record: Uint8Array | undefined): string | undefined => record && new TextDecoder().decode(record);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

describe.each(PLATFORMS)('%s', (_name, create) => {
  test('records come out in order, and discarded ones do not', () => {
    const platform = create();
    const ring = make(platform);
    expect(ring).toBeInstanceOf(RingBuffer);
    expect(ring.read()).toBeUndefined();
    const reserve = (): bigint => platform.routines.call('bpf_ringbuf_reserve', ring.address, 3n, 0n);
    const [first, second, third] = [reserve(), reserve(), reserve()];
    for (const [record, content] of [
      [first, 'one'],
      [second, 'two'],
      [third, 'thr'],
    ] as const) {
      platform.arena.bytes.set(bytes(content), platform.arena.offset(record, 3));
    }
    platform.routines.call('bpf_ringbuf_submit', third, 0n);
    // The first is not committed: what lies behind it has to wait.
    expect(ring.read()).toBeUndefined();
    platform.routines.call('bpf_ringbuf_discard', second, 0n);
    platform.routines.call('bpf_ringbuf_submit', first, 0n);
    ring.output(bytes('four'));
    expect(ring.available).toBe(4 * 16);
    expect([text(ring.read()), text(ring.read()), text(ring.read()), ring.read()]).toEqual([
      'one',
      'thr',
      'four',
      undefined,
    ]);
    expect([ring.available, ring.dropped]).toEqual([0, 0]);
    ring.dispose();
    expect(platform.arena.allocated).toBe(platform.idle);
  });

  test('a record that crosses the end of the ring is one piece, and overwrites none that is not consumed', () => {
    const platform = create();
    fc.assert(
      fc.property(fc.array(fc.record({ size: fc.nat(4100), read: fc.nat(3) }), { maxLength: 40 }), steps => {
        const ring = make(platform);
        const expected: Uint8Array[] = [];
        let dropped = 0;
        for (const [i, { size, read }] of steps.entries()) {
          const record = Uint8Array.from({ length: size }, (_, at) => i * 7 + at);
          if (failure(() => ring.output(record)) === undefined) expected.push(record);
          else dropped++;
          for (let n = 0; n < read; n++) expect(ring.read()).toEqual(expected.shift());
        }
        for (const record of expected) expect(ring.read()).toEqual(record);
        expect([ring.read(), ring.dropped]).toEqual([undefined, dropped]);
        ring.dispose();
      }),
      { numRuns: 60 },
    );
  });

  test('what does not fit is counted', () => {
    const platform = create();
    const ring = make(platform);
    for (let i = 0; i < 3; i++) ring.output(new Uint8Array(1016));
    expect(() => ring.output(new Uint8Array(1016))).toThrow(
      expect.objectContaining({ code: 'map_full', errno: 'EAGAIN' }),
    );
    expect(failure(() => ring.output(new Uint8Array(5000)))).toBe('EAGAIN');
    expect(platform.routines.call('bpf_ringbuf_reserve', ring.address, 1n << 31n, 0n)).toBe(0n);
    expect(ring.dropped).toBe(3);
    expect(ring.drain(() => {}, 2)).toBe(2);
    expect(ring.drain(() => {})).toBe(1);
    ring.dispose();
  });

  test('wrong use is a MapError', () => {
    const platform = create();
    const ring = make(platform);
    expect(failure(() => ring.output(bytes('x'), 4))).toBe('EINVAL');
    expect(failure(() => ring.output(bytes('x'), -1))).toBe('EINVAL');
    expectNoKeys(ring);
    ring.output(bytes('x'));
    expect(failure(() => ring.drain(() => ring.read()))).toBe('EBUSY');
    expect(() =>
      ring.drain(() => {
        throw new Error('mine');
      }),
    ).toThrow('mine');
    expect(text(ring.read())).toBe('x');
    ring.dispose();
    expect(() => ring.read()).toThrow(MapError);
  });

  test('an iteration waits, consumes as it is asked, and ends with the map', async () => {
    const platform = create();
    const ring = make(platform);
    const got: (string | undefined)[] = [];
    const loop = (async () => {
      for await (const record of ring) got.push(text(record));
    })();
    await new Promise(resolve => setTimeout(resolve, 5));
    ring.output(bytes('a'));
    ring.output(bytes('b'));
    while (got.length < 2) await new Promise(resolve => setTimeout(resolve, 1));
    await expect(ring[Symbol.asyncIterator]().next()).rejects.toThrow(/has a consumer already/);
    ring.dispose();
    await loop;
    expect(got).toEqual(['a', 'b']);
  });

  test('a record without wakeup waits for one with; a signal ends the iteration', async () => {
    const platform = create();
    const ring = make(platform);
    const end = new AbortController();
    const got: (string | undefined)[] = [];
    const loop = (async () => {
      for await (const record of ring.records({ signal: end.signal })) got.push(text(record));
    })();
    await new Promise(resolve => setTimeout(resolve, 5));
    ring.output(bytes('quiet'), 1);
    // As in the kernel, this one does not wake either: the consumer waits for the one before it.
    ring.output(bytes('normal'));
    await new Promise(resolve => setTimeout(resolve, 60));
    expect(got).toEqual([]);
    ring.output(bytes('loud'), 2);
    while (got.length < 3) await new Promise(resolve => setTimeout(resolve, 1));
    end.abort();
    await loop;
    ring.output(bytes('left'));
    expect([got, text(ring.read())]).toEqual([['quiet', 'normal', 'loud'], 'left']);
    ring.dispose();
  });

  test('back-pressure: a loop that stops consumes nothing more', async () => {
    const platform = create();
    const ring = make(platform);
    for (let i = 0; i < 5; i++) ring.output(Uint8Array.of(i));
    for await (const record of ring) if (record[0] === 1) break;
    expect(ring.available).toBe(3 * 16);
    expect(ring.read()).toEqual(Uint8Array.of(2));
    ring.dispose();
  });

  test('queries', () => {
    const platform = create();
    const ring = make(platform, 8192);
    const query = (what: number): bigint => platform.routines.call('bpf_ringbuf_query', ring.address, BigInt(what));
    ring.output(new Uint8Array(20));
    ring.output(new Uint8Array(4));
    ring.read();
    expect([0, 1, 2, 3, 4].map(query)).toEqual([16n, 8192n, 32n, 48n, 0n]);
    const data = stageBytes(platform, new Uint8Array(8));
    platform.arena.free(platform.arena.offset(data, 8));
    ring.dispose();
  });
});

/** Offsets of the worker's parameters, all u64. */
const P = { map: 0, iterations: 8, thread: 16, dropped: 24, discarded: 32, random: 40, patience: 48 };
/** Of a record: thread, number, then words that are both together, as many as `number` says. */
const WORDS = 12;

/** Each iteration is a record of its own number, whether it fits or not: by reserve and submit (or discard) or by output. */
const WORKER = `
  r6 = r1
  r9 = 0
loop:
${randomStep(P.random)}
  r8 = r7
  r8 >>= 40
  r8 %= ${WORDS}
  r8 += 2
  r8 <<= 3
  r7 >>= 61
  if r7 < 3 goto output
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r8
  r3 = 0
  call routine bpf_ringbuf_reserve
  if r0 == 0 goto dropped
  r1 = r0
  call fill
  r1 = r0
  r2 = 0
  if r7 == 7 goto discard
  call routine bpf_ringbuf_submit
  goto next
discard:
  call routine bpf_ringbuf_discard
  r1 = *(u64 *)(r6 + ${P.discarded})
  r1 += 1
  *(u64 *)(r6 + ${P.discarded}) = r1
  goto next
output:
  r1 = r10
  r1 += -${8 * (WORDS + 2)}
  call fill
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -${8 * (WORDS + 2)}
  r3 = r8
  r4 = 0
  call routine bpf_ringbuf_output
  if r0 == 0 goto next
dropped:
  r1 = *(u64 *)(r6 + ${P.dropped})
  r1 += 1
  *(u64 *)(r6 + ${P.dropped}) = r1
  r1 = *(u64 *)(r6 + ${P.patience})
wait:
  if r1 == 0 goto next
  r1 -= 1
  goto wait
next:
  r9 += 1
  r1 = *(u64 *)(r6 + ${P.iterations})
  if r9 != r1 goto loop
  r0 = 0
  exit`;

/** Writes the record of r8 bytes at r1; r0 = r1. Inlined, since routines' subprograms have registers of their own. */
const FILL = (name: string): string => `
  r0 = r1
  r2 = *(u64 *)(r6 + ${P.thread})
  *(u64 *)(r1 + 0) = r2
  *(u64 *)(r1 + 8) = r9
  r2 <<= 32
  r2 += r9
  r3 = r8
${name}:
  r3 -= 8
  if r3 == 8 goto ${name}_end
  r1 += 8
  *(u64 *)(r1 + 8) = r2
  goto ${name}
${name}_end:`;

let fills = 0;
const worker = WORKER.replaceAll(/^ {2}call fill$/gm, () => FILL(`fill_${fills++}`));

describe.skipIf(!nativeSupported())('two native threads at full speed', () => {
  /** Checks each record as it comes; at its end, that all are accounted for. */
  class Check {
    readonly last = new Map<number, number>();
    delivered = 0;
    wrong = 0;

    see(record: Uint8Array): void {
      const view = new DataView(record.buffer, record.byteOffset, record.length);
      const [thread, number] = [view.getUint32(0, true), view.getUint32(8, true)];
      this.delivered++;
      if (number <= (this.last.get(thread) ?? -1) || thread < 1 || thread > 2) this.wrong++;
      this.last.set(thread, number);
      for (let at = 16; at < record.length; at += 8) {
        if (view.getUint32(at, true) !== number || view.getUint32(at + 4, true) !== thread) this.wrong++;
      }
    }
  }

  test.each([
    ['drain', 4096, 5000],
    ['drain', 65536, 0],
    ['drain', 1 << 20, 100],
    ['iterate', 65536, 5000],
  ] as const)(
    '%s a ring of %i bytes, producers that wait %i instructions when it is full',
    async (way, size, patience) => {
      const platform = createNativePlatform(8 << 20, 3, worker);
      const ring = make(platform, size);
      let running = 2;
      const threads = [1, 2].map(thread =>
        platform
          .start(thread, parameters => {
            parameters.setBigUint64(P.map, ring.address, true);
            parameters.setBigUint64(P.iterations, BigInt(RECORDS), true);
            parameters.setBigUint64(P.thread, BigInt(thread), true);
            parameters.setBigUint64(P.patience, BigInt(patience), true);
            parameters.setBigUint64(P.random, BigInt(thread) * 0x9e3779b97f4a7cn, true);
          })
          .finally(() => running--),
      );
      const check = new Check();
      if (way === 'drain') {
        while (running > 0) {
          for (let i = 0; i < 100; i++) ring.drain(record => check.see(record));
          await new Promise(resolve => setImmediate(resolve));
        }
      } else {
        const end = new AbortController();
        void Promise.all(threads).then(() => end.abort());
        for await (const record of ring.records({ signal: end.signal })) check.see(record);
      }
      ring.drain(record => check.see(record));
      const results = await Promise.all(threads);
      const sum = (field: number): number =>
        results.reduce((all, view) => all + Number(view.getBigUint64(field, true)), 0);
      expect(check.wrong).toBe(0);
      expect(sum(P.dropped)).toBe(ring.dropped);
      expect(check.delivered + sum(P.dropped) + sum(P.discarded)).toBe(2 * RECORDS);
      expect(check.delivered).toBeGreaterThan(patience === 0 ? 100 : 5000);
      expect(ring.available).toBe(0);
      ring.dispose();
    },
    timeLimit(60_000 + RECORDS / 10),
  );
});
