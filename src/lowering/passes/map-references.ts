/**
 * Pass 4: map references.
 *
 * Reads: facts.usedMaps. Writes: loadImm64 of a map by name -> by index into usedMaps.
 * Assumes: the object loader has replaced file descriptors and indices by names.
 * Throws: LoweringError `unknown_map` for a map that is not among the used maps (an internal error: index 0 would silently be
 * another map), `unsupported_instruction` for a reference that only the kernel can resolve.
 */
import type { LoadImm64, Reference } from '../../isa/instruction.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';
import { usedMapIndex } from '../used-maps.ts';

export function resolveMapReferences(draft: Draft, input: LoweringInput): Draft {
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    if (insn.kind !== 'loadImm64' || insn.reference === undefined) return;
    const reference = resolve(insn, insn.reference, draft.origin[slot]!, input);
    if (reference !== insn.reference) edits.set(slot, { code: [{ ...insn, value: 0n, reference }] });
  });
  return rewrite(draft, edits);
}

function resolve(insn: LoadImm64, reference: Reference, origin: number, input: LoweringInput): Reference {
  switch (reference.type) {
    case 'map':
      return { type: 'mapAddress', index: usedMapIndex(input, reference.map, origin) };
    case 'mapValue':
      return {
        type: 'mapValueAddress',
        index: usedMapIndex(input, reference.map, origin),
        offset: reference.offset,
      };
    case 'function':
    case 'mapAddress':
    case 'mapValueAddress':
      return reference;
    default:
      throw new LoweringError(
        'unsupported_instruction',
        `${input.name}: instruction ${origin} loads a ${reference.type} reference into r${insn.dst}; only maps by name and functions can be loaded`,
        { program: input.name, insn: origin, reference: reference.type },
      );
  }
}
