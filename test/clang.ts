/** C programs of the tests, compiled for BPF. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseObject } from '../src/object/parse.ts';
import type { Collection } from '../src/object/spec.ts';
import { requireTool } from './tools.ts';

export const clang = requireTool('clang-22');

interface CompileOptions {
  /** Instruction set; arenas need v4. */
  readonly cpu?: string;
  /** Path of the compiler, clang-22 unless told otherwise. */
  readonly compiler?: string | undefined;
  /** What CO-RE relocations are resolved against. */
  readonly targetBtf?: Uint8Array;
}

/**
 * @param source what `new URL('program.c', import.meta.url)` gives
 * @throws Error with the compiler's messages, or where there is no compiler
 */
export function compile(source: URL, { cpu = 'v3', compiler = clang, targetBtf }: CompileOptions = {}): Collection {
  if (compiler === undefined) throw new Error('there is no clang-22 here');
  const directory = mkdtempSync(join(tmpdir(), 'switchyard-'));
  const output = join(directory, 'program.o');
  const headers = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  // Jump tables are maps of instructions, which Linux 6.18 does not have.
  const options = ['-O2', '-g', '-fno-jump-tables', '-target', 'bpf', `-mcpu=${cpu}`, `-I${headers}`];
  try {
    execFileSync(compiler, [...options, '-c', fileURLToPath(source), '-o', output], { stdio: 'pipe' });
    return parseObject(readFileSync(output), targetBtf === undefined ? {} : { targetBtf });
  } finally {
    rmSync(directory, { recursive: true });
  }
}
