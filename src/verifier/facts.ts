/** What verification proves and hands on; lowering and the compilers prove nothing twice. */
import type { ProgramSpec } from '../object/spec.ts';

export interface TailCallSite {
  /** Slot of the `call 12`. */
  readonly insn: number;
  /** Names of all prog arrays that reach the site over all paths, sorted; one element: map known. */
  readonly maps: readonly string[];
  /** The one index value (u32) that reaches it on all paths, else undefined. */
  readonly index: number | undefined;
  /** Range of the index as u32 over all paths, inclusive. */
  readonly indexMin: number;
  readonly indexMax: number;
}

export interface SubprogramFacts {
  readonly name: string;
  /** First slot and slot past the last. */
  readonly start: number;
  readonly end: number;
  /** Bytes of stack it uses itself, rounded up to 8. */
  readonly stackDepth: number;
  readonly hasTailCall: boolean;
  /** A tail call can happen in it or in what it calls. */
  readonly tailCallReachable: boolean;
  /** It may read bytes of its frame that it never wrote; the frame must start as zeros, so that every backend agrees. */
  readonly readsUninitializedStack?: boolean;
  /** Used as callback of bpf_loop, for_each_map_elem or user_ringbuf_drain. */
  readonly isCallback: boolean;
}

export interface HelperCallFact {
  readonly insn: number;
  readonly helper: number;
  /** The map argument, where it is the same on all paths. */
  readonly map: string | undefined;
  /** The one key that it is given on all paths, as u32, where it is known (keys of 4 bytes). */
  readonly constantKey: number | undefined;
  /** Largest key as u32 on all paths, where it is known (lookups in arrays). */
  readonly keyMax?: number | undefined;
}

/** What a base register points to. Different kinds of ordinary memory at one instruction are `memory`. */
export type MemoryKind =
  | 'socket'
  | 'sockCommon'
  | 'tcpSocket'
  | 'context'
  | 'stack'
  | 'mapValue'
  | 'packet'
  | 'packetMeta'
  | 'raw'
  | 'memory'
  | 'arena'
  /** Possibly no memory at all. */
  | 'untrusted'
  /** Possibly no memory at all, said to be a structure of the kernel. */
  | 'untrustedStructure';

export interface Facts {
  /** By slot: 1 where some path reaches the instruction. Others are dead. */
  readonly reachable: Uint8Array;
  /** Names of the maps the program refers to, in order of first use: the kernel's `used_maps`. At most 64. */
  readonly usedMaps: readonly string[];
  /** By slot of a load, store or atomic: the kind of memory its base register points to. */
  readonly memoryKind: Iterable<[number, MemoryKind]> & { get(slot: number): MemoryKind | undefined };
  /** The program's arena map, where it has one. */
  readonly arena?: string;
  /** Slots of 64-bit arithmetic on arena pointers, which is done on their lower halves only. */
  readonly arenaArithmetic?: ReadonlySet<number>;
  /** By slot of a context access: byte offset in the uapi context structure. */
  readonly contextOffset: ReadonlyMap<number, number>;
  readonly tailCalls: readonly TailCallSite[];
  /** Slots of the tail calls whose index register has a zero upper half on all paths. */
  readonly narrowTailCalls?: ReadonlySet<number>;
  readonly helperCalls: readonly HelperCallFact[];
  readonly subprograms: readonly SubprogramFacts[];
  /** Deepest chain of frames, bytes. */
  readonly stackDepth: number;
  /** Some helper it calls may move packet memory. */
  readonly changesPacket: boolean;
}

export interface Verified {
  readonly program: ProgramSpec;
  readonly facts: Facts;
  /** Instructions processed, as in the kernel's final statistics line. */
  readonly insnsProcessed: number;
  readonly statesExplored: number;
  readonly peakStates: number;
  /** Kernel-style log; empty at log level 0. */
  readonly log: string;
}
