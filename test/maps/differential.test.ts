/** The same operations on our maps and on the running kernel's: same results, same errors. */
import { describe, expect, test } from 'vitest';
import { Attr, Command, closeFd } from '../../src/kernel/bpf.ts';
import { KernelMap, possibleCpus } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { kernelMissing } from '../kernel/support.ts';
import { createPlatform } from './platform.ts';
import {
  compareKeys,
  createComparedPlatform,
  failure,
  generator,
  OPERATIONS,
  OPERATIONS_TIMEOUT,
  Outcomes,
  spec,
} from './tools.ts';

const missing = kernelMissing();
/** BPF_MAP_CREATE as it stands: KernelMap lets the kernel choose where an arena is mapped. */
function kernelArena({ keySize, valueSize, maxEntries, flags, mapExtra = 0n }: MapSpec): string | undefined {
  const attr = new Attr().u32(0, MAP_TYPE.arena).u32(4, keySize).u32(8, valueSize).u32(12, maxEntries).u32(16, flags);
  const { value, errno } = attr.u64(64, mapExtra).call(Command.mapCreate);
  if (value >= 0) closeFd(value);
  return errno;
}

const CREATED = [
  ...(['array', 'percpu_array', 'hash', 'percpu_hash', 'lru_hash', 'lru_percpu_hash', 'prog_array'] as const),
  ...([
    'queue',
    'stack',
    'bloom_filter',
    'lpm_trie',
    'devmap',
    'devmap_hash',
    'cpumap',
    'xskmap',
    'perf_event_array',
  ] as const),
];

const SHAPES: readonly Partial<MapSpec>[] = [
  { keySize: 4, valueSize: 4, maxEntries: 7 },
  { keySize: 4, valueSize: 13, maxEntries: 1 },
  { keySize: 8, valueSize: 8, maxEntries: 30 },
  { keySize: 16, valueSize: 1, maxEntries: 16 },
  { keySize: 64, valueSize: 40, maxEntries: 5 },
  { keySize: 5, valueSize: 3, maxEntries: 11, flags: 1 },
];

const NUMA_NODE = 4;
const KEYLESS = new Set<MapSpec['type']>(['queue', 'stack', 'bloom_filter', 'ringbuf']);

describe.skipIf(missing !== undefined)('maps against the running kernel', () => {
  const cpus = missing === undefined ? possibleCpus() : 1;

  test.each(['array', 'percpu_array', 'hash', 'percpu_hash', 'lru_hash', 'lru_percpu_hash'] as const)(
    '%s',
    { timeout: OPERATIONS_TIMEOUT },
    type => {
      const platform = createComparedPlatform(1 << 20, cpus);
      const lru = type.startsWith('lru');
      const shapes = SHAPES.filter(shape => shape.flags === undefined || (!lru && type.endsWith('hash'))).filter(
        shape => shape.keySize === 4 || type.endsWith('hash'),
      );
      let distinct = 0;
      for (const [index, shape] of shapes.entries()) {
        // The kernel's LRU maps evict long before they are full, and other keys than ours: leave them ample room.
        const given = spec({ type, ...shape, ...(lru ? { maxEntries: 1000 } : {}) });
        const operations = OPERATIONS / shapes.length;
        const next = generator(0x1234567 + index);
        const padded = Math.ceil(given.valueSize / 8) * 8;
        const perCpu = type.includes('percpu');
        const valueBytes = perCpu ? cpus * padded : given.valueSize;
        const ours = createMap(given, { ...platform, id: 1 });
        const theirs = new KernelMap(given);
        // A few more keys than there is room for; array indices around the end.
        const keys = Array.from({ length: shape.maxEntries! + 5 }, (_, i) => {
          const key = new Uint8Array(given.keySize).fill(type.endsWith('array') ? 0 : i * 3);
          key[0] = i;
          return key;
        });
        const outcomes = new Outcomes();
        for (let step = 0; step < operations; step++) {
          const key = keys[next(keys.length)]!;
          const operation = next(10);
          if (operation < 5) {
            const value = Uint8Array.from({ length: valueBytes }, (_, i) =>
              perCpu && i % padded >= given.valueSize ? 0 : next(256),
            );
            const flags = [0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 2 ** 35][next(12)]!;
            outcomes.change(
              'update',
              () => theirs.update(key, value, flags),
              () => ours.update(key, value, flags),
              step,
              flags,
            );
          } else if (operation < 7) {
            outcomes.change(
              'delete',
              () => theirs.delete(key),
              () => ours.delete(key),
              step,
            );
          } else if (operation < 9) {
            outcomes.read(
              'lookup',
              () => theirs.lookup(key),
              () => ours.lookup(key),
              step,
            );
          } else if (type.endsWith('array')) {
            outcomes.read(
              'next',
              () => theirs.nextKey(key),
              () => ours.nextKey(key),
              step,
            );
          } else {
            compareKeys(ours, theirs);
          }
        }
        compareKeys(ours, theirs);
        distinct = Math.max(distinct, outcomes.names.length);
        theirs.freeze();
        (ours as unknown as { freeze(): void }).freeze();
        const value = new Uint8Array(valueBytes);
        expect(failure(() => ours.update(keys[0]!, value))).toBe(failure(() => theirs.update(keys[0]!, value)));
        expect(failure(() => ours.delete(keys[0]!))).toBe(failure(() => theirs.delete(keys[0]!)));
        theirs.dispose();
        ours.dispose();
      }
      // The comparison means little unless successes and each kind of failure were met.
      expect(distinct).toBeGreaterThanOrEqual(7);
    },
  );

  test('what may be created', () => {
    const platform = createPlatform(1 << 20, cpus);
    const sizes = {
      keySize: [0, 1, 4, 8, 5, 260, 261],
      valueSize: [0, 4, 1, 8, 32768, 32769, 32767, 65536],
      maxEntries: [0, 1, 3],
      flags: [0, 0, 1, 2, 4, 8, 16, 24, 32, 64, 128, 256, 384, 512, 1024, 1 << 11, 1 << 12, 1 << 13, 1 << 30, 2 ** 31],
    };
    const outcomes = new Map<string, number>();
    for (const type of CREATED) {
      for (const keySize of sizes.keySize) {
        for (const valueSize of sizes.valueSize) {
          for (const maxEntries of sizes.maxEntries) {
            for (const flags of sizes.flags) {
              const good =
                Number(keySize === (KEYLESS.has(type) ? 0 : 4)) +
                Number(valueSize === 4) +
                Number(maxEntries === 1) +
                Number(flags === 0);
              // All pairs of deviations; more would only repeat the first check that fires.
              if (good < 2) continue;
              const given = spec({ type, keySize, valueSize, maxEntries, flags });
              const expected = failure(() => new KernelMap(given).dispose());
              const actual = creation(given, platform);
              expect([given, actual]).toEqual([given, expected]);
              outcomes.set(`${type} ${expected}`, (outcomes.get(`${type} ${expected}`) ?? 0) + 1);
            }
          }
        }
      }
    }
    expect(Object.fromEntries(outcomes)).toMatchObject({ 'percpu_hash E2BIG': expect.any(Number) });
    expect([...outcomes.keys()].filter(name => name.endsWith('undefined')).length).toBe(CREATED.length);
  });

  test('on which NUMA node', () => {
    const platform = createPlatform(1 << 20, cpus);
    const outcomes = new Set<string | undefined>();
    for (const type of CREATED)
      for (const numaNode of [0, 5000, 2 ** 32 - 1])
        for (const flags of [0, NUMA_NODE, NUMA_NODE | 1, NUMA_NODE | 2]) {
          const keySize = KEYLESS.has(type) ? 0 : type === 'lpm_trie' ? 8 : 4;
          const given = spec({ type, keySize, flags, numaNode });
          const expected = failure(() => new KernelMap(given).dispose());
          outcomes.add(expected);
          expect([given, creation(given, platform)]).toEqual([given, expected]);
        }
    expect(outcomes).toEqual(new Set(['EINVAL', 'ENOTSUPP', undefined]));
    for (const numaNode of [-1, 0.5, 2 ** 32, Number.NaN])
      expect(creation(spec({ type: 'array', numaNode }), platform)).toBe('EINVAL');
  });

  test('what arenas may be created', () => {
    const platform = createPlatform(1 << 20, cpus);
    const outcomes = new Set<string | undefined>();
    for (const keySize of [0, 4])
      for (const valueSize of [0, 4])
        for (const maxEntries of [0, 1, 16, 2 ** 20, 2 ** 20 + 1, 2 ** 32 - 1])
          for (const flags of [0, 1 << 10, (1 << 10) | (1 << 17), (1 << 10) | (1 << 18), 1 << 18, (1 << 10) | 1])
            for (const mapExtra of [0n, 1n << 44n, 0x7fff_ffff_f000n, 1n, 0xffff_f000n]) {
              const given = spec({ type: 'arena', keySize, valueSize, maxEntries, flags, mapExtra });
              const expected = kernelArena(given);
              const actual = creation(given, platform);
              outcomes.add(expected);
              // What the kernel makes may be too large for the memory that there is here.
              if (actual === 'ENOMEM' && maxEntries > 16) expect(expected).toBeUndefined();
              else expect([given, actual]).toEqual([given, expected]);
            }
    expect(outcomes).toEqual(new Set(['EINVAL', 'E2BIG', 'ERANGE', undefined]));
  });

  test.each([
    // Few bits, so that prefixes nest; then addresses of IPv4 and IPv6.
    [5, 20],
    [8, 40],
    [20, 40],
  ])('lpm_trie with keys of %i bytes', { timeout: OPERATIONS_TIMEOUT }, (keySize, maxEntries) => {
    const platform = createComparedPlatform(1 << 20, cpus);
    const given = spec({ type: 'lpm_trie', keySize, valueSize: 6, maxEntries, flags: 1 });
    const theirs = new KernelMap(given);
    const ours = createMap(given, { ...platform, id: 1 });
    const next = generator(keySize);
    const bits = (keySize - 4) * 8;
    const outcomes = new Outcomes();
    const prefix = (length: number): Uint8Array => {
      const key = new Uint8Array(keySize);
      new DataView(key.buffer).setUint32(0, length, true);
      // Bits behind the prefix count for nothing, but are kept.
      const set = next(3) === 0 ? bits : Math.min(length, bits);
      for (let bit = 0; bit < set; bit++) {
        if (next(4) === 0) key[4 + (bit >> 3)]! |= 0x80 >> (bit & 7);
      }
      return key;
    };
    for (let step = 0; step < OPERATIONS / 3; step++) {
      const length = [next(bits + 1), next(9), bits, bits + 1][next(4)]!;
      const key = prefix(length);
      const operation = next(10);
      if (operation < 4) {
        const value = Uint8Array.from({ length: given.valueSize }, () => next(256));
        const flags = [0, 0, 0, 1, 2, 3, 4][next(7)]!;
        outcomes.change(
          'update',
          () => theirs.update(key, value, flags),
          () => ours.update(key, value, flags),
          step,
          key,
          flags,
        );
      } else if (operation < 6) {
        outcomes.change(
          'delete',
          () => theirs.delete(key),
          () => ours.delete(key),
          step,
          key,
        );
      } else if (operation < 9) {
        outcomes.read(
          'lookup',
          () => theirs.lookup(key),
          () => ours.lookup(key),
          step,
          key,
        );
      } else if (step % 8 === 0) {
        compareKeys(ours, theirs);
      }
    }
    compareKeys(ours, theirs);
    expect(outcomes.names).toEqual(
      expect.arrayContaining(['delete ENOENT', 'delete done', 'lookup ENOENT', 'lookup value', 'update ENOSPC']),
    );
    theirs.dispose();
    ours.dispose();
  });

  test('sizes of ring buffers', () => {
    const platform = createPlatform(1 << 20, cpus);
    for (const maxEntries of [0, 1, 2048, 4095, 4096, 4097, 8192, 12288, 65536]) {
      for (const [keySize, valueSize] of [
        [0, 0],
        [4, 0],
        [0, 4],
      ] as const) {
        for (let bit = 0; bit < 20; bit++) {
          const given = spec({ type: 'ringbuf', keySize, valueSize, maxEntries, flags: (1 << bit) & ~1 });
          expect([given, creation(given, platform)]).toEqual([given, failure(() => new KernelMap(given).dispose())]);
        }
      }
    }
  });

  test('limits of size', () => {
    const platform = createPlatform(1 << 20, cpus);
    for (const given of [
      spec({ type: 'hash', valueSize: (4 << 20) - 1 }),
      spec({ type: 'hash', valueSize: 0xffffffff }),
      spec({ type: 'hash', keySize: 0xffffffff, valueSize: 0xffffffff }),
      spec({ type: 'percpu_hash', keySize: 5 << 20 }),
      spec({ type: 'hash', maxEntries: 0xffffffff, flags: 1 }),
      spec({ type: 'hash', maxEntries: (1 << 27) + 1, flags: 1 }),
      spec({ type: 'array', valueSize: 0x80000000 }),
      ...(['queue', 'stack', 'bloom_filter'] as const).flatMap(type =>
        [(4 << 20) + 1, 0x7fffffff, 0xffffffff].map(valueSize => spec({ type, keySize: 0, valueSize })),
      ),
      ...[16n, 15n, 5n, 1n << 32n, -1n].map(mapExtra => spec({ type: 'bloom_filter', keySize: 0, mapExtra })),
      spec({ type: 'queue', keySize: 0, mapExtra: 1n }),
      spec({ type: 'array', valueSize: 0xffffffff }),
    ]) {
      expect([given, creation(given, platform)]).toEqual([given, failure(() => new KernelMap(given).dispose())]);
    }
  });
});

function creation(given: MapSpec, platform: ReturnType<typeof createPlatform>): string | undefined {
  try {
    createMap(given, { ...platform, id: 1 }).dispose();
    return undefined;
  } catch (error) {
    if (error instanceof MapError) return error.errno;
    throw error;
  }
}
