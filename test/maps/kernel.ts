/** The running kernel's maps through bpf(2), as the oracle of these tests. */
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapSpec } from '../../src/object/spec.ts';

const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const Command = {
  mapCreate: 0,
  lookup: 1,
  update: 2,
  delete: 3,
  nextKey: 4,
  progLoad: 5,
  freeze: 22,
  objInfo: 15,
} as const;
const ATTR_BYTES = 144;

type Syscall = (number: number, command: number, attr: unknown, size: number) => number | bigint;

interface Kernel {
  readonly syscall: Syscall;
  readonly close: (fd: number) => number;
}

let loaded: Kernel | undefined;

function kernel(): Kernel {
  if (loaded === undefined) {
    const libc = koffi.load('libc.so.6');
    loaded = {
      syscall: libc.func('int64_t syscall(int64_t number, int64_t command, void *attr, uint64_t size)') as Syscall,
      close: libc.func('int close(int fd)') as (fd: number) => number,
    };
  }
  return loaded;
}

/** Memory outside the JS heap, whose address a syscall's argument can hold. */
class Block {
  readonly address: bigint;
  readonly bytes: Uint8Array;

  constructor(size: number) {
    const pointer = koffi.alloc('uint8_t', size);
    this.address = BigInt(koffi.address(pointer));
    this.bytes = new Uint8Array(koffi.view(pointer, size) as ArrayBuffer);
  }
}

/** The result of a call: a number not below 0, or the name of an errno. */
type Result = number | string;

/** Errnos that libc has no name for, but bpf(2) gives. */
const KERNEL_ONLY: Readonly<Record<number, string>> = { 524: 'ENOTSUPP' };

function bpf(command: number, fill: (attr: DataView) => void): Result {
  const attr = new Uint8Array(ATTR_BYTES);
  fill(new DataView(attr.buffer));
  const result = Number(kernel().syscall(SYS_BPF[process.arch] ?? -1, command, attr, ATTR_BYTES));
  if (result >= 0) return result;
  const errno = koffi.errno();
  return (
    KERNEL_ONLY[errno] ??
    Object.entries(koffi.os.errno).find(
      ([name, value]) => value === errno && name !== 'EWOULDBLOCK' && name !== 'ENOTSUP',
    )?.[0] ??
    `errno ${errno}`
  );
}

/** CPUs that per-CPU values have room for. */
export function possibleCpus(): number {
  const range = /(\d+)\s*$/.exec(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
  return Number(range?.[1] ?? 0) + 1;
}

/** An fd, or the name of the errno. */
function create(spec: MapSpec): Result {
  return bpf(Command.mapCreate, attr => {
    attr.setUint32(0, MAP_TYPE[spec.type], true);
    attr.setUint32(4, spec.keySize, true);
    attr.setUint32(8, spec.valueSize, true);
    attr.setUint32(12, spec.maxEntries, true);
    attr.setUint32(16, spec.flags, true);
  });
}

/** The errno with which the kernel refuses to make such a map; undefined where it makes it. */
export function creationFailure(spec: MapSpec): string | undefined {
  const fd = create(spec);
  if (typeof fd === 'string') return fd;
  kernel().close(fd);
  return undefined;
}

/** Why maps can't be compared with the kernel here; undefined where they can. Under CI they must be. */
export function kernelMissing(): string | undefined {
  const why =
    process.platform !== 'linux' || SYS_BPF[process.arch] === undefined
      ? 'not Linux'
      : creationFailure({
          name: 'probe',
          type: 'array',
          keySize: 4,
          valueSize: 4,
          maxEntries: 1,
          flags: 0,
          contents: [],
        });
  if (why !== undefined && process.env.CI) throw new Error(`bpf(2) is not usable (${why}), but CI needs it`);
  return why;
}

export class KernelMap {
  readonly #fd: number;
  readonly #key: Block;
  readonly #next: Block;
  readonly #value: Block;

  /** @param valueBytes bytes of a value as user space sees it */
  constructor(spec: MapSpec, valueBytes: number) {
    const fd = create(spec);
    if (typeof fd === 'string') throw new Error(`the kernel refuses ${JSON.stringify(spec)}: ${fd}`);
    this.#fd = fd;
    this.#key = new Block(spec.keySize);
    this.#next = new Block(spec.keySize);
    this.#value = new Block(valueBytes);
  }

  #element(command: number, key: Uint8Array | undefined, value: Block | undefined, flags: number): string | undefined {
    if (key !== undefined) this.#key.bytes.set(key);
    const result = bpf(command, attr => {
      attr.setUint32(0, this.#fd, true);
      attr.setBigUint64(8, key === undefined ? 0n : this.#key.address, true);
      attr.setBigUint64(16, value?.address ?? 0n, true);
      attr.setBigUint64(24, BigInt(flags), true);
    });
    return typeof result === 'string' ? result : undefined;
  }

  /** @returns the errno's name, undefined for success */
  update(key: Uint8Array, value: Uint8Array, flags: number): string | undefined {
    this.#value.bytes.set(value);
    return this.#element(Command.update, key, this.#value, flags);
  }

  delete(key: Uint8Array): string | undefined {
    return this.#element(Command.delete, key, undefined, 0);
  }

  lookup(key: Uint8Array): Uint8Array | string {
    return this.#element(Command.lookup, key, this.#value, 0) ?? this.#value.bytes.slice();
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | string {
    return this.#element(Command.nextKey, key, this.#next, 0) ?? this.#next.bytes.slice();
  }

  freeze(): string | undefined {
    const result = bpf(Command.freeze, attr => attr.setUint32(0, this.#fd, true));
    return typeof result === 'string' ? result : undefined;
  }

  close(): void {
    kernel().close(this.#fd);
  }
}

/** Loads `r0 = 0; exit` as an XDP program. @returns fd and id */
export function loadProgram(): { fd: number; id: number } {
  const code = new Block(16);
  code.bytes.set([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  const license = new Block(4);
  license.bytes.set(new TextEncoder().encode('GPL\0'));
  const fd = bpf(Command.progLoad, attr => {
    attr.setUint32(0, 6, true);
    attr.setUint32(4, 2, true);
    attr.setBigUint64(8, code.address, true);
    attr.setBigUint64(16, license.address, true);
  });
  if (typeof fd === 'string') throw new Error(`the kernel refuses the program: ${fd}`);
  const info = new Block(256);
  info.bytes.fill(0);
  const result = bpf(Command.objInfo, attr => {
    attr.setUint32(0, fd, true);
    attr.setUint32(4, 256, true);
    attr.setBigUint64(8, info.address, true);
  });
  if (typeof result === 'string') throw new Error(`the kernel gives no info: ${result}`);
  return { fd, id: new DataView(info.bytes.buffer, info.bytes.byteOffset).getUint32(4, true) };
}

export function closeProgram(fd: number): void {
  kernel().close(fd);
}
