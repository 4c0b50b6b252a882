/** The public API: loading, owners, sharing maps, raw programs, host functions, disposal, and bad arguments. */
import { describe, expect, test } from 'vitest';
import { createRuntime, SwitchyardError } from '../../src/index.ts';
import { collection, mapSpec, type Parts, PLATFORMS, withRuntime } from './build.ts';

const JMP = { name: 'jmp', type: 'prog_array', maxEntries: 4 } as const;
const CALL = `
  r6 = r1
  r2 = map[jmp] ll
  r3 = 0
  call 12
  r0 = 9
  exit`;

function failure(action: () => unknown): SwitchyardError {
  try {
    action();
  } catch (error) {
    if (error instanceof SwitchyardError) return error;
    throw error;
  }
  throw new Error('expected an error');
}

for (const [platform, options] of Object.entries(PLATFORMS)) {
  describe(platform, () => {
    test('raw programs: memory in r1, its size in r2, 64-bit result', () =>
      withRuntime(runtime => {
        const object = runtime.load(
          collection({
            type: 'raw',
            programs: {
              sum: `
                r0 = 0
                if r2 < 8 goto out
                r0 = *(u64 *)(r1 + 0)
                *(u8 *)(r1 + 7) = 1
              out:
                exit`,
            },
          }),
          options,
        );
        const program = object.program('sum');
        const result = program.run(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 0x88));
        expect(result.returnValue).toBe(0x8807060504030201n);
        expect([...result.data]).toEqual([1, 2, 3, 4, 5, 6, 7, 1]);
        expect(program.run(new Uint8Array(7)).returnValue).toBe(0n);
        expect(program.run(new Uint8Array(0)).returnValue).toBe(0n);
      }));

    test('a raw program keeps r1 and r2 across a tail call', () =>
      withRuntime(runtime => {
        const object = runtime.load(
          collection({
            type: 'raw',
            maps: [JMP],
            programs: {
              main: `r2 = map[jmp] ll\n r3 = 0\n call 12\n r0 = 9\n exit`,
              size: 'r0 = r2\n if r2 < 1 goto out\n r3 = *(u8 *)(r1 + 0)\n r0 += r3\nout:\n exit',
            },
          }),
          options,
        );
        expect(object.program('main').run(new Uint8Array(100).fill(7)).returnValue).toBe(9n);
        object.progArray('jmp').set(0, object.program('size'));
        expect(object.program('main').run(new Uint8Array(100).fill(7)).returnValue).toBe(107n);
      }));

    test('skb programs see length, protocol and packet; verdict names', () =>
      withRuntime(runtime => {
        const object = runtime.load(
          collection({
            type: 'sched_cls',
            programs: {
              main: 'r0 = *(u32 *)(r1 + 0)\n r2 = *(u32 *)(r1 + 16)\n r0 += r2\n r0 &= 0xffff\n if r0 == 72 goto +1\n exit\n r0 = 2\n exit',
            },
          }),
          options,
        );
        const frame = new Uint8Array(64);
        frame[12] = 8;
        // 64 + htons(0x0800) read as a little-endian number
        expect(object.program('main').run(frame).verdict).toBe('TC_ACT_SHOT');
      }));

    test('redirects are recorded', () =>
      withRuntime(runtime => {
        const object = runtime.load(
          collection({ programs: { main: 'r1 = 7\n r2 = 0\n call 23\n exit', none: 'r0 = 2\n exit' } }),
          options,
        );
        expect(object.program('main').run(new Uint8Array(64))).toMatchObject({
          verdict: 'XDP_REDIRECT',
          redirect: { kind: 'interface', ifindex: 7 },
        });
        expect(object.program('none').run(new Uint8Array(64)).redirect).toBeUndefined();
      }));

    test('redirects to a peer or a neighbour are recorded, with the next hop', () =>
      withRuntime(runtime => {
        const peer = 'r1 = 7\n r2 = 0\n call 155\n exit';
        const neighbour = 'r1 = 7\n r2 = 0\n r3 = 0\n r4 = 0\n call 152\n exit';
        const nextHop = `
          *(u32 *)(r10 - 24) = 10
          ${[20, 16, 12, 8].map(at => `*(u32 *)(r10 - ${at}) = ${0x01010101 * at}`).join('\n')}
          r1 = 7\n r2 = r10\n r2 += -24\n r3 = 20\n r4 = 0\n call 152\n exit`;
        const object = runtime.load(collection({ type: 'sched_cls', programs: { peer, neighbour, nextHop } }), options);
        const redirect = (name: string) => {
          const { verdict, redirect } = object.program(name).run(new Uint8Array(64));
          expect(verdict).toBe('TC_ACT_REDIRECT');
          return redirect;
        };
        expect(redirect('peer')).toEqual({ kind: 'peer', ifindex: 7 });
        expect(redirect('neighbour')).toEqual({ kind: 'neighbour', ifindex: 7, nextHop: undefined });
        const address = Uint8Array.from([20, 16, 12, 8].flatMap(at => [at, at, at, at]));
        expect(redirect('nextHop')).toEqual({ kind: 'neighbour', ifindex: 7, nextHop: { family: 10, address } });
      }));

    test('slots refuse programs of another type, and indexes out of range', () =>
      withRuntime(runtime => {
        const xdp = runtime.load(collection({ maps: [JMP], programs: { main: CALL, leaf: 'r0 = 1\n exit' } }), options);
        const tc = runtime.load(collection({ type: 'sched_cls', programs: { leaf: 'r0 = 1\n exit' } }), options);
        const slots = xdp.progArray('jmp');
        const mismatch = failure(() => slots.set(0, tc.program('leaf')));
        expect(mismatch).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
        expect(mismatch.message).toContain('sched_cls');
        expect(failure(() => slots.set(4, xdp.program('leaf')))).toMatchObject({ errno: 'E2BIG' });
        expect(failure(() => slots.delete(1))).toMatchObject({ errno: 'ENOENT' });
        expect(slots.entries()).toEqual([]);
        expect(xdp.program('main').run(new Uint8Array(64)).returnValue).toBe(9n);
      }));

    test('owner checks are made too when a program that calls through the array is loaded', () =>
      withRuntime(runtime => {
        const tc = runtime.load(
          collection({ type: 'sched_cls', maps: [JMP], programs: { leaf: 'r0 = 1\n exit' } }),
          options,
        );
        tc.progArray('jmp').set(0, tc.program('leaf'));
        const xdp = collection({ maps: [JMP], programs: { main: CALL } });
        const before = runtime.memoryUsage;
        const error = failure(() => runtime.load(xdp, { ...options, maps: tc.maps }));
        expect(error).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
        expect(runtime.memoryUsage).toBe(before);
        expect(tc.progArray('jmp').get(0)?.name).toBe('leaf');
      }));

    test('maps are shared between objects by name, and outlive the object that made them', () =>
      withRuntime(async runtime => {
        const counter = { name: 'counter', type: 'array', valueSize: 8 } as const;
        const text = `
          r1 = 0
          *(u32 *)(r10 - 4) = r1
          r2 = r10
          r2 += -4
          r1 = map[counter] ll
          call 1
          if r0 == 0 goto out
          r1 = 1
          lock *(u64 *)(r0 + 0) += r1
        out:
          r0 = 2
          exit`;
        const first = runtime.load(collection({ maps: [counter], programs: { count: text } }), options);
        const second = runtime.load(collection({ maps: [counter], programs: { count: text } }), {
          ...options,
          maps: new Map([['counter', first.map('counter')]]),
        });
        first.program('count').run(new Uint8Array(64));
        second.program('count').replay([new Uint8Array(64)], { repeat: 10 });
        first.dispose();
        await runtime.settled();
        expect([...second.map('counter').lookup(new Uint8Array(4))!]).toEqual([11, 0, 0, 0, 0, 0, 0, 0]);
        second.dispose();
        await runtime.settled();
        expect(failure(() => second.map('counter').lookup(new Uint8Array(4)))).toMatchObject({ code: 'disposed' });
      }));

    test('a map of maps gets the maps that the object puts into it, and keeps them', () =>
      withRuntime(async runtime => {
        const inner = { type: 'array', valueSize: 8, maxEntries: 1 } as const;
        const parts = {
          maps: [
            { name: 'a', ...inner },
            { name: 'b', ...inner },
            {
              name: 'outer',
              type: 'array_of_maps',
              maxEntries: 2,
              inner: mapSpec({ name: 'inner', ...inner }),
              contents: [
                { key: 0, map: 'a' },
                { key: 1, map: 'b' },
              ],
            },
          ],
          programs: {
            main: `
              r1 = *(u32 *)(r1 + 16)
              r1 += 1
              *(u32 *)(r10 - 4) = r1
              r2 = r10
              r2 += -4
              r1 = map[outer] ll
              call 1
              if r0 == 0 goto out
              r2 = 0
              *(u32 *)(r10 - 4) = r2
              r2 = r10
              r2 += -4
              r1 = r0
              call 1
              if r0 == 0 goto out
              r1 = 5
              lock *(u64 *)(r0 + 0) += r1
            out:
              r0 = 2
              exit`,
          },
        } satisfies Parts;
        const first = runtime.load(collection(parts), options);
        first.program('main').run(new Uint8Array(64));
        expect(first.map('b').lookup(new Uint8Array(4))![0]).toBe(5);
        expect(first.map('a').lookup(new Uint8Array(4))![0]).toBe(0);
        const second = runtime.load(collection({ ...parts, maps: parts.maps.slice(2) }), {
          ...options,
          maps: new Map([['outer', first.map('outer')]]),
        });
        first.dispose();
        await runtime.settled();
        // The inner maps live as long as the outer one.
        second.program('main').run(new Uint8Array(64));
        second.dispose();
        await runtime.settled();
      }));

    test('a program that is disposed of stays in its slots until they change', () =>
      withRuntime(async runtime => {
        const main = runtime.load(collection({ maps: [JMP], programs: { main: CALL } }), options);
        const leaf = runtime.load(collection({ programs: { leaf: 'r0 = 1\n exit' } }), options);
        const program = leaf.program('leaf');
        main.progArray('jmp').set(0, program);
        leaf.dispose();
        await runtime.settled();
        expect(failure(() => program.run(new Uint8Array(64)))).toMatchObject({ code: 'disposed' });
        expect(main.program('main').run(new Uint8Array(64)).returnValue).toBe(1n);
        main.progArray('jmp').delete(0);
        await runtime.settled();
        expect(main.program('main').run(new Uint8Array(64)).returnValue).toBe(9n);
        expect(failure(() => main.progArray('jmp').set(0, program))).toMatchObject({ code: 'disposed' });
      }));
  });
}

describe('CPU numbers', () => {
  const PROCESSOR = 'r6 = r1\n call 8\n exit';

  test('are the same for the same work on every backend and thread', () =>
    withRuntime(async runtime => {
      for (const backend of ['native', 'interpreter'] as const) {
        const program = runtime.load(collection({ programs: { main: PROCESSOR } }), { backend }).program('main');
        expect(program.run(new Uint8Array(64)).returnValue).toBe(0n);
        expect((await program.replayAsync([new Uint8Array(64)], { keep: true })).results![0]!.returnValue).toBe(0n);
      }
    }));

  test('are never shared by threads that run at once', () =>
    withRuntime(async runtime => {
      const program = runtime.load(collection({ programs: { main: PROCESSOR } })).program('main');
      const abort = new AbortController();
      const packets = Array.from({ length: 4 }, () => new Uint8Array(64));
      const running = program.replayAsync(packets, { workers: 3, repeat: 0xffff_ffff, signal: abort.signal });
      expect(program.run(new Uint8Array(64)).returnValue).toBe(3n);
      await new Promise(resolve => setTimeout(resolve, 20));
      abort.abort();
      // 0, 1 and 2 are XDP_ABORTED, XDP_DROP and XDP_PASS.
      const { verdicts } = await running;
      expect(Object.keys(verdicts).sort()).toEqual(['XDP_ABORTED', 'XDP_DROP']);
      expect(program.run(new Uint8Array(64)).returnValue).toBe(0n);
    }));
});

describe('the runtime', () => {
  test('interpreted and compiled programs do not tail-call each other', () =>
    withRuntime(runtime => {
      const native = runtime.load(collection({ maps: [JMP], programs: { main: CALL } }), { backend: 'native' });
      const interpreted = runtime.load(collection({ programs: { leaf: 'r0 = 1\n exit' } }), { backend: 'interpreter' });
      const error = failure(() => native.progArray('jmp').set(0, interpreted.program('leaf')));
      expect(error).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
      expect(error.message).toContain('interpreter');
    }));

  test('trace_printk reaches the host', async () => {
    const lines: string[] = [];
    const runtime = createRuntime({ onTrace: line => lines.push(line), arenaSize: 8 << 20, codeSize: 1 << 20 });
    try {
      for (const backend of ['native', 'interpreter'] as const) {
        const object = runtime.load(
          collection({
            programs: {
              // "n=%d\0" on the stack
              main: 'r1 = 0x64253d6e ll\n *(u64 *)(r10 - 8) = r1\n r1 = r10\n r1 += -8\n r2 = 8\n r3 = 42\n call 6\n r0 = 2\n exit',
            },
          }),
          { backend },
        );
        object.program('main').run(new Uint8Array(64));
      }
    } finally {
      await runtime.dispose();
    }
    expect(lines).toEqual(['n=42', 'n=42']);
  });

  test('a host function that throws ends in a typed error, not in a crash', async () => {
    for (const backend of ['native', 'interpreter'] as const) {
      const runtime = createRuntime({
        onTrace: () => {
          throw new Error('sink is full');
        },
        arenaSize: 8 << 20,
        codeSize: 1 << 20,
      });
      const object = runtime.load(
        collection({
          programs: {
            main: 'r1 = 0x61 ll\n *(u64 *)(r10 - 8) = r1\n r1 = r10\n r1 += -8\n r2 = 8\n call 6\n r0 = 2\n exit',
          },
        }),
        { backend },
      );
      const error = failure(() => object.program('main').run(new Uint8Array(64)));
      expect(error).toMatchObject({ code: 'service_failed' });
      expect(error.message).toContain('sink is full');
      await runtime.dispose();
    }
  });

  test('loading is all or nothing', () =>
    withRuntime(async runtime => {
      const before = [runtime.memoryUsage, runtime.codeUsage];
      const bad = collection({ maps: [JMP], programs: { good: 'r0 = 1\n exit', bad: 'exit' } });
      expect(failure(() => runtime.load(bad)).name).toBe('VerifierError');
      const full = collection({
        maps: [{ ...JMP, contents: [{ key: 9, program: 'good' }] }],
        programs: { good: 'r0 = 1\n exit' },
      });
      expect(failure(() => runtime.load(full))).toMatchObject({ errno: 'E2BIG' });
      await runtime.settled();
      expect([runtime.memoryUsage, runtime.codeUsage]).toEqual(before);
    }));

  test('bad arguments are named', () =>
    withRuntime(async runtime => {
      expect(failure(() => createRuntime({ cpus: 0 }))).toMatchObject({ code: 'bad_argument' });
      expect(failure(() => createRuntime({ arenaSize: 5 }))).toMatchObject({ code: 'bad_argument' });
      const object = runtime.load(collection({ programs: { main: 'r0 = 2\n exit' } }));
      const program = object.program('main');
      expect(failure(() => object.program('nain')).message).toContain('main');
      expect(failure(() => object.map('m'))).toMatchObject({ code: 'no_such_map' });
      expect(failure(() => program.run('text' as unknown as Uint8Array))).toMatchObject({ code: 'bad_argument' });
      expect(failure(() => program.run(new Uint8Array(300_000)))).toMatchObject({ code: 'bad_argument' });
      expect(failure(() => program.run({ data: new Uint8Array(64), ifindex: -1 }))).toMatchObject({
        code: 'bad_argument',
      });
      expect(failure(() => program.replay([], { repeat: 0 }))).toMatchObject({ code: 'bad_argument' });
      await expect(program.replayAsync([], { workers: 200 })).rejects.toMatchObject({ code: 'busy' });
      expect(program.replay([])).toMatchObject({ packets: 0, verdicts: {} });
      expect(
        runtime
          .load(collection({ programs: { main: 'r0 = 2\n exit' } }))
          .program('main')
          .run(new Uint8Array(0)).verdict,
      ).toBe('XDP_PASS');
    }));

  test('a runtime that was disposed of answers with errors', async () => {
    const runtime = createRuntime({ arenaSize: 8 << 20, codeSize: 1 << 20 });
    const object = runtime.load(collection({ maps: [JMP], programs: { main: CALL } }));
    await runtime.dispose();
    await runtime.dispose();
    expect(failure(() => object.program('main').run(new Uint8Array(64)))).toMatchObject({ code: 'disposed' });
    expect(failure(() => runtime.load(collection({ programs: { main: CALL } })))).toMatchObject({ code: 'disposed' });
    expect(failure(() => object.map('jmp').lookup(new Uint8Array(4)))).toMatchObject({ code: 'disposed' });
  });
});
