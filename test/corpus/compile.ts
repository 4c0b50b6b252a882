/** Every program of the corpus, compiled by every clang that is installed. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { requireTool } from '../tools.ts';

const PROGRAMS = join(import.meta.dirname, 'programs');
const PARALLEL = 2;

interface Variant {
  readonly label: string;
  readonly path: string;
  readonly cpu: string;
  readonly optimisation: string;
  /** Run in the kernel too; the others are only loaded there. */
  readonly runInKernel: boolean;
}

const VARIANTS: readonly Variant[] = [
  { clang: 'clang-14', cpu: 'v1', optimisation: '-O2', runInKernel: false },
  { clang: 'clang-14', cpu: 'v2', optimisation: '-O2', runInKernel: true },
  { clang: 'clang-14', cpu: 'v3', optimisation: '-O2', runInKernel: false },
  { clang: 'clang-14', cpu: 'v3', optimisation: '-O1', runInKernel: false },
  { clang: 'clang-22', cpu: 'v3', optimisation: '-O2', runInKernel: false },
  { clang: 'clang-22', cpu: 'v4', optimisation: '-O2', runInKernel: true },
].flatMap(({ clang, ...variant }) => {
  const path = requireTool(clang);
  return path === undefined ? [] : [{ ...variant, path, label: `${clang} ${variant.cpu} ${variant.optimisation}` }];
});

export interface CorpusObject {
  readonly source: string;
  readonly variant: Variant;
  readonly file: string;
}

/** What each source is compiled to; nothing is compiled yet. A comment `variants: v3 v4` limits the instruction sets. */
export function corpusObjects(): {
  objects: CorpusObject[];
  compile: (chosen?: readonly CorpusObject[]) => Promise<void>;
  remove: () => void;
} {
  const directory = mkdtempSync(join(tmpdir(), 'switchyard-corpus-'));
  const sources = readdirSync(PROGRAMS).filter(name => name.endsWith('.bpf.c'));
  const objects = sources.flatMap(file => {
    const source = file.replace('.bpf.c', '');
    const only = /variants: ([v1-4 ]+)/.exec(readFileSync(join(PROGRAMS, file), 'utf8'))?.[1]?.split(' ');
    return VARIANTS.filter(({ cpu }) => only === undefined || only.includes(cpu)).map(variant => ({
      source,
      variant,
      file: join(directory, `${source}-${variant.label.replaceAll(' ', '')}.o`),
    }));
  });
  return {
    objects,
    async compile(chosen = objects) {
      const include = `-I/usr/include/${execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim()}-linux-gnu`;
      const waiting = chosen.values();
      const work = async () => {
        for (const { source, variant, file } of waiting) {
          // Jump tables (`gotox`) need a newer kernel than the one that this corpus is compared with.
          const flags = ['-target', 'bpf', `-mcpu=${variant.cpu}`, variant.optimisation, '-g', '-Wall', '-Werror'];
          const rest = ['-fno-jump-tables', include, '-c', join(PROGRAMS, `${source}.bpf.c`), '-o', file];
          await promisify(execFile)(variant.path, [...flags, ...rest]);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, work));
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
