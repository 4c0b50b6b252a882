/** `switchyard verify --against kernel`: both verdicts and, where they differ, both logs at the place in question. */
import { type Collection, type ProgramSpec, VerifierError, verifyProgram } from '../core.ts';
import type { KernelError, KernelJudge } from '../index.ts';
import { errorJson } from './errors.ts';
import { bold, dim, green, red } from './terminal.ts';

/** What the kernel says of a program, in JSON. */
export interface KernelOpinion {
  readonly accepted: boolean;
  readonly insnsProcessed: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly agrees: boolean;
  /** Where they differ: the instruction that one of them refused, and what each log says around it. */
  readonly difference?: { readonly insn: number | null; readonly ours: string; readonly kernel: string };
}

/** What our verdict was asked with. */
type Rules = Pick<NonNullable<Parameters<typeof verifyProgram>[2]>, 'unprivileged' | 'uninitializedStack'>;

/** Lines of a log that are shown before and after the instruction. */
const BEFORE = 10;
const AFTER = 4;

export function compare(
  judge: KernelJudge,
  spec: ProgramSpec,
  collection: Collection,
  acceptedHere: boolean,
  rules: Rules = {},
): KernelOpinion {
  const { accepted, insnsProcessed, error } = judge.judge(spec);
  const opinion = {
    accepted,
    insnsProcessed,
    error: error === undefined ? null : errorJson(error),
    agrees: accepted === acceptedHere,
  };
  if (opinion.agrees) return opinion;
  const ours = ourLog(spec, collection, rules);
  const theirs = judge.judge(spec, 2).log;
  return { ...opinion, difference: difference(ours, theirs, acceptedHere) };
}

/** The kernel's opinion of each program of an object whose maps it does not make. */
export function refusedMaps(error: KernelError, acceptedHere: boolean): KernelOpinion {
  return { accepted: false, insnsProcessed: 0, error: errorJson(error), agrees: !acceptedHere };
}

function ourLog(spec: ProgramSpec, collection: Collection, rules: Rules): string {
  try {
    return verifyProgram(spec, collection.maps, { ...rules, logLevel: 2 }).log;
  } catch (error) {
    if (error instanceof VerifierError) return error.log;
    throw error;
  }
}

interface Visit {
  readonly line: number;
  readonly insn: number;
}

/** The instructions of a log in the order in which the verifier came by. */
function visits(lines: readonly string[]): Visit[] {
  return lines.flatMap((text, line) => {
    const insn = /^(\d+): \([0-9a-f]{2}\)/.exec(text)?.[1];
    return insn === undefined ? [] : [{ line, insn: Number(insn) }];
  });
}

/** Both verifiers take the same way while they agree, so the refused visit has its like in the other log. */
function difference(ours: string, kernel: string, acceptedHere: boolean): NonNullable<KernelOpinion['difference']> {
  const [refused, accepted] = (acceptedHere ? [kernel, ours] : [ours, kernel]).map(log => log.trimEnd().split('\n'));
  const to = visits(refused!);
  const through = visits(accepted!);
  const last = to.at(-1);
  const same = to.every(({ insn }, i) => through[i]?.insn === insn);
  const like = same ? through[to.length - 1] : through.findLast(({ insn }) => insn === last?.insn);
  const end = refused!.slice(last === undefined ? -AFTER : Math.max(0, last.line - BEFORE)).join('\n');
  const around = like === undefined ? [] : accepted!.slice(Math.max(0, like.line - BEFORE), like.line + AFTER);
  const other = around.join('\n') || '(the instruction is not in this log)';
  return {
    insn: last?.insn ?? null,
    ours: acceptedHere ? other : end,
    kernel: acceptedHere ? end : other,
  };
}

export function showOpinion(opinion: KernelOpinion | null): void {
  if (opinion === null) {
    console.log('  kernel: not asked, since the program is of a type that only one of us has');
    return;
  }
  const { accepted, insnsProcessed, error, agrees, difference } = opinion;
  const verdict = accepted
    ? `${green('accepted')}, ${insnsProcessed} instructions processed`
    : `${red('rejected')}: ${error?.message}`;
  console.log(`  kernel: ${verdict}${agrees ? '' : ` ${bold('(differs)')}`}`);
  if (!difference) return;
  const where = difference.insn === null ? '' : ` at instruction ${difference.insn}`;
  for (const [title, log] of [
    ['switchyard', difference.ours],
    ['kernel', difference.kernel],
  ]) {
    console.log(dim(`  ${title}'s log${where}:`));
    for (const line of log!.split('\n')) console.log(`    ${line}`);
  }
}
