/** Loads and stores. */
import type { Load, Register, Size, Store } from '../../isa/instruction.ts';
import type { CodeBuffer } from '../shared/code-buffer.ts';
import { loadConstant } from './emit-alu.ts';
import { encode, type Form } from './encodings.ts';
import type { Frame } from './frame.ts';
import { type MachineRegister, machineRegister, SCRATCH_A, SCRATCH_B, SP, ZR } from './registers.ts';

/** One access in its three addressing forms. */
interface Access {
  readonly size: Size;
  readonly scaled: Form;
  readonly unscaled: Form;
  readonly indexed: Form;
}

const LOADS: Readonly<Record<Size, Access>> = {
  1: { size: 1, scaled: 'ldrb Wt, [Xn|SP, #i]', unscaled: 'ldurb Wt, [Xn|SP, #j]', indexed: 'ldrb Wt, [Xn|SP, Xm]' },
  2: { size: 2, scaled: 'ldrh Wt, [Xn|SP, #i*2]', unscaled: 'ldurh Wt, [Xn|SP, #j]', indexed: 'ldrh Wt, [Xn|SP, Xm]' },
  4: { size: 4, scaled: 'ldr Wt, [Xn|SP, #i*4]', unscaled: 'ldur Wt, [Xn|SP, #j]', indexed: 'ldr Wt, [Xn|SP, Xm]' },
  8: { size: 8, scaled: 'ldr Xt, [Xn|SP, #i*8]', unscaled: 'ldur Xt, [Xn|SP, #j]', indexed: 'ldr Xt, [Xn|SP, Xm]' },
};
const SIGNED_LOADS: Readonly<Record<Size, Access>> = {
  1: { size: 1, scaled: 'ldrsb Xt, [Xn|SP, #i]', unscaled: 'ldursb Xt, [Xn|SP, #j]', indexed: 'ldrsb Xt, [Xn|SP, Xm]' },
  2: {
    size: 2,
    scaled: 'ldrsh Xt, [Xn|SP, #i*2]',
    unscaled: 'ldursh Xt, [Xn|SP, #j]',
    indexed: 'ldrsh Xt, [Xn|SP, Xm]',
  },
  4: {
    size: 4,
    scaled: 'ldrsw Xt, [Xn|SP, #i*4]',
    unscaled: 'ldursw Xt, [Xn|SP, #j]',
    indexed: 'ldrsw Xt, [Xn|SP, Xm]',
  },
  8: LOADS[8],
};
const STORES: Readonly<Record<Size, Access>> = {
  1: { size: 1, scaled: 'strb Wt, [Xn|SP, #i]', unscaled: 'sturb Wt, [Xn|SP, #j]', indexed: 'strb Wt, [Xn|SP, Xm]' },
  2: { size: 2, scaled: 'strh Wt, [Xn|SP, #i*2]', unscaled: 'sturh Wt, [Xn|SP, #j]', indexed: 'strh Wt, [Xn|SP, Xm]' },
  4: { size: 4, scaled: 'str Wt, [Xn|SP, #i*4]', unscaled: 'stur Wt, [Xn|SP, #j]', indexed: 'str Wt, [Xn|SP, Xm]' },
  8: { size: 8, scaled: 'str Xt, [Xn|SP, #i*8]', unscaled: 'stur Xt, [Xn|SP, #j]', indexed: 'str Xt, [Xn|SP, Xm]' },
};

const SCALED_LIMIT = 1 << 12;
const UNSCALED_LIMIT = 1 << 8;

export interface Place {
  readonly base: MachineRegister;
  readonly offset: number;
}

/** Where BPF's base + offset lies. The function's own stack is reached from sp; see frame.ts. */
export function placeOf(frame: Frame, base: Register, offset: number): Place {
  return base === 10 ? { base: SP, offset: frame.stack + offset } : { base: machineRegister(base), offset };
}

/** Uses SCRATCH_B where the offset fits no form. */
function access(buffer: CodeBuffer, forms: Access, register: MachineRegister, { base, offset }: Place): void {
  const { size } = forms;
  if (offset >= 0 && offset % size === 0 && offset / size < SCALED_LIMIT) {
    encode(buffer, forms.scaled, 64, register, base, offset);
  } else if (offset >= -UNSCALED_LIMIT && offset < UNSCALED_LIMIT) {
    encode(buffer, forms.unscaled, 64, register, base, offset);
  } else {
    loadConstant(buffer, 64, SCRATCH_B, BigInt(offset));
    encode(buffer, forms.indexed, 64, register, base, SCRATCH_B);
  }
}

export function emitLoad(buffer: CodeBuffer, insn: Load, frame: Frame): void {
  const forms = (insn.signed ? SIGNED_LOADS : LOADS)[insn.size];
  access(buffer, forms, machineRegister(insn.dst), placeOf(frame, insn.src, insn.offset));
}

export function emitStore(buffer: CodeBuffer, insn: Store, frame: Frame): void {
  let source = ZR;
  if (insn.src !== undefined) source = machineRegister(insn.src);
  else if (insn.imm !== 0) {
    source = SCRATCH_A;
    // Only the bits that are stored need be right.
    loadConstant(buffer, insn.size === 8 ? 64 : 32, source, BigInt.asIntN(8 * insn.size, BigInt(insn.imm)));
  }
  access(buffer, STORES[insn.size], source, placeOf(frame, insn.dst, insn.offset));
}
