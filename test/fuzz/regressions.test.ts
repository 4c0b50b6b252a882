/**
 * What the fuzzer found and shrank (`npm run fuzz` writes the files): nothing may be wrong with it any more, or it is explained. Files of
 * fixed findings stay.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { explain } from '../../fuzz/explain.ts';
import { generate } from '../../fuzz/generator.ts';
import { Judge, type Subject } from '../../fuzz/judge.ts';
import { shrink } from '../../fuzz/shrink.ts';

const DIRECTORY = join(import.meta.dirname, 'regressions');
const PROGRAMS = 60;

let judge: Judge;
beforeAll(() => {
  judge = new Judge();
});
afterAll(() => judge.dispose());

const files = (existsSync(DIRECTORY) ? readdirSync(DIRECTORY) : []).filter(name => name.endsWith('.txt'));
test.skipIf(files.length === 0).each(files)('%s', name => {
  const content = readFileSync(join(DIRECTORY, name), 'utf8');
  const [, type, seed] = /^# type (\w+), seed (\d+)$/m.exec(content)!;
  const text = content.replace(/^#.*\n/gm, '').trim();
  const subject: Subject = { type: type as Subject['type'], text, seed: Number(seed) };
  const { ours, kernel, wrong, detail } = judge.judge(subject)!;
  if (name.startsWith('refused-here-only')) expect(ours).toBe(kernel ?? ours);
  if (wrong !== 'accepted here only') expect(wrong, detail).toBeUndefined();
  else {
    expect(explain(subject), detail).toBeDefined();
    expect(judge.sample(subject, () => true)).toBeUndefined();
  }
});

test(`${PROGRAMS} programs of the generator: a good part is accepted, a good part refused, nothing differs`, () => {
  let accepted = 0;
  for (let seed = 1; seed <= PROGRAMS; seed++) {
    const { ours, wrong, detail } = judge.judge({ ...generate(seed), seed })!;
    if (ours) accepted++;
    // What is accepted here only is `npm run fuzz`'s to explain.
    if (wrong !== 'accepted here only') expect(wrong, `seed ${seed}: ${detail}`).toBeUndefined();
  }
  expect(accepted).toBeGreaterThan(PROGRAMS / 5);
  expect(accepted).toBeLessThan((PROGRAMS * 4) / 5);
});

test('the same seed gives the same program', () => {
  expect(generate(42)).toEqual(generate(42));
  expect(generate(42)).not.toEqual(generate(43));
});

test('shrinking keeps what matters and nothing else', () => {
  const lines = Array.from({ length: 40 }, (_, i) => `r0 = ${i}`);
  const stillWrong = (text: string): boolean => text.includes('r0 = 7\n') && text.includes('r0 = 23\n');
  expect(shrink([...lines, 'exit'].join('\n'), text => stillWrong(`${text}\n`))).toBe('r0 = 7\nr0 = 23');
});
