/** cgroup_storage and its per-CPU form: creation as in the kernel, and the one storage that there is. */
import { describe, expect, test } from 'vitest';
import { KernelMap } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import { kernelMissing } from '../kernel/support.ts';
import { createPlatform, PLATFORMS } from './platform.ts';
import { failure, spec } from './tools.ts';

const TYPES = ['cgroup_storage', 'percpu_cgroup_storage'] as const;
const KEY = new Uint8Array(16);

describe.skipIf(kernelMissing() !== undefined).each(TYPES)('%s beside the kernel', type => {
  test('which maps may be made', () => {
    const shapes = [1, 8, 64, 32768, 32769, 65407, 65408, 0].flatMap(valueSize =>
      [16, 8, 4, 0].map(keySize => ({ valueSize, keySize, flags: 0, maxEntries: 0 })),
    );
    const flags = Array.from({ length: 13 }, (_, bit) => ({
      valueSize: 8,
      keySize: 16,
      flags: 1 << bit,
      maxEntries: 0,
    }));
    for (const shape of [...shapes, ...flags, { valueSize: 8, keySize: 16, flags: 0, maxEntries: 1 }]) {
      const given = spec({ type, ...shape });
      const ours = failure(() => createMap(given, { ...createPlatform(1 << 20), id: 1 }).dispose());
      expect([shape, ours]).toEqual([shape, failure(() => new KernelMap(given).dispose())]);
    }
  });

  test('updates with flags', () => {
    const given = spec({ type, keySize: 16, valueSize: 8, maxEntries: 0 });
    const theirs = new KernelMap(given);
    const ours = createMap(given, { ...createPlatform(1 << 20, 2), id: 1 });
    const of = (map: typeof ours | KernelMap) =>
      // In the kernel no storage exists before a program is attached: what is allowed is refused as missing.
      [1, 4, 8].map(flags =>
        failure(() =>
          map.update(
            KEY,
            new Uint8Array(map === theirs ? theirs.valueBytes : type === 'cgroup_storage' ? 8 : 16),
            flags,
          ),
        ),
      );
    expect(of(ours)).toEqual(of(theirs));
    expect(failure(() => ours.delete(KEY))).toBe(failure(() => theirs.delete(KEY)));
    theirs.dispose();
    ours.dispose();
  });
});

test.each(PLATFORMS)('what a program finds is what user space reads (%s)', (_, create) => {
  for (const type of TYPES) {
    const platform = create(1 << 20, 2);
    const map = createMap(spec({ type, keySize: 16, valueSize: 8, maxEntries: 0 }), { ...platform, id: 1 });
    const value = (): number =>
      platform.arena.offset(platform.routines.call('bpf_get_local_storage', map.address, 0n), 8);
    platform.arena.view.setUint32(value(), 7, true);
    platform.setCpu(1);
    platform.arena.view.setUint32(value() + 4, 9, true);
    platform.setCpu(0);
    const words = new Uint32Array(map.lookup(KEY)!.slice().buffer);
    expect([...words]).toEqual(type === 'cgroup_storage' ? [7, 9] : [7, 0, 0, 9]);
    expect([...map.entries()].map(([key]) => key)).toEqual([KEY]);
    map.update(KEY, new Uint8Array(words.byteLength).fill(1));
    expect(platform.arena.view.getUint32(value(), true)).toBe(0x01010101);
    const other = new Uint8Array(16).fill(1);
    expect(map.lookup(other)).toBeUndefined();
    expect(failure(() => map.update(other, new Uint8Array(words.byteLength)))).toBe('ENOENT');
    expect(failure(() => map.lookup(new Uint8Array(4)))).toBe('EINVAL');
    map.dispose();
  }
});
