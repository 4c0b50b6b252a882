/**
 * Array of maps and hash of maps. A value is the address of the inner map's object, which is what a program's lookup gives; user
 * space reads the inner map's id, and sets an entry by map.
 *
 * The entries lie in an array or hash of 8-byte values. Inner maps are not owned: whoever disposes of one takes it out first.
 */
import { MapHeader } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { checkKey, type MapEnv } from './env.ts';
import { MapError } from './errors.ts';
import { type BpfMap, UpdateFlag } from './map.ts';
import type { RoutineMap } from './routine-map.ts';
import { MAP_TYPE, MapFlag } from './uapi.ts';

const POINTER = 8;

/** The map that holds the addresses of a map of maps. */
export function storageSpec(spec: MapSpec): MapSpec {
  return { ...spec, type: spec.type === 'array_of_maps' ? 'array' : 'hash', valueSize: POINTER };
}

export class MapOfMaps implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress = 0n;
  readonly #env: MapEnv;
  readonly #storage: RoutineMap;

  /** @param storage made of `storageSpec(spec)` */
  constructor(spec: MapSpec, env: MapEnv, storage: RoutineMap) {
    this.spec = spec;
    this.id = env.id;
    this.#env = env;
    this.#storage = storage;
    this.address = storage.address;
    const offset = env.arena.offset(storage.address, MapHeader.size);
    env.arena.view.setUint32(offset + MapHeader.type, MAP_TYPE[spec.type], true);
  }

  get memoryUsage(): number {
    return this.#storage.memoryUsage;
  }

  /**
   * Puts a map in, in place of what the entry holds. Programs that looked the old one up go on with it.
   * @param flags arrays: 0 only; hashes: as for any hash
   * @throws MapError `inner_mismatch` (EINVAL) where the map differs from the inner map definition
   */
  set(key: Uint8Array, inner: BpfMap, flags = 0): void {
    if (this.spec.type === 'array_of_maps') {
      if (flags !== UpdateFlag.any) {
        throw new MapError('invalid_operation', 'EINVAL', `array of maps ${this.spec.name} takes no update flags`, {
          flags,
        });
      }
      this.#checkIndex(key);
    }
    this.#checkInner(inner.spec);
    this.#storage.update(key, pointerBytes(inner.address), flags);
  }

  /** @returns the inner map's id, 4 bytes */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = this.#storage.lookup(key);
    if (value === undefined) return undefined;
    const address = new DataView(value.buffer).getBigUint64(0, true);
    if (address === 0n) return undefined;
    const offset = this.#env.arena.offset(address, MapHeader.size) + MapHeader.id;
    return this.#env.arena.bytes.slice(offset, offset + 4);
  }

  update(_key: Uint8Array, _value: Uint8Array, _flags = 0): void {
    throw new MapError(
      'needs_map',
      'EBADF',
      `an entry of ${this.spec.name} can't be set by bytes: set it by map, with MapOfMaps.set`,
      { map: this.spec.name },
    );
  }

  delete(key: Uint8Array): void {
    if (this.spec.type === 'hash_of_maps') {
      this.#storage.delete(key);
      return;
    }
    const present = this.lookup(key) !== undefined;
    // Also where it is absent: the array tells an index out of range.
    this.#storage.update(key, pointerBytes(0n));
    if (!present) {
      throw new MapError('no_such_key', 'ENOENT', `the entry of ${this.spec.name} is empty`, { map: this.spec.name });
    }
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    return this.#storage.nextKey(key);
  }

  /** The entries that are set. */
  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    for (const [key] of this.#storage.entries()) {
      const id = this.lookup(key);
      if (id !== undefined) yield [key, id];
    }
  }

  freeze(): void {
    this.#storage.freeze();
  }

  dispose(): void {
    this.#storage.dispose();
  }

  /** Before the inner map is looked at, as in the kernel. */
  #checkIndex(key: Uint8Array): void {
    checkKey(this.spec, key);
    const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
    if (index < this.spec.maxEntries) return;
    throw new MapError(
      'index_out_of_range',
      'E2BIG',
      `map ${this.spec.name}: index ${index} is not below max_entries, ${this.spec.maxEntries}`,
      { map: this.spec.name, index },
    );
  }

  #checkInner(actual: MapSpec): void {
    const template = this.spec.inner!;
    const differences: string[] = [];
    const compare = (what: string, theirs: unknown, ours: unknown): void => {
      if (theirs !== ours) differences.push(`its ${what} is ${theirs}, the definition's is ${ours}`);
    };
    compare('type', actual.type, template.type);
    compare('key size', actual.keySize, template.keySize);
    compare('value size', actual.valueSize, template.valueSize);
    compare('flags', actual.flags, template.flags);
    // Compiled code embeds the size of an array, unless it was declared BPF_F_INNER_MAP.
    if (template.type === 'array' && (template.flags & MapFlag.innerMap) === 0) {
      compare('max_entries', actual.maxEntries, template.maxEntries);
    }
    if (differences.length > 0) {
      throw new MapError(
        'inner_mismatch',
        'EINVAL',
        `map ${actual.name} does not match the inner map definition of ${this.spec.name}: ${differences.join('; ')}`,
        { map: this.spec.name, inner: actual.name },
      );
    }
  }
}

function pointerBytes(address: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(address).buffer);
}
