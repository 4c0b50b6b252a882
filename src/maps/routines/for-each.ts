/**
 * bpf_for_each_map_elem(map, callback, context, flags): callback(map, key, value, context) for each element, until one gives
 * non-zero. Returns the number of calls.
 *
 * Problem: a callback may delete and update elements, also the one that it is called for, and other threads do the same
 * meanwhile; freed elements come back elsewhere (see hash-parts.ts), so a walk may not simply go on from the last element.
 *
 * Strategy: a bucket's elements are noted on the stack before the first callback of that bucket, by the rules for readers,
 * and each is looked for in the bucket again before its callback. So what is deleted before its turn is not visited, what
 * is inserted meanwhile may or may not be, and an element that a callback replaces is not visited again under its new
 * address. A chain longer than the list (keys made to collide; the expected length is 1) is taken in parts. The next begins
 * behind the last of those noted that is still there, or at the head: what is not behind one of them came later.
 *
 * As in the kernel the key is the element's own memory: one that is deleted and filled anew during its callback changes.
 */
import type { Routine } from '../../isa/routine.ts';
import { HashBucket, HashElement, HashLayout, MapHeader, RunContext, RuntimeState } from '../../memory/layout.ts';
import type { MapType } from '../../object/spec.ts';
import { MAP_TYPE } from '../uapi.ts';
import { fail } from './text.ts';

/** Elements of a bucket that are noted at once. */
const NOTED = 24;
/** Places on the stack of the hash routine, below r10. */
const CONTEXT = 8;
const CALLS = 16;
const BUCKETS_LEFT = 24;
const COUNT = 32;
const START = 40;
const LIST = START + 8 * NOTED;

const ARRAYS: readonly MapType[] = ['array', 'percpu_array'];
const HASHES: readonly MapType[] = ['hash', 'lru_hash'];
const PER_CPU_HASHES: readonly MapType[] = ['percpu_hash', 'lru_percpu_hash'];

/** Leaves to `done` where the runtime asks all runs to end. Changes r0. */
const CHECK_STOP = `
  r0 = run_context
  r0 = *(u64 *)(r0 + ${RunContext.runtime})
  r0 = *(u32 *)(r0 + ${RuntimeState.stop})
  if r0 != 0 goto done`;

/** Adds to r3 the distance of this CPU's value; 0 where values are not per CPU. Map in r6. Changes r0 and r2. */
const AT_THIS_CPU = `
  r0 = run_context
  r0 = *(u32 *)(r0 + ${RunContext.cpu})
  r2 = *(u64 *)(r6 + ${MapHeader.cpuStride})
  r0 *= r2
  r3 += r0`;

const array: Routine = {
  name: 'array_for_each',
  text: `
  r6 = r1
  r7 = r2
  r8 = 0
  *(u64 *)(r10 - ${CONTEXT}) = r3
next:
  r0 = *(u32 *)(r6 + ${MapHeader.maxEntries})
  if r8 >= r0 goto done
  ${CHECK_STOP}
  *(u32 *)(r10 - ${CALLS}) = r8
  r3 = *(u32 *)(r6 + ${MapHeader.stride})
  r3 *= r8
  r0 = *(u64 *)(r6 + ${MapHeader.values})
  r3 += r0
  ${AT_THIS_CPU}
  r8 += 1
  r1 = r6
  r2 = r10
  r2 += -${CALLS}
  r4 = *(u64 *)(r10 - ${CONTEXT})
  r5 = 0
  callx r7
  if r0 == 0 goto next
done:
  r0 = r8
  exit`,
};

/** r1 = address of the place in the list that r9 counts to. Changes r2. */
const PLACE = `
  r1 = r10
  r1 += -${LIST}
  r2 = r9
  r2 <<= 3
  r1 += r2`;
/** r3 = the element noted there. Changes r1 and r2. */
const NOTED_ELEMENT = `
  ${PLACE}
  r3 = *(u64 *)(r1 + 0)`;

/** Looks for element r3 in bucket r8; leaves to `gone` where it is not. Changes r4. */
const findAgain = (name: string, gone: string): string => `
  r4 = r8
${name}:
  r4 = *(u64 *)(r4 + ${HashElement.next})
  if r4 == 0 goto ${gone}
  if r4 != r3 goto ${name}`;

/** Map in r6, callback in r7, bucket in r8; r9 counts through the list. */
const hash = (name: string, value: string): Routine => ({
  name,
  text: `
  r6 = r1
  r7 = r2
  *(u64 *)(r10 - ${CONTEXT}) = r3
  *(u64 *)(r10 - ${CALLS}) = 0
  r0 = *(u32 *)(r6 + ${MapHeader.mask})
  r0 += 1
  *(u64 *)(r10 - ${BUCKETS_LEFT}) = r0
  r8 = *(u64 *)(r6 + ${HashLayout.buckets})
bucket:
  r0 = *(u64 *)(r10 - ${BUCKETS_LEFT})
  if r0 == 0 goto done
  r0 -= 1
  *(u64 *)(r10 - ${BUCKETS_LEFT}) = r0
  r3 = *(u64 *)(r8 + ${HashBucket.first})
  if r3 == 0 goto next_bucket
  r3 = r8
part:
  *(u64 *)(r10 - ${START}) = r3
again:
  r3 = *(u64 *)(r10 - ${START})
  w4 = load_acquire((u32 *)(r8 + ${HashBucket.sequence}))
  r9 = 0
note:
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto noted
  ${PLACE}
  *(u64 *)(r1 + 0) = r3
  r9 += 1
  if r9 != ${NOTED} goto note
noted:
  load_fence
  w0 = *(u32 *)(r8 + ${HashBucket.sequence})
  if w0 != w4 goto again
  *(u64 *)(r10 - ${COUNT}) = r9
  r9 = 0
visit:
  r0 = *(u64 *)(r10 - ${COUNT})
  if r9 >= r0 goto visited
  ${CHECK_STOP}
  ${NOTED_ELEMENT}
  ${findAgain('find', 'skip')}
  r0 = *(u64 *)(r10 - ${CALLS})
  r0 += 1
  *(u64 *)(r10 - ${CALLS}) = r0
  r5 = r3
  r5 += ${HashElement.key}
  r0 = *(u32 *)(r3 + ${HashElement.current})
  r3 += r0
  ${value}
  r1 = r6
  r2 = r5
  r4 = *(u64 *)(r10 - ${CONTEXT})
  r5 = 0
  callx r7
  if r0 != 0 goto done
skip:
  r9 += 1
  goto visit
visited:
  if r9 != ${NOTED} goto next_bucket
last:
  r3 = r8
  if r9 == 0 goto part
  r9 -= 1
  ${NOTED_ELEMENT}
  ${findAgain('find_last', 'last')}
  goto part
next_bucket:
  r0 = *(u32 *)(r6 + ${HashLayout.bucketStride})
  r8 += r0
  goto bucket
done:
  r0 = *(u64 *)(r10 - ${CALLS})
  exit`,
});

const cases = (types: readonly MapType[], label: string): string =>
  types.map(type => `  if r0 == ${MAP_TYPE[type]} goto ${label}`).join('\n');

export const FOR_EACH_ROUTINES: readonly Routine[] = [
  array,
  hash('hash_for_each', ''),
  hash(
    'percpu_hash_for_each',
    `
  r3 = *(u64 *)(r3 + 0)
  ${AT_THIS_CPU}`,
  ),
  {
    name: 'bpf_for_each_map_elem',
    text: `
  if r4 != 0 goto invalid
  r0 = *(u32 *)(r1 + ${MapHeader.type})
${cases(ARRAYS, 'array')}
${cases(HASHES, 'hash')}
${cases(PER_CPU_HASHES, 'percpu_hash')}
${fail('invalid', 'EINVAL')}
array:
  call routine array_for_each
  exit
hash:
  call routine hash_for_each
  exit
percpu_hash:
  call routine percpu_hash_for_each
  exit`,
  },
];
