/** Numbers of include/uapi/linux/bpf.h that maps need. */
import type { MapType } from '../object/spec.ts';

/** enum bpf_map_type */
export const MAP_TYPE: Readonly<Record<MapType, number>> = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  stack_trace: 7,
  cgroup_array: 8,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  cgroup_storage: 19,
  reuseport_sockarray: 20,
  percpu_cgroup_storage: 21,
  queue: 22,
  stack: 23,
  sk_storage: 24,
  devmap_hash: 25,
  struct_ops: 26,
  ringbuf: 27,
  inode_storage: 28,
  task_storage: 29,
  bloom_filter: 30,
  user_ringbuf: 31,
  cgrp_storage: 32,
  arena: 33,
  insn_array: 34,
};

/** Flags of BPF_MAP_CREATE. */
export const MapFlag = {
  noPrealloc: 1 << 0,
  noCommonLru: 1 << 1,
  numaNode: 1 << 2,
  /** For user space: no updates, no lookups. */
  rdonly: 1 << 3,
  wronly: 1 << 4,
  zeroSeed: 1 << 6,
  /** For programs: no writes, no reads. */
  rdonlyProg: 1 << 7,
  wronlyProg: 1 << 8,
  mmapable: 1 << 10,
  preserveElems: 1 << 11,
  innerMap: 1 << 12,
  /** Arena: user space gets SIGSEGV where no page is; nothing here depends on it. */
  segvOnFault: 1 << 17,
  /** Arena: casts to the user's address space keep the lower half only. */
  noUserConv: 1 << 18,
} as const;

/** BPF_F_LOCK, of updates and of lookups by user space: take the spin lock in the value. */
export const UPDATE_LOCK = 4;
