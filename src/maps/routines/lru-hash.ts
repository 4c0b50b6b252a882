/**
 * LRU hash and per-CPU LRU hash: hashes (see hash-parts.ts) that make room for a new key by evicting an old one.
 *
 * Problem: real LRU order means writing shared lists at every lookup. The kernel approximates it with lists that are
 * rotated in batches.
 *
 * Strategy: second chance, the "clock". A program's lookup marks the element. A thread that finds no free number moves a
 * hand shared by all threads from bucket to bucket, and looks at each element there: from a marked one it takes a mark away, one without
 * is evicted. Its number stays in the hand of the thread that evicted it, so that nobody else can take it. What was used has two
 * marks, what was just inserted one: hashes put it anywhere, maybe right in front of the hand. An eviction takes at most 128
 * marks from used elements and 4 from new ones, so that a full sweep of a large map is never needed. The search holds no lock but,
 * for the moment of cutting out, that of the victim's bucket; so an insertion lets go of its own bucket first, and looks its
 * key up again after.
 *
 * Order on processors that keep less of it than x86-64: what the search reads without a lock (links, marks) may be stale, and
 * carry it to another bucket. It only chooses which element is looked for; under the bucket's lock, taken by a fully ordered
 * exchange, that must be found in the chain. A mark that is lost costs a second chance.
 *
 * Unlike the kernel's, a map holds max_entries elements before it evicts any, and an update of an existing key evicts
 * none. BPF_F_NO_COMMON_LRU (lists per CPU) is accepted and makes no difference. Lookups from user space leave no mark.
 */
import type { Routine } from '../../isa/routine.ts';
import { HashElement, HashLayout, MapHeader, RunContext } from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { UpdateFlag } from '../map.ts';
import {
  atCpu,
  bucketOf,
  CLEAR_ALL_CPUS,
  COPY_ALL_CPUS,
  COPY_THIS_CPU,
  COPY_VALUE,
  CUT_OUT,
  DELETE,
  FILL_KEY,
  findLocked,
  GIVE_BACK,
  HASH,
  LINK,
  LOOKUP_ELEMENT,
  lock,
  MISS,
  NEXT_KEY,
  place,
  REPLACE,
  replaceValue,
  SPARE,
  take,
  UNLOCK,
  VALUE,
} from './hash-parts.ts';
import { fail } from './text.ts';

/** HashElement.referenced: how often the hand passes an element before it evicts it. */
const INSERTED = 1;
const USED = 2;

/** Elements with each mark that the hand passes before it evicts one all the same. */
const PASS_USED = 128;
const PASS_INSERTED = 4;

/** Marks element r3; changes r4. The mark is read first: writing it each time would take the line from other CPUs. */
const MARK = `
  w4 = *(u32 *)(r3 + ${HashElement.referenced})
  if w4 == ${USED} goto marked
  w4 = ${USED}
  *(u32 *)(r3 + ${HashElement.referenced}) = w4
marked:`;

/**
 * r8 = number of an element that was cut out of its bucket, or to `none` after four rounds (all elements change hands all the time).
 * No bucket may be locked. Keeps r1, r2, r6, r7. Uses r10-16, r10-24, r10-40.
 */
const evict = (none: string): string => `
  w8 = *(u32 *)(r1 + ${MapHeader.mask})
  r8 += 1
  r8 <<= 2
  r3 = ${PASS_USED}
  *(u64 *)(r10 - 16) = r3
  r3 = ${PASS_INSERTED}
  *(u64 *)(r10 - 40) = r3
evict_next:
  if r8 == 0 goto ${none}
  r8 -= 1
  w4 = 1
  w4 = atomic_fetch_add((u32 *)(r1 + ${HashLayout.hand}), w4)
  w9 = *(u32 *)(r1 + ${MapHeader.mask})
  r9 &= r4
  w4 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  r9 *= r4
  r4 = *(u64 *)(r1 + ${HashLayout.buckets})
  r9 += r4
  r3 = r9
evict_look:
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto evict_next
  w4 = *(u32 *)(r3 + ${HashElement.referenced})
  if w4 == 0 goto evict_try
  w4 -= 1
  *(u32 *)(r3 + ${HashElement.referenced}) = w4
  if w4 == 0 goto evict_inserted
  r4 = *(u64 *)(r10 - 16)
  if r4 == 0 goto evict_try
  r4 -= 1
  *(u64 *)(r10 - 16) = r4
  goto evict_look
evict_inserted:
  r4 = *(u64 *)(r10 - 40)
  if r4 == 0 goto evict_try
  r4 -= 1
  *(u64 *)(r10 - 40) = r4
  goto evict_look
evict_try:
  *(u64 *)(r10 - 24) = r3
  ${lock('evict_lock')}
  ax = *(u64 *)(r10 - 24)
  r3 = r9
evict_walk:
  r4 = r3
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto evict_gone
  if r3 != ax goto evict_walk
  r5 = *(u64 *)(r3 + ${HashElement.next})
  store_release((u64 *)(r4 + ${HashElement.next}), r5)
  ${CUT_OUT}
  ${UNLOCK}
  goto evicted
evict_gone:
  ${UNLOCK}
  goto evict_next
evicted:`;

interface UpdateParts {
  readonly perCpu: boolean;
  /** What happens to an element that holds the key already: it is in r3, the cell that points to it at r8. Goes to `fill` or `done`. */
  readonly found: string;
  /** Fills the value of element r3; the element is new where r8 is 0. */
  readonly value: string;
  /** Where r8 is not 0. */
  readonly replace: string;
}

/** Result code in r7 from `done` on; the number of the element in the hand of this thread, or 0, at r10-32. */
const update = ({ perCpu, found, value, replace }: UpdateParts): string => `
  if r4 > ${UpdateFlag.exist} goto invalid
  r6 = r3
  r7 = r4
  ${HASH}
  *(u64 *)(r10 - 8) = r0
  r5 = 0
  *(u64 *)(r10 - 32) = r5
again:
  r0 = *(u64 *)(r10 - 8)
  ${bucketOf('r9')}
  ${lock('lock')}
  ${findLocked('absent')}
  if r7 == ${UpdateFlag.noExist} goto exists
  ${found}
absent:
  if r7 == ${UpdateFlag.exist} goto missing
  r8 = 0
  r4 = *(u64 *)(r10 - 32)
  if r4 != 0 goto from_hand
  ${take('full')}
  goto place
from_hand:
  *(u64 *)(r10 - 32) = r8
place:
  ${place(perCpu)}
fill:
  ${FILL_KEY}
value:
  ${value}
  if r8 == 0 goto insert
  w4 = ${USED}
  *(u32 *)(r3 + ${HashElement.referenced}) = w4
  ${replace}
  goto done
insert:
  w4 = ${INSERTED}
  *(u32 *)(r3 + ${HashElement.referenced}) = w4
  ${LINK}
done:
  r7 = 0
leave:
  ${UNLOCK}
  r8 = *(u64 *)(r10 - 32)
  if r8 == 0 goto left
  ${GIVE_BACK}
left:
  r0 = r7
  exit
exists:
  r7 = -${ERRNO.EEXIST}
  goto leave
missing:
  r7 = -${ERRNO.ENOENT}
  goto leave
full:
  ${UNLOCK}
  ${evict('none')}
  *(u64 *)(r10 - 32) = r8
  goto again
${fail('none', 'ENOMEM')}
${fail('invalid', 'EINVAL')}`;

const PLAIN: UpdateParts = {
  perCpu: false,
  found: `
  *(u64 *)(r10 - 16) = r3
  ${replaceValue('spare')}
  w4 = ${USED}
  *(u32 *)(r3 + ${HashElement.referenced}) = w4
  goto done
spare:
  ${SPARE}
  r3 = *(u64 *)(r0 + 0)
  goto fill`,
  value: COPY_VALUE,
  replace: REPLACE,
};

/** Values change in place. A new element's are cleared first where only one CPU's is given. */
const perCpu = (clear: string, copy: string): UpdateParts => ({
  perCpu: true,
  found: '\n  goto value',
  value: `
  ${clear === '' ? '' : `if r8 != 0 goto copy\n  ${clear}`}
copy:
  ${copy}`,
  replace: '',
});

export const LRU_HASH_ROUTINES: readonly Routine[] = [
  { name: 'lru_hash_lookup', text: `${LOOKUP_ELEMENT}\n${MARK}\n${VALUE}\n  exit\n${MISS}` },
  { name: 'lru_hash_update', text: update(PLAIN) },
  { name: 'lru_hash_delete', text: DELETE },
  { name: 'lru_hash_next_key', text: NEXT_KEY },
  {
    name: 'lru_percpu_hash_lookup',
    text: `
  ${LOOKUP_ELEMENT}
  ${MARK}
  ${VALUE}
  r0 = *(u64 *)(r0 + 0)
  r2 = run_context
  r2 = *(u32 *)(r2 + ${RunContext.cpu})
  ${atCpu('r2')}
  exit
  ${MISS}`,
  },
  {
    name: 'lru_percpu_hash_lookup_percpu',
    text: `
  r4 = *(u32 *)(r1 + ${MapHeader.cpus})
  if r3 >= r4 goto miss
  r6 = r3
  ${LOOKUP_ELEMENT}
  ${MARK}
  ${VALUE}
  r0 = *(u64 *)(r0 + 0)
  ${atCpu('r6')}
  exit
  ${MISS}`,
  },
  { name: 'lru_percpu_hash_update', text: update(perCpu(CLEAR_ALL_CPUS, COPY_THIS_CPU)) },
  { name: 'lru_percpu_hash_update_percpu', text: update(perCpu('', COPY_ALL_CPUS)) },
  { name: 'lru_percpu_hash_delete', text: DELETE },
  { name: 'lru_percpu_hash_next_key', text: NEXT_KEY },
];
