/**
 * Ranges of the keys that array lookups are given, so that lowering can leave out what the range answers.
 *
 * Problem: a number that decides nothing is not compared when paths are pruned (`precision.ts`), so the range that it had on the
 * paths that were walked says nothing of the others. To count keys as relied upon would make it so, but also walk more than the
 * kernel does, and refuse as too complex what it accepts.
 *
 * Strategy: the sources of a key are marked as precision is, walking back from the store of the key through the stored states, but
 * in sets of their own for each lookup. They prevent no pruning. Where a path is pruned, the state is compared again with these
 * marks counted in: if the old one does not cover it so, the lookup's range is unknown for good; else the pruned path inherits
 * the marks, as it inherits those of precision, with which all of this is sound. Loops that converge by comparison
 * (`loops.ts`) cover states before their marks are complete; a program with one has no known ranges.
 *
 * What a path does between the store and the call is decided by the text alone (`lookup-keys.ts`), so the range of the store is that of
 * the call.
 */

import type { Instruction } from '../isa/instruction.ts';
import { jumpTargets } from '../isa/jump-targets.ts';
import type { MapSpec } from '../object/spec.ts';
import type { HelperCallFact } from './facts.ts';
import { keyOffset, keyStore } from './lookup-keys.ts';

const MAP_LOOKUP_ELEM = 1;

interface Range {
  min: number;
  max: number;
}

/** By slot of the store: slot of the lookup that reads it as its key. Only stores of registers. */
function findStores(insns: readonly Instruction[]): ReadonlyMap<number, number> {
  const stores = new Map<number, number>();
  let targets: ReadonlySet<number> | undefined;
  insns.forEach((insn, call) => {
    if (insn.kind !== 'callHelper' || insn.helper !== MAP_LOOKUP_ELEM) return;
    targets ??= jumpTargets(insns);
    const offset = keyOffset(insns, call, targets);
    const stored = offset === undefined ? undefined : keyStore(insns, call, targets, offset);
    if (stored?.store.src !== undefined) stores.set(stored.slot, call);
  });
  return stores;
}

const isArray = (map: MapSpec | undefined): boolean => map?.type === 'array' || map?.type === 'percpu_array';

export class KeyRanges {
  private readonly maps: ReadonlyMap<string, MapSpec>;
  private readonly stores: ReadonlyMap<number, number>;
  /** Largest max_entries of an array: ranges that reach as far are of no use. */
  private readonly limit: number;
  /** By slot of the lookup; undefined: unknown for good. */
  private readonly ranges = new Map<number, Range | undefined>();
  private known: boolean;

  /** @param known false: nothing shall be known */
  constructor(insns: readonly Instruction[], maps: ReadonlyMap<string, MapSpec>, known: boolean) {
    const arrays = [...maps.values()].filter(isArray);
    const limit = arrays.reduce((most, { maxEntries }) => Math.max(most, maxEntries), 0);
    this.limit = limit;
    this.maps = maps;
    this.known = known && limit > 0;
    this.stores = this.known ? findStores(insns) : new Map();
  }

  /** @returns the lookup that reads what the store in this slot stores as its key, if its range is not known to be unknown. */
  lookupOf(store: number): number | undefined {
    const call = this.stores.get(store);
    return call === undefined || this.isUnknown(call) ? undefined : call;
  }

  /** @returns false where the range is of no use and unknown from now on. */
  note(call: number, min: number, max: number): boolean {
    if (max >= this.limit) {
      this.forget(call);
      return false;
    }
    const range = this.ranges.get(call);
    if (range === undefined) this.ranges.set(call, { min, max });
    else {
      range.min = Math.min(range.min, min);
      range.max = Math.max(range.max, max);
    }
    return true;
  }

  isUnknown(call: number): boolean {
    return !this.known || (this.ranges.has(call) && this.ranges.get(call) === undefined);
  }

  forget(call: number): void {
    this.ranges.set(call, undefined);
  }

  forgetAll(): void {
    this.known = false;
  }

  /** Adds what is known of the key. */
  addTo(call: HelperCallFact): HelperCallFact {
    const range = this.known ? this.ranges.get(call.insn) : undefined;
    if (range === undefined || !isArray(this.maps.get(call.map ?? ''))) return call;
    const { min, max } = range;
    return { ...call, constantKey: call.constantKey ?? (min === max ? min : undefined), keyMax: max };
  }
}
