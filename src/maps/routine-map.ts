/**
 * A map whose operations are trusted routines: array, hash and their per-CPU forms. JS stages key and value in a block of the
 * arena and calls the same code that programs call, so each operation has one body.
 */
import { HashLayout, MapHeader } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { Access, checkFlags, checkKey, checkLookupFlags, checkValue, lockOffset, type MapEnv, roundUp } from './env.ts';
import { ERRNO, type Errno, errnoName, MapError, type MapErrorCode } from './errors.ts';
import { familyOf, isLru, isPerCpu } from './families.ts';
import { type BpfMap, UpdateFlag } from './map.ts';
import { checkDevice } from './target-array.ts';
import { MapFlag, UPDATE_LOCK } from './uapi.ts';

/** A map object in the arena, as the functions that lay out each type return it. */
export interface MapObject {
  /** Where the object starts. */
  readonly offset: number;
  /** All blocks of the arena that belong to it. */
  readonly blocks: readonly number[];
  /** Sum of their sizes, bytes. */
  readonly bytes: number;
  /** Address of the first value of an array, of the first CPU if there is one for each; else 0. */
  readonly valuesAddress: bigint;
}

export class RoutineMap implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress: bigint;
  readonly #env: MapEnv;
  readonly #object: MapObject;
  readonly #access: Access;
  /** Names of the routines, made once: to put one together takes longer than to run it. */
  readonly #routines: Readonly<Record<'lookup' | 'update' | 'delete' | 'nextKey', string>>;
  /** Offset of the spin lock in a value, undefined without one. */
  readonly #lock: number | undefined;
  readonly #perCpu: boolean;
  /** All entries exist from the start. */
  readonly #fixed: boolean;
  /** Bytes of a value as user space sees it: per-CPU types all CPUs' values, each rounded up to 8. */
  readonly #valueBytes: number;
  /** Block for key, next key and value, made at first use; 0 before. */
  #staging = 0;
  #stagedKey = 0n;
  #stagedValue = 0n;

  constructor(spec: MapSpec, env: MapEnv, object: MapObject) {
    this.spec = spec;
    this.id = env.id;
    this.#env = env;
    this.#object = object;
    this.#access = new Access(spec, env);
    this.address = env.arena.address(object.offset);
    this.valuesAddress = object.valuesAddress;
    this.#perCpu = isPerCpu(spec.type);
    const family = familyOf(spec.type);
    const ofAllCpus = this.#perCpu ? '_percpu' : '';
    this.#routines = {
      // What user space reads does not count as used.
      lookup: `${isLru(spec.type) ? family.slice('lru_'.length) : family}_lookup${ofAllCpus}`,
      update: `${family}_update${ofAllCpus}`,
      delete: `${family}_delete`,
      nextKey: `${family}_next_key`,
    };
    this.#lock = lockOffset(spec);
    this.#fixed = spec.type.endsWith('array');
    this.#valueBytes = this.#perCpu ? env.cpus * roundUp(spec.valueSize, 8) : spec.valueSize;
  }

  /**
   * With BPF_F_NO_PREALLOC elements take memory only once they were first used. (They keep it, and where another map lay there
   * before the memory was held already.)
   */
  get memoryUsage(): number {
    const { offset } = this.#object;
    const bytes = this.#object.bytes + (this.#staging === 0 ? 0 : this.#stagingBytes);
    if (this.#fixed || (this.spec.flags & MapFlag.noPrealloc) === 0) return bytes;
    const { view } = this.#env.arena;
    const values = this.#perCpu ? this.#valueBytes : 0;
    const used = Math.min(
      view.getUint32(offset + HashLayout.used, true),
      view.getUint32(offset + HashLayout.pool, true),
    );
    const unused = view.getUint32(offset + HashLayout.pool, true) - used;
    return bytes - unused * (view.getUint32(offset + MapHeader.stride, true) + values);
  }

  get frozen(): boolean {
    return this.#access.frozen;
  }

  lookup(key: Uint8Array, flags = 0): Uint8Array | undefined {
    this.#access.read();
    checkLookupFlags(this.spec, flags);
    const keyAddress = this.#stageKey(key);
    const { routines } = this.#env;
    const value = this.#perCpu
      ? routines.call(this.#routines.lookup, this.address, keyAddress, 0n)
      : routines.call(this.#routines.lookup, this.address, keyAddress);
    if (value === 0n) return undefined;
    const lock = this.#lock;
    return lock === undefined ? this.#read(value) : this.#readGuarded(value, lock, flags === UPDATE_LOCK);
  }

  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    this.#access.write();
    const keyAddress = this.#stageKey(key);
    checkValue(this.spec, this.#valueBytes, value);
    checkFlags(flags);
    if (Math.floor(flags / UPDATE_LOCK) % 2 === 1 && this.#lock === undefined) {
      throw new MapError(
        'invalid_operation',
        'EINVAL',
        `update of map ${this.spec.name} with BPF_F_LOCK: its values hold no spin lock`,
        { map: this.spec.name, flags },
      );
    }
    if (this.spec.type === 'devmap_hash') this.#checkDevice(value, flags);
    const { arena, routines } = this.#env;
    arena.bytes.set(value, this.#staging + 2 * roundUp(this.spec.keySize, 8));
    const result = routines.call(
      this.#routines.update,
      this.address,
      keyAddress,
      this.#stagedValue,
      // The kernel's devmap_hash makes a new entry even where BPF_EXIST asks for an old one.
      this.spec.type === 'devmap_hash' && flags === UpdateFlag.exist ? 0n : BigInt(flags),
    );
    if (result !== 0n) this.#check(result, `update with flags ${flags}`);
  }

  delete(key: Uint8Array): void {
    this.#access.write();
    this.#check(this.#env.routines.call(this.#routines.delete, this.address, this.#stageKey(key)), 'delete');
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    this.#access.read();
    const { arena, routines } = this.#env;
    const keyAddress = key === undefined ? 0n : this.#stageKey(key);
    const next = this.#stage() + roundUp(this.spec.keySize, 8);
    const result = BigInt.asIntN(
      64,
      routines.call(this.#routines.nextKey, this.address, keyAddress, arena.address(next)),
    );
    if (result === -BigInt(ERRNO.ENOENT)) return undefined;
    this.#check(result, 'next key');
    return arena.bytes.slice(next, next + this.spec.keySize);
  }

  /**
   * All entries, in the order of nextKey. Entries that come or go meanwhile may or may not be seen; none is seen twice, and the
   * iteration ends even if other threads keep changing the map.
   */
  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    // A key that is deleted under the iteration sends it back to the start (as in the kernel), so remember what was seen.
    const seen = this.#fixed ? undefined : new Set<string>();
    const text = new TextDecoder('latin1');
    let again = 0;
    for (let key = this.nextKey(undefined); key !== undefined; key = this.nextKey(key)) {
      if (seen !== undefined) {
        const name = text.decode(key);
        if (seen.has(name)) {
          if (++again > this.spec.maxEntries) return;
          continue;
        }
        seen.add(name);
      }
      const value = this.lookup(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /** From now on user space can't change the map (BPF_MAP_FREEZE). */
  freeze(): void {
    this.#access.freeze();
  }

  dispose(): void {
    if (!this.#access.dispose()) return;
    const { arena } = this.#env;
    for (const block of this.#object.blocks) arena.free(block);
    if (this.#staging !== 0) arena.free(this.#staging);
  }

  #checkDevice(value: Uint8Array, flags: number): void {
    checkDevice(this.spec, value);
    if (flags <= UpdateFlag.exist && value[0] === 0 && value[1] === 0 && value[2] === 0 && value[3] === 0) {
      throw new MapError('invalid_operation', 'EINVAL', `map ${this.spec.name}: no interface has the number 0`, {
        map: this.spec.name,
      });
    }
  }

  #stage(): number {
    if (this.#staging === 0) {
      const { arena } = this.#env;
      const keys = 2 * roundUp(this.spec.keySize, 8);
      this.#staging = arena.allocate(this.#stagingBytes);
      this.#stagedKey = arena.address(this.#staging);
      this.#stagedValue = arena.address(this.#staging + keys);
    }
    return this.#staging;
  }

  get #stagingBytes(): number {
    return 2 * roundUp(this.spec.keySize, 8) + this.#valueBytes;
  }

  #stageKey(key: Uint8Array): bigint {
    checkKey(this.spec, key);
    const offset = this.#stage();
    this.#env.arena.bytes.set(key, offset);
    return this.#stagedKey;
  }

  /** Copies a value that holds a spin lock; whether it is taken is nobody's business. */
  #readGuarded(address: bigint, lock: number, take: boolean): Uint8Array {
    const { routines } = this.#env;
    if (take) routines.call('bpf_spin_lock', address + BigInt(lock));
    const value = this.#read(address);
    if (take) routines.call('bpf_spin_unlock', address + BigInt(lock));
    new DataView(value.buffer).setUint32(lock, 0, true);
    return value;
  }

  /** Copies what lookups give: the value at `address`, or one per CPU from there on. */
  #read(address: bigint): Uint8Array {
    const { arena, cpus } = this.#env;
    const { valueSize } = this.spec;
    if (!this.#perCpu) {
      const from = arena.offset(address, valueSize);
      return arena.bytes.slice(from, from + valueSize);
    }
    const result = new Uint8Array(this.#valueBytes);
    const stride = arena.view.getBigUint64(this.#object.offset + MapHeader.cpuStride, true);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const from = arena.offset(address + BigInt(cpu) * stride, valueSize);
      result.set(arena.bytes.subarray(from, from + valueSize), cpu * roundUp(valueSize, 8));
    }
    return result;
  }

  #check(result: bigint, operation: string): void {
    const status = BigInt.asIntN(64, result);
    if (status === 0n) return;
    const errno = errnoName(status);
    const [code, why] = this.#explain(errno, operation);
    throw new MapError(code, errno, `${operation} of map ${this.spec.name} (${this.spec.type}): ${why}`, {
      map: this.spec.name,
      type: this.spec.type,
    });
  }

  #explain(errno: Errno, operation: string): [MapErrorCode, string] {
    const array = this.#fixed;
    const { maxEntries } = this.spec;
    switch (errno) {
      case 'EEXIST':
        return ['key_exists', array ? 'every entry of an array exists already' : 'the key is there already'];
      case 'ENOENT':
        return ['no_such_key', 'there is no such key'];
      case 'E2BIG':
        return array
          ? ['index_out_of_range', `the index is not below max_entries, ${maxEntries}`]
          : ['map_full', `the map holds max_entries elements, ${maxEntries}; delete some first`];
      case 'ENOSPC':
        return ['map_full', `the map holds max_entries prefixes, ${maxEntries}; delete some first`];
      case 'ENOMEM':
        return ['map_full', 'no element could be evicted: all are in the hands of other threads'];
      default:
        return [
          'invalid_operation',
          operation === 'delete' ? 'entries of an array can be changed, not deleted' : 'unknown or contradictory flags',
        ];
    }
  }
}
