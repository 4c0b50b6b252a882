/** How a command ends: 0, 1 for a program that was rejected or a run that failed, 2 for bad usage or bad input. */
import { SwitchyardError } from '../core.ts';

export class UsageError extends SwitchyardError<
  | 'bad_usage'
  | 'unreadable_file'
  | 'unwritable_file'
  | 'unsupported_program_type'
  | 'unknown_program_section'
  | 'no_such_program'
  | 'build_failed'
  | 'would_miss'
> {}

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** Codes of errors that the caller's words or files are to blame for, by error class. */
const INPUT_CLASSES = new Set(['UsageError', 'ObjectError', 'CaptureError', 'IsaError', 'AsmError']);
const INPUT_CODES = new Set(['bad_argument', 'no_such_program', 'no_such_map', 'index_out_of_range']);

export function exitCode(error: unknown): number {
  if (!(error instanceof SwitchyardError)) return EXIT_FAILED;
  return INPUT_CLASSES.has(error.name) || INPUT_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
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
