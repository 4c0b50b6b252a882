/**
 * The arena: one range of real addresses that holds every byte a BPF program may touch (contexts, packets, stacks,
 * map values, prog arrays, program objects), seen by JS as one ArrayBuffer.
 *
 * Compiled programs use real pointers into it; the interpreter uses the same numbers and checks each access against
 * the range. `runtime/native` backs it by mmap with guard pages around it; tests and browsers back it by a plain
 * ArrayBuffer at a made-up base address.
 */
export interface Arena {
  /** Address of offset 0, as programs see it. A multiple of 64 KiB. */
  readonly base: bigint;
  /** Bytes. */
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Aligned word views for Atomics. Index = offset / 4 or / 8. */
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  /** Bytes handed out and not yet freed. */
  readonly allocated: number;
  /**
   * Zeroed block of at least `size` bytes.
   * @param align a power of two, 8 to 65536 (default 8).
   * @returns offset from the base.
   * @throws MemoryError `out_of_memory` with sizes.
   */
  allocate(size: number, align?: number): number;
  /** @throws MemoryError `bad_free` where `offset` is no live block. */
  free(offset: number): void;
  address(offset: number): bigint;
  /** @throws MemoryError `out_of_bounds` unless [address, address + length) lies within the arena. */
  offset(address: bigint, length: number): number;
}
