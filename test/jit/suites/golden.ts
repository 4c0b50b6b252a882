/**
 * Golden files: BPF in, the disassembly of the machine code out. `UPDATE_GOLDEN=1` rewrites them.
 *
 * Each file is a case: the options in lines that start with `#`, the BPF text, a line of dashes, and the listing. The
 * `maps` option gives the max_entries of each used map, `pokes` one "map:key" for each poke, `choices` "name=value" for each
 * that is not the mode's.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../../src/isa/assembler.ts';
import { formatInstruction } from '../../../src/isa/disassembler.ts';
import type { Code, CompileOptions, Machine, TailCallMode } from '../../../src/jit/shared/code.ts';
import { lowered } from '../support.ts';

/** Machine code as text, interleaved with the BPF text of each slot. */
type Lister = (code: Code, bpf: readonly (string | undefined)[]) => string;
/** The machine that a file's options ask for. */
type MachineOf = (settings: ReadonlyMap<string, string>) => Machine;

const SEPARATOR = '----\n';
const MODES: readonly TailCallMode[] = ['baseline', 'cached', 'fast'];

function compileCase(source: string, machineOf: MachineOf, list: Lister): string {
  const settings = new Map(
    [...source.matchAll(/^# (\w+): (.*)$/gm)].map(match => [match[1]!, match[2]!.trim()] as const),
  );
  const words = (name: string): string[] => settings.get(name)?.split(/\s+/) ?? [];
  const text = source.replace(/^#.*\n/gm, '');
  const insns = assemble(text, { internal: true });
  const program = lowered(insns, {
    indices: words('indices').map(index => {
      const [max, narrow] = index.split(':');
      return { max: Number(max), narrow: narrow === 'narrow' };
    }),
    stackDepth: Number(settings.get('stack') ?? 0),
    usedMaps: words('maps').map((maxEntries, index) => ({ name: `map_${index}`, maxEntries: Number(maxEntries) })),
    pokeTable: words('pokes').map(poke => {
      const [map, key] = poke.split(':').map(Number);
      return { insn: 0, map: map!, key: key! };
    }),
  });
  const choices = Object.fromEntries(words('choices').map(choice => choice.split('=')));
  const options: CompileOptions = {
    kind: settings.get('kind') === 'routine' ? 'routine' : 'program',
    tailCallMode: MODES.find(mode => mode === settings.get('mode')) ?? 'cached',
    tailCallChoices: choices,
  };
  const bpf = insns.map(insn => (insn.kind === 'wide' ? undefined : formatInstruction(insn)));
  return list(machineOf(settings).compile(program, options), bpf);
}

/** @param folder of the golden files */
export function goldenSuite(machineOf: MachineOf, folder: URL, list: Lister): void {
  const names = readdirSync(folder).filter(name => name.endsWith('.txt'));
  test('golden files are there', () => {
    expect(names.length).toBeGreaterThan(10);
  });
  describe('golden files', () => {
    test.each(names)('%s', name => {
      const file = new URL(name, folder);
      const [source, golden] = readFileSync(file, 'utf8').split(SEPARATOR);
      const actual = compileCase(source!, machineOf, list);
      if (process.env.UPDATE_GOLDEN) writeFileSync(file, `${source}${SEPARATOR}${actual}`);
      else expect(actual).toBe(golden);
    });
  });
}
