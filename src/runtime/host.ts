/** What a runtime stands on: memory, clocks, backends. The native host is in `native/`; this one needs nothing but JS. */
import { check } from '../arguments.ts';
import type { Services } from '../helpers/services.ts';
import type { Routine } from '../isa/routine.ts';
import type { Arena } from '../memory/arena.ts';
import { createArena } from '../memory/buffer-arena.ts';
import type { Backend } from './backend.ts';
import type { Contexts } from './contexts.ts';
import { InterpreterBackend } from './interpreter-backend.ts';

export interface Host {
  readonly arena: Arena;
  /** Monotonic time, ns. */
  now(): number;
  /** Time of a POSIX clock (0 realtime, 1 monotonic, 7 boottime ...), ns. */
  clock(id: number): bigint;
  /** pid in the upper, thread id in the lower 32 bits. */
  pidTgid(): bigint;
  seed(): bigint;
  /** The backends this host offers; the first is the default. */
  createBackends(contexts: Contexts, routines: readonly Routine[], services: Services): readonly Backend[];
  /** Gives memory back. Nothing may run. */
  close(): void;
}

/** Address at which a buffer arena pretends to lie. */
const BUFFER_BASE = 0x1000_0000_0000n;

const MAX_ARENA = 2 ** 32;

/** Interpreter only, in an ordinary ArrayBuffer: for browsers and for platforms without a compiler. */
export function createBufferHost(arenaSize: number): Host {
  check.integer(1 << 20, MAX_ARENA)(arenaSize, 'arenaSize');
  const arena = createArena(new ArrayBuffer(arenaSize), BUFFER_BASE);
  const origin = BigInt(Date.now()) * 1_000_000n - BigInt(Math.round(performance.now() * 1e6));
  return {
    arena,
    now: () => Math.round(performance.now() * 1e6),
    clock: id => BigInt(Math.round(performance.now() * 1e6)) + (id === 0 ? origin : 0n),
    pidTgid: () => (1n << 32n) | 1n,
    seed: () => BigInt(Math.floor(Math.random() * 2 ** 48)),
    createBackends: (contexts, routines, services) => [new InterpreterBackend(arena, contexts, routines, services)],
    close() {},
  };
}
