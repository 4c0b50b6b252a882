/**
 * Packets on their way through a program: the layouts that JS fills and the trusted routines that walk them.
 *
 * Problem: a native call from JS costs more than a short program; a replay must make one call per batch, and set up
 * and read back contexts as fast as the programs run, the same on every backend.
 * Strategy: JS writes one descriptor per packet; the routine `replay` builds the context, enters the program and
 * records the outcome, packet after packet. `packet_begin` and `packet_end` are routines of their own, because the
 * interpreter backend runs its programs between them from JS.
 * Invariants: between two packets the thread holds no program, slot or map value, so it announces the current epoch
 * there (grace-period.ts) and looks at the stop flags; both happen before the next packet's first read of a slot. The
 * epoch is read again once it is announced, until both agree: its lowest bit is the side that the run enters, and the
 * control thread must not take that side for one that nobody is on (generations.ts).
 */
import type { Routine } from '../isa/routine.ts';
import { ProgramObject, RunContext, RuntimeState, SkBuff, SkbContext, Socket, XdpContext } from '../memory/layout.ts';

/** One per packet, in the arena. All fields little-endian. */
export const Descriptor = {
  /** u64: where to copy the packet from before the run, or 0 if it already lies in its frame. */
  input: 0,
  /** u64: lowest address of the frame (start of its headroom). */
  frame: 8,
  /** u32: bytes of the packet before the run. */
  length: 16,
  /** u32: the packet starts at frame + headroom. */
  headroom: 20,
  /** u32: bytes from `frame` to the end of the tailroom. */
  frameSize: 24,
  /** u32 */
  ifindex: 28,
  /** u64, out: r0. */
  result: 32,
  /** u32, out: start of the packet after the run, relative to `frame`, and its length. */
  outOffset: 40,
  outLength: 44,
  /** u32 ×2, u64 ×2, out: see RunContext.redirect*. */
  redirectKind: 48,
  redirectIfindex: 52,
  redirectMap: 56,
  redirectFlags: 64,
  /** u32, out */
  redirectKey: 72,
  /** u32, out: metadata bytes in front of the packet. */
  metaLength: 76,
  /** u32 */
  rxQueue: 80,
  /** u32, out: clone_redirect calls. */
  cloneCount: 84,
  /** u32 in and out: skb mark. */
  mark: 88,
  /** u64: address of the packet's Socket, 0 for none. */
  socket: 96,
  size: 104,
} as const;

/** How a packet is presented to the program. */
export const PacketKind = { xdp: 0, skb: 1, skbNetwork: 2, raw: 3 } as const;

/** Verdict histogram: counts of r0 = 0..15, then everything else, then TC_ACT_UNSPEC (-1). */
export const HISTOGRAM = { values: 16, other: 16, unspec: 17, slots: 18 } as const;

/** One call of `replay`. */
export const Batch = {
  /** u64: address of the first descriptor. */
  descriptors: 0,
  /** u32 */
  count: 8,
  /** u32: PacketKind */
  kind: 12,
  /** u64: address of the program's object, which has its entries. */
  program: 16,
  /** u64: address of an XdpContext or SkbContext for this thread. */
  context: 24,
  /** u32: passes over all descriptors. */
  repeat: 32,
  /** u32: set to non-zero from JS to stop at the next packet. */
  stop: 36,
  /** u64, out: packets run. */
  done: 40,
  /** struct timespec ×2, out: monotonic time at the first and after the last packet. */
  started: 48,
  ended: 64,
  /** u64 × HISTOGRAM.slots, out. */
  histogram: 80,
  size: 80 + HISTOGRAM.slots * 8,
} as const;

/** skb->ifindex and the like default to this device. */
const ETHERNET_HEADER = 14;

/** Copies r3 bytes from r1 to r2, 32 at a time; may write up to 31 bytes past the end (frames leave room). Uses r0, r4, r5. */
const COPY = `
copy_loop:
  if r3 == 0 goto copied
  r0 = *(u64 *)(r1 + 0)
  r4 = *(u64 *)(r1 + 8)
  *(u64 *)(r2 + 0) = r0
  *(u64 *)(r2 + 8) = r4
  r0 = *(u64 *)(r1 + 16)
  r4 = *(u64 *)(r1 + 24)
  *(u64 *)(r2 + 16) = r0
  *(u64 *)(r2 + 24) = r4
  if r3 <= 32 goto copied
  r1 += 32
  r2 += 32
  r3 -= 32
  goto copy_loop
copied:
`;

/** Members of __sk_buff that tell of the packet's socket, in r1, to the context in r8. Uses r2. */
const SOCKET_MEMBERS = Array.from(
  { length: (SkBuff.localPort + 4 - SkBuff.family) / 4 },
  (_, word) => `
  w2 = *(u32 *)(r1 + ${Socket.skb + 4 * word})
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.family + 4 * word}) = r2`,
).join('');

/** packet_begin(descriptor, kind, context): the context address the program gets in r1. */
const packetBegin: Routine = {
  name: 'packet_begin',
  text: `
  r6 = r1
  r7 = r2
  r8 = r3
  r9 = *(u32 *)(r6 + ${Descriptor.headroom})
  r0 = *(u64 *)(r6 + ${Descriptor.frame})
  r9 += r0                                        ; r9 = first byte of the packet
  r1 = *(u64 *)(r6 + ${Descriptor.input})
  if r1 == 0 goto in_place
  r2 = r9
  r3 = *(u32 *)(r6 + ${Descriptor.length})
${COPY}
in_place:
  ax = run_context
  *(u32 *)(ax + ${RunContext.redirectKind}) = 0
  *(u32 *)(ax + ${RunContext.cloneCount}) = 0
  r1 = *(u32 *)(r6 + ${Descriptor.length})
  r2 = *(u64 *)(r6 + ${Descriptor.frame})
  r3 = *(u32 *)(r6 + ${Descriptor.frameSize})
  r3 += r2                                        ; end of the tailroom
  r4 = r9
  r4 += r1                                        ; end of the packet
  if r7 == ${PacketKind.raw} goto raw
  if r7 != ${PacketKind.xdp} goto skb
  r2 += 40                                        ; the kernel keeps its xdp_frame there,
  r3 -= 320                                       ; and its skb_shared_info here
  *(u64 *)(r8 + ${XdpContext.data}) = r9
  *(u64 *)(r8 + ${XdpContext.dataEnd}) = r4
  *(u64 *)(r8 + ${XdpContext.dataMeta}) = r9
  *(u64 *)(r8 + ${XdpContext.hardStart}) = r2
  *(u64 *)(r8 + ${XdpContext.hardEnd}) = r3
  r5 = *(u32 *)(r6 + ${Descriptor.ifindex})
  *(u32 *)(r8 + ${XdpContext.ingressIfindex}) = r5
  r5 = *(u32 *)(r6 + ${Descriptor.rxQueue})
  *(u32 *)(r8 + ${XdpContext.rxQueueIndex}) = r5
  *(u32 *)(r8 + ${XdpContext.egressIfindex}) = 0
  goto ready
raw:
  *(u64 *)(ax + ${RunContext.rawSize}) = r1
  r8 = 0                                          ; no memory, no address
  if r1 == 0 goto ready
  r8 = r9
  goto ready
skb:
  r5 = r8
  r0 = ${SkbContext.size}
clear:
  *(u64 *)(r5 + 0) = 0
  r5 += 8
  r0 -= 8
  if r0 != 0 goto clear
  *(u64 *)(r8 + ${SkbContext.macHeader}) = r9
  *(u64 *)(r8 + ${SkbContext.hardStart}) = r2
  *(u64 *)(r8 + ${SkbContext.hardEnd}) = r3
  r5 = 0
  if r1 < ${ETHERNET_HEADER} goto no_header
  r5 = *(u16 *)(r9 + 12)
  r0 = r5
  r0 = be16 r0
  if r0 >= 0x600 goto typed
  r5 = 0x0400                                     ; a length, not a type: ETH_P_802_2 in network order
  if r1 < 16 goto typed
  r0 = *(u16 *)(r9 + 14)
  if r0 != 0xffff goto typed
  r5 = 0x0100                                     ; ETH_P_802_3: raw IPX
typed:
  r0 = *(u8 *)(r9 + 0)
  r0 &= 1
  if r0 == 0 goto unicast
  r0 = 2                                          ; PACKET_MULTICAST
  r2 = *(u32 *)(r9 + 0)
  if w2 != -1 goto unicast
  r2 = *(u16 *)(r9 + 4)
  if r2 != 0xffff goto unicast
  r0 = 1                                          ; PACKET_BROADCAST
unicast:
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.pktType}) = r0
  if r7 != ${PacketKind.skbNetwork} goto no_header
  r9 += ${ETHERNET_HEADER}
  r1 -= ${ETHERNET_HEADER}
no_header:
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.protocol}) = r5
  *(u64 *)(r8 + ${SkbContext.data}) = r9
  *(u64 *)(r8 + ${SkbContext.dataEnd}) = r4
  *(u64 *)(r8 + ${SkbContext.dataMeta}) = r9
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.len}) = r1
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.wireLen}) = r1
  r5 = *(u32 *)(r6 + ${Descriptor.ifindex})
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.ifindex}) = r5
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.ingressIfindex}) = r5
  r5 = *(u32 *)(r6 + ${Descriptor.rxQueue})
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.queueMapping}) = r5
  r5 = *(u32 *)(r6 + ${Descriptor.mark})
  *(u32 *)(r8 + ${SkbContext.uapi + SkBuff.mark}) = r5
  r1 = *(u64 *)(r6 + ${Descriptor.socket})
  if r1 != 0 goto socket
ready:
  ax = run_context
  *(u64 *)(ax + ${RunContext.context}) = r8
  r0 = r8
  exit
socket:
  r2 = r1
  r2 += ${Socket.sock}
  *(u64 *)(r8 + ${SkbContext.uapi + SkBuff.sk}) = r2
${SOCKET_MEMBERS}
  goto ready
`,
};

/** packet_end(descriptor, kind, context, r0): writes the outcome back. */
const packetEnd: Routine = {
  name: 'packet_end',
  text: `
  *(u64 *)(r1 + ${Descriptor.result}) = r4
  r5 = *(u64 *)(r1 + ${Descriptor.frame})
  if r2 == ${PacketKind.raw} goto raw
  if r2 != ${PacketKind.xdp} goto skb
  w4 = w4
  *(u64 *)(r1 + ${Descriptor.result}) = r4
  r0 = *(u64 *)(r3 + ${XdpContext.data})
  r4 = *(u64 *)(r3 + ${XdpContext.dataMeta})
  r2 = r0
  r2 -= r4
  if r4 <= r0 goto has_meta                        ; above data: metadata is not supported any more
  r2 = 0
has_meta:
  *(u32 *)(r1 + ${Descriptor.metaLength}) = r2
  r2 = *(u64 *)(r3 + ${XdpContext.dataEnd})
  goto packet
skb:
  w4 = w4
  *(u64 *)(r1 + ${Descriptor.result}) = r4
  r4 = *(u32 *)(r3 + ${SkbContext.uapi + SkBuff.mark})
  *(u32 *)(r1 + ${Descriptor.mark}) = r4
  *(u32 *)(r1 + ${Descriptor.metaLength}) = 0
  r0 = *(u64 *)(r3 + ${SkbContext.data})
  if r2 != ${PacketKind.skbNetwork} goto at_mac
  r0 = *(u64 *)(r3 + ${SkbContext.macHeader})
at_mac:
  r2 = *(u64 *)(r3 + ${SkbContext.dataEnd})
packet:
  r2 -= r0
  *(u32 *)(r1 + ${Descriptor.outLength}) = r2
  r0 -= r5
  *(u32 *)(r1 + ${Descriptor.outOffset}) = r0
  goto record
raw:
  r2 = *(u32 *)(r1 + ${Descriptor.length})
  *(u32 *)(r1 + ${Descriptor.outLength}) = r2
  r2 = *(u32 *)(r1 + ${Descriptor.headroom})
  *(u32 *)(r1 + ${Descriptor.outOffset}) = r2
  *(u32 *)(r1 + ${Descriptor.metaLength}) = 0
record:
  ax = run_context
  r2 = *(u32 *)(ax + ${RunContext.cloneCount})
  *(u32 *)(r1 + ${Descriptor.cloneCount}) = r2
  r2 = *(u32 *)(ax + ${RunContext.redirectKind})
  *(u32 *)(r1 + ${Descriptor.redirectKind}) = r2
  if r2 == 0 goto done
  r2 = *(u32 *)(ax + ${RunContext.redirectIfindex})
  *(u32 *)(r1 + ${Descriptor.redirectIfindex}) = r2
  r2 = *(u64 *)(ax + ${RunContext.redirectMap})
  *(u64 *)(r1 + ${Descriptor.redirectMap}) = r2
  r2 = *(u64 *)(ax + ${RunContext.redirectFlags})
  *(u64 *)(r1 + ${Descriptor.redirectFlags}) = r2
  r2 = *(u32 *)(ax + ${RunContext.redirectKey})
  *(u32 *)(r1 + ${Descriptor.redirectKey}) = r2
done:
  r0 = 0
  exit
`,
};

/** replay(batch): runs all packets of a batch; r0 = 0, or 1 when stopped. Leaves the thread offline. */
const replay: Routine = {
  name: 'replay',
  text: `
  r6 = r1
  r1 = 1                                          ; CLOCK_MONOTONIC
  r2 = r6
  r2 += ${Batch.started}
  call service clock_gettime
pass:
  r1 = *(u32 *)(r6 + ${Batch.repeat})
  if r1 == 0 goto finished
  r1 -= 1
  *(u32 *)(r6 + ${Batch.repeat}) = r1
  r7 = *(u64 *)(r6 + ${Batch.descriptors})
  r8 = *(u32 *)(r6 + ${Batch.count})
next:
  if r8 == 0 goto pass
  ax = run_context
  r1 = *(u64 *)(ax + ${RunContext.runtime})
  r0 = *(u32 *)(r1 + ${RuntimeState.stop})
  if r0 != 0 goto stopped
  r0 = *(u32 *)(r6 + ${Batch.stop})
  if r0 != 0 goto stopped
announce:
  r0 = *(u64 *)(r1 + ${RuntimeState.epoch})
  r2 = *(u64 *)(ax + ${RunContext.epoch})
  if r0 == r2 goto current
  r0 = xchg_64(ax + ${RunContext.epoch}, r0)          ; a full fence: later reads of slots see what came before the epoch
  goto announce
current:
  r9 = r0
  r1 = r7
  r2 = *(u32 *)(r6 + ${Batch.kind})
  r3 = *(u64 *)(r6 + ${Batch.context})
  call routine packet_begin
  r1 = r0
  r9 &= 1
  r9 <<= 3
  r2 = *(u64 *)(r6 + ${Batch.program})
  r2 += r9
  r2 = *(u64 *)(r2 + ${ProgramObject.entries})
  callx r2
  r4 = r0
  r9 = r0
  r1 = r7
  r2 = *(u32 *)(r6 + ${Batch.kind})
  r3 = *(u64 *)(r6 + ${Batch.context})
  call routine packet_end
  r1 = *(u64 *)(r6 + ${Batch.done})
  r1 += 1
  *(u64 *)(r6 + ${Batch.done}) = r1
  r1 = *(u32 *)(r6 + ${Batch.kind})
  if r1 == ${PacketKind.raw} goto count
  w9 = w9
count:
  if r9 < ${HISTOGRAM.values} goto counted
  if w9 == -1 goto unspec
  r9 = ${HISTOGRAM.other}
  goto counted
unspec:
  r9 = ${HISTOGRAM.unspec}
counted:
  r9 <<= 3
  r9 += r6
  r1 = *(u64 *)(r9 + ${Batch.histogram})
  r1 += 1
  *(u64 *)(r9 + ${Batch.histogram}) = r1
  r7 += ${Descriptor.size}
  r8 -= 1
  goto next
stopped:
  r9 = 1
  goto offline
finished:
  r9 = 0
offline:
  r1 = 0
  ax = run_context
  r1 = xchg_64(ax + ${RunContext.epoch}, r1)
  r1 = 1
  r2 = r6
  r2 += ${Batch.ended}
  call service clock_gettime
  r0 = r9
  exit
`,
};

export const BATCH_ROUTINES: readonly Routine[] = [packetBegin, packetEnd, replay];
