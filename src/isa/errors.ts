import { SwitchyardError } from '../errors.ts';

export type IsaErrorCode =
  /** The bytes do not end at an instruction's end. */
  | 'truncated_program'
  | 'unknown_opcode'
  /** A field that the instruction does not use is not zero. */
  | 'reserved_field'
  | 'invalid_register'
  | 'invalid_load_imm64'
  | 'invalid_atomic'
  /** An instruction that exists only inside Switchyard, or a reference by name, has no wire form. */
  | 'not_encodable'
  /** A field of an instruction to encode, or a number in assembly text, does not fit. */
  | 'out_of_range'
  | 'assembly_syntax'
  | 'unknown_label'
  | 'duplicate_label';

/**
 * An instruction or a piece of assembly text that is not valid BPF.
 *
 * `details`: from the codec `{insn, opcode, bytes}` (slot number, opcode byte, the slot's 8 bytes in hexadecimal), from
 * the assembler `{line, column, expected, found}` (counted from 1). The message carries the kernel's wording where the
 * kernel has one.
 */
export class IsaError extends SwitchyardError<IsaErrorCode> {}
