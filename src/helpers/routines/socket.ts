/**
 * Sockets: lookups in the table that the runtime's caller filled (`runtime/sockets.ts`), and what can be asked of a socket or of
 * a packet's socket. Without a table, and for packets without a socket, the answers are the kernel's for "none".
 *
 * A lookup asks the table three times, as the kernel prefers them: for the socket of exactly this connection, for one that
 * takes packets from anyone at this local address, and at any. Nothing is counted: a socket that leaves the table stays in
 * memory until every run that could see it has ended.
 */
import type { Routine } from '../../isa/routine.ts';
import {
  BpfSock,
  RunContext,
  RuntimeState,
  SkBuff,
  SkbContext,
  Socket,
  SocketKey,
  XdpContext,
} from '../../memory/layout.ts';

const Family = { ipv4: 2, ipv6: 10 } as const;
const Protocol = { tcp: 6, udp: 17 } as const;
const TCP_LISTEN = 10;
/** sizeof of the two members of struct bpf_sock_tuple. */
const TUPLE_IPV4 = 12;
const TUPLE_IPV6 = 36;
/** What the kernel calls a user that it can't name. */
const OVERFLOW_UID = 65534;

/** Place of a member of the key on the stack. */
const key = (member: number): string => `r10 - ${SocketKey.size - member}`;

/** Copies `words` 32-bit words of the tuple at r1 to the key. Changes r0. */
const copyWords = (from: number, to: number, words: number): string =>
  Array.from(
    { length: words },
    (_, word) => `
  w0 = *(u32 *)(r1 + ${from + 4 * word})
  *(u32 *)(${key(to + 4 * word)}) = w0`,
  ).join('');

const clear = (from: number, bytes: number): string =>
  Array.from({ length: bytes / 8 }, (_, word) => `\n  *(u64 *)(${key(from + 8 * word)}) = 0`).join('');

/** r1 = tuple, r2 = its size, r3 = network namespace, r4 = flags, r5 = protocol, with the interface above bit 8: r0 = Socket or 0. */
const find: Routine = {
  name: 'socket_find',
  text: `
  if r4 != 0 goto none
  if w3 s>= 0 goto none                           ; another network namespace
  r9 = run_context
  r9 = *(u64 *)(r9 + ${RunContext.runtime})
  r9 = *(u64 *)(r9 + ${RuntimeState.sockets})
  if r9 == 0 goto none
  r6 = r5
  r6 >>= 8
  r5 &= 0xff
${clear(0, SocketKey.size)}
  *(u32 *)(${key(SocketKey.protocol)}) = w5
  w2 = w2
  if r2 == ${TUPLE_IPV6} goto ipv6
  if r2 != ${TUPLE_IPV4} goto none
  *(u32 *)(${key(SocketKey.family)}) = ${Family.ipv4}
${copyWords(0, SocketKey.remoteAddress, 1)}
${copyWords(4, SocketKey.localAddress, 1)}
${copyWords(8, SocketKey.remotePort, 1)}
  goto ready
ipv6:
  *(u32 *)(${key(SocketKey.family)}) = ${Family.ipv6}
${copyWords(0, SocketKey.remoteAddress, 4)}
${copyWords(16, SocketKey.localAddress, 4)}
${copyWords(32, SocketKey.remotePort, 1)}
ready:
  r7 = 0
ask:
  r1 = r9
  r2 = r10
  r2 += -${SocketKey.size}
  call routine hash_lookup
  if r0 == 0 goto next
  r0 = *(u64 *)(r0 + 0)
  w1 = *(u32 *)(r0 + ${Socket.sock + BpfSock.boundDevIf})
  if r1 == 0 goto found
  if r1 == r6 goto found
next:
  r7 += 1
  if r7 == 2 goto any_address
  if r7 == 3 goto none
${clear(SocketKey.remoteAddress, 16)}
  *(u16 *)(${key(SocketKey.remotePort)}) = 0
  goto ask
any_address:
${clear(SocketKey.localAddress, 16)}
  goto ask
none:
  r0 = 0
found:
  exit
`,
};

/** In r0: of a socket that is not a full one its listener, or 0. */
const toFull = (done: string): string => `
  w1 = *(u32 *)(r0 + ${Socket.full})
  if r1 != 0 goto ${done}
  r0 = *(u64 *)(r0 + ${Socket.listener})
${done}:`;

/** @param ifindex where the interface of the packet is in the context */
function lookup(name: string, protocol: number, ifindex: number, full: boolean): Routine {
  return {
    name,
    text: `
  w0 = *(u32 *)(r1 + ${ifindex})
  r0 <<= 8
  r0 |= ${protocol}
  r1 = r2
  r2 = r3
  r3 = r4
  r4 = r5
  r5 = r0
  call routine socket_find
  if r0 == 0 goto none
${full ? `${toFull('full')}\n  if r0 == 0 goto none` : ''}
  r0 += ${Socket.sock}
none:
  exit
`,
  };
}

const lookups = (prefix: string, ifindex: number): readonly Routine[] => [
  lookup(`${prefix}_sk_lookup_tcp`, Protocol.tcp, ifindex, true),
  lookup(`${prefix}_sk_lookup_udp`, Protocol.udp, ifindex, true),
  lookup(`${prefix}_skc_lookup_tcp`, Protocol.tcp, ifindex, false),
];

/** r0 = the Socket that the pointer in r1 leads into: its address lies in front of both structures. */
const BASE = '\n  r0 = *(u64 *)(r1 - 8)';

/** r0 = the Socket of the skb in r1, or to `none`. */
const packetSocket = `
  r1 = *(u64 *)(r1 + ${SkbContext.uapi + SkBuff.sk})
  if r1 == 0 goto none${BASE}`;

export const SOCKET_ROUTINES: readonly Routine[] = [
  find,
  ...lookups('bpf', SkbContext.uapi + SkBuff.ifindex),
  ...lookups('bpf_xdp', XdpContext.ingressIfindex),
  { name: 'bpf_sk_release', text: '\n  r0 = 0\n  exit\n' },
  {
    name: 'bpf_sk_fullsock',
    text: `
${BASE}
  w1 = *(u32 *)(r0 + ${Socket.full})
  if r1 == 0 goto none
  r0 += ${Socket.sock}
  exit
none:
  r0 = 0
  exit
`,
  },
  {
    name: 'bpf_tcp_sock',
    text: `
${BASE}
  w1 = *(u32 *)(r0 + ${Socket.full})
  if r1 == 0 goto none
  w1 = *(u32 *)(r0 + ${Socket.sock + BpfSock.protocol})
  if r1 != ${Protocol.tcp} goto none
  r0 += ${Socket.tcp}
  exit
none:
  r0 = 0
  exit
`,
  },
  {
    name: 'bpf_get_listener_sock',
    text: `
${BASE}
${toFull('full')}
  if r0 == 0 goto none
  w1 = *(u32 *)(r0 + ${Socket.sock + BpfSock.state})
  if r1 != ${TCP_LISTEN} goto none
  r0 += ${Socket.sock}
  exit
none:
  r0 = 0
  exit
`,
  },
  {
    name: 'bpf_get_socket_cookie',
    text: `
${packetSocket}
  r0 = *(u64 *)(r0 + ${Socket.cookie})
  exit
none:
  r0 = 0
  exit
`,
  },
  {
    name: 'bpf_get_socket_uid',
    text: `
${packetSocket}
${toFull('full')}
  if r0 == 0 goto none
  w0 = *(u32 *)(r0 + ${Socket.uid})
  exit
none:
  r0 = ${OVERFLOW_UID}
  exit
`,
  },
  // Threads that run programs are in no class.
  { name: 'bpf_get_cgroup_classid_curr', text: '\n  r0 = 0\n  exit\n' },
  {
    name: 'bpf_get_cgroup_classid',
    text: `
${packetSocket}
${toFull('full')}
  if r0 == 0 goto none
  w0 = *(u32 *)(r0 + ${Socket.classId})
  exit
none:
  r0 = 0
  exit
`,
  },
];
