/** Grace periods and what waits for them, with threads that the test plays itself. */
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import type { ProgArray } from '../../src/maps/prog-array.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext, RuntimeState } from '../../src/memory/layout.ts';
import type { Installed } from '../../src/runtime/backend.ts';
import { Generations } from '../../src/runtime/generations.ts';
import { GracePeriods } from '../../src/runtime/grace-period.ts';
import { ProgArraySlots } from '../../src/runtime/prog-array-slots.ts';
import { mapSpec } from './build.ts';

function setUp(threads: number) {
  const arena = createArena(new ArrayBuffer(1 << 20), 0x10_0000n);
  const state = arena.allocate(RuntimeState.size, 64);
  const contexts = Array.from({ length: threads }, () => arena.allocate(RunContext.size, 64));
  arena.view.setBigUint64(state + RuntimeState.epoch, 2n, true);
  const order: string[] = [];
  const grace = new GracePeriods(arena, state, contexts, () => order.push('synchronise'));
  const epoch = () => arena.view.getBigUint64(state + RuntimeState.epoch, true);
  return {
    arena,
    grace,
    order,
    epoch,
    /** What a thread does between two packets. */
    announce: (thread: number) => arena.view.setBigUint64(contexts[thread]! + RunContext.epoch, epoch(), true),
    leave: (thread: number) => arena.view.setBigUint64(contexts[thread]! + RunContext.epoch, 0n, true),
  };
}

describe('grace periods', () => {
  test('nothing runs: released at once, after all threads dropped what they fetched', () => {
    const { grace, order } = setUp(2);
    grace.retire(() => order.push('release'));
    expect(order).toEqual(['synchronise', 'release']);
    expect(grace.pending).toBe(0);
  });

  test('every thread must have passed a packet boundary', () => {
    const { grace, order, announce, leave } = setUp(2);
    announce(0);
    announce(1);
    grace.retire(() => order.push('release'));
    expect(grace.poll()).toBe(false);
    announce(0);
    expect(grace.poll()).toBe(false);
    leave(1);
    expect(grace.poll()).toBe(true);
    expect(order).toEqual(['synchronise', 'release']);
  });

  test('the epoch is raised only after the threads dropped what they fetched', () => {
    const { grace, order, announce, epoch } = setUp(1);
    announce(0);
    const before = epoch();
    const seen: bigint[] = [];
    order.push = (what: string) => {
      if (what === 'synchronise') seen.push(epoch());
      return 0;
    };
    grace.retire(() => {});
    grace.poll();
    expect(seen).toEqual([before]);
    // By two: the lowest bit is the side that runs use, which a grace period leaves alone.
    expect(epoch()).toBe(before + 2n);
  });

  test('a thread that comes later does not hold back what was retired before', () => {
    const { grace, order, announce, leave } = setUp(2);
    announce(0);
    grace.retire(() => order.push('release'));
    grace.poll();
    announce(1);
    leave(0);
    expect(grace.poll()).toBe(true);
  });

  test('settled resolves when all is released', async () => {
    const { grace, announce, leave } = setUp(1);
    announce(0);
    let released = false;
    grace.retire(() => {
      released = true;
    });
    setTimeout(() => leave(0), 10);
    await grace.settled();
    expect(released).toBe(true);
  });
});

test('a direct site is not cleared by the grace period of an earlier removal', () => {
  const { arena, grace, announce, leave } = setUp(1);
  const routines = { call: () => 0n };
  const spec = mapSpec({ name: 'jmp', type: 'prog_array', maxEntries: 2 });
  const map = createMap(spec, { arena, cpus: 1, id: 1, routines, cachedTargets: true }) as ProgArray;
  const slots = new ProgArraySlots(
    map,
    new Generations(
      grace,
      () => {},
      () => {},
      () => ({ misses: [], newMisses: [] }),
    ),
    new Map(),
  );
  const calls: string[] = [];
  const installed: Installed = {
    entry: 1n,
    target: 1n,
    code: undefined,
    readMemory: () => new Uint8Array(0),
    patch: (_poke, target) => calls.push(target === undefined ? 'close' : 'open'),
    clear: () => calls.push('clear'),
    copy: () => installed,
    free() {},
  };
  slots.addSite(0, { installed, poke: 0 });
  const traits = { type: 'xdp', backend: 'native', attachType: undefined, xdpFrags: false } as const;
  const entry = { id: 7, objectAddress: 0x10_0000n, target: 0x1000n, traits };

  announce(0);
  map.set(0, entry);
  map.remove(0);
  grace.poll();
  // The thread passes a boundary, enters the site while it is open again, and stands in it when it is closed.
  map.set(0, entry);
  announce(0);
  map.remove(0);
  grace.poll();
  expect(calls).toEqual(['open', 'close', 'open', 'close']);
  leave(0);
  grace.poll();
  expect(calls).toEqual(['open', 'close', 'open', 'close', 'clear']);
});
