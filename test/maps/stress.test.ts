/** Threads that run native code and the JS thread change one map at once: nothing lost, nothing missed, nothing twice. */
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import type { BpfMap } from '../../src/maps/map.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { createNativePlatform, type NativePlatform, randomStep } from './platform.ts';
import { failure, spec } from './tools.ts';

/** Offsets of the worker's parameters, all u64. */
const P = {
  map: 0,
  iterations: 8,
  random: 16,
  stable: 24,
  volatile: 32,
  inserted: 40,
  deleted: 48,
  missed: 56,
  full: 64,
  wrong: 72,
};

const bump = (counter: number): string => `
  r1 = *(u64 *)(r6 + ${counter})
  r1 += 1
  *(u64 *)(r6 + ${counter}) = r1
  goto next`;

/**
 * Per iteration one of: look a stable key up (must be there), update one (must succeed), insert a volatile key, delete one. Keys have 64
 * bytes at r10-64 (smaller maps read less), values 64 bytes at r10-128, every word of which is the key.
 */
const worker = (prefix: string): string => `
  r6 = r1
  r9 = *(u64 *)(r6 + ${P.iterations})
  r1 = 0
  ${Array.from({ length: 8 }, (_, word) => `*(u64 *)(r10 - ${64 - 8 * word}) = r1`).join('\n  ')}
loop:
${randomStep(P.random)}
  r8 = r7
  r8 >>= 60
  r7 <<= 4
  r7 >>= 20
  if r8 < 9 goto stable
  r1 = *(u64 *)(r6 + ${P.volatile})
  r7 %= r1
  r1 = *(u64 *)(r6 + ${P.stable})
  r7 += r1
  goto key
stable:
  r1 = *(u64 *)(r6 + ${P.stable})
  r7 %= r1
key:
  *(u64 *)(r10 - 64) = r7
  ${Array.from({ length: 8 }, (_, word) => `*(u64 *)(r10 - ${128 - 8 * word}) = r7`).join('\n  ')}
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -64
  r3 = r10
  r3 += -128
  if r8 < 6 goto lookup
  if r8 < 9 goto update
  if r8 < 13 goto insert
  call routine ${prefix}_delete
  if r0 == 0 goto deleted
  if r0 == -2 goto next
  goto wrong
lookup:
  call routine ${prefix}_lookup
  if r0 != 0 goto next
  ${bump(P.missed)}
update:
  r4 = 2
  call routine ${prefix}_update
  if r0 == 0 goto next
  goto wrong
insert:
  r4 = 1
  call routine ${prefix}_update
  if r0 == 0 goto inserted
  if r0 == -17 goto next
  if r0 == -7 goto full
  if r0 == -28 goto full
  goto wrong
deleted: ${bump(P.deleted)}
inserted: ${bump(P.inserted)}
full: ${bump(P.full)}
wrong: ${bump(P.wrong)}
next:
  r9 -= 1
  if r9 != 0 goto loop
  r0 = 0
  exit`;

const THREADS = 3;
/** How many times as long as usual: `STRESS=40 npx vitest run test/maps/stress.test.ts` takes minutes. */
const TIMES = Number(process.env.STRESS ?? 1);
const TIMEOUT = 60_000 * TIMES;
const STABLE = 20;
const NO_PREALLOC = 1;

function key(size: number, value: number): Uint8Array {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** What the worker stores: words that are the key. Per-CPU: all CPUs' values. */
function storedValue(map: BpfMap, size: number, value: number): Uint8Array {
  const words = new BigUint64Array(size / 8).fill(BigInt(value));
  const one = new Uint8Array(words.buffer);
  const count = map.spec.type === 'percpu_hash' ? THREADS + 1 : 1;
  return Uint8Array.from({ length: size * count }, (_, i) => one[i % size]!);
}

/** Walks the free list; with the never-used elements and the live ones it must make up the pool. */
function freeElements(platform: NativePlatform, map: BpfMap): number {
  const { arena } = platform;
  const object = arena.offset(map.address, map.memoryUsage);
  const stride = arena.view.getUint32(object + 32, true);
  const elements = arena.offset(arena.view.getBigUint64(object + 24, true), 8);
  const seen = new Set<number>();
  for (let number = arena.view.getUint32(object + 128, true); number !== 0; ) {
    if (seen.has(number)) throw new Error(`element ${number} is on the free list twice`);
    seen.add(number);
    number = arena.view.getUint32(elements + (number - 1) * stride + 12, true);
  }
  checkNumbers(platform, map, seen);
  return seen.size + (arena.view.getUint32(object + 84, true) - arena.view.getUint32(object + 136, true));
}

/** Each element in the map has a number of its own that is not free; a home that holds nothing has none. */
function checkNumbers({ arena }: NativePlatform, map: BpfMap, free: ReadonlySet<number>): void {
  const { view } = arena;
  const object = arena.offset(map.address, map.memoryUsage);
  const stride = view.getUint32(object + 112, true);
  const count = view.getUint32(object + 44, true) + 1;
  const buckets = arena.offset(view.getBigUint64(object + 64, true), stride * count);
  const numbers = new Set<number>();
  for (let bucket = buckets; bucket < buckets + stride * count; bucket += stride) {
    let home = stride === 16;
    for (let next = view.getBigUint64(bucket, true); next !== 0n; ) {
      const element = arena.offset(next, 24);
      const number = view.getUint32(element + 12, true);
      if (number === 0 || numbers.has(number) || free.has(number)) throw new Error(`number ${number} has two owners`);
      numbers.add(number);
      home ||= element === bucket + 16;
      next = view.getBigUint64(element, true);
    }
    expect(view.getUint32(bucket + 8, true) & 1).toBe(0);
    if (!home) expect(view.getUint32(bucket + 16 + 12, true)).toBe(0);
  }
}

describe.skipIf(!nativeSupported())('native threads', () => {
  test.each([
    // Few buckets and a small pool: elements are recycled, and chains meet, all the time.
    ['hash', 4, 8, 32, 64, 0],
    ['hash', 8, 16, 40, 30, 0],
    // One value and spares: too large for a home, and not wanted.
    ['hash', 64, 64, 26, 40, 0],
    ['hash', 8, 16, 40, 30, NO_PREALLOC],
    ['percpu_hash', 8, 24, 32, 64, 0],
    ['percpu_hash', 8, 24, 32, 64, NO_PREALLOC],
    // Prefixes of every length from 0 on.
    ['lpm_trie', 8, 16, 28, 12, NO_PREALLOC],
  ] as const)(
    '%s, keys of %i, values of %i bytes, %i entries, %i keys come and go, flags %i',
    {
      timeout: TIMEOUT,
    },
    async (...row) => {
      const [type, keySize, valueSize, maxEntries, volatile, flags] = row;
      const platform = createNativePlatform(8 << 20, THREADS + 1, worker(type));
      const map = createMap(spec({ type, keySize, valueSize, maxEntries, flags }), {
        ...platform,
        id: 1,
      });
      for (let value = 0; value < STABLE; value++) map.update(key(keySize, value), storedValue(map, valueSize, value));
      let running = THREADS;
      const threads = Array.from({ length: THREADS }, (_, thread) =>
        platform
          .start(thread + 1, parameters => {
            parameters.setBigUint64(P.map, map.address, true);
            parameters.setBigUint64(P.iterations, 400_000n * BigInt(TIMES), true);
            parameters.setBigUint64(P.random, (BigInt(thread + 1) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn, true);
            parameters.setBigUint64(P.stable, BigInt(STABLE), true);
            parameters.setBigUint64(P.volatile, BigInt(volatile), true);
          })
          .finally(() => running--),
      );
      // Meanwhile user space does the same.
      let balance = 0;
      let rounds = 0;
      while (running > 0) {
        for (let i = 0; i < 50; i++, rounds++) {
          const stable = rounds % STABLE;
          expect(map.lookup(key(keySize, stable))).toBeDefined();
          map.update(key(keySize, stable), storedValue(map, valueSize, stable), 2);
          const other = STABLE + (rounds % volatile);
          if (failure(() => map.update(key(keySize, other), storedValue(map, valueSize, other), 1)) === undefined)
            balance++;
          if (failure(() => map.delete(key(keySize, STABLE + ((rounds * 7) % volatile)))) === undefined) balance--;
        }
        await new Promise(resolve => setImmediate(resolve));
      }
      const results = await Promise.all(threads);
      const sum = (counter: number): number =>
        results.reduce((total, parameters) => total + Number(parameters.getBigUint64(counter, true)), 0);
      expect({ missed: sum(P.missed), wrong: sum(P.wrong) }).toEqual({ missed: 0, wrong: 0 });
      expect(sum(P.inserted)).toBeGreaterThan(1000);
      expect(sum(P.full)).toBeGreaterThan(0);
      const live = [...map.entries()];
      expect(live.length).toBe(STABLE + sum(P.inserted) - sum(P.deleted) + balance);
      expect(freeElements(platform, map) + live.length).toBe(maxEntries);
      if (type !== 'percpu_hash') {
        for (const [bytes, value] of live) {
          const number = new DataView(bytes.buffer).getUint32(0, true);
          expect(value).toEqual(storedValue(map, valueSize, number));
        }
      }
      map.dispose();
    },
  );

  test.each(['lru_hash', 'lru_percpu_hash'] as const)(
    '%s: evictions by all threads at once',
    { timeout: TIMEOUT },
    async type => {
      const platform = createNativePlatform(8 << 20, THREADS + 1, worker(type));
      const map = createMap(spec({ type, keySize: 8, valueSize: 16, maxEntries: 32 }), { ...platform, id: 1 });
      const results = await Promise.all(
        Array.from({ length: THREADS }, (_, thread) =>
          platform.start(thread + 1, parameters => {
            parameters.setBigUint64(P.map, map.address, true);
            parameters.setBigUint64(P.iterations, 300_000n * BigInt(TIMES), true);
            parameters.setBigUint64(P.random, BigInt(thread + 1) * 0x1234567890abcdfn, true);
            // No key is stable in a map that evicts; those that are looked up and updated may be gone.
            parameters.setBigUint64(P.stable, 20n, true);
            parameters.setBigUint64(P.volatile, 200n, true);
          }),
        ),
      );
      const inserted = results.reduce(
        (total, parameters) => total + Number(parameters.getBigUint64(P.inserted, true)),
        0,
      );
      expect(inserted).toBeGreaterThan(1000);
      const live = [...map.entries()];
      expect(live.length).toBeLessThanOrEqual(32);
      expect(freeElements(platform, map) + live.length).toBe(32);
      expect(new Set(live.map(([bytes]) => bytes.join())).size).toBe(live.length);
      if (type === 'lru_hash') {
        for (const [bytes, value] of live) {
          expect(value).toEqual(storedValue(map, 16, new DataView(bytes.buffer).getUint32(0, true)));
        }
      }
      map.dispose();
    },
  );

  test('CPUs count in a per-CPU array, and atomically in an array, without losing one', {
    timeout: TIMEOUT,
  }, async () => {
    const platform = createNativePlatform(
      8 << 20,
      THREADS + 1,
      `
  r6 = r1
  r9 = *(u64 *)(r6 + ${P.iterations})
  r1 = 2
  *(u32 *)(r10 - 8) = r1
loop:
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -8
  call routine bpf_map_lookup_elem
  r1 = *(u64 *)(r0 + 0)
  r1 += 1
  *(u64 *)(r0 + 0) = r1
  r1 = *(u64 *)(r6 + ${P.stable})
  r2 = r10
  r2 += -8
  call routine bpf_map_lookup_elem
  r1 = 1
  lock *(u64 *)(r0 + 0) += r1
  r9 -= 1
  if r9 != 0 goto loop
  r0 = 0
  exit`,
    );
    const env = { ...platform, id: 1 };
    const perCpu = createMap(spec({ type: 'percpu_array', valueSize: 8, maxEntries: 3 }), env);
    const shared = createMap(spec({ type: 'array', valueSize: 8, maxEntries: 3 }), env);
    const count = 300_000n * BigInt(TIMES);
    await Promise.all(
      Array.from({ length: THREADS }, (_, thread) =>
        platform.start(thread + 1, parameters => {
          parameters.setBigUint64(P.map, perCpu.address, true);
          parameters.setBigUint64(P.stable, shared.address, true);
          parameters.setBigUint64(P.iterations, count, true);
        }),
      ),
    );
    const words = (map: BpfMap): bigint[] => [...new BigUint64Array(map.lookup(Uint8Array.of(2, 0, 0, 0))!.buffer)];
    expect(words(perCpu)).toEqual([0n, count, count, count]);
    expect(words(shared)).toEqual([count * BigInt(THREADS)]);
  });
});
