/**
 * Maps for people: one line an entry, what is all zero only counted, per-CPU counters added up.
 *
 * BTF has decided what the values are (`maps.ts`); here it decides how they look: arrays of bytes are addresses more
 * often than numbers, so they are shown as hex.
 */
import type { Btf } from '../core.ts';
import { type DumpedEntry, dumpMap, type Held } from './maps.ts';
import { bold, dim } from './terminal.ts';

/** Entries shown; JSON has all. */
const SHOWN = 12;
/** Integers narrower than this (bytes) are flags and parts of addresses, no counters. */
const COUNTER_BYTES = 4;
const MAC_BYTES = 6;

type Fields = Record<string, unknown>;
type BtfType = ReturnType<Btf['resolved']>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The type of a member, looked for in anonymous members too; undefined where nothing is known. */
function memberType(btf: Btf, type: BtfType | undefined, name: string): BtfType | undefined {
  if (type?.kind === 'datasec') {
    const found = type.variables.find(each => btf.name(each.type) === name);
    return found && btf.resolved(found.type);
  }
  if (type?.kind === 'var') return memberType(btf, btf.resolved(type.type), name);
  if (type?.kind !== 'struct' && type?.kind !== 'union') return undefined;
  for (const member of type.members) {
    const inner = btf.resolved(member.type);
    if (member.name === name) return inner;
    const found = member.name === '' ? memberType(btf, inner, name) : undefined;
    if (found) return found;
  }
  return undefined;
}

function elementType(btf: Btf, type: BtfType | undefined): BtfType | undefined {
  if (type?.kind === 'var') return elementType(btf, btf.resolved(type.type));
  return type?.kind === 'array' ? btf.resolved(type.type) : undefined;
}

function isByte(type: BtfType | undefined): boolean {
  return type?.kind === 'int' && type.size === 1 && !type.bool;
}

/** A value on one line: `{packets: 3, mac: 00:00:5e:00:53:01}`. */
function inline(btf: Btf | undefined, type: BtfType | undefined, value: unknown): string {
  if (Array.isArray(value)) {
    const element = btf && elementType(btf, type);
    if (isByte(element)) {
      const pairs = value.map(byte => (Number(byte) & 0xff).toString(16).padStart(2, '0'));
      return pairs.join(pairs.length === MAC_BYTES ? ':' : '');
    }
    return `[${value.map(each => inline(btf, element, each)).join(', ')}]`;
  }
  if (isFields(value)) {
    const fields = Object.entries(value).map(
      ([name, field]) => `${name}: ${inline(btf, btf && memberType(btf, type, name), field)}`,
    );
    return `{${fields.join(', ')}}`;
  }
  return String(value);
}

function isZero(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).every(isZero);
  return value === 0 || value === false || (typeof value === 'string' && /^0*$/.test(value));
}

/** Whether all in it are counters, which mean something when added up. */
function isCounters(btf: Btf | undefined, type: BtfType | undefined, value: unknown): boolean {
  if (Array.isArray(value)) return value.every(each => isCounters(btf, btf && elementType(btf, type), each));
  if (isFields(value)) {
    return Object.entries(value).every(([name, field]) => isCounters(btf, btf && memberType(btf, type, name), field));
  }
  return typeof value === 'number' && (type?.kind !== 'int' || type.size >= COUNTER_BYTES);
}

/** Adds up values of one shape, field by field. */
function sum(values: readonly unknown[]): unknown {
  const [first] = values;
  if (typeof first === 'number') return (values as number[]).reduce((a, b) => a + b, 0);
  if (Array.isArray(first)) return first.map((_, i) => sum((values as unknown[][]).map(value => value[i])));
  return Object.fromEntries(
    Object.keys(first as Fields).map(name => [name, sum((values as Fields[]).map(value => value[name]))]),
  );
}

/** An entry on one line: `key: value`, or `key: cpu0 value cpu1 value`. Nothing is left out or added up. */
export function entryText(object: Held, name: string, entry: DumpedEntry): string {
  const { spec } = object.map(name);
  const { btf } = object.collection;
  const typeOf = (id: number | undefined) => (btf && id !== undefined ? btf.resolved(id) : undefined);
  const valueType = typeOf(spec.btfValueId);
  const value = entry.values
    ? entry.values.map(each => `cpu${each.cpu} ${inline(btf, valueType, each.value)}`).join(' ')
    : inline(btf, valueType, entry.value);
  return `${inline(btf, typeOf(spec.btfKeyId), entry.key)}: ${value}`;
}

/** Lines of text for one map. */
export function mapText(object: Held, name: string): string[] {
  const { spec } = object.map(name);
  const { btf } = object.collection;
  const typeOf = (id: number | undefined) => (btf && id !== undefined ? btf.resolved(id) : undefined);
  const keyType = typeOf(spec.btfKeyId);
  const valueType = typeOf(spec.btfValueId);
  if (spec.frozen) return [`${bold(name)} ${dim(`(${spec.type}, read-only, ${spec.valueSize} bytes)`)}`];

  const entries = dumpMap(object, name);
  const values = entries.flatMap(entry => entry.values?.map(({ value }) => value) ?? []);
  const summed = values.length > 0 && values.every(value => isCounters(btf, valueType, value));
  const text = (entry: DumpedEntry): string => {
    const key = inline(btf, keyType, entry.key);
    if (!entry.values) return `${key}: ${inline(btf, valueType, entry.value)}`;
    if (summed) return `${key}: ${inline(btf, valueType, sum(entry.values.map(({ value }) => value)))}`;
    const used = entry.values.filter(({ value }) => !isZero(value));
    return `${key}: ${used.map(({ cpu, value }) => `cpu${cpu} ${inline(btf, valueType, value)}`).join(' ')}`;
  };

  const live = entries.filter(entry => !isZero(entry.values ? entry.values.map(({ value }) => value) : entry.value));
  const title = `(${spec.type}, ${entries.length} of ${spec.maxEntries} entries${summed ? ', summed over CPUs' : ''})`;
  const lines = [`${bold(name)} ${dim(title)}`];
  for (const entry of live.slice(0, SHOWN)) lines.push(`  ${text(entry)}`);
  if (live.length > SHOWN) lines.push(dim(`  ... ${live.length - SHOWN} more (--json has all)`));
  const zeros = entries.length - live.length;
  if (zeros > 0) lines.push(dim(`  ${zeros === 1 ? '1 entry is' : `${zeros} entries are`} zero`));
  return lines;
}
