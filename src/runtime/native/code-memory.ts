/**
 * Executable memory: one region, mapped twice.
 *
 * Problem: code must be written, patched while it runs, and never be writable through the address it runs at.
 * Strategy: a memory file mapped once writable and once executable, both for the life of the runtime. All code of a
 * runtime (programs, trusted routines, thunks) lies in the one region, so that calls between them are relative.
 * Invariants: blocks start on 64-byte lines; what was freed holds instructions that trap until it is written again, so
 * that a stray jump traps at once; a patch is one aligned 8-byte store, which x86-64 and arm64 perform whole; what was
 * written is flushed from instruction caches that do not watch memory (arm64's) before anyone is led to it.
 */
import { mergePatch } from '../../jit/shared/patch-word.ts';
import { CODE_ALIGNMENT, spacing } from '../../jit/shared/placement.ts';
import { Allocator } from '../../memory/allocator.ts';
import { MemoryError } from '../../memory/errors.ts';
import { RuntimeError } from '../errors.ts';
import { flushInstructions, type Mapping, mapTwice, needsFlush, syncCores, unmap, view } from './libc.ts';

export class CodeMemory {
  readonly size: number;
  readonly #writable: Mapping;
  readonly #executable: bigint;
  readonly #bytes: Uint8Array;
  readonly #words: BigInt64Array;
  readonly #allocator: Allocator;
  readonly #trapByte: number;
  readonly #needsFlush = needsFlush();
  #blocks = 0;
  /** Bytes left free behind blocks, and their sum; see placement.ts. */
  readonly #spaced = new Map<number, number>();
  #free = 0;
  #closed = false;

  /**
   * @param size bytes of the region, a multiple of 4096; only touched pages cost memory
   * @param trapByte see `Machine.trapByte`
   */
  constructor(size: number, trapByte: number) {
    this.size = size;
    this.#trapByte = trapByte;
    const { writable, executable } = mapTwice(size, 'the code region');
    this.#executable = executable;
    this.#writable = view(writable, size);
    this.#bytes = new Uint8Array(this.#writable.buffer);
    this.#words = new BigInt64Array(this.#writable.buffer);
    this.#allocator = new Allocator(0, size);
  }

  /** Bytes in use. */
  get used(): number {
    return this.#allocator.allocated - this.#free;
  }

  /** @returns the offset of a block of at least `length` bytes. @throws RuntimeError `out_of_code_memory`. */
  allocate(length: number): number {
    try {
      const free = spacing(length, ++this.#blocks);
      const offset = this.#allocator.allocate(length + free, CODE_ALIGNMENT);
      if (free > 0) this.#spaced.set(offset, free);
      this.#free += free;
      return offset;
    } catch (cause) {
      if (!(cause instanceof MemoryError)) throw cause;
      throw new RuntimeError(
        'out_of_code_memory',
        `${length} bytes of code do not fit: ${this.used} of ${this.size} bytes are in use; dispose programs or create the runtime with a larger codeSize`,
        { length, used: this.used, size: this.size },
        { cause },
      );
    }
  }

  /** Fills a block with trap instructions and gives it back. Only after the grace period of its last user. */
  free(offset: number): void {
    const length = this.#allocator.free(offset);
    this.#free -= this.#spaced.get(offset) ?? 0;
    this.#spaced.delete(offset);
    this.#bytes.fill(this.#trapByte, offset, offset + length);
    this.#flush(offset, length);
  }

  /** Writes code that no thread can reach yet. */
  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#flush(offset, bytes.length);
  }

  /** A copy of what is in memory now, patches included. */
  read(offset: number, length: number): Uint8Array {
    return this.#bytes.slice(offset, offset + length);
  }

  /** Address at which the code runs. */
  address(offset: number): bigint {
    return this.#executable + BigInt(offset);
  }

  /** Replaces bytes within one aligned 8-byte word by one store, while threads may be running them. */
  patch(offset: number, bytes: Uint8Array): void {
    const word = offset >> 3;
    const value = mergePatch(BigInt.asUintN(64, Atomics.load(this.#words, word)), offset, bytes);
    Atomics.store(this.#words, word, BigInt.asIntN(64, value));
    this.#flush(8 * word, 8);
  }

  #flush(offset: number, length: number): void {
    if (this.#needsFlush) flushInstructions(this.address(offset), length);
  }

  /**
   * After patches: no thread goes on with bytes it fetched before.
   * @returns false where the kernel does not offer it
   */
  synchronise(): boolean {
    return syncCores();
  }

  /** Nothing may run in it any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#writable.discard();
    unmap(this.#executable, this.size);
  }
}
