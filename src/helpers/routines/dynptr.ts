/**
 * Dynptrs: making them, and every access through them, checked against their bounds. Layout: memory/layout.ts.
 *
 * A dynptr of the packet holds the context's address: the packet may move and shrink under it, so each access looks again. Its
 * own size stays what it was when it was made. Results of kernel functions are 32 bits wide, of helpers 64.
 */
import type { Routine } from '../../isa/routine.ts';
import { Dynptr, DynptrType, SkbContext, XdpContext } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

const MAX_SIZE = Dynptr.sizeMax;
const KIND_SHIFT = 28;
const READ_ONLY = 0x80000000;
/** Farthest that a packet is looked into. */
const MAX_XDP_OFFSET = 0xffff;

/** Text: `register` = kind of the dynptr in `pointer`. */
const kindOf = (register: string, pointer: string): string => `
  ${register} = *(u32 *)(${pointer} + ${Dynptr.size})
  ${register} >>= ${KIND_SHIFT}
  ${register} &= 7`;

/** Text: goes to `label` if the dynptr in `pointer` is null or read-only. Clobbers `register`. */
const unlessWritable = (register: string, pointer: string, label: string): string => `
  ${register} = *(u64 *)(${pointer} + ${Dynptr.data})
  if ${register} == 0 goto ${label}
  ${register} = *(u32 *)(${pointer} + ${Dynptr.size})
  ${register} >>= 31
  if ${register} != 0 goto ${label}`;

/** dynptr_check(dynptr, offset, length): 0, or -E2BIG where that reaches beyond its bounds. Keeps r1-r3, but for their upper halves. */
const check: Routine = {
  name: 'dynptr_check',
  text: `
  w2 = w2
  w3 = w3
  r4 = *(u32 *)(r1 + ${Dynptr.size})
  r4 &= ${MAX_SIZE}
  r0 = ${Errno.E2BIG}
  if r3 > r4 goto done
  r4 -= r3
  if r2 > r4 goto done
  r0 = 0
done:
  exit
`,
};

/** dynptr_range(dynptr, offset, length): address of the bytes, or an error below zero. The dynptr is not null. */
const range: Routine = {
  name: 'dynptr_range',
  text: `
  r6 = r1
  w7 = w2
  w8 = w3
  call routine dynptr_check
  if r0 s< 0 goto done
  r1 = *(u32 *)(r6 + ${Dynptr.offset})
  r7 += r1
  r2 = *(u64 *)(r6 + ${Dynptr.data})
${kindOf('r3', 'r6')}
  if r3 == ${DynptrType.skb} goto skb
  if r3 == ${DynptrType.xdp} goto xdp
  r0 = r2
  r0 += r7
done:
  exit
skb:
  r0 = *(u64 *)(r2 + ${SkbContext.data})
  r1 = *(u64 *)(r2 + ${SkbContext.dataEnd})
  r0 += r7
  r8 += r0
  if r8 > r1 goto fault
  exit
xdp:
  if r7 > ${MAX_XDP_OFFSET} goto fault
  if r8 > ${MAX_XDP_OFFSET} goto fault
  r0 = *(u64 *)(r2 + ${XdpContext.data})
  r1 = *(u64 *)(r2 + ${XdpContext.dataEnd})
  r0 += r7
  r8 += r0
  if r8 > r1 goto invalid
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

const fromMem: Routine = {
  name: 'bpf_dynptr_from_mem',
  text: `
  w2 = w2
  *(u64 *)(r4 + 0) = 0
  *(u64 *)(r4 + 8) = 0
  if r2 > ${MAX_SIZE} goto too_big
  if r3 != 0 goto invalid
  *(u64 *)(r4 + ${Dynptr.data}) = r1
  r2 |= ${DynptrType.local << KIND_SHIFT}
  *(u32 *)(r4 + ${Dynptr.size}) = r2
  r0 = 0
  exit
too_big:
  r0 = ${Errno.E2BIG}
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** (map, size, flags, dynptr): a new record, or the null dynptr. */
const reserve: Routine = {
  name: 'bpf_ringbuf_reserve_dynptr',
  text: `
  r6 = r4
  w7 = w2
  *(u64 *)(r4 + 0) = 0
  *(u64 *)(r4 + 8) = 0
  if r3 != 0 goto invalid
  if r7 > ${MAX_SIZE} goto too_big
  r2 = r7
  call routine bpf_ringbuf_reserve
  if r0 == 0 goto invalid
  *(u64 *)(r6 + ${Dynptr.data}) = r0
  r7 |= ${DynptrType.ringbuf << KIND_SHIFT}
  *(u32 *)(r6 + ${Dynptr.size}) = r7
  r0 = 0
  exit
too_big:
  r0 = ${Errno.E2BIG}
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** (dynptr, flags): gives the record back, if there is one. */
const giveBack = (how: 'submit' | 'discard'): Routine => ({
  name: `bpf_ringbuf_${how}_dynptr`,
  text: `
  r0 = *(u64 *)(r1 + ${Dynptr.data})
  if r0 == 0 goto done
  *(u64 *)(r1 + 0) = 0
  *(u64 *)(r1 + 8) = 0
  r1 = r0
  call routine bpf_ringbuf_${how}
done:
  r0 = 0
  exit
`,
});

/** kfunc(context, flags, dynptr): the whole packet. */
function fromPacket(name: string, type: 'skb' | 'xdp', readOnly: boolean): Routine {
  return {
    name,
    text: `
  *(u64 *)(r3 + 0) = 0
  *(u64 *)(r3 + 8) = 0
  if r2 != 0 goto invalid
  *(u64 *)(r3 + ${Dynptr.data}) = r1
  r2 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r1 = *(u64 *)(r1 + ${XdpContext.data})
  r2 -= r1
  w2 |= ${((DynptrType[type] << KIND_SHIFT) | (readOnly ? READ_ONLY : 0)) >>> 0}
  *(u32 *)(r3 + ${Dynptr.size}) = r2
  r0 = 0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
`,
  };
}

/** (to, length, dynptr, offset, flags). What cannot be read of a socket buffer reads as zeros, as in bpf_skb_load_bytes. */
const read: Routine = {
  name: 'bpf_dynptr_read',
  text: `
  r6 = r1
  w7 = w2
  r8 = r3
  if r5 != 0 goto invalid
  r1 = *(u64 *)(r3 + ${Dynptr.data})
  if r1 == 0 goto invalid
  r1 = r3
  r2 = r4
  r3 = r7
  call routine dynptr_range
  if r0 s< 0 goto failed
  r1 = r6
  r2 = r0
  r3 = r7
  call routine memory_move
  r0 = 0
  exit
failed:
  r9 = r0
  if r0 != ${Errno.EFAULT} goto done
${kindOf('r1', 'r8')}
  if r1 != ${DynptrType.skb} goto done
  r1 = r6
  r2 = r7
  call routine memory_zero
done:
  r0 = r9
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** (dynptr, offset, from, length, flags) */
const write: Routine = {
  name: 'bpf_dynptr_write',
  text: `
  r6 = r1
  w7 = w2
  r8 = r3
  w9 = w4
${unlessWritable('r0', 'r6', 'invalid')}
  *(u64 *)(r10 - 8) = r5
  r2 = r7
  r3 = r9
  call routine dynptr_check
  if r0 s< 0 goto done
  r5 = *(u64 *)(r10 - 8)
${kindOf('r1', 'r6')}
  if r1 == ${DynptrType.skb} goto skb
  if r5 != 0 goto invalid
  r1 = r6
  r2 = r7
  r3 = r9
  call routine dynptr_range
  if r0 s< 0 goto done
  r1 = r0
  r2 = r8
  r3 = r9
  call routine memory_move
  r0 = 0
done:
  exit
skb:
  r1 = *(u64 *)(r6 + ${Dynptr.data})
  r2 = *(u32 *)(r6 + ${Dynptr.offset})
  r2 += r7
  r3 = r8
  r4 = r9
  call routine bpf_skb_store_bytes
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** (dynptr, offset, length): address of the memory, or null. Not for packets. */
const data: Routine = {
  name: 'bpf_dynptr_data',
  text: `
${unlessWritable('r0', 'r1', 'none')}
${kindOf('r0', 'r1')}
  if r0 >= ${DynptrType.skb} goto none
  call routine dynptr_range
  if r0 s< 0 goto none
  exit
none:
  r0 = 0
  exit
`,
};

/** (dynptr, offset, buffer, length): address of the bytes, or null. Packets are in one piece, so the buffer is not needed. */
const slice: Routine = {
  name: 'kfunc_bpf_dynptr_slice',
  text: `
  r0 = *(u64 *)(r1 + ${Dynptr.data})
  if r0 == 0 goto none
  r6 = r1
  r7 = r3
  w8 = w2
  w9 = w4
  r3 = r4
  call routine dynptr_range
  if r0 s< 0 goto failed
  exit
failed:
${kindOf('r1', 'r6')}
  if r1 != ${DynptrType.xdp} goto none
  r1 = r6
  r2 = r8
  r3 = r9
  call routine dynptr_check
  if r0 s< 0 goto none
  r0 = r7                                         ; the frame has become shorter than its dynptr
  exit
none:
  r0 = 0
  exit
`,
};

const sliceWritable: Routine = {
  name: 'kfunc_bpf_dynptr_slice_rdwr',
  text: `
${unlessWritable('r0', 'r1', 'none')}
  call routine kfunc_bpf_dynptr_slice
  exit
none:
  r0 = 0
  exit
`,
};

/** (dynptr, start, end): what is left is [start, end) of what it was. */
const adjust: Routine = {
  name: 'kfunc_bpf_dynptr_adjust',
  text: `
  w2 = w2
  w3 = w3
  r0 = *(u64 *)(r1 + ${Dynptr.data})
  if r0 == 0 goto invalid
  if r2 > r3 goto invalid
  r4 = *(u32 *)(r1 + ${Dynptr.size})
  r5 = r4
  r5 &= ${MAX_SIZE}
  if r3 > r5 goto outside
  r4 -= r5
  r3 -= r2
  r4 += r3
  *(u32 *)(r1 + ${Dynptr.size}) = r4
  r5 = *(u32 *)(r1 + ${Dynptr.offset})
  r5 += r2
  *(u32 *)(r1 + ${Dynptr.offset}) = r5
  r0 = 0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
outside:
  w0 = ${Errno.ERANGE}
  exit
`,
};

const isNull: Routine = {
  name: 'kfunc_bpf_dynptr_is_null',
  text: `
  r1 = *(u64 *)(r1 + ${Dynptr.data})
  r0 = 0
  if r1 != 0 goto done
  r0 = 1
done:
  exit
`,
};

const isReadOnly: Routine = {
  name: 'kfunc_bpf_dynptr_is_rdonly',
  text: `
  r0 = *(u64 *)(r1 + ${Dynptr.data})
  if r0 == 0 goto done
  r0 = *(u32 *)(r1 + ${Dynptr.size})
  r0 >>= 31
done:
  exit
`,
};

const size: Routine = {
  name: 'kfunc_bpf_dynptr_size',
  text: `
  r0 = *(u64 *)(r1 + ${Dynptr.data})
  if r0 == 0 goto invalid
  r0 = *(u32 *)(r1 + ${Dynptr.size})
  r0 &= ${MAX_SIZE}
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
`,
};

/** (dynptr, copy) */
const clone: Routine = {
  name: 'kfunc_bpf_dynptr_clone',
  text: `
  *(u64 *)(r2 + 0) = 0
  *(u64 *)(r2 + 8) = 0
  r3 = *(u64 *)(r1 + ${Dynptr.data})
  if r3 == 0 goto invalid
  *(u64 *)(r2 + 0) = r3
  r3 = *(u64 *)(r1 + 8)
  *(u64 *)(r2 + 8) = r3
  r0 = 0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
`,
};

/** (to, its offset, from, its offset, length) */
const copy: Routine = {
  name: 'kfunc_bpf_dynptr_copy',
  text: `
  r6 = r1
  w7 = w2
  *(u64 *)(r10 - 8) = r3
  *(u64 *)(r10 - 16) = r4
  w9 = w5
  r1 = r3
  r2 = r4
  r3 = 0
  r4 = r9
  call routine kfunc_bpf_dynptr_slice
  r8 = r0
  r1 = r6
  r2 = r7
  r3 = 0
  r4 = r9
  call routine kfunc_bpf_dynptr_slice_rdwr
  if r8 == 0 goto no_source
  if r0 == 0 goto no_target
  r1 = r0
  r2 = r8
  r3 = r9
  call routine memory_move
  r0 = 0
  exit
no_target:
  r1 = r6
  r2 = r7
  r3 = r8
  r4 = r9
  r5 = 0
  call routine bpf_dynptr_write
  goto result
no_source:
  if r0 == 0 goto neither
  r1 = r0
  r2 = r9
  r3 = *(u64 *)(r10 - 8)
  r4 = *(u64 *)(r10 - 16)
  r5 = 0
  call routine bpf_dynptr_read
result:
  w0 = w0
  exit
neither:
  w0 = ${Errno.E2BIG}
  exit
`,
};

/** (dynptr, offset, length, byte) */
const memset: Routine = {
  name: 'kfunc_bpf_dynptr_memset',
  text: `
  r6 = r1
  w7 = w2
  w8 = w3
  r9 = r4
  r3 = 0
  r4 = r8
  call routine kfunc_bpf_dynptr_slice_rdwr
  if r0 == 0 goto failed
  r8 += r0
next:
  if r0 >= r8 goto done
  *(u8 *)(r0 + 0) = r9
  r0 += 1
  goto next
done:
  r0 = 0
  exit
failed:
  r0 = *(u32 *)(r6 + ${Dynptr.size})
  r0 >>= 31
  if r0 != 0 goto invalid
  r1 = r6
  r2 = r7
  r3 = r8
  call routine dynptr_check
  w0 = w0
  exit
invalid:
  w0 = ${Errno.EINVAL}
  exit
`,
};

export const DYNPTR_ROUTINES: readonly Routine[] = [
  check,
  range,
  fromMem,
  reserve,
  giveBack('submit'),
  giveBack('discard'),
  fromPacket('kfunc_bpf_dynptr_from_skb', 'skb', false),
  fromPacket('skb_dynptr_read_only', 'skb', true),
  fromPacket('kfunc_bpf_dynptr_from_xdp', 'xdp', false),
  read,
  write,
  data,
  slice,
  sliceWritable,
  adjust,
  isNull,
  isReadOnly,
  size,
  clone,
  copy,
  memset,
];
