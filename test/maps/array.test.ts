import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { UpdateFlag } from '../../src/maps/map.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { PLATFORMS, type Platform } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

const make = (platform: Platform, overrides: Partial<MapSpec> = {}) =>
  createMap(spec({ type: 'array', keySize: 4, valueSize: 12, maxEntries: 5, ...overrides }), {
    ...platform,
    id: 7,
  });

describe.each(PLATFORMS)('%s', (_backend, createPlatform) => {
  describe('array', () => {
    test.each([
      ['any', 4, UpdateFlag.any, undefined],
      ['exist', 4, UpdateFlag.exist, undefined],
      ['noExist', 4, UpdateFlag.noExist, 'EEXIST'],
      ['both flags', 4, 3, 'EINVAL'],
      ['BPF_F_LOCK', 4, 4, 'EINVAL'],
      ['an unknown flag', 4, 8, 'EINVAL'],
      ['a flag beyond 32 bits', 4, 2 ** 40, 'EINVAL'],
      ['an index out of range', 5, 0, 'E2BIG'],
      ['the highest index', 0xffffffff, 0, 'E2BIG'],
      ['bad flags before bad index', 5, 8, 'EINVAL'],
      ['bad index before noExist', 5, 1, 'E2BIG'],
    ])('update: %s', (_, index, flags, errno) => {
      const map = make(createPlatform());
      const value = Uint8Array.from({ length: 12 }, (_, i) => i + 1);
      expect(failure(() => map.update(key32(index), value, flags))).toBe(errno);
      expect(map.lookup(key32(4))).toEqual(errno === undefined ? value : new Uint8Array(12));
    });

    test('has all its entries from the start, in order, and none can go', () => {
      const platform = createPlatform();
      const map = make(platform);
      expect(map.memoryUsage).toBe(64 + 5 * 16);
      expect([...map.entries()].map(([key]) => key)).toEqual([0, 1, 2, 3, 4].map(key32));
      expect(map.nextKey(key32(99))).toEqual(key32(0));
      expect(map.nextKey(key32(4))).toBeUndefined();
      expect(map.lookup(key32(5))).toBeUndefined();
      expect(failure(() => map.delete(key32(1)))).toBe('EINVAL');
      expect(map.valuesAddress).toBe(map.address + 64n);
      map.dispose();
      map.dispose();
      expect(platform.arena.allocated).toBe(platform.idle);
      for (const use of [
        () => map.lookup(key32(0)),
        () => map.update(key32(0), new Uint8Array(12)),
        () => map.delete(key32(0)),
        () => map.nextKey(undefined),
        () => [...map.entries()],
      ]) {
        expect(use).toThrow(expect.objectContaining({ code: 'disposed' }));
      }
    });

    test('copies values of every size exactly', () => {
      for (let valueSize = 1; valueSize <= 41; valueSize++) {
        const platform = createPlatform();
        const map = make(platform, { valueSize, maxEntries: 3 });
        const value = Uint8Array.from({ length: valueSize }, (_, i) => 255 - i);
        map.update(key32(1), value);
        expect([...map.entries()].map(([, bytes]) => bytes)).toEqual([
          new Uint8Array(valueSize),
          value,
          new Uint8Array(valueSize),
        ]);
        const stride = Math.ceil(valueSize / 8) * 8;
        const offset = platform.arena.offset(map.valuesAddress, 3 * stride);
        expect(platform.arena.bytes.slice(offset + stride + valueSize, offset + 3 * stride)).toEqual(
          new Uint8Array(2 * stride - valueSize),
        );
      }
    });

    test('wrong key and value sizes are named', () => {
      const map = make(createPlatform());
      expect(() => map.lookup(new Uint8Array(3))).toThrow(/keys of 4 bytes, not 3/);
      expect(() => map.update(key32(0), new Uint8Array(11))).toThrow(/values of 12 bytes, not 11/);
      expect(() => map.update(key32(0), new Uint8Array(12), -1)).toThrow(/flags/);
      expect(() => map.update(key32(0), new Uint8Array(12), Number.NaN)).toThrow(/flags/);
    });

    test('global data: initial contents, frozen', () => {
      const image = Uint8Array.from({ length: 100 }, (_, i) => i);
      const map = make(createPlatform(), {
        name: '.rodata',
        dataSection: '.rodata',
        valueSize: 100,
        maxEntries: 1,
        flags: 0x80 | 0x400,
        contents: [{ key: 0, value: image }],
        frozen: true,
      });
      expect(map.lookup(key32(0))).toEqual(image);
      expect(failure(() => map.update(key32(0), image))).toBe('EPERM');
      expect(failure(() => map.delete(key32(0)))).toBe('EPERM');
    });

    test('initial contents that do not fit leave nothing behind', () => {
      const platform = createPlatform();
      for (const entry of [
        { key: 5, value: new Uint8Array(12) },
        { key: 0, value: new Uint8Array(13) },
      ]) {
        expect(() => make(platform, { contents: [entry] })).toThrow(expect.objectContaining({ name: 'MapError' }));
        expect(platform.arena.allocated).toBe(platform.idle);
      }
    });

    test('access flags bind user space', () => {
      const readOnly = make(createPlatform(), { flags: 1 << 3 });
      expect(failure(() => readOnly.update(key32(0), new Uint8Array(12)))).toBe('EPERM');
      expect(readOnly.lookup(key32(0))).toEqual(new Uint8Array(12));
      const writeOnly = make(createPlatform(), { flags: 1 << 4 });
      expect(failure(() => writeOnly.lookup(key32(0)))).toBe('EPERM');
      expect(failure(() => writeOnly.nextKey(undefined))).toBe('EPERM');
      expect(failure(() => writeOnly.update(key32(0), new Uint8Array(12)))).toBeUndefined();
    });
  });

  describe('per-CPU array', () => {
    test('programs see their own CPU, user space all of them', () => {
      const platform = createPlatform(1 << 20, 3);
      const map = make(platform, { type: 'percpu_array', valueSize: 5, maxEntries: 4 });
      const all = Uint8Array.from({ length: 24 }, (_, i) => (i % 8 < 5 ? i + 1 : 0));
      map.update(key32(2), all);
      expect(map.lookup(key32(2))).toEqual(all);
      expect(map.lookup(key32(1))).toEqual(new Uint8Array(24));
      // What inlined lookups rely on: the elements of each CPU begin on a cache line of their own.
      const { arena } = platform;
      const first = arena.offset(map.valuesAddress, 3 * 64);
      for (const cpu of [0, 1, 2]) {
        const place = first + 64 * cpu + 2 * 8;
        expect(arena.bytes.slice(place, place + 8)).toEqual(all.slice(cpu * 8, cpu * 8 + 8));
      }
      const key = stageBytes(platform, key32(2));
      const value = stageBytes(platform, Uint8Array.of(9, 9, 9, 9, 9, 0xee));
      for (const cpu of [0, 1, 2]) {
        platform.setCpu(cpu);
        const found = platform.arena.offset(platform.routines.call('percpu_array_lookup', map.address, key), 5);
        expect(platform.arena.bytes.slice(found, found + 5)).toEqual(all.slice(cpu * 8, cpu * 8 + 5));
      }
      expect(platform.routines.call('percpu_array_update', map.address, key, value, 0n)).toBe(0n);
      expect(map.lookup(key32(2))).toEqual(Uint8Array.of(...all.slice(0, 16), 9, 9, 9, 9, 9, 0, 0, 0));
      expect(platform.routines.call('percpu_array_lookup_percpu', map.address, key, 3n)).toBe(0n);
      expect(failure(() => map.update(key32(4), all))).toBe('E2BIG');
      expect(failure(() => map.update(key32(1), all, 1))).toBe('EEXIST');
      expect(() => map.update(key32(1), all.slice(0, 8))).toThrow(/24 bytes \(3 CPUs of 8\)/);
      expect(failure(() => map.delete(key32(2)))).toBe('EINVAL');
      map.dispose();
    });

    test('CPUs share no cache line', () => {
      const platform = createPlatform();
      const map = make(platform, { type: 'percpu_array', valueSize: 8, maxEntries: 3 });
      const key = stageBytes(platform, key32(2));
      const [first, second] = [0n, 1n].map(cpu =>
        platform.routines.call('percpu_array_lookup_percpu', map.address, key, cpu),
      );
      expect(second! - first!).toBe(64n);
      expect(map.address % 64n).toBe(0n);
    });
  });

  test('an array agrees with a list, whatever the sequence', () => {
    const platform = createPlatform();
    fc.assert(
      fc.property(
        fc.constantFrom('array' as const, 'percpu_array' as const),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 30 }),
        fc.array(fc.tuple(fc.nat(25), fc.nat(255), fc.nat(3)), { maxLength: 40 }),
        (type, maxEntries, valueSize, steps) => {
          const map = make(platform, { type, maxEntries, valueSize });
          const model = Array.from({ length: maxEntries }, () => 0);
          const bytes = type === 'array' ? valueSize : platform.cpus * Math.ceil(valueSize / 8) * 8;
          const full = (byte: number) =>
            Uint8Array.from({ length: bytes }, (_, i) =>
              type === 'array' || i % (Math.ceil(valueSize / 8) * 8) < valueSize ? byte : 0,
            );
          for (const [index, byte, flags] of steps) {
            const expected = flags > 2 ? 'EINVAL' : index >= maxEntries ? 'E2BIG' : flags === 1 ? 'EEXIST' : undefined;
            expect(failure(() => map.update(key32(index), full(byte), flags))).toBe(expected);
            if (expected === undefined) model[index] = byte;
          }
          expect([...map.entries()].map(([, value]) => value)).toEqual(model.map(full));
          map.dispose();
          expect(platform.arena.allocated).toBe(platform.idle);
        },
      ),
      { numRuns: 60 },
    );
  });
});
