/**
 * A64 code as text, in GNU assembler's syntax. It knows what the compiler emits and nothing else: the encoding table
 * read backwards. Rows without operands in a place (`neg Rd, Rm`) go before those with (`sub Rd, Rn, Rm`).
 */
import { check } from '../../arguments.ts';
import { ENCODINGS, type Form, OPERAND } from './encodings.ts';
import { bitmaskValue } from './immediates.ts';

export interface DisassembledInstruction {
  /** Bytes from the start of the code. */
  readonly offset: number;
  /** ".word 0x..." for what the compiler does not emit. */
  readonly text: string;
}

interface Pattern {
  readonly form: Form;
  readonly bits: string;
  readonly mask: number;
  readonly fixed: number;
  readonly fixedBits: number;
  readonly branches: boolean;
}

const CONDITIONS = 'eq ne hs lo mi pl vs vc hi ls ge lt gt le'.split(' ');

const PATTERNS: readonly Pattern[] = Object.entries(ENCODINGS)
  .map(([form, notation]): Pattern => {
    const bits = notation.replaceAll(' ', '');
    const number = (of: (bit: string) => boolean): number =>
      Number.parseInt([...bits].map(bit => (of(bit) ? '1' : '0')).join(''), 2) | 0;
    return {
      form: form as Form,
      bits,
      mask: number(bit => bit === '0' || bit === '1'),
      fixed: number(bit => bit === '1'),
      fixedBits: [...bits].filter(bit => bit === '0' || bit === '1').length,
      branches: /^(b|bl|b\.C|cbz|cbnz) /.test(form),
    };
  })
  .sort((a, b) => b.fixedBits - a.fixedBits);

function field(word: number, bits: string, letter: string, signed: boolean): number {
  const size = bits.lastIndexOf(letter) - bits.indexOf(letter) + 1;
  const value = (word >>> (31 - bits.lastIndexOf(letter))) & (2 ** size - 1);
  return signed && value >= 2 ** (size - 1) ? value - 2 ** size : value;
}

function registerName(kind: string, number: number, stack: boolean): string {
  const width = kind.toLowerCase();
  if (number < 31) return `${width}${number}`;
  return stack ? (width === 'w' ? 'wsp' : 'sp') : `${width}zr`;
}

function text(word: number, offset: number): string {
  const pattern = PATTERNS.find(({ mask, fixed }) => (word & mask) === fixed);
  if (pattern === undefined) return `.word 0x${(word >>> 0).toString(16).padStart(8, '0')}`;
  const { form, bits, branches } = pattern;
  const wide = bits.includes('z') && ((word >>> (31 - bits.indexOf('z'))) & 1) === 1;
  return form.replace(
    OPERAND,
    (_, kind?: string, name?: string, stack?: string, immediate?: string, multiple?: string) => {
      if (kind !== undefined) {
        const width = kind === 'R' ? (wide ? 'x' : 'w') : kind;
        return registerName(width, field(word, bits, name!, false), stack !== undefined);
      }
      if (immediate === undefined) return CONDITIONS[field(word, bits, 'c', false)] ?? 'al';
      const value = field(word, bits, immediate, immediate === 'j') * Number(multiple ?? 1);
      if (branches) return `0x${(offset + value).toString(16)}`;
      return immediate === 'b' ? `#0x${bitmaskValue(wide ? 64 : 32, value).toString(16)}` : `#${value}`;
    },
  );
}

/** @param code whole instructions; what is left over at the end is not listed */
export function disassembleArm64(code: Uint8Array): DisassembledInstruction[] {
  check.bytes(code, 'code');
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  const lines: DisassembledInstruction[] = [];
  for (let offset = 0; offset + 4 <= code.length; offset += 4) {
    lines.push({ offset, text: text(view.getInt32(offset, true), offset) });
  }
  return lines;
}
