/** An independent disassembler (iced-x86) and the listing of the golden files. */
import { Decoder, DecoderOptions, Formatter, FormatterSyntax, MemorySizeOptions } from 'iced-x86';
import type { Code, Relocation } from '../../src/jit/shared/code.ts';

export interface Line {
  /** Code offset. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly text: string;
}

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

function describeRelocation({ form, target, addend }: Relocation): string {
  const name =
    target.kind === 'map' || target.kind === 'mapValue'
      ? `${target.kind}[${target.index}]`
      : target.kind === 'self'
        ? 'self'
        : `${target.kind} ${target.name}`;
  return `${form} ${name}${addend === 0 ? '' : addend > 0 ? `+${addend}` : addend}`;
}

/** Machine code interleaved with the BPF text of each slot. */
export function listing(code: Code, bpf: readonly (string | undefined)[]): string {
  const out: string[] = [];
  const starts = new Map<number, number[]>();
  code.insnOffsets.forEach((offset, slot) => {
    if (slot < bpf.length) starts.set(offset, [...(starts.get(offset) ?? []), slot]);
  });
  const notes = new Map<number, string>();
  for (const site of code.tailCalls) notes.set(site.start, `tail call, ${site.kind}`);
  for (const site of code.pokeSites) {
    notes.set(site.bypass, `poke ${site.poke}: bypass`);
    notes.set(site.target, `poke ${site.poke}: target`);
  }
  const heading = (offset: number): void => {
    for (const slot of starts.get(offset) ?? []) if (bpf[slot]) out.push(`${slot}: ${bpf[slot]}`);
  };
  const lines = disassemble(code.bytes);
  for (const { offset, bytes, text } of lines) {
    heading(offset);
    const end = offset + bytes.length;
    const remarks = code.relocations.filter(r => r.offset >= offset && r.offset < end).map(describeRelocation);
    const note = notes.get(offset);
    if (note) remarks.unshift(note);
    const hex = Buffer.from(bytes).toString('hex');
    const remark = remarks.length > 0 ? `  ; ${remarks.join('; ')}` : '';
    out.push(`${offset.toString(16).padStart(8)}  ${hex.padEnd(20)}  ${text}${remark}`);
  }
  heading(code.bytes.length);
  return `${out.join('\n')}\n`;
}
