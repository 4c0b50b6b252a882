/** What maps hold of the arena: as much as they report, nothing once they are gone; and what happens where it does not suffice. */
import { describe, expect, test } from 'vitest';
import { createRuntime } from '../../src/index.ts';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import type { MapOfMaps } from '../../src/maps/map-of-maps.ts';
import type { PerfEventArray } from '../../src/maps/perf-event-array.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec, MapType } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { collection } from '../runtime/build.ts';
import { PLATFORMS } from './platform.ts';
import { spec } from './tools.ts';

const PAGE = 4096;
const CPUS = 3;
const NO_PREALLOC = 1;
const INNER = spec({ type: 'array', valueSize: 8, maxEntries: 2 });
const VALUES = { keySize: 4, valueSize: 40, maxEntries: 300 };

/** One of each type that there is. */
const SPECS: readonly MapSpec[] = [
  ...(['array', 'percpu_array', 'hash', 'percpu_hash', 'lru_hash', 'lru_percpu_hash'] as const).map(type =>
    spec({ type, ...VALUES }),
  ),
  spec({ type: 'lpm_trie', ...VALUES, keySize: 8, flags: NO_PREALLOC }),
  ...(['queue', 'stack', 'bloom_filter'] as const).map(type => spec({ type, ...VALUES, keySize: 0 })),
  ...(['prog_array', 'perf_event_array', 'devmap', 'devmap_hash', 'xskmap'] as const).map(type =>
    spec({ type, maxEntries: 300 }),
  ),
  spec({ type: 'cpumap', maxEntries: CPUS }),
  ...(['array_of_maps', 'hash_of_maps'] as const).map(type => spec({ type, maxEntries: 300, inner: INNER })),
  ...(['ringbuf', 'user_ringbuf'] as const).map(type => spec({ type, keySize: 0, valueSize: 0, maxEntries: 4 * PAGE })),
  ...(['cgroup_storage', 'percpu_cgroup_storage'] as const).map(type =>
    spec({ type, keySize: 16, valueSize: 20000, maxEntries: 0 }),
  ),
  spec({ type: 'arena', keySize: 0, valueSize: 0, maxEntries: 5, flags: 1 << 10 }),
];

const supported = (Object.keys(MAP_TYPE) as MapType[]).filter(type => {
  try {
    createMap(spec({ type }), { ...PLATFORMS[0]![1](1 << 20, 1), id: 1 }).dispose();
    return true;
  } catch (error) {
    return (error as MapError).code !== 'unsupported_map_type';
  }
});

test('all types are among these', () => {
  expect(SPECS.map(({ type }) => type).sort()).toEqual(supported.sort());
});

describe.each(PLATFORMS)('%s', (_, create) => {
  test.each(SPECS)('$type holds what it reports', given => {
    const { arena, ...platform } = create(4 << 20, CPUS);
    const map = createMap(given, { arena, ...platform, id: 1 });
    const reported = () => expect(Math.abs(arena.allocated - platform.idle - map.memoryUsage)).toBeLessThan(PAGE);
    if ((given.flags & NO_PREALLOC) === 0) reported();
    const key = new Uint8Array(given.keySize);
    if (given.type === 'perf_event_array') (map as PerfEventArray).attach({ size: 65536 });
    else if (given.type.endsWith('of_maps')) {
      const inner = createMap(INNER, { arena, ...platform, id: 2 });
      (map as MapOfMaps).set(key, inner);
      inner.dispose();
    } else if (given.valueSize > 4) {
      const perCpu = given.type.includes('percpu') ? CPUS : 1;
      const value = new Uint8Array(Math.ceil(given.valueSize / 8) * 8 * perCpu).subarray(
        0,
        perCpu === 1 ? given.valueSize : undefined,
      );
      const flags = given.type.includes('cgroup') ? 2 : 0;
      for (let i = 0; i < Math.max(given.maxEntries, 1); i++) {
        if (given.maxEntries > 0 && key.length > 0) new DataView(key.buffer).setUint16(key.length - 4, i, true);
        if (key.length === 8) key[0] = 32;
        map.update(key, value, flags);
      }
    }
    reported();
    map.dispose();
    expect(arena.allocated).toBe(platform.idle);
  });

  test('elements that are not preallocated count once they were used', () => {
    const { arena, ...platform } = create(4 << 20, CPUS);
    for (const type of ['hash', 'percpu_hash'] as const) {
      const used = (entries: number): { reported: number; taken: number } => {
        const map = createMap(spec({ type, ...VALUES, flags: NO_PREALLOC }), { arena, ...platform, id: 1 });
        const value = new Uint8Array(type === 'hash' ? 40 : 40 * CPUS);
        for (let i = 0; i < entries; i++) map.update(Uint8Array.of(i, i >> 8, 0, 0), value);
        const result = { reported: map.memoryUsage, taken: arena.allocated - platform.idle };
        map.dispose();
        return result;
      };
      const usage = (entries: number): number => used(entries).reported;
      const full = used(VALUES.maxEntries);
      expect(full.reported).toBe(full.taken);
      expect(usage(100)).toBeLessThan(full.reported - 190 * 40);
      const element = usage(2) - usage(1);
      expect(element).toBeGreaterThanOrEqual(type === 'hash' ? 40 : 40 * CPUS);
      expect(usage(200) - usage(100)).toBe(100 * element);
    }
  });

  test.each(SPECS)('$type without room', given => {
    const { arena, ...platform } = create(1 << 20, CPUS);
    const failed = (change: Partial<MapSpec>): MapError => {
      try {
        createMap({ ...given, ...change }, { arena, ...platform, id: 1 }).dispose();
      } catch (error) {
        if (error instanceof MapError) return error;
        throw error;
      }
      throw new Error(`${given.type} with ${JSON.stringify(change)} was made`);
    };
    // What limits a type otherwise than by memory is its size: per-CPU values, CPUs, storages.
    const large: Partial<MapSpec> = given.type.includes('cgroup')
      ? { valueSize: given.type === 'cgroup_storage' ? 65000 : 32000 }
      : { maxEntries: given.type === 'arena' ? 2 ** 12 : 2 ** 22 };
    const taken: number[] = [];
    if (given.type.includes('cgroup') || given.type === 'cpumap')
      for (let size = 1 << 19; size >= 1 << 7; size >>= 1)
        for (;;) {
          try {
            taken.push(arena.allocate(size));
          } catch {
            break;
          }
        }
    const held = arena.allocated;
    const error = failed(given.type === 'cpumap' ? {} : large);
    expect(error).toMatchObject({ code: 'out_of_memory', errno: 'ENOMEM' });
    expect(error.details.size).toBeGreaterThan(given.type === 'cpumap' ? 0 : 19000);
    expect(error.message).toContain(`${error.details.size} bytes`);
    for (const change of [
      { maxEntries: 2 ** 32 - 1 },
      { maxEntries: 2 ** 31 },
      { maxEntries: 2 ** 27 },
      { valueSize: 2 ** 32 - 1 },
      { valueSize: 2 ** 31 - 1, maxEntries: 2 ** 32 - 1 },
      { valueSize: (4 << 20) - 400, maxEntries: 2 ** 27 },
      { keySize: 2 ** 32 - 1 },
      { keySize: 2 ** 32 - 1, valueSize: 2 ** 32 - 1, maxEntries: 2 ** 32 - 1 },
    ]) {
      const { code, errno, details } = failed(change);
      expect(['out_of_memory', 'invalid_spec']).toContain(code);
      expect(['ENOMEM', 'E2BIG', 'EINVAL']).toContain(errno);
      if (code === 'out_of_memory') expect(details.size).toBeGreaterThan(1 << 20);
      else expect(details).toMatchObject(change);
    }
    expect(arena.allocated).toBe(held);
    for (const offset of taken) arena.free(offset);
  });
});

test.skipIf(!nativeSupported()).each(SPECS)('$type is freed with its last user', async given => {
  const runtime = createRuntime({ arenaSize: 32 << 20 });
  const load = (maps?: ReturnType<typeof runtime.load>['maps']) =>
    runtime.load(
      collection({ programs: { main: 'r0 = 2\nexit' }, maps: [{ ...given, name: 'shared' }] }),
      maps === undefined ? {} : { maps },
    );
  // What is made once stays.
  load().dispose();
  await runtime.settled();
  const before = runtime.memoryUsage;
  const first = load();
  const map = first.map('shared');
  const second = load(first.maps);
  expect(second.map('shared')).toBe(map);
  first.dispose();
  await runtime.settled();
  expect(runtime.memoryUsage - before).toBeGreaterThanOrEqual(map.memoryUsage);
  second.dispose();
  await runtime.settled();
  expect(runtime.memoryUsage).toBe(before);
  expect(() => map.freeze()).toThrow(expect.objectContaining({ code: 'disposed' }));
  await runtime.dispose();
});
