import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createArena } from '../../src/memory/buffer-arena.ts';

const BASE = 0x7000_0000_0000n;

describe('arena over a buffer', () => {
  test.each([true, false])('every block is zero however dirty the memory was (fresh: %s)', fresh => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 60 }), sizes => {
        const buffer = new ArrayBuffer(65536 * 3);
        if (!fresh) new Uint8Array(buffer).fill(0xaa);
        const arena = createArena(buffer, BASE, { fresh });
        const live: number[] = [];
        for (const [index, size] of sizes.entries()) {
          if (index % 3 === 2) arena.free(live.shift()!);
          const offset = arena.allocate(size, 8 << (index % 6));
          expect(offset).toBeGreaterThanOrEqual(65536);
          expect(arena.bytes.subarray(offset, offset + size).every(byte => byte === 0)).toBe(true);
          arena.bytes.fill(0xff, offset, offset + size);
          live.push(offset);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('the first 64 KiB are never handed out', () => {
    const arena = createArena(new ArrayBuffer(131072), BASE);
    expect(arena.allocate(65536, 65536)).toBe(65536);
    expect(() => arena.allocate(8)).toThrow(expect.objectContaining({ code: 'out_of_memory' }));
    expect(arena.allocated).toBe(65536);
    arena.free(65536);
    expect(arena.allocated).toBe(0);
  });

  test('translates addresses and refuses what lies outside', () => {
    const arena = createArena(new ArrayBuffer(131072), BASE);
    expect(arena.address(70000)).toBe(BASE + 70000n);
    expect(arena.offset(BASE + 70000n, 8)).toBe(70000);
    expect(arena.offset(BASE, 131072)).toBe(0);
    expect(arena.offset(BASE + 131072n, 0)).toBe(131072);
    for (const [address, length] of [
      [BASE - 1n, 1],
      [BASE, 131073],
      [BASE + 131072n, 1],
      [0n, 8],
      [1n << 63n, 8],
      [BASE, -1],
      [BASE, Number.NaN],
    ] as const) {
      expect(() => arena.offset(address, length)).toThrow(expect.objectContaining({ code: 'out_of_bounds' }));
    }
  });

  test.each([
    ['a small buffer', 4096, BASE],
    ['an odd buffer', 131073, BASE],
    ['base 0', 131072, 0n],
    ['a base off 64 KiB', 131072, BASE + 4096n],
    ['a base past 2^47', 131072, 1n << 47n],
  ])('refuses %s', (_, size, base) => {
    expect(() => createArena(new ArrayBuffer(size), base)).toThrow(expect.objectContaining({ code: 'bad_argument' }));
  });

  test('refuses bad alignment and bad frees', () => {
    const arena = createArena(new ArrayBuffer(131072), BASE);
    expect(() => arena.allocate(8, 4)).toThrow(expect.objectContaining({ code: 'bad_argument' }));
    const block = arena.allocate(32);
    for (const offset of [0, block + 16, -1, Number.NaN]) {
      expect(() => arena.free(offset)).toThrow(expect.objectContaining({ code: 'bad_free' }));
    }
  });
});
