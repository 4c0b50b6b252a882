/** Arrays whose entries stand for something in the kernel: the same operations on ours and on the running kernel's. */
import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import { loadKernelProgram } from '../../src/kernel/load.ts';
import { KernelMap, possibleCpus } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import type { BpfMap } from '../../src/maps/map.ts';
import type { ProgArray } from '../../src/maps/prog-array.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import { kernelMissing } from '../kernel/support.ts';
import { openPerfEvents, openXdpSockets } from './descriptors.ts';
import {
  compareKeys,
  createComparedPlatform,
  failure,
  generator,
  key32,
  OPERATIONS,
  OPERATIONS_TIMEOUT,
  Outcomes,
  spec,
} from './tools.ts';

const missing = kernelMissing();

describe.skipIf(missing !== undefined)('arrays of targets against the running kernel', () => {
  const cpus = missing === undefined ? possibleCpus() : 1;

  /** @param value of an update, for ours and for the kernel's map, which may name it otherwise */
  function compare(
    given: ReturnType<typeof spec>,
    operations: number,
    value: (next: (below: number) => number) => readonly [ours: Uint8Array, theirs: Uint8Array],
  ): readonly string[] {
    const platform = createComparedPlatform(1 << 20, cpus);
    const theirs = new KernelMap(given);
    const ours = createMap(given, { ...platform, id: 1 });
    const next = generator(7);
    const outcomes = new Outcomes();
    const hash = given.type === 'devmap_hash';
    for (let step = 0; step < operations; step++) {
      const key = key32(next(given.maxEntries + 2));
      switch (next(4)) {
        case 0: {
          const [mine, kernel] = value(next);
          const flags = [0, 0, 0, 0, 1, 2, 3, 4][next(8)]!;
          outcomes.change(
            'update',
            () => theirs.update(key, kernel, flags),
            () => ours.update(key, mine, flags),
            step,
            key,
            mine,
            flags,
          );
          break;
        }
        case 1: {
          outcomes.change(
            'delete',
            () => theirs.delete(key),
            () => ours.delete(key),
            step,
            key,
          );
          break;
        }
        case 2: {
          outcomes.read(
            'lookup',
            () => theirs.lookup(key),
            () => ours.lookup(key),
            step,
            key,
          );
          break;
        }
        default:
          if (hash) compareKeys(ours, theirs);
          else
            outcomes.read(
              'next',
              () => theirs.nextKey(key),
              () => ours.nextKey(key),
              step,
              key,
            );
      }
    }
    compareFrozen(ours, theirs);
    theirs.dispose();
    ours.dispose();
    return outcomes.names;
  }

  function compareFrozen(ours: BpfMap, theirs: KernelMap): void {
    const [key, value] = [key32(0), new Uint8Array(ours.spec.valueSize)];
    for (const action of [
      (map: BpfMap | KernelMap) => map.freeze(),
      (map: BpfMap | KernelMap) => map.freeze(),
      (map: BpfMap | KernelMap) => map.update(key, value),
      (map: BpfMap | KernelMap) => map.delete(key),
    ])
      expect(failure(() => action(ours))).toBe(failure(() => action(theirs)));
  }

  test.each([
    ['devmap', 4],
    ['devmap', 8],
    ['devmap_hash', 4],
    ['devmap_hash', 8],
  ] as const)('%s with values of %i bytes', { timeout: OPERATIONS_TIMEOUT }, (type, valueSize) => {
    const names = compare(spec({ type, valueSize, maxEntries: 3 }), OPERATIONS / 2, next => {
      // Interface 1 is the loopback device of every network namespace.
      const value = new Uint8Array(valueSize);
      value[0] = next(3) === 0 ? 0 : 1;
      return [value, value];
    });
    expect(names).toEqual([
      ...(type === 'devmap' ? ['delete EINVAL', 'delete done'] : ['delete ENOENT', 'delete done']),
      ...['lookup ENOENT', 'lookup value', ...(type === 'devmap' ? ['next ENOENT', 'next value'] : [])],
      ...['update E2BIG', 'update EEXIST', 'update EINVAL', 'update done'],
    ]);
  });

  test('cpumap', { timeout: OPERATIONS_TIMEOUT }, () => {
    for (const valueSize of [4, 8]) {
      const names = compare(spec({ type: 'cpumap', valueSize, maxEntries: cpus }), OPERATIONS / 2, next => {
        const value = new Uint8Array(valueSize);
        // Each entry the kernel makes is a thread, which takes milliseconds.
        if (next(50) === 0) value[0] = 1 + next(255);
        else if (next(2) === 0) value[2] = 1 + next(3);
        return [value, value];
      });
      expect(names).toEqual([
        ...['delete EINVAL', 'delete done', 'lookup ENOENT', 'lookup value'],
        ...[
          'next ENOENT',
          'next value',
          'update E2BIG',
          'update EEXIST',
          'update EINVAL',
          'update EOVERFLOW',
          'update done',
        ],
      ]);
    }
  });

  test('xskmap', { timeout: OPERATIONS_TIMEOUT }, () => {
    const sockets = openXdpSockets(3);
    try {
      const names = compare(spec({ type: 'xskmap', maxEntries: 3 }), OPERATIONS, next => {
        const socket = sockets.fds[next(4)];
        return [key32(socket ?? 0), key32(socket ?? 0xffff_ffff)];
      });
      expect(names).toEqual([
        ...['delete EINVAL', 'delete done', 'lookup EOPNOTSUPP', 'next ENOENT', 'next value'],
        ...['update E2BIG', 'update EBADF', 'update EEXIST'],
        ...['update EINVAL', 'update ENOENT', 'update done'],
      ]);
    } finally {
      sockets.dispose();
    }
  });

  test('perf event array', { timeout: OPERATIONS_TIMEOUT }, () => {
    const events = openPerfEvents(3);
    try {
      const names = compare(spec({ type: 'perf_event_array', maxEntries: 3 }), OPERATIONS, next => {
        const event = events.fds[next(4)];
        return [key32(event ?? 0), key32(event ?? 0xffff_ffff)];
      });
      expect(names).toEqual([
        ...['delete E2BIG', 'delete ENOENT', 'delete done', 'lookup ENOTSUPP'],
        ...['next ENOENT', 'next value', 'update E2BIG', 'update EBADF', 'update EINVAL', 'update done'],
      ]);
    } finally {
      events.dispose();
    }
  });

  test('prog array', { timeout: OPERATIONS_TIMEOUT }, () => {
    const platform = createComparedPlatform(1 << 20, cpus);
    const smallest = programFromInstructions({ name: 'p', type: 'xdp', insns: assemble('r0 = 0\nexit') });
    const programs = Array.from({ length: 4 }, () => loadKernelProgram(smallest, new Map()));
    afterAll(() => {
      for (const program of programs) program.dispose();
    });
    const given = spec({ type: 'prog_array', maxEntries: 6 });
    const theirs = new KernelMap(given);
    const ours = createMap(given, { ...platform, id: 1, cachedTargets: true }) as ProgArray;
    const next = generator(99);
    const outcomes = new Outcomes();
    for (let step = 0; step < OPERATIONS; step++) {
      const index = next(8);
      const key = key32(index);
      const { fd, id } = programs[next(4)]!;
      switch (next(4)) {
        case 0: {
          const entry = {
            id,
            objectAddress: BigInt(id) << 12n,
            target: BigInt(id),
            traits: { type: 'xdp', backend: 'x64', attachType: undefined, xdpFrags: false } as const,
          };
          outcomes.change(
            'update',
            () => theirs.update(key, key32(fd), 0),
            () => ours.set(index, entry),
            step,
            key,
          );
          break;
        }
        case 1:
          outcomes.change(
            'delete',
            () => theirs.delete(key),
            () => ours.delete(key),
            step,
            key,
          );
          break;
        case 2:
          outcomes.read(
            'lookup',
            () => theirs.lookup(key),
            () => ours.lookup(key),
            step,
            key,
          );
          break;
        default:
          outcomes.read(
            'next',
            () => theirs.nextKey(key),
            () => ours.nextKey(key),
            step,
            key,
          );
      }
    }
    expect(outcomes.names).toEqual([
      ...['delete E2BIG', 'delete ENOENT', 'delete done', 'lookup ENOENT', 'lookup value'],
      ...['next ENOENT', 'next value', 'update E2BIG', 'update done'],
    ]);
    theirs.dispose();
    ours.dispose();
  });
});
