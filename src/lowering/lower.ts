/**
 * Lowering: from a verified program to one that any backend can run. `lower` puts the passes in order and does
 * nothing else; what each reads, writes, assumes and may throw stands above it.
 */
import type { Instruction } from '../isa/instruction.ts';
import type { MapSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import type { Draft, HelperRoutine, KfuncRoutine, LoweringInput, Pass } from './draft.ts';
import type { Lowered, TailCallIndex } from './lowered.ts';
import { confineToArena } from './passes/arena.ts';
import { rewriteContextAccess } from './passes/context-access.ts';
import { countMisses } from './passes/count-misses.ts';
import { removeDeadCode } from './passes/dead-code.ts';
import { lowerHelperCalls } from './passes/helper-calls.ts';
import { lowerMayGoto, lowerPacketLoads } from './passes/legacy.ts';
import { resolveMapReferences } from './passes/map-references.ts';
import { addRawEntry } from './passes/raw-entry.ts';
import { packTailCalls } from './passes/tail-calls.ts';
import { probeUntrusted } from './passes/untrusted.ts';
import { zeroFrames } from './passes/zero-frames.ts';
import { collectUsedMaps } from './used-maps.ts';

export interface LowerOptions {
  /** Specifications of the program's maps, by name. */
  readonly maps: ReadonlyMap<string, MapSpec>;
  readonly helperRoutine: HelperRoutine;
  /** Default: no kernel functions. */
  readonly kfuncRoutine?: KfuncRoutine;
  /** Whether the backend can patch code: without it no site gets a poke descriptor. Default true. */
  readonly pokes?: boolean;
  /** Code behind each tail call that counts it if it falls through. Default false; needs a runtime that makes the table. */
  readonly countMisses?: boolean;
  /** With `countMisses`: code in front of each tail call too, that counts where it leads. Default false. */
  readonly countHits?: boolean;
  /**
   * Branches stay of which the verifier found one side dead, and lead to an exit there: for checks of the verifier, which would never see that
   * it was wrong otherwise. Default false.
   */
  readonly keepDeadBranches?: boolean;
}

/** No object's: C identifiers have no space. */
const MISS_TABLE = 'tail call misses';

const PASSES: readonly Pass[] = [
  removeDeadCode,
  rewriteContextAccess,
  confineToArena,
  probeUntrusted,
  zeroFrames,
  lowerMayGoto,
  lowerPacketLoads,
  resolveMapReferences,
  packTailCalls,
  countMisses,
  lowerHelperCalls,
  addRawEntry,
];

/** @throws LoweringError where the program cannot be run, or the verifier's facts contradict it. */
export function lower(verified: Verified, options: LowerOptions): Lowered {
  const { program, facts } = verified;
  const own = collectUsedMaps(program.name, facts.usedMaps, options.maps);
  const counts = options.countMisses === true && facts.tailCalls.length > 0;
  const usedMaps = counts ? [...own, { name: MISS_TABLE, maxEntries: facts.tailCalls.length }] : own;
  const missTable = counts ? { missTable: own.length } : {};
  const input: LoweringInput = {
    name: program.name,
    type: program.type,
    facts,
    usedMaps,
    maps: options.maps,
    helperRoutine: options.helperRoutine,
    pokes: options.pokes ?? true,
    ...missTable,
    ...(options.kfuncRoutine === undefined ? {} : { kfuncRoutine: options.kfuncRoutine }),
    ...(options.countHits === undefined ? {} : { countHits: options.countHits }),
    ...(options.keepDeadBranches === true ? { keepDeadBranches: true } : {}),
  };
  const start: Draft = {
    insns: program.insns,
    origin: Int32Array.from(program.insns, (_, slot) => slot),
    subprograms: facts.subprograms,
    pokeTable: [],
    unusedArguments: new Set(),
  };
  const { insns, origin, subprograms, pokeTable, unusedArguments } = PASSES.reduce(
    (draft, pass) => pass(draft, input),
    start,
  );
  const tailCallIndices = provenIndices(verified, insns, origin);
  const { name, type } = program;
  const rest = { ...missTable, tailCallIndices, unusedArguments, subprograms };
  return { name, type, insns, origin, usedMaps, pokeTable, ...rest };
}

function provenIndices(
  { facts }: Verified,
  insns: readonly Instruction[],
  origin: Int32Array,
): Map<number, TailCallIndex> {
  const maxima = new Map(facts.tailCalls.map(({ insn, indexMax }) => [insn, indexMax]));
  const indices = new Map<number, TailCallIndex>();
  insns.forEach((insn, slot) => {
    const max = insn.kind === 'tailCall' ? maxima.get(origin[slot]!) : undefined;
    if (max !== undefined) indices.set(slot, { max, narrow: facts.narrowTailCalls?.has(origin[slot]!) === true });
  });
  return indices;
}
