/** x86-64 machine code as text, by iced-x86: a disassembler that we did not write. */
import type { Code, Lowered, RelocationTarget } from '../core.ts';
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

export async function nativeListing(lowered: Lowered, code: Code): Promise<ListedInstruction[]> {
  const { Decoder, DecoderOptions, Formatter, FormatterSyntax } = await import('iced-x86');
  const decoder = new Decoder(64, code.bytes, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Intel);
  const listing: ListedInstruction[] = [];
  let slot = -1;
  while (decoder.canDecode) {
    const insn = decoder.decode();
    const at = Number(insn.ip);
    while (slot + 1 < lowered.insns.length && code.insnOffsets[slot + 1]! <= at) slot++;
    const origin = slot < 0 ? -1 : lowered.origin[slot]!;
    const notes = code.relocations
      .filter(({ offset }) => offset >= at && offset < at + insn.length)
      .map(({ target, addend }) => `${symbol(target, lowered)}${target.kind === 'map' && addend ? `+${addend}` : ''}`);
    for (const site of code.pokeSites) {
      const { key, map } = lowered.pokeTable[site.poke]!;
      const name = `${lowered.usedMaps[map]!.name}[${key}]`;
      if (site.bypass === at) notes.push(`patched: nop while ${name} is filled`);
      if (site.target === at) notes.push(`patched: jmp to the program in ${name}`);
    }
    const text = formatter.format(insn);
    listing.push({
      at,
      origin: origin < 0 ? null : origin,
      text: notes.length > 0 ? `${text}  ; ${notes.join(', ')}` : text,
    });
    insn.free();
  }
  formatter.free();
  decoder.free();
  return listing;
}
