/** Objects that nobody here wrote: those of Debian's xdp-tools package. */
import { execFileSync } from 'node:child_process';
import { basename } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseObject } from '../../src/object/parse.ts';
import { requireTool } from '../tools.ts';
import { kernelLoader, loadInKernel, readObject } from './support.ts';

function installed(): string[] {
  const dpkg = requireTool('dpkg');
  if (dpkg === undefined) return [];
  const files = ['xdp-tools', 'libxdp1'].flatMap(name => {
    try {
      return execFileSync(dpkg, ['-L', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n');
    } catch {
      return [];
    }
  });
  const objects = [...new Set(files.filter(file => file.endsWith('.o')))];
  if (process.env.CI && objects.length === 0) throw new Error('package xdp-tools is not installed');
  return objects;
}

const objects = installed();
const bpftool = kernelLoader();

describe.skipIf(objects.length === 0)('objects of xdp-tools', () => {
  test.for(objects)('%s', path => {
    const bytes = readObject(path);
    const { programs, maps, unsupported, license } = parseObject(bytes, { skipUnsupported: true });
    expect(license).toMatch(/GPL/);
    for (const program of programs.values()) {
      expect(program.type).toBe('xdp');
      expect(program.insns.length).toBeGreaterThan(1);
      expect(program.lines.length).toBeGreaterThan(0);
    }
    if (basename(path) === 'xdpdump_bpf.o') {
      expect(unsupported?.map(({ kernelType }) => kernelType)).toEqual(['tracing', 'tracing']);
      expect(() => parseObject(bytes)).toThrow(expect.objectContaining({ code: 'unsupported_program_type' }));
    } else {
      expect(unsupported).toBeUndefined();
      expect(programs.size).toBeGreaterThan(0);
      expect(maps.size).toBeGreaterThan(0);
    }
    // Loading takes the kernel seconds, and only says something where subprograms are placed.
    if (bpftool === undefined || [...programs.values()].every(program => program.subprograms.length === 1)) return;
    const { subprograms } = loadInKernel(bpftool, path);
    for (const program of programs.values()) {
      const [, ...rest] = program.subprograms;
      expect(new Map(rest.map(({ name, start }) => [name, start])), program.name).toEqual(
        subprograms.get(program.name) ?? new Map(),
      );
    }
  });
});
