/** Maps as JavaScript knows them: plain objects by BTF, ours and the kernel's; global variables. */
import { describe, expect, test } from 'vitest';
import { btfCodec, createRuntime, parseObject, type TypedMap, typedMap, withGlobals } from '../../src/index.ts';
import { loadIntoKernel } from '../../src/kernel/load.ts';
import { kernelMissing } from '../kernel/support.ts';
import { fixture } from '../object/support.ts';

const collection = parseObject(fixture('typed'));
const CPUS = 3;

interface Key {
  name: string | number[];
  id: number;
  color: string | number;
}
interface Point {
  x: number;
  y: number;
}
interface Endpoint {
  address: number;
  port: number;
}

function withObject<T>(use: (object: ReturnType<ReturnType<typeof createRuntime>['load']>) => T): T {
  const runtime = createRuntime({ backend: 'interpreter', cpus: CPUS });
  try {
    return use(runtime.load(collection));
  } finally {
    void runtime.dispose();
  }
}

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

const PEER = { v4: { address: 1, port: 2 } };
const ZERO = btfCodec<Record<string, unknown>>(collection.btf!, collection.maps.get('table')!.btfValueId!).decode(
  new Uint8Array(192),
);

describe('typed maps', () => {
  test('get, set, has, delete, iterate', () => {
    withObject(object => {
      const map = object.typedMap<Key, Record<string, unknown>>('table');
      const one = { name: 'one', id: 1, color: 'RED' };
      const two = { name: 'two', id: 2, color: 'BLUE' };
      expect(map.get(one)).toBeUndefined();
      expect(map.has(one)).toBe(false);
      const value = { ...ZERO, text: 'first', peer: PEER };
      expect(map.set(one, value).set(two, { ...value, huge: 2n ** 63n })).toBe(map);
      expect(map.has(one)).toBe(true);
      expect(map.get(one)).toMatchObject({ text: 'first', peer: { ...PEER, whole: (2n << 32n) | 1n } });
      expect(map.get(two)!.huge).toBe(2n ** 63n);
      expect([...map.keys()].map(({ name }) => name).sort()).toEqual(['one', 'two']);
      expect([...map.values()]).toHaveLength(2);
      expect(new Map(map).size).toBe(2);
      expect(map.raw.lookup(map.raw.nextKey(undefined)!)).toHaveLength(192);
      // What was read can be written.
      for (const [key, read] of map) map.set(key, { ...read, word: 7 }, 'exist');
      expect([...map.values()].map(({ word }) => word)).toEqual([7, 7]);
      expect(code(() => map.set(one, value, 'noExist'))).toBe('key_exists');
      expect(code(() => map.set({ ...one, id: 9 }, value, 'exist'))).toBe('no_such_key');
      expect(code(() => map.set({ ...one, id: 65536 }, value))).toBe('value_out_of_range');
      expect(code(() => map.get({ name: 'one', id: 1 } as never))).toBe('missing_field');
      expect(map.delete(one)).toBe(true);
      expect(map.delete(one)).toBe(false);
      expect([...map.keys()]).toEqual([two]);
    });
  });

  test('many at once', () => {
    withObject(object => {
      const map = object.typedMap<bigint, string | number>('levels');
      expect(map.setMany([1n, 2n, 3n, 4n].map(key => [key, 'ABOVE']))).toBe(4);
      expect(map.getMany([1n, 9n, 4n])).toEqual(['ABOVE', undefined, 'ABOVE']);
      expect([...map.pages(3)].map(page => page.length)).toEqual([3, 1]);
      expect(map.deleteMany([1n, 9n])).toBe(1);
      // Nothing is set where one does not fit the types; up to the first where one is refused by the map.
      expect(
        code(() =>
          map.setMany([
            [7n, 'LEVEL'],
            [8n, 'NONE'],
          ]),
        ),
      ).toBe('wrong_value_type');
      expect(map.has(7n)).toBe(false);
      let done: unknown;
      try {
        map.setMany(
          [
            [7n, 'LEVEL'],
            [2n, 'LEVEL'],
            [8n, 'LEVEL'],
          ],
          'noExist',
        );
      } catch (error) {
        done = (error as { details: { done: number } }).details.done;
      }
      expect(done).toBe(1);
      expect(map.takeMany(2)).toHaveLength(2);
      expect(map.takeMany()).toHaveLength(2);
      expect([...map]).toEqual([]);
    });
  });

  test('per-CPU values are arrays', () => {
    withObject(object => {
      const map = object.typedMap<number, Endpoint[]>('per_cpu');
      const values = Array.from({ length: CPUS }, (_, cpu) => ({ address: cpu, port: 10 + cpu }));
      map.set(5, values);
      expect(map.get(5)).toEqual(values);
      expect([...map]).toEqual([[5, values]]);
      expect(code(() => map.set(5, values.slice(1)))).toBe('bad_value_size');
      expect(code(() => map.set(5, values[0] as never))).toBe('wrong_value_type');
      expect(code(() => map.set(5, [...values.slice(1), { address: -1, port: 0 }]))).toBe('value_out_of_range');
    });
  });

  test('without BTF: bytes, or integers of 4 and 8 bytes', () => {
    withObject(object => {
      const map = object.typedMap<Uint8Array, bigint, Uint8Array, bigint | Uint8Array>('untyped');
      map.set(Uint8Array.of(1, 2, 3, 4, 5), 2n ** 64n - 1n);
      map.set(Uint8Array.of(9, 2, 3, 4, 5), Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      expect(map.get(Uint8Array.of(1, 2, 3, 4, 5))).toBe(2n ** 64n - 1n);
      expect(map.get(Uint8Array.of(9, 2, 3, 4, 5))).toBe(1n);
      for (const bad of [2n ** 64n, -1n, 1.5, '1', new Uint8Array(7)]) {
        expect(code(() => map.set(Uint8Array.of(1, 2, 3, 4, 5), bad as never))).toBe('wrong_value_type');
      }
      expect(code(() => map.get(new Uint8Array(4)))).toBe('wrong_value_type');
    });
  });

  test('maps of maps give typed maps', () => {
    withObject(object => {
      const outer = object.typedMap<number, TypedMap<number, Point> | undefined>('outer');
      const inner = outer.get(0)!;
      inner.set(1, { x: -5, y: 6 });
      expect(object.typedMap<number, Point>('inner').get(1)).toEqual({ x: -5, y: 6 });
      expect(outer.get(1)).toBeUndefined();
      outer.set(1, inner);
      expect(outer.get(1)!.get(1)).toEqual({ x: -5, y: 6 });
      expect(outer.delete(1)).toBe(true);
      expect([...outer.keys()]).toEqual([0]);
      expect(code(() => outer.set(1, object.typedMap('levels') as never))).toBe('inner_mismatch');
      expect(code(() => outer.set(1, 5 as never))).toBe('needs_map');
    });
  });

  test('an inner map lives on in the outer one', async () => {
    const runtime = createRuntime({ backend: 'interpreter' });
    const [a, b] = [runtime.load(collection), runtime.load(collection)];
    const outer = a.typedMap<number, TypedMap<number, Point> | undefined>('outer');
    outer.set(1, b.typedMap<number, Point>('inner').set(2, { x: 1, y: 2 }));
    b.dispose();
    await runtime.settled();
    expect(outer.get(1)!.get(2)).toEqual({ x: 1, y: 2 });
    a.dispose();
    await runtime.settled();
    await runtime.dispose();
  });

  test.skipIf(kernelMissing() !== undefined)('over maps in the kernel', () => {
    const object = loadIntoKernel(collection, { programs: [] });
    try {
      const levels = typedMap<bigint, string>(object.map('levels'), collection);
      expect(levels.set(3n, 'ABOVE').get(3n)).toBe('ABOVE');
      expect(levels.delete(3n)).toBe(true);
      expect(levels.delete(3n)).toBe(false);
      const perCpu = typedMap<number, Endpoint[]>(object.map('per_cpu'), collection);
      const values = Array.from({ length: object.map('per_cpu').valueBytes / 8 }, (_, port) => ({ address: 7, port }));
      expect(perCpu.set(1, values).get(1)).toEqual(values);
    } finally {
      object.dispose();
    }
  });
});

describe('global variables', () => {
  test('set before the object is loaded, read and set after', () => {
    const runtime = createRuntime({ backend: 'interpreter' });
    const changed = withGlobals(collection, {
      limit: 99,
      banner: 'xyz',
      upstream: { address: 5, port: 80 },
      total: 1n,
    });
    const object = runtime.load(changed);
    expect(object.global('limit').get()).toBe(99);
    expect(object.global('banner').get()).toBe('xyz');
    // The verifier knows the constant, the program adds it.
    expect(object.program('count').run(new Uint8Array(64)).verdict).toBe('XDP_DROP');
    expect(object.global('total').get()).toBe(100n);
    object.global('total').set(0n);
    expect(object.global('runs').get()).toBe(1);
    expect(object.global('upstream').get()).toEqual({ address: 5, port: 80 });
    object.program('count').run(new Uint8Array(64));
    expect([object.global('total').get(), object.global('runs').get()]).toEqual([99n, 2]);
    expect(code(() => object.global('limit').set(1))).toBe('not_permitted');
    expect(code(() => object.global('hidden'))).toBe('unknown_field');
    expect(code(() => object.global('runs').set('x'))).toBe('wrong_value_type');
    // The collection itself is as it was.
    expect(runtime.load(collection).global('limit').get()).toBe(10);
    void runtime.dispose();
  });

  test('what does not fit is refused by name', () => {
    expect(() => withGlobals(collection, { limit: -1 })).toThrow(/global variable limit: .*integer from 0/);
    expect(() => withGlobals(collection, { nothing: 1 })).toThrow(/upstream, runs|limit/);
    expect(code(() => withGlobals(collection, { upstream: { port: 1 } }))).toBe('missing_field');
  });
});
