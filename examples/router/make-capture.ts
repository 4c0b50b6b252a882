/**
 * Writes capture.pcap: traffic for the router example, every kind of packet that one of its stages tells apart, with
 * the malformed ones between the good ones. The same bytes each time: `npx tsx examples/router/make-capture.ts [FILE]`.
 *
 * Addresses are those for documentation (RFC 5737, RFC 3849), MAC addresses likewise (RFC 7042).
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

type Bytes = readonly number[];

const u16 = (value: number): Bytes => [(value >> 8) & 255, value & 255];
const u32 = (value: number): Bytes => [...u16(value >>> 16), ...u16(value & 0xffff)];
const text = (value: string): Bytes => [...new TextEncoder().encode(value)];
const mac = (value: string): Bytes => value.split(':').map(byte => Number.parseInt(byte, 16));
const ip4 = (value: string): Bytes => value.split('.').map(Number);

function ip6(value: string): Bytes {
  const [head = '', tail = ''] = value.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map(group => Number.parseInt(group, 16)));
  const [first, last] = [groups(head), groups(tail)];
  const zeros = new Array<number>(8 - first.length - last.length).fill(0);
  return [...first, ...zeros, ...last].flatMap(u16);
}

/** RFC 1071. */
function checksum(bytes: Bytes): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** `bytes` with their checksum at `at`; `also` is summed but not part of them. */
function sealed(bytes: Bytes, at: number, also: Bytes = []): Bytes {
  return [...bytes.slice(0, at), ...u16(checksum([...also, ...bytes])), ...bytes.slice(at + 2)];
}

const ROUTER = mac('00:00:5e:00:53:01');
const HOST_A = mac('00:00:5e:00:53:aa');
const HOST_B = mac('00:00:5e:00:53:bb');
const BROADCAST = mac('ff:ff:ff:ff:ff:ff');
const TYPE = {
  ipv4: 0x0800,
  arp: 0x0806,
  vlan: 0x8100,
  ipv6: 0x86dd,
  lldp: 0x88cc,
  qinq: 0x88a8,
  experimental: 0x88b5,
} as const;

const ROUTER_IP4 = '192.0.2.1';
const ROUTER_IP6 = '2001:db8::1';

const ethernet = (type: number, payload: Bytes, to = ROUTER, from = HOST_A): Bytes => [
  ...to,
  ...from,
  ...u16(type),
  ...payload,
];

/** Tags an Ethernet frame, outermost first. */
function tagged(frame: Bytes, ...tags: readonly [type: number, vlan: number][]): Bytes {
  return [...frame.slice(0, 12), ...tags.flatMap(([type, vlan]) => [...u16(type), ...u16(vlan)]), ...frame.slice(12)];
}

interface Ipv4Options {
  readonly ttl?: number;
  /** Header options, a multiple of 4 bytes. */
  readonly options?: Bytes;
  readonly fragment?: number;
  readonly version?: number;
  readonly headerWords?: number;
  readonly totalLength?: number;
  readonly brokenChecksum?: boolean;
}

function ipv4(from: string, to: string, protocol: number, payload: Bytes, ip: Ipv4Options = {}): Bytes {
  const options = ip.options ?? [];
  const header = 20 + options.length;
  const bytes = sealed(
    [
      ((ip.version ?? 4) << 4) | (ip.headerWords ?? header / 4),
      0,
      ...u16(ip.totalLength ?? header + payload.length),
      ...u16(0x1234),
      ...u16(ip.fragment ?? 0x4000),
      ip.ttl ?? 64,
      protocol,
      ...u16(0),
      ...ip4(from),
      ...ip4(to),
      ...options,
    ],
    10,
  );
  const checked = ip.brokenChecksum ? bytes.map((byte, i) => (i === 11 ? byte ^ 1 : byte)) : bytes;
  return ethernet(TYPE.ipv4, [...checked, ...payload]);
}

function ipv6(from: string, to: string, next: number, payload: Bytes, hopLimit = 64, length = payload.length): Bytes {
  return ethernet(TYPE.ipv6, [0x60, 0, 0, 0, ...u16(length), next, hopLimit, ...ip6(from), ...ip6(to), ...payload]);
}

const pseudo4 = (from: string, to: string, protocol: number, length: number): Bytes => [
  ...ip4(from),
  ...ip4(to),
  0,
  protocol,
  ...u16(length),
];
const pseudo6 = (from: string, to: string, next: number, length: number): Bytes => [
  ...ip6(from),
  ...ip6(to),
  ...u32(length),
  ...u32(next),
];

const FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, gre: 47, icmpv6: 58 } as const;

function tcpSegment(ports: readonly [number, number], flags: number, data: Bytes, words = 5): Bytes {
  const [from, to] = ports;
  return [...u16(from), ...u16(to), ...u32(1000), ...u32(2000), words << 4, flags, ...u16(65535), ...u32(0), ...data];
}

function tcp4(from: string, to: string, ports: readonly [number, number], flags: number, data: Bytes = [], words = 5) {
  const segment = tcpSegment(ports, flags, data, words);
  return ipv4(from, to, PROTOCOL.tcp, sealed(segment, 16, pseudo4(from, to, PROTOCOL.tcp, segment.length)));
}

function tcp6(from: string, to: string, ports: readonly [number, number], flags: number, data: Bytes = []): Bytes {
  const segment = tcpSegment(ports, flags, data);
  return ipv6(from, to, PROTOCOL.tcp, sealed(segment, 16, pseudo6(from, to, PROTOCOL.tcp, segment.length)));
}

const datagram = (ports: readonly [number, number], data: Bytes, length = 8 + data.length): Bytes => [
  ...u16(ports[0]),
  ...u16(ports[1]),
  ...u16(length),
  ...u16(0),
  ...data,
];

function udp4(from: string, to: string, ports: readonly [number, number], data: Bytes, length?: number): Bytes {
  const bytes = datagram(ports, data, length);
  return ipv4(from, to, PROTOCOL.udp, sealed(bytes, 6, pseudo4(from, to, PROTOCOL.udp, bytes.length)));
}

function udp6(from: string, to: string, ports: readonly [number, number], data: Bytes): Bytes {
  const bytes = datagram(ports, data);
  return ipv6(from, to, PROTOCOL.udp, sealed(bytes, 6, pseudo6(from, to, PROTOCOL.udp, bytes.length)));
}

function icmp4(from: string, to: string, type: number, data: Bytes, ip: Ipv4Options = {}): Bytes {
  return ipv4(from, to, PROTOCOL.icmp, sealed([type, 0, 0, 0, ...u16(7), ...u16(1), ...data], 2), ip);
}

function icmp6(from: string, to: string, type: number, data: Bytes, hopLimit = 64): Bytes {
  const message = [type, 0, 0, 0, ...data];
  const pseudo = pseudo6(from, to, PROTOCOL.icmpv6, message.length);
  return ipv6(from, to, PROTOCOL.icmpv6, sealed(message, 2, pseudo), hopLimit);
}

function arp(operation: number, sender: string, target: string, hardwareLength = 6): Bytes {
  const to = operation === 1 ? BROADCAST : ROUTER;
  const addresses = [...HOST_A, ...ip4(sender), ...new Array<number>(6).fill(0), ...ip4(target)];
  return ethernet(
    TYPE.arp,
    [
      ...u16(1),
      ...u16(TYPE.ipv4),
      hardwareLength,
      4,
      ...u16(operation),
      ...addresses,
      ...new Array<number>(18).fill(0),
    ],
    to,
  );
}

/** RFC 1035: the address of www.example.com, asked for or answered. */
function dns(answer: boolean): Bytes {
  const name = [...['www', 'example', 'com'].flatMap(label => [label.length, ...text(label)]), 0];
  const question = [...name, ...u16(1), ...u16(1)];
  const header = [u16(0x1234), u16(answer ? 0x8180 : 0x0100), u16(1), u16(answer ? 1 : 0), u16(0), u16(0)].flat();
  const record = [...u16(0xc00c), ...u16(1), ...u16(1), ...u32(300), ...u16(4), ...ip4('198.51.100.20')];
  return [...header, ...question, ...(answer ? record : [])];
}

const cut = (frame: Bytes, length: number): Bytes => frame.slice(0, length);

/** A short TCP conversation between a client of network A and a server of network B, both directions. */
function conversation(client: string, server: string, port: number): Bytes[] {
  const out = [port, 443] as const;
  const back = [443, port] as const;
  return [
    tcp4(client, server, out, FLAGS.syn),
    tcp4(server, client, back, FLAGS.syn | FLAGS.ack),
    tcp4(client, server, out, FLAGS.ack),
    tcp4(client, server, out, FLAGS.psh | FLAGS.ack, text('GET / HTTP/1.0\r\n\r\n')),
    tcp4(server, client, back, FLAGS.psh | FLAGS.ack, text('HTTP/1.0 200 OK\r\n\r\nhello')),
    tcp4(client, server, out, FLAGS.fin | FLAGS.ack),
    tcp4(server, client, back, FLAGS.fin | FLAGS.ack),
  ];
}

function frames(): Bytes[] {
  const [a, b, c] = ['192.0.2.10', '198.51.100.20', '203.0.113.200'];
  const [a6, b6] = ['2001:db8:1::10', '2001:db8:2::20'];
  const query = dns(false);
  const syn = tcp4(a, b, [40000, 22], FLAGS.syn);
  const lookup = udp4(a, b, [50000, 53], query);
  const ping = icmp4(a, ROUTER_IP4, 8, text('abcdefgh'));
  const scan = (flags: number): Bytes => tcp4(a, b, [41000, 80], flags);
  return [
    // Who is the router? Somebody else's question, an answer, then broken ones.
    arp(1, a, ROUTER_IP4),
    arp(1, a, '192.0.2.99'),
    arp(2, a, ROUTER_IP4),
    arp(1, a, ROUTER_IP4, 8),
    cut(arp(1, a, ROUTER_IP4), 30),
    tagged(arp(1, a, ROUTER_IP4), [TYPE.vlan, 10]),
    // The router itself is pinged, and groups that it may belong to.
    ping,
    tagged(ping, [TYPE.vlan, 10]),
    tagged(ping, [TYPE.qinq, 100], [TYPE.vlan, 10]),
    icmp6(a6, ROUTER_IP6, 128, [...u16(7), ...u16(1), ...text('abcdefgh')]),
    icmp4(a, '224.0.0.1', 8, text('abcdefgh'), { ttl: 1 }),
    icmp6(a6, 'ff02::1', 128, [...u16(7), ...u16(1)], 1),
    icmp4(a, ROUTER_IP4, 13, new Array<number>(12).fill(0)),
    // Pings that pass through, there and back; one at the end of its life, one that would be there next.
    icmp4(a, b, 8, text('abcdefgh')),
    icmp4(b, a, 0, text('abcdefgh')),
    icmp4(a, b, 8, text('abcdefgh'), { ttl: 1 }),
    icmp4(a, b, 8, text('abcdefgh'), { ttl: 2 }),
    icmp4(a, b, 8, text('abcdefgh'), { options: [0x94, 4, 0, 0] }),
    icmp6(a6, b6, 128, [...u16(7), ...u16(1)]),
    icmp6(a6, b6, 128, [...u16(7), ...u16(1)], 1),
    // Neighbour discovery, which is the network stack's.
    icmp6('fe80::1', 'ff02::1:ff00:1', 135, [...u32(0), ...ip6(ROUTER_IP6), 1, 1, ...HOST_A], 255),
    icmp6('fe80::1', 'fe80::2', 136, [...u32(0x6000_0000), ...ip6('fe80::1'), 2, 1, ...HOST_A], 255),
    ...conversation(a, b, 40001),
    ...conversation(a, c, 40002),
    ...conversation('192.0.2.11', b, 40003).map(frame => tagged(frame, [TYPE.vlan, 20])),
    tcp6(a6, b6, [40004, 443], FLAGS.syn),
    tcp6(b6, a6, [443, 40004], FLAGS.syn | FLAGS.ack),
    tagged(tcp6(a6, b6, [40004, 443], FLAGS.ack), [TYPE.qinq, 100], [TYPE.vlan, 30]),
    // What only scanners send.
    scan(0),
    scan(0x3f),
    scan(FLAGS.syn | FLAGS.fin),
    scan(FLAGS.syn | FLAGS.rst),
    // Segments with a header length that cannot be.
    tcp4(a, b, [40000, 22], FLAGS.syn, [], 4),
    tcp4(a, b, [40000, 22], FLAGS.syn, [], 8),
    // Datagrams.
    lookup,
    udp4(b, a, [53, 50000], dns(true)),
    udp4(a, c, [50001, 123], new Array<number>(48).fill(0)),
    tagged(lookup, [TYPE.vlan, 10]),
    tagged(lookup, [TYPE.qinq, 100], [TYPE.vlan, 10]),
    udp6(a6, b6, [50002, 53], query),
    udp6(b6, a6, [53, 50002], dns(true)),
    udp4(a, ROUTER_IP4, [50003, 7], text('echo this')),
    udp4(a, b, [50004, 0], query),
    udp4(a, b, [50005, 53], query, 7),
    udp4(a, b, [50005, 53], query, 100),
    // No route: the network stack may have one. No transport stage: GRE. A later fragment.
    udp4(a, '203.0.113.9', [50006, 53], query),
    ipv4(a, b, PROTOCOL.gre, [0, 0, ...u16(TYPE.experimental), ...text('tunnelled')]),
    ipv4(a, b, PROTOCOL.udp, query, { fragment: 0x00b9 }),
    udp6(a6, '2001:db8:ffff::1', [50007, 53], query),
    // IPv4 headers with one thing wrong each.
    ipv4(a, b, PROTOCOL.udp, datagram([1, 2], []), { brokenChecksum: true }),
    ipv4(a, b, PROTOCOL.udp, datagram([1, 2], []), { version: 5 }),
    ipv4(a, b, PROTOCOL.udp, datagram([1, 2], []), { headerWords: 4 }),
    ipv4(a, b, PROTOCOL.udp, datagram([1, 2], []), { totalLength: 19 }),
    ipv4(a, b, PROTOCOL.udp, datagram([1, 2], []), { totalLength: 100 }),
    ipv6(a6, b6, PROTOCOL.udp, datagram([1, 2], []), 64, 100),
    ethernet(TYPE.ipv6, [0x40, ...ipv6(a6, b6, PROTOCOL.udp, datagram([1, 2], [])).slice(15)]),
    // Cut off in each header.
    cut(syn, 14 + 19),
    cut(syn, 14 + 20 + 10),
    cut(tagged(lookup, [TYPE.vlan, 10]), 16),
    cut(ipv6(a6, b6, PROTOCOL.udp, datagram([1, 2], [])), 14 + 39),
    ipv4(a, b, PROTOCOL.icmp, [8, 0, 0]),
    ipv4(a, b, PROTOCOL.udp, [0, 1, 0, 2]),
    // Three tags are one too many; what is neither IP nor ARP is for the stack.
    tagged(lookup, [TYPE.qinq, 1], [TYPE.vlan, 2], [TYPE.vlan, 3]),
    ethernet(TYPE.lldp, new Array<number>(46).fill(0), BROADCAST, HOST_B),
    tagged(ethernet(TYPE.lldp, new Array<number>(46).fill(0), BROADCAST, HOST_B), [TYPE.vlan, 10]),
    ethernet(46, [0x42, 0x42, 3, ...new Array<number>(43).fill(0)], BROADCAST, HOST_B),
  ];
}

/** Classic pcap, little-endian, microseconds, Ethernet. */
function pcap(packets: readonly Bytes[]): Uint8Array {
  const size = packets.reduce((sum, packet) => sum + 16 + packet.length, 24);
  const view = new DataView(new ArrayBuffer(size));
  const bytes = new Uint8Array(view.buffer);
  view.setUint32(0, 0xa1b2c3d4, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, 65535, true);
  view.setUint32(20, 1, true);
  let at = 24;
  packets.forEach((packet, i) => {
    view.setUint32(at, 1_700_000_000, true);
    view.setUint32(at + 4, i * 100, true);
    view.setUint32(at + 8, packet.length, true);
    view.setUint32(at + 12, packet.length, true);
    bytes.set(packet, at + 16);
    at += 16 + packet.length;
  });
  return bytes;
}

/** The capture file's bytes. */
export function makeCapture(): Uint8Array {
  return pcap(frames());
}

const here = fileURLToPath(import.meta.url);
if (process.argv[1] === here) {
  const output = process.argv[2] ?? fileURLToPath(new URL('capture.pcap', import.meta.url));
  writeFileSync(output, makeCapture());
  console.log(`${output}: ${frames().length} frames`);
}
