/**
 * The verifier's speed beside the running kernel's, on the same programs in the same run.
 *
 * Ours: the built package, each program in a process of its own, first cold (the first verification of the process, before the
 * engine has compiled anything), then warm (the median of the later half of repetitions: `verify-one.mjs` says how many). The kernel's: the time that its
 * verifier measures itself ("verification time" at log level 4). Rounds of both in turn; the table shows medians over rounds,
 * and the ratio of the best rates too. Memory:
 * the peak resident size of the process after the cold verification. Programs: `verifier-programs.ts`, and real objects.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type Collection,
  encode,
  KernelError,
  KernelJudge,
  type ProgramSpec,
  parseObject,
  SwitchyardError,
} from '../src/index.ts';
import { type BenchOptions, median, printTargets, ROUTER_OBJECT, type Target } from './measure.ts';
import { generate, SHAPES, type Shape } from './verifier-programs.ts';

const CHILD = fileURLToPath(new URL('verify-one.mjs', import.meta.url));
/** Where Debian's xdp-tools has its objects. */
const XDP_TOOLS = '/usr/lib/x86_64-linux-gnu/bpf';
const SIZES = [1_000, 10_000, 100_000, 900_000];
/** Real programs below this are not worth a line. */
const LEAST_REAL = 100;
/** Exponents up to here are linear growth: what small sizes gain by fitting into caches is not a matter of the algorithm. */
const LINEAR = 1.1;

interface Subject {
  readonly name: string;
  readonly shape: Shape | undefined;
  readonly spec: ProgramSpec;
  readonly collection: Pick<Collection, 'programs' | 'maps' | 'btf'>;
  /** What the child reads: an object and the program's name, or instructions and "". */
  readonly file: string;
  readonly program: string;
}

/** What the child prints. */
interface Report {
  readonly insns: number;
  readonly processed: number;
  readonly states: number;
  readonly error?: string;
  readonly coldMs: number;
  readonly warmMs: number;
  readonly warmBestMs: number;
  /** Of the process, all threads: collecting garbage, too. */
  readonly warmCpuMs: number;
  readonly repetitions: number;
  readonly beforeMiB: number;
  readonly peakMiB: number;
}

/** One line of the table, and of `--json`. Rates in millions of processed instructions per second. */
interface Row {
  readonly program: string;
  /** undefined: a real program. */
  readonly shape: Shape | undefined;
  readonly insns: number;
  readonly processed: number;
  readonly kernelProcessed: number | undefined;
  readonly refused: string | undefined;
  readonly coldRate: number;
  readonly warmRate: number;
  readonly bestRate: number;
  readonly kernelRate: number | undefined;
  readonly kernelBestRate: number | undefined;
  /** Our rate over the kernel's. */
  readonly coldRatio: number | undefined;
  readonly warmRatio: number | undefined;
  /** Of the best rates: on a machine that others use, these are disturbed least. */
  readonly bestRatio: number | undefined;
  /** Millions of processed instructions a second of processor time, warm: other load hardly matters to it. */
  readonly cpuRate: number;
  /** Warm ones, least of the rounds. */
  readonly repetitions: number;
  readonly peakMiB: number;
}

/** One after the other: the largest take much memory here. */
function* generated(directory: string, sizes: readonly number[]): Generator<Subject> {
  for (const shape of SHAPES) {
    for (const size of sizes) {
      const insns = generate(shape, size);
      const spec: ProgramSpec = {
        name: 'bench',
        section: 'tc',
        type: 'sched_cls',
        attachType: undefined,
        xdpFrags: false,
        insns,
        subprograms: [],
        lines: [],
        license: 'GPL',
        btf: undefined,
      };
      const file = join(directory, `${shape}-${size}`);
      writeFileSync(file, encode(insns));
      const collection = { programs: new Map([[spec.name, spec]]), maps: new Map(), btf: undefined };
      yield { name: `${shape} ${size.toLocaleString('en')}`, shape, spec, collection, file, program: '' };
    }
  }
}

/** Real ones first: they take little time. */
function* subjects(directory: string, sizes: readonly number[]): Generator<Subject> {
  yield* real();
  yield* generated(directory, sizes);
}

function real(): Subject[] {
  let files: string[] = [];
  try {
    files = readdirSync(XDP_TOOLS).map(name => join(XDP_TOOLS, name));
  } catch {
    // xdp-tools is not installed.
  }
  return [fileURLToPath(ROUTER_OBJECT), ...files.sort()].flatMap(file => {
    let collection: Collection;
    try {
      collection = parseObject(readFileSync(file));
    } catch (error) {
      // Objects of types that Switchyard does not run, or that need the kernel's types.
      if (error instanceof SwitchyardError) return [];
      throw error;
    }
    return [...collection.programs.values()]
      .filter(spec => spec.insns.length >= LEAST_REAL)
      .map(spec => ({ name: spec.name, shape: undefined, spec, collection, file, program: spec.name }));
  });
}

function ours(subject: Subject, budgetMs: number): Report {
  const args = [CHILD, subject.file, subject.program, String(budgetMs)];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${subject.name}: verify-one.mjs failed: ${stderr}`);
  return JSON.parse(stdout) as Report;
}

function measure(subject: Subject, judge: KernelJudge | undefined, rounds: number, budgetMs: number): Row {
  const reports: Report[] = [];
  const kernelRates: number[] = [];
  let kernelProcessed = 0;
  const ask = (): void => {
    if (judge === undefined) return;
    const { verificationUs, insnsProcessed } = judge.judge(subject.spec, 4);
    // A signal may end the kernel's work early: its rate counts all the same.
    if (verificationUs) kernelRates.push(insnsProcessed / verificationUs);
    kernelProcessed = Math.max(kernelProcessed, insnsProcessed);
  };
  for (let round = 0; round < rounds; round++) {
    ask();
    reports.push(ours(subject, budgetMs));
    ask();
  }
  const { insns, processed, error } = reports[0]!;
  const rates = (times: readonly number[]): number[] => times.map(ms => processed / ms / 1000);
  const coldRate = median(rates(reports.map(report => report.coldMs)));
  const warmRate = median(rates(reports.map(report => report.warmMs)));
  const bestRate = Math.max(...rates(reports.map(report => report.warmBestMs)));
  const known = kernelRates.length > 0;
  const kernelRate = known ? median(kernelRates) : undefined;
  return {
    program: subject.name,
    shape: subject.shape,
    insns,
    processed,
    kernelProcessed: known ? kernelProcessed : undefined,
    refused: error,
    coldRate,
    warmRate,
    bestRate,
    kernelRate,
    kernelBestRate: known ? Math.max(...kernelRates) : undefined,
    coldRatio: kernelRate && coldRate / kernelRate,
    warmRatio: kernelRate && warmRate / kernelRate,
    bestRatio: known ? bestRate / Math.max(...kernelRates) : undefined,
    cpuRate: median(rates(reports.map(report => report.warmCpuMs))),
    repetitions: Math.min(...reports.map(report => report.repetitions)),
    peakMiB: Math.max(...reports.map(report => report.peakMiB)),
  };
}

/** undefined where the kernel may not be asked. */
function openJudge(subject: Subject): KernelJudge | undefined {
  try {
    return new KernelJudge(subject.collection);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

function print(row: Row): void {
  const number = (value: number | undefined, digits: number): string => value?.toFixed(digits) ?? '-';
  const cells = [
    row.program.padEnd(18),
    String(row.processed).padStart(9),
    (row.kernelProcessed === undefined ? '-' : String(row.kernelProcessed)).padStart(9),
    number(row.kernelRate, 2).padStart(8),
    number(row.coldRate, 2).padStart(8),
    number(row.warmRate, 2).padStart(8),
    number(row.coldRatio, 2).padStart(7),
    number(row.warmRatio, 2).padStart(7),
    number(row.bestRatio, 2).padStart(7),
    String(row.repetitions).padStart(5),
    number(row.peakMiB, 0).padStart(6),
  ];
  console.log(`  ${cells.join(' ')}${row.refused === undefined ? '' : `  refused: ${row.refused}`}`);
}

/**
 * How the time grows with what is processed, ours in processor time: load that comes between hits long runs more often. The exponent of the power that fits all sizes of a shape best; 1 is linear.
 * @param rate of a row; undefined: not known
 */
function growth(rows: readonly Row[], rate: (row: Row) => number | undefined): number | null {
  const points = rows.flatMap(row => {
    const known = rate(row);
    return known === undefined ? [] : [[Math.log(row.processed), Math.log(row.processed / known)] as const];
  });
  if (points.length < 2) return null;
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(points.map(([size]) => size));
  const y = mean(points.map(([, time]) => time));
  const covariance = mean(points.map(([size, time]) => (size - x) * (time - y)));
  return Number((covariance / mean(points.map(([size]) => (size - x) ** 2))).toFixed(2));
}

function targets(rows: readonly Row[]): Target[] {
  const least = (of: readonly Row[]): number | null => {
    const ratios = of.flatMap(row => (row.warmRatio === undefined ? [] : [row.warmRatio]));
    return ratios.length === 0 ? null : Number(Math.min(...ratios).toFixed(2));
  };
  const ratio = (what: string, of: readonly Row[], limit: number): Target => {
    return { what: `least warm ratio, ${what}`, value: least(of), limit, unit: '', most: false };
  };
  const ofShape = (...shapes: readonly (Shape | undefined)[]): Row[] => rows.filter(row => shapes.includes(row.shape));
  return [
    ratio('straight-line and stack code', ofShape('alu', 'stack'), 1),
    ratio('branches and loops', ofShape('branchy', 'ladder', 'loop', 'search'), 0.5),
    ratio('real programs', ofShape(undefined), 0.5),
    ...SHAPES.map((shape): Target => {
      const sizes = ofShape(shape);
      const kernel = growth(sizes, row => row.kernelBestRate);
      const what = `growth of ${shape}, exponent${kernel === null ? '' : ` (kernel ${kernel.toFixed(2)})`}`;
      return { what, value: growth(sizes, row => row.cpuRate), limit: LINEAR, unit: '', most: true };
    }),
    {
      what: 'memory of the largest',
      value: Math.round(Math.max(...rows.map(row => row.peakMiB))),
      limit: 1024,
      unit: ' MiB',
      most: true,
    },
  ];
}

export async function verifier(options: BenchOptions): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'switchyard-bench-'));
  try {
    if (!options.json) {
      console.log(
        'verifier: millions of processed instructions a second, ours beside the kernel; ratios are ours / its',
      );
      console.log(
        '  program            processed   kernel  kernel     cold     warm    cold    warm    best  runs   peak',
      );
      console.log(
        '                                          M/s      M/s      M/s   ratio   ratio   ratio  warm    MiB',
      );
    }
    const rows: Row[] = [];
    for (const subject of subjects(directory, options.quick ? SIZES.slice(0, 2) : SIZES)) {
      const judge = openJudge(subject);
      try {
        const row = measure(subject, judge, options.quick ? 1 : 3, options.quick ? 250 : 1500);
        rows.push(row);
        if (options.json) console.log(JSON.stringify({ benchmark: 'verifier', ...row }));
        else print(row);
      } finally {
        judge?.dispose();
      }
    }
    if (!options.json) printTargets(options, targets(rows));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
