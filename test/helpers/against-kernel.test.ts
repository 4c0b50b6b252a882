/**
 * Random sequences of helper calls on random packets: our routines in the interpreter against the running kernel.
 * Compared after each sequence: every result, every byte read, the packet, and the skb's fields.
 */
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { SkBuff } from '../../src/memory/layout.ts';
import { openKernel } from './kernel.ts';
import { HelperMachine, type SkbFields } from './platform.ts';

/** In the kernel: one u64 per result, then 64 bytes per read. In ours: the same layout in scratch memory. */
const MAX_CALLS = 8;
const READS = 8 * (MAX_CALLS + 8);
const READ_BYTES = 64;
const VALUE = READS + MAX_CALLS * READ_BYTES;
const kernel = openKernel(VALUE);
afterAll(() => kernel?.dispose());

type Argument =
  | { readonly kind: 'context' }
  | { readonly kind: 'number'; readonly value: bigint }
  /** The program's stack (ours: scratch) with these bytes, at a place of 64 bytes chosen by `slot`. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly slot: 0 | 1 }
  /** Where the call is to write. */
  | { readonly kind: 'result' };

interface Call {
  readonly name: string;
  readonly helper: number;
  readonly args: readonly Argument[];
}

const context: Argument = { kind: 'context' };
const result: Argument = { kind: 'result' };
const number = (value: bigint | number): Argument => ({ kind: 'number', value: BigInt(value) });
const bytes = (content: Uint8Array, slot: 0 | 1 = 0): Argument => ({ kind: 'bytes', bytes: content, slot });

function kernelText(calls: readonly Call[], fields: readonly number[], mapFd: number): string {
  const lines = [
    'r6 = r1',
    '*(u32 *)(r10 - 4) = 0',
    'r2 = r10',
    'r2 += -4',
    `r1 = map_fd[${mapFd}] ll`,
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
  fields.forEach((offset, i) => {
    lines.push(`r0 = *(u32 *)(r6 + ${offset})`, `*(u64 *)(r7 + ${8 * (MAX_CALLS + i)}) = r0`);
  });
  lines.push('r0 = 0', 'exit');
  return lines.join('\n');
}

/** A legacy load, which ends the program where it fails; the map then stays as it was. */
function loadText(from: number, size: 1 | 2 | 4, mapFd: number): string {
  return `
    r6 = r1
    r8 = ${from}
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map_fd[${mapFd}] ll
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

/** Runs the calls with our routines. @returns what the kernel's program leaves in its map, and the packet. */
function ourRun(machine: HelperMachine, ctx: bigint, calls: readonly Call[], fields: () => readonly number[]) {
  const value = new Uint8Array(VALUE);
  const view = new DataView(value.buffer);
  const base = machine.bytes(value);
  calls.forEach(({ name, args }, i) => {
    const values = args.map(arg => {
      if (arg.kind === 'context') return ctx;
      if (arg.kind === 'number') return arg.value;
      if (arg.kind === 'result') return base + BigInt(READS + i * READ_BYTES);
      return machine.bytes(arg.bytes, 2048 + 128 * arg.slot);
    });
    // The kernel leaves r3-r5 as they were; ours must not depend on them.
    view.setBigInt64(8 * i, machine.call(`bpf_${name}`, ...values), true);
  });
  fields().forEach((field, i) => {
    view.setBigUint64(8 * (MAX_CALLS + i), BigInt(field), true);
  });
  value.set(machine.read(base, VALUE).subarray(READS), READS);
  return { value, packet: machine.packet(true) };
}

/** In a form that reads well when it differs. */
function outcome({ value, packet }: { value: Uint8Array; packet: Uint8Array }, calls: number) {
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

/**
 * True where the kernel's answer means nothing, in two corners. Where growth uses up the 64 bytes of headroom of a test
 * run's skb, the kernel moves it and shifts a transport header offset that was never set, which bpf_skb_change_tail
 * takes for the shortest length (received packets have it set). And bpf_skb_adjust_room in a packet cut shorter than
 * its headers moves bytes that lie behind its end; ours refuses.
 */
function undefinedInKernel(calls: readonly Call[], input: Uint8Array): boolean {
  let grown = 0;
  let shortest = input.length;
  return calls.some(({ name, args }) => {
    const by = args[1]?.kind === 'number' ? Number(BigInt.asIntN(32, args[1].value)) : 0;
    switch (name) {
      case 'skb_change_tail':
        if (by >= 0) shortest = Math.min(shortest, by);
        return grown > 60;
      case 'skb_adjust_room':
        if (shortest < 54) return true;
        grown += Math.max(by, 0);
        shortest += Math.min(by, 0);
        return false;
      case 'skb_change_head':
        grown += Math.max(by, 0);
        return false;
      case 'skb_vlan_push':
        grown += 4;
        return false;
      case 'skb_vlan_pop':
        shortest -= 8;
        return false;
      default:
        return false;
    }
  });
}

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const content = (min: number, max: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: min, maxLength: max });
/** Offsets in and near the packet, and far out. */
const offset = fc.oneof(
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

const skbCalls: readonly fc.Arbitrary<Call>[] = [
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
  fc.constant({ name: 'skb_vlan_pop', helper: 19, args: [context] }),
  fc.integer({ min: 0, max: 4 }).map(level => ({ name: 'csum_level', helper: 135, args: [context, number(level)] })),
  u64.map(sum => ({ name: 'csum_update', helper: 40, args: [context, number(sum)] })),
];

const delta = (near: number): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -near, max: near }) },
    { weight: 1, arbitrary: fc.constantFrom(-216, -217, 3000, 3520, 3700, 0x7fff_ffff, -0x8000_0000) },
  );
const xdpCalls: readonly fc.Arbitrary<Call>[] = [
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
const packet = fc
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

const FIELDS: readonly (keyof SkbFields)[] = ['len', 'protocol', 'vlanPresent', 'vlanTci', 'vlanProto'];

describe.skipIf(kernel === undefined)('helpers against the running kernel', () => {
  const compare = (calls: readonly Call[], type: 'sched_cls' | 'xdp', input: Uint8Array): void => {
    const machine = new HelperMachine();
    const skb = type === 'sched_cls';
    const ctx = skb ? machine.skb(input) : machine.xdp(input);
    const theirs = kernel!.run(
      type,
      kernelText(calls, skb ? FIELDS.map(name => SkBuff[name]) : [], kernel!.mapFd),
      input,
    );
    const ours = ourRun(machine, ctx, calls, () => (skb ? FIELDS.map(name => machine.field(name)) : []));
    expect(outcome(ours, calls.length)).toEqual(outcome(theirs, calls.length));
  };

  for (const arbitrary of skbCalls) {
    const [{ name }] = fc.sample(arbitrary, { numRuns: 1, seed: 1 }) as [Call];
    test(`${name} alone`, () => {
      fc.assert(
        fc.property(arbitrary, packet, (call, input) => compare([call], 'sched_cls', input)),
        { numRuns: 60 },
      );
    });
  }

  test('sequences of skb helpers', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...skbCalls), { minLength: 2, maxLength: MAX_CALLS }), packet, (calls, input) => {
        fc.pre(!undefinedInKernel(calls, input));
        compare(calls, 'sched_cls', input);
      }),
      { numRuns: 200 },
    );
  });

  // Few runs: the kernel takes about 16 ms for each test run of an XDP program.
  test('sequences of xdp helpers', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...xdpCalls), { minLength: 4, maxLength: MAX_CALLS }), packet, (calls, input) =>
        compare(calls, 'xdp', input),
      ),
      { numRuns: 100 },
    );
  });

  test('legacy packet loads', () => {
    const bases = fc.constantFrom(0, 0, -0x100000, -0x200000);
    fc.assert(
      fc.property(
        packet,
        bases,
        offset,
        fc.constantFrom(1 as const, 2 as const, 4 as const),
        (input, base, at, size) => {
          const from = Math.max(-0x8000_0000, Math.min(base + at, 0x7fff_ffff));
          const theirs = kernel!.run('sched_cls', loadText(from, size, kernel!.mapFd), input);
          const machine = new HelperMachine();
          const value = machine.call(`skb_load_abs_${size}`, machine.skb(input), from);
          const [loaded, survived] = new BigUint64Array(theirs.value.buffer, 0, 2);
          expect([value >= 0n, value >= 0n ? value : 0n]).toEqual([survived === 1n, loaded]);
        },
      ),
      { numRuns: 150 },
    );
  });
});
