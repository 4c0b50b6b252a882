import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import type { OwnerTraits, ProgArrayEntry } from '../../src/maps/prog-array.ts';
import { ProgArray } from '../../src/maps/prog-array.ts';
import { PLATFORMS, type Platform } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

const TRAITS: OwnerTraits = { type: 'xdp', backend: 'x64', attachType: 'xdp', xdpFrags: false };
const entry = (id: number, traits = TRAITS): ProgArrayEntry => ({
  id,
  objectAddress: BigInt(id) * 0x1000n,
  target: BigInt(id) * 0x1_0000_0001n,
  traits,
});

function make(platform: Platform, cachedTargets = true, maxEntries = 4): ProgArray {
  const map = createMap(spec({ type: 'prog_array', maxEntries }), { ...platform, id: 3, cachedTargets });
  if (!(map instanceof ProgArray)) throw new Error('not a prog array');
  return map;
}

/** All words behind the header. */
function words(platform: Platform, map: ProgArray): bigint[] {
  const from = platform.arena.offset(map.address, map.memoryUsage) / 8;
  return [...platform.arena.u64.slice(from + 8, from + map.memoryUsage / 8)];
}

describe.each(PLATFORMS)('prog array, %s', (_backend, createPlatform) => {
  test('programs in the first half, cached targets in the second', () => {
    const platform = createPlatform();
    const map = make(platform);
    expect(map.memoryUsage).toBe(64 + 2 * 4 * 8);
    expect(map.set(1, entry(5))).toBeUndefined();
    map.set(3, entry(6));
    const [five, six] = [entry(5), entry(6)];
    expect(words(platform, map)).toEqual([
      ...[0n, five.objectAddress, 0n, six.objectAddress],
      ...[0n, five.target, 0n, six.target],
    ]);
    expect(map.set(1, entry(7))).toEqual(five);
    expect(map.remove(3)).toEqual(six);
    expect(words(platform, map)).toEqual([...[0n, entry(7).objectAddress, 0n, 0n], ...[0n, entry(7).target, 0n, 0n]]);
    expect(map.get(1)).toBe(7);
    expect(map.get(3)).toBeUndefined();
    expect(map.get(4)).toBeUndefined();
  });

  test('a backend without prologue offset gets one half only', () => {
    const platform = createPlatform();
    const map = make(platform, false);
    expect(map.memoryUsage).toBe(64 + 4 * 8);
    map.set(3, { ...entry(5), target: 0n });
    expect(words(platform, map)).toEqual([0n, 0n, 0n, entry(5).objectAddress]);
    map.dispose();
    expect(platform.arena.allocated).toBe(platform.idle);
  });

  test('reads as program ids; bytes can not set a slot', () => {
    const map = make(createPlatform());
    map.set(2, entry(0x01020304));
    expect(map.lookup(key32(2))).toEqual(Uint8Array.of(4, 3, 2, 1));
    expect(map.lookup(key32(0))).toBeUndefined();
    expect(map.lookup(key32(4))).toBeUndefined();
    expect([...map.entries()]).toEqual([[key32(2), key32(0x01020304)]]);
    expect(() => map.update(key32(0), key32(5))).toThrow(/slots of the runtime/);
    expect(map.nextKey(undefined)).toEqual(key32(0));
    expect(map.nextKey(key32(0))).toEqual(key32(1));
    expect(map.nextKey(key32(3))).toBeUndefined();
    expect(map.nextKey(key32(4))).toEqual(key32(0));
    map.delete(key32(2));
    expect([...map.entries()]).toEqual([]);
  });

  test.each([
    ['set past the end', (map: ProgArray) => map.set(4, entry(1)), 'E2BIG'],
    ['set at -1', (map: ProgArray) => map.set(-1, entry(1)), 'E2BIG'],
    ['set at 0.5', (map: ProgArray) => map.set(0.5, entry(1)), 'E2BIG'],
    ['remove past the end', (map: ProgArray) => map.remove(4), 'E2BIG'],
    ['remove of an empty slot', (map: ProgArray) => map.remove(0), 'ENOENT'],
    ['delete of an empty slot', (map: ProgArray) => map.delete(key32(0)), 'ENOENT'],
    ['delete past the end', (map: ProgArray) => map.delete(key32(4)), 'E2BIG'],
    ['no program object', (map: ProgArray) => map.set(0, { ...entry(1), objectAddress: 0n }), 'EINVAL'],
    ['no target', (map: ProgArray) => map.set(0, { ...entry(1), target: 0n }), 'EINVAL'],
    ['a short key', (map: ProgArray) => map.lookup(new Uint8Array(3)), 'EINVAL'],
  ] as const)('refuses: %s', (_, action, errno) => {
    const platform = createPlatform();
    const map = make(platform);
    let told = 0;
    map.subscribe(() => told++);
    expect(failure(() => action(map))).toBe(errno);
    expect(words(platform, map).every(word => word === 0n)).toBe(true);
    expect(told).toBe(0);
    expect(map.owner).toBeUndefined();
  });

  test('listeners hear of every change, once both words are stored, even if one of them fails', () => {
    const platform = createPlatform();
    const map = make(platform);
    const heard: unknown[] = [];
    const broken = new Error('broken');
    const stop = map.subscribe(() => {
      throw broken;
    });
    map.subscribe((index, before, after) => {
      const all = words(platform, map);
      heard.push([index, before?.id, after?.id, all[index], all[4 + index]]);
    });
    expect(() => map.set(1, entry(5))).toThrow(broken);
    stop();
    map.set(1, entry(6));
    map.remove(1);
    expect(heard).toEqual([
      [1, undefined, 5, entry(5).objectAddress, entry(5).target],
      [1, 5, 6, entry(6).objectAddress, entry(6).target],
      [1, 6, undefined, 0n, 0n],
    ]);
  });

  test('the first program becomes the owner; one that differs is refused by what differs', () => {
    const platform = createPlatform();
    const map = make(platform);
    map.claim(TRAITS);
    expect(map.owner).toEqual(TRAITS);
    map.set(0, entry(1));
    for (const [difference, message] of [
      [{ type: 'sched_cls' }, /type is sched_cls, the array's is xdp/],
      [{ backend: 'interpreter' }, /backend is interpreter, the array's is x64/],
      [{ attachType: undefined }, /attach type is none, the array's is xdp/],
      [{ xdpFrags: true }, /fragments is true, the array's is false/],
    ] as const) {
      const other = { ...TRAITS, ...difference };
      expect(() => map.set(0, entry(2, other))).toThrow(message);
      expect(() => map.claim(other)).toThrow(
        expect.objectContaining({ code: 'owner_mismatch', errno: 'EINVAL', details: expect.anything() }),
      );
    }
    expect(map.get(0)).toBe(1);
    map.remove(0);
    expect(map.owner).toEqual(TRAITS);
  });

  test('programs see no values through it', () => {
    const platform = createPlatform();
    const map = make(platform);
    map.set(0, entry(1));
    const key = stageBytes(platform, key32(0));
    const call = (operation: string) => BigInt.asIntN(64, platform.routines.call(operation, map.address, key, key, 0n));
    expect(call('prog_array_lookup')).toBe(0n);
    expect(call('prog_array_update')).toBe(-95n);
    expect(call('prog_array_delete')).toBe(-95n);
  });

  test('frozen and disposed', () => {
    const platform = createPlatform();
    const map = make(platform);
    map.set(0, entry(1));
    map.freeze();
    expect(failure(() => map.remove(0))).toBe('EPERM');
    expect(failure(() => map.set(1, entry(1)))).toBe('EPERM');
    map.dispose();
    map.dispose();
    expect(platform.arena.allocated).toBe(platform.idle);
    for (const use of [
      () => map.get(0),
      () => map.set(0, entry(1)),
      () => map.claim(TRAITS),
      () => map.lookup(key32(0)),
    ]) {
      expect(use).toThrow(expect.objectContaining({ code: 'disposed' }));
    }
  });
});
