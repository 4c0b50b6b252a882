/**
 * Our log and the running kernel's, line by line, at both levels. What is the same in both, in the same order, is counted;
 * the share must not fall below the floor, and neither must the share of refusals with the kernel's last words. LOG_REPORT=1 prints
 * the shares and what the other lines are.
 *
 * What differs, by how often:
 * - callbacks: this kernel takes states inside them for finished before their loop is (later ones make such a call a loop of its own,
 *   `compute_scc`), and so walks less (see WALKED_OTHERWISE);
 * - operations of which we know more (or, shift, division, bounds from known bits), or of which the kernel prints something that is
 *   untrue here (its struct bpf_map, user addresses of arenas);
 * - precision that we trace where the kernel does not: a null given to a helper, the size of a slice without a buffer, the index of
 *   a tail call;
 * - loops that Linux accepts though nothing ends them (`loops.ts`).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelJudge, type KernelVerdict } from '../../src/kernel/judge.ts';
import { parseObject } from '../../src/object/parse.ts';
import type { Collection, ProgramSpec } from '../../src/object/spec.ts';
import { findCalls, findSubprograms } from '../../src/verifier/cfg.ts';
import { corpusObjects } from '../corpus/compile.ts';
import { kernelMissing } from '../kernel/support.ts';
import { prepare, collection as tableCollection } from '../kernel-tables/compare.ts';
import { extractTables } from '../kernel-tables/extract.ts';
import { CASES } from './cases.ts';
import { comparableLines, compareLines } from './log-diff.ts';
import { accepted, attempt, MAP_BTF, MAPS, program } from './support.ts';

/** Of the kernel's tables, each how many-th test. */
const STEP = 6;
/** Of longer logs, as many lines as this from the start, or from the end where one log has lost its start. */
const LONGEST = 4000;
/** Characters of a log that is looked at as a whole. */
const LARGEST = 1 << 27;
/** Numbers of the last line of a log. */
const STATISTICS = /^processed (\d+) insns .*$/;
const XDP_TOOLS = '/usr/lib/x86_64-linux-gnu/bpf';
/** A log of millions of lines in the kernel, of which we keep the end. */
const ENDLESS = /^(loop that is never left|a counter that decides nothing)/;

/**
 * Programs with many paths inside callbacks, which the two walk differently: compared by themselves, lest one of them weigh as much as all
 * others.
 */
const WALKED_OTHERWISE: ReadonlySet<string> = new Set(['largest', 'callbacks']);

function* without(judged: Iterable<Judged>, names: ReadonlySet<string>): Iterable<Judged> {
  for (const one of judged) yield { ...one, programs: new Map([...one.programs].filter(([name]) => !names.has(name))) };
}

/** Assembly has no types, but the kernel wants those of functions: it gets plain ones where functions are named. */
function withFunctions(spec: ProgramSpec): ProgramSpec {
  if (spec.btf !== undefined || spec.subprograms.length > 1) return spec;
  let found: ReturnType<typeof findSubprograms>;
  try {
    found = findSubprograms(spec.insns, findCalls(spec.insns), spec.subprograms, refuseFunctions);
  } catch {
    // Both refuse the program before they look at its functions.
    return spec;
  }
  const functions = found.map(({ name, start }) => ({ name, start, linkage: 'static' as const, btfId: undefined }));
  return functions.length < 2 ? spec : { ...spec, subprograms: functions };
}

function refuseFunctions(): never {
  throw new Error('a call leads nowhere');
}

/** Refusals of what Switchyard lacks. */
const MISSING: ReadonlySet<string> = new Set(['unsupported', 'unknown_helper', 'unknown_kfunc']);

type Judged = Pick<Collection, 'programs' | 'maps' | 'btf'>;

function* cases(): Iterable<Judged> {
  for (const { name, type, text, attachType, license } of CASES) {
    if (ENDLESS.test(name)) continue;
    const spec = program(type, text, { attachType, license });
    const maps = new Map([...MAPS].filter(([map]) => text.includes(`[${map}]`)));
    yield { programs: new Map([[name, spec]]), maps, btf: MAP_BTF };
  }
}

function* tables(): Iterable<Judged> {
  for (const [index, table] of (extractTables() ?? []).entries()) {
    if (index % STEP !== 0 || table.filler !== null || /^timer/.test(table.file)) continue;
    const subject = prepare(table);
    if (!('code' in subject)) continue;
    let judged: Judged;
    try {
      judged = tableCollection(subject);
    } catch {
      // No instructions.
      continue;
    }
    yield { ...judged, programs: new Map([['test', judged.programs.get('test')!]]) };
  }
}

function* objects(files: Iterable<string>): Iterable<Judged> {
  for (const file of files) yield parseObject(new Uint8Array(readFileSync(file)), { skipUnsupported: true });
}

/** Of a log of millions of lines, more from its end than is compared. */
function end(log: string): string {
  return log.length <= LARGEST ? log : log.slice(log.indexOf('\n', log.length - LARGEST / 4) + 1);
}

/** What the log ends with before the statistics. */
const lastWords = (log: readonly string[]): string => log.findLast(line => !STATISTICS.test(line)) ?? '';

class Share {
  lines = 0;
  identical = 0;
  logs = 0;
  /** Logs with the same number of processed instructions. */
  sameProcessed = 0;
  /** Logs of which a part was compared. */
  cut = 0;
  /** Programs without a log to compare: maps, types or programs that the kernel does not take, and what we lack. */
  skipped = 0;
  refused = 0;
  /** Refused by both, with the same last words. */
  refusedAlike = 0;
  readonly unlikeRefusals: string[] = [];
  readonly #kinds = new Map<string, number>();

  compare(judged: Judged, level: 1 | 2): void {
    let judge: KernelJudge;
    try {
      judge = new KernelJudge(judged);
    } catch (error) {
      // Maps or types that the kernel does not make.
      if (!(error instanceof KernelError)) throw error;
      this.skipped += judged.programs.size;
      return;
    }
    try {
      for (const spec of judged.programs.values()) this.#one(judge, spec, judged, level);
    } finally {
      judge.dispose();
    }
  }

  #one(judge: KernelJudge, given: ProgramSpec, { maps }: Judged, level: 1 | 2): void {
    const spec = withFunctions(given);
    let theirs: KernelVerdict;
    try {
      theirs = judge.judge(spec, level);
    } catch (error) {
      // Refused before the verifier began.
      if (!(error instanceof KernelError)) throw error;
      this.skipped++;
      return;
    }
    const result = attempt(spec, { maps, logLevel: level });
    if (!accepted(result) && MISSING.has(result.code)) {
      this.skipped++;
      return;
    }
    const [a, b] = [comparableLines(end(result.log)), comparableLines(end(theirs.log))];
    if (!accepted(result) && !theirs.accepted) this.#refusal(lastWords(a), lastWords(b));
    const [processed, theirProcessed] = [a, b].map(lines => STATISTICS.exec(lines.at(-1)!)?.[1]);
    if (processed === theirProcessed) this.sameProcessed++;
    // Compared by themselves.
    for (const lines of [a, b]) if (STATISTICS.test(lines.at(-1)!)) lines[lines.length - 1] = 'processed';
    if (a.length > LONGEST || b.length > LONGEST) this.cut++;
    const whole = a[0] === b[0];
    const part = (log: readonly string[]): string[] => (whole ? log.slice(0, LONGEST) : log.slice(-LONGEST));
    const { lines, identical, different } = compareLines(part(a), part(b));
    this.logs++;
    this.lines += lines;
    this.identical += identical;
    for (const line of different) {
      const kind = line.replace(/-?\b(0x[0-9a-f]+|\d+)\b/g, 'N').slice(0, 36);
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
    }
  }

  #refusal(ours: string, theirs: string): void {
    this.refused++;
    if (ours === theirs) this.refusedAlike++;
    else this.unlikeRefusals.push(`- ${ours}\n+ ${theirs}`);
  }

  report(title: string): string {
    const kinds = [...this.#kinds].sort((x, y) => y[1] - x[1]).slice(0, 20);
    return [
      `${title}: ${this.identical} of ${this.lines} lines alike in ${this.logs} logs: ${((100 * this.identical) / this.lines).toFixed(1)} %; as many instructions processed in ${this.sameProcessed}; ${this.cut} cut, ${this.skipped} programs without`,
      `${this.refusedAlike} of ${this.refused} refusals with the same words`,
      ...this.unlikeRefusals,
      ...kinds.map(([kind, count]) => `${String(count).padStart(8)} ${kind}`),
    ].join('\n');
  }
}

const suitable = kernelMissing() === undefined && release().startsWith('6.18.');

interface Floors {
  /** Share of identical lines, and of refusals with the same words. */
  readonly lines: number;
  readonly refusals?: number;
  /** Programs with a log to compare, at least; without one, at most. */
  readonly logs: number;
  readonly skipped?: number;
}

describe.skipIf(!suitable)("the log is the kernel's, line by line", () => {
  const compare = (title: string, from: Iterable<Judged>, level: 1 | 2, floors: Floors): void => {
    const share = new Share();
    for (const judged of from) share.compare(judged, level);
    if (process.env.LOG_REPORT) console.log(share.report(`${title}, level ${level}`));
    expect(share.logs).toBeGreaterThanOrEqual(floors.logs);
    expect(share.skipped).toBeLessThanOrEqual(floors.skipped ?? 0);
    expect(share.identical / share.lines).toBeGreaterThanOrEqual(floors.lines);
    if (floors.refusals === undefined) expect(share.refused).toBe(0);
    else expect(share.refusedAlike / share.refused).toBeGreaterThanOrEqual(floors.refusals);
  };

  test.each([
    [1, 0.975],
    [2, 0.985],
  ] as const)(
    'small programs, level %i',
    (level, lines) => compare('small programs', cases(), level, { lines, refusals: 0.98, logs: 700, skipped: 6 }),
    300_000,
  );

  test.skipIf(extractTables() === undefined).each([
    [1, 0.98],
    [2, 0.98],
  ] as const)(
    "a part of the kernel's tables, level %i",
    (level, lines) => compare("the kernel's tables", tables(), level, { lines, refusals: 0.98, logs: 160, skipped: 6 }),
    300_000,
  );

  // Of programs that are accepted, level 1 shows the statistics only.
  test.skipIf(!existsSync(XDP_TOOLS))(
    'xdp-tools, level 2',
    () => {
      const files = readdirSync(XDP_TOOLS)
        .filter(name => /^(xdpfilt|xsk)/.test(name))
        .map(name => `${XDP_TOOLS}/${name}`);
      compare('xdp-tools', objects(files), 2, { lines: 0.985, logs: 12 });
    },
    300_000,
  );

  test.each([
    ['C programs', false, { lines: 0.98, logs: 54, skipped: 1 }],
    ['C programs at the edge', true, { lines: 0.995, logs: 30 }],
  ] as const)(
    '%s, level 2',
    async (title, edges, floors) => {
      const corpus = corpusObjects();
      const chosen = corpus.objects.filter(
        ({ variant, source }) => variant.cpu === 'v4' && source.startsWith('edges-') === edges,
      );
      try {
        await corpus.compile(chosen);
        const files = chosen.map(({ file }) => file);
        compare(title, without(objects(files), WALKED_OTHERWISE), 2, floors);
        for (const judged of objects(files)) {
          for (const [name, spec] of judged.programs) {
            if (!WALKED_OTHERWISE.has(name)) continue;
            const share = new Share();
            share.compare({ ...judged, programs: new Map([[name, spec]]) }, 2);
            if (process.env.LOG_REPORT) console.log(share.report(name));
            expect(share.identical).toBeGreaterThan(800);
            // Else it belongs to the others.
            expect(share.sameProcessed).toBe(0);
          }
        }
      } finally {
        corpus.remove();
      }
    },
    300_000,
  );
});
