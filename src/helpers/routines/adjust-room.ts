/** bpf_skb_adjust_room: room for, or removal of, headers between the MAC header and the payload. */
import type { Routine } from '../../isa/routine.ts';
import { SkbContext, SkbState } from '../../memory/layout.ts';
import { Errno, ETHERNET_HEADER, EtherType, MAX_SKB_LENGTH, Skb } from './shared.ts';

const Room = {
  fixedGso: 1,
  encapIpv4: 2,
  encapIpv6: 4,
  encapGre: 8,
  encapUdp: 16,
  keepChecksum: 32,
  encapEthernet: 64,
  decapIpv4: 128,
  decapIpv6: 256,
  /** Length of an inner L2 header, in the top byte. */
  innerL2Shift: 56,
} as const;
const ENCAP = Room.encapIpv4 | Room.encapIpv6;
const DECAP = Room.decapIpv4 | Room.decapIpv6;
const SHRINK_FLAGS = Room.fixedGso | Room.keepChecksum | DECAP;
const MODE_NET = 0;
const MODE_MAC = 1;
const MAX_ROOM = 0xfff;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

/**
 * skb_adjust_room(skb, difference, mode, flags): room after the MAC header (mode MAC) or after the IP header without
 * options (mode NET). The checks come in the kernel's order, since several can fail at once.
 */
const adjustRoom: Routine = {
  name: 'bpf_skb_adjust_room',
  text: `
  r6 = r1
  r7 = (s32)r2                                    ; difference
  r8 = r4                                         ; flags
  w3 = w3
  r0 = r8
  r0 <<= 8                                        ; all but the top byte
  r0 >>= 17
  if r0 != 0 goto invalid
  r0 = r7
  if r0 s>= 0 goto absolute
  r0 = -r0
absolute:
  if r0 > ${MAX_ROOM} goto fault
  r1 = *(u32 *)(r6 + ${Skb.protocol})
  r9 = ${IPV4_HEADER}                                         ; length that must remain
  if r1 == ${EtherType.ipv4} goto is_ip
  r9 = ${IPV6_HEADER}
  if r1 != ${EtherType.ipv6} goto unsupported
is_ip:
  r2 = *(s32 *)(r6 + ${SkbContext.networkShift})
  r2 += ${ETHERNET_HEADER}                                        ; offset of the room from data
  r4 = *(u64 *)(r6 + ${SkbContext.macHeader})
  r4 += r2
  if r3 == ${MODE_MAC} goto have_offset
  if r3 != ${MODE_NET} goto unsupported
  r2 += r9
have_offset:
  r1 = r8
  r1 &= ${DECAP}
  if r1 == 0 goto lengths
  if r7 s>= 0 goto invalid
  r9 = ${IPV4_HEADER}
  if r1 == ${Room.decapIpv4} goto lengths
  r9 = ${IPV6_HEADER}
  if r1 != ${Room.decapIpv6} goto invalid
lengths:
  r1 = *(u64 *)(r6 + ${SkbContext.dataEnd})
  r1 -= r4
  w1 = w1                                         ; bytes from the network header on
  if r7 s< 0 goto shrink
  r1 = *(u32 *)(r6 + ${Skb.len})
  r1 += r7
  if r1 > ${MAX_SKB_LENGTH} goto unsupported
  r1 = r8
  r1 &= ${ENCAP}
  if r1 == 0 goto push
  if r1 == ${ENCAP} goto invalid
  r1 = r8
  r1 &= ${Room.encapGre | Room.encapUdp}
  if r1 == ${Room.encapGre | Room.encapUdp} goto invalid
  r3 = r8
  r3 >>= ${Room.innerL2Shift}
  r1 = r8
  r1 &= ${Room.encapEthernet}
  if r1 == 0 goto inner_length
  if r3 < ${ETHERNET_HEADER} goto invalid
inner_length:
  r1 = *(u32 *)(r6 + ${SkbContext.state})
  r1 &= ${SkbState.encapsulated}
  if r1 != 0 goto already
  if r3 > r7 goto invalid
push:
  r1 = r6
  r3 = r7
  call routine skb_push_at
  if r0 != 0 goto done
  r1 = r8
  r1 &= ${ENCAP}
  if r1 == 0 goto finish
  r2 = *(u32 *)(r6 + ${SkbContext.state})
  r2 |= ${SkbState.encapsulated}
  *(u32 *)(r6 + ${SkbContext.state}) = r2
  r2 = ${EtherType.ipv4}
  if r1 == ${Room.encapIpv4} goto protocol
  r2 = ${EtherType.ipv6}
  goto protocol
shrink:
  r7 = -r7
  if r7 >= r1 goto unsupported
  r1 -= r7
  if r1 < r9 goto unsupported
  r1 = r8
  r3 = ${SHRINK_FLAGS}
  r3 ^= -1
  r1 &= r3
  if r1 != 0 goto invalid
  r1 = r6
  r3 = r7
  call routine skb_pop_at
  if r0 != 0 goto done
  r1 = r8
  r1 &= ${DECAP}
  if r1 == 0 goto finish
  r2 = ${EtherType.ipv4}
  if r1 == ${Room.decapIpv4} goto protocol
  r2 = ${EtherType.ipv6}
protocol:
  *(u32 *)(r6 + ${Skb.protocol}) = r2
finish:
  r0 = 0
  r8 &= ${Room.keepChecksum}
  if r8 != 0 goto done
  *(u32 *)(r6 + ${SkbContext.checksumLevel}) = 0
done:
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
unsupported:
  r0 = ${Errno.ENOTSUPP}
  exit
already:
  r0 = ${Errno.EALREADY}
  exit
`,
};

export const ADJUST_ROOM_ROUTINES: readonly Routine[] = [adjustRoom];
