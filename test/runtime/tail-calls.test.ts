/**
 * The kernel's tail-call situations (its lib/test_bpf.c table, and the subprogram and hierarchy cases of its
 * selftests), written as verified programs: on every backend and in the running kernel, for every kind of call site.
 *
 * Each program counts its runs in the packet's first word, as the kernel's do in their state. On our backends they are
 * XDP programs; in the kernel they are classifiers, because a test run of an XDP program takes it 16 ms.
 */
import { describe, expect, test } from 'vitest';
import { loadIntoKernel } from '../../src/kernel/load.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection, type Parts, PLATFORMS, withRuntime } from './build.ts';

const LIMIT = 33;

/**
 * Leaves r6 = context, r7 = packet (32 bytes checked); adds `amount` to the word at 0; keeps the words at 4 and 8, which
 * hold 0, on the stack for the call sites (a tail call that falls through has made packet pointers invalid).
 */
const count = (amount = 1) => `
  r6 = r1
  r7 = *(u32 *)(r1 + DATA)
  r8 = *(u32 *)(r1 + END_OF_DATA)
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

/** What a situation does with its programs, the same everywhere. `slot`s are those of prog array `jmp`. */
interface Loaded {
  /** Runs `name`; returns r0 and the counter. */
  run(name: string): { r0: number; runs: number };
  set(slot: number, name: string): void;
  delete(slot: number): void;
  /** Name of the program in a slot. */
  at(slot: number): string | undefined;
  /** What user space reads from a slot. */
  bytes(slot: number): Uint8Array | undefined;
  /** Number by which a program is known. */
  id(name: string): number;
}

/** Both kinds of object, loaded by ours or by the kernel. */
interface Holder<P> {
  program(name: string): P;
  progArray(name: string): {
    set(index: number, program: P): void;
    delete(index: number): void;
    get(index: number): P | undefined;
    readonly map: { lookup(key: Uint8Array): Uint8Array | undefined };
  };
}
interface Runnable {
  readonly name: string;
  readonly id: number;
  run(packet: Uint8Array): { readonly returnValue: bigint; readonly data: Uint8Array };
}

function held<P extends Runnable>(object: Holder<P>): Loaded {
  const slots = object.progArray('jmp');
  return {
    run: name => {
      const { returnValue, data } = object.program(name).run(packet());
      return { r0: Number(returnValue), runs: word(data, 0) };
    },
    set: (slot, name) => slots.set(slot, object.program(name)),
    delete: slot => slots.delete(slot),
    at: slot => slots.get(slot)?.name,
    bytes: slot => slots.map.lookup(Uint8Array.of(slot, 0, 0, 0)),
    id: name => object.program(name).id,
  };
}

type Texts = Readonly<Record<string, string>>;

/** Programs with the offsets of a type's context in place of the fields' names. */
function parts(type: 'xdp' | 'sched_cls', texts: Texts) {
  const [data, end, ifindex] = type === 'xdp' ? [0, 4, 12] : [76, 80, 40];
  const programs = Object.entries(texts).map(([name, text]) => [
    name,
    text.replaceAll('END_OF_DATA', `${end}`).replaceAll('DATA', `${data}`).replaceAll('IFINDEX', `${ifindex}`),
  ]);
  return collection({ type, programs: Object.fromEntries(programs), maps: MAPS });
}

interface Platform {
  readonly name: string;
  /** Why it is left out here. */
  readonly missing?: string | undefined;
  /** How tail calls of a kind are run; undefined where that does not show. */
  readonly kinds?: (texts: Texts) => Promise<readonly string[]>;
  with(texts: Texts, check: (loaded: Loaded) => void): Promise<void>;
}

const platforms: Platform[] = Object.entries(PLATFORMS).map(([name, options]) => ({
  name,
  kinds: texts =>
    withRuntime(runtime =>
      runtime
        .load(parts('xdp', texts), options)
        .program('main')
        .tailCalls.map(call => call.kind),
    ),
  with: (texts, check) =>
    withRuntime(runtime => {
      const object = runtime.load(parts('xdp', texts), options);
      for (const program of object.programs.values()) {
        // The fast path must be the one under test: real machine code, with the stated tail-call entry.
        if (options.backend === 'native') expect(program.code?.length).toBeGreaterThan(0);
        else expect(program.code).toBeUndefined();
      }
      check(held(object));
    }),
}));
platforms.push({
  name: 'the running kernel',
  missing: kernelMissing(),
  async with(texts, check) {
    const object = loadIntoKernel(parts('sched_cls', texts));
    try {
      check(held(object));
    } finally {
      object.dispose();
    }
  },
});

for (const platform of platforms) {
  for (const [kind, site] of Object.entries(SITES)) {
    describe.skipIf(platform.missing !== undefined)(`${platform.name}: ${kind} sites`, () => {
      const situation = (name: string, texts: Texts, check: (loaded: Loaded) => void) =>
        test(name, () => platform.with(texts, check));
      const caller = (amount: number, index: number, fallthrough = 99) =>
        `${count(amount)} ${site(index)}\n r0 = ${fallthrough}\n exit ${END}`;

      const { kinds } = platform;
      test.skipIf(kinds === undefined)('is compiled as that kind', async () => {
        const pokes = platform.name.startsWith('x86-64') && PLATFORMS[platform.name]?.pokes !== false;
        const expected = kind === 'direct' && !pokes ? 'static' : kind;
        expect(await kinds!({ main: caller(1, 0) })).toEqual([expected]);
      });

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
        ({ run, set }) => {
          for (const [slot, name] of ['leaf', 'two', 'three'].entries()) set(slot, name);
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
        ({ run, set }) => {
          set(0, 'leaf');
          expect(run('main')).toMatchObject({ r0: 0, runs: 2 });
        },
      );

      situation(
        'limit reached: 34 program runs, then the call falls through',
        { main: caller(1, 0, 42) },
        ({ run, set }) => {
          set(0, 'main');
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
        ({ run, set }) => {
          set(0, 'main');
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
            r7 = *(u32 *)(r6 + DATA)
            r8 = *(u32 *)(r6 + END_OF_DATA)
            r2 = r7
            r2 += 32
            if r2 > r8 goto short
            r0 = *(u32 *)(r7 + 0)
            exit
          bad:
            r0 = 1000
            exit ${END}`,
        },
        ({ run, set }) => {
          set(0, 'main');
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
        ({ run, set }) => {
          set(1, 'leaf');
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
        ({ run, set }) => {
          expect(run('main')).toMatchObject({ r0: 250, runs: 110 });
          set(0, 'leaf');
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
            r2 = *(u32 *)(r1 + IFINDEX)
            r2 &= 0
            *(u64 *)(r10 - 40) = r2
            *(u64 *)(r10 - 48) = r2 ${site(0)}
            r0 = 0
            exit`,
        },
        ({ run, set }) => {
          set(0, 'main');
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
        loaded => {
          const { run, set } = loaded;
          expect(run('main').r0).toBe(99);
          set(2, 'one');
          expect(run('main').r0).toBe(1);
          set(2, 'two');
          expect(run('main').r0).toBe(2);
          loaded.delete(2);
          expect(run('main').r0).toBe(99);
          set(2, 'one');
          expect(run('main').r0).toBe(1);
          expect(loaded.at(2)).toBe('one');
          expect(loaded.bytes(2)).toEqual(new Uint8Array(Uint32Array.of(loaded.id('one')).buffer));
        },
      );
    });
  }
}
