/**
 * Arrays and hashes of maps: the same operations on ours and on the running kernel's. There each change waits until no program can
 * see what was there before, some 10 ms; one wait is enough for a batch, so changes mostly come in batches.
 */
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import type { MapOfMaps } from '../../src/maps/map-of-maps.ts';
import { kernelMissing } from '../kernel/support.ts';
import {
  compareKeys,
  createComparedPlatform,
  failure,
  generator,
  key32,
  OPERATIONS,
  OPERATIONS_TIMEOUT,
  Outcomes,
  same,
  spec,
} from './tools.ts';

const BATCH = 64;

/** A batch of the kernel's. @returns how many were done, and why no more */
function kernelBatch(map: KernelMap, keys: readonly number[], values?: readonly number[]): readonly unknown[] {
  try {
    const bytes = keys.map(key32);
    return [
      values === undefined ? map.deleteBatch(bytes) : map.updateBatch(bytes.map((key, i) => [key, key32(values[i]!)])),
      undefined,
    ];
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return [error.details.done, error.errno];
  }
}

describe.skipIf(kernelMissing() !== undefined)('maps of maps against the running kernel', () => {
  test.each(['array_of_maps', 'hash_of_maps'] as const)('%s', { timeout: OPERATIONS_TIMEOUT }, type => {
    const platform = createComparedPlatform(1 << 20, 2);
    const inner = spec({ type: 'array', valueSize: 8, maxEntries: 2 });
    const given = spec({ type, maxEntries: 40, inner });
    const theirs = new KernelMap(given);
    const ours = createMap(given, { ...platform, id: 1 }) as MapOfMaps;
    const pairs = Array.from({ length: 4 }, (_, i) => {
      // The last does not match.
      const one = i === 3 ? spec({ type: 'array', valueSize: 4, maxEntries: 2 }) : inner;
      return { mine: createMap(one, { ...platform, id: 10 + i }), kernel: new KernelMap(one) };
    });
    const [mineIds, kernelIds] = [pairs.map(pair => pair.mine.id), pairs.map(pair => pair.kernel.id)];
    const numberOf = (id: Uint8Array | undefined, ids: readonly number[]): number | string =>
      id === undefined ? 'ENOENT' : ids.indexOf(new DataView(id.buffer).getUint32(0, true));
    const next = generator(5);
    const outcomes = new Outcomes();
    const anyKey = (): number => next(next(30) === 0 ? given.maxEntries + 2 : given.maxEntries);
    let step = 0;

    /** Does to ours what a batch of the kernel would, up to the first failure. */
    const batch = (name: string, act: (key: number, pair: number) => void, withValues: boolean): void => {
      const keys: number[] = [];
      const values: number[] = [];
      let errno: string | undefined;
      const limit = 1 + next(BATCH);
      while (keys.length < limit && errno === undefined) {
        const pair = next(60) === 0 ? 3 : next(3);
        const key = anyKey();
        keys.push(key);
        values.push(pairs[pair]!.kernel.fd);
        errno = failure(() => act(key, pair));
      }
      step += keys.length;
      const done = keys.length - (errno === undefined ? 0 : 1);
      outcomes.note(name, errno);
      expect([step, name, keys, done, errno]).toEqual([
        step,
        name,
        keys,
        ...kernelBatch(theirs, keys, withValues ? values : undefined),
      ]);
    };
    const absent = (key: number): boolean => ours.lookup(key32(key)) === undefined;

    while (step < OPERATIONS) {
      const choice = next(100);
      const number = anyKey();
      const key = key32(number);
      if (choice === 0) batch('set', (to, pair) => ours.set(key32(to), pairs[pair]!.mine), true);
      else if (choice === 1 && type === 'hash_of_maps') batch('remove', to => ours.delete(key32(to)), false);
      else if (choice < 12) {
        const flags = [1, 2, 3][next(3)]!;
        const change = type === 'hash_of_maps' && absent(number) === (flags === 1);
        if (change && next(flags === 1 ? 8 : 50) > 0) continue;
        step++;
        const { mine, kernel } = pairs[next(8) === 0 ? 3 : next(3)]!;
        outcomes.change(
          `set with flags ${flags}`,
          () => theirs.update(key, key32(kernel.fd), flags),
          () => ours.set(key, mine, flags),
          step,
          key,
        );
      } else if (choice < 24) {
        if (!absent(number) && next(60) > 0) continue;
        step++;
        outcomes.change(
          'delete',
          () => theirs.delete(key),
          () => ours.delete(key),
          step,
          key,
        );
      } else if (choice < 80) {
        step++;
        const expected = numberOf(theirs.lookup(key), kernelIds);
        outcomes.note('lookup', typeof expected);
        same(numberOf(ours.lookup(key), mineIds), expected, step, key);
      } else if (type === 'array_of_maps') {
        step++;
        same(ours.nextKey(key) ?? 'ENOENT', theirs.nextKey(key) ?? 'ENOENT', step, key);
      } else if (choice < 82) {
        step++;
        compareKeys(ours, theirs);
      }
    }
    expect(outcomes.names).toEqual(
      type === 'array_of_maps'
        ? [
            ...['delete E2BIG', 'delete ENOENT', 'delete done', 'lookup number', 'lookup string'],
            ...['set E2BIG', 'set EINVAL', 'set done'],
            ...['set with flags 1 EINVAL', 'set with flags 2 EINVAL', 'set with flags 3 EINVAL'],
          ]
        : [
            ...['delete ENOENT', 'delete done', 'lookup number', 'lookup string', 'remove ENOENT', 'remove done'],
            ...['set E2BIG', 'set EINVAL', 'set done'],
            ...[
              'set with flags 1 E2BIG',
              'set with flags 1 EEXIST',
              'set with flags 1 EINVAL',
              'set with flags 1 done',
            ],
            ...['set with flags 2 EINVAL', 'set with flags 2 ENOENT', 'set with flags 2 done'],
            ...['set with flags 3 EINVAL'],
          ],
    );
    ours.dispose();
    theirs.dispose();
    for (const { mine, kernel } of pairs) {
      mine.dispose();
      kernel.dispose();
    }
  });
});
