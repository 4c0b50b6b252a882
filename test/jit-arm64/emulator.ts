/**
 * An arm64 processor inside the test process: libunicorn2 (Debian package), through koffi. Memory of the process is
 * mapped into it at the addresses it has, so that code runs with the same pointers as everywhere else.
 *
 * Host functions: each has a stub in a page of the emulator's own that loads its number and branches to the *gate*,
 * where emulation stops; the JS function runs outside the emulator, so it may start another run, and emulation goes on
 * at the link register. Number 0 is the return from the entry point. What the AAPCS64 lets a function clobber is
 * clobbered.
 */
import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { encodeWord } from '../../src/jit/arm64/encodings.ts';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import type { Machine } from '../../src/jit/shared/code.ts';
import type { Platform, Processor } from '../jit/processor.ts';

const LIBRARY = ['/usr/lib/x86_64-linux-gnu/libunicorn.so.2', '/usr/lib/aarch64-linux-gnu/libunicorn.so.2'].find(path =>
  existsSync(path),
);
if (LIBRARY === undefined && process.env.CI) throw new Error('libunicorn2 is not installed');

// unicorn.h, arm64.h
const UC_ARCH_ARM64 = 2;
const UC_MODE_ARM = 0;
const UC_PROT_ALL = 7;
const CPU_MODEL = { lse: 3 /* max */, exclusive: 0 /* Cortex-A57, Armv8.0 */ } as const;
/** Which control, number of arguments, direction: write. */
const control = (type: number, count: number): number => (type | (count << 26) | (1 << 30)) >>> 0;
const UC_CTL_CPU_MODEL = control(7, 1);
const UC_CTL_TB_REMOVE_CACHE = control(9, 2);
const Reg = { lr: 2, sp: 4, x0: 199, pc: 260 } as const;
/** xN for N up to 28. */
const x = (n: number): number => Reg.x0 + n;

const PAGE = 4096;
const STUBS = 0x10000n;
const GATE = STUBS + BigInt(PAGE - 8);
const STUB_BYTES = 8;
const NUMBER_REGISTER = 16;
const HOST_STACK = 0x100000n;
const HOST_STACK_BYTES = 1 << 20;
const GARBAGE = 0xdeadbeefcafe0000n;

type Native = (...args: unknown[]) => number;
interface Unicorn {
  readonly open: Native;
  readonly close: Native;
  readonly control1: Native;
  readonly control2: Native;
  readonly mapPointer: Native;
  readonly map: Native;
  readonly write: Native;
  readonly start: Native;
  readonly regRead: Native;
  readonly regWrite: Native;
  readonly strerror: (code: number) => string;
}
let loaded: Unicorn | undefined;
function unicorn(): Unicorn {
  if (loaded) return loaded;
  const lib = koffi.load(LIBRARY!);
  loaded = {
    open: lib.func('int uc_open(int arch, int mode, _Out_ uint64_t *engine)'),
    close: lib.func('int uc_close(uint64_t engine)'),
    control1: lib.func('uc_ctl', 'int', ['uint64_t', 'uint32_t', '...']) as Native,
    control2: lib.func('uc_ctl', 'int', ['uint64_t', 'uint32_t', '...']) as Native,
    mapPointer: lib.func(
      'int uc_mem_map_ptr(uint64_t engine, uint64_t address, size_t bytes, uint32_t prot, uint64_t pointer)',
    ),
    map: lib.func('int uc_mem_map(uint64_t engine, uint64_t address, size_t bytes, uint32_t prot)'),
    write: lib.func('int uc_mem_write(uint64_t engine, uint64_t address, void *bytes, size_t length)'),
    start: lib.func(
      'int uc_emu_start(uint64_t engine, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)',
    ),
    regRead: lib.func('int uc_reg_read(uint64_t engine, int reg, void *value)'),
    regWrite: lib.func('int uc_reg_write(uint64_t engine, int reg, void *value)'),
    strerror: lib.func('const char *uc_strerror(int code)') as (code: number) => string,
  };
  return loaded;
}

export class Arm64Processor implements Processor {
  readonly machine: Machine;
  private readonly uc = unicorn();
  private readonly engine: bigint;
  private readonly functions: ((...args: bigint[]) => bigint)[] = [() => 0n];
  private readonly word = new BigUint64Array(1);
  /** Code below it, in each region, has been written before. */
  private readonly written = new Map<bigint, bigint>();

  constructor(atomics: 'lse' | 'exclusive') {
    this.machine = arm64Machine(atomics);
    const engine = [0n];
    this.check(this.uc.open(UC_ARCH_ARM64, UC_MODE_ARM, engine));
    this.engine = BigInt(engine[0]!);
    this.check(this.uc.control1(this.engine, UC_CTL_CPU_MODEL, 'int', CPU_MODEL[atomics]));
    this.check(this.uc.map(this.engine, STUBS, PAGE, UC_PROT_ALL));
    this.check(this.uc.map(this.engine, HOST_STACK, HOST_STACK_BYTES, UC_PROT_ALL));
    this.set(Reg.sp, HOST_STACK + BigInt(HOST_STACK_BYTES));
    this.writeStub(0);
  }

  map(address: bigint, bytes: number): void {
    this.check(this.uc.mapPointer(this.engine, address, bytes, UC_PROT_ALL, address));
    this.written.set(address, address);
  }

  entry(address: bigint): () => void {
    return () => this.run(address);
  }

  codeChanged(address: bigint, bytes: number): void {
    const end = address + BigInt(bytes);
    let region = 0n;
    for (const start of this.written.keys()) if (start <= address && start > region) region = start;
    if (address < this.written.get(region)!) {
      this.check(this.uc.control2(this.engine, UC_CTL_TB_REMOVE_CACHE, 'uint64_t', address, 'uint64_t', end));
    }
    if (end > this.written.get(region)!) this.written.set(region, end);
  }

  hostFunction(body: (...args: bigint[]) => bigint): bigint {
    const number = this.functions.push(body) - 1;
    this.writeStub(number);
    return STUBS + BigInt(STUB_BYTES * number);
  }

  close(): void {
    this.uc.close(this.engine);
  }

  get(register: number): bigint {
    this.uc.regRead(this.engine, register, this.word);
    return this.word[0]!;
  }
  set(register: number, value: bigint): void {
    this.word[0] = BigInt.asUintN(64, value);
    this.uc.regWrite(this.engine, register, this.word);
  }

  private run(address: bigint): void {
    this.set(Reg.lr, STUBS);
    for (let at = address; ; ) {
      const code = this.uc.start(this.engine, at, GATE, 0, 0);
      const pc = this.get(Reg.pc);
      if (code !== 0 || pc !== GATE) {
        throw new Error(`emulation stopped at 0x${pc.toString(16)}: ${this.uc.strerror(code)}`);
      }
      const number = Number(this.get(x(NUMBER_REGISTER)));
      if (number === 0) return;
      at = this.get(Reg.lr);
      const args = [0, 1, 2, 3, 4].map(n => this.get(x(n)));
      const result = this.functions[number]!(...args);
      for (let n = 1; n <= 18; n++) this.set(x(n), GARBAGE + BigInt(n));
      this.set(Reg.lr, GARBAGE);
      this.set(x(0), result);
    }
  }

  private writeStub(number: number): void {
    const code = new Int32Array([
      encodeWord('movz Rd, #i, lsl #h*16', 64, NUMBER_REGISTER, number, 0),
      encodeWord('b #j*4', 64, PAGE - 8 - (STUB_BYTES * number + 4)),
    ]);
    this.check(this.uc.write(this.engine, STUBS + BigInt(STUB_BYTES * number), code, code.byteLength));
  }

  private check(code: number): void {
    if (code !== 0) throw new Error(`unicorn: ${this.uc.strerror(code)}`);
  }
}

const platform = (atomics: 'lse' | 'exclusive', slowdown: number): Platform => ({
  name: `arm64, emulated, ${atomics}`,
  machine: arm64Machine(atomics),
  available: LIBRARY !== undefined,
  slowdown,
  create: () => new Arm64Processor(atomics),
});

export const arm64Platform = platform('lse', 4);
/** Armv8.0: a processor without LSE, which refuses its instructions. */
export const arm64v80Platform = platform('exclusive', 4);
