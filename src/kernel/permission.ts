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
}

const CAP_SYS_ADMIN = 21n;
const CAP_BPF = 39n;
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
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status'))?.[1] ?? '0';
  return {
    capabilities: BigInt(`0x${capabilities}`),
    lockdown: read('/sys/kernel/security/lockdown'),
    release: read('/proc/sys/kernel/osrelease').trim(),
  };
}

/** The reason, and what to do about it. */
export function permissionCause({ capabilities, lockdown, release }: Circumstances): {
  readonly code: KernelErrorCode;
  readonly advice: string;
} {
  const has = (capability: bigint): boolean => ((capabilities >> capability) & 1n) === 1n;
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) {
    return {
      code: 'not_permitted',
      advice:
        'this process has neither CAP_BPF nor CAP_SYS_ADMIN; run it as root, or give it CAP_BPF and CAP_NET_ADMIN',
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
  return {
    code: 'not_permitted',
    advice:
      'this process is privileged, so a seccomp filter (of a container?) or a security module stands before bpf(2)',
  };
}

/** The error for an EPERM of a command that needs privileges. */
export function notPermitted(what: string): KernelError {
  const { code, advice } = permissionCause(circumstances());
  return new KernelError(code, `the kernel did not permit ${what} (EPERM): ${advice}`, { errno: 'EPERM' });
}
