/**
 * Random programs that behave the same wherever they run: r1 is a block of memory, r0 and the block are the result.
 * Control flow goes forward, but for loops counted in memory; accesses are in bounds and aligned where they must be; no
 * address and nothing undefined gets into data. The same seed gives the same program.
 */
import type { AluOp, Instruction, JumpOp, Register, Size, Width } from '../../src/isa/instruction.ts';

/** Bytes of the block. The last 80 take the registers at the end of the main function, the word before them its stack. */
export const BLOCK_BYTES = 256;
const RESULT = BLOCK_BYTES - 80;
/** Bytes of the block that random accesses use. */
const DATA_BYTES = RESULT - 8;
const STACK_BYTES = 64;
/** Holds the block's address in every function; never written by the random part. */
const BLOCK: Register = 9;
const SCRATCH: readonly Register[] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

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

class Generator {
  private readonly random: Random;
  constructor(seed: number) {
    this.random = new Random(seed);
  }

  program(): Instruction[] {
    const { random } = this;
    const functions = random.oneIn(2) ? 0 : 1 + random.below(3);
    const bodies: Instruction[][] = [];
    /** Calls to patch: where in which body, and which function. */
    const calls: { body: number; at: number; callee: number }[] = [];
    for (let index = 0; index <= functions; index++) {
      const body = this.prologue();
      const length = 3 + random.below(index === 0 ? 50 : 20);
      const from = body.length;
      while (body.length < from + length) {
        // Only later functions: no recursion.
        if (index < functions && random.oneIn(12))
          this.call(body, index, index + 1 + random.below(functions - index), calls);
        else body.push(...this.step());
      }
      this.branches(body, from);
      this.epilogue(body, index === 0);
      bodies.push(body);
    }
    const starts: number[] = [];
    let at = 0;
    for (const body of bodies) {
      starts.push(at);
      at += body.length;
    }
    for (const { body, at, callee } of calls) {
      bodies[body]![at] = { kind: 'callSubprogram', offset: starts[callee]! - (starts[body]! + at) - 1 };
    }
    return bodies.flat();
  }

  /** The block's address in its register, the rest of the registers from the block, the stack from them. */
  private prologue(): Instruction[] {
    const { random } = this;
    const body: Instruction[] = [{ kind: 'alu', op: 'mov', width: 64, dst: BLOCK, src: 1, imm: 0 }];
    for (const dst of SCRATCH) {
      body.push({ kind: 'load', size: 8, signed: false, dst, src: BLOCK, offset: 8 * random.below(DATA_BYTES / 8) });
    }
    for (let at = 8; at <= STACK_BYTES; at += 8) {
      body.push({ kind: 'store', size: 8, dst: 10, offset: -at, src: random.pick(SCRATCH), imm: 0 });
    }
    return body;
  }

  private epilogue(body: Instruction[], main: boolean): void {
    if (main) {
      for (const src of SCRATCH)
        body.push({ kind: 'store', size: 8, dst: BLOCK, offset: RESULT + 8 * src, src, imm: 0 });
      const offset = -8 * (1 + this.random.below(STACK_BYTES / 8));
      body.push({ kind: 'load', size: 8, signed: false, dst: 1, src: 10, offset });
      body.push({ kind: 'store', size: 8, dst: BLOCK, offset: RESULT - 8, src: 1, imm: 0 });
    }
    body.push({ kind: 'exit' });
  }

  private call(
    body: Instruction[],
    from: number,
    callee: number,
    calls: { body: number; at: number; callee: number }[],
  ) {
    body.push({ kind: 'alu', op: 'mov', width: 64, dst: 1, src: BLOCK, imm: 0 });
    calls.push({ body: from, at: body.length, callee });
    body.push({ kind: 'exit' });
    // What a call leaves in r1-r5 is undefined.
    for (const dst of [1, 2, 3, 4, 5] as const) {
      body.push({ kind: 'alu', op: 'mov', width: 64, dst, src: undefined, imm: this.random.imm() });
    }
  }

  private place(size: Size): { base: Register; offset: number } {
    const { random } = this;
    if (random.oneIn(3)) return { base: 10, offset: -STACK_BYTES + size * random.below(STACK_BYTES / size) };
    return { base: BLOCK, offset: size * random.below(DATA_BYTES / size) };
  }

  private step(): Instruction[] {
    const { random } = this;
    const width: Width = random.oneIn(2) ? 32 : 64;
    const dst = random.pick(SCRATCH);
    const src = random.pick(SCRATCH);
    const size = random.pick<Size>([1, 2, 4, 8]);
    const choice = random.below(20);
    if (choice < 10) {
      const op = random.pick(ALU);
      const operand = random.oneIn(2) ? src : undefined;
      return [{ kind: 'alu', op, width, dst, src: operand, imm: operand === undefined ? random.imm() : 0 }];
    }
    switch (choice) {
      case 10:
        return [{ kind: 'alu', op: 'neg', width, dst, src: undefined, imm: 0 }];
      case 11:
        return width === 64 && random.oneIn(3)
          ? [{ kind: 'movsx', width, from: 32, dst, src }]
          : [{ kind: 'movsx', width, from: random.pick([8, 16] as const), dst, src }];
      case 12: {
        const order = random.pick(['le', 'be', 'swap'] as const);
        return [{ kind: 'byteswap', order, size: random.pick([16, 32, 64] as const), dst }];
      }
      case 13: {
        const value = random.u64() >> BigInt(random.below(64));
        return [{ kind: 'loadImm64', dst, value, reference: undefined }, { kind: 'wide' }];
      }
      case 14:
      case 15: {
        const { base, offset } = this.place(size);
        return [{ kind: 'load', size, signed: size < 8 && random.oneIn(2), dst, src: base, offset }];
      }
      case 16:
      case 17: {
        const { base, offset } = this.place(size);
        return [{ kind: 'store', size, dst: base, offset, src: random.oneIn(2) ? src : undefined, imm: random.imm() }];
      }
      default:
        return [this.atomic(dst, src, size)];
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

  /** Replaces some instructions by forward jumps. */
  private branches(body: Instruction[], from: number): void {
    const { random } = this;
    const simple = (slot: number): boolean => {
      const { kind } = body[slot]!;
      return kind !== 'loadImm64' && kind !== 'wide' && kind !== 'exit' && kind !== 'callSubprogram';
    };
    // A jump must neither land in a wide constant nor between a call and what cleans up behind it.
    const targets: number[] = [];
    let sinceCall = 0;
    for (let slot = from; slot < body.length; slot++) {
      if (body[slot]!.kind === 'exit') sinceCall = 6;
      if (body[slot]!.kind !== 'wide' && sinceCall === 0 && body[slot + 1]?.kind !== 'exit') targets.push(slot);
      if (sinceCall > 0) sinceCall--;
    }
    targets.push(body.length);
    for (const slot of targets) {
      if (slot >= body.length || !simple(slot) || body[slot - 1]?.kind === 'exit' || !random.oneIn(6)) continue;
      const later = targets.filter(target => target > slot);
      const target = later[random.below(Math.min(later.length, 8))]!;
      if (random.oneIn(10)) body[slot] = { kind: 'goto', offset: target - slot - 1, long: random.oneIn(2) };
      else {
        const src = random.oneIn(2) ? random.pick(SCRATCH) : undefined;
        body[slot] = {
          kind: 'jump',
          op: random.pick(JUMPS),
          width: random.oneIn(2) ? 32 : 64,
          dst: random.pick(SCRATCH),
          src,
          imm: src === undefined ? random.imm() : 0,
          offset: target - slot - 1,
        };
      }
    }
  }
}

export function randomProgram(seed: number): Instruction[] {
  return new Generator(seed).program();
}
