/**
 * Machine code as text: x86-64 by iced-x86, a disassembler that we did not write; arm64 by the compiler's own table, since
 * no package with types knows that machine.
 */
import { type Code, disassembleArm64, type Lowered, type RelocationTarget } from '../core.ts';
import type { ListedInstruction } from './disasm.ts';

function symbol(target: RelocationTarget, lowered: Lowered): string {
  switch (target.kind) {
    case 'map':
      return lowered.usedMaps[target.index]!.name;
    case 'mapValue':
      return `${lowered.usedMaps[target.index]!.name}.values`;
    case 'self':
      return lowered.name;
    default:
      return target.name;
  }
}

interface MachineInstruction {
  readonly offset: number;
  readonly length: number;
  readonly text: string;
}

async function disassembleX64(code: Uint8Array): Promise<MachineInstruction[]> {
  const { Decoder, DecoderOptions, Formatter, FormatterSyntax } = await import('iced-x86');
  const decoder = new Decoder(64, code, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Intel);
  const instructions: MachineInstruction[] = [];
  while (decoder.canDecode) {
    const insn = decoder.decode();
    instructions.push({ offset: Number(insn.ip), length: insn.length, text: formatter.format(insn) });
    insn.free();
  }
  formatter.free();
  decoder.free();
  return instructions;
}

const jumpName = { x64: 'jmp', arm64: 'b' } as const;
export type Arch = keyof typeof jumpName;

export async function nativeListing(lowered: Lowered, code: Code, arch: Arch = 'x64'): Promise<ListedInstruction[]> {
  const instructions =
    arch === 'x64'
      ? await disassembleX64(code.bytes)
      : disassembleArm64(code.bytes).map(({ offset, text }) => ({ offset, length: 4, text }));
  const listing: ListedInstruction[] = [];
  let slot = -1;
  for (const { offset: at, length, text } of instructions) {
    while (slot + 1 < lowered.insns.length && code.insnOffsets[slot + 1]! <= at) slot++;
    const origin = slot < 0 ? -1 : lowered.origin[slot]!;
    const notes = code.relocations
      .filter(({ offset }) => offset >= at && offset < at + length)
      .map(({ target, addend }) => `${symbol(target, lowered)}${target.kind === 'map' && addend ? `+${addend}` : ''}`);
    for (const site of code.pokeSites) {
      const { key, map } = lowered.pokeTable[site.poke]!;
      const name = `${lowered.usedMaps[map]!.name}[${key}]`;
      if (site.bypass === at) notes.push(`patched: nop while ${name} is filled`);
      if (site.target === at) notes.push(`patched: ${jumpName[arch]} to the program in ${name}`);
    }
    listing.push({
      at,
      origin: origin < 0 ? null : origin,
      text: notes.length > 0 ? `${text}  ; ${notes.join(', ')}` : text,
    });
  }
  return listing;
}
