/**
 * The kernel's own verifier tests as the judge of ours: each program of the tables in tools/testing/selftests/bpf/verifier
 * (Linux 6.1) that has one of our types must be accepted or refused as Linux 6.18 does, and return on both backends what
 * the tables say.
 *
 * Where 6.1's expectation is out of date, 6.18 is right: `linux-6.18.json` lists the tests on which its verdict is
 * another one. Where the tests run on 6.18 and may use bpf(2), the list is checked against it; UPDATE_VERDICTS=1 rewrites it.
 *
 * `known.json` holds what differs on purpose or for now, each with its reason: programs that we refuse and Linux
 * accepts, runs with other results, and features that are missing here. Whatever is not in it fails, and so does what is in it and no longer
 * differs. There is no entry for a program that we accept and Linux refuses. KERNEL_TABLES_REPORT=1 prints the figures by file.
 *
 * Needs gcc, xz and Debian's package linux-source-6.1: skipped without them, but a failure in CI.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRuntime, type Runtime } from '../../src/index.ts';
import { kernelFunctionId } from '../../src/kernel/kfuncs.ts';
import { ourVerdict, prepare, run, type Subject } from './compare.ts';
import { extractTables } from './extract.ts';
import { type KernelJudge, openKernelJudge } from './kernel.ts';
import { type Fate, Tallies } from './tally.ts';

const VERDICTS = join(import.meta.dirname, 'linux-6.18.json');
const KNOWN = join(import.meta.dirname, 'known.json');
/** The part of the applicable tests that must agree, and of the refusals that must be worded alike. */
const TARGET = 0.98;

/** Bytes of a program; longer ones, of nearly a million instructions, are run on one backend only, to save time. */
const HUGE = 1 << 20;

interface Verdicts {
  /** Tests that 6.1 expects to be refused. */
  readonly accepts: readonly string[];
  /** Tests that 6.1 expects to be accepted. */
  readonly refuses: readonly string[];
}
interface Known {
  readonly refusals: Readonly<Record<string, string>>;
  readonly runs: Readonly<Record<string, string>>;
  /** Features that programs of our types ask for and Switchyard lacks, with the number of tests: no more may be missing. */
  readonly missing: Readonly<Record<string, number>>;
}

const recorded = JSON.parse(readFileSync(VERDICTS, 'utf8')) as Verdicts;
const known = JSON.parse(readFileSync(KNOWN, 'utf8')) as Known;
const tables = extractTables() ?? [];
const files = [...new Set(tables.map(({ file }) => file))];

describe.skipIf(tables.length === 0)("the kernel's verifier tables", () => {
  const tallies = new Tallies();
  const found = { refusals: new Set<string>(), runs: new Set<string>() };
  const live = { accepts: [] as string[], refuses: [] as string[] };
  let runtime: Runtime;
  let judge: KernelJudge | undefined;

  beforeAll(() => {
    runtime = createRuntime();
    if (release().startsWith('6.18.')) judge = openKernelJudge();
  });
  afterAll(async () => {
    judge?.dispose();
    await runtime.dispose();
    if (process.env.KERNEL_TABLES_REPORT) console.log(tallies.report());
  });

  /** What Linux 6.18 says, live or from the record. */
  function kernelVerdict(subject: Subject): { readonly accepts: boolean; readonly words: string | undefined } {
    const { test, id } = subject;
    const expected = test.result === 'accept';
    if (judge === undefined) {
      const accepts = expected ? !recorded.refuses.includes(id) : recorded.accepts.includes(id);
      return { accepts, words: undefined };
    }
    const words = judge.refusal(subject);
    const accepts = words === undefined;
    if (accepts && !expected) live.accepts.push(id);
    if (!accepts && expected) live.refuses.push(id);
    return { accepts, words };
  }

  /** Is it a function that this kernel lacks, too? Those of the tables' own module are: no kernel has it outside of its tests. */
  function isForeign(kfunc: string): boolean {
    return judge === undefined ? kfunc.startsWith('bpf_kfunc_call_') : kernelFunctionId(kfunc) === undefined;
  }

  /** @returns what is wrong: a false acceptance, a refusal or a result that `known.json` does not explain. */
  function compare(subject: Subject): string[] {
    const { id, test } = subject;
    const count = (fate: Fate): void => tallies.count(test.file, fate);
    const ours = ourVerdict(subject);
    if (!ours.accepted && ours.kfunc !== undefined && isForeign(ours.kfunc)) {
      tallies.kernelLacks(test.file, ours.kfunc);
      return [];
    }
    const { accepts: theirs, words } = kernelVerdict(subject);
    if (!ours.accepted && ours.feature !== undefined) {
      tallies.featureMissing(test.file, ours.feature, theirs);
      return [];
    }
    if (!ours.accepted && theirs) {
      count('falselyRefused');
      found.refusals.add(id);
      return id in known.refusals ? [] : [`${id}: falsely refused: ${ours.why}`];
    }
    if (ours.accepted && !theirs) {
      count('falselyAccepted');
      return [`${id}: FALSELY ACCEPTED`];
    }
    if (!ours.accepted && words !== undefined) tallies.refused(ours.why.includes(words));
    // The tables know no results of programs that 6.1 refuses.
    if (!theirs || test.result !== 'accept') {
      count('agreed');
      return [];
    }
    const differences: string[] = [];
    const backends = subject.code.length > HUGE ? (['native'] as const) : (['native', 'interpreter'] as const);
    for (const backend of backends) {
      const result = run(subject, runtime, backend);
      if (!Array.isArray(result)) {
        tallies.featureMissing(test.file, result.missing, true);
        return [];
      }
      differences.push(...result.map(difference => `${id}: ${difference}`));
    }
    if (differences.length === 0) {
      count('agreed');
      return [];
    }
    count('runsDiffer');
    found.runs.add(id);
    return id in known.runs ? [] : differences;
  }

  test.each(files)('%s', file => {
    const wrong = tables.flatMap(test => {
      if (test.file !== file) return [];
      const subject = prepare(test);
      const foreign = test.kfuncs.map(([, name]) => name).find(isForeign);
      if ('otherType' in subject) tallies.otherType(file, subject.otherType);
      else if ('missing' in subject && foreign !== undefined) tallies.kernelLacks(file, foreign);
      else if ('missing' in subject) tallies.featureMissing(file, subject.missing, test.result === 'accept');
      else return compare(subject);
      return [];
    });
    expect(wrong).toEqual([]);
  });

  test('what is known to differ still does', () => {
    expect([...found.refusals].sort()).toEqual(Object.keys(known.refusals).sort());
    expect([...found.runs].sort()).toEqual(Object.keys(known.runs).sort());
  });

  test('no more features are missing than are known to be', () => {
    const more = [...tallies.features].filter(([name, { tests }]) => tests > (known.missing[name] ?? 0));
    expect(more).toEqual([]);
  });

  test('the recorded verdicts are those of Linux 6.18', context => {
    if (judge === undefined) return context.skip();
    if (process.env.UPDATE_VERDICTS) writeFileSync(VERDICTS, `${JSON.stringify(live, undefined, 2)}\n`);
    else expect(live).toEqual(recorded);
  });

  test("nearly all refusals have the kernel's words", context => {
    if (judge === undefined) return context.skip();
    expect(tallies.refusals).toBeGreaterThan(300);
    expect(tallies.sameWords / tallies.refusals).toBeGreaterThanOrEqual(TARGET);
  });

  test('nearly all of the applicable tests agree', () => {
    expect(tallies.applicable).toBeGreaterThan(800);
    expect(tallies.total('agreed') / tallies.applicable).toBeGreaterThanOrEqual(TARGET);
  });
});
