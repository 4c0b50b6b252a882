/**
 * Random programs near the edge of what a verifier accepts: bounds that are just enough or one too few, offsets at the
 * borders of packet, stack and map value, numbers that are spilled, copied, compared and found again.
 *
 * Programs are made of gadgets. Between gadgets r6 is the context, r7 the packet's start, r8 its end, r9 a map value, and
 * r0 to r3 are numbers; r4 and r5 are scratch. Nothing keeps a program from being refused: how often an offset is
 * pushed over the edge differs from program to program.
 */

import { ending, endless, MISTAKES } from './mistake-gadgets.ts';
import * as objects from './object-gadgets.ts';

export type FuzzType = 'xdp' | 'sched_cls';

export const VALUE_BYTES = 48;
const SIZES = [1, 2, 4, 8] as const;
type Size = (typeof SIZES)[number];
const TYPE: Readonly<Record<Size, string>> = { 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' };
const COMPARE = ['==', '!=', '>', '>=', '<', '<=', 's>', 's>=', 's<', 's<=', '&'];
const OPS = ['+=', '-=', '*=', '|=', '&=', '^=', '<<=', '>>=', 's>>=', '='];
const EDGES = [0, 1, -1, 2, 3, 7, 8, 15, 16, 31, 40, 47, 48, 63, 64, 255, 256, 0xffff, 0x7fffffff, -0x80000000, -2, -8];
const MASKS = [1, 3, 7, 8, 15, 24, 31, 32, 40, 47, 63, 0xff, 0xfff];

export class Random {
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
    return Math.floor((this.bits() / 2 ** 32) * limit);
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
  readonly #type: FuzzType;
  readonly #lines: string[] = [];
  readonly #functions: string[] = [];
  #labels = 0;
  #depth = 0;
  /** Percentage of numbers at an edge that are pushed over it. */
  #risk: number;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#type = this.#random.chance(70) ? 'xdp' : 'sched_cls';
    this.#risk = this.#random.pick([0, 0, 2, 5, 15]);
  }

  /** For gadgets in other files. */
  get #writer(): objects.Writer {
    return {
      random: this.#random,
      type: this.#type,
      risk: this.#risk,
      emit: (...lines) => this.#emit(...lines),
      addFunction: (...lines) => void this.#functions.push(...lines),
      label: () => this.#label(),
      edge: value => this.#edge(value),
      constant: () => this.#constant(),
      unknown: r => this.#unknown(r),
      touch: (pointer, offset, size) => this.#touch(pointer, offset, size),
      gadget: () => this.#gadget(),
    };
  }

  program(): { readonly type: FuzzType; readonly text: string } {
    const random = this.#random;
    const [data, end] = this.#type === 'xdp' ? [0, 4] : [76, 80];
    this.#emit('r6 = r1', `r7 = *(u32 *)(r1 + ${data})`, `r8 = *(u32 *)(r1 + ${end})`);
    this.#emit(
      'r1 = 0',
      `*(u32 *)(r10 - 4) = ${random.below(5)}`,
      'r1 = map[array] ll',
      'r2 = r10',
      'r2 += -4',
      'call 1',
    );
    this.#emit('if r0 != 0 goto found', 'r0 = 1', 'exit', 'found:', 'r9 = r0');
    for (let at = 16; at <= 64; at += 8)
      this.#emit(`*(u64 *)(r10 - ${at}) = ${random.chance(50) ? 0 : this.#constant()}`);
    for (let r = 0; r <= 3; r++) this.#unknown(r);
    const mistake = random.chance(30) ? random.pick(MISTAKES) : undefined;
    // What else is wrong would hide it.
    if (mistake !== undefined && random.chance(70)) this.#risk = 0;
    for (let i = 1 + random.below(mistake === undefined ? 6 : 2); i > 0; i--) this.#gadget();
    mistake?.(this.#writer);
    for (let i = mistake === undefined ? 2 + random.below(5) : random.below(3); i > 0; i--) this.#gadget();
    if (random.chance(1)) endless(this.#writer);
    if (random.chance(25)) this.#tailCall();
    if (random.chance(8)) ending(this.#writer);
    for (let r = 1; r <= 3; r++) this.#emit(`r0 ^= r${r}`);
    if (random.chance(50)) this.#emit('*(u64 *)(r9 + 40) = r0');
    if (random.chance(30)) this.#emit('r1 = *(u64 *)(r10 - 64)', 'r0 += r1');
    this.#emit('exit', ...this.#functions);
    return { type: this.#type, text: this.#lines.join('\n') };
  }

  #emit(...lines: string[]): void {
    this.#lines.push(...lines);
  }

  #label(): string {
    return `l${this.#labels++}`;
  }

  #number(): number {
    return this.#random.below(4);
  }

  #constant(): number {
    return this.#random.chance(80) ? this.#random.pick(EDGES) : this.#random.bits() | 0;
  }

  /** `value`, which is just right, or what lies next to it. */
  #edge(value: number): number {
    if (!this.#random.chance(this.#risk)) return value;
    return value + this.#random.pick([1, -1, 8, -8, 4]);
  }

  /** `+ value` as part of an address, or what lies next to it. */
  #offset(value: number): string {
    const offset = this.#edge(value);
    return ` ${offset < 0 ? '-' : '+'} ${Math.abs(offset)}`;
  }

  #name(r: number): string {
    return `${this.#random.chance(65) ? 'r' : 'w'}${r}`;
  }

  #unknown(r: number): void {
    const random = this.#random;
    const at = random.below(5) * 8;
    switch (random.below(6)) {
      case 0:
        this.#emit(`r${r} = ${this.#constant()}`);
        break;
      case 1:
        this.#emit(`r${r} = *(u32 *)(r6 + ${this.#type === 'xdp' ? 12 : 0})`);
        break;
      case 2:
        this.#emit(`r${r} = *(${random.pick(['s8', 's16', 's32'])} *)(r9 + ${at})`);
        break;
      default:
        this.#emit(`r${r} = *(${TYPE[random.pick(SIZES)]} *)(r9 + ${at})`);
    }
  }

  #arithmetic(): void {
    const random = this.#random;
    const wide = random.chance(60);
    const name = (r: number): string => `${wide ? 'r' : 'w'}${r}`;
    const to = this.#number();
    const kind = random.below(20);
    if (kind === 0) this.#emit(`${name(to)} = -${name(to)}`);
    else if (kind === 1)
      this.#emit(`r${to} = ${random.pick(['be16', 'be32', 'le16', 'le32', 'bswap16', 'bswap64'])} r${to}`);
    else if (kind === 2)
      this.#emit(`${name(to)} = (${random.pick(wide ? ['s8', 's16', 's32'] : ['s8', 's16'])})${name(this.#number())}`);
    else if (kind === 3)
      this.#emit(
        `${name(to)} ${random.pick(['/=', '%=', 's/=', 's%='])} ${random.chance(50) ? name(this.#number()) : random.pick([1, 2, 3, 7, 16, 48, -1])}`,
      );
    else {
      const op = random.pick(OPS);
      const shift = op.includes('<<') || op.includes('>>');
      const right = random.chance(55) ? name(this.#number()) : shift ? random.below(wide ? 64 : 32) : this.#constant();
      this.#emit(`${name(to)} ${op} ${right}`);
    }
  }

  /** Leaves r`r` in [0, limit] one way or another; `give` is where to go if it is not. */
  #bound(r: number, limit: number, give: string): void {
    const random = this.#random;
    const within = this.#edge(limit);
    switch (random.below(9)) {
      case 0:
        this.#emit(`if r${r} > ${within} goto ${give}`);
        break;
      case 1:
        this.#emit(`if r${r} s> ${within} goto ${give}`, `if r${r} s< ${this.#edge(0)} goto ${give}`);
        break;
      case 2:
        this.#emit(`if w${r} > ${within} goto ${give}`, `w${r} = w${r}`);
        break;
      case 3:
        this.#emit(`w${r} = w${r}`, `if r${r} >= ${within + 1} goto ${give}`);
        break;
      case 4: {
        const copy = random.pick([4, 5]);
        this.#emit(`r${copy} = r${r}`, `if r${copy} > ${within} goto ${give}`);
        break;
      }
      case 5:
        this.#emit(`*(u64 *)(r10 - 16) = r${r}`, `if r${r} > ${within} goto ${give}`, `r${r} = *(u64 *)(r10 - 16)`);
        break;
      case 6: {
        const add = random.pick([1, 4, 8, -1]);
        this.#emit(`r4 = r${r}`, `r4 += ${add}`, `if r${r} > ${within} goto ${give}`, `r${r} = r4`, `r${r} += ${-add}`);
        break;
      }
      case 7:
        this.#emit(`r${r} <<= 32`, `r${r} ${random.pick(['>>=', 's>>='])} 32`, `if r${r} > ${within} goto ${give}`);
        break;
      default: {
        const masks = MASKS.filter(mask => mask <= limit);
        this.#emit(`${this.#name(r)} &= ${this.#edge(random.pick(masks.length === 0 ? [0] : masks))}`);
      }
    }
  }

  /** Map value, stack or packet at an offset that only the run knows. */
  #access(): void {
    const random = this.#random;
    const index = this.#number();
    const size = random.pick(SIZES);
    const give = this.#label();
    const limit = random.pick([0, 1, 7, 8, 15, 31, 40, 47]);
    this.#bound(index, limit, give);
    switch (random.below(3)) {
      case 0:
        this.#emit('r5 = r9', `r5 += r${index}`);
        this.#touch(5, this.#edge(Math.max(0, VALUE_BYTES - limit - size)), size);
        break;
      case 1:
        this.#emit('r5 = r10', `r5 ${random.chance(80) ? '+=' : '-='} r${index}`, `r5 += ${this.#edge(-64)}`);
        this.#touch(5, this.#edge(random.below(2) * 8), size);
        break;
      default: {
        const span = limit + size;
        this.#emit('r5 = r7', `r5 += r${index}`, 'r4 = r5', `r4 += ${this.#edge(random.chance(50) ? size : span)}`);
        this.#emit(this.#atEnd(give));
        this.#touch(5, this.#edge(0), size);
      }
    }
    this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
  }

  /** Ends the use of r4 as packet pointer unless it is within the packet. */
  #atEnd(give: string): string {
    const random = this.#random;
    if (!random.chance(80)) return random.chance(50) ? `if r8 < r4 goto ${give}` : `if r4 >= r8 goto ${give}`;
    return `if r4 ${this.#random.chance(this.#risk) ? random.pick(['>=', '<', '<=', '==']) : '>'} r8 goto ${give}`;
  }

  #touch(pointer: number, offset: number, size: Size): void {
    const random = this.#random;
    const place = `*(${TYPE[size]} *)(r${pointer} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)})`;
    switch (random.below(4)) {
      case 0:
        this.#emit(`${place} = ${random.chance(50) ? `r${this.#number()}` : this.#constant()}`);
        break;
      default:
        this.#emit(`r${this.#number()} = ${place}`);
    }
  }

  /** A fixed place of the packet behind a check of some length. */
  #packet(): void {
    const random = this.#random;
    const give = this.#label();
    const length = random.pick([1, 8, 14, 20, 34, 64]);
    const size = random.pick(SIZES);
    this.#emit('r4 = r7', `r4 += ${length}`, this.#atEnd(give));
    if (random.chance(30)) this.#emit('r5 = r4', `r5 += ${-length}`);
    else this.#emit('r5 = r7');
    this.#touch(5, this.#edge(Math.max(0, length - size)), size);
    this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
  }

  /** Spilled, changed or bounded, filled with another width. */
  #spill(): void {
    const random = this.#random;
    const [from, to] = [this.#number(), this.#number()];
    const slot = random.pick([16, 24, 32, 40, 48, 56, 64]);
    const size = random.pick(SIZES);
    this.#emit(`*(${TYPE[size]} *)(r10 - ${slot}) = ${random.chance(80) ? `r${from}` : this.#constant()}`);
    const skip = this.#label();
    if (random.chance(60))
      this.#emit(`if ${this.#name(from)} ${random.pick(COMPARE)} ${this.#constant()} goto ${skip}`);
    if (random.chance(30)) this.#arithmetic();
    if (random.chance(25))
      this.#emit(`*(u8 *)(r10 - ${slot - random.below(8)}) = ${random.chance(50) ? 0 : `r${this.#number()}`}`);
    const fill = random.chance(60) ? size : random.pick(SIZES);
    const shift = random.chance(75) ? 0 : random.below(8 / fill) * fill;
    const signed = fill < 8 && random.chance(20) ? `s${8 * fill}` : TYPE[fill];
    this.#emit(`r${to} = *(${signed} *)(r10 - ${slot - shift})`, `${skip}:`);
  }

  /** Copies that stay linked, one of them compared. */
  #linked(): void {
    const random = this.#random;
    const [from, to] = [this.#number(), this.#number()];
    const skip = this.#label();
    this.#emit(random.chance(75) ? `r${to} = r${from}` : `w${to} = w${from}`);
    if (random.chance(50)) this.#emit(`${this.#name(to)} += ${this.#constant()}`);
    const right = random.chance(70) ? `${this.#constant()}` : undefined;
    const wide = random.chance(65);
    const name = (r: number): string => `${wide ? 'r' : 'w'}${r}`;
    this.#emit(`if ${name(from)} ${random.pick(COMPARE)} ${right ?? name(this.#number())} goto ${skip}`);
    this.#gadget();
    this.#emit(`${skip}:`);
  }

  #branch(): void {
    const random = this.#random;
    const [otherwise, end] = [this.#label(), this.#label()];
    const wide = random.chance(65);
    const name = (r: number): string => `${wide ? 'r' : 'w'}${r}`;
    const right = random.chance(60) ? `${this.#constant()}` : name(this.#number());
    this.#emit(`if ${name(this.#number())} ${random.pick(COMPARE)} ${right} goto ${otherwise}`);
    for (let i = random.below(3); i > 0; i--) this.#gadget();
    this.#emit(`goto ${end}`, `${otherwise}:`);
    for (let i = random.below(3); i > 0; i--) this.#gadget();
    this.#emit(`${end}:`);
  }

  /** The counter is on the stack while the body runs. */
  #loop(): void {
    const random = this.#random;
    const [head, out] = [this.#label(), this.#label()];
    const counter = random.pick([72, 80, 88]);
    this.#emit(`*(u64 *)(r10 - ${counter}) = 0`, `${head}:`);
    for (let i = 1 + random.below(2); i > 0; i--) this.#gadget();
    this.#emit(`r4 = *(u64 *)(r10 - ${counter})`, 'r4 += 1', `*(u64 *)(r10 - ${counter}) = r4`);
    if (random.chance(40)) this.#emit('r5 = r9', 'r5 += r4', `r5 = *(u8 *)(r5 + ${this.#edge(VALUE_BYTES - 9)})`);
    this.#emit(
      `if ${this.#name(4)} ${random.pick(['<', '!=', 's<'])} ${1 + random.below(8)} goto ${head}`,
      `${out}:`,
      'r4 = 0',
      'r5 = 0',
    );
  }

  #lookup(): void {
    const random = this.#random;
    const none = this.#label();
    if (random.chance(50)) {
      this.#emit(`*(u64 *)(r10 - 96) = ${random.chance(50) ? `r${this.#number()}` : random.below(4)}`);
      if (random.chance(50)) {
        this.#emit(
          'r1 = map[hash] ll',
          'r2 = r10',
          'r2 += -96',
          'r3 = r10',
          `r3 += ${this.#edge(-64)}`,
          'r4 = 0',
          'call 2',
        );
        for (let r = 0; r <= 3; r++) this.#unknown(r);
        this.#emit('r4 = 0', 'r5 = 0');
        return;
      }
      this.#emit('r1 = map[hash] ll', 'r2 = r10', 'r2 += -96');
    } else {
      this.#emit(`*(u32 *)(r10 - 92) = ${random.chance(50) ? `r${this.#number()}` : random.below(5)}`);
      this.#emit('r1 = map[array] ll', 'r2 = r10', 'r2 += -92');
    }
    this.#emit('call 1', 'r4 = r0', 'r5 = r0');
    for (let r = 0; r <= 3; r++) this.#emit(`r${r} = ${this.#constant()}`);
    if (!random.chance(this.#risk)) this.#emit(`if r${random.pick([4, 5])} == 0 goto ${none}`);
    this.#touch(5, this.#edge(8), random.pick(SIZES));
    this.#emit(`r5 += ${this.#edge(8)}`);
    this.#touch(5, this.#edge(0), random.pick(SIZES));
    this.#emit(`${none}:`, 'r4 = 0', 'r5 = 0');
  }

  /** A function with a number and a pointer to the caller's stack, or to a map value. */
  #call(): void {
    const random = this.#random;
    const name = `f${this.#labels++}`;
    const stack = random.chance(50);
    this.#emit(`r1 = r${this.#number()}`, ...(stack ? ['r2 = r10', 'r2 += -64'] : ['r2 = r9']), `call ${name}`);
    for (let r = 1; r <= 3; r++) this.#unknown(r);
    this.#emit('r4 = 0', 'r5 = 0');
    const limit = random.pick([7, 15, 31]);
    const size = random.pick(SIZES);
    const place = `*(${TYPE[size]} *)(r2 + ${this.#edge((stack ? 56 : VALUE_BYTES) - limit - size)})`;
    this.#functions.push(`${name}:`, 'r0 = r1', `r1 &= ${limit}`);
    if (random.chance(50))
      this.#functions.push(`if r0 ${random.pick(COMPARE)} ${this.#constant()} goto ${name}b`, 'r0 += r1', `${name}b:`);
    if (random.chance(40)) this.#functions.push('*(u64 *)(r10 - 8) = r1', 'r1 = *(u64 *)(r10 - 8)');
    this.#functions.push('r2 += r1', random.chance(60) ? `r3 = ${place}` : `${place} = r0`, 'exit');
  }

  #tailCall(): void {
    const random = this.#random;
    const index = random.chance(40) ? `${random.below(6)}` : `r${this.#number()}`;
    this.#emit(`r3 = ${index}`, 'r1 = r6', 'r2 = map[progs] ll', 'call 12');
    for (let r = 0; r <= 3; r++) this.#unknown(r);
  }

  #atomic(): void {
    const random = this.#random;
    const size = random.chance(50) ? 4 : 8;
    const offset = random.below(2) * 8;
    const place = random.chance(50) ? `r10 - ${16 + offset}` : `r9 + ${offset}`;
    const source = `${size === 8 ? 'r' : 'w'}${this.#number()}`;
    const pointer = `(${TYPE[size]} *)(${place})`;
    switch (random.below(3)) {
      case 0:
        this.#emit(`lock *${pointer} ${random.pick(['+=', '|=', '&=', '^='])} ${source}`);
        break;
      case 1:
        this.#emit(`${source} = atomic_fetch_${random.pick(['add', 'or', 'and', 'xor'])}(${pointer}, ${source})`);
        break;
      default:
        this.#emit(`${source} = xchg${size === 8 ? '_64' : '32_32'}(${place}, ${source})`);
    }
  }

  /** A number that moves between registers with constants added, compared at one place and used at another. */
  #linkedSum(): void {
    const random = this.#random;
    const [from, to] = [this.#number(), this.#number()];
    const give = this.#label();
    const wide = random.chance(65);
    const name = (r: number): string => `${wide ? 'r' : 'w'}${r}`;
    const steps = [random.pick([1, 2, 4, 8, 16, -1, -4]), random.pick([0, 1, 8, -1, -8])];
    this.#emit(`${name(to)} = ${name(from)}`, `${name(to)} += ${steps[0]}`);
    if (random.chance(30)) this.#emit(`*(u64 *)(r10 - 48) = r${to}`);
    if (random.chance(50)) this.#emit(`${name(4)} = ${name(to)}`, `${name(4)} += ${steps[1]}`);
    else this.#emit(`r4 = r${to}`);
    const limit = random.pick([7, 15, 31]);
    const [compared, used] = random.pick([
      [from, 4],
      [to, from],
      [4, from],
      [from, to],
    ] as const);
    this.#emit(`if ${name(compared)} > ${this.#edge(limit)} goto ${give}`);
    if (random.chance(40)) this.#emit(`if ${name(compared)} ${random.pick(['<', 's<'])} ${this.#edge(8)} goto ${give}`);
    if (random.chance(30)) this.#emit(`r${to} = *(u64 *)(r10 - 48)`);
    this.#emit('r5 = r9', `r5 += r${used}`);
    this.#touch(5, this.#edge(Math.max(0, VALUE_BYTES - limit - 25)), random.pick([1, 2]));
    this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
  }

  /** A spilled number of which a part is written over. */
  #partialSpill(): void {
    const random = this.#random;
    const slot = random.pick([16, 24, 32, 40]);
    const [size, over, fill] = [random.pick([4, 8] as const), random.pick([1, 2, 4] as const), random.pick(SIZES)];
    const give = this.#label();
    const r = this.#number();
    if (random.chance(50)) this.#emit(`r${r} &= ${random.pick(MASKS)}`);
    this.#emit(`*(${TYPE[size]} *)(r10 - ${slot}) = r${r}`);
    if (random.chance(50)) this.#emit(`if r${r} > ${this.#edge(31)} goto ${give}`);
    const at = random.below(8 / over) * over;
    this.#emit(`*(${TYPE[over]} *)(r10 - ${slot - at}) = ${random.chance(40) ? 0 : `r${this.#number()}`}`);
    const to = this.#number();
    this.#emit(`r${to} = *(${TYPE[fill]} *)(r10 - ${slot - random.below(8 / fill) * fill})`);
    if (random.chance(60)) {
      this.#emit(`if r${to} > ${this.#edge(31)} goto ${give}`, 'r5 = r9', `r5 += r${to}`);
      this.#touch(5, this.#edge(8), random.pick(SIZES));
    }
    this.#emit(`${give}:`, 'r5 = 0');
  }

  /** The packet moves: pointers into it are gone, and mostly loaded anew. */
  #movePacket(): void {
    const random = this.#random;
    if (this.#type === 'xdp') {
      const delta = random.pick([-16, -8, -4, 0, 4, 8, 16]);
      if (random.chance(50)) this.#emit('r4 = r7', 'r4 += 8', '*(u64 *)(r10 - 104) = r7');
      this.#emit('r1 = r6', random.chance(80) ? `r2 = ${delta}` : `r2 = r${this.#number()}`);
      this.#emit(`call ${random.pick([44, 54, 65])}`);
    } else if (random.chance(50)) {
      this.#emit('r1 = r6', `r2 = ${random.pick([0, 14, 34, 64])}`, 'call 39');
    } else {
      const at = random.pick([0, 6, 14, 30]);
      this.#emit('r1 = r6', `r2 = ${at}`, 'r3 = r10', `r3 += ${this.#edge(-24)}`, `r4 = ${this.#edge(8)}`);
      this.#emit('r5 = 0', 'call 9');
    }
    for (let r = 1; r <= 3; r++) this.#unknown(r);
    const [data, end] = this.#type === 'xdp' ? [0, 4] : [76, 80];
    // Each is forgotten by itself.
    if (!random.chance(this.#risk)) this.#emit(`r7 = *(u32 *)(r6 + ${data})`);
    if (!random.chance(this.#risk)) this.#emit(`r8 = *(u32 *)(r6 + ${end})`);
    if (random.chance(this.#risk)) this.#emit('r7 = *(u64 *)(r10 - 104)');
    this.#emit('r4 = 0', 'r5 = 0');
    if (this.#type === 'xdp' && random.chance(30)) {
      const give = this.#label();
      this.#emit('r4 = *(u32 *)(r6 + 8)', 'r5 = r4', `r5 += ${this.#edge(4)}`, `if r5 > r7 goto ${give}`);
      this.#touch(4, 0, 4);
      this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
    }
  }

  /** bpf_loop: numbers on the caller's stack that iterations change. */
  #callback(): void {
    const random = this.#random;
    const name = `cb${this.#labels++}`;
    this.#emit(`*(u64 *)(r10 - 24) = ${random.pick([0, 1, 7])}`);
    if (random.chance(70)) this.#emit(`r1 = ${random.pick([0, 1, 2, 5, 20])}`);
    else this.#emit(`r1 = r${this.#number()}`, 'r1 &= 15');
    this.#emit(`r2 = func[${name}] ll`, 'r3 = r10', 'r3 += -24', 'r4 = 0', 'call 181');
    for (let r = 1; r <= 3; r++) this.#unknown(r);
    this.#emit('r4 = 0', 'r5 = 0');
    if (random.chance(60)) {
      const give = this.#label();
      this.#emit('r4 = *(u64 *)(r10 - 24)');
      if (!random.chance(this.#risk)) this.#emit(`if r4 > ${this.#edge(31)} goto ${give}`);
      this.#emit('r5 = r9', 'r5 += r4');
      this.#touch(5, this.#edge(8), random.pick(SIZES));
      this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
    }
    const body: string[] = [`${name}:`, `r4 = *(u64 *)(r2${this.#offset(0)})`];
    if (random.chance(50))
      body.push(`r4 ${random.pick(['+=', '^=', '|=', '*='])} ${random.chance(50) ? 'r1' : this.#constant()}`);
    else body.push('r4 += 1');
    if (random.chance(40)) body.push(`r4 &= ${random.pick(MASKS)}`);
    body.push(`if r4 ${random.pick(COMPARE)} ${this.#constant()} goto ${name}b`);
    body.push('*(u64 *)(r2 + 0) = r4', `${name}b:`);
    if (random.chance(30))
      body.push(`r1 &= ${random.pick([7, 8])}`, 'r3 = r2', 'r3 += r1', `r5 = *(u8 *)(r3${this.#offset(0)})`);
    body.push(
      random.chance(70) ? 'r0 = 0' : 'r0 = r4',
      ...(random.chance(100 - this.#risk) ? ['r0 &= 1'] : []),
      'exit',
    );
    this.#functions.push(...body);
  }

  /** A loop that ends by itself or when the time is up. */
  #mayGoto(): void {
    const random = this.#random;
    const [head, out] = [this.#label(), this.#label()];
    this.#emit('*(u64 *)(r10 - 112) = 0', `${head}:`, `may_goto ${out}`);
    if (random.chance(50)) this.#arithmetic();
    this.#emit('r4 = *(u64 *)(r10 - 112)');
    if (random.chance(60)) this.#emit(`if r4 ${random.pick(['>', '>=', '==', 's>'])} ${this.#edge(24)} goto ${out}`);
    if (random.chance(60)) {
      this.#emit('r5 = r9', 'r5 += r4');
      this.#touch(5, this.#edge(VALUE_BYTES - 25 - 8), random.pick(SIZES));
    }
    this.#emit('r4 += 1', '*(u64 *)(r10 - 112) = r4');
    if (random.chance(40)) this.#emit(`if r4 > ${random.pick([3, 9, 30])} goto ${out}`);
    this.#emit(`goto ${head}`, `${out}:`, 'r4 = 0', 'r5 = 0');
  }

  /** Two functions deep, with pointers to the stacks of both callers. */
  #nested(): void {
    const random = this.#random;
    const name = `n${this.#labels++}`;
    this.#emit(`r1 = r${this.#number()}`, 'r2 = r10', 'r2 += -40', `call ${name}`);
    for (let r = 1; r <= 3; r++) this.#unknown(r);
    this.#emit('r4 = 0', 'r5 = 0');
    if (random.chance(50)) {
      const give = this.#label();
      this.#emit('r4 = *(u64 *)(r10 - 40)', `if r4 > ${this.#edge(31)} goto ${give}`, 'r5 = r9', 'r5 += r4');
      this.#touch(5, this.#edge(8), random.pick(SIZES));
      this.#emit(`${give}:`, 'r4 = 0', 'r5 = 0');
    }
    const mask = random.pick(MASKS);
    this.#functions.push(`${name}:`, `r1 &= ${mask}`, '*(u64 *)(r10 - 8) = r1', 'r6 = r2', '*(u64 *)(r10 - 16) = r2');
    this.#functions.push('r3 = r10', 'r3 += -8', `call ${name}i`);
    if (random.chance(50)) this.#functions.push('r6 = *(u64 *)(r10 - 16)');
    this.#functions.push('r1 = *(u64 *)(r10 - 8)', `*(u64 *)(r6${this.#offset(0)}) = r1`, 'exit');
    this.#functions.push(`${name}i:`, 'r0 = *(u64 *)(r3 + 0)');
    if (random.chance(50)) this.#functions.push(`r0 ${random.pick(['+=', '|=', '>>='])} ${1 + random.below(8)}`);
    this.#functions.push(`if r0 > ${random.pick([7, 15, 31])} goto ${name}j`, `*(u64 *)(r3 + 0) = r0`);
    if (random.chance(40)) this.#functions.push('*(u32 *)(r2 + 4) = r0');
    this.#functions.push(`${name}j:`, 'exit');
  }

  #mapInMap(): void {
    const random = this.#random;
    const none = this.#label();
    this.#emit(`*(u32 *)(r10 - 92) = ${random.chance(60) ? random.below(3) : `r${this.#number()}`}`);
    this.#emit('r1 = map[outer] ll', 'r2 = r10', 'r2 += -92', 'call 1', 'r4 = r0');
    for (let r = 0; r <= 3; r++) this.#emit(`r${r} = ${this.#constant()}`);
    if (!random.chance(this.#risk)) this.#emit(`if r4 == 0 goto ${none}`);
    this.#emit(`*(u32 *)(r10 - 88) = ${random.below(3)}`, 'r1 = r4', 'r2 = r10', 'r2 += -88', 'call 1', 'r5 = r0');
    for (let r = 0; r <= 3; r++) this.#unknown(r);
    if (!random.chance(this.#risk)) this.#emit(`if r5 == 0 goto ${none}`);
    this.#touch(5, this.#edge(8), random.pick(SIZES));
    this.#emit(`${none}:`, 'r4 = 0', 'r5 = 0');
  }

  /** A record is reserved, filled, and mostly given back. */
  #ringbuf(): void {
    const random = this.#random;
    const none = this.#label();
    this.#emit('r1 = map[ring] ll', 'r2 = 16', 'r3 = 0', 'call 131', 'r5 = r0');
    for (let r = 0; r <= 3; r++) this.#emit(`r${r} = ${this.#constant()}`);
    if (!random.chance(this.#risk)) this.#emit(`if r5 == 0 goto ${none}`);
    this.#emit('*(u64 *)(r5 + 0) = 0', '*(u64 *)(r5 + 8) = 0');
    if (random.chance(50)) this.#emit(`r${this.#number()} &= 7`);
    this.#touch(5, this.#edge(8), random.pick(SIZES));
    if (!random.chance(this.#risk))
      this.#emit('r1 = r5', `r2 = ${random.pick([0, 1])}`, `call ${random.pick([132, 133])}`);
    for (let r = 0; r <= 3; r++) this.#unknown(r);
    this.#emit(`${none}:`, 'r4 = 0', 'r5 = 0');
  }

  #compareExchange(): void {
    const random = this.#random;
    const place = random.chance(50) ? 'r10 - 24' : 'r9 + 8';
    const [name, prefix] = random.chance(50) ? ['cmpxchg_64', 'r'] : ['cmpxchg32_32', 'w'];
    this.#emit(`${prefix}0 = ${name}(${place}, ${prefix}0, ${prefix}${this.#number()})`);
    // The kernel runs such programs only with it (see judge.ts).
    if (prefix === 'w' && random.chance(70)) this.#emit('w0 = w0');
  }

  #gadget(): void {
    const kind = this.#random.below(100);
    if (this.#depth < 3 && this.#random.chance(12)) {
      this.#depth++;
      const special = this.#random.below(100);
      if (special < 30) objects.iterator(this.#writer);
      else if (special < 45) objects.lock(this.#writer);
      else if (special < 62) objects.forEach(this.#writer);
      else if (special < 94) objects.dynptr(this.#writer);
      else objects.stalePointer(this.#writer);
      this.#depth--;
      return;
    }
    if (this.#depth < 3 && this.#random.chance(30)) {
      this.#depth++;
      const wide = this.#random.below(100);
      if (wide < 22) this.#linkedSum();
      else if (wide < 38) this.#partialSpill();
      else if (wide < 52) this.#movePacket();
      else if (wide < 63) this.#callback();
      else if (wide < 72) this.#mayGoto();
      else if (wide < 82) this.#nested();
      else if (wide < 89) this.#mapInMap();
      else if (wide < 95) this.#ringbuf();
      else this.#compareExchange();
      this.#depth--;
      return;
    }
    if (this.#depth >= 3) {
      if (kind < 60) this.#arithmetic();
      else this.#access();
      return;
    }
    this.#depth++;
    if (kind < 26) for (let i = 1 + this.#random.below(3); i > 0; i--) this.#arithmetic();
    else if (kind < 44) this.#access();
    else if (kind < 54) this.#packet();
    else if (kind < 66) this.#spill();
    else if (kind < 76) this.#linked();
    else if (kind < 85) this.#branch();
    else if (kind < 89) this.#loop();
    else if (kind < 93) this.#lookup();
    else if (kind < 96) this.#call();
    else this.#atomic();
    this.#depth--;
  }
}

/** The program that belongs to `seed`: its type and assembly. */
export function generate(seed: number): { readonly type: FuzzType; readonly text: string } {
  return new Generator(seed).program();
}
