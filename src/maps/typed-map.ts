/**
 * A map as JavaScript knows maps: keys and values are plain objects by the map's BTF (`object/btf-codec.ts`). The bytes stay at hand
 * as `raw`.
 *
 * Where the object has no BTF for a key or value, 4 bytes are a number, 8 a bigint (unsigned), others a Uint8Array. Per-CPU maps
 * have an array of values, one per CPU. The values of maps of maps are typed maps; those of prog arrays are ids, to be looked at.
 */
import { check } from '../arguments.ts';
import type { Btf } from '../object/btf.ts';
import { btfCodec } from '../object/btf-codec.ts';
import { isBtf } from '../object/check.ts';
import { ObjectError } from '../object/errors.ts';
import { type LookedUp, lookupAndDeleteBatch, lookupBatch, remove } from './batch.ts';
import { roundUp } from './env.ts';
import { MapError } from './errors.ts';
import { isPerCpu } from './families.ts';
import type { BpfMap } from './map.ts';
import { UpdateFlag } from './map.ts';

/** Bytes of one key or value and what they mean. */
export interface ValueCodec<T> {
  readonly size: number;
  decode(bytes: Uint8Array): T;
  encode(value: unknown): Uint8Array;
}

/** What a typed map stands on; a map in the kernel will do. */
export type RawMap = Pick<BpfMap, 'spec' | 'lookup' | 'update' | 'delete' | 'nextKey' | 'entries'>;

/** For `TypedMap.set`: any, only a new key, only one that is there. */
export type SetMode = 'any' | 'noExist' | 'exist';

const rawMap = check.record({
  spec: check.record({ name: check.string, type: check.string, keySize: check.u32, valueSize: check.u32 }),
  lookup: check.callable,
  update: check.callable,
  delete: check.callable,
  nextKey: check.callable,
  entries: check.callable,
});
const contextShape = check.options({ btf: isBtf, mapById: check.callable, putInner: check.callable });
const modeCheck = check.oneOf('any', 'noExist', 'exist');

function flagOf(mode: SetMode): number {
  modeCheck(mode, 'mode');
  return UpdateFlag[mode];
}

function pair<K, V>(entry: readonly [K, V]): readonly [K, V] {
  check.array(entry, 'an entry');
  return entry;
}

/**
 * @typeParam K, V what is read
 * @typeParam KeyInput, ValueInput what may be given: of a union one member is enough, for instance
 */
export class TypedMap<K = unknown, V = unknown, KeyInput = K, ValueInput = V> implements Iterable<[K, V]> {
  readonly raw: RawMap;
  readonly #key: ValueCodec<K>;
  readonly #value: ValueCodec<V>;

  /** Use `LoadedObject.typedMap`, or `typedMap` for maps in the kernel. */
  constructor(raw: RawMap, key: ValueCodec<K>, value: ValueCodec<V>) {
    this.raw = raw;
    this.#key = key;
    this.#value = value;
  }

  /** The bytes of a key, for `raw`. @throws ObjectError where it does not fit its type */
  keyBytes(key: KeyInput): Uint8Array {
    return this.#key.encode(key);
  }

  /** The bytes of a value. @throws ObjectError where it does not fit its type */
  valueBytes(value: ValueInput): Uint8Array {
    return this.#value.encode(value);
  }

  /**
   * @returns undefined where there is no such key
   * @throws ObjectError where `key` is none (`missing_field`, `value_out_of_range`, ...); MapError as `BpfMap.lookup`
   */
  get(key: KeyInput): V | undefined {
    const bytes = this.raw.lookup(this.#key.encode(key));
    return bytes && this.#value.decode(bytes);
  }

  has(key: KeyInput): boolean {
    return this.raw.lookup(this.#key.encode(key)) !== undefined;
  }

  /**
   * @param mode default: whether or not the key is there
   * @throws ObjectError where key or value do not fit their types; MapError as `BpfMap.update`
   */
  set(key: KeyInput, value: ValueInput, mode: SetMode = 'any'): this {
    this.raw.update(this.#key.encode(key), this.#value.encode(value), flagOf(mode));
    return this;
  }

  /**
   * @returns false where there is no such key
   * @throws MapError as `BpfMap.delete`, but for ENOENT
   */
  delete(key: KeyInput): boolean {
    return remove(this.raw, this.#key.encode(key));
  }

  /** As `BpfMap.entries`: while others change the map, what comes and goes may or may not be seen. */
  *entries(): IterableIterator<[K, V]> {
    for (const [key, value] of this.raw.entries()) yield [this.#key.decode(key), this.#value.decode(value)];
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.entries();
  }

  *keys(): IterableIterator<K> {
    for (const [key] of this.raw.entries()) yield this.#key.decode(key);
  }

  *values(): IterableIterator<V> {
    for (const [, value] of this.raw.entries()) yield this.#value.decode(value);
  }

  /** The values of these keys, undefined for those that are not there. */
  getMany(keys: Iterable<KeyInput>): (V | undefined)[] {
    check.iterable(keys, 'keys');
    return Array.from(keys, key => this.get(key));
  }

  /**
   * Sets them in turn. All are encoded before the first is set.
   * @returns how many
   * @throws as `set`; a MapError has `details.done`, the number that were set
   */
  setMany(entries: Iterable<readonly [KeyInput, ValueInput]>, mode: SetMode = 'any'): number {
    check.iterable(entries, 'entries');
    const flags = flagOf(mode);
    const encoded = Array.from(entries, entry => {
      const [key, value] = pair(entry);
      return [this.#key.encode(key), this.#value.encode(value)] as const;
    });
    let done = 0;
    try {
      for (; done < encoded.length; done++) this.raw.update(...encoded[done]!, flags);
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      throw new MapError(error.code, error.errno, error.message, { ...error.details, done }, { cause: error });
    }
    return done;
  }

  /** @returns how many of them were there */
  deleteMany(keys: Iterable<KeyInput>): number {
    check.iterable(keys, 'keys');
    return Array.from(keys, key => this.#key.encode(key)).reduce((sum, key) => sum + Number(remove(this.raw, key)), 0);
  }

  /**
   * Takes at most `count` entries out of the map: what a consumer of counters does. Hash types only.
   * @throws MapError `invalid_operation` (ENOTSUPP) for other types
   */
  takeMany(count = Number.MAX_SAFE_INTEGER): [K, V][] {
    check.natural(count, 'count');
    const most = Math.min(count, this.raw.spec.maxEntries);
    return this.#decoded(lookupAndDeleteBatch(this.raw, most));
  }

  /**
   * Pages of at most `count` entries, for maps too large to hold at once.
   * @throws MapError `invalid_operation` (ENOTSUPP) where the type has no batches
   */
  *pages(count: number): IterableIterator<[K, V][]> {
    let page: LookedUp = { entries: [], cursor: undefined };
    do {
      page = lookupBatch(this.raw, count, page.cursor);
      if (page.entries.length > 0) yield this.#decoded(page.entries);
    } while (page.cursor !== undefined);
  }

  #decoded(entries: LookedUp['entries']): [K, V][] {
    return entries.map(([key, value]) => [this.#key.decode(key), this.#value.decode(value)]);
  }
}

/** What is around a map: the BTF that `btfKeyId` and `btfValueId` refer to, and other maps. */
export interface TypedMapContext {
  readonly btf: Btf | undefined;
  /** The map of an id, for the values of maps of maps. */
  readonly mapById?: (id: number) => RawMap | undefined;
  /** Puts a map into a map of maps. */
  readonly putInner?: (outer: RawMap, key: Uint8Array, inner: RawMap, flags: number) => void;
}

/**
 * A typed view of a map, ours or the kernel's.
 * @throws ObjectError `bad_value` where the BTF does not fit the map; MapError `invalid_operation` for maps without keys
 */
export function typedMap<K = unknown, V = unknown, KeyInput = K, ValueInput = V>(
  map: RawMap,
  context: TypedMapContext,
): TypedMap<K, V, KeyInput, ValueInput> {
  rawMap(map, 'map');
  contextShape(context, 'context');
  const { btf } = context;
  const { name, type, keySize, valueSize, btfKeyId, btfValueId } = map.spec;
  if (keySize === 0) {
    throw new MapError(
      'invalid_operation',
      'EINVAL',
      `map ${name} (${type}) has no keys, so no entries to get by key`,
      { map: name, type },
    );
  }
  const key = valueCodec(btf, btfKeyId, keySize, `key of map ${name}`) as ValueCodec<K>;
  if (type === 'array_of_maps' || type === 'hash_of_maps') {
    return new TypedMapOfMaps(map, key, context) as unknown as TypedMap<K, V, KeyInput, ValueInput>;
  }
  const value = valueCodec(btf, btfValueId, valueSize, `value of map ${name}`);
  return new TypedMap(map, key, (isPerCpu(type) ? perCpuCodec(value, name) : value) as ValueCodec<V>);
}

/** Values are maps: their ids on the way out, the maps themselves on the way in. */
class TypedMapOfMaps<K> extends TypedMap<K, TypedMap | undefined> {
  readonly #key: ValueCodec<K>;
  readonly #context: TypedMapContext;

  constructor(raw: RawMap, key: ValueCodec<K>, context: TypedMapContext) {
    const innerOf = (bytes: Uint8Array): TypedMap | undefined => {
      const inner = context.mapById?.(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
      return inner && typedMap(inner, context);
    };
    const noBytes = (): never => {
      throw new MapError('needs_map', 'EBADF', `values of map ${raw.spec.name} are maps: use set with one`, {
        map: raw.spec.name,
      });
    };
    super(raw, key, { size: 4, decode: innerOf, encode: noBytes });
    this.#key = key;
    this.#context = context;
  }

  override set(key: K, value: TypedMap | undefined, mode: SetMode = 'any'): this {
    const { putInner } = this.#context;
    if (!(value instanceof TypedMap) || !putInner) {
      throw new MapError('needs_map', 'EBADF', `a value of map ${this.raw.spec.name} is a typed map of this runtime`, {
        map: this.raw.spec.name,
      });
    }
    putInner(this.raw, this.#key.encode(key), value.raw, flagOf(mode));
    return this;
  }

  override setMany(entries: Iterable<readonly [K, TypedMap | undefined]>, mode: SetMode = 'any'): number {
    check.iterable(entries, 'entries');
    let done = 0;
    for (const entry of entries) {
      const [key, value] = pair(entry);
      this.set(key, value, mode);
      done++;
    }
    return done;
  }
}

/** How one key or value is read and written. `what` names it in errors. */
function valueCodec(btf: Btf | undefined, id: number | undefined, size: number, what: string): ValueCodec<unknown> {
  if (btf === undefined || id === undefined || id === 0) return plainCodec(size, what);
  const codec = btfCodec<unknown>(btf, id);
  if (codec.size === size) return codec;
  throw new ObjectError('bad_value', `the ${what} has ${size} bytes, its BTF type ${codec.size}`, { type: id });
}

function plainCodec(size: number, what: string): ValueCodec<unknown> {
  const bad = (expected: string): ObjectError =>
    new ObjectError('wrong_value_type', `expected for the ${what}, which has no BTF: ${expected}`, {});
  const fits = (value: unknown, limit: bigint): value is number | bigint =>
    (typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))) &&
    value >= 0n &&
    value < limit;
  const bytesOnly = (value: unknown): Uint8Array => {
    if (value instanceof Uint8Array && value.length === size) return value;
    const integer = size === 4 ? 'an integer below 2^32, or ' : size === 8 ? 'a bigint below 2^64, or ' : '';
    throw bad(`${integer}a Uint8Array of ${size} bytes`);
  };
  if (size === 4) {
    return {
      size,
      decode: bytes => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true),
      encode: value =>
        fits(value, 1n << 32n) ? new Uint8Array(Uint32Array.of(Number(value)).buffer) : bytesOnly(value),
    };
  }
  if (size === 8) {
    return {
      size,
      decode: bytes => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true),
      encode: value =>
        fits(value, 1n << 64n) ? new Uint8Array(BigUint64Array.of(BigInt(value)).buffer) : bytesOnly(value),
    };
  }
  return { size, decode: bytes => bytes, encode: bytesOnly };
}

/** All CPUs' values, each rounded up to 8 bytes. */
function perCpuCodec(one: ValueCodec<unknown>, name: string): ValueCodec<unknown[]> {
  const stride = roundUp(one.size, 8);
  return {
    size: stride,
    decode: bytes =>
      Array.from({ length: bytes.length / stride }, (_, cpu) =>
        one.decode(bytes.slice(cpu * stride, cpu * stride + one.size)),
      ),
    encode: values => {
      if (!Array.isArray(values)) {
        throw new ObjectError(
          'wrong_value_type',
          `a value of map ${name} is an array, one value per CPU, not of type ${typeof values}`,
        );
      }
      // That there are as many as CPUs is for the map to say.
      const bytes = new Uint8Array(stride * values.length);
      for (const [cpu, value] of values.entries()) bytes.set(one.encode(value), cpu * stride);
      return bytes;
    },
  };
}
