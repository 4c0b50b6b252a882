/** A run context, a stack and hand-made lowered programs for the interpreter's tests. */

import { Interpreter, type InterpreterEnvironment } from '../../src/interpreter/interpreter.ts';
import type { LinkedProgram } from '../../src/interpreter/linked-program.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext } from '../../src/memory/layout.ts';
import type { SubprogramFacts } from '../../src/verifier/facts.ts';

export const ARENA_BASE = 0x7f00_0000_0000n;

export interface Machine {
  readonly arena: Arena;
  readonly interpreter: Interpreter;
  readonly programs: Map<number, LinkedProgram>;
  readonly routines: Map<string, LinkedProgram>;
  readonly services: Map<string, (...args: bigint[]) => bigint>;
  readonly stackTop: bigint;
  readonly runContext: bigint;
}

export function machine(size = 1 << 20, stackSize = 16 * 1024): Machine {
  const arena = createArena(new ArrayBuffer(size), ARENA_BASE);
  const runContext = arena.address(arena.allocate(RunContext.size, 64));
  const stack = arena.allocate(stackSize, 16);
  const stackTop = arena.address(stack) + BigInt(stackSize);
  arena.view.setBigUint64(arena.offset(runContext, RunContext.size) + RunContext.stackTop, stackTop, true);
  const programs = new Map<number, LinkedProgram>();
  const routines = new Map<string, LinkedProgram>();
  const services = new Map<string, (...args: bigint[]) => bigint>();
  const env: InterpreterEnvironment = {
    arena,
    runContext,
    stackSize,
    routine: name => routines.get(name)!,
    service: name => services.get(name)!,
    programById: id => programs.get(id),
  };
  return { arena, interpreter: new Interpreter(env), programs, routines, services, stackTop, runContext };
}

/** A lowered program of hand-written instructions; subprograms start where calls and callbacks lead. */
export function lowered(insns: readonly Instruction[], stackDepth = 512, name = 'test'): Lowered {
  const starts = new Set([0]);
  insns.forEach((insn, slot) => {
    if (insn.kind === 'callSubprogram') starts.add(slot + 1 + insn.offset);
    if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') starts.add(slot + 1 + insn.reference.offset);
  });
  const sorted = [...starts].sort((a, b) => a - b);
  const subprograms = sorted.map(
    (start, i): SubprogramFacts => ({
      name: i === 0 ? name : `${name}_${i}`,
      start,
      end: sorted[i + 1] ?? insns.length,
      stackDepth,
      hasTailCall: false,
      tailCallReachable: false,
      isCallback: false,
    }),
  );
  return {
    name,
    type: 'raw',
    insns,
    origin: Int32Array.from(insns, (_, i) => i),
    usedMaps: [],
    pokeTable: [],
    subprograms,
  };
}

export function linked(insns: readonly Instruction[], id = 1, stackDepth = 512): LinkedProgram {
  return { lowered: lowered(insns, stackDepth), mapAddresses: [], mapValueAddresses: [], id };
}
