/** Queue, stack and bloom filter: the same operations on ours and on the running kernel's. */
import { describe, expect, test } from 'vitest';
import { KernelMap } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import type { BloomFilter, QueueMap } from '../../src/maps/pushed-map.ts';
import { kernelMissing } from '../kernel/support.ts';
import {
  createComparedPlatform,
  failure,
  generator,
  OPERATIONS,
  OPERATIONS_TIMEOUT,
  Outcomes,
  same,
  spec,
} from './tools.ts';

const EMPTY = new Uint8Array(0);
const FLAGS = [0, 0, 0, 0, 0, 2, 2, 1, 3, 4, 2 ** 35];

const outcome = (action: () => unknown): unknown => {
  let result: unknown;
  return (
    failure(() => {
      result = action();
    }) ?? result
  );
};

describe.skipIf(kernelMissing() !== undefined)('maps without keys against the running kernel', () => {
  test.each([
    ['queue', 4, 1],
    ['queue', 13, 7],
    ['queue', 64, 100],
    ['stack', 1, 1],
    ['stack', 8, 7],
    ['stack', 21, 100],
  ] as const)(
    '%s of values of %i bytes, %i of them',
    (type, valueSize, maxEntries) => {
      const platform = createComparedPlatform(1 << 20, 2);
      const given = spec({ type, keySize: 0, valueSize, maxEntries });
      const ours = createMap(given, { ...platform, id: 1 }) as QueueMap;
      const theirs = new KernelMap(given);
      const next = generator(valueSize * 1000 + maxEntries);
      const outcomes = new Outcomes();
      // Long ways up and down, so that it is full at times and empty at others.
      let upwards = true;
      for (let step = 0; step < OPERATIONS / 3; step++) {
        if (next(maxEntries * 2) === 0) upwards = !upwards;
        const choice = next(10);
        if (choice < (upwards ? 7 : 3)) {
          const value = Uint8Array.from({ length: valueSize }, () => next(256));
          const flags = FLAGS[next(FLAGS.length)]!;
          outcomes.change(
            'push',
            () => theirs.update(EMPTY, value, flags),
            () => ours.push(value, flags),
            step,
            flags,
          );
        } else if (choice < 8) {
          outcomes.read(
            'pop',
            () => theirs.pop(),
            () => ours.pop(),
            step,
          );
        } else if (choice < 9) {
          outcomes.read(
            'peek',
            () => theirs.peek(),
            () => ours.peek(),
            step,
          );
        } else {
          outcomes.change(
            'delete',
            () => theirs.delete(EMPTY),
            () => ours.delete(EMPTY),
            step,
          );
          outcomes.change(
            'next',
            () => theirs.nextKey(undefined),
            () => ours.nextKey(undefined),
            step,
          );
        }
      }
      expect(outcomes.names).toEqual([
        ...['delete EINVAL', 'next EINVAL', 'peek ENOENT', 'peek value', 'pop ENOENT', 'pop value'],
        ...['push E2BIG', 'push EINVAL', 'push done'],
      ]);
      theirs.dispose();
      ours.dispose();
    },
    OPERATIONS_TIMEOUT,
  );

  test.each([
    [4, 0n],
    [9, 3n],
    [64, 15n],
  ])(
    'bloom filter of values of %i bytes, map_extra %i',
    (valueSize, mapExtra) => {
      const platform = createComparedPlatform(1 << 20, 2);
      const given = spec({ type: 'bloom_filter', keySize: 0, valueSize, maxEntries: 1000, mapExtra });
      const ours = createMap(given, { ...platform, id: 1 }) as BloomFilter;
      const theirs = new KernelMap(given);
      const next = generator(valueSize);
      const pushed = new Set<number>();
      let [falsely, falselyTheirs, absent] = [0, 0, 0];
      const bytesOf = (number: number): Uint8Array =>
        Uint8Array.from({ length: valueSize }, (_, i) => (i < 4 ? number >>> (8 * i) : number % 251));
      for (let step = 0; step < OPERATIONS / 3; step++) {
        // Half of the numbers are never pushed.
        const number = next(2000);
        const value = bytesOf(number);
        if (next(4) === 0) {
          const flags = FLAGS[next(FLAGS.length)]!;
          const expected = failure(() => theirs.update(EMPTY, bytesOf(number >> 1), flags));
          same(
            failure(() => ours.push(bytesOf(number >> 1), flags)),
            expected,
            step,
            flags,
          );
          if (expected === undefined) pushed.add(number >> 1);
        } else {
          const [mine, kernel] = [ours.peek(value), theirs.peek(value) !== undefined];
          if (pushed.has(number)) same(mine, kernel, step, 'pushed');
          else {
            absent++;
            if (mine) falsely++;
            if (kernel) falselyTheirs++;
          }
        }
      }
      // With 5 hashes and 7 bits for each, filled to the end: about 3 % at most, as the kernel's.
      expect(absent).toBeGreaterThan(1000);
      expect(falsely / absent).toBeLessThan(0.1 + falselyTheirs / absent);
      theirs.dispose();
      ours.dispose();
    },
    OPERATIONS_TIMEOUT,
  );

  test.each(['queue', 'stack', 'bloom_filter'] as const)('%s: what user space may do', type => {
    const platform = createComparedPlatform(1 << 20, 2);
    for (const flags of [0, 8, 16]) {
      const given = spec({ type, keySize: 0, maxEntries: 3, flags });
      const theirs = new KernelMap(given);
      const ours = createMap(given, { ...platform, id: 1 }) as QueueMap & BloomFilter;
      const value = Uint8Array.of(1, 2, 3, 4);
      const both = (mine: () => unknown, kernel: () => unknown, what: string): void =>
        expect([what, flags, outcome(mine)]).toEqual([what, flags, outcome(kernel)]);
      for (let round = 0; round < 3; round++) {
        both(
          () => ours.update(EMPTY, value),
          () => theirs.update(EMPTY, value),
          'push',
        );
        both(
          () => ours.delete(EMPTY),
          () => theirs.delete(EMPTY),
          'delete',
        );
        both(
          () => ours.nextKey(EMPTY),
          () => theirs.nextKey(EMPTY),
          'next',
        );
        if (type === 'bloom_filter')
          both(
            () => ours.peek(value),
            () => theirs.peek(value) !== undefined,
            'peek',
          );
        else {
          both(
            () => ours.peek(undefined as never),
            () => theirs.peek(),
            'peek',
          );
          both(
            () => ours.pop(),
            () => theirs.pop(),
            'pop',
          );
        }
        both(
          () => ours.freeze(),
          () => theirs.freeze(),
          'freeze',
        );
      }
      theirs.dispose();
      ours.dispose();
    }
  });
});
