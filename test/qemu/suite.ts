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

/** Files of these rooms that are not run, below `test/`. */
export const LEFT_OUT: readonly { readonly file: string; readonly reason: string }[] = [
  ...['code-buffer', 'compile', 'encodings', 'golden'].map(name => ({
    file: `jit/${name}.test.ts`,
    reason: 'looks at code of x86-64, the same whatever machine makes it; that of arm64 is looked at in test/jit-arm64',
  })),
  {
    file: 'docs/examples.test.ts',
    reason: 'starts TypeScript by tsx, whose compiler is a program that is installed for this machine only',
  },
];

/** Tests that skip themselves, as "folder/file.test.ts > suite > test". */
export const SKIPPED: readonly { readonly names: RegExp; readonly reason: string }[] = [
  { names: /kernel/i, reason: 'compares with the running kernel: qemu-user does not emulate bpf(2)' },
  {
    names: /^(interpreter|jit)\/conformance\.test\.ts/,
    reason: 'cases of the conformance suite that are skipped on every machine: callx, or no verdict',
  },
];
