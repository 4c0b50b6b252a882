/**
 * `switchyard compile`: the ahead-of-time form of an object. Four files for each program, and in `routines/` for each
 * trusted routine that they need (docs/compile.md says what is in them). All is compiled before anything is written.
 */
import { join } from 'node:path';
import {
  type Collection,
  type CompiledCollection,
  type CompiledUnit,
  type CompileProgramOptions,
  compileCollection,
  type MapSpec,
  symbolName,
} from '../core.ts';
import { listingLines } from './disasm.ts';
import { UsageError } from './errors.ts';
import { findProgram, makeDirectory, mentionUnsupported, readObject, writeBytes } from './files.ts';
import { type Arch, nativeListing } from './native-listing.ts';
import { type TailCallOptions, tailCallSettings } from './options.ts';
import { bold, column } from './terminal.ts';

export interface CompileOptions extends TailCallOptions {
  readonly output: string;
  readonly arch: Arch;
  readonly program?: readonly string[];
  readonly atomics?: 'lse' | 'exclusive';
  readonly pokes: boolean;
  readonly btf?: string;
  readonly json?: boolean;
}

/** Version of what the JSON files say; it changes when something in them changes its meaning. */
const FORMAT = 1;
const ROUTINES = 'routines';

interface Output {
  readonly unit: CompiledUnit;
  /** Path below the directory, without extension. */
  readonly path: string;
  readonly files: readonly (readonly [extension: string, bytes: Uint8Array])[];
}

export async function compile(path: string, options: CompileOptions): Promise<void> {
  const { arch, output, pokes, program: programs } = options;
  if (options.atomics !== undefined && arch !== 'arm64') {
    throw new UsageError('bad_usage', '--atomics is a choice on arm64 only: use it with --arch arm64', { arch });
  }
  const collection = readObject(path, options.btf);
  mentionUnsupported(collection);
  for (const name of programs ?? []) findProgram(collection, name);
  const compilerOptions: CompileProgramOptions = {
    arch,
    pokes,
    ...tailCallSettings(options),
    tailCallMode: options.tailCallMode ?? 'fast',
    ...(options.atomics && { atomics: options.atomics }),
  };
  const compiled = compileCollection(collection, { ...compilerOptions, ...(programs && { programs }) });
  const outputs: Output[] = [];
  for (const unit of [...compiled.programs, ...compiled.routines]) {
    outputs.push(await outputOf(unit, collection, compilerOptions, compiled));
  }
  makeDirectory(output);
  if (compiled.routines.length > 0) makeDirectory(join(output, ROUTINES));
  for (const { path: name, files } of outputs) {
    for (const [extension, bytes] of files) writeBytes(join(output, name + extension), bytes);
  }
  report(outputs, compilerOptions, options);
}

function report(outputs: readonly Output[], { arch, tailCallMode }: CompileProgramOptions, options: CompileOptions) {
  const entry = ({ unit, path, files }: Output) => ({
    name: unit.name,
    bytes: unit.code.bytes.length,
    relocations: unit.code.relocations.length,
    files: files.map(([extension]) => path + extension),
  });
  const of = (kind: CompiledUnit['kind']) => outputs.filter(({ unit }) => unit.kind === kind).map(entry);
  const programs = of('program');
  const routines = of('routine');
  if (options.json) {
    console.log(JSON.stringify({ directory: options.output, arch, tailCallMode, programs, routines }));
    return;
  }
  console.log(`${bold(options.output)}: ${arch}, tail calls '${tailCallMode}'`);
  const width = Math.max(0, ...programs.map(({ name }) => name.length));
  for (const { name, bytes, relocations } of programs) {
    console.log(`  ${column(name, width)}  ${bytes} bytes, ${relocations} relocations`);
  }
  const bytes = routines.reduce((sum, routine) => sum + routine.bytes, 0);
  if (routines.length > 0) console.log(`  ${ROUTINES}/: ${routines.length} trusted routines, ${bytes} bytes`);
}

async function outputOf(
  unit: CompiledUnit,
  { programs, maps }: Collection,
  options: CompileProgramOptions,
  compiled: CompiledCollection,
): Promise<Output> {
  const { kind, name, lowered, code } = unit;
  const spec = kind === 'program' ? programs.get(name)! : { lines: [], subprograms: [] };
  const listing = await nativeListing(lowered, code, options.arch);
  const text = (lines: Iterable<string>) => new TextEncoder().encode(`${[...lines].join('\n')}\n`);
  return {
    unit,
    path: kind === 'program' ? fileName(name) : join(ROUTINES, fileName(name)),
    files: [
      ['.bin', code.bytes],
      ['.json', text([JSON.stringify(description(unit, maps, options, compiled), null, 2)])],
      ['.lst', text(listingLines(listing, spec, 'native'))],
      ['.o', unit.objectFile],
    ],
  };
}

/** All that a loader needs besides the code. */
function description(
  { kind, name, lowered, code }: CompiledUnit,
  maps: ReadonlyMap<string, MapSpec>,
  { arch, atomics, tailCallMode }: CompileProgramOptions,
  { emptySlots, missStub }: CompiledCollection,
) {
  const { usedMaps, pokeTable } = lowered;
  return {
    format: FORMAT,
    kind,
    name,
    ...(kind === 'program' && { type: lowered.type }),
    arch,
    ...(arch === 'arm64' && { atomics: atomics ?? 'lse' }),
    ...(kind === 'program' && {
      tailCallMode,
      emptySlots,
      missStub: emptySlots === 'stub' ? Buffer.from(missStub).toString('hex') : null,
      tailCallEntry: code.tailCallPrologueOffset,
    }),
    bytes: code.bytes.length,
    functions: code.functions,
    relocations: code.relocations.map(({ offset, form, target, addend }) => ({
      offset,
      form,
      symbol: symbolName(target, usedMaps) ?? null,
      addend,
    })),
    ...(kind === 'program' && {
      maps: usedMaps.map(used => {
        const { type, keySize, valueSize, maxEntries, flags } = maps.get(used.name)!;
        return { name: used.name, type, keySize, valueSize, maxEntries, flags };
      }),
      tailCalls: code.tailCalls.map(({ insn, kind, start, end }) => ({
        insn: lowered.origin[insn]!,
        kind,
        start,
        end,
      })),
      pokeSites: code.pokeSites.map(({ poke, bypass, target, out }) => {
        const { map, key } = pokeTable[poke]!;
        return { map: usedMaps[map]!.name, index: key, bypass: bypass ?? null, target, out };
      }),
    }),
  };
}

/** A symbol may hold any byte; a file name of ours holds none that means something to a shell or file system. */
function fileName(name: string): string {
  return name.replace(/^\.|[^\w.-]/gu, each => encodeURIComponent(each).replace(/^[^%]$/, plain => hex(plain)));
}

function hex(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}
