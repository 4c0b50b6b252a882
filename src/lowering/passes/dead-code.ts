/**
 * Pass 1: dead code.
 *
 * Reads: facts.reachable. Writes: removes instructions that no path reaches, branches whose other side is dead, and
 * jumps to the next instruction; drops subprograms of which nothing is left.
 * Assumes: it runs first (slots are those of the verified program). Throws: nothing.
 *
 * A conditional jump of which only one side is reachable becomes a goto, or goes: kept as it is, it could be the last
 * instruction of its function, and the backends insist on a function that does not run past its end.
 *
 * With `keepDeadBranches` it stays, and its dead side is an exit.
 */
import type { Instruction } from '../../isa/instruction.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { type Edit, rewrite } from '../rewrite.ts';

export function removeDeadCode(draft: Draft, input: LoweringInput): Draft {
  const { insns } = draft;
  const { reachable } = input.facts;
  // The second slot of a loadImm64 lives and dies with the first.
  const isReachable = (slot: number) => reachable[insns[slot]?.kind === 'wide' ? slot - 1 : slot] === 1;
  const deadSides = input.keepDeadBranches === true ? findDeadSides(insns, isReachable) : NONE;
  const isLive = (slot: number) => isReachable(slot) || deadSides.has(slot);
  const edits = new Map<number, Edit>();
  /** First slot at or after the index that stays; two slots with the same one are the same place to a jump. */
  const nextKept = new Int32Array(insns.length + 1);
  nextKept[insns.length] = insns.length;

  for (let slot = insns.length - 1; slot >= 0; slot--) {
    const edit = deadSides.has(slot) ? EXIT : isLive(slot) ? editOfLive(insns[slot]!, slot, isLive, nextKept) : REMOVE;
    if (edit !== undefined) edits.set(slot, edit);
    nextKept[slot] = edit?.code?.length === 0 ? nextKept[slot + 1]! : slot;
  }
  return rewrite(draft, edits);
}

const REMOVE: Edit = { code: [] };
const EXIT: Edit = { code: [{ kind: 'exit' }] };
const NONE: ReadonlySet<number> = new Set();

/** Where branches that are reachable lead to, but no path does. */
function findDeadSides(insns: readonly Instruction[], isReachable: (slot: number) => boolean): ReadonlySet<number> {
  const found = new Set<number>();
  insns.forEach((insn, slot) => {
    if (insn.kind !== 'jump' || !isReachable(slot)) return;
    for (const side of [slot + 1, slot + 1 + insn.offset]) if (!isReachable(side)) found.add(side);
  });
  return found;
}

function editOfLive(
  insn: Instruction,
  slot: number,
  isLive: (slot: number) => boolean,
  nextKept: Int32Array,
): Edit | undefined {
  /** Whether going to `target` is the same as going on. Only forward targets are laid out yet. */
  const isNext = (target: number) => target > slot && nextKept[target] === nextKept[slot + 1];
  switch (insn.kind) {
    case 'goto':
      return isNext(slot + 1 + insn.offset) ? REMOVE : undefined;
    case 'jump':
    case 'mayGoto': {
      const target = slot + 1 + insn.offset;
      if (isNext(target) || !isLive(target)) return REMOVE;
      if (isLive(slot + 1)) return undefined;
      return { code: [{ kind: 'jumpOut', insn: { kind: 'goto', offset: 0, long: false }, to: target }] };
    }
    case 'loadImm64':
      // A callback that is named but never called: nothing may be left that leads to its removed code.
      if (insn.reference?.type === 'function' && !isLive(slot + 1 + insn.reference.offset)) {
        return { code: [{ ...insn, value: 0n, reference: undefined }] };
      }
      return undefined;
    default:
      return undefined;
  }
}
