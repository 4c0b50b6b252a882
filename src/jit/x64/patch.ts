/**
 * Changing code that may be running: pure functions that give the bytes, for whoever owns the memory.
 *
 * Each patchable instruction is 5 bytes long and lies within one aligned 8-byte word (see `PokeSite`), so one atomic
 * 8-byte store through the writable alias replaces it whole: a thread fetches either the old or the new instruction.
 */
import { CompileError } from '../shared/errors.ts';
import { fillWithNops, JUMP } from './branches.ts';

/** Bytes of a patchable instruction. */
export const PATCH_BYTES = 5;

/**
 * `jmp rel32` at address `from` to address `to`.
 * @throws CompileError bad_target where the distance exceeds 32 bits
 */
export function jumpBytes(from: bigint, to: bigint): Uint8Array {
  const distance = Number(to - from);
  const displacement = distance - PATCH_BYTES;
  if ((displacement | 0) !== displacement) {
    throw new CompileError(
      'bad_target',
      `no jump of 32 bits reaches from 0x${from.toString(16)} to 0x${to.toString(16)}; place code within 2 GiB`,
      { from, to },
    );
  }
  const bytes = new Uint8Array(PATCH_BYTES);
  JUMP.write(bytes, 0, distance, true);
  return bytes;
}

/** The 5-byte nop. */
export function nopBytes(): Uint8Array {
  const bytes = new Uint8Array(PATCH_BYTES);
  fillWithNops(bytes, 0, PATCH_BYTES);
  return bytes;
}

/** What stands where no jump may be taken: ud2, then int3 up to 5 bytes. */
export function trapBytes(): Uint8Array {
  return Uint8Array.of(0x0f, 0x0b, 0xcc, 0xcc, 0xcc);
}
