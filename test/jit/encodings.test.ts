/**
 * Every row of the encoding table, with random operands, against an independent disassembler (iced-x86). What the
 * disassembler should print is derived from the row's operand text alone, so a wrong opcode, digit, prefix or size
 * shows.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CodeBuffer } from '../../src/jit/shared/code-buffer.ts';
import { ENCODINGS, encode, type Form, type Memory, type Operand } from '../../src/jit/x64/encodings.ts';
import { type MachineRegister, RSP } from '../../src/jit/x64/registers.ts';
import { disassemble } from './disassemble.ts';

const LEGACY = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
function registerName(register: number, bits: number): string {
  if (register >= 8) return `r${register}${{ 8: 'b', 16: 'w', 32: 'd', 64: '' }[bits]}`;
  const name = LEGACY[register]!;
  if (bits === 8) return register < 4 ? `${name[0]}l` : `${name}l`;
  return { 16: '', 32: 'e', 64: 'r' }[bits] + name;
}

const SIZE_NAMES: Readonly<Record<number, string>> = { 8: 'byte', 16: 'word', 32: 'dword', 64: 'qword' };

const hex = (value: number | bigint): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

function expected(form: Form, width: 32 | 64, rm: Operand, reg: MachineRegister, imm: bigint): string {
  if (form === 'cdq/cqo') return width === 64 ? 'cqo' : 'cdq';
  const words = form.split(/[ ,]+/);
  const mnemonicWords = words[0] === 'lock' ? 2 : 1;
  const mnemonic = words.slice(0, mnemonicWords).join(' ');
  const bits = (operand: string): number => Number(/\d+$/.exec(operand)?.[0] ?? width);
  const memory = (size: string): string => {
    const { base, index, scale, displacement } = rm as Memory;
    const parts = [registerName(base, 64)];
    if (index !== undefined) parts.push(scale === 1 ? registerName(index, 64) : `${registerName(index, 64)}*${scale}`);
    const address = parts.join('+');
    const tail = displacement === 0 ? '' : displacement < 0 ? `-${hex(-displacement)}` : `+${hex(displacement)}`;
    return `${form.startsWith('lea') ? '' : `${size} `}[${address}${tail}]`;
  };
  const operands = words.slice(mnemonicWords).map(operand => {
    if (operand === 'cl') return 'cl';
    if (operand === '1') return '0x1';
    if (operand.startsWith('imm')) return hex(BigInt.asIntN(Number(operand.slice(3)), imm));
    if (/^(rm|m)\d*$/.test(operand)) {
      return typeof rm === 'number' ? registerName(rm, bits(operand)) : memory(SIZE_NAMES[bits(operand)]!);
    }
    // `r`: the ModRM register, or the one in the opcode.
    const plus = (ENCODINGS[form] as string).includes('+r');
    return registerName(plus ? (rm as number) : reg, bits(operand));
  });
  // The disassembler's short form.
  if (operands.length === 3 && operands[0] === operands[1]) operands.shift();
  return operands.length > 0 ? `${mnemonic} ${operands.join(', ')}` : mnemonic;
}

const register = fc.integer({ min: 0, max: 15 }) as fc.Arbitrary<MachineRegister>;
const displacement = fc.oneof(
  fc.constantFrom(0, 1, -1, 127, 128, -128, -129, 0x7fffffff, -0x80000000),
  fc.integer({ min: -200, max: 200 }),
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
);
const memory: fc.Arbitrary<Memory> = fc.oneof(
  fc.record({ base: register, displacement }),
  fc.record({
    base: register,
    displacement,
    index: register.filter(r => r !== RSP),
    scale: fc.constantFrom(1, 2, 4, 8) as fc.Arbitrary<1 | 2 | 4 | 8>,
  }),
);
const immediate64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n });
const immediate = fc.oneof(
  fc.bigInt({ min: -(1n << 31n), max: (1n << 31n) - 1n }),
  fc.bigInt({ min: -129n, max: 129n }),
);

/** Which operand kinds and widths a form may be used with. */
function usable(form: Form): { register: boolean; memory: boolean; widths: readonly (32 | 64)[] } {
  const operands = form.split(/[ ,]+/).slice(1);
  const fixed = operands.length === 0 || /\b(push|pop|call|jmp|r32|rm8, |rm16, (imm|r16))/.test(form);
  return {
    register: !operands.some(o => o === 'm' || o === 'm64'),
    memory: operands.some(o => /^(rm|m)\d*$/.test(o)),
    widths:
      form === 'mov r64, imm64' || form.startsWith('movsxd')
        ? [64]
        : form === 'cdq/cqo'
          ? [32, 64]
          : fixed
            ? [32]
            : [32, 64],
  };
}

describe('encodings against iced-x86', () => {
  for (const form of Object.keys(ENCODINGS) as Form[]) {
    test(form, () => {
      const { register: asRegister, memory: asMemory, widths } = usable(form);
      const kinds: fc.Arbitrary<Operand>[] = [];
      if (asRegister) kinds.push(register);
      if (asMemory) kinds.push(memory);
      fc.assert(
        fc.property(
          fc.constantFrom(...widths),
          fc.oneof(...kinds),
          register,
          form.endsWith('imm64') ? immediate64 : immediate,
          (width, rm, reg, imm) => {
            const buffer = new CodeBuffer(64);
            encode(buffer, form, width, rm, reg, imm);
            const { bytes } = buffer.finish();
            const lines = disassemble(bytes).map(line => line.text);
            expect(lines).toEqual([expected(form, width, rm, reg, imm)]);
          },
        ),
        { numRuns: 200 },
      );
    });
  }
});
