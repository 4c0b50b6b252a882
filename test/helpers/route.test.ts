/** fib_lookup and check_mtu: the same table here and in a network namespace of the running kernel, the same programs. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRuntime, loadIntoKernel, type RouteTable } from '../../src/index.ts';
import { kernelMissing } from '../kernel/support.ts';
import { generator } from '../maps/tools.ts';
import { collection, withRuntime } from '../runtime/build.ts';
import { requireTool } from '../tools.ts';

const TABLE: RouteTable = {
  interfaces: [
    { ifindex: 1, mtu: 65536, mac: '00:00:00:00:00:00', addresses: ['127.0.0.1'] },
    { ifindex: 102, mtu: 1500, mac: '02:00:5e:00:00:02', addresses: ['192.0.2.1', '2001:db8:2::1'] },
    { ifindex: 103, mtu: 1400, mac: '02:00:5e:00:00:03', addresses: ['198.51.100.1', '2001:db8:3::1'] },
  ],
  routes: [
    { destination: '192.0.2.0/24', interface: 102 },
    { destination: '192.0.2.1', type: 'local' },
    { destination: '198.51.100.0/24', interface: 103 },
    { destination: '198.51.100.1', type: 'local' },
    { destination: '10.0.0.0/8', interface: 102, gateway: '192.0.2.9' },
    { destination: '10.1.0.0/16', interface: 103, gateway: '198.51.100.9', metric: 7 },
    { destination: '10.1.2.0/24', interface: 102, gateway: '192.0.2.8' },
    { destination: '10.1.2.3', interface: 103, gateway: '198.51.100.9', source: '192.0.2.1' },
    { destination: '10.2.0.0/16', type: 'blackhole' },
    { destination: '10.3.0.0/16', type: 'unreachable' },
    { destination: '10.4.0.0/16', type: 'prohibit' },
    { destination: '10.5.0.0/16', interface: 103, gateway: '198.51.100.9', mtu: 1000 },
    { destination: '10.6.0.0/16', interface: 102, gateway: '2001:db8:2::9' },
    { destination: '10.7.0.0/16', interface: 103, gateway: '198.51.100.9', table: 77 },
    { destination: '2001:db8:2::/64', interface: 102, metric: 256 },
    { destination: '2001:db8:3::/64', interface: 103, metric: 256 },
    { destination: '2001:db8:2::1', type: 'local' },
    { destination: '2001:db8:3::1', type: 'local' },
    { destination: '2001:db8:1000::/36', interface: 102, gateway: '2001:db8:2::9', metric: 1024 },
    { destination: '2001:db8:1100::/40', interface: 103, gateway: '2001:db8:3::9', metric: 5 },
    { destination: '2001:db8:1200::/40', type: 'blackhole', metric: 1024 },
    { destination: '2001:db8:1300::/40', type: 'unreachable', metric: 1024 },
    { destination: '2001:db8:1400::/40', type: 'prohibit', metric: 1024 },
    { destination: '2001:db8:1500::/40', interface: 102, gateway: '2001:db8:2::8', metric: 1024 },
  ],
  neighbours: [
    { interface: 102, address: '192.0.2.9', mac: '02:00:5e:00:01:09' },
    { interface: 102, address: '192.0.2.77', mac: '02:00:5e:00:01:77' },
    { interface: 103, address: '198.51.100.9', mac: '02:00:5e:00:02:09' },
    { interface: 102, address: '2001:db8:2::9', mac: '02:00:5e:00:03:09' },
    { interface: 103, address: '2001:db8:3::9', mac: '02:00:5e:00:04:09' },
  ],
};

const tool = requireTool('ip');

/** Makes the table in a namespace that only this thread is in. */
function enterNamespace(): void {
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)');
  if (Number(unshare(0x4000_0000)) !== 0) throw new Error('no network namespace');
  const ip = (...args: string[]): void => {
    execFileSync(tool!, args, { stdio: 'pipe' });
  };
  ip('link', 'set', 'lo', 'up');
  for (const { ifindex, mtu, mac, addresses } of TABLE.interfaces.slice(1)) {
    ip('link', 'add', `d${ifindex}`, 'index', String(ifindex), 'type', 'veth', 'peer', 'name', `p${ifindex}`);
    ip('link', 'set', `p${ifindex}`, 'up');
    ip('link', 'set', `d${ifindex}`, 'address', mac!, 'mtu', String(mtu), 'up');
    for (const address of addresses!) {
      const length = address.includes(':') ? 64 : 24;
      ip('addr', 'add', `${address}/${length}`, 'dev', `d${ifindex}`, ...(length === 64 ? ['nodad'] : []));
    }
  }
  for (const family of ['ipv4', 'ipv6']) writeFileSync(`/proc/sys/net/${family}/conf/all/forwarding`, '1');
  for (const route of TABLE.routes!) {
    const { destination, type = 'unicast' } = route;
    if (type === 'local' || (type === 'unicast' && route.gateway === undefined)) continue;
    ip(
      ...(destination.includes(':') ? ['-6'] : []),
      ...['route', 'add', type, destination],
      ...(route.gateway
        ? ['via', ...(route.gateway.includes(':') && !destination.includes(':') ? ['inet6'] : []), route.gateway]
        : []),
      ...(route.interface ? ['dev', `d${route.interface}`] : []),
      ...(route.metric ? ['metric', String(route.metric)] : []),
      ...(route.mtu ? ['mtu', 'lock', String(route.mtu)] : []),
      ...(route.source ? ['src', route.source] : []),
      ...(route.table ? ['table', String(route.table)] : []),
    );
  }
  for (const neighbour of TABLE.neighbours!) {
    ip(
      'neigh',
      'add',
      neighbour.address,
      'lladdr',
      neighbour.mac,
      'dev',
      `d${neighbour.interface}`,
      'nud',
      'permanent',
    );
  }
}

/** The packet's first 64 bytes are the parameters, then u32 flags; what the helper leaves goes back there. */
const lookupText = (data: number, end: number): string => `
  r6 = *(u32 *)(r1 + ${data})
  r2 = *(u32 *)(r1 + ${end})
  r3 = r6
  r3 += 80
  if r3 > r2 goto short
  ${Array.from({ length: 8 }, (_, i) => `r3 = *(u64 *)(r6 + ${8 * i})\n  *(u64 *)(r10 - ${64 - 8 * i}) = r3`).join('\n  ')}
  r4 = *(u32 *)(r6 + 64)
  r2 = r10
  r2 += -64
  r3 = 64
  call 69
  ${Array.from({ length: 8 }, (_, i) => `r3 = *(u64 *)(r10 - ${64 - 8 * i})\n  *(u64 *)(r6 + ${8 * i}) = r3`).join('\n  ')}
  exit
short:
  r0 = 0x7fff
  exit`;

/** The packet: u32 interface, u32 length, i32 difference, u32 flags. */
const mtuText = (data: number, end: number): string => `
  r6 = *(u32 *)(r1 + ${data})
  r2 = *(u32 *)(r1 + ${end})
  r3 = r6
  r3 += 16
  if r3 > r2 goto short
  r2 = *(u32 *)(r6 + 0)
  r3 = *(u32 *)(r6 + 4)
  *(u32 *)(r10 - 4) = r3
  r3 = r10
  r3 += -4
  r4 = *(u32 *)(r6 + 8)
  r5 = *(u32 *)(r6 + 12)
  call 163
  r3 = *(u32 *)(r10 - 4)
  *(u32 *)(r6 + 4) = r3
  exit
short:
  r0 = 0x7fff
  exit`;

const objects = (type: 'xdp' | 'sched_cls') => {
  const [data, end] = type === 'xdp' ? ([0, 4] as const) : ([76, 80] as const);
  return collection({ type, programs: { lookup: lookupText(data, end), mtu: mtuText(data, end) } });
};

function parameters(fields: {
  family?: number;
  length?: number;
  ifindex?: number;
  source?: readonly number[];
  destination: readonly number[];
  table?: number;
  flags?: number;
}): Uint8Array {
  const { destination, source = [] } = fields;
  const view = new DataView(new ArrayBuffer(100));
  const bytes = new Uint8Array(view.buffer);
  bytes[0] = fields.family ?? (destination.length === 4 ? 2 : 10);
  view.setUint16(6, fields.length ?? 0, true);
  view.setUint32(8, fields.ifindex ?? 102, true);
  bytes.set(source, 16);
  bytes.set(destination, 32);
  view.setUint32(48, fields.table ?? 0, true);
  view.setUint32(64, fields.flags ?? 0, true);
  return bytes;
}

describe.skipIf(kernelMissing() !== undefined || tool === undefined)('against the running kernel', () => {
  const runtime = createRuntime();
  beforeAll(() => {
    enterNamespace();
    runtime.routes.set(TABLE);
  });
  afterAll(() => runtime.dispose());

  test.each(['xdp', 'sched_cls'] as const)('fib_lookup in %s', type => {
    const theirs = loadIntoKernel(objects(type));
    const ours = runtime.backends.map(backend => runtime.load(objects(type), { backend }));
    const next = generator(11);
    const pick = <Item>(items: readonly Item[]): Item => items[next(items.length)]!;
    const seen = new Set<number>();
    const db8 = (...tail: number[]): number[] => [0x20, 1, 0xd, 0xb8, ...tail, ...new Array(12 - tail.length).fill(0)];
    const ipv4 = (): number[] =>
      pick([
        [10, next(9), next(4), next(5)],
        [10, 1, 2, 3],
        [192, 0, 2, pick([1, 9, 77, 78])],
        [198, 51, 100, pick([1, 9, 10])],
        [203, 0, 113, 1],
      ]);
    const ipv6 = (): number[] =>
      pick([
        db8(0x10 + next(8), next(256), next(256)),
        db8(0, pick([2, 3]), 0, 0, 0, 0, 0, 0, 0, 0, 0, pick([1, 8, 9])),
        [0xfe, 0x80, ...new Array(13).fill(0), 1],
        [0xff, 2, ...new Array(13).fill(0), 1],
        [...new Array(15).fill(0), 1],
      ]);
    for (let step = 0; step < 1500; step++) {
      const flags = pick([0, 0, 0, 4, 16, 1, 1 | 8, 1 | 8 | 16, 4 | 16, 64, 8]);
      const packet = parameters({
        destination: pick([ipv4, ipv6])(),
        length: pick([0, 0, 100, 1000, 1001, 1400, 1401, 1500, 1501, 65535]),
        ifindex: pick([1, 102, 103, 102, 103, 9]),
        table: pick([77, 254, 0, 78]),
        flags,
        ...(next(50) === 0 ? { family: pick([0, 1, 3]) } : {}),
      });
      const expected = theirs.program('lookup').run(packet);
      seen.add(Number(expected.returnValue) | 0);
      for (const object of ours) {
        const mine = object.program('lookup').run(packet);
        const shown = (run: { returnValue: bigint; data: Uint8Array }) => [
          Number(run.returnValue) | 0,
          Buffer.from(run.data.subarray(0, 64))
            .toString('hex')
            .replaceAll(/(.{8})/g, '$1 '),
        ];
        expect([step, flags, [...packet.subarray(0, 52)], ...shown(mine)]).toEqual([
          step,
          flags,
          [...packet.subarray(0, 52)],
          ...shown(expected),
        ]);
      }
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([-97, -22, -19, 0, 1, 2, 3, 4, 7, 8]);
    theirs.dispose();
    for (const object of ours) object.dispose();
  });

  test.each(['xdp', 'sched_cls'] as const)('check_mtu in %s', type => {
    const theirs = loadIntoKernel(objects(type));
    const ours = runtime.backends.map(backend => runtime.load(objects(type), { backend }));
    const next = generator(12);
    const pick = <Item>(items: readonly Item[]): Item => items[next(items.length)]!;
    const seen = new Set<number>();
    for (let step = 0; step < 600; step++) {
      const packet = new Uint8Array(pick([64, 1514, 1515, 1414, 1415]));
      const view = new DataView(packet.buffer);
      view.setUint32(0, pick([1, 102, 103, 103, 9]), true);
      view.setUint32(4, pick([0, 0, 0, 1400, 1401, 1500, 0x7fffffff]), true);
      view.setInt32(8, pick([0, 0, 0, 1, -1, -2000, 100]), true);
      view.setUint32(12, pick([0, 0, 0, 1, 2]), true);
      const expected = theirs.program('mtu').run(packet);
      seen.add(Number(expected.returnValue) | 0);
      for (const object of ours) {
        const mine = object.program('mtu').run(packet);
        const shown = (run: { returnValue: bigint; data: Uint8Array }) => [
          Number(run.returnValue) | 0,
          ...run.data.subarray(0, 16),
        ];
        expect([step, ...shown(mine)]).toEqual([step, ...shown(expected)]);
      }
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([-22, -19, 0, 1]);
    theirs.dispose();
    for (const object of ours) object.dispose();
  });
});

test('a table can be replaced and removed; encapsulation and missing sources have their answers', async () => {
  await withRuntime(async runtime => {
    for (const backend of runtime.backends) {
      const object = runtime.load(objects('xdp'), { backend });
      const ask = (destination: readonly number[], flags = 0): number =>
        Number(object.program('lookup').run(parameters({ destination, flags, length: 100 })).returnValue) | 0;
      expect(ask([10, 0, 0, 1])).toBe(-19);
      const used = runtime.memoryUsage;
      runtime.routes.set(TABLE);
      expect(ask([10, 0, 0, 1])).toBe(0);
      runtime.routes.set({
        interfaces: [{ ifindex: 102 }, { ifindex: 4, forwarding: false }],
        routes: [
          { destination: '10.0.0.0/8', interface: 4, encapsulated: true },
          { destination: '::/0', interface: 102 },
        ],
      });
      expect(ask([10, 0, 0, 1])).toBe(6);
      const v6 = [0x20, 1, ...new Array(14).fill(1)];
      expect([ask(v6, 4), ask(v6, 4 | 16), ask(v6)]).toEqual([0, 9, 7]);
      runtime.routes.set(undefined);
      expect(ask([10, 0, 0, 1])).toBe(-19);
      await runtime.settled();
      expect(runtime.memoryUsage).toBe(used);
      object.dispose();
    }
  });
});

test('a table that is wrong is refused by the member, and the old one stays', async () => {
  await withRuntime(runtime => {
    for (const [table, what] of [
      [null, /it must be an object/],
      [{ interfaces: 5 }, /interfaces must be a list/],
      [{ interfaces: [5] }, /interfaces\[0\] must be an object/],
      [{ interfaces: [{ ifindex: 0 }] }, /interfaces\[0\].ifindex must be a whole number from 1/],
      [{ interfaces: [{ ifindex: 1 }, { ifindex: 1 }] }, /one that no other interface has/],
      [{ interfaces: [{ ifindex: 1, mac: '0:1' }] }, /MAC address/],
      [{ interfaces: [{ ifindex: 1, mtu: 1.5 }] }, /mtu/],
      [{ interfaces: [{ ifindex: 1, addresses: ['x'] }] }, /addresses\[0\]/],
      [{ interfaces: [{ ifindex: 1, addresses: 'x' }] }, /addresses must be a list/],
      [{ interfaces: [{ ifindex: 1, forwarding: 'no' }] }, /forwarding must be true or false/],
      [
        { interfaces: [{ ifindex: 1, metric: 5 }] },
        /interfaces\[0\] must be an object of ifindex.*got one with metric/,
      ],
      [{ routes: [] }, /interfaces must be a list/],
      [{ interfaces: [], sockets: [] }, /it must be an object of interfaces.*got one with sockets/],
      [{ interfaces: [], routes: [{ destination: '10.0.0.0/8', type: 'constructor' }] }, /one of unicast/],
      [{ interfaces: [], routes: [{ destination: '10.0.0.0/8', type: 'local', encapsulated: 1 }] }, /true or false/],
      [{ interfaces: [], routes: [{ destination: '10.0.0.0/33', interface: 1 }] }, /a prefix like/],
      [{ interfaces: [], routes: [{ destination: '10.0.0.0/8', interface: 1 }] }, /an interface of the table/],
      [{ interfaces: [], routes: [{ destination: '10.0.0.0/8', type: 'odd' }] }, /one of unicast/],
      [
        { interfaces: [{ ifindex: 1 }], routes: [{ destination: '::/0', interface: 1, gateway: '10.0.0.1' }] },
        /an IPv6/,
      ],
      [
        { interfaces: [{ ifindex: 1 }], routes: [{ destination: '::/0', interface: 1, source: '10.0.0.1' }] },
        /same family/,
      ],
      [{ interfaces: [{ ifindex: 1 }], neighbours: [{ interface: 1, address: '10.0.0', mac: '' }] }, /address must be/],
    ] as const) {
      expect(() => runtime.routes.set(table as never)).toThrow(what);
    }
  });
});
