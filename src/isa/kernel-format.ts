/*
 * One instruction as the kernel's verifier log and bpftool print it: `(b7) r0 = 0`. Differs from LLVM's syntax in that
 * the opcode byte comes first, registers of loads and stores are always 64-bit, offsets stand against their register
 * (`r10 -4`), comparisons are with hexadecimal numbers, and all else is decimal.
 *
 * Source: the log of Linux 6.18, which the tests compare with.
 */
import { opcodeOf } from './codec.ts';
import { formatInstruction, formatReference } from './disassembler.ts';
import type { Atomic, Instruction, LoadImm64, Register } from './instruction.ts';
import { ALU_SYMBOLS, ATOMIC_SYMBOLS, type HelperName, JUMP_SYMBOLS, registerName, typeName } from './syntax.ts';

const signed = (value: number): string => (value < 0 ? `${value}` : `+${value}`);
const address = (base: Register, offset: number): string => `(${registerName(base)} ${signed(offset)})`;

function formatAtomic(insn: Atomic): string {
  const { op, size, dst, offset } = insn;
  const src = registerName(insn.src);
  const type = `(${typeName(size)} *)`;
  const pointer = `${type}${address(dst, offset)}`;
  const prefix = size === 8 ? 'atomic64' : 'atomic';
  switch (op) {
    case 'loadAcquire':
      return `${registerName(dst)} = load_acquire(${type}${address(insn.src, offset)})`;
    case 'storeRelease':
      return `store_release(${pointer}, ${src})`;
    case 'xchg':
      return `${src} = ${prefix}_xchg(${pointer}, ${src})`;
    case 'cmpxchg':
      return `r0 = ${prefix}_cmpxchg(${pointer}, r0, ${src})`;
    default:
      return insn.fetch
        ? `${src} = ${prefix}_fetch_${op}(${pointer}, ${src})`
        : `lock *${pointer} ${ATOMIC_SYMBOLS[op]} ${src}`;
  }
}

function formatWide({ reference, value }: LoadImm64): string {
  if (reference === undefined) return `0x${value.toString(16)}`;
  // A callback is the distance to it.
  return reference.type === 'function' ? `0x${(reference.offset >>> 0).toString(16)}` : formatReference(reference);
}

function formatBody(insn: Instruction, helperName: HelperName | undefined): string {
  switch (insn.kind) {
    case 'alu': {
      const dst = registerName(insn.dst, insn.width);
      if (insn.op === 'neg') return `${dst} = -${dst}`;
      return `${dst} ${ALU_SYMBOLS[insn.op]} ${insn.src === undefined ? insn.imm : registerName(insn.src, insn.width)}`;
    }
    case 'addrSpaceCast':
      return `${registerName(insn.dst)} = addr_space_cast(${registerName(insn.src)}, ${insn.toSpace}, ${insn.fromSpace})`;
    case 'loadImm64': {
      return `${registerName(insn.dst)} = ${formatWide(insn)}`;
    }
    case 'load':
      return `${registerName(insn.dst)} = *(${typeName(insn.size, insn.signed)} *)${address(insn.src, insn.offset)}`;
    case 'store': {
      const operand = insn.src === undefined ? insn.imm : registerName(insn.src);
      return `*(${typeName(insn.size)} *)${address(insn.dst, insn.offset)} = ${operand}`;
    }
    case 'atomic':
      return formatAtomic(insn);
    case 'packetLoad': {
      const index = insn.src === undefined ? insn.imm : `${registerName(insn.src)} + ${insn.imm}`;
      return `r0 = *(${typeName(insn.size)} *)skb[${index}]`;
    }
    case 'jump': {
      const dst = registerName(insn.dst, insn.width);
      const operand =
        insn.src === undefined ? `0x${(insn.imm >>> 0).toString(16)}` : registerName(insn.src, insn.width);
      return `if ${dst} ${JUMP_SYMBOLS[insn.op]} ${operand} goto pc${signed(insn.offset)}`;
    }
    case 'goto':
      return `${insn.long ? 'gotol' : 'goto'} pc${signed(insn.offset)}`;
    case 'mayGoto':
      return `may_goto pc${signed(insn.offset)}`;
    case 'callHelper':
      return `call ${helperName?.(insn.helper) ?? 'unknown'}#${insn.helper}`;
    case 'callSubprogram':
      return `call pc${signed(insn.offset)}`;
    case 'callKfunc':
      return `call ${insn.name ?? 'kernel-function'}#${insn.btfId}`;
    default:
      return formatInstruction(insn);
  }
}

/**
 * `(63) *(u32 *)(r10 -4) = r1`. Where the kernel prints the address of a map, this names it: `(18) r1 = map[counters]`.
 * Internal instructions have no opcode and come as the disassembler prints them.
 */
export function formatKernel(insn: Instruction, helperName?: HelperName): string {
  const opcode = opcodeOf(insn);
  const body = formatBody(insn, helperName);
  return opcode === undefined ? body : `(${opcode.toString(16).padStart(2, '0')}) ${body}`;
}
