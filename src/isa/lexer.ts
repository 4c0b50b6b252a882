/*
 * Assembly text to tokens. Comments end here: `#` and `//` and `;` to the end of the line, and `/ * ... * /` which may
 * span lines. The text of a `;` comment is kept, because in LLVM's syntax `;` separates statements (see assembler.ts).
 */
import { IsaError } from './errors.ts';

export interface Token {
  readonly type: 'word' | 'number' | 'string' | 'symbol' | 'end';
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
  readonly column: number;
}

/** One source line that holds something. `tokens` ends with an `end` token. */
export interface Line {
  readonly tokens: readonly Token[];
  /** What follows the first `;`. */
  readonly semicolonComment: string;
}

const BLANK = /[ \t\r\f\v]+/y;
const COMMENT = /(?:#|\/\/)[^\n]*/y;
const SEMICOLON = /;([^\n]*)/y;
const BLOCK_COMMENT = /\/\*[\s\S]*?\*\//y;
const WORD = /[A-Za-z_.$][\w.$]*/y;
const NUMBER = /(?:0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)(?![\w.$])/y;
const STRING = /"(?:[^"\\\n]|\\[^\n])*"/y;
/** Longest first. An operator that starts with s is one token only if it is not the tail of a word. */
const SYMBOL = /s>>=|s\/=|s%=|s>=|s<=|s>|s<|<<=|>>=|[-+*/%|&^=!<>]=|[-+*()[\],:@=<>&]/y;

/** Why no token begins with this text. */
function explain(found: string): { why: string; expected: string } {
  if (found === '/*') return { why: 'this comment is not closed', expected: '"*/"' };
  if (/^0[0-9]/.test(found)) {
    const why = `${JSON.stringify(found)} is a number that begins with 0, which LLVM reads as octal`;
    return { why, expected: 'a decimal number, or a hexadecimal one that begins with 0x' };
  }
  return { why: `${JSON.stringify(found)} starts nothing known`, expected: 'an instruction, a label or a comment' };
}

/** @throws IsaError `assembly_syntax` */
export function tokenize(text: string): Line[] {
  const lines: Line[] = [];
  let tokens: Token[] = [];
  let semicolonComment = '';
  let line = 1;
  let lineStart = 0;
  let at = 0;

  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) return undefined;
    at = pattern.lastIndex;
    return found[1] ?? found[0];
  };
  const endLine = (): void => {
    if (tokens.length > 0) {
      tokens.push({ type: 'end', text: 'end of line', line, column: at - lineStart + 1 });
      lines.push({ tokens, semicolonComment });
    }
    tokens = [];
    semicolonComment = '';
  };

  while (at < text.length) {
    if (text[at] === '\n') {
      endLine();
      at++;
      line++;
      lineStart = at;
      continue;
    }
    const start = at;
    if (match(BLANK) !== undefined || match(COMMENT) !== undefined) continue;
    const comment = match(SEMICOLON);
    if (comment !== undefined) {
      semicolonComment = comment;
      continue;
    }
    const block = match(BLOCK_COMMENT);
    if (block !== undefined) {
      const lastBreak = block.lastIndexOf('\n');
      if (lastBreak >= 0) {
        endLine();
        line += block.split('\n').length - 1;
        lineStart = start + lastBreak + 1;
      }
      continue;
    }
    const column = start - lineStart + 1;
    const add = (type: Token['type'], found: string | undefined): boolean => {
      if (found === undefined) return false;
      tokens.push({ type, text: found, line, column });
      return true;
    };
    if (add('symbol', match(SYMBOL)) || add('word', match(WORD))) continue;
    if (add('number', match(NUMBER)) || add('string', match(STRING))) continue;
    const found = /^(?:\/\*|\S+)/.exec(text.slice(at, at + 12))?.[0] ?? text[at]!;
    const { why, expected } = explain(found);
    throw new IsaError('assembly_syntax', `line ${line}, column ${column}: ${why}`, { line, column, expected, found });
  }
  endLine();
  return lines;
}
