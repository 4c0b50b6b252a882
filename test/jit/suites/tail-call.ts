/**
 * The kernel's tail call situations (lib/test_bpf.c, selftests tailcall*.c) on every kind of call site: results, run
 * counts and what survives a call that falls through.
 */
import { describe, expect, test } from 'vitest';
import type { Code, CompileOptions } from '../../../src/jit/shared/code.ts';
import { chooseTailCalls } from '../../../src/jit/shared/tail-call-choices.ts';
import { packTailCall } from '../../../src/lowering/tail-call-imm.ts';
import { Computer } from '../computer.ts';
import type { Platform } from '../processor.ts';
import { TestProgArray } from '../prog-array.ts';
import { lowered, type ProgramOptions } from '../support.ts';

const SLOTS = 200;

interface SiteKind {
  readonly name: string;
  readonly kind: 'direct' | 'static' | 'dynamic';
  readonly options: CompileOptions;
}
const FAST_TESTED: CompileOptions = {
  kind: 'program',
  tailCallMode: 'fast',
  tailCallChoices: { emptySlots: 'test' },
};
const FAST_CHECKED: CompileOptions = {
  kind: 'program',
  tailCallMode: 'fast',
  tailCallChoices: { rangeCheck: 'always' },
};
const KINDS: readonly SiteKind[] = [
  { name: 'direct', kind: 'direct', options: { kind: 'program', tailCallMode: 'cached' } },
  { name: 'static', kind: 'static', options: { kind: 'program', tailCallMode: 'cached' } },
  { name: 'static without cached targets', kind: 'static', options: { kind: 'program', tailCallMode: 'baseline' } },
  { name: 'dynamic', kind: 'dynamic', options: { kind: 'program', tailCallMode: 'cached' } },
  { name: 'poke switched off', kind: 'direct', options: { kind: 'program', tailCallMode: 'cached', pokes: false } },
  { name: 'fast direct', kind: 'direct', options: { kind: 'program', tailCallMode: 'fast' } },
  { name: 'fast static', kind: 'static', options: { kind: 'program', tailCallMode: 'fast' } },
  { name: 'fast dynamic', kind: 'dynamic', options: { kind: 'program', tailCallMode: 'fast' } },
  { name: 'fast static, slots tested', kind: 'static', options: FAST_TESTED },
  { name: 'fast dynamic, slots tested', kind: 'dynamic', options: FAST_TESTED },
  { name: 'fast static, range always checked', kind: 'static', options: FAST_CHECKED },
  { name: 'fast, poke switched off', kind: 'direct', options: { ...FAST_CHECKED, pokes: false } },
];

class Fixture {
  readonly computer: Computer;
  readonly array: TestProgArray;
  /** r1 of every program: 16 words, zero at the start of each run. */
  readonly context: bigint;
  readonly site: SiteKind;
  /** The same for all that is loaded. */
  private tailCallPrologueOffset = 0;

  constructor(platform: Platform, site: SiteKind) {
    this.site = site;
    this.computer = new Computer(platform);
    const { tailCallMode, tailCallChoices } = site.options;
    const { emptySlots } = chooseTailCalls(this.computer.machine.tailCallPresets, tailCallMode, tailCallChoices);
    this.array = new TestProgArray(this.computer, SLOTS, emptySlots);
    this.context = this.computer.allocate(128);
  }

  /** `@call N` in the text is a tail call to slot N with r1 kept in place. */
  load(text: string, options: ProgramOptions = {}): { entry: bigint; code: Code } {
    const keys: number[] = [];
    const body = text.replace(/@call (\S+)/g, (_, index: string) => {
      const key = Number(index);
      const poke = this.site.kind === 'direct' && key < SLOTS ? keys.push(key) - 1 : undefined;
      const imm = packTailCall({ usedMap: 0, dynamic: this.site.kind === 'dynamic', poke });
      return `r2 = map_address[0] ll\nr3 = ${index} ll\ntail_call ${imm}`;
    });
    const pokeTable = keys.map(key => ({ insn: 0, map: 0, key }));
    const usedMaps = [{ name: 'jump_table', maxEntries: SLOTS }];
    const code = this.computer.machine.compile(lowered(body, { ...options, pokeTable, usedMaps }), this.site.options);
    const entry = this.computer.install(code, [this.array.address]);
    this.array.addSites(code, entry, keys);
    this.tailCallPrologueOffset = code.tailCallPrologueOffset;
    return { entry, code };
  }
  set(index: number, entry: bigint | undefined): void {
    this.array.set(index, entry, this.tailCallPrologueOffset);
  }
  run(entry: bigint): bigint {
    const at = this.computer.offset(this.context);
    this.computer.data.fill(0, at, at + 128);
    return this.computer.call(entry, this.context);
  }
  word(index: number): bigint {
    return this.computer.view.getBigUint64(this.computer.offset(this.context) + 8 * index, true);
  }
}

/** Text that adds 1 to word `index` of the context in r1, using r4. */
const count = (index: number): string => {
  return `r4 = *(u64 *)(r1 + ${8 * index})\nr4 += 1\n*(u64 *)(r1 + ${8 * index}) = r4`;
};

export function tailCallSuite(platform: Platform): void {
  const kinds = KINDS.filter(({ options }) => platform.machine.tailCallModes.includes(options.tailCallMode));
  describe.skipIf(!platform.available).each(kinds)('tail calls, $name', site => {
    const make = (): Fixture => new Fixture(platform, site);

    test('the site has the kind it should have', () => {
      const f = make();
      const { code } = f.load('@call 3\nr0 = 0\nexit');
      const expected = site.kind === 'direct' && site.options.pokes === false ? 'static' : site.kind;
      expect(code.tailCalls.map(t => t.kind)).toEqual([expected]);
      expect(code.pokeSites).toHaveLength(expected === 'direct' ? 1 : 0);
    });

    // What counts misses relies on it (Compiler's contract); direct sites of mode 'fast' load neither register.
    if (site.kind !== 'direct' || site.options.tailCallMode !== 'fast') {
      test('a call that falls through keeps r1, r2 and r3, whatever the cause', () => {
        const f = make();
        for (const index of [150, SLOTS, 7]) {
          const { entry } = f.load(`${count(1)}
r6 = r1
@call ${index}
r0 = 1
if r1 != r6 goto +5
r4 = map_address[0] ll
if r2 != r4 goto +2
if w3 != ${index} goto +1
r0 = 2
exit`);
          // Out of range, empty, and at the limit.
          if (index === 7) f.set(7, entry);
          expect(f.run(entry)).toBe(2n);
          expect(f.word(1)).toBe(index === 7 ? 34n : 1n);
        }
      });
    }

    test('leaf, then two, three and four calls in a row', () => {
      const f = make();
      const leaf = f.load('r0 = 1\nexit');
      f.set(0, leaf.entry);
      for (let i = 1; i <= 4; i++) {
        const hop = f.load(`${count(i)}\n@call ${i - 1}\nr0 = -1\nexit`);
        f.set(i, hop.entry);
        expect(f.run(hop.entry)).toBe(1n);
        for (let j = 1; j <= i; j++) expect(f.word(j)).toBe(1n);
      }
    });

    test('targets with other frames: every combination of saved registers and stack depths', () => {
      const f = make();
      const bodies = ['', 'r6 = 6', 'r9 = 9\nr7 = 7', 'r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4'];
      const depths = [0, 8, 120, 128, 512];
      const leaf = f.load('r0 = 42\nr6 = 0\n*(u64 *)(r10 - 512) = r6\nexit');
      f.set(0, leaf.entry);
      let slot = 0;
      for (const body of bodies) {
        for (const stackDepth of depths) {
          const hop = f.load(`${body}\n@call ${slot}\nr0 = -1\nexit`, { stackDepth });
          f.set(++slot, hop.entry);
        }
      }
      // An entry that checks that its own caller-side registers come back.
      const entry = f.load(
        `r6 = 66
r7 = 77
r8 = 88
r9 = 99
call sub
r0 += r6
r0 += r7
r0 += r8
r0 += r9
exit
sub:
@call ${slot}
r0 = -1
exit`,
      );
      expect(f.run(entry.entry)).toBe(42n + 66n + 77n + 88n + 99n);
    });

    test('limit: 34 program runs, then the call falls through', () => {
      const f = make();
      const self = f.load(`${count(0)}\n@call 5\nr0 = 7\nexit`);
      f.set(5, self.entry);
      for (let i = 0; i < 3; i++) {
        expect(f.run(self.entry)).toBe(7n);
        expect(f.word(0)).toBe(34n);
      }
    });

    test('the count survives calls between the hops', () => {
      const f = make();
      const routine = f.computer.machine.compile(
        lowered('r0 = 99\nr6 = 1\nr1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\nexit'),
        {
          kind: 'routine',
          tailCallMode: 'cached',
        },
      );
      f.computer.addRoutine('clobber', f.computer.install(routine));
      const self = f.load(`r6 = r1\n${count(0)}\ncall routine clobber\nr1 = r6\n@call 5\nr0 = 7\nexit`);
      f.set(5, self.entry);
      expect(f.run(self.entry)).toBe(7n);
      expect(f.word(0)).toBe(34n);
    });

    test('and host functions, and runs that those start', () => {
      const f = make();
      const inner = f.load('r0 = 1\n@call 9\nexit');
      let calls = 0;
      f.computer.addService('host', (a, b) => {
        if (calls++ % 2 === 0) f.computer.call(inner.entry, f.context);
        return a + b;
      });
      const self = f.load(`r6 = r1\n${count(0)}\nr1 = 3\nr2 = 4\ncall service host\nr1 = r6\n@call 5\nr0 = 7\nexit`);
      f.set(5, self.entry);
      expect(f.run(self.entry)).toBe(7n);
      expect(f.word(0)).toBe(34n);
      expect(calls).toBe(34);
      f.computer.close();
    });

    test('an empty slot falls through and does not raise the count', () => {
      const f = make();
      const self = f.load(`${count(0)}\nr6 = r1\n@call 9\nr1 = r6\n${count(1)}\n@call 5\nr0 = 7\nexit`);
      f.set(5, self.entry);
      expect(f.run(self.entry)).toBe(7n);
      expect(f.word(0)).toBe(34n);
      expect(f.word(1)).toBe(34n);
    });

    test.each([SLOTS, SLOTS + 1, 2 * SLOTS, 0x7fffffff, 0x80000000, 0xffffffff])('index %d falls through', index => {
      const f = make();
      const leaf = f.load('r0 = 1\nexit');
      for (let i = 0; i < SLOTS; i++) f.set(i, leaf.entry);
      const caller = f.load(`@call ${index}\nr0 = 3\nexit`);
      expect(f.run(caller.entry)).toBe(3n);
    });

    if (site.kind !== 'direct') {
      test('the upper half of the index is ignored', () => {
        const f = make();
        f.set(4, f.load('r0 = 1\nexit').entry);
        expect(f.run(f.load('@call 0xdeadbeef00000004\nr0 = 3\nexit').entry)).toBe(1n);
      });
    }

    test('last slot works', () => {
      const f = make();
      f.set(SLOTS - 1, f.load('r0 = 1\nexit').entry);
      expect(f.run(f.load(`@call ${SLOTS - 1}\nr0 = 3\nexit`).entry)).toBe(1n);
    });

    test('a call that falls through keeps r6-r9 and the stack', () => {
      const f = make();
      const { entry } = f.load(
        `r6 = 600
r7 = 70
r8 = 8
r9 = 9000
r2 = 50000
*(u64 *)(r10 - 8) = r2
*(u64 *)(r10 - 512) = r2
@call 1
r0 = *(u64 *)(r10 - 8)
r1 = *(u64 *)(r10 - 512)
r0 += r1
r0 += r6
r0 += r7
r0 += r8
r0 += r9
exit`,
      );
      expect(f.run(entry)).toBe(109678n);
    });

    test('at the limit too', () => {
      const f = make();
      const self = f.load(`r6 = 5\nr7 = 6\n${count(0)}\n@call 5\nr0 = r6\nr0 += r7\nexit`);
      f.set(5, self.entry);
      expect(f.run(self.entry)).toBe(11n);
      expect(f.word(0)).toBe(34n);
    });

    test('replacing and deleting between runs', () => {
      const f = make();
      const caller = f.load('@call 2\nr0 = 0\nexit');
      const one = f.load('r0 = 1\nexit');
      const two = f.load('r0 = 2\nexit');
      expect(f.run(caller.entry)).toBe(0n);
      f.set(2, one.entry);
      expect(f.run(caller.entry)).toBe(1n);
      f.set(2, two.entry);
      expect(f.run(caller.entry)).toBe(2n);
      f.set(2, undefined);
      expect(f.run(caller.entry)).toBe(0n);
      f.set(2, one.entry);
      expect(f.run(caller.entry)).toBe(1n);
    });

    test('two sites in one program', () => {
      const f = make();
      f.set(7, f.load('r0 = 70\nexit').entry);
      const { entry } = f.load('r6 = r1\n@call 6\nr1 = r6\n@call 7\nr0 = 0\nexit');
      expect(f.run(entry)).toBe(70n);
      f.set(6, f.load('r0 = 60\nexit').entry);
      expect(f.run(entry)).toBe(60n);
    });

    describe('with subprograms', () => {
      test("a target's exit returns to the subprogram's caller", () => {
        const f = make();
        f.set(0, f.load('r6 = 123\nr7 = 45\nr0 = 1000\nexit').entry);
        const { entry } = f.load(
          'r6 = 5\nr7 = 6\ncall sub\nr0 += r6\nr0 += r7\nexit\nsub:\nr6 = 9\n@call 0\nr0 = -1\nexit',
        );
        expect(f.run(entry)).toBe(1011n);
      });

      test('the count is shared by siblings and callers', () => {
        const f = make();
        // Each run of the entry calls the subprogram twice, each tail-calls the entry: a tree, cut at 33 calls.
        const tree = f.load(
          `r6 = r1
${count(0)}
call sub
r1 = r6
call sub
r0 = 5
exit
sub:
r6 = r1
@call 0
r1 = r6
${count(1)}
r0 = 0
exit`,
        );
        f.set(0, tree.entry);
        for (let i = 0; i < 3; i++) {
          expect(f.run(tree.entry)).toBe(5n);
          expect(f.word(0)).toBe(34n);
          // 34 entries call 68 times; 33 of them became tail calls.
          expect(f.word(1)).toBe(35n);
        }
      });

      test('a tail call made in a subprogram counts for its caller', () => {
        const f = make();
        f.set(1, f.load(`${count(1)}\nr0 = 0\nexit`).entry);
        // Uses up 20 in subprograms, then as many as are left in the main program.
        const main = f.load(
          `r6 = r1
${count(0)}
call sub
r1 = r6
@call 0
r0 = 5
exit
sub:
@call 1
r0 = 0
exit`,
        );
        f.set(0, main.entry);
        expect(f.run(main.entry)).toBe(5n);
        // main, sub->1, main->main, sub->1, ...: 17 calls in subprograms and 16 in main, all told 33.
        expect([f.word(0), f.word(1)]).toEqual([17n, 17n]);
      });

      test('a chain of subprograms that call each other before the tail call', () => {
        const f = make();
        const chain = f.load(
          `r6 = r1
${count(0)}
call a
r0 += 1
exit
a:
r7 = 3
call b
r0 += r7
exit
b:
@call 0
r0 = 0
exit`,
          { stackDepth: 64 },
        );
        f.set(0, chain.entry);
        // 34 runs, each adds 1 + 3 on the way back.
        expect(f.run(chain.entry)).toBe(34n * 4n);
        expect(f.word(0)).toBe(34n);
      });

      test('a callback starts a count of its own', () => {
        const f = make();
        const loop = f.computer.machine.compile(
          lowered('r6 = r1\nr7 = r2\nr1 = r7\ncallx r6\nr1 = r7\ncallx r6\nexit'),
          {
            kind: 'routine',
            tailCallMode: 'cached',
          },
        );
        f.computer.addRoutine('twice', f.computer.install(loop));
        const text = `r2 = r1
r1 = func[callback] ll
call routine twice
exit
callback:
${count(0)}
@call 0
r0 = 8
exit`;
        // Slot 5: a move, a loadImm64 of two slots, the call and the exit come before it.
        const main = f.load(text, { callbacks: [5] });
        f.set(0, f.load(`${count(0)}\n@call 0\nr0 = 8\nexit`).entry);
        expect(f.run(main.entry)).toBe(8n);
        expect(f.word(0)).toBe(68n);
      });
    });
  });
}
