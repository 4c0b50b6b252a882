/**
 * Every row of the encoding table, with random operands, against GNU as: the text that is assembled comes from the row's
 * operand notation alone, so a wrong bit or field shows. One run of the assembler for all rows.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { disassembleArm64 } from '../../src/jit/arm64/disassemble.ts';
import { ENCODINGS, encodeWord, type Form, OPERAND } from '../../src/jit/arm64/encodings.ts';
import { bitmaskImmediate, bitmaskValue, constantSteps } from '../../src/jit/arm64/immediates.ts';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import { jumpBytes, nopBytes, trapBytes } from '../../src/jit/arm64/patch.ts';
import { CompileError } from '../../src/jit/shared/errors.ts';
import { lowerRoutine } from '../../src/lowering/routine.ts';
import { ROUTINES } from '../../src/runtime/routines.ts';
import { randomCase, SLOTS } from '../differential/random-program.ts';
import { lowered } from '../jit/support.ts';
import { requireTool } from '../tools.ts';
import { dump, OBJDUMP } from './objdump.ts';

const AS = requireTool('aarch64-linux-gnu-as');

const PER_FORM = 100;
const CONDITIONS = 'eq ne cs cc mi pl vs vc hi ls ge lt gt le'.split(' ');

/** The instruction words of assembler text. */
function assemble(lines: readonly string[]): Int32Array {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-as-'));
  try {
    const object = join(folder, 'code.o');
    const raw = join(folder, 'code.bin');
    writeFileSync(join(folder, 'code.s'), `.arch armv8.1-a\n${lines.join('\n')}\n`);
    execFileSync(AS!, ['-o', object, join(folder, 'code.s')]);
    execFileSync(OBJDUMP!.replace('objdump', 'objcopy'), ['-O', 'binary', '-j', '.text', object, raw]);
    const bytes = readFileSync(raw);
    return new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** All masks that a logical instruction can hold. */
function bitmasks(width: 32 | 64): bigint[] {
  const masks = new Set<bigint>();
  for (let size = 2; size <= width; size *= 2) {
    for (let ones = 1; ones < size; ones++) {
      for (let rotation = 0; rotation < size; rotation++) {
        const run = (1n << BigInt(ones)) - 1n;
        const element = BigInt.asUintN(size, (run << BigInt(rotation)) | (run >> BigInt(size - rotation)));
        let mask = 0n;
        for (let at = 0; at < width; at += size) mask |= element << BigInt(at);
        masks.add(mask);
      }
    }
  }
  return [...masks];
}
const MASKS = { 32: bitmasks(32), 64: bitmasks(64) } as const;

const register = fc.integer({ min: 0, max: 31 });
const registerName = (width: string, number: number, stack: boolean): string =>
  number < 31 ? `${width}${number}` : stack ? (width === 'w' ? 'wsp' : 'sp') : `${width}zr`;

/** Operands for a row, and the text they make. */
function operandsOf(form: Form, width: 32 | 64): fc.Arbitrary<{ operands: (number | bigint)[]; text: string }> {
  const matches = [...form.matchAll(OPERAND)];
  const bits = (letter: string): number => ENCODINGS[form].split(letter).length - 1;
  const branches = /^(b|bl|b\.C|cbz|cbnz|adr)\b/.test(form);
  // A load that writes its base back, or a pair loaded into one register, is no valid instruction.
  const distinct = form.startsWith('ldp') || form.includes(']!') || form.includes('], ') || form.startsWith('st');
  const parts = matches.map(
    ([, kind, , stack, immediate, multiple, condition]): fc.Arbitrary<[number | bigint, string]> => {
      if (condition) return fc.nat({ max: 13 }).map(code => [code, CONDITIONS[code]!]);
      if (kind) {
        const name = kind === 'R' ? (width === 64 ? 'x' : 'w') : kind.toLowerCase();
        return register.map(number => [number, registerName(name, number, stack !== undefined)]);
      }
      if (immediate === 'b') return fc.constantFrom(...MASKS[width]).map(mask => [mask, `#0x${mask.toString(16)}`]);
      const scale = Number(multiple ?? 1);
      const size = bits(immediate!);
      const low = immediate === 'j' ? -(2 ** (size - 1)) : 0;
      let high = low + 2 ** size - 1;
      if ((immediate === 'r' || immediate === 's') && width === 32) high = 31;
      if (immediate === 'h' && width === 32) high = 1;
      const values = fc.oneof(fc.constantFrom(low, high, 0, Math.min(1, high)), fc.integer({ min: low, max: high }));
      return values.map(value => [value * scale, branches ? `. + (${value * scale})` : `#${value * scale}`]);
    },
  );
  return (fc.tuple(...parts) as fc.Arbitrary<[number | bigint, string][]>)
    .filter(chosen => {
      const registers = chosen.filter((_, i) => matches[i]![1]).map(([number]) => number);
      return !distinct || new Set(registers).size === registers.length;
    })
    .map(chosen => {
      let i = 0;
      const text = form.replace(OPERAND, () => chosen[i++]![1]);
      return { operands: chosen.map(([operand]) => operand), text };
    });
}

/** The manual's names of a shift amount's place in text that GNU as takes, and forms of one width only. */
const WIDTHS = (form: Form): readonly (32 | 64)[] => (ENCODINGS[form].includes('z') ? [32, 64] : [64]);

describe.skipIf(!AS)('encodings', () => {
  test('every row against GNU as', () => {
    const lines: string[] = [];
    const words: number[] = [];
    for (const form of Object.keys(ENCODINGS) as Form[]) {
      for (const width of WIDTHS(form)) {
        for (const { operands, text } of fc.sample(operandsOf(form, width), PER_FORM)) {
          lines.push(text);
          words.push(encodeWord(form, width, ...operands));
        }
      }
    }
    const expected = assemble(lines);
    expect(expected.length).toBe(words.length);
    const wrong = lines.flatMap((line, i) =>
      expected[i] === words[i]
        ? []
        : [`${line}: ${(words[i]! >>> 0).toString(16)}, as: ${(expected[i]! >>> 0).toString(16)}`],
    );
    expect(wrong).toEqual([]);
  });

  test('the disassembler gives text that assembles to the same', () => {
    const words: number[] = [];
    for (const form of Object.keys(ENCODINGS) as Form[]) {
      for (const width of WIDTHS(form)) {
        for (const { operands } of fc.sample(operandsOf(form, width), 20))
          words.push(encodeWord(form, width, ...operands));
      }
    }
    // Branches are listed with the address they lead to, so each is assembled relative to where it stands.
    const lines = disassembleArm64(new Uint8Array(Int32Array.from(words).buffer)).map(({ text, offset }) =>
      text.replace(
        /^(b|bl|b\.\w+|cbn?z \w+,) ?0x(-?[0-9a-f]+)$/,
        (_, branch, target) => `${branch} . + (${Number.parseInt(target, 16) - offset})`,
      ),
    );
    expect(lines.filter(line => line.startsWith('.word'))).toEqual([]);
    expect([...assemble(lines)]).toEqual(words);
  });

  test('everything the compiler emits is an instance of a row, and every row is emitted', () => {
    const emitted: Uint8Array[] = [jumpBytes(0n, 64n), nopBytes(), trapBytes()];
    for (const atomics of ['lse', 'exclusive'] as const) {
      const machine = arm64Machine(atomics);
      emitted.push(machine.entryTrampoline(0x7000_1234_0000n), machine.serviceThunk(0x7fff_8765_4321n));
      for (const routine of ROUTINES) {
        emitted.push(machine.compile(lowerRoutine(routine), { kind: 'routine', tailCallMode: 'cached' }).bytes);
      }
      for (let seed = 1; seed <= 400; seed++) {
        const { programs, tailCallMode } = randomCase(seed);
        for (const { insns, pokes, ...facts } of programs) {
          const usedMaps = [{ name: 'array', maxEntries: seed % 2 ? SLOTS : 100_000 }];
          const pokeTable = pokes.map(key => ({ insn: 0, map: 0, key }));
          const program = lowered(insns, { ...facts, usedMaps, pokeTable });
          emitted.push(machine.compile(program, { kind: 'program', tailCallMode }).bytes);
        }
      }
      // What the random programs do not have: large frames, distances that need registers, unscaled ones.
      const text = ['+ 100', '+ 32000', '- 3', '- 300', '+ 5000', '+ 32767']
        .flatMap(at => [
          ...['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32'].map(type => `r1 = *(${type} *)(r2 ${at})`),
          ...['u8', 'u16', 'u32', 'u64'].map(type => `*(${type} *)(r3 ${at}) = ${type === 'u64' ? 'r4' : 'w4'}`),
        ])
        .join('\n');
      for (const stackDepth of [8, 4096, 60_000]) {
        const options = { kind: 'program', tailCallMode: 'cached' } as const;
        emitted.push(machine.compile(lowered(`r6 = r10\n${text}\nr0 = 0\nexit`, { stackDepth }), options).bytes);
      }
    }
    const patterns = Object.entries(ENCODINGS).map(([form, notation]) => {
      const bits = notation.replaceAll(' ', '');
      const word = (one: string) =>
        Number.parseInt([...bits].map(bit => (one.includes(bit) ? '1' : '0')).join(''), 2) | 0;
      return { form, mask: word('01'), fixed: word('1'), count: 0 };
    });
    const foreign: string[] = [];
    for (const bytes of emitted) {
      for (const word of new Int32Array(bytes.slice().buffer)) {
        const rows = patterns.filter(({ mask, fixed }) => (word & mask) === fixed);
        for (const row of rows) row.count++;
        if (rows.length === 0) foreign.push((word >>> 0).toString(16));
      }
    }
    expect(foreign).toEqual([]);
    expect(patterns.filter(({ count }) => count === 0).map(({ form }) => form)).toEqual([]);
  });

  test('what does not fit is refused', () => {
    const bad: [Form, 32 | 64, (number | bigint)[]][] = [
      ['add Rd|SP, Rn|SP, #i', 64, [0, 0, 4096]],
      ['add Rd|SP, Rn|SP, #i', 64, [0, 0, -1]],
      ['ldr Xt, [Xn|SP, #i*8]', 64, [0, 0, 4]],
      ['ldur Xt, [Xn|SP, #j]', 64, [0, 0, 256]],
      ['and Rd|SP, Rn, #b', 64, [0, 0, 5n]],
      ['b #j*4', 64, [2]],
      ['b #j*4', 64, [1 << 27]],
      ['mov Rd, Rm', 64, [32, 0]],
    ];
    for (const [form, width, operands] of bad) expect(() => encodeWord(form, width, ...operands)).toThrow(CompileError);
  });
});

describe('constants', () => {
  test('bitmasks: exactly those that exist', () => {
    expect([MASKS[32].length, MASKS[64].length]).toEqual([1302, 5334]);
    for (const width of [32, 64] as const) {
      const all = new Set(MASKS[width]);
      for (const mask of all) expect(bitmaskValue(width, bitmaskImmediate(width, mask)!)).toBe(mask);
      fc.assert(
        fc.property(fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n }), value => {
          expect(bitmaskImmediate(width, value) !== undefined).toBe(all.has(value));
        }),
      );
    }
  });

  test('steps make the value, in the fewest instructions', () => {
    const word = fc.oneof(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc
        .array(fc.constantFrom(0n, 0xffffn, 0x1234n), { minLength: 4, maxLength: 4 })
        .map(parts => parts.reduce<bigint>((value, part) => (value << 16n) | part, 0n)),
    );
    fc.assert(
      fc.property(word, fc.constantFrom(32 as const, 64 as const), (value, width) => {
        const steps = constantSteps(width, value);
        let made = 0n;
        for (const { op, chunk, shift } of steps) {
          const part = BigInt(chunk) << BigInt(shift);
          if (op === 'movz') made = part;
          else if (op === 'movn') made = BigInt.asUintN(width, ~part);
          else made = (made & ~(0xffffn << BigInt(shift))) | part;
        }
        expect(made).toBe(BigInt.asUintN(width, value));
        const chunks = Array.from({ length: width / 16 }, (_, i) => Number((value >> BigInt(16 * i)) & 0xffffn));
        const others = (filler: number): number => chunks.filter(chunk => chunk !== filler).length;
        expect(steps.length).toBe(Math.max(1, Math.min(others(0), others(0xffff))));
      }),
      { numRuns: 1000 },
    );
  });
});

describe.skipIf(!OBJDUMP)('the disassembler of the golden files', () => {
  test('knows what nobody can execute', () => {
    expect(dump(Uint8Array.of(0, 0, 0, 0)).map(line => line.text)).toEqual(['udf #0']);
  });
});
