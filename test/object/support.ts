import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTool } from '../tools.ts';

export const FIXTURES = join(import.meta.dirname, 'fixtures');

/** A committed object; `build.sh` beside it rebuilds them. */
export function fixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(FIXTURES, `${name}.o`)));
}

export interface Compiler {
  readonly label: string;
  /** Compiles a source of `fixtures` with debug information; the path of the object. */
  compile(source: string): string;
}

let directory: string | undefined;
/** Removed when the process ends. */
function scratchDirectory(): string {
  if (directory === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'switchyard-object-'));
    directory = made;
    process.on('exit', () => rmSync(made, { recursive: true, force: true }));
  }
  return directory;
}

/** Every clang with every instruction set version that the project promises to read. */
export const COMPILERS: readonly Compiler[] = [
  ['clang-14', 'v2'],
  ['clang-14', 'v3'],
  ['clang-22', 'v4'],
].flatMap(([program = '', cpu = '']) => {
  const path = requireTool(program);
  if (path === undefined) return [];
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  const flags = ['-target', 'bpf', `-mcpu=${cpu}`, '-O2', '-g', `-I/usr/include/${machine}-linux-gnu`];
  return [
    {
      label: `${program} ${cpu}`,
      compile(source: string): string {
        const object = join(scratchDirectory(), `${source}-${program}-${cpu}.o`);
        execFileSync(path, [...flags, '-c', join(FIXTURES, `${source}.c`), '-o', object]);
        return object;
      },
    },
  ];
});

/** Static linking as libbpf does it; the path of the object. */
export function linkObjects(bpftool: string, name: string, objects: readonly string[]): string {
  const path = join(scratchDirectory(), `${name}.o`);
  execFileSync(bpftool, ['gen', 'object', path, ...objects]);
  return path;
}

export function readObject(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

/** What libbpf and the kernel did with an object, from `bpftool -d prog loadall`. */
export interface LoadReport {
  /** "name" -> slot of each appended subprogram, by program. */
  readonly subprograms: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** CO-RE changes: by program and slot, the new number, or 'poison'. */
  readonly patches: ReadonlyMap<string, ReadonlyMap<number, bigint | 'poison'>>;
  /** The kernel's listing, `(opcode) text` by slot, of each program that it looked at. Empty on kernels that print none. */
  readonly listings: ReadonlyMap<string, ReadonlyMap<number, { readonly opcode: number; readonly text: string }>>;
  /** Source lines that the verifier printed above instructions: by program and slot. Empty on kernels that print no line numbers. */
  readonly sources: ReadonlyMap<string, ReadonlyMap<number, { readonly text: string; readonly line: number }>>;
  readonly text: string;
}

const unshare = requireTool('unshare');

/**
 * Loads an object into the running kernel. Whether it was accepted does not matter. The BPF file system is a private
 * one, so that what libbpf pins by name goes away with the process and is nobody else's.
 */
export function loadInKernel(bpftool: string, object: string): LoadReport {
  const script = 'mount -t bpf bpf /sys/fs/bpf && exec "$0" -d prog loadall "$1" /sys/fs/bpf/programs';
  const { stdout, stderr } = spawnSync(unshare ?? '', ['--mount', 'sh', '-c', script, bpftool, object], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const text = stdout + stderr;
  const subprograms = new Map<string, Map<string, number>>();
  const patches = new Map<string, Map<number, bigint | 'poison'>>();
  const listings = new Map<string, Map<number, { opcode: number; text: string }>>();
  const sources = new Map<string, Map<number, { text: string; line: number }>>();
  let source: { text: string; line: number } | undefined;
  let loading = '';
  let main = '';
  const of = <K, V>(map: Map<string, Map<K, V>>, name: string): Map<K, V> => {
    const found = map.get(name) ?? new Map<K, V>();
    map.set(name, found);
    return found;
  };
  for (const line of text.split('\n')) {
    let match = /prog '(\S+)': added \d+ insns from sub-prog/.exec(line);
    if (match) main = match[1]!;
    match = /prog '\S+': insn #\d+ relocated, imm -?\d+ points to subprog '(\S+)' \(now at (\d+) offset\)/.exec(line);
    if (match) of(subprograms, main).set(match[1]!, Number(match[2]));
    match = /prog '(\S+)': relo #\d+: patched insn #(\d+) \(.*\) (?:imm|off|imm64) -?\d+ -> (-?\d+)/.exec(line);
    if (match) of(patches, match[1]!).set(Number(match[2]), BigInt(match[3]!));
    match = /prog '(\S+)': relo #\d+: substituting insn #(\d+) w\/ invalid insn/.exec(line);
    if (match) of(patches, match[1]!).set(Number(match[2]), 'poison');
    match = /prog '(\S+)': -- BEGIN PROG LOAD LOG --/.exec(line);
    if (match) loading = match[1]!;
    match = /^; (.*) @ \S+:(\d+)$/.exec(line);
    if (match) source = { text: match[1]!, line: Number(match[2]) };
    match = /^(\d+): \([0-9a-f]{2}\) /.exec(line);
    if (match) {
      if (source !== undefined) of(sources, loading).set(Number(match[1]), source);
      source = undefined;
    }
    match = /^ +(\d+): [.0-9]+ \(([0-9a-f]{2})\) (.*)$/.exec(line);
    if (match) of(listings, loading).set(Number(match[1]), { opcode: Number.parseInt(match[2]!, 16), text: match[3]! });
  }
  return { subprograms, patches, listings, sources, text };
}

/** bpftool, where it is installed and may load programs. Under CI it must be. */
export function kernelLoader(): string | undefined {
  const bpftool = requireTool('bpftool');
  if (bpftool === undefined || unshare === undefined) return undefined;
  const report = loadInKernel(bpftool, join(FIXTURES, 'values.o'));
  if (/prog 'read': pinned/.test(report.text)) return bpftool;
  if (process.env.CI) throw new Error(`bpftool cannot load a program here: ${report.text.slice(-500)}`);
  return undefined;
}
