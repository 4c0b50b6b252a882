import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { PLATFORMS } from './platform.ts';
import { failure, key32, spec, stageBytes } from './tools.ts';

describe.each(PLATFORMS)('arrays of targets, %s', (_backend, createPlatform) => {
  test.each(['devmap', 'cpumap', 'xskmap', 'perf_event_array', 'devmap_hash'] as const)(
    'programs find what is set in a %s',
    type => {
      const platform = createPlatform();
      const map = createMap(spec({ type, maxEntries: 3 }), { ...platform, id: 1 });
      const key = stageBytes(platform, key32(1));
      const lookup = () => platform.routines.call('bpf_map_lookup_elem', map.address, key);
      expect(lookup()).toBe(0n);
      map.update(key32(1), key32(0x1001));
      expect(platform.arena.view.getUint32(platform.arena.offset(lookup(), 4), true)).toBe(0x1001);
      expect([...map.entries()]).toEqual([[key32(1), key32(0x1001)]]);
      platform.arena.view.setUint32(platform.arena.offset(key, 4), 3, true);
      expect(lookup()).toBe(0n);
      platform.arena.view.setUint32(platform.arena.offset(key, 4), 1, true);
      map.delete(key32(1));
      expect(lookup()).toBe(0n);
      expect(BigInt.asIntN(64, platform.routines.call('bpf_map_delete_elem', map.address, key))).toBe(-95n);
      expect(platform.arena.allocated).toBeGreaterThanOrEqual(platform.idle + map.memoryUsage);
      map.dispose();
      expect(() => map.lookup(key32(1))).toThrow(expect.objectContaining({ code: 'disposed' }));
    },
  );

  test('sockets of an xskmap are present or absent, as in the kernel', () => {
    const map = createMap(spec({ type: 'xskmap', maxEntries: 2 }), { ...createPlatform(), id: 1 });
    expect(failure(() => map.update(key32(0), key32(0)))).toBe('EBADF');
    expect(failure(() => map.update(key32(0), key32(5), 2))).toBe('ENOENT');
    expect(failure(() => map.update(key32(0), key32(5), 1))).toBeUndefined();
    expect(failure(() => map.update(key32(0), key32(5), 1))).toBeUndefined();
    expect(failure(() => map.update(key32(0), key32(7), 1))).toBe('EEXIST');
    expect(failure(() => map.update(key32(0), key32(6), 2))).toBeUndefined();
    expect(failure(() => map.update(key32(2), key32(6)))).toBe('E2BIG');
    expect(failure(() => map.delete(key32(2)))).toBe('EINVAL');
    expect(failure(() => map.delete(key32(1)))).toBeUndefined();
  });

  test('a program on a devmap entry is refused, in both kinds', () => {
    for (const type of ['devmap', 'devmap_hash'] as const) {
      const map = createMap(spec({ type, valueSize: 8, maxEntries: 2 }), { ...createPlatform(), id: 1 });
      expect(() => map.update(key32(0), Uint8Array.of(1, 0, 0, 0, 9, 0, 0, 0))).toThrow(/program 9/);
      expect(failure(() => map.update(key32(0), Uint8Array.of(1, 0, 0, 0, 255, 255, 255, 255)))).toBeUndefined();
      expect(() => map.update(key32(0), key32(1))).toThrow(expect.objectContaining({ code: 'bad_value_size' }));
    }
  });
});
