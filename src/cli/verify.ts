/** `switchyard verify`: the verifier's word on each program. */
import { type Collection, type ProgramSpec, SwitchyardError, VerifierError, verifyProgram } from '../core.ts';
import type { KernelError, KernelJudge } from '../index.ts';
import { compare, type KernelOpinion, refusedMaps, showOpinion } from './against-kernel.ts';
import { EXIT_FAILED, errorJson, exitCode, say, UsageError } from './errors.ts';
import { readObject, unsupportedError } from './files.ts';
import { bold, green, red } from './terminal.ts';

export interface VerifyOptions {
  readonly program?: string;
  readonly log?: boolean;
  readonly logLevel?: '1' | '2';
  readonly unprivileged?: boolean;
  readonly uninitializedStack?: 'refuse' | 'allow';
  readonly against?: 'kernel';
  readonly btf?: string;
  readonly json?: boolean;
}

/** One line of JSON. Program and type are null where the object could not be read, the type also where none is known. */
interface Verdict {
  readonly object: string;
  readonly program: string | null;
  readonly type: string | null;
  readonly accepted: boolean;
  readonly insnsProcessed: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly log?: string;
  /** null: a program that the kernel is not asked about, since it is of a type that only one of us has. */
  readonly kernel?: KernelOpinion | null;
}

export async function verify(paths: readonly string[], options: VerifyOptions): Promise<void> {
  const wanted = (name: string) => options.program === undefined || options.program === name;
  let unreadable = 0;
  let shown = 0;
  for (const path of paths) {
    let collection: Collection;
    try {
      collection = readObject(path, options.btf);
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      unreadable++;
      process.exitCode = Math.max(exitCode(error), Number(process.exitCode ?? 0));
      if (options.json) console.log(JSON.stringify(rejected(path, null, null, error)));
      say(error);
      continue;
    }
    const verdicts: ((judge: KernelJudge | KernelError | undefined) => Verdict)[] = [];
    for (const spec of collection.programs.values()) {
      if (!wanted(spec.name)) continue;
      verdicts.push(judge => {
        const ours = verdict(path, spec, collection, options);
        // The kernel has no raw programs.
        if (judge === undefined) return ours;
        if (spec.type === 'raw') return { ...ours, kernel: null };
        if (judge instanceof Error) return { ...ours, kernel: refusedMaps(judge, ours.accepted) };
        return { ...ours, kernel: compare(judge, spec, collection, ours.accepted, rules(options)) };
      });
    }
    for (const leftOut of collection.unsupported ?? []) {
      const type = leftOut.kernelType ?? null;
      if (!wanted(leftOut.name)) continue;
      const refusal = rejected(path, leftOut.name, type, unsupportedError(leftOut));
      verdicts.push(judge => (judge === undefined ? refusal : { ...refusal, kernel: null }));
    }
    const judge = options.against === 'kernel' && verdicts.length > 0 ? await openJudge(collection) : undefined;
    try {
      for (const decide of verdicts) {
        const result = decide(judge);
        if (!result.accepted || result.kernel?.agrees === false) process.exitCode ||= EXIT_FAILED;
        show(result, options);
        shown++;
      }
    } finally {
      if (!(judge instanceof Error)) judge?.dispose();
    }
  }
  if (shown > 0 || unreadable > 0) return;
  throw new UsageError(
    'no_such_program',
    `no program${options.program === undefined ? '' : ` is named ${options.program}`} in ${paths.join(', ')}`,
    { program: options.program },
  );
}

/** Loaded when asked for: a plain verification needs neither Linux nor a foreign function. */
async function openJudge(collection: Collection): Promise<KernelJudge | KernelError> {
  const { KernelError, KernelJudge } = await import('../index.ts');
  try {
    return new KernelJudge(collection);
  } catch (error) {
    // A verdict on the object; whatever else stands in the way is about the machine.
    if (error instanceof KernelError && error.code === 'map_refused') return error;
    throw error;
  }
}

function rules({ unprivileged = false, uninitializedStack }: VerifyOptions) {
  return { unprivileged, ...(uninitializedStack && { uninitializedStack }) };
}

function verdict(path: string, spec: ProgramSpec, collection: Collection, options: VerifyOptions): Verdict {
  const logLevel = options.log !== true ? 0 : options.logLevel === '1' ? 1 : 2;
  try {
    const verified = verifyProgram(spec, collection.maps, {
      logLevel,
      ...rules(options),
    });
    const { insnsProcessed } = verified;
    return {
      object: path,
      program: spec.name,
      type: spec.type,
      accepted: true,
      insnsProcessed,
      error: null,
      ...(logLevel > 0 && { log: verified.log }),
    };
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    const result = rejected(path, spec.name, spec.type, error);
    if (!(error instanceof VerifierError)) return result;
    return { ...result, insnsProcessed: error.insnsProcessed, ...(logLevel > 0 && { log: error.log }) };
  }
}

function rejected(object: string, program: string | null, type: string | null, error: SwitchyardError): Verdict {
  return { object, program, type, accepted: false, insnsProcessed: 0, error: errorJson(error) };
}

function show(verdict: Verdict, options: VerifyOptions): void {
  if (options.json) {
    console.log(JSON.stringify(verdict));
    return;
  }
  if (verdict.log) console.log(verdict.log.trimEnd());
  const name = `${verdict.object}: ${bold(`${verdict.program}`)} (${verdict.type ?? 'unknown type'})`;
  if (verdict.accepted) console.log(`${name} ${green('accepted')}, ${verdict.insnsProcessed} instructions processed`);
  else console.log(`${name} ${red('rejected')}: ${verdict.error?.message}`);
  if (verdict.kernel !== undefined) showOpinion(verdict.kernel);
}
