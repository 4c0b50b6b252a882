/** How a command ends: 0, 1 for a program that was rejected or a run that failed, 2 for bad usage or bad input. */
import { SwitchyardError } from '../core.ts';

export class UsageError extends SwitchyardError<
  | 'bad_usage'
  | 'unreadable_file'
  | 'unwritable_file'
  | 'unsupported_program_type'
  | 'unknown_program_section'
  | 'no_such_program'
  /** A file that `--save-maps` did not write, or not for this object. */
  | 'bad_snapshot'
  /** Nobody listens at the path of `--control`, or something else does. */
  | 'no_control'
  /** `map get`, `map delete`: an answer, not a mistake. */
  | 'no_such_key'
  | 'build_failed'
  | 'would_miss'
> {}

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** Codes of errors that the caller's words or files are to blame for, by error class. */
const INPUT_CLASSES = new Set(['UsageError', 'ObjectError', 'CaptureError', 'IsaError', 'AsmError']);
const ANSWERS = new Set(['no_such_key', 'no_control']);
const INPUT_CODES = new Set(['bad_argument', 'bad_choice', 'no_such_program', 'no_such_map', 'index_out_of_range']);

export function exitCode(error: unknown): number {
  if (!(error instanceof SwitchyardError) || ANSWERS.has(error.code)) return EXIT_FAILED;
  if (error instanceof RemoteError) return error.exitCode;
  return INPUT_CLASSES.has(error.name) || INPUT_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
}

/** What a run said through its control socket, with the code it has there. */
export class RemoteError extends SwitchyardError {
  readonly exitCode: number;

  constructor(code: string, message: string, exit: number) {
    super(code, message);
    this.exitCode = exit;
  }
}

/** For `--json`: `{"error": {"code", "message"}}`. */
export function errorJson(error: unknown): { code: string; message: string } {
  if (error instanceof SwitchyardError) return { code: error.code, message: error.message };
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
}

/** Reports an error and sets the exit code. Only an error that is not ours (a bug) shows a stack. */
export function report(error: unknown, json: boolean): void {
  if (json) console.log(JSON.stringify({ error: errorJson(error) }));
  say(error);
  process.exitCode = exitCode(error);
}

/** Text of an error on standard error. */
export function say(error: unknown): void {
  if (error instanceof SwitchyardError) console.error(`switchyard: ${error.message}`);
  else console.error(error);
}
