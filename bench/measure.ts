/** What the benchmarks share. */

export interface BenchOptions {
  /** Few rounds. */
  readonly quick: boolean;
  /** One JSON object per benchmark instead of text. */
  readonly json: boolean;
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

export function printTargets(targets: readonly Target[]): void {
  console.log('  targets');
  for (const { what, value, limit, unit, most } of targets) {
    const held = value !== null && (most ? value <= limit : value >= limit);
    const verdict = value === null ? 'not measured' : held ? 'ok' : 'FAILED';
    const bound = `${most ? 'at most' : 'at least'} ${limit}${unit}`;
    console.log(
      `    ${what.padEnd(48)} ${String(value ?? '-').padStart(7)}${unit.padEnd(3)} ${bound.padEnd(16)} ${verdict}`,
    );
  }
}
