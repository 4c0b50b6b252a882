/**
 * What an object file becomes: program and map specifications, free of ELF. Everything after this room works on
 * these; a `Collection` can as well be built by hand (tests, the assembler, an embedding application).
 */
import type { Instruction } from '../isa/instruction.ts';
import type { Btf } from './btf.ts';

export const PROGRAM_TYPES = ['socket_filter', 'sched_cls', 'sched_act', 'xdp', 'cgroup_skb', 'raw'] as const;

export type ProgramType = (typeof PROGRAM_TYPES)[number];

export const MAP_TYPES = [
  'array',
  'percpu_array',
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'prog_array',
  'array_of_maps',
  'hash_of_maps',
  'queue',
  'stack',
  'bloom_filter',
  'ringbuf',
  'user_ringbuf',
  'perf_event_array',
  'devmap',
  'devmap_hash',
  'cpumap',
  'xskmap',
  'sockmap',
  'sockhash',
  'arena',
  'stack_trace',
  'cgroup_array',
  'cgroup_storage',
  'sk_storage',
  'task_storage',
  'inode_storage',
  'struct_ops',
  'reuseport_sockarray',
  'percpu_cgroup_storage',
  'cgrp_storage',
  'insn_array',
] as const;

export type MapType = (typeof MAP_TYPES)[number];

/** A C source line for the instructions from `insn` on, up to the next entry. */
export interface LineInfo {
  readonly insn: number;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The source text of the line, possibly empty. */
  readonly text: string;
}

/** A function inside a program. The first is the program itself and starts at slot 0. */
export interface SubprogramSpec {
  readonly name: string;
  /** First slot. A subprogram ends where the next one starts, or at the end of the program. */
  readonly start: number;
  /** Global functions are verified on their own, from their BTF types; static ones inline at each call. */
  readonly linkage: 'static' | 'global';
  /** BTF id of the FUNC type, where known. */
  readonly btfId: number | undefined;
}

export interface ProgramSpec {
  readonly name: string;
  /** ELF section it came from, e.g. "xdp" or "tc/ingress". */
  readonly section: string;
  readonly type: ProgramType;
  /** e.g. "xdp", "cgroup_inet_ingress"; undefined where the type has none. */
  readonly attachType: string | undefined;
  /** Declared able to handle multi-buffer packets ("xdp.frags"); part of a prog array's owner. */
  readonly xdpFrags: boolean;
  /** By slot, with every called `.text` subprogram linked in behind the main one. Map references are by name. */
  readonly insns: readonly Instruction[];
  readonly subprograms: readonly SubprogramSpec[];
  /** Sorted by insn; empty without `.BTF.ext`. */
  readonly lines: readonly LineInfo[];
  readonly license: string;
  readonly btf: Btf | undefined;
  /** Types of the kernel that CO-RE relocations were resolved against, so what type ids in the program mean; left out where none were given. */
  readonly targetBtf?: Btf;
}

/** Initial contents of one entry, as the object declares it. */
export type InitialEntry =
  | { readonly key: number; readonly program: string }
  | { readonly key: number; readonly map: string }
  | { readonly key: number; readonly value: Uint8Array };

/** A field of map values that only helpers may touch: a lock, a timer and the like. */
export interface SpecialField {
  /** Bytes from the start of the value. */
  readonly offset: number;
  readonly size: number;
  /** The kernel's name: that of the structure, or "kptr". */
  readonly name: string;
}

export interface MapSpec {
  readonly name: string;
  readonly type: MapType;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* creation flags, as in the kernel's uapi. */
  readonly flags: number;
  readonly mapExtra?: bigint;
  /** Counts with BPF_F_NUMA_NODE only; all memory is on node 0 here. Default 0. */
  readonly numaNode?: number;
  readonly pinning?: 'none' | 'by_name';
  /** BTF type ids of key and value in the collection's BTF. */
  readonly btfKeyId?: number;
  readonly btfValueId?: number;
  /** Of a map that was made: what its object's BTF says of the values. Before that, `specialFields()` finds them. */
  readonly specialFields?: readonly SpecialField[];
  /** Template of the inner maps of a map-in-map. */
  readonly inner?: MapSpec;
  readonly contents: readonly InitialEntry[];
  /** Global data: the section it stands for. `.rodata*` maps are frozen and read-only to programs. */
  readonly dataSection?: '.data' | '.rodata' | '.bss' | (string & {});
  readonly frozen?: boolean;
}

/** A program that was left out because Switchyard does not run its type (`ParseOptions.skipUnsupported`). */
export interface UnsupportedProgram {
  readonly name: string;
  readonly section: string;
  /** The kernel's name of the type, e.g. "kprobe"; undefined where the section name is unknown. */
  readonly kernelType: string | undefined;
}

export interface Collection {
  readonly programs: ReadonlyMap<string, ProgramSpec>;
  readonly maps: ReadonlyMap<string, MapSpec>;
  readonly license: string;
  readonly btf: Btf | undefined;
  /** Present where programs were left out. */
  readonly unsupported?: readonly UnsupportedProgram[];
}
