/** How helpers look to the verifier. The table itself is made in `helpers/` and handed to `verify()`. */
import type { MapType, ProgramType } from '../object/spec.ts';

export type ArgumentType =
  | { readonly type: 'context' }
  | { readonly type: 'scalar' }
  /** Map pointer; `maps` limits the types. */
  | { readonly type: 'map'; readonly maps?: readonly MapType[] }
  /** Pointer to readable memory of the key (value) size of the map given in the preceding `map` argument. */
  | { readonly type: 'mapKey' }
  | { readonly type: 'mapValue' }
  /** Memory of the size in the following `size` argument. `read` must be initialised; `write` is initialised by the call. */
  | { readonly type: 'memory'; readonly access: 'read' | 'write'; readonly nullable?: boolean }
  /** A number of a fixed size in bytes, aligned to it. */
  | { readonly type: 'fixedMemory'; readonly access: 'read' | 'write' | 'readWrite'; readonly size: 4 | 8 }
  /** Size of the memory in the argument before. `zeroAllowed`: 0 is legal (and then the memory may be null if nullable). */
  | { readonly type: 'size'; readonly zeroAllowed: boolean }
  /** NUL-terminated string in a read-only map. */
  | { readonly type: 'constString' }
  /** A constant known at verification. */
  | { readonly type: 'constScalar' }
  /** A subprogram (the callback of bpf_loop, for_each_map_elem and user_ringbuf_drain). */
  | { readonly type: 'callback' }
  /** Any initialised register; stack pointer or null: bpf_loop's callback context. */
  | { readonly type: 'callbackContext' }
  /** Memory of the value size of the map given before, filled by the call (map_pop_elem, map_peek_elem). */
  | { readonly type: 'uninitializedMapValue' }
  /** A record reserved in a ring buffer; the call ends the program's right to it. */
  | { readonly type: 'ringbufRecord' }
  /** Constant size of what is reserved: the size of the `allocatedMemoryOrNull` that the call returns. */
  | { readonly type: 'allocationSize' }
  /** The struct bpf_spin_lock of a map value. `lock`: take it, else give it back. */
  | { readonly type: 'spinLock'; readonly lock: boolean }
  /** A socket of whatever kind. `release`: the call ends the reference. */
  | { readonly type: 'socket'; readonly release?: boolean }
  /**
   * Two stack slots that hold a dynptr. `construct` names the kind that the call makes in unused stack; else an existing
   * one is used, of kind `only` where given. `release`: the call ends it. `writable`: it must not be read-only.
   */
  | {
      readonly type: 'dynptr';
      readonly construct?: DynptrKind;
      readonly only?: DynptrKind;
      readonly release?: boolean;
      readonly writable?: boolean;
    };

/** What a dynptr's memory is. */
export type DynptrKind = 'local' | 'ringbuf' | 'skb' | 'xdp';

export type ReturnType =
  | { readonly type: 'scalar' }
  /** Scalar in [min, max], both int64. */
  | { readonly type: 'boundedScalar'; readonly min: bigint; readonly max: bigint }
  | { readonly type: 'void' }
  | { readonly type: 'mapValueOrNull' }
  /** A value that the map always has. */
  | { readonly type: 'mapValue' }
  /** Memory of the constant size in the `allocationSize` argument; a reference that must be submitted or discarded. */
  | { readonly type: 'allocatedMemoryOrNull' }
  /**
   * A socket. `acquire`: a reference that must be released. `cast`: the socket argument seen in another way, good for as
   * long as that.
   */
  | {
      readonly type: 'socketOrNull';
      readonly of: 'socket' | 'sockCommon' | 'tcpSocket';
      readonly acquire?: boolean;
      readonly cast?: boolean;
    }
  /** A slice of the dynptr argument, as long as the constant size argument says. */
  | { readonly type: 'dynptrSliceOrNull' }
  /** A call that does not come back when it succeeds (tail_call): r0 is unreadable after it. */
  | { readonly type: 'none' };

export interface HelperSignature {
  /** Kernel's helper number (uapi bpf.h). */
  readonly id: number;
  /** Without the bpf_ prefix: "map_lookup_elem". */
  readonly name: string;
  readonly args: readonly ArgumentType[];
  readonly returns: ReturnType;
  /** Program types that may call it. */
  readonly programTypes: readonly ProgramType[];
  /** In these of the program types the helper takes other arguments. */
  readonly variant?: { readonly programTypes: readonly ProgramType[]; readonly args: readonly ArgumentType[] };
  readonly gplOnly?: boolean;
  /** Says whether the constant string is a format for that many values of 8 bytes, the size of which is the fifth argument. */
  readonly checkFormat?: (format: string, values: number) => boolean;
  /** The call may move packet memory: all packet pointers become invalid. */
  readonly changesPacket?: boolean;
}

export type HelperTable = ReadonlyMap<number, HelperSignature>;

/** A helper of the kernel that the table lacks. */
export interface RefusedHelper {
  /** Without `bpf_`. */
  readonly name: string;
  /** Why, for the refusal; undefined: it is for programs of other types. */
  readonly reason: string | undefined;
}
