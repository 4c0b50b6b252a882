/** EPERM has several causes; which one it is can be told without provoking it. */
import { expect, test } from 'vitest';
import { permissionCause } from '../../src/kernel/permission.ts';

const ROOT = 0x1ff_ffff_ffffn;
const NONE = '[none] integrity confidentiality\n';

test.each([
  ['no capabilities', 0n, NONE, '6.18.0', 'not_permitted', /neither CAP_BPF nor CAP_SYS_ADMIN/],
  ['no capabilities, on a locked down kernel', 0n, '[integrity]', '6.18.0', 'not_permitted', /CAP_BPF/],
  ['CAP_BPF alone', 1n << 39n, NONE, '6.18.0', 'not_permitted', /not CAP_NET_ADMIN/],
  ['CAP_BPF and CAP_NET_ADMIN', (1n << 39n) | (1n << 12n), NONE, '6.18.0', 'not_permitted', /privileged, so a seccomp/],
  ['CAP_SYS_ADMIN alone', 1n << 21n, '', '6.18.0-amd64', 'not_permitted', /seccomp/],
  ['lockdown for integrity', ROOT, 'none [integrity] confidentiality', '6.18.0', 'lockdown', /\(integrity\)/],
  ['lockdown for confidentiality', ROOT, 'none integrity [confidentiality]', '5.4.0', 'lockdown', /confidentiality/],
  ['locked memory', ROOT, NONE, '5.10.0-30-amd64', 'memlock', /ulimit -l/],
  ['locked memory, long ago', ROOT, '', '4.19.0', 'memlock', /4\.19\.0/],
  ['the first kernel that does not count it', ROOT, '', '5.11.0', 'not_permitted', /seccomp/],
  ['an unknown kernel', ROOT, '', '', 'not_permitted', /seccomp/],
])('%s', (_, capabilities, lockdown, release, code, advice) => {
  const cause = permissionCause({ capabilities, lockdown, release });
  expect(cause.code).toBe(code);
  expect(cause.advice).toMatch(advice);
});

test.each([
  ['root of a user namespace', '         0       1000          1\n', 2, /in a user namespace/],
  ['all users of the initial one, no filter', '         0          0 4294967295\n', 0, /so a security module/],
  ['all users of the initial one, a filter', '         0          0 4294967295\n', 2, /so a seccomp filter/],
])('privileged, %s', (_, userMap, seccomp, advice) => {
  const cause = permissionCause({ capabilities: ROOT, lockdown: NONE, release: '6.18.0', userMap, seccomp });
  expect(cause.code).toBe('not_permitted');
  expect(cause.advice).toMatch(advice);
});
