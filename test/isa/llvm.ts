/*
 * LLVM's BPF assembler and disassembler as oracles. LLVM 20 is the first that knows load-acquire and store-release.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTool } from '../tools.ts';

const VERSIONS = ['-22', '-21', '-20', ''];
const mc = requireTool(...VERSIONS.map(version => `llvm-mc${version}`));
const objdump = requireTool(...VERSIONS.map(version => `llvm-objdump${version}`));

/** Whether both are there. */
export const hasLlvm = mc !== undefined && objdump !== undefined;

const ARGUMENTS = ['-triple=bpfel', '-mcpu=v4'];

/** The text of each instruction, as llvm-objdump prints it, without the symbol behind a jump's target. */
export function llvmDisassemble(bytes: Uint8Array): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'isa-'));
  try {
    const object = join(directory, 'program.o');
    execFileSync(mc!, [...ARGUMENTS, '-filetype=obj', '-o', object], { input: `.byte ${bytes.join(',')}\n` });
    const listing = execFileSync(objdump!, ['-d', '--no-show-raw-insn', '--mcpu=v4', object], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    return listing.split('\n').flatMap(line => {
      const match = /^ *\d+:\t\s*(.*?)(?: <[^<>]*>)?$/.exec(line);
      return match === null ? [] : [match[1]!];
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What llvm-mc makes of each line: the encoding in hexadecimal, or undefined where it refuses or warns. */
export function llvmAssemble(lines: readonly string[]): (string | undefined)[] {
  const { stdout, stderr } = spawnSync(mc!, [...ARGUMENTS, '-show-encoding'], {
    input: `${lines.join('\n')}\n`,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const encodings = [...stdout.matchAll(/# encoding: \[(.*)\]/g)].map(([, list]) =>
    list!.includes('A') ? undefined : list!.replaceAll(/0x|,/g, ''),
  );
  const refused = new Set([...stderr.matchAll(/^<stdin>:(\d+):\d+: error/gm)].map(([, line]) => Number(line)));
  const warned = new Set([...stderr.matchAll(/^<stdin>:(\d+):\d+: warning/gm)].map(([, line]) => Number(line)));
  if (encodings.length + refused.size !== lines.length) {
    throw new Error(`llvm-mc gave ${encodings.length} encodings and refused ${refused.size} of ${lines.length} lines`);
  }
  let next = 0;
  return lines.map((_, index) => {
    if (refused.has(index + 1)) return undefined;
    const encoding = encodings[next++];
    return warned.has(index + 1) ? undefined : encoding;
  });
}
