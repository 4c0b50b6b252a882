/** An arena with run contexts and a way to call routines, on each backend: what the maps need to be tested on their own. */
import type { Services } from '../../src/helpers/services.ts';
import { Interpreter } from '../../src/interpreter/interpreter.ts';
import { type LinkedProgram, linkRoutine } from '../../src/interpreter/linked-program.ts';
import type { Routine } from '../../src/isa/routine.ts';
import type { RoutineCaller } from '../../src/maps/map.ts';
import { MAP_ROUTINES } from '../../src/maps/routines/index.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext } from '../../src/memory/layout.ts';
import { createContexts } from '../../src/runtime/contexts.ts';
import { createNativeHost, nativeSupported } from '../../src/runtime/native/host.ts';

const BASE = 0x6000_0000_0000n;
const STACK = 16 << 10;
const CODE = 1 << 20;
/** The maps' routines call none. */
const NO_SERVICES = {} as Services;

export interface Platform {
  readonly arena: Arena;
  readonly cpus: number;
  readonly routines: RoutineCaller;
  /** Which CPU the next calls run on. */
  setCpu(cpu: number): void;
  /** Bytes in use when no map lives. */
  readonly idle: number;
}

type CreatePlatform = (size?: number, cpus?: number) => Platform;

export interface InterpreterPlatform extends Platform {
  /** Runs `action` and calls `observe` before each instruction that routines execute meanwhile. */
  watch<Result>(action: () => Result, observe: () => void): Result;
}

/** @param size of the arena, bytes */
export function createPlatform(size = 16 << 20, cpus = 2): InterpreterPlatform {
  const arena = createArena(new ArrayBuffer(size), BASE, { fresh: true });
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

export interface NativePlatform extends Platform {
  /**
   * Runs the routine `worker` on a thread of its own as CPU `cpu`, with the address of 192 zeroed bytes of parameters, which
   * `fill` may write before and `read` gives afterwards.
   */
  start(cpu: number, fill: (parameters: DataView) => void): Promise<DataView>;
}

/** One host for all tests of a file that want the same: compiling all routines takes longer than most tests. */
const hosts = new Map<string, NativePlatform>();

/** @param worker what `start` runs */
export function createNativePlatform(size = 16 << 20, cpus = 2, worker?: string): NativePlatform {
  const name = `${size} ${cpus} ${worker}`;
  let platform = hosts.get(name);
  if (platform === undefined) {
    platform = startNative(size, cpus, worker);
    hosts.set(name, platform);
  }
  platform.setCpu(0);
  return { ...platform, idle: platform.arena.allocated };
}

function startNative(size: number, cpus: number, worker: string | undefined): NativePlatform {
  const { arena, createBackends } = createNativeHost(size, CODE);
  let seed = 1n;
  const contexts = createContexts(arena, cpus, () => seed++);
  // No two threads may have the same number at once: here context n is CPU n for good.
  for (const [cpu, block] of contexts.blocks.entries()) arena.view.setUint32(block.offset + RunContext.cpu, cpu, true);
  // The backend's name for what it runs on a thread, once per batch.
  const entry: Routine = { name: 'replay', text: worker ?? '  r0 = 0\n  exit' };
  const [native] = createBackends(contexts, [...MAP_ROUTINES, entry], NO_SERVICES);
  const backend = native!;
  return {
    arena,
    cpus,
    routines: backend,
    setCpu: cpu => arena.view.setUint32(contexts.blocks[0]!.offset + RunContext.cpu, cpu, true),
    idle: arena.allocated,
    start: async (cpu, fill) => {
      const block = contexts.blocks[cpu]!;
      const parameters = new DataView(arena.bytes.buffer, block.batch, 192);
      arena.bytes.fill(0, block.batch, block.batch + 192);
      fill(parameters);
      await backend.runBatchAsync(block);
      return parameters;
    },
  };
}

/** Every backend that runs here. */
export const PLATFORMS: readonly (readonly [name: string, create: CreatePlatform])[] = nativeSupported()
  ? [
      ['interpreter', createPlatform],
      ['native', (size, cpus) => createNativePlatform(size, cpus)],
    ]
  : [['interpreter', createPlatform]];

/** Text of a worker: the next number of the generator (xorshift64) whose u64 state is at r6 + `state`, to r7. Changes r1. */
export const randomStep = (state: number): string => `
  r7 = *(u64 *)(r6 + ${state})
  r1 = r7
  r1 <<= 13
  r7 ^= r1
  r1 = r7
  r1 >>= 7
  r7 ^= r1
  r1 = r7
  r1 <<= 17
  r7 ^= r1
  *(u64 *)(r6 + ${state}) = r7`;
