/** The machine-independent buffer, with a toy machine, and the x86-64 fillers and patches. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BranchForm, CodeBuffer } from '../../src/jit/shared/code-buffer.ts';
import { CompileError } from '../../src/jit/shared/errors.ts';
import { mergePatch } from '../../src/jit/shared/patch-word.ts';
import { fillWithNops } from '../../src/jit/x64/branches.ts';
import { jumpBytes, nopBytes, PATCH_BYTES, trapBytes } from '../../src/jit/x64/patch.ts';
import { disassemble } from './disassemble.ts';

/** Short: 0xb0 and an int8 distance. Long: 0xb1 and an int32 distance. */
const TOY: BranchForm = {
  shortBytes: 2,
  longBytes: 5,
  reaches: distance => distance >= -128 && distance <= 127,
  write(out, at, distance, long) {
    out[at] = long ? 0xb1 : 0xb0;
    const view = new DataView(out.buffer);
    if (long) view.setInt32(at + 1, distance, true);
    else view.setInt8(at + 1, distance);
  },
};
const fillWithDots = (out: Uint8Array, at: number, count: number): void => void out.fill(0x2e, at, at + count);

describe('CodeBuffer', () => {
  test('a number of any size may be the one that makes it grow', () => {
    for (let before = 1000; before < 1032; before++) {
      for (const size of [1, 2, 4, 8] as const) {
        const buffer = new CodeBuffer(1 << 20);
        for (let i = 0; i < before; i++) buffer.u8(0x11);
        if (size === 8) buffer.u64(0x0807060504030201n);
        else buffer[`u${(8 * size) as 8 | 16 | 32}`](0x04030201 % 2 ** (8 * size));
        const expected = [...new Uint8Array(before).fill(0x11), ...[1, 2, 3, 4, 5, 6, 7, 8].slice(0, size)];
        expect([...buffer.finish().bytes]).toEqual(expected);
      }
    }
  });

  test('branches reach their labels, and none is longer than it must be', () => {
    const program = fc.array(fc.record({ filler: fc.nat({ max: 90 }), target: fc.nat({ max: 59 }) }), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(program, steps => {
        const buffer = new CodeBuffer(1 << 20);
        const labels = steps.map(() => buffer.label());
        const branches: [at: number, target: number][] = [];
        steps.forEach(({ filler, target }, i) => {
          buffer.bind(labels[i]!);
          const to = labels[target % steps.length]!;
          branches.push([buffer.here(), to]);
          buffer.branch(TOY, to);
          for (let n = 0; n < filler; n++) buffer.u8(0);
        });
        const { bytes, offset } = buffer.finish();
        const view = new DataView(bytes.buffer);
        for (const [label, target] of branches) {
          const at = offset(label);
          const long = bytes[at] === 0xb1;
          const distance = long ? view.getInt32(at + 1, true) : view.getInt8(at + 1);
          expect(at + distance).toBe(offset(target));
          expect(long).toBe(!TOY.reaches(distance));
        }
      }),
    );
  });

  test('a chain in which every branch pushes the one before it out of reach', () => {
    const buffer = new CodeBuffer(1 << 20);
    // Branch i reaches exactly as long as no branch inside its range is long.
    const count = 400;
    const labels = Array.from({ length: count + 130 }, () => buffer.label());
    for (let i = 0; i < count + 130; i++) {
      buffer.bind(labels[i]!);
      if (i < count) buffer.branch(TOY, labels[i + 63]!);
      else buffer.u16(0);
    }
    for (let i = 0; i < 200; i++) buffer.u8(0);
    const { bytes, offset } = buffer.finish();
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < count; i++) {
      const at = offset(labels[i]!);
      const distance = bytes[at] === 0xb1 ? view.getInt32(at + 1, true) : view.getInt8(at + 1);
      expect(at + distance).toBe(offset(labels[i + 63]!));
    }
  });

  test('padding keeps what follows within a word, whatever the branches before it become', () => {
    const steps = fc.array(fc.record({ filler: fc.nat({ max: 200 }), target: fc.nat({ max: 29 }) }), {
      minLength: 1,
      maxLength: 30,
    });
    fc.assert(
      fc.property(steps, steps => {
        const buffer = new CodeBuffer(1 << 20);
        const labels = steps.map(() => buffer.label());
        const marks = steps.map(({ filler, target }, i) => {
          buffer.bind(labels[i]!);
          buffer.branch(TOY, labels[target % steps.length]!);
          for (let n = 0; n < filler; n++) buffer.u8(0);
          buffer.keepWithinWord(5, 8, fillWithDots);
          const mark = buffer.here();
          for (let n = 0; n < 5; n++) buffer.u8(0xcc);
          return mark;
        });
        const { bytes, offset } = buffer.finish();
        for (const mark of marks) {
          const at = offset(mark);
          expect(at & 7).toBeLessThanOrEqual(3);
          expect([...bytes.subarray(at, at + 5)]).toEqual([0xcc, 0xcc, 0xcc, 0xcc, 0xcc]);
        }
        for (const [i, label] of labels.entries()) {
          const at = offset(label);
          const view = new DataView(bytes.buffer);
          const distance = bytes[at] === 0xb1 ? view.getInt32(at + 1, true) : view.getInt8(at + 1);
          expect(at + distance).toBe(offset(labels[steps[i]!.target % steps.length]!));
        }
      }),
    );
  });

  test('refuses to grow beyond its limit', () => {
    const grow = (): void => {
      const buffer = new CodeBuffer(5000);
      for (let i = 0; i < 6000; i++) buffer.u8(0);
      buffer.finish();
    };
    expect(grow).toThrow(CompileError);
    expect(grow).toThrow(/more than 5000 bytes/);
  });

  test('refuses labels that are bound twice or never', () => {
    const buffer = new CodeBuffer(100);
    buffer.bind(buffer.label());
    const label = buffer.here();
    expect(() => buffer.bind(label)).toThrow(CompileError);
    buffer.branch(TOY, buffer.label());
    expect(() => buffer.finish()).toThrow(CompileError);
  });
});

describe('patches', () => {
  test('nops of every length are nops of that length', () => {
    for (let count = 0; count <= 40; count++) {
      const bytes = new Uint8Array(count);
      fillWithNops(bytes, 0, count);
      const lines = disassemble(bytes);
      expect(lines.every(({ text }) => /^(nop|xchg ax, ax)/.test(text))).toBe(true);
      expect(lines.length).toBe(Math.ceil(count / 8));
    }
  });

  test('jump, nop and trap have the same length', () => {
    expect(nopBytes()).toHaveLength(PATCH_BYTES);
    expect(trapBytes()).toHaveLength(PATCH_BYTES);
    expect(jumpBytes(0n, 0n)).toHaveLength(PATCH_BYTES);
    expect(disassemble(nopBytes()).map(l => l.text)).toEqual(['nop dword [rax+rax]']);
    expect(disassemble(trapBytes())[0]!.text).toBe('ud2');
  });

  test('a jump goes where it should', () => {
    fc.assert(
      fc.property(fc.nat({ max: 0x7fffffff }), fc.nat({ max: 0x7ffffff0 }), (from, to) => {
        const base = 0x7f00_0000_0000n;
        const [line] = disassemble(jumpBytes(base + BigInt(from), base + BigInt(to)));
        // The disassembler takes the bytes to start at 0.
        expect(line!.text).toBe(`jmp 0x${BigInt.asUintN(64, BigInt(to) - BigInt(from)).toString(16)}`);
      }),
    );
  });

  test('a jump of more than 2 GiB is refused', () => {
    expect(() => jumpBytes(0n, 0x8000_0005n)).toThrow(CompileError);
    expect(jumpBytes(0n, 0x8000_0004n)).toHaveLength(PATCH_BYTES);
    expect(() => jumpBytes(0x1_0000_0000n, 0x8000_0004n)).toThrow(CompileError);
  });

  test('merging changes the instruction and nothing else', () => {
    const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    const five = fc.uint8Array({ minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(word, fc.nat({ max: 1000 }), five, (word, offset, instruction) => {
        const shift = offset & 7;
        if (shift > 3) {
          expect(() => mergePatch(word, offset, instruction)).toThrow(CompileError);
          return;
        }
        const view = new DataView(new ArrayBuffer(8));
        view.setBigUint64(0, word, true);
        new Uint8Array(view.buffer).set(instruction, shift);
        expect(mergePatch(word, offset, instruction)).toBe(view.getBigUint64(0, true));
      }),
    );
  });
});
