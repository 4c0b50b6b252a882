/**
 * The A64 instructions that the compiler emits, as data.
 *
 * One row per instruction form: operands in GNU assembler's syntax, then the 32 bits, most significant first, in the
 * notation of the architecture manual's diagrams. Lower-case letters are fields:
 *
 *   operand    means
 *   Rd         register in field d, 32 or 64 bits wide, chosen at each use (bit z); 31 is the zero register
 *   Wd, Xd     the same with a fixed width
 *   Rd|SP      31 is the stack pointer
 *   #i         unsigned immediate; #i*8: a multiple of 8, divided by it in the field
 *   #j         signed immediate, likewise #j*8. Branches, adr: the distance in bytes
 *   #b         bitmask immediate: the mask itself, encoded as N:immr:imms
 *   C          condition
 *
 * A new instruction is a new row; `encodeWord` is the only encoder. It refuses an operand that does not fit.
 */
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { CompileError } from '../shared/errors.ts';
import { bitmaskImmediate } from './immediates.ts';

export const ENCODINGS = {
  // addition and comparison
  'add Rd, Rn, Rm': 'z0001011 000 mmmmm 000000 nnnnn ddddd',
  'add Xd, Xn, Xm, lsl #i': '10001011 000 mmmmm iiiiii nnnnn ddddd',
  'sub Rd, Rn, Rm': 'z1001011 000 mmmmm 000000 nnnnn ddddd',
  'neg Rd, Rm': 'z1001011 000 mmmmm 000000 11111 ddddd',
  'cmp Rn, Rm': 'z1101011 000 mmmmm 000000 nnnnn 11111',
  'add Xd|SP, Xn|SP, Wm, uxtw #3': '10001011 001 mmmmm 010 011 nnnnn ddddd',
  'add Rd|SP, Rn|SP, #i': 'z0010001 00 iiiiiiiiiiii nnnnn ddddd',
  'add Rd|SP, Rn|SP, #i, lsl #12': 'z0010001 01 iiiiiiiiiiii nnnnn ddddd',
  'sub Rd|SP, Rn|SP, #i': 'z1010001 00 iiiiiiiiiiii nnnnn ddddd',
  'sub Rd|SP, Rn|SP, #i, lsl #12': 'z1010001 01 iiiiiiiiiiii nnnnn ddddd',
  'cmp Rn|SP, #i': 'z1110001 00 iiiiiiiiiiii nnnnn 11111',
  'cmp Rn|SP, #i, lsl #12': 'z1110001 01 iiiiiiiiiiii nnnnn 11111',
  'cmn Rn|SP, #i': 'z0110001 00 iiiiiiiiiiii nnnnn 11111',
  'cmn Rn|SP, #i, lsl #12': 'z0110001 01 iiiiiiiiiiii nnnnn 11111',
  // logic
  'and Rd, Rn, Rm': 'z0001010 000 mmmmm 000000 nnnnn ddddd',
  'orr Rd, Rn, Rm': 'z0101010 000 mmmmm 000000 nnnnn ddddd',
  'eor Rd, Rn, Rm': 'z1001010 000 mmmmm 000000 nnnnn ddddd',
  'tst Rn, Rm': 'z1101010 000 mmmmm 000000 nnnnn 11111',
  'mov Rd, Rm': 'z0101010 000 mmmmm 000000 11111 ddddd',
  'mvn Rd, Rm': 'z0101010 001 mmmmm 000000 11111 ddddd',
  'and Rd|SP, Rn, #b': 'z0010010 0 bbbbbbbbbbbbb nnnnn ddddd',
  'orr Rd|SP, Rn, #b': 'z0110010 0 bbbbbbbbbbbbb nnnnn ddddd',
  'eor Rd|SP, Rn, #b': 'z1010010 0 bbbbbbbbbbbbb nnnnn ddddd',
  'tst Rn, #b': 'z1110010 0 bbbbbbbbbbbbb nnnnn 11111',
  // constants
  'movz Rd, #i, lsl #h*16': 'z1010010 1 hh iiiiiiiiiiiiiiii ddddd',
  'movn Rd, #i, lsl #h*16': 'z0010010 1 hh iiiiiiiiiiiiiiii ddddd',
  'movk Rd, #i, lsl #h*16': 'z1110010 1 hh iiiiiiiiiiiiiiii ddddd',
  // multiplication and division
  'mul Rd, Rn, Rm': 'z0011011 000 mmmmm 0 11111 nnnnn ddddd',
  'msub Rd, Rn, Rm, Ra': 'z0011011 000 mmmmm 1 aaaaa nnnnn ddddd',
  'udiv Rd, Rn, Rm': 'z0011010 110 mmmmm 000010 nnnnn ddddd',
  'sdiv Rd, Rn, Rm': 'z0011010 110 mmmmm 000011 nnnnn ddddd',
  // shifts, fields and byte order
  'lsl Rd, Rn, Rm': 'z0011010 110 mmmmm 001000 nnnnn ddddd',
  'lsr Rd, Rn, Rm': 'z0011010 110 mmmmm 001001 nnnnn ddddd',
  'asr Rd, Rn, Rm': 'z0011010 110 mmmmm 001010 nnnnn ddddd',
  'ubfm Rd, Rn, #r, #s': 'z1010011 0 z rrrrrr ssssss nnnnn ddddd',
  'sbfm Rd, Rn, #r, #s': 'z0010011 0 z rrrrrr ssssss nnnnn ddddd',
  'rev Rd, Rn': 'z1011010 110 00000 00001z nnnnn ddddd',
  'rev16 Rd, Rn': 'z1011010 110 00000 000001 nnnnn ddddd',
  // loads and stores: scaled, unscaled, by register
  'ldrb Wt, [Xn|SP, #i]': '00 111 0 01 01 iiiiiiiiiiii nnnnn ttttt',
  'ldrh Wt, [Xn|SP, #i*2]': '01 111 0 01 01 iiiiiiiiiiii nnnnn ttttt',
  'ldr Wt, [Xn|SP, #i*4]': '10 111 0 01 01 iiiiiiiiiiii nnnnn ttttt',
  'ldr Xt, [Xn|SP, #i*8]': '11 111 0 01 01 iiiiiiiiiiii nnnnn ttttt',
  'ldrsb Xt, [Xn|SP, #i]': '00 111 0 01 10 iiiiiiiiiiii nnnnn ttttt',
  'ldrsh Xt, [Xn|SP, #i*2]': '01 111 0 01 10 iiiiiiiiiiii nnnnn ttttt',
  'ldrsw Xt, [Xn|SP, #i*4]': '10 111 0 01 10 iiiiiiiiiiii nnnnn ttttt',
  'strb Wt, [Xn|SP, #i]': '00 111 0 01 00 iiiiiiiiiiii nnnnn ttttt',
  'strh Wt, [Xn|SP, #i*2]': '01 111 0 01 00 iiiiiiiiiiii nnnnn ttttt',
  'str Wt, [Xn|SP, #i*4]': '10 111 0 01 00 iiiiiiiiiiii nnnnn ttttt',
  'str Xt, [Xn|SP, #i*8]': '11 111 0 01 00 iiiiiiiiiiii nnnnn ttttt',
  'ldurb Wt, [Xn|SP, #j]': '00 111 0 00 01 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldurh Wt, [Xn|SP, #j]': '01 111 0 00 01 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldur Wt, [Xn|SP, #j]': '10 111 0 00 01 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldur Xt, [Xn|SP, #j]': '11 111 0 00 01 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldursb Xt, [Xn|SP, #j]': '00 111 0 00 10 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldursh Xt, [Xn|SP, #j]': '01 111 0 00 10 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldursw Xt, [Xn|SP, #j]': '10 111 0 00 10 0 jjjjjjjjj 00 nnnnn ttttt',
  'sturb Wt, [Xn|SP, #j]': '00 111 0 00 00 0 jjjjjjjjj 00 nnnnn ttttt',
  'sturh Wt, [Xn|SP, #j]': '01 111 0 00 00 0 jjjjjjjjj 00 nnnnn ttttt',
  'stur Wt, [Xn|SP, #j]': '10 111 0 00 00 0 jjjjjjjjj 00 nnnnn ttttt',
  'stur Xt, [Xn|SP, #j]': '11 111 0 00 00 0 jjjjjjjjj 00 nnnnn ttttt',
  'ldrb Wt, [Xn|SP, Xm]': '00 111 0 00 01 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldrh Wt, [Xn|SP, Xm]': '01 111 0 00 01 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldr Wt, [Xn|SP, Xm]': '10 111 0 00 01 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldr Xt, [Xn|SP, Xm]': '11 111 0 00 01 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldrsb Xt, [Xn|SP, Xm]': '00 111 0 00 10 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldrsh Xt, [Xn|SP, Xm]': '01 111 0 00 10 1 mmmmm 011 0 10 nnnnn ttttt',
  'ldrsw Xt, [Xn|SP, Xm]': '10 111 0 00 10 1 mmmmm 011 0 10 nnnnn ttttt',
  'strb Wt, [Xn|SP, Xm]': '00 111 0 00 00 1 mmmmm 011 0 10 nnnnn ttttt',
  'strh Wt, [Xn|SP, Xm]': '01 111 0 00 00 1 mmmmm 011 0 10 nnnnn ttttt',
  'str Wt, [Xn|SP, Xm]': '10 111 0 00 00 1 mmmmm 011 0 10 nnnnn ttttt',
  'str Xt, [Xn|SP, Xm]': '11 111 0 00 00 1 mmmmm 011 0 10 nnnnn ttttt',
  // the stack
  'stp Xt, Xu, [Xn|SP, #j*8]!': '10 101 0 011 0 jjjjjjj uuuuu nnnnn ttttt',
  'ldp Xt, Xu, [Xn|SP], #j*8': '10 101 0 001 1 jjjjjjj uuuuu nnnnn ttttt',
  'stp Xt, Xu, [Xn|SP, #j*8]': '10 101 0 010 0 jjjjjjj uuuuu nnnnn ttttt',
  'ldp Xt, Xu, [Xn|SP, #j*8]': '10 101 0 010 1 jjjjjjj uuuuu nnnnn ttttt',
  'str Xt, [Xn|SP, #j]!': '11 111 0 00 00 0 jjjjjjjjj 11 nnnnn ttttt',
  'ldr Xt, [Xn|SP], #j': '11 111 0 00 01 0 jjjjjjjjj 01 nnnnn ttttt',
  // atomics: LSE
  'stadd Rs, [Xn|SP]': '1z 111 0 00 00 1 sssss 0 000 00 nnnnn 11111',
  'stclr Rs, [Xn|SP]': '1z 111 0 00 00 1 sssss 0 001 00 nnnnn 11111',
  'steor Rs, [Xn|SP]': '1z 111 0 00 00 1 sssss 0 010 00 nnnnn 11111',
  'stset Rs, [Xn|SP]': '1z 111 0 00 00 1 sssss 0 011 00 nnnnn 11111',
  'ldaddal Rs, Rt, [Xn|SP]': '1z 111 0 00 11 1 sssss 0 000 00 nnnnn ttttt',
  'ldclral Rs, Rt, [Xn|SP]': '1z 111 0 00 11 1 sssss 0 001 00 nnnnn ttttt',
  'ldeoral Rs, Rt, [Xn|SP]': '1z 111 0 00 11 1 sssss 0 010 00 nnnnn ttttt',
  'ldsetal Rs, Rt, [Xn|SP]': '1z 111 0 00 11 1 sssss 0 011 00 nnnnn ttttt',
  'swpal Rs, Rt, [Xn|SP]': '1z 111 0 00 11 1 sssss 1 000 00 nnnnn ttttt',
  'casal Rs, Rt, [Xn|SP]': '1z 001000 1 1 1 sssss 1 11111 nnnnn ttttt',
  // atomics: exclusive pairs, acquire, release, barrier
  'ldxr Rt, [Xn|SP]': '1z 001000 0 1 0 11111 0 11111 nnnnn ttttt',
  'stxr Ws, Rt, [Xn|SP]': '1z 001000 0 0 0 sssss 0 11111 nnnnn ttttt',
  'stlxr Ws, Rt, [Xn|SP]': '1z 001000 0 0 0 sssss 1 11111 nnnnn ttttt',
  'ldarb Wt, [Xn|SP]': '00 001000 1 1 0 11111 1 11111 nnnnn ttttt',
  'ldarh Wt, [Xn|SP]': '01 001000 1 1 0 11111 1 11111 nnnnn ttttt',
  'ldar Rt, [Xn|SP]': '1z 001000 1 1 0 11111 1 11111 nnnnn ttttt',
  'stlrb Wt, [Xn|SP]': '00 001000 1 0 0 11111 1 11111 nnnnn ttttt',
  'stlrh Wt, [Xn|SP]': '01 001000 1 0 0 11111 1 11111 nnnnn ttttt',
  'stlr Rt, [Xn|SP]': '1z 001000 1 0 0 11111 1 11111 nnnnn ttttt',
  'dmb ish': '1101010100 0 00 011 0011 1011 1 01 11111',
  'dmb ishld': '1101010100 0 00 011 0011 1001 1 01 11111',
  // control flow
  'adr Xd, #j*4': '0 00 10000 jjjjjjjjjjjjjjjjjjj ddddd',
  'b #j*4': '000101 jjjjjjjjjjjjjjjjjjjjjjjjjj',
  'bl #j*4': '100101 jjjjjjjjjjjjjjjjjjjjjjjjjj',
  'b.C #j*4': '01010100 jjjjjjjjjjjjjjjjjjj 0 cccc',
  'cbz Rt, #j*4': 'z0110100 jjjjjjjjjjjjjjjjjjj ttttt',
  'cbnz Rt, #j*4': 'z0110101 jjjjjjjjjjjjjjjjjjj ttttt',
  'br Xn': '1101011 0000 11111 000000 nnnnn 00000',
  'blr Xn': '1101011 0001 11111 000000 nnnnn 00000',
  ret: '1101011 0010 11111 000000 11110 00000',
  nop: '11010101000000110010 0000 000 11111',
  'brk #i': '11010100 001 iiiiiiiiiiiiiiii 000 00',
} as const;

export type Form = keyof typeof ENCODINGS;

interface Field {
  readonly shift: number;
  readonly bits: number;
  readonly kind: 'register' | 'unsigned' | 'signed' | 'bitmask';
  readonly multiple: number;
}
interface Encoding {
  readonly fixed: number;
  /** To be set where the width is 64. */
  readonly wide: number;
  /** In the order in which the operands stand in the form. */
  readonly fields: readonly Field[];
}

/** A register, an immediate with its multiple, or a condition: see the table above. */
export const OPERAND = /\b([RWX])([adnmtus])(\|SP)?(?![a-z])|#([ijbhrs])(?:\*(\d+))?|(?<=\.)(C)/g;

function parse(form: string, notation: string): Encoding {
  const bits = notation.replaceAll(' ', '');
  let fixed = 0;
  let wide = 0;
  for (let at = 0; at < 32; at++) {
    if (bits[at] === '1') fixed |= 1 << (31 - at);
    if (bits[at] === 'z') wide |= 1 << (31 - at);
  }
  const fields = [...form.matchAll(OPERAND)].map(([, register, name, , immediate, multiple]): Field => {
    const letter = register ? name! : (immediate ?? 'c');
    return {
      shift: 31 - bits.lastIndexOf(letter),
      bits: bits.lastIndexOf(letter) - bits.indexOf(letter) + 1,
      kind: register ? 'register' : immediate === 'j' ? 'signed' : immediate === 'b' ? 'bitmask' : 'unsigned',
      multiple: Number(multiple ?? 1),
    };
  });
  return { fixed, wide, fields };
}

const PARSED = Object.fromEntries(
  Object.entries(ENCODINGS).map(([form, notation]) => [form, parse(form, notation)]),
) as Record<Form, Encoding>;

/**
 * One instruction, as int32.
 * @param operands in the order of the form
 * @throws CompileError internal for an operand that the form cannot hold
 */
export function encodeWord(form: Form, width: 32 | 64, ...operands: readonly (number | bigint)[]): number {
  const { fixed, wide, fields } = PARSED[form];
  let word = width === 64 ? fixed | wide : fixed;
  for (let i = 0; i < fields.length; i++) {
    const { shift, bits, kind, multiple } = fields[i]!;
    const operand = operands[i]!;
    const value =
      kind === 'bitmask' ? (bitmaskImmediate(width, BigInt(operand)) ?? Number.NaN) : Number(operand) / multiple;
    const low = kind === 'signed' ? -(2 ** (bits - 1)) : 0;
    if (!Number.isInteger(value) || value < low || value >= low + 2 ** bits) {
      throw new CompileError('internal', `'${form}' of ${width} bits cannot hold ${operand} as operand ${i}`, {
        form,
        operands,
      });
    }
    word |= (value & (2 ** bits - 1)) << shift;
  }
  return word;
}

/** Appends one instruction; see `encodeWord`. */
export function encode(
  buffer: CodeBuffer,
  form: Form,
  width: 32 | 64 = 64,
  ...operands: readonly (number | bigint)[]
): void {
  buffer.u32(encodeWord(form, width, ...operands));
}
