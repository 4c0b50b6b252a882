/** The maps of a program under the numbers that lowered code uses. */
import type { MapSpec } from '../object/spec.ts';
import type { LoweringInput } from './draft.ts';
import { LoweringError } from './errors.ts';
import type { UsedMap } from './lowered.ts';
import { MAX_USED_MAPS } from './tail-call-imm.ts';

/** @throws LoweringError `unknown_map` for more than 64 maps, or one without a specification. */
export function collectUsedMaps(
  program: string,
  names: readonly string[],
  maps: ReadonlyMap<string, MapSpec>,
): UsedMap[] {
  if (names.length > MAX_USED_MAPS) {
    throw new LoweringError(
      'unknown_map',
      `${program} uses ${names.length} maps; the limit is ${MAX_USED_MAPS}, which the verifier should have enforced`,
      { program, count: names.length },
    );
  }
  return names.map(name => {
    const spec = maps.get(name);
    if (spec !== undefined) return { name, maxEntries: spec.maxEntries };
    throw new LoweringError(
      'unknown_map',
      `${program} uses map "${name}", of which lower() was given no specification`,
      {
        program,
        map: name,
      },
    );
  });
}

/** @throws LoweringError `unknown_map` where the map is not in facts.usedMaps. */
export function usedMapIndex(input: LoweringInput, map: string, origin: number): number {
  const index = input.facts.usedMaps.indexOf(map);
  if (index !== -1) return index;
  throw new LoweringError(
    'unknown_map',
    `${input.name}: instruction ${origin} uses map "${map}", which is not among the used maps (${input.facts.usedMaps.join(', ')}) that the verifier recorded`,
    { program: input.name, insn: origin, map },
  );
}
