/** What lowering hands to the backends. */
import type { Instruction } from '../isa/instruction.ts';
import type { ProgramType } from '../object/spec.ts';
import type { SubprogramFacts } from '../verifier/facts.ts';

export interface PokeDescriptor {
  /** Slot of the TAIL_CALL instruction in `Lowered.insns`. */
  readonly insn: number;
  /** Index into `usedMaps`. */
  readonly map: number;
  /** Index into the prog array, below its max_entries. */
  readonly key: number;
}

/** What the verifier proved of the index of a tail call. */
export interface TailCallIndex {
  /** Largest value as u32. */
  readonly max: number;
  /** The upper half of the register is zero. */
  readonly narrow: boolean;
}

export interface UsedMap {
  readonly name: string;
  /** 0 for maps that are not prog arrays is never read. */
  readonly maxEntries: number;
}

export interface Lowered {
  readonly name: string;
  readonly type: ProgramType;
  /** By slot; no context access in uapi terms, no map by name, no helper by number is left. */
  readonly insns: readonly Instruction[];
  /** By slot: the slot of the verified program it came from, -1 for code that lowering made at the entry. */
  readonly origin: Int32Array;
  readonly usedMaps: readonly UsedMap[];
  /** `TAIL_CALL`'s imm bits 16-31 minus one index this. */
  readonly pokeTable: readonly PokeDescriptor[];
  /**
   * Index in `usedMaps` of the table of records that missed tail calls are counted in: the last, made by the runtime, of no
   * object's. One record for each of the verifier's tail calls, in their order (passes/count-misses.ts).
   */
  readonly missTable?: number;
  /** By slot of the TAIL_CALL instruction; a site without entry may see any index. */
  readonly tailCallIndices?: ReadonlyMap<number, TailCallIndex>;
  /**
   * Slots that only make arguments of a call which was inlined and reads none: compilers leave them out. What jumps between
   * them finds the same. The interpreter runs them, so that it has every register that the verifier says there is.
   */
  readonly unusedArguments?: ReadonlySet<number>;
  /** In terms of `insns`. */
  readonly subprograms: readonly SubprogramFacts[];
}
