/** Sequences from real programs with the state that Linux 6.18 logs for them, and those where this domain knows more. */
import { describe, expect, test } from 'vitest';
import type { JumpOp, Width } from '../../src/isa/instruction.ts';
import {
  alu,
  byteswap,
  compare,
  constant,
  formatScalar,
  join,
  movsx,
  range,
  refine,
  type Scalar,
  signExtend,
  signedRange,
  truncate,
  UNKNOWN,
} from '../../src/verifier/scalar.ts';

const c = (value: number | bigint): Scalar => constant(BigInt(value));
const byte = range(0n, 255n);

function branch(op: JumpOp, width: Width, a: Scalar, b: Scalar, taken: boolean): Scalar {
  const refined = refine(op, width, a, b, taken);
  if (refined === undefined) throw new Error('impossible branch');
  return refined.a;
}

describe('as the kernel logs it', () => {
  const cases: [what: string, have: Scalar, want: string][] = [
    ['unknown', UNKNOWN, ''],
    ['r1 = 5', c(5), '5'],
    ['r1 = -1', c(-1), '-1'],
    ['r1 = 0x7fffffff', c(0x7fffffff), '0x7fffffff'],
    ['r1 = -65536', c(-65536), '0xffffffffffff0000'],
    ['r1 &= 255', alu('and', 64, UNKNOWN, c(255)), 'smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)'],
    [
      'r1 &= 255; r1 <<= 2',
      alu('lsh', 64, alu('and', 64, UNKNOWN, c(255)), c(2)),
      'smin=smin32=0,smax=umax=smax32=umax32=1020,var_off=(0x0; 0x3fc)',
    ],
    [
      'if w7 < 8, taken',
      branch('lt', 32, UNKNOWN, c(8), true),
      'smax=0x7fffffff00000007,umax=0xffffffff00000007,smin32=0,smax32=umax32=7,var_off=(0x0; 0xffffffff00000007)',
    ],
    ['if w7 < 8, not taken', branch('lt', 32, UNKNOWN, c(8), false), 'smin=0x8000000000000008,umin=umin32=8'],
    [
      'if r1 s> -1',
      branch('sgt', 64, UNKNOWN, c(-1), true),
      'smin=0,umax=0x7fffffffffffffff,var_off=(0x0; 0x7fffffffffffffff)',
    ],
    ['w1 = w1', alu('mov', 32, UNKNOWN, UNKNOWN), 'smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)'],
    ['w1 = *(u8 *)', truncate(UNKNOWN, 1), 'smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)'],
    ['r1 = (s8)r1', movsx(64, 8, UNKNOWN), 'smin=smin32=-128,smax=smax32=127'],
    ['*(s16 *) by signExtend', signExtend(UNKNOWN, 2), 'smin=smin32=-32768,smax=smax32=32767'],
    ['r1 = be16 r1', byteswap('be', 16, UNKNOWN), 'smin=smin32=0,smax=umax=smax32=umax32=0xffff,var_off=(0x0; 0xffff)'],
  ];
  test.each(cases)('%s', (_, have, want) => {
    expect(formatScalar(have)).toBe(want);
  });
});

describe('what programs rely on', () => {
  test('sign extension by shifts keeps the 32-bit range', () => {
    const low = branch('slt', 32, branch('sgt', 32, UNKNOWN, c(-4), true), c(100), true);
    const extended = alu('arsh', 64, alu('lsh', 64, low, c(32)), c(32));
    expect([extended.smin, extended.smax]).toEqual([-3n, 99n]);
  });

  test('a 32-bit check bounds the whole where the upper half is known', () => {
    const length = branch('gt', 32, range(0n, 1n << 33n), c(1500), false);
    expect(length.u32max).toBe(1500);
    expect(branch('gt', 32, truncate(UNKNOWN, 4), c(1500), false).umax).toBe(1500n);
    // An int64 that is a sign-extended int, checked as u32 below 2^31, is not negative.
    expect(branch('lt', 32, signedRange(-0x80000000n, 0xffffffffn), c(64), true)).toEqual(range(0n, 63n));
  });

  test('"not equal" moves an edge, to the next value that the known bits allow', () => {
    expect(branch('ne', 64, byte, c(0), true)).toMatchObject({ umin: 1n, umax: 255n });
    expect(branch('ne', 64, alu('and', 64, UNKNOWN, c(0xf0)), c(0), true)).toMatchObject({ umin: 16n, umax: 240n });
    expect(branch('eq', 64, byte, c(255), false)).toMatchObject({ umin: 0n, umax: 254n });
    expect(refine('ne', 64, c(3), c(3), true)).toBeUndefined();
  });

  test('"equal" makes both sides the same', () => {
    const refined = refine('eq', 64, byte, alu('lsh', 64, UNKNOWN, c(4)), true)!;
    expect(refined.a).toEqual(refined.b);
    expect(refined.a).toMatchObject({ umax: 240n, tnum: { value: 0n, mask: 0xf0n } });
  });

  test('bit tests', () => {
    expect(branch('set', 64, UNKNOWN, c(8), false).tnum).toEqual({ value: 0n, mask: 0xfffffffffffffff7n });
    expect(branch('set', 64, UNKNOWN, c(8), true).tnum).toEqual({ value: 8n, mask: 0xfffffffffffffff7n });
    expect(branch('set', 64, byte, c(6), true).umin).toBe(2n);
    expect(compare('set', 64, byte, c(256))).toBe(false);
    expect(compare('set', 64, alu('or', 64, UNKNOWN, c(1)), c(3))).toBe(true);
  });

  test('two ranges against each other', () => {
    const refined = refine('lt', 64, range(5n, 100n), range(0n, 50n), true)!;
    expect(refined).toEqual({ a: range(5n, 49n), b: range(6n, 50n) });
    expect(compare('lt', 64, range(0n, 4n), range(5n, 9n))).toBe(true);
    expect(compare('le', 64, range(6n, 9n), range(0n, 5n))).toBe(false);
    expect(compare('slt', 32, signedRange(-5n, -1n), range(0n, 9n))).toBe(true);
    expect(compare('lt', 32, signedRange(-5n, -1n), range(0n, 9n))).toBe(false);
    expect(compare('lt', 64, range(0n, 5n), range(5n, 9n))).toBeUndefined();
    expect(refine('gt', 64, UNKNOWN, c(-1), true)).toBeUndefined();
  });

  test('division and remainder (unknown to the kernel)', () => {
    expect(alu('div', 64, byte, c(10))).toEqual(range(0n, 25n));
    expect(alu('div', 64, range(100n, 1000n), range(2n, 10n))).toEqual(range(10n, 500n));
    expect(alu('div', 64, range(100n, 1000n), range(0n, 10n))).toEqual(range(0n, 1000n));
    expect(alu('mod', 64, UNKNOWN, c(10))).toEqual(range(0n, 9n));
    expect(alu('mod', 64, UNKNOWN, c(16)).tnum).toEqual({ value: 0n, mask: 15n });
    expect(alu('mod', 32, UNKNOWN, c(10))).toEqual(range(0n, 9n));
    expect(alu('mod', 64, byte, range(256n, 300n))).toEqual(byte);
    const large = range(1n << 40n, (1n << 40n) + 5n);
    expect(alu('mod', 64, large, range(1n << 41n, 1n << 42n))).toEqual(large);
    expect(alu('mod', 64, range(0n, 1n << 50n), range(3n, 1n << 42n))).toEqual(range(0n, (1n << 42n) - 1n));
    expect(alu('sdiv', 64, signedRange(-100n, 50n), c(-7))).toMatchObject({ smin: -7n, smax: 14n });
    expect(alu('smod', 64, signedRange(-100n, 50n), c(7))).toMatchObject({ smin: -6n, smax: 6n });
    expect(alu('div', 64, UNKNOWN, c(0))).toEqual(c(0));
    expect(alu('mod', 64, byte, c(0))).toEqual(byte);
  });

  test('shifts by a bounded amount', () => {
    expect(alu('lsh', 64, c(1), range(0n, 3n))).toMatchObject({ umin: 1n, umax: 8n, tnum: { value: 0n, mask: 15n } });
    expect(alu('rsh', 64, byte, range(4n, 63n))).toEqual(range(0n, 15n));
    expect(alu('arsh', 64, signedRange(-256n, 64n), range(2n, 4n))).toMatchObject({ smin: -64n, smax: 16n });
  });

  test('bit operations keep small signed numbers small', () => {
    const error = signedRange(-12n, 7n);
    expect(alu('and', 64, error, UNKNOWN)).toMatchObject({ smax: (1n << 63n) - 1n });
    expect(alu('and', 64, error, signedRange(-2n, 3n))).toMatchObject({ smin: -16n, smax: 7n });
    expect(alu('or', 64, error, signedRange(-2n, 3n))).toMatchObject({ smin: -12n, smax: 15n });
    expect(alu('xor', 64, error, signedRange(-2n, 3n))).toMatchObject({ smin: -16n, smax: 15n });
  });

  test('sums that wrap for sure stay exact', () => {
    expect(alu('add', 64, range(10n, 20n), c(-10))).toEqual(range(0n, 10n));
    expect(alu('add', 64, range(0n, 20n), c(-10))).toMatchObject({ smin: -10n, smax: 10n });
    expect(alu('sub', 32, range(0n, 5n), c(6))).toEqual(range(0xfffffffan, 0xffffffffn));
  });

  test('join', () => {
    expect(join(c(4), c(12))).toMatchObject({ umin: 4n, umax: 12n, tnum: { value: 4n, mask: 8n } });
    expect(join(c(-1), c(1))).toMatchObject({ smin: -1n, smax: 1n });
  });
});
