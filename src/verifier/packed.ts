/**
 * Two stacks, of references and of numbers, that objects are taken apart to and put together from again.
 *
 * Problem: many small objects that live long are what garbage collectors are worst at: each is copied twice before it is left alone.
 * Strategy: what they hold lies in two large arrays, which are never copied. Arrays do not shrink: their height goes up and down.
 *
 * Invariant: things are taken in the reverse order of putting them there. Nothing above the height is kept alive.
 */
export class Packed {
  private readonly references: unknown[] = [];
  private readonly numbers: number[] = [];
  private height = 0;
  private numbersHeight = 0;

  put(value: unknown): void {
    this.references[this.height++] = value;
  }

  /** Puts all of `values`; what is not in the set `wanted` is replaced by `other`. */
  putSome<T>(values: readonly T[], wanted: number, other: T): void {
    const { references, height } = this;
    for (let i = 0; i < values.length; i++) references[height + i] = (wanted & (1 << i)) === 0 ? other : values[i];
    this.height = height + values.length;
  }

  putNumbers(...values: readonly number[]): void {
    const { numbers, numbersHeight } = this;
    for (let i = 0; i < values.length; i++) numbers[numbersHeight + i] = values[i]!;
    this.numbersHeight = numbersHeight + values.length;
  }

  /** The last reference; its type is the caller's to know. */
  take<T>(): T {
    const { references } = this;
    const value = references[--this.height];
    references[this.height] = undefined;
    return value as T;
  }

  /** The last `values.length` references. */
  takeInto<T>(values: T[]): void {
    const { references } = this;
    const height = this.height - values.length;
    for (let i = 0; i < values.length; i++) {
      values[i] = references[height + i] as T;
      references[height + i] = undefined;
    }
    this.height = height;
  }

  takeNumber(): number {
    return this.numbers[--this.numbersHeight]!;
  }
}
