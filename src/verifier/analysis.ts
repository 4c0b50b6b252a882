/**
 * What all parts of the interpretation share: the program, the current path, the paths still to walk, the counters,
 * and how a refusal is made.
 */
import type { Instruction, Register } from '../isa/instruction.ts';
import type { MapSpec, ProgramSpec } from '../object/spec.ts';
import type { Cfg } from './cfg.ts';
import { type Errno, HINTS, VerifierError, type VerifierErrorCode } from './errors.ts';
import { FactsCollector } from './facts-collector.ts';
import { formatState } from './format.ts';
import { History } from './history.ts';
import { KeyRanges } from './key-ranges.ts';
import type { KfuncTable } from './kfunc-signature.ts';
import type { VerifierLog } from './log.ts';
import type { BackEdge } from './loops.ts';
import { liveIn } from './prune.ts';
import { type RegisterState, UNINITIALIZED, UNKNOWN_SCALAR } from './registers.ts';
import type { HelperTable, RefusedHelper } from './signature.ts';
import { WRONG_GUESS } from './speculation.ts';
import { StackLiveness } from './stack-liveness.ts';
import type { Checkpoint, State } from './state.ts';
import { Explored } from './stored-states.ts';
import type { Sanitation } from './unprivileged.ts';
import { WaitingPaths } from './waiting-paths.ts';

export interface VerifyOptions {
  /** Every map that the program names. */
  readonly maps: ReadonlyMap<string, MapSpec>;
  readonly helpers: HelperTable;
  /** What is known of helpers that are not among them, by number; default nothing. */
  readonly refusedHelper?: (helper: number) => RefusedHelper | undefined;
  /** Kernel functions by name; default none. */
  readonly kfuncs?: KfuncTable;
  /** Of kernel functions that are not among them: why, for the refusal. */
  readonly refusedKfuncs?: ReadonlyMap<string, string>;
  /** 0 (default): no log but the last error; 1: the path in work; 2: everything. */
  readonly logLevel?: 0 | 1 | 2;
  /**
   * `raw` programs: sizes of memory, in bytes, that callers may hand over. Default 0 to 2^32-1. Where both are equal
   * r2 is that constant and the whole memory is accessible without checks.
   */
  readonly memorySize?: { readonly min: number; readonly max: number };
  /** Instructions to process before the program counts as too complex. Default one million, as in the kernel. */
  readonly maxInsns?: number;
  /**
   * Reads of stack bytes that were never written: allowed by default, as the kernel does to privileged programs since 6.3
   * (clang leaves the padding of structs unwritten). Frames that may be read so start as zeros.
   */
  readonly uninitializedStack?: 'refuse' | 'allow';
  /**
   * Rules of the kernel for users without privileges, e.g. for programs of tenants. true: neither CAP_BPF nor CAP_PERFMON;
   * `cap_bpf`: the former only. Default false. Stack that was never written may then not be read, unless it is allowed.
   */
  readonly unprivileged?: boolean | 'cap_bpf';
  /** Refuse access that is not aligned to its size whatever the memory, as the kernel does with BPF_F_STRICT_ALIGNMENT. */
  readonly strictAlignment?: boolean;
  /** For checks of the verifier itself. */
  readonly checking?: CheckingOptions;
}

/** What executions can be held against: every concrete state must lie in one that was seen at its instruction. */
export interface CheckingOptions {
  /**
   * Called with each state that is walked, before its instruction changes it: copy what is to be kept. `live` has a bit for
   * each register that can matter. `stored`: it was stored just now, and is `state.parent`. `from`: the instruction before it.
   */
  readonly onState: (insn: number, state: State, live: number, stored: boolean, from: number) => void;
  /** Called where a path ends before `insn`, behind `from`, since a state that is stored there covers its own. */
  readonly onCovered?: (insn: number, state: State, from: number) => void;
  /**
   * all: every number counts as relied upon, so that pruned paths, too, lie in the states that were seen; `marked`: as usual,
   * but a state is stored wherever one may be, so that the marks of what was relied upon are known there.
   */
  readonly precision: 'all' | 'marked';
}

const MAX_INSNS = 1_000_000;
const FEW_PATHS = 6;

/** The last line of a log. */
export function statistics(of: {
  readonly limit?: number | undefined;
  readonly insns?: number;
  readonly perInsn?: number;
  readonly total?: number;
  readonly peak?: number;
}): string {
  const { limit = MAX_INSNS, insns = 0, perInsn = 0, total = 0, peak = 0 } = of;
  // The kernel counted reads in its earlier days; the field has stayed.
  return `processed ${insns} insns (limit ${limit}) max_states_per_insn ${perInsn} total_states ${total} peak_states ${peak} mark_read 0`;
}

export class Analysis {
  readonly program: ProgramSpec;
  readonly options: VerifyOptions;
  readonly insns: readonly Instruction[];
  readonly cfg: Cfg;
  readonly live: Uint16Array;
  readonly log: VerifierLog;
  /** Of the kind of path in work. */
  facts: FactsCollector;
  readonly realFacts: FactsCollector;
  readonly speculativeFacts: FactsCollector;
  readonly maxInsns: number;
  readonly uninitializedStackAllowed: boolean;
  /** Registers are shown, or looked at, that do not matter to the path. */
  private readonly showsAll: boolean;
  /** No CAP_PERFMON: addresses must stay unknown. */
  readonly leaksRefused: boolean;
  /** What a pointer becomes that is good no more: a number, unless its address must stay unknown. */
  readonly forgotten: RegisterState;
  /** No CAP_BPF either. */
  readonly withoutBpf: boolean;
  /** By instruction (see `unprivileged.ts`), and whether numbers decided limits. */
  readonly sanitations = new Map<number, Sanitation>();
  limitsExplored = false;
  /** Instructions that processors must wait before, or after, instead of guessing (see `speculation.ts`). */
  readonly barriers = new Set<number>();
  readonly barriersAfter = new Set<number>();
  /** An instruction is being executed, not a path begun or ended. */
  executing = false;

  /** The path in work. */
  state!: State;
  insn = 0;
  previousInsn = -1;
  /** Where the walk began: slot 0, or a global function. */
  start = 0;

  /** At log level 2: by slot, the loop it is in, 0 for none. And the loops that are being walked, by loop and call sites. */
  loops: Int32Array | undefined = undefined;
  readonly enteredLoops = new Map<string, Checkpoint>();

  /** For checks of the verifier itself: stored states from which all paths have ended just now. */
  readonly finished: Checkpoint[] = [];
  readonly waiting: WaitingPaths;
  /** The states stored at each instruction. */
  explored = new Explored(0);
  /** What the path in work processed. */
  readonly history = new History();
  /** Of the keys that array lookups are given. */
  readonly keys: KeyRanges;
  /** Paths that ended inside loops that are not wholly walked yet. */
  readonly backEdges: BackEdge[] = [];
  readonly stackLiveness: StackLiveness;
  /** Global functions that calls reached; each is verified on its own. */
  readonly reachedGlobals = new Set<number>();
  /** Subprograms that call a helper which may move the packet, themselves or through others. */
  readonly packetChangers: ReadonlySet<number>;
  /** The program's only arena. */
  readonly arena: string | undefined;
  /** Index of the global function that is being verified on its own, 0 for the program itself. */
  root = 0;

  /** A line that follows the text of a refusal: what the place that is being checked is part of. */
  trailer = '';

  insnsProcessed = 0;
  jumpsProcessed = 0;
  insnsAtCheckpoint = 0;
  jumpsAtCheckpoint = 0;
  totalStates = 0;
  peakStates = 0;
  maxStatesPerInsn = 0;
  /** Calls that run callbacks and that the walk went on behind, so far. */
  callbackLoops = 0;
  /** By call of bpf_loop: the callback that all paths have called there without flags, -1 for none. */
  readonly inlinedLoops = new Map<number, number>();
  private lastId = 0;

  constructor(
    program: ProgramSpec,
    options: VerifyOptions,
    cfg: Cfg,
    live: Uint16Array,
    log: VerifierLog,
    packetChangers: ReadonlySet<number>,
    arena: string | undefined,
  ) {
    this.packetChangers = packetChangers;
    this.arena = arena;
    this.program = program;
    this.options = options;
    this.insns = program.insns;
    this.cfg = cfg;
    this.live = live;
    this.log = log;
    const isTailCall = (helper: number): boolean => options.helpers.get(helper)?.name === 'tail_call';
    this.stackLiveness = new StackLiveness(program.insns, cfg, log, isTailCall, () =>
      this.fail(
        'too_complex',
        'too many calls of large functions',
        'E2BIG',
        'Call large functions from fewer places, or make them global.',
      ),
    );
    this.showsAll = log.level > 0 || options.checking !== undefined;
    this.waiting = new WaitingPaths(
      ({ state, insn }, frame) => (this.showsAll ? -1 : liveIn(this, state, frame, insn)),
      // Programs that are held against executions are small: their states shall have been packed, too.
      options.checking === undefined ? undefined : FEW_PATHS,
    );
    this.realFacts = new FactsCollector(program, options.maps, cfg);
    this.speculativeFacts = this.realFacts;
    this.facts = this.realFacts;
    this.maxInsns = options.maxInsns ?? MAX_INSNS;
    this.leaksRefused = options.unprivileged !== undefined && options.unprivileged !== false;
    if (this.leaksRefused) this.speculativeFacts = new FactsCollector(program, options.maps, cfg, this.realFacts);
    this.keys = new KeyRanges(program.insns, options.maps, !this.leaksRefused);
    this.withoutBpf = options.unprivileged === true;
    this.forgotten = this.leaksRefused ? UNINITIALIZED : UNKNOWN_SCALAR;
    this.uninitializedStackAllowed =
      (options.uninitializedStack ?? (this.leaksRefused ? 'refuse' : 'allow')) === 'allow';
  }

  /** Can it matter to a path that goes on at `insn` what register `r` holds, or is it shown? */
  isSeen(insn: number, r: number): boolean {
    return this.showsAll || (this.live[insn]! & (1 << r)) !== 0;
  }

  newId(): number {
    return ++this.lastId;
  }

  /**
   * Refuses the program at the current instruction.
   * @param more what the log says after the text
   */
  fail(code: VerifierErrorCode, words: string, errno: Errno = 'EACCES', hint?: string, more?: string): never {
    const text = this.trailer === '' ? words : `${words}\n${this.trailer}`;
    this.log.write(text);
    if (this.executing && this.state.speculative && (errno === 'EPERM' || errno === 'EACCES' || errno === 'EINVAL'))
      throw WRONG_GUESS;
    if (more !== undefined) this.log.write(more);
    this.log.write(this.statistics());
    throw new VerifierError(code, {
      program: this.program.name,
      insn: this.insn,
      line: this.log.lineOf(this.insn),
      state: this.state === undefined ? '' : formatState(this.state),
      errno,
      log: this.log.toString(),
      insnsProcessed: this.insnsProcessed,
      text,
      hint: hint ?? HINTS[code],
    });
  }

  statistics(): string {
    return statistics({
      limit: this.maxInsns,
      insns: this.insnsProcessed,
      perInsn: this.maxStatesPerInsn,
      total: this.totalStates,
      peak: this.peakStates,
    });
  }

  /** A register as operand: it must be initialised. */
  read(r: Register): RegisterState {
    const state = this.state.registers[r];
    if (r > 10 || state === undefined) this.fail('invalid_instruction', `R${r} is invalid`, 'EINVAL');
    this.log.touchRegister(r);
    if (state.kind === 'uninitialized') this.fail('uninitialized_register', `R${r} !read_ok`);
    return state;
  }

  /** May the instruction write `r`? */
  checkWritable(r: Register): void {
    if (r > 10) this.fail('invalid_instruction', `R${r} is invalid`, 'EINVAL');
    if (r === 10) this.fail('read_only_register', 'frame pointer is read only');
  }

  write(r: Register, state: RegisterState): void {
    this.checkWritable(r);
    this.log.touchRegister(r);
    this.state.registers[r] = state;
  }

  /**
   * Queues a copy of the current state to be walked from `insn`.
   * @param callback `insn` is the first of a callback
   */
  push(insn: number, from: number, callback = false): State {
    const state = this.state.copy();
    if (state.parent !== undefined) state.parent.pending++;
    const { length: historyLength, remarkable } = this.history;
    this.waiting.push({ insn, from, state, logPosition: this.log.position, historyLength, remarkable, callback });
    if (this.waiting.length > 8192)
      this.fail('too_complex', `The sequence of ${this.waiting.length} jumps is too complex.`, 'E2BIG');
    return state;
  }
}
