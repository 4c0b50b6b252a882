/**
 * Branches with a label. An unconditional branch reaches 128 MiB, beyond the largest program; a conditional one 1 MiB,
 * and where that is not enough it jumps, inverted, over an unconditional one.
 */
import type { BranchForm, CodeBuffer, Label } from '../shared/code-buffer.ts';
import { encodeWord } from './encodings.ts';

/** Condition codes; flipping the lowest bit inverts one. */
export const Condition = {
  equal: 0,
  notEqual: 1,
  /** Unsigned. */
  higherOrSame: 2,
  lower: 3,
  higher: 8,
  lowerOrSame: 9,
  /** Signed. */
  greaterOrEqual: 10,
  less: 11,
  greater: 12,
  lessOrEqual: 13,
} as const;
export type Condition = (typeof Condition)[keyof typeof Condition];

export const INSTRUCTION_BYTES = 4;
const CONDITIONAL_REACH = 1 << 20;

function setWord(out: Uint8Array, at: number, word: number): void {
  for (let i = 0; i < INSTRUCTION_BYTES; i++) out[at + i] = word >> (8 * i);
}

const BRANCH: BranchForm = {
  shortBytes: INSTRUCTION_BYTES,
  longBytes: INSTRUCTION_BYTES,
  reaches: () => true,
  write: (out, at, distance) => setWord(out, at, encodeWord('b #j*4', 64, distance)),
};

/** @param word the branch that is taken (or, inverted, not taken) to a distance in bytes */
function conditional(word: (inverted: boolean, distance: number) => number): BranchForm {
  return {
    shortBytes: INSTRUCTION_BYTES,
    longBytes: 2 * INSTRUCTION_BYTES,
    reaches: distance => distance >= -CONDITIONAL_REACH && distance < CONDITIONAL_REACH,
    write(out, at, distance, long) {
      if (!long) return setWord(out, at, word(false, distance));
      setWord(out, at, word(true, 2 * INSTRUCTION_BYTES));
      setWord(out, at + INSTRUCTION_BYTES, encodeWord('b #j*4', 64, distance - INSTRUCTION_BYTES));
    },
  };
}

const CONDITIONAL: readonly BranchForm[] = Array.from({ length: 14 }, (_, condition) =>
  conditional((inverted, distance) => encodeWord('b.C #j*4', 64, condition ^ (inverted ? 1 : 0), distance)),
);

export function jump(buffer: CodeBuffer, label: Label): void {
  buffer.branch(BRANCH, label);
}

export function jumpIf(buffer: CodeBuffer, condition: Condition, label: Label): void {
  buffer.branch(CONDITIONAL[condition]!, label);
}

/** Compare and branch: where the register is zero, or where it is not. */
export function jumpIfZero(buffer: CodeBuffer, zero: boolean, width: 32 | 64, register: number, label: Label): void {
  const form = conditional((inverted, distance) =>
    encodeWord(zero === inverted ? 'cbnz Rt, #j*4' : 'cbz Rt, #j*4', width, register, distance),
  );
  buffer.branch(form, label);
}

/** adr: the label's address, at most 1 MiB away. */
export function loadAddress(buffer: CodeBuffer, register: number, label: Label): void {
  buffer.field(INSTRUCTION_BYTES, label, (out, at, target) => {
    out.setInt32(at, encodeWord('adr Xd, #j*4', 64, register, target - at), true);
  });
}

export function call(buffer: CodeBuffer, label: Label): void {
  buffer.field(INSTRUCTION_BYTES, label, (out, at, target) => {
    out.setInt32(at, encodeWord('bl #j*4', 64, target - at), true);
  });
}
