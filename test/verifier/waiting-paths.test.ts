/** Paths that wait come back as they went, in reverse order, whether they were packed meanwhile or not. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { register, scalarRegister, UNINITIALIZED } from '../../src/verifier/registers.ts';
import { constant, range } from '../../src/verifier/scalar.ts';
import { CallChain } from '../../src/verifier/stack-liveness.ts';
import { Checkpoint, Frame, REGISTERS, State } from '../../src/verifier/state.ts';
import { type WaitingPath, WaitingPaths } from '../../src/verifier/waiting-paths.ts';

const CHAIN = new CallChain(
  { words: 1 << 20, ownWrites: false, exhausted: () => expect.unreachable() },
  undefined,
  -1,
  0,
  8,
);
const EVERY_REGISTER = (1 << REGISTERS) - 1;
const VALUES = [
  UNINITIALIZED,
  register('context'),
  register('packet', { offset: 14, range: 34, id: 3 }),
  scalarRegister(constant(7n)),
  scalarRegister(range(3n, 1n << 40n)),
];
const SLOT = { bytes: 0xffff, spilled: VALUES[4] };

const frames = fc.array(
  fc.record({
    registers: fc.array(fc.constantFrom(...VALUES), { minLength: REGISTERS, maxLength: REGISTERS }),
    slots: fc.array(fc.nat(63), { maxLength: 4 }),
    counts: fc.tuple(fc.nat(9), fc.nat(9), fc.nat(9)),
    isCallback: fc.boolean(),
  }),
  { minLength: 1, maxLength: 8 },
);
const path = fc.record({
  frames,
  numbers: fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat(), fc.nat()),
  callback: fc.boolean(),
  live: fc.nat(EVERY_REGISTER),
  rawSize: fc.nat(),
  parent: fc.boolean(),
});
type Made = typeof path extends fc.Arbitrary<infer T> ? T : never;

function make(made: Made): WaitingPath {
  const state = new State(
    made.frames.map(({ registers, slots, counts, isCallback }, index) => {
      const frame = Frame.enter(index, index, isCallback, CHAIN);
      for (const [r, value] of registers.entries()) frame.registers[r] = value;
      for (const slot of slots) frame.setSlot(slot, SLOT);
      [frame.callbackDepth, frame.callbackLoop, frame.mayGotos] = counts;
      return frame;
    }),
  );
  if (made.rawSize > 0) state.rawSize = made.rawSize;
  if (made.parent) state.parent = new Checkpoint(0, state.copy(), 0);
  const [insn, from, logPosition, historyLength, remarkable] = made.numbers;
  return { insn, from, state, logPosition, historyLength, remarkable, callback: made.callback };
}

/** What a path is, without those registers that are not in the set. */
function describe({ state, ...rest }: WaitingPath, live: number): unknown {
  return {
    ...rest,
    parent: state.parent,
    rawSize: state.rawSize,
    frames: state.frames.map(frame => ({
      call: [frame.callSite, frame.subprogram, frame.isCallback, frame.chain],
      registers: frame.registers.map((value, r) => ((live & (1 << r)) === 0 ? undefined : value)),
      slots: frame.slots.map(slot => slot ?? null),
      counts: [frame.callbackDepth, frame.callbackLoop, frame.mayGotos],
    })),
  };
}

test('come back in reverse order with all that matters', () => {
  let packed = 0;
  fc.assert(
    fc.property(
      fc.array(path, { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: -90, max: 120 })),
      (kinds, steps) => {
        const lives = new Map<State, number>();
        const asked = new Set<State>();
        const waiting = new WaitingPaths(({ state }) => {
          asked.add(state);
          return lives.get(state)!;
        });
        const expected: { made: Made; was: unknown }[] = [];
        const pop = (): void => {
          const { made, was } = expected.pop()!;
          const got = waiting.pop()!;
          expect(describe(got, made.live)).toEqual(was);
          expect(got.state.parent).toBe((was as { parent: unknown }).parent);
          // It is a state like any other: what is done to it is done to it alone.
          got.state.frame.setSlot(5, undefined);
        };
        // Positive: so many are queued; negative: so many are taken.
        for (const [at, step] of steps.entries()) {
          for (let i = 0; i < step; i++) {
            const made = kinds[(at + i) % kinds.length]!;
            const queued = make(made);
            lives.set(queued.state, made.live);
            expected.push({ made, was: describe(queued, made.live) });
            waiting.push(queued);
          }
          for (let i = step; i < 0 && expected.length > 0; i++) pop();
          expect(waiting.length).toBe(expected.length);
        }
        while (expected.length > 0) pop();
        expect(waiting.pop()).toBeUndefined();
        packed += asked.size;
      },
    ),
    { numRuns: 60 },
  );
  expect(packed).toBeGreaterThan(100);
});

test('packed registers that do not matter are forgotten, and nothing comes back after clear', () => {
  const waiting = new WaitingPaths(() => 0b10);
  const made = (insn: number): WaitingPath =>
    make({
      frames: [{ registers: new Array(REGISTERS).fill(VALUES[4]), slots: [], counts: [0, 0, 0], isCallback: false }],
      numbers: [insn, 0, 0, 0, 0],
      callback: false,
      live: 0,
      rawSize: 0,
      parent: false,
    });
  for (let i = 0; i < 200; i++) waiting.push(made(i));
  const taken = Array.from({ length: 200 }, () => waiting.pop()!);
  expect(taken.map(({ insn }) => insn)).toEqual(Array.from({ length: 200 }, (_, i) => 199 - i));
  expect(taken.at(-1)!.state.registers.map(({ kind }) => kind)).toEqual([
    'uninitialized',
    'scalar',
    ...new Array(REGISTERS - 2).fill('uninitialized'),
  ]);
  for (let i = 0; i < 200; i++) waiting.push(made(i));
  waiting.clear();
  expect(waiting.length).toBe(0);
  expect(waiting.pop()).toBeUndefined();
});
