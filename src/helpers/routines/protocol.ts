/** Helpers that look at the network protocol of a socket buffer: translation between IPv4 and IPv6, ECN, time stamps. */
import type { Routine } from '../../isa/routine.ts';
import { SkBuff, SkbContext } from '../../memory/layout.ts';
import { CLEAR_HASH, Errno, ETHERNET_HEADER, EtherType, NETWORK_HEADER, Skb } from './shared.ts';

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const IPV4_TOS = 1;
const IPV4_CHECKSUM = 10;
/** Congestion experienced: both bits of ECN (RFC 3168), the lowest of the traffic class. */
const CE = 3;
/** The same in the first word of an IPv6 header, as a little-endian load gives it: its class starts at bit 4. */
const IPV6_CE = CE << 12;
/** What the checksum gains less the old ECN bits plus one, in network byte order (RFC 1624). */
const CE_GAIN = 0xfbff;
const VLAN_HEADER = 4;
/** The kernel's bound for tags within each other (VLAN_MAX_DEPTH), the last of which it does not look behind. */
const VLAN_DEPTH = 8;
/** Clocks of a time stamp: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI (enum skb_tstamp_type, since Linux 6.10). */
const LAST_CLOCK = 2;

/**
 * skb_change_proto(skb, proto, flags): room for the longer header, or the shorter one's worth cut out, directly behind the MAC
 * header. What the header says is the program's business.
 */
const changeProtocol: Routine = {
  name: 'bpf_skb_change_proto',
  text: `
  r6 = r1
  r2 &= 0xffff
  r7 = r2
  if r3 != 0 goto invalid
  r3 = *(u32 *)(r6 + ${Skb.protocol})
  r2 = *(s32 *)(r6 + ${SkbContext.networkShift})
  r2 += ${ETHERNET_HEADER}
  if r3 == ${EtherType.ipv4} goto longer
  if r3 != ${EtherType.ipv6} goto unsupported
  if r7 != ${EtherType.ipv4} goto unsupported
  r3 = ${IPV6_HEADER - IPV4_HEADER}
  call routine skb_pop_at
  goto moved
longer:
  if r7 != ${EtherType.ipv6} goto unsupported
  r3 = ${IPV6_HEADER - IPV4_HEADER}
  call routine skb_push_at
moved:
  if r0 != 0 goto done
  *(u32 *)(r6 + ${Skb.protocol}) = r7
  r1 = r6
${CLEAR_HASH}
  r0 = 0
done:
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
unsupported:
  r0 = ${Errno.ENOTSUPP}
  exit
`,
};

/** skb_ecn_set_ce(skb): 1 where the packet now says (or said before) that it met congestion, 0 where it can't. */
const ecnSetCe: Routine = {
  name: 'bpf_skb_ecn_set_ce',
  text: `
  r2 = *(u32 *)(r1 + ${Skb.protocol})
  r3 = *(u64 *)(r1 + ${SkbContext.data})
  r4 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  ; tags follow the MAC header; where that has grown, the first is its end
  r6 = *(s32 *)(r1 + ${SkbContext.networkShift})
  if r6 == 0 goto from_ethernet
  r6 -= ${VLAN_HEADER}
from_ethernet:
  r6 += ${ETHERNET_HEADER}
  r6 += r3
  r7 = ${VLAN_DEPTH}
protocol:
  if r2 == ${EtherType.ipv4} goto ipv4
  if r2 == ${EtherType.ipv6} goto ipv6
  if r2 == ${EtherType.vlan} goto tag
  if r2 != ${EtherType.qinq} goto no
tag:
  r8 = r6
  r6 += ${VLAN_HEADER}
  if r6 > r4 goto no
  r7 -= 1
  if r7 == 0 goto no
  r2 = *(u16 *)(r8 + 2)
  goto protocol
ipv4:
  r2 = ${IPV4_HEADER}
  call routine skb_network_header
  if r0 == 0 goto no
  r2 = *(u8 *)(r0 + ${IPV4_TOS})
  r3 = r2
  r3 += 1
  r3 &= ${CE}
  if r3 == 0 goto yes
  if r3 == 1 goto no
  r2 |= ${CE}
  *(u8 *)(r0 + ${IPV4_TOS}) = r2
  r3 <<= 8
  r3 += ${CE_GAIN}
  r2 = *(u16 *)(r0 + ${IPV4_CHECKSUM})
  r2 += r3
  r3 = r2
  r3 >>= 16
  r2 += r3
  *(u16 *)(r0 + ${IPV4_CHECKSUM}) = r2
  goto yes
ipv6:
  r2 = ${IPV6_HEADER}
  call routine skb_network_header
  if r0 == 0 goto no
  r2 = *(u32 *)(r0 + 0)
  r3 = r2
  r3 &= ${IPV6_CE}
  if r3 == 0 goto no
  r2 |= ${IPV6_CE}
  *(u32 *)(r0 + 0) = r2
yes:
  r0 = 1
  exit
no:
  r0 = 0
  exit
`,
};

/** skb_network_header(skb, size): the address of the network header; 0 unless `size` bytes are there, behind it and in all. */
const networkHeader: Routine = {
  name: 'skb_network_header',
  text: `
${NETWORK_HEADER}
  r3 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r4 = *(u64 *)(r1 + ${SkbContext.data})
  r0 = r3
  r0 -= r4
  if r0 < r2 goto short
  r4 = r5
  r4 += r2
  if r4 > r3 goto short
  r0 = r5
  exit
short:
  r0 = 0
  exit
`,
};

const setTimestamp: Routine = {
  name: 'bpf_skb_set_tstamp',
  text: `
  w3 = w3
  r4 = *(u32 *)(r1 + ${Skb.protocol})
  if r4 == ${EtherType.ipv4} goto inet
  if r4 != ${EtherType.ipv6} goto unsupported
inet:
  if r3 > ${LAST_CLOCK} goto invalid
  if r3 == 0 goto set
  if r2 == 0 goto invalid
set:
  *(u64 *)(r1 + ${SkbContext.uapi + SkBuff.tstamp}) = r2
  *(u8 *)(r1 + ${SkbContext.uapi + SkBuff.tstampType}) = r3
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
unsupported:
  r0 = ${Errno.EOPNOTSUPP}
  exit
`,
};

export const PROTOCOL_ROUTINES: readonly Routine[] = [changeProtocol, ecnSetCe, networkHeader, setTimestamp];
