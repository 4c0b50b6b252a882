/** What clang makes of ordinary C is accepted, by us as by the kernel. */
import { describe, expect, it } from 'vitest';
import { verify } from '../../src/verifier/verify.ts';
import { compile } from '../clang.ts';
import { openJudge } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';
import { OPTIONS } from './support.ts';

const SOURCE = new URL('programs.c', import.meta.url);
const COMPILERS = [
  ['clang-14', 'v1'],
  ['clang-14', 'v2'],
  ['clang-14', 'v3'],
  ['clang-22', 'v3'],
  ['clang-22', 'v4'],
] as const;
describe.each(COMPILERS)('%s -mcpu=%s', (compiler, cpu) => {
  const clang = requireTool(compiler);
  it.skipIf(clang === undefined)('every program is accepted', () => {
    const collection = compile(SOURCE, { cpu, compiler: clang });
    const { programs, maps } = collection;
    expect(programs.size).toBe(11);
    for (const program of programs.values()) {
      const { insnsProcessed, facts } = verify(program, { ...OPTIONS, maps });
      expect(insnsProcessed, program.name).toBeLessThan(6000);
      expect(facts.tailCalls.length).toBe(program.name === 'parse' ? 1 : 0);
      const judge = openJudge(maps, collection);
      if (judge === undefined) continue;
      const { accepted, log } = judge.judge(program);
      expect(accepted, `${program.name}: ${log.slice(-500)}`).toBe(true);
      judge.dispose();
    }
  });
});
