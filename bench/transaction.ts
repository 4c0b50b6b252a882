/**
 * Transactions: how long a commit takes, and what those that run programs notice of it. Measured on the built package, as it
 * ships.
 *
 * A chain of 64 programs, each of which calls the next through a direct site: a commit replaces all 64 slots and patches 64
 * sites. Commits are measured with nothing running and beside a replay on another thread, those that were published at once
 * (others wait for a thread that was preempted in the middle of a run, and nobody waits for them).
 *
 * Readers: runs of 33 tail calls in a runtime that never had a transaction (A), in another such one (A again: what differs between
 * them is the noise floor), in one that has had thousands, and in one in which commits go on: between slices on this thread, where little disturbs the
 * measurement, and beside a replay on another. Short slices in turn; the median
 * over the rounds of each slice's ratio to its round's A.
 */
import type { Collection, LoadedObject, Program, Runtime } from '../src/index.ts';
import { type BenchOptions, median, NO_VERDICT, shipped, verdict } from './measure.ts';

const { assemble, createRuntime, programFromInstructions } = await shipped();

const SLOTS = 64;
/** A run takes at most 33 tail calls; the other half of the slots is there to be changed. */
const HOPS = 33;
const VERSIONS = 2;
const LIMIT_US = 100;

function pipeline(): Collection {
  const next = (index: number) => (index < SLOTS ? `r1 = r6\n r2 = map[stages] ll\n r3 = ${index}\n call 12\n` : '');
  const programs: [string, string][] = [['main', `r6 = r1\n ${next(0)} r0 = 0\n exit`]];
  for (let version = 0; version < VERSIONS; version++) {
    for (let index = 0; index < SLOTS; index++) {
      programs.push([`v${version}s${index}`, `r6 = r1\n ${next(index + 1)} r0 = ${version + 1}\n exit`]);
    }
  }
  return {
    programs: new Map(
      programs.map(([name, text]) => [name, programFromInstructions({ name, type: 'xdp', insns: assemble(text) })]),
    ),
    maps: new Map([
      [
        'stages',
        { name: 'stages', type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: SLOTS, flags: 0, contents: [] },
      ],
    ]),
    license: 'GPL',
    btf: undefined,
  };
}

/** A pipeline in a runtime of its own. */
class Pipeline {
  readonly runtime: Runtime = createRuntime();
  readonly #object: LoadedObject = this.runtime.load(pipeline());
  readonly main: Program = this.#object.program('main');
  readonly #stages = this.#object.progArray('stages');
  readonly #versions = Array.from({ length: VERSIONS }, (_, version) =>
    Array.from({ length: SLOTS }, (_, index) => this.#object.program(`v${version}s${index}`)),
  );
  #commits = 0;

  constructor() {
    for (const [index, program] of this.#versions[0]!.entries()) this.#stages.set(index, program);
  }

  /** Replaces all slots. */
  commit() {
    const programs = this.#versions[++this.#commits % VERSIONS]!;
    return this.#stages.transaction(tx => {
      for (let index = 0; index < SLOTS; index++) tx.set(index, programs[index]!);
    });
  }

  /** us */
  timedCommit(): { us: number; published: boolean; committed: Promise<void> } {
    const start = process.hrtime.bigint();
    const { published, committed } = this.commit();
    return { us: Number(process.hrtime.bigint() - start) / 1000, published, committed };
  }

  /** Times of commits that were published at once, and how many were not. */
  async commits(count: number): Promise<{ times: number[]; later: number }> {
    const times: number[] = [];
    let later = 0;
    for (let i = 0; i < count; i++) {
      const { us, published, committed } = this.timedCommit();
      if (published) times.push(us);
      else {
        later++;
        await committed;
      }
      await new Promise(resolve => setImmediate(resolve));
    }
    return { times, later };
  }

  /** @returns ns per run, on this thread */
  slice(repeat: number): number {
    const { elapsedNs, packets } = this.main.replay(PACKETS, { repeat });
    return elapsedNs / packets;
  }

  /** @param pause between commits, ms; undefined: none happen. @returns ns per run, on another thread */
  async sliceBeside(milliseconds: number, pause?: number): Promise<number> {
    const abort = new AbortController();
    const replay = this.main.replayAsync(PACKETS, { repeat: 0xffff_ffff, signal: abort.signal });
    const end = performance.now() + milliseconds;
    while (performance.now() < end) {
      if (pause !== undefined) this.commit();
      await new Promise(resolve => setTimeout(resolve, pause ?? milliseconds));
    }
    abort.abort();
    const { elapsedNs, packets } = await replay;
    return elapsedNs / packets;
  }
}

const PACKETS = Array.from({ length: 64 }, () => new Uint8Array(64));

interface Readers {
  readonly what: string;
  readonly nsPerRun: number;
  /** Median of the ratios to the round's runtime without transactions. */
  readonly ratio: number;
}

/** @returns a row for each variant; the first is A, the second A again */
async function compare(variants: [what: string, slice: () => number | Promise<number>][], rounds: number) {
  const times = variants.map((): number[] => []);
  for (const [, slice] of variants) await slice();
  for (let round = 0; round < rounds; round++) {
    for (const [i, [, slice]] of variants.entries()) times[i]!.push(await slice());
  }
  const [base] = times as [number[]];
  const rows = variants.map(
    ([what], i): Readers => ({
      what,
      nsPerRun: Number(median(times[i]!).toFixed(2)),
      ratio: Number(median(times[i]!.map((ns, round) => ns / base[round]!)).toFixed(4)),
    }),
  );
  // How far two slices of the same thing lie apart in a round.
  const noise = Number(median(times[1]!.map((ns, round) => Math.abs(ns / base[round]! - 1))).toFixed(4));
  return { rows, noise };
}

export async function transaction(options: BenchOptions): Promise<void> {
  const { quick, json } = options;
  const [changed, never, again] = [new Pipeline(), new Pipeline(), new Pipeline()];
  const codeBefore = changed.runtime.codeUsage;
  const firstUs = changed.timedCommit().us;
  const codeBytes = { before: codeBefore, after: changed.runtime.codeUsage };
  await changed.runtime.settled();
  const secondUs = changed.timedCommit().us;
  const count = quick ? 50 : 2000;
  await changed.commits(count);
  const idle = await changed.commits(count);
  const abort = new AbortController();
  const replay = changed.main.replayAsync(PACKETS, { repeat: 0xffff_ffff, signal: abort.signal });
  const busy = await changed.commits(count);
  abort.abort();
  await replay;

  const repeat = quick ? 100 : 400;
  const after = await compare(
    [
      ['runtime without transactions', () => never.slice(repeat)],
      ['another one', () => again.slice(repeat)],
      ['after thousands of transactions', () => changed.slice(repeat)],
      [
        `one before each ${repeat * PACKETS.length} runs`,
        () => {
          changed.commit();
          return changed.slice(repeat);
        },
      ],
    ],
    quick ? 3 : 301,
  );
  const milliseconds = quick ? 20 : 60;
  const during = await compare(
    [
      ['runtime without transactions', () => never.sliceBeside(milliseconds)],
      ['another one', () => again.sliceBeside(milliseconds)],
      ['a transaction every 20 ms', () => changed.sliceBeside(milliseconds, 20)],
      ['a transaction every 2 ms', () => changed.sliceBeside(milliseconds, 2)],
    ],
    quick ? 2 : 21,
  );
  for (const { runtime } of [changed, never, again]) await runtime.dispose();

  const quantile = (values: readonly number[], q: number) =>
    [...values].sort((a, b) => a - b)[Math.floor(q * values.length)] ?? Number.NaN;
  const report = (set: typeof idle) => ({
    medianUs: Number(median(set.times).toFixed(1)),
    p99Us: Number(quantile(set.times, 0.99).toFixed(1)),
    publishedLater: set.later,
    withinLimit: median(set.times) <= LIMIT_US,
  });
  const commit = { limitUs: LIMIT_US, idle: report(idle), busy: report(busy) };
  if (json) {
    const result = {
      slots: SLOTS,
      directSites: SLOTS,
      firstUs,
      secondUs,
      codeBytes,
      commit,
      readers: { after, during },
    };
    console.log(JSON.stringify({ benchmark: 'transaction', ...result }));
    return;
  }
  const us = (value: number) => `${value.toFixed(1)} us`;
  console.log(`transaction: ${SLOTS} slots with ${SLOTS} direct sites, built package`);
  if (quick) console.log(`  ${NO_VERDICT}`);
  console.log(`  first, which makes the second sides of ${SLOTS * VERSIONS + 1} programs: ${us(firstUs)}`);
  console.log(`  second, JavaScript not compiled yet: ${us(secondUs)}`);
  console.log(`  machine code before and after the first: ${codeBytes.before} and ${codeBytes.after} bytes`);
  for (const [name, { medianUs, p99Us, publishedLater, withinLimit }] of [
    ['nothing running', commit.idle],
    ['beside a replay', commit.busy],
  ] as const) {
    console.log(
      `  commit, ${name}: median ${us(medianUs)} (limit ${LIMIT_US} us: ${verdict(withinLimit, options)}), 99 of 100 below ${us(p99Us)}; ${publishedLater} of ${count} published later`,
    );
  }
  for (const [where, { rows, noise }] of [
    ['on this thread', after],
    ['on another thread', during],
  ] as const) {
    console.log(
      `  runs of ${HOPS} tail calls ${where}; two slices of the same differ by ${(100 * noise).toFixed(2)} %`,
    );
    for (const { what, nsPerRun, ratio } of rows) {
      const difference = `${ratio >= 1 ? '+' : ''}${(100 * (ratio - 1)).toFixed(2)} %`;
      console.log(`    ${what.padEnd(32)} ${nsPerRun.toFixed(1).padStart(7)} ns ${difference.padStart(9)}`);
    }
  }
}
