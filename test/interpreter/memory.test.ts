import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InterpreterError } from '../../src/interpreter/errors.ts';
import { assemble } from '../../src/isa/assembler.ts';
import type { AtomicOp, Instruction, Size } from '../../src/isa/instruction.ts';
import { ARENA_BASE, linked, machine } from './support.ts';

const SIZE = 1 << 18;
const { arena, interpreter } = machine(SIZE, 4096);
const block = arena.allocate(64, 16);
const address = arena.address(block);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const exit: Instruction = { kind: 'exit' };
const SIZES: readonly Size[] = [1, 2, 4, 8];

function readNumber(at: number, size: Size): bigint {
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(arena.bytes[at + i]!);
  return value;
}

/** Details of the error that `run` throws. */
function thrown(run: () => unknown): { code: string; details: Readonly<Record<string, unknown>> } {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(InterpreterError);
    return error as InterpreterError;
  }
  throw new Error('expected an InterpreterError');
}

describe('loads and stores', () => {
  test.each(SIZES)('%i bytes, zero- and sign-extended, at any alignment', size => {
    fc.assert(
      fc.property(u64, fc.integer({ min: -8, max: 8 }), fc.nat(7), (value, offset, skew) => {
        const at = block + 16 + skew;
        arena.view.setBigUint64(at, value, true);
        const base = arena.address(at) - BigInt(offset);
        for (const signed of [false, true]) {
          const program = linked([{ kind: 'load', size, signed, dst: 0, src: 1, offset }, exit]);
          const bits = size * 8;
          const extended = signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
          expect(interpreter.run(program, [base])).toBe(BigInt.asUintN(64, extended));
        }
      }),
    );
  });

  test.each(SIZES)('store of %i bytes changes those bytes and no others', size => {
    fc.assert(
      fc.property(u64, fc.integer({ min: -0x80000000, max: 0x7fffffff }), fc.nat(7), (value, imm, skew) => {
        for (const src of [2, undefined] as const) {
          arena.bytes.fill(0xa5, block, block + 32);
          const program = linked([{ kind: 'store', size, dst: 1, offset: 8 + skew, src, imm }, exit]);
          interpreter.run(program, [address, value]);
          const stored = BigInt.asUintN(size * 8, src === undefined ? BigInt(imm) : value);
          expect(readNumber(block + 8 + skew, size)).toBe(stored);
          const rest = [
            ...arena.bytes.subarray(block, block + 8 + skew),
            ...arena.bytes.subarray(block + 8 + skew + size, block + 32),
          ];
          expect(rest.every(byte => byte === 0xa5)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  const kinds: readonly [name: string, make: (size: Size) => Instruction][] = [
    ['load', size => ({ kind: 'load', size, signed: false, dst: 0, src: 1, offset: 0 })],
    ['signed load', size => ({ kind: 'load', size, signed: true, dst: 0, src: 1, offset: 0 })],
    ['store', size => ({ kind: 'store', size, dst: 1, offset: 0, src: 2, imm: 0 })],
  ];
  test.each(kinds)('%s: the arena, all of it, and not a byte more', (_, make) => {
    const end = ARENA_BASE + BigInt(SIZE);
    for (const size of SIZES) {
      const program = linked([make(size), exit]);
      interpreter.run(program, [ARENA_BASE]);
      interpreter.run(program, [end - BigInt(size)]);
      const outside = [
        0n,
        1n,
        ARENA_BASE - 1n,
        ARENA_BASE - 8n,
        end - BigInt(size) + 1n,
        end,
        1n << 53n,
        1n << 63n,
        (1n << 64n) - 1n,
      ];
      for (const at of outside) {
        const error = thrown(() => interpreter.run(program, [at]));
        expect(error.code).toBe('memory_out_of_bounds');
        expect(error.details).toMatchObject({ insn: 0, size, address: Number(at) });
      }
    }
  });

  test('an address that wraps around is outside', () => {
    const program = linked(assemble('r0 = *(u8 *)(r1 + 32767)\nexit'));
    expect(thrown(() => interpreter.run(program, [(1n << 64n) - 100n])).code).toBe('memory_out_of_bounds');
  });
});

describe('atomics', () => {
  const modify: Partial<Record<AtomicOp, (old: bigint, operand: bigint) => bigint>> = {
    add: (a, b) => a + b,
    or: (a, b) => a | b,
    and: (a, b) => a & b,
    xor: (a, b) => a ^ b,
    xchg: (_, b) => b,
  };
  const ops = Object.keys(modify) as AtomicOp[];
  test.each(ops.flatMap(op => ([4, 8] as const).map(size => ({ op, size }))))('$op, $size bytes', ({ op, size }) => {
    const bits = size * 8;
    fc.assert(
      fc.property(u64, u64, fc.boolean(), (old, operand, fetch) => {
        if (op === 'xchg') fetch = true;
        arena.view.setBigUint64(block, old, true);
        const insn: Instruction = { kind: 'atomic', op, fetch, size, dst: 1, src: 2, offset: 0 };
        const r0 = interpreter.run(linked([insn, ...assemble('r0 = r2\nexit')]), [address, operand]);
        expect(r0).toBe(fetch ? BigInt.asUintN(bits, old) : operand);
        const [a, b] = [BigInt.asUintN(bits, old), BigInt.asUintN(bits, operand)];
        expect(readNumber(block, size)).toBe(BigInt.asUintN(bits, modify[op]!(a, b)));
        if (size === 4) expect(readNumber(block + 4, 4)).toBe(old >> 32n);
      }),
      { numRuns: 50 },
    );
  });

  test.each([4, 8] as const)('cmpxchg, %i bytes', size => {
    const bits = size * 8;
    const insn: Instruction = { kind: 'atomic', op: 'cmpxchg', fetch: true, size, dst: 1, src: 2, offset: 0 };
    const program = linked([...assemble('r0 = r3'), insn, exit]);
    fc.assert(
      fc.property(u64, u64, u64, fc.boolean(), (old, operand, other, equal) => {
        arena.view.setBigUint64(block, old, true);
        // Where the sizes differ, the upper half of r0 does not take part in the comparison.
        const expected = equal ? (size === 4 ? (other & ~0xffff_ffffn) | (old & 0xffff_ffffn) : old) : other;
        const matches = BigInt.asUintN(bits, expected) === BigInt.asUintN(bits, old);
        expect(interpreter.run(program, [address, operand, expected])).toBe(BigInt.asUintN(bits, old));
        expect(readNumber(block, size)).toBe(BigInt.asUintN(bits, matches ? operand : old));
      }),
    );
  });

  test.each(SIZES)('load-acquire and store-release, %i bytes', size => {
    fc.assert(
      fc.property(u64, u64, (old, value) => {
        arena.view.setBigUint64(block, old, true);
        const load: Instruction = { kind: 'atomic', op: 'loadAcquire', fetch: false, size, dst: 0, src: 1, offset: 8 };
        expect(interpreter.run(linked([load, exit]), [address - 8n])).toBe(BigInt.asUintN(size * 8, old));
        const store: Instruction = {
          kind: 'atomic',
          op: 'storeRelease',
          fetch: false,
          size,
          dst: 1,
          src: 2,
          offset: 8,
        };
        interpreter.run(linked([store, exit]), [address - 8n, value]);
        const mask = (1n << BigInt(size * 8)) - 1n;
        expect(readNumber(block, 8)).toBe((old & ~mask) | (value & mask));
      }),
    );
  });

  test('misaligned and out of bounds are refused', () => {
    const program = linked(assemble('lock *(u64 *)(r1 + 0) += r2\nexit'));
    expect(thrown(() => interpreter.run(program, [address + 4n])).code).toBe('misaligned_atomic');
    expect(thrown(() => interpreter.run(program, [ARENA_BASE + BigInt(SIZE)])).code).toBe('memory_out_of_bounds');
  });
});
