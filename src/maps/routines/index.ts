/** All trusted routines of the maps room, and how lowering finds the one for a map. */
import type { Routine } from '../../isa/routine.ts';
import type { MapType } from '../../object/spec.ts';
import { familyOf } from '../families.ts';
import { ARRAY_ROUTINES } from './array.ts';
import { GENERIC_ROUTINES } from './generic.ts';
import { HASH_ROUTINES } from './hash.ts';
import { LRU_HASH_ROUTINES } from './lru-hash.ts';
import { PROG_ARRAY_ROUTINES } from './prog-array.ts';
import { TARGET_ROUTINES } from './target.ts';

export type MapOperation = 'lookup' | 'update' | 'delete';

export const MAP_ROUTINES: readonly Routine[] = [
  ...GENERIC_ROUTINES,
  ...ARRAY_ROUTINES,
  ...HASH_ROUTINES,
  ...LRU_HASH_ROUTINES,
  ...PROG_ARRAY_ROUTINES,
  ...TARGET_ROUTINES,
];

/** Name of the routine that does `operation` on maps of this type. */
export function mapRoutine(type: MapType, operation: MapOperation): string {
  return `${familyOf(type)}_${operation}`;
}
