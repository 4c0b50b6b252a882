/** What wrong guesses of the processor change about verdicts, as the running kernel judges a process without CAP_PERFMON. */
import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifyProgram } from '../../src/core.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { kernelMissing } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';
import { MAPS, PROGRAMS } from './speculation-programs.ts';

interface Verdict {
  readonly name: string;
  readonly accepted: boolean;
  readonly insnsProcessed: number;
  readonly why: string;
}

function kernelVerdicts(): readonly Verdict[] | undefined {
  const setpriv = requireTool('setpriv');
  if (setpriv === undefined || kernelMissing() !== undefined || process.getuid?.() !== 0) return undefined;
  // Older ones refuse more of what is only guessed.
  if (!release().startsWith('6.18.')) return undefined;
  const child = join(import.meta.dirname, 'speculation-child.ts');
  const reduced = ['--bounding-set', '-all,+bpf', '--inh-caps', '-all,+bpf'];
  const { status, stdout, stderr } = spawnSync(setpriv, [...reduced, process.execPath, '--import', 'tsx', child], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the kernel could not be asked with CAP_BPF only: ${stderr}`);
  return JSON.parse(stdout);
}

function ours(index: number, unprivileged: boolean | 'cap_bpf'): Verdict {
  const program = PROGRAMS[index]!;
  try {
    const { insnsProcessed } = verifyProgram(program, MAPS, { unprivileged });
    return { name: program.name, accepted: true, insnsProcessed, why: '' };
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return { name: program.name, accepted: false, insnsProcessed: error.insnsProcessed, why: error.text };
  }
}

describe('wrong guesses', () => {
  const live = kernelVerdicts();

  test.skipIf(live === undefined).each(PROGRAMS.map(({ name }, index) => [name, index] as const))('%s', (_, index) => {
    const theirs = live![index]!;
    const mine = ours(index, 'cap_bpf');
    expect([mine.accepted, mine.why], theirs.why).toEqual([theirs.accepted, expect.anything()]);
    if (theirs.accepted) expect(mine.insnsProcessed).toBe(theirs.insnsProcessed);
    else if (!theirs.why.includes('old state')) expect(theirs.why).toContain(mine.why.split('\n')[0]);
  });

  test.skipIf(live === undefined)('some of them are refused, most are not', () => {
    const refused = live!.filter(({ accepted }) => !accepted).length;
    expect(refused).toBeGreaterThan(5);
    expect(refused).toBeLessThan(live!.length - 8);
  });

  test('none of it is looked at for privileged programs', () => {
    const verdicts = PROGRAMS.map((_, index) => ours(index, false));
    expect(verdicts.filter(({ accepted }) => !accepted).map(({ name }) => name)).toEqual([
      // The depth of calls is checked apart, whether they happen or not.
      'nine frames behind a wrong guess',
    ]);
  });

  test('what only a wrong guess reaches is dead to what comes after', () => {
    const index = PROGRAMS.findIndex(({ name }) => name === 'a load of no pointer behind a wrong guess');
    const { facts } = verifyProgram(PROGRAMS[index]!, MAPS, { unprivileged: 'cap_bpf' });
    const load = PROGRAMS[index]!.insns.findIndex((i, slot) => slot > 10 && i.kind === 'load' && i.size === 8);
    expect(facts.reachable[load]).toBe(0);
    expect(facts.memoryKind.get(load)).toBeUndefined();
  });

  test('the log names such paths', () => {
    const { log } = verifyProgram(PROGRAMS[0]!, MAPS, { unprivileged: 'cap_bpf', logLevel: 2 });
    expect(log).toMatch(/^from \d+ to \d+ \(speculative execution\):/m);
  });
});
