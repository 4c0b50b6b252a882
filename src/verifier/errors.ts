/** How a refusal looks to a caller. */
import { SwitchyardError } from '../errors.ts';
import type { LineInfo } from '../object/spec.ts';

/** Why a program was refused. One code per cause that a caller may want to tell apart; the kernel's text is in the message. */
export type VerifierErrorCode =
  | 'bad_program'
  | 'bad_option'
  | 'jump_out_of_range'
  | 'unreachable_instruction'
  | 'falls_off_end'
  | 'recursion'
  | 'too_many_frames'
  | 'stack_too_deep'
  | 'too_complex'
  | 'infinite_loop'
  | 'invalid_instruction'
  | 'unsupported'
  | 'uninitialized_register'
  | 'read_only_register'
  | 'invalid_pointer_arithmetic'
  | 'invalid_memory_access'
  | 'stack_out_of_bounds'
  | 'map_value_out_of_bounds'
  | 'packet_out_of_bounds'
  | 'memory_out_of_bounds'
  | 'uninitialized_stack'
  | 'misaligned_access'
  | 'invalid_context_access'
  | 'conflicting_access'
  | 'unknown_helper'
  | 'unknown_kfunc'
  | 'helper_not_allowed'
  | 'invalid_argument'
  | 'incompatible_map'
  | 'unknown_map'
  | 'too_many_maps'
  | 'invalid_return_value'
  /** Only of unprivileged programs: an address would become known, or a pointer could leave its object by speculation. */
  | 'pointer_leak'
  /** Only of unprivileged programs: a feature that needs CAP_BPF. */
  | 'not_permitted'
  | 'unreleased_reference'
  | 'bad_lock_use';

/** The kernel's error number for the same refusal. */
export type Errno =
  | 'EACCES'
  | 'EINVAL'
  | 'E2BIG'
  | 'EPERM'
  | 'EFAULT'
  | 'EOPNOTSUPP'
  | 'ENOTSUPP'
  | 'EBADF'
  | 'EBUSY'
  | 'ELOOP'
  | 'ERANGE';

export interface VerifierErrorFacts {
  readonly program: string;
  /** Slot of the offending instruction; undefined where the program as a whole is at fault. */
  readonly insn: number | undefined;
  readonly line: LineInfo | undefined;
  /**
   * Registers and stack at the instruction in the kernel's notation, empty where none exist. At log level 0 a register that nothing on the path
   * reads any more may be missing, or be told less of.
   */
  readonly state: string;
  readonly errno: Errno;
  /** Kernel-style log up to the refusal; holds the error text even at log level 0. */
  readonly log: string;
  readonly insnsProcessed: number;
  /** The kernel's words. */
  readonly text: string;
  /** One line of ours: what to do. */
  readonly hint: string;
}

/** A program that could not be proved safe. */
export class VerifierError extends SwitchyardError<VerifierErrorCode> {
  readonly program: string;
  readonly insn: number | undefined;
  readonly line: LineInfo | undefined;
  readonly state: string;
  readonly errno: Errno;
  readonly log: string;
  readonly insnsProcessed: number;
  /** The refusal in the kernel's words, without place. */
  readonly text: string;
  readonly hint: string;

  constructor(code: VerifierErrorCode, facts: VerifierErrorFacts) {
    const where = [
      facts.insn === undefined ? undefined : `insn ${facts.insn}`,
      facts.line === undefined ? undefined : `${facts.line.file}:${facts.line.line}`,
    ].filter(part => part !== undefined);
    super(code, `${facts.text}${where.length > 0 ? ` (${where.join(', ')})` : ''}\n${facts.hint}`, { ...facts });
    this.program = facts.program;
    this.insn = facts.insn;
    this.line = facts.line;
    this.state = facts.state;
    this.errno = facts.errno;
    this.log = facts.log;
    this.insnsProcessed = facts.insnsProcessed;
    this.text = facts.text;
    this.hint = facts.hint;
  }
}

/** What to do, by cause, where the place of the refusal has no better advice. */
export const HINTS: Readonly<Record<VerifierErrorCode, string>> = {
  bad_program: 'Check how the program was made: a program is a non-empty list of decoded instructions.',
  bad_option: 'Correct the option given to verify().',
  jump_out_of_range: 'Jump only to an instruction of the same function.',
  unreachable_instruction: 'Remove the instruction, or make some path lead to it.',
  falls_off_end: 'End every function with exit or an unconditional jump.',
  recursion: 'BPF functions may not call themselves, directly or through others; use a loop or bpf_loop.',
  too_many_frames: 'Flatten the call chain to at most 8 frames, for instance with __always_inline.',
  stack_too_deep: 'Move large buffers into a per-CPU array map, or make fewer nested calls.',
  too_complex: 'Simplify branches inside loops, or move the loop body into bpf_loop or a global function.',
  infinite_loop: 'Give the loop a bound that the verifier can see: a counter compared with a constant.',
  invalid_instruction: 'The instruction is not legal for this program type.',
  unsupported: 'Switchyard does not support this feature; build the program without it.',
  uninitialized_register: 'Write the register on every path before it is read; calls clobber r0-r5.',
  read_only_register: 'r10 is the frame pointer; copy it to another register and change the copy.',
  invalid_pointer_arithmetic: 'Only add and subtract bounded scalars to pointers that allow it.',
  invalid_memory_access: 'Dereference only pointers whose kind is known; check pointers that may be null first.',
  stack_out_of_bounds: 'A frame holds 512 bytes below r10; keep offsets within it.',
  map_value_out_of_bounds: 'Compare the offset with the value size before the access.',
  packet_out_of_bounds: 'Compare the pointer plus the access size with data_end before the access.',
  memory_out_of_bounds: 'Compare the offset plus the access size with the size of the memory before the access.',
  uninitialized_stack: 'Initialise the stack bytes on every path before they are read.',
  misaligned_access: 'Align the access to its size.',
  invalid_context_access:
    'This context field cannot be accessed so by this program type; see docs of the context structure.',
  conflicting_access: 'Split the instruction so that each path has its own load or store.',
  unknown_helper: 'This helper is not provided.',
  unknown_kfunc: 'This kernel function is not provided.',
  helper_not_allowed: 'Use a program type or licence that may call the helper.',
  invalid_argument: "Pass what the helper's signature asks for.",
  incompatible_map: 'Use a map type that the helper works on.',
  unknown_map: 'Give every map that the program names to verify().',
  too_many_maps: 'A program may refer to at most 64 maps.',
  pointer_leak:
    'Unprivileged programs must keep addresses out of what others can read, and pointers within their object.',
  not_permitted: 'Verify as privileged, or do without.',
  invalid_return_value: 'Return a value in the range that the program type allows.',
  bad_lock_use: 'Hold one lock at a time, call nothing while it is held, and give it back before the program ends.',
  unreleased_reference: 'Give back what the program acquired, on every path.',
};
