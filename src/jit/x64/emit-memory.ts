/** Loads, stores and atomic operations. */
import type { Atomic, Load, Store } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { Condition, jumpIf } from './branches.ts';
import { move } from './emit-alu.ts';
import { encode, type Memory } from './encodings.ts';
import { type MachineRegister, machineRegister, RAX, RCX, RDX, RSI, SCRATCH } from './registers.ts';

const at = (base: MachineRegister, displacement: number): Memory => ({ base, displacement });

export function emitLoad(buffer: CodeBuffer, insn: Load): void {
  const dst = machineRegister(insn.dst);
  const memory = at(machineRegister(insn.src), insn.offset);
  if (insn.signed) {
    if (insn.size === 1) encode(buffer, 'movsx r, rm8', 64, memory, dst);
    else if (insn.size === 2) encode(buffer, 'movsx r, rm16', 64, memory, dst);
    else if (insn.size === 4) encode(buffer, 'movsxd r, rm32', 64, memory, dst);
    else encode(buffer, 'mov r, rm', 64, memory, dst);
  } else {
    load(buffer, insn.size, dst, memory);
  }
}

function load(buffer: CodeBuffer, size: Load['size'], dst: MachineRegister, memory: Memory): void {
  if (size === 1) encode(buffer, 'movzx r, rm8', 32, memory, dst);
  else if (size === 2) encode(buffer, 'movzx r, rm16', 32, memory, dst);
  else encode(buffer, 'mov r, rm', size === 8 ? 64 : 32, memory, dst);
}

export function emitStore(buffer: CodeBuffer, insn: Store): void {
  const memory = at(machineRegister(insn.dst), insn.offset);
  if (insn.src !== undefined) store(buffer, insn.size, memory, machineRegister(insn.src));
  else if (insn.size === 1) encode(buffer, 'mov rm8, imm8', 32, memory, 0, insn.imm);
  else if (insn.size === 2) encode(buffer, 'mov rm16, imm16', 32, memory, 0, insn.imm);
  else encode(buffer, 'mov rm, imm32', insn.size === 8 ? 64 : 32, memory, 0, insn.imm);
}

function store(buffer: CodeBuffer, size: Store['size'], memory: Memory, src: MachineRegister): void {
  if (size === 1) encode(buffer, 'mov rm8, r8', 32, memory, src);
  else if (size === 2) encode(buffer, 'mov rm16, r16', 32, memory, src);
  else encode(buffer, 'mov rm, r', size === 8 ? 64 : 32, memory, src);
}

export function emitAtomic(buffer: CodeBuffer, insn: Atomic): void {
  const { op, size } = insn;
  const dst = machineRegister(insn.dst);
  const src = machineRegister(insn.src);
  // x86-64 is strongly ordered: every load acquires, every store releases.
  if (op === 'loadAcquire') {
    load(buffer, size, dst, at(src, insn.offset));
    return;
  }
  const memory = at(dst, insn.offset);
  if (op === 'storeRelease') {
    store(buffer, size, memory, src);
    return;
  }
  const width = size === 8 ? 64 : 32;
  switch (op) {
    case 'xchg':
      encode(buffer, 'xchg r, m', width, memory, src);
      break;
    case 'cmpxchg':
      encode(buffer, 'lock cmpxchg m, r', width, memory, src);
      // On success the machine leaves RAX as it was, upper half included; BPF zero-extends r0.
      if (width === 32) move(buffer, 32, RAX, RAX);
      break;
    case 'add':
      encode(buffer, insn.fetch ? 'lock xadd m, r' : 'lock add m, r', width, memory, src);
      break;
    default:
      if (insn.fetch) fetchAndModify(buffer, op, width, dst, insn.offset, src);
      else encode(buffer, `lock ${op} m, r`, width, memory, src);
  }
}

const BORROWED: readonly MachineRegister[] = [RDX, RCX, RSI];

/** The machine has no fetching or, and, xor: compute the new value and try to swap it in until nobody interfered. */
function fetchAndModify(
  buffer: CodeBuffer,
  op: 'or' | 'and' | 'xor',
  width: 32 | 64,
  base: MachineRegister,
  offset: number,
  src: MachineRegister,
): void {
  // cmpxchg compares with RAX, so r0 moves to a register that is free of operands for as long as that takes.
  const refuge = BORROWED.find(register => register !== base && register !== src)!;
  const away = (register: MachineRegister): MachineRegister => (register === RAX ? refuge : register);
  const memory = at(away(base), offset);
  encode(buffer, 'push r64', 32, refuge);
  move(buffer, 64, refuge, RAX);
  encode(buffer, 'mov r, rm', width, memory, RAX);
  const retry = buffer.here();
  move(buffer, 64, SCRATCH, RAX);
  encode(buffer, `${op} rm, r`, width, SCRATCH, away(src));
  encode(buffer, 'lock cmpxchg m, r', width, memory, SCRATCH);
  jumpIf(buffer, Condition.notEqual, retry);
  if (src !== RAX) {
    move(buffer, 64, src, RAX);
    move(buffer, 64, RAX, refuge);
  }
  encode(buffer, 'pop r64', 32, refuge);
}
