/**
 * Pass 4: map references.
 *
 * Reads: facts.usedMaps. Writes: loadImm64 of a map by name -> by index into usedMaps; of a kernel function -> 1, or 0 where
 * there is none of that name.
 * Assumes: the object loader has replaced file descriptors and indices by names.
 * Throws: LoweringError `unknown_map` for a map that is not among the used maps (an internal error: index 0 would silently be
 * another map), `unsupported_instruction` for a reference that only the kernel can resolve.
 */
import type { LoadImm64, Reference } from '../../isa/instruction.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';
import { usedMapIndex } from '../used-maps.ts';

/** Of any kernel function that there is: all that programs can do with it is to compare it with null. */
const KFUNC_ADDRESS = 1n;

export function resolveMapReferences(draft: Draft, input: LoweringInput): Draft {
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    if (insn.kind !== 'loadImm64' || insn.reference === undefined) return;
    const resolved = resolve(insn, insn.reference, draft.origin[slot]!, input);
    if (resolved === insn.reference) return;
    const [value, reference] = typeof resolved === 'bigint' ? [resolved, undefined] : [0n, resolved];
    edits.set(slot, { code: [{ ...insn, value, reference }] });
  });
  return rewrite(draft, edits);
}

/** A number where no address is needed. */
function resolve(insn: LoadImm64, reference: Reference, origin: number, input: LoweringInput): Reference | bigint {
  switch (reference.type) {
    case 'map':
      return { type: 'mapAddress', index: usedMapIndex(input, reference.map, origin) };
    case 'mapValue':
      return {
        type: 'mapValueAddress',
        index: usedMapIndex(input, reference.map, origin),
        offset: reference.offset,
      };
    case 'kfunc':
      return input.kfuncRoutine?.(reference.name, input.type) === undefined ? 0n : KFUNC_ADDRESS;
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
