/**
 * The two crossings between the host's C world and BPF code.
 *
 * A BPF run does not use the host's stack: its frames lie in the BPF stack of the thread, inside the arena. The entry
 * trampoline switches to it; a service thunk switches back for the time of a host call. Both find their way through
 * the thread's RunContext, whose address stays in r12.
 *
 * Nesting: a service may be a JS callback that runs another program on the same thread. The thunk therefore lowers
 * `RunContext.stackTop` to below the calling frame while the service runs, and the trampoline keeps the outer
 * `hostStack` on the host stack, so the inner run uses fresh parts of both stacks and leaves both words as found.
 *
 * Host functions may change r9, where 'fast' programs count their tail calls; the thunk keeps it.
 *
 * All code here is position-independent but for the addresses it is given.
 */
import { RunContext } from '../../memory/layout.ts';
import { CodeBuffer } from '../shared/code-buffer.ts';
import { moveImmediate64 } from './emit-alu.ts';
import { encode, type Memory } from './encodings.ts';
import {
  type MachineRegister,
  R8,
  R13,
  R14,
  R15,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  RSP,
  RUN_CONTEXT,
  SCRATCH,
  TAIL_CALLS_LEFT,
} from './registers.ts';

const MAX_BYTES = 4096;
/** Distance kept between the calling frame and a nested run, bytes. */
const NESTING_GAP = 128;

/** System V: rbx, rbp, r12-r15 belong to the caller. */
const HOST_CALLEE_SAVED: readonly MachineRegister[] = [RBP, RBX, RUN_CONTEXT, R13, R14, R15];
const BPF_ARGUMENTS: readonly MachineRegister[] = [RDI, RSI, RDX, RCX, R8];

const context = (displacement: number): Memory => ({ base: RUN_CONTEXT, displacement });

/**
 * Code of a `void f(void)` that runs BPF code on the thread of one RunContext: calls `entryTarget` with
 * `entryArguments` in r1-r5 and stores r0 to `entryResult`.
 * @param runContext address of the RunContext; its `stackTop` must be a multiple of 16
 */
export function entryTrampoline(runContext: bigint): Uint8Array {
  const buffer = new CodeBuffer(MAX_BYTES);
  for (const register of HOST_CALLEE_SAVED) encode(buffer, 'push r64', 32, register);
  moveImmediate64(buffer, RUN_CONTEXT, runContext);
  // Return address, six registers and this word: the host stack is now a multiple of 16, as calls from it need.
  encode(buffer, 'push m64', 32, context(RunContext.hostStack));
  encode(buffer, 'mov rm, r', 64, context(RunContext.hostStack), RSP);
  encode(buffer, 'mov r, rm', 64, context(RunContext.stackTop), RSP);
  BPF_ARGUMENTS.forEach((register, index) => {
    encode(buffer, 'mov r, rm', 64, context(RunContext.entryArguments + 8 * index), register);
  });
  // A callee that is entered in the middle of nothing has made no tail call yet.
  encode(buffer, 'xor rm, r', 32, RAX, RAX);
  encode(buffer, 'call rm64', 32, context(RunContext.entryTarget));
  encode(buffer, 'mov rm, r', 64, context(RunContext.entryResult), RAX);
  encode(buffer, 'mov r, rm', 64, context(RunContext.hostStack), RSP);
  encode(buffer, 'pop m64', 32, context(RunContext.hostStack));
  for (const register of [...HOST_CALLEE_SAVED].reverse()) encode(buffer, 'pop r64', 32, register);
  encode(buffer, 'ret', 32);
  return buffer.finish().bytes;
}

/**
 * Code that BPF code calls in order to run a host function (System V, up to five integer arguments, one result): BPF's
 * r1-r5 and r0 are the ABI's registers already, only the stack changes.
 * @param target address of the host function
 */
export function serviceThunk(target: bigint): Uint8Array {
  const buffer = new CodeBuffer(MAX_BYTES);
  encode(buffer, 'push r64', 32, TAIL_CALLS_LEFT);
  encode(buffer, 'push m64', 32, context(RunContext.stackTop));
  encode(buffer, 'lea r, m', 64, { base: RSP, displacement: -NESTING_GAP }, RAX);
  encode(buffer, 'and rm, imm8', 64, RAX, 0, -16);
  encode(buffer, 'mov rm, r', 64, context(RunContext.stackTop), RAX);
  encode(buffer, 'mov rm, r', 64, SCRATCH, RSP);
  encode(buffer, 'mov r, rm', 64, context(RunContext.hostStack), RSP);
  // Twice, to keep the host stack a multiple of 16.
  encode(buffer, 'push r64', 32, SCRATCH);
  encode(buffer, 'push r64', 32, SCRATCH);
  moveImmediate64(buffer, SCRATCH, target);
  // Variadic functions (printf) take the number of vector registers in AL.
  encode(buffer, 'xor rm, r', 32, RAX, RAX);
  encode(buffer, 'call rm64', 32, SCRATCH);
  encode(buffer, 'pop r64', 32, RSP);
  encode(buffer, 'pop m64', 32, context(RunContext.stackTop));
  encode(buffer, 'pop r64', 32, TAIL_CALLS_LEFT);
  encode(buffer, 'ret', 32);
  return buffer.finish().bytes;
}
