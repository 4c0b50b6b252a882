/** An arena with run contexts and a way to call routines: what the maps need to be tested on their own. */
import { Interpreter } from '../../src/interpreter/interpreter.ts';
import { type LinkedProgram, linkRoutine } from '../../src/interpreter/linked-program.ts';
import type { RoutineCaller } from '../../src/maps/map.ts';
import { MAP_ROUTINES } from '../../src/maps/routines/index.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext } from '../../src/memory/layout.ts';

const BASE = 0x6000_0000_0000n;
const STACK = 16 << 10;

export interface Platform {
  readonly arena: Arena;
  readonly cpus: number;
  readonly routines: RoutineCaller;
  /** Which CPU the next calls run on. */
  setCpu(cpu: number): void;
  /** Runs `action` and calls `observe` before each instruction that routines execute meanwhile. */
  watch<Result>(action: () => Result, observe: () => void): Result;
  /** Bytes in use when no map lives. */
  readonly idle: number;
}

/** @param size of the arena, bytes */
export function createPlatform(size = 16 << 20, cpus = 2): Platform {
  const arena = createArena(new ArrayBuffer(size), BASE);
  const context = arena.allocate(RunContext.size, 64);
  const stackTop = arena.address(arena.allocate(STACK, 4096) + STACK);
  arena.view.setBigUint64(context + RunContext.stackTop, stackTop, true);
  const linked = new Map<string, LinkedProgram>();
  const routine = (name: string): LinkedProgram => {
    let program = linked.get(name);
    if (program === undefined) {
      const found = MAP_ROUTINES.find(candidate => candidate.name === name);
      if (found === undefined) throw new Error(`no routine ${name}`);
      program = linkRoutine(found);
      linked.set(name, program);
    }
    return program;
  };
  const interpreter = new Interpreter({
    arena,
    runContext: arena.address(context),
    stackSize: STACK,
    routine,
    service: name => {
      throw new Error(`no service ${name}`);
    },
    programById: () => undefined,
  });
  let observer: (() => void) | undefined;
  return {
    arena,
    cpus,
    routines: {
      call: (name, ...args) =>
        interpreter.run(routine(name), args, observer === undefined ? {} : { onInstruction: observer }),
    },
    watch: (action, observe) => {
      observer = observe;
      try {
        return action();
      } finally {
        observer = undefined;
      }
    },
    setCpu: cpu => arena.view.setUint32(context + RunContext.cpu, cpu, true),
    idle: arena.allocated,
  };
}
