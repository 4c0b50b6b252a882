import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AluOp, JumpOp, Width } from '../../src/isa/instruction.ts';
import {
  alu,
  byteswap,
  compare,
  constant,
  constantValue,
  contains,
  equal,
  formatScalar,
  intersect,
  isConstant,
  isUnknown,
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
import {
  ALU_OPS,
  checkInvariants,
  concreteAlu,
  concreteJump,
  concreteValue,
  isMember,
  JUMP_OPS,
  type Sample,
  sample,
  WIDTHS,
} from './scalar-support.ts';

const RUNS = { numRuns: 2000 };

const aluCases = ALU_OPS.flatMap(op => WIDTHS.map(width => [op, width] as const));
const jumpCases = JUMP_OPS.flatMap(op => WIDTHS.map(width => [op, width] as const));

function expectMember(s: Scalar, x: bigint, what: string): void {
  if (!isMember(s, x)) throw new Error(`${what}: 0x${x.toString(16)} is not in scalar(${formatScalar(s)})`);
}

function checkAlu(op: AluOp, width: Width, a: Sample, b: Sample): void {
  const result = alu(op, width, a.scalar, b.scalar);
  checkInvariants(result, op);
  for (const x of a.members) {
    for (const y of b.members) expectMember(result, concreteAlu(op, width, x, y), `${x} ${op}${width} ${y}`);
  }
}

function checkJump(op: JumpOp, width: Width, a: Sample, b: Sample): void {
  const outcome = compare(op, width, a.scalar, b.scalar);
  const refined = {
    true: refine(op, width, a.scalar, b.scalar, true),
    false: refine(op, width, a.scalar, b.scalar, false),
  };
  for (const side of [refined.true, refined.false]) {
    if (side === undefined) continue;
    for (const [before, after] of [
      [a.scalar, side.a],
      [b.scalar, side.b],
    ] as const) {
      checkInvariants(after, op);
      if (!contains(before, after))
        throw new Error(`${op}${width} widened ${formatScalar(before)} to ${formatScalar(after)}`);
    }
  }
  for (const x of a.members) {
    for (const y of b.members) {
      const real = concreteJump(op, width, x, y);
      if (outcome !== undefined && outcome !== real) throw new Error(`${x} ${op}${width} ${y} is ${real}`);
      const side = refined[`${real}`];
      if (side === undefined) throw new Error(`${x} ${op}${width} ${y}: branch ${real} declared impossible`);
      expectMember(side.a, x, `left of ${x} ${op}${width} ${y}`);
      expectMember(side.b, y, `right of ${x} ${op}${width} ${y}`);
    }
  }
}

describe('soundness on random sets', () => {
  test.each(aluCases)('%s, %i bits', (op, width) => {
    fc.assert(
      fc.property(sample, sample, (a, b) => checkAlu(op, width, a, b)),
      RUNS,
    );
  });

  test.each(jumpCases)('%s, %i bits: compare and refine', (op, width) => {
    fc.assert(
      fc.property(sample, sample, (a, b) => checkJump(op, width, a, b)),
      RUNS,
    );
  });

  test('shifts by small amounts', () => {
    const amounts = fc.tuple(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 0, max: 3 })).map(
      ([n, more]): Sample => ({
        scalar: range(BigInt(n), BigInt(n + more)),
        members: Array.from({ length: more + 1 }, (_, i) => BigInt(n + i)),
      }),
    );
    for (const op of ['lsh', 'rsh', 'arsh'] as const) {
      for (const width of WIDTHS) {
        fc.assert(
          fc.property(sample, amounts, (a, b) => checkAlu(op, width, a, b)),
          { numRuns: 1000 },
        );
      }
    }
  });

  test('shifts by amounts around the widths', () => {
    const values: Sample[] = [1n, 2n, 3n, 1n << 31n, 1n << 32n, 1n << 63n, (1n << 64n) - 1n].flatMap(x => [
      { scalar: constant(x), members: [x] },
      { scalar: join(constant(x), constant(x >> 1n)), members: [x, x >> 1n] },
    ]);
    for (const edge of [0n, 31n, 32n, 63n, 64n, (1n << 32n) + 31n]) {
      for (let first = edge > 2n ? edge - 2n : 0n; first <= edge + 2n; first++) {
        for (let length = 1n; length <= 4n; length++) {
          const members = Array.from({ length: Number(length) }, (_, i) => first + BigInt(i));
          const amount = { scalar: range(first, first + length - 1n), members };
          for (const op of ['lsh', 'rsh', 'arsh'] as const) {
            for (const width of WIDTHS) for (const value of values) checkAlu(op, width, value, amount);
          }
        }
      }
    }
  });

  test('an operand with itself', () => {
    fc.assert(
      fc.property(sample, a => {
        for (const [op, width] of aluCases) checkAlu(op, width, a, a);
        for (const [op, width] of jumpCases) checkJump(op, width, a, a);
      }),
      { numRuns: 300 },
    );
  });

  test('truncate, signExtend, movsx, byteswap', () => {
    fc.assert(
      fc.property(sample, ({ scalar, members }) => {
        for (const bytes of [1, 2, 4, 8] as const) {
          const narrow = truncate(scalar, bytes);
          const wide = signExtend(scalar, bytes);
          checkInvariants(narrow, `truncate ${bytes}`);
          checkInvariants(wide, `signExtend ${bytes}`);
          for (const x of members) {
            expectMember(narrow, BigInt.asUintN(8 * bytes, x), `truncate ${bytes}`);
            expectMember(wide, BigInt.asUintN(64, BigInt.asIntN(8 * bytes, x)), `signExtend ${bytes}`);
          }
        }
        for (const from of [8, 16, 32] as const) {
          for (const width of WIDTHS) {
            if (from === 32 && width === 32) continue;
            const moved = movsx(width, from, scalar);
            checkInvariants(moved, 'movsx');
            for (const x of members) expectMember(moved, BigInt.asUintN(width, BigInt.asIntN(from, x)), 'movsx');
          }
        }
        for (const size of [16, 32, 64] as const) {
          for (const order of ['le', 'be', 'swap'] as const) {
            const swapped = byteswap(order, size, scalar);
            checkInvariants(swapped, 'byteswap');
            for (const x of members) {
              const bytes = Array.from({ length: size / 8 }, (_, i) => (x >> BigInt(8 * i)) & 0xffn);
              if (order !== 'le') bytes.reverse();
              expectMember(
                swapped,
                bytes.reduceRight((sum, byte) => (sum << 8n) | byte, 0n),
                `${order}${size}`,
              );
            }
          }
        }
      }),
      RUNS,
    );
  });

  test('join, intersect, contains, equal', () => {
    fc.assert(
      fc.property(sample, sample, concreteValue, (a, b, x) => {
        const hull = join(a.scalar, b.scalar);
        checkInvariants(a.scalar, 'sample');
        checkInvariants(hull, 'join');
        expect(contains(hull, a.scalar) && contains(hull, b.scalar)).toBe(true);
        expect(equal(hull, join(b.scalar, a.scalar))).toBe(true);
        const both = intersect(a.scalar, b.scalar);
        if (both !== undefined) {
          checkInvariants(both, 'intersect');
          expect(contains(a.scalar, both) && contains(b.scalar, both)).toBe(true);
        }
        for (const member of [...a.members, ...b.members, x]) {
          const [inA, inB] = [isMember(a.scalar, member), isMember(b.scalar, member)];
          if (inA || inB) expectMember(hull, member, 'join');
          if (inA && inB) {
            if (both === undefined) throw new Error(`intersection lost ${member}`);
            expectMember(both, member, 'intersect');
          }
          // Membership and containment of a constant are the same thing.
          expect(contains(a.scalar, constant(member))).toBe(inA);
        }
        if (contains(a.scalar, b.scalar)) {
          expect(equal(hull, a.scalar)).toBe(true);
          for (const member of b.members) expectMember(a.scalar, member, 'contains');
        }
        expect(equal(a.scalar, b.scalar)).toBe(contains(a.scalar, b.scalar) && contains(b.scalar, a.scalar));
      }),
      RUNS,
    );
  });

  test('constants are computed exactly', () => {
    fc.assert(
      fc.property(concreteValue, concreteValue, (x, y) => {
        for (const [op, width] of aluCases) {
          const result = alu(op, width, constant(x), constant(y));
          expect(isConstant(result)).toBe(true);
          expect(constantValue(result)).toBe(concreteAlu(op, width, x, y));
        }
        for (const [op, width] of jumpCases) {
          expect(compare(op, width, constant(x), constant(y))).toBe(concreteJump(op, width, x, y));
        }
      }),
      RUNS,
    );
  });
});

describe('all small ranges at the edges', () => {
  /** All ranges of up to three numbers around each edge. */
  const samples: Sample[] = [0n, 1n << 31n, 1n << 32n, 1n << 63n].flatMap(edge => {
    const near: Sample[] = [];
    for (let first = -2n; first <= 2n; first++) {
      for (let length = 1n; length <= 3n; length++) {
        const members = Array.from({ length: Number(length) }, (_, i) => BigInt.asUintN(64, edge + first + BigInt(i)));
        const signed = members.map(x => BigInt.asIntN(64, x));
        // Across zero only the signed order has one interval, across 2^63 only the unsigned one.
        const scalar =
          signed[0]! <= signed.at(-1)! ? signedRange(signed[0]!, signed.at(-1)!) : range(members[0]!, members.at(-1)!);
        near.push({ scalar, members });
      }
    }
    return near;
  });

  test('a range holds its members and says when it has only one', () => {
    for (const { scalar, members } of samples) {
      checkInvariants(scalar, 'range');
      for (const x of members) expectMember(scalar, x, 'range');
      expect(isConstant(scalar)).toBe(members.length === 1);
    }
  });

  test.each(aluCases)('%s, %i bits', (op, width) => {
    for (const a of samples) for (const b of samples) checkAlu(op, width, a, b);
  });

  test.each(jumpCases)('%s, %i bits', (op, width) => {
    for (const a of samples) for (const b of samples) checkJump(op, width, a, b);
  });
});

describe('making scalars', () => {
  test('UNKNOWN holds everything', () => {
    expect(isUnknown(UNKNOWN)).toBe(true);
    expect(isUnknown(range(0n, (1n << 64n) - 1n))).toBe(true);
    expect(isUnknown(range(0n, 1n << 63n))).toBe(false);
    expect(formatScalar(UNKNOWN)).toBe('');
    checkInvariants(UNKNOWN, 'UNKNOWN');
  });

  test('constants wrap to u64', () => {
    expect(constantValue(constant(-1n))).toBe((1n << 64n) - 1n);
    expect(constantValue(constant((1n << 64n) + 5n))).toBe(5n);
    expect(equal(constant(-1n), constant((1n << 64n) - 1n))).toBe(true);
  });

  test('reversed bounds claim nothing', () => {
    expect(isUnknown(range(2n, 1n))).toBe(true);
    expect(isUnknown(signedRange(2n, 1n))).toBe(true);
  });

  test('what has nothing in common has no intersection', () => {
    expect(intersect(range(0n, 5n), range(6n, 9n))).toBeUndefined();
    expect(intersect(signedRange(-3n, -1n), range(0n, 1n << 63n))).toEqual(undefined);
    expect(intersect(alu('and', 64, UNKNOWN, constant(-2n)), constant(7n))).toBeUndefined();
  });
});
