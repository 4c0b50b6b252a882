/** What programs can do with maps of maps: look an inner map up. The value is its object's address, 0 for an empty entry of an array. */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader } from '../../memory/layout.ts';
import { LOOKUP, MISS } from './hash-parts.ts';

export const MAP_OF_MAPS_ROUTINES: readonly Routine[] = [
  {
    name: 'array_of_maps_lookup',
    text: `
  r2 = *(u32 *)(r2 + 0)
  r0 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r2 >= r0 goto miss
  r2 <<= 3
  r0 = *(u64 *)(r1 + ${MapHeader.values})
  r0 += r2
  r0 = *(u64 *)(r0 + 0)
  exit
  ${MISS}`,
  },
  { name: 'hash_of_maps_lookup', text: `${LOOKUP}\n  r0 = *(u64 *)(r0 + 0)\n  exit\n${MISS}` },
];
