/** Programs that no verifier has seen: a result or a typed error, never another exception, and never a hang. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SwitchyardError } from '../../src/errors.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { MapHeader } from '../../src/memory/layout.ts';
import { anyProgram } from '../isa/arbitrary.ts';
import { linked, machine } from './support.ts';

const m = machine();
const array = m.arena.allocate(MapHeader.size + 64);
const routine = linked([{ kind: 'exit' }], 0);

/** What `linked` can be given: whether it runs is the question. */
function runAny(insns: readonly Instruction[], args: readonly bigint[]): bigint {
  const program = { ...linked(insns), mapAddresses: [m.arena.address(array)], mapValueAddresses: [0n] };
  m.programs.set(1, program);
  let asked = 0;
  return m.interpreter.run(program, args, { stop: () => ++asked > 1 });
}

// The arbitrary programs name routines and services of their own making.
m.routines.get = () => routine;
m.services.get = () => () => 7n;

const word = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.nat(1 << 20).map(offset => m.arena.base + BigInt(offset)),
  fc.constant(m.arena.address(array)),
);

test('any program and arguments', () => {
  const codes = new Map<string, number>();
  const note = (what: string) => codes.set(what, (codes.get(what) ?? 0) + 1);
  // A stack and a run context that the program has damaged must not matter to the next run.
  const before = m.arena.bytes.slice();
  fc.assert(
    fc.property(anyProgram, fc.array(word, { maxLength: 5 }), (insns, args) => {
      m.arena.bytes.set(before);
      try {
        runAny([...insns.filter(insn => !NEVER_RUN.has(insn.kind)), { kind: 'exit' }], args);
        note('result');
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        note(error.code);
      }
    }),
    { numRuns: 600 },
  );
  // Otherwise the test would look at the first checks of the decoder only.
  expect(codes.get('result')).toBeGreaterThan(20);
  expect(codes.get('memory_out_of_bounds')).toBeGreaterThan(20);
});

/** Refused before anything runs; few programs would be left. */
const NEVER_RUN: ReadonlySet<Instruction['kind']> = new Set([
  'callHelper',
  'callKfunc',
  'mayGoto',
  'packetLoad',
  'addrSpaceCast',
] as const);
