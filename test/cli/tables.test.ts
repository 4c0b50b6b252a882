/** `switchyard run --routes` and `--sockets`: what programs find in them, and files that are wrong. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCapture } from '../../src/index.ts';
import { CAPTURE, scratch, switchyard, TABLES } from './support.ts';

const FILE = join(scratch, 'table.json');

function write(content: unknown): string {
  writeFileSync(FILE, typeof content === 'string' ? content : JSON.stringify(content));
  return FILE;
}

const run = (program: string, ...more: string[]) =>
  switchyard('run', TABLES!, '--program', program, '--input', CAPTURE, '--json', ...more);

/** What the program counted, by key. */
async function counted(program: string, ...more: string[]): Promise<Record<number, number>> {
  const { code, stdout, stderr } = await run(program, ...more);
  expect([code, stderr]).toEqual([0, '']);
  const { maps } = JSON.parse(stdout) as { maps: { found: { key: number; value: number }[] } };
  return Object.fromEntries(maps.found.map(({ key, value }) => [key, Number(value)]));
}

const dotted = (bytes: Uint8Array): string => bytes.join('.');
const frames = readCapture(new Uint8Array(readFileSync(CAPTURE)))
  .packets.map(({ data }) => data)
  .filter(data => data[12] === 8 && data[13] === 0 && data.length >= 34);
const destinations = frames.map(data => dotted(data.subarray(30, 34)));
const connections = frames
  .filter(data => data[23] === 6 && data[14] === 0x45 && data.length >= 54)
  .map(data => ({
    remote: { address: dotted(data.subarray(26, 30)), port: data[34]! * 256 + data[35]! },
    local: { address: dotted(data.subarray(30, 34)), port: data[36]! * 256 + data[37]! },
  }));
const count = (of: readonly string[], start: string): number => of.filter(text => text.startsWith(start)).length;

describe.skipIf(TABLES === undefined)('--routes', () => {
  const table = {
    interfaces: [
      { ifindex: 1, mac: '02:00:5e:00:00:01', addresses: ['192.0.2.1'] },
      { ifindex: 2, mac: '02:00:5e:00:00:02', addresses: ['198.51.100.1'] },
    ],
    routes: [
      { destination: '198.51.100.0/24', interface: 2, gateway: '198.51.100.9' },
      { destination: '203.0.113.0/24', type: 'blackhole' },
    ],
    neighbours: [{ interface: 2, address: '198.51.100.9', mac: '02:00:5e:00:01:09' }],
  };

  test('a program looks at them', async () => {
    const [routed, blackhole] = [count(destinations, '198.51.100.'), count(destinations, '203.0.113.')];
    expect(Math.min(routed, blackhole)).toBeGreaterThan(0);
    expect(await counted('routed', '--routes', write(table))).toEqual({
      2: routed,
      // BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_NOT_FWDED
      1001: blackhole,
      1004: destinations.length - routed - blackhole,
    });
  });

  test('without them there is no device', async () => {
    expect(Object.keys(await counted('routed'))).toEqual([String((1000 - 19) >>> 0)]);
  });

  test.each<[string, unknown]>([
    ['no JSON', '{'],
    ['null', null],
    ['a number', 5],
    ['an array', []],
    ['interfaces that are none', { interfaces: 5 }],
    ['an interface that is null', { interfaces: [null] }],
    ['a MAC address that is none', { ...table, interfaces: [{ ifindex: 1, mac: 5 }] }],
    ['addresses that are none', { ...table, interfaces: [{ ifindex: 1, mac: '02:00:5e:00:00:01', addresses: [5] }] }],
    ['an interface number that is none', { ...table, interfaces: [{ ifindex: 'x', mac: '02:00:5e:00:00:01' }] }],
    ['a route without a destination', { ...table, routes: [{ interface: 2 }] }],
    ['a route to nowhere', { ...table, routes: [{ destination: 'x', interface: 2 }] }],
    ['a route that is null', { ...table, routes: [null] }],
    ['a route by an interface that is not there', { ...table, routes: [{ destination: '0.0.0.0/0', interface: 9 }] }],
    ['a gateway that is none', { ...table, routes: [{ destination: '0.0.0.0/0', interface: 2, gateway: {} }] }],
    ['a type that is none', { ...table, routes: [{ destination: '0.0.0.0/0', interface: 2, type: 'x' }] }],
    ['a neighbour without an address', { ...table, neighbours: [{ interface: 2, mac: '02:00:5e:00:01:09' }] }],
    ['what is no table', { sockets: [] }],
    ['neighbours that are none', { ...table, neighbours: 'x' }],
  ])('%s is refused', async (_what, content) => {
    const { code, stdout, stderr } = await run('routed', '--routes', write(content));
    expect([code, JSON.parse(stdout).error.code]).toEqual([
      2,
      expect.stringMatching(/bad_(argument|usage)|unreadable_file/),
    ]);
    expect(stderr).toMatch(/^switchyard: /);
  });
});

describe.skipIf(TABLES === undefined)('--sockets', () => {
  test('a program finds them, and says which', async () => {
    const [first] = connections;
    const isFirst = (each: typeof first) => JSON.stringify(each) === JSON.stringify(first);
    const listens = connections.filter(each => each.local.port === 443 && !isFirst(each)).length;
    const connected = connections.filter(isFirst).length;
    expect(Math.min(listens, connected)).toBeGreaterThan(0);
    const content = [
      { ...first, mark: 7, cookie: '18446744073709551615', tcp: { sndCwnd: 10, bytesAcked: '5' } },
      { local: { address: '0.0.0.0', port: 443 }, mark: 8 },
      { local: { address: '192.0.2.1', port: 5 }, protocol: 'udp', mark: 9 },
      { ...first, local: { address: '192.0.2.99', port: 1 }, kind: 'request', listener: 1 },
    ];
    expect(await counted('delivered', '--sockets', write(content))).toEqual({
      7: connected,
      8: listens,
      1000: connections.length - connected - listens,
    });
  });

  const local = { address: '192.0.2.1', port: 80 };
  test.each<[string, unknown]>([
    ['no JSON', '['],
    ['null', null],
    ['an object', {}],
    ['a socket that is null', [null]],
    ['a socket that is an array', [[]]],
    ['an unknown field', [{ local, colour: 1 }]],
    ['a field that all objects have', [{ local, constructor: 1 }]],
    ['a protocol that is none', [{ local, protocol: 'sctp' }]],
    ['a kind that is none', [{ local, kind: 5 }]],
    ['an address that is none', [{ local: { address: 'x', port: 1 } }]],
    ['an address that is a number', [{ local: { address: 5, port: 1 } }]],
    ['no port', [{ local: { address: '192.0.2.1' } }]],
    ['a port too large', [{ local: { ...local, port: 65536 } }]],
    ['an address that is null', [{ local: null }]],
    ['another family for the peer', [{ local, remote: { address: '::1', port: 1 } }]],
    ['a peer only', [{ remote: local }]],
    ['a mark that is text', [{ local, mark: '5' }]],
    ['a mark too large', [{ local, mark: 2 ** 32 }]],
    ['a cookie that is text', [{ local, cookie: 'x' }]],
    ['a cookie too large', [{ local, cookie: '18446744073709551616' }]],
    ['TCP that is none', [{ local, tcp: [] }]],
    ['an unknown member of TCP', [{ local, tcp: { colour: 1 } }]],
    ['a member of TCP that is text', [{ local, tcp: { sndCwnd: 'x' } }]],
    ['a listener that comes later', [{ local, kind: 'request', listener: 1 }, { local }]],
    ['a listener that is no index', [{ local, kind: 'request', listener: 'length' }]],
    ['the same address twice', [{ local }, { local }]],
  ])('%s is refused', async (_what, content) => {
    const { code, stdout, stderr } = await run('delivered', '--sockets', write(content));
    expect([code, JSON.parse(stdout).error.code]).toEqual([
      2,
      expect.stringMatching(/bad_(argument|usage)|unreadable_file/),
    ]);
    expect(stderr).toMatch(/^switchyard: /);
  });

  test('the kernel has its own', async () => {
    for (const option of ['--routes', '--sockets']) {
      const { code, stdout } = await run('delivered', '--backend', 'kernel', option, write([]));
      expect([code, JSON.parse(stdout).error.code]).toEqual([2, 'bad_usage']);
    }
    expect((await run('delivered', '--sockets', join(scratch, 'none'))).code).toBe(2);
  });
});

describe.skipIf(TABLES === undefined)('maps without entries of their own, saved', () => {
  const saved = join(scratch, 'tables-maps.json');
  const map = async (...args: string[]) => {
    const { code, stdout } = await switchyard('map', ...args, '--snapshot', saved, '--json');
    const answer = JSON.parse(stdout) as { error?: { code: string } };
    return [code, answer.error?.code ?? answer];
  };

  test('entries of arrays that are empty at first are set and deleted, rings have none', async () => {
    await run('routed', '--save-maps', saved);
    expect(await map('dump', 'samples')).toEqual([0, []]);
    expect(await map('get', 'samples', '1')).toEqual([1, 'no_such_key']);
    expect(await map('set', 'samples', '1', '7')).toEqual([0, { updated: true }]);
    expect(await map('set', 'samples', '4', '7')).toEqual([2, 'index_out_of_range']);
    expect(await map('get', 'samples', '1')).toEqual([0, { key: 1, value: 7 }]);
    expect(await map('delete', 'samples', '1')).toEqual([0, { deleted: true }]);
    expect(await map('delete', 'samples', '1')).toEqual([1, 'no_such_key']);
    expect(await map('dump', 'ring')).toEqual([0, []]);
    for (const args of [
      ['get', 'ring', '0'],
      ['set', 'ring', '0', '1'],
      ['delete', 'ring', '0'],
    ])
      expect(await map(...args)).toEqual([1, 'invalid_operation']);
  });
});
