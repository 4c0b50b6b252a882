/**
 * Pass 3: entry of raw programs.
 *
 * Reads: the program type. Writes: puts `r2 = size of the raw memory` in front of a raw program.
 * Assumes: nothing. Throws: nothing.
 *
 * A raw program finds its memory in r1 and the size in r2. A tail call hands on r1 only, so each program fetches
 * r2 for itself, from the run context. A jump back to the first instruction does not fetch it again.
 */
import { loadRunContextField } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { rewrite } from '../rewrite.ts';

export function addRawEntry(draft: Draft, input: LoweringInput): Draft {
  if (input.type !== 'raw' || draft.insns.length === 0) return draft;
  return rewrite(draft, new Map([[0, { prologue: loadRunContextField(2, 'rawSize', 8) }]]));
}
