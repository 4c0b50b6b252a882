import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec, MapType } from '../../src/object/spec.ts';
import { createPlatform } from './platform.ts';
import { spec } from './tools.ts';

const number = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 70 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53),
  },
);
const flags = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 0, 1, 1 << 6) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 13 }).map(bit => 1 << bit) },
  { weight: 1, arbitrary: number },
);
const type = fc.constantFrom(...(Object.keys(MAP_TYPE) as MapType[]), 'no_such_type' as MapType);
const contents = fc.oneof(
  { weight: 3, arbitrary: fc.constant([]) },
  {
    weight: 1,
    arbitrary: fc.array(fc.record({ key: fc.oneof(fc.nat(5), number), value: fc.uint8Array({ maxLength: 12 }) }), {
      maxLength: 3,
    }),
  },
);
const anySpec: fc.Arbitrary<MapSpec> = fc
  .tuple(
    type,
    fc.oneof({ weight: 4, arbitrary: fc.constantFrom(4, 8, 0) }, { weight: 1, arbitrary: number }),
    fc.oneof({ weight: 4, arbitrary: fc.constantFrom(4, 8) }, { weight: 1, arbitrary: number }),
    number,
    flags,
    contents,
    fc.boolean(),
  )
  .map(([kind, keySize, valueSize, maxEntries, flag, entries, frozen]) =>
    spec({ type: kind, keySize, valueSize, maxEntries, flags: flag, contents: entries, frozen }),
  );

describe('creating maps', () => {
  test('any specification gives a working map or a MapError, and a refused one leaves nothing behind', () => {
    const platform = createPlatform(1 << 20);
    const made = new Set<string>();
    const refused = new Set<string>();
    fc.assert(
      fc.property(anySpec, given => {
        try {
          const map = createMap(given, { ...platform, id: 9 });
          made.add(given.type);
          const used = platform.arena.allocated - platform.idle;
          expect(used).toBeGreaterThanOrEqual(map.memoryUsage);
          const object = platform.arena.offset(map.address, 64);
          expect(platform.arena.view.getUint32(object, true)).toBe(MAP_TYPE[given.type]);
          expect(platform.arena.view.getUint32(object + 20, true)).toBe(9);
          if ((given.flags & (1 << 4)) === 0 && given.keySize > 0) [...map.entries()];
          map.dispose();
        } catch (error) {
          if (!(error instanceof MapError)) throw error;
          expect(error.message).toMatch(/\bE[A-Z0-9]+\)$/);
          refused.add(error.code);
        }
        expect(platform.arena.allocated).toBe(platform.idle);
      }),
      { numRuns: 3000 },
    );
    expect(made.size).toBeGreaterThan(7);
    expect([...refused]).toEqual(
      expect.arrayContaining(['invalid_spec', 'unsupported_map_type', 'bad_value_size', 'bad_key_size']),
    );
  });

  test('without preallocation a map holds what was used of it, with it all from the start', () => {
    const platform = createPlatform(1 << 20, 2);
    // Elements of 48, 40 and 56 bytes have a cache line each.
    for (const [type, keySize, element] of [
      ['hash', 8, 64],
      ['percpu_hash', 8, 64 + 2 * 16],
      ['lpm_trie', 8, 64],
    ] as const) {
      const map = createMap(spec({ type, keySize, valueSize: 16, maxEntries: 1000, flags: 1 }), { ...platform, id: 1 });
      // What is passed from here has room of its own from the first time on.
      map.lookup(new Uint8Array(keySize));
      const empty = map.memoryUsage;
      expect(platform.arena.allocated - platform.idle - empty).toBeGreaterThan(900 * element);
      const value = new Uint8Array(type === 'percpu_hash' ? 32 : 16);
      for (let n = 1; n <= 100; n++) map.update(Uint8Array.of(32, 0, 0, 0, n, 0, 0, 0), value);
      expect(map.memoryUsage).toBe(empty + 100 * element);
      // Elements that come back are used again before others are touched.
      for (let n = 1; n <= 100; n++) map.delete(Uint8Array.of(32, 0, 0, 0, n, 0, 0, 0));
      for (let n = 1; n <= 100; n++) map.update(Uint8Array.of(32, 0, 0, 0, n, 1, 0, 0), value);
      expect(map.memoryUsage).toBe(empty + 100 * element);
      map.dispose();
    }
    const whole = createMap(spec({ type: 'hash', maxEntries: 1000 }), { ...platform, id: 1 });
    expect(whole.memoryUsage).toBe(platform.arena.allocated - platform.idle);
    whole.dispose();
  });

  test('a map larger than the arena is out of memory, with the sizes', () => {
    for (const given of [
      spec({ type: 'array', valueSize: 1 << 20, maxEntries: 100 }),
      spec({ type: 'array', valueSize: 0x7fffffff, maxEntries: 0xffffffff }),
      spec({ type: 'hash', maxEntries: 1 << 27 }),
      spec({ type: 'prog_array', maxEntries: 0xffffffff }),
      spec({ type: 'percpu_array', valueSize: 32768, maxEntries: 0xffffffff }),
    ]) {
      expect(() => createMap(given, { ...createPlatform(1 << 17), id: 1 })).toThrow(
        expect.objectContaining({ code: 'out_of_memory', errno: 'ENOMEM' }),
      );
    }
  });

  test.each(['stack_trace', 'cgroup_array', 'sockmap'] as const)('%s is refused by name', kind => {
    expect(() => createMap(spec({ type: kind }), { ...createPlatform(1 << 17), id: 1 })).toThrow(
      new RegExp(`${kind}.*no maps of this type.*array`),
    );
  });
});
