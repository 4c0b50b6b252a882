/**
 * Replacing instructions by any number of others.
 *
 * Problem: jumps, calls and callbacks hold distances, so that one inserted instruction changes others far away.
 * Strategy: a pass says what it wants done at each slot of the program it was given (`Edit`); `rewrite` then lays out the new
 * program once, with a table from old slots to new ones, and computes each distance anew. Linear in old plus new slots,
 * however many edits there are.
 *
 * Two kinds of arrival at an old slot are told apart. A jump arrives at the slot's code; a call, a callback and the
 * entry of the program arrive at its `prologue`, if an edit gives it one. A loop back to a function's first
 * instruction therefore does not run the prologue again.
 *
 * Invariants: a slot without an edit keeps its instruction; whoever replaces a loadImm64 also says what becomes
 * of its second slot. What lands on a removed slot lands on the next one that is kept.
 * Offsets are plain numbers here and need not fit the 16 bits of the wire: lowered programs are never encoded.
 */
import type { Goto, Instruction, Jump } from '../isa/instruction.ts';
import type { SubprogramFacts } from '../verifier/facts.ts';
import type { Draft } from './draft.ts';
import { LoweringError } from './errors.ts';

/** A jump out of a replacement, to the code of `to`, a slot of the program before the rewrite. */
export interface JumpOut {
  readonly kind: 'jumpOut';
  readonly insn: Jump | Goto;
  readonly to: number;
}

export interface Edit {
  /**
   * Takes the instruction's place; empty removes it. Offsets within are relative in the new code as they stand; a jump
   * that leads to the end of the replacement goes on behind it. Left out: the instruction stays.
   */
  readonly code?: readonly (Instruction | JumpOut)[];
  /** Runs before it when the function that starts here is entered, not when a jump leads here. */
  readonly prologue?: readonly Instruction[];
}

/** By slot. */
export type Edits = ReadonlyMap<number, Edit>;

/** @throws LoweringError `bad_target` where a jump or call leaves the program. */
export function rewrite(draft: Draft, edits: Edits): Draft {
  if (edits.size === 0) return draft;
  const layout = layOut(draft, edits);
  const insns: Instruction[] = [];
  const origin = new Int32Array(layout.length);

  draft.insns.forEach((insn, slot) => {
    const edit = edits.get(slot);
    for (const made of edit?.prologue ?? []) {
      origin[insns.length] = -1;
      insns.push(made);
    }
    if (edit?.code === undefined) {
      origin[insns.length] = draft.origin[slot]!;
      insns.push(relocate(insn, slot, insns.length, draft, layout));
      return;
    }
    for (const made of edit.code) {
      origin[insns.length] = draft.origin[slot]!;
      insns.push(made.kind === 'jumpOut' ? leadOut(made, slot, insns.length, draft, layout) : made);
    }
  });

  return {
    insns,
    origin,
    subprograms: moveSubprograms(draft.subprograms, layout),
    pokeTable: draft.pokeTable.map(poke => ({ ...poke, insn: layout.code[poke.insn]! })),
    unusedArguments: new Set([...draft.unusedArguments].map(slot => layout.code[slot]!)),
  };
}

/** By old slot, and one more element each for the end: where its prologue and its code start in the new program. */
interface Layout {
  readonly entry: Int32Array;
  readonly code: Int32Array;
  readonly length: number;
}

function layOut(draft: Draft, edits: Edits): Layout {
  const count = draft.insns.length;
  const entry = new Int32Array(count + 1);
  const code = new Int32Array(count + 1);
  let at = 0;
  for (let slot = 0; slot < count; slot++) {
    const edit = edits.get(slot);
    entry[slot] = at;
    at += edit?.prologue?.length ?? 0;
    code[slot] = at;
    at += edit?.code?.length ?? 1;
  }
  entry[count] = code[count] = at;
  return { entry, code, length: at };
}

function relocate(insn: Instruction, slot: number, at: number, draft: Draft, layout: Layout): Instruction {
  switch (insn.kind) {
    case 'jump':
    case 'mayGoto':
      return { ...insn, offset: layout.code[targetOf(insn.offset, slot, draft)]! - at - 1 };
    case 'goto':
      return withOffset(insn, layout.code[targetOf(insn.offset, slot, draft)]! - at - 1);
    case 'callSubprogram':
      return { ...insn, offset: layout.entry[targetOf(insn.offset, slot, draft)]! - at - 1 };
    case 'loadImm64': {
      const { reference } = insn;
      if (reference?.type !== 'function') return insn;
      const offset = layout.entry[targetOf(reference.offset, slot, draft)]! - at - 1;
      return { ...insn, reference: { type: 'function', offset } };
    }
    default:
      return insn;
  }
}

function leadOut(jump: JumpOut, slot: number, at: number, draft: Draft, layout: Layout): Instruction {
  const to = targetOf(jump.to - slot - 1, slot, draft);
  const offset = layout.code[to]! - at - 1;
  return jump.insn.kind === 'goto' ? withOffset(jump.insn, offset) : { ...jump.insn, offset };
}

/** A goto is printed as `gotol` where its distance needs it. */
function withOffset(insn: Goto, offset: number): Goto {
  return { kind: 'goto', offset, long: insn.long || offset < -0x8000 || offset > 0x7fff };
}

/** @returns the slot that a jump, call or reference at `slot` leads to. */
function targetOf(offset: number, slot: number, draft: Draft): number {
  const target = slot + 1 + offset;
  const insn = draft.insns[target];
  if (insn !== undefined && insn.kind !== 'wide') return target;
  throw new LoweringError(
    'bad_target',
    `the ${draft.insns[slot]?.kind} at ${slot} leads to slot ${target}, where none of the program's ${draft.insns.length} slots starts an instruction`,
    { insn: slot, target },
  );
}

/** Subprograms of which nothing is left are dropped. */
function moveSubprograms(subprograms: readonly SubprogramFacts[], layout: Layout): SubprogramFacts[] {
  return subprograms
    .map(s => ({ ...s, start: layout.entry[s.start]!, end: layout.entry[s.end]! }))
    .filter(s => s.start < s.end);
}
