/**
 * Random XDP programs that a verifier should accept: sums of all kinds, loads and stores of packet, stack and map value,
 * atomics, branches, bounded loops, calls. Everything that is computed ends up in the packet, the map or r0.
 *
 * Invariant between statements: r0 to r6 hold numbers, r7 points to `PACKET_BYTES` checked bytes, r8 is the packet's end,
 * r9 points to a map value of `VALUE_BYTES`, and the 64 bytes of stack from r10 - 64 on are initialised.
 */

export const PACKET_BYTES = 64;
export const VALUE_BYTES = 64;
const STACK_BYTES = 64;

type Size = 1 | 2 | 4 | 8;
const TYPES: Readonly<Record<Size, string>> = { 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' };
const SIZES: readonly Size[] = [1, 2, 4, 8];
const JUMPS = ['==', '!=', '>', '>=', '<', '<=', 's>', 's>=', 's<', 's<=', '&'];
const ARITHMETIC = ['+=', '-=', '*=', '/=', '%=', 's/=', 's%=', '|=', '&=', '^=', '<<=', '>>=', 's>>=', '='];
const ATOMICS = ['+=', '|=', '&=', '^='];
const FETCHES = ['add', 'or', 'and', 'xor'];
const CONSTANTS = [0, 1, -1, 2, 7, 31, 63, 255, 256, 0xffff, 0x10000, 0x7fffffff, -0x80000000, -128, 0x55555555];
const WIDE = ['0x8000000000000000', '0x7fffffffffffffff', '0xffffffff00000000', '0x100000000', '0xfedcba9876543210'];

/** A generator of numbers: the same for the same seed. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1;
    for (let i = 0; i < 8; i++) this.bits();
  }

  bits(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  below(limit: number): number {
    return this.bits() % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
}

class Generator {
  readonly #random: Random;
  readonly #lines: string[] = [];
  #labels = 0;
  /** r6 counts while a loop is open. */
  #inLoop = false;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  program(): string {
    const random = this.#random;
    this.#emit(
      ...[
        'r8 = *(u32 *)(r1 + 4)',
        'r7 = *(u32 *)(r1 + 0)',
        'r2 = r7',
        `r2 += ${PACKET_BYTES}`,
        'if r2 > r8 goto short',
      ],
      ...['r1 = 0', '*(u32 *)(r10 - 4) = r1', 'r1 = map[values] ll', 'r2 = r10', 'r2 += -4', 'call 1'],
      ...['if r0 == 0 goto short', 'r9 = r0'],
    );
    for (let at = 0; at < STACK_BYTES; at += 8)
      this.#emit(`r0 = *(u64 *)(r7 + ${at})`, `*(u64 *)(r10 - ${STACK_BYTES - at}) = r0`);
    for (let register = 0; register <= 6; register++) this.#value(register);
    const statements = 4 + random.below(30);
    for (let i = 0; i < statements; i++) this.#statement(2);
    for (let register = 0; register <= 6; register++) this.#emit(`*(u64 *)(r7 + ${8 * register}) = r${register}`);
    this.#emit('r1 = *(u64 *)(r10 - 64)', 'r0 ^= r1', 'exit', 'short: r0 = 0', 'exit');
    this.#subprograms();
    return this.#lines.join('\n');
  }

  #emit(...lines: string[]): void {
    this.#lines.push(...lines);
  }

  #label(): string {
    return `l${this.#labels++}`;
  }

  /** A register that holds a number and may be written. */
  #target(): number {
    return this.#random.below(this.#inLoop ? 6 : 7);
  }

  #source(): number {
    return this.#random.below(7);
  }

  #name(register: number, width: 32 | 64): string {
    return `${width === 64 ? 'r' : 'w'}${register}`;
  }

  #width(): 32 | 64 {
    return this.#random.chance(50) ? 64 : 32;
  }

  #constant(): number {
    return this.#random.chance(60) ? this.#random.pick(CONSTANTS) : this.#random.bits() | 0;
  }

  #value(register: number): void {
    const random = this.#random;
    switch (random.below(3)) {
      case 0:
        this.#emit(`r${register} = ${this.#constant()}`);
        break;
      case 1:
        this.#emit(`r${register} = ${random.pick(WIDE)} ll`);
        break;
      default:
        this.#emit(`r${register} = *(u64 *)(r7 + ${random.below(PACKET_BYTES - 7)})`);
    }
  }

  #arithmetic(target = this.#target(), source = this.#source()): void {
    const random = this.#random;
    const width = this.#width();
    const to = this.#name(target, width);
    const kind = random.below(12);
    if (kind === 0) this.#emit(`${to} = -${to}`);
    else if (kind === 1)
      this.#emit(
        `r${target} = ${random.pick(['be16', 'be32', 'be64', 'le16', 'le32', 'le64', 'bswap16', 'bswap32', 'bswap64'])} r${target}`,
      );
    else if (kind === 2) {
      const from = random.pick(width === 64 ? ['s8', 's16', 's32'] : ['s8', 's16']);
      this.#emit(`${to} = (${from})${this.#name(source, width)}`);
    } else {
      const op = random.pick(ARITHMETIC);
      const shift = op.includes('<<') || op.includes('>>');
      if (random.chance(50)) this.#emit(`${to} ${op} ${this.#name(source, width)}`);
      else if (shift) this.#emit(`${to} ${op} ${random.below(width)}`);
      else {
        const divides = op.includes('/') || op.includes('%');
        this.#emit(`${to} ${op} ${this.#constant() || (divides ? 3 : 0)}`);
      }
    }
  }

  /** A place in the packet, stack or map value: as the inside of the parentheses. */
  #place(size: Size, aligned: boolean, kinds = 3): string {
    const random = this.#random;
    const at = (limit: number, step: number) => random.below(Math.floor((limit - size) / step) + 1) * step;
    switch (random.below(kinds)) {
      case 0:
        return `r10 - ${STACK_BYTES - at(STACK_BYTES, size)}`;
      case 1:
        return `r9 + ${at(VALUE_BYTES, aligned ? size : 1)}`;
      default:
        return `r7 + ${at(PACKET_BYTES, aligned ? size : 1)}`;
    }
  }

  #load(): void {
    const size = this.#random.pick(SIZES);
    const type = size < 8 && this.#random.chance(30) ? `s${size * 8}` : TYPES[size];
    this.#emit(`r${this.#target()} = *(${type} *)(${this.#place(size, false)})`);
  }

  #store(): void {
    const size = this.#random.pick(SIZES);
    const value = this.#random.chance(70) ? `r${this.#source()}` : `${this.#constant()}`;
    this.#emit(`*(${TYPES[size]} *)(${this.#place(size, false)}) = ${value}`);
  }

  #atomic(): void {
    const random = this.#random;
    const size = random.chance(50) ? 4 : 8;
    const place = this.#place(size, true, 2);
    const pointer = `(${TYPES[size]} *)(${place})`;
    const source = this.#name(this.#target(), size === 8 ? 64 : 32);
    const form = size === 8 ? '_64' : '32_32';
    const accumulator = size === 8 ? 'r0' : 'w0';
    switch (random.below(6)) {
      case 0:
        this.#emit(`lock *${pointer} ${random.pick(ATOMICS)} ${source}`);
        break;
      case 1:
        this.#emit(`${source} = atomic_fetch_${random.pick(FETCHES)}(${pointer}, ${source})`);
        break;
      case 2:
        this.#emit(`${source} = xchg${form}(${place}, ${source})`);
        break;
      case 3:
        this.#emit(`${accumulator} = cmpxchg${form}(${place}, ${accumulator}, ${source})`);
        break;
      case 4:
        this.#emit(`${source} = load_acquire(${pointer})`);
        break;
      default:
        this.#emit(`store_release(${pointer}, ${source})`);
    }
  }

  /** An access at an offset that only the run knows. */
  #variable(): void {
    const random = this.#random;
    const [offset, pointer] = [random.below(3), 3 + random.below(3)];
    const index = this.#source();
    const size = random.pick(SIZES);
    const type = TYPES[size];
    this.#emit(`r${offset} = r${index}`);
    switch (random.below(3)) {
      case 0: {
        this.#emit(`r${offset} &= ${random.pick([3, 7, 31])}`, `r${pointer} = r9`, `r${pointer} += r${offset}`);
        const place = `*(${type} *)(r${pointer} + ${random.below(VALUE_BYTES - 31 - size)})`;
        if (random.chance(50)) this.#emit(`${place} = r${offset}`);
        this.#emit(`r${pointer} = ${place}`);
        break;
      }
      case 1: {
        const mask = 24;
        this.#emit(
          `r${offset} &= ${mask}`,
          `r${pointer} = r10`,
          `r${pointer} += -${STACK_BYTES}`,
          `r${pointer} += r${offset}`,
        );
        const place = `*(${type} *)(r${pointer} + ${8 * random.below(4)})`;
        if (random.chance(50)) this.#emit(`${place} = r${offset}`);
        this.#emit(`r${pointer} = ${place}`);
        break;
      }
      default: {
        const [outside, join] = [this.#label(), this.#label()];
        this.#emit(`r${offset} &= ${random.pick([7, 63, 127])}`, `r${pointer} = r7`, `r${pointer} += r${offset}`);
        this.#emit(`r${offset} = r${pointer}`, `r${offset} += ${size}`, `if r${offset} > r8 goto ${outside}`);
        this.#emit(`r${offset} = *(${type} *)(r${pointer} + 0)`, `goto ${join}`);
        this.#emit(`${outside}: r${offset} = ${this.#constant()}`, `${join}: r${pointer} = ${this.#constant()}`);
      }
    }
  }

  #branch(depth: number): void {
    const random = this.#random;
    const [otherwise, end] = [this.#label(), this.#label()];
    const width = this.#width();
    const right = random.chance(50) ? this.#name(this.#source(), width) : `${this.#constant()}`;
    this.#emit(`if ${this.#name(this.#source(), width)} ${random.pick(JUMPS)} ${right} goto ${otherwise}`);
    for (let i = random.below(3) + 1; i > 0; i--) this.#statement(depth - 1);
    if (random.chance(50)) {
      this.#emit(`goto ${end}`, `${otherwise}:`);
      for (let i = random.below(2) + 1; i > 0; i--) this.#statement(depth - 1);
      this.#emit(`${end}:`);
    } else this.#emit(`${otherwise}:`);
  }

  #loop(): void {
    const head = this.#label();
    this.#inLoop = true;
    this.#emit('r6 = 0', `${head}:`);
    for (let i = this.#random.below(3) + 1; i > 0; i--) this.#statement(0);
    this.#emit('r6 += 1', `if ${this.#random.chance(50) ? 'r6' : 'w6'} < ${this.#random.below(6) + 1} goto ${head}`);
    this.#inLoop = false;
  }

  #call(): void {
    const random = this.#random;
    switch (random.below(4)) {
      case 0:
        this.#emit('call sums');
        break;
      case 1:
        this.#emit('r1 = r10', 'r1 += -64', 'call memory');
        break;
      case 2:
        this.#emit(
          'r1 = r10',
          'r1 += -64',
          `r2 = ${4 * random.below(9)}`,
          'r3 = r10',
          'r3 += -32',
          `r4 = ${4 * random.below(9)}`,
          'w5 = w6',
          'call 28',
        );
        break;
      default:
        this.#emit(
          'r1 = map[values] ll',
          'r2 = r10',
          'r2 += -64',
          'r3 = r10',
          'r3 += -64',
          `r4 = ${random.below(4)}`,
          'call 2',
        );
    }
    for (let register = 1; register <= 5; register++) this.#value(register);
  }

  #statement(depth: number): void {
    const kind = this.#random.below(depth > 0 ? 100 : 70);
    if (kind < 32) this.#arithmetic();
    else if (kind < 42) this.#load();
    else if (kind < 51) this.#store();
    else if (kind < 60) this.#atomic();
    else if (kind < 66) this.#variable();
    else if (kind < 70) this.#call();
    else if (kind < 92 || this.#inLoop) this.#branch(depth);
    else this.#loop();
  }

  /** Those that are called: code that nothing reaches is refused. */
  #subprograms(): void {
    const called = (name: string) => this.#lines.includes(`call ${name}`);
    if (called('sums')) this.#sums();
    if (called('memory')) this.#memory();
  }

  #sums(): void {
    this.#emit('sums:', 'r0 = r1', 'r6 = r2', 'r7 = r3');
    for (let i = 0; i < 6; i++) this.#arithmetic(this.#random.below(6), this.#random.below(8));
    this.#emit('r0 += r6', 'r0 ^= r7', 'exit');
  }

  #memory(): void {
    this.#emit('memory:', 'r2 = *(u64 *)(r1 + 8)', 'r3 = *(u32 *)(r1 + 28)', '*(u64 *)(r10 - 8) = r2');
    for (let i = 0; i < 3; i++) this.#arithmetic(2 + this.#random.below(2), 2 + this.#random.below(2));
    this.#emit('r0 = *(u64 *)(r10 - 8)', '*(u64 *)(r1 + 48) = r2', '*(u16 *)(r1 + 6) = r3', 'r0 += r3', 'exit');
  }
}

/** Assembly of the random program that belongs to `seed`. */
export function randomProgram(seed: number): string {
  return new Generator(seed).program();
}
