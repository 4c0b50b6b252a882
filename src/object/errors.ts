import { SwitchyardError } from '../errors.ts';

export type ObjectErrorCode =
  /** Not an ELF64 little-endian EM_BPF relocatable file, or its structure contradicts itself. */
  | 'bad_elf'
  | 'bad_btf'
  | 'bad_btf_ext'
  | 'bad_symbol'
  | 'bad_relocation'
  | 'unsupported_relocation'
  | 'bad_program_section'
  /** The section names a program type of the kernel that Switchyard does not run. */
  | 'unsupported_program_type'
  /** The section name is none that libbpf or Switchyard knows. */
  | 'unknown_program_section'
  | 'duplicate_name'
  | 'bad_map_definition'
  | 'unsupported_map_type'
  /** A `.kconfig` or `.ksyms` variable that nothing outside the kernel can resolve. */
  | 'unsupported_extern'
  /** A `.kconfig` variable needs a configuration, and none was given. */
  | 'kconfig_missing'
  | 'undefined_symbol'
  /** Bytes that decode to no instruction; `cause` is the IsaError. */
  | 'bad_instruction'
  | 'program_too_large'
  /** The object has CO-RE relocations and no target BTF was given. */
  | 'core_target_missing'
  | 'bad_core_relocation'
  /** Several target types fit and disagree. */
  | 'core_ambiguous'
  /** Bytes do not fit the BTF type they are to be shown as, or the type has no values. */
  | 'bad_value'
  /** A value to be encoded lacks a member of its struct, or all members of a union. */
  | 'missing_field'
  /** A value to be encoded has a field that its type does not have. */
  | 'unknown_field'
  /** A number that the type can't hold, a text or array of the wrong length. */
  | 'value_out_of_range'
  /** A string for an integer, an object for an array, an enum name that does not exist... */
  | 'wrong_value_type'
  /** Members of a union that say different things about the same bytes. */
  | 'conflicting_members';

/** Where in the object; all fields are optional and also appear in the message where they help. */
export interface ObjectErrorDetails extends Readonly<Record<string, unknown>> {
  readonly section?: string;
  readonly symbol?: string;
  /** Byte offset, in the file or in the section where one is named. */
  readonly offset?: number;
}

/** What is wrong with an object file or its BTF, or what in it cannot be supported. */
export class ObjectError extends SwitchyardError<ObjectErrorCode> {
  declare readonly details: ObjectErrorDetails;

  constructor(code: ObjectErrorCode, message: string, details: ObjectErrorDetails = {}, options?: ErrorOptions) {
    super(code, message, details, options);
  }
}
