/**
 * Hands out ranges of a span of offsets.
 *
 * Problem: the arena is shared with programs, so nothing the allocator relies on may lie in it: a program that
 * writes past its map value (a bug of ours) must not be able to turn the next free() into a wild write. Maps, programs and
 * packets come and go for as long as the process lives, so fragments must join again and no operation may slow down
 * with the number of blocks.
 *
 * Strategy: two-level segregated fit (Masmano et al., "TLSF", ECRTS 2004), with all metadata in JS objects. Free
 * blocks hang in lists by size class: one class per power of two, each cut into 16. Two levels of bitmaps find the
 * first non-empty class whose every block is large enough, so that allocate and free are O(1).
 *
 * Invariants:
 * - The blocks, linked by `before` and `after`, tile [start, end) without gaps, in ascending order.
 * - No two free blocks are neighbours: free() joins them at once.
 * - A block is in exactly one free list if `free`, else in `live` under its offset.
 *
 * A request is rounded up to a class boundary before the search, so a search can miss a block that would fit (or one
 * that is aligned by luck). Before giving up, all free blocks are looked at: linear, but only when the alternative is an error.
 */
import { MemoryError } from './errors.ts';

/** Offsets and sizes are multiples of this. */
const GRAIN = 16;
const GRAIN_LOG2 = 4;
/** Classes per power of two. */
const SECOND_LEVEL = 16;
const SECOND_LEVEL_LOG2 = 4;
/** Powers of two: sizes up to 2^48. */
const FIRST_LEVEL = 44;
export const MAX_ALIGN = 65536;

interface Block {
  offset: number;
  size: number;
  free: boolean;
  /** What the caller asked for, for accounting; 0 while free. */
  requested: number;
  before: Block | undefined;
  after: Block | undefined;
  previousFree: Block | undefined;
  nextFree: Block | undefined;
}

/** Floor of the base-2 logarithm; n a positive integer below 2^53. */
function log2Floor(n: number): number {
  return n < 0x1_0000_0000 ? 31 - Math.clz32(n) : 63 - Math.clz32(Math.floor(n / 0x1_0000_0000));
}

const lowestBit = (bits: number): number => 31 - Math.clz32(bits & -bits);
const roundUp = (n: number, unit: number): number => Math.ceil(n / unit) * unit;

/** The list that holds blocks of `size`: an index into all classes. */
function classOf(size: number): number {
  const units = size / GRAIN;
  if (units < SECOND_LEVEL) return units;
  const log = log2Floor(units);
  const second = Math.floor(units / 2 ** (log - SECOND_LEVEL_LOG2)) - SECOND_LEVEL;
  return (log - SECOND_LEVEL_LOG2 + 1) * SECOND_LEVEL + second;
}

/** The first class whose every block has at least `size` bytes. */
function classAtLeast(size: number): number {
  const units = size / GRAIN;
  if (units < SECOND_LEVEL) return units;
  const step = 2 ** (log2Floor(units) - SECOND_LEVEL_LOG2);
  return classOf(roundUp(units, step) * GRAIN);
}

export class Allocator {
  readonly #end: number;
  readonly #first: Block;
  readonly #live = new Map<number, Block>();
  readonly #lists: (Block | undefined)[] = new Array((FIRST_LEVEL - GRAIN_LOG2) * SECOND_LEVEL).fill(undefined);
  /** Bit i of word w: class w * 16 + i has a block. */
  readonly #secondLevel = new Uint16Array(FIRST_LEVEL - GRAIN_LOG2);
  /** The first level as two halves of 32 bits: bit w of half w / 32: some class of word w has a block. */
  readonly #firstLevel = new Uint32Array(2);
  #allocated = 0;

  /** Manages [start, end); both are rounded inwards to 16 bytes. */
  constructor(start: number, end: number) {
    const from = roundUp(start, GRAIN);
    this.#end = Math.max(from, Math.floor(end / GRAIN) * GRAIN);
    this.#first = {
      offset: from,
      size: this.#end - from,
      free: false,
      requested: 0,
      before: undefined,
      after: undefined,
      previousFree: undefined,
      nextFree: undefined,
    };
    if (this.#first.size > 0) this.#insert(this.#first);
  }

  /** Sum of the sizes asked for of all live blocks. */
  get allocated(): number {
    return this.#allocated;
  }

  /**
   * @param align a power of two, at most 65536
   * @returns offset of a range of at least `size` bytes that overlaps no live one
   * @throws MemoryError `out_of_memory`, `bad_argument`
   */
  allocate(size: number, align = 8): number {
    if (!Number.isSafeInteger(size) || size <= 0) {
      throw new MemoryError('bad_argument', `an allocation needs a positive whole number of bytes, not ${size}`, {
        size,
      });
    }
    if (!Number.isInteger(align) || align < 1 || align > MAX_ALIGN || (align & (align - 1)) !== 0) {
      throw new MemoryError('bad_argument', `alignment must be a power of two from 1 to ${MAX_ALIGN}, not ${align}`, {
        align,
      });
    }
    const need = roundUp(size, GRAIN);
    const slack = align > GRAIN ? align - GRAIN : 0;
    const block = need <= this.#end ? (this.#search(need + slack) ?? this.#searchAll(need, align)) : undefined;
    if (block === undefined) {
      const largest = this.largestFree();
      throw new MemoryError(
        'out_of_memory',
        `the arena has no free block of ${size} bytes aligned to ${align}: the largest has ${largest} bytes, ` +
          `${this.#allocated} are in use; make the arena larger or dispose of maps and programs`,
        { size, align, largest, allocated: this.#allocated },
      );
    }
    this.#remove(block);
    const offset = roundUp(block.offset, align);
    const taken = offset > block.offset ? this.#splitOff(block, offset - block.offset, 'front') : block;
    if (taken.size > need) this.#splitOff(taken, need, 'back');
    taken.requested = size;
    this.#allocated += size;
    this.#live.set(taken.offset, taken);
    return taken.offset;
  }

  /**
   * @returns bytes that had been asked for
   * @throws MemoryError `bad_free`
   */
  free(offset: number): number {
    const block = this.#live.get(offset);
    if (block === undefined) {
      throw new MemoryError('bad_free', `free of offset ${offset}: no live block starts there (freed twice?)`, {
        offset,
      });
    }
    this.#live.delete(offset);
    const requested = block.requested;
    this.#allocated -= requested;
    block.requested = 0;
    let joined = block;
    if (block.before?.free === true) {
      joined = block.before;
      this.#remove(joined);
      this.#absorbAfter(joined);
    }
    if (joined.after?.free === true) {
      this.#remove(joined.after);
      this.#absorbAfter(joined);
    }
    this.#insert(joined);
    return requested;
  }

  /** Bytes of the largest free block; linear in the number of free blocks of the highest class. */
  largestFree(): number {
    for (let index = this.#lists.length - 1; index >= 0; index--) {
      let largest = 0;
      for (let block = this.#lists[index]; block !== undefined; block = block.nextFree) {
        largest = Math.max(largest, block.size);
      }
      if (largest > 0) return largest;
    }
    return 0;
  }

  /** Some free block of at least `size` bytes, by the bitmaps. */
  #search(size: number): Block | undefined {
    const index = classAtLeast(size);
    const word = index >>> SECOND_LEVEL_LOG2;
    if (word >= this.#secondLevel.length) return undefined;
    const bits = this.#secondLevel[word]! & (-1 << (index & (SECOND_LEVEL - 1)));
    if (bits !== 0) return this.#lists[word * SECOND_LEVEL + lowestBit(bits)];
    for (let half = (word + 1) >>> 5; half < 2; half++) {
      const from = half === (word + 1) >>> 5 ? (word + 1) & 31 : 0;
      const words = this.#firstLevel[half]! & (-1 << from);
      if (words === 0) continue;
      const found = half * 32 + lowestBit(words);
      return this.#lists[found * SECOND_LEVEL + lowestBit(this.#secondLevel[found]!)];
    }
    return undefined;
  }

  #searchAll(size: number, align: number): Block | undefined {
    for (let index = classOf(size); index < this.#lists.length; index++) {
      for (let block = this.#lists[index]; block !== undefined; block = block.nextFree) {
        if (roundUp(block.offset, align) + size <= block.offset + block.size) return block;
      }
    }
    return undefined;
  }

  /**
   * Cuts `block` (in no list) after `size` bytes. The part not wanted goes into its free list.
   * @returns the wanted part: for 'front' the rest behind the cut, for 'back' the block itself
   */
  #splitOff(block: Block, size: number, unwanted: 'front' | 'back'): Block {
    const rest: Block = {
      offset: block.offset + size,
      size: block.size - size,
      free: false,
      requested: 0,
      before: block,
      after: block.after,
      previousFree: undefined,
      nextFree: undefined,
    };
    if (block.after !== undefined) block.after.before = rest;
    block.after = rest;
    block.size = size;
    this.#insert(unwanted === 'front' ? block : rest);
    return unwanted === 'front' ? rest : block;
  }

  #absorbAfter(block: Block): void {
    const after = block.after!;
    block.size += after.size;
    block.after = after.after;
    if (after.after !== undefined) after.after.before = block;
  }

  #insert(block: Block): void {
    const index = classOf(block.size);
    const word = index >>> SECOND_LEVEL_LOG2;
    const head = this.#lists[index];
    block.free = true;
    block.previousFree = undefined;
    block.nextFree = head;
    if (head !== undefined) head.previousFree = block;
    this.#lists[index] = block;
    this.#secondLevel[word]! |= 1 << (index & (SECOND_LEVEL - 1));
    this.#firstLevel[word >>> 5]! |= 1 << (word & 31);
  }

  #remove(block: Block): void {
    const index = classOf(block.size);
    const word = index >>> SECOND_LEVEL_LOG2;
    block.free = false;
    if (block.nextFree !== undefined) block.nextFree.previousFree = block.previousFree;
    if (block.previousFree !== undefined) {
      block.previousFree.nextFree = block.nextFree;
    } else {
      this.#lists[index] = block.nextFree;
      if (block.nextFree === undefined) {
        this.#secondLevel[word]! &= ~(1 << (index & (SECOND_LEVEL - 1)));
        if (this.#secondLevel[word] === 0) this.#firstLevel[word >>> 5]! &= ~(1 << (word & 31));
      }
    }
    block.previousFree = undefined;
    block.nextFree = undefined;
  }

  /** Walks all blocks and throws an Error where an invariant of this module does not hold. For tests. */
  check(): void {
    let listed = 0;
    for (const [index, head] of this.#lists.entries()) {
      for (let block = head; block !== undefined; block = block.nextFree) {
        listed++;
        if (!block.free || classOf(block.size) !== index) throw new Error(`block ${block.offset} is in list ${index}`);
      }
      const bit = (this.#secondLevel[index >>> SECOND_LEVEL_LOG2]! >>> (index & (SECOND_LEVEL - 1))) & 1;
      if ((bit === 1) !== (head !== undefined)) throw new Error(`bitmap of class ${index} is wrong`);
    }
    let expected = this.#first.offset;
    let free = 0;
    for (let block: Block | undefined = this.#first; block !== undefined; block = block.after) {
      if (block.offset !== expected) throw new Error(`gap before ${block.offset}`);
      if (block.free && block.after?.free === true) throw new Error(`free neighbours at ${block.offset}`);
      if (block.free) free++;
      else if (block.size > 0 && this.#live.get(block.offset) !== block) throw new Error(`${block.offset} is lost`);
      expected += block.size;
    }
    if (expected !== this.#end) throw new Error(`blocks end at ${expected}, not ${this.#end}`);
    if (free !== listed) throw new Error(`${free} free blocks, ${listed} listed`);
  }
}
