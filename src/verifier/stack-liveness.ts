/**
 * Which stack slots may still be read: a data-flow analysis that learns while paths are walked.
 *
 * Problem: two states that differ only in slots that nothing reads any more are the same to pruning. Which slots an instruction
 * touches is not to be seen from its text, since pointers to the stack travel, into functions and callbacks too.
 *
 * Strategy (the kernel's): walking records for each instruction which slots it may read, and which it writes on every path so far.
 * Both are kept by chain of calls, so that a function that writes its caller's stack counts as a write for that caller. When a path
 * or a function ends, the usual equations for live variables are brought up to date along the control flow, and what they
 * say at a function's first instruction is passed on to its call.
 *
 * Invariants: reads only grow, and writes, once their instruction was walked, only shrink. So whatever was read by a path that
 * has ended is live at every instruction before it on that path. Of a state from which all paths have ended, what is live is known in
 * full; others are compared slot by slot (`loops.ts`, `prune.ts`).
 *
 * A tail call in a function, and a load from the packet, may leave the function at once, without the writes that follow. (Linux 6.18 counts
 * those as made, and so takes a path for proved on which the caller's stack differs.)
 *
 * Only instructions whose own marks changed, or what is live behind them, are looked at again; in the order in which rounds over the
 * whole function would come to them, so that results (and at level 2 the log) are those of such rounds.
 *
 * Source: the kernel's bpf_update_live_stack and what belongs to it.
 */
import type { Instruction } from '../isa/instruction.ts';
import { type Cfg, fallsTo, jumpsTo } from './cfg.ts';
import type { VerifierLog } from './log.ts';
import { MAX_FRAMES, type State } from './state.ts';

/** Sets of 64 slots per instruction, each of two words. */
const READ = 0;
const WRITTEN = 2;
const LIVE = 4;
const WORDS = 6;
/** The set of what is surely written has an array of its own: few functions need it. */
const SURE_WORDS = 2;

/** Words that all chains of calls together may take: 256 MiB. A large function that is called from very many places needs that. */
const MAX_WORDS = 1 << 26;

/** What is kept of all chains of calls. */
interface Budget {
  /** Counts the words that are left. */
  words: number;
  /** What is surely written of a function's own frame, too: the log asks. */
  readonly ownWrites: boolean;
  /** There are no more. */
  readonly exhausted: () => never;
}

/** A set of instructions, e.g. those to look at again, by position in the order of rounds. */
class Agenda {
  first = Number.MAX_SAFE_INTEGER;
  last = -1;
  private readonly words: Uint32Array;

  constructor(positions: number) {
    this.words = new Uint32Array((positions + 31) >> 5);
  }

  add(position: number): void {
    const word = position >> 5;
    this.words[word]! |= 1 << (position & 31);
    if (word < this.first) this.first = word;
    if (word > this.last) this.last = word;
  }

  get empty(): boolean {
    return this.last < 0;
  }

  /** Takes the lowest position out; -1 if there is none. */
  take(): number {
    while (this.first <= this.last) {
      const word = this.words[this.first]!;
      if (word !== 0) {
        const bit = 31 - Math.clz32(word & -word);
        this.words[this.first] = word & (word - 1);
        return 32 * this.first + bit;
      }
      this.first++;
    }
    this.first = Number.MAX_SAFE_INTEGER;
    this.last = -1;
    return -1;
  }
}

/** What the instructions of a function do to the stack of one frame. */
class Marks {
  readonly words: Int32Array;
  /** By instruction: slots written by it or whatever follows it in its function. undefined: nobody asks. */
  readonly sure: Int32Array | undefined;
  /** Instructions whose own marks have changed since the last rounds, from the function's start. */
  readonly touched: Agenda;
  now: Agenda;
  later: Agenda;

  constructor(length: number, needsWrites: boolean) {
    this.words = new Int32Array(WORDS * length);
    this.sure = needsWrites ? new Int32Array(SURE_WORDS * length) : undefined;
    this.touched = new Agenda(length);
    this.now = new Agenda(length);
    this.later = new Agenda(length);
  }
}

/** A function, reached through one chain of calls. */
export class CallChain {
  readonly outer: CallChain | undefined;
  /** The call in `outer`. */
  readonly site: number;
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  /** By frame; undefined where nothing was touched. */
  readonly frames: (Marks | undefined)[] = [];
  /** By instruction: 1 where it was walked, so that its writes are known. */
  readonly walked: Uint8Array;
  changed = false;
  /** Some instruction turned out not to write what it wrote on paths before. */
  writesLess = false;
  private readonly inner = new Map<string, CallChain>();
  private readonly budget: Budget;

  constructor(budget: Budget, outer: CallChain | undefined, site: number, start: number, end: number) {
    this.budget = budget;
    this.outer = outer;
    this.site = site;
    this.start = start;
    this.length = end - start;
    this.depth = outer === undefined ? 0 : outer.depth + 1;
    budget.words -= this.length >> 2;
    if (budget.words < 0) budget.exhausted();
    this.walked = new Uint8Array(end - start);
  }

  /** The function at slots [start, end), called at `site`. */
  enter(site: number, start: number, end: number): CallChain {
    const key = `${site} ${start}`;
    let chain = this.inner.get(key);
    if (chain === undefined) this.inner.set(key, (chain = new CallChain(this.budget, this, site, start, end)));
    return chain;
  }

  marks(frame: number): Marks {
    let marks = this.frames[frame];
    if (marks === undefined) {
      const needsWrites = frame < this.depth || this.budget.ownWrites;
      this.budget.words -= (WORDS + (needsWrites ? SURE_WORDS : 0)) * this.length;
      if (this.budget.words < 0) this.budget.exhausted();
      this.frames[frame] = marks = new Marks(this.length, needsWrites);
    }
    return marks;
  }

  /** Slots of half `half` (0: the first 32) of a frame that may be read from `insn` on, as a set. */
  live(frame: number, insn: number, half: number): number {
    const marks = this.frames[frame];
    return marks === undefined ? 0 : marks.words[WORDS * (insn - this.start) + LIVE + half]!;
  }

  /** e.g. `(16,36)`: the calls, then where the function starts. */
  toString(): string {
    const sites = [this.start];
    for (let chain: CallChain = this; chain.outer !== undefined; chain = chain.outer) sites.unshift(chain.site);
    return `(${sites.join(',')})`;
  }
}

/** Slots of a frame that may still be read when a path goes on from `state` at `insn`, as a set of half `half`. */
export function liveSlots({ frames }: State, insn: number, frame: number, half: number): number {
  const top = frames.length - 1;
  let live = frames[top]!.chain.live(frame, insn, half);
  for (let f = frame; f < top; f++) {
    const { callSite, isCallback } = frames[f + 1]!;
    live |= frames[f]!.chain.live(frame, isCallback ? callSite : callSite + 1, half);
  }
  return live;
}

const lowestFirst = (low: number, high: number): string => {
  const slots: number[] = [];
  for (let slot = 0; slot < 64; slot++) if (((slot < 32 ? low : high) & (1 << (slot & 31))) !== 0) slots.push(slot);
  return slots.map(slot => -8 * (slot + 1)).join(',');
};

export class StackLiveness {
  private readonly insns: readonly Instruction[];
  private readonly cfg: Cfg;
  private readonly log: VerifierLog;
  private readonly isTailCall: (helper: number) => boolean;
  private readonly budget: Budget;
  private readonly roots = new Map<number, CallChain>();
  /** What the instruction in work writes, by frame. */
  private readonly writes = new Int32Array(2 * MAX_FRAMES);
  private writing = -1;
  private wrote = false;
  /** Made when first wanted: by slot, the position within its function's rounds; and the other way round, from the function's start. */
  private positions: Int32Array | undefined = undefined;
  private order = new Int32Array(0);
  /** Instructions that lead to slot i: predecessors[first[i]] to before predecessors[first[i + 1]]. */
  private first = new Int32Array(0);
  private predecessors = new Int32Array(0);

  /** @param exhausted called, and not expected to return, when all this takes too much memory */
  constructor(
    insns: readonly Instruction[],
    cfg: Cfg,
    log: VerifierLog,
    isTailCall: (helper: number) => boolean,
    exhausted: () => never,
  ) {
    this.budget = { words: MAX_WORDS, ownWrites: log.level === 2, exhausted };
    this.insns = insns;
    this.cfg = cfg;
    this.log = log;
    this.isTailCall = isTailCall;
  }

  /** The chain of a walk that begins at function `subprogram`. */
  root(subprogram: number): CallChain {
    const { start, end } = this.cfg.subprograms[subprogram]!;
    let chain = this.roots.get(start);
    if (chain === undefined) this.roots.set(start, (chain = new CallChain(this.budget, undefined, -1, start, end)));
    return chain;
  }

  /** The instruction in work, at `insn`, reads a slot of a frame. */
  read(state: State, insn: number, frame: number, slot: number): void {
    const bit = 1 << (slot & 31);
    this.noteRead(state.frame.chain, insn, frame, slot < 32 ? bit : 0, slot < 32 ? 0 : bit);
  }

  private noteRead(chain: CallChain, insn: number, frame: number, low: number, high: number): void {
    const marks = chain.marks(frame);
    const { words } = marks;
    const at = WORDS * (insn - chain.start);
    const isNew = ((low & ~words[at + LIVE]!) | (high & ~words[at + LIVE + 1]!)) !== 0;
    words[at + READ]! |= low;
    words[at + READ + 1]! |= high;
    if (!isNew) return;
    chain.changed = true;
    marks.touched.add(insn - chain.start);
  }

  /** An instruction that may write to the stack begins. */
  begin(insn: number): void {
    this.writing = insn;
    if (!this.wrote) return;
    this.writes.fill(0);
    this.wrote = false;
  }

  /** It writes all of a slot. */
  write(frame: number, slot: number): void {
    this.writes[2 * frame + (slot >> 5)]! |= 1 << (slot & 31);
    this.wrote = true;
  }

  /** It has ended. Writes count that it makes on all paths. */
  end(state: State): void {
    if (this.writing < 0) return;
    this.noteWrites(state.frame.chain);
  }

  private noteWrites(chain: CallChain): void {
    const insn = this.writing;
    this.writing = -1;
    const index = insn - chain.start;
    const before = chain.walked[index] === 1;
    chain.walked[index] = 1;
    if (!before && !this.wrote) return;
    for (let frame = 0; frame <= chain.depth; frame++) {
      let low = this.writes[2 * frame]!;
      let high = this.writes[2 * frame + 1]!;
      const marks = (low | high) === 0 ? chain.frames[frame] : chain.marks(frame);
      if (marks === undefined) continue;
      const { words } = marks;
      const at = WORDS * index + WRITTEN;
      if (before) {
        low &= words[at]!;
        high &= words[at + 1]!;
      }
      if (words[at] === low && words[at + 1] === high) continue;
      if (((words[at]! & ~low) | (words[at + 1]! & ~high)) !== 0) chain.writesLess = true;
      words[at] = low;
      words[at + 1] = high;
      chain.changed = true;
      marks.touched.add(index);
    }
  }

  /** A path or a function ends in this state: what its functions do is brought up to date. */
  update({ frames }: State): void {
    this.writing = -1;
    for (let f = frames.length - 1; f >= 0; f--) {
      const { chain } = frames[f]!;
      if (!chain.changed) continue;
      this.settle(chain);
      chain.changed = false;
      chain.writesLess = false;
    }
  }

  private settle(chain: CallChain): void {
    for (const marks of chain.frames) {
      if (marks === undefined) continue;
      const { touched, now } = marks;
      for (let index = touched.take(); index >= 0; index = touched.take())
        now.add(this.positionOf(chain.start + index));
    }
    if (chain.writesLess) this.forgetWrites(chain);
    let rounds = 0;
    for (let changed = true; changed; ) {
      changed = false;
      rounds++;
      for (let frame = 0; frame <= chain.depth; frame++) {
        const marks = chain.frames[frame];
        if (marks !== undefined && !marks.now.empty && this.round(chain, frame, marks)) changed = true;
      }
    }
    if (this.log.level === 2) this.log.write(`${chain} live stack update done in ${rounds} iterations`);
    if (chain.outer !== undefined) this.passOn(chain, chain.outer);
  }

  private forgetWrites(chain: CallChain): void {
    for (let frame = 0; frame <= chain.depth; frame++) {
      const marks = chain.frames[frame];
      if (marks?.sure === undefined) continue;
      marks.sure.fill(0);
      for (let index = 0; index < chain.length; index++) {
        if (this.insns[chain.start + index]!.kind !== 'wide') marks.now.add(this.positionOf(chain.start + index));
      }
    }
  }

  /** @returns whether anything changed */
  private round(chain: CallChain, frame: number, marks: Marks): boolean {
    const { now, later } = marks;
    let changed = false;
    for (let position = now.take(); position >= 0; position = now.take()) {
      const insn = this.order[chain.start + position]!;
      if (!this.look(chain, frame, marks, insn)) continue;
      changed = true;
      for (let i = this.first[insn]!; i < this.first[insn + 1]!; i++) {
        const before = this.positions![this.predecessors[i]!]!;
        (before > position ? now : later).add(before);
      }
    }
    marks.now = later;
    marks.later = now;
    return changed;
  }

  private look(chain: CallChain, frame: number, { words, sure }: Marks, insn: number): boolean {
    const instruction = this.insns[insn]!;
    const next = fallsTo(instruction, insn);
    const target = jumpsTo(instruction, insn);
    if (next < 0 && target < 0) return false;
    const index = insn - chain.start;
    const after = (next < 0 ? target : next) - chain.start;
    const other = (target < 0 ? next : target) - chain.start;
    const at = WORDS * index;
    const [a, b] = [WORDS * after + LIVE, WORDS * other + LIVE];
    const low = ((words[a]! | words[b]!) & ~words[at + WRITTEN]!) | words[at + READ]!;
    const high = ((words[a + 1]! | words[b + 1]!) & ~words[at + WRITTEN + 1]!) | words[at + READ + 1]!;
    const title =
      this.log.level === 2 && this.isShown(chain, words, insn) ? `${chain} frame ${frame} insn ${insn} ` : undefined;
    const livesMore = this.replace(words, at + LIVE, low, high, title, 'live');
    if (sure === undefined) return livesMore;
    const [c, d] = [SURE_WORDS * after, SURE_WORDS * other];
    const goesOn = frame === chain.depth || !this.mayLeave(instruction);
    const surelyLow = (goesOn ? sure[c]! & sure[d]! : 0) | words[at + WRITTEN]!;
    const surelyHigh = (goesOn ? sure[c + 1]! & sure[d + 1]! : 0) | words[at + WRITTEN + 1]!;
    return this.replace(sure, SURE_WORDS * index, surelyLow, surelyHigh, title, 'written') || livesMore;
  }

  /**
   * @param title what a line of the log begins with; undefined: none
   * @returns whether the set was another
   */
  private replace(
    words: Int32Array,
    at: number,
    low: number,
    high: number,
    title: string | undefined,
    name: string,
  ): boolean {
    if (words[at] === low && words[at + 1] === high) return false;
    if (title !== undefined) this.logChange(title, name, words, at, low, high);
    words[at] = low;
    words[at + 1] = high;
    return true;
  }

  /** Does a path that ends its function begin here too? */
  private mayLeave(instruction: Instruction): boolean {
    if (instruction.kind === 'callHelper') return this.isTailCall(instruction.helper);
    return instruction.kind === 'packetLoad';
  }

  private isShown(chain: CallChain, words: Int32Array, insn: number): boolean {
    const at = WORDS * (insn - chain.start);
    const touches = words[at + READ]! | words[at + READ + 1]! | words[at + WRITTEN]! | words[at + WRITTEN + 1]!;
    return touches !== 0 || insn === chain.start || this.cfg.prunePoint[insn] === 1;
  }

  private logChange(title: string, name: string, words: Int32Array, at: number, low: number, high: number): void {
    const [oldLow, oldHigh] = [words[at]!, words[at + 1]!];
    const more = lowestFirst(low & ~oldLow, high & ~oldHigh);
    const less = lowestFirst(oldLow & ~low, oldHigh & ~high);
    if (more === '' && less === '') return;
    this.log.write(title + (more === '' ? '' : `+${name} ${more} `) + (less === '' ? '' : `-${name} ${less}`));
  }

  /** What the function does to its callers' stacks, its call does. */
  private passOn(chain: CallChain, outer: CallChain): void {
    this.begin(chain.site);
    for (let frame = 0; frame < chain.depth; frame++) {
      const marks = chain.frames[frame];
      if (marks === undefined) continue;
      this.writes[2 * frame]! |= marks.sure![0]!;
      this.writes[2 * frame + 1]! |= marks.sure![1]!;
      this.wrote = true;
      this.noteRead(outer, chain.site, frame, marks.words[LIVE]!, marks.words[LIVE + 1]!);
    }
    this.noteWrites(outer);
  }

  private positionOf(insn: number): number {
    this.positions ??= this.arrange();
    return this.positions[insn]!;
  }

  /** Postorder within each function, as the kernel walks it: the jump first, then what follows. */
  private arrange(): Int32Array {
    const { insns } = this;
    const positions = new Int32Array(insns.length).fill(-1);
    this.order = new Int32Array(insns.length);
    const counts = new Int32Array(insns.length + 1);
    const discovered = new Uint8Array(insns.length);
    const successors = (insn: number): [number, number] => {
      const instruction = insns[insn]!;
      const next = fallsTo(instruction, insn);
      const target = jumpsTo(instruction, insn);
      return [next, target === next ? -1 : target];
    };
    for (const { start } of this.cfg.subprograms) {
      let count = 0;
      const path = [start];
      while (path.length > 0) {
        const insn = path[path.length - 1]!;
        if (discovered[insn] === 2) {
          path.pop();
          positions[insn] = count;
          this.order[start + count++] = insn;
          continue;
        }
        for (const successor of successors(insn)) {
          if (successor < 0) continue;
          counts[successor + 1]!++;
          if (discovered[successor] !== 0) continue;
          discovered[successor] = 1;
          path.push(successor);
        }
        discovered[insn] = 2;
      }
    }
    for (let i = 0; i < insns.length; i++) counts[i + 1]! += counts[i]!;
    this.first = counts;
    this.predecessors = new Int32Array(counts[insns.length]!);
    const filled = counts.slice();
    for (let insn = 0; insn < insns.length; insn++) {
      if (positions[insn]! < 0) continue;
      for (const successor of successors(insn)) if (successor >= 0) this.predecessors[filled[successor]!++] = insn;
    }
    return positions;
  }
}
