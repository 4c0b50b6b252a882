import { describe } from '../arguments.ts';
import { SwitchyardError } from '../errors.ts';

export type RuntimeErrorCode =
  /** No native backend on this operating system, processor or Node build. */
  | 'unsupported_platform'
  /** The operating system refused a mapping or a system call; `errno` says why. */
  | 'os_refused'
  /** The code region is full. */
  | 'out_of_code_memory'
  /** A name that the object does not define. */
  | 'no_such_program'
  | 'no_such_map'
  /** The handle was disposed, or its runtime was. */
  | 'disposed'
  /** A run was asked for while the thing is busy: dispose during a run, too many workers. */
  | 'busy'
  /** Packet, memory or option out of range; the message names it. */
  | 'bad_argument'
  /** A map's initial contents name something that cannot be stored there. */
  | 'bad_initial_contents'
  /** A strict transaction would leave a slot empty that a tail call could use; `details.sites` says which. */
  | 'would_miss'
  /** A service (host function) threw while a program ran. */
  | 'service_failed'
  /** Internal: an object refers to a routine or service that does not exist. */
  | 'missing_symbol';

export class RuntimeError extends SwitchyardError<RuntimeErrorCode> {}

/** What a run ends with when a host function threw. */
export function serviceFailed(cause: unknown): RuntimeError {
  return new RuntimeError('service_failed', `a host function threw during the run: ${describe(cause)}`, {}, { cause });
}
