/**
 * Pass: counting of missed tail calls.
 *
 * Reads: facts.tailCalls; `input.missTable`. Writes: behind each TAIL_CALL a call of the routine `tail_call_miss`, with the
 * address of the site's record. Assumes: tail calls are packed. Throws: nothing.
 *
 * The code stands where a call that fails falls through, in the call's own place: a hop that succeeds never gets there, and
 * a jump to the next instruction does not lead there. r0-r5 are dead; r2 and r3 still hold what the program put there, by the
 * backends' contract (jit/shared/code.ts), from which the routine finds the cause. Direct sites may leave them out: their
 * record names array and index.
 */

import { loadReference } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { type Edit, rewrite } from '../rewrite.ts';

/** Routine that counts: r2 array, r3 index (u32), r5 address of the site's record. */
export const TAIL_CALL_MISS = 'tail_call_miss';
/** Routine that counts a hit in front of the call; arguments as above. Keeps r1-r3, and takes the count back at a miss. */
export const TAIL_CALL_HIT = 'tail_call_hit';
/** Bytes of a site's record; what is in it is the runtime's concern. */
export const MISS_RECORD_BYTES = 128;

export function countMisses(draft: Draft, input: LoweringInput): Draft {
  const table = input.missTable;
  if (table === undefined) return draft;
  const numbers = new Map(input.facts.tailCalls.map(({ insn }, number) => [insn, number]));
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    const number = insn.kind === 'tailCall' ? numbers.get(draft.origin[slot]!) : undefined;
    if (number === undefined) return;
    const record = loadReference(5, { type: 'mapValueAddress', index: table, offset: number * MISS_RECORD_BYTES });
    edits.set(slot, {
      code: [
        ...(input.countHits === true ? [...record, { kind: 'callRoutine', routine: TAIL_CALL_HIT } as const] : []),
        insn,
        ...record,
        { kind: 'callRoutine', routine: TAIL_CALL_MISS },
      ],
    });
  });
  const { pokeTable, ...rewritten } = rewrite(draft, edits);
  // A poke descriptor names the call itself, which may not be the first of what took its place.
  const ahead = input.countHits === true ? 3 : 0;
  return { ...rewritten, pokeTable: pokeTable.map(poke => ({ ...poke, insn: poke.insn + ahead })) };
}
