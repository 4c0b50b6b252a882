/**
 * The two crossings between the host's C world and BPF code.
 *
 * A BPF run does not use the host's stack: its frames lie in the BPF stack of the thread, inside the arena. The entry
 * trampoline switches to it; a service thunk switches back for the time of a host call. Both find their way through
 * the thread's RunContext, whose address stays in x28.
 *
 * Nesting: a service may be a JS callback that runs another program on the same thread. The thunk therefore lowers
 * `RunContext.stackTop` to below the calling frame while the service runs, and the trampoline keeps the outer
 * `hostStack` on the host stack, so the inner run uses fresh parts of both stacks and leaves both words as found.
 *
 * All code here is position-independent but for the addresses it is given.
 */
import { RunContext } from '../../memory/layout.ts';
import { CodeBuffer } from '../shared/code-buffer.ts';
import { loadConstant, move } from './emit-alu.ts';
import { encode } from './encodings.ts';
import {
  FP,
  FRAME_POINTER,
  LR,
  type MachineRegister,
  RUN_CONTEXT,
  SCRATCH_A,
  SCRATCH_B,
  SP,
  TAIL_CALLS_LEFT,
  X0,
  X7,
} from './registers.ts';

const MAX_BYTES = 4096;
/** Distance kept between the calling frame and a nested run, bytes. */
const NESTING_GAP = 128;

/** What BPF code changes of the registers that belong to the caller (AAPCS64): x29 and x30 first, as frame record. */
const HOST_SAVED: readonly (readonly [MachineRegister, MachineRegister])[] = [
  [FP, LR],
  [19, 20],
  [21, 22],
  [FRAME_POINTER, TAIL_CALLS_LEFT],
  [RUN_CONTEXT, SCRATCH_A],
];
/** Where in the last pair the outer hostStack lies. */
const OUTER_HOST_STACK = 16 * HOST_SAVED.length - 8;
const FRAME_BYTES = 16 * HOST_SAVED.length;

const load = (buffer: CodeBuffer, register: MachineRegister, base: MachineRegister, offset: number): void =>
  encode(buffer, 'ldr Xt, [Xn|SP, #i*8]', 64, register, base, offset);
const store = (buffer: CodeBuffer, register: MachineRegister, base: MachineRegister, offset: number): void =>
  encode(buffer, 'str Xt, [Xn|SP, #i*8]', 64, register, base, offset);
/** Between the stack pointer and another register. */
const moveStack = (buffer: CodeBuffer, dst: MachineRegister, src: MachineRegister): void =>
  encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, dst, src, 0);

/**
 * Code of a `void f(void)` that runs BPF code on the thread of one RunContext: calls `entryTarget` with
 * `entryArguments` in r1-r5 and stores r0 to `entryResult`.
 * @param runContext address of the RunContext; its `stackTop` must be a multiple of 16
 */
export function entryTrampoline(runContext: bigint): Uint8Array {
  const buffer = new CodeBuffer(MAX_BYTES);
  HOST_SAVED.forEach(([first, second], i) => {
    if (i === 0) encode(buffer, 'stp Xt, Xu, [Xn|SP, #j*8]!', 64, first, second, SP, -FRAME_BYTES);
    else encode(buffer, 'stp Xt, Xu, [Xn|SP, #j*8]', 64, first, second, SP, 16 * i);
  });
  moveStack(buffer, FP, SP);
  loadConstant(buffer, 64, RUN_CONTEXT, runContext);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.hostStack);
  store(buffer, SCRATCH_A, SP, OUTER_HOST_STACK);
  store(buffer, FP, RUN_CONTEXT, RunContext.hostStack);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.stackTop);
  moveStack(buffer, SP, SCRATCH_A);
  // BPF's r1-r5 are x0-x4.
  for (let i = 0; i < 5; i++) load(buffer, X0 + i, RUN_CONTEXT, RunContext.entryArguments + 8 * i);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.entryTarget);
  encode(buffer, 'blr Xn', 64, SCRATCH_A);
  store(buffer, X7, RUN_CONTEXT, RunContext.entryResult);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.hostStack);
  moveStack(buffer, SP, SCRATCH_A);
  load(buffer, SCRATCH_A, SP, OUTER_HOST_STACK);
  store(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.hostStack);
  for (let i = HOST_SAVED.length - 1; i > 0; i--) {
    const [first, second] = HOST_SAVED[i]!;
    encode(buffer, 'ldp Xt, Xu, [Xn|SP, #j*8]', 64, first, second, SP, 16 * i);
  }
  encode(buffer, 'ldp Xt, Xu, [Xn|SP], #j*8', 64, FP, LR, SP, FRAME_BYTES);
  encode(buffer, 'ret');
  return buffer.finish().bytes;
}

/**
 * Code that BPF code calls in order to run a host function (AAPCS64, up to five integer arguments, one result): BPF's
 * r1-r5 are the ABI's registers already; the stack changes, and the result moves to r0.
 * @param target address of the host function
 */
export function serviceThunk(target: bigint): Uint8Array {
  const buffer = new CodeBuffer(MAX_BYTES);
  encode(buffer, 'stp Xt, Xu, [Xn|SP, #j*8]!', 64, FP, LR, SP, -32);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.stackTop);
  store(buffer, SCRATCH_A, SP, 16);
  encode(buffer, 'sub Rd|SP, Rn|SP, #i', 64, SCRATCH_A, SP, NESTING_GAP);
  store(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.stackTop);
  // The host function keeps x29, and so the way back.
  moveStack(buffer, FP, SP);
  load(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.hostStack);
  moveStack(buffer, SP, SCRATCH_A);
  loadConstant(buffer, 64, SCRATCH_B, target);
  encode(buffer, 'blr Xn', 64, SCRATCH_B);
  moveStack(buffer, SP, FP);
  move(buffer, 64, X7, X0);
  load(buffer, SCRATCH_A, SP, 16);
  store(buffer, SCRATCH_A, RUN_CONTEXT, RunContext.stackTop);
  encode(buffer, 'ldp Xt, Xu, [Xn|SP], #j*8', 64, FP, LR, SP, 32);
  encode(buffer, 'ret');
  return buffer.finish().bytes;
}
