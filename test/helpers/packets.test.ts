/** What the kernel can't be compared in: recorded redirects, flow hashes, room that is used up, other program types. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MapHeader, RunContext, SkbContext } from '../../src/memory/layout.ts';
import { HelperMachine } from './platform.ts';

const ETHERNET = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

interface Flow {
  readonly source: readonly number[];
  readonly target: readonly number[];
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly protocol: number;
}

function frame({ source, target, sourcePort, targetPort, protocol }: Flow, tags = 0, fragment = 0): Uint8Array {
  const ports = [sourcePort >> 8, sourcePort & 255, targetPort >> 8, targetPort & 255, 1, 2, 3, 4];
  const v6 = source.length === 16;
  const ip = v6
    ? [0x60, 0, 0, 0, 0, 8, protocol, 64, ...source, ...target]
    : [0x45, 0, 0, 28, 0, 1, fragment >> 8, fragment & 255, 64, protocol, 0, 0, ...source, ...target];
  const vlan = Array.from({ length: tags }, (_, i) => [0x81, 0, 0, i + 1]).flat();
  return Uint8Array.from([...ETHERNET, ...vlan, ...(v6 ? [0x86, 0xdd] : [8, 0]), ...ip, ...ports]);
}

function hash(packet: Uint8Array): bigint {
  const machine = new HelperMachine();
  const result = machine.call('bpf_get_hash_recalc', machine.skb(packet));
  expect(BigInt(machine.field('hash'))).toBe(result);
  return result;
}

describe('flow hash', () => {
  const address = fc.constantFrom(4, 16).chain(length => {
    const one = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: length, maxLength: length });
    return fc.tuple(one, one);
  });
  const port = fc.integer({ min: 0, max: 65535 });
  const flow = fc
    .tuple(address, port, port, fc.constantFrom(6, 17, 1, 132))
    .map(([[source, target], sourcePort, targetPort, protocol]) => ({
      source,
      target,
      sourcePort,
      targetPort,
      protocol,
    }));

  test('is that of the flow: both directions, any payload, behind VLAN tags', () => {
    fc.assert(
      fc.property(flow, fc.integer({ min: 0, max: 2 }), (one, tags) => {
        const back = {
          ...one,
          source: one.target,
          target: one.source,
          sourcePort: one.targetPort,
          targetPort: one.sourcePort,
        };
        const expected = hash(frame(one));
        expect(expected).toBeGreaterThan(0n);
        expect(hash(frame(back))).toBe(expected);
        expect(hash(frame(one, tags))).toBe(expected);
        expect(hash(Uint8Array.from([...frame(one), 9, 9, 9]))).toBe(expected);
      }),
      { numRuns: 50 },
    );
  });

  test('tells flows apart, and fragments of one datagram not', () => {
    const base = { source: [192, 0, 2, 1], target: [198, 51, 100, 7], sourcePort: 1000, targetPort: 53, protocol: 17 };
    const hashes = new Set<bigint>();
    for (let i = 0; i < 500; i++) hashes.add(hash(frame({ ...base, sourcePort: 1000 + i })));
    expect(hashes.size).toBe(500);
    expect(hash(frame({ ...base, protocol: 6 }))).not.toBe(hash(frame(base)));
    expect(hash(frame(base, 0, 0x2000))).toBe(hash(frame({ ...base, sourcePort: 1 }, 0, 185)));
  });

  test('never reads behind a packet that is cut off', () => {
    const whole = frame({ source: [1, 2, 3, 4], target: [5, 6, 7, 8], sourcePort: 9, targetPort: 10, protocol: 6 }, 1);
    for (let length = 14; length <= whole.length; length++) {
      const machine = new HelperMachine();
      const first = machine.call('skb_flow_hash', machine.skb(whole.subarray(0, length)));
      const other = machine.skb(whole.subarray(0, length));
      const end = machine.arena.offset(machine.pointer(SkbContext.dataEnd), 64);
      machine.arena.bytes.fill(0x55, end, end + 64);
      expect(machine.call('skb_flow_hash', other)).toBe(first);
    }
  });

  test('is kept, set and forgotten', () => {
    const machine = new HelperMachine();
    const packet = frame({ source: [1, 2, 3, 4], target: [5, 6, 7, 8], sourcePort: 9, targetPort: 10, protocol: 6 });
    const skb = machine.skb(packet);
    const first = machine.call('bpf_get_hash_recalc', skb);
    const byte = machine.bytes(Uint8Array.of(77));
    machine.call('bpf_skb_store_bytes', skb, 26, byte, 1, 0);
    expect(machine.call('bpf_get_hash_recalc', skb)).toBe(first);
    machine.call('bpf_skb_store_bytes', skb, 26, byte, 1, 2);
    const second = machine.call('bpf_get_hash_recalc', skb);
    expect(second).not.toBe(first);
    expect(machine.call('bpf_set_hash', skb, 0)).toBe(0n);
    expect(machine.call('bpf_get_hash_recalc', skb)).toBe(0n);
    expect(machine.call('bpf_set_hash', skb, 0x1_2345_6789n)).toBe(0n);
    expect(machine.call('bpf_get_hash_recalc', skb)).toBe(0x2345_6789n);
    expect(machine.call('bpf_set_hash_invalid', skb)).toBe(0n);
    expect(machine.call('bpf_get_hash_recalc', skb)).toBe(second);
  });
});

describe('redirects', () => {
  const MAP = { devmap: 14, cpumap: 16 };
  /** Entries are u32; an entry of 0 is an empty one, as in the maps' own lookup of a slot never filled. */
  const lookup = {
    name: 'bpf_map_lookup_elem',
    text: `
  r3 = *(u32 *)(r2 + 0)
  r0 = 0
  r4 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r3 >= r4 goto done
  r3 <<= 2
  r0 = *(u64 *)(r1 + ${MapHeader.values})
  r0 += r3
done:
  exit`,
  };
  function machineWithMap(type: number): { machine: HelperMachine; map: bigint } {
    const machine = new HelperMachine([lookup]);
    const map = machine.bytes(new Uint8Array(MapHeader.size + 16));
    const { view } = machine.arena;
    view.setUint32(machine.scratch + MapHeader.type, type, true);
    view.setUint32(machine.scratch + MapHeader.maxEntries, 4, true);
    view.setBigUint64(machine.scratch + MapHeader.values, map + BigInt(MapHeader.size), true);
    view.setUint32(machine.scratch + MapHeader.size + 4, 9, true);
    return { machine, map };
  }
  const record = (machine: HelperMachine) => ({
    kind: machine.run32(RunContext.redirectKind),
    ifindex: machine.run32(RunContext.redirectIfindex),
    key: machine.run32(RunContext.redirectKey),
    flags: machine.run32(RunContext.redirectFlags),
  });

  test('to an interface', () => {
    const machine = new HelperMachine();
    expect(machine.call('bpf_redirect', 5, 1)).toBe(7n);
    expect(record(machine)).toEqual({ kind: 1, ifindex: 5, key: 0, flags: 1 });
    expect(machine.call('bpf_redirect', 6, 2)).toBe(2n);
    expect(machine.call('bpf_xdp_redirect', 6, 1)).toBe(0n);
    expect(record(machine).ifindex).toBe(5);
    expect(machine.call('bpf_xdp_redirect', 6, 0)).toBe(4n);
    expect(record(machine)).toEqual({ kind: 1, ifindex: 6, key: 0, flags: 0 });
  });

  test('through a map; the last call counts', () => {
    const { machine, map } = machineWithMap(MAP.devmap);
    expect(machine.call('bpf_redirect_map', map, 1, 2)).toBe(4n);
    expect(record(machine)).toEqual({ kind: 2, ifindex: 0, key: 1, flags: 0 });
    expect(machine.arena.view.getBigUint64(machine.runContext + RunContext.redirectMap, true)).toBe(map);
    expect(machine.call('bpf_redirect_map', map, 2, 2)).toBe(2n);
    expect(record(machine).kind).toBe(0);
    expect(machine.call('bpf_redirect_map', map, 4, 3)).toBe(3n);
    expect(machine.call('bpf_redirect_map', map, 1, 4)).toBe(0n);
    expect(machine.call('bpf_redirect_map', map, 77, 8 | 16)).toBe(4n);
    expect(record(machine)).toEqual({ kind: 2, ifindex: 0, key: 77, flags: 24 });
    const cpus = machineWithMap(MAP.cpumap);
    expect(cpus.machine.call('bpf_redirect_map', cpus.map, 1, 8)).toBe(0n);
    expect(cpus.machine.call('bpf_redirect_map', cpus.map, 1, 0)).toBe(4n);
  });

  test('clones are counted, the last eight kept', () => {
    const machine = new HelperMachine();
    const skb = machine.skb(new Uint8Array(60));
    for (let i = 1; i <= 9; i++) expect(machine.call('bpf_clone_redirect', skb, i, i & 1)).toBe(0n);
    expect(machine.run32(RunContext.cloneCount)).toBe(9);
    const kept = Array.from({ length: 8 }, (_, i) => [
      machine.run32(RunContext.cloneRecords + 8 * i),
      machine.run32(RunContext.cloneRecords + 8 * i + 4),
    ]);
    expect(kept).toEqual([[9, 1], ...[2, 3, 4, 5, 6, 7, 8].map(i => [i, i & 1])]);
    expect(machine.call('bpf_clone_redirect', skb, 0, 0)).toBe(-22n);
    expect(machine.call('bpf_clone_redirect', skb, 1, 2)).toBe(-22n);
    expect(machine.run32(RunContext.cloneCount)).toBe(9);
  });
});

describe('limits of a frame', () => {
  test('growth ends at the headroom and the tailroom', () => {
    const machine = new HelperMachine();
    const packet = Uint8Array.from([...ETHERNET, 8, 0, ...new Array(46).fill(1)]);
    const skb = machine.skb(packet, 'mac', 64);
    expect(machine.call('bpf_skb_adjust_room', skb, 65, 1, 0)).toBe(-12n);
    expect(machine.call('bpf_skb_change_head', skb, 65, 0)).toBe(-12n);
    expect(machine.packet()).toEqual(packet);
    expect(machine.call('bpf_skb_change_head', skb, 64, 0)).toBe(0n);
    expect(machine.call('bpf_skb_vlan_push', skb, 0x81, 5)).toBe(0n);
    expect(machine.call('bpf_skb_vlan_push', skb, 0x81, 6)).toBe(-12n);
    machine.arena.view.setBigUint64(
      machine.context + SkbContext.hardEnd,
      machine.pointer(SkbContext.dataEnd) + 4n,
      true,
    );
    expect(machine.call('bpf_skb_change_tail', skb, packet.length + 64 + 5, 0)).toBe(-12n);
    expect(machine.call('bpf_skb_change_tail', skb, packet.length + 64 + 4, 0)).toBe(0n);
  });

  test('a context at the network header reads the MAC header by its negative base only', () => {
    const machine = new HelperMachine();
    const packet = frame({ source: [1, 2, 3, 4], target: [5, 6, 7, 8], sourcePort: 9, targetPort: 10, protocol: 6 });
    const skb = machine.skb(packet, 'network');
    const to = machine.bytes(new Uint8Array(4).fill(9));
    expect(machine.call('bpf_skb_load_bytes', skb, 0, to, 4)).toBe(0n);
    expect([...machine.read(to, 4)]).toEqual([0x45, 0, 0, 28]);
    expect(machine.call('bpf_skb_load_bytes_relative', skb, 0, to, 4, 0)).toBe(0n);
    expect([...machine.read(to, 4)]).toEqual(ETHERNET.slice(0, 4));
    expect(machine.call('bpf_skb_load_bytes_relative', skb, 12, to, 4, 1)).toBe(0n);
    expect([...machine.read(to, 4)]).toEqual([1, 2, 3, 4]);
    expect(machine.call('bpf_skb_load_bytes', skb, packet.length - 14, to, 1)).toBe(-14n);
    expect([...machine.read(to, 4)]).toEqual([0, 2, 3, 4]);
    expect(machine.call('skb_load_abs_2', skb, -0x200000 + 12)).toBe(0x0800n);
    expect(machine.call('skb_load_abs_4', skb, -0x100000 + 12)).toBe(0x01020304n);
    expect(machine.call('skb_load_abs_1', skb, -0x200001)).toBe(-14n);
  });
});
