/**
 * Pass 6: tail calls.
 *
 * Reads: facts.tailCalls, map specifications. Writes: `call 12` -> TAIL_CALL with packed imm; the poke table.
 * Assumes: prog arrays are among the used maps.
 * Throws: LoweringError `bad_facts` for a reachable site without facts, `unknown_map`.
 *
 * A site gets a poke descriptor only if exactly one map and one index below its max_entries reach it, on all paths,
 * and the backend can patch code. When the poke table is full, further sites are static: slower, not wrong.
 */
import type { TailCallSite } from '../../verifier/facts.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import type { PokeDescriptor } from '../lowered.ts';
import { type Edit, rewrite } from '../rewrite.ts';
import { MAX_POKES, packTailCall } from '../tail-call-imm.ts';
import { usedMapIndex } from '../used-maps.ts';

export const TAIL_CALL_HELPER = 12;

export function packTailCalls(draft: Draft, input: LoweringInput): Draft {
  const sites = new Map(input.facts.tailCalls.map(site => [site.insn, site]));
  const pokeTable: PokeDescriptor[] = [...draft.pokeTable];
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    if (insn.kind !== 'callHelper' || insn.helper !== TAIL_CALL_HELPER) return;
    const origin = draft.origin[slot]!;
    const site = sites.get(origin);
    if (site === undefined || site.maps.length === 0) {
      throw new LoweringError(
        'bad_facts',
        `${input.name}: the verifier recorded no map for the tail call at instruction ${origin}`,
        { program: input.name, insn: origin },
      );
    }
    edits.set(slot, { code: [{ kind: 'tailCall', imm: immOf(site, slot, pokeTable, input) }] });
  });
  return rewrite({ ...draft, pokeTable }, edits);
}

/** Adds to `pokeTable` where the site gets a descriptor. */
function immOf(site: TailCallSite, slot: number, pokeTable: PokeDescriptor[], input: LoweringInput): number {
  const indices = site.maps.map(map => usedMapIndex(input, map, site.insn));
  const [map] = indices;
  if (map === undefined || indices.length > 1) return packTailCall({ usedMap: 0, dynamic: true, poke: undefined });
  const key = site.index;
  const isPatchable =
    input.pokes && key !== undefined && key < input.usedMaps[map]!.maxEntries && pokeTable.length < MAX_POKES;
  if (!isPatchable) return packTailCall({ usedMap: map, dynamic: false, poke: undefined });
  const poke = pokeTable.push({ insn: slot, map, key }) - 1;
  return packTailCall({ usedMap: map, dynamic: false, poke });
}
