import { SwitchyardError } from '../../errors.ts';

export type CompileErrorCode =
  /** An instruction that lowering must have replaced reached the compiler, or its fields contradict each other. */
  | 'unsupported_instruction'
  /** A jump, call or callback reference does not name the first slot of an instruction. */
  | 'bad_target'
  /** Subprogram ranges, slots or tables of the `Lowered` contradict each other. */
  | 'bad_input'
  /** A tail-call choice that there isn't, or that the mode does not leave open. */
  | 'bad_choice'
  /** More code than the compiler may produce. */
  | 'code_too_large'
  /** A check of the compiler on its own output failed: a defect in Switchyard. */
  | 'internal';

/** A lowered program cannot be compiled. `details.insn` is the slot, where there is one. */
export class CompileError extends SwitchyardError<CompileErrorCode> {}
