/** Which map specifications can become maps: the kernel's creation rules (Linux 6.18, the map_alloc_check of each type). */
import type { MapSpec, MapType } from '../object/spec.ts';
import { ARENA_PAGE } from './arena-map.ts';
import type { Errno } from './errors.ts';
import { MapError } from './errors.ts';
import { isLru, isPerCpu } from './families.ts';
import { SPIN_LOCK } from './special-fields.ts';
import { MAP_TYPE, MapFlag } from './uapi.ts';

/** Largest block that the kernel's kmalloc gives, bytes; keys and values of hashes must fit in one together. */
const KMALLOC_MAX = 4 << 20;
/** Largest per-CPU allocation, bytes. */
const PER_CPU_MAX = 32 << 10;
/** What the kernel's hash element holds besides key and value, bytes. */
const HASH_ELEMENT_HEAD = 48;

/** Most entries of a hash: its buckets of 16 bytes, a power of two of them, must stay below 4 GiB. */
const HASH_ENTRIES_MAX = 1 << 27;

/** Of an LPM trie's key, bytes: its length field, its data at most; and what the kernel's node holds besides data and value. */
const PREFIX_HEAD = 4;
const PREFIX_MAX = 256;
const PREFIX_NODE = 40;

/** The kernel's NR_CPUS as distributions configure it. */
const CPUS_MAX = 8192;

/** Bytes of a cgroup storage's key: struct bpf_cgroup_storage_key, or the cgroup's id alone; and of its value at most. */
const CGROUP_KEYS: readonly number[] = [16, 8];
const STORAGE_MAX = 65407;

const ACCESS = MapFlag.rdonly | MapFlag.wronly | MapFlag.rdonlyProg | MapFlag.wronlyProg;
const ARRAY_FLAGS = MapFlag.numaNode | MapFlag.mmapable | ACCESS | MapFlag.preserveElems | MapFlag.innerMap;
const HASH_FLAGS = MapFlag.noPrealloc | MapFlag.noCommonLru | MapFlag.numaNode | ACCESS | MapFlag.zeroSeed;

/** What BPF_F_NUMA_NODE names no node by. */
const NO_NODE = 0xffff_ffff;

const namesNode = ({ flags, numaNode = 0 }: MapSpec): boolean =>
  (flags & MapFlag.numaNode) !== 0 && numaNode !== NO_NODE;

type Check = (spec: MapSpec, refuse: (errno: Errno, why: string) => never) => void;

const array: Check = (spec, refuse) => {
  const perCpu = isPerCpu(spec.type);
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  if (spec.keySize !== 4) refuse('EINVAL', `keys of an array have 4 bytes, not ${spec.keySize}`);
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  checkFlags(spec, ARRAY_FLAGS, refuse);
  if (perCpu && namesNode(spec)) refuse('EINVAL', 'BPF_F_NUMA_NODE does not go with per-CPU maps');
  if (spec.type !== 'array' && (spec.flags & (MapFlag.mmapable | MapFlag.innerMap)) !== 0) {
    refuse('EINVAL', 'BPF_F_MMAPABLE and BPF_F_INNER_MAP are for plain arrays only');
  }
  if (spec.type !== 'perf_event_array' && (spec.flags & MapFlag.preserveElems) !== 0) {
    refuse('EINVAL', 'BPF_F_PRESERVE_ELEMS is for perf event arrays only');
  }
  if (spec.valueSize > 0x7fffffff) refuse('E2BIG', `value_size ${spec.valueSize} is beyond 2^31 - 1`);
  if (perCpu) checkPerCpuSize(spec, refuse);
};

/** Arrays of file descriptors, as the kernel sees them: prog array and perf event array. */
const descriptors: Check = (spec, refuse) => {
  if (spec.valueSize !== 4) refuse('EINVAL', `values have 4 bytes, not ${spec.valueSize}`);
  if ((spec.flags & (MapFlag.rdonlyProg | MapFlag.wronlyProg)) !== 0) {
    refuse('EINVAL', 'BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG do not go with this type');
  }
  array(spec, refuse);
};

const hash: Check = (spec, refuse) => {
  const perCpu = isPerCpu(spec.type);
  const lru = isLru(spec.type);
  const perCpuLists = (spec.flags & MapFlag.noCommonLru) !== 0;
  checkFlags(spec, HASH_FLAGS, refuse);
  if (!lru && perCpuLists) refuse('EINVAL', 'BPF_F_NO_COMMON_LRU is for LRU hashes only');
  if (lru && (spec.flags & MapFlag.noPrealloc) !== 0) {
    refuse('ENOTSUPP', 'LRU hashes are always preallocated: BPF_F_NO_PREALLOC does not go with them');
  }
  if ((perCpu || perCpuLists) && namesNode(spec)) {
    refuse('EINVAL', 'BPF_F_NUMA_NODE does not go with what is per CPU');
  }
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  if (spec.keySize === 0) refuse('EINVAL', 'key_size must not be 0');
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  if (spec.keySize + spec.valueSize >= KMALLOC_MAX - HASH_ELEMENT_HEAD) {
    refuse('E2BIG', `key and value together must be below ${KMALLOC_MAX - HASH_ELEMENT_HEAD} bytes`);
  }
  if (perCpu) checkPerCpuSize(spec, refuse);
  if (spec.maxEntries > HASH_ENTRIES_MAX) refuse('E2BIG', `a hash has at most ${HASH_ENTRIES_MAX} entries`);
};

/** Beside the rules of what holds the entries: values are 4-byte ids, and the inner map is one that programs can use as such. */
const ofMaps: Check = (spec, refuse) => {
  if (spec.valueSize !== 4) refuse('EINVAL', `values have 4 bytes, not ${spec.valueSize}`);
  if (spec.type === 'array_of_maps') descriptors(spec, refuse);
  else hash(spec, refuse);
  const { inner } = spec;
  if (inner === undefined) return refuse('EINVAL', 'a map of maps needs an inner map definition');
  if (inner.type === 'array_of_maps' || inner.type === 'hash_of_maps' || inner.type === 'prog_array') {
    refuse(inner.type === 'prog_array' ? 'ENOTSUPP' : 'EINVAL', `the inner map can't be a ${inner.type}`);
  }
  checkSpec(inner);
};

const lpmTrie: Check = (spec, refuse) => {
  checkFlags(spec, MapFlag.noPrealloc | MapFlag.numaNode | ACCESS, refuse);
  if ((spec.flags & MapFlag.noPrealloc) === 0) refuse('EINVAL', 'an LPM trie needs BPF_F_NO_PREALLOC');
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  if (spec.keySize < PREFIX_HEAD + 1 || spec.keySize > PREFIX_HEAD + PREFIX_MAX) {
    refuse('EINVAL', `keys have ${PREFIX_HEAD} bytes of length and 1 to ${PREFIX_MAX} of data, not ${spec.keySize}`);
  }
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  if (spec.valueSize > KMALLOC_MAX - PREFIX_MAX - PREFIX_NODE) {
    refuse('EINVAL', `values have at most ${KMALLOC_MAX - PREFIX_MAX - PREFIX_NODE} bytes`);
  }
  if (spec.maxEntries > HASH_ENTRIES_MAX) refuse('ENOMEM', `more than ${HASH_ENTRIES_MAX} entries can't be held`);
};

/** Arrays of targets: 4-byte keys, values of 4 or (but for sockets) 8 bytes, no access flags for programs. */
const targets: Check = (spec, refuse) => {
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  if (spec.keySize !== 4) refuse('EINVAL', `keys have 4 bytes, not ${spec.keySize}`);
  if (spec.valueSize !== 4 && (spec.valueSize !== 8 || spec.type === 'xskmap')) {
    refuse('EINVAL', `values have 4 bytes${spec.type === 'xskmap' ? '' : ' or 8'}, not ${spec.valueSize}`);
  }
  const known = MapFlag.numaNode | (spec.type === 'cpumap' ? 0 : MapFlag.rdonly | MapFlag.wronly);
  checkFlags(spec, known, refuse);
  if (spec.type === 'cpumap' && spec.maxEntries > CPUS_MAX) refuse('E2BIG', `there are at most ${CPUS_MAX} CPUs`);
  if (spec.type === 'devmap_hash' && spec.maxEntries > HASH_ENTRIES_MAX) {
    refuse('EINVAL', `a hash has at most ${HASH_ENTRIES_MAX} entries`);
  }
};

const queue: Check = (spec, refuse) => {
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  if (spec.keySize !== 0) refuse('EINVAL', `there are no keys: key_size must be 0, not ${spec.keySize}`);
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  checkFlags(spec, MapFlag.numaNode | ACCESS, refuse);
  if (spec.valueSize > KMALLOC_MAX) refuse('E2BIG', `values have at most ${KMALLOC_MAX} bytes`);
};

const bloomFilter: Check = (spec, refuse) => {
  if (spec.keySize !== 0) refuse('EINVAL', `there are no keys: key_size must be 0, not ${spec.keySize}`);
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0');
  checkFlags(spec, MapFlag.numaNode | MapFlag.zeroSeed | ACCESS, refuse);
  const extra = spec.mapExtra ?? 0n;
  if (spec.valueSize > KMALLOC_MAX) refuse('E2BIG', `values have at most ${KMALLOC_MAX} bytes`);
  if ((extra & ~0xfn) !== 0n) refuse('EINVAL', `map_extra is the number of hashes, 0 to 15, not ${extra}`);
};

const arena: Check = (spec, refuse) => {
  if (spec.keySize !== 0 || spec.valueSize !== 0) refuse('EINVAL', 'an arena has neither keys nor values');
  if (spec.maxEntries === 0) refuse('EINVAL', 'max_entries must not be 0: it counts pages');
  if ((spec.flags & MapFlag.mmapable) === 0) refuse('EINVAL', 'an arena needs BPF_F_MMAPABLE');
  checkFlags(spec, MapFlag.mmapable | MapFlag.segvOnFault | MapFlag.noUserConv, refuse);
  const extra = spec.mapExtra ?? 0n;
  const bytes = BigInt(spec.maxEntries) * BigInt(ARENA_PAGE);
  if (extra % BigInt(ARENA_PAGE) !== 0n) refuse('EINVAL', `map_extra must be a multiple of ${ARENA_PAGE}`);
  if (bytes > 1n << 32n) refuse('E2BIG', 'an arena has at most 4 GiB');
  if (extra >> 32n !== (extra + bytes - 1n) >> 32n)
    refuse('ERANGE', 'its addresses from map_extra on must share their upper half');
  const initial = spec.contents.find(entry => 'value' in entry);
  if (initial !== undefined && 'value' in initial && BigInt(initial.value.length) > bytes)
    refuse('E2BIG', `its ${spec.maxEntries} pages can't hold the ${initial.value.length} bytes of its variables`);
};

/** The kernel's page size on x86-64, and on most arm64 machines. */
const PAGE = 4096;

const ringbuf: Check = (spec, refuse) => {
  checkFlags(spec, MapFlag.numaNode, refuse);
  if (spec.keySize !== 0 || spec.valueSize !== 0) {
    refuse('EINVAL', `key_size and value_size must be 0, not ${spec.keySize} and ${spec.valueSize}`);
  }
  const bytes = spec.maxEntries;
  if (bytes < PAGE || 2 ** Math.floor(Math.log2(bytes)) !== bytes) {
    refuse('EINVAL', `max_entries is the size in bytes, a power of two from ${PAGE} on, not ${bytes}`);
  }
};

const cgroupStorage: Check = (spec, refuse) => {
  if (!CGROUP_KEYS.includes(spec.keySize)) refuse('EINVAL', `keys have ${CGROUP_KEYS.join(' or ')} bytes`);
  if (spec.valueSize === 0) refuse('EINVAL', 'value_size must not be 0');
  const limit = isPerCpu(spec.type) ? PER_CPU_MAX : STORAGE_MAX;
  if (spec.valueSize > limit) refuse('E2BIG', `values have at most ${limit} bytes`);
  checkFlags(spec, MapFlag.numaNode | ACCESS, refuse);
  if (spec.maxEntries !== 0) refuse('EINVAL', 'max_entries must be 0');
};

const CHECKS: Partial<Record<MapType, Check>> = {
  array,
  percpu_array: array,
  prog_array: descriptors,
  hash,
  percpu_hash: hash,
  lru_hash: hash,
  lru_percpu_hash: hash,
  lpm_trie: lpmTrie,
  array_of_maps: ofMaps,
  hash_of_maps: ofMaps,
  devmap: targets,
  devmap_hash: targets,
  cpumap: targets,
  xskmap: targets,
  perf_event_array: descriptors,
  queue,
  stack: queue,
  bloom_filter: bloomFilter,
  arena,
  ringbuf,
  user_ringbuf: ringbuf,
  cgroup_storage: cgroupStorage,
  percpu_cgroup_storage: cgroupStorage,
};

function checkFlags(spec: MapSpec, known: number, refuse: (errno: Errno, why: string) => never): void {
  const unknown = (spec.flags & ~known) >>> 0;
  if (unknown !== 0) refuse('EINVAL', `flags 0x${unknown.toString(16)} are not known for this type`);
  for (const [both, name] of [
    [MapFlag.rdonly | MapFlag.wronly, 'BPF_F_RDONLY and BPF_F_WRONLY'],
    [MapFlag.rdonlyProg | MapFlag.wronlyProg, 'BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG'],
  ] as const) {
    if ((spec.flags & both) === both) refuse('EINVAL', `${name} exclude each other`);
  }
}

function checkPerCpuSize(spec: MapSpec, refuse: (errno: Errno, why: string) => never): void {
  if (spec.valueSize > PER_CPU_MAX) refuse('E2BIG', `per-CPU values have at most ${PER_CPU_MAX} bytes`);
}

/** Types whose values may hold a spin lock. */
const LOCKABLE: readonly MapType[] = ['hash', 'array', 'cgroup_storage'];
const LOCK_ALIGNMENT = 4;

/** The kernel's map_check_btf, as far as it looks into values. */
function checkSpecialFields(spec: MapSpec, refuse: (errno: Errno, why: string) => never): void {
  const fields = spec.specialFields ?? [];
  if (fields.length === 0) return;
  const locks = fields.filter(field => field.name === SPIN_LOCK);
  if (locks.length > 1) refuse('E2BIG', `values may hold one struct ${SPIN_LOCK}, not ${locks.length}`);
  for (const { offset } of locks)
    if (offset % LOCK_ALIGNMENT !== 0) refuse('EINVAL', `struct ${SPIN_LOCK} must be aligned, not at offset ${offset}`);
  if ((spec.flags & (MapFlag.rdonlyProg | MapFlag.wronlyProg)) !== 0)
    refuse('EACCES', `values with ${fields[0]!.name} do not go with BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG`);
  if (locks.length > 0 && !LOCKABLE.includes(spec.type))
    refuse('EOPNOTSUPP', `values of this type may not hold a struct ${SPIN_LOCK}; those of ${LOCKABLE.join(', ')} may`);
}

/** @throws MapError `unsupported_map_type`, `invalid_spec` with the kernel's errno */
export function checkSpec(spec: MapSpec): void {
  const what = `map ${spec.name} (${spec.type})`;
  const check = CHECKS[spec.type];
  if (check === undefined) {
    const known = spec.type in MAP_TYPE ? '' : ' (no such BPF map type)';
    throw new MapError(
      'unsupported_map_type',
      'EINVAL',
      `${what}: Switchyard has no maps of this type${known}; it has ${Object.keys(CHECKS).join(', ')}`,
      { map: spec.name, type: spec.type },
    );
  }
  const refuse = (errno: Errno, why: string): never => {
    throw new MapError('invalid_spec', errno, `${what} can't be created: ${why}`, {
      map: spec.name,
      type: spec.type,
      keySize: spec.keySize,
      valueSize: spec.valueSize,
      maxEntries: spec.maxEntries,
      flags: spec.flags,
    });
  };
  for (const field of ['keySize', 'valueSize', 'maxEntries', 'flags'] as const) {
    const value = spec[field];
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      refuse('EINVAL', `${field} must be an unsigned 32-bit number, not ${value}`);
    }
  }
  const { numaNode = 0 } = spec;
  if (!Number.isInteger(numaNode) || numaNode < 0 || numaNode > NO_NODE)
    refuse('EINVAL', `numa_node must be an unsigned 32-bit number, not ${numaNode}`);
  if (namesNode(spec) && numaNode !== 0)
    refuse('EINVAL', `there is one NUMA node here, 0; BPF_F_NUMA_NODE asks for ${numaNode}`);
  const takesExtra = spec.type === 'bloom_filter' || spec.type === 'arena';
  if (spec.mapExtra !== undefined && spec.mapExtra !== 0n && !takesExtra)
    refuse('EINVAL', 'map_extra must be 0 for this type');
  check(spec, refuse);
  checkSpecialFields(spec, refuse);
}
