/** Strict transactions: a commit after which a tail call could find its slot empty is refused, and what that means. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createRuntime,
  type LoadedObject,
  type LoadOptions,
  type PredictedMiss,
  type ProgArraySlots,
  type Runtime,
  RuntimeError,
  type TransactionOptions,
} from '../../src/index.ts';
import { collection, PLATFORMS, withRuntime } from './build.ts';

const SLOTS = 8;
const JMP = { name: 'jmp', type: 'prog_array', maxEntries: SLOTS } as const;
const direct = (slot: number) => `r2 = map[jmp] ll\n r3 = ${slot}\n call 12\n r0 = 0\n exit`;
/** Any of the first `mask` + 1 slots, chosen by the first byte. */
const masked = (mask: number) =>
  `if r2 < 8 goto out\n r3 = *(u32 *)(r1 + 0)\n r3 &= ${mask}\n r2 = map[jmp] ll\n call 12\nout:\n r0 = 0\n exit`;
const LEAF = 'r0 = 1\n exit';
const ROUTER = join(import.meta.dirname, '../../examples/router/router.bpf.o');

const native = createRuntime().backends[0] === 'native';
const BACKENDS = (['interpreter', 'native'] as const).filter(backend => backend === 'interpreter' || native);

const text = ({ program, map, from, to }: PredictedMiss) => `${program} ${map}[${from}..${to}]`;

/** Sites that a refused commit names; undefined where it went through. A refused one must have changed nothing. */
function refusal(
  array: ProgArraySlots,
  change: Parameters<ProgArraySlots['transaction']>[0],
  options: TransactionOptions = { strict: true },
): string[] | undefined {
  const before = array.entries();
  try {
    array.transaction(change, options);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(RuntimeError);
    expect((error as RuntimeError).code).toBe('would_miss');
    expect(array.entries()).toEqual(before);
    return ((error as RuntimeError).details.sites as PredictedMiss[]).map(text);
  }
}

describe.each(BACKENDS)('%s', backend => {
  const options: LoadOptions = PLATFORMS[backend === 'native' ? 'x86-64, fast' : 'interpreter']!;
  const load = (runtime: Runtime, programs: Record<string, string>, more: LoadOptions = {}): LoadedObject =>
    runtime.load(collection({ type: 'raw', maps: [JMP], programs }), { ...options, ...more });

  test('what a commit empties under a site that can be reached', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: direct(0), a: direct(1), b: LEAF, lost: direct(7) });
      const { a, b, lost } = Object.fromEntries(object.programs);
      const jmp = object.progArray('jmp');
      jmp.set(0, a!);
      jmp.set(1, b!);
      jmp.set(5, lost!);
      // Nothing leads to `lost`, which nobody ran.
      expect(refusal(jmp, tx => tx.set(5, lost!))).toBeUndefined();
      expect(refusal(jmp, tx => tx.delete(1))).toEqual(['a jmp[1..1]']);
      expect(refusal(jmp, tx => tx.delete(0))).toEqual(['main jmp[0..0]']);
      expect(refusal(jmp, tx => tx.set(0, lost!))).toEqual(['lost jmp[7..7]']);
      expect(
        refusal(jmp, tx => {
          tx.delete(1);
          tx.set(0, b!);
        }),
      ).toBeUndefined();
      expect(jmp.entries().map(([index, { name }]) => [index, name])).toEqual([
        [0, 'b'],
        [5, 'lost'],
      ]);
      const memory = new Uint8Array(8);
      expect(object.program('main').run(memory).returnValue).toBe(1n);
      // Out of the slots, and still where runs start: then it must not miss either.
      lost!.run(memory);
      expect(refusal(jmp, tx => tx.set(1, b!))).toEqual(['lost jmp[7..7]']);
      expect(refusal(jmp, tx => tx.set(1, b!), { strict: true, entries: [object.program('main')] })).toBeUndefined();
    }));

  test('"new" leaves slots alone that were empty before', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: masked(3), a: LEAF, again: masked(3), wider: masked(7) });
      const [a, again, wider] = ['a', 'again', 'wider'].map(name => object.program(name));
      const jmp = object.progArray('jmp');
      jmp.set(0, a!);
      jmp.set(1, a!);
      jmp.set(4, wider!);
      const onlyMain = { entries: [object.program('main')] };
      expect(refusal(jmp, tx => tx.set(2, a!), { ...onlyMain, strict: true })).toEqual(['main jmp[3..3]']);
      expect(refusal(jmp, tx => tx.set(2, a!), { ...onlyMain, strict: 'new' })).toBeUndefined();
      expect(refusal(jmp, tx => tx.delete(2), { ...onlyMain, strict: 'new' })).toEqual(['main jmp[2..2]']);
      // Its site has the same slots before it as one that is there already.
      expect(refusal(jmp, tx => tx.set(2, again!), { ...onlyMain, strict: 'new' })).toBeUndefined();
      expect(refusal(jmp, tx => tx.set(2, wider!), { ...onlyMain, strict: 'new' })).toEqual([
        'wider jmp[3..3]',
        'wider jmp[5..7]',
      ]);
    }));

  test('a program that comes in is not taken for one that runs start in', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: direct(0), next: direct(6) });
      const jmp = object.progArray('jmp');
      expect(refusal(jmp, tx => tx.set(0, object.program('next')), { strict: 'new' })).toEqual(['next jmp[6..6]']);
    }));

  test('a new build of the pipeline, and the old one that is out of the slots', () =>
    withRuntime(async runtime => {
      const programs = { main: direct(0), a: direct(1), b: direct(2), c: LEAF };
      const object = load(runtime, programs);
      const maps = { maps: object.maps };
      const jmp = object.progArray('jmp');
      const builds = [object, load(runtime, { main: direct(0), a: direct(1), b: LEAF }, maps)];
      const put = (build: LoadedObject) => (tx: Parameters<Parameters<typeof jmp.transaction>[0]>[0]) => {
        for (const [index, name] of ['a', 'b', 'c'].entries()) {
          const program = build.programs.get(name);
          if (program) tx.set(index, program);
          else if (jmp.get(index)) tx.delete(index);
        }
      };
      expect(refusal(jmp, put(object))).toBeUndefined();
      object.program('main').run(new Uint8Array(8));
      for (let round = 0; round < 3; round++)
        for (const build of builds) expect(refusal(jmp, put(build))).toBeUndefined();
      const old = object.program('b');
      expect(refusal(jmp, tx => tx.set(1, old))).toEqual([`b#${old.id} jmp[2..2]`]);
    }));

  test('several arrays, and arrays and programs of the same name in several objects', () =>
    withRuntime(runtime => {
      const two = (name: string) => ({ ...JMP, name });
      const objects = [0, 1].map(() =>
        runtime.load(
          collection({
            type: 'raw',
            maps: [two('jmp'), two('side')],
            programs: { main: direct(0), a: direct(1).replace('jmp', 'side'), b: LEAF },
          }),
          options,
        ),
      );
      const fill = (strict: boolean | 'new') =>
        runtime.transaction(
          tx => {
            for (const object of objects) tx.set(object.progArray('jmp'), 0, object.program('a'));
            tx.set(objects[1]!.progArray('side'), 1, objects[1]!.program('b'));
          },
          { strict },
        );
      const [array] = objects.map(object => object.progArray('side'));
      const a = objects[0]!.program('a');
      expect(() => fill(true)).toThrow(
        expect.objectContaining({
          code: 'would_miss',
          details: {
            sites: [expect.objectContaining({ program: `a#${a.id}`, map: `side#${array!.map.id}`, from: 1 })],
          },
        }),
      );
      expect(objects.map(object => object.progArray('jmp').entries())).toEqual([[], []]);
      array!.set(1, objects[0]!.program('b'));
      fill(true);
      expect(objects.map(object => object.program('main').run(new Uint8Array(8)).returnValue)).toEqual([1n, 1n]);
    }));

  test('an array under another name', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: direct(0), a: LEAF });
      const other = runtime.load(
        collection({
          type: 'raw',
          maps: [{ ...JMP, name: 'stages' }],
          programs: { more: direct(3).replace('jmp', 'stages') },
        }),
        { ...options, maps: new Map([['stages', object.map('jmp')]]) },
      );
      const jmp = object.progArray('jmp');
      expect(other.progArray('stages')).toBe(jmp);
      expect(refusal(jmp, tx => tx.set(0, other.program('more')))).toEqual(['more jmp[3..3]']);
      expect(object.missesAfter([{ map: 'jmp', index: 0, program: other.program('more') }]).map(text)).toEqual([
        `more#${other.program('more').id} jmp[3..3]`,
      ]);
    }));

  test('preflight tells what a commit would do, and does nothing', () =>
    withRuntime(runtime => {
      const object = load(runtime, { main: masked(3), a: LEAF });
      const jmp = object.progArray('jmp');
      jmp.set(0, object.program('a'));
      const { misses, newMisses } = runtime.preflight(tx => {
        tx.delete(jmp, 0);
        tx.set(jmp, 2, object.program('a'));
      });
      expect(misses.map(text)).toEqual(['main jmp[0..1]', 'main jmp[3..3]']);
      expect(newMisses.map(text)).toEqual(['main jmp[0..0]']);
      expect(jmp.entries().map(([index]) => index)).toEqual([0]);
      expect(() => runtime.preflight(tx => tx.delete(jmp, 5))).toThrow(
        expect.objectContaining({ code: 'no_such_key' }),
      );
    }));

  test('what a strict commit lets through, no run misses', () =>
    withRuntime(runtime => {
      const programs: Record<string, string> = { main: masked(3), leaf: LEAF };
      for (let slot = 0; slot < 6; slot++) programs[`to${slot}`] = direct(slot);
      const object = load(runtime, programs);
      const names = Object.keys(programs).slice(1);
      const jmp = object.progArray('jmp');
      const main = object.program('main');
      const edit = fc.record({
        index: fc.integer({ min: 0, max: 5 }),
        name: fc.option(fc.constantFrom(...names, ...Array<string>(8).fill('leaf')), { nil: undefined }),
      });
      let through = 0;
      let refused = 0;
      fc.assert(
        fc.property(fc.array(edit, { minLength: 5, maxLength: 12 }), edits => {
          jmp.clear();
          const filled = new Set<number>();
          const sites = refusal(
            jmp,
            tx => {
              for (const { index, name } of edits) {
                if (name !== undefined) tx.set(index, object.program(name));
                else if (filled.has(index)) tx.delete(index);
                else continue;
                if (name === undefined) filled.delete(index);
                else filled.add(index);
              }
            },
            { strict: true, entries: [main] },
          );
          if (sites) refused++;
          else through++;
          if (sites) {
            expect(sites).not.toEqual([]);
            return;
          }
          for (const program of object.programs.values()) program.resetTailCallMisses();
          for (let byte = 0; byte < 4; byte++) main.run(Uint8Array.of(byte, 0, 0, 0, 0, 0, 0, 0));
          const empty = [...object.programs.values()]
            .flatMap(program => program.tailCallMisses())
            .filter(({ cause }) => cause === 'empty');
          expect(empty).toEqual([]);
        }),
        { numRuns: 300 },
      );
      expect(through).toBeGreaterThan(10);
      expect(refused).toBeGreaterThan(10);
    }));

  test('what does not belong together is refused', async () => {
    await withRuntime(runtime =>
      withRuntime(other => {
        const mine = load(runtime, { main: direct(0), a: LEAF });
        const theirs = load(other, { main: direct(0), a: LEAF });
        const jmp = mine.progArray('jmp');
        const bad = expect.objectContaining({ code: 'bad_argument' });
        expect(() => jmp.set(0, theirs.program('a'))).toThrow(bad);
        expect(() => jmp.transaction(tx => tx.set(0, theirs.program('a')))).toThrow(bad);
        expect(() => runtime.transaction(tx => tx.set(theirs.progArray('jmp'), 0, theirs.program('a')))).toThrow(bad);
        expect(() =>
          jmp.transaction(tx => tx.set(0, mine.program('a')), { strict: 'yes' } as unknown as TransactionOptions),
        ).toThrow(bad);
        expect(() =>
          jmp.transaction(tx => tx.set(0, mine.program('a')), { strict: true, entries: [theirs.program('main')] }),
        ).toThrow(bad);
        expect(jmp.entries()).toEqual([]);
      }),
    );
  });
});

test('the error names the source line, and the router needs "new": its policies may be left out', () =>
  withRuntime(runtime => {
    const router = runtime.load(readFileSync(ROUTER));
    const stages = router.progArray('stages');
    const entries = [router.program('router')];
    const remove = (strict: true | 'new') => {
      try {
        stages.transaction(tx => tx.delete(5), { strict, entries });
      } catch (error) {
        return error as RuntimeError;
      }
      throw new Error('the commit went through');
    };
    const error = remove('new');
    const sites = error.details.sites as PredictedMiss[];
    expect(sites.map(text)).toEqual(['stage_ipv4 stages[5..5]', 'stage_ipv6 stages[5..5]']);
    const source = readFileSync(ROUTER.replace(/o$/, 'c'), 'utf8').split('\n');
    for (const { line, program, insn } of sites) {
      expect(source[line!.line - 1]).toContain(line!.text.trim());
      expect(error.message).toContain(
        `stages[5] from ${program}, insn ${insn} (${line!.file}:${line!.line}: ${line!.text.trim()})`,
      );
    }
    expect(remove(true).message).toContain('tagged_policy[0]');
    stages.transaction(tx => tx.set(5, router.program('stage_udp')), { strict: 'new', entries });
    expect(stages.get(5)?.name).toBe('stage_udp');
  }));
