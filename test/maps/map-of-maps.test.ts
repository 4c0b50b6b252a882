import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { MapOfMaps } from '../../src/maps/map-of-maps.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { PLATFORMS, type Platform } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

const inner = spec({ type: 'array', name: 'inner', valueSize: 8, maxEntries: 2 });

function make(platform: Platform, type: 'array_of_maps' | 'hash_of_maps', overrides: Partial<MapSpec> = {}): MapOfMaps {
  const map = createMap(spec({ type, maxEntries: 3, inner, ...overrides }), { ...platform, id: 1 });
  if (!(map instanceof MapOfMaps)) throw new Error('not a map of maps');
  return map;
}

describe.each(PLATFORMS)('maps of maps, %s', (_backend, createPlatform) => {
  test.each(['array_of_maps', 'hash_of_maps'] as const)('%s: programs find inner maps, user space their ids', type => {
    const platform = createPlatform();
    const outer = make(platform, type);
    const [first, second] = [40, 41].map(id => createMap(inner, { ...platform, id }));
    const key = stageBytes(platform, key32(2));
    const lookup = () => platform.routines.call('bpf_map_lookup_elem', outer.address, key);
    expect(lookup()).toBe(0n);
    outer.set(key32(2), first!);
    expect(lookup()).toBe(first!.address);
    expect(outer.lookup(key32(2))).toEqual(key32(40));
    outer.set(key32(2), second!);
    expect(lookup()).toBe(second!.address);
    expect([...outer.entries()]).toEqual([[key32(2), key32(41)]]);
    // And through it a value.
    second!.update(key32(1), Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2));
    const one = stageBytes(platform, key32(1));
    const value = platform.routines.call('bpf_map_lookup_elem', lookup(), one);
    expect(platform.arena.view.getUint8(platform.arena.offset(value, 8))).toBe(9);
    outer.delete(key32(2));
    expect(lookup()).toBe(0n);
    expect(outer.lookup(key32(2))).toBeUndefined();
    expect(failure(() => outer.delete(key32(2)))).toBe('ENOENT');
    expect(failure(() => outer.set(key32(2), first!, 2))).toBe(type === 'hash_of_maps' ? 'ENOENT' : 'EINVAL');
    expect(() => outer.update(key32(0), key32(40))).toThrow(expect.objectContaining({ code: 'needs_map' }));
    expect(BigInt.asIntN(64, platform.routines.call('bpf_map_update_elem', outer.address, key, key, 0n))).toBe(-95n);
    if (type === 'array_of_maps') {
      expect(failure(() => outer.set(key32(3), first!))).toBe('E2BIG');
      expect(failure(() => outer.delete(key32(3)))).toBe('E2BIG');
    }
    outer.dispose();
    expect(() => outer.lookup(key32(2))).toThrow(expect.objectContaining({ code: 'disposed' }));
  });

  test('an inner map must be as defined', () => {
    const platform = createPlatform();
    const outer = make(platform, 'array_of_maps');
    for (const [difference, message] of [
      [{ type: 'hash' }, /type is hash/],
      [{ valueSize: 4 }, /value size is 4, the definition's is 8/],
      [{ maxEntries: 3 }, /max_entries is 3/],
      [{ flags: 1 << 10 }, /flags/],
    ] as [Partial<MapSpec>, RegExp][]) {
      const other = createMap({ ...inner, ...difference }, { ...platform, id: 2 });
      expect(() => outer.set(key32(0), other)).toThrow(message);
    }
    const resizable = make(platform, 'array_of_maps', { inner: { ...inner, flags: 1 << 12 } });
    resizable.set(key32(0), createMap({ ...inner, flags: 1 << 12, maxEntries: 50 }, { ...platform, id: 3 }));
  });

  test('what may not be inside', () => {
    const platform = createPlatform();
    const attempt = (inside: MapSpec | undefined) =>
      failure(() =>
        createMap(spec({ type: 'array_of_maps', ...(inside && { inner: inside }) }), { ...platform, id: 1 }),
      );
    expect(attempt(undefined)).toBe('EINVAL');
    expect(attempt(spec({ type: 'array_of_maps', inner }))).toBe('EINVAL');
    expect(attempt(spec({ type: 'prog_array' }))).toBe('ENOTSUPP');
    expect(attempt({ ...inner, maxEntries: 0 })).toBe('EINVAL');
    expect(attempt(inner)).toBeUndefined();
  });
});
