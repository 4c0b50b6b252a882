/** What clang makes of ordinary C is accepted, by us as by the kernel. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseObject } from '../../src/object/parse.ts';
import { verify } from '../../src/verifier/verify.ts';
import { openJudge } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';
import { OPTIONS } from './support.ts';

const SOURCE = fileURLToPath(new URL('programs.c', import.meta.url));
const COMPILERS = [
  ['clang-14', 'v1'],
  ['clang-14', 'v2'],
  ['clang-14', 'v3'],
  ['clang-22', 'v3'],
  ['clang-22', 'v4'],
] as const;
function compile(clang: string, cpu: string): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'switchyard-'));
  const output = join(directory, 'programs.o');
  const headers = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  try {
    execFileSync(clang, ['-O2', '-g', '-target', 'bpf', `-mcpu=${cpu}`, `-I${headers}`, '-c', SOURCE, '-o', output]);
    return readFileSync(output);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe.each(COMPILERS)('%s -mcpu=%s', (compiler, cpu) => {
  const clang = requireTool(compiler);
  it.skipIf(clang === undefined)('every program is accepted', () => {
    const collection = parseObject(compile(clang!, cpu));
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
