/** What can be seen of a run, in a form that equal runs have in common whoever ran them. */
import type { BpfMap, MapSpec } from '../../src/index.ts';

export type MapContents = Readonly<Record<string, readonly string[]>>;

/** What these hold are numbers that every runtime gives out itself, or nothing that can be looked up. */
const OTHERS: ReadonlySet<MapSpec['type']> = new Set(['prog_array', 'array_of_maps', 'hash_of_maps', 'ringbuf']);

/** Maps whose contents are the program's work, and can be looked at without changing them. */
export function comparable({ type, frozen }: MapSpec): boolean {
  return !OTHERS.has(type) && frozen !== true;
}

const PER_CPU: ReadonlySet<string> = new Set(['percpu_array', 'percpu_hash', 'lru_percpu_hash']);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Per-CPU values of the corpus are counters of 64 bits: their sums over all CPUs are compared. */
function perCpuSum(spec: MapSpec, value: Uint8Array): string {
  const stride = Math.ceil(spec.valueSize / 8) * 8;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  const sums = new BigUint64Array(stride / 8);
  for (let at = 0; at < value.length; at += 8) {
    const word = (at % stride) / 8;
    sums[word] = sums[word]! + view.getBigUint64(at, true);
  }
  return [...sums].join(' ');
}

/** One line an entry, sorted; arrays without their zeros. */
export function lines(spec: MapSpec, entries: Iterable<readonly [Uint8Array, Uint8Array]>): string[] {
  const perCpu = PER_CPU.has(spec.type);
  const skipZero = spec.type === 'array' || spec.type === 'percpu_array';
  const all: string[] = [];
  for (const [key, value] of entries) {
    if (skipZero && value.every(byte => byte === 0)) continue;
    all.push(`${hex(key)}: ${perCpu ? perCpuSum(spec, value) : hex(value)}`);
  }
  return all.sort();
}

export function contents(maps: ReadonlyMap<string, Pick<BpfMap, 'spec' | 'entries'>>): MapContents {
  const result: Record<string, string[]> = {};
  for (const [name, map] of maps) if (comparable(map.spec)) result[name] = lines(map.spec, map.entries());
  return result;
}
