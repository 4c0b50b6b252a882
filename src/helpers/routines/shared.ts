/** What the routine files share: error numbers, field offsets, and pieces of text. */
import { SkBuff, SkbContext, SkbState } from '../../memory/layout.ts';

/** Kernel error numbers that helpers return, negated. */
export const Errno = {
  ENOENT: -2,
  E2BIG: -7,
  ENOMEM: -12,
  EACCES: -13,
  EFAULT: -14,
  ENODEV: -19,
  EINVAL: -22,
  ENOSPC: -28,
  ERANGE: -34,
  EOPNOTSUPP: -95,
  EAFNOSUPPORT: -97,
  EALREADY: -114,
  /** Not for user space in the kernel either, but helpers return it. */
  ENOTSUPP: -524,
} as const;

/** Offsets in SkbContext of the uapi fields that helpers read or write. */
export const Skb = {
  len: SkbContext.uapi + SkBuff.len,
  protocol: SkbContext.uapi + SkBuff.protocol,
  vlanPresent: SkbContext.uapi + SkBuff.vlanPresent,
  vlanTci: SkbContext.uapi + SkBuff.vlanTci,
  vlanProto: SkbContext.uapi + SkBuff.vlanProto,
  hash: SkbContext.uapi + SkBuff.hash,
} as const;

export const ETHERNET_HEADER = 14;
/** Longest linear packet the kernel lets helpers make: four pages less `struct skb_shared_info`. */
export const MAX_SKB_LENGTH = 16384 - 320;

/** Ethertypes as a little-endian load of the big-endian field gives them. */
export const EtherType = {
  ipv4: 0x0008,
  ipv6: 0xdd86,
  vlan: 0x0081,
  qinq: 0xa888,
} as const;

/** Text: r5 = address of the network header of the skb in r1. Uses r0. */
export const NETWORK_HEADER = `
  r5 = *(u64 *)(r1 + ${SkbContext.macHeader})
  r0 = *(s32 *)(r1 + ${SkbContext.networkShift})
  r5 += r0
  r5 += ${ETHERNET_HEADER}`;

/** Text that forgets the hash of the skb in r1. Uses r0. */
export const CLEAR_HASH = `
  *(u32 *)(r1 + ${Skb.hash}) = 0
  r0 = *(u32 *)(r1 + ${SkbContext.state})
  r0 &= -${SkbState.hashValid + 1}
  *(u32 *)(r1 + ${SkbContext.state}) = r0`;
