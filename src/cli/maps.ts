/** The contents of maps as JSON values and as text, typed by BTF where the object has it. */
import { type BpfMap, type Btf, decodeValue, type LoadedObject } from '../core.ts';
import { bold, dim } from './terminal.ts';

/** One entry, as bpftool's JSON has it: `value`, or `values` by CPU. */
export interface DumpedEntry {
  readonly key: unknown;
  readonly value?: unknown;
  readonly values?: readonly { readonly cpu: number; readonly value: unknown }[];
}

const PER_CPU = new Set(['percpu_array', 'percpu_hash', 'lru_percpu_hash']);
/** Entries shown as text; JSON has all. */
const SHOWN = 32;

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
  if (btf && type !== undefined) return plain(decodeValue(btf, type, bytes));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return view.getUint32(0, true);
  if (bytes.length === 8) return plain(view.getBigUint64(0, true));
  return plain(bytes);
}

function dumpEntry(map: BpfMap, btf: Btf | undefined, key: Uint8Array, value: Uint8Array): DumpedEntry {
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

/** All entries of a map; a prog array's values are the names of the programs. */
export function dumpMap(object: LoadedObject, name: string): DumpedEntry[] {
  const slots = object.progArrays.get(name);
  if (slots) return slots.entries().map(([key, program]) => ({ key, value: program.name }));
  const map = object.map(name);
  const { btf } = object.collection;
  return [...map.entries()].map(([key, value]) => dumpEntry(map, btf, key, value));
}

function isZero(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).every(isZero);
  return value === 0 || value === '' || value === false || (typeof value === 'string' && /^0+$/.test(value));
}

/** A value on one line: `{packets: 3, bytes: 180}`. */
function inline(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([name, field]) => `${name}: ${inline(field)}`)
      .join(', ')}}`;
  }
  return String(value);
}

function isNumberTree(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).every(isNumberTree);
  return typeof value === 'number';
}

/** Adds up per-CPU values field by field, where all are numbers. */
function sum(values: readonly unknown[]): unknown {
  const [first] = values;
  if (typeof first === 'number') return (values as number[]).reduce((a, b) => a + b, 0);
  if (Array.isArray(first)) return first.map((_, i) => sum(values.map(value => (value as unknown[])[i])));
  return Object.fromEntries(
    Object.keys(first as object).map(name => [
      name,
      sum(values.map(value => (value as Record<string, unknown>)[name])),
    ]),
  );
}

function entryText(entry: DumpedEntry): string {
  const key = inline(entry.key);
  if (!entry.values) return `${key}: ${inline(entry.value)}`;
  const values = entry.values.map(({ value }) => value);
  if (values.length > 0 && values.every(isNumberTree)) return `${key}: ${inline(sum(values))}`;
  return `${key}: ${entry.values.map(({ cpu, value }) => `cpu${cpu}=${inline(value)}`).join(' ')}`;
}

/** Lines of text for one map; entries whose value is all zero are counted, not shown. */
export function mapText(object: LoadedObject, name: string): string[] {
  const { spec } = object.map(name);
  const entries = dumpMap(object, name);
  const live = entries.filter(entry => !isZero(entry.values ? entry.values.map(({ value }) => value) : entry.value));
  const perCpu = PER_CPU.has(spec.type) ? ', summed over CPUs' : '';
  const lines = [`${bold(name)} ${dim(`(${spec.type}, ${entries.length} of ${spec.maxEntries} entries${perCpu})`)}`];
  for (const entry of live.slice(0, SHOWN)) lines.push(`  ${entryText(entry)}`);
  if (live.length > SHOWN) lines.push(dim(`  ... ${live.length - SHOWN} more (--json has all)`));
  if (entries.length > live.length) lines.push(dim(`  ${entries.length - live.length} entries are zero`));
  return lines;
}
