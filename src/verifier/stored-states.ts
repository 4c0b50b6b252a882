/**
 * The states stored at one instruction, in the order in which they were stored.
 *
 * Problem: where paths multiply without meeting, each arrival is compared with many stored states, nearly always in vain, and
 * what a comparison reads lies in half a dozen objects that no cache holds. Strategy: what told a state from the last one that it
 * was compared with is likely to tell it from the next. So if that was a number, its 32-bit halves are kept in one array for all
 * states, beside the counters that decide how long a state is kept: most comparisons read a few neighbouring words and nothing else.
 *
 * Invariant: a row has a number only of a state from which everything was walked, and only of a live register that something
 * relied on. Both stay so for good; hence a number that is not contained in it tells the states apart in every kind of comparison.
 */
import type { RegisterState } from './registers.ts';
import type { Scalar } from './scalar.ts';
import type { Checkpoint } from './state.ts';

/** Layout of a row. The register's number plus one; 0: nothing is kept. */
const REGISTER = 0;
const MIN = 1;
const MAX = 2;
const SIGNED_MIN = 3;
const SIGNED_MAX = 4;
const VALUE = 5;
const MASK = 6;
const MISSES = 7;
const HITS = 8;
const ROW = 9;

export class StoredStates {
  private readonly states: Checkpoint[];
  /** Of small integers, so that it holds them in place. Ends with the last row in use; most instructions have none. */
  private rows: number[] | undefined = undefined;

  constructor(first: Checkpoint) {
    // An array that begins with its first element is a small one.
    this.states = [first];
  }

  get length(): number {
    return this.states.length;
  }

  get(i: number): Checkpoint {
    return this.states[i]!;
  }

  add(state: Checkpoint): void {
    this.states.push(state);
  }

  private differs(i: number, registers: readonly RegisterState[]): boolean {
    const { rows } = this;
    const at = ROW * i;
    if (rows === undefined || at >= rows.length || rows[at]! === 0) return false;
    const now = registers[rows[at]! - 1]!;
    if (now.kind !== 'scalar') return false;
    const { value } = now;
    return (
      rows[at + MIN]! >>> 0 > value.u32min ||
      rows[at + MAX]! >>> 0 < value.u32max ||
      rows[at + SIGNED_MIN]! > value.s32min ||
      rows[at + SIGNED_MAX]! < value.s32max ||
      ((value.mask32 | (value.value32 ^ rows[at + VALUE]!)) & ~rows[at + MASK]!) !== 0
    );
  }

  /** Keeps the number that register `r` of state `i` had. The invariant is the caller's to see to. */
  keep(i: number, r: number, value: Scalar): void {
    this.rows ??= [];
    const { rows } = this;
    const at = ROW * i;
    while (rows.length <= at) rows.push(0, 0, 0, 0, 0, 0, 0, 0, 0);
    if (rows[at] === 0) {
      const { misses, hits } = this.states[i]!;
      rows[at + MISSES] = misses;
      rows[at + HITS] = hits;
    }
    rows[at + REGISTER] = r + 1;
    rows[at + MIN] = value.u32min | 0;
    rows[at + MAX] = value.u32max | 0;
    rows[at + SIGNED_MIN] = value.s32min;
    rows[at + SIGNED_MAX] = value.s32max;
    rows[at + VALUE] = value.value32;
    rows[at + MASK] = value.mask32;
  }

  /**
   * A path with these registers in its innermost frame arrives: is it clear from the number kept that state `i` does not cover it?
   * @param counts it is a miss then
   */
  rejects(i: number, registers: readonly RegisterState[], counts: boolean): boolean {
    if (!this.differs(i, registers)) return false;
    if (counts) this.rows![ROW * i + MISSES]!++;
    return true;
  }

  /** State `i` covered a path. */
  hit(i: number): void {
    const { rows } = this;
    if (rows !== undefined && this.hasRow(i)) rows[ROW * i + HITS]!++;
    else this.states[i]!.hits++;
  }

  /** State `i` did not. */
  miss(i: number): void {
    const { rows } = this;
    if (rows !== undefined && this.hasRow(i)) rows[ROW * i + MISSES]!++;
    else this.states[i]!.misses++;
  }

  /** @param patience misses per hit, and before the first one */
  isWorn(i: number, patience: number): boolean {
    const { rows } = this;
    if (rows !== undefined && this.hasRow(i)) return rows[ROW * i + MISSES]! > (rows[ROW * i + HITS]! + 1) * patience;
    const { misses, hits } = this.states[i]!;
    return misses > (hits + 1) * patience;
  }

  remove(i: number): void {
    const { states, rows } = this;
    // In place: `splice` would make an array of what it removes.
    for (let at = i + 1; at < states.length; at++) states[at - 1] = states[at]!;
    states.pop();
    if (rows === undefined || ROW * i >= rows.length) return;
    for (let at = ROW * (i + 1); at < rows.length; at++) rows[at - ROW] = rows[at]!;
    for (let k = 0; k < ROW; k++) rows.pop();
  }

  private hasRow(i: number): boolean {
    const { rows } = this;
    return rows !== undefined && ROW * i < rows.length && rows[ROW * i] !== 0;
  }
}

/** The states stored at each instruction. Few instructions have any: most cost a number. */
export class Explored {
  /** By slot: position in `all` plus one; 0 for none. */
  private readonly positions: Int32Array;
  private readonly all: StoredStates[] = [];

  /** @param slots of the program */
  constructor(slots: number) {
    this.positions = new Int32Array(slots);
  }

  at(insn: number): StoredStates | undefined {
    const position = this.positions[insn]!;
    return position === 0 ? undefined : this.all[position - 1];
  }

  add(insn: number, state: Checkpoint): void {
    const stored = this.at(insn);
    if (stored !== undefined) stored.add(state);
    else this.positions[insn] = this.all.push(new StoredStates(state));
  }
}
