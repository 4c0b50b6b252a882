/** Runs the built commands as a user's shell does: a process, two pipes, an exit code. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTool } from '../tools.ts';

export const ROOT = join(import.meta.dirname, '../..');
export const ROUTER = join(ROOT, 'examples/router/router.bpf.o');
export const CAPTURE = join(ROOT, 'examples/router/capture.pcap');

export const scratch = mkdtempSync(join(tmpdir(), 'switchyard-cli-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function command(script: string, args: readonly string[], input: string): Promise<Ended> {
  const child = spawn(process.execPath, [join(ROOT, 'dist/cli', script), ...args], { cwd: ROOT });
  const ended = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', text => (ended.stdout += text));
  child.stderr.setEncoding('utf8').on('data', text => (ended.stderr += text));
  child.stdin.on('error', () => {}); // It may have ended without reading.
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, ...ended }));
  });
}

export function switchyard(...args: string[]): Promise<Ended> {
  return command('main.js', args, '');
}

export function conformance(input: string, ...args: string[]): Promise<Ended> {
  return command('conformance.js', args, input);
}

const clang = requireTool('clang-14', 'clang-22', 'clang');

/** `programs.bpf.c`, compiled; undefined without clang. */
export const PROGRAMS = clang && compile(clang, 'programs.bpf.c');
/** `tables.bpf.c`, likewise. */
export const TABLES = clang && compile(clang, 'tables.bpf.c');

function compile(compiler: string, source: string): string {
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  const object = join(scratch, source.replace(/c$/, 'o'));
  execFileSync(
    compiler,
    ['-target', 'bpf', '-O2', '-g', `-I/usr/include/${machine}-linux-gnu`, '-c', `test/cli/${source}`, '-o', object],
    { cwd: ROOT },
  );
  return object;
}
