/**
 * Pass: frames that must start as zeros.
 *
 * Reads: `readsUninitializedStack` of the subprograms. Writes: stores of zero over the whole frame, at the entry of each
 * such subprogram. Assumes: `stackDepth` is final. Throws: nothing.
 *
 * The verifier lets a program read stack bytes that it never wrote, as the kernel does (clang leaves the padding of
 * structs unwritten, and hands it to map helpers as part of a key). What lies there differs from run to run; zeros make the
 * result the same on every backend, and nothing of an earlier program shows through.
 */
import { storeImm } from '../build.ts';
import type { Draft } from '../draft.ts';
import { rewrite } from '../rewrite.ts';

export function zeroFrames(draft: Draft): Draft {
  const edits = new Map(
    draft.subprograms
      .filter(({ readsUninitializedStack, stackDepth }) => readsUninitializedStack === true && stackDepth > 0)
      .map(({ start, stackDepth }) => {
        const slots = Math.ceil(stackDepth / 8);
        return [
          start,
          { prologue: Array.from({ length: slots }, (_, i) => storeImm(8, 10, -8 * (i + 1), 0)) },
        ] as const;
      }),
  );
  return edits.size === 0 ? draft : rewrite(draft, edits);
}
