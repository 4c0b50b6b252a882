/** `replace` in transactions: the program that runs start in changes together with the slots, under a replay that goes on. */
import { describe, expect, test } from 'vitest';
import { createRuntime, type LoadedObject, type LoadOptions, type Program, type Runtime } from '../../src/index.ts';
import { timeLimit } from '../tools.ts';
import { collection, PLATFORMS, withRuntime } from './build.ts';

const JMP = { name: 'jmp', type: 'prog_array', maxEntries: 4 } as const;
const frame = () => new Uint8Array(64);
const native = createRuntime().backends[0] === 'native';

/** A pipeline of two programs that returns what says which build each was of: `both(n)` where they were of one. */
function build(runtime: Runtime, number: number, options: LoadOptions, maps?: LoadedObject['maps']): LoadedObject {
  const programs = {
    main: `r6 = r1\n r7 = *(u32 *)(r1 + 0)\n r8 = *(u32 *)(r1 + 4)\n r2 = r7\n r2 += 16\n if r2 > r8 goto out\n r3 = ${number}\n *(u64 *)(r7 + 8) = r3\n r1 = r6\n r2 = map[jmp] ll\n r3 = 1\n call 12\nout:\n r0 = 99\n exit`,
    next: `r7 = *(u32 *)(r1 + 0)\n r8 = *(u32 *)(r1 + 4)\n r2 = r7\n r2 += 16\n if r2 > r8 goto out\n r0 = *(u64 *)(r7 + 8)\n r0 *= 3\n r0 += ${number + 1}\n exit\nout:\n r0 = 98\n exit`,
  };
  return runtime.load(collection({ programs, maps: [JMP] }), { ...options, ...(maps && { maps }) });
}

const both = (number: number) => 4 * number + 1;

const commit = (runtime: Runtime, first: LoadedObject, now: LoadedObject) =>
  runtime.transaction(tx => {
    tx.set(now.progArray('jmp'), 1, now.program('next'));
    tx.replace(first.program('main'), now.program('main'));
  });

const verdicts = (first: LoadedObject) => Number(first.program('main').run(frame()).verdict);

for (const [name, options] of Object.entries(PLATFORMS)) {
  describe.skipIf(options.backend === 'native' && !native)(name, () => {
    test.each(['shared', 'own'] as const)('runs of the old program enter the new one; %s prog arrays', arrays =>
      withRuntime(async runtime => {
        const first = build(runtime, 1, options);
        const maps = arrays === 'shared' ? first.maps : undefined;
        first.progArray('jmp').set(1, first.program('next'));
        expect(verdicts(first)).toBe(both(1));
        let old: LoadedObject | undefined;
        for (let number = 2; number < 7; number++) {
          const now = build(runtime, number, options, maps);
          const { published, settled } = commit(runtime, first, now);
          expect(published).toBe(true);
          expect(verdicts(first)).toBe(both(number));
          expect(first.program('main').entered).toBe(now.program('main'));
          await settled;
          old?.dispose();
          expect(verdicts(first)).toBe(both(number));
          old = now;
        }
        commit(runtime, first, first);
        expect(verdicts(first)).toBe(both(1));
      }),
    );

    test('what is replaced keeps what replaces it alive, and gives everything back', () =>
      withRuntime(async runtime => {
        runtime.transaction(() => {});
        const before = runtime.codeUsage;
        const first = build(runtime, 1, options);
        expect(verdicts(first)).toBe(99);
        const alone = runtime.codeUsage - before;
        for (let number = 2; number < 6; number++) {
          const now = build(runtime, number, options);
          await commit(runtime, first, now).settled;
          now.program('main').dispose();
          await runtime.settled();
          // Slots empty with the object, programs that run stay.
          expect(verdicts(first)).toBe(both(number));
          now.dispose();
          await runtime.settled();
        }
        expect(verdicts(first)).toBe(99);
        runtime.transaction(tx => tx.replace(first.program('main'), first.program('main')));
        first.progArray('jmp').set(1, first.program('next'));
        await runtime.transaction(() => {}).settled;
        await runtime.transaction(() => {}).settled;
        expect(verdicts(first)).toBe(both(1));
        expect(runtime.codeUsage - before).toBe(alone);
        first.dispose();
        await runtime.settled();
        if (options.backend === 'native') expect(runtime.codeUsage).toBeLessThan(before + alone);
      }));

    test('what can not be replaced', () =>
      withRuntime(runtime =>
        withRuntime(other => {
          const first = build(runtime, 1, options);
          const main = first.program('main');
          const load = (type: 'xdp' | 'sched_cls', where = runtime) =>
            where.load(collection({ programs: { p: 'r0 = 7\n exit' }, type }), options).program('p');
          const [good, alien, foreign, gone] = [load('xdp'), load('sched_cls'), load('xdp', other), load('xdp')];
          gone.dispose();
          const attempt = (program: Program, next: Program) => () =>
            runtime.transaction(tx => {
              tx.set(first.progArray('jmp'), 1, first.program('next'));
              tx.replace(program, next);
            });
          expect(attempt(main, alien)).toThrow(/type xdp, not sched_cls/);
          expect(attempt(main, foreign)).toThrow(/another runtime/);
          expect(attempt(main, gone)).toThrow(/disposed/);
          expect(first.progArray('jmp').entries()).toEqual([]);
          expect(verdicts(first)).toBe(99);
          runtime.transaction(tx => tx.replace(main, good));
          expect(verdicts(first)).toBe(7);
          const third = load('xdp');
          expect(() => runtime.transaction(tx => tx.replace(third, main))).toThrow(
            /main is replaced itself, by p; name that one/,
          );
          expect([third.entered, main.entered]).toEqual([third, good]);
          runtime.transaction(tx => {
            tx.replace(main, main);
            tx.replace(third, main);
          });
          expect([third.entered, main.entered]).toEqual([main, main]);
          expect(verdicts(first)).toBe(99);
        }),
      ));

    test('what replaced another one can be replaced, by that one too', () =>
      withRuntime(async runtime => {
        const whole = async () => {
          const first = build(runtime, 1, options);
          const main = first.program('main');
          const [a, b, c] = [7, 8, 9].map(r0 => {
            const object = runtime.load(collection({ programs: { [`p${r0}`]: `r0 = ${r0}\n exit` } }), options);
            return object.program(`p${r0}`);
          }) as [Program, Program, Program];
          /** What runs of each enter, and return. */
          const state = () =>
            [main, a, b, c].map(program => {
              const { verdict } = program.run(frame());
              return [program.entered.name, verdict];
            });
          const replace = (...steps: (readonly [Program, Program])[]) =>
            runtime.transaction(tx => {
              for (const [program, next] of steps) tx.replace(program, next);
            }).settled;
          await replace([main, a]);
          // Whoever enters `a` by now goes on with `b`, and with `c` where that takes the place of `b`, in one transaction or in several.
          await replace([a, b]);
          expect(state()).toEqual([
            ['p8', '8'],
            ['p8', '8'],
            ['p8', '8'],
            ['p9', '9'],
          ]);
          await replace([b, c], [c, a]);
          expect(state()).toEqual([
            ['p7', '7'],
            ['p7', '7'],
            ['p7', '7'],
            ['p7', '7'],
          ]);
          // Back to the first.
          await replace([a, main]);
          expect(state()).toEqual([
            ['main', '99'],
            ['main', '99'],
            ['main', '99'],
            ['main', '99'],
          ]);
          await replace([main, main], [a, a], [b, b], [c, c]);
          expect(state()).toEqual([
            ['main', '99'],
            ['p7', '7'],
            ['p8', '8'],
            ['p9', '9'],
          ]);
          await replace([main, a], [a, b], [b, main]);
          expect(state()).toEqual([
            ['main', '99'],
            ['main', '99'],
            ['main', '99'],
            ['p9', '9'],
          ]);
          // Nobody keeps anybody alive in a circle.
          first.dispose();
          for (const program of [a, b, c]) program.dispose();
          await runtime.settled();
          await runtime.transaction(() => {}).settled;
          await runtime.transaction(() => {}).settled;
          await runtime.settled();
          for (const program of [main, a, b, c]) expect(() => program.run(frame())).toThrow(/disposed/);
          return runtime.codeUsage;
        };
        // The first time trusted routines are compiled too, and stay.
        const usage = await whole();
        expect(await whole()).toBe(usage);
      }));

    test('strict transactions look at what replaces', () =>
      withRuntime(runtime => {
        const first = build(runtime, 1, options);
        const main = first.program('main');
        main.run(frame());
        const now = build(runtime, 2, options);
        const swap = (strict: true | 'new') =>
          runtime.transaction(tx => tx.replace(main, now.program('main')), { strict });
        expect(() => swap(true)).toThrow(expect.objectContaining({ code: 'would_miss' }));
        now.progArray('jmp').set(1, now.program('next'));
        swap(true);
        expect(verdicts(first)).toBe(both(2));
      }));
  });
}

describe.skipIf(!native)('under replays', () => {
  test.each(['direct', 'no pokes'])('no run mixes two builds (%s)', { timeout: timeLimit(120_000) }, kind =>
    withRuntime(async runtime => {
      const options: LoadOptions = { pokes: kind === 'direct' };
      const first = build(runtime, 1, options);
      const builds = [first, build(runtime, 2, options, first.maps), build(runtime, 3, options)];
      for (const object of [first, builds[2]!]) object.progArray('jmp').set(1, object.program('next'));
      const names = new Set<string>();
      // Until the threads have had a processor while each build was there: on a busy machine that takes more than one round.
      while (names.size < builds.length) {
        const abort = new AbortController();
        const replays = [1, 2].map(() =>
          first.program('main').replayAsync([frame(), frame()], { repeat: 0xffff_ffff, signal: abort.signal }),
        );
        for (let change = 0; change < 600; change++) {
          const { published, committed } = commit(runtime, first, builds[change % builds.length]!);
          if (!published) await committed;
          if (change % 20 === 0) await new Promise(resolve => setImmediate(resolve));
        }
        abort.abort();
        for (const { verdicts: seen } of await Promise.all(replays))
          for (const verdict of Object.keys(seen)) names.add(verdict);
      }
      expect([...names].sort()).toEqual([1, 2, 3].map(number => String(both(number))).sort());
    }),
  );
});
