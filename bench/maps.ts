/**
 * What map operations cost from a program, here and in the running kernel, and what they cost from TypeScript.
 *
 * ns per operation = (a run with the operation 64 times - the same run without) / 64. Samples of some hundred microseconds of ours and of
 * the kernel's in turn, each behind unmeasured ones that bring the map back into the caches; lower quartiles over the rounds, since
 * the kernel's clock stops while others have the processor, and ours does not. A row that misses its target is loaded and
 * measured for as many rounds again, twice at most, and all its rounds count.
 *
 * "Not slower" can only be told as finely as the measurement repeats itself. How finely that is is measured, too. The object is loaded into
 * the kernel twice, and all three maps are sampled in turn. What the kernel's two differ by (their maps lie in other pages, which share
 * caches with other data) is the row's noise, or if that is more, what two sets of samples differ by that are drawn from one of them with
 * replacement, in 19 of 20 draws at most. Just that is allowed to ours. The kernel's cost is the mean of the two.
 */
import {
  createRuntime,
  type KernelMap,
  type KernelObject,
  loadIntoKernel,
  type Program,
  type RawMap,
  RingBuffer,
  typedMap,
} from '../src/index.ts';
import { mapDescriptor } from '../test/kernel/memory.ts';
import { type MapCase, mapCases, OPERATIONS, programsOf } from './map-programs.ts';
import type { BenchOptions } from './measure.ts';

interface Row {
  readonly operation: string;
  readonly keySize: number;
  readonly entries: number;
  readonly ns: number;
  readonly kernelNs: number | null;
  /** By which part the kernel's operation seems slower than itself. */
  readonly noise: number;
}

const PACKET = new Uint8Array(64);
/** Nanoseconds that a sample should take. */
const SAMPLE_NS = 300_000;
const ROUNDS = 41;
const WARM_UPS = 3;
/** How often a row may get another set of rounds. */
const MORE_ROUNDS = 2;

/** Times as fast as the kernel. Others must not be slower. */
const FASTER: Readonly<Record<string, number>> = { 'hash lookup': 1.5, update: 1.5 };
/** Pairs of sets that are drawn to find the noise. */
const DRAWS = 400;
const QUICK_ROUNDS = 7;
const ARENA_OVERHEAD = 64 << 20;

export async function maps(options: BenchOptions): Promise<void> {
  const rows: Row[] = [];
  const wanted = process.env.MAPS;
  for (const measured of mapCases(options.quick)) {
    if (
      wanted !== undefined &&
      !new RegExp(wanted).test(`${measured.operation} ${measured.keySize} ${measured.entries}`)
    )
      continue;
    const row = await measure(measured, options.quick ? QUICK_ROUNDS : ROUNDS);
    rows.push(row);
    if (!options.json) print(row, rows.length === 1);
  }
  if (!options.json) printVerdicts(verdictsOf(rows));
  const typeScript = await fromTypeScript(options.quick ? 20_000 : 300_000);
  if (options.json) console.log(JSON.stringify({ benchmark: 'maps', rows, verdicts: verdictsOf(rows), typeScript }));
  else {
    console.log('maps: from TypeScript, million operations per second, 64 Ki entries of 8 bytes each');
    for (const { name, get, set } of typeScript) {
      console.log(`  ${name.padEnd(24)} get ${get.toFixed(2).padStart(7)}  set ${set.toFixed(2).padStart(7)}`);
    }
  }
}

async function measure(measured: MapCase, rounds: number): Promise<Row> {
  const { operation, keySize, entries, times = 1 } = measured;
  const ns: Sample[] = [];
  const kernels: [Sample[], Sample[]] = [[], []];
  const kernelCost = () => (costOf(kernels[0]) + costOf(kernels[1])) / 2;
  for (let set = 0; set <= MORE_ROUNDS; set++) {
    const [ours, theirs] = await sampleSet(measured, rounds);
    ns.push(...ours);
    theirs.forEach((samples, i) => {
      kernels[i]!.push(...samples);
    });
    if (theirs.length === 0 || kernelCost() / costOf(ns) >= (FASTER[operation] ?? 1)) break;
  }
  const inKernel = kernels[0].length > 0;
  return {
    operation,
    keySize,
    entries,
    ns: round2(costOf(ns) / times),
    kernelNs: inKernel ? round2(kernelCost() / times) : null,
    noise: inKernel ? noiseOf(kernels) : 0,
  };
}

/** @returns samples of ours, and of two in the kernel, if it lets us: each round has one of each. */
async function sampleSet(measured: MapCase, rounds: number): Promise<[Sample[], Sample[][]]> {
  const { keySize, entries, maxEntries = entries, type, ring = false } = measured;
  const collection = programsOf(measured);
  const elements = maxEntries * (keySize + 256 + (type.includes('percpu') ? 64 : 0));
  const runtime = createRuntime({
    cpus: 2,
    arenaSize: Math.min(2 ** 32, ARENA_OVERHEAD + (ring ? 2 * entries : elements)),
  });
  const kernels: KernelObject[] = [];
  try {
    const object = runtime.load(collection);
    const map = object.map('subject');
    if (measured.fill) fill(measured, map);
    const empty = map instanceof RingBuffer ? () => map.drain(() => {}) : () => 0;
    const ours = sampler([object.program('with'), object.program('without')], time, empty);
    const theirs: (() => Sample)[] = [];
    for (let copy = 0; copy < 2; copy++) {
      const kernel = openKernel(collection);
      if (kernel === undefined) break;
      kernels.push(kernel);
      const kernelMap = kernel.map('subject');
      if (measured.fill) fill(measured, kernelMap);
      theirs.push(
        sampler(
          [kernel.program('with'), kernel.program('without')],
          (program, repeat) => program.run(PACKET, { repeat }).durationNs * repeat,
          ring ? kernelRing(kernelMap) : () => 0,
        ),
      );
    }
    const samples: Sample[] = [];
    const kernelSamples: Sample[][] = theirs.map(() => []);
    for (let round = 0; round < rounds; round++) {
      samples.push(ours());
      theirs.forEach((sample, i) => {
        kernelSamples[i]!.push(sample());
      });
    }
    return [samples, kernelSamples];
  } finally {
    for (const kernel of kernels) kernel.dispose();
    await runtime.dispose();
  }
}

/** ns per turn of the loop. */
interface Sample {
  readonly full: number;
  readonly bare: number;
}

/** Quartiles of each, not of differences: those are low where something got in the way of the run without the operation. */
function costOf(samples: readonly Sample[]): number {
  return lowerQuartile(samples.map(({ full }) => full)) - lowerQuartile(samples.map(({ bare }) => bare));
}

/** By which part the operation seems slower than itself: of the copies, and of draws from the first what 19 of 20 stay below. */
function noiseOf([first, second]: readonly [readonly Sample[], readonly Sample[]]): number {
  const draw = () => costOf(first.map(() => first[Math.floor(Math.random() * first.length)]!));
  const slower = Array.from({ length: DRAWS }, () => draw() / draw() - 1).sort((a, b) => a - b);
  const [a, b] = [costOf(first), costOf(second)];
  return Math.max(slower[Math.floor(0.95 * DRAWS)]!, a / b - 1, b / a - 1);
}

function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 2]!;
}

const round2 = (value: number): number => Number(value.toFixed(2));

function time(program: Program, repeat: number): number {
  return program.replay([PACKET], { repeat }).elapsedNs;
}

/** One sample of ns per operation. The number of runs is found by the first ones. */
function sampler<P>(
  programs: readonly P[],
  ns: (program: P, repeat: number) => number,
  before: () => unknown,
): () => Sample {
  const [full, bare] = programs as [P, P];
  let repeat = 2;
  while (ns(full, repeat) < SAMPLE_NS && repeat < 1 << 14) {
    repeat *= 2;
    before();
  }
  return () => {
    for (let warm = 0; warm < WARM_UPS; warm++) {
      before();
      ns(full, repeat);
    }
    before();
    return { full: ns(full, repeat) / repeat / OPERATIONS, bare: ns(bare, repeat) / repeat / OPERATIONS };
  };
}

function openKernel(collection: Parameters<typeof loadIntoKernel>[0]): KernelObject | undefined {
  try {
    return loadIntoKernel(collection);
  } catch (error) {
    if ((error as { code?: string }).code === 'not_permitted' || process.platform !== 'linux') return undefined;
    throw error;
  }
}

function fill({ entries, fill: keyOf, type }: MapCase, map: RawMap | KernelMap): void {
  const value = new Uint8Array(type.includes('percpu') ? (map.lookup(keyOf!(0))?.length ?? perCpuBytes(map)) : 8);
  for (let i = 0; i < entries; i++) map.update(keyOf!(i), value);
}

function perCpuBytes(map: RawMap | KernelMap): number {
  return 'valueBytes' in map ? map.valueBytes : 16;
}

/** Consumes what is in the kernel's ring: the consumer's position is a page that may be written. */
function kernelRing(map: KernelMap): () => void {
  const consumer = new BigUint64Array(mapDescriptor(map.fd, 4096));
  const producer = new BigUint64Array(mapDescriptor(map.fd, 4096, 4096, 'read'));
  return () => Atomics.store(consumer, 0, Atomics.load(producer, 0));
}

function print({ operation, keySize, entries, ns, kernelNs, noise }: Row, first: boolean): void {
  if (first) {
    console.log('maps: ns per operation from a program, with the operation less without it, lower quartiles');
    console.log(
      `  ${'operation'.padEnd(26)} ${'key'.padStart(3)} ${'entries'.padStart(8)} ${'here'.padStart(8)} ${'kernel'.padStart(8)}  kernel / here  noise`,
    );
  }
  const ratio = kernelNs === null ? '' : (kernelNs / ns).toFixed(2);
  const cells = [
    operation.padEnd(26),
    String(keySize).padStart(3),
    String(entries).padStart(8),
    ns.toFixed(1).padStart(8),
  ];
  console.log(
    `  ${cells.join(' ')} ${(kernelNs?.toFixed(1) ?? '-').padStart(8)}  ${ratio.padStart(13)}  ${noise.toFixed(3)}`,
  );
}

const limitOf = ({ operation, noise }: Row): number => FASTER[operation] ?? 1 / (1 + noise);

interface Verdict {
  readonly operation: string;
  /** The kernel's time over ours where it is least; null: not measured. */
  readonly least: number | null;
  /** Where that is. */
  readonly keySize: number;
  readonly entries: number;
  readonly limit: number;
}

/** One for each operation, by the row that is furthest below its limit, or least above. */
function verdictsOf(rows: readonly Row[]): Verdict[] {
  return [...new Set(rows.map(row => row.operation))].map(operation => {
    const ratio = ({ ns, kernelNs }: Row): number => (kernelNs === null ? Infinity : kernelNs / ns);
    const worst = rows
      .filter(row => row.operation === operation)
      .sort((a, b) => ratio(a) / limitOf(a) - ratio(b) / limitOf(b))[0]!;
    const { keySize, entries, kernelNs } = worst;
    const least = kernelNs === null ? null : ratio(worst);
    return { operation, least, keySize, entries, limit: limitOf(worst) };
  });
}

function printVerdicts(verdicts: readonly Verdict[]): void {
  console.log('  targets: kernel / here, the worst row of each operation');
  for (const { operation, least, keySize, entries, limit } of verdicts) {
    const verdict = least === null ? 'not measured' : least >= limit ? 'ok' : 'FAILED';
    const where = keySize === 0 ? '' : `keys of ${keySize}, ${entries} entries`;
    console.log(
      `    ${operation.padEnd(26)} ${String(least?.toFixed(3) ?? '-').padStart(6)}  at least ${limit.toFixed(3)}  ${verdict.padEnd(12)} ${where}`,
    );
  }
}

interface Speed {
  readonly name: string;
  /** Million operations per second. */
  readonly get: number;
  readonly set: number;
}

async function fromTypeScript(count: number): Promise<Speed[]> {
  const entries = 1 << 16;
  const hash = mapCases(true).find(({ operation, keySize }) => operation === 'hash lookup' && keySize === 8)!;
  const runtime = createRuntime({ cpus: 1 });
  try {
    const raw = runtime.load(programsOf({ ...hash, entries })).map('subject');
    const typed = typedMap<bigint, bigint>(raw, { btf: undefined });
    const plain = new Map<bigint, bigint>();
    const keys = Array.from({ length: entries }, (_, i) => BigInt(i));
    const bytes = keys.map(key => new Uint8Array(BigUint64Array.of(key).buffer));
    const speed = (act: (i: number) => unknown): number => {
      const start = performance.now();
      for (let i = 0; i < count; i++) act(Math.imul(i, 40503) & (entries - 1));
      return count / (performance.now() - start) / 1000;
    };
    const both = (name: string, get: (i: number) => unknown, set: (i: number) => unknown): Speed => {
      for (let i = 0; i < entries; i++) set(i);
      const sets = [speed(set), speed(set), speed(set)];
      return { name, set: Math.max(...sets), get: Math.max(speed(get), speed(get), speed(get)) };
    };
    const value = new Uint8Array(8);
    return [
      both(
        'typed map',
        i => typed.get(keys[i]!),
        i => typed.set(keys[i]!, 7n),
      ),
      both(
        'bytes',
        i => raw.lookup(bytes[i]!),
        i => raw.update(bytes[i]!, value),
      ),
      both(
        'JavaScript Map',
        i => plain.get(keys[i]!),
        i => plain.set(keys[i]!, 7n),
      ),
    ];
  } finally {
    await runtime.dispose();
  }
}
