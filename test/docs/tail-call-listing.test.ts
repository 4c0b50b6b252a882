/**
 * The listing in docs/tail-calls.md is what the compiler makes. `UPDATE_GOLDEN=1` writes it anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { nativeListing } from '../../src/cli/native-listing.ts';
import { assemble, compileProgram, lowerProgram, programFromInstructions, verifyProgram } from '../../src/index.ts';
import { mapSpec } from '../runtime/build.ts';

const PAGE = new URL('../../docs/tail-calls.md', import.meta.url);
const START = '<!-- listing -->\n```text\n';
const END = '```\n<!-- end of listing -->';

/** A static site: the map is known, the index is whatever the packet's queue is. */
const PROGRAM = `
  r3 = *(u32 *)(r1 + 16)
  r2 = map[jmp_table] ll
  call 12
  r0 = 2
  exit
`;
const MAP = mapSpec({ name: 'jmp_table', type: 'prog_array', maxEntries: 64 });

async function site(tailCallMode: 'baseline' | 'cached'): Promise<string[]> {
  const maps = new Map([[MAP.name, MAP]]);
  const spec = programFromInstructions({ name: 'dispatch', type: 'xdp', insns: assemble(PROGRAM) });
  const lowered = lowerProgram(verifyProgram(spec, maps), maps, true);
  const code = compileProgram(lowered, { tailCallMode });
  const [call] = code.tailCalls;
  expect(call?.kind).toBe('static');
  return (await nativeListing(lowered, code))
    .filter(({ at }) => at >= call!.start && at < call!.end)
    .map(({ at, text }) => `${at.toString(16).padStart(3)}: ${text}`);
}

/** Both listings beside each other, instructions of the same kind in one row (longest common subsequence). */
function sideBySide(before: readonly string[], after: readonly string[]): string {
  const kind = (line: string) => line.replace(/^ *[0-9a-f]+: (\w+).*/, '$1').replace('jbe', 'jae');
  const common = before.map(() => after.map(() => 0));
  const at = (i: number, j: number) => common[i]?.[j] ?? 0;
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      const same = kind(before[i]!) === kind(after[j]!);
      common[i]![j] = same ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const rows: string[] = [];
  for (let i = 0, j = 0; i < before.length || j < after.length; ) {
    const same = i < before.length && j < after.length && kind(before[i]!) === kind(after[j]!);
    const left = same || j >= after.length || at(i + 1, j) >= at(i, j + 1);
    const right = same || !left;
    rows.push(`${(left ? before[i++]! : '').padEnd(40)}  ${right ? after[j++]! : ''}`.trimEnd());
  }
  return `${'before the series'.padEnd(40)}  with cached targets\n${rows.join('\n')}\n`;
}

test('the listing in docs/tail-calls.md is true', async () => {
  const listing = sideBySide(await site('baseline'), await site('cached'));
  // The two reads that the series removes: max_entries from the map, bpf_func from the program.
  const reads = (lines: string[]) =>
    lines.filter(line => /\[r[a-z]+(\+|\])/.test(line) && !line.includes('rbp')).length;
  expect(reads(await site('baseline')) - reads(await site('cached'))).toBe(2);
  const page = readFileSync(PAGE, 'utf8');
  const from = page.indexOf(START) + START.length;
  const to = page.indexOf(END);
  expect(from).toBeGreaterThan(START.length - 1);
  if (process.env.UPDATE_GOLDEN) writeFileSync(PAGE, page.slice(0, from) + listing + page.slice(to));
  else expect(page.slice(from, to)).toBe(listing);
});
