/**
 * Code under construction, for any machine.
 *
 * Problem: the size of a branch depends on its distance, and its distance on the sizes of the branches (and of the
 * alignment padding) in between. Strategy: bytes of fixed size go to one growing array; everything whose size is
 * still open (a branch, a stretch of padding) is an *item* at a position between two of those bytes. `finish` starts
 * with every branch short, lays out, makes long what does not reach, and repeats until nothing changes.
 *
 * Invariants: branches only ever grow, so the loop ends; padding is computed anew in each round, so a layout is only
 * accepted when every branch reaches in that very layout. Rounds are few in practice; after ROUNDS of them every
 * branch still short is made long, so the whole is linear in the size of the code.
 */
import { CompileError } from './errors.ts';

/** Names a place in the code; meaningful only to the buffer that made it. */
export type Label = number;

/** How a machine writes one branch. Distances are in bytes, from the first byte of the branch to its target. */
export interface BranchForm {
  readonly shortBytes: number;
  readonly longBytes: number;
  /** Whether the short form reaches. */
  reaches(distance: number): boolean;
  write(out: Uint8Array, at: number, distance: number, long: boolean): void;
}

/** Fills `count` bytes from `at` with instructions that do nothing. */
export type Fill = (out: Uint8Array, at: number, count: number) => void;
/** Writes a field of fixed size that depends on where a label ended up. Both are code offsets in bytes. */
export type FieldWriter = (out: DataView, at: number, target: number) => void;

interface Item {
  readonly position: number;
  /** Undefined: padding. */
  readonly branch: BranchForm | undefined;
  readonly label: Label;
  long: boolean;
  /** Padding: the next `length` bytes shall lie within one aligned word of `word` bytes. */
  readonly length: number;
  readonly word: number;
  readonly fill: Fill | undefined;
}
interface Field {
  readonly at: Label;
  readonly target: Label;
  readonly write: FieldWriter;
}

export interface FinishedCode {
  readonly bytes: Uint8Array;
  /** Code offset of a bound label. */
  offset(label: Label): number;
}

const ROUNDS = 24;
const UNBOUND = -1;

export class CodeBuffer {
  private data = new Uint8Array(1024);
  private view = new DataView(this.data.buffer);
  private length = 0;
  private readonly items: Item[] = [];
  private readonly fields: Field[] = [];
  /** Per label: fixed bytes and items before it. */
  private readonly labelPositions: number[] = [];
  private readonly labelItems: number[] = [];
  private readonly maxBytes: number;

  /** @param maxBytes `finish` and the emitting methods refuse to go beyond it. */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  private reserve(bytes: number): number {
    const at = this.length;
    const needed = at + bytes;
    if (needed > this.data.length) {
      if (needed > this.maxBytes) throw tooLarge(needed, this.maxBytes);
      const grown = new Uint8Array(this.data.length * 2);
      grown.set(this.data);
      this.data = grown;
      this.view = new DataView(grown.buffer);
    }
    this.length = needed;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.data[at] = value;
  }
  u16(value: number): void {
    const at = this.reserve(2);
    this.view.setUint16(at, value, true);
  }
  /** Takes int32 and u32 alike. */
  u32(value: number): void {
    const at = this.reserve(4);
    this.view.setUint32(at, value, true);
  }
  u64(value: bigint): void {
    const at = this.reserve(8);
    this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }

  /** A label to be bound later. */
  label(): Label {
    this.labelItems.push(0);
    return this.labelPositions.push(UNBOUND) - 1;
  }
  bind(label: Label): void {
    if (this.labelPositions[label] !== UNBOUND) throw new CompileError('internal', `label ${label} is bound twice`);
    this.labelPositions[label] = this.length;
    this.labelItems[label] = this.items.length;
  }
  /** A label bound here. */
  here(): Label {
    const label = this.label();
    this.bind(label);
    return label;
  }

  /** A label bound `bytes` bytes back, within what has been appended since the last branch or padding. */
  before(bytes: number): Label {
    const label = this.here();
    this.labelPositions[label]! -= bytes;
    return label;
  }

  branch(form: BranchForm, label: Label): void {
    this.items.push({
      position: this.length,
      branch: form,
      label,
      long: false,
      length: 0,
      word: 0,
      fill: undefined,
    });
  }

  /**
   * Pads so that the next `length` bytes lie within one aligned word, given that the code is placed at a multiple of it.
   * @param word a power of two
   */
  keepWithinWord(length: number, word: number, fill: Fill): void {
    this.items.push({ position: this.length, branch: undefined, label: 0, long: false, length, word, fill });
  }

  /** The `bytes` bytes from here on are zero for now and written by `write` once the offset of `target` is known. */
  field(bytes: number, target: Label, write: FieldWriter): void {
    this.fields.push({ at: this.here(), target, write });
    this.data.fill(0, this.reserve(bytes), this.length);
  }

  /** @throws CompileError code_too_large */
  finish(): FinishedCode {
    const { items, labelPositions, labelItems } = this;
    /** extra[i]: bytes of the items before item i. */
    const extra = new Uint32Array(items.length + 1);
    const offset = (label: Label): number => {
      const position = labelPositions[label];
      if (position === undefined || position === UNBOUND) {
        throw new CompileError('internal', `label ${label} is used but not bound`);
      }
      return position + extra[labelItems[label]!]!;
    };
    const layOut = (): void => {
      let sum = 0;
      for (let i = 0; i < items.length; i++) {
        const item = items[i]!;
        extra[i] = sum;
        if (item.branch) sum += item.long ? item.branch.longBytes : item.branch.shortBytes;
        else sum += padding(item.position + sum, item.length, item.word);
      }
      extra[items.length] = sum;
    };
    for (let round = 0; ; round++) {
      layOut();
      let grew = false;
      for (let i = 0; i < items.length; i++) {
        const item = items[i]!;
        if (!item.branch || item.long) continue;
        if (round < ROUNDS && item.branch.reaches(offset(item.label) - (item.position + extra[i]!))) continue;
        item.long = true;
        grew = true;
      }
      if (!grew) break;
    }

    const total = this.length + extra[items.length]!;
    if (total > this.maxBytes) throw tooLarge(total, this.maxBytes);
    const bytes = new Uint8Array(total);
    let copied = 0;
    for (let i = 0; i < items.length; i++) {
      const item = items[i]!;
      bytes.set(this.data.subarray(copied, item.position), copied + extra[i]!);
      copied = item.position;
      const at = item.position + extra[i]!;
      if (item.branch) item.branch.write(bytes, at, offset(item.label) - at, item.long);
      else item.fill?.(bytes, at, extra[i + 1]! - extra[i]!);
    }
    bytes.set(this.data.subarray(copied, this.length), copied + extra[items.length]!);
    const view = new DataView(bytes.buffer);
    for (const field of this.fields) field.write(view, offset(field.at), offset(field.target));
    return { bytes, offset };
  }
}

function padding(at: number, length: number, word: number): number {
  const inWord = at & (word - 1);
  return inWord + length > word ? word - inWord : 0;
}

function tooLarge(bytes: number, limit: number): CompileError {
  return new CompileError('code_too_large', `the program needs more than ${limit} bytes of machine code; split it`, {
    bytes,
    limit,
  });
}
