import type { Arena } from '../memory/arena.ts';
import type { ContextBlock } from './contexts.ts';
import type { GracePeriods } from './grace-period.ts';

/** @internal What programs use of their runtime. */
export interface RuntimeServices {
  readonly arena: Arena;
  readonly gracePeriods: GracePeriods;
  /** Monotonic, ns. */
  now(): number;
  /** Name of the map whose object lies at an address; "" where it is gone. */
  readonly mapName: (address: bigint) => string;
  /** @throws RuntimeError `busy` when the control thread is inside a run already. */
  withControlContext<T>(use: (context: ContextBlock) => T): T;
  leaseContexts(count: number): readonly ContextBlock[];
  returnContexts(contexts: readonly ContextBlock[]): void;
}
