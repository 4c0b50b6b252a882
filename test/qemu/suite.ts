/**
 * What runs in the arm64 Node under qemu-user: every test of the rooms in which programs are run, so that a new one needs no
 * entry here. What is left out is named, with the reason; nothing else may be skipped (reporter.ts).
 */

/** Folders of `test/`. */
export const ROOMS = [
  'runtime',
  'maps',
  'helpers',
  'interpreter',
  'lowering',
  'jit',
  'memory',
  'examples',
  'docs',
  'corpus',
  'fuzz',
];

/**
 * Of rooms that are otherwise JavaScript alone, the same on every machine: the files in which programs are run. Not the
 * commands': each starts an emulated Node anew, which takes seconds, to do what the runtime's tests do.
 */
export const FILES = ['verifier/soundness.test.ts'];

interface Exclusion {
  /** Files below `test/`, or the beginning of a test's name ("folder/file.test.ts > suite > test"). */
  readonly what: string;
  readonly reason: string;
}

const NO_BPF = 'compares with the running kernel: qemu-user does not emulate bpf(2)';

/** Files that are not run. */
export const LEFT_OUT: readonly Exclusion[] = [
  ...['code-buffer', 'compile', 'encodings', 'golden'].map(name => ({
    what: `jit/${name}.test.ts`,
    reason: 'looks at code of x86-64, the same whatever machine makes it; that of arm64 is looked at in test/jit-arm64',
  })),
];

/** Tests that skip themselves. */
export const SKIPPED: readonly Exclusion[] = [{ what: 'helpers/against-kernel.test.ts', reason: NO_BPF }];
