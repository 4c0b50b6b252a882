/**
 * Runs compiled code inside the test process: one data region (contexts, stacks, maps) and one code region, which is
 * mapped twice (writable and executable). A miniature of what `runtime/native` does, so that this room can be tested
 * without the rooms below it.
 */
import koffi from 'koffi';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import type { Code, CompileOptions, Machine, RelocationTarget } from '../../src/jit/shared/code.ts';
import { CODE_ALIGNMENT, spacing } from '../../src/jit/shared/placement.ts';
import { applyRelocation } from '../../src/jit/shared/relocate.ts';
import { x64Machine } from '../../src/jit/x64/machine.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import { RunContext } from '../../src/memory/layout.ts';
import { flushInstructions } from '../../src/runtime/native/libc.ts';
import type { Platform, Processor } from './processor.ts';

const MACHINES: Readonly<Record<string, Machine>> = { x64: x64Machine, arm64: arm64Machine('lse') };
const machine = process.platform === 'linux' ? MACHINES[process.arch] : undefined;
if (!machine && process.env.CI) throw new Error('native tests need Linux on x86-64 or arm64');

const HOST = koffi.proto('uint64_t JitTestHost(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)');

/** The processor that the tests themselves run on. */
class HostProcessor implements Processor {
  readonly machine = machine!;
  private readonly registered: ReturnType<typeof koffi.register>[] = [];

  map(): void {}
  entry(address: bigint): () => void {
    return koffi.decode(address, ENTRY);
  }
  codeChanged(address: bigint, bytes: number): void {
    flushInstructions(address, bytes);
  }
  hostFunction(body: (...args: bigint[]) => bigint): bigint {
    const callback = koffi.register((...args: (number | bigint)[]) => body(...args.map(BigInt)), koffi.pointer(HOST));
    this.registered.push(callback);
    return BigInt(koffi.address(callback));
  }
  close(): void {
    for (const callback of this.registered) koffi.unregister(callback);
  }
}

export const nativePlatform: Platform = {
  name: `${process.arch}, native`,
  machine: machine ?? x64Machine,
  available: machine !== undefined,
  slowdown: process.env.SWITCHYARD_ARM64_NODE ? 20 : 1,
  create: () => new HostProcessor(),
};

const PROT = { read: 1, write: 2, execute: 4 } as const;
const MAP_SHARED = 1;
/** koffi registers types by name, once per process. */
const ENTRY = koffi.proto('void JitTestEntry()');

export interface ComputerOptions {
  readonly dataBytes?: number;
  readonly codeBytes?: number;
}

/** A processor with memory, ready to run. */
export class Computer {
  readonly machine: Machine;
  private readonly processor: Processor;
  readonly data: Uint8Array;
  readonly view: DataView;
  readonly dataAddress: bigint;
  private readonly code: Uint8Array;
  private readonly codeView: DataView;
  private readonly codeAddress: bigint;
  private dataUsed: number;
  private codeUsed = 0;
  private placed = 0;
  private readonly enter: () => void;
  private readonly routines = new Map<string, bigint>();
  private readonly services = new Map<string, bigint>();

  constructor(platform: Platform, options: ComputerOptions = {}) {
    this.processor = platform.create();
    this.machine = platform.machine;
    const dataBytes = options.dataBytes ?? 1 << 20;
    const codeBytes = options.codeBytes ?? 1 << 22;
    const libc = koffi.load('libc.so.6');
    const memfdCreate = libc.func('int memfd_create(const char *name, unsigned int flags)');
    const ftruncate = libc.func('int ftruncate(int fd, int64_t length)');
    const mmap = libc.func(
      'int64_t mmap(int64_t address, int64_t length, int prot, int flags, int fd, int64_t offset)',
    );
    const close = libc.func('int close(int fd)');
    const map = (fd: number, bytes: number, prot: number): bigint => {
      const address = BigInt(mmap(0, bytes, prot, MAP_SHARED, fd, 0));
      if (address === -1n) throw new Error('mmap failed');
      return address;
    };
    const file = (bytes: number): number => {
      const fd: number = memfdCreate('jit-test', 0);
      if (fd < 0 || ftruncate(fd, bytes) !== 0) throw new Error('memfd failed');
      return fd;
    };
    const dataFd = file(dataBytes);
    this.dataAddress = map(dataFd, dataBytes, PROT.read | PROT.write);
    this.data = new Uint8Array(koffi.view(this.dataAddress, dataBytes));
    this.view = new DataView(this.data.buffer);
    close(dataFd);
    const codeFd = file(codeBytes);
    this.codeAddress = map(codeFd, codeBytes, PROT.read | PROT.execute);
    this.code = new Uint8Array(koffi.view(map(codeFd, codeBytes, PROT.read | PROT.write), codeBytes));
    this.codeView = new DataView(this.code.buffer);
    close(codeFd);
    this.processor.map(this.dataAddress, dataBytes);
    this.processor.map(this.codeAddress, codeBytes);
    // RunContext at 0, BPF stack of 64 KiB behind it.
    this.dataUsed = 1 << 16;
    this.view.setBigUint64(RunContext.stackTop, this.dataAddress + BigInt(this.dataUsed), true);
    this.enter = this.processor.entry(this.place(this.machine.entryTrampoline(this.dataAddress)));
  }

  /** @returns address of `size` zeroed bytes, aligned to 64. */
  allocate(size: number): bigint {
    const at = this.dataUsed;
    this.dataUsed += (size + 63) & ~63;
    if (this.dataUsed > this.data.length) throw new Error('test data region is full');
    return this.dataAddress + BigInt(at);
  }
  offset(address: bigint): number {
    return Number(address - this.dataAddress);
  }

  /** @returns address of the executable copy. */
  place(bytes: Uint8Array): bigint {
    const at = this.codeUsed;
    this.codeUsed += ((bytes.length + CODE_ALIGNMENT - 1) & -CODE_ALIGNMENT) + spacing(bytes.length, ++this.placed);
    if (this.codeUsed > this.code.length) throw new Error('test code region is full');
    this.code.set(bytes, at);
    const address = this.codeAddress + BigInt(at);
    this.processor.codeChanged(address, bytes.length);
    return address;
  }

  /** Forgets all code placed since the mark; data likewise. */
  mark(): () => void {
    const { codeUsed, dataUsed } = this;
    return () => {
      this.codeUsed = codeUsed;
      this.dataUsed = dataUsed;
    };
  }

  addRoutine(name: string, address: bigint): void {
    this.routines.set(name, address);
  }
  /** @param target address of a host function, or what a JS function is to do */
  addService(name: string, target: bigint | ((...args: bigint[]) => bigint)): void {
    const address = typeof target === 'bigint' ? target : this.processor.hostFunction(target);
    this.services.set(name, this.place(this.machine.serviceThunk(address)));
  }
  close(): void {
    this.processor.close();
  }

  compile(lowered: Lowered, kind: CompileOptions['kind'] = 'program'): Code {
    return this.machine.compile(lowered, { kind, tailCallMode: 'cached' });
  }

  /** Places and relocates; `maps` are the addresses of the used maps. */
  install(code: Code, maps: readonly bigint[] = []): bigint {
    const address = this.place(code.bytes);
    const base = Number(address - this.codeAddress);
    const resolve = (target: RelocationTarget): bigint => {
      if (target.kind === 'self') return address;
      const found =
        target.kind === 'routine'
          ? this.routines.get(target.name)
          : target.kind === 'service'
            ? this.services.get(target.name)
            : maps[target.index];
      if (found === undefined) throw new Error(`unresolved ${JSON.stringify(target)}`);
      return found;
    };
    const placed = new DataView(this.code.buffer, base, code.bytes.length);
    for (const relocation of code.relocations) applyRelocation(placed, relocation, address, resolve(relocation.target));
    return address;
  }

  /** The aligned word of installed code at `address`. */
  codeWord(address: bigint): bigint {
    return this.codeView.getBigUint64(Number(address - this.codeAddress), true);
  }
  setCodeWord(address: bigint, word: bigint): void {
    this.codeView.setBigUint64(Number(address - this.codeAddress), word, true);
    this.processor.codeChanged(address, 8);
  }

  /** Enters the code at `address`. @returns r0 */
  call(address: bigint, ...args: readonly bigint[]): bigint {
    this.view.setBigUint64(RunContext.entryTarget, address, true);
    for (let i = 0; i < 5; i++) {
      this.view.setBigUint64(RunContext.entryArguments + 8 * i, BigInt.asUintN(64, args[i] ?? 0n), true);
    }
    this.enter();
    return this.view.getBigUint64(RunContext.entryResult, true);
  }
}
