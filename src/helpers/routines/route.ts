/**
 * fib_lookup and check_mtu over the tables that the caller supplies (runtime/routes.ts): longest prefixes in an LPM trie,
 * neighbours and interfaces in hashes, all of them maps of our own. Order of checks and what is written when are the kernel's. Without
 * BPF_FIB_LOOKUP_DIRECT the kernel goes through its rules: the local table, then main. Here they are one for that, in which the
 * longest prefix counts, and local before main.
 */
import type { Routine } from '../../isa/routine.ts';
import {
  Device,
  Neighbour,
  Route,
  RouteTables,
  RunContext,
  RuntimeState,
  SkBuff,
  SkbContext,
  XdpContext,
} from '../../memory/layout.ts';
import { Errno, ETHERNET_HEADER, Skb } from './shared.ts';

/** uapi struct bpf_fib_lookup */
const Params = {
  family: 0,
  length: 6,
  ifindex: 8,
  metric: 12,
  source: 16,
  destination: 32,
  table: 48,
  smac: 52,
  dmac: 58,
  size: 64,
} as const;
const Flag = { direct: 1, output: 2, skipNeighbour: 4, table: 8, source: 16, all: 63 } as const;
/** BPF_FIB_LKUP_RET_* */
const Result = {
  success: 0,
  notForwarded: 4,
  disabled: 5,
  encapsulated: 6,
  noNeighbour: 7,
  tooLong: 8,
  noSource: 9,
} as const;
const MAIN_TABLE = 254;
/** What lookups see that go by the kernel's rules: the local table and the main one. */
const RULES = 0;
/** Set in the flags by the callers: look at the length. */
const CHECK_LENGTH = 1 << 8;
const IPV4 = 2;
const IPV6 = 10;
/** Largest MTU that a lookup answers (IP_MAX_MTU, IP6_MAX_MTU). */
const IPV4_MTU = 0xfff0;
const IPV6_MTU = 0xffff + 40;
const VLAN_HEADER = 4;
const BPF_MTU_CHK_SEGS = 1;
const MTU_TOO_LONG = 1;

const answer = (label: string, result: number): string => `
${label}:
  r0 = ${result}
  exit`;

/** `register` = the tables, or to `none`. */
const tables = (register: string, none: string): string => `
  ${register} = run_context
  ${register} = *(u64 *)(${register} + ${RunContext.runtime})
  ${register} = load_acquire((u64 *)(${register} + ${RuntimeState.routes}))
  if ${register} == 0 goto ${none}`;

/** r0 = Device of the interface in `ifindex`, or to `none`, with the tables in r9. Uses r10-32. */
const device = (ifindex: string, none: string): string => `
  *(u32 *)(r10 - 32) = ${ifindex}
  r1 = *(u64 *)(r9 + ${RouteTables.devices})
  r2 = r10
  r2 += -32
  call routine hash_lookup
  if r0 == 0 goto ${none}`;

/** Addresses that stay on their link: ff00::/8, fe80::/10, ::1. */
const staysOnLink = (at: number, name: string): string => `
  w1 = *(u8 *)(r6 + ${at})
  if r1 == 255 goto not_forwarded
  if r1 != 254 goto ${name}_wide
  w1 = *(u8 *)(r6 + ${at + 1})
  r1 >>= 6
  if r1 == 2 goto not_forwarded
${name}_wide:
  w1 = *(u32 *)(r6 + ${at})
  w2 = *(u32 *)(r6 + ${at + 4})
  r1 |= r2
  w2 = *(u32 *)(r6 + ${at + 8})
  r1 |= r2
  w2 = *(u32 *)(r6 + ${at + 12})
  if r1 != 0 goto ${name}_known
  if r2 == 0x1000000 goto not_forwarded
${name}_known:`;

/** Copies words: each from an offset of r8 to one of r6. Changes r1. */
const copyWords = (to: number, from: number, count: number): string =>
  Array.from(
    { length: count },
    (_, i) => `
  w1 = *(u32 *)(r8 + ${from + 4 * i})
  *(u32 *)(r6 + ${to + 4 * i}) = w1`,
  ).join('');

const macCopy = (to: number, from: string): string => `
  w1 = *(u32 *)(${from} + 0)
  *(u32 *)(r6 + ${to}) = w1
  w1 = *(u16 *)(${from} + 4)
  *(u16 *)(r6 + ${to + 4}) = w1`;

/** The half that differs by family: r8 = Route, r10-40 = MTU of the path, gateway and source set; then to `neighbour`. */
function family(name: 'ipv4' | 'ipv6', forwards: number, bytes: number, mtu: number): string {
  const source = `
  r1 = r7
  r1 &= ${Flag.source}
  if r1 == 0 goto ${name}_sourced
  w1 = *(u32 *)(r8 + ${Route.flags})
  r1 &= 1
  ${name === 'ipv6' ? 'if r1 == 0 goto no_source' : ''}
  ${copyWords(Params.source, Route.source, bytes / 4)}
${name}_sourced:`;
  return `
${name}:
  ${name === 'ipv6' ? staysOnLink(Params.destination, 'to') + staysOnLink(Params.source, 'from') : ''}
  if r9 == 0 goto no_device
  w1 = *(u32 *)(r6 + ${Params.ifindex})
  ${device('w1', 'no_device')}
  w1 = *(u32 *)(r0 + ${Device.forwarding})
  r1 &= ${forwards}
  if r1 == 0 goto disabled
  w2 = ${RULES}
  r1 = r7
  r1 &= ${Flag.direct}
  if r1 == 0 goto ${name}_table
  w2 = ${MAIN_TABLE}
  r1 = r7
  r1 &= ${Flag.table}
  if r1 == 0 goto ${name}_table
  w2 = *(u32 *)(r6 + ${Params.table})
  *(u32 *)(r6 + ${Params.table}) = 0
  if r2 != 0 goto ${name}_table
  w2 = ${MAIN_TABLE}
${name}_table:
  *(u32 *)(r10 - 32) = ${32 + 8 * bytes}
  *(u32 *)(r10 - 28) = r2
  ${Array.from(
    { length: bytes / 4 },
    (_, i) => `
  w1 = *(u32 *)(r6 + ${Params.destination + 4 * i})
  *(u32 *)(r10 - ${24 - 4 * i}) = w1`,
  ).join('')}
  r1 = *(u64 *)(r9 + ${RouteTables[name]})
  r2 = r10
  r2 += -32
  call routine lpm_trie_lookup
  if r0 == 0 goto not_forwarded
  r8 = r0
  w0 = *(u32 *)(r8 + ${Route.result})
  if r0 != 0 goto done
  r1 = r7
  r1 &= ${Flag.output}
  if r1 == 0 goto ${name}_out
  w1 = *(u32 *)(r6 + ${Params.ifindex})
  w2 = *(u32 *)(r8 + ${Route.ifindex})
  if r1 != r2 goto not_forwarded
${name}_out:
  w1 = *(u32 *)(r8 + ${Route.ifindex})
  ${device('w1', 'no_device')}
  w2 = *(u32 *)(r8 + ${Route.mtu})
  w1 = *(u32 *)(r0 + ${Device.mtu})
  *(u64 *)(r10 - 48) = r0
  if r2 == 0 goto ${name}_mtu
  r1 = r2
${name}_mtu:
  if r1 <= ${mtu} goto ${name}_capped
  r1 = ${mtu}
${name}_capped:
  *(u64 *)(r10 - 40) = r1
  r2 = r7
  r2 &= ${CHECK_LENGTH}
  if r2 == 0 goto ${name}_fits
  w2 = *(u16 *)(r6 + ${Params.length})
  if r2 > r1 goto too_long
${name}_fits:
  w1 = *(u32 *)(r8 + ${Route.flags})
  r1 &= 2
  if r1 != 0 goto encapsulated
  w1 = *(u32 *)(r8 + ${Route.metric})
  *(u32 *)(r6 + ${Params.metric}) = w1
  w1 = *(u32 *)(r8 + ${Route.ifindex})
  *(u32 *)(r6 + ${Params.ifindex}) = w1
  ${name === 'ipv4' ? source : ''}
  w2 = *(u32 *)(r8 + ${Route.gatewayFamily})
  if r2 == 0 goto ${name}_next
  ${
    name === 'ipv4'
      ? `
  if r2 == ${IPV6} goto ipv4_by_ipv6
  w1 = *(u32 *)(r8 + ${Route.gateway})
  *(u32 *)(r6 + ${Params.destination}) = w1
  goto ipv4_next
ipv4_by_ipv6:
  *(u8 *)(r6 + ${Params.family}) = ${IPV6}`
      : ''
  }
  ${copyWords(Params.destination, Route.gateway, 4)}
${name}_next:
  ${name === 'ipv6' ? source : ''}
  goto neighbour`;
}

const ROUTE_TEXT = `
  w2 = w2
  w3 = w3
  if r2 < ${Params.size} goto invalid
  r5 = r3
  r5 &= ${~Flag.all}
  if r5 != 0 goto invalid
  r6 = r1
  r7 = r3
  r7 |= r4
  r9 = run_context
  r9 = *(u64 *)(r9 + ${RunContext.runtime})
  r9 = load_acquire((u64 *)(r9 + ${RuntimeState.routes}))
  w1 = *(u8 *)(r6 + ${Params.family})
  if r1 == ${IPV4} goto ipv4
  if r1 == ${IPV6} goto ipv6
  r0 = ${Errno.EAFNOSUPPORT}
  exit
${family('ipv4', 1, 4, IPV4_MTU)}
${family('ipv6', 2, 16, IPV6_MTU)}
neighbour:
  r1 = r7
  r1 &= ${Flag.skipNeighbour}
  if r1 != 0 goto forward
  w1 = *(u32 *)(r8 + ${Route.ifindex})
  *(u32 *)(r10 - ${32 - Neighbour.ifindex}) = w1
  w2 = *(u8 *)(r6 + ${Params.family})
  *(u32 *)(r10 - ${32 - Neighbour.family}) = w2
  w1 = *(u32 *)(r6 + ${Params.destination})
  *(u32 *)(r10 - 24) = w1
  *(u32 *)(r10 - 20) = 0
  *(u32 *)(r10 - 16) = 0
  *(u32 *)(r10 - 12) = 0
  if r2 == ${IPV4} goto find
  ${[4, 8, 12]
    .map(
      at => `
  w1 = *(u32 *)(r6 + ${Params.destination + at})
  *(u32 *)(r10 - ${24 - at}) = w1`,
    )
    .join('')}
find:
  r1 = *(u64 *)(r9 + ${RouteTables.neighbours})
  r2 = r10
  r2 += -32
  call routine hash_lookup
  if r0 == 0 goto no_neighbour
  ${macCopy(Params.dmac, 'r0')}
  r2 = *(u64 *)(r10 - 48)
  r2 += ${Device.mac}
  ${macCopy(Params.smac, 'r2')}
forward:
  *(u32 *)(r6 + ${Params.table}) = 0
  r7 &= ${CHECK_LENGTH}
  if r7 == 0 goto forwarded
  r1 = *(u64 *)(r10 - 40)
  *(u16 *)(r6 + ${Params.length}) = w1
forwarded:
  r0 = ${Result.success}
done:
  exit
too_long:
  *(u16 *)(r6 + ${Params.length}) = w1
  ${answer('frag_needed', Result.tooLong)}
  ${answer('not_forwarded', Result.notForwarded)}
  ${answer('disabled', Result.disabled)}
  ${answer('encapsulated', Result.encapsulated)}
  ${answer('no_neighbour', Result.noNeighbour)}
  ${answer('no_source', Result.noSource)}
  ${answer('no_device', Errno.ENODEV)}
  ${answer('invalid', Errno.EINVAL)}`;

/** (context, params, size, flags). Where the program gives no length, the kernel compares the packet's with the device's. */
const SKB_LOOKUP = `
  r6 = r1
  r7 = r2
  r8 = 0
  w3 = w3
  if r3 < ${Params.size} goto look
  w8 = *(u16 *)(r7 + ${Params.length})
look:
  r1 = r7
  r2 = r3
  r3 = r4
  r4 = 0
  if r8 == 0 goto call
  r4 = ${CHECK_LENGTH}
call:
  call routine fib_lookup
  if r0 != 0 goto done
  if r8 != 0 goto done
  ${tables('r9', 'done')}
  w1 = *(u32 *)(r7 + ${Params.ifindex})
  ${device('w1', 'gone')}
  w1 = *(u32 *)(r0 + ${Device.mtu})
  *(u16 *)(r7 + ${Params.length}) = w1
  r1 += ${ETHERNET_HEADER + VLAN_HEADER}
  w2 = *(u32 *)(r6 + ${Skb.len})
  r0 = 0
  if r2 <= r1 goto done
  w1 = *(u32 *)(r6 + ${SkbContext.uapi + SkBuff.gsoSize})
  if r1 != 0 goto done
  r0 = ${Result.tooLong}
done:
  exit
gone:
  r0 = 0
  exit`;

/**
 * (context, interface, u32 *length, difference, flags)
 * @param flags all that are known
 * @param length text: r0 = length of the packet of context r6
 */
const checkMtu = (name: string, flags: number, ifindex: number, length: string): Routine => ({
  name,
  text: `
  r6 = r1
  r7 = r3
  w8 = w4
  r8 <<= 32
  r8 s>>= 32
  w2 = w2
  r1 = r5
  r1 &= ${~flags}
  if r1 != 0 goto invalid
  if r5 == 0 goto known
  w1 = *(u32 *)(r7 + 0)
  r1 |= r8
  if r1 != 0 goto invalid
known:
  if r2 != 0 goto named
  w2 = *(u32 *)(r6 + ${ifindex})
named:
  ${tables('r9', 'no_device')}
  ${device('w2', 'no_device')}
  r9 = *(u32 *)(r0 + ${Device.mtu})
  w1 = *(u32 *)(r7 + 0)
  if r1 == 0 goto packet
  r0 = r1
  r0 += ${ETHERNET_HEADER}
  goto compare
packet:
${length}
compare:
  r0 += r8
  w0 = w0
  r0 <<= 32
  r0 s>>= 32
  r1 = r9
  r1 += ${ETHERNET_HEADER}
  *(u32 *)(r7 + 0) = w9
  if r0 s<= r1 goto fits
  ${
    flags === 0
      ? ''
      : `
  w1 = *(u32 *)(r6 + ${SkbContext.uapi + SkBuff.gsoSize})
  if r1 != 0 goto fits`
  }
  r0 = ${MTU_TOO_LONG}
  exit
  ${answer('fits', 0)}
  ${answer('no_device', Errno.ENODEV)}
  ${answer('invalid', Errno.EINVAL)}`,
});

export const ROUTE_ROUTINES: readonly Routine[] = [
  // (params, size, flags, CHECK_LENGTH or 0)
  { name: 'fib_lookup', text: ROUTE_TEXT },
  { name: 'bpf_fib_lookup', text: SKB_LOOKUP },
  {
    name: 'bpf_xdp_fib_lookup',
    text: `
  r1 = r2
  r2 = r3
  r3 = r4
  r4 = ${CHECK_LENGTH}
  call routine fib_lookup
  exit`,
  },
  checkMtu('bpf_check_mtu', BPF_MTU_CHK_SEGS, SkbContext.uapi + SkBuff.ifindex, `  r0 = *(u32 *)(r6 + ${Skb.len})`),
  checkMtu(
    'bpf_xdp_check_mtu',
    0,
    XdpContext.ingressIfindex,
    `  r0 = *(u64 *)(r6 + ${XdpContext.dataEnd})
  r1 = *(u64 *)(r6 + ${XdpContext.data})
  r0 -= r1`,
  ),
];
