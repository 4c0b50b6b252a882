/** The linker's last step: addresses into code. One case for each form of relocation, whatever machine uses it. */
import type { Relocation } from './code.ts';
import { CompileError } from './errors.ts';

const BRANCH26_REACH = 1n << 27n;
const BRANCH26_MASK = 0x3ffffff;
/** Bit position of the 16-bit field of a move-wide instruction, and its size. */
const MOVE_WIDE_FIELD = 5;
const MOVE_WIDE_MASK = 0xffff << MOVE_WIDE_FIELD;

/**
 * @param code the bytes of the code that the relocation is part of
 * @param base address at which the code is to run
 * @param target address of what the relocation names, without its addend
 * @throws CompileError bad_target where the field cannot hold the value
 */
export function applyRelocation(
  code: DataView,
  { offset, form, addend }: Relocation,
  base: bigint,
  target: bigint,
): void {
  const value = target + BigInt(addend);
  const distance = value - (base + BigInt(offset));
  switch (form) {
    case 'absolute64':
      code.setBigUint64(offset, BigInt.asUintN(64, value), true);
      break;
    case 'relative32':
      if (BigInt.asIntN(32, distance) !== distance) throw outOfReach(form, base, offset, value);
      code.setInt32(offset, Number(distance), true);
      break;
    case 'branch26': {
      if (distance < -BRANCH26_REACH || distance >= BRANCH26_REACH || (distance & 3n) !== 0n) {
        throw outOfReach(form, base, offset, value);
      }
      const field = Number(distance >> 2n) & BRANCH26_MASK;
      code.setInt32(offset, (code.getInt32(offset, true) & ~BRANCH26_MASK) | field, true);
      break;
    }
    case 'moveWide48':
      if (BigInt.asUintN(48, value) !== value) throw outOfReach(form, base, offset, value);
      for (let i = 0; i < 3; i++) {
        const at = offset + 4 * i;
        const part = Number((value >> BigInt(16 * i)) & 0xffffn);
        code.setInt32(at, (code.getInt32(at, true) & ~MOVE_WIDE_MASK) | (part << MOVE_WIDE_FIELD), true);
      }
      break;
  }
}

function outOfReach(form: Relocation['form'], base: bigint, offset: number, value: bigint): CompileError {
  return new CompileError(
    'bad_target',
    `the ${form} field at 0x${(base + BigInt(offset)).toString(16)} cannot hold 0x${value.toString(16)}; place code closer to what it calls`,
    { form, offset, value },
  );
}
