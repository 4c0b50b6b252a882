/**
 * Every program of the kernel's tables, whatever its type, loaded as each type of ours: our verdict must be the one that
 * the running kernel gives then. Only verdicts are compared: the tables say nothing about these combinations.
 *
 * Differences are explained by the words of whoever refuses, or, where ours knows more than the kernel, by name.
 *
 * Needs what tables.test.ts needs, Linux 6.18, and the right to load programs.
 */
import { release } from 'node:os';
import { afterAll, describe, expect, test } from 'vitest';
import { ourVerdict, prepare } from './compare.ts';
import { extractTables } from './extract.ts';
import { type KernelJudge, openKernelJudge } from './kernel.ts';

const STRICT_ALIGNMENT = 1 << 1;
const TYPES = [
  ['socket_filter', 1],
  ['sched_cls', 3],
  ['sched_act', 4],
  ['xdp', 6],
  ['cgroup_skb', 8],
] as const;

/** What we refuse and the kernel accepts, by our words. */
const REFUSALS: readonly [RegExp, string][] = [
  [/^R\d+ invalid mem access 'map_ptr'/, "the kernel's struct bpf_map; there is none here"],
];
/** What we accept and the kernel refuses, by its words or by the table. */
const ACCEPTANCES: readonly [RegExp, string][] = [
  [/^missing btf func_info$/, 'the kernel runs callbacks only of programs with BTF'],
];
/** Tests that return a quotient or remainder, of which we know the range and the kernel nothing; cgroup_skb programs return 0 or 1. */
const QUOTIENTS = /^(div0|div_overflow|subreg): .*(div|mod)/i;

const tables = extractTables() ?? [];
const files = [...new Set(tables.map(({ file }) => file))];
const suitable = tables.length > 0 && release().startsWith('6.18.');
const judge: KernelJudge | undefined = suitable ? openKernelJudge() : undefined;

describe.skipIf(judge === undefined)("the kernel's tables as programs of each type", () => {
  afterAll(() => judge?.dispose());

  test.each(files)('%s', file => {
    const wrong: string[] = [];
    for (const original of tables.filter(table => table.file === file && table.filler === null)) {
      for (const [name, kernelType] of TYPES) {
        const subject = prepare({
          ...original,
          name: `${original.name} (${name})`,
          type: kernelType,
          attachType: 0,
          flags: original.flags & ~STRICT_ALIGNMENT,
        });
        if (!('code' in subject)) continue;
        const ours = ourVerdict(subject);
        if (!ours.accepted && ours.feature !== undefined) continue;
        if (!ours.accepted) {
          if (REFUSALS.some(([words]) => words.test(ours.why)) || !judge!.accepts(subject)) continue;
          wrong.push(`${subject.id}: falsely refused: ${ours.why}`);
          continue;
        }
        const theirs = judge!.refusal(subject);
        if (theirs === undefined || ACCEPTANCES.some(([words]) => words.test(theirs))) continue;
        if (QUOTIENTS.test(subject.id) && /^At program exit the register R0/.test(theirs)) continue;
        wrong.push(`${subject.id}: FALSELY ACCEPTED, the kernel says: ${theirs}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});
