/** The methods of what a runtime gives: with wrong arguments, and after it was disposed of. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createRuntime, type LoadedObject, parseObject, type Runtime } from '../../src/index.ts';
import { collection } from '../runtime/build.ts';
import { type Call, complaint, spoil, spoilWithin, WRONG } from './misuse.ts';

const KEY4 = [
  'array',
  'percpu_array',
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
  'devmap',
  'devmap_hash',
] as const;
const parts = collection({
  programs: {
    leaf: 'r0 = 2\nexit',
    caller: 'r2 = map[slots] ll\nr3 = *(u32 *)(r1 + 16)\ncall 12\nr0 = 1\nexit',
    user: '*(u32 *)(r10 - 4) = 1\nr2 = r10\nr2 += -4\nr1 = map[hash] ll\nr3 = r2\nr4 = 0\ncall 2\nr0 = 2\nexit',
  },
  maps: [
    { name: 'slots', type: 'prog_array', maxEntries: 4 },
    ...KEY4.map(type => ({ name: type, type, maxEntries: 4 })),
    { name: 'cpumap', type: 'cpumap', maxEntries: 4 },
    { name: 'xskmap', type: 'xskmap', maxEntries: 4 },
    { name: 'lpm_trie', type: 'lpm_trie', keySize: 8, flags: 1, maxEntries: 4 },
    { name: 'queue', type: 'queue', keySize: 0, maxEntries: 4 },
    { name: 'stack', type: 'stack', keySize: 0, maxEntries: 4 },
    { name: 'bloom', type: 'bloom_filter', keySize: 0, maxEntries: 4 },
    { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
    { name: 'requests', type: 'user_ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
    { name: 'perf', type: 'perf_event_array', maxEntries: 4 },
    { name: 'arena', type: 'arena', keySize: 0, valueSize: 0, flags: 1 << 10, maxEntries: 1 },
  ],
});
const typed = parseObject(readFileSync(join(import.meta.dirname, '../object/fixtures/typed.o')));
const packet = new Uint8Array(64);
const BACKENDS = ['native', 'interpreter'] as const;
const make = (backend: (typeof BACKENDS)[number]): Runtime =>
  createRuntime({ backend, arenaSize: 1 << 24, codeSize: 1 << 20, cpus: 3 });

/** Something that is emptied again, whatever came of the call. */
function then<Args extends unknown[]>(call: (...args: Args) => unknown, after: () => void) {
  return (...args: Args): unknown => {
    try {
      return call(...args);
    } finally {
      after();
    }
  };
}

function callsOf(runtime: Runtime, object: LoadedObject): Record<string, Call> {
  const leaf = object.program('leaf');
  const slots = object.progArray('slots');
  const fill = (): void => slots.set(1, leaf);
  const names = [
    'program',
    'map',
    'progArray',
    'typedMap',
    'global',
    'ringBuffer',
    'userRingBuffer',
    'queue',
    'perfEventArray',
    'bloomFilter',
  ] as const;
  const ring = object.ringBuffer('ring');
  const requests = object.userRingBuffer('requests');
  const perf = object.perfEventArray('perf');
  const LOAD = [
    'logLevel',
    'memorySize',
    'strictAlignment',
    'unprivileged',
    'uninitializedStack',
    'backend',
    'programs',
    'maps',
    'targetBtf',
    'tailCallMode',
    'tailCallChoices',
    'maxTailCalls',
    'pokes',
    'countMisses',
    'countHits',
    'keepDeadBranches',
  ];
  const SOCKET = [
    'protocol',
    'local',
    'remote',
    'v6Only',
    'kind',
    'listener',
    'state',
    'mark',
    'priority',
    'uid',
    'classId',
    'boundDevice',
    'rxQueueMapping',
    'cookie',
    'tcp',
  ];
  return {
    load: {
      run: (input, options) => runtime.load(input, options).dispose(),
      args: [() => parts, () => ({})],
      members: { 1: LOAD },
    },
    run: {
      run: given => leaf.run(given),
      args: [() => ({ data: packet })],
      members: { 0: ['data', 'ifindex', 'rxQueue', 'mark', 'socket'] },
    },
    replay: {
      run: (packets, options) => leaf.replay(packets, options),
      args: [() => [packet], () => ({})],
      members: { 1: ['repeat', 'keep'] },
    },
    replayAsync: {
      run: (packets, options) => leaf.replayAsync(packets, options),
      args: [() => [packet], () => ({})],
      members: { 1: ['repeat', 'keep', 'workers', 'signal', 'onProgress'] },
    },
    'slots.set': { run: (index, program) => slots.set(index, program), args: [() => 1, () => leaf] },
    'slots.get': { run: index => slots.get(index), args: [() => 1] },
    'slots.delete': { run: index => slots.delete(index), args: [() => 1] },
    'slots.transaction': {
      run: (change, options) => void slots.transaction(change, options),
      args: [() => fill, () => ({})],
      members: { 1: ['strict', 'entries'] },
    },
    transaction: {
      run: (change, options) => void runtime.transaction(change, options),
      args: [() => () => {}, () => ({})],
      members: { 1: ['strict', 'entries'] },
    },
    preflight: {
      run: (change, options) => void runtime.preflight(change, options),
      args: [() => () => {}, () => ({})],
      members: { 1: ['entries'] },
    },
    'changes.set': {
      run: (array, index, program) => void runtime.transaction(changes => changes.set(array, index, program)),
      args: [() => slots, () => 1, () => leaf],
    },
    'changes.delete': {
      run: (array, index) => void runtime.transaction(changes => changes.delete(array, index)),
      args: [() => slots, () => 1],
    },
    'changes.replace': {
      run: (program, next) => void runtime.transaction(changes => changes.replace(program, next)),
      args: [() => leaf, () => leaf],
    },
    tailCallGraph: { run: options => object.tailCallGraph(options), args: [() => ({})], members: { 0: ['entries'] } },
    missesAfter: {
      run: changes => object.missesAfter(changes),
      args: [() => [{ map: 'slots', index: 1, program: leaf }]],
    },
    ...Object.fromEntries(
      names.map(name => [
        name,
        {
          run: (given: string) => (object[name] as (name: string) => unknown).call(object, given),
          args: [() => 'none'],
        },
      ]),
    ),
    'ring.output': {
      run: then(
        (record: Uint8Array, flags: number) => ring.output(record, flags),
        () => ring.drain(() => {}),
      ),
      args: [() => packet, () => 0],
    },
    'ring.drain': {
      run: (visit, limit) => {
        ring.output(packet);
        return ring.drain(visit, limit);
      },
      args: [() => () => {}, () => 1],
    },
    'ring.records': {
      run: options => {
        ring.output(packet);
        return ring.records(options).next();
      },
      args: [() => ({})],
      members: { 0: ['signal'] },
    },
    'requests.reserve': { run: size => requests.reserve(size).discard(), args: [() => 8] },
    'requests.write': { run: record => requests.write(record), args: [() => packet] },
    'requests.writeWhenRoom': {
      run: (record, options) => (requests.pending > 3000 ? undefined : requests.writeWhenRoom(record, options)),
      args: [() => packet, () => ({})],
      members: { 1: ['signal'] },
    },
    'perf.attach': { run: options => perf.attach(options).close(), args: [() => ({})], members: { 0: ['size'] } },
    'reader.drain': {
      run: (visit, limit) => {
        const reader = perf.attach();
        return then(
          () => reader.drain(visit, limit),
          () => reader.close(),
        )();
      },
      args: [() => () => {}, () => 1],
    },
    'reader.samples': {
      run: options => {
        const reader = perf.attach();
        const next = reader.samples(options).next();
        reader.close();
        return next;
      },
      args: [() => ({})],
      members: { 0: ['signal'] },
    },
    'queue.push': {
      run: (value, flags) => object.queue('queue').push(value, flags),
      args: [() => new Uint8Array(4), () => 0],
    },
    'bloom.push': {
      run: (value, flags) => object.bloomFilter('bloom').push(value, flags),
      args: [() => new Uint8Array(4), () => 0],
    },
    'bloom.peek': { run: value => object.bloomFilter('bloom').peek(value), args: [() => new Uint8Array(4)] },
    'routes.set': {
      run: table => runtime.routes.set(table),
      args: [() => ({})],
      members: { 0: ['interfaces', 'routes', 'neighbours'] },
    },
    'sockets.add': {
      run: options => runtime.sockets.add(options).delete(),
      args: [() => ({ local: { address: '0.0.0.0', port: 443 } })],
      members: { 0: SOCKET },
    },
  };
}

describe.each(BACKENDS)('wrong arguments, %s', backend => {
  const runtime = make(backend);
  const object = runtime.load(parts);
  test.each(Object.entries(callsOf(runtime, object)))('%s', async (name, call) => {
    expect(await spoil(name, call)).toEqual([]);
  });

  test.each([...object.maps])('map %s', async (name, map) => {
    const key = () => new Uint8Array(map.spec.keySize);
    const value = () => new Uint8Array(map.spec.type.includes('percpu') ? 8 * runtime.cpus : map.spec.valueSize);
    const CALLS: Record<string, Call> = {
      lookup: { run: (k, flags) => map.lookup(k, flags), args: [key, () => 0] },
      update: { run: (k, v, flags) => map.update(k, v, flags), args: [key, value, () => 0] },
      delete: { run: k => map.delete(k), args: [key] },
      nextKey: { run: k => map.nextKey(k), args: [key] },
    };
    for (const [method, call] of Object.entries(CALLS)) expect(await spoil(`${name}.${method}`, call)).toEqual([]);
  });

  test('typed maps and variables', async () => {
    const loaded = runtime.load({ ...typed, programs: new Map() });
    for (const name of loaded.maps.keys()) {
      let view: ReturnType<LoadedObject['typedMap']>;
      try {
        view = loaded.typedMap(name);
      } catch {
        continue; // It has no keys.
      }
      const all = (pages: Iterable<unknown>): void => {
        for (const _ of pages);
      };
      const CALLS: Record<string, Call> = {
        get: { run: key => view.get(key), args: [() => 0] },
        has: { run: key => view.has(key), args: [() => 0] },
        set: { run: (key, value, mode) => void view.set(key, value, mode), args: [() => 0, () => 0, () => 'any'] },
        delete: { run: key => view.delete(key), args: [() => 0] },
        getMany: { run: keys => view.getMany(keys), args: [() => []] },
        setMany: { run: (entries, mode) => view.setMany(entries, mode), args: [() => [], () => 'any'] },
        deleteMany: { run: keys => view.deleteMany(keys), args: [() => []] },
        takeMany: { run: count => view.takeMany(count), args: [() => 1] },
        pages: { run: count => all(view.pages(count)), args: [() => 1] },
      };
      for (const [method, call] of Object.entries(CALLS)) expect(await spoil(`${name}.${method}`, call)).toEqual([]);
      const [first] = [...view.entries()];
      if (!first) continue;
      expect(await spoilWithin(`${name}.set`, first[1], value => void view.set(first[0], value))).toEqual([]);
    }
    loaded.dispose();
  });
});

describe.each(BACKENDS)('after dispose, %s', backend => {
  const WAYS: Readonly<Record<string, (runtime: Runtime, object: LoadedObject) => Promise<void>>> = {
    runtime: runtime => runtime.dispose(),
    object: (runtime, object) => {
      object.dispose();
      return runtime.settled();
    },
  };
  test.each(Object.entries(WAYS))('of the %s: errors, whatever is called', async (way, dispose) => {
    const runtime = make(backend);
    const object = runtime.load(parts);
    const socket = runtime.sockets.add({ local: { address: '0.0.0.0', port: 443 } });
    runtime.routes.set({ interfaces: [{ ifindex: 2 }] });
    const reader = object.perfEventArray('perf').attach();
    const record = object.userRingBuffer('requests').reserve(8);
    object.map('hash').update(new Uint8Array(4), new Uint8Array(4));
    const entries = object.map('hash').entries();
    const arena = object.map('arena') as unknown as { memory: Uint8Array };
    const { memory } = arena;
    let seen: Uint8Array | undefined;
    object.ringBuffer('ring').output(packet);
    object.ringBuffer('ring').drain(view => {
      seen = view;
    });
    const slots = object.progArray('slots');
    const leaf = object.program('leaf');
    const pending = object.ringBuffer('ring').records().next();
    await dispose(runtime, object);
    await dispose(runtime, object);

    const value = new Uint8Array(4);
    const calls: (() => unknown)[] = [
      () => leaf.run(packet),
      () => leaf.replay([packet]),
      () => leaf.replayAsync([packet]),
      () => leaf.readCode(),
      () => leaf.tailCallMisses(),
      () => slots.set(1, leaf),
      () => slots.delete(1),
      () => slots.get(1),
      () => slots.entries(),
      () => slots.clear(),
      () => slots.transaction(changes => changes.set(1, leaf)),
      () => record.submit(),
      () => reader.drain(() => {}),
      () => reader.lost,
      () => reader.close(),
      () => [...entries],
      () => arena.memory,
      () => object.ringBuffer('ring').read(),
      () => object.ringBuffer('ring').output(packet),
      () => object.ringBuffer('ring').dropped,
      () => object.userRingBuffer('requests').write(packet),
      () => object.queue('queue').pop(),
      () => object.queue('queue').push(value),
      () => object.bloomFilter('bloom').peek(value),
      () => object.perfEventArray('perf').attach(),
      () => object.tailCallGraph(),
      () => object.missesAfter([{ map: 'slots', index: 1, program: leaf }]),
    ];
    for (const [name, map] of object.maps) {
      const key = new Uint8Array(map.spec.keySize);
      calls.push(
        () => map.lookup(key),
        () => map.update(key, value),
        () => map.delete(key),
        () => map.nextKey(undefined),
        () => [...map.entries()],
        () => map.freeze(),
        () => map.memoryUsage,
        () => object.typedMap(name).get(0),
      );
    }
    if (way === 'runtime') {
      for (const use of [
        () => runtime.load(parts),
        () => runtime.sockets.add({}),
        () => socket.delete(),
        () => runtime.routes.set(undefined),
      ]) {
        expect(use).toThrow(/disposed/);
        calls.push(use);
      }
      expect(() => runtime.transaction(() => {})).toThrow(/disposed/);
      expect(() => runtime.preflight(() => {})).toThrow(/disposed/);
    }
    for (const call of calls) expect(await complaint(call), String(call)).toBeUndefined();
    // Views that somebody kept lead nowhere, but they don't end the process.
    expect([memory[0], seen?.length]).toEqual([0, packet.length]);
    expect(await complaint(() => pending)).toBeUndefined();
    await runtime.settled();
    await runtime.dispose();
  });

  test('a map is not freed under the programs that use it', async () => {
    const runtime = make(backend);
    const object = runtime.load(parts);
    for (const map of object.maps.values()) expect(() => map.dispose(), map.spec.name).toThrow(/still used/);
    expect(object.program('user').run(packet).verdict).toBe('XDP_PASS');
    expect(object.map('hash').lookup(Uint8Array.of(1, 0, 0, 0))).toEqual(Uint8Array.of(1, 0, 0, 0));
    object.dispose();
    await runtime.settled();
    await runtime.dispose();
  });
});

test('a host function may throw anything', async () => {
  for (const [kind, wrong] of Object.entries(WRONG)) {
    const runtime = createRuntime({
      arenaSize: 1 << 24,
      codeSize: 1 << 20,
      onTrace: () => {
        throw wrong();
      },
    });
    const print = 'r1 = 0x6968\n*(u64 *)(r10 - 8) = r1\nr1 = r10\nr1 += -8\nr2 = 8\ncall 6\nr0 = 2\nexit';
    const program = runtime.load(collection({ programs: { print } })).program('print');
    expect(() => program.run(packet), kind).toThrow(/host function threw/);
    await runtime.dispose();
  }
});
