/** A processor that tests run compiled code on: the machine they run on, or an emulated one inside the same process. */
import type { Machine } from '../../src/jit/shared/code.ts';

export interface Processor {
  readonly machine: Machine;
  /** Memory of this process that code may read, write and jump to, before anything runs. Multiples of 4096. */
  map(address: bigint, bytes: number): void;
  /** The code at `address`, a `void f(void)`, as a JS function. */
  entry(address: bigint): () => void;
  /** After code was written to a place where other code may have run. */
  codeChanged(address: bigint, bytes: number): void;
  /** @returns an address that machine code can call, five arguments at most */
  hostFunction(body: (...args: bigint[]) => bigint): bigint;
  close(): void;
}

export interface Platform {
  readonly name: string;
  readonly machine: Machine;
  readonly available: boolean;
  /** How much slower than native, roughly: suites divide their number of runs by it. */
  readonly slowdown: number;
  create(): Processor;
}
