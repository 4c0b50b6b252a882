/**
 * Changing code that may be running: pure functions that give the bytes, for whoever owns the memory.
 *
 * The architecture (Arm ARM, "Concurrent modification and execution of instructions") lets one thread replace an
 * instruction that another may be executing only if both the old and the new one are among a few: B, BL, BRK, NOP and
 * others that matter not here. Then each thread executes the one or the other, without any synchronisation; to be sure
 * of the new one it needs cache maintenance by the writer and a context synchronisation of its own. Hence the forms
 * here: a branch, a nop, and BRK as the trap.
 */
import { CompileError } from '../shared/errors.ts';
import { INSTRUCTION_BYTES } from './branches.ts';
import { encodeWord } from './encodings.ts';

/** How far a branch reaches either way, bytes. */
const BRANCH_REACH = 1n << 27n;

function instruction(word: number): Uint8Array {
  const bytes = new Uint8Array(INSTRUCTION_BYTES);
  new DataView(bytes.buffer).setInt32(0, word, true);
  return bytes;
}

/**
 * `b` at address `from` to address `to`.
 * @throws CompileError bad_target where the distance exceeds 128 MiB
 */
export function jumpBytes(from: bigint, to: bigint): Uint8Array {
  const distance = to - from;
  if (distance < -BRANCH_REACH || distance >= BRANCH_REACH) {
    throw new CompileError(
      'bad_target',
      `no branch reaches from 0x${from.toString(16)} to 0x${to.toString(16)}; place code within 128 MiB`,
      { from, to },
    );
  }
  return instruction(encodeWord('b #j*4', 64, Number(distance)));
}

export function nopBytes(): Uint8Array {
  return instruction(encodeWord('nop', 64));
}

/** What stands where no jump may be taken. */
export function trapBytes(): Uint8Array {
  return instruction(encodeWord('brk #i', 64, 0));
}
