/** Errors of the lowering room. */
import { SwitchyardError } from '../errors.ts';

export type LoweringErrorCode =
  /** A map the program refers to is not among the verifier's used maps, or has no specification: an internal error. */
  | 'unknown_map'
  /** A field of the context that this runtime cannot honour. */
  | 'context_field'
  /** The same instruction is needed for two incompatible rewrites, or the verifier's facts contradict the code. */
  | 'bad_facts'
  /** No routine exists for a helper, or a kernel function. */
  | 'unknown_helper'
  | 'unknown_kfunc'
  /** An instruction that no backend runs (address space cast, map by file descriptor). */
  | 'unsupported_instruction'
  /** A trusted routine computes a stack address so that the size of its frame cannot be told. */
  | 'stack_address'
  /** A field of the packed tail-call immediate is out of range. */
  | 'tail_call_imm'
  /** A jump, call or callback leaves the program, or lands inside a loadImm64. */
  | 'bad_target';

export class LoweringError extends SwitchyardError<LoweringErrorCode> {}
