/**
 * Transactions: many slots of prog arrays change, and every run sees all of them as before or all of them as after.
 *
 * Problem: a run reads slots at each hop, so slots that are set one by one leave it with some old and some new ones.
 * Strategy: two sides. From the first transaction on each prog array has two tables of slots, and each program that calls
 * through one has its code twice, each copy with the addresses of one side's tables and with jumps of its own. A run enters
 * the copy that the lowest bit of the epoch names, which it announces before its first instruction, and never leaves that
 * side: a table of a side leads only to code of that side. A transaction changes the side nobody is on and then flips the
 * bit: one store, whatever the number of slots. Once the last run of the other side has ended, that side catches up.
 * Readers pay one more load per run, and nothing per hop.
 *
 * Invariants:
 * - Only the side that runs start on changes while runs may be on it, and only by single sets. The other one changes when
 *   nobody is on it: after a flip it stays as it is for as long as any run that began before is going on.
 * - What a transaction changes is written to the live side only after that side was idle and before it became live.
 * - A commit that finds runs on the other side doesn't wait for them: it is published when they have ended. Transactions and
 *   sets of the same arrays that come in the meantime join it, so that they take effect in order.
 * - While the other side is not idle, a callback of the last flip waits for a grace period, and then lets it catch up.
 */
import { type Check, check, describe, refuse } from '../arguments.ts';
import type { ProgArrayEntry } from '../maps/prog-array.ts';
import { RuntimeError } from './errors.ts';
import type { GracePeriods, Side } from './grace-period.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import type { Program } from './program.ts';
import { type Preflight, refuseMisses, type SlotEdit } from './slot-graph.ts';

/** What the function given to `Runtime.transaction` gets. */
export interface TransactionChanges {
  /** Puts a program into a slot, in place of what is there. */
  set(array: ProgArraySlots, index: number, program: Program): void;
  /** Empties a slot. */
  delete(array: ProgArraySlots, index: number): void;
  /**
   * Lets runs that are started in `program` enter `next`, those of replays that are going on included: so the first program of
   * a pipeline changes together with the slots. `program` itself undoes it. So do the runs that enter `program` in place of another
   * one by now, and `next` is no longer replaced if it was by `program`; by another one it must not be.
   */
  replace(program: Program, next: Program): void;
}

/** What the function given to `ProgArraySlots.transaction` gets. */
export interface SlotChanges {
  set(index: number, program: Program): void;
  delete(index: number): void;
}

export interface Transaction {
  /** Runs that start now see the new slots. False where runs that began before the transaction before this are still going on. */
  readonly published: boolean;
  /** Resolves when runs that start see the new slots. */
  readonly committed: Promise<void>;
  /** Resolves when no run can see the old slots any more. */
  readonly settled: Promise<void>;
}

export interface PreflightOptions {
  /**
   * Programs that runs start in. Default: those that a run was started in, and those that never were in a slot. Name them where
   * that is wrong: where programs are loaded that nothing runs, say.
   */
  readonly entries?: readonly Program[];
}

export interface TransactionOptions extends PreflightOptions {
  /**
   * Refuse a commit after which a tail call that runs can reach could find its slot empty (RuntimeError `would_miss`). "new": only
   * where none that can be reached now over the same slots could, for pipelines in which some slots are meant to be empty.
   * Default false.
   */
  readonly strict?: boolean | 'new';
}

/** Looks at the other side's last runs before a commit is left to be published later: some tens of microseconds. */
const LOOKS = 64;

/** Published together. */
class Publication implements Transaction {
  published = false;
  readonly committed: Promise<void>;
  readonly settled: Promise<void>;
  commit = (): void => {};
  settle = (): void => {};

  constructor() {
    this.committed = new Promise(resolve => {
      this.commit = resolve;
    });
    this.settled = new Promise(resolve => {
      this.settle = resolve;
    });
  }
}

/** What exists for each side: the slots of an array, where the runs of a program start. */
interface TwoSided {
  /** Nobody may be on that side. */
  catchUp(side: Side): void;
}

/** What the function given to a transaction asked for, in its order. */
interface Recorded {
  readonly slots: readonly SlotEdit[];
  readonly replacements: readonly (readonly [program: Program, next: Program])[];
}

/** What a transaction is to do. */
export interface Edits {
  readonly slots: readonly SlotEdit[];
  /** Programs whose runs enter another one from now on, and which; or themselves again. None of those is replaced itself. */
  readonly entries: ReadonlyMap<Program, Program>;
}

/** By its shape: the class is above this file. */
const programCheck: Check = (value, name) => {
  if (typeof (value as Partial<Program> | undefined | null)?.enterInstead !== 'function') {
    refuse(name, 'a program of this runtime', value);
  }
};
const transactionOptions = check.options({ entries: check.arrayOf(programCheck) });

export class Generations {
  readonly #grace: GracePeriods;
  readonly #synchronise: () => void;
  readonly #double: () => void;
  readonly #preflight: (edits: Edits, options: PreflightOptions) => Preflight;
  #doubled = false;
  /** What is behind on each side. */
  readonly #behind: readonly [Set<TwoSided>, Set<TwoSided>] = [new Set(), new Set()];
  /** Published, their grace periods not begun. */
  readonly #flipped: Publication[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting: { publication: Publication; readonly changed: Set<TwoSided> } | undefined;

  /**
   * @param synchronise makes all threads drop instruction bytes that they fetched earlier
   * @param double gives every prog array and program its second side, or throws and changes nothing
   * @param preflight says what edits would do
   */
  constructor(
    grace: GracePeriods,
    synchronise: () => void,
    double: () => void,
    preflight: (edits: Edits, options: PreflightOptions) => Preflight,
  ) {
    this.#preflight = preflight;
    this.#grace = grace;
    this.#synchronise = synchronise;
    this.#double = double;
  }

  get grace(): GracePeriods {
    return this.#grace;
  }

  /** Everything has two sides. */
  get doubled(): boolean {
    return this.#doubled;
  }

  /** The side that runs start on. */
  get live(): Side {
    return this.#grace.side;
  }

  /** A change of this array has to wait for the publication of an earlier one. */
  joins(array: ProgArraySlots): boolean {
    return this.#waiting?.changed.has(array) === true;
  }

  /** Slots of an array changed: a side has to catch up. */
  fellBehind(side: Side, changed: TwoSided): void {
    this.#behind[side].add(changed);
  }

  forget(gone: TwoSided): void {
    for (const behind of this.#behind) behind.delete(gone);
    this.#waiting?.changed.delete(gone);
  }

  /**
   * All or nothing.
   * @throws what `set` and `delete` of the arrays throw; RuntimeError `bad_argument` for an async `change`, `would_miss`
   */
  transaction(change: (changes: TransactionChanges) => void, options: TransactionOptions): Transaction {
    check.callable(change, 'change');
    transactionOptions(options, 'options');
    const { strict = false } = options;
    if (strict !== true && strict !== false && strict !== 'new') {
      throw new RuntimeError('bad_argument', `strict must be true, false or "new", got ${describe(strict)}`, {
        strict,
      });
    }
    const edits = this.#check(record(change));
    if (strict !== false) {
      const { misses, newMisses } = this.#preflight(edits, options);
      refuseMisses(strict === 'new' ? newMisses : misses);
    }
    if (!this.#doubled) {
      this.#double();
      this.#doubled = true;
    }
    this.#waiting ??= { publication: new Publication(), changed: new Set() };
    const { publication, changed } = this.#waiting;
    for (const { array } of edits.slots) changed.add(array);
    for (const { array, index, program } of edits.slots) {
      if (program) array.set(index, program);
      else array.delete(index);
    }
    for (const [program, next] of edits.entries) {
      program.enterInstead(next);
      this.fellBehind(0, program);
      this.fellBehind(1, program);
    }
    for (let look = 0; look < LOOKS && this.#waiting; look++) this.catchUp();
    this.#lookSoon();
    return publication;
  }

  /** What a transaction would do. @throws as `transaction` does */
  preflight(change: (changes: TransactionChanges) => void, options: PreflightOptions): Preflight {
    check.callable(change, 'change');
    transactionOptions(options, 'options');
    const edits = this.#check(record(change));
    return this.#preflight(edits, options);
  }

  #check({ slots, replacements }: Recorded): Edits {
    for (const { array } of slots) {
      if (typeof array?.belongsTo !== 'function') refuse('array', 'a prog array of this runtime', array);
      if (array.belongsTo(this)) continue;
      throw new RuntimeError('bad_argument', `prog array ${array.name} belongs to another runtime`, {
        map: array.name,
      });
    }
    checkSlots(slots);
    const entries = new Map<Program, Program>();
    for (const [program, next] of replacements) {
      this.#checkEntry(program, next);
      const entered = (each: Program) => entries.get(each) ?? each.entered;
      for (const each of new Set([program, ...program.followers, ...entries.keys()])) {
        if (each === program || entered(each) === program) entries.set(each, next);
      }
      const instead = entered(next);
      if (instead === next) continue;
      throw refuseEntry(
        program,
        next,
        `${next.name} is replaced itself, by ${instead.name}; name that one, or let ${next.name} be replaced by itself first`,
      );
    }
    return { slots, entries };
  }

  #checkEntry(program: Program, next: Program): void {
    programCheck(program, 'program');
    programCheck(next, 'next');
    const refused = (what: string) => refuseEntry(program, next, what);
    for (const each of [program, next]) {
      if (!each.belongsTo(this.#grace)) throw refused(`${each.name} belongs to another runtime`);
      if (each.disposed) {
        throw new RuntimeError('disposed', `program ${each.name} was disposed; load it again`, { program: each.name });
      }
    }
    if (program === next) return;
    if (program.type !== next.type) throw refused(`it is of type ${program.type}, not ${next.type}`);
    if (program.backend !== next.backend) throw refused(`it runs on backend ${program.backend}, not ${next.backend}`);
  }

  /** The grace period looks as well, but it is in no hurry. */
  #lookSoon(): void {
    if (!this.#waiting || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.#waiting) return;
      this.catchUp();
      this.#lookSoon();
    }, 0);
  }

  /** Does what can be done on the other side, if nobody is on it. */
  catchUp(): void {
    if (!this.#grace.otherSideIdle) return;
    const live = this.#grace.side;
    const other: Side = live === 0 ? 1 : 0;
    for (const changed of this.#behind[other]) changed.catchUp(other);
    this.#behind[other].clear();
    if (!this.#waiting) return;
    const { publication } = this.#waiting;
    this.#waiting = undefined;
    // Whoever is led to this side must not have fetched its jumps before they were patched.
    this.#synchronise();
    this.#grace.flip();
    publication.published = true;
    publication.commit();
    // The rest can wait until the turn is over.
    this.#flipped.push(publication);
    if (this.#flipped.length === 1) queueMicrotask(() => this.settle());
  }

  /** Lets the grace periods of flips begin. */
  settle(): void {
    const flipped = this.#flipped.splice(0);
    if (flipped.length === 0) return;
    this.#grace.retire(() => {
      this.catchUp();
      for (const { settle } of flipped) settle();
    });
  }
}

function refuseEntry(program: Program, next: Program, what: string): RuntimeError {
  return new RuntimeError('bad_argument', `program ${program.name} can't be replaced by ${next.name}: ${what}`, {
    program: program.name,
    next: next.name,
  });
}

/** Calls `change` and keeps what it asks for. */
function record(change: (changes: TransactionChanges) => void): Recorded {
  const slots: SlotEdit[] = [];
  const replacements: [Program, Program][] = [];
  let open = true;
  const stillOpen = () => {
    if (open) return;
    throw new RuntimeError('bad_argument', 'the function given to transaction has returned: start another one');
  };
  const add = (array: ProgArraySlots, index: number, program: Program | undefined): void => {
    stillOpen();
    slots.push({ array, index, program });
  };
  let result: unknown;
  try {
    result = change({
      set: (array, index, program) => {
        // Without one it would be a delete.
        programCheck(program, 'program');
        add(array, index, program);
      },
      delete: (array, index) => add(array, index, undefined),
      replace: (program, next) => {
        stillOpen();
        replacements.push([program, next]);
      },
    });
  } finally {
    open = false;
  }
  if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') {
    throw new RuntimeError('bad_argument', 'the function given to transaction must not be async; nothing was changed');
  }
  return { slots, replacements };
}

/** Throws what the first change that is not possible would throw, each seen as if those before it had been made. */
function checkSlots(changes: readonly SlotEdit[]): void {
  const after = new Map<ProgArraySlots, { filled: Map<number, boolean>; first: ProgArrayEntry | undefined }>();
  for (const { array, index, program } of changes) {
    let state = after.get(array);
    if (!state) {
      state = { filled: new Map(), first: undefined };
      after.set(array, state);
    }
    if (program) {
      const entry = array.check(index, program, state.first?.traits);
      state.first ??= entry;
    } else {
      array.map.checkChange(index);
      if (!(state.filled.get(index) ?? array.map.get(index) !== undefined)) throw array.map.emptySlot(index);
    }
    state.filled.set(index, program !== undefined);
  }
}
