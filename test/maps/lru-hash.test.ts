import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { PLATFORMS, type Platform } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

const TYPES = ['lru_hash', 'lru_percpu_hash'] as const;

const make = (platform: Platform, type: (typeof TYPES)[number], overrides: Partial<MapSpec> = {}) =>
  createMap(spec({ type, valueSize: 8, maxEntries: 32, ...overrides }), { ...platform, id: 1 });

/** The value of `key` as user space sees it. */
const storedValue = (platform: Platform, type: string, key: number): Uint8Array => {
  const one = Uint8Array.of(...key32(key), 0, 0, 0, 0);
  return type === 'lru_hash' ? one : Uint8Array.from({ length: 8 * platform.cpus }, (_, i) => one[i % 8]!);
};

describe.each(PLATFORMS)('LRU hashes, %s', (_backend, createPlatform) => {
  test.each(TYPES)('%s: always takes a new key, holds exactly max_entries, and keeps what was just put in', type => {
    const platform = createPlatform();
    const map = make(platform, type);
    for (let key = 0; key < 1000; key++) {
      map.update(key32(key), storedValue(platform, type, key), 1);
      expect(map.lookup(key32(key))).toEqual(storedValue(platform, type, key));
      if (key % 100 === 99) {
        const entries = [...map.entries()];
        expect(entries.length).toBe(32);
        for (const [bytes, value] of entries) {
          expect(value).toEqual(storedValue(platform, type, new DataView(bytes.buffer).getUint32(0, true)));
        }
      }
    }
    expect(failure(() => map.update(key32(999), storedValue(platform, type, 1), 1))).toBe('EEXIST');
    expect(failure(() => map.update(key32(5000), storedValue(platform, type, 1), 2))).toBe('ENOENT');
    expect(failure(() => map.update(key32(999), storedValue(platform, type, 1), 3))).toBe('EINVAL');
    expect(failure(() => map.delete(key32(5000)))).toBe('ENOENT');
    map.dispose();
    expect(platform.arena.allocated).toBe(platform.idle);
  });

  test.each(TYPES)('%s: what programs use stays, what they do not goes', type => {
    const platform = createPlatform();
    const map = make(platform, type);
    const key = stageBytes(platform, key32(0));
    const use = (value: number) => {
      platform.arena.view.setUint32(platform.arena.offset(key, 4), value, true);
      return platform.routines.call(`${type}_lookup`, map.address, key) !== 0n;
    };
    for (let hot = 0; hot < 8; hot++) map.update(key32(hot), storedValue(platform, type, hot));
    for (let cold = 100; cold < 400; cold++) {
      for (let hot = 0; hot < 8; hot++) expect(use(hot)).toBe(true);
      map.update(key32(cold), storedValue(platform, type, cold));
      // What user space reads does not count.
      map.lookup(key32(100));
    }
    expect(map.lookup(key32(100))).toBeUndefined();
    expect([...map.entries()].length).toBe(32);
  });

  test.each(TYPES)('%s: an update of an existing key evicts nothing', type => {
    const platform = createPlatform();
    const map = make(platform, type);
    for (let key = 0; key < 32; key++) map.update(key32(key), storedValue(platform, type, key));
    for (let round = 0; round < 200; round++) map.update(key32(round % 32), storedValue(platform, type, round), 2);
    expect([...map.entries()].length).toBe(32);
  });

  test.each(TYPES)('%s: a map of one entry', type => {
    const platform = createPlatform();
    const map = make(platform, type, { maxEntries: 1, flags: 2 });
    for (let key = 0; key < 20; key++) {
      map.update(key32(key), storedValue(platform, type, key));
      map.update(key32(key), storedValue(platform, type, key));
      expect([...map.entries()]).toEqual([[key32(key), storedValue(platform, type, key)]]);
    }
    map.delete(key32(19));
    expect([...map.entries()]).toEqual([]);
  });

  test('a program that inserts into a per-CPU LRU hash leaves the other CPUs at zero', () => {
    const platform = createPlatform();
    const map = make(platform, 'lru_percpu_hash', { maxEntries: 2 });
    for (let key = 0; key < 2; key++) map.update(key32(key), new Uint8Array(16).fill(0xff));
    const [key, value] = [stageBytes(platform, key32(7)), stageBytes(platform, new Uint8Array(8).fill(3))];
    platform.setCpu(1);
    expect(platform.routines.call('bpf_map_update_elem', map.address, key, value, 0n)).toBe(0n);
    expect(map.lookup(key32(7))).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3, 3));
    platform.setCpu(0);
  });
});
