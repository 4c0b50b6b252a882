import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import type { Instruction, Register } from '../../src/isa/instruction.ts';
import type { Draft } from '../../src/lowering/draft.ts';
import { LoweringError } from '../../src/lowering/errors.ts';
import { type Edit, type JumpOut, rewrite } from '../../src/lowering/rewrite.ts';
import { lowered, machine } from '../interpreter/support.ts';
import { textOf, wanted } from './support.ts';

function draft(insns: readonly Instruction[]): Draft {
  const { origin, subprograms } = lowered(insns);
  return { insns, origin, subprograms, pokeTable: [], unusedArguments: new Set() };
}
const nop: Instruction = { kind: 'alu', op: 'add', width: 64, dst: 11, src: undefined, imm: 1 };

describe('rewrite', () => {
  test('jumps arrive at the code, calls and callbacks at the prologue', () => {
    const have = assemble('call f\nr2 = func[f] ll\nexit\nf:\nr0 += 1\nif r0 < 5 goto -2\nexit');
    const edits = new Map<number, Edit>([
      [0, { prologue: [nop, nop] }],
      [4, { prologue: [nop] }],
    ]);
    const result = rewrite(draft(have), edits);
    const text = 'ax += 1\nax += 1\ncall f\nr2 = func[f] ll\nexit\nf:\nax += 1\nr0 += 1\nif r0 < 5 goto -2\nexit';
    expect(textOf(result.insns)).toEqual(wanted(text));
    expect([...result.origin]).toEqual([-1, -1, 0, 1, 2, 3, -1, 4, 5, 6]);
    expect(result.subprograms).toMatchObject([
      { start: 0, end: 6 },
      { start: 6, end: 10 },
    ]);
  });

  test('what leads to a removed slot leads to the next one that stays', () => {
    const have = assemble('if r1 == 0 goto +1\nr0 = 1\nr0 = 2\nr0 = 3\nexit');
    const result = rewrite(draft(have), new Map([[2, { code: [] }]]));
    expect(textOf(result.insns)).toEqual(wanted('if r1 == 0 goto +1\nr0 = 1\nr0 = 3\nexit'));
  });

  test('poke slots move', () => {
    const have: Instruction[] = [nop, { kind: 'tailCall', imm: 0x1_0000 }, { kind: 'exit' }];
    const before = { ...draft(have), pokeTable: [{ insn: 1, map: 0, key: 2 }], unusedArguments: new Set([1]) };
    const after = rewrite(before, new Map([[0, { code: [nop, nop, nop] }]]));
    expect(after.pokeTable).toEqual([{ insn: 3, map: 0, key: 2 }]);
    expect(after.unusedArguments).toEqual(new Set([3]));
  });

  test('a goto that becomes too long for 16 bits becomes the long form', () => {
    const have = assemble('goto +1\nexit\nexit');
    const result = rewrite(draft(have), new Map([[1, { code: Array.from({ length: 40_000 }, () => nop) }]]));
    expect(result.insns[0]).toEqual({ kind: 'goto', offset: 40_000, long: true });
  });

  test.each([
    ['out of the program', 'goto +7\nexit'],
    ['before it', 'goto -2\nexit'],
    ['into a loadImm64', 'goto +1\nr0 = 0 ll\nexit'],
  ])('refuses a jump %s', (_, text) => {
    const edits = new Map<number, Edit>([[1, { prologue: [nop] }]]);
    let error: unknown;
    try {
      rewrite(draft(assembleRaw(text)), edits);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(LoweringError);
    expect(error).toMatchObject({ code: 'bad_target' });
  });

  test('any expansion leaves the meaning of a program as it was', () => {
    const { interpreter } = machine();
    const link = (insns: readonly Instruction[], d: Draft) => ({
      lowered: { ...lowered(insns, 0), subprograms: d.subprograms },
      mapAddresses: [],
      mapValueAddresses: [],
      id: 1,
    });
    fc.assert(
      fc.property(
        programs,
        fc.infiniteStream(fc.nat(5)),
        fc.bigInt({ min: 0n, max: 9n }),
        (insns, choices, argument) => {
          const before = draft(insns);
          const after = rewrite(before, randomEdits(insns, choices));
          expect(after.insns.length).toBe(after.origin.length);
          const expected = interpreter.run(link(insns, before), [argument]);
          expect(interpreter.run(link(after.insns, after), [argument])).toBe(expected);
          // Twice, so that expansions of expansions are covered too.
          const again = rewrite(after, randomEdits(after.insns, choices));
          expect(interpreter.run(link(again.insns, again), [argument])).toBe(expected);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('the work grows with the slots, not with slots times edits', () => {
    // Counted, not timed: how often the rewriter looks at an edit, per slot of the program.
    const looks = (slots: number): number => {
      const insns = Array.from(
        { length: slots },
        (_, i): Instruction =>
          i === slots - 1
            ? { kind: 'exit' }
            : { kind: 'jump', op: 'eq', width: 64, dst: 1, src: undefined, imm: 0, offset: slots - 2 - i },
      );
      let count = 0;
      class Counting extends Map<number, Edit> {
        override get(key: number): Edit | undefined {
          count++;
          return super.get(key);
        }
      }
      const edits = new Counting(insns.map((_, slot) => [slot, { prologue: [nop] }]));
      rewrite(draft(insns), edits);
      return count / slots;
    };
    expect(looks(10_000)).toBeLessThanOrEqual(looks(100));
  });
});

/** The assembler refuses jumps that lead nowhere; these are made from the text of legal ones. */
function assembleRaw(text: string): Instruction[] {
  const offset = Number(/goto ([+-]\d+)/.exec(text)?.[1]);
  const insns = assemble(text.replace(/goto [+-]\d+/, 'goto +0'));
  return insns.map(insn => (insn.kind === 'goto' ? { ...insn, offset } : insn));
}

/** Terminating programs: forward jumps, one counted loop around each function's body, calls of later functions. */
const programs = fc
  .array(
    fc.array(fc.tuple(fc.nat(5), fc.nat(9), fc.nat(9), fc.integer({ min: -100, max: 100 })), {
      minLength: 1,
      maxLength: 12,
    }),
    { minLength: 1, maxLength: 3 },
  )
  .map(functions => {
    const texts = functions.map((body, f) => {
      const lines = body.map(([kind, a, b, imm], i): string => {
        const dst = a % 6;
        const skip = Math.min(b, body.length - 1 - i);
        switch (kind) {
          case 0:
            return `r${dst} += r${b % 6}`;
          case 1:
            return `r${dst} ^= ${imm}`;
          case 2:
            return `if r${dst} s> ${imm} goto L${f}_${i + 1 + skip}`;
          case 3:
            return `goto L${f}_${i + 1 + skip}`;
          case 4:
            return `r${dst} = ${imm} ll`;
          default:
            return f + 1 < functions.length ? `call F${f + 1}` : `r${dst} *= ${imm}`;
        }
      });
      const labelled = lines.map((line, i) => `L${f}_${i}:\n${line}`).join('\n');
      return `F${f}:\nr9 = ${1 + (f % 2)}\nB${f}:\n${labelled}\nL${f}_${lines.length}:\nr9 += -1\nif r9 != 0 goto B${f}\nexit`;
    });
    return assemble(`r0 = 0\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\n${texts.join('\n')}`);
  });

function randomEdits(insns: readonly Instruction[], choices: fc.Stream<number>): Map<number, Edit> {
  const edits = new Map<number, Edit>();
  insns.forEach((insn, slot) => {
    if (insn.kind === 'wide') return;
    const choice = choices.next().value;
    if (choice === 1) edits.set(slot, { prologue: [nop] });
    else if (choice === 2 && insn.kind !== 'callSubprogram' && insn.kind !== 'loadImm64')
      edits.set(slot, { code: around(insn, slot), prologue: [nop, nop] });
    else if (choice === 3 && insn.kind !== 'callSubprogram' && insn.kind !== 'loadImm64')
      edits.set(slot, { code: around(insn, slot) });
    else if (choice === 4 && insn.kind === 'alu' && insn.dst === (11 as Register)) edits.set(slot, { code: [] });
  });
  return edits;
}

/** The instruction with others around it that change nothing; a jump among them stays inside. */
function around(insn: Instruction, slot: number): readonly (Instruction | JumpOut)[] {
  switch (insn.kind) {
    case 'jump':
    case 'goto':
      return [nop, nop, { kind: 'jumpOut', insn, to: slot + 1 + insn.offset }];
    case 'alu':
      return [
        nop,
        { kind: 'goto', offset: 1, long: false },
        { kind: 'exit' },
        insn,
        { kind: 'goto', offset: 0, long: false },
      ];
    default:
      return [insn];
  }
}
