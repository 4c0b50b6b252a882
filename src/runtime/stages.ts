/** The road of one program from specification to machine code, step by step, without running anything. */
import { HELPERS, helperRoutine } from '../helpers/table.ts';
import type { Code, TailCallMode } from '../jit/shared/code.ts';
import { x64Machine } from '../jit/x64/machine.ts';
import { lower } from '../lowering/lower.ts';
import type { Lowered } from '../lowering/lowered.ts';
import type { MapSpec, ProgramSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import { verify } from '../verifier/verify.ts';

export interface VerifyProgramOptions {
  /** Detail of the log, as in the kernel; default 0. */
  readonly logLevel?: 0 | 1 | 2;
  /** Raw programs: size of the memory they run on, bytes; default: anything, to be compared with r2 by the program. */
  readonly memorySize?: { readonly min: number; readonly max: number };
}

/**
 * Verifies a program against the helpers this runtime has.
 * @param maps the maps it may refer to, by name
 * @throws VerifierError
 */
export function verifyProgram(
  spec: ProgramSpec,
  maps: ReadonlyMap<string, MapSpec>,
  options: VerifyProgramOptions = {},
): Verified {
  return verify(spec, { maps, helpers: HELPERS, ...options });
}

/**
 * @param pokes give a poke descriptor to each tail call site whose map and index are known
 * @throws LoweringError
 */
export function lowerProgram(verified: Verified, maps: ReadonlyMap<string, MapSpec>, pokes: boolean): Lowered {
  return lower(verified, { maps, helperRoutine, pokes });
}

export interface CompileProgramOptions {
  /** Default "cached". */
  readonly tailCallMode?: TailCallMode;
  /** Default true. */
  readonly pokes?: boolean;
}

/** Compiles a lowered program for x86-64, on any machine. @throws CompileError */
export function compileProgram(lowered: Lowered, options: CompileProgramOptions = {}): Code {
  return x64Machine.compile(lowered, {
    kind: 'program',
    tailCallMode: options.tailCallMode ?? 'cached',
    pokes: options.pokes !== false,
  });
}
