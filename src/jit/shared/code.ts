/** What a compiler returns: bytes from facts. Position-independent; nothing here knows executable memory. */
import type { Lowered } from '../../lowering/lowered.ts';
import type { TailCallOverrides, TailCallPresets } from './tail-call-choices.ts';

/**
 * How tail calls are compiled: as before the series, with cached targets as in it, or so that a hop costs least; what that
 * means in each is in tail-call-choices.ts. 'fast' programs and others keep their frames and their count in different
 * places, and 'fast' ones may differ in what an empty slot holds: no array may hold both.
 */
export type TailCallMode = 'baseline' | 'cached' | 'fast';

export interface CompileOptions {
  /** A routine has no tail-call entry and no counter; see isa/routine.ts. */
  readonly kind: 'program' | 'routine';
  readonly tailCallMode: TailCallMode;
  /** Other than the mode's. */
  readonly tailCallChoices?: TailCallOverrides;
  /** Patchable direct jumps for sites with a poke descriptor (default true). */
  readonly pokes?: boolean;
  /** Most tail calls in one run that starts in this program, 1 to 2^20, default 33. Only 'fast' can do with another. */
  readonly maxTailCalls?: number;
}

export type RelocationTarget =
  /** Address of the map object `usedMaps[index]`. */
  | { readonly kind: 'map'; readonly index: number }
  /** Address of the first value of `usedMaps[index]`. */
  | { readonly kind: 'mapValue'; readonly index: number }
  /** Entry of a trusted routine. */
  | { readonly kind: 'routine'; readonly name: string }
  /** A host function; the runtime supplies a thunk that switches to the host stack. */
  | { readonly kind: 'service'; readonly name: string }
  /** Address of this program's own code at `addend` (callbacks). */
  | { readonly kind: 'self' };

export interface Relocation {
  /** Where in `bytes`. */
  readonly offset: number;
  /**
   * How value = target + addend is written (see relocate.ts). absolute64: 8 bytes. relative32: 4 bytes, the value minus
   * the field's address. branch26: the distance of an A64 `b` or `bl`. moveWide48: a value below 2^48 into the three A64
   * instructions movz, movk, movk.
   */
  readonly form: 'absolute64' | 'relative32' | 'branch26' | 'moveWide48';
  readonly target: RelocationTarget;
  readonly addend: number;
}

/**
 * A direct call site. Two patchable instructions of the length of `Machine.jump`, each inside one aligned 8-byte word
 * so that one store changes it whole. While the slot is empty `bypass` holds a jump to `out` and `target` traps; while
 * it is populated `bypass` holds a nop and `target` a jump to the target's tail-call entry.
 *
 * With `directJumps` 'one' there is no `bypass`: `target` jumps to `out` while the slot is empty.
 */
export interface PokeSite {
  /** Index into `Lowered.pokeTable`. */
  readonly poke: number;
  readonly bypass: number | undefined;
  readonly target: number;
  /** Offset of what runs where the slot is empty. */
  readonly out: number;
}

export type TailCallKind = 'direct' | 'static' | 'dynamic';

export interface CompiledTailCall {
  /** Slot in `Lowered.insns`. */
  readonly insn: number;
  readonly kind: TailCallKind;
  /** Code range of the whole site. */
  readonly start: number;
  readonly end: number;
}

export interface CompiledFunction {
  readonly name: string;
  /** Code range, prologue included. */
  readonly start: number;
  readonly end: number;
}

export interface Code {
  readonly bytes: Uint8Array;
  /** In ascending order, without gaps; the program's own function first. */
  readonly functions: readonly CompiledFunction[];
  /**
   * Distance from byte 0 to where a tail call enters, past counter reset and frame link; the same for all programs of a
   * machine and mode, which the compiler asserts.
   */
  readonly tailCallPrologueOffset: number;
  readonly relocations: readonly Relocation[];
  readonly pokeSites: readonly PokeSite[];
  readonly tailCalls: readonly CompiledTailCall[];
  /** By slot of `Lowered.insns`: code offset where it starts; one more element: the end. */
  readonly insnOffsets: Uint32Array;
}

/**
 * A machine's compiler.
 *
 * Contract of every site, besides the semantics of tail calls: a call that falls through keeps r1, r2 and (its lower half)
 * r3, with which lowering's code behind it finds the cause. Only where a direct site leaves out what loads r2 and r3 are
 * they undefined; that code knows both there.
 */
interface Compiler {
  readonly arch: 'x64' | 'arm64';
  compile(lowered: Lowered, options: CompileOptions): Code;
}

/** A compiler, and the code around compiled programs: what the runtime needs of one processor architecture. */
export interface Machine extends Compiler {
  /** What it can compile, the best last. */
  readonly tailCallModes: readonly TailCallMode[];
  /** What each mode chooses. */
  readonly tailCallPresets: TailCallPresets;
  /** `void f(void)` that enters BPF code as RunContext.entryTarget and entryArguments say. */
  entryTrampoline(runContext: bigint): Uint8Array;
  /**
   * What empty slots lead to where `emptySlots` is 'stub': takes the call off the count again and goes on behind it. Every
   * such slot holds its address for as long as code may run that calls through the array.
   */
  missStub(): Uint8Array;
  /** What a callService reaches: runs the host function at `target` on the host stack. */
  serviceThunk(target: bigint): Uint8Array;
  /** The patchable instructions of a `PokeSite`, all of the same length. */
  jump(from: bigint, to: bigint): Uint8Array;
  nop(): Uint8Array;
  trap(): Uint8Array;
  /** Memory full of this byte holds nothing but instructions that trap. */
  readonly trapByte: number;
}
