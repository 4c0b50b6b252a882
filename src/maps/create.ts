/** From a map specification to a map. */
import {
  BloomLayout,
  HashBucket,
  HashElement,
  HashLayout,
  MapHeader,
  QueueLayout,
  RingbufLayout,
} from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { ArenaMap } from './arena-map.ts';
import { CgroupStorage } from './cgroup-storage.ts';
import { checkSpec } from './check.ts';
import { allocateMap, LINE, type MapEnv, roundUp } from './env.ts';
import { MapError } from './errors.ts';
import { isPerCpu } from './families.ts';
import type { BpfMap } from './map.ts';
import { MapOfMaps, storageSpec } from './map-of-maps.ts';
import { PerfEventArray } from './perf-event-array.ts';
import { ProgArray } from './prog-array.ts';
import { BloomFilter, QueueMap } from './pushed-map.ts';
import { RingBuffer } from './ring-buffer.ts';
import { type MapObject, RoutineMap } from './routine-map.ts';
import { specialFields } from './special-fields.ts';
import { TargetArray } from './target-array.ts';
import { MapFlag } from './uapi.ts';
import { UserRingBuffer } from './user-ring-buffer.ts';

/**
 * Makes a map in the arena, with the initial values of its specification; frozen, if the specification says so. Entries that name
 * programs or maps are left to the caller, who knows them.
 * @throws MapError `unsupported_map_type`, `invalid_spec` with the kernel's errno, `out_of_memory`
 */
export function createMap(definition: MapSpec, env: MapEnv): BpfMap {
  const fields = specialFields(definition, env.btf);
  const spec = fields.length === 0 ? definition : { ...definition, specialFields: fields };
  checkSpec(spec);
  const map = make(spec, env);
  try {
    for (const entry of map instanceof ArenaMap ? [] : spec.contents) {
      if ('value' in entry) map.update(keyBytes(spec, entry.key), entry.value);
    }
    if (spec.frozen === true) map.freeze();
  } catch (error) {
    map.dispose();
    throw error;
  }
  return map;
}

function make(spec: MapSpec, env: MapEnv): BpfMap {
  switch (spec.type) {
    case 'prog_array':
      return new ProgArray(spec, env);
    case 'arena':
      return new ArenaMap(spec, env);
    case 'devmap':
    case 'cpumap':
    case 'xskmap':
      return new TargetArray(spec, env);
    case 'perf_event_array':
      return new PerfEventArray(spec, env);
    case 'hash':
    case 'percpu_hash':
    case 'lru_hash':
    case 'lru_percpu_hash':
    case 'lpm_trie':
    case 'devmap_hash':
      return new RoutineMap(spec, env, layOutHash(spec, env));
    case 'array_of_maps':
    case 'hash_of_maps': {
      const inside = storageSpec(spec);
      const layOut = inside.type === 'array' ? layOutArray : layOutHash;
      return new MapOfMaps(spec, env, new RoutineMap(inside, env, layOut(inside, env)));
    }
    case 'queue':
    case 'stack':
      return new QueueMap(spec, env, layOutQueue(spec, env));
    case 'bloom_filter':
      return new BloomFilter(spec, env, layOutBloomFilter(spec, env));
    case 'ringbuf':
      return new RingBuffer(spec, env, layOutRingbuf(spec, env));
    case 'user_ringbuf':
      return new UserRingBuffer(spec, env, layOutRingbuf(spec, env));
    case 'cgroup_storage':
    case 'percpu_cgroup_storage':
      return new CgroupStorage(spec, env, layOutArray({ ...spec, maxEntries: 1 }, env));
    default:
      return new RoutineMap(spec, env, layOutArray(spec, env));
  }
}

function layOutArray(spec: MapSpec, env: MapEnv): MapObject {
  const perCpu = isPerCpu(spec.type);
  const stride = roundUp(spec.valueSize, 8);
  const run = spec.maxEntries * stride;
  const cpuStride = perCpu ? roundUp(run, LINE) : 0;
  const bytes = MapHeader.size + (perCpu ? env.cpus * cpuStride : run);
  const offset = allocateMap(spec, env, bytes);
  const { view } = env.arena;
  view.setUint32(offset + MapHeader.stride, stride, true);
  view.setUint32(offset + MapHeader.count, spec.maxEntries, true);
  view.setUint32(offset + MapHeader.mask, indexMask(spec.maxEntries), true);
  view.setBigUint64(offset + MapHeader.cpuStride, BigInt(cpuStride), true);
  view.setUint32(offset + MapHeader.cpus, perCpu ? env.cpus : 0, true);
  return { offset, blocks: [offset], bytes, valuesAddress: env.arena.address(offset + MapHeader.size) };
}

/** One block: header, spare elements' addresses, buckets, pool of elements, for per-CPU maps each CPU's values, for LPM tries the prefix lengths. */
function layOutHash(spec: MapSpec, env: MapEnv): MapObject {
  const perCpu = isPerCpu(spec.type);
  const { arena, cpus } = env;
  const valueStride = roundUp(spec.valueSize, 8);
  // LPM tries keep the data as they were given behind the key.
  const given = spec.type === 'lpm_trie' ? roundUp(spec.keySize - 4, 8) : 0;
  const valueOffset = HashElement.key + roundUp(spec.keySize, 8) + given;
  const oneValue = perCpu ? 8 : valueStride;
  const homes = bucketWithHome(spec, valueOffset + (perCpu ? 1 : 2) * oneValue);
  const twoValues = homes !== undefined && !perCpu;
  const elementBytes = elementStride(valueOffset + (twoValues ? 2 : 1) * oneValue);
  // Where elements have one value, an update of a plain hash fills a spare element, of which each CPU has one.
  const spares = perCpu || twoValues ? 0 : cpus;
  const pool = spec.maxEntries + spares;
  const stride = homes ?? HashBucket.size;
  // Twice as many as entries: of the keys in a full map four in five are then the first of their bucket. Large ones: two in three.
  const mask = indexMask(stride <= LINE ? 2 * spec.maxEntries : spec.maxEntries);
  const buckets = roundUp(HashLayout.size + 8 * spares, Math.max(LINE, stride));
  const elements = roundUp(buckets + (mask + 1) * stride, LINE);
  const values = roundUp(elements + pool * elementBytes, LINE);
  const cpuStride = perCpu ? roundUp(pool * valueStride, LINE) : 0;
  const prefixes = values + cpus * cpuStride;
  // One entry for the head of the list, one for each length from 0 to all bits of the data.
  const prefixBytes = spec.type === 'lpm_trie' ? 8 * (2 + 8 * (spec.keySize - 4)) : 0;
  const bytes = prefixes + prefixBytes;
  const offset = allocateMap(spec, env, bytes, Math.max(LINE, stride));
  const { view } = arena;
  const setAddress = (at: number, to: number): void => view.setBigUint64(offset + at, arena.address(offset + to), true);
  setAddress(MapHeader.values, elements);
  view.setUint32(offset + MapHeader.stride, elementBytes, true);
  view.setUint32(offset + MapHeader.mask, mask, true);
  view.setBigUint64(offset + MapHeader.cpuStride, BigInt(cpuStride), true);
  view.setUint32(offset + MapHeader.cpus, perCpu ? cpus : 0, true);
  setAddress(HashLayout.buckets, buckets);
  view.setBigUint64(offset + HashLayout.bucketMask, BigInt(mask) * BigInt(stride), true);
  view.setUint32(offset + HashLayout.bucketStride, stride, true);
  view.setUint32(offset + HashLayout.bothValues, twoValues ? 2 * valueOffset + oneValue : 0, true);
  view.setBigUint64(offset + HashLayout.seed, seedOf(spec), true);
  view.setUint32(offset + HashLayout.valueOffset, valueOffset, true);
  view.setUint32(offset + HashLayout.pool, pool, true);
  if (perCpu) setAddress(HashLayout.perCpuValues, values);
  if (prefixBytes > 0) setAddress(HashLayout.prefixes, prefixes);
  view.setUint32(offset + HashLayout.used, spares, true);
  for (let cpu = 0; cpu < spares; cpu++) {
    const element = elements + cpu * elementBytes;
    view.setUint32(offset + element + HashElement.number, cpu + 1, true);
    view.setUint32(offset + element + HashElement.current, valueOffset, true);
    setAddress(HashLayout.size + 8 * cpu, element);
  }
  return { offset, blocks: [offset], bytes, valuesAddress: 0n };
}

/**
 * Bytes of a bucket with room for an element of `content` bytes: one line or two. Undefined where elements are larger, or
 * BPF_F_NO_PREALLOC asks for little memory: then they have one value, and buckets no homes.
 */
function bucketWithHome(spec: MapSpec, content: number): number | undefined {
  const bytes = HashBucket.size + content;
  if ((spec.flags & MapFlag.noPrealloc) !== 0 || bytes > 2 * LINE) return undefined;
  return bytes <= LINE ? LINE : 2 * LINE;
}

/** What fits a cache line lies in one: in a large map each line that is touched is a miss. */
function elementStride(bytes: number): number {
  return bytes <= LINE ? 2 ** Math.ceil(Math.log2(bytes)) : bytes;
}

function layOutQueue(spec: MapSpec, env: MapEnv): MapObject {
  const stride = roundUp(spec.valueSize, 8);
  const bytes = QueueLayout.size + spec.maxEntries * stride;
  const offset = allocateMap(spec, env, bytes);
  const { arena } = env;
  arena.view.setUint32(offset + MapHeader.stride, stride, true);
  arena.view.setBigUint64(offset + MapHeader.values, arena.address(offset + QueueLayout.size), true);
  return { offset, blocks: [offset], bytes, valuesAddress: 0n };
}

/** Hashes of a filter that does not say how many it wants. */
const BLOOM_HASHES = 5;

/** As many bits as the kernel takes: 7 / 5 for each hash of each value, rounded up to a power of two. */
function layOutBloomFilter(spec: MapSpec, env: MapEnv): MapObject {
  const hashes = Number((spec.mapExtra ?? 0n) & 0xfn) || BLOOM_HASHES;
  const wanted = Math.floor((spec.maxEntries * hashes * 7) / 5);
  const bits = wanted > 2 ** 31 ? 2 ** 32 : Math.max(64, 2 ** Math.ceil(Math.log2(wanted)));
  const bytes = BloomLayout.size + bits / 8;
  const offset = allocateMap(spec, env, bytes);
  const { arena } = env;
  arena.view.setUint32(offset + MapHeader.mask, bits - 1, true);
  arena.view.setUint32(offset + BloomLayout.hashes, hashes, true);
  arena.view.setBigUint64(offset + BloomLayout.seed, seedOf(spec), true);
  arena.view.setBigUint64(offset + MapHeader.values, arena.address(offset + BloomLayout.size), true);
  return { offset, blocks: [offset], bytes, valuesAddress: 0n };
}

function layOutRingbuf(spec: MapSpec, env: MapEnv): MapObject {
  const bytes = RingbufLayout.data + 2 * spec.maxEntries;
  const offset = allocateMap(spec, env, bytes, RingbufLayout.data);
  env.arena.view.setUint32(offset + MapHeader.mask, spec.maxEntries - 1, true);
  return { offset, blocks: [offset], bytes, valuesAddress: 0n };
}

function seedOf(spec: MapSpec): bigint {
  return (spec.flags & MapFlag.zeroSeed) === 0 ? randomSeed() : 0n;
}

function randomSeed(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0]!;
}

/** The next power of two minus one. */
function indexMask(maxEntries: number): number {
  return maxEntries <= 1 ? 0 : 2 ** (32 - Math.clz32(maxEntries - 1)) - 1;
}

/** The key of an initial entry: a number, little-endian, as long as the map's keys. */
function keyBytes(spec: MapSpec, key: number): Uint8Array {
  const bytes = new Uint8Array(spec.keySize);
  const limit = 2 ** (8 * Math.min(4, spec.keySize));
  if (!Number.isInteger(key) || key < 0 || key >= limit) {
    throw new MapError(
      'bad_key_size',
      'EINVAL',
      `initial entry of map ${spec.name}: the key must be a whole number from 0 to ${limit - 1}, not ${key}`,
      { map: spec.name, key },
    );
  }
  for (let index = 0; index < Math.min(4, spec.keySize); index++) bytes[index] = key >>> (8 * index);
  return bytes;
}
