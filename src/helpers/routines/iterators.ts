/**
 * Open-coded iterators. A `struct bpf_iter_num` is {i32 current; i32 end}: the next element is current + 1; both are 0 once
 * there is no more, or where there never was. Results of kernel functions are 32 bits wide.
 */
import type { Routine } from '../../isa/routine.ts';
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

export const ITERATOR_ROUTINES: readonly Routine[] = [numNew, numNext, numDestroy];
