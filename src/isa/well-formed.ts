/**
 * Which arrays of instructions are known to be well-formed by the way they were made: by the decoder, the assembler, the object loader.
 * All others are looked at before a program of theirs is verified (`check.ts`).
 */
import type { Instruction } from './instruction.ts';

const known = new WeakSet<object>();

/** Every element is well-formed. @returns `insns` */
export function wellFormed<Insns extends readonly Instruction[]>(insns: Insns): Insns {
  known.add(insns);
  return insns;
}

export function isKnown(insns: unknown): boolean {
  return typeof insns === 'object' && insns !== null && known.has(insns);
}
