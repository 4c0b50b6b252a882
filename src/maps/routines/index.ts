/** All trusted routines of the maps room, and how lowering finds the one for a map. */
import type { Routine } from '../../isa/routine.ts';
import type { MapType } from '../../object/spec.ts';
import { familyOf } from '../families.ts';
import { ARRAY_ROUTINES } from './array.ts';
import { BLOOM_FILTER_ROUTINES } from './bloom-filter.ts';
import { FOR_EACH_ROUTINES } from './for-each.ts';
import { GENERIC_ROUTINES } from './generic.ts';
import { HASH_ROUTINES } from './hash.ts';
import { LOCK_ROUTINES } from './lock.ts';
import { LPM_TRIE_ROUTINES } from './lpm-trie.ts';
import { LRU_HASH_ROUTINES } from './lru-hash.ts';
import { MAP_OF_MAPS_ROUTINES } from './map-of-maps.ts';
import { PROG_ARRAY_ROUTINES } from './prog-array.ts';
import { QUEUE_ROUTINES } from './queue.ts';
import { RINGBUF_ROUTINES } from './ringbuf.ts';
import { TARGET_ROUTINES } from './target.ts';
import { USER_RINGBUF_ROUTINES } from './user-ringbuf.ts';

type MapOperation = 'lookup' | 'update' | 'delete';

export const MAP_ROUTINES: readonly Routine[] = [
  ...GENERIC_ROUTINES,
  ...ARRAY_ROUTINES,
  ...HASH_ROUTINES,
  ...LRU_HASH_ROUTINES,
  ...LPM_TRIE_ROUTINES,
  ...MAP_OF_MAPS_ROUTINES,
  ...PROG_ARRAY_ROUTINES,
  ...TARGET_ROUTINES,
  ...QUEUE_ROUTINES,
  ...BLOOM_FILTER_ROUTINES,
  ...LOCK_ROUTINES,
  ...FOR_EACH_ROUTINES,
  ...RINGBUF_ROUTINES,
  ...USER_RINGBUF_ROUTINES,
];

const NAMES: ReadonlySet<string> = new Set(MAP_ROUTINES.map(routine => routine.name));

/** Name of the routine that does `operation` on maps of this type: the type's own, or the one that refuses it. */
export function mapRoutine(type: MapType, operation: MapOperation): string {
  const name = `${familyOf(type)}_${operation}`;
  return NAMES.has(name) ? name : `bpf_map_${operation}_elem`;
}
