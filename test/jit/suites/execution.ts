/**
 * Execution against the reference: every instruction with every pair of registers, and random operands. After
 * each instruction *all* registers are compared, so that one which the emitter borrows and forgets to give back shows.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AluOp, Atomic, Instruction, JumpOp, Register, Size, Width } from '../../../src/isa/instruction.ts';
import { Computer } from '../computer.ts';
import type { Platform } from '../processor.ts';
import { apply, applyToMemory, jumps } from '../reference.ts';
import { lowered } from '../support.ts';

const BLOCK_BYTES = 64;
const REGISTERS: readonly Register[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const WIDTHS: readonly Width[] = [32, 64];
const BINARY: readonly AluOp[] = 'add sub mul div sdiv mod smod or and xor lsh rsh arsh mov'.split(' ') as AluOp[];
const JUMPS: readonly JumpOp[] = 'eq ne gt ge lt le sgt sge slt sle set'.split(' ') as JumpOp[];
const INTERESTING = [
  0n,
  1n,
  2n,
  3n,
  31n,
  63n,
  64n,
  0x7fn,
  0x80n,
  0xffn,
  0x8000n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0x80000000ffffffffn,
  0xffffffff00000000n,
  0xffffffff80000000n,
  0xffffffffffffffffn,
  0x0123456789abcdefn,
];
const word = fc.oneof(fc.constantFrom(...INTERESTING), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
const imm = fc.oneof(
  fc.constantFrom(
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    8,
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    -128,
    -129,
    1 << 30,
    0x7fffffff,
    -0x80000000,
  ),
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
);
const register = fc.constantFrom(...REGISTERS);
const width = fc.constantFrom(...WIDTHS);

const load = (dst: Register, src: Register, offset: number): Instruction => {
  return { kind: 'load', size: 8, signed: false, dst, src, offset };
};
const store = (dst: Register, offset: number, src: Register): Instruction => {
  return { kind: 'store', size: 8, dst, offset, src, imm: 0 };
};

/** r1 points to the register file: ten words in, the same words out. */
function around(body: readonly Instruction[]): Instruction[] {
  return [
    store(10, -8, 1),
    ...REGISTERS.filter(r => r !== 1).map(r => load(r, 1, 8 * r)),
    load(1, 1, 8),
    ...body,
    load(11, 10, -8),
    ...REGISTERS.map(r => store(11, 8 * r, r)),
    { kind: 'exit' },
  ];
}

class RegisterMachine {
  readonly computer: Computer;
  private readonly file: bigint;
  /** Memory for the programs to work on. */
  readonly block: bigint;
  private readonly release: () => void;

  constructor(platform: Platform) {
    this.computer = new Computer(platform);
    this.file = this.computer.allocate(128);
    this.block = this.computer.allocate(BLOCK_BYTES);
    this.release = this.computer.mark();
  }

  prepare(body: readonly Instruction[]): (registers: readonly bigint[]) => bigint[] {
    this.release();
    const entry = this.computer.install(this.computer.compile(lowered(around(body))));
    const at = this.computer.offset(this.file);
    const { view } = this.computer;
    return registers => {
      for (const r of REGISTERS) view.setBigUint64(at + 8 * r, registers[r]!, true);
      this.computer.call(entry, this.file);
      return REGISTERS.map(r => view.getBigUint64(at + 8 * r, true));
    };
  }

  check(insn: Instruction, registers: readonly bigint[]): void {
    this.checkPrepared(this.prepare(insn.kind === 'loadImm64' ? [insn, { kind: 'wide' }] : [insn]), insn, registers);
  }
  checkPrepared(
    run: (registers: readonly bigint[]) => bigint[],
    insn: Instruction,
    registers: readonly bigint[],
  ): void {
    const expected = [...registers];
    apply(insn, expected);
    const actual = run(registers);
    // A plain comparison first: `expect` on each of many thousand runs would take most of the time.
    if (!actual.every((value, r) => value === expected[r])) {
      expect({ insn, registers, after: actual }).toEqual({ insn, registers, after: expected });
    }
  }
}

/** Distinct values in all registers, so that a mix-up shows. */
const background = (): bigint[] => REGISTERS.map(r => 0x1111111111111111n * BigInt(r + 1));

export function executionSuite(platform: Platform): void {
  const runs = (count: number): number => Math.ceil(count / platform.slowdown);
  describe.skipIf(!platform.available)('arithmetic against reference', () => {
    const machine = new RegisterMachine(platform);
    for (const op of BINARY) {
      test(`${op}, all register pairs`, () => {
        for (const width of WIDTHS) {
          for (const dst of REGISTERS) {
            for (const src of REGISTERS) {
              const insn: Instruction = { kind: 'alu', op, width, dst, src, imm: 0 };
              const run = machine.prepare([insn]);
              INTERESTING.forEach((x, i) => {
                const registers = background();
                registers[dst] = x;
                for (const step of [0, 1, 7, INTERESTING.length - 1 - 2 * i]) {
                  registers[src] = INTERESTING[(i + step + INTERESTING.length) % INTERESTING.length]!;
                  machine.checkPrepared(run, insn, registers);
                }
              });
            }
          }
        }
      });
      test(`${op}, random`, () => {
        fc.assert(
          fc.property(width, register, fc.option(register), imm, word, word, (width, dst, src, imm, x, y) => {
            const registers = background();
            registers[dst] = x;
            if (src !== null) registers[src] = y;
            machine.check(
              { kind: 'alu', op, width, dst, src: src ?? undefined, imm: src === null ? imm : 0 },
              registers,
            );
          }),
          { numRuns: runs(300) },
        );
      });
    }

    test('an index that is scaled and added', () => {
      const alu = (op: AluOp, width: Width, dst: Register, src: Register | undefined, imm: number): Instruction => ({
        kind: 'alu',
        op,
        width,
        dst,
        src,
        imm,
      });
      for (const dst of REGISTERS) {
        for (const index of REGISTERS) {
          for (const amount of [1, 2, 3, 4]) {
            const pair = [alu('lsh', 64, index, undefined, amount), alu('add', 64, dst, index, 0)];
            const run = machine.prepare(pair);
            for (const value of INTERESTING) {
              const registers = background();
              registers[index] = value;
              const expected = [...registers];
              for (const insn of pair) apply(insn, expected);
              expect(run(registers)).toEqual(expected);
            }
          }
        }
      }
      // Nearly the same: other widths, and a jump that leads between the two.
      const shifted = alu('lsh', 64, 3, undefined, 3);
      const sum = alu('add', 64, 2, 3, 0);
      const skip: Instruction = { kind: 'jump', op: 'gt', width: 64, dst: 4, src: undefined, imm: 5, offset: 1 };
      const others: [Instruction[], jumps?: boolean][] = [
        [[{ ...shifted, width: 32 } as Instruction, sum]],
        [[shifted, { ...sum, width: 32 } as Instruction]],
        [[shifted, { ...sum, op: 'sub' } as Instruction]],
        [[{ ...shifted, op: 'rsh' } as Instruction, sum]],
        [[skip, shifted, sum], true],
      ];
      for (const [body, jumps] of others) {
        const run = machine.prepare(body);
        for (const value of INTERESTING) {
          const registers = background();
          registers[3] = value;
          registers[4] = value;
          const expected = [...registers];
          const done = jumps !== true ? body : value > 5n ? [sum] : [shifted, sum];
          for (const insn of done) apply(insn, expected);
          expect(run(registers)).toEqual(expected);
        }
      }
    });

    test('neg, movsx, byte swaps, 64-bit constants', () => {
      const one: fc.Arbitrary<Instruction> = fc.oneof(
        fc.record({
          kind: fc.constant('alu' as const),
          op: fc.constant('neg' as const),
          width,
          dst: register,
          src: fc.constant(undefined),
          imm: fc.constant(0),
        }),
        fc.record({
          kind: fc.constant('movsx' as const),
          width,
          from: fc.constantFrom(8 as const, 16 as const),
          dst: register,
          src: register,
        }),
        fc.record({
          kind: fc.constant('movsx' as const),
          width: fc.constant(64 as const),
          from: fc.constant(32 as const),
          dst: register,
          src: register,
        }),
        fc.record({
          kind: fc.constant('byteswap' as const),
          order: fc.constantFrom('le' as const, 'be' as const, 'swap' as const),
          size: fc.constantFrom(16 as const, 32 as const, 64 as const),
          dst: register,
        }),
        fc.record({
          kind: fc.constant('loadImm64' as const),
          dst: register,
          value: word,
          reference: fc.constant(undefined),
        }),
      );
      fc.assert(
        fc.property(one, fc.array(word, { minLength: 10, maxLength: 10 }), (insn, registers) => {
          machine.check(insn, registers);
        }),
        { numRuns: runs(2000) },
      );
    });

    for (const op of JUMPS) {
      test(`jump ${op}`, () => {
        fc.assert(
          fc.property(width, register, fc.option(register), imm, word, word, (width, dst, src, imm, x, y) => {
            const registers = background();
            registers[dst] = x;
            if (src !== null) registers[src] = y;
            const insn: Instruction = { kind: 'jump', op, width, dst, src: src ?? undefined, imm, offset: 1 };
            // The jump skips an instruction that changes r9 visibly.
            const mark: Instruction = { kind: 'alu', op: 'xor', width: 64, dst: 9, src: undefined, imm: 0x55 };
            const after = machine.prepare([insn, mark])(registers);
            const expected = [...registers];
            const operand = src === null ? BigInt(imm) : registers[src]!;
            if (!jumps(op, width, registers[dst]!, operand)) expected[9]! ^= 0x55n;
            expect(after).toEqual(expected);
          }),
          { numRuns: runs(300) },
        );
      });
    }
  });

  describe.skipIf(!platform.available)('whole functions against reference', () => {
    const machine = new RegisterMachine(platform);

    test('random arithmetic with forward jumps', () => {
      const source = fc.option(register, { nil: undefined });
      const step: fc.Arbitrary<Instruction> = fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            kind: fc.constant('alu' as const),
            op: fc.constantFrom(...BINARY),
            width,
            dst: register,
            src: source,
            imm,
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({
            kind: fc.constant('movsx' as const),
            width,
            from: fc.constantFrom(8 as const, 16 as const),
            dst: register,
            src: register,
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({
            kind: fc.constant('byteswap' as const),
            order: fc.constantFrom('le' as const, 'be' as const, 'swap' as const),
            size: fc.constantFrom(16 as const, 32 as const, 64 as const),
            dst: register,
          }),
        },
        {
          weight: 2,
          arbitrary: fc.record({
            kind: fc.constant('jump' as const),
            op: fc.constantFrom(...JUMPS),
            width,
            dst: register,
            src: source,
            imm,
            offset: fc.nat({ max: 30 }),
          }),
        },
      );
      fc.assert(
        fc.property(
          fc.array(step, { minLength: 1, maxLength: 60 }),
          fc.array(word, { minLength: 10, maxLength: 10 }),
          (steps, registers) => {
            const body = steps.map((insn, i) =>
              insn.kind === 'jump' ? { ...insn, offset: Math.min(insn.offset, steps.length - 1 - i) } : insn,
            );
            const expected = [...registers];
            for (let slot = 0; slot < body.length; slot++) {
              const insn = body[slot]!;
              if (insn.kind !== 'jump') apply(insn, expected);
              else {
                const operand = insn.src === undefined ? BigInt(insn.imm) : expected[insn.src]!;
                if (jumps(insn.op, insn.width, expected[insn.dst]!, operand)) slot += insn.offset;
              }
            }
            expect(machine.prepare(body)(registers)).toEqual(expected);
          },
        ),
        { numRuns: runs(500) },
      );
    });
  });

  describe.skipIf(!platform.available)('memory against reference', () => {
    const machine = new RegisterMachine(platform);
    const { block } = machine;
    const bytes = machine.computer.data.subarray(
      machine.computer.offset(block),
      machine.computer.offset(block) + BLOCK_BYTES,
    );
    const size = fc.constantFrom<Size>(1, 2, 4, 8);
    const wide = fc.constantFrom<Size>(4, 8);
    const slot = fc.integer({ min: 0, max: BLOCK_BYTES / 8 - 1 });

    function check(insn: Instruction, base: Register, delta: number, registers: bigint[], contents: Uint8Array): void {
      bytes.set(contents);
      registers[base] = block + BigInt(delta);
      const expected = [...registers];
      const copy = contents.slice();
      applyToMemory(insn, expected, new DataView(copy.buffer), block);
      const after = machine.prepare([insn])(registers);
      expect(after).toEqual(expected);
      expect(bytes).toEqual(copy);
    }
    const contents = fc.uint8Array({ minLength: BLOCK_BYTES, maxLength: BLOCK_BYTES });
    const file = fc.array(word, { minLength: 10, maxLength: 10 });

    test('loads and stores', () => {
      const one = fc.oneof(
        fc.record({ kind: fc.constant('load' as const), size, signed: fc.boolean(), dst: register, src: register }),
        fc.record({ kind: fc.constant('store' as const), size, dst: register, src: fc.option(register), imm }),
      );
      fc.assert(
        fc.property(
          one,
          slot,
          fc.integer({ min: -300, max: 300 }),
          file,
          contents,
          (shape, slot, offset, file, data) => {
            const insn: Instruction =
              shape.kind === 'load' ? { ...shape, offset } : { ...shape, src: shape.src ?? undefined, offset };
            const base = insn.kind === 'load' ? insn.src : insn.dst;
            check(insn, base, 8 * slot - offset, file, data);
          },
        ),
        { numRuns: runs(3000) },
      );
    });

    const OPS: readonly [Atomic['op'], boolean][] = [
      ['add', false],
      ['add', true],
      ['or', false],
      ['or', true],
      ['and', false],
      ['and', true],
      ['xor', false],
      ['xor', true],
      ['xchg', true],
      ['cmpxchg', true],
      ['loadAcquire', false],
      ['storeRelease', false],
    ];
    for (const [op, fetch] of OPS) {
      test(`atomic ${op}${fetch ? ', fetching' : ''}`, () => {
        const ordered = op === 'loadAcquire' || op === 'storeRelease';
        fc.assert(
          fc.property(
            ordered ? size : wide,
            register,
            register,
            slot,
            fc.integer({ min: -300, max: 300 }),
            file,
            contents,
            fc.boolean(),
            (size, dst, src, slot, offset, file, data, matches) => {
              const insn: Instruction = { kind: 'atomic', op, fetch, size, dst, src, offset };
              const base = op === 'loadAcquire' ? src : dst;
              // Half of the compare-and-exchanges succeed, some with rubbish in the upper half of r0.
              if (op === 'cmpxchg' && matches && base !== 0) {
                const old = new DataView(data.buffer).getBigUint64(8 * slot, true);
                file[0] = size === 8 ? old : (old & 0xffffffffn) | (file[0]! & ~0xffffffffn);
              }
              check(insn, base, 8 * slot - offset, file, data);
            },
          ),
          { numRuns: runs(500) },
        );
      });
    }
  });
}
