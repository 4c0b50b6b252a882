/**
 * Chains of tail calls as machine code, and what runs them.
 *
 * A program of a chain reads the index of the next from a stream that r1 walks along, and hops there; the last of a run is
 * a leaf that hands the stream on. So one body serves every order of hops: a few programs in a circle, random ones, or more than
 * the caches hold. Programs with direct sites know their successor instead. No verified program could move its
 * context pointer, so they are lowered by hand and compiled by the compiler that the runtime uses.
 *
 * The floor is what no compiler can do without: written by hand below, with neither count nor frame.
 */
import { assemble } from '../src/isa/assembler.ts';
import type { CompileOptions, TailCallMode } from '../src/jit/shared/code.ts';
import { CodeBuffer } from '../src/jit/shared/code-buffer.ts';
import { PATCH_WORD_BYTES } from '../src/jit/shared/patch-word.ts';
import { chooseTailCalls, type TailCallOverrides } from '../src/jit/shared/tail-call-choices.ts';
import { Condition, jumpIf, near } from '../src/jit/x64/branches.ts';
import { encode } from '../src/jit/x64/encodings.ts';
import { x64Machine } from '../src/jit/x64/machine.ts';
import { jumpBytes } from '../src/jit/x64/patch.ts';
import { RAX, RCX, RDI, RDX, RSI } from '../src/jit/x64/registers.ts';
import type { Lowered } from '../src/lowering/lowered.ts';
import { packTailCall } from '../src/lowering/tail-call-imm.ts';
import { ProgArrayLayout } from '../src/memory/layout.ts';
import { Computer, nativePlatform } from '../test/jit/computer.ts';
import { TestProgArray } from '../test/jit/prog-array.ts';

export const HOPS = 33;
/** Bytes of an index in the stream. */
export const CELL_BYTES = 4;

export type Site = 'static' | 'proved' | 'direct';
/** A mode, with choices other than its own; or code written by hand. */
export type Maker = { readonly mode: TailCallMode; readonly choices?: TailCallOverrides } | 'floor';

/** A chain that can be run. */
export interface Chain {
  /** Throws its code and its data out of all caches. */
  readonly flush?: () => void;
  /** @returns ns per run, over that many runs */
  time(runs: number): number;
}

export interface Pattern {
  /** Slots of the array. */
  readonly slots: number;
  /** Number of distinct programs, the leaf not counted. */
  readonly programs: number;
  /** Slot of a program; the leaf has the number `programs`. */
  readonly slot: (program: number) => number;
  /** Runs until the stream starts anew. */
  readonly runs: number;
  /** Which program each hop leads to, counted over all runs. */
  readonly next: (hop: number) => number;
}

const LINE_BYTES = 64n;
/** flush(first line, end): next: clflush [rdi]; add rdi, 64; cmp rdi, rsi; jb next; mfence; ret */
const FLUSH = Uint8Array.of(
  ...[0x0f, 0xae, 0x3f, 0x48, 0x83, 0xc7, Number(LINE_BYTES), 0x48, 0x39, 0xf7, 0x72, 0xf4],
  ...[0x0f, 0xae, 0xf0, 0xc3],
);

/** Each hops to the next, the last to the first. */
export function circle(programs: number): Pattern {
  return { slots: 64, programs, runs: 1, slot: program => program, next: hop => (hop + 1) % programs };
}

/** The next is drawn for each hop. */
export function random(slots: number, programs: number, runs: number): Pattern {
  let state = 2463534242;
  const draw = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const order = Array.from({ length: slots }, (_, slot) => slot);
  for (let i = slots - 1; i > 0; i--) {
    const j = draw(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return { slots, programs, runs, slot: program => order[program]!, next: () => draw(programs) };
}

/** drive(entry, stream, end of stream, runs): each run goes on in the stream where the one before it ended. */
export function driver(computer: Computer): bigint {
  const text = `r6 = r1
r7 = r2
r8 = r4
r9 = r3
r1 = r7
next:
callx r6
r1 = r0
if r1 < r9 goto counted
r1 = r7
counted:
r8 -= 1
if r8 != 0 goto next
exit`;
  return computer.install(x64Machine.compile(byHand('drive', text, 0), { kind: 'routine', tailCallMode: 'cached' }));
}

export class Bench {
  readonly #computer = new Computer(nativePlatform, { dataBytes: 128 << 20, codeBytes: 256 << 20 });
  readonly #driver: bigint;
  readonly #flusher: bigint;

  constructor() {
    this.#driver = driver(this.#computer);
    this.#flusher = this.#computer.place(FLUSH);
  }

  close(): void {
    this.#computer.close();
  }

  /** @param hops in a run; the last leads to the leaf */
  chain(maker: Maker, site: Site, pattern: Pattern, hops: number): Chain {
    const leaf = pattern.programs;
    const starts = this.#end();
    const slotOf = pattern.slot;
    const cells = site === 'direct' ? 0 : hops * pattern.runs;
    const stream = this.#computer.allocate(Math.max(cells * CELL_BYTES, 64));
    const { view } = this.#computer;
    const base = this.#computer.offset(stream);
    for (let cell = 0; cell < cells; cell++) {
      const program = (cell + 1) % hops === 0 ? leaf : pattern.next(cell);
      view.setUint32(base + cell * CELL_BYTES, slotOf(program), true);
    }
    const emptySlots = maker === 'floor' ? 'test' : choicesOf(maker).emptySlots;
    const array = new TestProgArray(this.#computer, pattern.slots, emptySlots);
    const entries = maker === 'floor' ? this.#floor(site, pattern, array) : this.#compiled(maker, site, pattern, array);
    // A direct chain is as long as what lies between its entry and the leaf; a circle of direct hops ends at the limit.
    const entry = entries[site === 'direct' ? Math.max(pattern.programs - hops, 0) : 0]!;
    const end = stream + BigInt(Math.max(cells, 1) * CELL_BYTES);
    const ends = this.#end();
    let run = 0;
    return {
      flush: () => {
        for (const [i, start] of starts.entries()) this.#computer.call(this.#flusher, start, ends[i]!);
      },
      time: runs => {
        // Goes on where the last call stopped, so that no order of hops comes again soon.
        if (run + runs > pattern.runs) run = 0;
        const from = stream + BigInt(site === 'direct' ? 0 : run * hops * CELL_BYTES);
        run += runs;
        const start = process.hrtime.bigint();
        this.#computer.call(this.#driver, entry, from, end, BigInt(runs));
        return Number(process.hrtime.bigint() - start) / runs;
      },
    };
  }

  /** Where data and code end so far. */
  #end(): [data: bigint, code: bigint] {
    return [this.#computer.allocate(0), this.#computer.place(new Uint8Array())];
  }

  #compiled(maker: Exclude<Maker, 'floor'>, site: Site, pattern: Pattern, array: TestProgArray): bigint[] {
    const options: CompileOptions = {
      kind: 'program',
      tailCallMode: maker.mode,
      ...(maker.choices && { tailCallChoices: maker.choices }),
    };
    const slotOf = pattern.slot;
    const place = (text: string, keys: readonly number[]): { entry: bigint; offset: number } => {
      const lowered = byHand('hop', text, pattern.slots, keys, site === 'proved');
      const code = x64Machine.compile(lowered, options);
      const entry = this.#computer.install(code, [array.address]);
      array.addSites(code, entry, keys);
      return { entry, offset: code.tailCallPrologueOffset };
    };
    const leaf = place('r0 = r1\nexit', []);
    array.set(slotOf(pattern.programs), leaf.entry, leaf.offset);
    const entries: bigint[] = [];
    for (let i = 0; i < pattern.programs; i++) {
      const successor = slotOf(pattern.programs < HOPS ? (i + 1) % pattern.programs : i + 1);
      const index = site === 'direct' ? `r3 = ${successor}` : 'r3 = *(u32 *)(r1 + 0)\nr1 += 4';
      const imm = packTailCall({ usedMap: 0, dynamic: false, poke: site === 'direct' ? 0 : undefined });
      const text = `r6 = r1\n${index}\nr2 = map_address[0] ll\ntail_call ${imm}\nr0 = 0\nexit`;
      const { entry, offset } = place(text, site === 'direct' ? [successor] : []);
      array.set(slotOf(i), entry, offset);
      entries.push(entry);
    }
    return entries;
  }

  /** Entries set up the array's address; array slots lead behind them. */
  #floor(site: Site, pattern: Pattern, array: TestProgArray): bigint[] {
    const slotOf = pattern.slot;
    const leafBuffer = new CodeBuffer(64);
    encode(leafBuffer, 'mov rm, r', 64, RAX, RDI);
    encode(leafBuffer, 'ret', 32);
    const leaf = this.#computer.place(leafBuffer.finish().bytes);
    array.set(slotOf(pattern.programs), leaf, 0);
    if (site === 'direct') {
      const chain = [leaf];
      for (let i = 0; i < pattern.programs; i++) {
        // One word: mov rdx, rdi; jmp rel32.
        const address = this.#computer.place(new Uint8Array(PATCH_WORD_BYTES));
        const buffer = new CodeBuffer(64);
        encode(buffer, 'mov rm, r', 64, RDX, RDI);
        for (const byte of jumpBytes(address + 3n, chain[0]!)) buffer.u8(byte);
        this.#computer.setCodeWord(address, new DataView(buffer.finish().bytes.buffer).getBigUint64(0, true));
        chain.unshift(address);
      }
      return chain;
    }
    const program = (): Uint8Array => {
      const buffer = new CodeBuffer(256);
      const out = buffer.label();
      encode(buffer, 'mov r, rm', 32, { base: RDI, displacement: 0 }, RDX);
      encode(buffer, 'add rm, imm8', 64, RDI, 0, CELL_BYTES);
      encode(buffer, 'cmp rm, imm32', 32, RDX, 0, pattern.slots);
      jumpIf(buffer, Condition.aboveOrEqual, out);
      const displacement = ProgArrayLayout.ptrs + 8 * pattern.slots;
      encode(buffer, 'mov r, rm', 64, { base: RSI, index: RDX, scale: 8, displacement }, RCX);
      encode(buffer, 'test rm, r', 64, RCX, RCX);
      jumpIf(buffer, Condition.equal, out);
      encode(buffer, 'jmp rm64', 32, RCX);
      buffer.bind(out);
      encode(buffer, 'ret', 32);
      return buffer.finish().bytes;
    };
    for (let i = 0; i < pattern.programs; i++) array.set(slotOf(i), this.#computer.place(program()), 0);
    const buffer = new CodeBuffer(256);
    encode(buffer, 'mov r64, imm64', 64, RSI, 0, array.address);
    const body = buffer.label();
    near(buffer, 0xe9, body);
    buffer.bind(body);
    const bytes = [...buffer.finish().bytes, ...program()];
    return [this.#computer.place(Uint8Array.from(bytes))];
  }
}

function choicesOf({ mode, choices }: Exclude<Maker, 'floor'>) {
  return chooseTailCalls(x64Machine.tailCallPresets, mode, choices);
}

/** @param keys of the direct sites @param proved the index is below `maxEntries` */
function byHand(name: string, text: string, maxEntries: number, keys: readonly number[] = [], proved = false): Lowered {
  const insns = assemble(text, { internal: true });
  const call = insns.findIndex(insn => insn.kind === 'tailCall');
  return {
    name,
    type: 'raw',
    insns,
    origin: Int32Array.from(insns, (_, slot) => slot),
    usedMaps: [{ name: 'chain', maxEntries }],
    pokeTable: keys.map(key => ({ insn: call, map: 0, key })),
    tailCallIndices: new Map([[call, { max: proved ? maxEntries - 1 : 0xffff_ffff, narrow: true }]]),
    subprograms: [
      {
        name,
        start: 0,
        end: insns.length,
        stackDepth: 0,
        hasTailCall: call >= 0,
        tailCallReachable: call >= 0,
        isCallback: false,
      },
    ],
  };
}
