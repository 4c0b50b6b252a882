/** The last step of a CO-RE relocation: the new number goes into the field that the instruction's kind has for it. */
import type { CorePatch } from './core.ts';
import { ObjectError } from './errors.ts';

/** Helper number of poisoned instructions; 0xbad2310 reads "bad relo". libbpf uses the same, and tools know it. */
const POISON_HELPER = 0xbad2310;

const SLOT_BYTES = 8;
const CALL = 0x85;
const LOAD_IMM64 = 0x18;
const CLASS = { ld: 0, ldx: 1, st: 2, stx: 3, alu: 4, alu64: 7 } as const;
const SOURCE_REGISTER = 8;
/** Size bits of a load or store, by bytes. */
const SIZE_BITS: Readonly<Record<number, number>> = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };
const SIZE_MASK = 0x18;

/**
 * @param code of one function; changed in place.
 * @param slot in it.
 * @throws ObjectError `bad_core_relocation` where the instruction is not one that the relocation can be about.
 */
export function patch(code: Uint8Array, slot: number, change: CorePatch): void {
  const at = slot * SLOT_BYTES;
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  if (at + SLOT_BYTES > code.length) throw bad('there is no such instruction');
  const opcode = view.getUint8(at);
  const isWide = opcode === LOAD_IMM64;
  if (isWide && at + 2 * SLOT_BYTES > code.length) throw bad('the 64-bit immediate load is cut short');
  if (change.poison) {
    poison(view, at, isWide);
    return;
  }
  const { before, after, validate } = change;
  const expect = (found: number): void => {
    if (validate && BigInt(found) !== BigInt.asIntN(64, before) && BigInt(found >>> 0) !== before) {
      throw bad(`the instruction should hold ${before}, but holds ${found}`);
    }
  };
  switch (opcode & 7) {
    case CLASS.alu:
    case CLASS.alu64:
      if (opcode & SOURCE_REGISTER) throw bad('the instruction has no immediate');
      expect(view.getInt32(at + 4, true));
      view.setInt32(at + 4, Number(BigInt.asIntN(32, after)), true);
      return;
    case CLASS.ldx:
    case CLASS.st:
    case CLASS.stx:
      expect(view.getInt16(at + 2, true));
      if (after > 0x7fffn) throw bad(`offset ${after} does not fit the instruction's 16 bits`);
      if (change.sizesClash) {
        // Reading a signed or structured field with another width would give a wrong value, not an error.
        poison(view, at, false);
        return;
      }
      view.setInt16(at + 2, Number(after), true);
      if (change.sizeAfter !== change.sizeBefore) {
        if ((opcode & SIZE_MASK) !== SIZE_BITS[change.sizeBefore]) {
          throw bad(`the instruction does not access the ${change.sizeBefore} bytes of its field`);
        }
        const bits = SIZE_BITS[change.sizeAfter];
        if (bits === undefined) throw bad(`no instruction accesses ${change.sizeAfter} bytes`);
        view.setUint8(at, (opcode & ~SIZE_MASK) | bits);
      }
      return;
    default: {
      if (!isWide || view.getUint8(at + 1) >> 4 !== 0) throw bad('the instruction has no field for it');
      const low = BigInt(view.getUint32(at + 4, true));
      const found = (BigInt(view.getUint32(at + SLOT_BYTES + 4, true)) << 32n) | low;
      // An enum value that was taken as signed, in an object whose compiler knew better.
      const unsigned = BigInt.asIntN(64, before) >= -0x80000000n ? before & 0xffffffffn : before;
      if (validate && found !== before && found !== unsigned)
        throw bad(`the instruction should hold ${before}, but holds ${found}`);
      view.setUint32(at + 4, Number(after & 0xffffffffn), true);
      view.setUint32(at + SLOT_BYTES + 4, Number(after >> 32n), true);
    }
  }
}

/** Both slots of a wide load, so that what is refused is the missing helper and not half an instruction. */
function poison(view: DataView, at: number, isWide: boolean): void {
  for (const start of isWide ? [at, at + SLOT_BYTES] : [at]) {
    view.setBigUint64(start, 0n, true);
    view.setUint8(start, CALL);
    view.setInt32(start + 4, POISON_HELPER, true);
  }
}

function bad(why: string): ObjectError {
  return new ObjectError('bad_core_relocation', why);
}
