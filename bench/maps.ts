/**
 * What map operations cost from a program, here and in the running kernel, and what they cost from TypeScript.
 *
 * ns per operation = (a run with the operation 64 times - the same run without) / 64. Samples of some hundred microseconds of ours and of
 * the kernel's in turn, each behind unmeasured ones that bring the map back into the caches; lower quartiles over the rounds, since
 * the kernel's clock stops while others have the processor, and ours does not. A row that misses its target is measured for as many
 * rounds again, twice at most, and all its rounds count.
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
/** What is as fast as the kernel comes out within a few parts in a hundred of 1. */
const NOISE = 0.05;
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
  if (options.json) console.log(JSON.stringify({ benchmark: 'maps', rows, typeScript }));
  else {
    console.log('maps: from TypeScript, million operations per second, 64 Ki entries of 8 bytes each');
    for (const { name, get, set } of typeScript) {
      console.log(`  ${name.padEnd(24)} get ${get.toFixed(2).padStart(7)}  set ${set.toFixed(2).padStart(7)}`);
    }
  }
}

async function measure(measured: MapCase, rounds: number): Promise<Row> {
  const { operation, keySize, entries, maxEntries = entries, type } = measured;
  const collection = programsOf(measured);
  const elements = maxEntries * (keySize + 256 + (type.includes('percpu') ? 64 : 0));
  const runtime = createRuntime({
    cpus: 2,
    arenaSize: Math.min(2 ** 32, ARENA_OVERHEAD + (measured.ring ? 2 * entries : elements)),
  });
  let kernel: KernelObject | undefined;
  try {
    const object = runtime.load(collection);
    const map = object.map('subject');
    if (measured.fill) fill(measured, map);
    const empty = map instanceof RingBuffer ? () => map.drain(() => {}) : () => 0;
    const ours = sampler(
      ['with', 'without'].map(name => object.program(name)),
      time,
      empty,
    );
    let theirs: (() => Sample) | undefined;
    kernel = openKernel(collection);
    if (kernel) {
      const kernelMap = kernel.map('subject');
      if (measured.fill) fill(measured, kernelMap);
      const emptyTheirs = measured.ring ? kernelRing(kernelMap) : () => 0;
      theirs = sampler(
        ['with', 'without'].map(name => kernel!.program(name)),
        (program, repeat) => program.run(PACKET, { repeat }).durationNs * repeat,
        emptyTheirs,
      );
    }
    const ns: Sample[] = [];
    const kernelNs: Sample[] = [];
    for (let set = 0; set <= MORE_ROUNDS; set++) {
      for (let round = 0; round < rounds; round++) {
        ns.push(ours());
        if (theirs) kernelNs.push(theirs());
      }
      if (theirs === undefined || costOf(kernelNs) / costOf(ns) >= limitOf(operation)) break;
    }
    return {
      operation,
      keySize,
      entries,
      ns: costOf(ns),
      kernelNs: theirs ? costOf(kernelNs) : null,
    };
  } finally {
    kernel?.dispose();
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
  return round2(lowerQuartile(samples.map(({ full }) => full)) - lowerQuartile(samples.map(({ bare }) => bare)));
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

function print({ operation, keySize, entries, ns, kernelNs }: Row, first: boolean): void {
  if (first) {
    console.log('maps: ns per operation from a program, with the operation less without it, lower quartiles');
    console.log(
      `  ${'operation'.padEnd(26)} ${'key'.padStart(3)} ${'entries'.padStart(8)} ${'here'.padStart(8)} ${'kernel'.padStart(8)}  kernel / here`,
    );
  }
  const ratio = kernelNs === null ? '' : (kernelNs / ns).toFixed(2);
  const cells = [
    operation.padEnd(26),
    String(keySize).padStart(3),
    String(entries).padStart(8),
    ns.toFixed(1).padStart(8),
  ];
  console.log(`  ${cells.join(' ')} ${(kernelNs?.toFixed(1) ?? '-').padStart(8)}  ${ratio}`);
}

const limitOf = (operation: string): number => FASTER[operation] ?? 1 - NOISE;

interface Verdict {
  readonly operation: string;
  /** The kernel's time over ours where it is least; null: not measured. */
  readonly least: number | null;
  /** Where that is. */
  readonly keySize: number;
  readonly entries: number;
  readonly limit: number;
}

/** One for each operation, by its worst row. */
function verdictsOf(rows: readonly Row[]): Verdict[] {
  return [...new Set(rows.map(row => row.operation))].map(operation => {
    const ratio = ({ ns, kernelNs }: Row): number => (kernelNs === null ? Infinity : kernelNs / ns);
    const worst = rows.filter(row => row.operation === operation).sort((a, b) => ratio(a) - ratio(b))[0]!;
    const { keySize, entries, kernelNs } = worst;
    const least = kernelNs === null ? null : round2(ratio(worst));
    return { operation, least, keySize, entries, limit: limitOf(operation) };
  });
}

function printVerdicts(verdicts: readonly Verdict[]): void {
  console.log('  targets: kernel / here, the least of each operation');
  for (const { operation, least, keySize, entries, limit } of verdicts) {
    const verdict = least === null ? 'not measured' : least >= limit ? 'ok' : 'FAILED';
    const where = keySize === 0 ? '' : `keys of ${keySize}, ${entries} entries`;
    console.log(
      `    ${operation.padEnd(26)} ${String(least?.toFixed(2) ?? '-').padStart(6)}  at least ${limit.toFixed(2)}  ${verdict.padEnd(12)} ${where}`,
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
