/**
 * What a hop costs: 33 tail calls in every mode, beside hand-written floor code and the running kernel.
 *
 * ns per hop = (a run of 33 hops - a run of 1 hop) / 32, so that entry, exit and the loop around drop out. Rounds of all
 * variants in turn; the median over the rounds.
 */
import { type BenchOptions, median, printTargets } from './measure.ts';
import { Bench, type Chain, circle, HOPS, type Maker, type Pattern, random, type Site } from './tailcall-chains.ts';
import { openKernel } from './tailcall-kernel.ts';

interface Variant {
  readonly name: string;
  readonly maker: Maker;
  readonly site: Site;
}
const BASELINE: Maker = { mode: 'baseline' };
const CACHED: Maker = { mode: 'cached' };
const FAST: Maker = { mode: 'fast' };
/** As 'fast', but for how empty slots are found. */
const TESTED: Maker = { mode: 'fast', choices: { emptySlots: 'test' } };
const VARIANTS: readonly Variant[] = [
  { name: 'baseline static', maker: BASELINE, site: 'static' },
  { name: 'cached static', maker: CACHED, site: 'static' },
  { name: 'fast static', maker: FAST, site: 'static' },
  { name: 'fast static, slots tested', maker: TESTED, site: 'static' },
  { name: 'fast static, index proved', maker: FAST, site: 'proved' },
  { name: 'fast static, index proved, slots tested', maker: TESTED, site: 'proved' },
  { name: 'floor static', maker: 'floor', site: 'static' },
  { name: 'baseline direct', maker: BASELINE, site: 'direct' },
  { name: 'cached direct', maker: CACHED, site: 'direct' },
  { name: 'fast direct', maker: FAST, site: 'direct' },
  { name: 'floor direct', maker: 'floor', site: 'direct' },
];

/** Distinct programs in the chain. */
const DIVERSITY = [1, 2, 4, 6, 8, 12, 16, 24, HOPS];

/** As 'cold', which fits into the last cache, with all caches emptied before each sample: most hops read from memory. */
const FLUSHED = 'flushed 10k';

/** Rounds: 61 where the machine is not too busy to do them within this time since the process began. */
const BUDGET_MS = 25_000;
const LEAST_ROUNDS = 5;

interface Sampled {
  readonly variant: string;
  readonly pattern: string;
  readonly sample: () => number;
  readonly ns: number[];
}

export async function tailcall(options: BenchOptions): Promise<void> {
  const { quick } = options;
  const most = quick ? LEAST_ROUNDS : 61;
  const bench = new Bench();
  const kernel = openKernel();
  const sampled: Sampled[] = [];
  const add = (variant: string, pattern: string, long: Chain, short: Chain, runs: number) => {
    const time = (chain: Chain): number => {
      if (pattern === FLUSHED) chain.flush?.();
      return chain.time(runs);
    };
    const sample = () => (time(long) - time(short)) / (HOPS - 1);
    sampled.push({ variant, pattern, sample, ns: [] });
  };
  // A sample takes some hundred microseconds, so that most are done before something else gets the processor.
  const patterns: [name: string, pattern: Pattern, runs: number][] = [
    ...DIVERSITY.map((programs): [string, Pattern, number] => [`T=${programs}`, circle(programs), 2000]),
    ['random 1024', random(2048, 1024, 8000), 400],
    ['cold 10000', random(65536, 10_000, 8000), 100],
    [FLUSHED, random(65536, 10_000, 8000), 100],
  ];
  for (const [name, pattern, runs] of patterns) {
    for (const { name: variant, maker, site } of VARIANTS) {
      // A program has one direct successor, and the floor no limit that would end a circle.
      if (site === 'direct' && (!name.startsWith('T=') || (maker === 'floor' && pattern.programs < HOPS))) continue;
      const short = bench.chain(maker, site, site === 'direct' ? circle(HOPS) : pattern, 1);
      add(variant, name, bench.chain(maker, site, pattern, HOPS), short, runs);
    }
  }
  if (kernel) {
    for (const site of ['indirect', 'direct'] as const) {
      const short = kernel.chain(site, 1, false);
      for (const programs of DIVERSITY) {
        add(`kernel ${site}`, `T=${programs}`, kernel.chain(site, programs, programs < HOPS), short, 300);
      }
    }
    const short = kernel.random(1, 1);
    add('kernel indirect', 'random 1024', kernel.random(1024, 1024), short, 300);
    add('kernel indirect', 'cold 10000', kernel.random(16_384, 10_000), short, 300);
  }
  for (const { sample } of sampled) sample();
  let rounds = 0;
  while (rounds < LEAST_ROUNDS || (rounds < most && performance.now() < BUDGET_MS)) {
    for (const { sample, ns } of sampled) ns.push(sample());
    rounds++;
  }
  bench.close();
  kernel?.close();

  const rows = sampled.map(({ variant, pattern, ns }) => ({ variant, pattern, ns: Number(median(ns).toFixed(3)) }));
  const ratio = (over: string, under: string, pattern = `T=${HOPS}`): number | null => {
    const ns = (variant: string) => rows.find(row => row.variant === variant && row.pattern === pattern)?.ns;
    const [a, b] = [ns(over), ns(under)];
    return a === undefined || b === undefined ? null : Number((a / b).toFixed(2));
  };
  const ratios = {
    cachedOverFast: ratio('cached static', 'fast static'),
    kernelIndirectOverFast: ratio('kernel indirect', 'fast static'),
    fastOverFloor: ratio('fast static', 'floor static'),
    directOverFloor: ratio('fast direct', 'floor direct'),
    // Before the series and after it, nothing in any cache.
    flushedBaselineOverCached: ratio('baseline static', 'cached static', FLUSHED),
  };
  if (options.json) {
    console.log(JSON.stringify({ rows, ratios }));
    return;
  }
  const ns = (variant: string) => rows.find(row => row.variant === variant && row.pattern === `T=${HOPS}`)?.ns ?? null;
  const atMost = (what: string, value: number | null, limit: number, unit = '') => ({
    what,
    value,
    limit,
    unit,
    most: true,
  });
  const atLeast = (what: string, value: number | null, limit: number) => ({
    what,
    value,
    limit,
    unit: '',
    most: false,
  });
  print(rows, rounds, kernel !== undefined);
  printTargets(options, [
    atMost(`fast static, T=${HOPS}`, ns('fast static'), 0.65, ' ns'),
    atMost(`fast direct, T=${HOPS}`, ns('fast direct'), 0.4, ' ns'),
    atMost('fast static over its floor', ratios.fastOverFloor, 1.6),
    atLeast('cached over fast, static', ratios.cachedOverFast, 8),
    atLeast("the kernel's indirect over fast static", ratios.kernelIndirectOverFast, 25),
    atMost('random 1024 over its floor', ratio('fast static', 'floor static', 'random 1024'), 1.35),
    atMost('cold 10000 over its floor', ratio('fast static', 'floor static', 'cold 10000'), 1.3),
  ]);
  console.log(`  fast direct over its floor: ${ratios.directOverFloor ?? 'not measured'}`);
  console.log(`  baseline over cached, static, caches emptied: ${ratios.flushedBaselineOverCached ?? 'not measured'}`);
}

function print(
  rows: readonly { variant: string; pattern: string; ns: number }[],
  rounds: number,
  withKernel: boolean,
): void {
  console.log(
    `tailcall: ns per hop, (${HOPS} hops - 1 hop) / ${HOPS - 1}, medians of ${rounds} rounds of all variants in turn; ` +
      'T = distinct programs in the chain',
  );
  const patterns = [...new Set(rows.map(({ pattern }) => pattern))];
  const width = Math.max(...rows.map(({ variant }) => variant.length));
  console.log(`  ${''.padEnd(width)} ${patterns.map(pattern => pattern.padStart(11)).join(' ')}`);
  for (const variant of new Set(rows.map(row => row.variant))) {
    const cells = patterns.map(pattern => {
      const row = rows.find(candidate => candidate.variant === variant && candidate.pattern === pattern);
      return (row?.ns.toFixed(2) ?? '').padStart(11);
    });
    console.log(`  ${variant.padEnd(width)} ${cells.join(' ')}`);
  }
  if (!withKernel) console.log('  kernel: not measured; it needs Linux, root and bpf(2)');
}
