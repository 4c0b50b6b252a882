import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMap } from '../../src/maps/create.ts';
import { PLATFORMS } from './platform.ts';
import { failure, spec, stageBytes } from './tools.ts';

/** "10.1.0.0/16" as a key. */
function prefix(text: string): Uint8Array {
  const [address, length] = text.split('/');
  const key = Uint8Array.of(0, 0, 0, 0, ...address!.split('.').map(Number));
  new DataView(key.buffer).setUint32(0, Number(length), true);
  return key;
}

const ipv4 = spec({ type: 'lpm_trie', keySize: 8, valueSize: 4, maxEntries: 6, flags: 1 });

describe.each(PLATFORMS)('LPM trie, %s', (_backend, createPlatform) => {
  test('a routing table', () => {
    const platform = createPlatform();
    const map = createMap(ipv4, { ...platform, id: 1 });
    const value = (n: number) => Uint8Array.of(n, 0, 0, 0);
    map.update(prefix('0.0.0.0/0'), value(1));
    map.update(prefix('10.0.0.0/8'), value(2));
    map.update(prefix('10.1.0.0/16'), value(3));
    map.update(prefix('10.1.2.3/32'), value(4));
    map.update(prefix('10.1.2.128/25'), value(5));
    for (const [address, expected] of [
      ['10.1.2.3/32', 4],
      ['10.1.2.4/32', 3],
      ['10.1.2.200/32', 5],
      ['10.1.2.3/31', 3],
      ['10.200.0.1/32', 2],
      ['11.0.0.1/32', 1],
      ['10.1.2.3/4', 1],
    ] as const) {
      expect([address, map.lookup(prefix(address))]).toEqual([address, value(expected)]);
    }
    // Bits behind the prefix count for nothing.
    map.update(prefix('10.1.99.99/16'), value(6), 2);
    expect(map.lookup(prefix('10.1.0.1/32'))).toEqual(value(6));
    expect(failure(() => map.update(prefix('10.1.99.99/16'), value(7), 1))).toBe('EEXIST');
    expect(failure(() => map.update(prefix('1.2.3.4/33'), value(7)))).toBe('EINVAL');
    expect(failure(() => map.delete(prefix('1.2.3.4/33')))).toBe('EINVAL');
    expect(map.lookup(prefix('1.2.3.4/33'))).toBeUndefined();
    map.update(prefix('1.0.0.0/8'), value(8));
    expect(failure(() => map.update(prefix('2.0.0.0/8'), value(8)))).toBe('ENOSPC');
    map.delete(prefix('0.0.0.0/0'));
    expect(map.lookup(prefix('11.0.0.1/32'))).toBeUndefined();
    expect(failure(() => map.delete(prefix('0.0.0.0/0')))).toBe('ENOENT');
    expect([...map.entries()].length).toBe(5);
    const key = stageBytes(platform, prefix('10.1.2.3/32'));
    const found = platform.routines.call('bpf_map_lookup_elem', map.address, key);
    expect(platform.arena.view.getUint32(platform.arena.offset(found, 4), true)).toBe(4);
    const allocated = platform.arena.allocated;
    map.dispose();
    expect(platform.arena.allocated).toBeLessThanOrEqual(allocated - map.memoryUsage);
  });

  test('agrees with a list of prefixes, whatever the key size', () => {
    const platform = createPlatform();
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(fc.tuple(fc.nat(), fc.uint8Array({ minLength: 40, maxLength: 40 }), fc.nat(3)), { maxLength: 25 }),
        (bytes, steps) => {
          const map = createMap(spec({ ...ipv4, keySize: 4 + bytes, maxEntries: 100 }), { ...platform, id: 1 });
          const model = new Map<string, number>();
          const bitsOf = (data: Uint8Array, length: number) =>
            Array.from({ length }, (_, bit) => (data[bit >> 3]! >> (7 - (bit & 7))) & 1).join('');
          for (const [index, [length, random, operation]] of steps.entries()) {
            const bits = length % (8 * bytes + 1);
            // Few distinct bytes, so that prefixes nest.
            const data = random.slice(0, bytes).map(byte => (byte & 3 ? 0 : byte));
            const key = Uint8Array.of(bits & 255, bits >> 8, 0, 0, ...data);
            const name = bitsOf(data, bits);
            if (operation < 2) {
              map.update(key, Uint8Array.of(index, 0, 0, 0));
              model.set(name, index);
            } else if (operation === 2) {
              expect(failure(() => map.delete(key))).toBe(model.delete(name) ? undefined : 'ENOENT');
            }
            const best = [...model.keys()]
              .filter(other => name.startsWith(other))
              .sort((a, b) => b.length - a.length)[0];
            expect(map.lookup(key)?.[0]).toBe(best === undefined ? undefined : model.get(best));
          }
          expect([...map.entries()].length).toBe(model.size);
          map.dispose();
        },
      ),
      { numRuns: 60 },
    );
  });
});
