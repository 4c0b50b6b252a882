/**
 * Our log and the running kernel's, line by line, at both levels. What is the same in both, in the same order, is counted;
 * the share must not fall below the floor. LOG_REPORT=1 prints the shares and what the other lines are.
 *
 * What differs, by how often:
 * - the kernel's lines about its analysis of live stack slots (`(0) frame 0 insn 2 +live -8`), of which there is no like here;
 * - precision that we trace where the kernel does not (a null given to a helper), and the other way round;
 * - operations of which we know more (division, modulo), or of which the kernel prints something that is untrue here
 *   (its struct bpf_map, user addresses of arenas);
 * - what precision is traced through the iterations of callbacks and loops, which the kernel does by marking more;
 * - the statistics: numbers of states only (the kernel counts collisions in its table of states, and states that it
 *   is about to free).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelJudge } from '../../src/kernel/judge.ts';
import { parseObject } from '../../src/object/parse.ts';
import type { Collection, ProgramSpec } from '../../src/object/spec.ts';
import { corpusObjects } from '../corpus/compile.ts';
import { kernelMissing } from '../kernel/support.ts';
import { prepare, collection as tableCollection } from '../kernel-tables/compare.ts';
import { extractTables } from '../kernel-tables/extract.ts';
import { CASES } from './cases.ts';
import { comparableLines, compareLines } from './log-diff.ts';
import { accepted, attempt, MAP_BTF, MAPS, program } from './support.ts';

/** Of the kernel's tables, each how many-th test. */
const STEP = 6;
const LONGEST = 8000;
/** Numbers of the last line of a log. */
const STATISTICS = /^processed (\d+) insns .*$/;
const XDP_TOOLS = '/usr/lib/x86_64-linux-gnu/bpf';
/** A log of millions of lines in the kernel, of which we keep the end. */
const ENDLESS = /^(loop that is never left|a counter that decides nothing)/;

/** The kernel wants BTF for programs with callbacks, which assembly has none of: its log ends before it has begun. */
const NO_BTF = /^(missing btf func_info|tail_call is not allowed in subprogs without BTF)$/m;

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

class Share {
  lines = 0;
  identical = 0;
  logs = 0;
  /** Logs with the same number of processed instructions. */
  sameProcessed = 0;
  readonly #kinds = new Map<string, number>();

  compare(judged: Judged, level: 1 | 2): void {
    let judge: KernelJudge;
    try {
      judge = new KernelJudge(judged);
    } catch (error) {
      // Maps or types that the kernel does not make.
      if (error instanceof KernelError) return;
      throw error;
    }
    try {
      for (const spec of judged.programs.values()) this.#one(judge, spec, judged, level);
    } finally {
      judge.dispose();
    }
  }

  #one(judge: KernelJudge, spec: ProgramSpec, { maps }: Judged, level: 1 | 2): void {
    let theirs: string;
    try {
      theirs = judge.judge(spec, level).log;
    } catch (error) {
      // Refused before the verifier began.
      if (error instanceof KernelError) return;
      throw error;
    }
    const result = attempt(spec, { maps, logLevel: level });
    if (!accepted(result) && MISSING.has(result.code)) return;
    if (NO_BTF.test(theirs)) return;
    const [a, b] = [comparableLines(result.log), comparableLines(theirs)];
    if (a.length + b.length > LONGEST) return;
    const [processed, theirProcessed] = [a, b].map(lines => STATISTICS.exec(lines.at(-1)!)?.[1]);
    if (processed === theirProcessed) this.sameProcessed++;
    // Compared by themselves.
    for (const lines of [a, b]) if (STATISTICS.test(lines.at(-1)!)) lines[lines.length - 1] = 'processed';
    const { lines, identical, different } = compareLines(a, b);
    this.logs++;
    this.lines += lines;
    this.identical += identical;
    for (const line of different) {
      const kind = line.replace(/-?\b(0x[0-9a-f]+|\d+)\b/g, 'N').slice(0, 36);
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
    }
  }

  report(title: string): string {
    const kinds = [...this.#kinds].sort((x, y) => y[1] - x[1]).slice(0, 20);
    return [
      `${title}: ${this.identical} of ${this.lines} lines alike in ${this.logs} logs: ${((100 * this.identical) / this.lines).toFixed(1)} %; as many instructions processed in ${this.sameProcessed}`,
      ...kinds.map(([kind, count]) => `${String(count).padStart(8)} ${kind}`),
    ].join('\n');
  }
}

const suitable = kernelMissing() === undefined && release().startsWith('6.18.');

describe.skipIf(!suitable)("the log is the kernel's, line by line", () => {
  const compare = (title: string, from: Iterable<Judged>, level: 1 | 2, floor: number): void => {
    const share = new Share();
    for (const judged of from) share.compare(judged, level);
    if (process.env.LOG_REPORT) console.log(share.report(`${title}, level ${level}`));
    expect(share.logs).toBeGreaterThan(3);
    expect(share.identical / share.lines).toBeGreaterThanOrEqual(floor);
  };

  test.each([
    [1, 0.9],
    [2, 0.9],
  ] as const)('small programs, level %i', (level, floor) => compare('small programs', cases(), level, floor));

  test.skipIf(extractTables() === undefined).each([
    [1, 0.9],
    [2, 0.9],
  ] as const)("a part of the kernel's tables, level %i", (level, floor) =>
    compare("the kernel's tables", tables(), level, floor),
  );

  // Of programs that are accepted, level 1 shows the statistics only.
  test.skipIf(!existsSync(XDP_TOOLS))('xdp-tools, level 2', () => {
    const files = readdirSync(XDP_TOOLS)
      .filter(name => /^(xdpfilt|xsk)/.test(name))
      .map(name => `${XDP_TOOLS}/${name}`);
    compare('xdp-tools', objects(files), 2, 0.9);
  });

  test.each([
    ['C programs', false, 0.87],
    // Many of them are about callbacks and numbers in them, whose precision we trace through the iterations.
    ['C programs at the edge', true, 0.78],
  ] as const)(
    '%s, level 2',
    async (title, edges, floor) => {
      const corpus = corpusObjects();
      const chosen = corpus.objects.filter(
        ({ variant, source }) => variant.cpu === 'v4' && source.startsWith('edges-') === edges,
      );
      try {
        await corpus.compile(chosen);
        const files = chosen.map(({ file }) => file);
        // The log of what the kernel's stack liveness finds dead has no like here; programs with iterators and dynptrs have most of it.
        compare(title, objects(files), 2, floor);
      } finally {
        corpus.remove();
      }
    },
    300_000,
  );
});
