/**
 * Which ways our verifier walked, as a graph: which of its states at one instruction lead to which at the next.
 *
 * A path that was pruned goes on as those that are stored where it ended: as any of them, which is more than is true.
 */
import { KFUNCS } from '../src/helpers/kfuncs.ts';
import { HELPERS } from '../src/helpers/table.ts';
import type { Collection } from '../src/index.ts';
import { VerifierError } from '../src/verifier/errors.ts';
import type { Checkpoint, State } from '../src/verifier/state.ts';
import { verify } from '../src/verifier/verify.ts';

const MAX_VISITS = 100_000;

class TooManyVisits extends Error {}

/** A state at an instruction; visits are named by their number. */
interface Visit {
  readonly insn: number;
  /** Kept where it was asked for. */
  readonly state: State | undefined;
  /** Visits that follow. */
  readonly next: number[];
  /** Where paths from here were pruned: instructions, with what names their frames. */
  readonly covered: (readonly [number, string])[];
  /** The one that follows on the same path, if any. */
  onward: number;
}

/** What names the frames of a state: states are comparable only where it is the same. */
const framesOf = ({ frames }: State): string =>
  frames.map(({ callSite, subprogram }) => `${callSite}:${subprogram}`).join();

export class Walked {
  readonly #visits: Visit[] = [];
  readonly #stored = new Map<string, number[]>();
  readonly #byCheckpoint = new Map<Checkpoint, number>();
  #last: State | undefined;

  /**
   * Verifies a program that our verifier accepts.
   * @param keep states at this instruction are kept
   * @returns undefined where there are too many states; the refusal, where with all numbers precise it is refused
   */
  static of(collection: Collection, precision: 'all' | 'marked', keep: number): Walked | VerifierError | undefined {
    const walked = new Walked();
    try {
      verify(collection.programs.get('fuzz')!, {
        maps: collection.maps,
        helpers: HELPERS,
        kfuncs: KFUNCS,
        checking: {
          precision,
          onState: (insn, state, _live, stored, from) => walked.#visit(insn, state, stored, from, keep),
          onCovered: (insn, state, from) => walked.#cover(insn, state, from),
        },
      });
    } catch (error) {
      if (error instanceof TooManyVisits) return undefined;
      if (error instanceof VerifierError) return error;
      throw error;
    }
    return walked;
  }

  /** Visits that may follow `visit` at `insn`. */
  after(visit: number, insn: number): number[] {
    const { next, covered } = this.#visits[visit]!;
    const found = next.filter(follower => this.#visits[follower]!.insn === insn);
    for (const [where, frames] of covered)
      if (where === insn) found.push(...(this.#stored.get(`${insn} ${frames}`) ?? []));
    return found;
  }

  /** The state of a visit to the instruction that was asked for. */
  state(visit: number): State {
    return this.#visits[visit]!.state!;
  }

  #visit(insn: number, state: State, stored: boolean, from: number, keep: number): void {
    const visits = this.#visits;
    if (visits.length > MAX_VISITS) throw new TooManyVisits();
    const here = visits.length;
    const before = this.#before(state, stored ? state.parent?.parent : state.parent, from);
    visits.push({ insn, state: insn === keep ? state.copy() : undefined, next: [], covered: [], onward: -1 });
    if (before !== undefined) {
      visits[before]!.next.push(here);
      if (state === this.#last) visits[before]!.onward = here;
    }
    if (stored) {
      const key = `${insn} ${framesOf(state)}`;
      const others = this.#stored.get(key);
      if (others === undefined) this.#stored.set(key, [here]);
      else others.push(here);
      this.#byCheckpoint.set(state.parent!, here);
    }
    this.#last = state;
  }

  #cover(insn: number, state: State, from: number): void {
    const before = this.#before(state, state.parent, from);
    if (before !== undefined) this.#visits[before]!.covered.push([insn, framesOf(state)]);
    this.#last = undefined;
  }

  /** The visit before: the last one, or, on a path taken up later, the one at `from` behind the last that was stored. */
  #before(state: State, parent: Checkpoint | undefined, from: number): number | undefined {
    const visits = this.#visits;
    if (visits.length === 0) return undefined;
    if (state === this.#last) return visits.length - 1;
    let at = parent === undefined ? 0 : this.#byCheckpoint.get(parent)!;
    while (visits[at]!.insn !== from) {
      at = visits[at]!.onward;
      if (at < 0) throw new Error(`no visit of ${from} leads on`);
    }
    return at;
  }
}
