/**
 * The run contexts of a runtime, each with its stack, in the arena: one for the control thread and one for each other
 * thread that may run programs at the same time.
 *
 * CPU numbers are given out per run, the lowest free one first, so that the same work gets the same numbers on every
 * backend and thread. No two contexts that may run at once ever share one: per-CPU values and the spare elements of hash
 * maps rely on it. Between runs the control thread keeps the highest number, for map operations from JS.
 */
import type { Arena } from '../memory/arena.ts';
import { IteratorMemory, RunContext, RuntimeState, SkbContext } from '../memory/layout.ts';
import { Batch } from './batch.ts';

/** Eight frames of a program, routines below them, and room for a signal handler's frame. */
const STACK_BYTES = 256 * 1024;
const STACK_ALIGNMENT = 65536;

export interface ContextBlock {
  /** 0: the control thread. */
  readonly index: number;
  /** Arena offsets. */
  readonly offset: number;
  readonly batch: number;
  /** An XdpContext or SkbContext. */
  readonly packetContext: number;
}

export interface Contexts {
  readonly state: number;
  readonly blocks: readonly ContextBlock[];
}

export function createContexts(arena: Arena, cpus: number, seed: () => bigint): Contexts {
  const state = arena.allocate(RuntimeState.size, 64);
  arena.view.setBigUint64(state + RuntimeState.epoch, 2n, true);
  arena.view.setUint32(state + RuntimeState.cpus, cpus, true);
  arena.view.setBigUint64(state + RuntimeState.arenaStart, arena.base, true);
  arena.view.setBigUint64(state + RuntimeState.arenaEnd, arena.base + BigInt(arena.size), true);
  const blocks: ContextBlock[] = [];
  for (let index = 0; index < cpus; index++) {
    const offset = arena.allocate(RunContext.size, 64);
    const stack = arena.allocate(STACK_BYTES, STACK_ALIGNMENT);
    const { view } = arena;
    view.setBigUint64(offset + RunContext.runtime, arena.address(state), true);
    view.setUint32(offset + RunContext.cpu, index === 0 ? cpus - 1 : index - 1, true);
    view.setBigUint64(offset + RunContext.random, BigInt.asUintN(64, seed()) | 1n, true);
    view.setBigUint64(offset + RunContext.stackTop, arena.address(stack + STACK_BYTES), true);
    blocks.push({
      index,
      offset,
      batch: arena.allocate(Batch.size, 64),
      packetContext: arena.allocate(SkbContext.size, 64),
    });
  }
  return { state, blocks };
}

/** Gives each thread memory for iterators, once: what a program that calls `bpf_iter_bits_new` needs. It stays. */
export function provideIteratorMemory(arena: Arena, { blocks }: Contexts): void {
  for (const { offset } of blocks) {
    const field = offset + RunContext.iteratorMemory;
    if (arena.view.getBigUint64(field, true) !== 0n) continue;
    arena.view.setBigUint64(field, arena.address(arena.allocate(IteratorMemory.size, 64)), true);
  }
}
