/**
 * Slots change while native threads run. Set SOAK_SECONDS for a longer soak than the default 5 (CI: 180); each kind of site in each mode gets
 * a twelfth.
 *
 * Freed code is filled with trap instructions, so a thread that reached it would kill the test's process.
 */
import koffi from 'koffi';
import { describe, expect, test } from 'vitest';
import type { LoadedObject, LoadOptions, Runtime } from '../../src/index.ts';
import { timeLimit } from '../tools.ts';
import { collection, TAIL_CALL_MODES, withRuntime } from './build.ts';

const SECONDS = Number(process.env.SOAK_SECONDS ?? (process.env.CI ? 360 : 6));
/** What freed code is filled with: int3, or part of udf #0. */
const TRAP = process.arch === 'arm64' ? 0 : 0xcc;
const SLOTS = 4;
/** Turns of 200 changes between two looks at what is in use. */
const LOOK_EVERY = 5;
const JMP = { name: 'jmp', type: 'prog_array', maxEntries: SLOTS } as const;

const HEAD = `
  r6 = r1
  r7 = *(u32 *)(r1 + 0)
  r8 = *(u32 *)(r1 + 4)
  r2 = r7
  r2 += 32
  if r2 > r8 goto short
  r9 = *(u32 *)(r7 + 0)
`;
/** A tail call that falls through has made packet pointers invalid: r9 keeps the word. */
const TAIL = `
  r0 = r9
  exit
short:
  r0 = 0
  exit
`;

/** Calls to slot `index`; in `static` sites the index comes from the packet, in `dynamic` ones the map too. */
function site(kind: string, index: number): string {
  if (index >= SLOTS) return '';
  if (kind === 'direct') return `\n r1 = r6\n r2 = map[jmp] ll\n r3 = ${index}\n call 12`;
  const choose = kind === 'dynamic' ? '\n r4 = *(u32 *)(r7 + 8)\n if r4 == 0 goto +2\n r2 = map[other] ll' : '';
  return `\n r3 = *(u32 *)(r7 + 4)\n r3 += ${index}\n r1 = r6\n r2 = map[jmp] ll${choose}\n call 12`;
}

/** The program of slot `index`: sets its bit in the packet's first word and goes on to the next slot. */
function stage(kind: string, index: number): string {
  const bit = 1 << index;
  return `${HEAD}\n r9 |= ${bit}\n *(u32 *)(r7 + 0) = r9 ${site(kind, index + 1)} ${TAIL}`;
}

function loadChain(runtime: Runtime, kind: string, options: LoadOptions = TAIL_CALL_MODES.cached!): LoadedObject {
  const programs: Record<string, string> = { main: `${HEAD} ${site(kind, 0)} ${TAIL}` };
  for (let index = 0; index < SLOTS; index++) programs[`stage${index}`] = stage(kind, index);
  return runtime.load(collection({ programs, maps: [JMP, { ...JMP, name: 'other' }] }), options);
}

function codeBytes(address: bigint, length: number): number[] {
  return [...(koffi.decode(address, koffi.array('uint8_t', length)) as Uint8Array)];
}

describe('slots that change while other threads run', () => {
  const sites = ['direct', 'static', 'dynamic'].flatMap(kind =>
    Object.entries(TAIL_CALL_MODES).map(([mode, options]) => ({ kind, mode, options })),
  );
  for (const { kind, mode, options } of sites) {
    test(
      `${kind} sites, ${mode}: swap, delete, restore and reload for ${(SECONDS / sites.length).toFixed(1)} s`,
      { timeout: timeLimit(30_000 + SECONDS * 1000) },
      () =>
        withRuntime(async runtime => {
          const chain = loadChain(runtime, kind, options);
          const slots = chain.progArray('jmp');
          const stages = Array.from({ length: SLOTS }, (_, index) => chain.program(`stage${index}`));
          for (const [index, program] of stages.entries()) slots.set(index, program);
          const abort = new AbortController();
          const packets = Array.from({ length: 64 }, () => new Uint8Array(64));
          const replays = [1, 2].map(() =>
            chain.program('main').replayAsync(packets, { repeat: 0xffff_ffff, signal: abort.signal }),
          );
          const fresh = new Map<number, LoadedObject>();
          const reload = (index: number) => {
            const object = runtime.load(
              collection({ programs: { fresh: stage(kind, index) }, maps: [JMP, { ...JMP, name: 'other' }] }),
              {
                ...options,
                maps: new Map([
                  ['jmp', chain.map('jmp')],
                  ['other', chain.map('other')],
                ]),
              },
            );
            slots.set(index, object.program('fresh'));
            fresh.get(index)?.dispose();
            fresh.set(index, object);
          };
          // What is in use once nothing waits for the end of a grace period: the same after any number of changes, as each slot
          // always has one program that was loaded later. In between it is what the threads leave no time to free.
          const inUse = async () => {
            await runtime.settled();
            return { code: runtime.codeUsage, memory: runtime.memoryUsage };
          };
          // Trusted routines are compiled when something first needs them: those that free a program with counted misses too.
          for (let index = 0; index < SLOTS; index++) reload(index);
          slots.delete(1);
          chain.program('main').run(packets[0]!);
          for (let index = 0; index < SLOTS; index++) reload(index);
          const usual = await inUse();
          let changes = 0;
          let reloads = 0;
          let random = 12345;
          const end = performance.now() + (SECONDS * 1000) / sites.length;
          while (performance.now() < end || changes <= 1000) {
            for (let i = 0; i < 200; i++) {
              random = (Math.imul(random, 1103515245) + 12345) >>> 0;
              const index = (random >>> 16) % SLOTS;
              const choice = (random >>> 20) % 16;
              if (choice === 0) {
                reload(index);
                reloads++;
              } else if (choice < 7 && slots.get(index)) slots.delete(index);
              else slots.set(index, fresh.get(index)?.program('fresh') ?? stages[index]!);
              changes++;
            }
            await new Promise(resolve => setImmediate(resolve));
            if (changes % (200 * LOOK_EVERY) === 0) {
              expect(await inUse(), `bytes in use after ${changes} changes and ${reloads} reloads`).toEqual(usual);
            }
          }
          expect(await inUse(), `bytes in use after ${changes} changes and ${reloads} reloads`).toEqual(usual);
          expect(reloads).toBeGreaterThan(20);
          abort.abort();
          const results = await Promise.all(replays);
          await runtime.settled();
          const runs = results.reduce((sum, { packets: done }) => sum + done, 0);
          // Every run saw a chain that was cut at some slot: the low bits up to there, and nothing else.
          const seen = new Set(results.flatMap(({ verdicts }) => Object.keys(verdicts)));
          const possible = ['XDP_ABORTED', 'XDP_DROP', 'XDP_TX', '7', '15'];
          expect([...seen].filter(name => !possible.includes(name))).toEqual([]);
          expect(seen).toContain('15');
          expect(seen.size).toBeGreaterThan(2);
          expect(runs).toBeGreaterThan(10_000);
          expect(changes).toBeGreaterThan(1000);
          for (const object of fresh.values()) object.dispose();
          chain.dispose();
          await runtime.settled();
        }),
    );
  }

  test('everything is given back: memory and code are as before the objects were loaded', () =>
    withRuntime(async runtime => {
      // Trusted routines are compiled when something first refers to them, and stay.
      const first = loadChain(runtime, 'direct');
      first.program('main').run(new Uint8Array(64));
      first.dispose();
      await runtime.settled();
      const before = [runtime.memoryUsage, runtime.codeUsage];
      for (let i = 0; i < 20; i++) {
        const chain = loadChain(runtime, 'direct');
        const slots = chain.progArray('jmp');
        for (let index = 0; index < SLOTS; index++) slots.set(index, chain.program(`stage${index}`));
        expect(chain.program('main').run(new Uint8Array(64)).verdict).toBe('15');
        chain.dispose();
      }
      await runtime.settled();
      expect([runtime.memoryUsage, runtime.codeUsage]).toEqual(before);
    }));

  test('replaced code stays while a run that could see it goes on, and is poisoned after it', () =>
    withRuntime(async runtime => {
      // The stage says that it was entered, then loops for some hundred milliseconds; it is replaced, and disposed of,
      // while a thread is inside.
      const slow = `${HEAD}
        r1 = 0
        *(u32 *)(r10 - 4) = r1
        r2 = r10
        r2 += -4
        r1 = map[entered] ll
        call 1
        if r0 == 0 goto short
        r1 = 1
        *(u32 *)(r0 + 0) = r1
        r1 = 100
        r2 = func[outer] ll
        r3 = 0
        r4 = 0
        call 181
        r0 = 5
        exit
      short:
        r0 = 0
        exit
      outer:
        r1 = 1000000
        r2 = func[inner] ll
        r3 = 0
        r4 = 0
        call 181
        r0 = 0
        exit
      inner:
        r0 = 0
        exit`;
      const object = runtime.load(
        collection({
          programs: { main: `${HEAD} ${site('static', 0)} ${TAIL}`, slow, quick: 'r0 = 6\n exit' },
          maps: [JMP, { name: 'entered', type: 'array' }],
        }),
      );
      const slots = object.progArray('jmp');
      slots.set(0, object.program('slow'));
      const { address, length } = object.program('slow').code!;
      const replay = object.program('main').replayAsync([new Uint8Array(64), new Uint8Array(64)]);
      const entered = () => object.map('entered').lookup(new Uint8Array(4))![0] === 1;
      while (!entered()) await new Promise(resolve => setTimeout(resolve, 1));
      slots.set(0, object.program('quick'));
      object.program('slow').dispose();
      const during = codeBytes(address, length);
      let settled = false;
      const settling = runtime.settled().then(() => {
        settled = true;
      });
      await new Promise(resolve => setImmediate(resolve));
      expect(settled).toBe(false);
      expect(during.every(byte => byte === TRAP)).toBe(false);
      const { verdicts } = await replay;
      expect(verdicts).toEqual({ 5: 1, 6: 1 });
      await settling;
      expect(codeBytes(address, length).every(byte => byte === TRAP)).toBe(true);
    }));

  test('a replay is stopped by its signal, and by the end of the runtime', async () => {
    await withRuntime(async runtime => {
      const chain = loadChain(runtime, 'direct');
      const abort = new AbortController();
      const endless = chain
        .program('main')
        .replayAsync([new Uint8Array(64)], { repeat: 0xffff_ffff, signal: abort.signal });
      setTimeout(() => abort.abort(), 20);
      expect((await endless).stopped).toBe(true);
      const other = chain.program('main').replayAsync([new Uint8Array(64)], { repeat: 0xffff_ffff });
      await runtime.dispose();
      expect((await other).stopped).toBe(true);
    });
  });
});
