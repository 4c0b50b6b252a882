/** A64 general registers by number, and where each BPF register lives (the Linux kernel's assignment). */
import type { Register } from '../../isa/instruction.ts';

/** 0-30; 31 is the zero register or the stack pointer, as the instruction has it. */
export type MachineRegister = number;

export const X0 = 0;
export const X1 = 1;
export const X2 = 2;
export const X7 = 7;
export const FP = 29;
export const LR = 30;
/** Number 31 where the instruction form takes the stack pointer. */
export const SP = 31;
/** Number 31 everywhere else. */
export const ZR = 31;

/** x9: BPF's scratch register of lowering and trusted routines. */
const AX = 9;
/** x10-x13: free to the emitter within one BPF instruction. */
export const SCRATCH_A = 10;
export const SCRATCH_B = 11;
export const SCRATCH_C = 12;
export const SCRATCH_D = 13;
/** x25: BPF's frame pointer r10, in functions that need it as a value. */
export const FRAME_POINTER = 25;
/** x26: tail calls that this run may still make. */
export const TAIL_CALLS_LEFT = 26;
/** x28: holds the address of the RunContext during the whole run; compiled code never writes it. */
export const RUN_CONTEXT = 28;

/**
 * BPF r1-r5 are the first five argument registers of the AAPCS64, r6-r9 and r10 are callee-saved in it. r0 is x7, since
 * x0 is r1: only calls out of BPF code have to move the result.
 */
const BPF_TO_MACHINE: readonly MachineRegister[] = [X7, X0, X1, X2, 3, 4, 19, 20, 21, 22, FRAME_POINTER, AX];

export function machineRegister(register: Register): MachineRegister {
  return BPF_TO_MACHINE[register]!;
}

/** BPF registers that a function must keep. */
export const CALLEE_SAVED: readonly Register[] = [6, 7, 8, 9];
