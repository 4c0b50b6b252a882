/** Branches and calls with a label, and the fillers. */
import type { BranchForm, CodeBuffer, Label } from '../shared/code-buffer.ts';
import type { MachineRegister } from './registers.ts';

/** Condition codes as in the low four bits of Jcc. */
export const Condition = {
  below: 2,
  aboveOrEqual: 3,
  equal: 4,
  notEqual: 5,
  belowOrEqual: 6,
  above: 7,
  sign: 8,
  notSign: 9,
  less: 12,
  greaterOrEqual: 13,
  lessOrEqual: 14,
  greater: 15,
} as const;
export type Condition = (typeof Condition)[keyof typeof Condition];

const reachesInt8 = (displacement: number): boolean => displacement >= -128 && displacement <= 127;

function setInt32(out: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) out[at + i] = value >> (8 * i);
}

/** Displacements count from the end of the instruction, distances from its start. */
export const JUMP: BranchForm = {
  shortBytes: 2,
  longBytes: 5,
  reaches: distance => reachesInt8(distance - 2),
  write(out, at, distance, long) {
    out[at] = long ? 0xe9 : 0xeb;
    if (long) setInt32(out, at + 1, distance - 5);
    else out[at + 1] = distance - 2;
  },
};

const CONDITIONAL: readonly BranchForm[] = Array.from({ length: 16 }, (_, condition) => ({
  shortBytes: 2,
  longBytes: 6,
  reaches: distance => reachesInt8(distance - 2),
  write(out, at, distance, long) {
    if (long) {
      out[at] = 0x0f;
      out[at + 1] = 0x80 | condition;
      setInt32(out, at + 2, distance - 6);
    } else {
      out[at] = 0x70 | condition;
      out[at + 1] = distance - 2;
    }
  },
}));

export function jump(buffer: CodeBuffer, label: Label): void {
  buffer.branch(JUMP, label);
}

export function jumpIf(buffer: CodeBuffer, condition: Condition, label: Label): void {
  buffer.branch(CONDITIONAL[condition]!, label);
}

/** `call` or `jmp` with a 32-bit displacement whatever the distance. */
export function near(buffer: CodeBuffer, opcode: 0xe8 | 0xe9, label: Label): void {
  buffer.u8(opcode);
  buffer.field(4, label, (out, at, target) => out.setInt32(at, target - (at + 4), true));
}

/** lea r64, [rip + disp32]: the label's address. */
export function loadAddress(buffer: CodeBuffer, register: MachineRegister, label: Label): void {
  buffer.u8(register >= 8 ? 0x4c : 0x48);
  buffer.u8(0x8d);
  buffer.u8(((register & 7) << 3) | 5);
  buffer.field(4, label, (out, at, target) => out.setInt32(at, target - (at + 4), true));
}

/** The recommended no-operation of each length, 1 to 8 bytes. */
const NOPS: readonly (readonly number[])[] = [
  [],
  [0x90],
  [0x66, 0x90],
  [0x0f, 0x1f, 0x00],
  [0x0f, 0x1f, 0x40, 0x00],
  [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
  [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

export function fillWithNops(out: Uint8Array, at: number, count: number): void {
  for (let done = 0; done < count; ) {
    const nop = NOPS[Math.min(count - done, NOPS.length - 1)]!;
    out.set(nop, at + done);
    done += nop.length;
  }
}

export function nop(buffer: CodeBuffer, bytes: 3 | 5): void {
  for (const byte of NOPS[bytes]!) buffer.u8(byte);
}
