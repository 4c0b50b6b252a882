/**
 * Hash and per-CPU hash.
 *
 * Problem: lookups run on all CPUs at once and must be fast, so they take no lock, while other threads insert, replace and
 * delete. Memory for elements is there from the start (nobody allocates here), so one that a reader stands on may be freed and
 * come back with another key, in another bucket or elsewhere in the same one.
 *
 * Strategy: chained buckets, each with a word that is lock and sequence number in one: odd while a writer is in, one up at
 * each entry and exit. A reader notes the word, walks the chain, and believes that a key is absent only if the word has not
 * changed; else it walks again. It never waits for a writer. (The kernel recognises readers that were carried to another
 * bucket by end markers. That leaves a gap: a reader past the head misses a key that is replaced by a new head.)
 *
 * Why that is enough. Invariants of writers, who hold the lock of the bucket:
 * 1. Between entry and exit a writer changes the chain by one store: it links a complete element in, cuts one out, or puts
 *    a new one where the old one of the same key was. Each reader meets the old element or the new.
 * 2. An element that was cut out keeps its `next`, and is filled again only after the exit of the writer that cut it out.
 * So a walk between two equal words overlapped at most one such store and met no recycled element.
 *
 * Order, for processors that keep less of it than x86-64 (there all of this costs nothing):
 * - The lock is taken by an exchange that fetches, which is fully ordered, and given up by a releasing store. So what a
 *   writer does lies between its odd word and its even one for everyone; what an element holds was stored before the
 *   releasing store that links it in.
 * - The first load of the word acquires, so the walk comes after it. A fence for loads stands between the walk and the second
 *   load of the word: if any load of the walk saw a store of a writer, also one that filled an element anew, the second
 *   load sees that writer's odd word or a later one. The taker of a recycled element got it after the word that freed it
 *   (through the lock, or the exchange that pops it off the free list), so invariant 2 holds for all eyes.
 * - Within the walk each load takes its address from the one before: every processor Linux runs on (but Alpha) performs
 *   such loads in order, so an element that is reached has its hash, key, value and `next`.
 * - An element found is not checked against the word again: it may have been freed since. Its value's address depends on
 *   it as well, so a value is never older than its element's publication.
 * A value whose address a lookup gave may be recycled while the program uses it, as in the kernel.
 *
 * Where elements lie. In a large map each line of memory that an operation touches is a cache miss, and one that is found
 * through another waits for it. So a bucket is a line or two, and has room for one element: its home. The first key of a bucket lies
 * there, and a lookup misses once. The others come from the pool, and are linked in behind the home. An element is reached
 * through the bucket's pointer wherever it lies, so that readers know nothing of all this, and what is said above holds.
 *
 * Numbers. An element has a number as long as it is in the map: from 1 to HashLayout.pool, each has one owner. There are
 * exactly as many as elements may be, which is what makes a map full. Number n gives the right to place n of the pool, whether it is
 * used or, where the element is at home, not. Free numbers form a stack threaded through these places. Its head carries a tag
 * that changes with every push and pop, so that a compare-and-swap can't mistake a head that went and came back. Numbers
 * that were never used come from a counter, so that a large map costs no time to make and no memory before it is filled.
 * Invariant 2 for places in the pool: a number is pushed after the exit of the writer that cut its element out. For homes: a
 * home belongs to whoever holds the bucket's lock, and is free where its number is 0. Who cuts its element out clears it, and never fills
 * it again before its exit; so who fills it is a later writer.
 *
 * Updates of an existing key may not overwrite what readers look at. So elements have two values, of which `current` says where
 * the one is that counts: an update fills the other, and then changes `current` by one releasing store. A lookup computes the
 * value's address from it. Elements with large values, and maps with BPF_F_NO_PREALLOC, have only one value and no homes, to
 * save memory: there an update fills the spare element of its CPU, and puts it in the place of the old one, which becomes
 * the spare. Only the thread of a CPU touches its spare. Either way a full map can be updated, and the free list is left alone.
 * (A value is overwritten by the second update after a lookup gave its address, or, with spares, even by the next of
 * the same CPU. The kernel fills a replaced element again as soon.)
 *
 * Per-CPU: the element holds the address of the first CPU's value, which lies at its number; an update writes values in place.
 *
 * Cost: at most 1/2 element in a bucket on average, where buckets are one line or have no home (twice max_entries, rounded up
 * to a power of two), 1 where they are two. Of the keys of a full map with 2^n entries 79 in 100 are then at home, or 63. Keys
 * chosen to collide would make it linear, hence the seed.
 */
import { HashBucket, HashElement, HashLayout, MapHeader, RunContext } from '../../memory/layout.ts';
import type { Errno } from '../errors.ts';
import { copyBytes, copyValue, fail } from './text.ts';

/**
 * Odd, with bits all over. The first is 2^64 divided by the golden ratio. A second one at the end, with a shift between two
 * products, is what keeps keys that differ in few high bits from sharing buckets.
 */
const MULTIPLIER = '0x9e3779b97f4a7c15';
const FINAL_MULTIPLIER = '0xd6e8feb86659fd93';

/** Mixes the word of `type` at `cursor` into r0. Multiplier in r5; changes ax. */
const mix = (type: string, cursor: string): string => `
  ax = *(${type} *)(${cursor} + 0)
  r0 ^= ax
  r0 *= r5
  ax = r0
  ax >>= 32
  r0 ^= ax`;

const mixTail = (bytes: number, type: string, name: string, otherwise: string): string => `
${name}:
  if r4 < ${bytes} goto ${otherwise}
  ${mix(type, 'r3')}
  r3 += ${bytes}
  r4 -= ${bytes}`;

/** r0 = 64-bit hash of the bytes at r2, whose number is in field `size` of map r1. Changes r3, r4, r5, ax. */
export const hash64 = (size: number): string => `
  r0 = *(u64 *)(r1 + ${HashLayout.seed})
  r4 = *(u32 *)(r1 + ${size})
  r5 = ${MULTIPLIER} ll
  r3 = r2
  if r4 == 4 goto hash_4
  ${mixTail(8, 'u64', 'hash_8', 'hash_4')}
  goto hash_8
  ${mixTail(4, 'u32', 'hash_4', 'hash_2')}
  if r4 == 0 goto hash_end
  ${mixTail(2, 'u16', 'hash_2', 'hash_1')}
  ${mixTail(1, 'u8', 'hash_1', 'hash_end')}
hash_end:
  r5 = ${FINAL_MULTIPLIER} ll
  r0 *= r5
  ax = r0
  ax >>= 32
  r0 ^= ax
  r0 *= r5`;

/** r0 = hash (u32) of the key at r2 of map r1. Changes r3, r4, r5, ax. */
export const HASH = `
  ${hash64(MapHeader.keySize)}
  r0 >>= 32`;

/** r0 = the hash that HASH gives a key of 8 bytes, which is in `key`. Changes r5, ax. */
export const hashWord = (key: string): string => `
  r0 = *(u64 *)(r1 + ${HashLayout.seed})
  r5 = ${MULTIPLIER} ll
  r0 ^= ${key}
  r0 *= r5
  ax = r0
  ax >>= 32
  r0 ^= ax
  r5 = ${FINAL_MULTIPLIER} ll
  r0 *= r5
  ax = r0
  ax >>= 32
  r0 ^= ax
  r0 *= r5
  r0 >>= 32`;

/** Bytes of the smallest bucket, log2: HashLayout.bucketMask is for hashes shifted by it. */
const HASH_SHIFT = Math.log2(HashBucket.size);

/** `bucket` = address of the bucket of hash r0. Changes ax. */
export const bucketOf = (bucket: string): string => `
  ${bucket} = r0
  ${bucket} <<= ${HASH_SHIFT}
  ax = *(u64 *)(r1 + ${HashLayout.bucketMask})
  ${bucket} &= ax
  ax = *(u64 *)(r1 + ${HashLayout.buckets})
  ${bucket} += ax`;

const compareStep = (bytes: number, type: string, name: string, otherwise: string): string => `
${name}:
  if r4 < ${bytes} goto ${otherwise}
  r5 = *(${type} *)(r3 + ${HashElement.key})
  ax = *(${type} *)(r2 + 0)
  if r5 != ax goto compare_differ
  r2 += ${bytes}
  r3 += ${bytes}
  r4 -= ${bytes}`;

const COMPARE_RESTORE = `
  ax = *(u32 *)(r1 + ${MapHeader.keySize})
  ax -= r4
  r2 -= ax
  r3 -= ax`;

/** Goes on if element r3 has hash r0 and the key at r2, else to `differ`. Keeps r0-r3; changes r4, r5, ax. */
const compare = (differ: string): string => `
  r4 = *(u32 *)(r3 + ${HashElement.hash})
  if r4 != r0 goto ${differ}
  r4 = *(u32 *)(r1 + ${MapHeader.keySize})
  if r4 == 4 goto compare_4
  ${compareStep(8, 'u64', 'compare_8', 'compare_4')}
  goto compare_8
  ${compareStep(4, 'u32', 'compare_4', 'compare_2')}
  if r4 == 0 goto compare_same
  ${compareStep(2, 'u16', 'compare_2', 'compare_1')}
  ${compareStep(1, 'u8', 'compare_1', 'compare_same')}
  goto compare_same
compare_differ:
  ${COMPARE_RESTORE}
  goto ${differ}
compare_same:
  ${COMPARE_RESTORE}`;

/** Without a lock: r3 = element with the key at r2, or to `absent`. Keeps r0 (hash), r1, r2. Uses 16 bytes of stack from r10-16. */
const find = (absent: string): string => `
  ${bucketOf('r3')}
  *(u64 *)(r10 - 8) = r3
find:
  w4 = load_acquire((u32 *)(r3 + ${HashBucket.sequence}))
  *(u32 *)(r10 - 16) = w4
find_next:
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto find_end
  ${compare('find_next')}
  goto found
find_end:
  load_fence
  r3 = *(u64 *)(r10 - 8)
  w4 = *(u32 *)(r3 + ${HashBucket.sequence})
  w5 = *(u32 *)(r10 - 16)
  if w4 == w5 goto ${absent}
  goto find
found:`;

/** Takes the lock of bucket r9. Keeps r0; changes r3-r5. `name` makes the label unique. */
export const lock = (name: string): string => `
  r4 = r0
${name}:
  w0 = *(u32 *)(r9 + ${HashBucket.sequence})
  if w0 & 1 goto ${name}
  w5 = w0
  w3 = w0
  w3 += 1
  w0 = cmpxchg32_32(r9 + ${HashBucket.sequence}, w0, w3)
  if w0 != w5 goto ${name}
  r0 = r4`;

/** Changes r5. */
export const UNLOCK = `
  w5 = *(u32 *)(r9 + ${HashBucket.sequence})
  w5 += 1
  store_release((u32 *)(r9 + ${HashBucket.sequence}), w5)`;

/** Under the lock of bucket r9: r3 = element, r8 = address of the cell that points to it; or to `absent`. */
export const findLocked = (absent: string): string => `
  r3 = r9
find_next:
  r8 = r3
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto ${absent}
  ${compare('find_next')}`;

/** r3 = address of the element whose number minus one is in r4; changes r4, r5. */
const ELEMENT = `
  r5 = *(u32 *)(r1 + ${MapHeader.stride})
  r3 = *(u64 *)(r1 + ${MapHeader.values})
  r5 *= r4
  r3 += r5`;

/** r4 = the number of an element that nobody has, or to `full`. Changes r0, r3, r5. */
export const take = (full: string): string => `
take:
  r0 = *(u64 *)(r1 + ${HashLayout.freeList})
  w4 = w0
  if r4 == 0 goto take_new
  r4 -= 1
  ${ELEMENT}
  w5 = *(u32 *)(r3 + ${HashElement.number})
  r4 = r0
  r4 >>= 32
  r4 += 1
  r4 <<= 32
  r4 |= r5
  r5 = r0
  r0 = cmpxchg_64(r1 + ${HashLayout.freeList}, r0, r4)
  if r0 != r5 goto take
  w4 = w0
  goto taken
take_new:
  w0 = *(u32 *)(r1 + ${HashLayout.used})
  w4 = *(u32 *)(r1 + ${HashLayout.pool})
  if r0 < r4 goto take_counted
  r0 = *(u64 *)(r1 + ${HashLayout.freeList})
  w0 = w0
  if r0 == 0 goto ${full}
  goto take
take_counted:
  w4 = w0
  w5 = w0
  w5 += 1
  w0 = cmpxchg32_32(r1 + ${HashLayout.used}, w0, w5)
  if w0 != w4 goto take
  r4 += 1
taken:`;

/** r3 = where the new element of bucket r9 with number r4 goes, with its number and what else it has once and for all. Changes r0, r4, r5, ax. */
export const place = (perCpu: boolean): string => {
  const values = `
  r4 = r0
  r4 -= 1
  r5 = *(u32 *)(r1 + ${MapHeader.valueSize})
  r5 += 7
  r5 &= -8
  r5 *= r4
  ax = *(u64 *)(r1 + ${HashLayout.perCpuValues})
  r5 += ax
  ax = *(u32 *)(r1 + ${HashLayout.valueOffset})
  ax += r3
  *(u64 *)(ax + 0) = r5`;
  return `
  r0 = r4
  r3 = r9
  r3 += ${HashBucket.size}
  w4 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  if r4 == ${HashBucket.size} goto place_in_pool
  w4 = *(u32 *)(r3 + ${HashElement.number})
  if w4 == 0 goto placed
place_in_pool:
  r4 = r0
  r4 -= 1
  ${ELEMENT}
placed:
  *(u32 *)(r3 + ${HashElement.number}) = w0
  w4 = *(u32 *)(r1 + ${HashLayout.valueOffset})
  *(u32 *)(r3 + ${HashElement.current}) = w4
  ${perCpu ? values : ''}`;
};

/** w8 = the number of element r3, which was cut out of bucket r9. Its home, if it was there, is free for the next writer. Changes r4, r5. */
export const CUT_OUT = `
  w8 = *(u32 *)(r3 + ${HashElement.number})
  r4 = r3
  r4 -= r9
  w5 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  if r4 >= r5 goto cut_out
  w4 = 0
  *(u32 *)(r3 + ${HashElement.number}) = w4
cut_out:`;

/** Puts number r8 on the free list. Changes r0, r3-r5. */
export const GIVE_BACK = `
  r4 = r8
  r4 -= 1
  ${ELEMENT}
give:
  r0 = *(u64 *)(r1 + ${HashLayout.freeList})
  *(u32 *)(r3 + ${HashElement.number}) = w0
  r4 = r0
  r4 >>= 32
  r4 += 1
  r4 <<= 32
  r4 |= r8
  r5 = r0
  r0 = cmpxchg_64(r1 + ${HashLayout.freeList}, r0, r4)
  if r0 != r5 goto give`;

/** Gives element r3 the hash on the stack and the key at r2 (changed). Changes r0, r4, r5, ax. */
export const FILL_KEY = `
  r4 = *(u64 *)(r10 - 8)
  *(u32 *)(r3 + ${HashElement.hash}) = w4
  r0 = r3
  r0 += ${HashElement.key}
  r4 = *(u32 *)(r1 + ${MapHeader.keySize})
  ${copyBytes('key', 'r0', 'r2', 'r4', 'r5')}`;

/** Links element r3 into bucket r9: at the head, or behind a home that is there unless it is in one itself. Changes r0, r4, r5, ax. */
export const LINK = `
  r4 = r9
  r5 = *(u64 *)(r9 + ${HashBucket.first})
  w0 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  ax = r3
  ax -= r9
  if ax < r0 goto link
  ax = r5
  ax -= r9
  if ax >= r0 goto link
  r4 = r5
  r5 = *(u64 *)(r4 + ${HashElement.next})
link:
  *(u64 *)(r3 + ${HashElement.next}) = r5
  store_release((u64 *)(r4 + ${HashElement.next}), r3)`;

export const unlockAndFail = (label: string, errno: Errno): string => `
${label}:
  ${UNLOCK}
  ${fail(`${label}_unlocked`, errno)}`;

/** r0 = address of the spare's address of this CPU. */
export const SPARE = `
  r0 = run_context
  r0 = *(u32 *)(r0 + ${RunContext.cpu})
  r0 <<= 3
  r0 += r1
  r0 += ${HashLayout.size}`;

/** To r0, the address of the first CPU's value, adds the distance to CPU `cpu`'s (a register, changed). Changes r3. */
export const atCpu = (cpu: string): string => `
  r3 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  ${cpu} *= r3
  r0 += ${cpu}`;

/** Fills the value of element r3 that is not current from r6, and makes it current; or to `one` where there is only one. Changes r0, r4-r6, r8, ax. */
export const replaceValue = (one: string): string => `
  w4 = *(u32 *)(r1 + ${HashLayout.bothValues})
  if r4 == 0 goto ${one}
  r8 = r4
  w4 = *(u32 *)(r3 + ${HashElement.current})
  r8 -= r4
  r0 = r3
  r0 += r8
  ${copyValue('other', 'r0', 'r6', 'r4', 'r5')}
  store_release((u32 *)(r3 + ${HashElement.current}), w8)`;

/** Puts element r3, the spare, where the one at r10-16 is, to which the cell at r8 points; that one becomes the spare. Changes r0, r4, r5. */
export const REPLACE = `
  r4 = *(u64 *)(r10 - 16)
  r5 = *(u64 *)(r4 + ${HashElement.next})
  *(u64 *)(r3 + ${HashElement.next}) = r5
  store_release((u64 *)(r8 + ${HashElement.next}), r3)
  ${SPARE}
  *(u64 *)(r0 + 0) = r4`;

export const MISS = `
miss:
  r0 = 0
  exit`;

/** r3 = element with the key at r2, or to `miss`. */
export const LOOKUP_ELEMENT = `
  ${HASH}
  ${find('miss')}`;

/** r0 = address of the value of element r3, or of the first CPU's value's address. Changes ax. */
export const VALUE = `
  r0 = r3
  ax = *(u32 *)(r3 + ${HashElement.current})
  r0 += ax`;

export const LOOKUP = LOOKUP_ELEMENT + VALUE;

/** Copies the value at r6 into element r3. Changes r0, r4-r6, ax. */
export const COPY_VALUE = `
  r0 = r3
  ax = *(u32 *)(r1 + ${HashLayout.valueOffset})
  r0 += ax
  ${copyValue('value', 'r0', 'r6', 'r4', 'r5')}`;

/** r0 = address of the first CPU's value of element r3. */
const PER_CPU_VALUE = `
  r0 = *(u32 *)(r1 + ${HashLayout.valueOffset})
  r0 += r3
  r0 = *(u64 *)(r0 + 0)`;

/** Fills all CPUs' values of element r3 from r6 on, each rounded up to 8 bytes. Changes r0, r2, r4-r7, ax. */
export const COPY_ALL_CPUS = `
  ${PER_CPU_VALUE}
  ax = *(u32 *)(r1 + ${MapHeader.cpus})
  r7 = r6
all:
  r2 = r0
  r6 = r7
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('value', 'r2', 'r6', 'r4', 'r5')}
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  r4 += 7
  r4 &= -8
  r7 += r4
  r4 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  r0 += r4
  ax -= 1
  if ax != 0 goto all`;

/** Clears all CPUs' values of element r3. Changes r0, r4, r5, ax. */
export const CLEAR_ALL_CPUS = `
  ${PER_CPU_VALUE}
  ax = *(u32 *)(r1 + ${MapHeader.cpus})
clear:
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  r5 = r0
clear_word:
  *(u64 *)(r5 + 0) = 0
  r5 += 8
  if r4 < 9 goto cleared
  r4 -= 8
  goto clear_word
cleared:
  r4 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  r0 += r4
  ax -= 1
  if ax != 0 goto clear`;

/** Copies to this CPU's value of element r3. */
export const COPY_THIS_CPU = `
  ${PER_CPU_VALUE}
  r4 = run_context
  r4 = *(u32 *)(r4 + ${RunContext.cpu})
  r5 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  r4 *= r5
  r0 += r4
  r4 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('value', 'r0', 'r6', 'r4', 'r5')}`;

export const DELETE = `
  ${HASH}
  ${bucketOf('r9')}
  ${lock('lock')}
  ${findLocked('missing')}
  r4 = *(u64 *)(r3 + ${HashElement.next})
  store_release((u64 *)(r8 + ${HashElement.next}), r4)
  ${CUT_OUT}
  ${UNLOCK}
  ${GIVE_BACK}
  r0 = 0
  exit
  ${unlockAndFail('missing', 'ENOENT')}`;

/** Goes to `changed` where bucket r9's word is no longer as it was when it went to r8. Changes r4. */
const unchanged = (changed: string): string => `
  load_fence
  w4 = *(u32 *)(r9 + ${HashBucket.sequence})
  if w4 != w8 goto ${changed}`;

/** Copies the key of element r3 to r6, keeping r6. Changes r0, r3-r5. */
const copyKeyOut = (name: string): string => `
  r0 = r6
  r3 += ${HashElement.key}
  r4 = *(u32 *)(r1 + ${MapHeader.keySize})
  ${copyBytes(name, 'r0', 'r3', 'r4', 'r5')}`;

/** Bucket by bucket; the first key where r2 is null or has no element. A key is given only if its bucket did not change meanwhile. */
export const NEXT_KEY = `
  r6 = r3
  r7 = *(u64 *)(r1 + ${HashLayout.buckets})
  if r2 == 0 goto scan
again:
  ${HASH}
  ${bucketOf('r9')}
  w8 = load_acquire((u32 *)(r9 + ${HashBucket.sequence}))
  r3 = r9
find_next:
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto unknown
  ${compare('find_next')}
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto last
  ${copyKeyOut('sibling')}
  ${unchanged('again')}
  r0 = 0
  exit
unknown:
  ${unchanged('again')}
  goto scan
last:
  ${unchanged('again')}
  r7 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  r7 += r9
scan:
  r4 = *(u64 *)(r1 + ${HashLayout.buckets})
  r5 = r7
  r5 -= r4
  r4 = *(u64 *)(r1 + ${HashLayout.bucketMask})
  if r5 > r4 goto end
  r9 = r7
  r4 = *(u32 *)(r1 + ${HashLayout.bucketStride})
  r7 += r4
first:
  w8 = load_acquire((u32 *)(r9 + ${HashBucket.sequence}))
  r3 = *(u64 *)(r9 + ${HashBucket.first})
  if r3 == 0 goto scan
  ${copyKeyOut('first_key')}
  ${unchanged('first')}
  r0 = 0
  exit
  ${fail('end', 'ENOENT')}`;
