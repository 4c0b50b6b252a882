import { SwitchyardError } from '../errors.ts';

export type KernelErrorCode =
  /** Not Linux, or a processor whose system call numbers are not known here. */
  | 'unsupported_platform'
  /** EPERM: a capability is missing, or a seccomp filter stands before bpf(2). */
  | 'not_permitted'
  /** ENOSYS: the kernel was built without bpf(2), or this is no Linux kernel at all. */
  | 'no_bpf'
  /** EPERM although privileged: the kernel is locked down. */
  | 'lockdown'
  /** EPERM although privileged, before Linux 5.11: the limit of locked memory counts BPF memory. */
  | 'memlock'
  /** BPF_MAP_CREATE refused the specification. */
  | 'map_refused'
  /** BPF_PROG_LOAD refused the program; `log` says why. */
  | 'program_refused'
  /** BPF_BTF_LOAD refused the types; `log` says why. */
  | 'btf_refused'
  /** An access to a map failed; `errno` is the kernel's answer. */
  | 'map_access_failed'
  /** BPF_PROG_TEST_RUN failed: mostly a packet that the kernel does not run this type of program on. */
  | 'run_failed'
  /** BPF_OBJ_GET_INFO_BY_FD failed. */
  | 'info_failed'
  /** A program of a type that the kernel does not have (raw), or an instruction that only Switchyard has. */
  | 'unsupported_program'
  /** A name that the object does not define. */
  | 'no_such_program'
  | 'no_such_map'
  /** A map's initial contents name something that cannot be stored there. */
  | 'bad_initial_contents'
  /** Key, value, packet or option of the wrong size or range; the message names it. */
  | 'bad_argument'
  /** Any use after dispose(). */
  | 'disposed';

/** What the kernel, or this machine, has against a request. */
export class KernelError extends SwitchyardError<KernelErrorCode> {
  /** Name of the errno, e.g. "EACCES"; undefined where no system call failed. */
  readonly errno: string | undefined;
  /** The kernel's log: of the verifier, or of the BTF check. Empty where there is none. */
  readonly log: string;

  constructor(
    code: KernelErrorCode,
    message: string,
    facts: Readonly<Record<string, unknown>> & { readonly errno?: string; readonly log?: string } = {},
    options?: ErrorOptions,
  ) {
    super(code, message, facts, options);
    this.errno = facts.errno;
    this.log = facts.log ?? '';
  }
}
