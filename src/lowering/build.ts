/** Short spellings of the instructions that passes make. */
import type {
  Alu,
  AluOp,
  Goto,
  Instruction,
  Jump,
  JumpOp,
  Load,
  Reference,
  Register,
  Size,
  Store,
} from '../isa/instruction.ts';
import { RunContext } from '../memory/layout.ts';

export const AX = 11;

export function alu(op: AluOp, dst: Register, imm: number): Alu {
  return { kind: 'alu', op, width: 64, dst, src: undefined, imm };
}
export function aluRegister(op: AluOp, dst: Register, src: Register): Alu {
  return { kind: 'alu', op, width: 64, dst, src, imm: 0 };
}
/** Clears the upper half of `dst`. */
export function move32(dst: Register, src: Register): Alu {
  return { ...aluRegister('mov', dst, src), width: 32 };
}
export function load(size: Size, dst: Register, src: Register, offset: number): Load {
  return { kind: 'load', size, signed: false, dst, src, offset };
}
export function store(size: Size, dst: Register, offset: number, src: Register): Store {
  return { kind: 'store', size, dst, offset, src, imm: 0 };
}
export function storeImm(size: Size, dst: Register, offset: number, imm: number): Store {
  return { kind: 'store', size, dst, offset, src: undefined, imm };
}
/** `if dst op imm goto +offset` */
export function jumpIf(op: JumpOp, dst: Register, imm: number, offset: number): Jump {
  return { kind: 'jump', op, width: 64, dst, src: undefined, imm, offset };
}
export function goto(offset: number): Goto {
  return { kind: 'goto', offset, long: false };
}
/** Both slots. */
export function loadReference(dst: Register, reference: Reference): readonly Instruction[] {
  return [{ kind: 'loadImm64', dst, value: 0n, reference }, { kind: 'wide' }];
}
/** dst = field of the run context. */
export function loadRunContextField(dst: Register, field: keyof typeof RunContext, size: Size): readonly Instruction[] {
  return [{ kind: 'runContext', dst: AX }, load(size, dst, AX, RunContext[field])];
}
