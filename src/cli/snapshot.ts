/**
 * Maps that outlive a run: `run --save-maps` writes what every map holds to a JSON file, `--load-maps` starts another run with it, and
 * `switchyard map` reads and changes it. The object's BTF is in it, so that it can be read without the object.
 *
 * Entries are bytes in hex. Prog arrays are saved as names, to be looked at: a run has the slots that its object and `--set` say.
 */
import {
  type Btf,
  type Errno,
  type LoadedObject,
  MapError,
  type MapSpec,
  type MapType,
  parseBtf,
  type RawMap,
  SwitchyardError,
  UpdateFlag,
} from '../core.ts';
import { UsageError } from './errors.ts';
import { readBytes, writeBytes } from './files.ts';
import { type Held, PER_CPU } from './maps.ts';

const FORMAT = 'switchyard-maps';
const VERSION = 1;

interface SavedMap extends Omit<MapSpec, 'contents' | 'inner' | 'mapExtra'> {
  readonly entries: readonly (readonly [key: string, value: string])[];
  /** Of a prog array: index and program. */
  readonly programs?: readonly (readonly [index: number, program: string])[];
}

interface SavedFile {
  readonly format: string;
  readonly version: number;
  /** `.BTF` of the object, in base64; null without. */
  readonly btf: string | null;
  readonly maps: readonly SavedMap[];
}

/** Types whose entries are worth nothing in another run, or can't be walked through. */
const NOT_SAVED = new Set<MapType>(['prog_array', 'array_of_maps', 'hash_of_maps']);

export function saveMaps(path: string, object: Held): void {
  const { btf } = object.collection;
  const maps = [...object.maps].map(([name, map]): SavedMap => {
    const { contents: _contents, inner: _inner, mapExtra: _extra, ...spec } = map.spec;
    const slots = object.progArrays.get(name);
    return {
      ...spec,
      name,
      entries: NOT_SAVED.has(spec.type) || spec.keySize === 0 ? [] : entriesOf(map),
      ...(slots && { programs: Array.from(slots.entries(), ([index, program]) => [index, program.name] as const) }),
    };
  });
  writeFile(path, {
    format: FORMAT,
    version: VERSION,
    btf: btf ? Buffer.from(btf.encode()).toString('base64') : null,
    maps,
  });
}

function writeFile(path: string, file: SavedFile): void {
  writeBytes(path, new TextEncoder().encode(`${JSON.stringify(file)}\n`));
}

function entriesOf(map: RawMap): [string, string][] {
  try {
    return Array.from(map.entries(), ([key, value]) => [hex(key), hex(value)]);
  } catch (error) {
    // Write-only, or without iteration.
    if (error instanceof SwitchyardError) return [];
    throw error;
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What a snapshot holds, to look at and to change in memory. */
export interface Snapshot extends Held {
  /** Writes it back. */
  save(): void;
}

/** @throws UsageError `unreadable_file`, `bad_snapshot`; ObjectError for its BTF */
export function openSnapshot(path: string): Snapshot {
  const file = parse(path);
  let btf: Btf | undefined;
  if (file.btf !== null) btf = parseBtf(Uint8Array.from(Buffer.from(file.btf, 'base64')));
  const maps = new Map(file.maps.map(saved => [saved.name, new SavedRawMap(saved, path)]));
  const progArrays = new Map(
    file.maps.flatMap(({ name, programs }) =>
      programs ? [[name, new Map(programs.map(([index, program]) => [index, { name: program }]))] as const] : [],
    ),
  );
  return {
    maps,
    progArrays,
    collection: { btf },
    map: name => {
      const map = maps.get(name);
      if (map) return map;
      throw new UsageError(
        'bad_usage',
        `no map is named ${name}; ${path} has ${[...maps.keys()].join(', ') || 'none'}`,
        {
          name,
        },
      );
    },
    save: () =>
      writeFile(path, {
        ...file,
        maps: file.maps.map(saved => ({ ...saved, entries: entriesOf(maps.get(saved.name)!) })),
      }),
  };
}

function parse(path: string): SavedFile {
  const bad = (why: string, cause?: unknown): UsageError =>
    new UsageError('bad_snapshot', `${path} is no file that --save-maps wrote: ${why}`, { path }, { cause });
  const bytes = readBytes(path, 'snapshot');
  let file: SavedFile;
  try {
    file = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as SavedFile;
  } catch (cause) {
    throw bad('it is no JSON', cause);
  }
  if (typeof file !== 'object' || file?.format !== FORMAT) throw bad(`it has no "format": "${FORMAT}"`);
  if (file.version !== VERSION) throw bad(`it has version ${String(file.version)}, this program knows ${VERSION}`);
  if (!Array.isArray(file.maps) || (file.btf !== null && typeof file.btf !== 'string')) {
    throw bad('"maps" should be an array, "btf" a string or null');
  }
  for (const map of file.maps) {
    const isMap =
      typeof map === 'object' &&
      typeof map?.name === 'string' &&
      typeof map.type === 'string' &&
      [map.keySize, map.valueSize, map.maxEntries, map.flags].every(each => Number.isSafeInteger(each) && each >= 0) &&
      [map.btfKeyId, map.btfValueId].every(each => each === undefined || (Number.isSafeInteger(each) && each >= 0)) &&
      isPairs(map.entries, ['string', 'string']) &&
      (map.programs === undefined || isPairs(map.programs, ['number', 'string']));
    if (!isMap) throw bad(`its map ${JSON.stringify(map?.name) ?? ''} lacks something`);
  }
  return file;
}

function isPairs(value: unknown, types: readonly [string, string]): boolean {
  return (
    Array.isArray(value) &&
    value.every(pair => Array.isArray(pair) && pair.length === 2 && pair.every((each, i) => typeof each === types[i]))
  );
}

/** Arrays that have all their entries from the start, and those whose entries are set and deleted. */
const DENSE: ReadonlySet<string> = new Set(['array', 'percpu_array']);
const SPARSE: ReadonlySet<string> = new Set(['devmap', 'cpumap', 'xskmap', 'perf_event_array']);

/** A saved map, with the rules of the real ones for what user space may do. */
class SavedRawMap implements RawMap {
  readonly spec: MapSpec;
  readonly #entries = new Map<string, Uint8Array>();
  /** Per-CPU values have as many as there were; 0 while none is known. */
  #valueBytes: number;

  constructor({ entries, programs: _, ...spec }: SavedMap, path: string) {
    this.spec = { ...spec, contents: [] };
    this.#valueBytes = PER_CPU.has(spec.type) ? 0 : spec.valueSize;
    for (const [key, value] of entries) {
      const bytes = Uint8Array.from(Buffer.from(value, 'hex'));
      const isValue = this.#valueBytes === 0 || bytes.length === this.#valueBytes;
      if (key.length !== 2 * spec.keySize || value.length !== 2 * bytes.length || !isValue || !/^[\da-f]*$/.test(key)) {
        throw new UsageError(
          'bad_snapshot',
          `${path}: an entry of map ${spec.name} has not the size of its keys and values`,
          {
            map: spec.name,
          },
        );
      }
      this.#valueBytes = bytes.length;
      this.#entries.set(key, bytes);
    }
  }

  /** CPUs of per-CPU values, 0 where there are none to tell. */
  get cpus(): number {
    return this.#valueBytes / (Math.ceil(this.spec.valueSize / 8) * 8);
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    return this.#entries.get(this.#key(key))?.slice();
  }

  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    const name = this.#key(key);
    const present = this.#entries.has(name);
    const { type, maxEntries } = this.spec;
    this.#writable();
    if (this.#valueBytes !== 0 && value.length !== this.#valueBytes) {
      throw this.#error('bad_value_size', 'EINVAL', `values have ${this.#valueBytes} bytes, not ${value.length}`);
    }
    if (flags === UpdateFlag.noExist && present) throw this.#error('key_exists', 'EEXIST', 'the key is there already');
    const outside = SPARSE.has(type) && new DataView(key.buffer, key.byteOffset).getUint32(0, true) >= maxEntries;
    if (outside || (DENSE.has(type) && !present)) {
      throw this.#error('index_out_of_range', 'E2BIG', `the index is not below max_entries, ${maxEntries}`);
    }
    if (flags === UpdateFlag.exist && !present) throw this.#error('no_such_key', 'ENOENT', 'there is no such key');
    if (!present && this.#entries.size >= maxEntries) {
      throw this.#error('map_full', 'E2BIG', `the map holds max_entries elements, ${maxEntries}; delete some first`);
    }
    this.#entries.set(name, value.slice());
  }

  delete(key: Uint8Array): void {
    const name = this.#key(key);
    this.#writable();
    if (DENSE.has(this.spec.type)) {
      throw this.#error('invalid_operation', 'EINVAL', 'entries of an array can be changed, not deleted');
    }
    if (!this.#entries.delete(name)) throw this.#error('no_such_key', 'ENOENT', 'there is no such key');
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    const names = [...this.#entries.keys()];
    const next = names[key === undefined ? 0 : names.indexOf(this.#key(key)) + 1];
    return next === undefined ? undefined : Uint8Array.from(Buffer.from(next, 'hex'));
  }

  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    for (const [name, value] of this.#entries) yield [Uint8Array.from(Buffer.from(name, 'hex')), value.slice()];
  }

  #key(key: Uint8Array): string {
    if (key.length === this.spec.keySize) return hex(key);
    throw this.#error('bad_key_size', 'EINVAL', `keys have ${this.spec.keySize} bytes, not ${key.length}`);
  }

  #writable(): void {
    if (!NOT_SAVED.has(this.spec.type) && this.spec.frozen !== true) return;
    throw this.#error('not_permitted', 'EPERM', 'constants, programs and maps in maps are saved to be looked at only');
  }

  #error(code: ConstructorParameters<typeof MapError>[0], errno: Errno, why: string): MapError {
    return new MapError(code, errno, `saved map ${this.spec.name} (${this.spec.type}): ${why}`, {
      map: this.spec.name,
    });
  }
}

/**
 * Puts what was saved into the maps of an object; what they held before is overwritten or stays.
 * @returns names of saved maps that were left out: the object has none of that name, or they hold programs, maps or constants
 * @throws UsageError `bad_snapshot` where a map is not like the saved one; MapError
 */
export function loadMaps(path: string, object: LoadedObject, cpus: number): string[] {
  const snapshot = openSnapshot(path);
  const left: string[] = [];
  for (const [name, saved] of snapshot.maps as ReadonlyMap<string, SavedRawMap>) {
    const map = object.maps.get(name);
    if (!map || NOT_SAVED.has(map.spec.type) || map.spec.frozen || map.spec.keySize === 0) {
      left.push(name);
      continue;
    }
    for (const field of ['type', 'keySize', 'valueSize'] as const) {
      if (map.spec[field] === saved.spec[field]) continue;
      throw new UsageError(
        'bad_snapshot',
        `map ${name} has ${field} ${map.spec[field]}, in ${path} it is ${saved.spec[field]}; take a snapshot of this object`,
        { map: name, field },
      );
    }
    const perCpu = PER_CPU.has(map.spec.type);
    if (perCpu && saved.cpus > cpus) {
      throw new UsageError(
        'bad_snapshot',
        `map ${name} was saved with values of ${saved.cpus} CPUs, here are ${cpus}; use --workers ${saved.cpus - 1}`,
        { map: name, cpus },
      );
    }
    const bytes = Math.ceil(map.spec.valueSize / 8) * 8 * cpus;
    for (const [key, value] of saved.entries()) {
      // CPUs that were not there have counted nothing.
      const all = perCpu ? Uint8Array.from({ length: bytes }, (_, i) => value[i] ?? 0) : value;
      map.update(key, all);
    }
  }
  return left;
}
