/**
 * Transactions: how long a commit takes, and what those that run programs notice of it.
 *
 * A chain of 64 programs, each of which calls the next through a direct site: a commit replaces all 64 slots and patches 64
 * sites. Commits are measured with nothing running and beside a replay on another thread; replays with and without commits
 * going on, and beside a runtime that never had a transaction, in turn.
 */
import {
  assemble,
  type Collection,
  createRuntime,
  type LoadedObject,
  programFromInstructions,
  type Runtime,
} from '../src/index.ts';
import { type BenchOptions, median } from './measure.ts';

const SLOTS = 64;
/** A run takes at most 33 tail calls; the other half of the slots is there to be changed. */
const VERSIONS = 2;

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

function fill(
  object: LoadedObject,
  version: number,
  set: (index: number, program: ReturnType<LoadedObject['program']>) => void,
): void {
  for (let index = 0; index < SLOTS; index++) set(index, object.program(`v${version}s${index}`));
}

const commit = (object: LoadedObject, version: number) =>
  object.progArray('stages').transaction(tx => fill(object, version, tx.set));

/** Times of commits that were published at once, us, and how many were not. */
async function commits(object: LoadedObject, count: number): Promise<{ times: number[]; later: number }> {
  const times: number[] = [];
  let later = 0;
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    const transaction = commit(object, i % VERSIONS);
    const time = (performance.now() - start) * 1000;
    if (transaction.published) times.push(time);
    else {
      later++;
      await transaction.committed;
    }
    await new Promise(resolve => setImmediate(resolve));
  }
  return { times, later };
}

/** @param pause between commits, ms; undefined: none happen. @returns ns per run */
async function replayBeside(object: LoadedObject, milliseconds: number, pause?: number): Promise<number> {
  const abort = new AbortController();
  const packets = Array.from({ length: 64 }, () => new Uint8Array(64));
  const replay = object.program('main').replayAsync(packets, { repeat: 0xffff_ffff, signal: abort.signal });
  const end = performance.now() + milliseconds;
  for (let version = 0; performance.now() < end; version ^= 1) {
    if (pause !== undefined) commit(object, version);
    await new Promise(resolve => setTimeout(resolve, pause ?? milliseconds));
  }
  abort.abort();
  const { elapsedNs, packets: runs } = await replay;
  return elapsedNs / runs;
}

function load(runtime: Runtime): LoadedObject {
  const object = runtime.load(pipeline());
  fill(object, 0, (index, program) => object.progArray('stages').set(index, program));
  return object;
}

export async function transaction({ quick, json }: BenchOptions): Promise<void> {
  const runtime = createRuntime();
  const object = load(runtime);
  const codeBefore = runtime.codeUsage;
  const start = performance.now();
  commit(object, 1);
  const firstUs = (performance.now() - start) * 1000;
  const codeBytes = { before: codeBefore, after: runtime.codeUsage };
  const count = quick ? 50 : 1000;
  await commits(object, count);
  const idle = await commits(object, count);
  const abort = new AbortController();
  const replay = object
    .program('main')
    .replayAsync([new Uint8Array(64)], { repeat: 0xffff_ffff, signal: abort.signal });
  const busy = await commits(object, count);
  abort.abort();
  await replay;

  const plainRuntime = createRuntime();
  const plain = load(plainRuntime);
  const rounds = quick ? 1 : 9;
  const milliseconds = quick ? 50 : 150;
  const series: Record<string, number[]> = { never: [], before: [], every20ms: [], every2ms: [] };
  for (let round = 0; round < rounds; round++) {
    series.never!.push(await replayBeside(plain, milliseconds));
    series.before!.push(await replayBeside(object, milliseconds));
    series.every20ms!.push(await replayBeside(object, milliseconds, 20));
    series.every2ms!.push(await replayBeside(object, milliseconds, 2));
  }
  const nsPerRun = Object.fromEntries(Object.entries(series).map(([name, values]) => [name, median(values)]));
  const quantile = (values: readonly number[], q: number) =>
    [...values].sort((a, b) => a - b)[Math.floor(q * values.length)];
  const report = (set: typeof idle) => ({
    medianUs: median(set.times),
    p99Us: quantile(set.times, 0.99),
    publishedLater: set.later,
  });
  const result = { slots: SLOTS, firstUs, codeBytes, commit: { idle: report(idle), busy: report(busy) }, nsPerRun };
  await runtime.dispose();
  await plainRuntime.dispose();
  if (json) {
    console.log(JSON.stringify(result));
    return;
  }
  const us = (value: number | undefined) => `${(value ?? Number.NaN).toFixed(1)} us`;
  console.log(`transactions over ${SLOTS} slots with ${SLOTS} direct sites`);
  console.log(`  first, which makes the second sides of ${SLOTS * VERSIONS + 1} programs: ${us(firstUs)}`);
  console.log(`  machine code before and after it: ${codeBytes.before} and ${codeBytes.after} bytes`);
  for (const [name, { medianUs, p99Us, publishedLater }] of Object.entries(result.commit)) {
    console.log(
      `  commit, ${name}: median ${us(medianUs)}, 99 of 100 below ${us(p99Us)}; ${publishedLater} of ${count} published later`,
    );
  }
  const labels: Record<string, string> = {
    never: 'runtime without transactions',
    before: 'after transactions, none going on',
    every20ms: 'a transaction every 20 ms',
    every2ms: 'a transaction every 2 ms',
  };
  for (const [name, ns] of Object.entries(nsPerRun)) {
    console.log(`  run of 33 tail calls, ${labels[name]}: ${ns.toFixed(1)} ns (${(ns / nsPerRun.never!).toFixed(3)})`);
  }
}
