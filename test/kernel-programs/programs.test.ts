/**
 * The kernel's own test programs and samples, which we did not write: each program of our types must be accepted or refused as the
 * running kernel does, its log read like the kernel's, and what both accept must give the same results, packets and maps on
 * the interpreter, as native code and in the kernel.
 *
 * `known.json` holds what differs, each with its reason: objects that cannot be read or made, programs that we refuse and Linux
 * accepts, runs that differ. Whatever is not in it fails, and so does what is in it and no longer differs. There is no entry for a
 * program that we accept and Linux refuses. KERNEL_PROGRAMS_REPORT=1 prints the figures.
 *
 * Needs clang, bpftool, Debian's package linux-source-6.1 and the right to load programs: skipped without them, but a failure in CI. The
 * verdicts are those of Linux 6.18: skipped on others.
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Collection,
  createRuntime,
  KernelJudge,
  parseBtf,
  type Runtime,
  SwitchyardError,
} from '../../src/index.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import type { Btf } from '../../src/object/btf.ts';
import { fewPackets } from '../corpus/packets.ts';
import { kernelMissing } from '../kernel/support.ts';
import { timeLimit } from '../tools.ts';
import { compareLines } from '../verifier/log-diff.ts';
import { buildKernelPrograms, KERNEL_TYPES, type KernelPrograms, kernelProgramsMissing } from './build.ts';
import { compareRuns, kernelVerdict, lastWords, ourVerdict, parseKernelProgram, restricted } from './compare.ts';

interface Known {
  /** Sources that do not compile, by reason. */
  readonly sources: Readonly<Record<string, readonly string[]>>;
  /** Objects that are refused as a whole, by reason. */
  readonly objects: Readonly<Record<string, readonly string[]>>;
  /** Programs, as `source: program`, that we refuse and Linux accepts, by reason. */
  readonly refusals: Readonly<Record<string, readonly string[]>>;
  /** Programs and maps, as `source: program` or `source: map name`, by reason. */
  readonly runs: Readonly<Record<string, readonly string[]>>;
  /** The same of what may be another each time, and is not compared. */
  readonly varying: Readonly<Record<string, readonly string[]>>;
}

const known = JSON.parse(readFileSync(join(import.meta.dirname, 'known.json'), 'utf8')) as Known;
const missing = kernelProgramsMissing();
const suitable = missing === undefined && release().startsWith('6.18.') && kernelMissing() === undefined;
if (missing !== undefined) console.warn(`the kernel's programs are not compared: ${missing}`);

/** Refusals of what Switchyard lacks, whose words are its own. */
const LACKING: ReadonlySet<string> = new Set(['unsupported', 'unknown_helper', 'unknown_kfunc']);
/** Every second: the kernel's test runs are slow. */
const packets = fewPackets().filter((_, i) => i % 2 === 0);
/** Part of the log lines that must be the kernel's; what others are is in test/verifier/log.test.ts. */
const SAME_LINES = 0.97;

/** Entries of all reasons. */
const listed = (reasons: Readonly<Record<string, readonly string[]>>): string[] => Object.values(reasons).flat().sort();
const varying = new Set(listed(known.varying));

describe.skipIf(!suitable)("the kernel's programs", () => {
  let built: KernelPrograms;
  let types: Btf;
  let runtime: Runtime;
  const found = { objects: new Set<string>(), refusals: new Set<string>(), runs: new Set<string>() };
  const falselyAccepted: string[] = [];
  const otherWords: string[] = [];
  const otherCounts: string[] = [];
  const figures = { objects: 0, programs: 0, accepted: 0, refused: 0, otherTypes: 0, lines: 0, sameLines: 0 };
  const details: string[] = [];

  /** @returns the programs that both accept */
  function judge(source: string, collection: Collection): Set<string> {
    const both = new Set<string>();
    let kernel: KernelJudge;
    try {
      kernel = new KernelJudge(collection);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      found.objects.add(source);
      details.push(`${source}: ${error.message}`);
      return both;
    }
    for (const spec of collection.programs.values()) {
      const id = `${source}: ${spec.name}`;
      const ours = ourVerdict(spec, collection);
      const theirs = kernelVerdict(spec, kernel, ours);
      figures.programs++;
      if (ours.accepted !== theirs.accepted) {
        if (ours.accepted) falselyAccepted.push(id);
        else found.refusals.add(id);
        details.push(`${id}: ${ours.error?.message ?? `the kernel: ${lastWords(theirs.log)}`}`);
        continue;
      }
      if (ours.accepted) figures.accepted++;
      else figures.refused++;
      if (ours.error !== undefined && LACKING.has(ours.error.code)) continue;
      if (ours.accepted) both.add(spec.name);
      else if (lastWords(ours.log) !== lastWords(theirs.log))
        otherWords.push(`${id}: ${lastWords(ours.log)}; the kernel: ${lastWords(theirs.log)}`);
      if (ours.insnsProcessed !== theirs.insnsProcessed)
        otherCounts.push(`${id}: ${ours.insnsProcessed}, the kernel ${theirs.insnsProcessed}`);
      const { lines, identical } = compareLines(ours.log, theirs.log);
      figures.lines += lines;
      figures.sameLines += identical;
    }
    kernel.dispose();
    return both;
  }

  function compare(source: string, bytes: Uint8Array): void {
    let collection: Collection;
    try {
      collection = parseKernelProgram(bytes, types);
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      found.objects.add(source);
      details.push(`${source}: ${error.message}`);
      return;
    }
    figures.otherTypes += collection.unsupported?.length ?? 0;
    const both = judge(source, collection);
    if (both.size === 0) return;
    for (const { what, backend, kernel, ours } of compareRuns(restricted(collection, both), runtime, packets)) {
      if (varying.has(`${source}: ${what}`)) continue;
      found.runs.add(`${source}: ${what}`);
      details.push(`${source}, ${backend}, ${what}:\n  kernel ${kernel}\n  ours   ${ours}`);
    }
  }

  beforeAll(async () => {
    built = await buildKernelPrograms();
    types = parseBtf(new Uint8Array(readFileSync(KERNEL_TYPES)));
    runtime = createRuntime({ arenaSize: 1 << 30 });
    // Where the kernel's test runs take place.
    runtime.routes.set({ interfaces: [{ ifindex: 1, mtu: 65_536 }], routes: [], neighbours: [] });
    for (const { source, path } of built.objects) {
      figures.objects++;
      compare(source, new Uint8Array(readFileSync(path)));
    }
  }, timeLimit(300_000));

  afterAll(async () => {
    await runtime.dispose();
    if (process.env.KERNEL_PROGRAMS_REPORT) console.log([...details, JSON.stringify(figures)].join('\n'));
  });

  test('those that do not compile are known', () => {
    expect([...built.broken.keys()].sort()).toEqual(listed(known.sources));
  });

  test('nothing is accepted that the kernel refuses', () => {
    expect(falselyAccepted).toEqual([]);
  });

  test('objects and programs that are refused are known', () => {
    expect([...found.objects].sort()).toEqual(listed(known.objects));
    expect([...found.refusals].sort()).toEqual(listed(known.refusals));
  });

  test('results, packets and maps are the same but for what is known', () => {
    expect([...found.runs].sort()).toEqual(listed(known.runs));
  });

  test("refusals are in the kernel's words, at the same instruction count", () => {
    expect(otherWords).toEqual([]);
    expect(otherCounts).toEqual([]);
  });

  test("logs read like the kernel's", () => {
    expect(figures.lines).toBeGreaterThan(20_000);
    expect(figures.sameLines / figures.lines).toBeGreaterThan(SAME_LINES);
  });

  test('there are enough of them', () => {
    expect(figures.objects).toBeGreaterThan(130);
    expect(figures.accepted).toBeGreaterThan(170);
    expect(figures.refused).toBeGreaterThan(50);
  });
});
