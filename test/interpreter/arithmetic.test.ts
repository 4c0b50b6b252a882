/** Every ALU and jump operation against plain BigInt arithmetic written down from RFC 9669. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AluOp, Instruction, JumpOp, Width } from '../../src/isa/instruction.ts';
import { linked, machine } from './support.ts';

const ALU_OPS: readonly AluOp[] = [
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
const JUMP_OPS: readonly JumpOp[] = ['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'sgt', 'sge', 'slt', 'sle', 'set'];

/** Values at which carries, signs and the exactness of doubles change. */
const EDGES = [0n, 1n, 2n, 31n, 32n, 63n, 64n, 0x7fffn, 0x8000n, 0xffffn]
  .concat([0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n])
  .concat([(1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n, (1n << 64n) - 2n]);
const u64 = fc.oneof(fc.constantFrom(...EDGES), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
const int32 = fc.oneof(
  fc.constantFrom(0, 1, -1, 31, 32, 63, 64, 0x7fffffff, -0x80000000),
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
);

function aluReference(op: AluOp, width: Width, x: bigint, y: bigint): bigint {
  const a = BigInt.asUintN(width, x);
  const b = BigInt.asUintN(width, y);
  const sa = BigInt.asIntN(width, x);
  const sb = BigInt.asIntN(width, y);
  const amount = b & BigInt(width - 1);
  const results: Record<AluOp, () => bigint> = {
    add: () => a + b,
    sub: () => a - b,
    mul: () => a * b,
    div: () => (b === 0n ? 0n : a / b),
    sdiv: () => (b === 0n ? 0n : sa / sb),
    mod: () => (b === 0n ? a : a % b),
    smod: () => (b === 0n ? a : sa % sb),
    or: () => a | b,
    and: () => a & b,
    xor: () => a ^ b,
    lsh: () => a << amount,
    rsh: () => a >> amount,
    arsh: () => sa >> amount,
    neg: () => -a,
    mov: () => b,
  };
  return BigInt.asUintN(width, results[op]());
}

function jumpReference(op: JumpOp, width: Width, x: bigint, y: bigint): boolean {
  const a = BigInt.asUintN(width, x);
  const b = BigInt.asUintN(width, y);
  const sa = BigInt.asIntN(width, x);
  const sb = BigInt.asIntN(width, y);
  const results: Record<JumpOp, boolean> = {
    eq: a === b,
    ne: a !== b,
    gt: a > b,
    ge: a >= b,
    lt: a < b,
    le: a <= b,
    sgt: sa > sb,
    sge: sa >= sb,
    slt: sa < sb,
    sle: sa <= sb,
    set: (a & b) !== 0n,
  };
  return results[op];
}

const { interpreter } = machine();
const result = (): Instruction => ({ kind: 'alu', op: 'mov', width: 64, dst: 0, src: 1, imm: 0 });
const exit: Instruction = { kind: 'exit' };
const widths: readonly Width[] = [32, 64];
const grid = <T>(ops: readonly T[]) => ops.flatMap(op => widths.map(width => ({ op, width })));

describe.each(grid(ALU_OPS))('$op, $width bits', ({ op, width }) => {
  const byRegister = linked([
    { kind: 'alu', op, width, dst: 1, src: op === 'neg' ? undefined : 2, imm: 0 },
    result(),
    exit,
  ]);

  test('register operand', () => {
    fc.assert(
      fc.property(u64, u64, (a, b) => {
        expect(interpreter.run(byRegister, [a, b])).toBe(aluReference(op, width, a, b));
      }),
      { numRuns: 300 },
    );
  });

  test('all pairs of edge values', () => {
    for (const a of EDGES) {
      for (const b of EDGES) expect(interpreter.run(byRegister, [a, b])).toBe(aluReference(op, width, a, b));
    }
  });

  test('immediate operand, sign-extended', () => {
    fc.assert(
      fc.property(u64, int32, (a, imm) => {
        const program = linked([{ kind: 'alu', op, width, dst: 1, src: undefined, imm }, result(), exit]);
        expect(interpreter.run(program, [a])).toBe(aluReference(op, width, a, BigInt(imm)));
      }),
    );
  });

  test('operand and destination are the same register', () => {
    const program = linked([
      { kind: 'alu', op, width, dst: 1, src: op === 'neg' ? undefined : 1, imm: 0 },
      result(),
      exit,
    ]);
    fc.assert(
      fc.property(u64, a => {
        expect(interpreter.run(program, [a])).toBe(aluReference(op, width, a, a));
      }),
    );
  });
});

describe.each(grid(JUMP_OPS))('jump $op, $width bits', ({ op, width }) => {
  const program = (src: 2 | undefined, imm: number) =>
    linked([
      { kind: 'alu', op: 'mov', width: 64, dst: 0, src: undefined, imm: 1 },
      { kind: 'jump', op, width, dst: 1, src, imm, offset: 1 },
      { kind: 'alu', op: 'mov', width: 64, dst: 0, src: undefined, imm: 0 },
      exit,
    ]);

  test('register operand', () => {
    const byRegister = program(2, 0);
    const check = (a: bigint, b: bigint): void => {
      expect(interpreter.run(byRegister, [a, b])).toBe(jumpReference(op, width, a, b) ? 1n : 0n);
    };
    fc.assert(fc.property(u64, u64, check));
    for (const a of EDGES) for (const b of EDGES) check(a, b);
  });

  test('immediate operand, sign-extended', () => {
    fc.assert(
      fc.property(u64, int32, (a, imm) => {
        const expected = jumpReference(op, width, a, BigInt(imm)) ? 1n : 0n;
        expect(interpreter.run(program(undefined, imm), [a])).toBe(expected);
      }),
    );
  });
});

describe('moves with sign extension and byte swaps', () => {
  test.each([
    [32, 8],
    [32, 16],
    [64, 8],
    [64, 16],
    [64, 32],
  ] as const)('movsx to %i bits from %i', (width, from) => {
    const program = linked([{ kind: 'movsx', width, from, dst: 0, src: 1 }, exit]);
    fc.assert(
      fc.property(u64, a => {
        expect(interpreter.run(program, [a])).toBe(BigInt.asUintN(width, BigInt.asIntN(from, a)));
      }),
    );
  });

  test.each([
    ['le', 16],
    ['le', 32],
    ['le', 64],
    ['be', 16],
    ['be', 32],
    ['be', 64],
    ['swap', 16],
    ['swap', 32],
    ['swap', 64],
  ] as const)('%s%i', (order, size) => {
    const program = linked([{ kind: 'byteswap', order, size, dst: 1 }, result(), exit]);
    fc.assert(
      fc.property(u64, a => {
        const bytes = BigInt.asUintN(size, a)
          .toString(16)
          .padStart(size / 4, '0');
        const swapped = BigInt(`0x${bytes.match(/../g)!.reverse().join('')}`);
        expect(interpreter.run(program, [a])).toBe(order === 'le' ? BigInt.asUintN(size, a) : swapped);
      }),
    );
  });

  test('loadImm64 fills both halves', () => {
    fc.assert(
      fc.property(u64, value => {
        const program = linked([{ kind: 'loadImm64', dst: 0, value, reference: undefined }, { kind: 'wide' }, exit]);
        expect(interpreter.run(program, [])).toBe(value);
      }),
    );
  });
});
