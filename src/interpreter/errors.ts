/** Errors of the interpreter room. */
import { SwitchyardError } from '../errors.ts';

export type InterpreterErrorCode =
  /** A load, store or atomic outside the arena. Details: program, insn, address, size. */
  | 'memory_out_of_bounds'
  /** An atomic operation on an address that is no multiple of its size. */
  | 'misaligned_atomic'
  /** An instruction that lowering should have replaced, or that no backend runs. */
  | 'not_lowered'
  /** A jump or call that leaves the program or lands inside a loadImm64. */
  | 'bad_target'
  /** Execution reached the end of the program, or the second slot of a loadImm64. */
  | 'fell_through'
  /** callIndirect through an address that is no BPF function. */
  | 'bad_call_target'
  /** A prog array slot names a program that the environment does not know. */
  | 'unknown_program'
  /** A program refers to a used map for which the environment gave no address. */
  | 'unknown_map'
  /** Frames need more than the stack region, or nest too deeply. */
  | 'stack_overflow'
  /** More than five arguments, or ones that are no u64. */
  | 'bad_argument'
  /** `options.stop` answered true. */
  | 'stopped';

export class InterpreterError extends SwitchyardError<InterpreterErrorCode> {}
