/**
 * Random programs that behave the same wherever they run: r1 is a block of memory, r0 and the block are the result. A case is
 * a program to enter, and some that it and they can reach by tail calls through one prog array, some slots of which are empty.
 * Jumps go forward but for loops with a budget in memory; accesses are in bounds and aligned where they must be; no
 * address and nothing undefined gets into data. The same seed gives the same case.
 */
import type { AluOp, Instruction, JumpOp, Register, Size, Width } from '../../src/isa/instruction.ts';
import type { TailCallMode } from '../../src/jit/shared/code.ts';
import type { TailCallOverrides } from '../../src/jit/shared/tail-call-choices.ts';
import type { TailCallIndex } from '../../src/lowering/lowered.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { MapHeader, RunContext } from '../../src/memory/layout.ts';

/** Bytes of the block. The last 80 take the registers at the end of a program, the word before them its stack. */
export const BLOCK_BYTES = 256;
const RESULT = BLOCK_BYTES - 80;
/** Bytes of the block that random accesses use. */
const DATA_BYTES = RESULT - 8;
/** Bytes below r10 that random accesses use; the loops' budget lies below them. */
const STACK_BYTES = 64;
const BUDGET = -STACK_BYTES - 8;
const LOOPS = 3;
/** Holds the block's address in every function; never written by the random part. */
const BLOCK: Register = 9;
const SCRATCH: readonly Register[] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
/** What a call leaves undefined. */
const LOST: readonly Register[] = [1, 2, 3, 4, 5];

/** Slots of the prog array, used map 0 of every program. */
export const SLOTS = 8;
/** A trusted routine and a host function of five arguments, which whoever runs the programs has to provide. */
export const ROUTINE = {
  name: 'mixed',
  text: `
  r6 = r1
  r6 ^= r5
  r0 = r2
  r0 *= r3
  r0 += r4
  r0 ^= r6
  r1 = 0
  r2 = -1
  r3 = 1
  r4 = 7
  r5 = 0
  exit`,
};
export const SERVICE = {
  name: 'folded',
  body: (...args: bigint[]) =>
    BigInt.asUintN(
      64,
      args.slice(0, 5).reduce((sum, arg, i) => sum * 31n + (arg ^ BigInt(i)), 7n),
    ),
};

const ALU: readonly AluOp[] = 'add sub mul div sdiv mod smod or and xor lsh rsh arsh mov'.split(' ') as AluOp[];
const JUMPS: readonly JumpOp[] = 'eq ne gt ge lt le sgt sge slt sle set'.split(' ') as JumpOp[];
const CONSTANTS = [
  0, 1, -1, 2, 3, 7, 8, 31, 32, 63, 64, 127, 128, -128, 255, 256, 4095, 4096, 65535, 0x7fffffff, -0x80000000,
];

/** xorshift32: small, and the same everywhere. */
export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = Math.imul(seed + 1, 0x9e3779b1) | 1;
    for (let i = 0; i < 4; i++) this.next();
  }
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }
  below(limit: number): number {
    return this.next() % limit;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
  imm(): number {
    return this.oneIn(2) ? this.pick(CONSTANTS) : this.next() >> this.below(32);
  }
  u64(): bigint {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }
}

type SiteKind = 'direct' | 'static' | 'dynamic';
interface RandomProgram {
  readonly insns: readonly Instruction[];
  /** Of each function, bytes. */
  readonly stackDepth: number;
  /** Start slots of functions whose address is taken. */
  readonly callbacks: readonly number[];
  /** Slot numbers of the prog array, by index in the poke table. */
  readonly pokes: readonly number[];
  /** What is known of the index of each tail call, in order. */
  readonly indices: readonly TailCallIndex[];
}
export interface RandomCase {
  /** The first is entered. */
  readonly programs: readonly RandomProgram[];
  /** What each slot of the prog array holds: index in `programs`. */
  readonly slots: readonly (number | undefined)[];
  readonly tailCallMode: TailCallMode;
  readonly tailCallChoices: TailCallOverrides;
}

const mov = (dst: Register, src: Register): Instruction => ({ kind: 'alu', op: 'mov', width: 64, dst, src, imm: 0 });
const set = (dst: Register, imm: number): Instruction => ({
  kind: 'alu',
  op: 'mov',
  width: 64,
  dst,
  src: undefined,
  imm,
});
const load = (size: Size, dst: Register, src: Register, offset: number): Instruction => ({
  kind: 'load',
  size,
  signed: false,
  dst,
  src,
  offset,
});
const store = (size: Size, dst: Register, offset: number, src: Register): Instruction => ({
  kind: 'store',
  size,
  dst,
  offset,
  src,
  imm: 0,
});

/** A function as it grows. */
class Body {
  readonly insns: Instruction[] = [];
  /** Slots where a group starts: nothing may jump into the middle of one. */
  readonly starts: number[] = [];
  /** Groups of one instruction that a jump may take the place of. */
  readonly replaceable: number[] = [];

  /** @returns slot of the first */
  add(...group: Instruction[]): number {
    const at = this.insns.length;
    this.starts.push(at);
    if (group.length === 1) this.replaceable.push(at);
    this.insns.push(...group);
    return at;
  }
}

interface Call {
  readonly body: Body;
  readonly at: number;
  readonly callee: number;
}

class Generator {
  private readonly random: Random;
  private pokes: number[] = [];
  private indices: TailCallIndex[] = [];
  constructor(seed: number) {
    this.random = new Random(seed);
  }

  case(): RandomCase {
    const { random } = this;
    const tailCallMode = random.pick(['baseline', 'cached', 'fast'] as const);
    const tailCallChoices: TailCallOverrides =
      tailCallMode === 'fast'
        ? { emptySlots: random.pick(['test', 'stub']), rangeCheck: random.pick(['always', 'proved']) }
        : {};
    if (!random.oneIn(4)) {
      return { programs: [this.program(false)], slots: Array(SLOTS).fill(undefined), tailCallMode, tailCallChoices };
    }
    const programs = Array.from({ length: 1 + random.below(4) }, () => this.program(true));
    const slots = Array.from({ length: SLOTS }, () => (random.oneIn(3) ? undefined : random.below(programs.length)));
    return { programs, slots, tailCallMode, tailCallChoices };
  }

  private program(tailCalls: boolean): RandomProgram {
    const { random } = this;
    const functions = random.oneIn(2) ? 0 : 1 + random.below(3);
    // A callback has a count of tail calls of its own, and makes none here.
    const callback = functions > 0 && !tailCalls && random.oneIn(3) ? functions : undefined;
    const bodies: Body[] = [];
    const calls: Call[] = [];
    const addresses: Call[] = [];
    this.pokes = [];
    this.indices = [];
    for (let index = 0; index <= functions; index++) {
      const body = new Body();
      this.prologue(body);
      const length = body.insns.length + 3 + random.below(index === 0 ? 50 : 20);
      while (body.insns.length < length) {
        const last = callback === undefined ? functions : functions - 1;
        // Only later functions: no recursion.
        if (index < last && random.oneIn(12)) this.call(body, index + 1 + random.below(last - index), calls);
        else if (callback !== undefined && index < callback && random.oneIn(12)) {
          this.callAddress(body, callback, addresses);
        } else if (tailCalls && index < 2 && random.oneIn(10)) this.tailCall(body);
        else this.step(body);
      }
      this.branches(body);
      this.epilogue(body, index === 0);
      bodies.push(body);
    }
    const starts: number[] = [];
    let at = 0;
    for (const { insns } of bodies) {
      starts.push(at);
      at += insns.length;
    }
    const place = (body: Body) => starts[bodies.indexOf(body)]!;
    for (const { body, at, callee } of calls) {
      body.insns[at] = { kind: 'callSubprogram', offset: starts[callee]! - (place(body) + at) - 1 };
    }
    for (const { body, at, callee } of addresses) {
      const dst = (body.insns[at] as { dst: Register }).dst;
      const offset = starts[callee]! - (place(body) + at) - 1;
      body.insns[at] = { kind: 'loadImm64', dst, value: 0n, reference: { type: 'function', offset } };
    }
    return {
      insns: bodies.flatMap(({ insns }) => insns),
      stackDepth: random.pick([-BUDGET, 128, 256]),
      callbacks: addresses.length > 0 ? [starts[callback!]!] : [],
      pokes: this.pokes,
      indices: this.indices,
    };
  }

  /** The block's address in its register, the rest of the registers from the block, the stack from them. */
  private prologue({ insns }: Body): void {
    const { random } = this;
    insns.push(mov(BLOCK, 1));
    for (const dst of SCRATCH) insns.push(load(8, dst, BLOCK, 8 * random.below(DATA_BYTES / 8)));
    for (let at = 8; at <= STACK_BYTES; at += 8) insns.push(store(8, 10, -at, random.pick(SCRATCH)));
    insns.push({ kind: 'store', size: 8, dst: 10, offset: BUDGET, src: undefined, imm: LOOPS });
  }

  private epilogue({ insns }: Body, main: boolean): void {
    if (main) {
      for (const src of SCRATCH) insns.push(store(8, BLOCK, RESULT + 8 * src, src));
      insns.push(load(8, 1, 10, -8 * (1 + this.random.below(STACK_BYTES / 8))));
      insns.push(store(8, BLOCK, RESULT - 8, 1));
    }
    insns.push({ kind: 'exit' });
  }

  private constants(registers: readonly Register[]): Instruction[] {
    return registers.map(dst => set(dst, this.random.imm()));
  }

  private call(body: Body, callee: number, calls: Call[]): void {
    const at = body.add(mov(1, BLOCK), { kind: 'exit' }, ...this.constants(LOST));
    calls.push({ body, at: at + 1, callee });
  }

  private callAddress(body: Body, callee: number, addresses: Call[]): void {
    const register = this.random.pick([2, 3, 6, 8] as const);
    const at = body.add(
      mov(1, BLOCK),
      set(register, 0),
      { kind: 'wide' },
      { kind: 'callIndirect', register },
      ...this.constants([...LOST, register]),
    );
    addresses.push({ body, at: at + 1, callee });
  }

  private tailCall(body: Body): void {
    const { random } = this;
    const kind = random.pick<SiteKind>(['direct', 'static', 'dynamic']);
    const key = random.below(SLOTS);
    const poke = kind === 'direct' ? this.pokes.push(key) - 1 : undefined;
    // Where the index is not known it may be out of range, and have an upper half.
    const mask = random.oneIn(2) ? SLOTS - 1 : 2 * SLOTS - 1;
    const wide = random.oneIn(3);
    const index: Instruction[] = [set(3, key)];
    if (kind !== 'direct') {
      index[0] = mov(3, random.pick(SCRATCH));
      index.push({ kind: 'alu', op: 'and', width: random.oneIn(2) ? 32 : 64, dst: 3, src: undefined, imm: mask });
      if (wide) {
        index.push(
          { kind: 'loadImm64', dst: 4, value: random.u64() & ~0xffff_ffffn, reference: undefined },
          { kind: 'wide' },
          { kind: 'alu', op: 'or', width: 64, dst: 3, src: 4, imm: 0 },
        );
      }
    }
    this.indices.push(kind === 'direct' ? { max: key, narrow: true } : { max: mask, narrow: !wide });
    body.add(
      ...index,
      mov(1, BLOCK),
      { kind: 'loadImm64', dst: 2, value: 0n, reference: { type: 'mapAddress', index: 0 } },
      { kind: 'wide' },
      { kind: 'tailCall', imm: packTailCall({ usedMap: 0, dynamic: kind === 'dynamic', poke }) },
      ...this.constants([0, ...LOST]),
    );
  }

  private place(size: Size): { base: Register; offset: number } {
    const { random } = this;
    if (random.oneIn(3)) return { base: 10, offset: -STACK_BYTES + size * random.below(STACK_BYTES / size) };
    return { base: BLOCK, offset: size * random.below(DATA_BYTES / size) };
  }

  private step(body: Body): void {
    const { random } = this;
    const width: Width = random.oneIn(2) ? 32 : 64;
    const dst = random.pick(SCRATCH);
    const src = random.pick(SCRATCH);
    const size = random.pick<Size>([1, 2, 4, 8]);
    const choice = random.below(22);
    if (choice < 10) {
      if (random.oneIn(8)) {
        // How elements are addressed; other jumps lead between them where they are two groups.
        const shift: Instruction = { kind: 'alu', op: 'lsh', width, dst, src: undefined, imm: random.below(5) };
        const sum: Instruction = { kind: 'alu', op: 'add', width: 64, dst: src, src: dst, imm: 0 };
        body.add(shift, ...(random.oneIn(2) ? [sum] : []));
        if (body.insns.at(-1) !== sum) body.add(sum);
        return;
      }
      const op = random.pick(ALU);
      const operand = random.oneIn(2) ? src : undefined;
      body.add({ kind: 'alu', op, width, dst, src: operand, imm: operand === undefined ? random.imm() : 0 });
      return;
    }
    switch (choice) {
      case 10:
        body.add({ kind: 'alu', op: 'neg', width, dst, src: undefined, imm: 0 });
        return;
      case 11: {
        const from = width === 64 && random.oneIn(3) ? 32 : random.pick([8, 16] as const);
        body.add({ kind: 'movsx', width, from, dst, src });
        return;
      }
      case 12: {
        const order = random.pick(['le', 'be', 'swap'] as const);
        body.add({ kind: 'byteswap', order, size: random.pick([16, 32, 64] as const), dst });
        return;
      }
      case 13: {
        const value = random.u64() >> BigInt(random.below(64));
        body.add({ kind: 'loadImm64', dst, value, reference: undefined }, { kind: 'wide' });
        return;
      }
      case 14:
      case 15: {
        const { base, offset } = this.place(size);
        body.add({ kind: 'load', size, signed: size < 8 && random.oneIn(2), dst, src: base, offset });
        return;
      }
      case 16:
      case 17: {
        const { base, offset } = this.place(size);
        const operand = random.oneIn(2) ? src : undefined;
        body.add({ kind: 'store', size, dst: base, offset, src: operand, imm: random.imm() });
        return;
      }
      case 18:
        this.internal(body, dst);
        return;
      case 19:
        this.loop(body);
        return;
      default:
        body.add(this.atomic(dst, src, size));
    }
  }

  private atomic(dst: Register, src: Register, size: Size): Instruction {
    const { random } = this;
    if (random.oneIn(4)) {
      const { base, offset } = this.place(size);
      return random.oneIn(2)
        ? { kind: 'atomic', op: 'loadAcquire', fetch: false, size, dst, src: base, offset }
        : { kind: 'atomic', op: 'storeRelease', fetch: false, size, dst: base, src, offset };
    }
    const wide: Size = random.oneIn(2) ? 4 : 8;
    const { base, offset } = this.place(wide);
    const op = random.pick(['add', 'or', 'and', 'xor', 'xchg', 'cmpxchg'] as const);
    const fetch = op === 'xchg' || op === 'cmpxchg' || random.oneIn(2);
    return { kind: 'atomic', op, fetch, size: wide, dst: base, src, offset };
  }

  /** What only lowering and routines write. */
  private internal(body: Body, dst: Register): void {
    switch (this.random.below(6)) {
      case 0:
        body.add({ kind: 'callRoutine', routine: ROUTINE.name }, ...this.constants(LOST));
        return;
      case 1:
        body.add({ kind: 'callService', service: SERVICE.name }, ...this.constants(LOST));
        return;
      case 2:
        body.add({ kind: 'runContext', dst }, load(4, dst, dst, RunContext.cpu));
        return;
      case 3:
        body.add(
          { kind: 'loadImm64', dst, value: 0n, reference: { type: 'mapAddress', index: 0 } },
          { kind: 'wide' },
          load(4, dst, dst, MapHeader.maxEntries),
        );
        return;
      case 4: {
        const width: Width = this.random.oneIn(2) ? 32 : 64;
        // There and back again: only the distance stays.
        const step = (op: 'add' | 'sub'): Instruction => ({
          kind: 'aluAddress',
          op,
          width,
          dst,
          reference: { type: 'mapValueAddress', index: 0, offset: this.random.below(4096) },
        });
        body.add(...(this.random.oneIn(2) ? [step('add'), step('sub')] : [step('sub'), step('add')]));
        return;
      }
      default:
        body.add({ kind: 'loadFence' });
    }
  }

  /** Back to an earlier group, while the function's budget lasts. */
  private loop(body: Body): void {
    const { random } = this;
    if (body.starts.length === 0) return;
    const back = random.pick(body.starts.slice(-8));
    const count = random.pick(SCRATCH);
    const at = body.insns.length;
    body.add(
      load(8, count, 10, BUDGET),
      { kind: 'jump', op: 'eq', width: 64, dst: count, src: undefined, imm: 0, offset: 3 },
      { kind: 'alu', op: 'sub', width: 64, dst: count, src: undefined, imm: 1 },
      store(8, 10, BUDGET, count),
      random.oneIn(2)
        ? { kind: 'goto', offset: back - (at + 5), long: random.oneIn(2) }
        : { kind: 'jump', op: 'ge', width: 64, dst: count, src: undefined, imm: 0, offset: back - (at + 5) },
    );
  }

  /** Replaces some instructions by forward jumps. */
  private branches({ insns, starts, replaceable }: Body): void {
    const { random } = this;
    const targets = [...starts, insns.length];
    for (const slot of replaceable) {
      if (!random.oneIn(6)) continue;
      const later = targets.filter(target => target > slot);
      const offset = later[random.below(Math.min(later.length, 8))]! - slot - 1;
      if (random.oneIn(10)) insns[slot] = { kind: 'goto', offset, long: random.oneIn(2) };
      else {
        const src = random.oneIn(2) ? random.pick(SCRATCH) : undefined;
        insns[slot] = {
          kind: 'jump',
          op: random.pick(JUMPS),
          width: random.oneIn(2) ? 32 : 64,
          dst: random.pick(SCRATCH),
          src,
          imm: src === undefined ? random.imm() : 0,
          offset,
        };
      }
    }
  }
}

export function randomCase(seed: number): RandomCase {
  return new Generator(seed).case();
}
