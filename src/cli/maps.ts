/** The contents of maps as JSON values, typed by BTF where the object has it. `map-text.ts` makes text of them. */
import { type Btf, decodeValue, type MapType, type RawMap, SwitchyardError } from '../core.ts';

/** Something with maps: an object loaded here or into the kernel, or what was saved of one. */
export interface Held {
  readonly maps: ReadonlyMap<string, RawMap>;
  readonly progArrays: ReadonlyMap<string, { entries(): Iterable<readonly [number, { readonly name: string }]> }>;
  readonly collection: { readonly btf: Btf | undefined };
  map(name: string): RawMap;
}

type Entry = [key: Uint8Array, value: Uint8Array];

/** One entry, as bpftool's JSON has it: `value`, or `values` by CPU. */
export interface DumpedEntry {
  readonly key: unknown;
  readonly value?: unknown;
  readonly values?: readonly { readonly cpu: number; readonly value: unknown }[];
}

export const PER_CPU = new Set<MapType>(['percpu_array', 'percpu_hash', 'lru_percpu_hash']);
const HASHES = new Set<MapType>(['hash', 'percpu_hash', 'lru_hash', 'lru_percpu_hash']);

/** What the kernel answers for maps that can't be walked through. */
const NO_ENTRIES = new Set<unknown>(['EINVAL', 'ENOTSUPP', 'EOPNOTSUPP']);

/** Numbers stay numbers while they are exact; larger 64-bit integers become decimal strings. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value.toString();
  }
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
  }
  return value;
}

function decode(btf: Btf | undefined, type: number | undefined, bytes: Uint8Array): unknown {
  if (btf && type !== undefined) {
    try {
      return plain(decodeValue(btf, type, bytes));
    } catch (error) {
      // Types that say more than the value holds are the object's mistake; the bytes are still worth showing.
      if (!(error instanceof SwitchyardError)) throw error;
    }
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return view.getUint32(0, true);
  if (bytes.length === 8) return plain(view.getBigUint64(0, true));
  return plain(bytes);
}

export function dumpEntry(
  map: Pick<RawMap, 'spec'>,
  btf: Btf | undefined,
  key: Uint8Array,
  value: Uint8Array,
): DumpedEntry {
  const { spec } = map;
  const decodedKey = decode(btf, spec.btfKeyId, key);
  if (!PER_CPU.has(spec.type)) return { key: decodedKey, value: decode(btf, spec.btfValueId, value) };
  const stride = Math.ceil(spec.valueSize / 8) * 8;
  const values: { cpu: number; value: unknown }[] = [];
  for (let cpu = 0; cpu * stride < value.length; cpu++) {
    const start = cpu * stride;
    values.push({ cpu, value: decode(btf, spec.btfValueId, value.subarray(start, start + spec.valueSize)) });
  }
  return { key: decodedKey, values };
}

/**
 * All entries of a map; those of hashes in the order of their keys, so that the output of two runs can be
 * compared. A prog array's values are the names of its programs. Types without entries (queues, ring buffers) have none.
 */
export function dumpMap(object: Held, name: string): DumpedEntry[] {
  const slots = object.progArrays.get(name);
  if (slots) return Array.from(slots.entries(), ([key, program]) => ({ key, value: program.name }));
  const map = object.map(name);
  let entries: Entry[];
  try {
    entries = [...map.entries()];
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    if (error.code === 'invalid_operation') return [];
    if (error.code === 'map_access_failed' && NO_ENTRIES.has(error.details.errno)) return [];
    throw error;
  }
  if (HASHES.has(map.spec.type)) {
    // Keys as long as an integer are compared as one.
    const order = map.spec.keySize <= 8 ? ([key]: Entry) => key.toReversed() : ([key]: Entry) => key;
    entries.sort((a, b) => Buffer.compare(order(a), order(b)));
  }
  return entries.map(([key, value]) => dumpEntry(map, object.collection.btf, key, value));
}
