/**
 * Transactions: every run sees all of the old slots or all of the new. Each kind of site in each mode gets its share of
 * SOAK_SECONDS (default 8, CI 60) and of SOAK_TRANSACTIONS (default 9,000, CI 200,000), whichever takes longer. The soak that is
 * reported in docs/tail-calls.md is
 *
 *     SOAK_TRANSACTIONS=3000000 npx vitest run test/runtime/transaction -t 'no run sees two'
 *
 * Chains whose stages carry the number of their generation through a map value: the first stage writes its number, each later one
 * compares. The same chains under single sets must fail the same check: that proves that mixed runs would be seen.
 */
import { afterAll, describe, expect, test } from 'vitest';
import {
  createRuntime,
  type LoadedObject,
  type LoadOptions,
  type ProgArraySlots,
  type Program,
  type Runtime,
  type RuntimeError,
} from '../../src/index.ts';
import { collection, PLATFORMS, TAIL_CALL_MODES, withRuntime } from './build.ts';

const SECONDS = Number(process.env.SOAK_SECONDS ?? (process.env.CI ? 60 : 8));
const TRANSACTIONS = Number(process.env.SOAK_TRANSACTIONS ?? (process.env.CI ? 200_000 : 9000));
/** Native threads that run the chain. */
const THREADS = 2;
/** Times each of them runs its packets at a stretch: some hundred microseconds. */
const BURST = 200;
/** Stages of a whole chain; they lie in two prog arrays in turn. */
const STAGES = 16;
const GENERATIONS = 4;
/** What a run returns: its generation's number from here on, or that it saw two, or fell out of the chain. */
const FIRST = 5;
const MIXED = 13;
const MISSED = 14;
/** Each CPU's run has the generation it is in here. */
const GENERATION = { name: 'generation', type: 'percpu_array', valueSize: 8 } as const;
const JMP = { type: 'prog_array', maxEntries: STAGES / 2 } as const;

const HEAD = `
  r6 = r1
  r7 = *(u32 *)(r1 + 0)
  r8 = *(u32 *)(r1 + 4)
  r2 = r7
  r2 += 32
  if r2 > r8 goto mixed
`;

/** The tail call to stage `index`. */
function site(kind: string, index: number): string {
  const [array, other] = index % 2 === 0 ? ['even', 'odd'] : ['odd', 'even'];
  const slot = index >> 1;
  if (kind === 'direct') return `\n r1 = r6\n r2 = map[${array}] ll\n r3 = ${slot}\n call 12`;
  const choose = kind === 'dynamic' ? `\n r4 = *(u32 *)(r7 + 8)\n if r4 == 0 goto +2\n r2 = map[${other}] ll` : '';
  return `\n r3 = *(u32 *)(r7 + 12)\n r3 += ${slot}\n r1 = r6\n r2 = map[${array}] ll${choose}\n call 12`;
}

const SEEN_MIXED = `\nmixed:\n r0 = ${MIXED}\n exit`;
const END = `\n r0 = ${MISSED}\n exit${SEEN_MIXED}`;

/** Every second generation has half as many stages: its transaction empties slots. */
const length = (generation: number) => (generation % 2 === 0 ? STAGES : STAGES / 2);

/** r0 = address of this CPU's generation */
const CARRIED = `
  r1 = 0
  *(u32 *)(r10 - 4) = r1
  r2 = r10
  r2 += -4
  r1 = map[generation] ll
  call 1
  if r0 == 0 goto mixed
`;

function stage(kind: string, generation: number, index: number, between = ''): string {
  const number = FIRST + generation;
  const mark =
    index === 0
      ? `${CARRIED} r1 = ${number}\n *(u64 *)(r0 + 0) = r1`
      : `${CARRIED} r1 = *(u64 *)(r0 + 0)\n if r1 != ${number} goto mixed`;
  const last = index === length(generation) - 1;
  return `${HEAD}${mark}${between}${last ? `\n r0 = ${number}\n exit${SEEN_MIXED}` : `${site(kind, index + 1)}${END}`}`;
}

interface Chain {
  readonly object: LoadedObject;
  readonly main: Program;
  readonly arrays: readonly [ProgArraySlots, ProgArraySlots];
  /** All or nothing. */
  commit(generation: number): ReturnType<Runtime['transaction']>;
  /** One by one. */
  set(generation: number): void;
}

function loadChain(runtime: Runtime, kind: string, options: LoadOptions, between?: string): Chain {
  const programs: Record<string, string> = { main: `${HEAD}${site(kind, 0)}${END}` };
  for (let generation = 0; generation < GENERATIONS; generation++) {
    for (let index = 0; index < length(generation); index++) {
      programs[`g${generation}s${index}`] = stage(kind, generation, index, index === 1 ? between : undefined);
    }
  }
  const maps = [{ name: 'even', ...JMP }, { name: 'odd', ...JMP }, GENERATION];
  const object = runtime.load(collection({ programs, maps }), options);
  const arrays = [object.progArray('even'), object.progArray('odd')] as const;
  const each = (
    generation: number,
    set: (array: ProgArraySlots, slot: number, program: Program) => void,
    remove: (array: ProgArraySlots, slot: number) => void,
  ) => {
    for (let index = 0; index < STAGES; index++) {
      const array = arrays[index % 2]!;
      const slot = index >> 1;
      if (index < length(generation)) set(array, slot, object.program(`g${generation}s${index}`));
      else if (array.get(slot)) remove(array, slot);
    }
  };
  return {
    object,
    main: object.program('main'),
    arrays,
    commit: generation => runtime.transaction(tx => each(generation, tx.set, tx.delete)),
    set: generation =>
      each(
        generation,
        (array, slot, program) => array.set(slot, program),
        (array, slot) => array.delete(slot),
      ),
  };
}

const frame = () => new Uint8Array(64);
const turn = () => new Promise(resolve => setImmediate(resolve));
const KINDS = ['direct', 'static', 'dynamic'];
const native = createRuntime().backends[0] === 'native';

describe.skipIf(!native)('while other threads run', () => {
  interface Soaked {
    /** How often each verdict was given. */
    readonly verdicts: Map<string, number>;
    runs: number;
    changes: number;
  }

  /** @param enough what has happened so far will do, once the time is over */
  async function soak(
    runtime: Runtime,
    chain: Chain,
    change: (generation: number) => void | Promise<void>,
    seconds: number,
    enough: (soaked: Soaked) => boolean,
  ): Promise<Soaked> {
    const packets = Array.from({ length: 16 }, frame);
    const soaked: Soaked = { verdicts: new Map(), runs: 0, changes: 0 };
    let running = true;
    // Bursts: a thread that is preempted keeps transactions from being published until it is its turn again, which takes
    // milliseconds where there are more threads than processors; one that rests for a moment does not.
    const keepRunning = async () => {
      while (running) {
        const { verdicts, packets: runs } = await chain.main.replayAsync(packets, { repeat: BURST });
        soaked.runs += runs;
        for (const [name, count] of Object.entries(verdicts)) {
          soaked.verdicts.set(name, (soaked.verdicts.get(name) ?? 0) + count);
        }
      }
    };
    const replays = Array.from({ length: THREADS }, keepRunning);
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end || !enough(soaked)) {
      // Not a multiple of the generations: bursts start in all of them.
      for (let i = 0; i < 4 * GENERATIONS + 1; i++) await change(soaked.changes++ % GENERATIONS);
      await turn();
    }
    running = false;
    await Promise.all(replays);
    await runtime.settled();
    return soaked;
  }

  const ALL_GENERATIONS = Array.from({ length: GENERATIONS }, (_, i) => String(FIRST + i));
  /** The check: runs of all generations, and not one that saw two or fell out of the chain. */
  const oneGeneration = ({ verdicts }: Soaked) => expect([...verdicts.keys()].sort()).toEqual(ALL_GENERATIONS);
  const anyLost = ({ verdicts }: Soaked) => verdicts.has(String(MIXED)) || verdicts.has(String(MISSED));

  const all = KINDS.flatMap(kind =>
    Object.entries(TAIL_CALL_MODES).map(([mode, options]) => ({ kind, mode, options })),
  );
  const share = SECONDS / all.length;
  const timeout = 60_000 + SECONDS * 1000 + TRANSACTIONS * 10;
  const total = { transactions: 0, published: 0, runs: 0 };
  afterAll(() => {
    if (total.transactions > 0) {
      console.log(`soak: ${total.transactions} transactions, ${total.runs} runs, none saw two generations`);
    }
  });

  for (const { kind, mode, options } of all) {
    test(`${kind} sites, ${mode}: no run sees two generations`, { timeout }, () =>
      withRuntime(async runtime => {
        const chain = loadChain(runtime, kind, options);
        chain.commit(0);
        const soaked = await soak(
          runtime,
          chain,
          async generation => {
            const transaction = chain.commit(generation);
            if (!transaction.published) await transaction.committed;
          },
          share,
          ({ changes, verdicts }) =>
            changes >= TRANSACTIONS / all.length && ALL_GENERATIONS.every(verdict => verdicts.has(verdict)),
        );
        oneGeneration(soaked);
        total.transactions += soaked.changes;
        total.runs += soaked.runs;
      }),
    );

    test(`${kind} sites, ${mode}: slots that are set one by one fail the same check`, { timeout }, () =>
      withRuntime(async runtime => {
        const chain = loadChain(runtime, kind, options);
        // Where the arrays have one side, and where they have two.
        for (const first of [chain.set, chain.commit]) {
          first(0);
          const soaked = await soak(runtime, chain, chain.set, 0, anyLost);
          expect(() => oneGeneration(soaked)).toThrow();
        }
      }),
    );
  }
});

/** bpf_trace_printk in the second stage: `onTrace` changes slots in the middle of a run. */
const PRINT = `
  r1 = 0x6f67
  *(u64 *)(r10 - 8) = r1
  r1 = r10
  r1 += -8
  r2 = 3
  call 6
`;

for (const [name, options] of Object.entries(PLATFORMS)) {
  describe.skipIf(options.backend === 'native' && !native)(name, () => {
    let onTrace = () => {};
    const inRuntime = async (use: (runtime: Runtime) => void | Promise<void>) => {
      const runtime = createRuntime({ arenaSize: 64 << 20, codeSize: 16 << 20, onTrace: () => onTrace() });
      try {
        await use(runtime);
      } finally {
        onTrace = () => {};
        await runtime.dispose();
      }
    };
    const verdict = (chain: Chain) => Number(chain.main.run(frame()).verdict);

    for (const kind of KINDS) {
      test(`${kind} sites: a run that has begun ends on the old slots, the next one is on the new`, () =>
        inRuntime(async runtime => {
          const chain = loadChain(runtime, kind, options, PRINT);
          expect(chain.commit(0).published).toBe(true);
          expect(verdict(chain)).toBe(FIRST);
          const published: boolean[] = [];
          let settled = false;
          onTrace = () => {
            onTrace = () => {};
            const first = chain.commit(1);
            published.push(first.published, chain.commit(2).published, chain.commit(3).published);
            void first.settled.then(() => {
              settled = true;
            });
          };
          expect(verdict(chain)).toBe(FIRST);
          expect(published).toEqual([true, false, false]);
          expect(settled).toBe(false);
          // What could not be published while that run was on the other side.
          const last = chain.commit(3);
          expect(last.published).toBe(true);
          await last.settled;
          expect(settled).toBe(true);
          expect(verdict(chain)).toBe(FIRST + 3);
        }));

      test(`${kind} sites: single sets do reach a run that has begun`, () =>
        inRuntime(runtime => {
          const chain = loadChain(runtime, kind, options, PRINT);
          chain.commit(0);
          onTrace = () => chain.set(2);
          expect(verdict(chain)).toBe(MIXED);
          onTrace = () => {};
          expect(verdict(chain)).toBe(FIRST + 2);
        }));
    }

    test('single sets after a transaction hold on both sides', () =>
      inRuntime(async runtime => {
        const chain = loadChain(runtime, 'direct', options);
        for (let round = 0; round < 3; round++) {
          chain.set(0);
          expect(verdict(chain)).toBe(FIRST);
          await chain.commit(1).settled;
          expect(verdict(chain)).toBe(FIRST + 1);
          chain.arrays[0].delete(1);
          expect(verdict(chain)).toBe(MISSED);
          chain.arrays[0].set(1, chain.object.program('g1s2'));
          expect(verdict(chain)).toBe(FIRST + 1);
          // One change, so that the other side shows what it holds.
          chain.arrays[0].transaction(tx => tx.delete(1));
          expect(verdict(chain)).toBe(MISSED);
          chain.arrays[0].transaction(tx => tx.set(1, chain.object.program('g1s2')));
          expect(verdict(chain)).toBe(FIRST + 1);
          expect(chain.arrays[0].get(1)).toBe(chain.object.program('g1s2'));
        }
      }));

    test('missed tail calls are counted on both sides', () =>
      inRuntime(runtime => {
        for (const kind of KINDS) {
          const chain = loadChain(runtime, kind, options);
          const [even] = chain.arrays;
          const [caller, callee] = ['g1s1', 'g1s2'].map(program => chain.object.program(program)) as [Program, Program];
          // The second transaction over the same slots is on the other side.
          for (let round = 0; round < 2; round++) {
            chain.commit(1);
            even.delete(1);
            expect(verdict(chain)).toBe(MISSED);
            even.set(1, callee);
          }
          const expected = { map: 'even', index: 1, cause: 'empty', count: 2 };
          expect(caller.tailCallMisses()).toEqual([expect.objectContaining(expected)]);
          expect(caller.resetTailCallMisses()).toEqual([expect.objectContaining(expected)]);
          expect(caller.tailCallMisses()).toEqual([]);
        }
      }));

    test('objects loaded after the first transaction take part', () =>
      inRuntime(runtime => {
        loadChain(runtime, 'direct', options).commit(0);
        for (const kind of KINDS) {
          const chain = loadChain(runtime, kind, options);
          chain.set(2);
          expect(verdict(chain)).toBe(FIRST + 2);
          for (const generation of [1, 3, 0]) {
            chain.commit(generation);
            expect(verdict(chain)).toBe(FIRST + generation);
          }
        }
      }));

    test('a commit that fails changes nothing', () =>
      inRuntime(async runtime => {
        const chain = loadChain(runtime, 'direct', options);
        chain.commit(0);
        const [even] = chain.arrays;
        const good = chain.object.program('g2s0');
        const gone = runtime.load(collection({ programs: { gone: 'r0 = 1\n exit' } }), options).program('gone');
        gone.dispose();
        const alien = runtime
          .load(collection({ programs: { alien: 'r0 = 1\n exit' }, type: 'sched_cls' }), options)
          .program('alien');
        const before = even.entries();
        const refuse = (change: Parameters<ProgArraySlots['transaction']>[0]) => {
          let code: string | undefined;
          try {
            even.transaction(tx => {
              tx.set(0, good);
              tx.delete(1);
              change(tx);
              tx.set(2, good);
            });
          } catch (error) {
            code = (error as RuntimeError).code;
          }
          expect(even.entries()).toEqual(before);
          expect(verdict(chain)).toBe(FIRST);
          return code;
        };
        expect(refuse(tx => tx.set(5, alien))).toBe('owner_mismatch');
        expect(refuse(tx => tx.set(5, gone))).toBe('disposed');
        expect(refuse(tx => tx.set(JMP.maxEntries, good))).toBe('index_out_of_range');
        expect(refuse(tx => tx.delete(-1))).toBe('index_out_of_range');
        expect(refuse(tx => tx.delete(1))).toBe('no_such_key');
        const thrown = new Error('changed my mind');
        expect(() =>
          even.transaction(tx => {
            tx.delete(0);
            throw thrown;
          }),
        ).toThrow(thrown);
        const late: Promise<unknown>[] = [];
        const asyncChange = async (tx: { delete(index: number): void }) => {
          tx.delete(0);
          await turn();
          tx.delete(1);
        };
        expect(() =>
          even.transaction(tx => {
            const promise = asyncChange(tx);
            late.push(promise);
            return promise as unknown as undefined;
          }),
        ).toThrow(/must not be async/);
        await expect(late[0]).rejects.toThrow(/has returned/);
        expect(even.entries()).toEqual(before);
        expect(verdict(chain)).toBe(FIRST);
      }));

    test('the owner of an empty array is checked among the changes themselves', () =>
      inRuntime(runtime => {
        const object = runtime.load(
          collection({ programs: { one: 'r0 = 1\n exit' }, maps: [{ name: 'jmp', ...JMP }] }),
          options,
        );
        const alien = runtime
          .load(collection({ programs: { alien: 'r0 = 1\n exit' }, type: 'sched_cls' }), options)
          .program('alien');
        const slots = object.progArray('jmp');
        expect(() =>
          slots.transaction(tx => {
            tx.set(0, alien);
            tx.set(1, object.program('one'));
          }),
        ).toThrow(/does not match/);
        expect(slots.entries()).toEqual([]);
        expect(slots.map.owner).toBeUndefined();
        slots.transaction(tx => {
          tx.set(0, object.program('one'));
          tx.delete(0);
          tx.set(0, object.program('one'));
        });
        expect(slots.get(0)).toBe(object.program('one'));
      }));

    test('everything is given back, and replaced programs are freed when settled', () =>
      inRuntime(async runtime => {
        const warm = loadChain(runtime, 'direct', options);
        warm.commit(0);
        warm.main.run(frame());
        warm.object.dispose();
        await runtime.settled();
        const before = [runtime.memoryUsage, runtime.codeUsage];
        const chain = loadChain(runtime, 'direct', options);
        chain.commit(0);
        const loaded = [runtime.memoryUsage, runtime.codeUsage];
        const fresh = loadChain(runtime, 'direct', options);
        fresh.object.dispose();
        const other = runtime.load(collection({ programs: { other: `${HEAD}${END}` } }), options);
        await chain.arrays[0].transaction(tx => tx.set(0, other.program('other'))).settled;
        other.dispose();
        await chain.commit(2).settled;
        await runtime.settled();
        expect([runtime.memoryUsage, runtime.codeUsage]).toEqual([loaded[0]!, loaded[1]!]);
        chain.object.dispose();
        await runtime.settled();
        expect([runtime.memoryUsage, runtime.codeUsage]).toEqual(before);
      }));
  });
}
