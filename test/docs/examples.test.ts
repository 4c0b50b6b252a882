/** What the pages show is what the examples print. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the policy example prints what docs/embedding.md says', () => {
  const printed = execFileSync(process.execPath, ['--import', 'tsx', 'examples/embedding/policy.ts'], {
    cwd: root,
    encoding: 'utf8',
  });
  const page = readFileSync(`${root}/docs/embedding.md`, 'utf8');
  const [, shown] = /<!-- policy output -->\n```text\n([\s\S]*?)```/.exec(page) ?? [];
  expect(printed).toBe(shown);
});
