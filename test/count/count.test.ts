/** The counts that the documentation shows are what is counted. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { emulatorAvailable } from '../unicorn.ts';
import { countHops } from './hops.ts';

describe.skipIf(!emulatorAvailable)('one hop', () => {
  const counts = emulatorAvailable ? countHops() : [];
  const of = (arch: string, site: string, mode: string) =>
    counts.find(count => count.arch === arch && count.site === site && count.mode === mode)!;

  test.each(['x64', 'arm64'])('%s: cached targets take two loads from static sites, and nothing else', arch => {
    const before = of(arch, 'static', 'baseline');
    const after = of(arch, 'static', 'cached');
    expect(before.loads - after.loads).toBe(2);
    expect(after.stores).toBe(before.stores);
    expect(after.instructions).toBeLessThan(before.instructions);
    for (const site of ['direct', 'dynamic']) {
      expect({ ...of(arch, site, 'cached'), mode: '' }).toEqual({ ...of(arch, site, 'baseline'), mode: '' });
    }
  });

  test.each(['x64', 'arm64'])('%s: a hop of mode fast writes nothing, and reads its target alone', arch => {
    for (const [site, loads] of [
      ['direct', 0],
      ['static', 1],
      ['dynamic', 2],
    ] as const) {
      expect(of(arch, site, 'fast')).toMatchObject({ loads, stores: 0 });
    }
    // Where empty slots lead to a stub nobody looks at the slot, or else at least one instruction is more.
    for (const site of ['static', 'dynamic']) {
      const [stub, test] = [of(arch, site, 'fast'), of(arch, site, 'fast, slots tested')];
      if (arch === 'x64') expect(stub.instructions).toBeLessThan(test.instructions);
      else expect(stub.instructions).toBe(test.instructions);
    }
  });

  test('npm run count -- --json prints them for machines', () => {
    const main = fileURLToPath(new URL('main.ts', import.meta.url));
    const printed = execFileSync(process.execPath, ['--import', 'tsx', main, '--json'], { encoding: 'utf8' });
    const rows: object[] = JSON.parse(printed);
    expect(rows).toEqual(counts);
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(['arch', 'site', 'mode', 'instructions', 'loads', 'stores']);
    }
  });

  test.each([
    ['README.md', ['baseline', 'cached', 'fast']],
    ['docs/arm64.md', ['baseline', 'cached', 'fast', 'fast, slots tested', 'fast, index proved']],
  ])('the table in %s is what was counted', (file, modes) => {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
    const rows = [...text.matchAll(/^\| (x64|arm64) \| (\w+) \| ([\w, ]+) \| (\d+) \| (\d+) \| (\d+) \|$/gm)];
    expect(
      rows.map(([, arch, site, mode, instructions, loads, stores]) => ({
        arch,
        site,
        mode,
        instructions: Number(instructions),
        loads: Number(loads),
        stores: Number(stores),
      })),
    ).toEqual(counts.filter(({ mode }) => modes.includes(mode)));
  });
});
