import { describe, expect, test } from 'vitest';
import {
  bitLength,
  lowMask,
  type Tnum,
  tnumAdd,
  tnumAnd,
  tnumArsh,
  tnumCeiling,
  tnumContains,
  tnumFloor,
  tnumIntersect,
  tnumLsh,
  tnumMul,
  tnumOr,
  tnumRsh,
  tnumSignExtend,
  tnumSub,
  tnumUnion,
  tnumXor,
} from '../../src/verifier/tnum.ts';

const BITS = 3;
const SIZE = 1n << BigInt(BITS);
const TOP = (1n << 64n) - 1n;
/** Small tnums are placed here: at the bottom, across the halves, at the top. */
const POSITIONS = [0n, 30n, 61n];

const TNUMS: readonly Tnum[] = [...numbers(SIZE)].flatMap(mask =>
  [...numbers(SIZE)].filter(value => (value & mask) === 0n).map(value => ({ value, mask })),
);

function* numbers(end: bigint): Generator<bigint> {
  for (let n = 0n; n < end; n++) yield n;
}

function members(t: Tnum): bigint[] {
  return [...numbers(SIZE)].filter(x => (x & ~t.mask) === t.value);
}

function at(position: bigint, t: Tnum): Tnum {
  return { value: t.value << position, mask: t.mask << position };
}

/** The smallest tnum that holds these values. */
function hull(values: readonly bigint[]): Tnum {
  const differing = values.reduce((bits, x) => bits | (x ^ values[0]!), 0n);
  return { value: values[0]! & ~differing, mask: differing };
}

function u64(x: bigint): bigint {
  return BigInt.asUintN(64, x);
}

describe('all pairs of 3-bit tnums, at the bottom, across the halves and at the top', () => {
  const operations: [name: string, abstract: (a: Tnum, b: Tnum) => Tnum, concrete: (x: bigint, y: bigint) => bigint][] =
    [
      ['and', tnumAnd, (x, y) => x & y],
      ['or', tnumOr, (x, y) => x | y],
      ['xor', tnumXor, (x, y) => x ^ y],
      ['add', tnumAdd, (x, y) => u64(x + y)],
      ['sub', tnumSub, (x, y) => u64(x - y)],
    ];
  test.each(operations)('%s gives the smallest tnum', (_, abstract, concrete) => {
    for (const position of POSITIONS) {
      for (const a of TNUMS) {
        for (const b of TNUMS) {
          const results = members(a).flatMap(x => members(b).map(y => concrete(x << position, y << position)));
          expect(abstract(at(position, a), at(position, b))).toEqual(hull(results));
        }
      }
    }
  });

  test('mul is sound, and exact for known numbers', () => {
    for (const position of [0n, 29n, 61n]) {
      for (const a of TNUMS) {
        for (const b of TNUMS) {
          for (const [left, right, lx, ly] of [
            [at(position, a), b, position, 0n],
            [b, at(position, a), 0n, position],
          ] as const) {
            const product = tnumMul(left, right);
            expect(product.value & product.mask).toBe(0n);
            const [xs, ys] = lx === position ? [members(a), members(b)] : [members(b), members(a)];
            const results = xs.flatMap(x => ys.map(y => u64((x << lx) * (y << ly))));
            if (!tnumContains(product, hull(results))) throw new Error(`${a.value}/${a.mask} * ${b.value}/${b.mask}`);
            if (a.mask === 0n && b.mask === 0n) expect(product).toEqual(hull(results));
          }
        }
      }
    }
  });

  test('mul is as sharp as can be for most small tnums', () => {
    const exact = TNUMS.flatMap(a =>
      TNUMS.map(b => {
        const best = hull(members(a).flatMap(x => members(b).map(y => x * y)));
        return tnumMul(a, b).mask === best.mask;
      }),
    ).filter(Boolean).length;
    expect(exact / TNUMS.length ** 2).toBeGreaterThan(0.9);
  });

  test('union is the hull; intersection has exactly the common members', () => {
    for (const a of TNUMS) {
      for (const b of TNUMS) {
        expect(tnumUnion(a, b)).toEqual(hull([...members(a), ...members(b)]));
        const common = members(a).filter(x => members(b).includes(x));
        const both = tnumIntersect(a, b);
        expect(both === undefined ? [] : members(both)).toEqual(common);
        expect(tnumContains(a, b)).toBe(members(b).every(x => members(a).includes(x)));
      }
    }
  });
});

describe('all 3-bit tnums', () => {
  test.each(POSITIONS)('shifts at bit %i', position => {
    for (const t of TNUMS) {
      const placed = at(position, t);
      const values = members(t).map(x => x << position);
      for (let amount = 0; amount < 64; amount++) {
        const n = BigInt(amount);
        expect(tnumLsh(placed, amount)).toEqual(hull(values.map(x => u64(x << n))));
        expect(tnumRsh(placed, amount)).toEqual(hull(values.map(x => x >> n)));
        expect(tnumArsh(placed, amount, 64)).toEqual(hull(values.map(x => u64(BigInt.asIntN(64, x) >> n))));
        if (amount < 32) {
          const low = values.map(x => BigInt.asUintN(32, BigInt.asIntN(32, x) >> n));
          expect(tnumArsh(placed, amount, 32)).toEqual(hull(low));
        }
      }
      for (const bits of [8, 16, 32]) {
        expect(tnumSignExtend(placed, bits)).toEqual(hull(values.map(x => u64(BigInt.asIntN(bits, x)))));
      }
    }
  });

  test('nearest members above and below', () => {
    for (const position of POSITIONS) {
      for (const t of TNUMS) {
        const values = members(t).map(x => x << position);
        for (const x of numbers(SIZE)) {
          for (const distance of [-1n, 0n, 1n]) {
            const from = (x << position) + distance;
            if (from < 0n || from > TOP) continue;
            expect(tnumCeiling(at(position, t), from)).toBe(values.find(v => v >= from));
            expect(tnumFloor(at(position, t), from)).toBe(values.findLast(v => v <= from));
          }
        }
      }
    }
  });
});

test('bitLength and lowMask', () => {
  expect(bitLength(0n)).toBe(0);
  for (let bits = 1; bits <= 64; bits++) {
    expect(bitLength(1n << BigInt(bits - 1))).toBe(bits);
    expect(bitLength(lowMask(bits))).toBe(bits);
  }
});
