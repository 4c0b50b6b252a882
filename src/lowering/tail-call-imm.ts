/**
 * The packed `imm` of a TAIL_CALL instruction, an unsigned 32-bit number:
 *
 *     31              16 15         8 7          0
 *    +------------------+------------+------------+
 *    | poke index + 1   | dynamic    | used map   |
 *    | (0: no poke)     | (0 or 1)   | (0..63)    |
 *    +------------------+------------+------------+
 *
 * Bits 16-31 are unsigned. The limit of 1023 pokes keeps bit 31 clear, but a decoder must not rely on that: it
 * shifts logically. A dynamic site (the map pointer differs between paths) has no poke, and its map field is 0 and
 * means nothing.
 */
import { LoweringError } from './errors.ts';

/** Maps that one program may refer to, as in the kernel. */
export const MAX_USED_MAPS = 64;
/** Poke descriptors that one program may have. Sites beyond that are static. */
export const MAX_POKES = 1023;

export interface TailCallImm {
  /** Index of the prog array in `usedMaps`, 0..63; 0 and without meaning where `dynamic`. */
  readonly usedMap: number;
  /** Different maps reach the site: read the map from r2 at run time. */
  readonly dynamic: boolean;
  /** Index into the poke table, 0..1022; undefined for a site without a poke. */
  readonly poke: number | undefined;
}

/**
 * @returns an unsigned 32-bit number.
 * @throws LoweringError `tail_call_imm` where a field is out of range, or a dynamic site has a poke.
 */
export function packTailCall(site: TailCallImm): number {
  const { usedMap, dynamic, poke } = site;
  if (!isIndexBelow(usedMap, MAX_USED_MAPS)) {
    throw new LoweringError(
      'tail_call_imm',
      `a tail call names used map ${usedMap}; expected an index from 0 to ${MAX_USED_MAPS - 1}`,
      { field: 'usedMap', value: usedMap },
    );
  }
  if (poke !== undefined && !isIndexBelow(poke, MAX_POKES)) {
    throw new LoweringError(
      'tail_call_imm',
      `a tail call names poke ${poke}; expected an index from 0 to ${MAX_POKES - 1}`,
      { field: 'poke', value: poke },
    );
  }
  if (dynamic && poke !== undefined) {
    throw new LoweringError(
      'tail_call_imm',
      `a dynamic tail call has poke ${poke}; only a site with one map and one index can be patched`,
      { field: 'poke', value: poke },
    );
  }
  return (((poke === undefined ? 0 : poke + 1) << 16) | ((dynamic ? 1 : 0) << 8) | usedMap) >>> 0;
}

/**
 * @param imm as made by `packTailCall`; taken as unsigned whatever its sign.
 * @throws LoweringError `tail_call_imm` for a number that `packTailCall` cannot have made.
 */
export function unpackTailCall(imm: number): TailCallImm {
  const usedMap = imm & 0xff;
  const flag = (imm >>> 8) & 0xff;
  const pokePlusOne = (imm >>> 16) & 0xffff;
  if (usedMap >= MAX_USED_MAPS || flag > 1 || pokePlusOne > MAX_POKES || (flag === 1 && pokePlusOne !== 0)) {
    throw new LoweringError(
      'tail_call_imm',
      `0x${(imm >>> 0).toString(16)} is no packed tail call: used map ${usedMap}, dynamic ${flag}, poke + 1 ${pokePlusOne}`,
      { imm: imm >>> 0 },
    );
  }
  return { usedMap, dynamic: flag === 1, poke: pokePlusOne === 0 ? undefined : pokePlusOne - 1 };
}

function isIndexBelow(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < limit;
}
