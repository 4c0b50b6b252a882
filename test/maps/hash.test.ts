import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import type { BpfMap } from '../../src/maps/map.ts';
import { MAP_ROUTINES, mapRoutine } from '../../src/maps/routines/index.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec, MapType } from '../../src/object/spec.ts';
import { createPlatform as createInterpreter, PLATFORMS, type Platform } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

const make = (platform: Platform, overrides: Partial<MapSpec> = {}): BpfMap =>
  createMap(spec({ type: 'hash', keySize: 4, valueSize: 8, maxEntries: 4, ...overrides }), { ...platform, id: 7 });

/** Buckets without room for elements, and one value in each. */
const NO_PREALLOC = 1;
const ZERO_SEED = 1 << 6;

/** As in memory/layout.ts. */
function bucketsOf({ arena }: Platform, map: BpfMap): { address: bigint; stride: number; count: number } {
  const object = arena.offset(map.address, 128);
  return {
    address: arena.view.getBigUint64(object + 64, true),
    stride: arena.view.getUint32(object + 112, true),
    count: arena.view.getUint32(object + 44, true) + 1,
  };
}

const bytes = (length: number, seed: number): Uint8Array => Uint8Array.from({ length }, (_, i) => seed + i * 7);

describe.each(PLATFORMS)('%s', (_backend, createPlatform) => {
  describe('hash', () => {
    test('semantics of the flags, present and absent', () => {
      const map = make(createPlatform());
      const [one, two] = [bytes(8, 1), bytes(8, 2)];
      expect(failure(() => map.update(key32(1), one, 2))).toBe('ENOENT');
      expect(failure(() => map.update(key32(1), one, 1))).toBeUndefined();
      expect(failure(() => map.update(key32(1), two, 1))).toBe('EEXIST');
      expect(map.lookup(key32(1))).toEqual(one);
      map.update(key32(1), two, 2);
      expect(map.lookup(key32(1))).toEqual(two);
      for (const flags of [3, 4, 5, 8, 2 ** 32]) {
        expect(failure(() => map.update(key32(1), one, flags))).toBe('EINVAL');
      }
      expect(failure(() => map.delete(key32(2)))).toBe('ENOENT');
      map.delete(key32(1));
      expect(map.lookup(key32(1))).toBeUndefined();
      expect(map.nextKey(undefined)).toBeUndefined();
    });

    test.each([
      ['hash', 0],
      ['hash', NO_PREALLOC],
      ['percpu_hash', 0],
      ['percpu_hash', NO_PREALLOC],
    ] as const)('%s, flags %i: a full map takes updates but no new keys', (type, flags) => {
      const map = make(createPlatform(), { type, flags });
      const value = (seed: number) => bytes(type === 'hash' ? 8 : 16, seed);
      for (let round = 0; round < 3; round++) {
        for (let key = 0; key < 4; key++) map.update(key32(key), value(key), 1);
        expect(failure(() => map.update(key32(9), value(9)))).toBe('E2BIG');
        expect(failure(() => map.update(key32(9), value(9), 2))).toBe('ENOENT');
        for (let key = 0; key < 40; key++) map.update(key32(key % 4), value(key + 1));
        expect([...map.entries()].map(([key]) => key[0]).sort()).toEqual([0, 1, 2, 3]);
        for (let key = 0; key < 4; key++) {
          expect(map.lookup(key32(key))).toEqual(value(37 + key));
          map.delete(key32(key));
        }
      }
      map.dispose();
    });

    test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 20, 33, 64, 100])('keys of %i bytes count whole', keySize => {
      const platform = createPlatform();
      const map = make(platform, { keySize, maxEntries: 300 });
      const keys = [new Uint8Array(keySize)];
      for (let i = 0; i < keySize; i++) {
        const key = new Uint8Array(keySize);
        key[i] = 0x80;
        keys.push(key);
      }
      for (const [index, key] of keys.entries()) map.update(key, bytes(8, index), 1);
      for (const [index, key] of keys.entries()) expect(map.lookup(key)).toEqual(bytes(8, index));
      for (const key of keys) map.delete(key);
      expect([...map.entries()]).toEqual([]);
    });

    test('iteration visits each key once; an unknown key starts over', () => {
      const map = make(createPlatform(), { maxEntries: 64 });
      for (let key = 0; key < 64; key++) map.update(key32(key * 1000), bytes(8, key));
      const keys: Uint8Array[] = [];
      for (let key = map.nextKey(undefined); key !== undefined; key = map.nextKey(key)) keys.push(key);
      expect(new Set(keys.map(key => key.join())).size).toBe(64);
      expect(map.nextKey(key32(5))).toEqual(keys[0]);
      map.delete(keys[10]!);
      expect(map.nextKey(keys[10]!)).toEqual(keys[0]);
      expect([...map.entries()].length).toBe(63);
    });

    test('entries() ends although its keys vanish under it', () => {
      const map = make(createPlatform(), { maxEntries: 64 });
      for (let key = 0; key < 64; key++) map.update(key32(key), bytes(8, key));
      const seen = new Set<string>();
      for (const [key] of map.entries()) {
        expect(seen.has(key.join())).toBe(false);
        seen.add(key.join());
        map.delete(key);
      }
      expect(map.nextKey(undefined)).toBeUndefined();
    });

    test('buckets are used evenly by keys that differ in few bits', () => {
      const platform = createPlatform();
      for (const [keySize, flags] of [4, 8, 16, 64].flatMap(size =>
        [0, NO_PREALLOC].map(flags => [size, flags] as const),
      )) {
        const map = make(platform, { keySize, flags, maxEntries: 1024 });
        for (let index = 0; index < 1024; index++) {
          const key = new Uint8Array(keySize);
          key[keySize - 1] = index;
          key[keySize >> 1] = (index >> 8) << 6;
          map.update(key, bytes(8, index), 1);
        }
        const { address, stride, count } = bucketsOf(platform, map);
        const first = platform.arena.offset(address, stride * count);
        let empty = 0;
        for (let bucket = 0; bucket < count; bucket++) {
          if (platform.arena.view.getBigUint64(first + bucket * stride, true) === 0n) empty++;
        }
        // Random hashing leaves count / e^(1024 / count) empty: 1242 of 2048, standard deviation about 11; 377 of 1024, about 10.
        const expected = count / Math.exp(1024 / count);
        expect([1024, 2048]).toContain(count);
        expect(Math.abs(empty - expected)).toBeLessThan(70);
        map.dispose();
      }
    });

    test('gives all its memory back, and its size is what it says', () => {
      const platform = createPlatform();
      for (const type of ['hash', 'percpu_hash'] as const) {
        const map = make(platform, { type });
        expect(platform.arena.allocated - platform.idle).toBe(map.memoryUsage);
        map.update(key32(1), bytes(type === 'hash' ? 8 : 16, 1));
        map.dispose();
        expect(platform.arena.allocated).toBe(platform.idle);
        expect(() => map.lookup(key32(1))).toThrow(expect.objectContaining({ code: 'disposed' }));
      }
    });
  });

  describe('per-CPU hash', () => {
    test('programs see their own CPU; a new key is zero on the others', () => {
      const platform = createPlatform(1 << 20, 3);
      const map = make(platform, { type: 'percpu_hash', valueSize: 12 });
      const key = stageBytes(platform, key32(77));
      const value = stageBytes(platform, bytes(12, 1));
      const call = (operation: string, ...args: bigint[]) =>
        platform.routines.call(operation, map.address, key, ...args);
      map.update(key32(77), new Uint8Array(48).fill(0xff));
      expect(map.lookup(key32(77))!.filter(byte => byte === 0xff).length).toBe(36);
      map.delete(key32(77));
      platform.setCpu(1);
      expect(call('percpu_hash_update', value, 2n)).toBe(BigInt.asUintN(64, -2n));
      expect(call('percpu_hash_update', value, 0n)).toBe(0n);
      const expected = new Uint8Array(48);
      expected.set(bytes(12, 1), 16);
      expect(map.lookup(key32(77))).toEqual(expected);
      platform.setCpu(2);
      expect(call('bpf_map_update_elem', value, 2n)).toBe(0n);
      expected.set(bytes(12, 1), 32);
      expect(map.lookup(key32(77))).toEqual(expected);
      const mine = call('bpf_map_lookup_elem');
      expect(mine).toBe(call('bpf_map_lookup_percpu_elem', 2n));
      expect(call('bpf_map_lookup_percpu_elem', 3n)).toBe(0n);
      expect(mine - call('percpu_hash_lookup_percpu', 1n)).toBe(64n);
      expect(call('bpf_map_delete_elem')).toBe(0n);
      expect(call('percpu_hash_lookup')).toBe(0n);
      expect(call('percpu_hash_lookup_percpu', 0n)).toBe(0n);
    });
  });

  const step = fc.record({
    kind: fc.constantFrom('update', 'update', 'update', 'delete', 'lookup', 'next' as const),
    key: fc.nat(12),
    value: fc.nat(255),
    flags: fc.nat(3),
  });

  test('a hash agrees with a Map, whatever the sequence', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('hash' as const, 'percpu_hash' as const),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom(0, NO_PREALLOC),
        fc.array(step, { maxLength: 60 }),
        (type, keySize, valueSize, maxEntries, flags, steps) => {
          const platform = createPlatform(1 << 20);
          const map = make(platform, { type, keySize, valueSize, maxEntries, flags });
          const model = new Map<number, Uint8Array>();
          const padded = Math.ceil(valueSize / 8) * 8;
          const value = (seed: number): Uint8Array => {
            const all = bytes(type === 'hash' ? valueSize : 2 * padded, seed);
            return type === 'hash' ? all : all.map((byte, i) => (i % padded < valueSize ? byte : 0));
          };
          const key = (n: number): Uint8Array => new Uint8Array(keySize).fill(n);
          for (const { kind, key: k, value: v, flags: how } of steps) {
            const present = model.has(k);
            if (kind === 'update') {
              const expected =
                how === 3
                  ? 'EINVAL'
                  : present && how === 1
                    ? 'EEXIST'
                    : !present && how === 2
                      ? 'ENOENT'
                      : !present && model.size === maxEntries
                        ? 'E2BIG'
                        : undefined;
              expect(failure(() => map.update(key(k), value(v), how))).toBe(expected);
              if (expected === undefined) model.set(k, value(v));
            } else if (kind === 'delete') {
              expect(failure(() => map.delete(key(k)))).toBe(present ? undefined : 'ENOENT');
              model.delete(k);
            } else if (kind === 'lookup') {
              expect(map.lookup(key(k))).toEqual(model.get(k));
            } else {
              const next = map.nextKey(key(k));
              if (next !== undefined) expect(model.has(next[0]!)).toBe(true);
              else expect(present || model.size === 0).toBe(true);
            }
          }
          const all = new Map([...map.entries()].map(([k, v]) => [k[0]!, v]));
          expect(all).toEqual(new Map([...model].sort(([a], [b]) => a - b).map(([k, v]) => [k, v])));
        },
      ),
      { numRuns: 80 },
    );
  });
});

/** `count` keys that fall into the first bucket of `map`, which is empty before and after. */
function colliding(platform: Platform, map: BpfMap, count: number): number[] {
  const { view } = platform.arena;
  const bucket = platform.arena.offset(bucketsOf(platform, map).address, 16);
  const found: number[] = [];
  for (let key = 0; found.length < count; key++) {
    map.update(key32(key), bytes(8, 0));
    if (view.getBigUint64(bucket, true) !== 0n) found.push(key);
    map.delete(key32(key));
  }
  return found;
}

describe.each([
  ['buckets with a home, two values', ZERO_SEED],
  ['one value, spares', ZERO_SEED | NO_PREALLOC],
])('a lookup that is overtaken by writers: %s', (_layout, flags) => {
  // Zero seed, so that it is always the same keys that collide. Values of three words.
  const setUp = () => {
    const platform = createInterpreter(1 << 17);
    const small = make(platform, { flags, maxEntries: 8 });
    const keys = colliding(platform, small, 5);
    small.dispose();
    const map = make(platform, { flags, maxEntries: 8, valueSize: 24 });
    for (const key of keys) map.update(key32(key), bytes(24, key));
    const staged = keys.map(key => stageBytes(platform, key32(key)));
    const update = (index: number, seed = 77) =>
      platform.routines.call('hash_update', map.address, staged[index]!, stageBytes(platform, bytes(24, seed)), 0n);
    const remove = (index: number) => platform.routines.call('hash_delete', map.address, staged[index]!);
    return { platform, map, keys, staged, update, remove };
  };

  test('all keys are in one bucket, the first of them in its home where it has one', () => {
    const { platform, map } = setUp();
    const { address, stride, count } = bucketsOf(platform, map);
    const used: bigint[] = [];
    for (let bucket = 0; bucket < count; bucket++) {
      const at = platform.arena.offset(address + BigInt(bucket * stride), 16);
      const first = platform.arena.view.getBigUint64(at, true);
      if (first !== 0n) used.push(first - (address + BigInt(bucket * stride)));
    }
    expect(used).toHaveLength(1);
    expect(used[0] === 16n).toBe(flags === ZERO_SEED);
  });

  test.each([
    ['its own key is replaced', [2], []],
    ['its own key is replaced twice', [2, 2], []],
    ['the spare of its replacement comes back behind it', [2, 1], []],
    ['the element it stands on is deleted, and the next ones are recycled', [2, 1, 0], [3]],
    ['elements before it are deleted and come back at the head', [4, 3, 1], [4, 3]],
    ['the home is left, and taken by another key', [4, 3], [0, 4]],
    ['the home is left, taken, left and taken again', [1, 3, 1], [0, 1, 3]],
    ['everything is replaced', [0, 1, 2, 3, 4, 4, 3, 2, 1, 0], []],
  ] as [string, number[], number[]][])('finds its key whenever it happens: %s', (_, updates, removals) => {
    // Key 0 is in the home, key 2 is not.
    for (const wanted of removals.includes(0) ? [2] : [0, 2]) {
      let at = 0;
      for (let interrupted = true; interrupted; at++) {
        const { platform, keys, map, staged, update, remove } = setUp();
        let steps = 0;
        interrupted = false;
        const found = platform.watch(
          () => platform.routines.call('hash_lookup', map.address, staged[wanted]!),
          () => {
            if (steps++ !== at) return;
            interrupted = true;
            for (const index of removals) expect(remove(index)).toBe(0n);
            for (const index of updates) expect(update(index)).toBe(0n);
          },
        );
        expect([at, found !== 0n]).toEqual([at, true]);
        const place = platform.arena.offset(found, 24);
        const value = platform.arena.bytes.slice(place, place + 24);
        const possible = [...keys, 77].map(seed => bytes(24, seed).join());
        expect([at, possible]).toEqual([at, expect.arrayContaining([value.join()])]);
      }
      expect(at).toBeGreaterThan(30);
    }
  });

  test('an update gives either value, whole, whenever a lookup comes in between', () => {
    for (const wanted of [0, 2]) {
      let at = 0;
      const seen = new Set<string>();
      for (let interrupted = true; interrupted; at++) {
        const { platform, keys, map, staged, update } = setUp();
        let steps = 0;
        interrupted = false;
        let value: Uint8Array | undefined;
        platform.watch(
          () => update(wanted),
          () => {
            if (steps++ !== at) return;
            interrupted = true;
            const found = platform.routines.call('hash_lookup', map.address, staged[wanted]!);
            const place = platform.arena.offset(found, 24);
            value = platform.arena.bytes.slice(place, place + 24);
          },
        );
        const either = [bytes(24, keys[wanted]!), bytes(24, 77)].map(each => each.join());
        if (value !== undefined) {
          expect(either).toContain(value.join());
          seen.add(value.join());
        }
        expect(map.lookup(key32(keys[wanted]!))).toEqual(bytes(24, 77));
      }
      expect(seen.size).toBe(2);
    }
  });

  test('a value that was looked up stays as it was through one update of its key', () => {
    const { platform, keys, map, staged, update } = setUp();
    for (let round = 0; round < 5; round++) {
      const found = platform.routines.call('hash_lookup', map.address, staged[0]!);
      const place = platform.arena.offset(found, 24);
      const before = platform.arena.bytes.slice(place, place + 24);
      update(0, 100 + round);
      expect(platform.arena.bytes.slice(place, place + 24)).toEqual(before);
      expect(map.lookup(key32(keys[0]!))).toEqual(bytes(24, 100 + round));
    }
  });

  test('iteration gives whole keys that were there', () => {
    let at = 0;
    for (let interrupted = true; interrupted; at++) {
      const { platform, map, keys, staged, update, remove } = setUp();
      const out = stageBytes(platform, new Uint8Array(4));
      let steps = 0;
      interrupted = false;
      const result = platform.watch(
        () => platform.routines.call('hash_next_key', map.address, staged[3]!, out),
        () => {
          if (steps++ !== at) return;
          interrupted = true;
          remove(2);
          for (const index of [1, 0, 1, 4, 0]) update(index);
        },
      );
      const next = platform.arena.view.getUint32(platform.arena.offset(out, 4), true);
      expect([at, result, keys.includes(next)]).toEqual([at, 0n, true]);
    }
  });
});

test('a free list that went and came back while an element was taken gives no element twice', () => {
  let at = 0;
  for (let interrupted = true; interrupted; at++) {
    const platform = createInterpreter(1 << 17);
    const map = make(platform, { flags: ZERO_SEED, maxEntries: 8 });
    const taken = colliding(platform, map, 1)[0]!;
    // The insertion below holds its bucket's lock, so what overtakes it must use others.
    const sharing = new Set(colliding(platform, map, 8));
    const others = Array.from({ length: 60 }, (_, key) => key).filter(key => key !== taken && !sharing.has(key));
    const staged = (key: number) => stageBytes(platform, key32(key));
    const value = (key: number) => stageBytes(platform, bytes(8, key));
    const insert = (key: number) => platform.routines.call('hash_update', map.address, staged(key), value(key), 1n);
    const remove = (key: number) => platform.routines.call('hash_delete', map.address, staged(key));
    // Three elements on the free list, and then none that was never used.
    for (const key of others.slice(0, 8)) expect(insert(key)).toBe(0n);
    for (const key of others.slice(0, 3)) expect(remove(key)).toBe(0n);
    const arguments_ = [map.address, staged(taken), value(taken), 1n];
    let steps = 0;
    interrupted = false;
    const result = platform.watch(
      () => platform.routines.call('hash_update', ...arguments_),
      () => {
        if (steps++ !== at) return;
        interrupted = true;
        const outcomes = [insert(others[10]!), insert(others[11]!), remove(others[10]!)];
        expect(outcomes).toEqual([0n, 0n, 0n]);
      },
    );
    expect([at, result]).toEqual([at, 0n]);
    if (!interrupted) break;
    // 5 that stayed, one that overtook, the one inserted: one place is left.
    expect([at, insert(others[12]!)]).toEqual([at, 0n]);
    expect([at, BigInt.asIntN(64, insert(others[13]!))]).toEqual([at, -7n]);
    const entries = [...map.entries()];
    expect(entries.length).toBe(8);
    for (const [key, stored] of entries) expect([at, stored]).toEqual([at, bytes(8, key[0]!)]);
  }
  expect(at).toBeGreaterThan(50);
});

test('routine names are what routines may be called', () => {
  const names = MAP_ROUTINES.map(routine => routine.name);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[a-z0-9_]+$/);
  for (const type of Object.keys(MAP_TYPE) as MapType[]) {
    for (const operation of ['lookup', 'update', 'delete'] as const) {
      expect(names).toContain(mapRoutine(type, operation));
    }
  }
  expect(mapRoutine('hash', 'lookup')).toBe('hash_lookup');
  expect(mapRoutine('devmap', 'update')).toBe('bpf_map_update_elem');
});
