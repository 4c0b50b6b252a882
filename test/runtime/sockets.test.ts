/**
 * Sockets: what programs find in the table and read of them, beside the running kernel with the same sockets open on its loopback
 * interface.
 */

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket as TcpSocket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  assemble,
  type Collection,
  createRuntime,
  loadIntoKernel,
  type Packet,
  type ProgramType,
  programFromInstructions,
  type Runtime,
  type SocketOptions,
} from '../../src/index.ts';
import { BpfSock, BpfTcpSock } from '../../src/memory/layout.ts';
import { parseAddress } from '../../src/runtime/ip-address.ts';
import { kernelMissing } from '../kernel/support.ts';

const HELPERS = { sk_lookup_tcp: 84, sk_lookup_udp: 85, skc_lookup_tcp: 99 };
const missing = kernelMissing();
const HEADER = 64;
/** Where a program writes what it found: a flag, the members of struct bpf_sock, two of struct bpf_tcp_sock. */
const OUT = HEADER;
const LENGTH = OUT + 8 + BpfSock.size + 16;
const TUPLE_AT = 14;

/** Looks for the tuple of `bytes` bytes in the packet and copies what it finds into the packet. */
function finder(type: ProgramType, helper: keyof typeof HELPERS, bytes: number): string {
  const words = Array.from({ length: BpfSock.size / 4 }, (_, i) => 4 * i).filter(
    // Only whole sockets have a type, a protocol, a mark and a priority.
    at => !(helper === 'skc_lookup_tcp' && at >= BpfSock.type && at < BpfSock.srcIp4),
  );
  const [data, end] = type === 'xdp' ? [0, 4] : [76, 80];
  const toTcp = `
r1 = r7
call 96
if r0 == 0 goto release
*(u32 *)(r8 + ${OUT + 4}) = 1
r1 = *(u32 *)(r0 + ${BpfTcpSock.totalRetrans})
*(u32 *)(r8 + ${OUT + 8 + BpfSock.size}) = r1
r1 = *(u64 *)(r0 + ${BpfTcpSock.bytesReceived})
*(u32 *)(r8 + ${OUT + 12 + BpfSock.size}) = r1`;
  return `
r6 = r1
r8 = *(u32 *)(r1 + ${data})
r9 = *(u32 *)(r1 + ${end})
r2 = r8
r2 += ${LENGTH}
if r2 > r9 goto out
r2 = r8
r2 += ${TUPLE_AT}
r3 = ${bytes}
r4 = -1
r5 = 0
call ${HELPERS[helper]}
if r0 == 0 goto out
r7 = r0
*(u32 *)(r8 + ${OUT}) = 1
${words.map(at => `r1 = *(u32 *)(r7 + ${at})\n*(u32 *)(r8 + ${OUT + 8 + at}) = r1`).join('\n')}
${type === 'xdp' ? '' : toTcp}
release:
r1 = r7
call 86
out: r0 = 0
exit`;
}

function collection(type: ProgramType, text: string): Collection {
  const program = programFromInstructions({ name: 'test', type, insns: assemble(text) });
  return { programs: new Map([['test', program]]), maps: new Map(), license: 'GPL', btf: undefined };
}

interface Tuple {
  readonly remote: string;
  readonly remotePort: number;
  readonly local: string;
  readonly localPort: number;
}

function packet({ remote, remotePort, local, localPort }: Tuple): Uint8Array {
  const bytes = new Uint8Array(LENGTH);
  const [from, to] = [parseAddress(remote)!, parseAddress(local)!];
  bytes.set([...from, ...to], TUPLE_AT);
  const ports = new DataView(bytes.buffer, TUPLE_AT + from.length + to.length);
  ports.setUint16(0, remotePort, false);
  ports.setUint16(2, localPort, false);
  return bytes;
}

describe.skipIf(missing !== undefined)('beside the kernel', () => {
  let server4: Server;
  let server6: Server;
  let any: Server;
  let client: TcpSocket;
  let accepted: TcpSocket;
  let udp: UdpSocket;
  let connected: UdpSocket;
  let runtime: Runtime;
  const cases: [name: string, tuple: Tuple][] = [];
  const port = (of: { address(): AddressInfo | string | null | object }): number => (of.address() as AddressInfo).port;

  beforeAll(async () => {
    const listen = async (host: string): Promise<Server> => {
      const server = createServer();
      server.listen(0, host);
      await once(server, 'listening');
      return server;
    };
    server4 = await listen('127.0.0.1');
    server6 = await listen('::1');
    any = await listen('::');
    client = connect(port(server4), '127.0.0.1');
    [[accepted]] = (await Promise.all([once(server4, 'connection'), once(client, 'connect')])) as [
      [TcpSocket],
      unknown,
    ];
    udp = createSocket('udp4');
    udp.bind(0, '127.0.0.1');
    await once(udp, 'listening');
    connected = createSocket('udp4');
    connected.connect(port(udp), '127.0.0.1');
    await once(connected, 'connect');
    runtime = createRuntime();
    const add = (options: SocketOptions) => runtime.sockets.add(options);
    const l = '127.0.0.1';
    add({ local: { address: l, port: port(server4) } });
    add({ local: { address: '::1', port: port(server6) } });
    add({ local: { address: '::', port: port(any) } });
    const there = { address: l, port: client.localPort! };
    add({ local: there, remote: { address: l, port: port(server4) } });
    add({ local: { address: l, port: port(server4) }, remote: there });
    add({ protocol: 'udp', local: { address: l, port: port(udp) } });
    add({
      protocol: 'udp',
      local: { address: l, port: (connected.address() as AddressInfo).port },
      remote: { address: l, port: port(udp) },
    });
    const p = port(server4);
    const t = (remote: string, remotePort: number, local: string, localPort: number): Tuple => ({
      remote,
      remotePort,
      local,
      localPort,
    });
    cases.push(
      ['listener', t('127.0.0.9', 9, l, p)],
      ['connection, from the client', t(l, there.port, l, p)],
      ['connection, from the server', t(l, p, l, there.port)],
      ['wrong port', t(l, there.port, l, 1)],
      ['connection from another port', t(l, 2, l, there.port)],
      ['listener at another address', t(l, 7, '127.0.0.2', p)],
      ['IPv6 listener', t('::1', 9, '::1', port(server6))],
      ['IPv6 listener at another address', t('::1', 9, '::2', port(server6))],
      ['any address, IPv6', t('::7', 9, '::1', port(any))],
      ['any address, IPv4', t('10.1.1.1', 9, '127.0.0.5', port(any))],
      ['UDP', t('10.1.1.1', 9, l, port(udp))],
      ['UDP from its peer', t(l, (connected.address() as AddressInfo).port, l, port(udp))],
      ['connected UDP', t(l, port(udp), l, (connected.address() as AddressInfo).port)],
      ['connected UDP from another', t(l, 8, l, (connected.address() as AddressInfo).port)],
    );
  });
  afterAll(async () => {
    for (const socket of [client, accepted]) socket?.destroy();
    for (const server of [server4, server6, any]) server?.close();
    udp?.close();
    connected?.close();
    await runtime?.dispose();
  });

  const PROGRAMS = (['sched_cls', 'xdp'] as const).flatMap(type =>
    (Object.keys(HELPERS) as (keyof typeof HELPERS)[]).flatMap(helper =>
      (['native', 'interpreter'] as const).map(backend => [type, helper, backend] as const),
    ),
  );
  test.each(PROGRAMS)('%s, bpf_%s, %s', (type, helper, backend) => {
    if (!runtime.backends.includes(backend)) return;
    let found = 0;
    for (const [name, tuple] of cases) {
      const bytes = 2 * parseAddress(tuple.local)!.length + 4;
      const given = collection(type, finder(type, helper, bytes));
      const theirs = loadIntoKernel(given);
      const ours = runtime.load(given, { backend });
      const input = packet(tuple);
      const [mine, kernels] = [ours.program('test').run(input).data, theirs.program('test').run(input).data];
      const at = (offset: number) => (bytes: Uint8Array) =>
        new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
      found += at(OUT)(kernels);
      // Numbers that depend on what the connection did, and the queue that the kernel's packets came by.
      for (const ignored of [OUT + 8 + BpfSock.rxQueueMapping, OUT + 8 + BpfSock.size, OUT + 12 + BpfSock.size])
        for (const bytes of [mine, kernels]) bytes.fill(0, ignored, ignored + 4);
      // The kernel leaves all sorts of things in the members of the other family.
      const others =
        at(OUT + 8 + BpfSock.family)(kernels) === 2
          ? [BpfSock.srcIp6, BpfSock.dstIp6].flatMap(member => [member, member + 4, member + 8, member + 12])
          : [BpfSock.srcIp4, BpfSock.dstIp4];
      for (const member of others)
        for (const bytes of [mine, kernels]) bytes.fill(0, OUT + 8 + member, OUT + 12 + member);
      expect(mine, name).toEqual(kernels);
      theirs.dispose();
      ours.dispose();
    }
    expect(found).toBeGreaterThan(helper === 'sk_lookup_udp' ? 2 : 4);
  });

  test('the kernel takes no packet that names a socket', () => {
    const theirs = loadIntoKernel(collection('sched_cls', 'r0 = 0\nexit'));
    const socket = runtime.sockets.add({});
    expect(() => theirs.program('test').run({ data: new Uint8Array(64), socket })).toThrow(/socket of its own/);
    socket.delete();
    theirs.dispose();
  });
});

/** Runs a program on both backends with sockets that `prepare` makes. */
async function onBackends(
  type: ProgramType,
  text: string,
  use: (run: (packet: Packet) => { result: number; data: Uint8Array }, runtime: Runtime) => void,
): Promise<void> {
  for (const backend of ['native', 'interpreter'] as const) {
    const runtime = createRuntime();
    try {
      if (!runtime.backends.includes(backend)) continue;
      const program = runtime.load(collection(type, text), { backend }).program('test');
      use(given => {
        const { returnValue, data } = program.run(given);
        return { result: Number(BigInt.asUintN(32, returnValue)), data };
      }, runtime);
    } finally {
      await runtime.dispose();
    }
  }
}

const DATA = new Uint8Array(64);
const connection: SocketOptions = {
  local: { address: '10.0.0.1', port: 443 },
  remote: { address: '10.0.0.2', port: 0x1234 },
};

describe("a packet's socket", () => {
  test('is null unless the packet names one, and tells what it was made with', () =>
    onBackends(
      'sched_cls',
      `
r1 = *(u64 *)(r1 + 168)
r0 = 1000
if r1 == 0 goto out
call 95
if r0 == 0 goto part
r0 = *(u32 *)(r0 + ${BpfSock.mark})
out: exit
part: r0 = 2000
exit`,
      (run, { sockets }) => {
        expect(run({ data: DATA }).result).toBe(1000);
        expect(run({ data: DATA, socket: sockets.add({ ...connection, mark: 77 }) }).result).toBe(77);
        expect(run({ data: DATA, socket: sockets.add({ kind: 'timewait' }) }).result).toBe(2000);
        expect(run({ data: DATA }).result).toBe(1000);
      },
    ));

  test('its addresses and ports are in struct __sk_buff', () =>
    onBackends(
      'cgroup_skb',
      `
r2 = *(u32 *)(r1 + 88)
r3 = *(u32 *)(r1 + 92)
r4 = *(u32 *)(r1 + 96)
r5 = *(u32 *)(r1 + 132)
r0 = *(u32 *)(r1 + 136)
if r2 == 0 goto none
if r2 != 2 goto no
if w3 != 0x0200000a goto no
if w4 != 0x0100000a goto no
if w5 != 0x34120000 goto no
if r0 != 443 goto no
r0 = 1
exit
none: r0 = 0
exit
no: r0 = 0
exit`,
      (run, { sockets }) => {
        expect(run({ data: DATA, socket: sockets.add(connection) }).result).toBe(1);
        expect(run({ data: DATA }).result).toBe(0);
      },
    ));

  const ask = (helper: number): string => `call ${helper}\nexit`;
  test.each([
    [46, 0, 0xabcdef],
    [47, 65534, 1000],
    [17, 0, 0x10001],
  ])('helper %i', (helper, without, withSocket) =>
    onBackends('sched_cls', ask(helper), (run, { sockets }) => {
      const socket = sockets.add({ cookie: 0xabcdefn, uid: 1000, classId: 0x10001 });
      expect(run({ data: DATA }).result).toBe(without);
      expect(run({ data: DATA, socket }).result).toBe(withSocket);
      const listener = sockets.add({ uid: 5, classId: 6, local: { address: '::', port: 1 } });
      const request = sockets.add({ kind: 'request', listener, cookie: 9n });
      expect(run({ data: DATA, socket: request }).result).toBe(helper === 46 ? 9 : helper === 47 ? 5 : 6);
    }),
  );

  test('cast and cast again it is the same socket', () =>
    onBackends(
      'sched_cls',
      `
r1 = *(u64 *)(r1 + 168)
r0 = 0
if r1 == 0 goto out
call 96
if r0 == 0 goto out
r6 = *(u32 *)(r0 + ${BpfTcpSock.sndCwnd})
r1 = r0
call 95
if r0 == 0 goto out
r7 = *(u32 *)(r0 + ${BpfSock.mark})
r1 = r0
call 96
if r0 == 0 goto out
r1 = r0
call 98
if r0 != 0 goto listens
r0 = r6
r0 += r7
out: exit
listens: r0 = *(u32 *)(r0 + ${BpfSock.srcPort})
exit`,
      (run, { sockets }) => {
        expect(run({ data: DATA, socket: sockets.add({ ...connection, mark: 7, tcp: { sndCwnd: 100 } }) }).result).toBe(
          107,
        );
        expect(run({ data: DATA, socket: sockets.add({ protocol: 'udp', mark: 7 }) }).result).toBe(0);
        expect(run({ data: DATA, socket: sockets.add({ local: { address: '::1', port: 80 } }) }).result).toBe(80);
      },
    ));
});

describe('the table', () => {
  const LOOKUP = `
*(u32 *)(r10 - 12) = 0x0200000a
*(u32 *)(r10 - 8) = 0x0100000a
*(u16 *)(r10 - 4) = 0x3412
*(u16 *)(r10 - 2) = 0xbb01
r2 = r10
r2 += -12
r3 = 12
r4 = -1
r5 = 0
call 84
r6 = 0
if r0 == 0 goto out
r6 = *(u32 *)(r0 + ${BpfSock.mark})
r1 = r0
call 86
out: r0 = r6
exit`;
  test('the most particular socket is found; deleted ones are not', () =>
    onBackends('sched_cls', LOOKUP, (run, { sockets }) => {
      const mark = (): number => run({ data: DATA, ifindex: 3 }).result;
      expect(mark()).toBe(0);
      const any = sockets.add({ local: { address: '::', port: 443 }, mark: 1 });
      expect(mark()).toBe(1);
      const here = sockets.add({ local: { address: '10.0.0.1', port: 443 }, mark: 2 });
      expect(mark()).toBe(2);
      const exact = sockets.add({ ...connection, mark: 3 });
      expect(mark()).toBe(3);
      expect(sockets.size).toBe(3);
      exact.delete();
      exact.delete();
      expect(mark()).toBe(2);
      sockets.add({ ...connection, mark: 4, boundDevice: 4 });
      expect(mark()).toBe(2);
      here.delete();
      any.delete();
      expect(mark()).toBe(0);
      const listener = sockets.add({ local: { address: '1.1.1.1', port: 1 }, mark: 5 });
      sockets.add({ local: { address: '10.0.0.1', port: 443 }, kind: 'request', listener });
      expect(mark()).toBe(5);
    }));

  test('it grows, and gives its memory back', async () => {
    const runtime = createRuntime({ backend: 'interpreter', arenaSize: 8 << 20 });
    const before = runtime.memoryUsage;
    const made = Array.from({ length: 500 }, (_, port) =>
      runtime.sockets.add({ local: { address: '10.0.0.1', port }, mark: port }),
    );
    const program = runtime.load(collection('sched_cls', LOOKUP)).program('test');
    expect(program.run(DATA).returnValue).toBe(443n);
    const grown = runtime.memoryUsage;
    for (const socket of made) socket.delete();
    await runtime.settled();
    expect(runtime.sockets.size).toBe(0);
    expect(grown - runtime.memoryUsage).toBeGreaterThanOrEqual(500 * 296);
    // The table itself stays.
    expect(runtime.memoryUsage).toBeGreaterThan(before);
    await runtime.dispose();
  });

  test('a deleted socket stays for the packets that name it, and is refused for new ones', async () => {
    const runtime = createRuntime({ backend: 'interpreter', arenaSize: 4 << 20 });
    const other = createRuntime({ backend: 'interpreter', arenaSize: 4 << 20 });
    const text = `r1 = *(u64 *)(r1 + 168)\nr0 = 0\nif r1 == 0 goto out\nr0 = *(u32 *)(r1 + ${BpfSock.srcPort})\nout: exit`;
    const program = runtime.load(collection('sched_cls', text)).program('test');
    const socket = runtime.sockets.add({ local: { address: '10.0.0.1', port: 9 } });
    const running = program.replayAsync(Array.from({ length: 100 }, () => ({ data: DATA, socket })));
    socket.delete();
    expect((await running).verdicts).toEqual({ '9': 100 });
    expect(() => program.run({ data: DATA, socket })).toThrow(/deleted/);
    expect(() => program.run({ data: DATA, socket: other.sockets.add({}) })).toThrow(/another runtime/);
    await runtime.dispose();
    await other.dispose();
  });

  test.each<[string, object]>([
    ['protocol', { protocol: 'sctp' }],
    ['local.address', { local: { address: '10.0.0', port: 1 } }],
    ['local.address', { local: { address: '1::2::3', port: 1 } }],
    ['local.port', { local: { address: '10.0.0.1', port: 65536 } }],
    ['remote', { local: { address: '10.0.0.1', port: 1 }, remote: { address: '::1', port: 1 } }],
    ['local', { remote: { address: '::1', port: 1 } }],
    ['state', { state: 0 }],
    ['mark', { mark: -1 }],
    ['mark', { mark: 1.5 }],
    ['cookie', { cookie: 1n << 64n }],
    ['tcp.size', { tcp: { size: 1 } }],
    ['tcp.nonsense', { tcp: { nonsense: 1 } }],
    ['tcp.sndCwnd', { tcp: { sndCwnd: 2 ** 32 } }],
    ['tcp.bytesAcked', { tcp: { bytesAcked: 1 } }],
    ['kind', { kind: 'half' }],
    ['listener', { kind: 'full', listener: {} }],
    ['listener', { kind: 'request', listener: {} }],
  ])('%s is checked: %o', async (name, options) => {
    const runtime = createRuntime({ backend: 'interpreter', arenaSize: 2 << 20 });
    const used = runtime.memoryUsage;
    expect(() => runtime.sockets.add(options as SocketOptions)).toThrow(
      expect.objectContaining({ code: 'bad_argument' }),
    );
    expect(() => runtime.sockets.add(options as SocketOptions)).toThrow(new RegExp(`socket: ${name} must`));
    expect(runtime.memoryUsage).toBe(used);
    await runtime.dispose();
  });

  test('two sockets may not share addresses and ports', async () => {
    const runtime = createRuntime({ backend: 'interpreter', arenaSize: 2 << 20 });
    runtime.sockets.add(connection);
    expect(() => runtime.sockets.add(connection)).toThrow(/another one/);
    expect(runtime.sockets.size).toBe(1);
    await runtime.dispose();
  });
});

test.each([
  ['1.2.3.4', [1, 2, 3, 4]],
  ['::', new Array(16).fill(0)],
  ['::1', [...new Array(15).fill(0), 1]],
  ['2001:db8::ff', [0x20, 1, 0x0d, 0xb8, ...new Array(11).fill(0), 0xff]],
  ['1:2:3:4:5:6:7:8', [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
  ['::ffff:1.2.3.4', [...new Array(10).fill(0), 0xff, 0xff, 1, 2, 3, 4]],
  ['', undefined],
  ['1.2.3', undefined],
  ['01.2.3.4', undefined],
  ['256.1.1.1', undefined],
  ['1:2:3', undefined],
  ['1:2:3:4:5:6:7::8', undefined],
  [':1::', undefined],
  ['::12345', undefined],
  ['fe80::1%eth0', undefined],
])('address %s', (text, bytes) => {
  expect(parseAddress(text)).toEqual(bytes && Uint8Array.from(bytes));
});
