/** Whole objects in the kernel: results, logs, dumps, refusals; and the same object on both sides. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createRuntime, parseObject, programFromInstructions, readCapture } from '../../src/index.ts';
import { loadBtf } from '../../src/kernel/btf.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { type KernelLoadOptions, type KernelObject, loadIntoKernel } from '../../src/kernel/load.ts';
import type { Collection } from '../../src/object/spec.ts';
import { collection, type Parts } from '../runtime/build.ts';
import { kernelMissing } from './support.ts';

const EXAMPLE = join(import.meta.dirname, '../../examples/router');
const router = readFileSync(join(EXAMPLE, 'router.bpf.o'));
const frame = Uint8Array.from({ length: 64 }, (_, i) => i);

function withObject<T>(
  input: Collection | Uint8Array,
  use: (object: KernelObject) => T,
  options?: KernelLoadOptions,
): T {
  const object = loadIntoKernel(input, options);
  try {
    return use(object);
  } finally {
    object.dispose();
  }
}

function refusal(parts: Parts | Collection, options?: KernelLoadOptions): KernelError {
  try {
    withObject('license' in parts ? parts : collection(parts), () => {}, options);
  } catch (error) {
    expect(error).toBeInstanceOf(KernelError);
    return error as KernelError;
  }
  throw new Error('the kernel took it');
}

/** Descriptors that this process has open. */
const descriptors = (): number => readdirSync('/proc/self/fd').length;

describe.skipIf(kernelMissing() !== undefined)('objects in the kernel', () => {
  test('the example routes a capture as on our backends', () => {
    const packets = readCapture(readFileSync(join(EXAMPLE, 'capture.pcap'))).packets.slice(0, 40);
    const runtime = createRuntime({ backend: 'interpreter' });
    const ours = runtime.load(router);
    withObject(router, theirs => {
      expect([...theirs.programs.keys()]).toEqual([...ours.programs.keys()]);
      expect(
        theirs
          .progArray('stages')
          .entries()
          .map(([index, { name }]) => [index, name]),
      ).toEqual(
        ours
          .progArray('stages')
          .entries()
          .map(([index, { name }]) => [index, name]),
      );
      const verdicts = new Set<string>();
      for (const { data } of packets) {
        const { verdict, data: after } = theirs.program('router').run(data);
        const run = ours.program('router').run(data);
        expect([verdict, Buffer.from(after).toString('hex')]).toEqual([
          run.verdict,
          Buffer.from(run.data).toString('hex'),
        ]);
        verdicts.add(verdict);
      }
      expect(verdicts.size).toBeGreaterThan(1);
    });
    return runtime.dispose();
  });

  test('types and lines of a compiled object load, so that logs show source', () => {
    const parsed = parseObject(router);
    loadBtf(parsed.btf!, parsed.programs.values()).dispose();
    withObject(
      parsed,
      object => {
        const { log } = object.program('router');
        const [line] = parsed.programs.get('router')!.lines.filter(({ text }) => text !== '');
        expect(log).toContain(`; ${line!.text} @ ${line!.file.split('/').at(-1)}:${line!.line}`);
      },
      { programs: ['router'], logLevel: 2 },
    );
  });

  test('a log is as long as it needs to be', () => {
    const text = `r0 = 0\n${'r0 += 1\n'.repeat(3000)}exit`;
    withObject(
      collection({ programs: { main: text } }),
      object => {
        const { log } = object.program('main');
        expect(log.length).toBeGreaterThan(1 << 16);
        expect(log).toContain('3001: (95) exit');
        expect(log).toMatch(/processed 3002 insns/);
        expect(object.program('main').insnsProcessed).toBe(3002);
      },
      { logLevel: 2 },
    );
  });

  test('a refused program says why, with its log', () => {
    const error = refusal({ programs: { main: 'r0 = r5\nexit' } });
    expect(error).toMatchObject({ code: 'program_refused', errno: 'EACCES' });
    expect(error.message).toBe('the kernel refused program main (EACCES): R5 !read_ok');
    expect(error.log).toContain('0: (bf) r0 = r5');
  });

  test('all or nothing: a refusal leaves no descriptor open', () => {
    const maps: Parts['maps'] = [
      { name: 'a', type: 'array' },
      { name: 'b', type: 'prog_array', maxEntries: 4 },
    ];
    withObject(collection({ programs: { main: 'r0 = 0\nexit' }, maps }), () => {});
    const before = descriptors();
    refusal({ programs: { good: 'r0 = 0\nexit', bad: 'r0 = r5\nexit' }, maps });
    withObject(collection({ programs: { main: 'r0 = 0\nexit' }, maps }), () => expect(descriptors()).toBe(before + 3));
    expect(descriptors()).toBe(before);
  });

  test.each<[string, Parts | Collection, KernelLoadOptions | undefined, string]>([
    ['raw programs', { programs: { main: 'r0 = 0\nexit' }, type: 'raw' }, undefined, 'unsupported_program'],
    ['an unknown program', { programs: { main: 'r0 = 0\nexit' } }, { programs: ['other'] }, 'no_such_program'],
    ['an undefined map', { programs: { main: 'r1 = map[gone] ll\nr0 = 0\nexit' } }, undefined, 'no_such_map'],
    ['a program without instructions', { programs: { main: '' } }, undefined, 'program_refused'],
    [
      'a slot for a program that does not exist',
      { programs: {}, maps: [{ name: 'jmp', type: 'prog_array', contents: [{ key: 0, program: 'gone' }] }] },
      undefined,
      'bad_initial_contents',
    ],
    [
      'a program in an array',
      {
        programs: { main: 'r0 = 0\nexit' },
        maps: [{ name: 'a', type: 'array', contents: [{ key: 0, program: 'main' }] }],
      },
      undefined,
      'bad_initial_contents',
    ],
    [
      'internal instructions',
      {
        ...collection({ programs: {} }),
        programs: new Map([
          ['main', programFromInstructions({ name: 'main', type: 'xdp', insns: [{ kind: 'tailCall', imm: 0 }] })],
        ]),
      },
      undefined,
      'unsupported_program',
    ],
  ])('%s are refused by name', (_, parts, options, code) => {
    expect(refusal(parts, options).code).toBe(code);
  });

  test('skb programs: mark in and out, repeat, context', () => {
    const text = `
      r2 = *(u32 *)(r1 + 8)
      r2 += 1
      *(u32 *)(r1 + 8) = r2
      r0 = *(u32 *)(r1 + 0)
      exit`;
    for (const type of ['sched_cls', 'sched_act', 'cgroup_skb'] as const) {
      const body = type === 'cgroup_skb' ? text.replace(/r0 = .*/, 'r0 = 1') : text;
      withObject(collection({ programs: { main: body }, type }), object => {
        const run = object.program('main').run({ data: frame, mark: 41 });
        expect(run).toMatchObject({ mark: 42, verdict: type === 'cgroup_skb' ? 'PASS' : '64' });
        expect(run.data).toEqual(frame);
        expect(new DataView(run.context.buffer).getUint32(8, true)).toBe(42);
        expect(object.program('main').run({ data: frame, mark: 1 }, { repeat: 10 }).mark).toBe(11);
      });
    }
  });

  test('socket filters see the whole frame', () => {
    withObject(collection({ programs: { main: 'r0 = *(u32 *)(r1 + 0)\nexit' }, type: 'socket_filter' }), object => {
      const run = object.program('main').run(frame);
      expect(run).toMatchObject({ returnValue: 64n, verdict: 'PASS' });
      expect(run.data).toEqual(frame);
    });
  });

  test('xdp programs: metadata is given apart from the packet', () => {
    const text = `
      r6 = r1
      r2 = -4
      call 54
      r2 = *(u32 *)(r6 + 8)
      r3 = *(u32 *)(r6 + 0)
      r4 = r2
      r4 += 4
      if r4 > r3 goto out
      *(u32 *)(r2 + 0) = 0x04030201
    out:
      r0 = 2
      exit`;
    withObject(collection({ programs: { main: text } }), object => {
      const run = object.program('main').run(frame);
      expect(run).toMatchObject({ verdict: 'XDP_PASS', metadata: Uint8Array.of(1, 2, 3, 4) });
      expect(run.data).toEqual(frame);
    });
  });

  test.each<[string, Uint8Array | { data: Uint8Array; ifindex?: number; mark?: number }, number, string]>([
    ['a packet without an Ethernet header', new Uint8Array(3), 1, 'run_failed'],
    ['an interface that does not exist', { data: frame, ifindex: 0x7fff_fffe }, 1, 'run_failed'],
    ['a mark that is no u32', { data: frame, mark: 2 ** 32 }, 1, 'bad_argument'],
    ['no run at all', frame, 0, 'bad_argument'],
  ])('%s is refused', (_, packet, repeat, code) => {
    for (const type of ['xdp', 'sched_cls'] as const) {
      withObject(collection({ programs: { main: 'r0 = 0\nexit' }, type }), object => {
        expect(() => object.program('main').run(packet, { repeat })).toThrow(expect.objectContaining({ code }));
      });
    }
  });

  test('prog arrays: slots are set, replaced, emptied; a program of another type is refused', () => {
    const call = 'r2 = map[jmp] ll\nr3 = 1\ncall 12\nr0 = 9\nexit';
    const maps: Parts['maps'] = [{ name: 'jmp', type: 'prog_array', maxEntries: 4 }];
    withObject(
      collection({ type: 'sched_cls', programs: { main: call, one: 'r0 = 1\nexit', two: 'r0 = 2\nexit' }, maps }),
      object => {
        const slots = object.progArray('jmp');
        const run = () => object.program('main').run(frame).returnValue;
        expect([slots.maxEntries, slots.get(1), run()]).toEqual([4, undefined, 9n]);
        slots.set(1, object.program('one'));
        expect([slots.get(1)?.name, run()]).toEqual(['one', 1n]);
        slots.set(1, object.program('two'));
        expect([slots.entries().map(([i, { name }]) => [i, name]), run()]).toEqual([[[1, 'two']], 2n]);
        slots.delete(1);
        expect(run()).toBe(9n);
        slots.set(1, object.program('one'));
        slots.clear();
        expect([slots.entries(), run()]).toEqual([[], 9n]);
        const failed = (code: string, errno?: string) => expect.objectContaining({ code, ...(errno && { errno }) });
        expect(() => slots.set(4, object.program('one'))).toThrow(failed('map_access_failed', 'E2BIG'));
        expect(() => slots.delete(0)).toThrow(failed('map_access_failed', 'ENOENT'));
        expect(() => slots.set(-1, object.program('one'))).toThrow(failed('bad_argument'));
        withObject(collection({ programs: { other: 'r0 = 0\nexit' } }), other =>
          expect(() => slots.set(0, other.program('other'))).toThrow(failed('map_access_failed', 'EINVAL')),
        );
      },
    );
  });

  test('objects can share maps', () => {
    const call = 'r2 = map[jmp] ll\nr3 = 0\ncall 12\nr0 = 9\nexit';
    const maps: Parts['maps'] = [{ name: 'jmp', type: 'prog_array' }];
    withObject(collection({ type: 'sched_cls', programs: { main: call }, maps }), first =>
      withObject(
        collection({ type: 'sched_cls', programs: { target: 'r0 = 5\nexit' }, maps }),
        second => {
          first.progArray('jmp').set(0, second.program('target'));
          expect(second.progArray('jmp').get(0)?.name).toBe('target');
          expect(first.program('main').run(frame).returnValue).toBe(5n);
        },
        { maps: first.maps },
      ),
    );
  });

  test('maps in maps are put in', () => {
    const text = `
      *(u32 *)(r10 - 4) = 0
      r1 = map[outer] ll
      r2 = r10
      r2 += -4
      call 1
      if r0 == 0 goto out
      r1 = r0
      r2 = r10
      r2 += -4
      call 1
      if r0 == 0 goto out
      r0 = *(u32 *)(r0 + 0)
    out:
      exit`;
    const inner = { name: 'inner', type: 'array' as const, contents: [{ key: 0, value: Uint8Array.of(77, 0, 0, 0) }] };
    const spec = collection({ programs: {}, maps: [inner] }).maps.get('inner')!;
    const outer = { name: 'outer', type: 'array_of_maps' as const, inner: spec, contents: [{ key: 0, map: 'inner' }] };
    withObject(collection({ type: 'sched_cls', programs: { main: text }, maps: [inner, outer] }), object =>
      expect(object.program('main').run(frame).returnValue).toBe(77n),
    );
  });

  test('the kernel shows what it made of a program', () => {
    const text = 'r1 = 1\ncall sub\nexit\nsub: r0 = r1\nr0 += 41\nexit';
    withObject(collection({ type: 'sched_cls', programs: { main: text } }), object => {
      const program = object.program('main');
      expect(program.run(frame).returnValue).toBe(42n);
      const xlated = program.xlated();
      expect(xlated.length % 8).toBe(0);
      expect(xlated.length).toBeGreaterThanOrEqual(6 * 8);
      expect(xlated.at(-8)).toBe(0x95);
      const functions = program.jited();
      expect(functions).toHaveLength(2);
      // Functions are not empty, and not the same.
      for (const { bytes } of functions) expect(bytes.length).toBeGreaterThan(8);
      expect(functions[0]!.bytes).not.toEqual(functions[1]!.bytes);
    });
  });

  test('after dispose programs and slots are refused', () => {
    const object = loadIntoKernel(
      collection({ programs: { main: 'r0 = 0\nexit' }, maps: [{ name: 'jmp', type: 'prog_array' }] }),
    );
    const program = object.program('main');
    object.dispose();
    object.dispose();
    const disposed = expect.objectContaining({ code: 'disposed' });
    expect(() => program.run(frame)).toThrow(disposed);
    expect(() => program.xlated()).toThrow(disposed);
    expect(() => object.progArray('jmp').set(0, program)).toThrow(disposed);
    expect(() => object.program('other')).toThrow(expect.objectContaining({ code: 'no_such_program' }));
    expect(() => object.progArray('other')).toThrow(expect.objectContaining({ code: 'no_such_map' }));
  });
});
