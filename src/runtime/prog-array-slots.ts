/**
 * The slots of one prog array: which program lies where, who must be patched, and who keeps whom alive.
 *
 * Problem: a slot changes while other threads run programs that read it, jump through it, or have its target patched
 * into their code.
 * Strategy: the array itself (maps/prog-array.ts) checks the change and exchanges program object and cached target; here the
 * direct call sites are patched, and what left the slot is let go of after a grace period. Once there are transactions
 * (generations.ts) all that exists twice, and a change reaches the side that runs start on first.
 * Invariants: a slot holds a reference to its program on each side, and one from when it is put in until it is replaced; a site whose slot was emptied keeps its old jump until the grace
 * period ends, since a run may stand between the site's two instructions; only then it is cleared, and only if the slot has
 * not changed again: it may have been filled and emptied once more, and that grace period still be running.
 */
import { check, refuse } from '../arguments.ts';
import type { OwnerTraits, ProgArray, ProgArrayEntry, SlotWords } from '../maps/prog-array.ts';
import type { Installed } from './backend.ts';
import { RuntimeError } from './errors.ts';
import type { Generations, SlotChanges, Transaction, TransactionOptions } from './generations.ts';
import type { Side } from './grace-period.ts';
import type { Program } from './program.ts';

interface DirectSite {
  readonly installed: Installed;
  readonly poke: number;
}

/** A filled slot. */
interface Held {
  readonly entry: ProgArrayEntry;
  /** Undefined where the runtime does not know the program. */
  readonly program: Program | undefined;
}

/** What lies in the slots of one side, and what was compiled to jump there. */
interface SlotSide {
  readonly held: Map<number, Held>;
  readonly sites: Map<number, Set<DirectSite>>;
  /** Slots that hold something else than they should. */
  readonly behind: Set<number>;
  /** Slots that were emptied and not filled since, each with that removal. */
  readonly emptied: Map<number, object>;
}

const emptySide = (): SlotSide => ({ held: new Map(), sites: new Map(), behind: new Set(), emptied: new Map() });

/** A prog array as its user sees it. Slots may be changed at any time, also while programs run. */
export class ProgArraySlots {
  readonly #map: ProgArray;
  readonly #generations: Generations;
  readonly #programs: ReadonlyMap<number, Program>;
  /** What was put in; each side holds it now or soon. */
  readonly #held = new Map<number, Held>();
  readonly #sides: SlotSide[] = [emptySide()];

  /** @param programs all live programs of the runtime, by id. */
  constructor(map: ProgArray, generations: Generations, programs: ReadonlyMap<number, Program>) {
    this.#map = map;
    this.#generations = generations;
    this.#programs = programs;
    map.manage((index, _before, after) => this.#change(index, after));
    if (generations.doubled) this.addSide();
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
    if (typeof index !== 'number') check.natural(index, 'index');
    const id = this.#map.get(index);
    return id === undefined ? undefined : this.#programs.get(id);
  }

  /**
   * Puts a program into a slot, replacing what is there. Runs that already fetched the old program finish on it.
   * @param index 0 to maxEntries - 1
   * @throws MapError E2BIG for an index out of range, EINVAL where the program does not match the array's owner.
   * @throws RuntimeError `disposed`, `bad_argument` for a program of another runtime
   */
  set(index: number, program: Program): void {
    this.#usable(index, program);
    this.#map.set(index, program.slotEntry(0));
  }

  /** @internal Throws what `set` would throw. @param owner see `ProgArray.check` */
  check(index: number, program: Program, owner: OwnerTraits | undefined): ProgArrayEntry {
    this.#usable(index, program);
    const entry = program.slotEntry(0);
    this.#map.check(index, entry, owner);
    return entry;
  }

  /** @internal Whether its slots change by transactions of these. */
  belongsTo(generations: Generations): boolean {
    return this.#generations === generations;
  }

  #usable(index: number, program: Program): void {
    // By its shape: the class is above this file.
    if (typeof program?.slotEntry !== 'function') refuse('program', 'a program of this runtime', program);
    if (!program.disposed) {
      if (this.#programs.get(program.id) === program) return;
      throw new RuntimeError(
        'bad_argument',
        `program ${program.name} belongs to another runtime than prog array ${this.name}; load its object into this one`,
        { program: program.name, map: this.name, index },
      );
    }
    throw new RuntimeError(
      'disposed',
      `program ${program.name} was disposed; load it again before putting it into ${this.name}[${index}]`,
      { program: program.name, map: this.name, index },
    );
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

  /**
   * Changes any number of slots at once: every run sees either all of them as before or all of them as after, from its
   * entry to its exit. For several arrays: `Runtime.transaction`.
   * @throws what `set` and `delete` throw, `would_miss` where it is strict; then nothing is changed
   */
  transaction(change: (changes: SlotChanges) => void, options: TransactionOptions = {}): Transaction {
    check.callable(change, 'change');
    return this.#generations.transaction(
      changes =>
        change({
          set: (index, program) => changes.set(this, index, program),
          delete: index => changes.delete(this, index),
        }),
      options,
    );
  }

  /** @internal Registers a direct call site and gives it the slot's present target. @returns its removal. */
  addSite(index: number, site: DirectSite, side: Side = 0): () => void {
    const { sites: all, held } = this.#sides[side]!;
    const sites = all.get(index) ?? new Set();
    all.set(index, sites);
    sites.add(site);
    const present = held.get(index);
    if (present) site.installed.patch(site.poke, entryOn(side, present).target);
    return () => {
      sites.delete(site);
      if (sites.size === 0 && all.get(index) === sites) all.delete(index);
    };
  }

  /** @internal A second table, its slots still empty. @throws MapError `out_of_memory` */
  addSide(): void {
    this.#map.addSide();
    const side = emptySide();
    for (const index of this.#held.keys()) side.behind.add(index);
    this.#sides.push(side);
    if (side.behind.size > 0) this.#generations.fellBehind(1, this);
  }

  /** @internal Takes `addSide` back where making the second sides failed. */
  dropSide(): void {
    if (!this.#sides[1]) return;
    this.#generations.forget(this);
    this.#sides.pop();
    this.#map.dropSide();
  }

  /** @internal Fills the slots in which a side is behind. Nobody may be on it. */
  catchUp(side: Side): void {
    for (const index of this.#sides[side]!.behind) this.#store(side, index, true);
  }

  #change(index: number, after: ProgArrayEntry | undefined): void {
    const before = this.#held.get(index);
    if (after) {
      const program = this.#programs.get(after.id);
      program?.enterSlot();
      this.#held.set(index, { entry: after, program });
    } else this.#held.delete(index);
    for (let side = 0; side < this.#sides.length; side++) {
      const { behind } = this.#sides[side]!;
      if (behind.size === 0) this.#generations.fellBehind(side as Side, this);
      behind.add(index);
    }
    if (!this.#generations.joins(this)) {
      this.#store(this.#sides.length === 1 ? 0 : this.#generations.live, index, false);
      if (this.#sides.length > 1) this.#generations.catchUp();
    }
    before?.program?.release();
  }

  /** @param idle nobody is on this side */
  #store(side: Side, index: number, idle: boolean): void {
    const { held, sites: all, behind, emptied } = this.#sides[side]!;
    behind.delete(index);
    const before = held.get(index);
    const after = this.#held.get(index);
    if (before === after) return;
    after?.program?.retain();
    if (after) {
      held.set(index, after);
      if (emptied.size > 0) emptied.delete(index);
    } else held.delete(index);
    const entry = after && entryOn(side, after);
    this.#map.write(side, index, entry, before !== undefined, idle);
    const sites = all.get(index);
    if (sites) for (const site of sites) site.installed.patch(site.poke, entry?.target, idle);
    if (!before) return;
    if (idle) this.#letGo(side, index, before, after === undefined);
    else if (after) this.#generations.grace.retire(() => this.#letGo(side, index, before, false));
    else {
      const removal = {};
      emptied.set(index, removal);
      this.#generations.grace.retire(() => {
        const still = emptied.get(index) === removal;
        if (still) emptied.delete(index);
        this.#letGo(side, index, before, still);
      });
    }
  }

  /** Nobody can see any more what a slot of this side held. */
  #letGo(side: Side, index: number, before: Held, clear: boolean): void {
    if (clear) for (const site of this.#sides[side]!.sites.get(index) ?? []) site.installed.clear(site.poke);
    before.program?.release();
  }
}

function entryOn(side: Side, { entry, program }: Held): SlotWords {
  return side === 0 || !program ? entry : program.slotEntry(side);
}
