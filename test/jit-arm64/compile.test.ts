/** What is arm64's alone: prologues as they are, branches that do not reach, registers of the host, patches, relocations. */
import { describe, expect, test } from 'vitest';
import type { Instruction } from '../../src/isa/instruction.ts';
import { disassembleArm64 } from '../../src/jit/arm64/disassemble.ts';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import { jumpBytes, nopBytes, trapBytes } from '../../src/jit/arm64/patch.ts';
import type { Relocation, TailCallMode } from '../../src/jit/shared/code.ts';
import { CompileError } from '../../src/jit/shared/errors.ts';
import { applyRelocation } from '../../src/jit/shared/relocate.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { Computer } from '../jit/computer.ts';
import { TestProgArray } from '../jit/prog-array.ts';
import { lowered } from '../jit/support.ts';
import { Arm64Processor, arm64Platform } from './emulator.ts';

const machine = arm64Machine('lse');
const texts = (code: Uint8Array): string[] => disassembleArm64(code).map(({ text }) => text);

describe('the tail-call entry', () => {
  const programs = [
    'r0 = 0\nexit',
    'r6 = 1\nr7 = 1\nr8 = 1\nr9 = r10\nr0 = 0\nexit',
    'call f\nexit\nf:\ntail_call 0\nr0 = 0\nexit',
  ];
  const expected: Record<TailCallMode, string[]> = {
    baseline: ['movz x26, #33, lsl #0', 'stp x29, x30, [sp, #-16]!', 'add x29, sp, #0'],
    cached: ['movz x26, #33, lsl #0', 'stp x29, x30, [sp, #-16]!', 'add x29, sp, #0'],
    // The common frame whole, and a cache line filled up.
    fast: [
      'movz x26, #33, lsl #0',
      'movk x26, #0, lsl #16',
      'stp x29, x30, [sp, #-16]!',
      'add x29, sp, #0',
      'stp x19, x20, [sp, #-16]!',
      'stp x21, x22, [sp, #-16]!',
      'stp x25, xzr, [sp, #-16]!',
      'add x25, sp, #0',
      'sub sp, sp, #512',
      ...Array<string>(7).fill('nop'),
    ],
  };
  test.each(machine.tailCallModes)('lies behind the frame link, or the common frame: %s', tailCallMode => {
    for (const text of programs) {
      const code = machine.compile(lowered(text, { usedMaps: [{ name: 'm', maxEntries: 4 }] }), {
        kind: 'program',
        tailCallMode,
      });
      expect(texts(code.bytes.subarray(0, code.tailCallPrologueOffset))).toEqual(expected[tailCallMode]);
    }
  });

  test('another limit, where the mode has one', () => {
    const compile = (tailCallMode: TailCallMode, maxTailCalls: number) =>
      machine.compile(lowered('r0 = 0\nexit'), { kind: 'program', tailCallMode, maxTailCalls });
    expect(texts(compile('fast', 0x2_0005).bytes).slice(0, 2)).toEqual([
      'movz x26, #5, lsl #0',
      'movk x26, #2, lsl #16',
    ]);
    for (const limit of [0, -1, 1.5, Number.NaN, (1 << 20) + 1]) {
      expect(() => compile('fast', limit)).toThrow(CompileError);
    }
    expect(() => compile('cached', 34)).toThrow(CompileError);
  });
});

describe.skipIf(!arm64Platform.available)('under emulation', () => {
  test('conditional branches over more than 1 MiB, in both forms and both directions', () => {
    const computer = new Computer(arm64Platform, { codeBytes: 1 << 24 });
    const add: Instruction = { kind: 'alu', op: 'add', width: 64, dst: 0, src: undefined, imm: 1 };
    const filler = Array.from({ length: 300_000 }, () => add);
    const jump = (op: 'eq' | 'ne' | 'gt', imm: number, offset: number): Instruction => {
      return { kind: 'jump', op, width: 64, dst: 1, src: undefined, imm, offset };
    };
    const set = (dst: 0 | 1, imm: number): Instruction => {
      return { kind: 'alu', op: 'mov', width: 64, dst, src: undefined, imm };
    };
    const n = filler.length;
    const insns: Instruction[] = [
      set(0, 0),
      jump('gt', 5, n + 1), // over the first filler and the exit
      ...filler,
      { kind: 'exit' },
      set(1, 0),
      jump('eq', 0, 2), // short
      set(0, -1000),
      { kind: 'exit' },
      set(1, 1),
      jump('ne', 0, -n - 7), // to the start of the filler
      { kind: 'exit' },
    ];
    const code = computer.compile(lowered(insns));
    const entry = computer.install(code);
    expect(code.bytes.length).toBeGreaterThan(1 << 20);
    expect(computer.call(entry, 6n)).toBe(BigInt(n));
    expect(computer.call(entry, 5n)).toBe(BigInt(n));
  });

  test("the host's registers and stack are as before", () => {
    const processor = new Arm64Processor('lse');
    const computer = new Computer({ ...arm64Platform, create: () => processor });
    const entry = computer.install(
      computer.compile(lowered('r6 = 1\nr7 = 2\nr8 = 3\nr9 = r10\n*(u64 *)(r10 - 8) = r6\nr0 = 9\nexit')),
    );
    // x19-x28, x29, sp
    const kept = [...Array.from({ length: 10 }, (_, i) => 199 + 19 + i), 1, 4];
    const { engine } = processor;
    for (const register of kept.slice(0, -1)) engine.set(register, 0x1111n * BigInt(register));
    const before = kept.map(register => engine.get(register));
    expect(computer.call(entry)).toBe(9n);
    expect(kept.map(register => engine.get(register))).toEqual(before);
  });

  test('cached targets of an array too large for an immediate displacement', () => {
    const computer = new Computer(arm64Platform);
    const array = new TestProgArray(computer, 5000);
    const install = (text: string): { entry: bigint; offset: number } => {
      const program = lowered(text, { usedMaps: [{ name: 'm', maxEntries: 5000 }] });
      const code = computer.compile(program);
      return { entry: computer.install(code, [array.address]), offset: code.tailCallPrologueOffset };
    };
    const imm = packTailCall({ usedMap: 0, dynamic: false, poke: undefined });
    const leaf = install('r0 = 5\nexit');
    array.set(4999, leaf.entry, leaf.offset);
    for (const [index, result] of [
      [4999, 5n],
      [4998, 7n],
      [5000, 7n],
    ] as const) {
      const caller = install(`r2 = map_address[0] ll\nr3 = ${index}\ntail_call ${imm}\nr0 = 7\nexit`);
      expect(computer.call(caller.entry)).toBe(result);
    }
  });
});

describe('patches', () => {
  test('are instructions that may be replaced while they are executed', () => {
    expect(texts(jumpBytes(0x1000n, 0x2000n))).toEqual(['b 0x1000']);
    expect(texts(jumpBytes(0x9000_0000n, 0x9000_0000n - 0x800_0000n))).toEqual(['b 0x-8000000']);
    expect(texts(nopBytes())).toEqual(['nop']);
    expect(texts(trapBytes())).toEqual(['brk #0']);
  });
  test('that do not reach are refused', () => {
    expect(() => jumpBytes(0n, 0x800_0000n)).toThrow(expect.objectContaining({ code: 'bad_target' }));
  });
});

describe('relocations', () => {
  const apply = (form: Relocation['form'], word: number, base: bigint, target: bigint, addend = 0): Uint8Array => {
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < 12; at += 4) view.setInt32(at, word, true);
    applyRelocation(view, { offset: 0, form, target: { kind: 'self' }, addend }, base, target);
    return bytes;
  };
  const BL = 0x94000000 | 0;
  const MOVK_X1 = 0xf2800001 | 0;

  test('branch26', () => {
    expect(texts(apply('branch26', BL, 0x1_0000n, 0x1_1000n, 8))[0]).toBe('bl 0x1008');
    for (const target of [0x800_0000n, -0x800_0004n, 2n]) {
      expect(() => apply('branch26', BL, 0n, target)).toThrow(expect.objectContaining({ code: 'bad_target' }));
    }
  });
  test('moveWide48', () => {
    expect(texts(apply('moveWide48', MOVK_X1, 0n, 0x1234_5678_9abcn, 1))).toEqual([
      'movk x1, #39613, lsl #0',
      'movk x1, #22136, lsl #0',
      'movk x1, #4660, lsl #0',
    ]);
    for (const target of [1n << 48n, -1n]) {
      expect(() => apply('moveWide48', MOVK_X1, 0n, target)).toThrow(expect.objectContaining({ code: 'bad_target' }));
    }
  });
});
