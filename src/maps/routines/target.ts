/**
 * Arrays of what packets and samples can be sent to: devmap, cpumap, xskmap, perf event array. Programs only look entries
 * up; one whose first word is 0 is empty.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader } from '../../memory/layout.ts';

export const TARGET_ROUTINES: readonly Routine[] = [
  {
    name: 'target_lookup',
    text: `
  r2 = *(u32 *)(r2 + 0)
  r0 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r2 >= r0 goto miss
  r2 <<= 3
  r0 = *(u64 *)(r1 + ${MapHeader.values})
  r0 += r2
  r1 = *(u32 *)(r0 + 0)
  if r1 != 0 goto found
miss:
  r0 = 0
found:
  exit`,
  },
];
