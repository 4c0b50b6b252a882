/**
 * What `switchyard map` does to the maps of a running replay or of a snapshot. A request is words as the user typed them, since
 * only the side that has the maps knows their types; the answer is JSON, and lines of text for people.
 */
import { type LoadedObject, type SwitchyardError, type TypedMap, typedMap } from '../core.ts';
import { UsageError } from './errors.ts';
import { entryText } from './map-text.ts';
import { dumpEntry, dumpMap, type Held, PER_CPU } from './maps.ts';

type MapCommand = 'list' | 'dump' | 'get' | 'set' | 'delete';

export interface MapRequest {
  readonly command: MapCommand;
  readonly map?: string;
  readonly key?: string;
  readonly value?: string;
  readonly mode?: 'any' | 'noExist' | 'exist';
}

export interface MapAnswer {
  readonly json: unknown;
  readonly text: readonly string[];
}

/** What a request can be made to. */
export interface MapTarget {
  readonly object: Held;
  /** CPUs of per-CPU values; 0 where nobody knows. */
  readonly cpus: number;
  /** Present where programs can be put into slots. */
  readonly loaded?: LoadedObject;
}

/** @throws SwitchyardError: `no_such_map`, `no_such_key`, `bad_usage`, ObjectError and MapError as of typed maps */
export function answer(target: MapTarget, request: MapRequest): MapAnswer {
  const { object } = target;
  const { command, map: name = '' } = request;
  if (command === 'list') return list(object);
  const { spec } = object.map(name);
  if (command === 'dump') {
    const entries = dumpMap(object, name);
    return { json: entries, text: entries.map(entry => entryText(object, name, entry)) };
  }
  if (spec.type === 'prog_array') return slot(target, request);
  const typed = typedMap(object.map(name), object.collection);
  const key = bytesOf(request.key ?? '', value => typed.keyBytes(value));
  switch (command) {
    case 'get': {
      const value = typed.raw.lookup(key);
      if (value === undefined) throw noSuchKey(name, request.key);
      const entry = dumpEntry(typed.raw, object.collection.btf, key, value);
      return { json: entry, text: [entryText(object, name, entry)] };
    }
    case 'set': {
      const value = bytesOf(request.value ?? '', given => valueBytes(target, typed, given));
      const flags = { any: 0, noExist: 1, exist: 2 }[request.mode ?? 'any'];
      typed.raw.update(key, value, flags);
      return { json: { updated: true }, text: [] };
    }
    case 'delete':
      try {
        typed.raw.delete(key);
      } catch (error) {
        if ((error as SwitchyardError).details?.errno === 'ENOENT') throw noSuchKey(name, request.key);
        throw error;
      }
      return { json: { deleted: true }, text: [] };
  }
}

const noSuchKey = (map: string, key: string | undefined): UsageError =>
  new UsageError('no_such_key', `map ${map} has no key ${key}`, { map, key });

function list(object: Held): MapAnswer {
  const maps = [...object.maps].map(([name, { spec }]) => {
    const { type, keySize, valueSize, maxEntries, flags } = spec;
    return { name, type, keySize, valueSize, maxEntries, flags };
  });
  const width = Math.max(0, ...maps.map(({ name }) => name.length));
  const text = maps.map(
    ({ name, type, keySize, valueSize, maxEntries }) =>
      `${name.padEnd(width)}  ${type}, key ${keySize}, value ${valueSize}, ${maxEntries} entries`,
  );
  return { json: maps, text };
}

/** Prog arrays: programs by name. */
function slot({ object, loaded }: MapTarget, { command, map = '', key = '', value = '' }: MapRequest): MapAnswer {
  const index = Number(key);
  if (!/^\d+$/.test(key) || index > 0xffff_ffff) {
    throw new UsageError('bad_usage', `a key of prog array ${map} is an index, not ${key}`, { map, key });
  }
  if (command === 'get') {
    const found = Array.from(object.progArrays.get(map)!.entries()).find(([at]) => at === index);
    if (!found) throw noSuchKey(map, key);
    return { json: { key: index, value: found[1].name }, text: [`${index}: ${found[1].name}`] };
  }
  if (!loaded)
    throw new UsageError('bad_usage', `slots of ${map} can be changed in a run only, not in a snapshot`, { map });
  const slots = loaded.progArray(map);
  if (command === 'set') {
    slots.set(index, loaded.program(value));
    return { json: { updated: true }, text: [] };
  }
  slots.delete(index);
  return { json: { deleted: true }, text: [] };
}

/** As bpftool, one value is meant for every CPU. */
function valueBytes({ cpus, object }: MapTarget, typed: TypedMap, value: unknown): Uint8Array {
  const { spec } = typed.raw;
  if (!PER_CPU.has(spec.type) || Array.isArray(value)) return typed.valueBytes(value);
  const stride = Math.ceil(spec.valueSize / 8) * 8;
  const known =
    cpus || Math.max(0, ...Array.from(object.maps.values(), map => (PER_CPU.has(map.spec.type) ? cpusOf(map) : 0)));
  if (known === 0 || stride === 0)
    throw new UsageError('bad_usage', `give map ${spec.name} an array, one value per CPU`);
  return typed.valueBytes(Array.from({ length: known }, () => value));
}

function cpusOf(map: TypedMap['raw']): number {
  const [first] = map.entries();
  return first ? first[1].length / (Math.ceil(map.spec.valueSize / 8) * 8) : 0;
}

/** `hex:0a000001` are the bytes themselves; all else is JSON, in which words need no quotes and integers may be of any size. */
function bytesOf(text: string, encode: (value: unknown) => Uint8Array): Uint8Array {
  if (!text.startsWith('hex:')) return encode(parseValue(text));
  const digits = text.slice('hex:'.length).replaceAll(/[\s:]/g, '');
  if (digits.length % 2 !== 0 || !/^[\da-fA-F]*$/.test(digits)) {
    throw new UsageError(
      'bad_usage',
      `hex: is followed by bytes of two digits each, not by ${JSON.stringify(text.slice(4))}`,
    );
  }
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

const BIG = '\u0000big:';

function parseValue(text: string): unknown {
  if (/^-?(?:0x[\da-fA-F]+|\d+)$/.test(text)) {
    const value = text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  if (/^[A-Za-z_][\w.-]*$/.test(text) && text !== 'true' && text !== 'false' && text !== 'null') return text;
  // Strings are passed over, so that digits in them stay; large integers become strings that are told from others.
  const marked = text.replaceAll(/"(?:\\.|[^"\\])*"|-?\d{16,}(?![\d.eE])/g, part =>
    part.startsWith('"')
      ? /^"-?\d{16,}"$/.test(part)
        ? `"\\u0000big:${part.slice(1)}`
        : part
      : `"\\u0000big:${part}"`,
  );
  try {
    return JSON.parse(marked, (_name, value: unknown) =>
      typeof value === 'string' && value.startsWith(BIG) ? BigInt(value.slice(BIG.length)) : value,
    );
  } catch (cause) {
    throw new UsageError(
      'bad_usage',
      `expected a key or value as JSON ({"address": 1, "port": 80}), a word, a number, or hex:0a0b0c; got ${text}`,
      {},
      { cause },
    );
  }
}
