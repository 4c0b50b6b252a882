/**
 * When may the code of a replaced program be freed?
 *
 * Problem: a run that fetched a slot before it changed may still be inside the old program, on any thread, for as
 * long as that run lasts (tail-calls.md, 2.6).
 * Strategy: epochs, as in quiescent-state RCU. The control thread raises `RuntimeState.epoch` after it unlinked
 * something; every thread that runs programs copies the current epoch into its RunContext between two packets (with
 * a full fence) and 0 when it stops. What was unlinked in epoch E is unreachable once every thread shows 0 or more
 * than E.
 * Invariants: only the control thread raises the epoch and retires things; unlinking (an atomic exchange of the slot,
 * or a patch of the code) comes before `retire`; a thread writes its epoch before its first read of any slot.
 *
 * Order on processors that keep less of it than x86-64. Two threads each store and then look at the other's word: here the slot
 * and then the contexts' epochs, there the announcement and then the slots. So both sides need the store to be performed before
 * the loads behind it: the announcement is an exchange that fetches, fully ordered on arm64 (swpal, or ldxr, stlxr, dmb);
 * slots, epoch and contexts are only touched through Atomics, which are sequentially consistent. A thread that found the
 * epoch unchanged announces nothing and needs no order: what was unlinked since waits for its next announcement.
 * A thread that announces a new epoch read it first, and the exchange orders its reads of slots after that, so they see what
 * was unlinked before the epoch was raised; its reads of the packet before come before the announcement.
 *
 * Patched code needs one step more. A processor fetches instructions long before it executes them: a thread may fetch
 * the old jump, then read and announce the new epoch, and only then execute what it fetched. So all threads are made to
 * drop what they fetched (`synchronise`) *before* the epoch is raised: whoever announces the new epoch fetches new code.
 * That costs microseconds, so what is retired in one turn of the control thread shares it.
 */
import type { Arena } from '../memory/arena.ts';
import { RunContext, RuntimeState } from '../memory/layout.ts';

/** See generations.ts. */
export type Side = 0 | 1;

interface Retired {
  /** Undefined until the epoch is raised for it. */
  epoch: bigint | undefined;
  readonly release: () => void;
}

/** How often a pending grace period is looked at when nothing else happens, ms. */
const POLL_MS = 2;
/** Things retired while threads run that wait for the end of the turn before they are looked at. */
const PATIENCE = 64;

export class GracePeriods {
  readonly #epochs: BigUint64Array;
  readonly #epochIndex: number;
  readonly #contextIndexes: readonly number[];
  readonly #synchronise: () => void;
  readonly #waiting: Retired[] = [];
  /** The epoch before the last flip. */
  #flipped = -1n;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settled: { promise: Promise<void>; resolve: () => void } | undefined;

  /** @param synchronise makes all threads drop instruction bytes that they fetched earlier */
  constructor(arena: Arena, stateOffset: number, contextOffsets: readonly number[], synchronise: () => void) {
    this.#epochs = arena.u64;
    this.#epochIndex = (stateOffset + RuntimeState.epoch) / 8;
    this.#contextIndexes = contextOffsets.map(offset => (offset + RunContext.epoch) / 8);
    this.#synchronise = synchronise;
  }

  /** Things retired and not yet released. */
  get pending(): number {
    return this.#waiting.length;
  }

  /** The side that runs start on now (generations.ts): the lowest bit of the epoch. */
  get side(): Side {
    return Number(Atomics.load(this.#epochs, this.#epochIndex) & 1n) as Side;
  }

  /** No run is on the other side any more, nor can one get there before the next flip. */
  get otherSideIdle(): boolean {
    return this.#flipped < this.#oldestRunning();
  }

  /** From here on runs start on the other side. Only where nobody is on it. */
  flip(): void {
    this.#flipped = Atomics.add(this.#epochs, this.#epochIndex, 1n);
  }

  /** Calls `release` once no run that began before now is still going on; at once where nothing runs. */
  retire(release: () => void): void {
    this.#waiting.push({ epoch: undefined, release });
    if (this.#waiting.length % PATIENCE === 0 || !this.#anyRunning()) this.poll();
    else this.#pollSoon();
  }

  /** Releases what can be released. @returns true when nothing waits any more. */
  poll(): boolean {
    if (this.#waiting.some(({ epoch }) => epoch === undefined)) {
      this.#synchronise();
      const epoch = Atomics.add(this.#epochs, this.#epochIndex, 2n);
      for (const retired of this.#waiting) retired.epoch ??= epoch;
    }
    const oldest = this.#oldestRunning();
    let ready = 0;
    while (ready < this.#waiting.length && this.#waiting[ready]!.epoch! < oldest) ready++;
    for (const { release } of this.#waiting.splice(0, ready)) release();
    // A release may retire more.
    if (this.#waiting.length > 0) {
      this.#pollSoon();
      return false;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#settled?.resolve();
    this.#settled = undefined;
    return true;
  }

  /** Resolves when all that is retired now has been released. */
  settled(): Promise<void> {
    if (this.poll()) return Promise.resolve();
    if (!this.#settled) {
      let resolve = () => {};
      const promise = new Promise<void>(done => {
        resolve = done;
      });
      this.#settled = { promise, resolve };
    }
    return this.#settled.promise;
  }

  #pollSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.poll();
    }, POLL_MS);
  }

  #anyRunning(): boolean {
    return this.#contextIndexes.some(index => Atomics.load(this.#epochs, index) !== 0n);
  }

  /** The lowest epoch that a running thread still shows; larger than every epoch where none runs. */
  #oldestRunning(): bigint {
    let oldest = Atomics.load(this.#epochs, this.#epochIndex);
    for (const index of this.#contextIndexes) {
      const epoch = Atomics.load(this.#epochs, index);
      if (epoch !== 0n && epoch < oldest) oldest = epoch;
    }
    return oldest;
  }
}
