/**
 * The kernel's tables by the rules for users without privileges, twice:
 * - as the running kernel judges a process with CAP_BPF but without CAP_PERFMON (a child process asks it);
 * - as Linux 6.1's tables expect it of users without any capability.
 *
 * Only program types that such users may load: socket_filter and cgroup_skb. Whatever is refused there must be refused here.
 */
import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { requireTool } from '../tools.ts';
import { ourVerdict, prepare, type Subject } from './compare.ts';
import { extractTables } from './extract.ts';

const TYPES: ReadonlySet<number> = new Set([1, 8]);
const SUBJECTS: readonly Subject[] = (extractTables() ?? []).flatMap(table => {
  const subject = prepare(table);
  return 'code' in subject && TYPES.has(subject.kernelType) && table.filler === null ? [subject] : [];
});

/** We refuse and the kernel accepts, by our words. */
const REFUSALS: readonly [RegExp, string][] = [
  [/^R\d+ invalid mem access 'map_ptr'/, "the kernel's struct bpf_map; there is none here"],
];
/** We accept and the kernel refuses, by its words. */
const ACCEPTANCES: readonly [RegExp, string][] = [
  [/^missing btf func_info$/, 'the kernel runs callbacks only of programs with BTF'],
];

/** Refusals that CAP_BPF alone would have prevented. */
const OF_BPF = /back-edge|CAP_BPF|function calls|loading\/calling|invalid bpf_context/;

/** By test, null or the last words of the log, of a process with CAP_BPF only. */
function kernelVerdicts(): Readonly<Record<string, string | null>> | undefined {
  const setpriv = requireTool('setpriv');
  if (setpriv === undefined || process.platform !== 'linux' || !release().startsWith('6.18.')) return undefined;
  if (process.getuid?.() !== 0) return undefined;
  const child = join(import.meta.dirname, 'reduced-child.ts');
  const reduced = ['--bounding-set', '-all,+bpf', '--inh-caps', '-all,+bpf'];
  const { status, stdout, stderr } = spawnSync(setpriv, [...reduced, process.execPath, '--import', 'tsx', child], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`the kernel could not be asked with CAP_BPF only: ${stderr}`);
  return JSON.parse(stdout);
}

describe.skipIf(SUBJECTS.length === 0)('tables without privileges', () => {
  const live = SUBJECTS.length === 0 ? undefined : kernelVerdicts();

  test.skipIf(live === undefined)('with CAP_BPF only: the verdicts of the running kernel', () => {
    const wrong: string[] = [];
    let compared = 0;
    let refusals = 0;
    let sameWords = 0;
    for (const subject of SUBJECTS) {
      const theirs = live![subject.id];
      if (theirs === undefined) continue;
      const ours = ourVerdict(subject, 'cap_bpf');
      if (!ours.accepted && ours.feature !== undefined) continue;
      compared++;
      if (!ours.accepted && theirs !== null) {
        refusals++;
        if (ours.why.includes(theirs)) sameWords++;
        else if (process.env.KERNEL_TABLES_REPORT) console.log(`${subject.id}: ${ours.why} | ${theirs}`);
      } else if (!ours.accepted && theirs === null && !REFUSALS.some(([words]) => words.test(ours.why)))
        wrong.push(`${subject.id}: falsely refused: ${ours.why}`);
      else if (ours.accepted && theirs !== null && !ACCEPTANCES.some(([words]) => words.test(theirs)))
        wrong.push(`${subject.id}: FALSELY ACCEPTED: ${theirs}`);
    }
    if (process.env.KERNEL_TABLES_REPORT)
      console.log(`${compared} compared, ${sameWords} of ${refusals} in the same words`);
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(500);
    expect(sameWords / refusals).toBeGreaterThan(0.95);
  });

  test.skipIf(live === undefined)("without any: what Linux 6.1's tables expect to be refused is refused", () => {
    const wrong: string[] = [];
    const refusedHereOnly: string[] = [];
    let compared = 0;
    for (const subject of SUBJECTS) {
      const { resultUnprivileged, result } = subject.test;
      const refused = (resultUnprivileged === 'undefined' ? result : resultUnprivileged) === 'reject';
      const ours = ourVerdict(subject, true);
      if (!ours.accepted && ours.feature !== undefined) continue;
      compared++;
      // Since 6.17 the kernel inserts barriers where 6.1 refused what a wrong guess of the processor could do.
      const outdated = live![subject.id] === null && !OF_BPF.test(subject.test.errorUnprivileged ?? '');
      if (refused && ours.accepted && !outdated) wrong.push(subject.id);
      if (!refused && !ours.accepted) refusedHereOnly.push(`${subject.id}: ${ours.why}`);
    }
    if (process.env.KERNEL_TABLES_REPORT)
      console.log(`${compared} compared; accepted there, refused here:\n${refusedHereOnly.join('\n')}`);
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(500);
    expect(refusedHereOnly.length).toBeLessThan(10);
  });
});
