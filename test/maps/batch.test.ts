/** Batches beside the kernel's batch commands: results, errors, how many were done before one. */
import { describe, expect, test } from 'vitest';
import { Attr, fixed, fixedCopy } from '../../src/kernel/bpf.ts';
import { KernelMap, possibleCpus } from '../../src/kernel/map.ts';
import { deleteBatch, lookupAndDeleteBatch, lookupBatch, updateBatch } from '../../src/maps/batch.ts';
import { createMap } from '../../src/maps/create.ts';
import { MapError } from '../../src/maps/errors.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { kernelMissing } from '../kernel/support.ts';
import { createPlatform } from './platform.ts';
import { key32, spec } from './tools.ts';

const COMMAND = { lookup: 24, lookupAndDelete: 25, update: 26, delete: 27 } as const;
type Outcome = { done: number; errno: string | undefined };

/** bpf(2) with the batch part of union bpf_attr. */
function kernelBatch(
  map: KernelMap,
  command: keyof typeof COMMAND,
  options: {
    keys: Uint8Array;
    values?: Uint8Array;
    count: number;
    flags?: number;
    after?: Uint8Array;
    next?: Uint8Array;
  },
): Outcome {
  const attr = new Attr()
    .pointer(0, options.after)
    .pointer(8, options.next)
    .pointer(16, options.keys)
    .pointer(24, options.values)
    .u32(32, options.count)
    .u32(36, map.fd)
    .u64(40, BigInt(options.flags ?? 0));
  const { errno, value } = attr.call(COMMAND[command] as never);
  // What the kernel refuses from the start leaves the count as it was.
  const refused = value < 0 && (errno === 'EINVAL' || errno === 'ENOTSUPP');
  return { done: refused ? 0 : attr.read(32), errno: value < 0 ? errno : undefined };
}

function ours(run: () => number): Outcome {
  try {
    return { done: run(), errno: undefined };
  } catch (error) {
    if (!(error instanceof MapError)) throw error;
    return { done: (error.details.done as number | undefined) ?? 0, errno: error.errno };
  }
}

const join = (parts: readonly Uint8Array[]): Uint8Array => fixedCopy(Uint8Array.from(parts.flatMap(part => [...part])));

describe.skipIf(kernelMissing() !== undefined)('batches against the running kernel', () => {
  const cpus = kernelMissing() === undefined ? possibleCpus() : 1;
  const both = (
    parts: Partial<MapSpec> & Pick<MapSpec, 'type'>,
    use: (ours: ReturnType<typeof createMap>, theirs: KernelMap) => void,
  ): void => {
    const platform = createPlatform(1 << 20, cpus);
    const given = spec({ keySize: 4, valueSize: 8, ...parts });
    const theirs = new KernelMap(given);
    try {
      use(createMap(given, { ...platform, id: 1 }), theirs);
    } finally {
      theirs.dispose();
    }
  };

  test.each(['array', 'hash', 'lru_hash', 'percpu_hash', 'percpu_array'] as const)('%s', type => {
    // LRU maps of the kernel evict before they are full.
    both({ type, maxEntries: type === 'lru_hash' ? 1000 : 8 }, (map, theirs) => {
      const isArray = type.endsWith('array');
      const width = type.startsWith('percpu') ? 8 * cpus : 8;
      const value = (n: number): Uint8Array => new Uint8Array(width).fill(n);
      const update = (numbers: readonly number[], flags = 0): void => {
        const keys = numbers.map(key32);
        const expected = kernelBatch(theirs, 'update', {
          keys: join(keys),
          values: join(numbers.map(value)),
          count: numbers.length,
          flags,
        });
        expect(
          ours(() =>
            updateBatch(
              map,
              numbers.map(n => [key32(n), value(n)]),
              flags,
            ),
          ),
        ).toEqual(expected);
      };
      const remove = (numbers: readonly number[], flags = 0): void => {
        const expected = kernelBatch(theirs, 'delete', {
          keys: join(numbers.map(key32)),
          count: numbers.length,
          flags,
        });
        expect(ours(() => deleteBatch(map, numbers.map(key32), flags))).toEqual(expected);
      };
      const contents = (): void => {
        const keys = fixed(4 * 1000);
        const values = fixed(width * 1000);
        const expected = kernelBatch(theirs, 'lookup', { keys, values, count: 1000, next: fixed(4) });
        // ENOENT: there are no more.
        expect(expected.errno).toBe('ENOENT');
        const found = lookupBatch(map, 1000);
        expect(found.cursor).toBeUndefined();
        const sorted = (entries: readonly (readonly [Uint8Array, Uint8Array])[]): string[] =>
          entries.map(([key, held]) => `${key.join()} ${held.join()}`).sort();
        const held = Array.from({ length: expected.done }, (_, i) => {
          const entry = [keys.slice(4 * i, 4 * i + 4), values.slice(width * i, width * (i + 1))] as const;
          return entry;
        });
        expect(sorted(found.entries)).toEqual(sorted(held));
      };
      update([1, 2, 3]);
      contents();
      update([4, 5, 0, 2]);
      contents();
      // Too many, or out of range: those before are done.
      if (type !== 'lru_hash') update([6, 7, 8, 9, 10]);
      contents();
      for (const flags of [1, 2, 8]) {
        update([1], flags);
        remove([1], flags);
      }
      remove([1, 2, 77, 3]);
      contents();
      remove([]);
      update([]);
      if (!isArray) {
        const keys = fixed(4000);
        const taken = kernelBatch(theirs, 'lookupAndDelete', {
          keys,
          values: fixed(width * 1000),
          count: 1000,
          next: fixed(4),
        });
        expect(lookupAndDeleteBatch(map, 1000)).toHaveLength(taken.done);
        contents();
      } else {
        const expected = kernelBatch(theirs, 'lookupAndDelete', {
          keys: fixed(4),
          values: fixed(width),
          count: 1,
          next: fixed(4),
        });
        expect(ours(() => lookupAndDeleteBatch(map, 1).length).errno).toBe(expected.errno);
      }
    });
  });

  test.each(['devmap', 'queue', 'prog_array', 'lpm_trie'] as const)('%s: what there is', type => {
    const parts: Partial<MapSpec> = {
      devmap: { valueSize: 4 },
      queue: { keySize: 0 },
      prog_array: { valueSize: 4 },
      lpm_trie: { keySize: 8, flags: 1 },
    }[type];
    both({ ...parts, type, maxEntries: 4 }, (map, theirs) => {
      const supported = (command: keyof typeof COMMAND): boolean =>
        kernelBatch(theirs, command, { keys: fixed(64), values: fixed(64), count: 0, next: fixed(8) }).errno !==
        'ENOTSUPP';
      expect({
        lookup: ours(() => lookupBatch(map, 0).entries.length).errno !== 'ENOTSUPP',
        update: ours(() => updateBatch(map, [])).errno !== 'ENOTSUPP',
        delete: ours(() => deleteBatch(map, [])).errno !== 'ENOTSUPP',
        lookupAndDelete: ours(() => lookupAndDeleteBatch(map, 0).length).errno !== 'ENOTSUPP',
      }).toEqual({
        lookup: supported('lookup'),
        update: supported('update'),
        delete: supported('delete'),
        lookupAndDelete: supported('lookupAndDelete'),
      });
    });
  });
});

test('pages go on where the one before ended', () => {
  const map = createMap(spec({ type: 'hash', maxEntries: 50, valueSize: 4 }), { ...createPlatform(), id: 1 });
  for (let i = 0; i < 50; i++) map.update(key32(i), key32(i));
  const seen = new Set<number>();
  let cursor: Uint8Array | undefined;
  for (let pages = 1; ; pages++) {
    const page = lookupBatch(map, 7, cursor);
    for (const [key] of page.entries) seen.add(key[0]!);
    cursor = page.cursor;
    if (cursor) continue;
    expect(pages).toBe(8);
    break;
  }
  expect(seen.size).toBe(50);
  for (const count of [-1, 1.5, Number.NaN]) expect(() => lookupBatch(map, count)).toThrow(MapError);
});
