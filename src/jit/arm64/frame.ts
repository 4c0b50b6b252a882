/**
 * Stack frames, entries and exits, after the AAPCS64.
 *
 *     [x29 + 8]           return address
 *     [x29]               caller's x29
 *     ...                 callee-saved registers the function uses, in pairs
 *     x25 = r10           the BPF stack lies below
 *     [sp ...]            BPF stack, rounded up to 16 bytes
 *
 * sp does not move between prologue and exit (but for the time of an indirect call), so what a function stores on its
 * own BPF stack is reached from sp: with r10's negative offsets most accesses would not fit the scaled form. x25 is set
 * only in functions that use r10 as a value.
 *
 * The number of tail calls that the run may still make lives in x26, which no function saves: subprograms, programs that were
 * tail-called and the callers of both all see one count, as the semantics demand, and a hop touches no memory for it. A
 * program that is entered from its beginning resets it; a trusted routine that calls one, or a callback, through a
 * register keeps its own count aside meanwhile (`emitCallIndirect`). Host functions keep x26 by the AAPCS64.
 *
 * A tail call undoes everything below `mov x29, sp` and enters its target right behind that instruction: the return
 * address and the link to the caller's frame stay.
 *
 * In mode 'fast' all functions that a hop can leave or reach have one and the same frame: x19-x22 and x25 saved, x25 set, a
 * BPF stack of 512 bytes. A hop leaves all of it as it is and enters its target behind the whole prologue; the target's exit
 * restores what the function that built the frame was entered with. That is a program at its first entry, or a subprogram
 * that makes tail calls itself. Other subprograms have frames of their own, and are never hopped from or to.
 */
import type { Register } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { type FunctionShape, MAX_TAIL_CALLS } from '../shared/compile.ts';
import { CompileError } from '../shared/errors.ts';
import { INSTRUCTION_BYTES } from './branches.ts';
import { addConstant } from './emit-alu.ts';
import { encode } from './encodings.ts';
import {
  CALLEE_SAVED,
  FP,
  FRAME_POINTER,
  LR,
  type MachineRegister,
  machineRegister,
  SP,
  TAIL_CALLS_LEFT,
  ZR,
} from './registers.ts';

/** Bytes from a program's entry to its tail-call entry: mov x26, #33; stp x29, x30; mov x29, sp. */
export const TAIL_CALL_PROLOGUE_OFFSET = 12;
/**
 * In mode 'fast': behind count, frame, and as many nops as put the entry on a cache line of its own, so that a hop that misses
 * the instruction cache fetches as few lines as its program allows.
 */
export const FAST_PROLOGUE_OFFSET = 64;
/** movz, movk, stp, mov, three stp, mov, sub. */
const FIRST_ENTRY_BYTES = 9 * INSTRUCTION_BYTES;
/** BPF stack of every frame that a hop leaves or reaches. */
const HOP_STACK_BYTES = 512;

const STACK_ALIGNMENT = 16;

export interface Frame {
  readonly kind: FunctionShape['kind'];
  /** Bytes between sp and r10, a multiple of 16. */
  readonly stack: number;
  /** Callee-saved registers to keep, in pairs; the zero register fills the last. */
  readonly saved: readonly (readonly [MachineRegister, MachineRegister])[];
  /** x25 is to hold r10. */
  readonly setsFramePointer: boolean;
  /** A tail call is reachable. */
  readonly counts: boolean;
  /** x29 and x30 are saved. Routines that call nothing leave them alone. */
  readonly linked: boolean;
}

export function frameOf({ kind, stackDepth, insns, used, counts }: FunctionShape): Frame {
  const setsFramePointer = insns.some(usesFramePointer);
  const saved: MachineRegister[] = CALLEE_SAVED.filter(register => used.has(register)).map(machineRegister);
  if (setsFramePointer) saved.push(FRAME_POINTER);
  const pairs: [MachineRegister, MachineRegister][] = [];
  for (let i = 0; i < saved.length; i += 2) pairs.push([saved[i]!, saved[i + 1] ?? ZR]);
  return {
    kind,
    stack: used.has(10) ? (stackDepth + STACK_ALIGNMENT - 1) & -STACK_ALIGNMENT : 0,
    saved: pairs,
    setsFramePointer,
    counts,
    linked: kind !== 'routine' || insns.some(insn => insn.kind.startsWith('call')),
  };
}

/**
 * In mode 'fast'.
 * @throws CompileError `bad_input` for a function that can't have the common frame
 */
export function fastFrame(shape: FunctionShape): Frame {
  const { kind, stackDepth, insns, counts } = shape;
  if (kind !== 'main' && !insns.some(insn => insn.kind === 'tailCall')) return frameOf(shape);
  if (stackDepth > HOP_STACK_BYTES) {
    throw new CompileError(
      'bad_input',
      `a function states a stack of ${stackDepth} bytes; with tail calls it may have ${HOP_STACK_BYTES}`,
      { stackDepth },
    );
  }
  const [r6, r7, r8, r9] = CALLEE_SAVED.map(machineRegister) as [number, number, number, number];
  return {
    kind,
    stack: HOP_STACK_BYTES,
    saved: [
      [r6, r7],
      [r8, r9],
      [FRAME_POINTER, ZR],
    ],
    setsFramePointer: true,
    counts,
    linked: true,
  };
}

/** Uses r10 other than as the base address of an access. */
function usesFramePointer(insn: FunctionShape['insns'][number]): boolean {
  const isFramePointer = (register: Register | undefined): boolean => register === 10;
  switch (insn.kind) {
    case 'load':
      return isFramePointer(insn.dst);
    case 'store':
      return isFramePointer(insn.src);
    case 'atomic':
      return isFramePointer(insn.op === 'loadAcquire' ? insn.dst : insn.src);
    default:
      return (
        ('dst' in insn && isFramePointer(insn.dst)) ||
        ('src' in insn && isFramePointer(insn.src)) ||
        ('register' in insn && isFramePointer(insn.register))
      );
  }
}

/** The count of a run that has made no tail call yet. In mode 'fast' the limit may need two instructions, and takes them always. */
export function emitSetCount(buffer: CodeBuffer, limit: number, mode: 'fast' | 'plain'): void {
  encode(buffer, 'movz Rd, #i, lsl #h*16', 64, TAIL_CALLS_LEFT, limit & 0xffff, 0);
  if (mode === 'fast') encode(buffer, 'movk Rd, #i, lsl #h*16', 64, TAIL_CALLS_LEFT, limit >>> 16, 16);
}

/**
 * @param setCount emits what a program's first entry does to the count
 * @param tailCallEntry called where a tail call lands
 */
export function emitPrologue(
  buffer: CodeBuffer,
  frame: Frame,
  setCount: (buffer: CodeBuffer) => void,
  tailCallEntry: () => void,
): void {
  if (frame.kind === 'main') setCount(buffer);
  if (frame.linked) {
    encode(buffer, 'stp Xt, Xu, [Xn|SP, #j*8]!', 64, FP, LR, SP, -16);
    encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, FP, SP, 0);
  }
  tailCallEntry();
  for (const [first, second] of frame.saved) {
    encode(buffer, 'stp Xt, Xu, [Xn|SP, #j*8]!', 64, first, second, SP, -16);
  }
  if (frame.setsFramePointer) encode(buffer, 'add Rd|SP, Rn|SP, #i', 64, FRAME_POINTER, SP, 0);
  addConstant(buffer, SP, SP, -frame.stack);
}

/** In mode 'fast'. @param setCount as for `emitPrologue` @param tailCallEntry called where a tail call lands */
export function emitFastPrologue(
  buffer: CodeBuffer,
  frame: Frame,
  setCount: (buffer: CodeBuffer) => void,
  tailCallEntry: () => void,
): void {
  emitPrologue(buffer, frame, setCount, () => {});
  if (frame.kind === 'main') {
    for (let at = FIRST_ENTRY_BYTES; at < FAST_PROLOGUE_OFFSET; at += INSTRUCTION_BYTES) encode(buffer, 'nop');
  }
  tailCallEntry();
}

/** Back to the state at the tail-call entry. */
export function emitUnwind(buffer: CodeBuffer, frame: Frame): void {
  addConstant(buffer, SP, SP, frame.stack);
  for (let i = frame.saved.length - 1; i >= 0; i--) {
    const [first, second] = frame.saved[i]!;
    encode(buffer, 'ldp Xt, Xu, [Xn|SP], #j*8', 64, first, second, SP, 16);
  }
}

export function emitExit(buffer: CodeBuffer, frame: Frame): void {
  emitUnwind(buffer, frame);
  if (frame.linked) encode(buffer, 'ldp Xt, Xu, [Xn|SP], #j*8', 64, FP, LR, SP, 16);
  encode(buffer, 'ret');
}

/** A call through a register: of a program, or of a callback that starts a count of its own. */
export function emitCallIndirect(buffer: CodeBuffer, register: Register): void {
  encode(buffer, 'str Xt, [Xn|SP, #j]!', 64, TAIL_CALLS_LEFT, SP, -STACK_ALIGNMENT);
  emitSetCount(buffer, MAX_TAIL_CALLS, 'plain');
  encode(buffer, 'blr Xn', 64, machineRegister(register));
  encode(buffer, 'ldr Xt, [Xn|SP], #j', 64, TAIL_CALLS_LEFT, SP, STACK_ALIGNMENT);
}
