/**
 * The running kernel's verifier as an oracle: loads raw instructions through bpf(2) and gives back the log of level 2.
 */
import koffi from 'koffi';

const BPF_PROG_LOAD = 5;
const SOCKET_FILTER = 1;
const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const LOG_BYTES = 1 << 22;

/**
 * The log of verifying `slots` (encoded 8-byte instructions) as a socket filter; undefined where bpf(2) can't be used.
 *
 * @throws Error in CI (environment variable CI) instead of giving undefined.
 */
export function kernelLog(slots: readonly bigint[]): string | undefined {
  const number = SYS_BPF[process.arch];
  if (process.platform !== 'linux' || number === undefined) return unavailable('no bpf(2) here');
  const libc = koffi.load(null);
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const malloc = libc.func('void *malloc(size_t size)');
  const free = libc.func('void free(void *memory)');
  const close = libc.func('int close(int fd)');
  const allocate = (size: number): { pointer: unknown; bytes: DataView; address: bigint } => {
    const pointer = malloc(size);
    return { pointer, bytes: new DataView(koffi.view(pointer, size)), address: BigInt(koffi.address(pointer)) };
  };
  const attr = allocate(128);
  const insns = allocate(8 * slots.length);
  const licence = allocate(8);
  const log = allocate(LOG_BYTES);
  try {
    new Uint8Array(attr.bytes.buffer).fill(0);
    log.bytes.setUint8(0, 0);
    slots.forEach((slot, i) => {
      insns.bytes.setBigUint64(8 * i, slot, true);
    });
    licence.bytes.setBigUint64(0, BigInt(0x4c_50_47), true);
    attr.bytes.setUint32(0, SOCKET_FILTER, true);
    attr.bytes.setUint32(4, slots.length, true);
    attr.bytes.setBigUint64(8, insns.address, true);
    attr.bytes.setBigUint64(16, licence.address, true);
    attr.bytes.setUint32(24, 2, true);
    attr.bytes.setUint32(28, LOG_BYTES, true);
    attr.bytes.setBigUint64(32, log.address, true);
    const fd = Number(syscall(number, BPF_PROG_LOAD, attr.pointer, 128));
    if (fd >= 0) close(fd);
    const text = new Uint8Array(log.bytes.buffer);
    const end = text.indexOf(0);
    return end === 0 ? unavailable('bpf(2) is not permitted') : new TextDecoder().decode(text.slice(0, end));
  } finally {
    for (const memory of [attr, insns, licence, log]) free(memory.pointer);
  }
}

function unavailable(reason: string): undefined {
  if (process.env.CI) throw new Error(`${reason}: this test compares with the running kernel's verifier (run as root)`);
  return undefined;
}
