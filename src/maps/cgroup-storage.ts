/**
 * cgroup_storage and its per-CPU form: a value that programs reach without a lookup, one for each cgroup that they are attached to.
 *
 * Nothing is attached here, so there is one storage: the map is an array of one element. To user space it lies at the key of
 * zeros; no other exists, and none can be made or deleted.
 */
import type { MapSpec } from '../object/spec.ts';
import type { MapEnv } from './env.ts';
import { MapError } from './errors.ts';
import { UpdateFlag } from './map.ts';
import { type MapObject, RoutineMap } from './routine-map.ts';

const isZero = (key: Uint8Array): boolean => key.every(byte => byte === 0);

export class CgroupStorage extends RoutineMap {
  /** @param object an array of one element */
  constructor(spec: MapSpec, env: MapEnv, object: MapObject) {
    super(spec, env, object);
  }

  override lookup(key: Uint8Array, flags = 0): Uint8Array | undefined {
    // The checks are those of the one key that there is.
    const value = super.lookup(isZero(key) ? key : new Uint8Array(key.length), flags);
    return isZero(key) ? value : undefined;
  }

  override update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    if (flags === UpdateFlag.noExist)
      throw new MapError('invalid_operation', 'EINVAL', `map ${this.spec.name}: its storage is made with the map`, {
        map: this.spec.name,
        flags,
      });
    if (key.length === this.spec.keySize && !isZero(key))
      throw new MapError('no_such_key', 'ENOENT', `map ${this.spec.name} has one storage, at the key of zeros`, {
        map: this.spec.name,
      });
    super.update(key, value, flags);
  }
}
