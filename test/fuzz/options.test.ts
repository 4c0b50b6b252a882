/** The fuzzer's command line: what is mistyped is refused, and never a run with other numbers. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

function fuzz(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['--import', 'tsx', join(ROOT, 'fuzz/main.ts'), ...args], {
    cwd: ROOT,
    encoding: 'utf8',
  });
}

test.each([
  ['--minutes', 'soon'],
  ['--minutes', '-1'],
  ['--minutes', 'Infinity'],
  ['--minutes'],
  ['--minutes', '0', '--seed'],
  ['--minutes', '0', '--seed', '1.5'],
  ['--minutes', '0', '--seed', '1e300'],
  ['--minutes', '0', '--sed', '5'],
  ['--minutes', '0', '5'],
])('%s %s %s %s', (...args) => {
  const { status, stdout, stderr } = fuzz(...args);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(/^error: /);
  expect(stderr).not.toContain('    at ');
});

test('--help says what there is', () => {
  const { status, stdout } = fuzz('--help');
  expect(status).toBe(0);
  expect(stdout).toMatch(/--minutes <n>.*--seed <n>/s);
});

test('one program, of the seed that is given, and the counts', () => {
  const { status, stdout } = fuzz('--minutes', '0', '--seed', '7');
  expect(status).toBe(0);
  expect(stdout).toMatch(/^seed 7, 0 minutes\n/);
  expect(stdout).toMatch(/^1 programs from seed 7 on/m);
  const counts = [
    ...stdout.matchAll(
      /^ +(\d+) (?:accepted by both|refused by both|refused here only|accepted here only|not shown|left out)/gm,
    ),
  ];
  expect(counts.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(1);
});
