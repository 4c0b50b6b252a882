/** Listings of compiled code, whatever disassembler made its lines. */
import type { Code, Relocation } from '../../src/jit/shared/code.ts';

export interface Line {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly text: string;
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
export function interleave(code: Code, bpf: readonly (string | undefined)[], lines: readonly Line[]): string {
  const out: string[] = [];
  const starts = new Map<number, number[]>();
  code.insnOffsets.forEach((offset, slot) => {
    if (slot < bpf.length) starts.set(offset, [...(starts.get(offset) ?? []), slot]);
  });
  const notes = new Map<number, string>();
  for (const site of code.tailCalls) notes.set(site.start, `tail call, ${site.kind}`);
  for (const site of code.pokeSites) {
    if (site.bypass !== undefined) notes.set(site.bypass, `poke ${site.poke}: bypass`);
    notes.set(site.target, `poke ${site.poke}: target`);
  }
  const heading = (offset: number): void => {
    for (const slot of starts.get(offset) ?? []) if (bpf[slot]) out.push(`${slot}: ${bpf[slot]}`);
  };
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
