/** Maps in the kernel: operations, what the kernel refuses, and what is refused before the kernel sees it. */
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelMap, possibleCpus } from '../../src/kernel/map.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { kernelMissing, mapSpec } from './support.ts';

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

function withMap<T>(spec: Partial<MapSpec>, use: (map: KernelMap) => T): T {
  const map = new KernelMap(mapSpec(spec));
  try {
    return use(map);
  } finally {
    map.dispose();
  }
}

function failure(run: () => unknown): KernelError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(KernelError);
    return error as KernelError;
  }
  throw new Error('nothing was thrown');
}

describe.skipIf(kernelMissing() !== undefined)('maps in the kernel', () => {
  test('hash: update, lookup, iterate, delete', () => {
    withMap({ type: 'hash', valueSize: 8, maxEntries: 10 }, map => {
      expect(map.lookup(u32(1))).toBeUndefined();
      for (let key = 1; key <= 5; key++) map.update(u32(key), Uint8Array.of(key, 0, 0, 0, 0, 0, 0, 9));
      expect(map.lookup(u32(3))).toEqual(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 9));
      expect([...map.entries()].map(([key]) => key[0]).sort()).toEqual([1, 2, 3, 4, 5]);
      map.delete(u32(3));
      expect(map.lookup(u32(3))).toBeUndefined();
      expect([...map.entries()]).toHaveLength(4);
      expect(map.id).toBeGreaterThan(0);
    });
  });

  test('update flags and missing keys are errors with the errno', () => {
    withMap({ type: 'hash' }, map => {
      expect(failure(() => map.delete(u32(7)))).toMatchObject({ code: 'map_access_failed', errno: 'ENOENT' });
      expect(failure(() => map.update(u32(7), u32(1), 2))).toMatchObject({ errno: 'ENOENT' });
      map.update(u32(7), u32(1), 1);
      expect(failure(() => map.update(u32(7), u32(1), 1))).toMatchObject({ errno: 'EEXIST' });
      expect(failure(() => map.update(u32(8), u32(1)))).toMatchObject({ errno: 'E2BIG' });
      expect(failure(() => map.update(u32(7), u32(1), 77)).message).toMatch(
        /update in map m \(hash\) failed \(EINVAL\)/,
      );
    });
  });

  test('iteration: every key once, in nextKey’s order; from a key that is gone it begins anew', () => {
    withMap({ type: 'hash', maxEntries: 100 }, map => {
      for (let key = 0; key < 100; key++) map.update(u32(key), u32(key * key));
      const keys: number[] = [];
      for (let key = map.nextKey(undefined); key; key = map.nextKey(key))
        keys.push(new DataView(key.buffer).getUint32(0, true));
      expect([...keys].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
      const entries = [...map.entries()].map(([key, value]) => [...key, ...value]);
      expect(entries).toEqual(keys.map(key => [...u32(key), ...u32(key * key)]));
      expect(map.nextKey(u32(1000))).toEqual(u32(keys[0]!));
    });
    withMap({ maxEntries: 3 }, map => {
      expect([...map.entries()].map(([key]) => key[0])).toEqual([0, 1, 2]);
      expect(map.nextKey(u32(2))).toBeUndefined();
    });
    withMap({ type: 'hash' }, map => expect([...map.entries()]).toEqual([]));
  });

  test('freeze: reads go on, every change from user space is refused, and thawing there is none', () => {
    withMap({ type: 'hash', maxEntries: 4 }, map => {
      map.update(u32(1), u32(2));
      map.freeze();
      expect(map.lookup(u32(1))).toEqual(u32(2));
      expect([...map.entries()]).toHaveLength(1);
      for (const change of [
        () => map.update(u32(1), u32(3)),
        () => map.delete(u32(1)),
        () => map.updateBatch([[u32(1), u32(3)]]),
        () => map.deleteBatch([u32(1)]),
      ])
        expect(failure(change)).toMatchObject({ code: 'map_access_failed', errno: 'EPERM' });
      expect(failure(() => map.freeze())).toMatchObject({ code: 'map_access_failed', errno: 'EPERM' });
      expect(map.lookup(u32(1))).toEqual(u32(2));
    });
  });

  test.each<[MapSpec['type']]>([['hash'], ['array'], ['lru_hash'], ['percpu_hash'], ['lpm_trie']])(
    'batches: %s',
    type => {
      const size = type === 'array' ? 10 : 1000;
      const flags = type === 'lpm_trie' ? 1 : 0;
      withMap({ type, keySize: type === 'lpm_trie' ? 8 : 4, maxEntries: size, flags }, map => {
        const key = (n: number): Uint8Array => (type === 'lpm_trie' ? Uint8Array.of(32, 0, 0, 0, 10, 0, 0, n) : u32(n));
        const value = (n: number): Uint8Array => new Uint8Array(map.valueBytes).fill(n);
        const numbers = Array.from({ length: 10 }, (_, i) => i);
        expect(map.updateBatch(numbers.map(n => [key(n), value(n + 1)]))).toBe(10);
        const found: [number, number][] = [];
        let cursor: Uint8Array | undefined;
        let calls = 0;
        do {
          const batch = map.lookupBatch(6, cursor);
          for (const [k, v] of batch.entries) found.push([k.at(type === 'lpm_trie' ? 7 : 0)!, v[0]!]);
          ({ cursor } = batch);
        } while (cursor && ++calls < 20);
        expect(found.sort(([a], [b]) => a - b)).toEqual(numbers.map(n => [n, n + 1]));
        if (type === 'array') {
          expect(failure(() => map.deleteBatch([key(0)]))).toMatchObject({
            code: 'map_access_failed',
            errno: 'ENOTSUPP',
          });
          return;
        }
        expect(map.deleteBatch([key(0), key(1)])).toBe(2);
        expect(map.lookup(key(0))).toBeUndefined();
        const missing = failure(() => map.deleteBatch([key(2), key(0), key(3)]));
        expect(missing).toMatchObject({ code: 'map_access_failed', errno: 'ENOENT', details: { done: 1 } });
        expect(map.lookup(key(3))).toEqual(value(4));
        if (type === 'lpm_trie') return;
        const rest = map.lookupAndDeleteBatch(1000);
        expect(rest).toMatchObject({ cursor: undefined });
        expect(rest.entries.map(([k]) => k[0]).sort()).toEqual([3, 4, 5, 6, 7, 8, 9]);
        expect([...map.entries()]).toEqual([]);
      });
    },
  );

  test('batches that cannot be', () => {
    withMap({ type: 'hash', maxEntries: 4 }, map => {
      for (const use of [
        () => map.lookupBatch(0),
        () => map.lookupBatch(1.5),
        () => map.lookupBatch(2 ** 31),
        () => map.lookupBatch(1, new Uint8Array(3)),
        () => map.updateBatch([[u32(0), new Uint8Array(3)]]),
        () => map.deleteBatch([new Uint8Array(5)]),
      ])
        expect(failure(use).code).toBe('bad_argument');
      expect(map.updateBatch([])).toBe(0);
      const five = [0, 1, 2, 3, 4].map(n => [u32(n), u32(n)] as const);
      expect(failure(() => map.updateBatch(five))).toMatchObject({ errno: 'E2BIG', details: { done: 4 } });
      expect(failure(() => map.lookupBatch(4, undefined, 77))).toMatchObject({ errno: 'EINVAL' });
    });
    withMap({ type: 'queue', keySize: 0 }, map =>
      expect(failure(() => map.lookupBatch(1))).toMatchObject({ errno: 'ENOTSUPP' }),
    );
  });

  test('per-CPU values are of all possible CPUs', () => {
    withMap({ type: 'percpu_array', valueSize: 4 }, map => {
      expect(map.valueBytes).toBe(8 * possibleCpus());
      const value = Uint8Array.from({ length: map.valueBytes }, (_, i) => (i % 8 < 4 ? i : 0));
      map.update(u32(0), value);
      expect(map.lookup(u32(0))).toEqual(value);
    });
  });

  test('initial contents; a frozen map is read-only to user space', () => {
    const value = Uint8Array.of(1, 2, 3, 4);
    withMap({ frozen: true, flags: 1 << 7, contents: [{ key: 0, value }] }, map => {
      expect(map.lookup(u32(0))).toEqual(value);
      expect(failure(() => map.update(u32(0), value))).toMatchObject({ code: 'map_access_failed', errno: 'EPERM' });
    });
  });

  test('maps of maps take descriptors and give ids', () => {
    withMap({ name: 'inner', valueSize: 8 }, inner =>
      withMap({ type: 'array_of_maps', inner: inner.spec, maxEntries: 2 }, outer => {
        outer.update(u32(1), u32(inner.fd));
        expect(outer.lookup(u32(1))).toEqual(u32(inner.id));
        expect(outer.lookup(u32(0))).toBeUndefined();
      }),
    );
  });

  test.each<[string, Partial<MapSpec>, RegExp]>([
    ['no entries', { maxEntries: 0 }, /map m \(array, key 4 and value 4 bytes, 0 entries, flags 0x0\) \(EINVAL\)/],
    ['a key of the wrong size', { keySize: 8 }, /EINVAL/],
    ['unknown flags', { flags: 0x8000_0000 }, /flags 0x80000000\) \(EINVAL\)/],
    ['a value that is too large', { type: 'hash', valueSize: 0x7fff_ffff }, /E2BIG/],
    ['an inner map that cannot be one', { type: 'array_of_maps', inner: mapSpec({ type: 'prog_array' }) }, /ENOTSUPP/],
  ])('the kernel refuses %s', (_, spec, message) => {
    const error = failure(() => new KernelMap(mapSpec(spec)));
    expect(error.code).toBe('map_refused');
    expect(error.message).toMatch(message);
  });

  test.each<[string, Partial<MapSpec>]>([
    ['a negative size', { keySize: -1 }],
    ['half an entry', { maxEntries: 0.5 }],
    ['a type that does not exist', { type: 'turtles' as MapSpec['type'] }],
    ['initial contents with an impossible key', { contents: [{ key: -1, value: u32(0) }] }],
    ['initial contents of the wrong size', { contents: [{ key: 0, value: new Uint8Array(3) }] }],
  ])('%s does not reach the kernel', (_, spec) => {
    expect(failure(() => new KernelMap(mapSpec(spec))).code).toBe('bad_argument');
  });

  test('keys and values of the wrong size do not reach the kernel', () => {
    withMap({}, map => {
      for (const length of [0, 3, 5]) {
        expect(failure(() => map.lookup(new Uint8Array(length))).code).toBe('bad_argument');
        expect(failure(() => map.delete(new Uint8Array(length))).code).toBe('bad_argument');
        expect(failure(() => map.nextKey(new Uint8Array(length))).code).toBe('bad_argument');
        expect(failure(() => map.update(u32(0), new Uint8Array(length))).code).toBe('bad_argument');
      }
    });
  });

  test('after dispose everything is refused, and a second dispose does nothing', () => {
    const map = new KernelMap(mapSpec());
    map.dispose();
    map.dispose();
    for (const use of [
      () => map.lookup(u32(0)),
      () => map.update(u32(0), u32(0)),
      () => map.delete(u32(0)),
      () => [...map.entries()],
      () => map.freeze(),
      () => map.lookupBatch(1),
      () => map.updateBatch([]),
      () => map.fd,
      () => map.id,
    ]) {
      expect(failure(use).code).toBe('disposed');
    }
  });
});
