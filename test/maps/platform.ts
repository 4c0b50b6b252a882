/** An arena with run contexts and a way to call routines: what the maps need to be tested on their own. */
import type { RoutineCaller } from '../../src/maps/map.ts';
import { MAP_ROUTINES } from '../../src/maps/routines/index.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext } from '../../src/memory/layout.ts';
import { evaluator } from './evaluator.ts';

const BASE = 0x6000_0000_0000n;
const STACK = 16 << 10;

export interface Platform {
  readonly arena: Arena;
  readonly cpus: number;
  readonly routines: RoutineCaller;
  /** Which CPU the next calls run on. */
  setCpu(cpu: number): void;
  /** Bytes in use when no map lives. */
  readonly idle: number;
}

/** @param size of the arena, bytes */
export function createPlatform(size = 16 << 20, cpus = 2): Platform {
  const arena = createArena(new ArrayBuffer(size), BASE);
  const context = arena.allocate(RunContext.size, 64);
  const stackTop = arena.address(arena.allocate(STACK, 4096) + STACK);
  arena.view.setBigUint64(context + RunContext.stackTop, stackTop, true);
  return {
    arena,
    cpus,
    routines: evaluator(arena, MAP_ROUTINES, arena.address(context), stackTop),
    setCpu: cpu => arena.view.setUint32(context + RunContext.cpu, cpu, true),
    idle: arena.allocated,
  };
}
