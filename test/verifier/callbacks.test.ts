/** Callbacks of bpf_loop and bpf_for_each_map_elem, with references and locks: verdicts, words and results beside the kernel's. */
import { afterAll, describe, expect, it } from 'vitest';
import { createRuntime, type KernelObject, loadIntoKernel, type Runtime } from '../../src/index.ts';
import type { Collection } from '../../src/object/spec.ts';
import { clang, compile } from '../clang.ts';
import { kernelMissing } from '../kernel/support.ts';
import { expectKernelsVerdict } from './judged.ts';

describe.skipIf(clang === undefined)('callbacks', () => {
  const collection: Collection =
    clang === undefined ? (undefined as never) : compile(new URL('callbacks.c', import.meta.url));
  const names = clang === undefined ? [] : [...collection.programs.keys()];
  const runtimes = new Map<string, Runtime>();
  const kernels: KernelObject[] = [];
  afterAll(async () => {
    for (const kernel of kernels) kernel.dispose();
    for (const runtime of runtimes.values()) await runtime.dispose();
  });

  it('there are good and bad ones', () => {
    expect(names.filter(name => name.startsWith('bad_')).length).toBe(13);
    expect(names.length).toBe(33);
  });

  it.each(names)('%s', name => expectKernelsVerdict(collection, name));

  const DATA = new Uint8Array(64);
  it.each(['native', 'interpreter'] as const)('results are the kernel\u2019s (%s)', backend => {
    if (kernelMissing() !== undefined) return;
    const good = names.filter(name => !name.startsWith('bad_'));
    const theirs = loadIntoKernel(collection, { programs: good });
    kernels.push(theirs);
    const runtime = createRuntime();
    runtimes.set(backend, runtime);
    if (!runtime.backends.includes(backend)) return;
    const ours = runtime.load(collection, { programs: good, backend });
    const results = (of: (name: string) => bigint | number) =>
      good.map(name => [name, Number(BigInt.asUintN(32, BigInt(of(name))))]);
    expect(results(name => ours.program(name).run(DATA).returnValue)).toEqual(
      results(name => theirs.program(name).run(DATA).returnValue),
    );
  });

  it.each(['native', 'interpreter'] as const)(
    'a bucket with more elements than are noted at once (%s)',
    async backend => {
      const runtime = createRuntime();
      try {
        if (!runtime.backends.includes(backend)) return;
        const object = runtime.load(collection, { programs: ['sum_colliding', 'delete_colliding'], backend });
        const map = object.map('colliding');
        const keys = collidingKeys(60, 2048);
        const bytes = (key: number) => new Uint8Array(Uint32Array.of(key).buffer);
        for (const key of keys) map.update(bytes(key), new Uint8Array(8));
        // One chain: the element that lives in the bucket, then the newest first.
        const [home, ...others] = keys;
        expect([...map.entries()].map(([key]) => new Uint32Array(key.buffer)[0])).toEqual([home, ...others.reverse()]);
        const sum = keys.reduce((total, key) => total + key, 0);
        const run = (name: string) => Number(BigInt.asUintN(32, object.program(name).run(DATA).returnValue));
        expect(run('sum_colliding')).toBe((sum * 1000 * 100 + 60) % 2 ** 32);
        expect(run('delete_colliding')).toBe((sum * 100 + 60) % 2 ** 32);
        expect([...map.entries()]).toEqual([]);
      } finally {
        await runtime.dispose();
      }
    },
  );
});

/** Keys of 4 bytes that share the first bucket of `buckets` (a power of two) of 64 bytes and of any smaller number, by the maps' hash function without a seed. */
function collidingKeys(count: number, buckets: number): number[] {
  const U64 = (1n << 64n) - 1n;
  const hash = (key: number): bigint => {
    let h = (BigInt(key) * 0x9e3779b97f4a7c15n) & U64;
    h ^= h >> 32n;
    h = (h * 0xd6e8feb86659fd93n) & U64;
    h ^= h >> 32n;
    return ((h * 0xd6e8feb86659fd93n) & U64) >> 32n;
  };
  const keys: number[] = [];
  for (let key = 1; keys.length < count; key++)
    if (((hash(key) << 4n) & BigInt(64 * (buckets - 1))) === 0n) keys.push(key);
  return keys;
}
