/** What every map type offers to JS. Keys and values are raw bytes here; typed views are built on top. */
import type { MapSpec } from '../object/spec.ts';

/**
 * Runs a trusted routine on the control thread, natively or in the interpreter. Map operations from JS go through
 * it, so that each operation has one body whoever calls it.
 * @param args at most five u64 values
 * @returns r0 as u64
 */
export interface RoutineCaller {
  call(routine: string, ...args: bigint[]): bigint;
}

/** Update flags of the uapi. */
export const UpdateFlag = { any: 0, noExist: 1, exist: 2 } as const;

export interface BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  /** Address of the map object (MapHeader) in the arena. */
  readonly address: bigint;
  /** Address of the first value of an array (per-CPU: of the first CPU), which compiled code embeds; else 0. */
  readonly valuesAddress: bigint;
  /**
   * Bytes that the map holds, prog array targets, buffers of readers, and room to pass values from TypeScript included; of
   * elements that were never used only those that are preallocated.
   */
  readonly memoryUsage: number;
  /**
   * @returns a copy of the value (per-CPU types: all CPUs' values, each rounded up to 8 bytes), or undefined.
   * A spin lock in it reads as 0.
   * @param flags BPF_F_LOCK (4): copy it with its spin lock taken
   * @throws MapError with the kernel's errno (E2BIG, EINVAL, EOPNOTSUPP ...).
   */
  lookup(key: Uint8Array, flags?: number): Uint8Array | undefined;
  update(key: Uint8Array, value: Uint8Array, flags?: number): void;
  /** @throws MapError ENOENT where there is no such key; EINVAL for types that cannot delete. */
  delete(key: Uint8Array): void;
  /** The key after `key` in iteration order; the first for undefined or an unknown key; undefined at the end. */
  nextKey(key: Uint8Array | undefined): Uint8Array | undefined;
  entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]>;
  /** No more changes from JS (BPF_MAP_FREEZE). Programs may still write unless the map is BPF_F_RDONLY_PROG. */
  freeze(): void;
  /**
   * Gives the memory back. Any later use throws MapError `disposed`.
   * @throws MapError `busy` for a map of a loaded object, which lives as long as objects and programs use it
   */
  dispose(): void;
}
