/**
 * bpf(2) from TypeScript: one system call, entered through koffi.
 *
 * Problem: the call takes a union of structs full of pointers to memory that the garbage collector owns.
 * Strategy: every buffer that the kernel sees is a copy in an ArrayBuffer of its own. The engine keeps the bytes of an
 * ArrayBuffer outside its heap and never moves them, and an `Attr` holds on to all of its buffers until the call has
 * returned. Numbers and offsets of the union are those of include/uapi/linux/bpf.h; fields that an older kernel does
 * not know must be zero, and they are unless asked for.
 */
import koffi from 'koffi';
import { KernelError, type KernelErrorCode } from './errors.ts';
import { notPermitted } from './permission.ts';

/** enum bpf_cmd */
export const Command = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  mapNextKey: 4,
  progLoad: 5,
  testRun: 10,
  infoByFd: 15,
  btfLoad: 18,
  mapLookupAndDelete: 21,
  mapFreeze: 22,
  mapLookupBatch: 24,
  mapLookupAndDeleteBatch: 25,
  mapUpdateBatch: 26,
  mapDeleteBatch: 27,
} as const;

/** The number of bpf(2), by Node's name of the processor. */
const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280, riscv64: 280 };
/** Room for the longest member of union bpf_attr that is used here. */
const ATTR_BYTES = 152;
/** Errnos that libc has no name for, but bpf(2) gives. */
const KERNEL_ONLY: Readonly<Record<number, string>> = { 524: 'ENOTSUPP' };
/** Second names of a number. */
const ALIASES = new Set(['EWOULDBLOCK', 'ENOTSUP']);

interface Libc {
  readonly number: number;
  readonly syscall: (number: number, command: number, attr: Uint8Array, size: number) => number | bigint;
  readonly close: (fd: number) => number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded) return loaded;
  const number = SYS_BPF[process.arch];
  if (process.platform !== 'linux' || number === undefined) {
    throw new KernelError(
      'unsupported_platform',
      `bpf(2) needs Linux on ${Object.keys(SYS_BPF).join(', ')}; this is ${process.platform} on ${process.arch}`,
      { platform: process.platform, arch: process.arch },
    );
  }
  try {
    const lib = koffi.load('libc.so.6');
    loaded = {
      number,
      syscall: lib.func(
        'int64_t syscall(int64_t number, int64_t command, void *attr, int64_t size)',
      ) as Libc['syscall'],
      close: lib.func('int close(int fd)') as Libc['close'],
    };
  } catch (cause) {
    const message = `bpf(2) is called through libc.so.6, which could not be loaded: ${(cause as Error).message}`;
    throw new KernelError('unsupported_platform', message, {}, { cause });
  }
  return loaded;
}

/** A buffer whose address does not change: its ArrayBuffer is its own. */
export function fixed(size: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(size));
}

/** A copy in a buffer whose address does not change. */
export function fixedCopy(bytes: Uint8Array): Uint8Array {
  const copy = fixed(bytes.length);
  copy.set(bytes);
  return copy;
}

export function fixedText(text: string): Uint8Array {
  return fixedCopy(new TextEncoder().encode(`${text}\0`));
}

/** The address of a buffer made by the functions above; the caller keeps the buffer alive. */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(koffi.address(bytes));
}

/** How a call ended: `value` is not below 0, or -1 with `errno`. */
export interface Outcome {
  readonly value: number;
  readonly errno: string | undefined;
}

/** One union bpf_attr: offsets in bytes. */
export class Attr {
  readonly #bytes = fixed(ATTR_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #held: Uint8Array[] = [];

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: bigint): this {
    this.#view.setBigUint64(offset, value, true);
    return this;
  }

  /** @param bytes from `fixed`, `fixedCopy` or `fixedText`; undefined and empty ones become NULL */
  pointer(offset: number, bytes: Uint8Array | undefined): this {
    if (bytes === undefined || bytes.length === 0) return this;
    this.#held.push(bytes);
    return this.u64(offset, addressOf(bytes));
  }

  /** A name as the kernel takes it: 15 characters, letters, digits, `_` and `.`. */
  name(offset: number, name: string): this {
    this.#bytes.set(new TextEncoder().encode(name.replace(/[^A-Za-z0-9_.]/g, '_').slice(0, 15)), offset);
    return this;
  }

  /** What the kernel has written into the union. */
  read(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /** @throws KernelError `unsupported_platform`, `no_bpf` */
  call(command: number): Outcome {
    const { number, syscall } = libc();
    const value = Number(syscall(number, command, this.#bytes, ATTR_BYTES));
    const errno = value < 0 ? errnoName(koffi.errno()) : undefined;
    // Reached through `this`, so that no buffer could go before the call had returned.
    this.#held.length = 0;
    if (errno === 'ENOSYS') {
      throw new KernelError(
        'no_bpf',
        'this kernel has no bpf(2) (ENOSYS): it was built without CONFIG_BPF_SYSCALL, or is an emulation of Linux',
        { errno },
      );
    }
    return { value, errno };
  }
}

function errnoName(errno: number): string {
  const name = Object.entries(koffi.os.errno).find(([name, value]) => value === errno && !ALIASES.has(name))?.[0];
  return KERNEL_ONLY[errno] ?? name ?? `errno ${errno}`;
}

export function closeFd(fd: number): void {
  libc().close(fd);
}

/** The error for a refusal: EPERM is explained, all else is `code`. */
export function refusal(code: KernelErrorCode, what: string, { errno = '' }: Outcome, facts = {}): KernelError {
  if (errno === 'EPERM') return notPermitted(what);
  return new KernelError(code, `the kernel refused ${what} (${errno})`, { ...facts, errno });
}
