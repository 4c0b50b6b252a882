/** Maps whose values hold a spin lock: the kernel's rules and results, and a lock that really excludes. */
import { describe, expect, test } from 'vitest';
import { Attr, Command, closeFd } from '../../src/kernel/bpf.ts';
import { type KernelBtf, loadBtf } from '../../src/kernel/btf.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import { MAP_TYPE, MapFlag } from '../../src/maps/uapi.ts';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import type { MapSpec, MapType } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { kernelMissing } from '../kernel/support.ts';
import { BtfBuilder } from '../object/btf-builder.ts';
import { createNativePlatform, createPlatform, PLATFORMS } from './platform.ts';
import { failure, generator, key32, same, spec } from './tools.ts';

const missing = kernelMissing();
const LOCK_BYTES = 4;
const EXCLUSIVE = 4;

/** BTF of a value of `size` bytes with locks at `locks`, bytes elsewhere. */
function valueTypes(size: number, locks: readonly number[]): { btf: Btf; types: Partial<MapSpec> } {
  const builder = new BtfBuilder();
  const int = builder.int('int', 4, true);
  const byte = builder.int('unsigned char', 1);
  const lock = builder.struct('bpf_spin_lock', LOCK_BYTES, [{ name: 'val', type: int, bitOffset: 0 }]);
  const members = Array.from({ length: size }, (_, at) => {
    if (locks.some(start => at > start && at < start + LOCK_BYTES)) return [];
    const isLock = locks.includes(at);
    return [{ name: `${isLock ? 'lock' : 'byte'}${at}`, type: isLock ? lock : byte, bitOffset: 8 * at }];
  }).flat();
  const value = builder.struct('value', size, members);
  return { btf: parseBtf(builder.bytes()), types: { btfKeyId: int, btfValueId: value, valueSize: size } };
}

/** The errno with which the kernel refuses to make the map; undefined where it makes it, `types` where it refuses these. */
function kernelRefusal(map: MapSpec, btf: Btf): string | undefined {
  let types: KernelBtf;
  try {
    types = loadBtf(btf, []);
  } catch (error) {
    if (error instanceof KernelError && error.code === 'btf_refused') return 'types';
    throw error;
  }
  try {
    const attr = new Attr()
      .u32(0, MAP_TYPE[map.type])
      .u32(4, map.keySize)
      .u32(8, map.valueSize)
      .u32(12, map.maxEntries)
      .u32(16, map.flags)
      .u32(48, types.fd)
      .u32(52, map.btfKeyId!)
      .u32(56, map.btfValueId!);
    const { value, errno } = attr.call(Command.mapCreate);
    if (value >= 0) closeFd(value);
    return value >= 0 ? undefined : errno;
  } finally {
    types.dispose();
  }
}

describe.skipIf(missing !== undefined)('against the running kernel', () => {
  const TYPES: readonly [MapType, number][] = [
    ['hash', 0],
    ['hash', MapFlag.noPrealloc],
    ['array', 0],
    ['percpu_hash', 0],
    ['percpu_array', 0],
    ['lru_hash', 0],
    ['lru_percpu_hash', 0],
    ['hash', MapFlag.rdonlyProg],
    ['array', MapFlag.wronlyProg],
    ['array', MapFlag.rdonly],
  ];
  const LOCKS = [[], [0], [4], [12], [2], [0, 8]];
  test.each(TYPES)('which maps may be made: %s, flags %i', (type, flags) => {
    for (const locks of LOCKS) {
      const { btf, types } = valueTypes(16, locks);
      const given = spec({ type, flags, maxEntries: 4, ...types });
      const platform = createPlatform(1 << 20);
      const ours = failure(() => createMap(given, { ...platform, id: 1, btf }).dispose());
      const theirs = kernelRefusal(given, btf);
      if (theirs === 'types') expect(['EINVAL', 'E2BIG']).toContain(ours);
      else expect([locks, ours]).toEqual([locks, theirs]);
    }
  });

  const SHAPES = [
    [8, 0],
    [8, 4],
    [16, 8],
    [20, 16],
    [24, 0],
    [37, 12],
  ] as const;
  test.each([
    ['hash', 0],
    ['hash', MapFlag.noPrealloc],
    ['array', 0],
  ] as const)('the same operations give the same: %s, flags %i', (type, flags) => {
    for (const [size, lock] of SHAPES) {
      const { btf, types } = valueTypes(size, [lock]);
      const given = spec({ type, flags, maxEntries: 5, ...types });
      const kernelTypes = loadBtf(btf, []);
      const theirs = new KernelMap(given, kernelTypes);
      const ours = createMap(given, { ...createPlatform(1 << 20), id: 1, btf });
      const random = generator(size + lock + flags + 1);
      for (let step = 0; step < 1500; step++) {
        const key = key32(random(7));
        const value = Uint8Array.from({ length: size }, () => random(256));
        const operation = random(4);
        const flag = random(9);
        const both = <Result>(act: (map: typeof ours | KernelMap) => Result) =>
          [ours, theirs].map(map => {
            let result: Result | undefined;
            return [failure(() => (result = act(map))), result];
          });
        const [mine, kernels] =
          operation === 0
            ? both(map => map.delete(key))
            : operation === 1
              ? both(map => map.lookup(key, flag))
              : both(map => map.update(key, value, flag));
        same(mine![0], kernels![0], size, lock, step, operation, flag);
        same(mine![1], kernels![1], size, lock, step, operation, flag);
        if (type === 'array') continue;
        const [one, other] = both(map => map.lookup(key));
        same(one![1], other![1], size, lock, step, 'after', operation, flag);
      }
      ours.dispose();
      theirs.dispose();
      kernelTypes.dispose();
    }
  });

  test('BPF_F_LOCK without a lock is refused', () => {
    for (const type of ['hash', 'array', 'percpu_array', 'lru_hash'] as const) {
      const given = spec({ type, maxEntries: 2 });
      const theirs = new KernelMap(given);
      const ours = createMap(given, { ...createPlatform(1 << 20, 1), id: 1 });
      for (const map of [ours, theirs]) {
        const bytes = map === theirs ? theirs.valueBytes : type === 'percpu_array' ? 8 : 4;
        expect(failure(() => map.lookup(key32(0), EXCLUSIVE))).toBe('EINVAL');
        expect(failure(() => map.lookup(key32(0), 1))).toBe('EINVAL');
        expect(failure(() => map.update(key32(0), new Uint8Array(bytes), EXCLUSIVE))).toBe('EINVAL');
        map.dispose();
      }
    }
  });
});

test.each(PLATFORMS)('an update leaves the lock alone, a lookup hides it (%s)', (_, create) => {
  for (const type of ['hash', 'array'] as const) {
    const platform = create(1 << 20, 2);
    const { btf, types } = valueTypes(24, [8]);
    const map = createMap(spec({ type, maxEntries: 2, ...types }), { ...platform, id: 1, btf });
    const key = platform.arena.allocate(8);
    map.update(key32(0), new Uint8Array(24).fill(7));
    const value = () => platform.routines.call(`${type}_lookup`, map.address, platform.arena.address(key));
    const word = () => platform.arena.view.getUint32(platform.arena.offset(value() + 8n, 4), true);
    expect(word()).toBe(0);
    platform.routines.call('bpf_spin_lock', value() + 8n);
    expect(word()).toBe(1);
    const expected = Uint8Array.from({ length: 24 }, (_, at) => (at >= 8 && at < 12 ? 0 : 7));
    expect(map.lookup(key32(0))).toEqual(expected);
    if (type === 'array') {
      map.update(key32(0), new Uint8Array(24).fill(9));
      expect(word()).toBe(1);
    }
    platform.routines.call('bpf_spin_unlock', value() + 8n);
    expect(word()).toBe(0);
    map.dispose();
    platform.arena.free(key);
  }
});

/** Parameters of the worker, all u64. */
const P = { map: 0, iterations: 8 };
/** The value: u64 count at 0, the lock at 8, u64 at 16 and 24 that must always equal the count. */
const SIZE = 32;
const LOCK_AT = 8;
const THREADS = 3;
const WORKER = `
  r6 = r1
  r9 = *(u64 *)(r6 + ${P.iterations})
  r1 = 0
  *(u64 *)(r10 - 8) = r1
loop:
  r1 = *(u64 *)(r6 + ${P.map})
  r2 = r10
  r2 += -8
  call routine bpf_map_lookup_elem
  if r0 == 0 goto end
  r7 = r0
  r1 = r7
  r1 += ${LOCK_AT}
  call routine bpf_spin_lock
  r1 = *(u64 *)(r7 + 0)
  r1 += 1
  *(u64 *)(r7 + 0) = r1
  r1 = *(u64 *)(r7 + 16)
  r1 += 1
  *(u64 *)(r7 + 16) = r1
  r1 = *(u64 *)(r7 + 24)
  r1 += 1
  *(u64 *)(r7 + 24) = r1
  r1 = r7
  r1 += ${LOCK_AT}
  call routine bpf_spin_unlock
  r9 -= 1
  if r9 != 0 goto loop
end:
  r0 = r9
  exit`;

test.skipIf(!nativeSupported()).each(['hash', 'array'] as const)(
  'threads and JS exclude each other: %s',
  async type => {
    const platform = createNativePlatform(8 << 20, THREADS + 1, WORKER);
    const { btf, types } = valueTypes(SIZE, [LOCK_AT]);
    const map = createMap(spec({ type, maxEntries: 1, ...types }), { ...platform, id: 1, btf });
    map.update(key32(0), new Uint8Array(SIZE));
    const ITERATIONS = 200_000;
    let running = THREADS;
    const threads = Array.from({ length: THREADS }, (_, thread) =>
      platform
        .start(thread + 1, parameters => {
          parameters.setBigUint64(P.map, map.address, true);
          parameters.setBigUint64(P.iterations, BigInt(ITERATIONS), true);
        })
        .finally(() => running--),
    );
    const words = (): bigint[] => {
      const view = new DataView(map.lookup(key32(0), EXCLUSIVE)!.buffer);
      return [view.getBigUint64(0, true), view.getBigUint64(16, true), view.getBigUint64(24, true)];
    };
    let read = 0;
    while (running > 0) {
      for (let i = 0; i < 20; i++, read++) {
        const [count, first, second] = words();
        same(first, count, 'torn');
        same(second, count, 'torn');
      }
      await new Promise(resolve => setImmediate(resolve));
    }
    await Promise.all(threads);
    expect(read).toBeGreaterThan(0);
    const all = BigInt(THREADS * ITERATIONS);
    expect(words()).toEqual([all, all, all]);
    map.dispose();
  },
);
