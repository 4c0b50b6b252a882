/** What single instructions do to a register file, in BigInt, after RFC 9669; written for the tests, independent of both backends. */
import type { AluOp, Instruction, JumpOp, Width } from '../../src/isa/instruction.ts';

const u = (width: number, value: bigint): bigint => BigInt.asUintN(width, value);
const s = (width: number, value: bigint): bigint => BigInt.asIntN(width, value);

function alu(op: AluOp, width: Width, dst: bigint, src: bigint): bigint {
  const [x, y] = [u(width, dst), u(width, src)];
  const [sx, sy] = [s(width, dst), s(width, src)];
  const amount = y & BigInt(width - 1);
  const operations: Record<AluOp, () => bigint> = {
    add: () => x + y,
    sub: () => x - y,
    mul: () => x * y,
    div: () => (y === 0n ? 0n : x / y),
    sdiv: () => (y === 0n ? 0n : sx / sy),
    mod: () => (y === 0n ? x : x % y),
    smod: () => (y === 0n ? x : sx % sy),
    or: () => x | y,
    and: () => x & y,
    xor: () => x ^ y,
    lsh: () => x << amount,
    rsh: () => x >> amount,
    arsh: () => sx >> amount,
    neg: () => -x,
    mov: () => y,
  };
  return u(width, operations[op]());
}

export function jumps(op: JumpOp, width: Width, dst: bigint, src: bigint): boolean {
  const [x, y] = [u(width, dst), u(width, src)];
  const [sx, sy] = [s(width, dst), s(width, src)];
  const tests: Record<JumpOp, () => boolean> = {
    eq: () => x === y,
    ne: () => x !== y,
    gt: () => x > y,
    ge: () => x >= y,
    lt: () => x < y,
    le: () => x <= y,
    sgt: () => sx > sy,
    sge: () => sx >= sy,
    slt: () => sx < sy,
    sle: () => sx <= sy,
    set: () => (x & y) !== 0n,
  };
  return tests[op]();
}

function swapBytes(size: number, value: bigint): bigint {
  let result = 0n;
  for (let bit = 0; bit < size; bit += 8) result |= ((value >> BigInt(bit)) & 0xffn) << BigInt(size - 8 - bit);
  return result;
}

/** Applies a register-only instruction. */
export function apply(insn: Instruction, registers: bigint[]): void {
  switch (insn.kind) {
    case 'alu': {
      const operand = insn.src === undefined ? BigInt(insn.imm) : registers[insn.src]!;
      registers[insn.dst] = alu(insn.op, insn.width, registers[insn.dst]!, operand);
      break;
    }
    case 'movsx':
      registers[insn.dst] = u(insn.width, s(insn.from, registers[insn.src]!));
      break;
    case 'byteswap': {
      const value = u(insn.size, registers[insn.dst]!);
      registers[insn.dst] = insn.order === 'le' ? value : swapBytes(insn.size, value);
      break;
    }
    case 'loadImm64':
      registers[insn.dst] = u(64, insn.value);
      break;
    default:
      throw new Error(`no reference for ${insn.kind}`);
  }
}

/**
 * Applies a load, store or atomic to memory that `address` points to.
 * @param view the memory; the instruction's base register holds `address`
 */
export function applyToMemory(insn: Instruction, registers: bigint[], view: DataView, address: bigint): void {
  const read = (size: number, at: number): bigint => {
    let value = 0n;
    for (let i = 0; i < size; i++) value |= BigInt(view.getUint8(at + i)) << BigInt(8 * i);
    return value;
  };
  const write = (size: number, at: number, value: bigint): void => {
    for (let i = 0; i < size; i++) view.setUint8(at + i, Number(u(8, value >> BigInt(8 * i))));
  };
  const place = (base: number, offset: number): number => Number(registers[base]! - address) + offset;
  switch (insn.kind) {
    case 'load': {
      const value = read(insn.size, place(insn.src, insn.offset));
      registers[insn.dst] = insn.signed ? u(64, s(8 * insn.size, value)) : value;
      break;
    }
    case 'store':
      write(insn.size, place(insn.dst, insn.offset), insn.src === undefined ? BigInt(insn.imm) : registers[insn.src]!);
      break;
    case 'atomic': {
      const bits = 8 * insn.size;
      if (insn.op === 'loadAcquire') {
        registers[insn.dst] = read(insn.size, place(insn.src, insn.offset));
        break;
      }
      const at = place(insn.dst, insn.offset);
      const old = read(insn.size, at);
      const operand = u(bits, registers[insn.src]!);
      if (insn.op === 'cmpxchg') {
        if (old === u(bits, registers[0]!)) write(insn.size, at, operand);
        registers[0] = old;
        break;
      }
      const results = { add: old + operand, or: old | operand, and: old & operand, xor: old ^ operand };
      write(insn.size, at, insn.op === 'xchg' || insn.op === 'storeRelease' ? operand : results[insn.op]);
      if (insn.fetch) registers[insn.src] = old;
      break;
    }
    default:
      throw new Error(`no reference for ${insn.kind}`);
  }
}
