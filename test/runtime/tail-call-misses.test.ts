/** Tail calls that fall through are counted by site, array, index and cause, alike on every backend. */
import { describe, expect, test } from 'vitest';
import type { LoadedObject, Program, Runtime, TailCallMiss } from '../../src/index.ts';
import { timeLimit } from '../tools.ts';
import { collection, PLATFORMS, withRuntime } from './build.ts';

const SLOTS = 8;
const MAPS = [
  { name: 'jmp', type: 'prog_array', maxEntries: SLOTS },
  { name: 'other', type: 'prog_array', maxEntries: 2 },
] as const;

/** Tail calls of a raw program: `index` and the choice of map come from the memory. r6 = context, r7 = index, r8 = choice. */
const SITES = {
  direct: 'r1 = r6\n r2 = map[jmp] ll\n r3 = 5\n call 12',
  static: 'r1 = r6\n r2 = map[jmp] ll\n r3 = r7\n call 12',
  dynamic: 'r1 = r6\n r2 = map[jmp] ll\n if r8 == 0 goto +2\n r2 = map[other] ll\n r3 = r7\n call 12',
} as const;
type Kind = keyof typeof SITES;

/** Sums what r6-r9 and the stack hold after the calls, so that a register lost on the way to the count shows. */
function program(...sites: string[]): string {
  return `
  if r2 < 16 goto short
  r6 = r1
  r7 = *(u64 *)(r1 + 0)
  r8 = *(u32 *)(r1 + 8)
  r9 = 1000
  *(u64 *)(r10 - 8) = r9
  *(u64 *)(r10 - 512) = r9
  ${sites.join('\n')}
  r0 = *(u64 *)(r10 - 8)
  r1 = *(u64 *)(r10 - 512)
  r0 += r1
  r0 += r9
  r0 += r8
  r1 = *(u32 *)(r6 + 12)
  r0 += r1
  exit
short:
  r0 = 0
  exit`;
}

function load(runtime: Runtime, platform: string, texts: Record<string, string>): LoadedObject {
  return runtime.load(collection({ type: 'raw', maps: MAPS, programs: texts }), PLATFORMS[platform]!);
}

/** @param index u64: its upper half must not matter */
function memory(index: bigint, other = false): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, index, true);
  view.setUint32(8, other ? 1 : 0, true);
  view.setUint32(12, 7, true);
  return bytes;
}

const SUM = 3007n;

function short(misses: readonly TailCallMiss[]): string[] {
  return misses.map(({ insn, map, index, cause, count }) => `${insn} ${map}[${index}] ${cause} ${count}`);
}

/** Slots of the tail calls, in order. */
function sitesOf({ tailCalls }: Program): number[] {
  return tailCalls.map(({ insn }) => insn);
}

describe.each(Object.keys(PLATFORMS))('%s', platform => {
  test.each(Object.keys(SITES) as Kind[])('%s: an empty slot', kind =>
    withRuntime(runtime => {
      const main = load(runtime, platform, { main: program(SITES[kind]) }).program('main');
      expect(main.tailCallMisses()).toEqual([]);
      for (let i = 0; i < 3; i++) expect(main.run(memory(5n)).returnValue).toBe(SUM);
      expect(short(main.tailCallMisses())).toEqual([`${sitesOf(main)[0]} jmp[5] empty 3`]);
    }),
  );

  test.each(['static', 'dynamic'] as const)('%s: an index out of range, as u32', kind =>
    withRuntime(runtime => {
      const main = load(runtime, platform, { main: program(SITES[kind]) }).program('main');
      const [site] = sitesOf(main);
      const indices = [7n, 8n, 0xffff_ffffn, 0x1_0000_0007n, 0xffff_ffff_0000_0008n];
      for (const index of indices) expect(main.run(memory(index)).returnValue).toBe(SUM);
      expect(short(main.tailCallMisses())).toEqual([
        `${site} jmp[7] empty 2`,
        `${site} jmp[8] range 2`,
        `${site} jmp[4294967295] range 1`,
      ]);
    }),
  );

  test('dynamic: each array has its own counts and its own size', () =>
    withRuntime(runtime => {
      const main = load(runtime, platform, { main: program(SITES.dynamic) }).program('main');
      const [site] = sitesOf(main);
      main.run(memory(2n));
      for (let i = 0; i < 2; i++) expect(main.run(memory(2n, true)).returnValue).toBe(SUM + 1n);
      expect(short(main.tailCallMisses())).toEqual([`${site} other[2] range 2`, `${site} jmp[2] empty 1`]);
    }));

  test.each(Object.keys(SITES) as Kind[])('%s: the limit', kind =>
    withRuntime(runtime => {
      const object = load(runtime, platform, { main: program(SITES[kind]) });
      const main = object.program('main');
      object.progArray('jmp').set(5, main);
      for (let i = 0; i < 2; i++) expect(main.run(memory(5n)).returnValue).toBe(SUM);
      expect(short(main.tailCallMisses())).toEqual([`${sitesOf(main)[0]} jmp[5] limit 2`]);
    }),
  );

  test('an empty slot counts as that, also past the limit', () =>
    withRuntime(runtime => {
      const object = load(runtime, platform, { main: program(SITES.direct, SITES.static) });
      const main = object.program('main');
      object.progArray('jmp').set(5, main);
      main.run(memory(1n));
      const [first, second] = sitesOf(main);
      expect(short(main.tailCallMisses())).toEqual([`${first} jmp[5] limit 1`, `${second} jmp[1] empty 1`]);
    }));

  test('a call that succeeds counts nothing, nor does a jump to the instruction behind a call', () =>
    withRuntime(runtime => {
      const main = program('if r8 == 0 goto behind', SITES.static, 'behind:');
      const object = load(runtime, platform, { main, leaf: 'r0 = 5\n exit' });
      object.progArray('jmp').set(3, object.program('leaf'));
      expect(object.program('main').run(memory(3n, true)).returnValue).toBe(5n);
      expect(object.program('main').run(memory(2n)).returnValue).toBe(SUM);
      expect(object.program('main').tailCallMisses()).toEqual([]);
      object.program('main').run(memory(2n, true));
      expect(short(object.program('main').tailCallMisses())).toHaveLength(1);
    }));

  test('several arrays and few indices, and a reset', () =>
    withRuntime(runtime => {
      const object = load(runtime, platform, { main: program('r7 &= 3\n r7 += 1', SITES.dynamic) });
      const main = object.program('main');
      object.progArray('jmp').set(3, main);
      const [site] = sitesOf(main);
      const once = [
        `${site} jmp[2] empty 1`,
        `${site} jmp[3] limit 1`,
        `${site} other[1] empty 1`,
        `${site} other[4] range 1`,
      ];
      const all = () => {
        for (const index of [1n, 2n]) main.run(memory(index));
        for (const index of [0n, 3n]) main.run(memory(index, true));
      };
      all();
      expect(short(main.tailCallMisses()).sort()).toEqual(once);
      all();
      expect(short(main.resetTailCallMisses()).sort()).toEqual(once.map(row => row.replace(/1$/, '2')));
      expect(main.tailCallMisses()).toEqual([]);
      all();
      expect(short(main.tailCallMisses()).sort()).toEqual(once);
    }));

  test.each(Object.keys(SITES) as Kind[])('%s: hits, if they are asked for', kind =>
    withRuntime(runtime => {
      const parts = collection({
        type: 'raw',
        maps: MAPS,
        programs: { main: program(SITES[kind]), leaf: 'r0 = 5\n exit' },
      });
      const object = runtime.load(parts, { ...PLATFORMS[platform]!, countHits: true });
      const main = object.program('main');
      const [site] = sitesOf(main);
      expect(main.run(memory(5n)).returnValue).toBe(SUM);
      expect(main.tailCallHits()).toEqual([]);
      object.progArray('jmp').set(5, object.program('leaf'));
      for (let i = 0; i < 3; i++) expect(main.run(memory(0xf_0000_0005n)).returnValue).toBe(5n);
      const hits = () => main.tailCallHits().map(({ insn, map, index, count }) => `${insn} ${map}[${index}] ${count}`);
      expect(hits()).toEqual([`${site} jmp[5] 3`]);
      expect(short(main.resetTailCallMisses())).toEqual([`${site} jmp[5] empty 1`]);
      object.progArray('jmp').set(5, main);
      expect(main.run(memory(5n)).returnValue).toBe(SUM);
      expect(hits()).toEqual([`${site} jmp[5] 36`]);
      expect(short(main.tailCallMisses())).toEqual([`${site} jmp[5] limit 1`]);
      for (const { insn } of main.lowered.pokeTable) expect(main.lowered.insns[insn]!.kind).toBe('tailCall');
    }),
  );

  test('in a subprogram', () =>
    withRuntime(runtime => {
      const text = `
  if r2 < 16 goto short
  r6 = r1
  r7 = 41
  call sub
  r0 += r7
  exit
short:
  r0 = 0
  exit
sub:
  r2 = map[jmp] ll
  r3 = 5
  call 12
  r0 = 1
  exit`;
      const main = load(runtime, platform, { main: text }).program('main');
      expect(main.run(memory(0n)).returnValue).toBe(42n);
      expect(short(main.tailCallMisses())).toEqual([`${sitesOf(main)[0]} jmp[5] empty 1`]);
    }));

  test('programs count apart, and from zero after a reset', () =>
    withRuntime(runtime => {
      const object = load(runtime, platform, { a: program(SITES.static), b: program(SITES.static) });
      const [a, b] = [object.program('a'), object.program('b')];
      for (const index of [1n, 1n, 2n]) a.run(memory(index));
      b.run(memory(1n));
      const [site] = sitesOf(a);
      expect(short(a.resetTailCallMisses())).toEqual([`${site} jmp[1] empty 2`, `${site} jmp[2] empty 1`]);
      expect(a.tailCallMisses()).toEqual([]);
      a.run(memory(2n));
      expect(short(a.tailCallMisses())).toEqual([`${site} jmp[2] empty 1`]);
      expect(short(b.tailCallMisses())).toEqual([`${site} jmp[1] empty 1`]);
    }));

  test('more different indices than there is room for: none is lost', () =>
    withRuntime(runtime => {
      const main = load(runtime, platform, { main: program(SITES.static) }).program('main');
      const packets = Array.from({ length: 1500 }, (_, i) => memory(BigInt(i)));
      main.replay(packets, { repeat: 2 });
      const misses = main.tailCallMisses();
      const total = (cause: string) => misses.reduce((sum, miss) => sum + (miss.cause === cause ? miss.count : 0), 0);
      expect({ empty: total('empty'), range: total('range') }).toEqual({ empty: 16, range: 2984 });
      const rest = misses.filter(({ index }) => index === undefined);
      expect(rest).toMatchObject([{ map: 'jmp', cause: 'range' }]);
      expect(rest[0]!.count).toBeGreaterThan(900);
    }));

  test('what counting takes is given back, and room for entries too', () =>
    withRuntime(async runtime => {
      const before = runtime.memoryUsage;
      const other = load(runtime, platform, { main: program(SITES.static) });
      for (let round = 0; round < 3; round++) {
        const object = load(runtime, platform, { main: program(SITES.static) });
        object.program('main').replay(Array.from({ length: 900 }, (_, i) => memory(BigInt(i))));
        expect(object.program('main').tailCallMisses()).toHaveLength(900);
        object.dispose();
        await runtime.settled();
      }
      other.program('main').run(memory(1n));
      expect(other.program('main').tailCallMisses()).toHaveLength(1);
      other.dispose();
      await runtime.settled();
      expect(runtime.memoryUsage).toBe(before);
    }));

  test('switched off', () =>
    withRuntime(runtime => {
      const parts = collection({ type: 'raw', maps: MAPS, programs: { main: program(SITES.static) } });
      const off = runtime.load(parts, { ...PLATFORMS[platform]!, countMisses: false }).program('main');
      expect(off.run(memory(1n)).returnValue).toBe(SUM);
      expect(off.tailCallMisses()).toEqual([]);
      const on = runtime.load(parts, PLATFORMS[platform]!).program('main');
      expect(on.lowered.insns.length).toBe(off.lowered.insns.length + 3);
    }));

  test('a program without tail calls stays as it is', () =>
    withRuntime(runtime => {
      const parts = () => collection({ type: 'raw', maps: MAPS, programs: { main: 'r0 = 1\n exit' } });
      const on = runtime.load(parts(), PLATFORMS[platform]!).program('main');
      const off = runtime.load(parts(), { ...PLATFORMS[platform]!, countMisses: false }).program('main');
      expect(on.lowered).toEqual(off.lowered);
      expect(on.readCode()).toEqual(off.readCode());
    }));

  test('totals are exact when threads count at once', { timeout: timeLimit(20_000) }, () =>
    withRuntime(async runtime => {
      const object = load(runtime, platform, { main: program(SITES.direct, SITES.static) });
      const main = object.program('main');
      const threads = main.backend === 'native' ? 2 : 1;
      const packets = Array.from({ length: 64 }, (_, i) => memory(BigInt(i % 16)));
      const repeat = main.backend === 'native' ? 2000 : 20;
      let taken = 0;
      const replay = main.replayAsync(packets, { repeat, workers: threads });
      let running = true;
      const ended = () => {
        running = false;
      };
      replay.then(ended, ended);
      while (running) {
        for (const { count } of main.resetTailCallMisses()) taken += count;
        await new Promise(resolve => setTimeout(resolve, 1));
      }
      const { packets: runs } = await replay;
      for (const { count } of main.resetTailCallMisses()) taken += count;
      expect(runs).toBe(64 * repeat);
      expect(taken).toBe(2 * runs);
      await main.replayAsync(packets, { repeat, workers: threads });
      const [first, second] = sitesOf(main);
      expect(short(main.tailCallMisses()).sort()).toEqual(
        [
          `${first} jmp[5] empty ${runs}`,
          ...Array.from({ length: 16 }, (_, i) => `${second} jmp[${i}] ${i < SLOTS ? 'empty' : 'range'} ${runs / 16}`),
        ].sort(),
      );
    }),
  );
});
