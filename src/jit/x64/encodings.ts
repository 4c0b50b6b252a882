/**
 * The x86-64 instructions that the compiler emits, as data.
 *
 * One row per instruction form: operands as Intel's manual writes them, then the encoding in the manual's notation
 * (legacy prefix, opcode bytes, `/r` or `/digit`, `+r`, immediate). Operands without a size (`rm`, `r`) are 32 or 64
 * bits wide, chosen at each use (REX.W); `rm8`, `r16`, ... have that size whatever the width. A new instruction is a
 * new row; `encode` is the only encoder.
 */
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { type MachineRegister, RBP, RSP } from './registers.ts';

export const ENCODINGS = {
  // data movement
  'mov rm, r': '89 /r',
  'mov rm8, r8': '88 /r',
  'mov rm16, r16': '66 89 /r',
  'mov r, rm': '8B /r',
  'mov rm8, imm8': 'C6 /0 ib',
  'mov rm16, imm16': '66 C7 /0 iw',
  'mov rm, imm32': 'C7 /0 id',
  'mov r32, imm32': 'B8 +r id',
  'mov r64, imm64': 'B8 +r io',
  'movzx r, rm8': '0F B6 /r',
  'movzx r, rm16': '0F B7 /r',
  'movsx r, rm8': '0F BE /r',
  'movsx r, rm16': '0F BF /r',
  'movsxd r, rm32': '63 /r',
  'lea r, m': '8D /r',
  'push r64': '50 +r',
  'push m64': 'FF /6',
  'pop r64': '58 +r',
  'pop m64': '8F /0',
  // arithmetic
  'add rm, r': '01 /r',
  'or rm, r': '09 /r',
  'and rm, r': '21 /r',
  'sub rm, r': '29 /r',
  'xor rm, r': '31 /r',
  'cmp rm, r': '39 /r',
  'test rm, r': '85 /r',
  'add rm, imm8': '83 /0 ib',
  'or rm, imm8': '83 /1 ib',
  'and rm, imm8': '83 /4 ib',
  'sub rm, imm8': '83 /5 ib',
  'xor rm, imm8': '83 /6 ib',
  'cmp rm, imm8': '83 /7 ib',
  'add rm, imm32': '81 /0 id',
  'or rm, imm32': '81 /1 id',
  'and rm, imm32': '81 /4 id',
  'sub rm, imm32': '81 /5 id',
  'xor rm, imm32': '81 /6 id',
  'cmp rm, imm32': '81 /7 id',
  'test rm, imm32': 'F7 /0 id',
  'neg rm': 'F7 /3',
  'imul r, rm': '0F AF /r',
  'imul r, rm, imm8': '6B /r ib',
  'imul r, rm, imm32': '69 /r id',
  'div rm': 'F7 /6',
  'idiv rm': 'F7 /7',
  'cdq/cqo': '99',
  // shifts and byte order
  'shl rm, 1': 'D1 /4',
  'shr rm, 1': 'D1 /5',
  'sar rm, 1': 'D1 /7',
  'shl rm, imm8': 'C1 /4 ib',
  'shr rm, imm8': 'C1 /5 ib',
  'sar rm, imm8': 'C1 /7 ib',
  'shl rm, cl': 'D3 /4',
  'shr rm, cl': 'D3 /5',
  'sar rm, cl': 'D3 /7',
  'ror rm16, imm8': '66 C1 /1 ib',
  'bswap r': '0F C8 +r',
  // atomics
  'lock add m, r': 'F0 01 /r',
  'lock or m, r': 'F0 09 /r',
  'lock and m, r': 'F0 21 /r',
  'lock xor m, r': 'F0 31 /r',
  'lock xadd m, r': 'F0 0F C1 /r',
  'lock cmpxchg m, r': 'F0 0F B1 /r',
  'xchg r, m': '87 /r',
  // control flow; branches with a label are in branches.ts
  'call rm64': 'FF /2',
  'jmp rm64': 'FF /4',
  ret: 'C3',
  leave: 'C9',
} as const;

export type Form = keyof typeof ENCODINGS;

/** Memory operand: [base + index * scale + displacement], all addresses 64 bits. */
export interface Memory {
  readonly base: MachineRegister;
  readonly displacement: number;
  readonly index?: MachineRegister;
  readonly scale?: 1 | 2 | 4 | 8;
}
export type Operand = MachineRegister | Memory;

interface Encoding {
  /** 0x66 or 0xF0, 0 for none. */
  readonly prefix: number;
  readonly opcode: readonly number[];
  /** -1: no ModRM; 0-7: digit in the reg field; 8: a register there. */
  readonly reg: number;
  /** Register in the low bits of the last opcode byte. */
  readonly plusRegister: boolean;
  readonly immediateBytes: 0 | 1 | 2 | 4 | 8;
  /** Operands are byte registers: numbers 4-7 need a REX prefix to mean SPL, BPL, SIL, DIL. */
  readonly byteReg: boolean;
  readonly byteRm: boolean;
}

const REG_FIELD = 8;
const NO_MODRM = -1;
const IMMEDIATE_BYTES: Readonly<Record<string, 1 | 2 | 4 | 8>> = { ib: 1, iw: 2, id: 4, io: 8 };

function parse(form: string, notation: string): Encoding {
  let prefix = 0;
  let reg = NO_MODRM;
  let plusRegister = false;
  let immediateBytes: Encoding['immediateBytes'] = 0;
  const opcode: number[] = [];
  for (const part of notation.split(' ')) {
    if (part === '/r') reg = REG_FIELD;
    else if (part.startsWith('/')) reg = Number(part.slice(1));
    else if (part === '+r') plusRegister = true;
    else if (IMMEDIATE_BYTES[part]) immediateBytes = IMMEDIATE_BYTES[part];
    else if (opcode.length === 0 && (part === '66' || part === 'F0')) prefix = Number.parseInt(part, 16);
    else opcode.push(Number.parseInt(part, 16));
  }
  const operands = form.split(/[ ,]+/);
  return {
    prefix,
    opcode,
    reg,
    plusRegister,
    immediateBytes,
    byteReg: operands.includes('r8'),
    byteRm: operands.includes('rm8'),
  };
}

const PARSED = Object.fromEntries(
  Object.entries(ENCODINGS).map(([form, notation]) => [form, parse(form, notation)]),
) as Record<Form, Encoding>;

const fitsInt8 = (value: number): boolean => value >= -128 && value <= 127;

/**
 * Appends one instruction.
 * @param width 64 sets REX.W; forms that are 64 bits wide by default (push, call) and those of fixed size take 32
 * @param rm register or memory operand; the register of `+r` forms
 * @param reg register operand of `/r` forms
 * @param immediate int32 (bigint for imm64), truncated to the size of the form
 */
export function encode(
  buffer: CodeBuffer,
  form: Form,
  width: 32 | 64,
  rm: Operand = 0,
  reg: MachineRegister = 0,
  immediate: number | bigint = 0,
): void {
  const encoding = PARSED[form];
  const memory = typeof rm === 'number' ? undefined : rm;
  const base = typeof rm === 'number' ? rm : rm.base;
  const digit = encoding.reg === REG_FIELD ? reg : encoding.reg;
  const rex =
    (width === 64 ? 8 : 0) |
    (digit >= 8 ? 4 : 0) |
    ((memory?.index ?? 0) >= 8 ? 2 : 0) |
    (base >= 8 ? 1 : 0) |
    ((encoding.byteReg && reg >= 4) || (encoding.byteRm && !memory && base >= 4) ? 0x40 : 0);

  if (encoding.prefix) buffer.u8(encoding.prefix);
  if (rex) buffer.u8(0x40 | rex);
  const last = encoding.opcode.length - 1;
  for (let i = 0; i < last; i++) buffer.u8(encoding.opcode[i]!);
  buffer.u8(encoding.opcode[last]! | (encoding.plusRegister ? base & 7 : 0));
  if (encoding.reg !== NO_MODRM) {
    if (memory) addressing(buffer, memory, digit & 7);
    else buffer.u8(0xc0 | ((digit & 7) << 3) | (base & 7));
  }
  switch (encoding.immediateBytes) {
    case 1:
      buffer.u8(Number(immediate) & 0xff);
      break;
    case 2:
      buffer.u16(Number(immediate) & 0xffff);
      break;
    case 4:
      buffer.u32(Number(immediate));
      break;
    case 8:
      buffer.u64(BigInt(immediate));
      break;
  }
}

/** ModRM, SIB and displacement. A base of rsp or r12 needs a SIB byte, one of rbp or r13 a displacement. */
function addressing(buffer: CodeBuffer, memory: Memory, reg: number): void {
  const { base, index, displacement } = memory;
  const mod = displacement === 0 && (base & 7) !== RBP ? 0 : fitsInt8(displacement) ? 1 : 2;
  const needsSib = index !== undefined || (base & 7) === RSP;
  buffer.u8((mod << 6) | (reg << 3) | (needsSib ? 4 : base & 7));
  if (needsSib) buffer.u8((Math.log2(memory.scale ?? 1) << 6) | (((index ?? RSP) & 7) << 3) | (base & 7));
  if (mod === 1) buffer.u8(displacement & 0xff);
  else if (mod === 2) buffer.u32(displacement);
}
