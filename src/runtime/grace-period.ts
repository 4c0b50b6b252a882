/**
 * When may the code of a replaced program be freed?
 *
 * Problem: a run that fetched a slot before it changed may still be inside the old program, on any thread, for as
 * long as that run lasts (tail-calls.md, 2.6).
 * Strategy: epochs, as in quiescent-state RCU. The control thread raises `RuntimeState.epoch` after it unlinked
 * something; every thread that runs programs copies the current epoch into its RunContext between two packets (with
 * a full fence) and 0 when it stops. What was unlinked in epoch E is unreachable once every thread shows 0 or more
 * than E.
 * Invariants: only the control thread raises the epoch and retires things; unlinking (an atomic exchange of the slot)
 * comes before `retire`; a thread writes its epoch before its first read of any slot.
 */
import type { Arena } from '../memory/arena.ts';
import { RunContext, RuntimeState } from '../memory/layout.ts';

interface Retired {
  readonly epoch: bigint;
  readonly release: () => void;
}

/** How often a pending grace period is looked at when nothing else happens, ms. */
const POLL_MS = 2;

export class GracePeriods {
  readonly #epochs: BigUint64Array;
  readonly #epochIndex: number;
  readonly #contextIndexes: readonly number[];
  readonly #synchronise: () => void;
  readonly #waiting: Retired[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settled: { promise: Promise<void>; resolve: () => void } | undefined;

  /**
   * @param synchronise makes other threads drop instruction bytes they fetched earlier; called before code is freed.
   */
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

  /** Calls `release` once no run that began before now is still going on; at once where nothing runs. */
  retire(release: () => void): void {
    const epoch = Atomics.add(this.#epochs, this.#epochIndex, 1n);
    this.#waiting.push({ epoch, release });
    this.poll();
  }

  /** Releases what can be released. @returns true when nothing waits any more. */
  poll(): boolean {
    if (this.#waiting.length > 0) {
      const oldest = this.#oldestRunning();
      let ready = 0;
      while (ready < this.#waiting.length && this.#waiting[ready]!.epoch < oldest) ready++;
      if (ready > 0) {
        this.#synchronise();
        for (const { release } of this.#waiting.splice(0, ready)) release();
      }
    }
    if (this.#waiting.length === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#settled?.resolve();
      this.#settled = undefined;
      return true;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.poll();
    }, POLL_MS);
    return false;
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
