/**
 * Programs compiled ahead of time: what the runtime would place in executable memory, as data, for any machine, wherever
 * this runs. Tail calls that fall through are not counted in it: their counters belong to a runtime.
 *
 * Invariants: the same object, options and version of Switchyard give the same bytes; each routine that any code refers to
 * is among the routines, so that what is left undefined is maps and services.
 */
import { check } from '../arguments.ts';
import type { Routine } from '../isa/routine.ts';
import type { Code } from '../jit/shared/code.ts';
import { objectFile } from '../jit/shared/object-file.ts';
import { chooseTailCalls, type TailCallChoices, type TailCallOverrides } from '../jit/shared/tail-call-choices.ts';
import type { Lowered } from '../lowering/lowered.ts';
import { lowerRoutine } from '../lowering/routine.ts';
import { collectionSpec } from '../object/check.ts';
import type { Collection } from '../object/spec.ts';
import { RuntimeError } from './errors.ts';
import { ROUTINES } from './routines.ts';
import {
  type CompileProgramOptions,
  compileMembers,
  compileProgram,
  lowerProgram,
  machineFor,
  verifyProgram,
} from './stages.ts';

export interface CompileCollectionOptions extends CompileProgramOptions {
  /** As for `compileProgram`, but that `emptySlots` is "test" by default: a host's empty slots hold 0 unless it says otherwise. */
  readonly tailCallChoices?: TailCallOverrides;
  /** Default: every program of the collection. */
  readonly programs?: readonly string[];
}

/** A program or routine, compiled. */
export interface CompiledUnit {
  readonly kind: 'program' | 'routine';
  readonly name: string;
  readonly lowered: Lowered;
  readonly code: Code;
  /** A relocatable ELF64 file of the machine (jit/shared/object-file.ts). */
  readonly objectFile: Uint8Array;
}

export interface CompiledCollection {
  /** In the order of the collection. */
  readonly programs: readonly CompiledUnit[];
  /** Trusted routines that the programs refer to, and those that these refer to; by name. */
  readonly routines: readonly CompiledUnit[];
  /** What the second halves of prog arrays have to hold for an empty slot: 0, or the address of `missStub`. */
  readonly emptySlots: TailCallChoices['emptySlots'];
  /** Code to be placed anywhere, without relocations. */
  readonly missStub: Uint8Array;
}

const ROUTINE_BY_NAME: ReadonlyMap<string, Routine> = new Map(ROUTINES.map(routine => [routine.name, routine]));

const compileOptions = check.options({ ...compileMembers, programs: check.arrayOf(check.string) });

/**
 * Verifies and compiles.
 * @throws RuntimeError `no_such_program`; VerifierError, LoweringError and CompileError for the first program that fails
 */
export function compileCollection(collection: Collection, given: CompileCollectionOptions = {}): CompiledCollection {
  collectionSpec(collection, 'collection');
  compileOptions(given, 'options');
  const { programs, maps } = collection;
  const machine = machineFor(given);
  const tailCallMode = given.tailCallMode ?? machine.tailCallModes.at(-1)!;
  const options = {
    ...given,
    tailCallMode,
    tailCallChoices: { emptySlots: 'test', ...given.tailCallChoices } as const,
  };
  const { emptySlots } = chooseTailCalls(machine.tailCallPresets, tailCallMode, options.tailCallChoices);
  const wanted = new Set(options.programs ?? programs.keys());
  for (const name of wanted) {
    if (programs.has(name)) continue;
    const names = [...programs.keys()];
    throw new RuntimeError(
      'no_such_program',
      `no program is named ${name}; the object has ${names.join(', ') || 'none'}`,
      { name, names },
    );
  }
  const compiled = [...programs.values()]
    .filter(({ name }) => wanted.has(name))
    .map(spec => {
      const lowered = lowerProgram(verifyProgram(spec, maps), maps, options.pokes !== false);
      return unit('program', lowered, compileProgram(lowered, options), options);
    });
  return {
    programs: compiled,
    routines: routinesOf(compiled, options),
    emptySlots,
    missStub: machine.missStub(),
  };
}

function unit(kind: CompiledUnit['kind'], lowered: Lowered, code: Code, options: CompileProgramOptions): CompiledUnit {
  const { name, usedMaps } = lowered;
  const { arch } = machineFor(options);
  return { kind, name, lowered, code, objectFile: objectFile({ arch, kind, name, code, usedMaps }) };
}

function routinesOf(programs: readonly CompiledUnit[], options: CompileProgramOptions): CompiledUnit[] {
  const routines = new Map<string, CompiledUnit>();
  const follow = ({ code }: CompiledUnit): void => {
    for (const { target } of code.relocations) {
      if (target.kind !== 'routine' || routines.has(target.name)) continue;
      const lowered = lowerRoutine(ROUTINE_BY_NAME.get(target.name)!);
      const code = machineFor(options).compile(lowered, { kind: 'routine', tailCallMode: 'cached' });
      const routine = unit('routine', lowered, code, options);
      routines.set(target.name, routine);
      follow(routine);
    }
  };
  for (const program of programs) follow(program);
  return [...routines.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
