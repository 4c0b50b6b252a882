/**
 * What the verifier knows of one register.
 *
 * A `RegisterState` is immutable, so states share them and copying a state copies references. All kinds have the same
 * fields (two hidden classes, numbers and the rest); which of them mean something depends on the kind:
 *
 * - `value`: a scalar's value; a pointer's variable offset (constant 0 where the whole offset is in `offset`).
 * - `offset`: fixed byte offset of a pointer. For a scalar: what was added to the linked value `id` stands for.
 * - `id`: equal ids mean the same unknown: the same or-null result, the same variable packet offset, or linked scalars.
 *   0 means unlinked. `RAW_SIZE_ID` is the size of a raw program's memory. A scalar's id has a flag where something was added to
 *   the linked value, `SUM_64` or `SUM_32` by the width of the addition.
 * - `range`: bytes from (base + variable part) that were proved to be inside the packet or the raw memory. On paths where
 *   a packet pointer was found to be at or behind the end it is `AT_PACKET_END` or `BEYOND_PACKET_END` instead, so that
 *   the same comparison later on has only one outcome.
 */
import type { MapSpec } from '../object/spec.ts';
import { constant, isConstant, type Scalar, UNKNOWN } from './scalar.ts';

export type RegisterKind =
  | 'uninitialized'
  | 'scalar'
  | 'context'
  | 'stack'
  | 'map'
  | 'mapValue'
  /** The key of an element, read-only: what callbacks of bpf_for_each_map_elem get. */
  | 'mapKey'
  | 'packet'
  | 'packetMeta'
  | 'packetEnd'
  /** Memory of a `raw` program, `offset` from its start. */
  | 'raw'
  /** End of the raw memory plus `offset`. */
  | 'rawEnd'
  /** Memory of `size` bytes: argument of a global function. */
  | 'memory'
  /** A record of `size` bytes reserved in a ring buffer, neither submitted nor discarded yet. */
  | 'ringbufMemory'
  /** A socket: see `sockets.ts`. */
  | 'socket'
  | 'sockCommon'
  | 'tcpSocket'
  /** Somewhere in the program's arena: the lower half tells where, and any value of it is safe. */
  | 'arena'
  /** An address that may be any: loads through it give 0 where there is nothing to read. Where it has been moved is not followed. */
  | 'untrustedMemory'
  /** The same, said to be a structure of the kernel: only its fields can be loaded. See `kernel-structures.ts`. */
  | 'untrustedStructure'
  | 'callback'
  /** A dynptr that belongs to a helper: what callbacks of bpf_user_ringbuf_drain get. */
  | 'constDynptr';

export interface RegisterState {
  readonly kind: RegisterKind;
  readonly value: Scalar;
  readonly offset: number;
  readonly id: number;
  readonly nullable: boolean;
  /** Id of the reference (see `references.ts`) that the pointer is good as long as; 0 for none. */
  readonly reference: number;
  readonly range: number;
  readonly map: MapSpec | undefined;
  /** Tells inner maps of different lookups apart; 0 for maps known by name. */
  readonly mapUid: number;
  /** Stack: index of the frame it points into. */
  readonly frame: number;
  /** Memory and ring buffer memory: bytes. */
  readonly size: number;
  /** Callback: index of the subprogram. */
  readonly subprogram: number;
  /** Memory that may not be written. */
  readonly readOnly: boolean;
  /** Memory: id of the dynptr that it is a slice of (see `dynptr.ts`); 0 for none. */
  readonly dynptr: number;
  /** Memory: a slice of the packet, gone when the packet may have moved. */
  readonly packetSlice: boolean;
  /** Untrusted structure: which. */
  readonly structure: KernelStructure | undefined;
}

interface KernelStructure {
  /** In the kernel's BTF. */
  readonly id: number;
  readonly name: string;
}

/** In `raw` programs the id of the scalar that holds the memory's size; ids made during analysis are positive. */
export const RAW_SIZE_ID = -1;

/** Flags of a scalar's id: it is `offset` more than the linked value, modulo 2^64, or modulo 2^32 and zero-extended. */
export const SUM_64 = 1 << 29;
export const SUM_32 = 1 << 30;
const SUM = SUM_64 | SUM_32;

/** The id that all scalars have which are linked with each other. */
export function linkOf(id: number): number {
  return id > 0 ? id & ~SUM : id;
}

/** SUM_64, SUM_32 or 0. */
export function sumOf(id: number): number {
  return id > 0 ? id & SUM : 0;
}

/**
 * A number as it is before it is copied, which a copy then shares with it: with an id, unless it is a constant. What was added to
 * the one that it was linked with is forgotten, of constants too: a link has one constant.
 */
export function readyToCopy(source: RegisterState, ids: { newId(): number }): RegisterState {
  const isSum = sumOf(source.id) !== 0;
  if (isConstant(source.value)) return isSum ? withFields(source, { id: 0, offset: 0 }) : source;
  return source.id !== 0 && !isSum ? source : withFields(source, { id: ids.newId(), offset: 0 });
}

/** The pointer is at the packet's end, or behind it. */
export const AT_PACKET_END = -1;
/** The pointer is at least one byte behind the packet's end. */
export const BEYOND_PACKET_END = -2;

const ZERO = constant(0n);

/** What the fields that only pointers use are for everything else. */
const NEUTRAL = {
  nullable: false,
  reference: 0,
  range: 0,
  map: undefined,
  mapUid: 0,
  frame: 0,
  size: 0,
  subprogram: 0,
  readOnly: false,
  dynptr: 0,
  packetSlice: false,
  structure: undefined,
} as const satisfies Omit<RegisterState, 'kind' | 'value' | 'offset' | 'id'>;

/**
 * A number. Most states are, and stored states keep them by the thousand: what only pointers use they have in common, so that
 * they are half as large. Only three fields are their own.
 */
class ScalarState implements RegisterState {
  declare readonly kind: RegisterKind;
  readonly value: Scalar;
  readonly offset: number;
  readonly id: number;
  declare readonly nullable: boolean;
  declare readonly reference: number;
  declare readonly range: number;
  declare readonly map: undefined;
  declare readonly mapUid: number;
  declare readonly frame: number;
  declare readonly size: number;
  declare readonly subprogram: number;
  declare readonly readOnly: boolean;
  declare readonly dynptr: number;
  declare readonly packetSlice: boolean;
  declare readonly structure: undefined;

  constructor(value: Scalar, offset: number, id: number) {
    this.value = value;
    this.offset = offset;
    this.id = id;
  }
}
Object.assign(ScalarState.prototype, NEUTRAL, { kind: 'scalar' });

/** Builds a state from the fields that matter; the rest get their neutral values. */
export function register(kind: RegisterKind, fields: Partial<Omit<RegisterState, 'kind'>> = {}): RegisterState {
  if (kind === 'scalar') return new ScalarState(fields.value ?? ZERO, fields.offset ?? 0, fields.id ?? 0);
  return {
    kind,
    value: fields.value ?? ZERO,
    offset: fields.offset ?? 0,
    id: fields.id ?? 0,
    nullable: fields.nullable ?? NEUTRAL.nullable,
    reference: fields.reference ?? NEUTRAL.reference,
    range: fields.range ?? NEUTRAL.range,
    map: fields.map,
    mapUid: fields.mapUid ?? NEUTRAL.mapUid,
    frame: fields.frame ?? NEUTRAL.frame,
    size: fields.size ?? NEUTRAL.size,
    subprogram: fields.subprogram ?? NEUTRAL.subprogram,
    readOnly: fields.readOnly ?? NEUTRAL.readOnly,
    dynptr: fields.dynptr ?? NEUTRAL.dynptr,
    packetSlice: fields.packetSlice ?? NEUTRAL.packetSlice,
    structure: fields.structure,
  };
}

export const UNINITIALIZED: RegisterState = register('uninitialized');
export const UNTRUSTED_MEMORY: RegisterState = register('untrustedMemory');
export const UNKNOWN_SCALAR: RegisterState = register('scalar', { value: UNKNOWN });
export const ZERO_SCALAR: RegisterState = register('scalar', { value: ZERO });

/** Small constants: they are made again and again, and kept by stored states. Each is made when it first occurs. */
const MOST_KEPT = 8191;
const KEPT: (RegisterState | undefined)[] = new Array(MOST_KEPT + 1).fill(undefined);

/** Is it one number, in all its bounds? */
function isKept(value: Scalar): boolean {
  const { value32 } = value;
  return (
    value.mask32 === 0 &&
    value.wide === undefined &&
    value32 >= 0 &&
    value32 <= MOST_KEPT &&
    value.u32min === value32 &&
    value.u32max === value32 &&
    value.s32min === value32 &&
    value.s32max === value32
  );
}

export function scalarRegister(value: Scalar): RegisterState {
  if (!isKept(value)) return new ScalarState(value, 0, 0);
  return KEPT[value.value32] ?? (KEPT[value.value32] = new ScalarState(value, 0, 0));
}

/** A copy with some fields replaced. Written out so that all pointers keep one hidden class. */
export function withFields(r: RegisterState, fields: Partial<RegisterState>): RegisterState {
  const kind = fields.kind ?? r.kind;
  if (kind === 'scalar') return new ScalarState(fields.value ?? r.value, fields.offset ?? r.offset, fields.id ?? r.id);
  return {
    kind,
    value: fields.value ?? r.value,
    offset: fields.offset ?? r.offset,
    id: fields.id ?? r.id,
    nullable: fields.nullable ?? r.nullable,
    reference: fields.reference ?? r.reference,
    range: fields.range ?? r.range,
    map: fields.map ?? r.map,
    mapUid: fields.mapUid ?? r.mapUid,
    frame: fields.frame ?? r.frame,
    size: fields.size ?? r.size,
    subprogram: fields.subprogram ?? r.subprogram,
    readOnly: fields.readOnly ?? r.readOnly,
    dynptr: fields.dynptr ?? r.dynptr,
    packetSlice: fields.packetSlice ?? r.packetSlice,
    structure: fields.structure ?? r.structure,
  };
}

/** Same number, other meaning: `value` replaced and any link to other scalars dropped. */
export function withValue(r: RegisterState, value: Scalar): RegisterState {
  if (r.kind === 'scalar') return r.value === value ? r : new ScalarState(value, r.offset, r.id);
  return withFields(r, { value });
}

export function isPointer(r: RegisterState): boolean {
  return r.kind !== 'scalar' && r.kind !== 'uninitialized';
}

export function isPacketPointer(r: RegisterState): boolean {
  return r.kind === 'packet' || r.kind === 'packetMeta';
}

const NEVER_NULL: ReadonlySet<RegisterKind> = new Set(['mapValue', 'mapKey', 'map', 'memory', 'ringbufMemory']);

/** A pointer whose comparison with null is decided. Only what the kernel decides: it does not for context, stack and packet. */
export function isNonNullPointer(r: RegisterState): boolean {
  return !r.nullable && (NEVER_NULL.has(r.kind) || isSocket(r));
}

export function isSocket(r: RegisterState): boolean {
  return r.kind === 'socket' || r.kind === 'sockCommon' || r.kind === 'tcpSocket';
}

/** The kernel's name of the type, as in its log. */
export function kindName(r: RegisterState): string {
  switch (r.kind) {
    case 'uninitialized':
      return '?';
    case 'scalar':
      return 'scalar';
    case 'context':
      return 'ctx';
    case 'stack':
      return 'fp';
    case 'map':
      // A map found in a map of maps: the kernel, too, calls it a value until it is checked.
      return r.nullable ? 'map_value_or_null' : 'map_ptr';
    case 'mapKey':
      return 'map_key';
    case 'mapValue':
      return r.nullable ? 'map_value_or_null' : 'map_value';
    case 'packet':
      return 'pkt';
    case 'packetMeta':
      return 'pkt_meta';
    case 'packetEnd':
      return 'pkt_end';
    case 'raw':
      return 'raw';
    case 'rawEnd':
      return 'raw_end';
    case 'memory':
      return `${r.readOnly ? 'rdonly_' : ''}${r.nullable ? 'mem_or_null' : 'mem'}`;
    case 'ringbufMemory':
      return r.nullable ? 'ringbuf_mem_or_null' : 'ringbuf_mem';
    case 'socket':
      return r.nullable ? 'sock_or_null' : 'sock';
    case 'sockCommon':
      return r.nullable ? 'sock_common_or_null' : 'sock_common';
    case 'tcpSocket':
      return r.nullable ? 'tcp_sock_or_null' : 'tcp_sock';
    case 'arena':
      return 'arena';
    case 'untrustedMemory':
      return 'rdonly_untrusted_mem';
    case 'untrustedStructure':
      return 'untrusted_ptr_';
    case 'callback':
      return 'func';
    case 'constDynptr':
      return 'dynptr_ptr';
  }
}
