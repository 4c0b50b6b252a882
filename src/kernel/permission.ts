/**
 * Why bpf(2) says EPERM. The kernel gives one number for four reasons; who is to change what depends on which it is.
 */
import { readFileSync } from 'node:fs';
import { KernelError, type KernelErrorCode } from './errors.ts';

export interface Circumstances {
  /** Effective capabilities of this process, a bit each. */
  readonly capabilities: bigint;
  /** `/sys/kernel/security/lockdown`, e.g. "none [integrity] confidentiality"; empty where the kernel has none. */
  readonly lockdown: string;
  /** e.g. "6.18.0-amd64". */
  readonly release: string;
  /** `/proc/self/uid_map`: which users of the namespace around it those of this one are. */
  readonly userMap?: string;
  /** Of `/proc/self/status`: 2 where a seccomp filter looks at system calls. */
  readonly seccomp?: number;
}

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
const CAP_BPF = 39n;
const SECCOMP_FILTER = 2;
/** The initial user namespace maps all users to themselves. */
const ALL_USERS = /^\s*0\s+0\s+4294967295\s*$/;
/** From this release on, BPF memory is charged to the memory cgroup instead of RLIMIT_MEMLOCK. */
const CGROUP_CHARGED: readonly [number, number] = [5, 11];

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function circumstances(): Circumstances {
  const status = read('/proc/self/status');
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return {
    capabilities: BigInt(`0x${capabilities}`),
    seccomp: Number(/^Seccomp:\s*(\d)$/m.exec(status)?.[1] ?? SECCOMP_FILTER),
    userMap: read('/proc/self/uid_map'),
    lockdown: read('/sys/kernel/security/lockdown'),
    release: read('/proc/sys/kernel/osrelease').trim(),
  };
}

/** The reason, and what to do about it. */
export function permissionCause({
  capabilities,
  lockdown,
  release,
  userMap = '',
  seccomp = SECCOMP_FILTER,
}: Circumstances): {
  readonly code: KernelErrorCode;
  readonly advice: string;
} {
  const has = (capability: bigint): boolean => ((capabilities >> capability) & 1n) === 1n;
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) {
    return {
      code: 'not_permitted',
      advice:
        'this process has neither CAP_BPF nor CAP_SYS_ADMIN; run it as root, or give it CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON, without which the kernel verifies by stricter rules)',
    };
  }
  if (userMap !== '' && !ALL_USERS.test(userMap)) {
    return {
      code: 'not_permitted',
      advice:
        "this process has its capabilities in a user namespace, and bpf(2) asks for the initial one's; run it outside, as root",
    };
  }
  const mode = /\[(integrity|confidentiality)\]/.exec(lockdown)?.[1];
  if (mode !== undefined) {
    return {
      code: 'lockdown',
      advice: `the kernel is locked down (${mode}); boot without lockdown, which Secure Boot may turn on`,
    };
  }
  const [major = 0, minor = 0] = release.split('.').map(part => Number.parseInt(part, 10));
  const [since, sinceMinor] = CGROUP_CHARGED;
  if (major > 0 && (major < since || (major === since && minor < sinceMinor))) {
    return {
      code: 'memlock',
      advice: `Linux ${release} counts BPF memory as locked memory; raise the limit (ulimit -l unlimited)`,
    };
  }
  if (!has(CAP_NET_ADMIN) && !has(CAP_SYS_ADMIN)) {
    return {
      code: 'not_permitted',
      advice:
        'this process has CAP_BPF, but not CAP_NET_ADMIN, which programs that see packets need; give it both (or a seccomp filter or security module stands before bpf(2))',
    };
  }
  const filter = seccomp === SECCOMP_FILTER ? 'a seccomp filter (of a container?) or a' : 'a';
  return {
    code: 'not_permitted',
    advice: `this process is privileged, so ${filter} security module stands before bpf(2); let it through there`,
  };
}

/** The error for an EPERM of a command that needs privileges. */
export function notPermitted(what: string): KernelError {
  const { code, advice } = permissionCause(circumstances());
  return new KernelError(code, `the kernel did not permit ${what} (EPERM): ${advice}`, { errno: 'EPERM' });
}
