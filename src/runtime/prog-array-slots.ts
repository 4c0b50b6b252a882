/**
 * The slots of one prog array: which program lies where, who must be patched, and who keeps whom alive.
 *
 * Problem: a slot changes while other threads run programs that read it, jump through it, or have its target patched
 * into their code.
 * Strategy: the array itself (maps/prog-array.ts) exchanges program object and cached target and calls the poke list;
 * here the poke list patches the direct call sites, and what left the slot is let go of after a grace period.
 * Invariants: a slot holds a reference to its program; a site whose slot was emptied keeps its old jump until the grace
 * period ends, since a run may stand between the site's two instructions; only then it is cleared, and only if the slot has
 * not changed again: it may have been filled and emptied once more, and that grace period still be running.
 */
import type { ProgArray } from '../maps/prog-array.ts';
import type { Installed } from './backend.ts';
import { RuntimeError } from './errors.ts';
import type { GracePeriods } from './grace-period.ts';
import type { Program } from './program.ts';

interface DirectSite {
  readonly installed: Installed;
  readonly poke: number;
}

/** A prog array as its user sees it. Slots may be changed at any time, also while programs run. */
export class ProgArraySlots {
  readonly #map: ProgArray;
  readonly #sites = new Map<number, Set<DirectSite>>();
  readonly #programs: ReadonlyMap<number, Program>;
  /** How often each slot was changed. */
  readonly #changes = new Map<number, number>();

  /** @param programs all live programs of the runtime, by id. */
  constructor(map: ProgArray, grace: GracePeriods, programs: ReadonlyMap<number, Program>) {
    this.#map = map;
    this.#programs = programs;
    map.subscribe((index, before, after) => {
      const change = (this.#changes.get(index) ?? 0) + 1;
      this.#changes.set(index, change);
      for (const site of this.#sites.get(index) ?? []) site.installed.patch(site.poke, after?.target);
      if (after) programs.get(after.id)?.retain();
      if (!before) return;
      const old = programs.get(before.id);
      grace.retire(() => {
        if (!after && this.#changes.get(index) === change) {
          for (const site of this.#sites.get(index) ?? []) site.installed.clear(site.poke);
        }
        old?.release();
      });
    });
  }

  get name(): string {
    return this.#map.spec.name;
  }

  /** Number of slots, fixed. */
  get maxEntries(): number {
    return this.#map.spec.maxEntries;
  }

  /** The map underneath: reading a slot's bytes gives the program's id. */
  get map(): ProgArray {
    return this.#map;
  }

  /** Filled slots in ascending order. */
  entries(): [index: number, program: Program][] {
    const filled: [number, Program][] = [];
    for (const [key] of this.#map.entries()) {
      const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
      const program = this.get(index);
      if (program) filled.push([index, program]);
    }
    return filled;
  }

  get(index: number): Program | undefined {
    const id = this.#map.get(index);
    return id === undefined ? undefined : this.#programs.get(id);
  }

  /**
   * Puts a program into a slot, replacing what is there. Runs that already fetched the old program finish on it.
   * @param index 0 to maxEntries - 1
   * @throws MapError E2BIG for an index out of range, EINVAL where the program does not match the array's owner.
   * @throws RuntimeError `disposed`
   */
  set(index: number, program: Program): void {
    if (program.disposed) {
      throw new RuntimeError(
        'disposed',
        `program ${program.name} was disposed; load it again before putting it into ${this.name}[${index}]`,
        {
          program: program.name,
          map: this.name,
          index,
        },
      );
    }
    this.#map.set(index, program.slotEntry());
  }

  /**
   * Empties a slot.
   * @throws MapError E2BIG for an index out of range, ENOENT where the slot is empty.
   */
  delete(index: number): void {
    this.#map.remove(index);
  }

  /** Empties every slot. */
  clear(): void {
    for (const [index] of this.entries()) this.delete(index);
  }

  /** Registers a direct call site and gives it the slot's present target. @returns its removal. */
  addSite(index: number, site: DirectSite): () => void {
    const sites = this.#sites.get(index) ?? new Set();
    this.#sites.set(index, sites);
    sites.add(site);
    const program = this.get(index);
    if (program) site.installed.patch(site.poke, program.slotEntry().target);
    return () => {
      sites.delete(site);
      if (sites.size === 0 && this.#sites.get(index) === sites) this.#sites.delete(index);
    };
  }
}
