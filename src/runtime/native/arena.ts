/** The arena over anonymous memory: inaccessible guard ranges on both sides, pages committed when first touched. */
import type { Arena } from '../../memory/arena.ts';
import { createArena } from '../../memory/buffer-arena.ts';
import { adviseHugePages, Protection, protect, reserve, unmap, view } from './libc.ts';

/** Larger than any displacement of a verified access, so that a wrong one faults instead of reaching another mapping. */
const GUARD_BYTES = 1 << 20;
const ALIGNMENT = 1 << 16;

export interface NativeArena {
  readonly arena: Arena;
  close(): void;
}

/** @param size bytes, a multiple of 64 KiB. */
export function createNativeArena(size: number): NativeArena {
  const length = size + 2 * GUARD_BYTES + ALIGNMENT;
  const start = reserve(length, 'the arena');
  const base = (start + BigInt(GUARD_BYTES + ALIGNMENT - 1)) & ~BigInt(ALIGNMENT - 1);
  try {
    protect(base, size, Protection.readWrite, 'the arena');
    const mapping = view(base, size, start, length);
    const prepare = (offset: number, bytes: number) => useHugePages(base + BigInt(offset), bytes);
    return { arena: createArena(mapping.buffer, base, { prepare }), close: mapping.discard };
  } catch (error) {
    unmap(start, length);
    throw error;
  }
}

const HUGE_PAGE = 1n << 21n;

/**
 * A lookup in a map of a million entries costs more in address translation than in itself where pages have 4 KiB. Only pages that lie
 * in the block as a whole become large, so that no map holds more than its size.
 */
function useHugePages(address: bigint, bytes: number): void {
  const start = (address + HUGE_PAGE - 1n) & ~(HUGE_PAGE - 1n);
  const end = (address + BigInt(bytes)) & ~(HUGE_PAGE - 1n);
  if (end > start) adviseHugePages(start, Number(end - start));
}
