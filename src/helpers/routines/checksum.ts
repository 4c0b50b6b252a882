/**
 * Internet checksums (RFC 1071, RFC 1624), bit for bit as the kernel computes them: all ones and all zeros both mean
 * zero, and programs store what they get, so the representation matters and the order of the steps is the kernel's.
 *
 * Packets here carry no partial checksum and no device-computed one (CHECKSUM_NONE, or CHECKSUM_UNNECESSARY after
 * bpf_csum_level), so a pseudo-header flag changes nothing.
 */
import type { Routine } from '../../isa/routine.ts';
import { SkbContext } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

const HEADER_FIELD = 0xf;
const MANGLED_ZERO = 0x20;
const ENFORCE = 0x40;
/** Field size, pseudo header, mangled zero, enforce, IPv6. */
const L4_FLAGS = 0xff;

/** checksum_sum(at, length, sum): one's complement sum of 32-bit words, `length` a multiple of 4, folded to 32 bits. */
const checksumSum: Routine = {
  name: 'checksum_sum',
  text: `
  w0 = w3
blocks:
  if r2 < 16 goto words
  r3 = *(u32 *)(r1 + 0)
  r4 = *(u32 *)(r1 + 4)
  r5 = *(u32 *)(r1 + 8)
  r0 += r3
  r0 += r4
  r3 = *(u32 *)(r1 + 12)
  r0 += r5
  r0 += r3
  r1 += 16
  r2 -= 16
  goto blocks
words:
  if r2 == 0 goto fold
  r3 = *(u32 *)(r1 + 0)
  r0 += r3
  r1 += 4
  r2 -= 4
  goto words
fold:
  ; the length is below 4 GiB, so 64 bits hold the sum of all words; folding twice absorbs the last carry
  r1 = r0
  r1 >>= 32
  w0 = w0
  r0 += r1
  r1 = r0
  r1 >>= 32
  w0 += w1
  exit
`,
};

/**
 * csum_diff(from, from_size, to, to_size, seed): sum(to) - sum(from) + seed, folded to 16 bits as since Linux 6.13
 * (before, the result's upper half depended on the architecture).
 */
const csumDiff: Routine = {
  name: 'bpf_csum_diff',
  text: `
  w2 = w2
  w4 = w4
  w9 = w5
  r0 = r2
  r0 |= r4
  r0 &= 3
  if r0 != 0 goto invalid
  r6 = r3
  r7 = r4
  r0 = r9
  if r2 == 0 goto to
  if r7 == 0 goto only_from
  r3 = 0
  call routine checksum_sum
  w8 = w0
  w8 ^= -1
  r1 = r6
  r2 = r7
  r3 = r9
  call routine checksum_sum
  r0 += r8                                        ; to + ~from, with the carry brought around
  r1 = r0
  r1 >>= 32
  w0 += w1
  goto fold
only_from:
  w3 = w9
  w3 ^= -1
  call routine checksum_sum
  w0 ^= -1
  goto fold
to:
  if r7 == 0 goto fold
  r1 = r6
  r2 = r7
  r3 = r9
  call routine checksum_sum
fold:
  w1 = w0
  w1 >>= 16
  w2 = w0
  w2 <<= 16
  w1 |= w2
  w0 += w1
  w0 >>= 16
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** checksum_field(skb, offset): address of the 16-bit checksum at `offset` from data, or 0 if it is not all there. */
const checksumField: Routine = {
  name: 'checksum_field',
  text: `
  w2 = w2
  r0 = 0
  if r2 > 0xffff goto done
  r3 = r2
  r3 &= 1
  if r3 != 0 goto done
  r3 = *(u64 *)(r1 + ${SkbContext.data})
  r4 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r3 += r2
  r2 = r3
  r2 += 2
  if r2 > r4 goto done
  r0 = r3
done:
  exit
`,
};

/** checksum_finish(sum, addend): 32-bit one's complement sum folded to 16 bits and inverted: what goes into a header. */
const checksumFinish: Routine = {
  name: 'checksum_finish',
  text: `
  w1 = w1
  w2 = w2
  r1 += r2
  r2 = r1
  r2 >>= 32
  w1 += w2                                        ; csum_add
  w2 = w1
  w2 >>= 16
  w1 &= 0xffff
  w1 += w2
  w2 = w1
  w2 >>= 16
  w1 += w2
  w1 ^= -1
  w1 &= 0xffff
  w0 = w1
  exit
`,
};

/** checksum_replace4(field, from, to): 32-bit old and new content. */
const checksumReplace4: Routine = {
  name: 'checksum_replace4',
  text: `
  r6 = r1
  r1 = *(u16 *)(r6 + 0)
  w1 ^= -1
  w2 ^= -1
  w1 = w1
  w2 = w2
  r1 += r2                                        ; csum_sub(~sum, from)
  r2 = r1
  r2 >>= 32
  w1 += w2
  w2 = w3
  call routine checksum_finish
  *(u16 *)(r6 + 0) = r0
  exit
`,
};

const l3Replace: Routine = {
  name: 'bpf_l3_csum_replace',
  text: `
  r6 = r3
  r7 = r4
  r8 = r5
  r9 = r5
  r9 &= -${HEADER_FIELD + 1}
  if r9 != 0 goto invalid
  call routine checksum_field
  if r0 == 0 goto fault
  if r8 == 0 goto by_difference
  if r8 == 2 goto two
  if r8 != 4 goto invalid
  r1 = r0
  r2 = r6
  r3 = r7
  call routine checksum_replace4
  r0 = 0
  exit
two:
  ; ~(~sum - from + to) in 16 bits, each step with its carry brought around
  r1 = *(u16 *)(r0 + 0)
  w1 ^= 0xffff
  w6 ^= -1
  w6 &= 0xffff
  w1 += w6
  w2 = w1
  w2 >>= 16
  w1 += w2
  w1 &= 0xffff
  w7 &= 0xffff
  w1 += w7
  w2 = w1
  w2 >>= 16
  w1 += w2
  w1 ^= -1
  *(u16 *)(r0 + 0) = r1
  r0 = 0
  exit
by_difference:
  if r6 != 0 goto invalid
  r6 = r0
  r2 = *(u16 *)(r6 + 0)
  w2 ^= -1
  r1 = r7
  call routine checksum_finish
  *(u16 *)(r6 + 0) = r0
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
`,
};

const l4Replace: Routine = {
  name: 'bpf_l4_csum_replace',
  text: `
  r6 = r3
  r7 = r4
  r8 = r5
  r9 = r5
  r9 &= -${L4_FLAGS + 1}
  if r9 != 0 goto invalid
  call routine checksum_field
  if r0 == 0 goto fault
  r9 = r0
  r1 = r8
  r1 &= ${MANGLED_ZERO | ENFORCE}
  if r1 != ${MANGLED_ZERO} goto replace
  r1 = *(u16 *)(r9 + 0)
  if r1 == 0 goto done                            ; UDP without a checksum stays without
replace:
  r1 = r8
  r1 &= ${HEADER_FIELD}
  if r1 == 4 goto four
  if r1 == 2 goto two
  if r1 != 0 goto invalid
  if r6 != 0 goto invalid
  r2 = *(u16 *)(r9 + 0)
  w2 ^= -1
  r1 = r7
  call routine checksum_finish
  *(u16 *)(r9 + 0) = r0
  goto mangle
two:
  r6 &= 0xffff
  r7 &= 0xffff
four:
  r1 = r9
  r2 = r6
  r3 = r7
  call routine checksum_replace4
mangle:
  r8 &= ${MANGLED_ZERO}
  if r8 == 0 goto done
  r1 = *(u16 *)(r9 + 0)
  if r1 != 0 goto done
  r1 = 0xffff
  *(u16 *)(r9 + 0) = r1
done:
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
`,
};

/** Only for packets whose device summed them whole (CHECKSUM_COMPLETE), which ours never are. */
const csumUpdate: Routine = {
  name: 'bpf_csum_update',
  text: `
  r0 = ${Errno.ENOTSUPP}
  exit
`,
};

const Level = { query: 0, increase: 1, decrease: 2, reset: 3 } as const;
/** SKB_MAX_CSUM_LEVEL is 3; the field holds one more than the level. */
const HIGHEST_LEVEL = 4;

const csumLevel: Routine = {
  name: 'bpf_csum_level',
  text: `
  r3 = *(u32 *)(r1 + ${SkbContext.checksumLevel})
  r0 = 0
  if r2 == ${Level.query} goto query
  if r2 == ${Level.increase} goto increase
  if r2 == ${Level.decrease} goto decrease
  if r2 == ${Level.reset} goto reset
  r0 = ${Errno.EINVAL}
  exit
query:
  r0 = ${Errno.EACCES}
  if r3 == 0 goto done
  r0 = r3
  r0 -= 1
  exit
increase:
  if r3 >= ${HIGHEST_LEVEL} goto done
  r3 += 1
  *(u32 *)(r1 + ${SkbContext.checksumLevel}) = r3
  exit
decrease:
  if r3 == 0 goto done
  r3 -= 1
  *(u32 *)(r1 + ${SkbContext.checksumLevel}) = r3
  exit
reset:
  *(u32 *)(r1 + ${SkbContext.checksumLevel}) = 0
done:
  exit
`,
};

export const CHECKSUM_ROUTINES: readonly Routine[] = [
  checksumSum,
  csumDiff,
  checksumField,
  checksumFinish,
  checksumReplace4,
  l3Replace,
  l4Replace,
  csumUpdate,
  csumLevel,
];
