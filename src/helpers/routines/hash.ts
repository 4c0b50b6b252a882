/**
 * The flow hash of a packet. The kernel's is keyed with a secret drawn at boot, so its values mean nothing outside
 * one machine; what programs rely on is kept: equal for all packets of a flow in both directions, spread over 32
 * bits, never 0, and remembered until a helper forgets it.
 */
import type { Routine } from '../../isa/routine.ts';
import { SkbContext, SkbState } from '../../memory/layout.ts';
import { CLEAR_HASH, EtherType, NETWORK_HEADER, Skb } from './shared.ts';

/** Multiplier of the mixing steps: 2^64 divided by the golden ratio, odd. */
const GOLDEN = '0x9e3779b97f4a7c15';
const Protocol = { tcp: 6, udp: 17, sctp: 132 } as const;
/** Mask of "more fragments" and the fragment offset, as a little-endian load of the field gives it. */
const FRAGMENT = 0xff3f;

/** Text: mixes what `value` holds into r8, given the multiplier in r9. */
const mix = (value: string): string => `
  r8 ^= ${value}
  r8 *= r9
  r0 = r8
  r0 >>= 32
  r8 ^= r0`;

/**
 * skb_flow_hash(skb): mixes protocol, addresses and (unless a fragment) ports. Addresses and ports go in as sum and
 * exclusive or of the two sides, so the direction does not matter. A header that is cut off is left out.
 */
const flowHash: Routine = {
  name: 'skb_flow_hash',
  text: `
  r9 = ${GOLDEN} ll
  r8 = 0
  r2 = *(u64 *)(r1 + ${SkbContext.dataEnd})
  r3 = *(u32 *)(r1 + ${Skb.protocol})
${NETWORK_HEADER}
  r4 = 2                                          ; tags to look behind
tags:
  if r3 == ${EtherType.vlan} goto tag
  if r3 != ${EtherType.qinq} goto network
tag:
  if r4 == 0 goto network
  r4 -= 1
  r0 = r5
  r0 += 4
  if r0 > r2 goto network
  r3 = *(u16 *)(r5 + 2)
  r5 = r0
  goto tags
network:
${mix('r3')}
  if r3 == ${EtherType.ipv4} goto ipv4
  if r3 == ${EtherType.ipv6} goto ipv6
  goto finish
ipv4:
  r0 = r5
  r0 += 20
  if r0 > r2 goto finish
  r3 = *(u32 *)(r5 + 12)
  r4 = *(u32 *)(r5 + 16)
  r6 = r3
  r6 += r4
  r3 ^= r4
${mix('r6')}
${mix('r3')}
  r3 = *(u8 *)(r5 + 9)
  r4 = *(u16 *)(r5 + 6)
  r6 = *(u8 *)(r5 + 0)
  r6 &= 15
  r6 <<= 2
  r5 += r6
  r4 &= ${FRAGMENT}
  if r4 != 0 goto protocol
  goto ports
ipv6:
  r0 = r5
  r0 += 40
  if r0 > r2 goto finish
  r3 = *(u64 *)(r5 + 8)
  r4 = *(u64 *)(r5 + 24)
  r6 = r3
  r6 += r4
  r3 ^= r4
${mix('r6')}
${mix('r3')}
  r3 = *(u64 *)(r5 + 16)
  r4 = *(u64 *)(r5 + 32)
  r6 = r3
  r6 += r4
  r3 ^= r4
${mix('r6')}
${mix('r3')}
  r3 = *(u8 *)(r5 + 6)
  r5 += 40
ports:
  if r3 == ${Protocol.tcp} goto has_ports
  if r3 == ${Protocol.udp} goto has_ports
  if r3 != ${Protocol.sctp} goto protocol
has_ports:
  r0 = r5
  r0 += 4
  if r0 > r2 goto protocol
  r4 = *(u16 *)(r5 + 0)
  r6 = *(u16 *)(r5 + 2)
  r5 = r4
  r5 += r6
  r4 ^= r6
  r5 <<= 16
  r5 |= r4
${mix('r5')}
protocol:
${mix('r3')}
finish:
  r0 = r8
  r0 >>= 32
  if r0 != 0 goto done
  r0 = 1
done:
  exit
`,
};

const recalculate: Routine = {
  name: 'bpf_get_hash_recalc',
  text: `
  r0 = *(u32 *)(r1 + ${Skb.hash})
  if r0 != 0 goto done
  r2 = *(u32 *)(r1 + ${SkbContext.state})
  r2 &= ${SkbState.hashValid}
  if r2 != 0 goto done                            ; a program set it to 0
  r6 = r1
  call routine skb_flow_hash
  *(u32 *)(r6 + ${Skb.hash}) = r0
  r1 = *(u32 *)(r6 + ${SkbContext.state})
  r1 |= ${SkbState.hashValid}
  *(u32 *)(r6 + ${SkbContext.state}) = r1
done:
  exit
`,
};

const setHash: Routine = {
  name: 'bpf_set_hash',
  text: `
  *(u32 *)(r1 + ${Skb.hash}) = r2
  r2 = *(u32 *)(r1 + ${SkbContext.state})
  r2 |= ${SkbState.hashValid}
  *(u32 *)(r1 + ${SkbContext.state}) = r2
  r0 = 0
  exit
`,
};

const setInvalid: Routine = {
  name: 'bpf_set_hash_invalid',
  text: `${CLEAR_HASH}
  r0 = 0
  exit
`,
};

export const HASH_ROUTINES: readonly Routine[] = [flowHash, recalculate, setHash, setInvalid];
