/** How kernel functions (kfuncs) look to the verifier. The table is made in `helpers/` and handed to `verify()`. */
import type { ProgramType } from '../object/spec.ts';
import type { ArgumentType } from './signature.ts';

/** An open-coded iterator on the stack. */
export interface IteratorArgument {
  readonly type: 'iterator';
  readonly of: 'num' | 'bits';
  /** Stack slots that it occupies. */
  readonly slots: number;
  readonly use: 'new' | 'next' | 'destroy';
}

export type KfuncArgument =
  | { readonly type: 'context' }
  | { readonly type: 'scalar' }
  /** A constant; the size of the slice that is returned. */
  | { readonly type: 'constSize' }
  | IteratorArgument
  | Extract<ArgumentType, { readonly type: 'dynptr' }>
  /** The dynptr that becomes a copy of the one in the argument before. */
  | { readonly type: 'dynptrClone' }
  /**
   * Memory that is read and written, of the size in the next argument. `optional`: null is legal. `constant`: the
   * size must be, and is that of the slice that is returned.
   */
  | { readonly type: 'buffer'; readonly optional?: boolean; readonly constant?: boolean }
  /** Size of the buffer before. */
  | { readonly type: 'bufferSize' }
  /** Memory of `size` bytes that is read and written. */
  | { readonly type: 'fixedMemory'; readonly size: number }
  /** Text up to a NUL, wherever it may be: the function finds out whether it can be read. */
  | { readonly type: 'unsafeText' }
  /** Any address or number: nothing is asked of it. */
  | { readonly type: 'anything' }
  /** Constant id of a type in the kernel's BTF: what the function casts to, 0 for void. */
  | { readonly type: 'typeId' };

export type KfuncResult =
  | { readonly type: 'scalar' }
  | { readonly type: 'void' }
  /** Pointer to `size` bytes that the program may only read, or null once the iterator has nothing more. */
  | { readonly type: 'element'; readonly size: number }
  /** An address that may be any, as what the `typeId` argument says; each load finds out whether there is something. */
  | { readonly type: 'cast' }
  /** Memory of the constant size, or null: a slice of the dynptr argument. */
  | { readonly type: 'slice'; readonly writable: boolean };

/** What a call does to the region that the path is in. */
type KfuncRegion = 'rcuLock' | 'rcuUnlock' | 'preemptDisable' | 'preemptEnable';

export interface KfuncSignature {
  /** "bpf_iter_num_new" */
  readonly name: string;
  readonly args: readonly KfuncArgument[];
  readonly returns: KfuncResult;
  readonly programTypes: readonly ProgramType[];
  readonly region?: KfuncRegion;
  /** The call may move packet memory. */
  readonly changesPacket?: boolean;
}

export type KfuncTable = ReadonlyMap<string, KfuncSignature>;

/** Is it the call that a loop over an iterator turns at? */
export function isIteratorNext(signature: KfuncSignature | undefined): boolean {
  return signature?.args.some(argument => argument.type === 'iterator' && argument.use === 'next') === true;
}
