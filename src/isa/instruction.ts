/**
 * The instruction set in memory.
 *
 * Normalised here, exact on the wire: only `codec.ts` knows that a signed division is "DIV with offset 1" or that a
 * byte swap hides in the ALU64 class. A program is an array of instructions **indexed by slot**: one element per
 * 8-byte slot, so that an index here is the instruction number of the kernel's log, of `.BTF.ext` and of jump
 * offsets. `loadImm64` fills two slots; the second holds a `wide` marker that nothing may jump to.
 *
 * Source: RFC 9669, and what Linux 6.18 adds (`may_goto`, `addr_space_cast`, load-acquire, store-release).
 */

/** r0..r10; 11 is AX, a scratch register that only lowering and trusted routines may name. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11;
export type Width = 32 | 64;
/** Bytes accessed by a load, store or atomic. */
export type Size = 1 | 2 | 4 | 8;

export type AluOp =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'sdiv'
  | 'mod'
  | 'smod'
  | 'or'
  | 'and'
  | 'xor'
  | 'lsh'
  | 'rsh'
  | 'arsh'
  | 'neg'
  | 'mov';

/** `jset` is 'set'; unsigned unless the name starts with s. */
export type JumpOp = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'sgt' | 'sge' | 'slt' | 'sle' | 'set';

export type AtomicOp = 'add' | 'or' | 'and' | 'xor' | 'xchg' | 'cmpxchg' | 'loadAcquire' | 'storeRelease';

/** `src` is the register operand; when it is undefined the operand is `imm` (int32, sign-extended to 64 bits). `neg` has neither. */
export interface Alu {
  readonly kind: 'alu';
  readonly op: AluOp;
  readonly width: Width;
  readonly dst: Register;
  readonly src: Register | undefined;
  readonly imm: number;
}
/** dst = (s`from`) src, then zero-extended to 64 bits where `width` is 32. `from` 32 only with width 64. */
export interface MovSx {
  readonly kind: 'movsx';
  readonly width: Width;
  readonly from: 8 | 16 | 32;
  readonly dst: Register;
  readonly src: Register;
}
/** le/be convert between host (little-endian) and the named order and truncate to `size` bits; swap is BSWAP, unconditional. */
export interface ByteSwap {
  readonly kind: 'byteswap';
  readonly order: 'le' | 'be' | 'swap';
  readonly size: 16 | 32 | 64;
  readonly dst: Register;
}
/** An arena pointer (space 1) made usable for accesses (space 0), or back. */
export interface AddrSpaceCast {
  readonly kind: 'addrSpaceCast';
  readonly dst: Register;
  readonly src: Register;
  readonly toSpace: number;
  readonly fromSpace: number;
}
/** `value` unsigned, 0 to 2^64-1; 0n beside a reference until lowering resolves it. */
export interface LoadImm64 {
  readonly kind: 'loadImm64';
  readonly dst: Register;
  readonly value: bigint;
  readonly reference: Reference | undefined;
}
/** Second slot of a loadImm64. */
interface Wide {
  readonly kind: 'wide';
}
export interface Load {
  readonly kind: 'load';
  readonly size: Size;
  readonly signed: boolean;
  readonly dst: Register;
  readonly src: Register;
  readonly offset: number;
}
/** Register form stores `src`; immediate form (src undefined) stores `imm` sign-extended. */
export interface Store {
  readonly kind: 'store';
  readonly size: Size;
  readonly dst: Register;
  readonly offset: number;
  readonly src: Register | undefined;
  readonly imm: number;
}
/**
 * `dst` is the base register of the address except for loadAcquire, where (as on the wire) `src` is the base and `dst` the result.
 * `fetch`: `src` (cmpxchg: r0) receives the old value; always true for xchg and cmpxchg, false for loadAcquire/storeRelease.
 * Sizes 4 and 8; loadAcquire and storeRelease also 1 and 2.
 */
export interface Atomic {
  readonly kind: 'atomic';
  readonly op: AtomicOp;
  readonly fetch: boolean;
  readonly size: Size;
  readonly dst: Register;
  readonly src: Register;
  readonly offset: number;
}
/** Legacy BPF_ABS (`src` undefined) and BPF_IND: r0 = big-endian load from the packet; context in r6. */
export interface PacketLoad {
  readonly kind: 'packetLoad';
  readonly size: 1 | 2 | 4;
  readonly src: Register | undefined;
  readonly imm: number;
}
/** Offsets are in slots, relative to the next slot. */
export interface Jump {
  readonly kind: 'jump';
  readonly op: JumpOp;
  readonly width: Width;
  readonly dst: Register;
  readonly src: Register | undefined;
  readonly imm: number;
  readonly offset: number;
}
/** `long` is the `gotol` form (32-bit offset). */
export interface Goto {
  readonly kind: 'goto';
  readonly offset: number;
  readonly long: boolean;
}
interface MayGoto {
  readonly kind: 'mayGoto';
  readonly offset: number;
}
export interface CallHelper {
  readonly kind: 'callHelper';
  readonly helper: number;
}
/** `offset` in slots relative to the next slot. */
export interface CallSubprogram {
  readonly kind: 'callSubprogram';
  readonly offset: number;
}
export interface CallKfunc {
  readonly kind: 'callKfunc';
  readonly btfId: number;
  readonly module: number;
  readonly name?: string;
}
interface Exit {
  readonly kind: 'exit';
}

/** What a loadImm64 names instead of a plain value. The first seven forms exist on the wire or in an ELF object; the last two only after lowering. */
export type Reference =
  | { readonly type: 'mapFd'; readonly fd: number }
  | { readonly type: 'mapFdValue'; readonly fd: number; readonly offset: number }
  | { readonly type: 'btfId'; readonly id: number; readonly fd: number }
  /** A subprogram as a callback; `offset` like a call's, relative to the slot after the first of the pair. */
  | { readonly type: 'function'; readonly offset: number }
  | { readonly type: 'mapIndex'; readonly index: number }
  | { readonly type: 'mapIndexValue'; readonly index: number; readonly offset: number }
  /** By name, as the object loader leaves it. */
  | { readonly type: 'map'; readonly map: string }
  | { readonly type: 'mapValue'; readonly map: string; readonly offset: number }
  /** Address of a kernel function, 0 where there is none of that name. */
  | { readonly type: 'kfunc'; readonly name: string }
  /** After lowering: index into `usedMaps`. The value is the address of the map object, or of its first value. */
  | { readonly type: 'mapAddress'; readonly index: number }
  | { readonly type: 'mapValueAddress'; readonly index: number; readonly offset: number };

/*
 * Internal instructions: made by lowering or written in trusted routines (assembler option `internal`). They have no
 * encoding; the codec refuses them, so no program from outside can hold one.
 */
/** bpf_tail_call after lowering; `imm` packed as `lowering/tail-call-imm.ts` says (unsigned 32 bits). */
interface TailCall {
  readonly kind: 'tailCall';
  readonly imm: number;
}
/** dst = address of this thread's RunContext (see memory/layout.ts). */
interface LoadRunContext {
  readonly kind: 'runContext';
  readonly dst: Register;
}
/** dst += (-=) the address of a map's value: what a loadImm64 and an alu would do, but without a register in between. */
export interface AluAddress {
  readonly kind: 'aluAddress';
  readonly op: 'add' | 'sub';
  readonly width: Width;
  readonly dst: Register;
  readonly reference: Extract<Reference, { readonly type: 'mapValueAddress' }>;
}
/** Call of a trusted BPF routine by name, arguments r1-r5, result r0, r6-r9 kept. */
interface CallRoutine {
  readonly kind: 'callRoutine';
  readonly routine: string;
}
/** Call of the BPF function whose address is in `register`. */
interface CallIndirect {
  readonly kind: 'callIndirect';
  readonly register: Register;
}
/** Call of a function outside BPF (libc or JS) that the runtime provides by name; same convention as a routine. */
interface CallService {
  readonly kind: 'callService';
  readonly service: string;
}

/** No load after it is performed before a load in front of it (the kernel's smp_rmb). Other accesses may pass it. */
interface LoadFence {
  readonly kind: 'loadFence';
}

export type WireInstruction =
  | Alu
  | MovSx
  | ByteSwap
  | AddrSpaceCast
  | LoadImm64
  | Wide
  | Load
  | Store
  | Atomic
  | PacketLoad
  | Jump
  | Goto
  | MayGoto
  | CallHelper
  | CallSubprogram
  | CallKfunc
  | Exit;
export type InternalInstruction =
  | TailCall
  | LoadRunContext
  | AluAddress
  | LoadFence
  | CallRoutine
  | CallIndirect
  | CallService;
export type Instruction = WireInstruction | InternalInstruction;

/** Size of one encoded slot in bytes. */
export const SLOT_BYTES = 8;
