/** Queue, stack and bloom filter by themselves; against the kernel: differential-pushed.test.ts. */
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import { BloomFilter, QueueMap } from '../../src/maps/pushed-map.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { createNativePlatform, createPlatform, PLATFORMS, type Platform } from './platform.ts';
import { failure, spec, stageBytes } from './tools.ts';

const make = <Map>(platform: Platform, fields: Partial<MapSpec> & Pick<MapSpec, 'type'>): Map =>
  createMap(spec({ keySize: 0, ...fields }), { ...platform, id: 1 }) as Map;

describe.each(PLATFORMS)('%s', (_name, create) => {
  test('a queue gives values in the order they came, a stack the other way round', () => {
    const platform = create();
    for (const [type, order] of [
      ['queue', [1, 2, 3]],
      ['stack', [3, 2, 1]],
    ] as const) {
      const map = make<QueueMap>(platform, { type, valueSize: 3, maxEntries: 3 });
      expect(map).toBeInstanceOf(QueueMap);
      for (const value of [1, 2, 3]) map.push(Uint8Array.of(value, 0, value));
      expect(() => map.push(Uint8Array.of(4, 0, 0))).toThrow(
        expect.objectContaining({ code: 'map_full', errno: 'E2BIG' }),
      );
      expect(map.peek()).toEqual(map.lookup(new Uint8Array(0)));
      expect(order.map(() => map.pop()![0])).toEqual(order);
      expect([map.pop(), map.peek()]).toEqual([undefined, undefined]);
      map.dispose();
      expect(() => map.pop()).toThrow(MapError);
    }
    expect(platform.arena.allocated).toBe(platform.idle);
  });

  test('BPF_EXIST puts a value in place of the oldest', () => {
    const platform = create();
    for (const [type, order] of [
      ['queue', [3, 4, 5]],
      ['stack', [5, 4, 3]],
    ] as const) {
      const map = make<QueueMap>(platform, { type, valueSize: 1, maxEntries: 3 });
      for (const value of [1, 2, 3, 4, 5]) map.push(Uint8Array.of(value), 2);
      expect(order.map(() => map.pop()![0])).toEqual(order);
      map.dispose();
    }
  });

  test('as programs see them: the value is cleared where there is none', () => {
    const platform = create();
    const map = make<QueueMap>(platform, { type: 'queue', valueSize: 11, maxEntries: 2 });
    const value = stageBytes(platform, new Uint8Array(16).fill(7));
    for (const operation of ['pop', 'peek']) {
      const at = platform.arena.offset(value, 16);
      platform.arena.bytes.fill(7, at, at + 16);
      expect(BigInt.asIntN(64, platform.routines.call(`bpf_map_${operation}_elem`, map.address, value))).toBe(-2n);
      expect([...platform.arena.bytes.subarray(at, at + 16)]).toEqual([...new Array(11).fill(0), 7, 7, 7, 7, 7]);
    }
    const filter = make<BloomFilter>(platform, { type: 'bloom_filter' });
    expect(BigInt.asIntN(64, platform.routines.call('bpf_map_pop_elem', filter.address, value))).toBe(-95n);
    platform.arena.free(platform.arena.offset(value, 16));
    filter.dispose();
    map.dispose();
  });

  test('a bloom filter has no false negatives, and as many bits as the kernel takes', () => {
    const platform = create();
    for (const [maxEntries, mapExtra, bytes] of [
      [1000, 0n, 1024],
      [1000, 1n, 256],
      [1, 15n, 8],
    ] as const) {
      const map = make<BloomFilter>(platform, { type: 'bloom_filter', valueSize: 6, maxEntries, mapExtra });
      expect(map).toBeInstanceOf(BloomFilter);
      expect(map.memoryUsage - 128).toBe(bytes);
      const value = (n: number) => Uint8Array.of(n, n >> 8, 1, 2, 3, n);
      for (let n = 0; n < maxEntries; n++) {
        map.push(value(n));
        expect(map.peek(value(n))).toBe(true);
      }
      let falsely = 0;
      for (let n = 0; n < 1000; n++) if (map.peek(Uint8Array.of(n, n >> 8, 9, 9, 9, n))) falsely++;
      expect(falsely).toBeLessThan(mapExtra === 0n ? 100 : 600);
      map.dispose();
    }
  });

  test('wrong use is a MapError', () => {
    const platform = create();
    const queue = make<QueueMap>(platform, { type: 'queue' });
    const filter = make<BloomFilter>(platform, { type: 'bloom_filter' });
    expect(() => queue.push(new Uint8Array(3))).toThrow(/values of 4 bytes, not 3/);
    expect(() => filter.peek(new Uint8Array(5))).toThrow(/values of 4 bytes, not 5/);
    expect(() => queue.update(new Uint8Array(1), new Uint8Array(4))).toThrow(/keys of 0 bytes, not 1/);
    expect(failure(() => queue.push(new Uint8Array(4), -1))).toBe('EINVAL');
    expect(failure(() => queue.entries())).toBe('EINVAL');
    expect(failure(() => filter.lookup(new Uint8Array(0)))).toBe('EINVAL');
    queue.dispose();
    filter.dispose();
  });
});

test('what is pushed with random seeds is found by the seed of its own map only', () => {
  const platform = createPlatform();
  const bits = (flags: number): string => {
    const map = make<BloomFilter>(platform, { type: 'bloom_filter', valueSize: 8, maxEntries: 100, flags });
    // Before the first value is passed.
    const bytes = map.memoryUsage;
    for (let n = 0; n < 50; n++) map.push(new Uint8Array(8).fill(n));
    const at = platform.arena.offset(map.address, bytes);
    return platform.arena.bytes.subarray(at + 128, at + bytes).join();
  };
  expect(bits(1 << 6)).toBe(bits(1 << 6));
  expect(bits(0)).not.toBe(bits(0));
});

/** Offsets of the worker's parameters, all u64. */
const P = { map: 0, iterations: 8, thread: 16, pushed: 24, popped: 32, sum: 40, torn: 48, wrong: 56 };

/** Pushes {thread << 32 | n, the same} and pops, by turns; values that were popped must have two equal halves. */
const worker = (type: string): string => `
  r6 = r1
  r9 = *(u64 *)(r6 + ${P.iterations})
  r7 = *(u64 *)(r6 + ${P.thread})
loop:
  r8 = r9
  r8 *= 0x9e3779b9
  r8 >>= 7
  r8 &= 1
  if r8 == 0 goto pop
  r7 += 1
  *(u64 *)(r10 - 16) = r7
  *(u64 *)(r10 - 8) = r7
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -16
  r3 = 0
  call routine ${type}_push
  if r0 == -7 goto next
  if r0 != 0 goto wrong
  r1 = *(u64 *)(r6 + ${P.pushed})
  r1 += 1
  *(u64 *)(r6 + ${P.pushed}) = r1
  r1 = *(u64 *)(r6 + ${P.sum})
  r1 += r7
  *(u64 *)(r6 + ${P.sum}) = r1
  goto next
pop:
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -16
  call routine ${type}_pop
  if r0 == -2 goto next
  if r0 != 0 goto wrong
  r1 = *(u64 *)(r6 + ${P.popped})
  r1 += 1
  *(u64 *)(r6 + ${P.popped}) = r1
  r3 = *(u64 *)(r10 - 16)
  r4 = *(u64 *)(r10 - 8)
  r1 = *(u64 *)(r6 + ${P.sum})
  r1 -= r3
  *(u64 *)(r6 + ${P.sum}) = r1
  if r3 == r4 goto next
  r1 = *(u64 *)(r6 + ${P.torn})
  r1 += 1
  *(u64 *)(r6 + ${P.torn}) = r1
  goto next
wrong:
  r1 = *(u64 *)(r6 + ${P.wrong})
  r1 += 1
  *(u64 *)(r6 + ${P.wrong}) = r1
next:
  r9 -= 1
  if r9 != 0 goto loop
  r0 = 0
  exit`;

describe.skipIf(!nativeSupported())('native threads', () => {
  test.each(['queue', 'stack'] as const)('%s: all that goes in comes out once, and whole', async type => {
    const platform = createNativePlatform(8 << 20, 3, worker(type));
    const map = make<QueueMap>(platform, { type, valueSize: 16, maxEntries: 9 });
    let running = 2;
    const threads = [1, 2].map(thread =>
      platform
        .start(thread, parameters => {
          parameters.setBigUint64(P.map, map.address, true);
          parameters.setBigUint64(P.iterations, 300_000n, true);
          parameters.setBigUint64(P.thread, BigInt(thread) << 40n, true);
        })
        .finally(() => running--),
    );
    let sum = 0n;
    let [pushed, popped] = [0, 0];
    while (running > 0) {
      for (let i = 0; i < 20; i++) {
        const words = BigUint64Array.of(BigInt(pushed), BigInt(pushed));
        if (failure(() => map.push(new Uint8Array(words.buffer))) === undefined) sum += BigInt(pushed++);
        const value = map.pop();
        if (value === undefined) continue;
        const [first, second] = new BigUint64Array(value.buffer);
        expect(first).toBe(second);
        sum -= first!;
        popped++;
      }
      await new Promise(resolve => setImmediate(resolve));
    }
    const results = await Promise.all(threads);
    const total = (field: number): bigint => results.reduce((all, view) => all + view.getBigInt64(field, true), 0n);
    expect([total(P.torn), total(P.wrong)]).toEqual([0n, 0n]);
    sum += total(P.sum);
    let left = 0;
    for (let value = map.pop(); value !== undefined; value = map.pop(), left++)
      sum -= new BigUint64Array(value.buffer)[0]!;
    expect([sum, total(P.pushed) + BigInt(pushed)]).toEqual([0n, total(P.popped) + BigInt(popped + left)]);
    expect(total(P.popped)).toBeGreaterThan(1000n);
    map.dispose();
  });
});
