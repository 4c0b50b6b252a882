/** What runs lowered programs: the interpreter, or a compiler with executable memory behind it. */
import type { Code, CompileOptions, TailCallMode } from '../jit/shared/code.ts';
import type { TailCallPresets } from '../jit/shared/tail-call-choices.ts';
import type { Lowered } from '../lowering/lowered.ts';
import type { BpfMap, RoutineCaller } from '../maps/map.ts';
import type { ContextBlock } from './contexts.ts';

export type BackendName = 'native' | 'interpreter';

export type MapAddresses = Pick<BpfMap, 'address' | 'valuesAddress'>;

export interface Installed {
  /** Address of the first instruction; 0 where there is no machine code. */
  readonly entry: bigint;
  /** Address at which a tail call enters; 0 where the backend has no cached targets. */
  readonly target: bigint;
  /** What the compiler returned, with its offsets. */
  readonly code: Code | undefined;
  /** The machine code as it lies in memory now, patches included; empty for the interpreter. */
  readMemory(): Uint8Array;
  /**
   * Points the direct call site `poke` at a tail-call entry, or nowhere. Any thread may be running the site, unless `idle`:
   * then all threads are made to drop what they fetched before any is led to it.
   */
  patch(poke: number, target: bigint | undefined, idle?: boolean): void;
  /** After the grace period of a removal: the old target must not stay behind in the code. */
  clear(poke: number): void;
  /**
   * The same program once more, with other addresses for its maps and without targets at its direct sites: its second side
   * (generations.ts).
   * @param id what `ProgramObject.id` of the copy holds
   */
  copy(maps: readonly MapAddresses[], id: number): Installed;
  /** Frees the code. Only after the grace period of its last user. */
  free(): void;
}

export interface Backend extends RoutineCaller {
  readonly name: BackendName;
  /** Its programs have a tail-call entry that call sites can jump to without looking at the program. */
  readonly cachedTargets: boolean;
  /** How it can compile tail calls, the default last; none where nothing is compiled. */
  readonly tailCallModes: readonly TailCallMode[];
  /** What each mode chooses; undefined where nothing is compiled. */
  readonly tailCallPresets: TailCallPresets | undefined;
  /** Address of what empty slots lead to, see `Machine.missStub`; 0 where nothing is compiled. Stays as long as the backend. */
  readonly missStub: bigint;
  /** Direct call sites can be patched. */
  readonly pokes: boolean;
  /** Other native threads can run programs. */
  readonly threads: boolean;
  /** Bytes of machine code in use. */
  readonly codeUsage: number;
  /** Makes other threads drop instruction bytes they fetched before a patch. */
  synchronise(): void;
  /** @param id what `ProgramObject.id` of the program holds. */
  install(lowered: Lowered, maps: readonly BpfMap[], id: number, options: Omit<CompileOptions, 'kind'>): Installed;
  /** Runs the batch of this context to its end, on the calling thread. @returns true if it was stopped. */
  runBatch(context: ContextBlock): boolean;
  /** The same on another thread. */
  runBatchAsync(context: ContextBlock): Promise<boolean>;
}
