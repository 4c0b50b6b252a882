/**
 * What the path in work processed, instruction by instruction, for walking values back (`precision.ts`).
 *
 * Problem: an entry per processed instruction is wanted by every path, paths share what came before they parted, and
 * objects that live as long as the path are what a garbage collector is worst at. Strategy: paths are walked depth first, so at any
 * time only the prefix that the current path shares with the waiting ones matters: one stack in typed arrays, cut back to where a
 * path branched off when that path begins. Stored states and waiting paths keep positions in it.
 *
 * Invariant: a position kept by an ancestor of the current path, or by a waiting path, is at most `length`, and the entries below it
 * are those of its own path.
 */

const INITIAL_ENTRIES = 1024;
/** An entry's note: slot + 1 in bits 0 to 6, its frame from bit 8, the frame the instruction ran in from bit 16. */
const SLOT_BITS = 0x7f;
const CALLBACK = 1 << 24;
const LINKED = 1 << 25;

/** Entries of a path, for when the history has gone on with another. */
export interface Segment {
  /** Position of the first. */
  readonly start: number;
  readonly insns: Int32Array;
  readonly notes: Int32Array;
  readonly links: ReadonlyMap<number, number[]>;
}

export class History {
  /** Entries in use; the last one is the instruction in work. */
  length = 0;
  /** How many entries since the last stored state the kernel would keep: where paths meet, and where something was noted. */
  remarkable = 0;
  private isRemarkable = false;
  private insns = new Int32Array(INITIAL_ENTRIES);
  private notes = new Int32Array(INITIAL_ENTRIES);
  /** By position; outdated unless the entry says that it has some. */
  private readonly links = new Map<number, number[]>();

  /**
   * @param frame index of the frame it runs in
   * @param remarkable paths come here otherwise than from the instruction before
   */
  push(insn: number, frame: number, remarkable: boolean): void {
    this.isRemarkable = remarkable;
    if (remarkable) this.remarkable++;
    const at = this.length++;
    if (at === this.insns.length) this.grow();
    this.insns[at] = insn;
    this.notes[at] = frame << 16;
  }

  /** What the path in work processed from position `start` on. */
  since(start: number): Segment {
    const links = new Map<number, number[]>();
    for (let at = start; at < this.length; at++)
      if ((this.notes[at]! & LINKED) !== 0) links.set(at, this.links.get(at) ?? []);
    return {
      start,
      insns: this.insns.slice(start, this.length),
      notes: this.notes.slice(start, this.length),
      links,
    };
  }

  /** Puts a segment back to its place, over what is there. It ends the history then. */
  restore({ start, insns, notes, links }: Segment): void {
    this.length = start + insns.length;
    while (this.length > this.insns.length) this.grow();
    this.insns.set(insns, start);
    this.notes.set(notes, start);
    for (const [at, places] of links) this.links.set(at, places);
  }

  private grow(): void {
    const insns = new Int32Array(2 * this.insns.length);
    const notes = new Int32Array(2 * this.insns.length);
    insns.set(this.insns);
    notes.set(this.notes);
    this.insns = insns;
    this.notes = notes;
  }

  insn(at: number): number {
    return this.insns[at]!;
  }

  frame(at: number): number {
    return (this.notes[at]! >> 16) & 0xff;
  }

  /** Stack slot that it spilled a register to or filled one from; -1 for none. */
  slot(at: number): number {
    return (this.notes[at]! & SLOT_BITS) - 1;
  }

  slotFrame(at: number): number {
    return (this.notes[at]! >> 8) & 0xff;
  }

  /** A helper's call that goes on in its callback, or the exit of one. */
  isCallback(at: number): boolean {
    return (this.notes[at]! & CALLBACK) !== 0;
  }

  /** Registers and slots (see `precision.ts`) that share bounds by ids and got new ones together at this jump. */
  linked(at: number): readonly number[] | undefined {
    return (this.notes[at]! & LINKED) === 0 ? undefined : this.links.get(at);
  }

  /** Counts the instruction in work, once. */
  remark(): void {
    if (this.isRemarkable) return;
    this.isRemarkable = true;
    this.remarkable++;
  }

  /** The instruction in work spills a number to, or fills from, this slot. */
  noteSlot(frame: number, slot: number): void {
    this.remark();
    const at = this.length - 1;
    this.notes[at] = (this.notes[at]! & ~0xffff) | (frame << 8) | (slot + 1);
  }

  /** The instruction in work enters or leaves a callback. */
  noteCallback(): void {
    this.notes[this.length - 1]! |= CALLBACK;
  }

  /** Adds to what is linked at the jump in work. */
  noteLinked(places: readonly number[]): void {
    this.remark();
    const at = this.length - 1;
    this.links.set(at, [...(this.linked(at) ?? []), ...places]);
    this.notes[at]! |= LINKED;
  }
}
