/**
 * Longest-prefix match. A key is a u32 prefix length in bits, then that many bits of data (and whatever follows) from the
 * first byte's highest bit on.
 *
 * Strategy: no tree but a hash (hash-parts.ts) of prefixes, each with its length and with the bits behind it cleared. A lookup
 * tries the lengths in use from the longest down, so it costs one hash lookup per length in use: few in real tables, and
 * lookups inherit the hash's freedom from locks.
 *
 * The lengths in use are a linked list in descending order, in a table of {u32 next, u32 count}: entry 0 is the list's
 * head, entry L + 1 belongs to length L, `next` is an entry's number, 0 at the end. Entries are linked in by one store and
 * never removed; one whose count is 0 is passed over. Writers hold the map's lock, readers need none.
 *
 * Order on processors that keep less of it than x86-64: an entry is filled before the releasing store that links it in, and its
 * address is computed from the number that the store wrote, which orders the reads of it. A count may be seen before the
 * element that it counts, or after it is gone: the hash answers for itself then (a lookup that misses goes on to the next
 * length), as it would have a moment earlier or later.
 *
 * Behind the hash's key an element has the data as they were given, which iteration shows, as the kernel's does. Unlike the
 * kernel's, it is in no particular order.
 */
import type { Routine } from '../../isa/routine.ts';
import { HashBucket, HashElement, HashLayout, MapHeader } from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { UpdateFlag } from '../map.ts';
import { hashUpdate } from './hash.ts';
import { bucketOf, FILL_KEY, hashWord, LOOKUP_ELEMENT, MISS } from './hash-parts.ts';
import { copyBytes, fail } from './text.ts';

/** Below r10: the prefix as the hash's key, 4 bytes of length and up to 256 of data; the data as given; an update's flags. */
const BUFFER = 528;
const DATA = BUFFER - 4;
/** From the key's start. */
const GIVEN = 264;
const FLAGS = 536;

/** The length of the prefix at r2 to `length`, or to `refused` where it is longer than a key. r9 = bytes of data. Changes r3. */
const prefixLength = (length: string, refused: string): string => `
  ${length} = *(u32 *)(r2 + 0)
  r9 = *(u32 *)(r1 + ${MapHeader.keySize})
  r9 -= 4
  r3 = r9
  r3 <<= 3
  if ${length} > r3 goto ${refused}`;

/** Copies the key at r2 of map r1 to the buffer. Changes r2-r5. */
const COPY_KEY = `
  r3 = r10
  r3 += -${BUFFER}
  r4 = *(u32 *)(r1 + ${MapHeader.keySize})
  ${copyBytes('key', 'r3', 'r2', 'r4', 'r5')}`;

/** Keeps the data of the key in the buffer as they are, before they are cut. Changes r2-r5. */
const KEEP_DATA = `
  r2 = r10
  r2 += -${DATA}
  r3 = r10
  r3 += -${BUFFER - GIVEN}
  r4 = r9
  ${copyBytes('given', 'r3', 'r2', 'r4', 'r5')}`;

/** r0 = where element r3 of map r1 keeps the data as given. r4 = how many bytes. */
const GIVEN_DATA = `
  r4 = *(u32 *)(r1 + ${MapHeader.keySize})
  r0 = r4
  r0 += ${7 + HashElement.key}
  r0 &= -8
  r0 += r3
  r4 -= 4`;

/** The element's key, and the data as given, which the caller has put behind it. */
const FILL = `
  *(u64 *)(r10 - 24) = r2
  ${FILL_KEY}
  ${GIVEN_DATA}
  r2 = *(u64 *)(r10 - 24)
  r2 += ${GIVEN}
  ${copyBytes('given', 'r0', 'r2', 'r4', 'r5')}`;

/** Makes the prefix in the buffer r8 bits long. r9 = number of its bytes that may not be 0 so far, and after. Changes r1-r5. */
const CUT = `
  *(u32 *)(r10 - ${BUFFER}) = w8
  r1 = r8
  r1 >>= 3
  if r1 >= r9 goto cut
  r2 = r10
  r2 += -${DATA}
  r2 += r1
  r3 = r8
  r3 &= 7
  r4 = 255
  r4 >>= r3
  r4 ^= 255
  r5 = *(u8 *)(r2 + 0)
  r5 &= r4
  *(u8 *)(r2 + 0) = w5
  r4 = r1
  r4 += 1
  w5 = 0
cut_byte:
  if r4 >= r9 goto cut_end
  r2 += 1
  r4 += 1
  *(u8 *)(r2 + 0) = w5
  goto cut_byte
cut_end:
  r9 = r1
  r9 += 1
cut:`;

/** `entry` = address of entry number `number` of the table of map r6. Changes r1. */
const entryOf = (entry: string, number: string): string => `
  ${entry} = ${number}
  ${entry} <<= 3
  r1 = *(u64 *)(r6 + ${HashLayout.prefixes})
  ${entry} += r1`;

/** Calls a routine with the buffer as key. */
const callWithKey = (routine: string): string => `
  r1 = r6
  r2 = r10
  r2 += -${BUFFER}
  call routine ${routine}`;

const LOCK = `
lock:
  w3 = 1
  w3 = xchg32_32(r6 + ${MapHeader.lock}, w3)
  if w3 != 0 goto lock`;

/** Changes r1. */
const UNLOCK = `
  w1 = 0
  store_release((u32 *)(r6 + ${MapHeader.lock}), w1)`;

/** Counts one more prefix of length r8. */
const COUNT = `
  r7 = r8
  r7 += 1
  ${entryOf('r5', 'r7')}
  w4 = *(u32 *)(r5 + 4)
  w3 = w4
  w3 += 1
  *(u32 *)(r5 + 4) = w3
  if w4 != 0 goto counted
  r2 = *(u64 *)(r6 + ${HashLayout.prefixes})
find_place:
  w3 = *(u32 *)(r2 + 0)
  if r3 == r7 goto counted
  if r3 < r7 goto place
  ${entryOf('r2', 'r3')}
  goto find_place
place:
  *(u32 *)(r5 + 0) = w3
  store_release((u32 *)(r2 + 0), w7)
counted:`;

/**
 * The lookup for keys of 8 bytes, IPv4 prefixes: the prefix is made and looked for in registers. As the other one below, or to
 * `general` where keys have another size.
 */
const LOOKUP_8 = `
  r3 = *(u32 *)(r1 + ${MapHeader.keySize})
  if r3 != 8 goto general
  r7 = *(u32 *)(r2 + 0)
  if r7 > 32 goto miss
  r8 = *(u32 *)(r2 + 4)
  r8 = be32 r8
  r9 = *(u64 *)(r1 + ${HashLayout.prefixes})
  r6 = r9
next_8:
  r3 = *(u32 *)(r6 + 0)
  if r3 == 0 goto miss
  r6 = r3
  r6 <<= 3
  r6 += r9
  r3 -= 1
  if r3 > r7 goto next_8
  r4 = *(u32 *)(r6 + 4)
  if r4 == 0 goto next_8
  r5 = 32
  r5 -= r3
  r4 = r8
  r4 >>= r5
  r4 <<= r5
  r4 = be32 r4
  r4 <<= 32
  r4 |= r3
  ${hashWord('r4')}
  ${bucketOf('r2')}
again_8:
  w5 = load_acquire((u32 *)(r2 + ${HashBucket.sequence}))
  r3 = r2
chain_8:
  r3 = *(u64 *)(r3 + ${HashElement.next})
  if r3 == 0 goto absent_8
  r0 = *(u64 *)(r3 + ${HashElement.key})
  if r0 != r4 goto chain_8
  r0 = *(u32 *)(r1 + ${HashLayout.valueOffset})
  r0 += r3
  exit
absent_8:
  load_fence
  w3 = *(u32 *)(r2 + ${HashBucket.sequence})
  if w3 == w5 goto next_8
  goto again_8`;

export const LPM_TRIE_ROUTINES: readonly Routine[] = [
  {
    name: 'lpm_trie_lookup',
    text: `
  ${LOOKUP_8}
general:
  r6 = r1
  ${prefixLength('r7', 'miss')}
  ${COPY_KEY}
  r8 = 0
next:
  ${entryOf('r2', 'r8')}
  w8 = *(u32 *)(r2 + 0)
  if r8 == 0 goto miss
  if r8 > r7 goto longer
shorter:
  ${entryOf('r2', 'r8')}
  w3 = *(u32 *)(r2 + 4)
  if w3 == 0 goto next
  r8 -= 1
  ${CUT}
  ${callWithKey('hash_lookup')}
  r8 += 1
  if r0 == 0 goto next
  exit
longer:
  r2 = r7
  r2 += 1
  if r8 == r2 goto shorter
  goto next
miss:
  r0 = 0
  exit`,
  },
  {
    name: 'lpm_trie_update',
    text: `
  if r4 > ${UpdateFlag.exist} goto invalid
  r6 = r1
  r7 = r3
  *(u64 *)(r10 - ${FLAGS}) = r4
  ${prefixLength('r8', 'invalid')}
  ${COPY_KEY}
  ${KEEP_DATA}
  ${CUT}
  ${LOCK}
  ${callWithKey('hash_lookup')}
  r9 = r0
  r3 = r7
  r4 = *(u64 *)(r10 - ${FLAGS})
  ${callWithKey('lpm_trie_store')}
  if r0 != 0 goto failed
  if r9 != 0 goto counted
  ${COUNT}
  ${UNLOCK}
  r0 = 0
  exit
failed:
  ${UNLOCK}
  if r0 != -${ERRNO.E2BIG} goto leave
  r0 = -${ERRNO.ENOSPC}
leave:
  exit
  ${fail('invalid', 'EINVAL')}`,
  },
  {
    name: 'lpm_trie_delete',
    text: `
  r6 = r1
  ${prefixLength('r8', 'invalid')}
  ${COPY_KEY}
  ${CUT}
  ${LOCK}
  ${callWithKey('hash_delete')}
  if r0 != 0 goto leave
  r8 += 1
  ${entryOf('r5', 'r8')}
  w4 = *(u32 *)(r5 + 4)
  w4 -= 1
  *(u32 *)(r5 + 4) = w4
leave:
  ${UNLOCK}
  exit
  ${fail('invalid', 'EINVAL')}`,
  },
  {
    name: 'lpm_trie_next_key',
    text: `
  r6 = r1
  r7 = r3
  if r2 == 0 goto first
  ${prefixLength('r8', 'first')}
  ${COPY_KEY}
  ${CUT}
  r3 = r7
  ${callWithKey('hash_next_key')}
  goto given
first:
  r1 = r6
  r2 = 0
  r3 = r7
  call routine hash_next_key
given:
  if r0 != 0 goto leave
  r1 = r6
  r2 = r7
  call routine lpm_trie_element
  if r0 == 0 goto leave                           ; deleted meanwhile: the key stays as it is
  r1 = r6
  r3 = r0
  ${GIVEN_DATA}
  r7 += 4
  ${copyBytes('given_data', 'r7', 'r0', 'r4', 'r5')}
  r0 = 0
leave:
  exit`,
  },
  { name: 'lpm_trie_store', text: hashUpdate(FILL) },
  {
    // The element of a prefix whose other bits are cleared, 0 where there is none.
    name: 'lpm_trie_element',
    text: `
  ${LOOKUP_ELEMENT}
  r0 = r3
  exit
  ${MISS}`,
  },
];
