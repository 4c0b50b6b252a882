/**
 * What becomes of one program: two verdicts, the runs of all who accept it, and the first thing that is wrong.
 *
 * The interpreter's run is held against the verifier's claims (test/verifier/soundness.ts), twice: with all numbers precise,
 * and as pruning usually has it.
 */

import { KFUNCS } from '../src/helpers/kfuncs.ts';
import { HELPERS } from '../src/helpers/table.ts';
import {
  assemble,
  type BpfMap,
  type Collection,
  createRuntime,
  type MapSpec,
  type ProgramSpec,
  programFromInstructions,
  type Runtime,
  SwitchyardError,
  VerifierError,
} from '../src/index.ts';
import { KernelError } from '../src/kernel/errors.ts';
import { loadIntoKernel } from '../src/kernel/load.ts';
import { refusalText } from '../src/kernel/program.ts';
import { verify } from '../src/verifier/verify.ts';
import { contents } from '../test/corpus/observe.ts';
import { randomBytes } from '../test/corpus/packets.ts';
import { type Court, openCourt, Unsound } from '../test/verifier/soundness.ts';
import { MAP_BTF, MAPS } from '../test/verifier/support.ts';
import { type FuzzType, VALUE_BYTES } from './generator.ts';

export interface Subject {
  readonly type: FuzzType;
  /** Assembly. */
  readonly text: string;
  /** Of the packets and the maps' contents. */
  readonly seed: number;
}

export type Wrong =
  /** A run reached a state that the verifier did not foresee. */
  | 'unsound'
  /** Two of interpreter, x86-64 and kernel differ. */
  | 'runs differ'
  /** More instructions than any of the generator's loops has. */
  | 'does not end'
  /** An error that is none of ours, or one at a time when none may come. */
  | 'crash'
  /** We accept what the kernel refuses. */
  | 'accepted here only';

export interface Judgement {
  readonly ours: boolean;
  /** undefined: no kernel to ask. */
  readonly kernel: boolean | undefined;
  /** Why whoever refused did so, numbers left out. */
  readonly reason: string;
  readonly wrong: Wrong | undefined;
  readonly detail: string;
  /** The claims were compared with the runs. */
  readonly watched: boolean;
  readonly ran: number;
}

const map = (name: string, type: MapSpec['type'], keySize: number, valueSize: number, maxEntries: number): MapSpec => ({
  name,
  type,
  keySize,
  valueSize,
  maxEntries,
  flags: 0,
  contents: [],
});
const LOCKED = MAPS.get('locked_array')!;
const INNER = map('inner', 'array', 4, 16, 2);
const LEAF = 'r0 = *(u32 *)(r1 + 12)\nr0 &= 3\nr0 += 40\nexit';
const SAMPLES = 40;
/** Instructions that a verifier may process: each program is verified five times. */
const MAX_PROCESSED = 60_000;
/** After that time the packets that are left are not watched. */
const WATCH_MS = 2000;
/** In place of an outcome. */
const NOT_RUN = 'not run';
const PACKET_BYTES = [14, 15, 20, 34, 64, 100];

/** @param sample numbers for the map to hold instead of what the seed gives */
export function collectionOf({ type, text, seed }: Subject, sample?: (index: number) => bigint): Collection {
  const make = (name: string, assembly: string): ProgramSpec =>
    programFromInstructions({ name, type, insns: assemble(assembly) });
  const random = randomBytes(seed * 7 + 3);
  const interesting = [0, 1, 7, 8, 47, 48, 63, 0x7f, 0x80, 0xff];
  const values = [0, 1, 2, 3].map(key => ({
    key,
    // Small numbers and borders: random ones are nearly always out of every bound.
    value: Uint8Array.from(random(VALUE_BYTES), (byte, i) => {
      if (key === 0) return i % 8 === 0 ? byte : 0;
      if (key === 1) return interesting[byte % interesting.length]!;
      return key === 2 ? byte : 0xff;
    }),
  }));
  if (sample !== undefined) {
    for (const [key, { value }] of values.entries()) {
      const view = new DataView(value.buffer);
      for (let at = 0; at < VALUE_BYTES; at += 8)
        view.setBigUint64(at, BigInt.asUintN(64, sample(key * 6 + at / 8)), true);
    }
  }
  const maps = [
    { ...map('array', 'array', 4, VALUE_BYTES, 4), contents: values },
    map('hash', 'hash', 8, 16, 8),
    { ...map('progs', 'prog_array', 4, 4, 4), contents: [{ key: 1, program: 'leaf' }] },
    { ...map('outer', 'array_of_maps', 4, 4, 2), inner: INNER, contents: [{ key: 1, map: 'inner' }] },
    INNER,
    map('ring', 'ringbuf', 0, 0, 4096),
    LOCKED,
  ];
  // Maps that the program does not name are not made: each costs a system call.
  const used = maps.filter(({ name }) => text.includes(`map[${name === 'inner' ? 'outer' : name}]`));
  const programs = [make('fuzz', text), ...(used.some(({ name }) => name === 'progs') ? [make('leaf', LEAF)] : [])];
  return {
    programs: new Map(programs.map(spec => [spec.name, spec])),
    maps: new Map(used.map(spec => [spec.name, spec])),
    license: 'GPL',
    btf: used.includes(LOCKED) ? MAP_BTF : undefined,
  };
}

interface Object {
  readonly maps: ReadonlyMap<string, Pick<BpfMap, 'spec' | 'entries'>>;
  program(name: string): { run(packet: Uint8Array): { readonly returnValue: bigint; readonly data: Uint8Array } };
  dispose(): void;
}

const line = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
/** Numbers and registers left out, so that equal causes count as one. */
const reasonOf = (text: string): string =>
  text
    .replace(/\bR\d+\b/g, 'R')
    .replace(/-?\b(0x[0-9a-f]+|\d+)\b/g, 'N')
    .replace(/\(.*\)/, '')
    .trim()
    .slice(0, 100);

/**
 * Linux 6.18 does not follow a value back through an atomic operation that fetches it from the stack: it prunes paths on which the value
 * differs, and compiles branches and tail calls for the one that it saw first.
 */
const FETCHES_FROM_STACK = /= (?:atomic_fetch_|xchg|cmpxchg).*\br10\b/;
/**
 * Where a 32-bit compare and exchange finds what it expects, x86-64 leaves all of rax alone. Linux 6.18 clears the upper half of r0 only if it
 * walks a path that reads it, and not where such a path is pruned.
 */
const UPPER_HALF_LEFT = /cmpxchg32_32\(.*\)\n(?!w0 = w0$)/m;
/** Programs that are not run in the kernel. */
const KERNEL_IS_WRONG = [FETCHES_FROM_STACK, UPPER_HALF_LEFT];

/**
 * Has it a load from the packet in a function? Linux 6.18 must not be asked about those: where a number is followed back from the caller
 * across such a call, past the path that ends at the load, its verifier counts one frame too few and writes to memory that is not its own.
 */
function loadsPacketInFunction({ programs }: Collection): boolean {
  const { insns } = programs.get('fuzz')!;
  let main = insns.length;
  for (const [slot, insn] of insns.entries()) {
    if (insn.kind === 'callSubprogram') main = Math.min(main, slot + 1 + insn.offset);
    else if (insn.kind === 'loadImm64' && insn.reference?.type === 'function')
      main = Math.min(main, slot + 1 + insn.reference.offset);
  }
  return insns.some((insn, slot) => insn.kind === 'packetLoad' && slot >= main);
}

export class Judge {
  readonly #runtime: Runtime = createRuntime({ arenaSize: 64 << 20, codeSize: 16 << 20 });
  readonly #court: Court = openCourt(32 << 20);
  #kernelPermitted = true;

  get kernelPermitted(): boolean {
    return this.#kernelPermitted;
  }

  /** Instructions whose concrete state was compared with claims. */
  get compared(): number {
    return this.#court.witness.compared;
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#runtime.dispose(), this.#court.runtime.dispose()]);
  }

  /**
   * @returns undefined where our verifier would take too long for a fuzzer
   * @throws only where the text is no assembly
   */
  judge(subject: Subject): Judgement | undefined {
    const collection = collectionOf(subject);
    const packets = this.#packets(subject.seed);
    let refusal: VerifierError | undefined;
    let watched = false;
    let ran = 0;
    const result = (kernel: boolean | undefined, reason: string, wrong?: Wrong, detail = ''): Judgement => ({
      ours: refusal === undefined,
      kernel,
      reason: reasonOf(reason),
      wrong,
      detail,
      watched,
      ran,
    });
    try {
      verify(collection.programs.get('fuzz')!, {
        maps: collection.maps,
        helpers: HELPERS,
        kfuncs: KFUNCS,
        maxInsns: MAX_PROCESSED,
      });
    } catch (error) {
      if (!(error instanceof VerifierError)) return result(undefined, '', 'crash', String((error as Error).stack));
      if (error.code === 'too_complex') return undefined;
      refusal = error;
    }
    let kernelObject: Object | undefined;
    let kernelRefusal: string | undefined;
    const asksKernel = this.#kernelPermitted && !loadsPacketInFunction(collection);
    try {
      kernelObject = asksKernel ? loadIntoKernel(collection) : undefined;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (error.code === 'program_refused') kernelRefusal = refusalText(String(error.details.log));
      else if (error.code === 'not_permitted' || error.code === 'no_bpf' || error.code === 'lockdown')
        this.#kernelPermitted = false;
      else throw error;
    }
    const kernel = asksKernel && this.#kernelPermitted ? kernelRefusal === undefined : undefined;
    try {
      if (refusal !== undefined) return result(kernel, refusal.text.split('\n').at(-1)!);
      const runs = new Map<string, string[]>();
      let endless = false;
      const enough = Date.now() + WATCH_MS;
      try {
        for (const precision of ['all', 'marked'] as const) {
          const object = this.#court.runtime.load(collection, { keepDeadBranches: true });
          try {
            watched = this.#court.try(object, collection.maps, precision);
            runs.set(
              'interpreter',
              this.#runs(object, packets, run => {
                if (Date.now() < enough && !this.#court.witness.watch(run, true)) endless = true;
              }),
            );
            if (endless) break;
          } finally {
            object.dispose();
            this.#court.witness.forget();
          }
        }
        // Nothing could stop it there, or in the kernel.
        if (endless) {
          if (subject.text.includes('may_goto')) return result(kernel, '');
          return result(kernel, '', 'does not end', 'the interpreter gave up');
        }
        // What was not watched to its end may have none.
        packets.length = runs.get('interpreter')!.filter(outcome => outcome !== NOT_RUN).length;
        const native = this.#runtime.load(collection);
        try {
          runs.set('x86-64', this.#runs(native, packets));
        } finally {
          native.dispose();
        }
      } catch (error) {
        if (error instanceof Unsound) return result(kernel, '', 'unsound', error.message);
        return result(kernel, line(error), 'crash', String((error as Error).stack));
      }
      if (
        kernelObject !== undefined &&
        !readsUnwrittenStack(collection) &&
        !KERNEL_IS_WRONG.some(at => at.test(subject.text))
      )
        runs.set('kernel', this.#runs(kernelObject, packets));
      ran = runs.size;
      const [[first, expected], ...others] = [...runs] as [[string, string[]], ...[string, string[]][]];
      for (const [name, got] of others) {
        const at = got.findIndex(
          (outcome, index) => outcome !== NOT_RUN && expected[index] !== NOT_RUN && outcome !== expected[index],
        );
        if (at >= 0) {
          const detail = `packet ${at}:\n${first}: ${expected[at]}\n${name}: ${got[at]}`;
          return result(kernel, `${first}, ${name}`, 'runs differ', detail);
        }
      }
      if (kernelRefusal !== undefined)
        return result(kernel, kernelRefusal, 'accepted here only', `the kernel: ${kernelRefusal}`);
      return result(kernel, '');
    } finally {
      kernelObject?.dispose();
    }
  }

  /**
   * Runs the program on many numbers next to its own constants, all within the claims.
   * @param mayGoOn asked before each set of numbers; once it says no, those so far have to do
   * @returns what was unsound; undefined where all is well
   */
  sample(subject: Subject, mayGoOn: () => boolean): string | undefined {
    const constants = [...subject.text.matchAll(/-?\b\d+\b/g)].map(match => BigInt(match[0]));
    const random = randomBytes(subject.seed + 5);
    for (let round = 0; round < SAMPLES && (round === 0 || mayGoOn()); round++) {
      const collection = collectionOf(subject, () => {
        const [which = 0, near = 0, how = 0, high = 0] = random(4);
        const number = constants[(which * 7 + near) % constants.length]! + BigInt((near % 5) - 2);
        if (how % 8 === 0) return -number;
        if (how % 8 === 1) return number << 32n;
        if (how % 8 === 2) return number | (BigInt(high) << 56n);
        return how % 8 === 3 ? BigInt(which) << BigInt(near % 64) : number;
      });
      const object = this.#court.runtime.load(collection, { keepDeadBranches: true });
      try {
        this.#court.try(object, collection.maps, 'all');
        this.#runs(object, this.#packets(subject.seed + round), run => void this.#court.witness.watch(run));
      } catch (error) {
        if (error instanceof Unsound) return error.message;
        throw error;
      } finally {
        object.dispose();
        this.#court.witness.forget();
      }
    }
    return undefined;
  }

  #packets(seed: number): Uint8Array[] {
    const random = randomBytes(seed * 31 + 17);
    return PACKET_BYTES.map(length => Uint8Array.from(random(length)));
  }

  #runs(object: Object, packets: readonly Uint8Array[], watch = (run: () => void): void => run()): string[] {
    let failed = false;
    return packets.map(packet => {
      let outcome = NOT_RUN;
      watch(() => {
        if (failed) return;
        let result: ReturnType<ReturnType<Object['program']>['run']>;
        try {
          result = object.program('fuzz').run(packet);
        } catch (error) {
          // The kernel does not take every packet for a test run. What comes after is not comparable either: maps differ.
          if (!(error instanceof KernelError) || error.code !== 'run_failed') throw error;
          failed = true;
          return;
        }
        const { returnValue, data } = result;
        const low = BigInt.asUintN(32, returnValue).toString(16);
        outcome = `r0 0x${low} data ${Buffer.from(data).toString('hex')} maps ${JSON.stringify(contents(object.maps))}`;
      });
      if (outcome === NOT_RUN) failed = true;
      return outcome;
    });
  }
}

/** The kernel gave up where our pruning needs fewer states. */
export function gaveUp(reason: string): boolean {
  return /BPF program is too large|jumps is too complex/.test(reason);
}

/** Does some path read stack that nothing wrote? It holds zeros here, and anything in the kernel. */
function readsUnwrittenStack({ programs, maps }: Collection): boolean {
  try {
    verify(programs.get('fuzz')!, { maps, helpers: HELPERS, uninitializedStack: 'refuse' });
    return false;
  } catch (error) {
    if (error instanceof SwitchyardError) return true;
    throw error;
  }
}
