/**
 * Golden files: BPF in, the disassembly of the machine code (iced-x86) out. `UPDATE_GOLDEN=1` rewrites them.
 *
 * Each file of `golden/` is a case: the options in lines that start with `#`, the BPF text, a line of dashes, and the
 * listing. The `maps` option gives the max_entries of each used map, `pokes` one "map:key" for each poke.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import { formatInstruction } from '../../src/isa/disassembler.ts';
import type { CompileOptions } from '../../src/jit/shared/code.ts';
import { compile } from '../../src/jit/x64/compile.ts';
import { listing } from './disassemble.ts';
import { lowered } from './support.ts';

const FOLDER = new URL('./golden/', import.meta.url);
const SEPARATOR = '----\n';

function compileCase(source: string): string {
  const settings = new Map(
    [...source.matchAll(/^# (\w+): (.*)$/gm)].map(match => [match[1]!, match[2]!.trim()] as const),
  );
  const list = (name: string): string[] => settings.get(name)?.split(/\s+/) ?? [];
  const text = source.replace(/^#.*\n/gm, '');
  const insns = assemble(text, { internal: true });
  const program = lowered(insns, {
    stackDepth: Number(settings.get('stack') ?? 0),
    usedMaps: list('maps').map((maxEntries, index) => ({ name: `map_${index}`, maxEntries: Number(maxEntries) })),
    pokeTable: list('pokes').map(poke => {
      const [map, key] = poke.split(':').map(Number);
      return { insn: 0, map: map!, key: key! };
    }),
  });
  const options: CompileOptions = {
    kind: settings.get('kind') === 'routine' ? 'routine' : 'program',
    tailCallMode: settings.get('mode') === 'baseline' ? 'baseline' : 'cached',
  };
  const bpf = insns.map(insn => (insn.kind === 'wide' ? undefined : formatInstruction(insn)));
  return listing(compile(program, options), bpf);
}

describe('golden files', () => {
  const names = readdirSync(FOLDER).filter(name => name.endsWith('.txt'));
  test('are there', () => {
    expect(names.length).toBeGreaterThan(10);
  });
  test.each(names)('%s', name => {
    const file = new URL(name, FOLDER);
    const [source, golden] = readFileSync(file, 'utf8').split(SEPARATOR);
    const actual = compileCase(source!);
    if (process.env.UPDATE_GOLDEN) writeFileSync(file, `${source}${SEPARATOR}${actual}`);
    else expect(actual).toBe(golden);
  });
});
