/**
 * Helpers that read, write, lengthen and shorten a socket buffer.
 *
 * Our packets are linear and lie in a frame with head- and tailroom, so "make it writable" is a length check, and
 * what the kernel answers by allocating anew is ENOMEM here once the frame is full. Invariants after each call:
 * hardStart <= data <= dataEnd <= hardEnd; uapi len = dataEnd - data; the network header lies at
 * macHeader + 14 + networkShift.
 */
import type { Routine } from '../../isa/routine.ts';
import { SkBuff, SkbContext, SkbState } from '../../memory/layout.ts';
import { CLEAR_HASH, Errno, MAX_SKB_LENGTH, NETWORK_HEADER, Skb } from './shared.ts';

const Store = { recomputeChecksum: 1, invalidateHash: 2 } as const;

const loadBytes: Routine = {
  name: 'bpf_skb_load_bytes',
  text: `
  w2 = w2
  w4 = w4
  r0 = *(u64 *)(r1 + ${SkbContext.data})
  r5 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r1 = r3
  r3 = r4
  if r2 s> 0x7fffffff goto fault
  r2 += r0
  r0 = r2
  r0 += r3
  if r0 > r5 goto fault
  call routine memory_copy
  r0 = 0
  exit
fault:
  r2 = r3
  call routine memory_zero
  r0 = ${Errno.EFAULT}
  exit
`,
};

const loadBytesRelative: Routine = {
  name: 'bpf_skb_load_bytes_relative',
  text: `
  w2 = w2
  w4 = w4
  w6 = w5
  if r2 > 0xffff goto fault
  if r6 > 1 goto fault
  r5 = *(u64 *)(r1 + ${SkbContext.macHeader})
  if r6 == 0 goto from_header
${NETWORK_HEADER}
from_header:
  r2 += r5
  r0 = r2
  r0 += r4
  r5 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  if r0 > r5 goto fault
  r1 = r3
  r3 = r4
  call routine memory_copy
  r0 = 0
  exit
fault:
  r1 = r3
  r2 = r4
  call routine memory_zero
  r0 = ${Errno.EFAULT}
  exit
`,
};

const storeBytes: Routine = {
  name: 'bpf_skb_store_bytes',
  text: `
  w2 = w2
  w4 = w4
  r0 = r5
  r0 &= -${Store.recomputeChecksum + Store.invalidateHash + 1}
  if r0 != 0 goto invalid
  if r2 s> 0x7fffffff goto fault
  r0 = *(u64 *)(r1 + ${SkbContext.data})
  r2 += r0
  r0 = r2
  r0 += r4
  r6 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  if r0 > r6 goto fault
  r5 &= ${Store.invalidateHash}
  if r5 == 0 goto copy
${CLEAR_HASH}
copy:
  r1 = r2
  r2 = r3
  r3 = r4
  call routine memory_copy
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

/** Nothing to pull into a packet that is linear already; what is left is the length check. */
const pullData: Routine = {
  name: 'bpf_skb_pull_data',
  text: `
  w2 = w2
  r3 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r4 = *(u64 *)(r1 + ${SkbContext.data})
  r3 -= r4
  r0 = 0
  if r2 <= r3 goto done
  r0 = ${Errno.ENOMEM}
done:
  exit
`,
};

const changeTail: Routine = {
  name: 'bpf_skb_change_tail',
  text: `
  w2 = w2
  if r3 != 0 goto invalid
  if r2 > ${MAX_SKB_LENGTH} goto invalid
  r3 = *(u64 *)(r1 + ${SkbContext.data})
${NETWORK_HEADER}
  r5 -= r3                                        ; the packet must reach up to the network header
  r4 = r2
  if r5 s> r4 goto invalid
  r0 = *(u32 *)(r1 + ${SkbContext.state})
  r0 &= ${SkbState.encapsulated}
  if r0 != 0 goto unsupported
  r3 += r2
  r4 = *(u64 *)(r1 + ${SkbContext.hardEnd})
  if r3 > r4 goto no_room
  r4 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  *(u64 *)(r1 + ${SkbContext.dataEnd}) = r3
  *(u32 *)(r1 + ${Skb.len}) = r2
  if r3 <= r4 goto done
  r1 = r4
  r2 = r3
  r2 -= r4
  call routine memory_zero
done:
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
unsupported:
  r0 = ${Errno.ENOTSUPP}
  exit
no_room:
  r0 = ${Errno.ENOMEM}
  exit
`,
};

/** Grows a packet at its very start, for a MAC header of its own. The network header stays where it is. */
const changeHead: Routine = {
  name: 'bpf_skb_change_head',
  text: `
  w2 = w2
  if r3 != 0 goto invalid
  if r2 > 0x7fffffff goto invalid
  r3 = *(u32 *)(r1 + ${Skb.len})
  r3 += r2
  if r3 > ${MAX_SKB_LENGTH} goto invalid
  r4 = *(u64 *)(r1 + ${SkbContext.data})
  r5 = r4
  r5 -= r2
  r0 = *(u64 *)(r1 + ${SkbContext.hardStart})
  if r5 < r0 goto no_room
  *(u32 *)(r1 + ${Skb.len}) = r3
  *(u64 *)(r1 + ${SkbContext.data}) = r5
  *(u64 *)(r1 + ${SkbContext.dataMeta}) = r5
  r3 = *(u64 *)(r1 + ${SkbContext.macHeader})
  *(u64 *)(r1 + ${SkbContext.macHeader}) = r5
  r3 -= r5
  r0 = *(u32 *)(r1 + ${SkbContext.networkShift})
  w0 += w3
  *(u32 *)(r1 + ${SkbContext.networkShift}) = r0
  r1 = r5
  call routine memory_zero
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
no_room:
  r0 = ${Errno.ENOMEM}
  exit
`,
};

/**
 * skb_push_at(skb, offset, length): opens `length` zero bytes at `offset` from data by moving what is in front of
 * them down; MAC and network header move with it. 0, or -ENOMEM if there is no room or no such offset.
 */
const pushAt: Routine = {
  name: 'skb_push_at',
  text: `
  r6 = r1
  r7 = r2
  r8 = r3
  r1 = *(u32 *)(r6 + ${Skb.len})
  if r7 > r1 goto no_room
  r2 = *(u64 *)(r6 + ${SkbContext.data})
  r1 = r2
  r1 -= r8
  r0 = *(u64 *)(r6 + ${SkbContext.hardStart})
  if r1 < r0 goto no_room
  *(u64 *)(r6 + ${SkbContext.data}) = r1
  *(u64 *)(r6 + ${SkbContext.dataMeta}) = r1
  r9 = r1
  r3 = r7
  call routine memory_copy
  r1 = r9
  r1 += r7
  r2 = r8
  call routine memory_zero
  r1 = *(u64 *)(r6 + ${SkbContext.macHeader})
  r1 -= r8
  *(u64 *)(r6 + ${SkbContext.macHeader}) = r1
  r1 = *(u32 *)(r6 + ${Skb.len})
  r1 += r8
  *(u32 *)(r6 + ${Skb.len}) = r1
  r0 = 0
  exit
no_room:
  r0 = ${Errno.ENOMEM}
  exit
`,
};

/** skb_pop_at(skb, offset, length): the reverse: cuts `length` bytes out. 0, or -ENOMEM if they are not all there. */
const popAt: Routine = {
  name: 'skb_pop_at',
  text: `
  r6 = r1
  r8 = r3
  r1 = *(u32 *)(r6 + ${Skb.len})
  r3 += r2
  if r3 > r1 goto short
  r1 -= r8
  *(u32 *)(r6 + ${Skb.len}) = r1
  r3 = r2
  r2 = *(u64 *)(r6 + ${SkbContext.data})
  r1 = r2
  r1 += r8
  *(u64 *)(r6 + ${SkbContext.data}) = r1
  *(u64 *)(r6 + ${SkbContext.dataMeta}) = r1
  call routine memory_move
  r1 = *(u64 *)(r6 + ${SkbContext.macHeader})
  r1 += r8
  *(u64 *)(r6 + ${SkbContext.macHeader}) = r1
  r0 = 0
  exit
short:
  r0 = ${Errno.ENOMEM}
  exit
`,
};

/** Negative bases of legacy packet loads: relative to the network and the link-layer header (uapi linux/filter.h). */
const SKF_NET_OFF = -0x100000;
const SKF_LL_OFF = -0x200000;

/** skb_load_abs_N(skb, offset): the big-endian value at int32 `offset`, or a negative number. For LD_ABS and LD_IND. */
function loadAbsolute(size: 1 | 2 | 4): Routine {
  return {
    name: `skb_load_abs_${size}`,
    text: `
  r2 = (s32)r2
  r3 = *(u64 *)(r1 + ${SkbContext.data})
  if r2 s>= 0 goto based
  if r2 s< ${SKF_NET_OFF} goto link_layer
${NETWORK_HEADER}
  r2 -= ${SKF_NET_OFF}
  r3 = r5
  goto based
link_layer:
  if r2 s< ${SKF_LL_OFF} goto fault
  r3 = *(u64 *)(r1 + ${SkbContext.macHeader})
  r2 -= ${SKF_LL_OFF}
based:
  r2 += r3
  r3 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r4 = r2
  r4 += ${size}
  if r4 > r3 goto fault
  r3 = *(u64 *)(r1 + ${SkbContext.hardStart})
  if r2 < r3 goto fault
  r0 = *(u${size * 8} *)(r2 + 0)${size === 1 ? '' : `\n  r0 = be${size * 8} r0`}
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
`,
  };
}

/** Largest packet type that may be changed, and be changed to: PACKET_OTHERHOST. */
const LAST_TYPE = 3;

const changeType: Routine = {
  name: 'bpf_skb_change_type',
  text: `
  w2 = w2
  w3 = *(u32 *)(r1 + ${SkbContext.uapi + SkBuff.pktType})
  if r3 > ${LAST_TYPE} goto invalid
  if r2 > ${LAST_TYPE} goto invalid
  *(u32 *)(r1 + ${SkbContext.uapi + SkBuff.pktType}) = w2
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

/** No packet here has a route, so none has a realm; the kernel answers 0 then. */
const routeRealm: Routine = { name: 'bpf_get_route_realm', text: '\n  r0 = 0\n  exit\n' };

export const SKB_ROUTINES: readonly Routine[] = [
  changeType,
  routeRealm,
  loadBytes,
  loadBytesRelative,
  storeBytes,
  pullData,
  changeTail,
  changeHead,
  pushAt,
  popAt,
  loadAbsolute(1),
  loadAbsolute(2),
  loadAbsolute(4),
];
