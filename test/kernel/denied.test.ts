/**
 * Without the privileges, or without bpf(2): every call gives the typed error that says which, in a process that cannot do better.
 * Capabilities and users are really dropped; errnos that no machine at hand gives are injected by a seccomp filter, and what
 * tells an old or locked down kernel is put over the files of /proc and /sys in a mount namespace of the child.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requireTool } from '../tools.ts';
import { kernelMissing } from './support.ts';

const ROOT = join(import.meta.dirname, '../..');
const CHILD = join(import.meta.dirname, 'denied.mjs');
const OBJECT = join(ROOT, 'examples/router/router.bpf.o');
const EPERM = 1;
const ENOSYS = 38;

interface Outcome {
  readonly type?: string;
  readonly code: string;
  readonly errno?: string;
  readonly message?: string;
}

const setpriv = requireTool('setpriv');
const prlimit = requireTool('prlimit');
const unshare = requireTool('unshare');
const usable = kernelMissing() === undefined && process.getuid?.() === 0;

/** @param prefix a command that starts the child with less */
function child(prefix: readonly string[], errno = 0): Record<string, Outcome> {
  const [command, ...args] = [...prefix, process.execPath, CHILD, join(ROOT, 'dist/index.js'), OBJECT, String(errno)];
  const { status, signal, stdout, stderr } = spawnSync(command!, args, { encoding: 'utf8' });
  expect([status, signal, stderr]).toEqual([0, null, '']);
  return JSON.parse(stdout);
}

/** All but closing, which needs no permission. */
function expectAll(
  outcomes: Record<string, Outcome>,
  code: string,
  errno: string,
  message: RegExp,
  calls: number,
): void {
  const { dispose, ...rest } = outcomes;
  if (dispose !== undefined) expect(dispose).toEqual({ code: 'ok' });
  expect(Object.keys(rest)).toHaveLength(calls);
  for (const [call, outcome] of Object.entries(rest)) {
    expect(outcome, call).toMatchObject({ type: 'KernelError', code, errno });
    expect(outcome.message, call).toMatch(message);
  }
}

const ANEW = 2;
const ANEW_AND_LOADED = 12;

describe.skipIf(!usable)('where the kernel does not let us', () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), 'switchyard-denied-'));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  test('nothing is in the way of the child itself', () => {
    expect(child([])).toEqual({ load: { code: 'ok' }, judge: { code: 'ok' } });
  });

  test.skipIf(!setpriv)('root without capabilities: not_permitted names them', () => {
    const flags = ['--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
    expectAll(child([setpriv!, ...flags]), 'not_permitted', 'EPERM', /neither CAP_BPF nor CAP_SYS_ADMIN/, ANEW);
  });

  test.skipIf(!setpriv)('another user: the same', () => {
    const flags = ['--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs'];
    // Its files are root's, and readable.
    expectAll(child([setpriv!, ...flags]), 'not_permitted', 'EPERM', /CAP_BPF and CAP_NET_ADMIN/, ANEW);
  });

  test.skipIf(!setpriv)('CAP_BPF alone makes maps, but loads no XDP program: not_permitted', () => {
    const flags = ['--bounding-set=-all,+bpf', '--inh-caps=-all,+bpf', '--no-new-privs'];
    const { load } = child([setpriv!, ...flags]);
    expect(load).toMatchObject({ type: 'KernelError', code: 'not_permitted', errno: 'EPERM' });
  });

  test.skipIf(!prlimit)('no locked memory at all: this kernel counts none', () => {
    expect(child([prlimit!, '--memlock=0:0'])).toEqual({ load: { code: 'ok' }, judge: { code: 'ok' } });
  });

  test('seccomp with EPERM, as containers have it, for a privileged process', () => {
    expectAll(child([], EPERM), 'not_permitted', 'EPERM', /seccomp filter/, ANEW_AND_LOADED);
  });

  test('ENOSYS: no bpf(2) here', () => {
    expectAll(child([], ENOSYS), 'no_bpf', 'ENOSYS', /has no bpf\(2\)/, ANEW_AND_LOADED);
  });

  test.skipIf(!unshare)('EPERM on a kernel of before 5.11: the limit of locked memory', () => {
    const release = join(scratch, 'osrelease');
    writeFileSync(release, '5.4.0-generic\n');
    const setUp = `mount --bind '${release}' /proc/sys/kernel/osrelease && exec "$@"`;
    const prefix = [unshare!, '--mount', 'sh', '-c', setUp, 'sh'];
    expectAll(child(prefix, EPERM), 'memlock', 'EPERM', /Linux 5\.4\.0-generic .*ulimit -l/, ANEW_AND_LOADED);
  });

  test.skipIf(!unshare)('EPERM on a locked down kernel', () => {
    const setUp =
      'mount -t tmpfs none /sys/kernel/security && echo "none [integrity] confidentiality" > /sys/kernel/security/lockdown && exec "$@"';
    const prefix = [unshare!, '--mount', 'sh', '-c', setUp, 'sh'];
    expectAll(child(prefix, EPERM), 'lockdown', 'EPERM', /locked down \(integrity\)/, ANEW_AND_LOADED);
  });
});
