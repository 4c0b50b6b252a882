/**
 * cgroup_storage and its per-CPU form: a value that programs reach without a lookup, one for each cgroup that they are attached to.
 *
 * Nothing is attached here, so there is one storage: the map is an array of one element. To user space it lies at the key of
 * zeros; no other exists, and none can be made or deleted.
 */
import type { MapSpec } from '../object/spec.ts';
import { checkFlags, checkKey, type MapEnv } from './env.ts';
import { MapError } from './errors.ts';
import { UpdateFlag } from './map.ts';
import { type MapObject, RoutineMap } from './routine-map.ts';
import { UPDATE_LOCK } from './uapi.ts';

/** Bytes of a key that count: the cgroup's id, and in keys of 16 bytes the type of attachment; what follows is padding. */
const CGROUP_ONLY = 8;
const CGROUP_AND_TYPE = 12;

export class CgroupStorage extends RoutineMap {
  readonly #zero: Uint8Array;

  /** @param object an array of one element */
  constructor(spec: MapSpec, env: MapEnv, object: MapObject) {
    super(spec, env, object);
    this.#zero = new Uint8Array(spec.keySize);
  }

  override lookup(key: Uint8Array, flags = 0): Uint8Array | undefined {
    const there = this.#is(key);
    // The checks are those of the one key that there is.
    const value = super.lookup(this.#zero, flags);
    return there ? value : undefined;
  }

  override update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    const there = this.#is(key);
    checkFlags(flags);
    if (flags !== UpdateFlag.any && flags !== UpdateFlag.exist && (flags & ~UpdateFlag.exist) !== UPDATE_LOCK)
      throw new MapError(
        'invalid_operation',
        'EINVAL',
        `map ${this.spec.name} takes BPF_EXIST (2) only, not ${flags}`,
        {
          map: this.spec.name,
          flags,
        },
      );
    if (!there && flags <= UpdateFlag.exist)
      throw new MapError('no_such_key', 'ENOENT', `map ${this.spec.name} has one storage, at the key of zeros`, {
        map: this.spec.name,
      });
    super.update(this.#zero, value, flags);
  }

  override delete(key: Uint8Array): void {
    checkKey(this.spec, key);
    super.delete(this.#zero);
  }

  override nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    if (key !== undefined) checkKey(this.spec, key);
    const first = super.nextKey(undefined);
    return key === undefined ? first : undefined;
  }

  #is(key: Uint8Array): boolean {
    checkKey(this.spec, key);
    return key.subarray(0, key.length > CGROUP_ONLY ? CGROUP_AND_TYPE : CGROUP_ONLY).every(byte => byte === 0);
  }
}
