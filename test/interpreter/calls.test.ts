import { describe, expect, test } from 'vitest';
import { InterpreterError } from '../../src/interpreter/errors.ts';
import type { InstructionEvent } from '../../src/interpreter/interpreter.ts';
import { linkRoutine } from '../../src/interpreter/linked-program.ts';
import { assemble } from '../../src/isa/assembler.ts';
import { linked, type Machine, machine } from './support.ts';

const program = (text: string, id = 1, stackDepth = 512) => linked(assemble(text, { internal: true }), id, stackDepth);

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(InterpreterError);
    return (error as InterpreterError).code;
  }
  throw new Error('expected an InterpreterError');
}

function addRoutine(m: Machine, name: string, text: string): void {
  m.routines.set(name, linkRoutine({ name, text }));
}

describe('calls', () => {
  test('arguments, result, kept registers', () => {
    const text =
      'r6 = 60\nr9 = 90\nr1 = 1\nr2 = 2\ncall f\nr0 += r6\nr0 += r9\nexit\nf:\nr6 = 0\nr9 = 0\nr0 = r1\nr0 += r2\nexit';
    expect(machine().interpreter.run(program(text), [])).toBe(153n);
  });

  test('each frame has its own stack, of its own size, below its caller’s', () => {
    const m = machine();
    const text = 'r6 = r10\ncall f\nr6 -= r0\nr0 = r6\nexit\nf:\nr0 = r10\nexit';
    for (const [depth, distance] of [
      [0, 0n],
      [8, 16n],
      [16, 16n],
      [17, 32n],
      [512, 512n],
    ] as const) {
      expect(m.interpreter.run(program(text, 1, depth), [])).toBe(distance);
    }
    expect(m.interpreter.run(program('r0 = r10\nexit'), [])).toBe(m.stackTop);
  });

  test('a callee cannot change its caller’s frame pointer, but may write through a pointer to its stack', () => {
    const text =
      '*(u64 *)(r10 - 8) = 1\nr1 = r10\nr1 += -8\ncall f\nr0 = *(u64 *)(r10 - 8)\nexit\nf:\n*(u64 *)(r1 + 0) = 7\n*(u64 *)(r10 - 8) = 9\nexit';
    expect(machine().interpreter.run(program(text), [])).toBe(7n);
  });

  test('endless recursion ends with a typed error, by stack or by depth', () => {
    const { interpreter } = machine();
    expect(code(() => interpreter.run(program('call f\nexit\nf:\ncall f\nexit', 1, 64), []))).toBe('stack_overflow');
    expect(code(() => interpreter.run(program('call f\nexit\nf:\ncall f\nexit', 1, 0), []))).toBe('stack_overflow');
  });

  test('routines, nested, and run_context', () => {
    const m = machine();
    addRoutine(m, 'outer', 'r6 = r1\ncall routine inner\nr0 += r6\nexit');
    addRoutine(m, 'inner', '*(u64 *)(r10 - 8) = r1\nr0 = run_context\nexit');
    const text =
      'r6 = 5\nr1 = 3\n*(u64 *)(r10 - 8) = 77\ncall routine outer\nr0 += r6\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit';
    expect(m.interpreter.run(program(text), [])).toBe(m.runContext + 3n + 5n + 77n);
    expect(m.interpreter.run(program(text), [])).toBe(m.runContext + 3n + 5n + 77n);
  });

  test('services get r1 to r5 as u64; their result is r0', () => {
    const m = machine();
    m.services.set('sum', (a, b, c, d, e) => a! + 2n * b! + 3n * c! + 4n * d! + 5n * e!);
    const text = 'r1 = 1\nr2 = 1\nr3 = 1\nr4 = 1\nr5 = -1\ncall service sum\nexit';
    expect(m.interpreter.run(program(text), [])).toBe(BigInt.asUintN(64, 10n + 5n * ((1n << 64n) - 1n)));
  });

  test('a run that a service starts lies below the run it interrupts', () => {
    const m = machine();
    const inner = program('*(u64 *)(r10 - 8) = 5\nr0 = r10\nexit', 2, 16);
    m.services.set('nested', () => m.interpreter.run(inner, []));
    const outer = program(
      '*(u64 *)(r10 - 8) = 7\ncall service nested\nr6 = r10\nr6 -= r0\nr0 = *(u64 *)(r10 - 8)\nr0 += r6\nexit',
      1,
      32,
    );
    expect(m.interpreter.run(outer, [])).toBe(7n + 32n);
    // Also after a service that failed.
    m.services.set('nested', () => m.interpreter.run(program('r0 = *(u64 *)(r0 + 0)\nexit', 3), []));
    expect(code(() => m.interpreter.run(outer, []))).toBe('memory_out_of_bounds');
    m.services.set('nested', () => m.interpreter.run(inner, []));
    expect(m.interpreter.run(outer, [])).toBe(7n + 32n);
  });
});

describe('callbacks', () => {
  const LOOP =
    'r6 = r1\nr7 = r2\nr8 = r3\nr9 = 0\nagain:\nif r9 >= r6 goto out\nr1 = r9\nr2 = r8\ncallx r7\nr9 += 1\ngoto again\nout:\nr0 = r9\nexit';
  const CALLER =
    'r1 = 4\nr2 = func[cb] ll\nr3 = r10\nr3 += -8\n*(u64 *)(r10 - 8) = 0\ncall routine loop\nr0 = *(u64 *)(r10 - 8)\nexit\ncb:\nr3 = *(u64 *)(r2 + 0)\nr3 += r1\n*(u64 *)(r2 + 0) = r3\nr0 = 0\nexit';

  test.each([0, 1, 255, 256, 0xffff_ffff])('a routine calls a subprogram of program %i by its address', id => {
    const m = machine();
    addRoutine(m, 'loop', LOOP);
    expect(m.interpreter.run(program(CALLER, id), [])).toBe(6n);
  });

  test('addresses lie outside the arena', () => {
    const m = machine();
    const text = 'r0 = func[cb] ll\nexit\ncb:\nr0 = 1\nexit';
    expect(m.interpreter.run(program(text, 7), [])).toBeGreaterThan(1n << 48n);
    expect(code(() => m.interpreter.run(program('r1 = func[cb] ll\nr0 = *(u8 *)(r1 + 0)\nexit\ncb:\nexit'), []))).toBe(
      'memory_out_of_bounds',
    );
  });

  test('an address that is no function’s start is refused', () => {
    const m = machine();
    for (const text of [
      'r1 = 5\ncallx r1\nexit',
      'r1 = func[cb] ll\nr1 += 1\ncallx r1\nexit\ncb:\nr0 = 1\nexit',
      'r1 = func[cb] ll\nr2 = 1\nr2 <<= 24\nr1 += r2\ncallx r1\nexit\ncb:\nexit',
    ]) {
      expect(code(() => m.interpreter.run(program(text), []))).toBe('bad_call_target');
    }
  });
});

describe('what cannot run', () => {
  test.each([
    ['a helper call', 'call 1\nexit', 'not_lowered'],
    ['a legacy load', 'r0 = *(u8 *)skb[1]\nexit', 'not_lowered'],
    ['may_goto', 'may_goto +0\nexit', 'not_lowered'],
    ['a map by name', 'r1 = map[m] ll\nexit', 'not_lowered'],
    ['a used map without an address', 'r1 = map_address[0] ll\nexit', 'unknown_map'],
    ['the end of the program', 'r0 = 1', 'fell_through'],
    ['no instructions', '', 'fell_through'],
  ])('%s', (_, text, expected) => {
    expect(code(() => machine().interpreter.run(program(text), []))).toBe(expected);
  });

  test('a jump out of the program or into a loadImm64', () => {
    const run = (offset: number) => () =>
      machine().interpreter.run(linked([{ kind: 'goto', offset, long: false }, ...assemble('r0 = 0 ll\nexit')]), []);
    expect(code(run(1))).toBe('bad_target');
    expect(code(run(3))).toBe('bad_target');
    expect(code(run(-2))).toBe('bad_target');
  });

  test('six arguments', () => {
    expect(code(() => machine().interpreter.run(program('exit'), [0n, 0n, 0n, 0n, 0n, 0n]))).toBe('bad_argument');
  });
});

describe('watching and stopping', () => {
  test('onInstruction sees each instruction once, with its frame and registers', () => {
    const seen: string[] = [];
    const onInstruction = (event: InstructionEvent) =>
      seen.push(`${event.program.id}:${event.insn}/${event.frame} r1=${event.register(1)}`);
    const r0 = machine().interpreter.run(program('r1 = 2\ncall f\nexit\nf:\nr1 += 1\nr0 = r1\nexit'), [9n], {
      onInstruction,
    });
    expect(r0).toBe(3n);
    expect(seen).toEqual(['1:0/0 r1=9', '1:1/0 r1=2', '1:3/1 r1=2', '1:4/1 r1=3', '1:5/1 r1=3', '1:2/0 r1=3']);
  });

  test.each([false, true])('stop ends an endless loop (watched: %s)', watched => {
    let asked = 0;
    const stop = () => ++asked > 3;
    const options = watched ? { stop, onInstruction: () => {} } : { stop };
    expect(code(() => machine().interpreter.run(program('again:\ngoto again'), [], options))).toBe('stopped');
    expect(asked).toBe(4);
  });
});
