/*
 * The running kernel's verifier as an oracle for single instructions, through bpf(2). Needs Linux and the right to load
 * programs.
 */
import koffi from 'koffi';

interface Verdict {
  readonly accepted: boolean;
  readonly log: string;
}

/** The number of bpf(2), by Node's name of the architecture. */
const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_SOCKET_FILTER = 1;
const LOG_BYTES = 1 << 16;
const VERBOSE = 2;

export type Verify = (program: Uint8Array) => Verdict;

/** A function that has the kernel verify a socket filter; undefined where that cannot be done. */
export function kernelVerifier(): Verify | undefined {
  const number = SYS_BPF[process.arch];
  if (process.platform !== 'linux' || number === undefined) return undefined;
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const close = libc.func('int close(int fd)');
  const log = Buffer.alloc(LOG_BYTES);
  const license = Buffer.from('GPL\0');
  const attr = Buffer.alloc(48);

  const verify: Verify = program => {
    const code = Buffer.from(program);
    log.fill(0);
    attr.fill(0);
    attr.writeUInt32LE(BPF_PROG_TYPE_SOCKET_FILTER, 0);
    attr.writeUInt32LE(code.length / 8, 4);
    attr.writeBigUInt64LE(koffi.address(code), 8);
    attr.writeBigUInt64LE(koffi.address(license), 16);
    attr.writeUInt32LE(VERBOSE, 24);
    attr.writeUInt32LE(LOG_BYTES, 28);
    attr.writeBigUInt64LE(koffi.address(log), 32);
    const fd = Number(syscall(number, BPF_PROG_LOAD, attr, attr.length));
    if (fd >= 0) close(fd);
    return { accepted: fd >= 0, log: log.toString('latin1', 0, log.indexOf(0)) };
  };

  const smallest = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  if (verify(smallest).accepted) return verify;
  if (process.env.CI && process.getuid?.() === 0)
    throw new Error('bpf(2) refuses to load a program, though we are root');
  return undefined;
}
