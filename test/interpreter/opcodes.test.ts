import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Op } from '../../src/interpreter/opcodes.ts';

test('the numbers of the dispatch loop are those of Op, all of them, each once', () => {
  const source = readFileSync(new URL('../../src/interpreter/execution.ts', import.meta.url), 'utf8');
  const labels = [...source.matchAll(/case (\d+):(?: \{)?\s+\/\/ (\w+)$/gm)].map(m => [m[2], Number(m[1])] as const);
  const { trap: _, ...dispatched } = Op; // the trap is the default case
  expect(Object.fromEntries(labels)).toEqual(dispatched);
  expect(labels).toHaveLength(Object.keys(dispatched).length);
  expect([...source.matchAll(/^\s+case /gm)]).toHaveLength(labels.length);
});
