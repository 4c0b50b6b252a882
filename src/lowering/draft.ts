/** A program while it is being lowered: what every pass takes and gives. */
import type { Instruction } from '../isa/instruction.ts';
import type { MapSpec, MapType, ProgramType } from '../object/spec.ts';
import type { Facts, SubprogramFacts } from '../verifier/facts.ts';
import type { PokeDescriptor, UsedMap } from './lowered.ts';

export interface Draft {
  readonly insns: readonly Instruction[];
  /** By slot: slot in the verified program, by which the verifier's facts are found; -1 for what lowering made up. */
  readonly origin: Int32Array;
  readonly subprograms: readonly SubprogramFacts[];
  readonly pokeTable: readonly PokeDescriptor[];
  /** See `Lowered`. */
  readonly unusedArguments: ReadonlySet<number>;
}

/** What passes read and none changes. */
export interface LoweringInput {
  readonly name: string;
  readonly type: ProgramType;
  readonly facts: Facts;
  /** In the order of `facts.usedMaps`. */
  readonly usedMaps: readonly UsedMap[];
  readonly maps: ReadonlyMap<string, MapSpec>;
  readonly helperRoutine: HelperRoutine;
  readonly kfuncRoutine?: KfuncRoutine;
  readonly pokes: boolean;
  /** Index in `usedMaps` of the table of miss records; undefined: misses are not counted. */
  readonly missTable?: number;
  /** Count hits too. */
  readonly countHits?: boolean;
  /** See `LowerOptions`. */
  readonly keepDeadBranches?: boolean;
}

/**
 * The trusted routine that a call of helper `helperId` becomes.
 * @param mapType type of the map argument, where it is the same on all paths.
 * @returns undefined for a helper that does not exist.
 */
export type HelperRoutine = (
  helperId: number,
  mapType: MapType | undefined,
  programType: ProgramType,
) => string | undefined;

/**
 * The trusted routine that a call of the kernel function `name` becomes; empty where there is nothing to do.
 * @returns undefined for a function that does not exist
 */
export type KfuncRoutine = (name: string, programType: ProgramType) => string | undefined;

export type Pass = (draft: Draft, input: LoweringInput) => Draft;
