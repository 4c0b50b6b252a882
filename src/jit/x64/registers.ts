/** x86-64 registers by their number in ModRM, and where each BPF register lives (the Linux kernel's assignment). */
import type { Register } from '../../isa/instruction.ts';

export type MachineRegister = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15;

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R13 = 13;
export const R14 = 14;
export const R15 = 15;

/**
 * r9: in 'fast' mode, how many tail calls the run may still make, negative (see fast.ts). No other emitted code writes it, trusted
 * routines included, and service thunks keep it over host functions.
 */
export const TAIL_CALLS_LEFT = 9;
/** r11: free to the emitter within one BPF instruction. */
export const SCRATCH = 11;
/** r12: holds the address of the RunContext during the whole run; compiled code never writes it. */
export const RUN_CONTEXT = 12;
/** r10: BPF's scratch register of lowering and trusted routines. */
const AX = 10;

/**
 * BPF r1-r5 are the first five argument registers of the System V ABI, r6-r9 and r10 are callee-saved in it, so a
 * call from BPF to C and back moves no register.
 */
const BPF_TO_MACHINE: readonly MachineRegister[] = [RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP, AX];

export function machineRegister(register: Register): MachineRegister {
  return BPF_TO_MACHINE[register]!;
}

/** BPF registers that a function must keep, in the order in which a frame pushes them. */
export const CALLEE_SAVED: readonly Register[] = [6, 7, 8, 9];
