/** Sizes of maps that the loader settles, beside what libbpf (in bpftool) makes of them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { parseObject } from '../../src/object/parse.ts';
import { clang } from '../clang.ts';
import { kernelMissing } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';

const RINGS = ['one_byte', 'one_page', 'more', 'three_pages'];

describe.skipIf(clang === undefined)('sizes of maps', () => {
  let directory: string;
  let file: string;
  let bytes: Uint8Array;
  let typed: Uint8Array;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'switchyard-sizes-'));
    file = join(directory, 'sizes.o');
    const headers = `-I/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
    const source = join(import.meta.dirname, 'map-sizes.c');
    const compile = (output: string, ...more: string[]): Uint8Array => {
      const options = ['-O2', '-g', '-target', 'bpf', headers, ...more, '-c', source, '-o', output];
      execFileSync(clang!, options, { stdio: 'pipe' });
      return new Uint8Array(readFileSync(output));
    };
    bytes = compile(file);
    typed = compile(join(directory, 'typed.o'), '-DRECORD_TYPES');
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const size = (name: string): number => parseObject(bytes).maps.get(name)!.maxEntries;

  test('ring buffers have pages, a power of 2 of them', () => {
    expect([...RINGS, 'to_program'].map(size)).toEqual([4096, 4096, 8192, 16_384, 131_072]);
  });

  test('as libbpf makes them', context => {
    const bpftool = requireTool('bpftool');
    if (bpftool === undefined || kernelMissing() !== undefined) return context.skip();
    const pins = `/sys/fs/bpf/switchyard-sizes-${process.pid}`;
    try {
      execFileSync(bpftool, ['prog', 'loadall', file, pins, 'pinmaps', `${pins}-maps`], { stdio: 'pipe' });
      for (const name of [...RINGS, 'to_program']) {
        const shown = execFileSync(bpftool, ['-j', 'map', 'show', 'pinned', `${pins}-maps/${name}`], {
          encoding: 'utf8',
        });
        expect((JSON.parse(shown) as { max_entries: number }).max_entries, name).toBe(size(name));
      }
    } finally {
      for (const path of [pins, `${pins}-maps`]) rmSync(path, { recursive: true, force: true });
    }
  });

  test('an inner perf event array has an entry per CPU, here and in the kernel', async () => {
    const runtime = createRuntime();
    const object = runtime.load(bytes);
    expect(Number(object.program('emits').run(new Uint8Array(60)).returnValue)).toBe(8192);
    expect(object.maps.get('outer')!.spec.inner!.maxEntries).toBeGreaterThan(0);
    await runtime.dispose();
    if (kernelMissing() !== undefined) return;
    const kernel = loadIntoKernel(bytes);
    expect(Number(kernel.program('emits').run(new Uint8Array(60)).returnValue)).toBe(8192);
    kernel.dispose();
  });

  test('the type of records is no size of values', async () => {
    const { maps } = parseObject(typed);
    expect(maps.get('records')).toMatchObject({ keySize: 0, valueSize: 0 });
    expect(maps.get('records')!.btfValueId).toBeGreaterThan(0);
    expect(maps.get('samples')).toMatchObject({ keySize: 4, valueSize: 4 });
    const runtime = createRuntime();
    expect(Number(runtime.load(typed).program('typed').run(new Uint8Array(60)).returnValue)).toBe(1);
    await runtime.dispose();
    if (kernelMissing() !== undefined) return;
    const kernel = loadIntoKernel(typed);
    expect(Number(kernel.program('typed').run(new Uint8Array(60)).returnValue)).toBe(1);
    kernel.dispose();
  });
});
