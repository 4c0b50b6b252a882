/**
 * The kernel's tail-call situations (its lib/test_bpf.c table, and the subprogram and hierarchy cases of its
 * selftests), written as verified XDP programs: on every backend, for every kind of call site.
 *
 * Each program counts its runs in the packet's first word, as the kernel's do in their state.
 */
import { describe, expect, test } from 'vitest';
import type { LoadedObject, LoadOptions, Runtime } from '../../src/index.ts';
import { collection, type Parts, PLATFORMS, withRuntime } from './build.ts';

const LIMIT = 33;

/**
 * Leaves r6 = context, r7 = packet (32 bytes checked); adds `amount` to the word at 0; keeps the words at 4 and 8, which
 * hold 0, on the stack for the call sites (a tail call that falls through has made packet pointers invalid).
 */
const count = (amount = 1) => `
  r6 = r1
  r7 = *(u32 *)(r1 + 0)
  r8 = *(u32 *)(r1 + 4)
  r2 = r7
  r2 += 32
  if r2 > r8 goto short
  r2 = *(u32 *)(r7 + 0)
  r2 += ${amount}
  *(u32 *)(r7 + 0) = r2
  r2 = *(u32 *)(r7 + 4)
  *(u64 *)(r10 - 40) = r2
  r2 = *(u32 *)(r7 + 8)
  *(u64 *)(r10 - 48) = r2
`;
const END = `
short:
  r0 = 77
  exit
`;

/** A tail call to slot `index`, by kind of site. */
const SITES: Record<string, (index: number) => string> = {
  direct: index => `
  r1 = r6
  r2 = map[jmp] ll
  r3 = ${index}
  call 12`,
  static: index => `
  r3 = *(u64 *)(r10 - 40)
  r3 += ${index}
  r1 = r6
  r2 = map[jmp] ll
  call 12`,
  dynamic: index => `
  r3 = *(u64 *)(r10 - 40)
  r3 += ${index}
  r1 = r6
  r2 = map[jmp] ll
  r4 = *(u64 *)(r10 - 48)
  if r4 == 0 goto +2
  r2 = map[other] ll
  call 12`,
};

const MAPS: NonNullable<Parts['maps']> = [
  { name: 'jmp', type: 'prog_array', maxEntries: 16 },
  { name: 'other', type: 'prog_array', maxEntries: 4 },
];

function packet(): Uint8Array {
  return new Uint8Array(64);
}

function word(data: Uint8Array, offset: number): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(offset, true);
}

interface Loaded {
  readonly object: LoadedObject;
  /** Runs `name`; returns r0 and the counter. */
  run(name: string): { r0: number; runs: number; data: Uint8Array };
}

function load(runtime: Runtime, options: LoadOptions, programs: Record<string, string>): Loaded {
  const object = runtime.load(collection({ programs, maps: MAPS }), options);
  for (const program of object.programs.values()) {
    // The fast path must be the one under test: real machine code, with the stated tail-call entry.
    if (options.backend === 'native') expect(program.code?.length).toBeGreaterThan(0);
    else expect(program.code).toBeUndefined();
  }
  return {
    object,
    run: name => {
      const { returnValue, data } = object.program(name).run(packet());
      return { r0: Number(returnValue), runs: word(data, 0), data };
    },
  };
}

for (const [platform, options] of Object.entries(PLATFORMS)) {
  for (const [kind, site] of Object.entries(SITES)) {
    describe(`${platform}: ${kind} sites`, () => {
      const situation = (name: string, programs: Record<string, string>, check: (loaded: Loaded) => void) =>
        test(name, () => withRuntime(runtime => check(load(runtime, options, programs))));
      const caller = (amount: number, index: number, fallthrough = 99) =>
        `${count(amount)} ${site(index)}\n r0 = ${fallthrough}\n exit ${END}`;

      test('is compiled as that kind', () =>
        withRuntime(runtime => {
          const { object } = load(runtime, options, { main: caller(1, 0) });
          const pokes = options.backend === 'native' && options.pokes !== false;
          const expected = kind === 'direct' && !pokes ? 'static' : kind;
          expect(object.program('main').tailCalls.map(call => call.kind)).toEqual([expected]);
        }));

      situation('leaf', { leaf: `${count(1)} r0 = 1\n exit ${END}` }, ({ run }) => {
        expect(run('leaf')).toMatchObject({ r0: 1, runs: 1 });
      });

      situation(
        'two, three and four calls in a row',
        {
          leaf: `${count(1)} r0 = *(u32 *)(r7 + 0)\n exit ${END}`,
          two: caller(2, 0),
          three: caller(3, 1),
          four: caller(4, 2),
        },
        ({ object, run }) => {
          const slots = object.progArray('jmp');
          for (const [index, name] of ['leaf', 'two', 'three'].entries()) slots.set(index, object.program(name));
          expect(run('two')).toMatchObject({ r0: 3, runs: 3 });
          expect(run('three')).toMatchObject({ r0: 6, runs: 6 });
          expect(run('four')).toMatchObject({ r0: 10, runs: 10 });
        },
      );

      situation(
        'load and store around a leaf: the target has a fresh frame',
        {
          leaf: `${count(1)}
            r1 = 1
            r2 = 2
            r3 = r10
            *(u64 *)(r3 - 8) = r1
            *(u64 *)(r3 - 16) = r2
            r0 = *(u64 *)(r10 - 8)
            if r0 != r1 goto out
            r0 = *(u64 *)(r10 - 16)
            if r0 != r2 goto out
            r0 = 0
            exit
          out:
            r0 = 1
            exit ${END}`,
          main: `${count(1)}
            r1 = 3
            *(u64 *)(r10 - 8) = r1 ${site(0)}
            r0 = 99
            exit ${END}`,
        },
        ({ object, run }) => {
          object.progArray('jmp').set(0, object.program('leaf'));
          expect(run('main')).toMatchObject({ r0: 0, runs: 2 });
        },
      );

      situation(
        'limit reached: 34 program runs, then the call falls through',
        { main: caller(1, 0, 42) },
        ({ object, run }) => {
          object.progArray('jmp').set(0, object.program('main'));
          expect(run('main')).toMatchObject({ r0: 42, runs: LIMIT + 1 });
          // The count starts anew with each run.
          expect(run('main')).toMatchObject({ r0: 42, runs: LIMIT + 1 });
        },
      );

      situation(
        'the count is preserved across helper calls',
        {
          main: `${count(1)}
            call 42
            call 5
            call 125
            call 7
            call 8 ${site(0)}
            r0 = 42
            exit ${END}`,
        },
        ({ object, run }) => {
          object.progArray('jmp').set(0, object.program('main'));
          expect(run('main')).toMatchObject({ r0: 42, runs: LIMIT + 1 });
        },
      );

      situation('empty slot falls through', { main: caller(1, 3) }, ({ run }) => {
        expect(run('main')).toMatchObject({ r0: 99, runs: 1 });
      });

      situation('index out of range falls through', { main: caller(1, 16), far: caller(1, 0x7fff_ffff) }, ({ run }) => {
        expect(run('main')).toMatchObject({ r0: 99, runs: 1 });
        expect(run('far')).toMatchObject({ r0: 99, runs: 1 });
      });

      situation(
        'a call that falls through keeps r6-r9 and the stack, and is not counted',
        {
          main: `${count(1)}
            r9 = 0x1234
            r2 = 0x5678
            *(u64 *)(r10 - 8) = r2
            *(u64 *)(r10 - 24) = r9
            r2 = *(u32 *)(r7 + 0)
            if r2 != 1 goto chain
            ${Array.from({ length: 40 }, () => site(5)).join('\n')}
          chain: ${site(0)}
            r0 = *(u64 *)(r10 - 8)
            if r0 != 0x5678 goto bad
            if r9 != 0x1234 goto bad
            r0 = *(u64 *)(r10 - 24)
            if r0 != r9 goto bad
            r7 = *(u32 *)(r6 + 0)
            r8 = *(u32 *)(r6 + 4)
            r2 = r7
            r2 += 32
            if r2 > r8 goto short
            r0 = *(u32 *)(r7 + 0)
            exit
          bad:
            r0 = 1000
            exit ${END}`,
        },
        ({ object, run }) => {
          object.progArray('jmp').set(0, object.program('main'));
          expect(run('main')).toMatchObject({ r0: LIMIT + 1, runs: LIMIT + 1 });
        },
      );

      situation(
        'the upper half of the index register is ignored',
        {
          leaf: `${count(1)} r0 = 5\n exit ${END}`,
          main: `${count(1)}
            r4 = *(u32 *)(r7 + 4)
            r4 <<= 32
            r5 = 0x700000001 ll
            r3 = r5
            r1 = r6
            r2 = map[jmp] ll
            ${kind === 'direct' ? '' : 'r3 += r4'}
            call 12
            r0 = 99
            exit ${END}`,
        },
        ({ object, run }) => {
          object.progArray('jmp').set(1, object.program('leaf'));
          expect(run('main')).toMatchObject({ r0: 5, runs: 2 });
        },
      );

      situation(
        'a tail call in a subprogram replaces its frame only',
        {
          leaf: `${count(1)} r0 = 7\n exit ${END}`,
          main: `${count(10)}
            r9 = 100
            *(u64 *)(r10 - 8) = r9
            r1 = r6
            call sub
            r0 += r9
            r1 = *(u64 *)(r10 - 8)
            r0 += r1
            exit ${END}
          sub: ${count(100)} ${site(0)}
            r0 = 50
            exit
            ${END.replaceAll('short', 'short2')}`.replace(/(sub:[\s\S]*?)goto short\n/, '$1goto short2\n'),
        },
        ({ object, run }) => {
          expect(run('main')).toMatchObject({ r0: 250, runs: 110 });
          object.progArray('jmp').set(0, object.program('leaf'));
          expect(run('main')).toMatchObject({ r0: 207, runs: 111 });
        },
      );

      situation(
        'hierarchy: all frames of a run share the count',
        {
          // Each run of main calls a subprogram twice; each of them tail-calls main until the limit.
          main: `${count(1)}
            r1 = r6
            call sub
            r1 = r6
            call sub
            r0 = 0
            exit ${END}
          sub:
            r6 = r1
            r2 = *(u32 *)(r1 + 12)
            r2 &= 0
            *(u64 *)(r10 - 40) = r2
            *(u64 *)(r10 - 48) = r2 ${site(0)}
            r0 = 0
            exit`,
        },
        ({ object, run }) => {
          object.progArray('jmp').set(0, object.program('main'));
          expect(run('main')).toMatchObject({ r0: 0, runs: LIMIT + 1 });
        },
      );

      situation(
        'slots may be set, replaced and deleted between runs',
        {
          one: `${count(1)} r0 = 1\n exit ${END}`,
          two: `${count(1)} r0 = 2\n exit ${END}`,
          main: caller(1, 2),
        },
        ({ object, run }) => {
          const slots = object.progArray('jmp');
          expect(run('main').r0).toBe(99);
          slots.set(2, object.program('one'));
          expect(run('main').r0).toBe(1);
          slots.set(2, object.program('two'));
          expect(run('main').r0).toBe(2);
          slots.delete(2);
          expect(run('main').r0).toBe(99);
          slots.set(2, object.program('one'));
          expect(run('main').r0).toBe(1);
          expect(slots.get(2)?.name).toBe('one');
          expect(slots.map.lookup(Uint8Array.of(2, 0, 0, 0))).toEqual(
            new Uint8Array(Uint32Array.of(object.program('one').id).buffer),
          );
        },
      );
    });
  }
}
