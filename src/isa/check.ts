/**
 * Instructions that somebody put together by hand: is each one that this instruction set has, every field within what its type
 * says? The verifier proves what instructions do, and takes it for granted that they are instructions: with an immediate of 2^40 or a
 * register 12 it would prove one thing, and a compiler make another.
 *
 * Two steps: each field is what its type says, so that nothing below meets a value of another kind; then the codec is asked whether
 * the instruction has an encoding.
 */
import { type Check, check, refuse } from '../arguments.ts';
import { checkEncodable } from './codec.ts';
import type { Instruction } from './instruction.ts';
import { isKnown } from './well-formed.ts';

const { arrayOf, bigint, boolean, integer, natural, oneOf, optional, record, string, u32 } = check;

/** r11 is for lowering and trusted routines only. */
const register = integer(0, 10);
const int16 = integer(-(2 ** 15), 2 ** 15 - 1);
const int32 = integer(-(2 ** 31), 2 ** 31 - 1);
const width = oneOf(32, 64);
const size = oneOf(1, 2, 4, 8);
const operand = { src: optional(register), imm: int32 };

const u64: Check = (value, name) => {
  bigint(value, name);
  if ((value as bigint) < 0n || (value as bigint) >= 1n << 64n) refuse(name, 'a bigint from 0 to 2^64 - 1', value);
};

/** As an object or `decode` gives them; those that lowering makes are not taken from outside. */
const REFERENCES: Readonly<Record<string, Check>> = {
  mapFd: record({ fd: int32 }),
  mapFdValue: record({ fd: int32, offset: u32 }),
  btfId: record({ id: int32, fd: int32 }),
  function: record({ offset: int32 }),
  mapIndex: record({ index: int32 }),
  mapIndexValue: record({ index: int32, offset: u32 }),
  map: record({ map: string }),
  mapValue: record({ map: string, offset: natural }),
  kfunc: record({ name: string }),
};

const reference: Check = (value, name) => {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null) refuse(name, 'an object', value);
  const { type } = value as { type?: unknown };
  if (typeof type !== 'string' || !Object.hasOwn(REFERENCES, type)) {
    refuse(`${name}.type`, Object.keys(REFERENCES).join(', '), type);
  }
  REFERENCES[type]!(value, name);
};

const ALU = oneOf(
  ...['add', 'sub', 'mul', 'div', 'sdiv', 'mod', 'smod', 'or', 'and', 'xor', 'lsh', 'rsh', 'arsh', 'neg', 'mov'],
);
const JUMP = oneOf('eq', 'ne', 'gt', 'ge', 'lt', 'le', 'sgt', 'sge', 'slt', 'sle', 'set');
const ATOMIC = oneOf('add', 'or', 'and', 'xor', 'xchg', 'cmpxchg', 'loadAcquire', 'storeRelease');

const KINDS: Readonly<Record<string, Check>> = {
  alu: record({ op: ALU, width, dst: register, ...operand }),
  movsx: record({ width, from: oneOf(8, 16, 32), dst: register, src: register }),
  byteswap: record({ order: oneOf('le', 'be', 'swap'), size: oneOf(16, 32, 64), dst: register }),
  addrSpaceCast: record({ dst: register, src: register, toSpace: integer(0, 0xffff), fromSpace: integer(0, 0xffff) }),
  loadImm64: record({ dst: register, value: u64, reference }),
  wide: record({}),
  load: record({ size, signed: boolean, dst: register, src: register, offset: int16 }),
  store: record({ size, dst: register, offset: int16, ...operand }),
  atomic: record({ op: ATOMIC, fetch: boolean, size, dst: register, src: register, offset: int16 }),
  packetLoad: record({ size: oneOf(1, 2, 4), ...operand }),
  jump: record({ op: JUMP, width, dst: register, ...operand, offset: int16 }),
  goto: record({ offset: int32, long: boolean }),
  mayGoto: record({ offset: int16 }),
  callHelper: record({ helper: int32 }),
  callSubprogram: record({ offset: int32 }),
  callKfunc: record({ btfId: int32, module: int16, name: optional(string) }),
  exit: record({}),
};

/** One instruction. @throws ArgumentError */
const instruction: Check = (value, name) => {
  if (typeof value !== 'object' || value === null) refuse(name, 'an instruction', value);
  const { kind } = value as { kind?: unknown };
  if (typeof kind !== 'string' || !Object.hasOwn(KINDS, kind)) {
    refuse(`${name}.kind`, `a kind of instruction (${Object.keys(KINDS).join(', ')})`, kind);
  }
  KINDS[kind]!(value, name);
};

const all = arrayOf(instruction);

/** As it would be after its reference was resolved. */
function resolved(insn: Instruction): Instruction {
  return insn.kind === 'loadImm64' && insn.reference ? { ...insn, reference: { type: 'mapFd', fd: 0 } } : insn;
}

/** The instructions of a program, by slot. @throws ArgumentError; IsaError as `encode` */
export const instructions: Check = (value, name) => {
  if (isKnown(value)) return;
  all(value, name);
  const insns = value as readonly Instruction[];
  for (const [slot, insn] of insns.entries()) {
    if (insn.kind !== 'wide') checkEncodable(resolved(insn), slot, insns[slot + 1]);
    else if (insns[slot - 1]?.kind !== 'loadImm64')
      refuse(`${name}[${slot}]`, 'a wide marker behind a loadImm64 only', insn);
  }
};
