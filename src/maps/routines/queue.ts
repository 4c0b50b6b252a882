/**
 * Queue and stack: one ring of values, filled in the same way, emptied at different ends. As in the kernel all operations
 * take the map's lock, which is held for the copy of one value.
 *
 * Arguments: map, value, flags; 0 or -errno.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, QueueLayout } from '../../memory/layout.ts';
import { UpdateFlag } from '../map.ts';
import { clearBytes, copyBytes, fail, lockMap, unlockMap } from './text.ts';

/** r6 = address of value number r7. Changes r5. */
const SLOT = `
  r6 = *(u32 *)(r1 + ${MapHeader.stride})
  r6 *= r7
  r5 = *(u64 *)(r1 + ${MapHeader.values})
  r6 += r5`;

/** BPF_EXIST: a full ring loses its oldest value for the new one. */
const PUSH = `
  if r3 == ${UpdateFlag.any} goto known
  if r3 != ${UpdateFlag.exist} goto invalid
known:
  ${lockMap('r1')}
  w8 = *(u32 *)(r1 + ${QueueLayout.held})
  w9 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r8 < r9 goto room
  if r3 != ${UpdateFlag.exist} goto full
  goto store
room:
  r8 += 1
  *(u32 *)(r1 + ${QueueLayout.held}) = w8
store:
  w7 = *(u32 *)(r1 + ${QueueLayout.head})
  ${SLOT}
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('copy', 'r6', 'r2', 'r4', 'r5')}
  r7 += 1
  if r7 != r9 goto advanced
  r7 = 0
advanced:
  *(u32 *)(r1 + ${QueueLayout.head}) = w7
  ${unlockMap('r1')}
  r0 = 0
  exit
full:
  ${unlockMap('r1')}
  ${fail('full_unlocked', 'E2BIG')}
  ${fail('invalid', 'EINVAL')}`;

/** Copies a value out, and removes it unless it is only looked at. An empty ring gives zeros and ENOENT. */
function take(end: 'oldest' | 'newest', remove: boolean): string {
  const distance = end === 'oldest' ? 'w8' : '1';
  const removal = `
  r8 -= 1
  *(u32 *)(r1 + ${QueueLayout.held}) = w8
  ${end === 'newest' ? `*(u32 *)(r1 + ${QueueLayout.head}) = w7` : ''}`;
  return `
  ${lockMap('r1')}
  w8 = *(u32 *)(r1 + ${QueueLayout.held})
  if r8 == 0 goto empty
  w7 = *(u32 *)(r1 + ${QueueLayout.head})
  w9 = ${distance}
  if r7 >= r9 goto behind
  w5 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  r7 += r5
behind:
  r7 -= r9
  ${SLOT}
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('copy', 'r2', 'r6', 'r4', 'r5')}
  ${remove ? removal : ''}
  ${unlockMap('r1')}
  r0 = 0
  exit
empty:
  ${unlockMap('r1')}
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${clearBytes('clear', 'r2', 'r4')}
  ${fail('no_value', 'ENOENT')}`;
}

export const QUEUE_ROUTINES: readonly Routine[] = [
  { name: 'queue_push', text: PUSH },
  { name: 'queue_pop', text: take('oldest', true) },
  { name: 'queue_peek', text: take('oldest', false) },
  { name: 'stack_push', text: PUSH },
  { name: 'stack_pop', text: take('newest', true) },
  { name: 'stack_peek', text: take('newest', false) },
];
