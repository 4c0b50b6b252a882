/*
 * Instructions to assembly text: what `llvm-objdump -d` prints for the same bytes, numbers in hexadecimal included.
 * Where LLVM has no spelling (references, kernel functions, internal instructions) or loses something (the target of a
 * subprogram call, the offset of an indirect packet load), the text is what `assembler.ts` says at its top. So
 * assembling the text gives the same instructions again.
 */
import { check, withForeign } from '../arguments.ts';
import type {
  Atomic,
  CallKfunc,
  Instruction,
  LoadImm64,
  PacketLoad,
  Reference,
  Register,
  Size,
} from './instruction.ts';
import { ALU_SYMBOLS, ATOMIC_SYMBOLS, type HelperName, JUMP_SYMBOLS, registerName, typeName } from './syntax.ts';
import { isKnown } from './well-formed.ts';

/** One instruction of a listing. A loadImm64 and its `wide` are one line, at the slot of the first. */
export interface ListingLine {
  readonly slot: number;
  readonly text: string;
}

const hex = (value: number | bigint): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);
const signedHex = (value: number): string => (value < 0 ? hex(value) : `+${hex(value)}`);
const r = (register: Register): string => registerName(register, 64);
/** LLVM names the 32-bit half where less than 64 bits are accessed. */
const bySize = (register: Register, size: Size): string => registerName(register, size === 8 ? 64 : 32);
/** `r1 + 0x4`, `r1 - 0x4` */
const address = (base: Register, offset: number): string =>
  `${r(base)} ${offset < 0 ? '-' : '+'} ${hex(Math.abs(offset))}`;
/** A name that the assembler reads as one word stands as it is. */
const quote = (name: string): string => (/^[A-Za-z_.$][\w.$]*$/.test(name) ? name : JSON.stringify(name));

function formatAtomic(insn: Atomic): string {
  const { op, size, dst, src, offset } = insn;
  const operand = bySize(src, size);
  const pointer = `(${typeName(size)} *)(${address(dst, offset)})`;
  const form = size === 8 ? '_64' : '32_32';
  switch (op) {
    case 'loadAcquire':
      return `${bySize(dst, size)} = load_acquire((${typeName(size)} *)(${address(src, offset)}))`;
    case 'storeRelease':
      return `store_release(${pointer}, ${operand})`;
    case 'xchg':
      return `${operand} = xchg${form}(${address(dst, offset)}, ${operand})`;
    case 'cmpxchg':
      return `${bySize(0, size)} = cmpxchg${form}(${address(dst, offset)}, ${bySize(0, size)}, ${operand})`;
    default:
      return insn.fetch
        ? `${operand} = atomic_fetch_${op}(${pointer}, ${operand})`
        : `lock *${pointer} ${ATOMIC_SYMBOLS[op]} ${operand}`;
  }
}

/** The right side of a loadImm64 that names something, without the `ll`. */
export function formatReference(reference: Reference): string {
  switch (reference.type) {
    case 'map':
      return `map[${quote(reference.map)}]`;
    case 'mapValue':
      return `map_value[${quote(reference.map)}]+${hex(reference.offset)}`;
    case 'mapFd':
      return `map_fd[${reference.fd}]`;
    case 'mapFdValue':
      return `map_fd_value[${reference.fd}]+${hex(reference.offset)}`;
    case 'btfId':
      return `btf_id[${reference.id}, ${reference.fd}]`;
    case 'function':
      return `func[${signedHex(reference.offset)}]`;
    case 'kfunc':
      return `kfunc[${quote(reference.name)}]`;
    case 'mapIndex':
      return `map_index[${reference.index}]`;
    case 'mapIndexValue':
      return `map_index_value[${reference.index}]+${hex(reference.offset)}`;
    case 'mapAddress':
      return `map_address[${reference.index}]`;
    case 'mapValueAddress':
      return `map_value_address[${reference.index}]+${hex(reference.offset)}`;
  }
}

function formatLoadImm64(insn: LoadImm64): string {
  const right = insn.reference === undefined ? hex(BigInt.asIntN(64, insn.value)) : formatReference(insn.reference);
  return `${r(insn.dst)} = ${right} ll`;
}

function formatPacketLoad(insn: PacketLoad): string {
  const { src, imm } = insn;
  const index = src === undefined ? hex(imm) : imm === 0 ? r(src) : address(src, imm);
  return `r0 = *(${typeName(insn.size)} *)skb[${index}]`;
}

function formatKfunc(insn: CallKfunc): string {
  const module = insn.module === 0 ? '' : `@${insn.module}`;
  const name = insn.name === undefined ? '' : ` ${quote(insn.name)}`;
  return `call kfunc[${insn.btfId}${module}${name}]`;
}

/** One instruction as text; `wide` is the empty string. */
export function formatInstruction(insn: Instruction, helperName?: HelperName): string {
  switch (insn.kind) {
    case 'alu': {
      const dst = registerName(insn.dst, insn.width);
      if (insn.op === 'neg') return `${dst} = -${dst}`;
      const operand = insn.src === undefined ? hex(insn.imm) : registerName(insn.src, insn.width);
      return `${dst} ${ALU_SYMBOLS[insn.op]} ${operand}`;
    }
    case 'movsx':
      return `${registerName(insn.dst, insn.width)} = (s${insn.from})${registerName(insn.src, insn.width)}`;
    case 'byteswap':
      return `${r(insn.dst)} = ${insn.order === 'swap' ? 'bswap' : insn.order}${insn.size} ${r(insn.dst)}`;
    case 'addrSpaceCast':
      return `${r(insn.dst)} = addr_space_cast(${r(insn.src)}, ${hex(insn.toSpace)}, ${hex(insn.fromSpace)})`;
    case 'loadImm64':
      return formatLoadImm64(insn);
    case 'wide':
      return '';
    case 'load': {
      const dst = insn.signed ? r(insn.dst) : bySize(insn.dst, insn.size);
      return `${dst} = *(${typeName(insn.size, insn.signed)} *)(${address(insn.src, insn.offset)})`;
    }
    case 'store': {
      const operand = insn.src === undefined ? hex(insn.imm) : bySize(insn.src, insn.size);
      return `*(${typeName(insn.size)} *)(${address(insn.dst, insn.offset)}) = ${operand}`;
    }
    case 'atomic':
      return formatAtomic(insn);
    case 'packetLoad':
      return formatPacketLoad(insn);
    case 'jump': {
      const operand = insn.src === undefined ? hex(insn.imm) : registerName(insn.src, insn.width);
      const condition = `${registerName(insn.dst, insn.width)} ${JUMP_SYMBOLS[insn.op]} ${operand}`;
      return `if ${condition} goto ${signedHex(insn.offset)}`;
    }
    case 'goto':
      return `${insn.long ? 'gotol' : 'goto'} ${signedHex(insn.offset)}`;
    case 'mayGoto':
      return `may_goto ${signedHex(insn.offset)}`;
    case 'callHelper':
      return `call ${helperName?.(insn.helper) ?? hex(insn.helper >>> 0)}`;
    case 'callSubprogram':
      return `call ${signedHex(insn.offset)}`;
    case 'callKfunc':
      return formatKfunc(insn);
    case 'exit':
      return 'exit';
    case 'tailCall':
      return `tail_call ${hex(insn.imm)}`;
    case 'runContext':
      return `${r(insn.dst)} = run_context`;
    case 'loadFence':
      return 'load_fence';
    case 'aluAddress':
      return `${registerName(insn.dst, insn.width)} ${ALU_SYMBOLS[insn.op]} ${formatReference(insn.reference)} ll`;
    case 'callRoutine':
      return `call routine ${insn.routine}`;
    case 'callIndirect':
      return `callx ${r(insn.register)}`;
    case 'callService':
      return `call service ${insn.service}`;
  }
}

/**
 * A listing: one line per instruction, `slot` counted from 0. Joined by line breaks, the texts assemble to the same
 * instructions (option `internal` where the listing has internal instructions, `helpers` where `helperName` was given).
 */
export function disassemble(insns: readonly Instruction[], options: { helperName?: HelperName } = {}): ListingLine[] {
  check.array(insns, 'insns');
  check.options({ helperName: check.callable })(options, 'options');
  return withForeign('insns', isKnown(insns), () =>
    insns.flatMap((insn, slot) =>
      insn.kind === 'wide' ? [] : [{ slot, text: formatInstruction(insn, options.helperName) }],
    ),
  );
}
