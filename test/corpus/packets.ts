/** Hand-made packets, the same in each run: of every protocol the corpus reads, well-formed, odd and broken. */

const text = (characters: string): number[] => [...characters].map(character => character.charCodeAt(0));
const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)];

/** Random bytes that are the same each time (xorshift32). */
export function randomBytes(seed: number): (length: number) => number[] {
  let state = seed | 1;
  return length =>
    Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state & 0xff;
    });
}

function sum(bytes: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return ~total & 0xffff;
}

function ethernet(type: number, payload: readonly number[], last = 1): number[] {
  return [2, 0, 0, 0, 0, last, 2, 0, 0, 0, 1, 2, ...u16(type), ...payload];
}

function tagged(
  tags: readonly (readonly [type: number, vlan: number])[],
  type: number,
  payload: readonly number[],
): number[] {
  const [first, ...others] = tags;
  let header: number[] = [];
  let vlan = first![1];
  for (const [inner, next] of others) {
    header = [...header, ...u16(vlan), ...u16(inner)];
    vlan = next;
  }
  return ethernet(first![0], [...header, ...u16(vlan), ...u16(type), ...payload]);
}

interface Ip {
  readonly from?: number;
  readonly to?: number;
  readonly ttl?: number;
  readonly options?: readonly number[];
  readonly fragment?: number;
}

function ipv4(protocol: number, payload: readonly number[], ip: Ip = {}): number[] {
  const { from = 0x0a000001, to = 0xc0000203, ttl = 64, options = [], fragment = 0 } = ip;
  const length = 20 + options.length;
  const header = (check: number) => [
    ...[0x40 | (length / 4), 0, ...u16(length + payload.length), 0x12, 0x34, ...u16(fragment), ttl, protocol],
    ...[...u16(check), ...u32(from), ...u32(to), ...options],
  ];
  return [...header(sum(header(0))), ...payload];
}

function ipv6(next: number, payload: readonly number[], hops = 64, last = 1): number[] {
  const address = (end: number) => [0x20, 1, 0x0d, 0xb8, ...new Array<number>(11).fill(0), end];
  return [0x60, 0, 0, 0, ...u16(payload.length), next, hops, ...address(last), ...address(2), ...payload];
}

function tcp(
  from: number,
  to: number,
  flags: number,
  options: readonly number[],
  payload: readonly number[] = [],
): number[] {
  const padded = [...options, ...new Array<number>((4 - (options.length % 4)) % 4).fill(0)];
  const offset = (20 + padded.length) / 4;
  return [
    ...[...u16(from), ...u16(to), ...u32(0x01020304), ...u32(0), offset << 4, flags],
    ...[0xff, 0xff, 0x12, 0x34, 0, 0, ...padded, ...payload],
  ];
}

function udp(from: number, to: number, payload: readonly number[], check = 0): number[] {
  return [...u16(from), ...u16(to), ...u16(8 + payload.length), ...u16(check), ...payload];
}

function icmp(type: number, payload: readonly number[]): number[] {
  const body = (check: number) => [type, 0, ...u16(check), 0, 1, 0, 2, ...payload];
  return body(sum(body(0)));
}

const SYN = 2;
const ACK = 16;
const MSS = [2, 4, 0x05, 0xb4];
const TYPICAL = [...MSS, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 3, 7];

/** Most cases of the corpus in few packets, for the kernel, whose test runs are slow. Each has at least 15 bytes. */
export function fewPackets(): Uint8Array[] {
  const random = randomBytes(7);
  return [
    ethernet(0x0800, ipv4(6, tcp(1234, 80, SYN, TYPICAL))),
    ethernet(0x0800, ipv4(17, udp(4321, 53, text('HELO dns query bytes'), 0xbeef), { from: 0x0a000002 })),
    ethernet(0x0800, ipv4(17, udp(4322, 69, random(220)), { from: 0xc6336407, ttl: 1 })),
    ethernet(0x0800, ipv4(1, icmp(8, text('abcdefghijklmnop')))),
    tagged(
      [
        [0x88a8, 7],
        [0x8100, 0x2123],
      ],
      0x0800,
      ipv4(6, tcp(99, 443, ACK, [], text('GET / HTTP/1.1\r\n'))),
    ),
    ethernet(
      0x86dd,
      ipv6(0, [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 5, 2, 0, 0, 1, 0, 6, 0, 0, 1, 0, 0, 0, 9, ...tcp(5, 6, SYN, MSS)]),
    ),
    ethernet(0x86dd, ipv6(17, udp(7, 8, random(11)), 3, 9)),
    ethernet(0x0800, [...ipv4(6, tcp(1234, 80, ACK, [1, 1], text('POST /x HTTP/1.0\r\n\r\n'))), ...random(22)]),
    ethernet(0x0800, ipv4(4, ipv4(17, udp(1, 2, random(30))))),
    ethernet(0x0800, ipv4(6, tcp(1235, 22, SYN, [1, ...MSS, 2, 1, 9], text('SSH-2.0-x\r\n')), { from: 0x0b000003 })),
    ethernet(0x0806, [0, 1, 8, 0, 6, 4, 0, 1, ...random(20)], 5),
    random(60),
    random(15),
  ].map(bytes => Uint8Array.from(bytes));
}

/** `fewPackets`, and many more. */
export function manyPackets(): Uint8Array[] {
  const random = randomBytes(99);
  const more: number[][] = [
    [],
    random(1),
    random(13),
    random(14),
    ethernet(0x0800, []),
    ethernet(0x0800, random(19)),
    ethernet(0x0800, ipv4(6, [])),
    ethernet(0x0800, ipv4(6, tcp(1, 2, SYN, []).slice(0, 19))),
    ethernet(0x0800, ipv4(17, [0, 1, 0, 2])),
    ethernet(0x0800, ipv4(6, tcp(80, 8080, SYN | ACK, [...TYPICAL, 34, 2]), { options: [1, 1, 1, 0] })),
    ethernet(0x0800, ipv4(6, tcp(80, 8081, SYN, [2, 0, 1, 1]))),
    ethernet(0x0800, ipv4(6, tcp(80, 8082, SYN, [1, 1, 1, 1, 1, 1, 1, 1]))),
    ethernet(0x0800, ipv4(6, tcp(80, 8083, 5, [], text('OPTIONS * HTTP')))),
    ethernet(0x0800, ipv4(17, udp(1, 2, random(8)), { fragment: 0x2000 })),
    ethernet(0x0800, ipv4(17, udp(1, 2, random(1300), 0x1234))),
    ethernet(0x0800, ipv4(1, icmp(0, random(9)))),
    ethernet(0x0800, ipv4(47, random(24))),
    tagged([[0x8100, 1]], 0x0806, random(28)),
    tagged(
      [
        [0x8100, 1],
        [0x8100, 2],
        [0x8100, 3],
      ],
      0x86dd,
      ipv6(58, random(8)),
    ),
    tagged(
      [
        [0x88a8, 1],
        [0x8100, 2],
        [0x8100, 3],
        [0x8100, 4],
      ],
      0x0800,
      ipv4(6, tcp(1, 2, 0, [])),
    ),
    tagged(
      [
        [0x88a8, 1],
        [0x8100, 2],
        [0x8100, 3],
        [0x8100, 4],
        [0x8100, 5],
      ],
      0x0800,
      [],
    ),
    ethernet(0x8100, [0]),
    ethernet(0x86dd, ipv6(59, [])),
    ethernet(0x86dd, ipv6(43, [17, 2, ...random(22), ...udp(1, 2, [])])),
    ethernet(0x86dd, ipv6(60, [60, 0, ...random(6), 60, 0, ...random(6), 0, 0, ...random(6)])),
    ethernet(0x86dd, ipv6(60, [60, 255, ...random(30)])),
    ethernet(0x86dd, ipv6(44, [6, 0, 0x05, 0xb8, ...random(16)], 4)),
    ethernet(0x86dd, [0x40, ...ipv6(6, random(30), 6).slice(1)]),
    new Array<number>(64).fill(0),
    new Array<number>(64).fill(0xff),
    text('GET / HTTP/1.1\r\nHost: packet\r\n\r\n'.repeat(3)),
  ];
  for (let i = 0; i < 12; i++) {
    const from = 0x0a000001 + (i % 5);
    more.push(
      ethernet(
        0x0800,
        ipv4(i & 1 ? 6 : 17, i & 1 ? tcp(1000 + i, 80, i, [], random(i * 9)) : udp(i, 53 + (i % 3), random(i * 40)), {
          from,
        }),
      ),
    );
    more.push(random(20 + i * 11));
    more.push(ethernet([0x0800, 0x86dd, 0x8100, 0x0806][i & 3]!, random(20 + i * 5), i));
  }
  return [...fewPackets(), ...more.map(bytes => Uint8Array.from(bytes)), ...fewPackets()];
}
