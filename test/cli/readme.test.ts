/** What README.md and docs/compile.md show of commands is what the commands print: every line, in order, but for times and sizes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, scratch, switchyard } from './support.ts';

interface Shown {
  readonly page: string;
  readonly command: string;
  readonly lines: readonly string[];
}

function shownIn(page: string): Shown[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  return [...text.matchAll(/^```text\n\$ npx switchyard ((?:.*\\\n)*.*)\n([\s\S]*?)^```/gm)].map(
    ([, command, lines]) => ({
      page,
      command: command!.replace(/\\\n\s*/g, '').replaceAll("'", ''),
      lines: lines!.split('\n').filter(line => line !== '' && line !== '...'),
    }),
  );
}

/** Times, and sizes that change with every step of the verifier or the compilers. */
const withoutFigures = (line: string): string =>
  line.replace(
    /[\d.]+(?= ns per packet| instructions processed| bytes, \d+ relocations)|\d+(?= relocations| bytes$)/g,
    'N',
  );

const examples = ['README.md', 'docs/compile.md']
  .flatMap(shownIn)
  // Runs without end, over files that the reader has.
  .filter(({ command, lines }) => lines.length > 0 && !command.includes('--watch'));

test('there are examples', () => {
  expect(examples.length).toBeGreaterThanOrEqual(7);
});

test.each(examples)('$page: $command', async ({ command, lines }) => {
  const args = command.split(/\s+/).map(word => (word === 'router-arm64' ? join(scratch, word) : word));
  const { code, stdout, stderr } = await switchyard(...args);
  expect([code, stderr]).toEqual([0, '']);
  const printed = stdout.replaceAll(`${scratch}/`, '').split('\n').map(withoutFigures);
  let from = 0;
  for (const line of lines.map(withoutFigures)) {
    // A line may be cut off.
    const cut = line.endsWith(' ...') ? line.slice(0, -4) : undefined;
    const at = printed.findIndex((each, i) => i >= from && (cut === undefined ? each === line : each.startsWith(cut)));
    expect(
      at,
      `${line}\nis not printed, or not there, but\n${printed.slice(from, from + 40).join('\n')}`,
    ).toBeGreaterThanOrEqual(0);
    from = at + 1;
  }
});
