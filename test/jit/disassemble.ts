/** An independent disassembler (iced-x86) and the listing of the golden files. */
import { Decoder, DecoderOptions, Formatter, FormatterSyntax, MemorySizeOptions } from 'iced-x86';
import type { Code } from '../../src/jit/shared/code.ts';
import { interleave, type Line } from './listing.ts';

export function disassemble(code: Uint8Array): Line[] {
  const decoder = new Decoder(64, code, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  formatter.hexPrefix = '0x';
  formatter.hexSuffix = '';
  formatter.spaceAfterOperandSeparator = true;
  formatter.signedImmediateOperands = true;
  formatter.smallHexNumbersInDecimal = false;
  formatter.uppercaseHex = false;
  formatter.branchLeadingZeros = false;
  formatter.showBranchSize = false;
  formatter.memorySizeOptions = MemorySizeOptions.Always;
  const lines: Line[] = [];
  while (decoder.canDecode) {
    const instruction = decoder.decode();
    const offset = Number(instruction.ip);
    lines.push({
      offset,
      bytes: code.subarray(offset, offset + instruction.length),
      text: formatter.format(instruction),
    });
    instruction.free();
  }
  decoder.free();
  formatter.free();
  return lines;
}

export function listing(code: Code, bpf: readonly (string | undefined)[]): string {
  return interleave(code, bpf, disassemble(code.bytes));
}
