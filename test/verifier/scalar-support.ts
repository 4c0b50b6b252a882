/** What the tests of scalars share: members by construction, concrete semantics, invariants. */
import fc from 'fast-check';
import type { AluOp, JumpOp, Width } from '../../src/isa/instruction.ts';
import { constant, formatScalar, intersect, join, range, type Scalar, signedRange } from '../../src/verifier/scalar.ts';

export const ALU_OPS: readonly AluOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'sdiv',
  'mod',
  'smod',
  'or',
  'and',
  'xor',
  'lsh',
  'rsh',
  'arsh',
  'neg',
  'mov',
];
export const JUMP_OPS: readonly JumpOp[] = ['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'sgt', 'sge', 'slt', 'sle', 'set'];
export const WIDTHS: readonly Width[] = [32, 64];

const U64 = (x: bigint): bigint => BigInt.asUintN(64, x);

export function isMember(s: Scalar, x: bigint): boolean {
  const signed = BigInt.asIntN(64, x);
  const low = Number(x & 0xffffffffn);
  return (
    (x & ~s.tnum.mask) === s.tnum.value &&
    s.umin <= x &&
    x <= s.umax &&
    s.smin <= signed &&
    signed <= s.smax &&
    s.u32min <= low &&
    low <= s.u32max &&
    s.s32min <= (low | 0) &&
    (low | 0) <= s.s32max
  );
}

/** What every scalar must satisfy, whatever made it; throws with the scalar's text. */
export function checkInvariants(s: Scalar, origin: string): void {
  const top = (1n << 64n) - 1n;
  const problems = [
    [s.umin <= s.umax && s.smin <= s.smax && s.u32min <= s.u32max && s.s32min <= s.s32max, 'crossed bounds'],
    [(s.tnum.value & s.tnum.mask) === 0n, 'value and mask overlap'],
    [s.umin >= 0n && s.umax <= top && s.tnum.value >= 0n && s.tnum.mask >= 0n && s.tnum.mask <= top, 'not u64'],
    [s.smin >= -(1n << 63n) && s.smax < 1n << 63n, 'not int64'],
    [s.u32min === s.u32min >>> 0 && s.u32max === s.u32max >>> 0, 'not u32'],
    [s.s32min === (s.s32min | 0) && s.s32max === (s.s32max | 0), 'not int32'],
    [![s.u32min, s.u32max, s.s32min, s.s32max].some(n => Object.is(n, -0)), 'minus zero'],
    [s.umin >= s.tnum.value && s.umax <= (s.tnum.value | s.tnum.mask), 'bounds beyond the known bits'],
    [s.u32min >= Number(s.tnum.value & 0xffffffffn), 'u32min below the known bits'],
    [s.umax > 0xffffffffn || (BigInt(s.u32min) === s.umin && BigInt(s.u32max) === s.umax), 'u32 and u64 disagree'],
    [s.smin < 0n || (s.smin === s.umin && s.smax === s.umax), 'signed and unsigned disagree'],
    [s.umin !== s.umax || s.tnum.mask === 0n, 'a constant with unknown bits'],
  ] as const;
  for (const [holds, problem] of problems) {
    if (!holds) throw new Error(`${origin}: ${problem}: ${formatScalar(s)}`);
  }
}

/** The arithmetic of RFC 9669 on u64 values, written for clarity only. */
export function concreteAlu(op: AluOp, width: Width, x: bigint, y: bigint): bigint {
  const a = BigInt.asUintN(width, x);
  const b = BigInt.asUintN(width, y);
  const signedA = BigInt.asIntN(width, x);
  const signedB = BigInt.asIntN(width, y);
  const amount = b % BigInt(width);
  const results: Record<AluOp, () => bigint> = {
    add: () => a + b,
    sub: () => a - b,
    mul: () => a * b,
    div: () => (b === 0n ? 0n : a / b),
    sdiv: () => (b === 0n ? 0n : signedA / signedB),
    mod: () => (b === 0n ? a : a % b),
    smod: () => (b === 0n ? a : signedA % signedB),
    or: () => a | b,
    and: () => a & b,
    xor: () => a ^ b,
    lsh: () => a << amount,
    rsh: () => a >> amount,
    arsh: () => signedA >> amount,
    neg: () => -a,
    mov: () => b,
  };
  return BigInt.asUintN(width, results[op]());
}

export function concreteJump(op: JumpOp, width: Width, x: bigint, y: bigint): boolean {
  const a = BigInt.asUintN(width, x);
  const b = BigInt.asUintN(width, y);
  const signedA = BigInt.asIntN(width, x);
  const signedB = BigInt.asIntN(width, y);
  const results: Record<JumpOp, boolean> = {
    eq: a === b,
    ne: a !== b,
    gt: a > b,
    ge: a >= b,
    lt: a < b,
    le: a <= b,
    sgt: signedA > signedB,
    sge: signedA >= signedB,
    slt: signedA < signedB,
    sle: signedA <= signedB,
    set: (a & b) !== 0n,
  };
  return results[op];
}

const EDGES = [0n, 1n << 7n, 1n << 8n, 1n << 15n, 1n << 16n, 1n << 31n, 1n << 32n, 1n << 33n, 1n << 53n, 1n << 63n];

/** u64 values, mostly around the edges of the domains. */
export const concreteValue: fc.Arbitrary<bigint> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(...EDGES), fc.integer({ min: -4, max: 4 })).map(([e, d]) => U64(e + BigInt(d))),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  { weight: 1, arbitrary: fc.integer({ min: -100, max: 100 }).map(n => U64(BigInt(n))) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.integer({ min: 0, max: 63 }))
      .map(([x, n]) => x >> BigInt(n)),
  },
);

/** One more set that holds the member, made from the other value. */
type Recipe = { readonly kind: 'unsigned' | 'signed' | 'joined'; readonly other: bigint; readonly wider: boolean };

/** Builds a scalar around `member` by joins and intersections with sets that hold it. */
function build(member: bigint, near: readonly bigint[], recipes: readonly Recipe[]): Scalar {
  let s = near.reduce((all, x) => join(all, constant(x)), constant(member));
  for (const { kind, other, wider } of recipes) {
    const [x, y] = [BigInt.asIntN(64, member), BigInt.asIntN(64, other)];
    const set =
      kind === 'unsigned'
        ? range(member < other ? member : other, member < other ? other : member)
        : kind === 'signed'
          ? signedRange(x < y ? x : y, x < y ? y : x)
          : join(constant(member), constant(other));
    const next = wider ? join(s, set) : intersect(s, set);
    if (next === undefined)
      throw new Error(`intersection lost ${member}: ${formatScalar(s)} with ${formatScalar(set)}`);
    s = next;
  }
  return s;
}

export interface Sample {
  readonly scalar: Scalar;
  /** Values that are in it; the first one by construction. */
  readonly members: readonly bigint[];
}

const recipe: fc.Arbitrary<Recipe> = fc.record({
  kind: fc.constantFrom('unsigned', 'signed', 'joined'),
  other: concreteValue,
  wider: fc.boolean(),
});

export const sample: fc.Arbitrary<Sample> = fc
  .tuple(concreteValue, fc.array(concreteValue, { maxLength: 2 }), fc.array(recipe, { maxLength: 3 }))
  .map(([member, near, recipes]) => {
    const scalar = build(member, near, recipes);
    return { scalar, members: [member, ...near.filter(x => isMember(scalar, x))] };
  });
