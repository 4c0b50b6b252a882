/*
 * Spellings that the assembler, the disassembler and the kernel-style printer share.
 */
import type { AluOp, AtomicOp, JumpOp, Register, Size, Width } from './instruction.ts';

/** Assignment operators of two-operand arithmetic. */
export const ALU_SYMBOLS: Readonly<Record<Exclude<AluOp, 'neg'>, string>> = {
  add: '+=',
  sub: '-=',
  mul: '*=',
  div: '/=',
  sdiv: 's/=',
  mod: '%=',
  smod: 's%=',
  or: '|=',
  and: '&=',
  xor: '^=',
  lsh: '<<=',
  rsh: '>>=',
  arsh: 's>>=',
  mov: '=',
};

export const JUMP_SYMBOLS: Readonly<Record<JumpOp, string>> = {
  eq: '==',
  ne: '!=',
  gt: '>',
  ge: '>=',
  lt: '<',
  le: '<=',
  sgt: 's>',
  sge: 's>=',
  slt: 's<',
  sle: 's<=',
  set: '&',
};

/** Atomics that read and write with an operator: `lock *(u64 *)(r1 + 0) += r2`, and as a word in `atomic_fetch_add`. */
export const ATOMIC_SYMBOLS: Readonly<Record<Extract<AtomicOp, 'add' | 'or' | 'and' | 'xor'>, string>> = {
  add: '+=',
  or: '|=',
  and: '&=',
  xor: '^=',
};

/** `r3`, `w3` for the 32-bit form, `ax` and `wax` for the internal scratch register. */
export function registerName(register: Register, width: Width = 64): string {
  if (register === 11) return width === 64 ? 'ax' : 'wax';
  return `${width === 64 ? 'r' : 'w'}${register}`;
}

/** `u32`, `s8`, as in a memory operand. */
export function typeName(size: Size, signed = false): string {
  return `${signed ? 's' : 'u'}${size * 8}`;
}

/** Helper numbers to names, for printers; undefined where the number has none. */
export type HelperName = (helper: number) => string | undefined;

/** Turns a table of spellings around. */
export function bySpelling<Op extends string>(symbols: Readonly<Record<Op, string>>): ReadonlyMap<string, Op> {
  return new Map((Object.entries(symbols) as [Op, string][]).map(([op, symbol]) => [symbol, op]));
}
