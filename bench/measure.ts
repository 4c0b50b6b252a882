/** What the benchmarks share. */

export interface BenchOptions {
  /** Few rounds. */
  readonly quick: boolean;
  /** One JSON object per benchmark instead of text. */
  readonly json: boolean;
}

/** Stands beside figures of `quick` runs, whose code is not warm. */
export const NO_VERDICT = '--quick: too few rounds of code that is not warm; no figure here is a verdict';

/** Whether a target was met. */
export function verdict(held: boolean, { quick }: BenchOptions): string {
  if (quick) return 'no verdict';
  return held ? 'ok' : 'FAILED';
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The built package, for what is to be measured as it ships: tsx compiles classes to slower code. */
export async function shipped(): Promise<typeof import('../src/index.ts')> {
  return import(new URL('../dist/index.js', import.meta.url).href);
}

export const ROUTER_OBJECT = new URL('../examples/router/router.bpf.o', import.meta.url);
export const ROUTER_CAPTURE = new URL('../examples/router/capture.pcap', import.meta.url);

/** What a benchmark holds its figures against. null: not measured. */
export interface Target {
  readonly what: string;
  readonly value: number | null;
  readonly limit: number;
  readonly unit: string;
  /** The limit is the most, else the least. */
  readonly most: boolean;
}

export function printTargets(options: BenchOptions, targets: readonly Target[]): void {
  console.log(options.quick ? `  targets (${NO_VERDICT})` : '  targets');
  for (const { what, value, limit, unit, most } of targets) {
    const held = value !== null && (most ? value <= limit : value >= limit);
    const judged = value === null ? 'not measured' : verdict(held, options);
    const bound = `${most ? 'at most' : 'at least'} ${limit}${unit}`;
    console.log(
      `    ${what.padEnd(48)} ${String(value ?? '-').padStart(7)}${unit.padEnd(3)} ${bound.padEnd(16)} ${judged}`,
    );
  }
}
