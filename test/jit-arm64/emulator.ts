/**
 * An arm64 processor inside the test process, emulated by libunicorn2. Memory of the process is
 * mapped into it at the addresses it has, so that code runs with the same pointers as everywhere else.
 *
 * Host functions: each has a stub in a page of the emulator's own that loads its number and branches to the *gate*,
 * where emulation stops; the JS function runs outside the emulator, so it may start another run, and emulation goes on
 * at the link register. Number 0 is the return from the entry point. What the AAPCS64 lets a function clobber is
 * clobbered.
 */
import { encodeWord } from '../../src/jit/arm64/encodings.ts';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import type { Machine } from '../../src/jit/shared/code.ts';
import type { Platform, Processor } from '../jit/processor.ts';
import { Arch, Engine, emulatorAvailable, Mode } from '../unicorn.ts';

/** max; Cortex-A57, which is Armv8.0. */
const CPU_MODEL = { lse: 3, exclusive: 0 } as const;
// arm64.h
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

export class Arm64Processor implements Processor {
  readonly machine: Machine;
  readonly engine: Engine;
  private readonly functions: ((...args: bigint[]) => bigint)[] = [() => 0n];
  /** End of what has been written so far, by region: code below it may have run before. */
  private readonly written = new Map<bigint, bigint>();

  constructor(atomics: 'lse' | 'exclusive') {
    this.machine = arm64Machine(atomics);
    this.engine = new Engine(Arch.arm64, Mode.arm, CPU_MODEL[atomics]);
    this.engine.map(STUBS, PAGE);
    this.engine.map(HOST_STACK, HOST_STACK_BYTES);
    this.engine.set(Reg.sp, HOST_STACK + BigInt(HOST_STACK_BYTES));
    this.writeStub(0);
  }

  map(address: bigint, bytes: number): void {
    this.engine.mapHost(address, bytes);
    this.written.set(address, address);
  }

  entry(address: bigint): () => void {
    return () => this.run(address);
  }

  codeChanged(address: bigint, bytes: number): void {
    const end = address + BigInt(bytes);
    let region = 0n;
    for (const start of this.written.keys()) if (start <= address && start > region) region = start;
    if (address < this.written.get(region)!) this.engine.dropTranslations(address, end);
    if (end > this.written.get(region)!) this.written.set(region, end);
  }

  hostFunction(body: (...args: bigint[]) => bigint): bigint {
    const number = this.functions.push(body) - 1;
    this.writeStub(number);
    return STUBS + BigInt(STUB_BYTES * number);
  }

  close(): void {
    this.engine.close();
  }

  private run(address: bigint): void {
    const { engine } = this;
    engine.set(Reg.lr, STUBS);
    for (let at = address; ; ) {
      engine.run(at, GATE, Reg.pc);
      const number = Number(engine.get(x(NUMBER_REGISTER)));
      if (number === 0) return;
      at = engine.get(Reg.lr);
      const args = [0, 1, 2, 3, 4].map(n => engine.get(x(n)));
      const result = this.functions[number]!(...args);
      for (let n = 1; n <= 18; n++) engine.set(x(n), GARBAGE + BigInt(n));
      engine.set(Reg.lr, GARBAGE);
      engine.set(x(0), result);
    }
  }

  private writeStub(number: number): void {
    const code = new Int32Array([
      encodeWord('movz Rd, #i, lsl #h*16', 64, NUMBER_REGISTER, number, 0),
      encodeWord('b #j*4', 64, PAGE - 8 - (STUB_BYTES * number + 4)),
    ]);
    this.engine.write(STUBS + BigInt(STUB_BYTES * number), code);
  }
}

const platform = (atomics: 'lse' | 'exclusive', slowdown: number): Platform => ({
  name: `arm64, emulated, ${atomics}`,
  machine: arm64Machine(atomics),
  available: emulatorAvailable,
  slowdown,
  create: () => new Arm64Processor(atomics),
});

export const arm64Platform = platform('lse', 4);
/** Armv8.0: a processor without LSE, which refuses its instructions. */
export const arm64v80Platform = platform('exclusive', 4);
