/*
 * The wire format, both directions. The only file that knows it.
 *
 * One slot is eight bytes, little-endian:
 *
 *      7         0   3   0   3   0   15                 0   31                                  0
 *     +-----------+-------+-------+----------------------+--------------------------------------+
 *     |  opcode   |  src  |  dst  |        offset        |                 imm                  |
 *     +-----------+-------+-------+----------------------+--------------------------------------+
 *       byte 0     byte 1 (hi, lo)        bytes 2-3                     bytes 4-7
 *
 * and the opcode, by its class (the low three bits):
 *
 *      7  6  5  4     3     2  1  0                      7  6  5    4  3    2  1  0
 *     +------------+-----+---------+                    +---------+-------+---------+
 *     | operation  |  s  |  class  |  ALU, ALU64,       |  mode   | size  |  class  |  LD, LDX, ST, STX
 *     +------------+-----+---------+  JMP, JMP32        +---------+-------+---------+
 *       s = 0: operand is imm, 1: operand is src          size = W H B DW
 *
 * Strategy. `FORMS` has a row for each of the 256 opcodes that exists: how to read it, and how the kernel names its
 * reserved fields. Reading looks only at the fields an instruction means; then the instruction is written back, and
 * whatever differs from what came was a reserved field with something in it. So a field is reserved exactly when the
 * writer leaves it zero, and these hold by construction:
 *
 *   - encode(decode(bytes)) equals bytes, for all bytes that decode accepts;
 *   - encode accepts an instruction only if decode gives it back.
 *
 * What needs a look at more than one instruction (jump targets, shift amounts against types, helper numbers) is the
 * verifier's business. Source: RFC 9669 sections 3-5; reserved fields and their messages as Linux 6.18 has them.
 */
import { check, withForeign } from '../arguments.ts';
import { IsaError, type IsaErrorCode } from './errors.ts';
import {
  type Alu,
  type AluOp,
  type Atomic,
  type AtomicOp,
  type Instruction,
  type JumpOp,
  type LoadImm64,
  type PacketLoad,
  type Reference,
  type Register,
  type Size,
  SLOT_BYTES,
  type WireInstruction,
} from './instruction.ts';
import { isKnown, wellFormed } from './well-formed.ts';

/** The fields of one slot. `offset` int16, `imm` int32. */
interface Slot {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly offset: number;
  readonly imm: number;
}

/** One row of the opcode table. `read` answers undefined where a field has a value that means nothing. */
interface Form {
  /** As the kernel names it in "... uses reserved fields". */
  readonly name: string;
  readonly read: (slot: Slot) => WireInstruction | undefined;
  /** What to say when `read` answers undefined, if not that reserved fields are used. */
  readonly refusal?: (slot: Slot) => { code: IsaErrorCode; message: string };
}

const LD = 0x00;
const LDX = 0x01;
const ST = 0x02;
const STX = 0x03;
const ALU = 0x04;
const JMP = 0x05;
const JMP32 = 0x06;
const ALU64 = 0x07;

/** Bit 3 of ALU and JMP opcodes: the operand is a register. */
const X = 0x08;

const MODE_IMM = 0x00;
const MODE_ABS = 0x20;
const MODE_IND = 0x40;
const MODE_MEM = 0x60;
const MODE_MEMSX = 0x80;
const MODE_ATOMIC = 0xc0;

const OP_NEG = 0x80;
const OP_MOV = 0xb0;
const OP_END = 0xd0;
const OP_JA = 0x00;
const OP_CALL = 0x80;
const OP_EXIT = 0x90;
const OP_JCOND = 0xe0;

const LOAD_IMM64 = LD | 0x18 | MODE_IMM;

/** `offset` of a division or modulo that is signed, and of a move that is an address space cast. */
const OFFSET_SIGNED = 1;
const OFFSET_ADDR_SPACE_CAST = 1;

/** `src` of a call. */
const CALL_HELPER = 0;
const CALL_SUBPROGRAM = 1;
const CALL_KFUNC = 2;

/** Two-operand arithmetic: name, operation bits, `offset`. */
const ALU_OPS: readonly (readonly [AluOp, number, number])[] = [
  ['add', 0x00, 0],
  ['sub', 0x10, 0],
  ['mul', 0x20, 0],
  ['div', 0x30, 0],
  ['sdiv', 0x30, OFFSET_SIGNED],
  ['or', 0x40, 0],
  ['and', 0x50, 0],
  ['lsh', 0x60, 0],
  ['rsh', 0x70, 0],
  ['mod', 0x90, 0],
  ['smod', 0x90, OFFSET_SIGNED],
  ['xor', 0xa0, 0],
  ['mov', OP_MOV, 0],
  ['arsh', 0xc0, 0],
];

const JUMP_OPS: readonly (readonly [JumpOp, number])[] = [
  ['eq', 0x10],
  ['gt', 0x20],
  ['ge', 0x30],
  ['set', 0x40],
  ['ne', 0x50],
  ['sgt', 0x60],
  ['sge', 0x70],
  ['lt', 0xa0],
  ['le', 0xb0],
  ['slt', 0xc0],
  ['sle', 0xd0],
];

const SIZES: readonly (readonly [Size, number])[] = [
  [4, 0x00],
  [2, 0x08],
  [1, 0x10],
  [8, 0x18],
];

/** Atomics: name, fetch, `imm`, allowed sizes. */
const ATOMICS: readonly (readonly [AtomicOp, boolean, number, readonly Size[]])[] = [
  ['add', false, 0x00, [4, 8]],
  ['add', true, 0x01, [4, 8]],
  ['or', false, 0x40, [4, 8]],
  ['or', true, 0x41, [4, 8]],
  ['and', false, 0x50, [4, 8]],
  ['and', true, 0x51, [4, 8]],
  ['xor', false, 0xa0, [4, 8]],
  ['xor', true, 0xa1, [4, 8]],
  ['xchg', true, 0xe1, [4, 8]],
  ['cmpxchg', true, 0xf1, [4, 8]],
  ['loadAcquire', false, 0x100, [1, 2, 4, 8]],
  ['storeRelease', false, 0x110, [1, 2, 4, 8]],
];

const ALU_BITS = new Map(ALU_OPS.map(([op, bits, offset]) => [op, { bits, offset }]));
const JUMP_BITS = new Map(JUMP_OPS);
const SIZE_BITS = new Map(SIZES);
const SWAP_OPCODES = new Map([
  ['le', ALU | OP_END],
  ['be', ALU | OP_END | X],
  ['swap', ALU64 | OP_END],
]);

const register = (bits: number): Register => bits as Register;
const hex = (value: number, digits = 2): string => value.toString(16).padStart(digits, '0');

// ---------------------------------------------------------------- reading

function readMov(slot: Slot, width: 32 | 64): WireInstruction | undefined {
  const dst = register(slot.dst);
  const src = register(slot.src);
  switch (slot.offset) {
    case 0:
      return { kind: 'alu', op: 'mov', width, dst, src, imm: 0 };
    case 8:
    case 16:
      return { kind: 'movsx', width, from: slot.offset, dst, src };
    case 32:
      return width === 64 ? { kind: 'movsx', width, from: 32, dst, src } : undefined;
    case OFFSET_ADDR_SPACE_CAST: {
      const fromSpace = slot.imm & 0xffff;
      const toSpace = slot.imm >>> 16;
      const isArenaCast = (fromSpace === 1 && toSpace === 0) || (fromSpace === 0 && toSpace === 1);
      return width === 64 && isArenaCast ? { kind: 'addrSpaceCast', dst, src, toSpace, fromSpace } : undefined;
    }
    default:
      return undefined;
  }
}

function refuseMov(slot: Slot): { code: IsaErrorCode; message: string } {
  return (slot.opcode & 7) === ALU64 && slot.offset === OFFSET_ADDR_SPACE_CAST
    ? { code: 'reserved_field', message: 'addr_space_cast insn can only convert between address space 1 and 0' }
    : { code: 'reserved_field', message: 'BPF_MOV uses reserved fields' };
}

function readByteSwap(slot: Slot, order: 'le' | 'be' | 'swap'): WireInstruction | undefined {
  const size = slot.imm;
  return size === 16 || size === 32 || size === 64
    ? { kind: 'byteswap', order, size, dst: register(slot.dst) }
    : undefined;
}

function readCall(slot: Slot): WireInstruction | undefined {
  switch (slot.src) {
    case CALL_HELPER:
      return { kind: 'callHelper', helper: slot.imm };
    case CALL_SUBPROGRAM:
      return { kind: 'callSubprogram', offset: slot.imm };
    case CALL_KFUNC:
      return { kind: 'callKfunc', btfId: slot.imm, module: slot.offset };
    default:
      return undefined;
  }
}

function readAtomic(slot: Slot, size: Size): WireInstruction | undefined {
  const row = ATOMICS.find(([, , imm]) => imm === slot.imm);
  if (row === undefined || !row[3].includes(size)) return undefined;
  const [op, fetch] = row;
  return { kind: 'atomic', op, fetch, size, dst: register(slot.dst), src: register(slot.src), offset: slot.offset };
}

function refuseAtomic(slot: Slot): { code: IsaErrorCode; message: string } {
  return ATOMICS.some(([, , imm]) => imm === slot.imm)
    ? { code: 'invalid_atomic', message: 'invalid atomic operand size: 4 or 8 bytes expected' }
    : { code: 'invalid_atomic', message: `BPF_ATOMIC uses invalid atomic opcode ${hex(slot.imm >>> 0)}` };
}

function buildForms(): readonly (Form | undefined)[] {
  const forms: (Form | undefined)[] = new Array(256).fill(undefined);

  for (const [width, group] of [[32, ALU] as const, [64, ALU64] as const]) {
    for (const bits of new Set(ALU_OPS.map(([, bits]) => bits))) {
      if (bits === OP_MOV) continue;
      const opAt = (offset: number): AluOp | undefined =>
        ALU_OPS.find(row => row[1] === bits && row[2] === offset)?.[0];
      forms[group | bits] = {
        name: 'BPF_ALU',
        read: s => {
          const op = opAt(s.offset);
          return op && { kind: 'alu', op, width, dst: register(s.dst), src: undefined, imm: s.imm };
        },
      };
      forms[group | bits | X] = {
        name: 'BPF_ALU',
        read: s => {
          const op = opAt(s.offset);
          return op && { kind: 'alu', op, width, dst: register(s.dst), src: register(s.src), imm: 0 };
        },
      };
    }
    forms[group | OP_MOV] = {
      name: 'BPF_MOV',
      read: s => ({ kind: 'alu', op: 'mov', width, dst: register(s.dst), src: undefined, imm: s.imm }),
    };
    forms[group | OP_MOV | X] = { name: 'BPF_MOV', read: s => readMov(s, width), refusal: refuseMov };
    forms[group | OP_NEG] = {
      name: 'BPF_NEG',
      read: s => ({ kind: 'alu', op: 'neg', width, dst: register(s.dst), src: undefined, imm: 0 }),
    };
  }
  forms[ALU | OP_END] = { name: 'BPF_END', read: s => readByteSwap(s, 'le') };
  forms[ALU | OP_END | X] = { name: 'BPF_END', read: s => readByteSwap(s, 'be') };
  forms[ALU64 | OP_END] = { name: 'BPF_END', read: s => readByteSwap(s, 'swap') };

  for (const [width, group] of [[64, JMP] as const, [32, JMP32] as const]) {
    for (const [op, bits] of JUMP_OPS) {
      forms[group | bits] = {
        name: 'BPF_JMP/JMP32',
        read: s => ({ kind: 'jump', op, width, dst: register(s.dst), src: undefined, imm: s.imm, offset: s.offset }),
      };
      forms[group | bits | X] = {
        name: 'BPF_JMP/JMP32',
        read: s => ({
          kind: 'jump',
          op,
          width,
          dst: register(s.dst),
          src: register(s.src),
          imm: 0,
          offset: s.offset,
        }),
      };
    }
  }
  forms[JMP | OP_JA] = { name: 'BPF_JA', read: s => ({ kind: 'goto', offset: s.offset, long: false }) };
  forms[JMP32 | OP_JA] = { name: 'BPF_JA', read: s => ({ kind: 'goto', offset: s.imm, long: true }) };
  forms[JMP | OP_JCOND] = { name: 'may_goto', read: s => ({ kind: 'mayGoto', offset: s.offset }) };
  forms[JMP | OP_CALL] = { name: 'BPF_CALL', read: readCall };
  forms[JMP | OP_EXIT] = { name: 'BPF_EXIT', read: () => ({ kind: 'exit' }) };

  for (const [size, bits] of SIZES) {
    const read =
      (signed: boolean) =>
      (s: Slot): WireInstruction => ({
        kind: 'load',
        size,
        signed,
        dst: register(s.dst),
        src: register(s.src),
        offset: s.offset,
      });
    forms[LDX | bits | MODE_MEM] = { name: 'BPF_LDX', read: read(false) };
    if (size !== 8) forms[LDX | bits | MODE_MEMSX] = { name: 'BPF_LDX', read: read(true) };
    forms[ST | bits | MODE_MEM] = {
      name: 'BPF_ST',
      read: s => ({ kind: 'store', size, dst: register(s.dst), offset: s.offset, src: undefined, imm: s.imm }),
    };
    forms[STX | bits | MODE_MEM] = {
      name: 'BPF_STX',
      read: s => ({ kind: 'store', size, dst: register(s.dst), offset: s.offset, src: register(s.src), imm: 0 }),
    };
    forms[STX | bits | MODE_ATOMIC] = {
      name: 'BPF_ATOMIC',
      read: s => readAtomic(s, size),
      refusal: refuseAtomic,
    };
    if (size === 8) continue;
    forms[LD | bits | MODE_ABS] = {
      name: 'BPF_LD_[ABS|IND]',
      read: s => ({ kind: 'packetLoad', size, src: undefined, imm: s.imm }),
    };
    forms[LD | bits | MODE_IND] = {
      name: 'BPF_LD_[ABS|IND]',
      read: s => ({ kind: 'packetLoad', size, src: register(s.src), imm: s.imm }),
    };
  }
  return forms;
}

/** By opcode; loadImm64 is not among them because it fills two slots. */
const FORMS = buildForms();

function readReference(src: number, low: number, high: number): Reference | undefined {
  switch (src) {
    case 1:
      return high === 0 ? { type: 'mapFd', fd: low } : undefined;
    case 2:
      return { type: 'mapFdValue', fd: low, offset: high >>> 0 };
    case 3:
      return { type: 'btfId', id: low, fd: high };
    case 4:
      return high === 0 ? { type: 'function', offset: low } : undefined;
    case 5:
      return high === 0 ? { type: 'mapIndex', index: low } : undefined;
    case 6:
      return { type: 'mapIndexValue', index: low, offset: high >>> 0 };
    default:
      return undefined;
  }
}

// ---------------------------------------------------------------- writing

const ZERO = { dst: 0, src: 0, offset: 0, imm: 0 };

function aluSlot(insn: Alu): Slot | undefined {
  const group = insn.width === 64 ? ALU64 : ALU;
  if (insn.op === 'neg') return { ...ZERO, opcode: group | OP_NEG, dst: insn.dst, imm: insn.imm, src: insn.src ?? 0 };
  const row = ALU_BITS.get(insn.op);
  if (row === undefined) return undefined;
  const form = insn.src === undefined ? 0 : X;
  return { opcode: group | row.bits | form, dst: insn.dst, src: insn.src ?? 0, offset: row.offset, imm: insn.imm };
}

function atomicSlot(insn: Atomic): Slot | undefined {
  const row = ATOMICS.find(([op, fetch]) => op === insn.op && fetch === insn.fetch);
  if (row === undefined) return undefined;
  const opcode = STX | SIZE_BITS.get(insn.size)! | MODE_ATOMIC;
  return { opcode, dst: insn.dst, src: insn.src, offset: insn.offset, imm: row[2] };
}

function packetLoadSlot(insn: PacketLoad): Slot {
  const mode = insn.src === undefined ? MODE_ABS : MODE_IND;
  return { ...ZERO, opcode: LD | SIZE_BITS.get(insn.size)! | mode, src: insn.src ?? 0, imm: insn.imm };
}

/** The slot of an instruction that fills one; undefined if it has no encoding. */
function slotOf(insn: Instruction): Slot | undefined {
  switch (insn.kind) {
    case 'alu':
      return aluSlot(insn);
    case 'movsx': {
      const group = insn.width === 64 ? ALU64 : ALU;
      return { ...ZERO, opcode: group | OP_MOV | X, dst: insn.dst, src: insn.src, offset: insn.from };
    }
    case 'addrSpaceCast': {
      const imm = insn.toSpace * 0x10000 + insn.fromSpace;
      return { opcode: ALU64 | OP_MOV | X, dst: insn.dst, src: insn.src, offset: OFFSET_ADDR_SPACE_CAST, imm };
    }
    case 'byteswap': {
      const opcode = SWAP_OPCODES.get(insn.order);
      return opcode === undefined ? undefined : { ...ZERO, opcode, dst: insn.dst, imm: insn.size };
    }
    case 'load': {
      const mode = insn.signed ? MODE_MEMSX : MODE_MEM;
      const opcode = LDX | SIZE_BITS.get(insn.size)! | mode;
      return { ...ZERO, opcode, dst: insn.dst, src: insn.src, offset: insn.offset };
    }
    case 'store': {
      const opcode = (insn.src === undefined ? ST : STX) | SIZE_BITS.get(insn.size)! | MODE_MEM;
      return { opcode, dst: insn.dst, src: insn.src ?? 0, offset: insn.offset, imm: insn.imm };
    }
    case 'atomic':
      return atomicSlot(insn);
    case 'packetLoad':
      return packetLoadSlot(insn);
    case 'jump': {
      const form = insn.src === undefined ? 0 : X;
      const opcode = (insn.width === 64 ? JMP : JMP32) | JUMP_BITS.get(insn.op)! | form;
      return { opcode, dst: insn.dst, src: insn.src ?? 0, offset: insn.offset, imm: insn.imm };
    }
    case 'goto':
      return insn.long
        ? { ...ZERO, opcode: JMP32 | OP_JA, imm: insn.offset }
        : { ...ZERO, opcode: JMP | OP_JA, offset: insn.offset };
    case 'mayGoto':
      return { ...ZERO, opcode: JMP | OP_JCOND, offset: insn.offset };
    case 'callHelper':
      return { ...ZERO, opcode: JMP | OP_CALL, src: CALL_HELPER, imm: insn.helper };
    case 'callSubprogram':
      return { ...ZERO, opcode: JMP | OP_CALL, src: CALL_SUBPROGRAM, imm: insn.offset };
    case 'callKfunc':
      return { ...ZERO, opcode: JMP | OP_CALL, src: CALL_KFUNC, imm: insn.btfId, offset: insn.module };
    case 'exit':
      return { ...ZERO, opcode: JMP | OP_EXIT };
    default:
      return undefined;
  }
}

/** A map value's offset is unsigned on the wire, where an immediate is signed. What does not fit is found later. */
const signed32 = (offset: number): number => (offset > 0x7fffffff && offset <= 0xffffffff ? offset | 0 : offset);

/** `src` and the two immediates of a loadImm64; undefined for references that only Switchyard knows. */
function loadImm64Fields(insn: LoadImm64): { src: number; low: number; high: number } | undefined {
  const reference = insn.reference;
  if (reference === undefined) {
    return { src: 0, low: Number(BigInt.asIntN(32, insn.value)), high: Number(BigInt.asIntN(32, insn.value >> 32n)) };
  }
  switch (reference.type) {
    case 'mapFd':
      return { src: 1, low: reference.fd, high: 0 };
    case 'mapFdValue':
      return { src: 2, low: reference.fd, high: signed32(reference.offset) };
    case 'btfId':
      return { src: 3, low: reference.id, high: reference.fd };
    case 'function':
      return { src: 4, low: reference.offset, high: 0 };
    case 'mapIndex':
      return { src: 5, low: reference.index, high: 0 };
    case 'mapIndexValue':
      return { src: 6, low: reference.index, high: signed32(reference.offset) };
    default:
      return undefined;
  }
}

// ---------------------------------------------------------------- checks common to both directions

function fail(code: IsaErrorCode, message: string, insn: number, slot: Slot): never {
  const bytes = new Uint8Array(SLOT_BYTES);
  writeSlot(new DataView(bytes.buffer), 0, slot);
  throw new IsaError(code, `instruction ${insn}: ${message}`, {
    insn,
    opcode: slot.opcode,
    bytes: Array.from(bytes, byte => hex(byte)).join(''),
  });
}

function checkRegisters(insn: number, slot: Slot, dst: number, src: number): void {
  for (const number of [src, dst]) {
    if (number > 10) fail('invalid_register', `R${number} is invalid: registers are R0 to R10`, insn, slot);
  }
}

/** The kernel looks at the mode and immediate of loads before it asks whether the opcode exists at all. */
function refuseOpcode(slot: Slot): { code: IsaErrorCode; message: string } {
  const mode = slot.opcode & 0xe0;
  const isLoad = (slot.opcode & 7) === LDX;
  return isLoad && ((mode !== MODE_MEM && mode !== MODE_MEMSX) || slot.imm !== 0)
    ? { code: 'unknown_opcode', message: `BPF_LDX uses reserved fields (unknown opcode ${hex(slot.opcode)})` }
    : { code: 'unknown_opcode', message: `unknown opcode ${hex(slot.opcode)}` };
}

/** Decodes one slot that is not a loadImm64, refusing everything outside the instruction set. */
function interpret(slot: Slot, insn: number): WireInstruction {
  const form = FORMS[slot.opcode];
  if (form === undefined) {
    const { code, message } = refuseOpcode(slot);
    return fail(code, message, insn, slot);
  }
  const decoded = form.read(slot);
  if (decoded === undefined) {
    const { code, message } = form.refusal?.(slot) ?? reserved(form);
    return fail(code, message, insn, slot);
  }
  const written = slotOf(decoded)!;
  if (
    written.dst !== slot.dst ||
    written.src !== slot.src ||
    written.offset !== slot.offset ||
    written.imm !== slot.imm
  ) {
    const { code, message } = form.refusal?.(slot) ?? reserved(form);
    return fail(code, message, insn, slot);
  }
  checkRegisters(insn, slot, slot.dst, slot.src);
  return decoded;
}

const reserved = (form: Form): { code: IsaErrorCode; message: string } => ({
  code: 'reserved_field',
  message: `${form.name} uses reserved fields`,
});

function readSlot(view: DataView, at: number): Slot {
  const registers = view.getUint8(at + 1);
  return {
    opcode: view.getUint8(at),
    dst: registers & 15,
    src: registers >> 4,
    offset: view.getInt16(at + 2, true),
    imm: view.getInt32(at + 4, true),
  };
}

function writeSlot(view: DataView, at: number, slot: Slot): void {
  view.setUint8(at, slot.opcode);
  view.setUint8(at + 1, (slot.src << 4) | slot.dst);
  view.setInt16(at + 2, slot.offset, true);
  view.setInt32(at + 4, slot.imm, true);
}

function decodeLoadImm64(first: Slot, second: Slot | undefined, insn: number): LoadImm64 {
  if (second === undefined || second.opcode !== 0 || second.dst !== 0 || second.src !== 0 || second.offset !== 0) {
    const found = second === undefined ? 'the program ends after its first slot' : 'its second slot is not empty';
    return fail('invalid_load_imm64', `invalid bpf_ld_imm64 insn: ${found}`, insn, first);
  }
  const dst = register(first.dst);
  const value = (BigInt(second.imm >>> 0) << 32n) | BigInt(first.imm >>> 0);
  const reference = readReference(first.src, first.imm, second.imm);
  if (reference === undefined && first.src !== 0) {
    return fail('invalid_load_imm64', `unrecognized bpf_ld_imm64 insn (source ${first.src})`, insn, first);
  }
  if (first.offset !== 0) return fail('reserved_field', 'BPF_LD_IMM64 uses reserved fields', insn, first);
  checkRegisters(insn, first, first.dst, 0);
  return { kind: 'loadImm64', dst, value: reference === undefined ? value : 0n, reference };
}

/**
 * The instructions of an encoded program, one element per 8-byte slot.
 *
 * Numbers come as the wire has them: offsets and immediates signed; the value of a loadImm64 unsigned (0 to 2^64-1),
 * and 0 where it has a reference. Jump targets are not checked.
 *
 * @throws IsaError for any byte that is not an instruction of RFC 9669 or Linux 6.18, with
 *   `details: {insn, opcode, bytes}` and the kernel's wording in the message; `truncated_program` if the length is no
 *   multiple of 8 (`details: {length}`).
 */
export function decode(bytes: Uint8Array): Instruction[] {
  check.bytes(bytes, 'bytes');
  if (bytes.length % SLOT_BYTES !== 0) {
    throw new IsaError(
      'truncated_program',
      `a program is a whole number of ${SLOT_BYTES}-byte slots, but ${bytes.length} bytes were given`,
      { length: bytes.length },
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.length / SLOT_BYTES;
  const insns: Instruction[] = [];
  while (insns.length < count) {
    const at = insns.length;
    const slot = readSlot(view, at * SLOT_BYTES);
    if (slot.opcode === LOAD_IMM64) {
      const second = at + 1 < count ? readSlot(view, (at + 1) * SLOT_BYTES) : undefined;
      insns.push(decodeLoadImm64(slot, second, at), { kind: 'wide' });
    } else {
      insns.push(interpret(slot, at));
    }
  }
  return wellFormed(insns);
}

function notEncodable(insn: number, kind: string, why: string): never {
  throw new IsaError('not_encodable', `instruction ${insn} (${kind}) has no wire form: ${why}`, { insn, kind });
}

function checkRange(insn: number, slot: Slot): void {
  const fields: readonly (readonly [keyof Slot, number, number])[] = [
    ['dst', 0, 15],
    ['src', 0, 15],
    ['offset', -0x8000, 0x7fff],
    ['imm', -0x80000000, 0x7fffffff],
  ];
  for (const [field, min, max] of fields) {
    const value = slot[field];
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new IsaError(
        'out_of_range',
        `instruction ${insn}: ${field} must be an integer from ${min} to ${max}, not ${value}`,
        { insn, field, value, min, max },
      );
    }
  }
}

/** The opcode byte of an instruction; undefined for one that has no encoding of its own (internal instructions, `wide`). */
export function opcodeOf(insn: Instruction): number | undefined {
  return insn.kind === 'loadImm64' ? LOAD_IMM64 : slotOf(insn)?.opcode;
}

function checkValue(insn: number, value: bigint): void {
  if (typeof value === 'bigint' && (BigInt.asUintN(64, value) === value || BigInt.asIntN(64, value) === value)) return;
  const message = `instruction ${insn}: the value of a loadImm64 must fit 64 bits, which ${value} does not`;
  throw new IsaError('out_of_range', message, { insn, field: 'value', value });
}

/**
 * The bytes of a program; the inverse of `decode`. A `name` on a kfunc call and the `value` beside a reference do not
 * travel.
 *
 * @throws IsaError `not_encodable` for internal instructions and for references by name or address,
 *   `out_of_range` for a field that does not fit, `invalid_load_imm64` where a loadImm64 and its `wide` do not stand
 *   together, and what `decode` would throw for the bytes.
 */
export function encode(insns: readonly Instruction[]): Uint8Array {
  check.array(insns, 'insns');
  return withForeign('insns', isKnown(insns), () => encodeAll(insns));
}

function encodeAll(insns: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(insns.length * SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < insns.length; at++) {
    const insn = insns[at]!;
    if (insn.kind === 'wide') {
      throw new IsaError('invalid_load_imm64', `instruction ${at}: a wide marker must follow a loadImm64`, {
        insn: at,
      });
    }
    const slots = checkEncodable(insn, at, insns[at + 1]);
    for (const [i, slot] of slots.entries()) writeSlot(view, (at + i) * SLOT_BYTES, slot);
    at += slots.length - 1;
  }
  return bytes;
}

/**
 * @param next what stands behind it
 * @returns the slots of an instruction; two of a loadImm64
 * @throws IsaError as `encode`
 */
export function checkEncodable(insn: Instruction, at: number, next: Instruction | undefined): readonly Slot[] {
  if (insn.kind === 'loadImm64') {
    checkValue(at, insn.value);
    const fields = loadImm64Fields(insn);
    if (fields === undefined) {
      notEncodable(at, insn.kind, `a reference of type ${insn.reference!.type} must be resolved first`);
    }
    const first = { opcode: LOAD_IMM64, dst: insn.dst, src: fields.src, offset: 0, imm: fields.low };
    const second = { ...ZERO, opcode: 0, imm: fields.high };
    checkRange(at, first);
    checkRange(at, second);
    decodeLoadImm64(first, next?.kind === 'wide' ? second : undefined, at);
    return [first, second];
  }
  const slot = slotOf(insn);
  if (slot === undefined) notEncodable(at, insn.kind, 'it exists only inside Switchyard');
  checkRange(at, slot);
  const meaning = Object.entries(interpret(slot, at));
  if (meaning.some(([field, value]) => insn[field as keyof Instruction] !== value)) {
    notEncodable(at, insn.kind, 'its fields contradict each other');
  }
  return [slot];
}
