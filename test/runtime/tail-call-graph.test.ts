/** Which programs can tail-call which, and what changes of slots would break. */
import { describe, expect, test } from 'vitest';
import { type LoadedObject, type Runtime, SwitchyardError } from '../../src/index.ts';
import { collection, PLATFORMS, withRuntime } from './build.ts';

const JMP = { name: 'jmp', type: 'prog_array', maxEntries: 8 } as const;

/** A raw program that tail-calls one slot, or those from `from` on that `mask` selects. */
const direct = (slot: number) => `r2 = map[jmp] ll\n r3 = ${slot}\n call 12\n r0 = 0\n exit`;
const masked = (from: number, mask: number) =>
  `if r2 < 8 goto out\n r3 = *(u32 *)(r1 + 0)\n r3 &= ${mask}\n r3 += ${from}\n r2 = map[jmp] ll\n call 12\nout:\n r0 = 0\n exit`;
const anyIndex = 'if r2 < 8 goto out\n r3 = *(u32 *)(r1 + 0)\n r2 = map[jmp] ll\n call 12\nout:\n r0 = 0\n exit';
const LEAF = 'r0 = 1\n exit';

function load(runtime: Runtime, programs: Record<string, string>, slots: Record<number, string>): LoadedObject {
  const object = runtime.load(collection({ type: 'raw', maps: [JMP], programs }), PLATFORMS.interpreter!);
  for (const [index, name] of Object.entries(slots)) object.progArray('jmp').set(Number(index), object.program(name));
  return object;
}

describe('graph', () => {
  test('a chain, and a program that nothing reaches', () =>
    withRuntime(runtime => {
      const object = load(
        runtime,
        { main: direct(0), a: direct(1), b: LEAF, lost: direct(1) },
        { 0: 'a', 1: 'b', 5: 'lost' },
      );
      const graph = object.tailCallGraph();
      expect(graph.programs).toEqual([
        { name: 'main', entry: true, reachable: true },
        { name: 'a', entry: false, reachable: true },
        { name: 'b', entry: false, reachable: true },
        { name: 'lost', entry: false, reachable: false },
      ]);
      expect(graph.arrays).toEqual([
        {
          name: 'jmp',
          maxEntries: 8,
          slots: [
            { index: 0, program: 'a' },
            { index: 1, program: 'b' },
            { index: 5, program: 'lost' },
          ],
        },
      ]);
      expect(graph.longestChain).toEqual(['main', 'a', 'b']);
      expect(graph.endless).toBe(false);
      expect(graph.cycles).toEqual([]);
      expect(graph.unreachable).toEqual(['lost']);
      expect(graph.emptyReachable).toEqual([]);
      expect(object.tailCallGraph({ entries: ['lost'] }).unreachable).toEqual(['main', 'a']);
    }));

  test('a site with a range of indices: targets, empty slots between them, beyond the array', () =>
    withRuntime(runtime => {
      const object = load(
        runtime,
        { main: masked(1, 7), all: anyIndex, leaf: LEAF },
        { 0: 'leaf', 3: 'leaf', 4: 'leaf' },
      );
      const [main, all] = object.tailCallGraph().sites;
      expect(main).toMatchObject({
        program: 'main',
        indexMin: 1,
        indexMax: 8,
        targets: [
          { map: 'jmp', index: 3, program: 'leaf' },
          { map: 'jmp', index: 4, program: 'leaf' },
        ],
        empty: [
          { map: 'jmp', from: 1, to: 2 },
          { map: 'jmp', from: 5, to: 7 },
        ],
        outOfRange: true,
      });
      expect(all).toMatchObject({ indexMin: 0, indexMax: 0xffff_ffff, outOfRange: true });
      expect(object.tailCallGraph().emptyReachable).toMatchObject([
        { from: 1, to: 2, sites: [{ program: 'main' }, { program: 'all' }] },
        { from: 5, to: 7 },
      ]);
    }));

  test('circles: of one program, of several, and one that no entry reaches', () =>
    withRuntime(runtime => {
      const programs = { main: direct(0), a: direct(1), b: masked(0, 3), c: LEAF, x: direct(5), y: direct(4) };
      const object = load(runtime, programs, { 0: 'a', 1: 'b', 2: 'c', 3: 'c', 4: 'x', 5: 'y' });
      const graph = object.tailCallGraph();
      expect(graph.cycles).toEqual([
        ['a', 'b'],
        ['x', 'y'],
      ]);
      expect(graph.endless).toBe(true);
      expect(graph.longestChain).toEqual(['main', 'a', 'b', 'c']);
      expect(graph.unreachable).toEqual(['x', 'y']);
      const self = load(runtime, { main: direct(0) }, { 0: 'main' }).tailCallGraph();
      expect(self.cycles).toEqual([['main']]);
      expect(self.programs).toEqual([{ name: 'main', entry: true, reachable: true }]);
    }));

  test('a long chain, and many programs around one array', () =>
    withRuntime(runtime => {
      const count = 500;
      const programs: Record<string, string> = {};
      for (let i = 0; i < count; i++) programs[`p${i}`] = direct(i + 1);
      const maps = [{ ...JMP, maxEntries: count + 1 }];
      const object = runtime.load(collection({ type: 'raw', maps, programs }), PLATFORMS.interpreter!);
      for (let i = 1; i < count; i++) object.progArray('jmp').set(i, object.program(`p${i}`));
      expect(object.tailCallGraph().longestChain).toHaveLength(count);
      object.progArray('jmp').set(count, object.program('p1'));
      expect(object.tailCallGraph().cycles[0]).toHaveLength(count - 1);
    }));

  test('an entry that is not there', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: LEAF }, {});
      expect(() => object.tailCallGraph({ entries: ['nobody'] })).toThrow(SwitchyardError);
    }));

  test('what the graph says, runs do: every site falls through or hops as drawn', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: masked(0, 7), a: LEAF, b: 'r0 = 2\n exit' }, { 1: 'a', 6: 'b', 7: 'a' });
      const main = object.program('main');
      const [site] = object.tailCallGraph().sites;
      const results = Array.from(
        { length: 8 },
        (_, index) => main.run(Uint8Array.of(index, 0, 0, 0, 0, 0, 0, 0)).returnValue,
      );
      const drawn = Array.from({ length: 8 }, (_, index) => {
        const target = site!.targets.find(each => each.index === index)?.program;
        return target === undefined ? 0n : target === 'a' ? 1n : 2n;
      });
      expect(results).toEqual(drawn);
      const misses = main
        .tailCallMisses()
        .map(({ index }) => index)
        .sort();
      const empty = site!.empty.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
      expect(misses).toEqual(empty);
    }));
});

describe('missesAfter', () => {
  const shorten = (misses: ReturnType<LoadedObject['missesAfter']>) =>
    misses.map(({ program, map, from, to }) => `${program} ${map}[${from}..${to}]`);

  test('emptied slots that sites can reach; what was empty before is not news', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: masked(0, 3), leaf: LEAF }, { 0: 'leaf', 1: 'leaf', 2: 'leaf', 5: 'leaf' });
      const leaf = object.program('leaf');
      const change = (index: number, program = undefined as typeof leaf | undefined) => ({
        map: 'jmp',
        index,
        program,
      });
      expect(object.missesAfter([])).toEqual([]);
      expect(object.missesAfter([change(5)])).toEqual([]);
      expect(object.missesAfter([change(3, leaf)])).toEqual([]);
      expect(shorten(object.missesAfter([change(2)]))).toEqual(['main jmp[2..2]']);
      expect(shorten(object.missesAfter([change(0), change(1)]))).toEqual(['main jmp[0..1]']);
      expect(object.missesAfter([change(2), change(2, leaf)])).toEqual([]);
      // Nothing was changed by asking.
      expect(
        object
          .progArray('jmp')
          .entries()
          .map(([index]) => index),
      ).toEqual([0, 1, 2, 5]);
    }));

  test('a program that comes in brings its own', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: direct(0), next: direct(6), leaf: LEAF }, { 0: 'leaf', 7: 'next' });
      const next = object.program('next');
      expect(shorten(object.missesAfter([{ map: 'jmp', index: 0, program: next }]))).toEqual(['next jmp[6..6]']);
      const other = runtime.load(collection({ type: 'raw', maps: [JMP], programs: { main: direct(5) } }), {
        ...PLATFORMS.interpreter!,
        maps: new Map([['jmp', object.map('jmp')]]),
      });
      const foreign = other.program('main');
      expect(shorten(object.missesAfter([{ map: 'jmp', index: 0, program: foreign }]))).toEqual([
        `main#${foreign.id} jmp[5..5]`,
      ]);
    }));

  test('an array that is not there', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: LEAF }, {});
      const error = { code: 'no_such_map' };
      expect(() => object.missesAfter([{ map: 'x', index: 0, program: undefined }])).toThrow(
        expect.objectContaining(error),
      );
    }));
});
