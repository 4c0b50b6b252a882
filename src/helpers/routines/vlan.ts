/** VLAN tags (IEEE 802.1Q and 802.1ad) pushed and popped as Linux does: the outermost lives beside the packet. */
import type { Routine } from '../../isa/routine.ts';
import { SkbContext } from '../../memory/layout.ts';
import { Errno, ETHERNET_HEADER, EtherType, Skb } from './shared.ts';

/** Bytes of a VLAN tag, and where it sits: between the addresses and the ethertype. */
const TAG = 4;
const ADDRESSES = 12;
/** Ethertypes below are lengths (IEEE 802.3): 1536 as a number. */
const FIRST_ETHERTYPE = 0x600;
const EtherLength = { raw: 0x0100, llc: 0x0400 } as const;

/**
 * skb_vlan_push(skb, proto, tci): the new tag goes beside the packet (as a network card keeps it); one that is there
 * already moves into the packet.
 */
const vlanPush: Routine = {
  name: 'bpf_skb_vlan_push',
  text: `
  r6 = r1
  r7 = r2
  r7 &= 0xffff
  r8 = r3
  r8 &= 0xffff
  if r7 == ${EtherType.vlan} goto protocol_ok
  if r7 == ${EtherType.qinq} goto protocol_ok
  r7 = ${EtherType.vlan}
protocol_ok:
  r1 = *(u32 *)(r6 + ${Skb.vlanPresent})
  if r1 == 0 goto put
  r1 = r6
  r2 = ${ADDRESSES}
  r3 = ${TAG}
  call routine skb_push_at
  if r0 != 0 goto done
  r1 = *(u64 *)(r6 + ${SkbContext.data})
  r2 = *(u32 *)(r6 + ${Skb.vlanProto})
  *(u16 *)(r1 + ${ADDRESSES}) = r2
  *(u32 *)(r6 + ${Skb.protocol}) = r2
  r2 = *(u32 *)(r6 + ${Skb.vlanTci})
  r2 = be16 r2
  *(u16 *)(r1 + ${ADDRESSES + 2}) = r2
put:
  *(u32 *)(r6 + ${Skb.vlanPresent}) = 1
  *(u32 *)(r6 + ${Skb.vlanProto}) = r7
  *(u32 *)(r6 + ${SkbContext.vlanProto}) = r7
  *(u32 *)(r6 + ${Skb.vlanTci}) = r8
  r0 = 0
done:
  exit
`,
};

/** skb_vlan_untag(skb): takes the outermost tag out of the packet; r0 = its TCI, or -ENOMEM. */
const vlanUntag: Routine = {
  name: 'skb_vlan_untag',
  text: `
  r6 = r1
  r1 = *(u32 *)(r6 + ${Skb.len})
  if r1 < ${ETHERNET_HEADER + TAG} goto short
  r1 = *(u64 *)(r6 + ${SkbContext.data})
  r7 = *(u16 *)(r1 + ${ADDRESSES + 2})
  r7 = be16 r7
  r2 = *(u16 *)(r1 + ${ADDRESSES + 4})
  r3 = r2
  r3 = be16 r3
  if r3 >= ${FIRST_ETHERTYPE} goto protocol
  r2 = ${EtherLength.llc}
  r3 = *(u32 *)(r6 + ${Skb.len})
  if r3 < ${ETHERNET_HEADER + TAG + 2} goto protocol
  r3 = *(u16 *)(r1 + ${ADDRESSES + 6})
  if r3 != 0xffff goto protocol
  r2 = ${EtherLength.raw}
protocol:
  *(u32 *)(r6 + ${Skb.protocol}) = r2
  r1 = r6
  r2 = ${ADDRESSES}
  r3 = ${TAG}
  call routine skb_pop_at
  ; the network header stayed in place while the MAC header came nearer, but never nearer than 14 bytes
  r1 = *(s32 *)(r6 + ${SkbContext.networkShift})
  r1 -= ${TAG}
  if r1 s>= 0 goto shift
  r1 = 0
shift:
  *(u32 *)(r6 + ${SkbContext.networkShift}) = r1
  r0 = r7
  exit
short:
  r0 = ${Errno.ENOMEM}
  exit
`,
};

const vlanPop: Routine = {
  name: 'bpf_skb_vlan_pop',
  text: `
  r6 = r1
  r1 = *(u32 *)(r6 + ${Skb.vlanPresent})
  if r1 == 0 goto in_packet
  *(u32 *)(r6 + ${Skb.vlanPresent}) = 0
  *(u32 *)(r6 + ${Skb.vlanTci}) = 0
  *(u32 *)(r6 + ${Skb.vlanProto}) = 0
  *(u32 *)(r6 + ${SkbContext.vlanProto}) = 0
  goto next
in_packet:
  r1 = *(u32 *)(r6 + ${Skb.protocol})
  if r1 == ${EtherType.vlan} goto untag
  if r1 != ${EtherType.qinq} goto done
untag:
  r1 = r6
  call routine skb_vlan_untag
  if r0 s< 0 goto failed
next:
  ; a tag that is now the outermost moves beside the packet
  r7 = *(u32 *)(r6 + ${Skb.protocol})
  if r7 == ${EtherType.vlan} goto lift
  if r7 != ${EtherType.qinq} goto done
lift:
  r1 = r6
  call routine skb_vlan_untag
  if r0 s< 0 goto failed
  *(u32 *)(r6 + ${Skb.vlanPresent}) = 1
  *(u32 *)(r6 + ${Skb.vlanTci}) = r0
  *(u32 *)(r6 + ${Skb.vlanProto}) = r7
  *(u32 *)(r6 + ${SkbContext.vlanProto}) = r7
done:
  r0 = 0
failed:
  exit
`,
};

export const VLAN_ROUTINES: readonly Routine[] = [vlanPush, vlanUntag, vlanPop];
