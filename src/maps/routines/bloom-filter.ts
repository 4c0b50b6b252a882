/**
 * Bloom filter. A value is hashed once, to 64 bits; its bits are at h1, h1 + h2, h1 + 2 h2 ... (Kirsch and Mitzenmacher, "Less
 * Hashing, Same Performance", 2006), where the kernel hashes anew for each. So which values are found without having been
 * pushed differs from the kernel; how many does not. Bits are only ever set, each by an atomic or: no lock is needed.
 *
 * Arguments: map, value, flags; 0 or -errno.
 */
import type { Routine } from '../../isa/routine.ts';
import { BloomLayout, MapHeader } from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { hash64 } from './hash-parts.ts';
import { fail } from './text.ts';

/** For each of the value's bits: r3 = address of its word, r4 = the bit in it. Then `step`, which may use r5. */
const eachBit = (step: string): string => `
  ${hash64(MapHeader.valueSize)}
  r6 = r0
  r6 >>= 32
  r6 |= 1
  r7 = *(u32 *)(r1 + ${MapHeader.mask})
  r8 = *(u32 *)(r1 + ${BloomLayout.hashes})
  r9 = *(u64 *)(r1 + ${MapHeader.values})
each:
  r3 = r0
  r3 &= r7
  r5 = r3
  r5 &= 63
  r3 >>= 6
  r3 <<= 3
  r3 += r9
  r4 = 1
  r4 <<= r5
  ${step}
  r0 += r6
  r8 -= 1
  if r8 != 0 goto each
  r0 = 0
  exit`;

export const BLOOM_FILTER_ROUTINES: readonly Routine[] = [
  {
    name: 'bloom_filter_push',
    text: `
  if r3 != 0 goto invalid
  ${eachBit(`
  r5 = *(u64 *)(r3 + 0)
  r5 &= r4
  if r5 != 0 goto set
  lock *(u64 *)(r3 + 0) |= r4
set:`)}
  ${fail('invalid', 'EINVAL')}`,
  },
  {
    name: 'bloom_filter_peek',
    text: `
  ${eachBit(`
  r5 = *(u64 *)(r3 + 0)
  r5 &= r4
  if r5 == 0 goto absent`)}
  ${fail('absent', 'ENOENT')}`,
  },
  { name: 'bloom_filter_pop', text: `\n  r0 = -${ERRNO.EOPNOTSUPP}\n  exit` },
];
