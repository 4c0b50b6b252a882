/** Random helper calls on random packets, and a program that makes them: what the comparisons with the kernel run. */
import fc from 'fast-check';
import { SkBuff } from '../../src/memory/layout.ts';

/** In the kernel: one u64 per result, then 64 bytes per read. In ours: the same layout in scratch memory. */
export const MAX_CALLS = 8;
export const READS = 8 * (MAX_CALLS + 8);
export const READ_BYTES = 64;
export const VALUE = READS + MAX_CALLS * READ_BYTES;

type Argument =
  | { readonly kind: 'context' }
  | { readonly kind: 'number'; readonly value: bigint }
  /** The program's stack (ours: scratch) with these bytes, at a place of 64 bytes chosen by `slot`. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly slot: 0 | 1 }
  /** Where the call is to write. */
  | { readonly kind: 'result' };

export interface Call {
  readonly name: string;
  readonly helper: number;
  readonly args: readonly Argument[];
}

const context: Argument = { kind: 'context' };
const result: Argument = { kind: 'result' };
const number = (value: bigint | number): Argument => ({ kind: 'number', value: BigInt(value) });
const bytes = (content: Uint8Array, slot: 0 | 1 = 0): Argument => ({ kind: 'bytes', bytes: content, slot });

export function programText(calls: readonly Call[], fields: readonly Field[], map: string): string {
  const lines = [
    'r6 = r1',
    '*(u32 *)(r10 - 4) = 0',
    'r2 = r10',
    'r2 += -4',
    `r1 = ${map} ll`,
    'call 1',
    'if r0 != 0 goto found',
    'exit',
    'found:',
    'r7 = r0',
  ];
  calls.forEach(({ helper, args }, i) => {
    args.forEach((arg, j) => {
      const r = `r${j + 1}`;
      if (arg.kind === 'bytes') {
        const at = 128 * (arg.slot + 1);
        const padded = new DataView(new ArrayBuffer(READ_BYTES));
        for (const [k, byte] of arg.bytes.entries()) padded.setUint8(k, byte);
        for (let k = 0; k < READ_BYTES; k += 8) {
          lines.push(`r0 = ${padded.getBigUint64(k, true)} ll`, `*(u64 *)(r10 - ${at - k}) = r0`);
        }
      }
      if (arg.kind === 'context') lines.push(`${r} = r6`);
      if (arg.kind === 'number') lines.push(`${r} = ${BigInt.asUintN(64, arg.value)} ll`);
      if (arg.kind === 'bytes') lines.push(`${r} = r10`, `${r} += -${128 * (arg.slot + 1)}`);
      if (arg.kind === 'result') lines.push(`${r} = r7`, `${r} += ${READS + i * READ_BYTES}`);
    });
    lines.push(`call ${helper}`, `*(u64 *)(r7 + ${8 * i}) = r0`);
  });
  fields.forEach(({ at, bits }, i) => {
    lines.push(`r0 = *(u${bits} *)(r6 + ${at})`, `*(u64 *)(r7 + ${8 * (MAX_CALLS + i)}) = r0`);
  });
  lines.push('r0 = 0', 'exit');
  return lines.join('\n');
}

/** A legacy load, which ends the program where it fails; the map then stays as it was. */
export function loadText(from: number, size: 1 | 2 | 4, map: string): string {
  return `
    r6 = r1
    r8 = ${from}
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = ${map} ll
    call 1
    if r0 != 0 goto found
    exit
  found:
    r7 = r0
    r0 = *(u${8 * size} *)skb[r8]
    *(u64 *)(r7 + 0) = r0
    *(u64 *)(r7 + 8) = 1
    r0 = 0
    exit`;
}

/** In a form that reads well when it differs. */
export function outcome({ value, packet }: { value: Uint8Array; packet: Uint8Array }, calls: number) {
  const view = new DataView(value.buffer);
  const hex = (part: Uint8Array): string => Buffer.from(part).toString('hex');
  return {
    results: Array.from({ length: calls }, (_, i) => view.getBigInt64(8 * i, true)),
    fields: Array.from({ length: 8 }, (_, i) => view.getBigUint64(8 * (MAX_CALLS + i), true)),
    reads: Array.from({ length: calls }, (_, i) =>
      hex(value.subarray(READS + i * READ_BYTES, READS + (i + 1) * READ_BYTES)),
    ),
    packet: hex(packet),
  };
}

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const content = (min: number, max: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: min, maxLength: max });
/** Offsets in and near the packet, and far out. */
export const offset = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 90 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
  { weight: 1, arbitrary: fc.constantFrom(0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff) },
);
const csumValue = fc.oneof(
  u64,
  fc.constantFrom(0n, 1n, 0xffffn, 0xffff_ffffn, 0x1_0000n),
  fc.bigInt({ min: 0n, max: 0xffffn }),
);
const even = offset.map(at => (at > 100 ? at : at & ~1));

const words = fc.integer({ min: 0, max: 16 }).chain(n => content(4 * n, 4 * n));
const csumDiff = fc.tuple(words, words, u64).map(
  ([from, to, seed]): Call => ({
    name: 'csum_diff',
    helper: 28,
    args: [bytes(from), number(from.length), bytes(to, 1), number(to.length), number(seed)],
  }),
);

export const skbCalls: readonly fc.Arbitrary<Call>[] = [
  csumDiff,
  fc.tuple(offset, content(1, 64), fc.constantFrom(0, 0, 1, 2, 3, 4)).map(([at, data, flags]) => ({
    name: 'skb_store_bytes',
    helper: 9,
    args: [context, number(at), bytes(data), number(data.length), number(flags)],
  })),
  fc.tuple(offset, fc.integer({ min: 1, max: 64 })).map(([at, length]) => ({
    name: 'skb_load_bytes',
    helper: 26,
    args: [context, number(at), result, number(length)],
  })),
  fc.tuple(offset, fc.integer({ min: 1, max: 64 }), fc.constantFrom(0, 1, 1, 2)).map(([at, length, start]) => ({
    name: 'skb_load_bytes_relative',
    helper: 68,
    args: [context, number(at), result, number(length), number(start)],
  })),
  fc.tuple(even, csumValue, csumValue, fc.constantFrom(0, 2, 2, 4, 4, 3, 0x14)).map(([at, from, to, flags]) => ({
    name: 'l3_csum_replace',
    helper: 10,
    args: [context, number(at), number(flags === 0 && at % 3 ? 0 : from), number(to), number(flags)],
  })),
  fc
    .tuple(even, csumValue, csumValue, fc.constantFrom(0, 2, 4, 3), fc.constantFrom(0, 0x10, 0x20, 0x30, 0x60, 0x100))
    .map(([at, from, to, size, flags]) => ({
      name: 'l4_csum_replace',
      helper: 11,
      args: [context, number(at), number(size === 0 && at % 3 ? 0 : from), number(to), number(size | flags)],
    })),
  fc
    .tuple(
      fc.oneof(fc.integer({ min: -60, max: 60 }), fc.constantFrom(-4096, 4096, 4095, -4095)),
      fc.constantFrom(0, 1, 1, 2),
      fc.oneof(
        fc.constantFrom(0n, 0n, 32n, 1n, 2n, 4n, 6n, 2n | 8n, 2n | 16n, 4n | 16n, 2n | 24n, 2n | 64n, 128n, 256n, 384n),
        fc.constantFrom(2n | 64n | (14n << 56n), 2n | (20n << 56n), 512n, 1n << 55n),
      ),
    )
    .map(([difference, mode, flags]) => ({
      name: 'skb_adjust_room',
      helper: 50,
      args: [context, number(difference), number(mode), number(flags)],
    })),
  fc
    .tuple(fc.oneof(offset, fc.constantFrom(16063, 16064, 16065)), fc.constantFrom(0, 0, 0, 1))
    .map(([length, flags]) => ({
      name: 'skb_change_tail',
      helper: 38,
      args: [context, number(length), number(flags)],
    })),
  fc.tuple(fc.oneof(fc.integer({ min: 0, max: 40 }), offset), fc.constantFrom(0, 0, 0, 1)).map(([room, flags]) => ({
    name: 'skb_change_head',
    helper: 43,
    args: [context, number(room), number(flags)],
  })),
  offset.map(length => ({ name: 'skb_pull_data', helper: 39, args: [context, number(length)] })),
  fc.tuple(fc.constantFrom(0x0081, 0xa888, 0x1234), fc.integer({ min: 0, max: 0xffff })).map(([proto, tci]) => ({
    name: 'skb_vlan_push',
    helper: 18,
    args: [context, number(proto), number(tci)],
  })),
  fc.constantFrom(0, 1, 2, 3, 4, 7, 2 ** 32 - 1).map(type => ({
    name: 'skb_change_type',
    helper: 32,
    args: [context, number(type)],
  })),
  fc.constant({ name: 'get_route_realm', helper: 24, args: [context] }),
  fc.constant({ name: 'skb_vlan_pop', helper: 19, args: [context] }),
  fc.integer({ min: 0, max: 4 }).map(level => ({ name: 'csum_level', helper: 135, args: [context, number(level)] })),
  u64.map(sum => ({ name: 'csum_update', helper: 40, args: [context, number(sum)] })),
  fc.tuple(fc.constantFrom(0x0008, 0xdd86, 0xdd86, 0x0081), fc.constantFrom(0, 0, 0, 1)).map(([protocol, flags]) => ({
    name: 'skb_change_proto',
    helper: 31,
    args: [context, number(protocol), number(flags)],
  })),
  fc.constantFrom([5, 0], [0, 0], [2 ** 32 - 1, 0], [5, 1]).map(([ifindex, flags]) => ({
    name: 'redirect_peer',
    helper: 155,
    args: [number(ifindex!), number(flags!)],
  })),
  fc.tuple(fc.integer({ min: 0, max: 40 }), fc.constantFrom(0, 0, 0, 1)).map(([size, flags]) => ({
    name: 'redirect_neigh',
    helper: 152,
    args: [number(3), bytes(new Uint8Array(40).fill(7)), number(size), number(flags)],
  })),
  fc.constant({ name: 'skb_ecn_set_ce', helper: 97, args: [context] }),
  fc.tuple(fc.oneof(u64, fc.constant(0n)), fc.integer({ min: 0, max: 4 })).map(([time, clock]) => ({
    name: 'skb_set_tstamp',
    helper: 192,
    args: [context, number(time), number(clock)],
  })),
];

const delta = (near: number): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -near, max: near }) },
    { weight: 1, arbitrary: fc.constantFrom(-216, -217, 3000, 3520, 3700, 0x7fff_ffff, -0x8000_0000) },
  );
export const xdpCalls: readonly fc.Arbitrary<Call>[] = [
  csumDiff,
  delta(64).map(by => ({ name: 'xdp_adjust_head', helper: 44, args: [context, number(by)] })),
  delta(64).map(by => ({ name: 'xdp_adjust_tail', helper: 65, args: [context, number(by)] })),
  fc
    .oneof(
      delta(16).map(by => 4 * by),
      delta(300),
    )
    .map(by => ({ name: 'xdp_adjust_meta', helper: 54, args: [context, number(by)] })),
  fc.constant({ name: 'xdp_get_buff_len', helper: 188, args: [context] }),
  fc.tuple(offset, fc.integer({ min: 1, max: 64 })).map(([at, length]) => ({
    name: 'xdp_load_bytes',
    helper: 189,
    args: [context, number(at), result, number(length)],
  })),
  fc.tuple(offset, content(1, 64)).map(([at, data]) => ({
    name: 'xdp_store_bytes',
    helper: 190,
    args: [context, number(at), bytes(data), number(data.length)],
  })),
];

const ethertype = fc.constantFrom([8, 0], [8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6], [0, 40]);
export const packets = fc
  .tuple(content(6, 6), content(6, 6), ethertype, fc.oneof(content(6, 80), content(40, 200)))
  .map(([to, from, type, payload]) => {
    const inner =
      payload.length > 8 && payload[0]! < 128
        ? [
            0,
            5,
            ...[
              [8, 0],
              [0x81, 0],
              [0, 30],
            ][payload[0]! % 3]!,
          ]
        : [];
    // The kernel takes no IPv4 or IPv6 packet for a test run that is shorter than the bare header.
    const shortest = type[0] === 8 && type[1] === 0 ? 20 : type[0] === 0x86 ? 40 : 0;
    const rest = [...inner, ...payload];
    while (rest.length < shortest) rest.push(rest.length);
    return Uint8Array.from([...to, ...from, ...type, ...rest]);
  });

/** A field of `struct __sk_buff`: its offset, and its size, which programs must read it with. */
export interface Field {
  readonly at: number;
  readonly bits: 8 | 32 | 64;
}
export const FIELDS: readonly Field[] = [
  ...(['len', 'protocol', 'vlanPresent', 'vlanTci', 'vlanProto'] as const).map(
    (name): Field => ({ at: SkBuff[name], bits: 32 }),
  ),
  { at: SkBuff.tstamp, bits: 64 },
  { at: SkBuff.tstampType, bits: 8 },
];
