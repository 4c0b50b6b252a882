/** `switchyard map`: maps of a run that goes on, and of one that has ended. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CAPTURE, ROOT, ROUTER, scratch, switchyard } from './support.ts';

const run = ['run', ROUTER, '--program', 'router', '--input', CAPTURE];
const SAVED = join(scratch, 'maps.json');
const from = ['--snapshot', SAVED];

const json = async (...args: string[]) => JSON.parse((await switchyard(...args, '--json')).stdout);

describe('a snapshot', () => {
  let shown: { maps: Record<string, { key: unknown }[]> };
  beforeAll(async () => {
    shown = await json(...run, '--save-maps', SAVED);
  });

  test('dump shows what the run showed', async () => {
    const maps = (await json('map', 'list', ...from)) as { name: string; type: string }[];
    expect(maps.map(({ name }) => name)).toEqual(Object.keys(shown.maps));
    for (const { name } of maps)
      expect([name, await json('map', 'dump', name, ...from)]).toEqual([name, shown.maps[name]]);
    const { stdout } = await switchyard('map', 'dump', 'counters', ...from);
    expect(stdout.split('\n')).toHaveLength(11 + 1);
    expect(stdout).toMatch(/^TCP: cpu0 \{packets: \d+, bytes: \d+\} cpu1 \{packets: 0, bytes: 0\}$/m);
  });

  test('get, set, delete', async () => {
    const [flow] = shown.maps.flows!;
    const key = JSON.stringify(flow!.key);
    expect(await json('map', 'get', 'flows', key, ...from)).toEqual(flow);
    const big = '18446744073709551615';
    expect(await json('map', 'set', 'flows', key, `{"packets": ${big}, "bytes": 3}`, ...from)).toEqual({
      updated: true,
    });
    expect(await json('map', 'get', 'flows', key, ...from)).toEqual({ ...flow, value: { packets: big, bytes: 3 } });
    // What is shown can be set.
    expect(await json('map', 'set', 'flows', key, `{"packets": "${big}", "bytes": 3}`, ...from)).toEqual({
      updated: true,
    });
    expect(await switchyard('map', 'delete', 'flows', key, ...from)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await switchyard('map', 'get', 'flows', key, ...from)).toMatchObject({ code: 1, stdout: '' });
    expect(await json('map', 'get', 'flows', key, ...from)).toMatchObject({ error: { code: 'no_such_key' } });
    expect(await switchyard('map', 'delete', 'flows', key, ...from)).toMatchObject({ code: 1 });
    // Per CPU: one value for all, or an array; bytes; a number for a name.
    await switchyard('map', 'set', 'counters', 'TCP', '{"packets": 7, "bytes": 8}', ...from);
    const both = await json('map', 'get', 'counters', '6', ...from);
    expect(both.values.map(({ value }: { value: unknown }) => value)).toEqual(
      [0, 1].map(() => ({ packets: 7, bytes: 8 })),
    );
    expect(await json('map', 'get', 'counters', 'hex:06 00 00 00', ...from)).toEqual(both);
    await switchyard(
      'map',
      'set',
      'counters',
      '0x6',
      '[{"packets": 1, "bytes": 2}, {"packets": 3, "bytes": 4}]',
      ...from,
    );
    expect((await json('map', 'get', 'counters', 'TCP', ...from)).values[1].value).toEqual({ packets: 3, bytes: 4 });
  });

  test('another run goes on with it', async () => {
    const set = await switchyard('map', 'set', 'counters', 'ARP', '{"packets": 1000, "bytes": 0}', ...from);
    expect(set.code).toBe(0);
    const next = await switchyard(...run, '--load-maps', SAVED, '--json');
    expect(next.stderr).toMatch(/not loaded from .*: stages, untagged_policy, tagged_policy, \.rodata/);
    const arp = JSON.parse(next.stdout).maps.counters.find(({ key }: { key: string }) => key === 'ARP');
    const before = shown.maps.counters!.find(({ key }) => key === 'ARP') as unknown as typeof arp;
    expect(arp.values[0].value.packets).toBe(1000 + before.values[0].value.packets);
    // With more workers, the CPUs that there were keep their counts.
    const more = await json(...run, '--load-maps', SAVED, '--workers', '3');
    expect(more.maps.counters[0].values).toHaveLength(4);
  });

  test.each<[string, string[], number, string]>([
    ['an unknown enum name', ['get', 'counters', 'NOPE'], 2, 'wrong_value_type'],
    ['a missing field', ['set', 'counters', 'TCP', '{"packets": 1}'], 2, 'missing_field'],
    ['a field too many', ['set', 'counters', 'TCP', '{"packets": 1, "bytes": 1, "x": 1}'], 2, 'unknown_field'],
    [
      'a number too large',
      ['set', 'counters', 'TCP', '{"packets": 18446744073709551616, "bytes": 1}'],
      2,
      'value_out_of_range',
    ],
    ['no JSON', ['set', 'counters', 'TCP', '{packets'], 2, 'bad_usage'],
    ['half a byte', ['get', 'counters', 'hex:060'], 2, 'bad_usage'],
    ['an index past the end', ['set', 'counters', '11', '{"packets": 1, "bytes": 1}'], 2, 'index_out_of_range'],
    ['deleting from an array', ['delete', 'counters', '1'], 1, 'invalid_operation'],
    ['a map that is not there', ['dump', 'nothing'], 2, 'bad_usage'],
    ['a slot of a run that has ended', ['set', 'stages', '1', 'stage_arp'], 2, 'bad_usage'],
    ['a slot that is no number', ['get', 'stages', 'x'], 2, 'bad_usage'],
    [
      'an existing key, for mode noExist',
      ['set', 'counters', '1', '{"packets": 1, "bytes": 1}', '--mode', 'noExist'],
      1,
      'key_exists',
    ],
  ])('%s', async (_what, args, code, error) => {
    const ended = await switchyard('map', ...args, ...from, '--json');
    expect({ code: ended.code, error: JSON.parse(ended.stdout).error.code }).toEqual({ code, error });
    expect(ended.stderr).toMatch(/^switchyard: /);
  });

  test.each<[string, (file: { readonly maps: readonly object[] }) => unknown]>([
    ['no JSON', () => '{'],
    ['null', () => null],
    ['another format', file => ({ ...file, format: 'x' })],
    ['another version', file => ({ ...file, version: 2 })],
    ['maps that are none', file => ({ ...file, maps: [1] })],
    ['entries that are none', file => ({ ...file, maps: [{ ...file.maps[1], entries: [['x']] }] })],
    ['a key of another size', file => ({ ...file, maps: [{ ...file.maps[1], entries: [['00', '00']] }] })],
    ['BTF that is none', file => ({ ...file, btf: 'AAAA' })],
    ['BTF ids that are none', file => ({ ...file, maps: [{ ...file.maps[1], btfValueId: 99999 }] })],
  ])('that has %s', async (_what, change) => {
    const path = join(scratch, 'bad.json');
    const changed = change(JSON.parse(readFileSync(SAVED, 'utf8')));
    writeFileSync(path, typeof changed === 'string' ? changed : JSON.stringify(changed));
    const { code, stdout } = await switchyard('map', 'get', 'scratch', '0', '--snapshot', path, '--json');
    expect([code, JSON.parse(stdout).error.code]).toEqual([2, expect.stringMatching(/bad_snapshot|bad_btf/)]);
  });

  test('of another object is refused', async () => {
    const file = JSON.parse(readFileSync(SAVED, 'utf8'));
    const path = join(scratch, 'other.json');
    for (const map of file.maps) {
      if (map.name !== 'flows') continue;
      map.keySize = 4;
      map.entries = [];
    }
    writeFileSync(path, JSON.stringify(file));
    const { code, stdout } = await switchyard(...run, '--load-maps', path, '--json');
    expect([code, JSON.parse(stdout).error.code]).toEqual([2, 'bad_snapshot']);
  });

  test('whose maps must be said', async () => {
    expect(await switchyard('map', 'list')).toMatchObject({ code: 2 });
    expect(await switchyard('map', 'list', ...from, '--control', 'x')).toMatchObject({ code: 2 });
    expect(await switchyard('map')).toMatchObject({ code: 2 });
    expect(await switchyard(...run, '--backend', 'kernel', '--control', 'x')).toMatchObject({ code: 2 });
  });
});

test('a run that goes on answers at its control socket', async () => {
  const path = join(scratch, 'control');
  const child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...run, '--watch', '--control', path], {
    cwd: ROOT,
    stdio: 'ignore',
  });
  const ended = new Promise(resolve => child.on('close', resolve));
  const at = ['--control', path];
  while (!existsSync(path)) await new Promise(resolve => setTimeout(resolve, 50));
  const packets = async () => (await json('map', 'get', 'counters', 'TCP', ...at)).values[0].value.packets as number;
  const first = await packets();
  expect(await packets()).toBeGreaterThan(first);
  expect(await json('map', 'list', ...at)).toHaveLength(8);
  // What is set is there for the programs: without the stage nobody counts TCP.
  expect(await json('map', 'get', 'stages', '4', ...at)).toEqual({ key: 4, value: 'stage_tcp' });
  expect(await switchyard('map', 'delete', 'stages', '4', ...at)).toMatchObject({ code: 0 });
  const stopped = await packets();
  expect(await packets()).toBe(stopped);
  expect(await switchyard('map', 'set', 'stages', '4', 'stage_tcp', ...at)).toMatchObject({ code: 0 });
  const again = await packets();
  expect(await packets()).toBeGreaterThan(again);
  expect(await switchyard('map', 'set', 'stages', '4', 'nothing', ...at)).toMatchObject({ code: 2 });
  expect(await switchyard('map', 'get', 'stages', '99', ...at)).toMatchObject({ code: 1 });
  expect(await switchyard('map', 'get', 'counters', 'NOPE', ...at, '--json')).toMatchObject({ code: 2 });
  // Whatever is written to the socket, the run goes on.
  for (const line of ['', '{', 'null', '[]', '{"command":"drop"}', '{"command":"get","map":5}', '{"command":"get"}']) {
    const reply = await new Promise<string>((resolve, reject) => {
      const socket = createConnection(path, () => socket.write(`${line}\n`));
      socket.on('error', reject).on('data', data => {
        resolve(data.toString());
        socket.destroy();
      });
    });
    expect(JSON.parse(reply)).toMatchObject({ error: { code: expect.any(String) } });
  }
  const second = await switchyard(...run, '--control', path, '--json');
  expect(JSON.parse(second.stdout).error.code).toBe('no_control');
  child.kill('SIGINT');
  await ended;
  expect(existsSync(path)).toBe(false);
  expect(await switchyard('map', 'list', ...at)).toMatchObject({ code: 1 });
});

test('who listens but is no run is told', async () => {
  const path = join(scratch, 'stranger');
  const server = createServer(socket => socket.end('hello\n')).listen(path);
  const { code, stdout } = await switchyard('map', 'list', '--control', path, '--json');
  expect([code, JSON.parse(stdout).error.code]).toEqual([1, 'no_control']);
  server.close();
});
