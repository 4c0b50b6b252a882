/**
 * The kernel's batch commands (BPF_MAP_LOOKUP_BATCH and its kin, since Linux 5.6) over any map: many elements by one call, with the
 * kernel's results where one of them fails.
 *
 * As there: updates and deletions go element by element and stop at the first that fails; how many were done is in the
 * error's `details.done`. Flags other than BPF_F_LOCK are refused. Unlike there, a lookup never fails with ENOSPC: where to go
 * on is a key here, not a bucket that must be read whole.
 */
import { check, describe } from '../arguments.ts';
import type { MapType } from '../object/spec.ts';
import { MapError } from './errors.ts';
import { type BpfMap, UpdateFlag } from './map.ts';
import { UPDATE_LOCK } from './uapi.ts';

/** What a map must be able to do; kernel maps can as well. */
export type BatchMap = Pick<BpfMap, 'spec' | 'lookup' | 'update' | 'delete' | 'nextKey'>;

type Entry = readonly [key: Uint8Array, value: Uint8Array];

export interface LookedUp {
  readonly entries: readonly Entry[];
  /** The last key, to go on `after`; undefined at the end of the map (where the kernel says ENOENT). */
  readonly cursor: Uint8Array | undefined;
}

const HASHES: readonly MapType[] = ['hash', 'percpu_hash', 'lru_hash', 'lru_percpu_hash', 'hash_of_maps'];
const TYPES: Readonly<Record<string, readonly MapType[]>> = {
  lookup: [...HASHES, 'array', 'percpu_array', 'lpm_trie', 'array_of_maps'],
  update: [...HASHES, 'array', 'percpu_array', 'lpm_trie', 'array_of_maps'],
  delete: [...HASHES, 'lpm_trie'],
  'lookup and delete': HASHES,
};

const batchMap = check.record({
  spec: check.record({ type: check.string }),
  lookup: check.callable,
  update: check.callable,
  delete: check.callable,
  nextKey: check.callable,
});

function checkOperation(map: BatchMap, operation: string, flags: number): void {
  batchMap(map, 'map');
  if (!TYPES[operation]!.includes(map.spec.type)) {
    throw new MapError(
      'invalid_operation',
      'ENOTSUPP',
      `map ${map.spec.name}: there is no ${operation} in batches for maps of type ${map.spec.type}`,
      { map: map.spec.name, type: map.spec.type },
    );
  }
  if (flags !== UpdateFlag.any && flags !== UPDATE_LOCK) {
    throw new MapError('invalid_operation', 'EINVAL', `batches take no flag but BPF_F_LOCK, got ${describe(flags)}`, {
      flags,
    });
  }
}

function checkCount(count: number): void {
  if (Number.isInteger(count) && count >= 0 && count <= 0xffff_ffff) return;
  throw new MapError('invalid_operation', 'EINVAL', `count must be a whole number below 2^32, not ${describe(count)}`, {
    count,
  });
}

/**
 * At most `count` elements, in the order of nextKey.
 * @param after the cursor of the batch before; undefined for the first
 * @throws MapError `invalid_operation`, and what lookups of the map throw
 */
export function lookupBatch(map: BatchMap, count: number, after?: Uint8Array, flags = 0): LookedUp {
  checkOperation(map, 'lookup', flags);
  checkCount(count);
  const entries: Entry[] = [];
  let cursor = after;
  while (entries.length < count) {
    const key = map.nextKey(cursor);
    if (key === undefined) return { entries, cursor: undefined };
    cursor = key;
    const value = map.lookup(key);
    // Gone since.
    if (value !== undefined) entries.push([key, value]);
  }
  return { entries, cursor };
}

/**
 * At most `count` elements, which are not in the map any more.
 * @throws as `lookupBatch`
 */
export function lookupAndDeleteBatch(map: BatchMap, count: number, flags = 0): readonly Entry[] {
  checkOperation(map, 'lookup and delete', flags);
  checkCount(count);
  const taken: Entry[] = [];
  while (taken.length < count) {
    const key = map.nextKey(undefined);
    if (key === undefined) break;
    const value = map.lookup(key);
    if (value !== undefined && remove(map, key)) taken.push([key, value]);
  }
  return taken;
}

/** @returns false where there is no such key */
export function remove(map: Pick<BpfMap, 'delete'>, key: Uint8Array): boolean {
  try {
    map.delete(key);
    return true;
  } catch (error) {
    // Ours, or one of the kernel's, which has the errno among its details.
    if ((error as { details?: { errno?: unknown } }).details?.errno !== 'ENOENT') throw error;
    return false;
  }
}

/**
 * @returns how many were done: all
 * @throws MapError of the first that fails, with `details.done`
 */
export function updateBatch(map: BatchMap, entries: Iterable<Entry>, flags = 0): number {
  checkOperation(map, 'update', flags);
  return each(entries, entry => {
    if (!Array.isArray(entry)) check.array(entry, 'an entry');
    map.update(entry[0], entry[1], flags);
  });
}

/** As `updateBatch`; a key that is not there is an error. */
export function deleteBatch(map: BatchMap, keys: Iterable<Uint8Array>, flags = 0): number {
  checkOperation(map, 'delete', flags);
  return each(keys, key => map.delete(key));
}

function each<T>(items: Iterable<T>, act: (item: T) => void): number {
  check.iterable(items, 'what a batch goes over');
  let done = 0;
  for (const item of items) {
    try {
      act(item);
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      throw new MapError(
        error.code,
        error.errno,
        `after ${done} of a batch: ${error.message}`,
        { ...error.details, done },
        { cause: error },
      );
    }
    done++;
  }
  return done;
}
