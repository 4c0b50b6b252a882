/**
 * Open-coded iterators. A `struct bpf_iter_num` is {i32 current; i32 end}: the next element is current + 1; both are 0 once
 * there is no more, or where there never was. Results of kernel functions are 32 bits wide.
 *
 * A `struct bpf_iter_bits` is {u64 bits; i32 count; i32 bit}: `bits` is the word itself, or with more than 64 bits the
 * address of the block of IteratorMemory that the words were copied to; `bit` is the one given last. They are read from anywhere in
 * the arena; any other address is -EFAULT for one word and -ERANGE for more, as what is no kernel memory is there.
 */
import type { Routine } from '../../isa/routine.ts';
import { IteratorMemory, RunContext, RuntimeState } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

/** BPF_MAX_LOOPS */
const MAX_NUMBERS = 8 << 20;

const numNew: Routine = {
  name: 'kfunc_bpf_iter_num_new',
  text: `
  r2 = (s32)r2
  r3 = (s32)r3
  *(u64 *)(r1 + 0) = 0
  if r2 s> r3 goto invalid
  r4 = r3
  r4 -= r2
  if r4 > ${MAX_NUMBERS} goto too_many
  r2 -= 1
  *(u32 *)(r1 + 0) = r2
  *(u32 *)(r1 + 4) = r3
  r0 = 0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
too_many:
  w0 = ${Errno.E2BIG}
  exit
`,
};

const numNext: Routine = {
  name: 'kfunc_bpf_iter_num_next',
  text: `
  r2 = *(u32 *)(r1 + 0)
  w2 += 1
  r3 = (s32)r2
  r4 = *(s32 *)(r1 + 4)
  if r3 s>= r4 goto end
  *(u32 *)(r1 + 0) = r2
  r0 = r1
  exit
end:
  *(u64 *)(r1 + 0) = 0
  r0 = 0
  exit
`,
};

const numDestroy: Routine = {
  name: 'kfunc_bpf_iter_num_destroy',
  text: `
  *(u64 *)(r1 + 0) = 0
  r0 = 0
  exit
`,
};

/** BITS_ITER_NR_WORDS_MAX */
const MAX_WORDS = 511;
const Bits = { bits: 0, count: 8, bit: 12 } as const;

/** (iterator, words, number of words) */
const bitsNew: Routine = {
  name: 'kfunc_bpf_iter_bits_new',
  text: `
  w3 = w3
  *(u64 *)(r1 + ${Bits.bits}) = 0
  *(u32 *)(r1 + ${Bits.count}) = 0
  *(u32 *)(r1 + ${Bits.bit}) = -1
  if r2 == 0 goto invalid
  if r3 == 0 goto invalid
  if r3 > ${MAX_WORDS} goto too_many
  r4 = r3
  r4 <<= 3
  r5 = run_context
  r5 = *(u64 *)(r5 + ${RunContext.runtime})
  r0 = *(u64 *)(r5 + ${RuntimeState.arenaStart})
  if r2 < r0 goto outside
  r0 = *(u64 *)(r5 + ${RuntimeState.arenaEnd})
  r0 -= r4
  if r2 > r0 goto outside
  if r3 == 1 goto one
  r5 = run_context
  r5 = *(u64 *)(r5 + ${RunContext.iteratorMemory})
  if r5 == 0 goto no_memory
  r6 = *(u64 *)(r5 + ${IteratorMemory.taken})
  r7 = 1
  r8 = r5
  r8 += ${IteratorMemory.blocks}
search:
  r0 = r6
  r0 &= r7
  if r0 == 0 goto free
  r8 += ${IteratorMemory.blockSize}
  r7 <<= 1
  r0 = r7
  r0 >>= ${IteratorMemory.count}
  if r0 == 0 goto search
no_memory:
  w0 = ${Errno.ENOMEM}
  exit
free:
  r6 |= r7
  *(u64 *)(r5 + ${IteratorMemory.taken}) = r6
  *(u64 *)(r1 + ${Bits.bits}) = r8
copy:
  r4 -= 8
  r0 = r2
  r0 += r4
  r5 = r8
  r5 += r4
  r0 = *(u64 *)(r0 + 0)
  *(u64 *)(r5 + 0) = r0
  if r4 != 0 goto copy
  goto ready
one:
  r0 = *(u64 *)(r2 + 0)
  *(u64 *)(r1 + ${Bits.bits}) = r0
ready:
  r3 <<= 6
  *(u32 *)(r1 + ${Bits.count}) = r3
  r0 = 0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
too_many:
  w0 = ${Errno.E2BIG}
  exit
outside:
  w0 = ${Errno.EFAULT}
  if r3 == 1 goto failed
  w0 = ${Errno.ERANGE}
failed:
  exit
`,
};

/** Text: r2 is raised by `width`, and r5 shifted right by it, if the lowest `width` bits of r5 are all 0. Uses r0. */
const skipZeros = (width: 1 | 2 | 4 | 8 | 16 | 32): string => `
  r0 = r5
  ${width === 32 ? 'w0 = w0' : `r0 &= ${2 ** width - 1}`}
  if r0 != 0 goto below${width}
  r2 += ${width}
  r5 >>= ${width}
below${width}:`;

const bitsNext: Routine = {
  name: 'kfunc_bpf_iter_bits_next',
  text: `
  r2 = *(s32 *)(r1 + ${Bits.bit})
  r3 = *(u32 *)(r1 + ${Bits.count})
  if r3 == 0 goto none
  if r2 s>= r3 goto none
  r2 += 1
  r4 = r1
  if r3 == 64 goto word
  r4 = *(u64 *)(r1 + ${Bits.bits})
word:
  if r2 >= r3 goto end
  r5 = r2
  r5 >>= 6
  r5 <<= 3
  r5 += r4
  r5 = *(u64 *)(r5 + 0)
  r0 = r2
  r0 &= 63
  r5 >>= r0
  if r5 != 0 goto within
  r2 |= 63
  r2 += 1
  goto word
within:${([32, 16, 8, 4, 2, 1] as const).map(skipZeros).join('')}
  *(u32 *)(r1 + ${Bits.bit}) = r2
  r0 = r1
  r0 += ${Bits.bit}
  exit
end:
  *(u32 *)(r1 + ${Bits.bit}) = r3
none:
  r0 = 0
  exit
`,
};

const bitsDestroy: Routine = {
  name: 'kfunc_bpf_iter_bits_destroy',
  text: `
  r0 = 0
  r2 = *(u32 *)(r1 + ${Bits.count})
  if r2 <= 64 goto done
  r2 = run_context
  r2 = *(u64 *)(r2 + ${RunContext.iteratorMemory})
  r3 = *(u64 *)(r1 + ${Bits.bits})
  r3 -= r2
  r3 >>= ${Math.log2(IteratorMemory.blockSize)}
  r4 = 1
  r4 <<= r3
  r5 = *(u64 *)(r2 + ${IteratorMemory.taken})
  r5 ^= r4
  *(u64 *)(r2 + ${IteratorMemory.taken}) = r5
done:
  exit
`,
};

export const ITERATOR_ROUTINES: readonly Routine[] = [numNew, numNext, numDestroy, bitsNew, bitsNext, bitsDestroy];
