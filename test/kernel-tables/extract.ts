/**
 * The kernel's verifier test tables as data. They are compiled with our shim (`shim.h`, `dump.c`) from the sources that
 * Debian packs as linux-source-6.1, into a program that prints them; nothing of them is kept in the project. What is printed is
 * cached under node_modules, by what it was made from.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTool } from '../tools.ts';

const SOURCE = '/usr/src/linux-source-6.1.tar.xz';
const TOP = 'linux-source-6.1/tools';
const HERE = import.meta.dirname;
const CACHE = join(HERE, '../../node_modules/.cache/kernel-tables');

/** A test of the tables, as `dump.c` prints it. */
export interface TableTest {
  /** Table, without ".c". */
  readonly file: string;
  /** Unique in its table: a second of the same name ends with " (2)". */
  readonly name: string;
  /** enum bpf_prog_type; 0 stands for a socket filter. */
  readonly type: number;
  /** enum bpf_attach_type. */
  readonly attachType: number;
  /** Expected of a privileged load. */
  readonly result: 'undefined' | 'accept' | 'reject';
  readonly resultUnprivileged: 'undefined' | 'accept' | 'reject';
  /** Tab-separated parts of the expected log. */
  readonly error: string | null;
  /** The same of a load without privileges; null: as `error`. */
  readonly errorUnprivileged: string | null;
  /** Instructions that Linux 6.1 processes; 0: not stated. */
  readonly insnProcessed: number;
  readonly flags: number;
  /** Name of the function that makes the program, see `fillers.ts`. */
  readonly filler: string | null;
  /** Kind of map, and the slots of the loadImm64 that get one. */
  readonly fixups: Readonly<Record<string, readonly number[]>>;
  /** Slots of calls, and the names of the kernel functions that they call. */
  readonly kfuncs: readonly (readonly [number, string])[];
  /** Each on 64 bytes of packet, in hex. */
  readonly runs: readonly { readonly retval: number; readonly data: string }[];
  /** The program in hex, 16 digits a slot. */
  readonly insns: string;
}

/** @returns undefined where the sources or a compiler are missing; throws instead in CI. */
export function extractTables(): readonly TableTest[] | undefined {
  const gcc = requireTool('gcc', 'cc');
  const tar = requireTool('tar');
  const xz = requireTool('xz');
  if (!existsSync(SOURCE)) {
    if (process.env.CI) throw new Error(`${SOURCE} is missing; the package is linux-source-6.1`);
    return undefined;
  }
  if (gcc === undefined || tar === undefined || xz === undefined) return undefined;
  const cached = join(CACHE, `${cacheKey()}.jsonl`);
  if (!existsSync(cached)) {
    const text = dump(gcc, tar);
    mkdirSync(CACHE, { recursive: true });
    // Another process may be at the same.
    const draft = `${cached}.${process.pid}`;
    writeFileSync(draft, text);
    renameSync(draft, cached);
  }
  const seen = new Set<string>();
  return readFileSync(cached, 'utf8')
    .trimEnd()
    .split('\n')
    .map(line => {
      const test = JSON.parse(line) as TableTest;
      let { name } = test;
      for (let n = 2; seen.has(`${test.file}: ${name}`); n++) name = `${test.name} (${n})`;
      seen.add(`${test.file}: ${name}`);
      return { ...test, name };
    });
}

function cacheKey(): string {
  const hash = createHash('sha256');
  const { size, mtimeMs } = statSync(SOURCE);
  hash.update(`${size} ${mtimeMs}`);
  for (const file of ['shim.h', 'dump.c', 'extract.ts']) hash.update(readFileSync(join(HERE, file)));
  return hash.digest('hex').slice(0, 24);
}

function dump(gcc: string, tar: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'kernel-tables-'));
  try {
    execFileSync(tar, [
      '-xJf',
      SOURCE,
      '-C',
      directory,
      '--wildcards',
      `${TOP}/testing/selftests/bpf/verifier/*.c`,
      `${TOP}/include/linux/filter.h`,
    ]);
    const verifier = join(directory, TOP, 'testing/selftests/bpf/verifier');
    const names = readdirSync(verifier)
      .map(file => file.replace(/\.c$/, ''))
      .sort();
    copyFileSync(join(directory, TOP, 'include/linux/filter.h'), join(directory, 'instructions.h'));
    for (const file of ['shim.h', 'dump.c']) copyFileSync(join(HERE, file), join(directory, file));
    writeFileSync(join(directory, 'tables.h'), tableHeader(names, verifier));
    const program = join(directory, 'dump');
    execFileSync(gcc, ['-O0', '-w', '-I', directory, '-o', program, join(directory, 'dump.c')], { stdio: 'pipe' });
    return execFileSync(program, { encoding: 'utf8', maxBuffer: 1 << 28 });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** One array for each table, and the list of them. */
function tableHeader(names: readonly string[], directory: string): string {
  const arrays = names.map(
    (name, i) => `static const struct bpf_test table_${i}[] = {\n#include "${join(directory, name)}.c"\n};`,
  );
  const rows = names.map((name, i) => `  {"${name}", table_${i}, sizeof(table_${i}) / sizeof(table_${i}[0])},`);
  return [
    ...arrays,
    'static const struct { const char *file; const struct bpf_test *tests; size_t count; } tables[] = {',
    ...rows,
    '};\n',
  ].join('\n');
}
