/**
 * Atomic operations, in two dialects: the LSE instructions of Armv8.1, one for each operation, and loops of exclusive
 * loads and stores for Armv8.0. What fetches is fully ordered, what does not is relaxed (the kernel's memory model).
 * Like Linux, an exclusive loop makes itself fully ordered by a releasing store and a barrier behind it. All of them
 * need naturally aligned addresses, which the verifier sees to.
 */
import type { Atomic } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { jumpIfZero } from './branches.ts';
import { addConstant, move } from './emit-alu.ts';
import { placeOf } from './emit-memory.ts';
import { encode } from './encodings.ts';
import type { Frame } from './frame.ts';
import { type MachineRegister, machineRegister, SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_D, X7 } from './registers.ts';

/** 'lse' needs Armv8.1 (Linux: HWCAP_ATOMICS). */
export type AtomicsDialect = 'lse' | 'exclusive';

type Modify = 'add' | 'or' | 'and' | 'xor';

export function emitAtomic(buffer: CodeBuffer, insn: Atomic, frame: Frame, dialect: AtomicsDialect): void {
  const { op, size } = insn;
  const acquires = op === 'loadAcquire';
  const address = addressOf(buffer, insn, frame);
  if (acquires || op === 'storeRelease') {
    const value = machineRegister(acquires ? insn.dst : insn.src);
    const name = acquires ? 'ldar' : 'stlr';
    if (size >= 4) encode(buffer, `${name} Rt, [Xn|SP]`, size === 8 ? 64 : 32, value, address);
    else encode(buffer, size === 1 ? `${name}b Wt, [Xn|SP]` : `${name}h Wt, [Xn|SP]`, 32, value, address);
    return;
  }
  const width = size === 8 ? 64 : 32;
  const src = machineRegister(insn.src);
  if (dialect === 'exclusive') exclusiveLoop(buffer, insn, width, address, src);
  else if (op === 'xchg') encode(buffer, 'swpal Rs, Rt, [Xn|SP]', width, src, src, address);
  else if (op === 'cmpxchg') encode(buffer, 'casal Rs, Rt, [Xn|SP]', width, X7, src, address);
  else lse(buffer, op, insn.fetch, width, address, src);
}

/** Atomic instructions take a bare address. May use SCRATCH_A. */
function addressOf(buffer: CodeBuffer, insn: Atomic, frame: Frame): MachineRegister {
  const { base, offset } = placeOf(frame, insn.op === 'loadAcquire' ? insn.src : insn.dst, insn.offset);
  if (offset === 0) return base;
  addConstant(buffer, SCRATCH_A, base, offset);
  return SCRATCH_A;
}

function lse(
  buffer: CodeBuffer,
  op: Modify,
  fetch: boolean,
  width: 32 | 64,
  address: MachineRegister,
  src: MachineRegister,
): void {
  const name = ({ add: 'add', or: 'set', and: 'clr', xor: 'eor' } as const)[op];
  let operand = src;
  if (op === 'and') {
    // The machine clears the bits of its operand.
    encode(buffer, 'mvn Rd, Rm', width, SCRATCH_B, src);
    operand = SCRATCH_B;
  }
  if (fetch) encode(buffer, `ld${name}al Rs, Rt, [Xn|SP]`, width, operand, src, address);
  else encode(buffer, `st${name} Rs, [Xn|SP]`, width, operand, address);
}

/** SCRATCH_B: old value; SCRATCH_C: new value; SCRATCH_D: whether the store failed. */
function exclusiveLoop(
  buffer: CodeBuffer,
  insn: Atomic,
  width: 32 | 64,
  address: MachineRegister,
  src: MachineRegister,
): void {
  const retry = buffer.here();
  const differs = buffer.label();
  encode(buffer, 'ldxr Rt, [Xn|SP]', width, SCRATCH_B, address);
  let stored = src;
  switch (insn.op) {
    case 'cmpxchg':
      encode(buffer, 'eor Rd, Rn, Rm', width, SCRATCH_C, SCRATCH_B, X7);
      jumpIfZero(buffer, false, width, SCRATCH_C, differs);
      break;
    case 'add':
    case 'and':
    case 'or':
    case 'xor': {
      const name = ({ add: 'add', or: 'orr', and: 'and', xor: 'eor' } as const)[insn.op];
      encode(buffer, `${name} Rd, Rn, Rm`, width, SCRATCH_C, SCRATCH_B, src);
      stored = SCRATCH_C;
      break;
    }
    default:
      break;
  }
  const store = insn.fetch ? 'stlxr Ws, Rt, [Xn|SP]' : 'stxr Ws, Rt, [Xn|SP]';
  encode(buffer, store, width, SCRATCH_D, stored, address);
  jumpIfZero(buffer, false, 32, SCRATCH_D, retry);
  buffer.bind(differs);
  if (!insn.fetch) return;
  encode(buffer, 'dmb ish');
  move(buffer, width, insn.op === 'cmpxchg' ? X7 : src, SCRATCH_B);
}
