/** A64 code as text, by GNU objdump. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Line } from '../jit/listing.ts';
import { requireTool } from '../tools.ts';

export const OBJDUMP = requireTool('aarch64-linux-gnu-objdump');

export function dump(code: Uint8Array): Line[] {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-objdump-'));
  try {
    const file = join(folder, 'code.bin');
    writeFileSync(file, code);
    const text = execFileSync(OBJDUMP!, ['-D', '-b', 'binary', '-m', 'aarch64', '--no-show-raw-insn', '-z', file], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    return [...text.matchAll(/^\s*([0-9a-f]+):\s+(.*)$/gm)].map(([, hex, line]) => {
      const offset = Number.parseInt(hex!, 16);
      const bytes = code.subarray(offset, offset + 4);
      return {
        offset,
        bytes,
        text: line!
          .replace(/\s+/g, ' ')
          .replace(/ \/\/.*/, '')
          .trim(),
      };
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
