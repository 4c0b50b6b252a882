/** C programs of these tests, compiled by clang-22. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseObject } from '../../src/object/parse.ts';
import type { Collection } from '../../src/object/spec.ts';
import { requireTool } from '../tools.ts';

export const clang = requireTool('clang-22');

/**
 * @param source file in this folder
 * @param cpu instruction set; arenas need v4
 */
export function compile(source: string, cpu: 'v3' | 'v4' = 'v3'): Collection {
  if (clang === undefined) throw new Error('there is no clang-22 here');
  const directory = mkdtempSync(join(tmpdir(), 'switchyard-'));
  const output = join(directory, 'program.o');
  const headers = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  // Jump tables are maps of instructions, which Linux 6.18 does not have.
  const options = ['-O2', '-g', '-fno-jump-tables', '-target', 'bpf', `-mcpu=${cpu}`, `-I${headers}`];
  try {
    execFileSync(clang, [...options, '-c', join(import.meta.dirname, source), '-o', output], { stdio: 'pipe' });
    return parseObject(readFileSync(output));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
