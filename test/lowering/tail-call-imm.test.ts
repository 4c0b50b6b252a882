import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LoweringError } from '../../src/lowering/errors.ts';
import { MAX_POKES, MAX_USED_MAPS, packTailCall, unpackTailCall } from '../../src/lowering/tail-call-imm.ts';

describe('packed tail-call immediate', () => {
  const table = [
    { name: 'static, first map', site: { usedMap: 0, dynamic: false, poke: undefined }, imm: 0 },
    { name: 'static, last map', site: { usedMap: 63, dynamic: false, poke: undefined }, imm: 0x3f },
    { name: 'dynamic', site: { usedMap: 0, dynamic: true, poke: undefined }, imm: 0x100 },
    { name: 'first poke', site: { usedMap: 5, dynamic: false, poke: 0 }, imm: 0x0001_0005 },
    { name: 'last poke', site: { usedMap: 5, dynamic: false, poke: 1022 }, imm: 0x03ff_0005 },
  ];
  test.each(table)('$name', ({ site, imm }) => {
    expect(packTailCall(site)).toBe(imm);
    expect(unpackTailCall(imm)).toEqual(site);
  });

  test.each([
    { usedMap: 64, dynamic: false, poke: undefined },
    { usedMap: -1, dynamic: false, poke: undefined },
    { usedMap: 1.5, dynamic: false, poke: undefined },
    { usedMap: Number.NaN, dynamic: false, poke: undefined },
    { usedMap: 0, dynamic: false, poke: 1023 },
    { usedMap: 0, dynamic: false, poke: -1 },
    { usedMap: 0, dynamic: true, poke: 0 },
  ])('refuses %o', site => {
    expect(() => packTailCall(site)).toThrow(LoweringError);
  });

  test('bits 16-31 are read unsigned: an immediate with bit 31 set is refused, not read as a negative poke', () => {
    for (const imm of [0xffff_0000, -65536, 0x8000_0000, -0x8000_0000]) {
      expect(() => unpackTailCall(imm)).toThrow(/poke \+ 1 (65535|32768)/);
    }
  });

  test('every legal site round-trips and is unsigned', () => {
    const site = fc.oneof(
      fc.record({
        usedMap: fc.nat(MAX_USED_MAPS - 1),
        dynamic: fc.constant(false),
        poke: fc.option(fc.nat(MAX_POKES - 1), { nil: undefined }),
      }),
      fc.record({ usedMap: fc.nat(MAX_USED_MAPS - 1), dynamic: fc.constant(true), poke: fc.constant(undefined) }),
    );
    fc.assert(
      fc.property(site, s => {
        const imm = packTailCall(s);
        expect(imm).toBe(imm >>> 0);
        expect(unpackTailCall(imm)).toEqual(s);
      }),
    );
  });

  test('a number either unpacks to what packs to it again or is refused', () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), imm => {
        let site: ReturnType<typeof unpackTailCall>;
        try {
          site = unpackTailCall(imm);
        } catch (error) {
          expect(error).toBeInstanceOf(LoweringError);
          return;
        }
        expect(packTailCall(site)).toBe(imm);
      }),
    );
  });
});
