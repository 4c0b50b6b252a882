/** Patching running code by single stores of whole words, on every machine that takes instructions from them atomically. */
import { CompileError } from './errors.ts';

/** Bytes of the aligned word that must hold a patchable instruction. */
export const PATCH_WORD_BYTES = 8;

/**
 * The new value of the aligned word that holds the patchable instruction at `offset`.
 * @param word the word's present value (little-endian u64)
 * @param offset code offset or address of the instruction; only its low three bits matter
 * @throws CompileError internal where the instruction would cross the word
 */
export function mergePatch(word: bigint, offset: number, instruction: Uint8Array): bigint {
  const shift = offset & (PATCH_WORD_BYTES - 1);
  if (shift + instruction.length > PATCH_WORD_BYTES) {
    throw new CompileError('internal', `the patch at offset ${offset} crosses an aligned 8-byte word`, { offset });
  }
  let mask = 0n;
  let value = 0n;
  for (let i = 0; i < instruction.length; i++) {
    mask |= 0xffn << BigInt(8 * (shift + i));
    value |= BigInt(instruction[i]!) << BigInt(8 * (shift + i));
  }
  return (word & ~mask) | value;
}
