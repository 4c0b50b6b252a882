/** `switchyard verify`: the verifier's word on each program. */
import { SwitchyardError, VerifierError, verifyProgram } from '../index.ts';
import { EXIT_FAILED, EXIT_USAGE, errorJson, exitCode, UsageError } from './errors.ts';
import { readObject } from './files.ts';
import { bold, green, red } from './terminal.ts';

export interface VerifyOptions {
  readonly program?: string;
  readonly log?: boolean;
  readonly btf?: string;
  readonly json?: boolean;
}

interface Verdict {
  readonly object: string;
  readonly program: string | null;
  readonly type: string | null;
  readonly accepted: boolean;
  readonly insnsProcessed: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly log?: string;
}

export function verifyCommand(paths: readonly string[], options: VerifyOptions): void {
  let worst = 0;
  let matched = options.program === undefined;
  for (const path of paths) {
    try {
      const collection = readObject(path, options.btf);
      for (const spec of collection.programs.values()) {
        if (options.program !== undefined && spec.name !== options.program) continue;
        matched = true;
        let verdict: Verdict = {
          object: path,
          program: spec.name,
          type: spec.type,
          accepted: true,
          insnsProcessed: 0,
          error: null,
        };
        try {
          const verified = verifyProgram(spec, collection.maps, { logLevel: options.log ? 1 : 0 });
          verdict = {
            ...verdict,
            insnsProcessed: verified.insnsProcessed,
            ...(options.log ? { log: verified.log } : {}),
          };
        } catch (error) {
          if (!(error instanceof SwitchyardError)) throw error;
          worst = Math.max(worst, EXIT_FAILED);
          const rejected = error instanceof VerifierError ? error : undefined;
          verdict = {
            ...verdict,
            accepted: false,
            insnsProcessed: rejected?.insnsProcessed ?? 0,
            error: errorJson(error),
            ...(options.log && rejected ? { log: rejected.log } : {}),
          };
        }
        show(verdict, options);
      }
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      worst = Math.max(worst, exitCode(error));
      show(
        { object: path, program: null, type: null, accepted: false, insnsProcessed: 0, error: errorJson(error) },
        options,
      );
    }
  }
  if (!matched && worst < EXIT_USAGE) {
    throw new UsageError('bad_usage', `no program is named ${options.program} in ${paths.join(', ')}`, {
      program: options.program,
    });
  }
  process.exitCode = worst;
}

function show(verdict: Verdict, options: VerifyOptions): void {
  if (options.json) {
    console.log(JSON.stringify(verdict));
    return;
  }
  if (verdict.log) console.log(verdict.log.trimEnd());
  const name =
    verdict.program === null ? verdict.object : `${verdict.object}: ${bold(verdict.program)} (${verdict.type})`;
  if (verdict.accepted) console.log(`${name} ${green('accepted')}, ${verdict.insnsProcessed} instructions processed`);
  else console.log(`${name} ${red('rejected')}: ${verdict.error?.message}`);
}
