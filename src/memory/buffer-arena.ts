/** The arena over any ArrayBuffer: a plain one at a made-up address, or a view of mapped memory at its real one. */
import { Allocator, MAX_ALIGN } from './allocator.ts';
import type { Arena } from './arena.ts';
import { MemoryError } from './errors.ts';

/** Offsets below this are never handed out, so that no object has an offset that could pass for a small number. */
const RESERVED = 65536;
const BASE_ALIGN = 65536n;
/** User-space addresses end here on x86-64 and arm64 (47 bits). */
const ADDRESS_LIMIT = 1n << 47n;

export interface ArenaOptions {
  /** The buffer is known to be all zero (a new ArrayBuffer, fresh anonymous memory): blocks never used before need no clearing. Default false. */
  readonly fresh?: boolean;
  /** Told of each block before it is cleared, so that whoever owns the memory can prepare it. */
  readonly prepare?: (offset: number, size: number) => void;
}

class BufferArena implements Arena {
  readonly base: bigint;
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly #allocator: Allocator;
  readonly #prepare: ArenaOptions['prepare'];
  /** Bytes from here on have never been handed out and are zero. */
  #untouched: number;

  constructor(buffer: ArrayBufferLike, base: bigint, options: ArenaOptions) {
    const size = buffer.byteLength;
    if (size % 8 !== 0 || size < RESERVED) {
      throw new MemoryError(
        'bad_argument',
        `an arena needs a buffer of at least ${RESERVED} bytes, a multiple of 8, not ${size}`,
        { size },
      );
    }
    if (base <= 0n || base % BASE_ALIGN !== 0n || base + BigInt(size) > ADDRESS_LIMIT) {
      throw new MemoryError(
        'bad_argument',
        `the base of an arena must be a positive multiple of 64 KiB with all of the arena below 2^47, not 0x${base.toString(16)}`,
        { base, size },
      );
    }
    this.base = base;
    this.size = size;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.#allocator = new Allocator(RESERVED, size);
    this.#untouched = options.fresh === true ? RESERVED : size;
    this.#prepare = options.prepare;
  }

  get allocated(): number {
    return this.#allocator.allocated;
  }

  allocate(size: number, align = 8): number {
    if (align < 8) {
      throw new MemoryError('bad_argument', `alignment must be a power of two from 8 to ${MAX_ALIGN}, not ${align}`, {
        align,
      });
    }
    const offset = this.#allocator.allocate(size, align);
    const end = offset + size;
    this.#prepare?.(offset, size);
    this.bytes.fill(0, offset, Math.min(end, this.#untouched));
    if (end > this.#untouched) this.#untouched = end;
    return offset;
  }

  free(offset: number): void {
    this.#allocator.free(offset);
  }

  address(offset: number): bigint {
    return this.base + BigInt(offset);
  }

  offset(address: bigint, length: number): number {
    const offset = address - this.base;
    if (!Number.isSafeInteger(length) || length < 0 || offset < 0n || offset + BigInt(length) > BigInt(this.size)) {
      throw new MemoryError(
        'out_of_bounds',
        `${length} bytes at 0x${address.toString(16)} do not lie within the arena ` +
          `[0x${this.base.toString(16)}, 0x${(this.base + BigInt(this.size)).toString(16)})`,
        { address, length, base: this.base, size: this.size },
      );
    }
    return Number(offset);
  }
}

/**
 * @param buffer its size is the arena's; at least 64 KiB, a multiple of 8. The first 64 KiB are never handed out.
 * @param base the address programs see for its first byte: the real one for mapped memory, else any multiple of 64 KiB below 2^47
 * @throws MemoryError `bad_argument`
 */
export function createArena(buffer: ArrayBufferLike, base: bigint, options: ArenaOptions = {}): Arena {
  return new BufferArena(buffer, base, options);
}
