/** Collections from assembly text, and the backends that every suite of this room runs on. */
import {
  assemble,
  type Collection,
  createRuntime,
  type LoadOptions,
  type MapSpec,
  type ProgramType,
  programFromInstructions,
  type Runtime,
} from '../../src/index.ts';

export interface Parts {
  readonly programs: Readonly<Record<string, string>>;
  readonly maps?: readonly (Partial<MapSpec> & { name: string; type: MapSpec['type'] })[];
  readonly type?: ProgramType;
}

export function mapSpec(parts: Partial<MapSpec> & { name: string; type: MapSpec['type'] }): MapSpec {
  return { keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, contents: [], ...parts };
}

export function collection({ programs, maps = [], type = 'xdp' }: Parts): Collection {
  return {
    programs: new Map(
      Object.entries(programs).map(([name, text]) => [
        name,
        programFromInstructions({ name, type, insns: assemble(text) }),
      ]),
    ),
    maps: new Map(maps.map(parts => [parts.name, mapSpec(parts)])),
    license: 'GPL',
    btf: undefined,
  };
}

/** Every way to run a program. `native` ones must really have machine code (checked where programs are loaded). */
export const PLATFORMS: Record<string, LoadOptions & { backend: 'native' | 'interpreter' }> = {
  interpreter: { backend: 'interpreter' },
  'x86-64, cached targets': { backend: 'native', tailCallMode: 'cached' },
  'x86-64, cached targets, no pokes': { backend: 'native', tailCallMode: 'cached', pokes: false },
  'x86-64, fast': { backend: 'native', tailCallMode: 'fast' },
  'x86-64, fast, no pokes': { backend: 'native', tailCallMode: 'fast', pokes: false },
  'x86-64, fast, slots tested': { backend: 'native', tailCallMode: 'fast', tailCallChoices: { emptySlots: 'test' } },
  'x86-64, fast, no pokes, all checked': {
    backend: 'native',
    tailCallMode: 'fast',
    tailCallChoices: { emptySlots: 'test', rangeCheck: 'always' },
    pokes: false,
  },
  'x86-64, before the series': { backend: 'native', tailCallMode: 'baseline' },
};

/** Every mode of tail calls, and both choices of what empty slots lead to, for what is compiled. */
export const TAIL_CALL_MODES: Record<string, Pick<LoadOptions, 'tailCallMode' | 'tailCallChoices'>> = {
  baseline: { tailCallMode: 'baseline' },
  cached: { tailCallMode: 'cached' },
  fast: { tailCallMode: 'fast', tailCallChoices: { emptySlots: 'stub' } },
  'fast, slots tested': { tailCallMode: 'fast', tailCallChoices: { emptySlots: 'test' } },
};

/** A runtime whose test ends with every byte given back. */
export async function withRuntime<T>(use: (runtime: Runtime) => T | Promise<T>): Promise<T> {
  const runtime = createRuntime({ arenaSize: 64 << 20, codeSize: 16 << 20 });
  try {
    return await use(runtime);
  } finally {
    await runtime.dispose();
  }
}
