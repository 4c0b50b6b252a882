import { SwitchyardError } from '../errors.ts';

export type MemoryErrorCode =
  /** No free block is large enough. Details: size, align, largest, allocated, arena size. */
  | 'out_of_memory'
  /** free() of an offset that no live block starts at. */
  | 'bad_free'
  /** An address range that does not lie within the arena. */
  | 'out_of_bounds'
  /** A size, alignment, buffer or base address that can't be meant. */
  | 'bad_argument';

/** Every error of the memory room. */
export class MemoryError extends SwitchyardError<MemoryErrorCode> {}
