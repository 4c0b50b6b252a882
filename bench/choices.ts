/**
 * What a hop could be made of: sequences that mode 'fast' uses beside those that were considered, all written by hand with the
 * same frame (none), the same stream of indices, and programs of the same size and alignment. It answers whether a choice pays;
 * what the compiler's own code costs is in tailcall.ts.
 *
 * The programs' code: fetch the index, then the sequence, then `out`, where a call that fails would fall through.
 */
import { CodeBuffer } from '../src/jit/shared/code-buffer.ts';
import { Condition, jumpIf, loadAddress } from '../src/jit/x64/branches.ts';
import { encode } from '../src/jit/x64/encodings.ts';
import { R8, RAX, RCX, RDI, RDX, RSI, SCRATCH, TAIL_CALLS_LEFT } from '../src/jit/x64/registers.ts';
import { Computer, nativePlatform } from '../test/jit/computer.ts';
import { type BenchOptions, median } from './measure.ts';
import { CELL_BYTES, circle, driver, HOPS, type Pattern, random } from './tailcall-chains.ts';

/** Bytes from program to program. */
const STRIDE = 64;
const SLOT_BYTES = 8;
const NARROW_SLOT_BYTES = 4;

/** Emits one program. */
interface Parts {
  readonly buffer: CodeBuffer;
  readonly slots: number;
  /** Address of the program. */
  readonly address: bigint;
  /** The program that is usually next: its slot, and its address. */
  readonly usual: { readonly slot: number; readonly address: bigint };
  /** Where a call that fails leads, if not into the program itself. */
  readonly out: ReturnType<CodeBuffer['label']>;
}

interface Choice {
  readonly name: string;
  readonly what: string;
  readonly emit: (parts: Parts) => void;
  /** The table holds distances of 32 bits from a base in r8. */
  readonly narrow?: boolean;
  /** Only where each program has one successor. */
  readonly direct?: boolean;
  /** Programs lie one behind the other in the order of the chain, without alignment: only where that is as long as a run. */
  readonly adjacent?: boolean;
}

function fetch({ buffer }: Parts): void {
  encode(buffer, 'mov r, rm', 32, { base: RDI, displacement: 0 }, RDX);
  encode(buffer, 'add rm, imm8', 64, RDI, 0, CELL_BYTES);
}
const skip = ({ buffer }: Parts) => encode(buffer, 'add rm, imm8', 64, RDI, 0, CELL_BYTES);

function target({ buffer, slots }: Parts, out: ReturnType<CodeBuffer['label']>): void {
  encode(buffer, 'cmp rm, imm32', 32, RDX, 0, slots);
  jumpIf(buffer, Condition.aboveOrEqual, out);
  encode(buffer, 'mov r, rm', 64, { base: RSI, index: RDX, scale: SLOT_BYTES, displacement: 0 }, RCX);
}

/** As `fast` has it where slots are tested: empty slot and limit in one branch. The count is negative, as there. */
function testSlot({ buffer }: Parts, out: ReturnType<CodeBuffer['label']>): void {
  encode(buffer, 'mov rm, r', 64, SCRATCH, RCX);
  encode(buffer, 'neg rm', 64, SCRATCH);
  encode(buffer, 'and rm, r', 64, SCRATCH, TAIL_CALLS_LEFT);
  jumpIf(buffer, Condition.notSign, out);
  encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
}
function hop(parts: Parts, out: ReturnType<CodeBuffer['label']>): void {
  testSlot(parts, out);
  encode(parts.buffer, 'jmp rm64', 32, RCX);
}
function count(buffer: CodeBuffer, out: ReturnType<CodeBuffer['label']>): void {
  encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
  jumpIf(buffer, Condition.greater, out);
}
function finish(buffer: CodeBuffer, out: ReturnType<CodeBuffer['label']>): void {
  buffer.bind(out);
  encode(buffer, 'ret', 32);
}
function jumpTo({ buffer, address }: Pick<Parts, 'buffer' | 'address'>, to: bigint): void {
  buffer.u8(0xe9);
  buffer.field(4, buffer.here(), (out, at) => out.setInt32(at, Number(to - address) - (at + 4), true));
}

const CHOICES: readonly Choice[] = [
  {
    name: 'floor',
    what: 'range, empty; no count',
    emit: parts => {
      const { buffer } = parts;
      const out = buffer.label();
      fetch(parts);
      target(parts, out);
      encode(buffer, 'test rm, r', 64, RCX, RCX);
      jumpIf(buffer, Condition.equal, out);
      encode(buffer, 'jmp rm64', 32, RCX);
      finish(buffer, out);
    },
  },
  {
    name: 'one branch',
    what: 'range; empty and limit in one branch (fast, slots tested)',
    emit: parts => {
      const out = parts.buffer.label();
      fetch(parts);
      target(parts, out);
      hop(parts, out);
      finish(parts.buffer, out);
    },
  },
  {
    name: 'two branches',
    what: 'range; empty; limit',
    emit: parts => {
      const { buffer } = parts;
      const out = buffer.label();
      fetch(parts);
      target(parts, out);
      encode(buffer, 'test rm, r', 64, RCX, RCX);
      jumpIf(buffer, Condition.equal, out);
      count(buffer, out);
      encode(buffer, 'jmp rm64', 32, RCX);
      finish(buffer, out);
    },
  },
  {
    name: 'miss stub',
    what: 'range; limit; empty slots lead to a stub that goes back through r11',
    emit: parts => {
      const { buffer } = parts;
      const out = buffer.label();
      fetch(parts);
      target(parts, out);
      count(buffer, out);
      loadAddress(buffer, SCRATCH, out);
      encode(buffer, 'jmp rm64', 32, RCX);
      finish(buffer, out);
    },
  },
  {
    name: 'stub, one branch',
    what: 'range and limit in one branch; empty slots lead to a stub (fast)',
    emit: parts => {
      const { buffer, slots } = parts;
      const out = buffer.label();
      fetch(parts);
      encode(buffer, 'lea r, m', 64, { base: RDX, displacement: -slots }, RCX);
      encode(buffer, 'and rm, r', 64, RCX, TAIL_CALLS_LEFT);
      jumpIf(buffer, Condition.notSign, out);
      loadAddress(buffer, SCRATCH, out);
      encode(buffer, 'add rm, imm8', 64, TAIL_CALLS_LEFT, 0, 1);
      encode(buffer, 'jmp rm64', 32, { base: RSI, index: RDX, scale: SLOT_BYTES, displacement: 0 });
      finish(buffer, out);
    },
  },
  {
    name: '32-bit targets',
    what: 'one branch, over a table of half the size',
    narrow: true,
    emit: parts => {
      const { buffer, slots } = parts;
      const out = buffer.label();
      fetch(parts);
      encode(buffer, 'cmp rm, imm32', 32, RDX, 0, slots);
      jumpIf(buffer, Condition.aboveOrEqual, out);
      encode(buffer, 'mov r, rm', 32, { base: RSI, index: RDX, scale: NARROW_SLOT_BYTES, displacement: 0 }, RCX);
      testSlot(parts, out);
      encode(buffer, 'add rm, r', 64, RCX, R8);
      encode(buffer, 'jmp rm64', 32, RCX);
      finish(buffer, out);
    },
  },
  {
    name: 'guess',
    what: 'the usual slot by a direct jump, others by the sequence above',
    emit: parts => {
      const { buffer, usual } = parts;
      const out = buffer.label();
      const other = buffer.label();
      fetch(parts);
      encode(buffer, 'cmp rm, imm32', 32, RDX, 0, usual.slot);
      jumpIf(buffer, Condition.notEqual, other);
      count(buffer, out);
      jumpTo(parts, usual.address);
      buffer.bind(other);
      // The range check is left out: it would not fit beside the guess, and a hop does without it where the index is proved.
      encode(buffer, 'mov r, rm', 64, { base: RSI, index: RDX, scale: SLOT_BYTES, displacement: 0 }, RCX);
      hop(parts, out);
      finish(buffer, out);
    },
  },
  {
    name: 'direct',
    what: 'limit; jump (fast)',
    direct: true,
    emit: parts => {
      const out = parts.buffer.label();
      skip(parts);
      count(parts.buffer, out);
      jumpTo(parts, parts.usual.address);
      finish(parts.buffer, out);
    },
  },
  {
    name: 'fall through',
    what: 'limit; the next program lies behind this one',
    direct: true,
    adjacent: true,
    emit: parts => {
      skip(parts);
      count(parts.buffer, parts.out);
    },
  },
];

class Choices {
  readonly #computer = new Computer(nativePlatform, { dataBytes: 96 << 20, codeBytes: 64 << 20 });
  readonly #driver = driver(this.#computer);

  close(): void {
    this.#computer.close();
  }

  /** A chain whose programs follow each other, and what runs it. */
  #adjacent({ emit }: Choice, hops: number): (runs: number) => number {
    const computer = this.#computer;
    const buffer = new CodeBuffer(2 * STRIDE * (hops + 1));
    const out = buffer.label();
    encode(buffer, 'mov rm, imm32', 64, TAIL_CALLS_LEFT, 0, -hops);
    const usual = { slot: 0, address: 0n };
    for (let i = 0; i < hops; i++) emit({ buffer, slots: 0, address: 0n, usual, out });
    encode(buffer, 'mov rm, r', 64, RAX, RDI);
    finish(buffer, out);
    const start = computer.place(buffer.finish().bytes);
    const stream = computer.allocate(CELL_BYTES);
    return runs => this.#time(start, stream, stream + BigInt(CELL_BYTES), runs);
  }

  #time(start: bigint, from: bigint, end: bigint, runs: number): number {
    const began = process.hrtime.bigint();
    this.#computer.call(this.#driver, start, from, end, BigInt(runs));
    return Number(process.hrtime.bigint() - began) / runs;
  }

  /** @returns what runs the chain: `runs` times, ns per run */
  chain(choice: Choice, pattern: Pattern, hops: number): (runs: number) => number {
    const { emit, narrow = false } = choice;
    if (choice.adjacent) return this.#adjacent(choice, hops);
    const computer = this.#computer;
    const { view } = computer;
    const leafNumber = pattern.programs;
    const table = computer.allocate(pattern.slots * SLOT_BYTES);
    const put = (slot: number, address: bigint, base: bigint) => {
      const at = computer.offset(table);
      if (narrow) view.setUint32(at + slot * NARROW_SLOT_BYTES, Number(address - base), true);
      else view.setBigUint64(at + slot * SLOT_BYTES, address, true);
    };
    const leaf = new CodeBuffer(STRIDE);
    encode(leaf, 'mov rm, r', 64, RAX, RDI);
    encode(leaf, 'ret', 32);
    // A distance of 0 would be an empty slot.
    const base = computer.place(new Uint8Array(STRIDE));
    put(pattern.slot(leafNumber), computer.place(leaf.finish().bytes), base);
    const addresses = Array.from({ length: pattern.programs }, () => computer.place(new Uint8Array(STRIDE)));
    for (const [i, address] of addresses.entries()) {
      const next = (i + 1) % pattern.programs;
      const buffer = new CodeBuffer(STRIDE);
      const usual = { slot: pattern.slot(next), address: addresses[next]! };
      emit({ buffer, slots: pattern.slots, address, usual, out: buffer.label() });
      this.#write(address, buffer.finish().bytes);
      put(pattern.slot(i), address, base);
    }
    const cells = hops * pattern.runs;
    const stream = computer.allocate(cells * CELL_BYTES);
    for (let cell = 0; cell < cells; cell++) {
      const program = (cell + 1) % hops === 0 ? leafNumber : pattern.next(cell);
      view.setUint32(computer.offset(stream) + cell * CELL_BYTES, pattern.slot(program), true);
    }
    const entry = new CodeBuffer(2 * STRIDE);
    encode(entry, 'mov r64, imm64', 64, RSI, 0, table);
    encode(entry, 'mov r64, imm64', 64, R8, 0, base);
    encode(entry, 'mov rm, imm32', 64, TAIL_CALLS_LEFT, 0, -hops);
    const start = computer.place(new Uint8Array(2 * STRIDE));
    jumpTo({ buffer: entry, address: start }, addresses[0]!);
    this.#write(start, entry.finish().bytes);
    const end = stream + BigInt(cells * CELL_BYTES);
    let run = 0;
    return runs => {
      if (run + runs > pattern.runs) run = 0;
      const from = stream + BigInt(run * hops * CELL_BYTES);
      run += runs;
      return this.#time(start, from, end, runs);
    };
  }

  #write(address: bigint, bytes: Uint8Array): void {
    const padded = new Uint8Array((bytes.length + 7) & ~7);
    padded.set(bytes);
    if (padded.length > 2 * STRIDE) throw new Error(`${bytes.length} bytes of code are too long`);
    const view = new DataView(padded.buffer);
    for (let at = 0; at < padded.length; at += 8) {
      this.#computer.setCodeWord(address + BigInt(at), view.getBigUint64(at, true));
    }
  }
}

export async function choices({ quick, json }: BenchOptions): Promise<void> {
  if (process.arch !== 'x64') {
    console.log(
      json ? JSON.stringify({ benchmark: 'choices', rows: [] }) : 'choices: written for x86-64, not measured here',
    );
    return;
  }
  const bench = new Choices();
  const patterns: [name: string, pattern: Pattern, runs: number][] = [
    ['T=1', circle(1), 2000],
    ['T=6', circle(6), 2000],
    ['T=33', circle(HOPS), 2000],
    ['random 1024', random(2048, 1024, 4000), 400],
    ['cold 10000', random(65536, 10_000, 4000), 100],
  ];
  const sampled = patterns.flatMap(([pattern, shape, runs]) =>
    CHOICES.filter(({ direct, adjacent }) => {
      if (adjacent) return shape.programs === HOPS;
      return direct !== true || pattern.startsWith('T=');
    }).map(choice => {
      const [long, short] = [bench.chain(choice, shape, HOPS), bench.chain(choice, shape, 1)];
      return { choice, pattern, sample: () => (long(runs) - short(runs)) / (HOPS - 1), ns: [] as number[] };
    }),
  );
  for (const { sample } of sampled) sample();
  for (let round = 0; round < (quick ? 3 : 101); round++) for (const { sample, ns } of sampled) ns.push(sample());
  bench.close();
  const rows = sampled.map(({ choice, pattern, ns }) => ({
    choice: choice.name,
    pattern,
    ns: Number(median(ns).toFixed(3)),
  }));
  if (json) {
    console.log(JSON.stringify({ benchmark: 'choices', rows }));
    return;
  }
  console.log('choices: ns per hop, hand-written, without frames');
  console.log(`  ${''.padEnd(16)}${patterns.map(([name]) => name.padStart(13)).join('')}`);
  for (const { name, what } of CHOICES) {
    const cells = patterns.map(([pattern]) => {
      const row = rows.find(each => each.choice === name && each.pattern === pattern);
      return (row?.ns.toFixed(2) ?? '').padStart(13);
    });
    console.log(`  ${name.padEnd(16)}${cells.join('')}  ${what}`);
  }
}
