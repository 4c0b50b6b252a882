/**
 * Random sequences of helper calls on random packets: our routines in the interpreter, and whole programs through the
 * runtime (verified, lowered, compiled), against the running kernel. Compared after each sequence: every result, every
 * byte read, the packet, and the skb's fields.
 */
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { openScratch } from '../kernel/scratch.ts';
import {
  type Call,
  FIELDS,
  loadText,
  MAX_CALLS,
  offset,
  outcome,
  packets,
  programText,
  READ_BYTES,
  READS,
  skbCalls,
  VALUE,
  xdpCalls,
} from './calls.ts';
import { HelperMachine } from './platform.ts';

const kernel = openScratch(VALUE);
afterAll(() => kernel?.dispose());

/** Runs the calls with our routines. @returns what the kernel's program leaves in its map, and the packet. */
function ourRun(machine: HelperMachine, ctx: bigint, calls: readonly Call[], fields: () => readonly bigint[]) {
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
    view.setBigUint64(8 * (MAX_CALLS + i), field, true);
  });
  value.set(machine.read(base, VALUE).subarray(READS), READS);
  return { value, packet: machine.packet(true) };
}

/**
 * True where the kernel's answer means nothing, in three corners. Where growth uses up the 64 bytes of headroom of a test
 * run's skb, the kernel moves it and shifts a transport header offset that was never set, which bpf_skb_change_tail
 * takes for the shortest length (received packets have it set). And bpf_skb_adjust_room in a packet cut shorter than
 * its headers moves bytes that lie behind its end; ours refuses. And the second bpf_skb_vlan_push adds 4 to a length of the MAC
 * header that a test run never sets, which bpf_skb_ecn_set_ce then skips to find the protocol behind the tags.
 */
function undefinedInKernel(calls: readonly Call[], input: Uint8Array): boolean {
  let grown = 0;
  let tags = 0;
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
        tags++;
        return false;
      case 'skb_change_proto':
        grown += 20;
        shortest -= 20;
        return false;
      case 'skb_ecn_set_ce':
        return tags > 1;
      case 'skb_vlan_pop':
        shortest -= 8;
        return false;
      default:
        return false;
    }
  });
}

describe.skipIf(kernel === undefined)('helpers against the running kernel', () => {
  const compare = (calls: readonly Call[], type: 'sched_cls' | 'xdp', input: Uint8Array): void => {
    const machine = new HelperMachine();
    const skb = type === 'sched_cls';
    const ctx = skb ? machine.skb(input) : machine.xdp(input);
    const theirs = kernel!.run(type, programText(calls, skb ? FIELDS : [], `map_fd[${kernel!.mapFd}]`), input);
    const ours = ourRun(machine, ctx, calls, () => (skb ? FIELDS.map(field => machine.read64(field)) : []));
    expect(outcome(ours, calls.length)).toEqual(outcome(theirs, calls.length));
  };

  for (const arbitrary of skbCalls) {
    const [{ name }] = fc.sample(arbitrary, { numRuns: 1, seed: 1 }) as [Call];
    test(`${name} alone`, () => {
      fc.assert(
        fc.property(arbitrary, packets, (call, input) => compare([call], 'sched_cls', input)),
        { numRuns: 30 },
      );
    });
  }

  test('sequences of skb helpers', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...skbCalls), { minLength: 2, maxLength: MAX_CALLS }), packets, (calls, input) => {
        fc.pre(!undefinedInKernel(calls, input));
        compare(calls, 'sched_cls', input);
      }),
      { numRuns: 120 },
    );
  });

  // Few runs: the kernel takes about 16 ms for each test run of an XDP program.
  test('sequences of xdp helpers', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...xdpCalls), { minLength: 4, maxLength: MAX_CALLS }), packets, (calls, input) =>
        compare(calls, 'xdp', input),
      ),
      { numRuns: 50 },
    );
  });

  test('legacy packet loads', () => {
    const bases = fc.constantFrom(0, 0, -0x100000, -0x200000);
    fc.assert(
      fc.property(
        packets,
        bases,
        offset,
        fc.constantFrom(1 as const, 2 as const, 4 as const),
        (input, base, at, size) => {
          const from = Math.max(-0x8000_0000, Math.min(base + at, 0x7fff_ffff));
          const theirs = kernel!.run('sched_cls', loadText(from, size, `map_fd[${kernel!.mapFd}]`), input);
          const machine = new HelperMachine();
          const value = machine.call(`skb_load_abs_${size}`, machine.skb(input), from);
          const [loaded, survived] = new BigUint64Array(theirs.value.buffer, 0, 2);
          expect([value >= 0n, value >= 0n ? value : 0n]).toEqual([survived === 1n, loaded]);
        },
      ),
      { numRuns: 80 },
    );
  });

  test('socket filters: what is relative to a header lies 14 bytes further on in a test run', () => {
    const length = fc.integer({ min: 1, max: 64 });
    fc.assert(
      fc.property(packets, offset, length, fc.constantFrom(0, 1, 1), (input, at, size, header) => {
        // The frame comes behind a header of its own, so that the program sees all of it: both headers are one too early.
        const calls = (from: number): Call[] => [
          {
            name: 'skb_load_bytes_relative',
            helper: 68,
            args: [
              { kind: 'context' },
              { kind: 'number', value: BigInt(from) },
              { kind: 'result' },
              { kind: 'number', value: BigInt(size) },
              { kind: 'number', value: BigInt(header) },
            ],
          },
        ];
        const from = Math.min(at & 0xffff, 0xffff - 14);
        const theirs = kernel!.run(
          'socket_filter',
          programText(calls(from + 14), [], `map_fd[${kernel!.mapFd}]`),
          input,
        );
        const machine = new HelperMachine();
        const ours = ourRun(machine, machine.skb(input), calls(from), () => []);
        expect(Buffer.from(ours.value).toString('hex')).toBe(Buffer.from(theirs.value).toString('hex'));
      }),
      { numRuns: 40 },
    );
  });
});
