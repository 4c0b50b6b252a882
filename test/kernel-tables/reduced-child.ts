/**
 * The kernel's word on the tables for a process with CAP_BPF, but without CAP_PERFMON: run by reduced.ts under setpriv. Prints
 * JSON: by test, null for accepted, or the last words of the log.
 */
import { KernelError } from '../../src/kernel/errors.ts';
import { prepare } from './compare.ts';
import { extractTables } from './extract.ts';
import { openKernelJudge } from './kernel.ts';

const SOCKET_FILTER = 1;
const CGROUP_SKB = 8;

const judge = openKernelJudge(SOCKET_FILTER)!;
const verdicts: Record<string, string | null> = {};
for (const test of extractTables() ?? []) {
  const subject = prepare(test);
  if (!('code' in subject) || (subject.kernelType !== SOCKET_FILTER && subject.kernelType !== CGROUP_SKB)) continue;
  try {
    verdicts[subject.id] = judge.refusal(subject) ?? null;
  } catch (error) {
    // Maps that need more capabilities.
    if (!(error instanceof KernelError)) throw error;
  }
}
judge.dispose();
console.log(JSON.stringify(verdicts));
