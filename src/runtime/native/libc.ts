/**
 * The few calls into libc that the native backend needs, through koffi. Nothing else in the project makes system
 * calls. Addresses travel as bigint.
 */
import koffi from 'koffi';
import { RuntimeError } from '../errors.ts';

const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;
const MADV_HUGEPAGE = 14;
const MEMBARRIER_SYSCALL: Record<string, number> = { x64: 324, arm64: 283 };
const MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5;
const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6;

export const Protection = {
  none: PROT_NONE,
  readWrite: PROT_READ | PROT_WRITE,
  readExecute: PROT_READ | PROT_EXEC,
} as const;

type Native = (...args: unknown[]) => number | bigint;

interface Libc {
  readonly mmap: Native;
  readonly munmap: Native;
  readonly mprotect: Native;
  readonly madvise: Native;
  readonly memfdCreate: Native;
  readonly ftruncate: Native;
  readonly close: Native;
  readonly syscall: Native;
  readonly clockGettime: Native;
  readonly getauxval: Native;
  /** Undefined where instruction caches follow memory by themselves. */
  readonly clearCache: Native | undefined;
  symbol(name: string): bigint;
}

let loaded: Libc | undefined;

/** @throws RuntimeError `unsupported_platform` away from Linux on x86-64 or arm64. */
function libc(): Libc {
  if (loaded) return loaded;
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
    throw new RuntimeError(
      'unsupported_platform',
      `native execution needs Linux on x86-64 or arm64, this is ${process.platform} on ${process.arch}; use backend "interpreter"`,
      { platform: process.platform, arch: process.arch },
    );
  }
  const lib = koffi.load('libc.so.6');
  loaded = {
    mmap: lib.func('int64_t mmap(int64_t address, size_t length, int protection, int flags, int fd, int64_t offset)'),
    munmap: lib.func('int munmap(int64_t address, size_t length)'),
    mprotect: lib.func('int mprotect(int64_t address, size_t length, int protection)'),
    madvise: lib.func('int madvise(int64_t address, size_t length, int advice)'),
    memfdCreate: lib.func('int memfd_create(const char *name, unsigned int flags)'),
    ftruncate: lib.func('int ftruncate(int fd, int64_t length)'),
    close: lib.func('int close(int fd)'),
    getauxval: lib.func('uint64_t getauxval(uint64_t type)'),
    clockGettime: lib.func('int clock_gettime(int id, _Out_ void *time)'),
    clearCache:
      process.arch === 'arm64'
        ? koffi.load('libgcc_s.so.1').func('void __clear_cache(int64_t begin, int64_t end)')
        : undefined,
    syscall: lib.func('int64_t syscall(int64_t number, int64_t a, int64_t b, int64_t c)'),
    symbol: name => BigInt(koffi.address(lib.symbol(name, 'void *'))),
  };
  return loaded;
}

function refused(call: string, what: string): RuntimeError {
  const errno = koffi.errno();
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? String(errno);
  return new RuntimeError(
    'os_refused',
    `${call} failed with ${name} while mapping ${what}; check memory limits (ulimit -v) and seccomp rules`,
    {
      call,
      errno: name,
      what,
    },
  );
}

function map(address: bigint, length: number, protection: number, flags: number, fd: number, what: string): bigint {
  const result = BigInt(libc().mmap(address, length, protection, flags, fd, 0));
  if (result === -1n) throw refused('mmap', what);
  return result;
}

/** Reserves `length` bytes of address space without access. */
export function reserve(length: number, what: string): bigint {
  return map(0n, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, what);
}

export function protect(address: bigint, length: number, protection: number, what: string): void {
  if (Number(libc().mprotect(address, length, protection)) !== 0) throw refused('mprotect', what);
}

/** A wish: kernels without huge pages, or told not to give them, go on with small ones. */
export function adviseHugePages(address: bigint, length: number): void {
  libc().madvise(address, length, MADV_HUGEPAGE);
}

export function unmap(address: bigint, length: number): void {
  libc().munmap(address, length);
}

/** The same memory twice: once writable, once executable. No address is ever both. */
export function mapTwice(length: number, what: string): { writable: bigint; executable: bigint } {
  const fd = Number(libc().memfdCreate('switchyard-code', MFD_CLOEXEC));
  if (fd < 0) throw refused('memfd_create', what);
  try {
    if (Number(libc().ftruncate(fd, length)) !== 0) throw refused('ftruncate', what);
    const writable = map(0n, length, Protection.readWrite, MAP_SHARED, fd, what);
    try {
      return { writable, executable: map(0n, length, Protection.readExecute, MAP_SHARED, fd, what) };
    } catch (error) {
      unmap(writable, length);
      throw error;
    }
  } finally {
    libc().close(fd);
  }
}

export interface Mapping {
  /** A live view of the memory. */
  readonly buffer: ArrayBuffer;
  /** Gives the memory back at once; the addresses stay reserved, and read as zeros, until no view is left. */
  discard(): void;
}

/** Ends a mapping when the last JS view of it is gone: a stale view must read zeros, not crash the process. */
const finished = new FinalizationRegistry<{ address: bigint; length: number }>(({ address, length }) =>
  unmap(address, length),
);

/** Makes a mapping visible to JS. `start` and `total` are the whole range to give back, guards included. */
export function view(address: bigint, length: number, start = address, total = length): Mapping {
  const buffer = koffi.view(address, length) as ArrayBuffer;
  return {
    buffer,
    discard: () => {
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
      map(address, length, Protection.readWrite, flags, -1, 'nothing over memory given back');
      finished.register(buffer, { address: start, length: total });
    },
  };
}

/** Memory that a file descriptor stands for, shared with whoever else maps it. */
export function mapShared(fd: number, length: number, what: string): Mapping & { readonly address: bigint } {
  const address = map(0n, length, Protection.readWrite, MAP_SHARED, fd, what);
  return { address, ...view(address, length) };
}

/** Time of a POSIX clock, ns. */
export function clockGettime(id: number): bigint {
  const time = new BigInt64Array(2);
  if (Number(libc().clockGettime(id, time)) !== 0) return 0n;
  return time[0]! * 1_000_000_000n + time[1]!;
}

const AT_HWCAP = 16;

/** The processor's features as Linux reports them (getauxval AT_HWCAP); which bit means what depends on the architecture. */
export function hardwareCapabilities(): bigint {
  return BigInt(libc().getauxval(AT_HWCAP));
}

/** Address of a libc function, for calls from generated code. */
export function libcSymbol(name: string): bigint {
  return libc().symbol(name);
}

/** Instruction caches do not watch memory here: what was written must be flushed by `flushInstructions`. */
export function needsFlush(): boolean {
  return libc().clearCache !== undefined;
}

/**
 * After code was written, through whatever address: all processors fetch it anew from `address`, at which it runs. On
 * arm64 that takes cache maintenance by address (dc cvau, ic ivau); elsewhere nothing.
 */
export function flushInstructions(address: bigint, length: number): void {
  libc().clearCache?.(address, address + BigInt(length));
}

let syncCoreReady: boolean | undefined;

/**
 * Makes every running thread of this process pass through a core-serialising instruction, so that none goes on with
 * instruction bytes fetched before a patch (membarrier, PRIVATE_EXPEDITED_SYNC_CORE).
 * @returns false where the kernel does not offer it; x86-64 then still sees aligned 8-byte patches whole, only later.
 */
export function syncCores(): boolean {
  const number = MEMBARRIER_SYSCALL[process.arch];
  if (number === undefined) return false;
  syncCoreReady ??= Number(libc().syscall(number, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)) === 0;
  return syncCoreReady && Number(libc().syscall(number, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)) === 0;
}
