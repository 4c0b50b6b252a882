/**
 * Which instruction stored the key that a map lookup reads: told from the instructions in front of the call, which run one after
 * the other, without any state. `r2 = r10; r2 += -N` says where the key is; the last store there, if nothing between
 * it and the call could have changed the bytes and no jump leads in between, is the key's whenever the call is reached.
 */
import type { Instruction, Store } from '../isa/instruction.ts';

/** Instructions in front of a call that are looked at. */
export const REACH = 16;

/** @returns where r2 points to from r10 at the call in `slot`, if the instructions that run just before it say so. */
export function keyOffset(
  insns: readonly Instruction[],
  slot: number,
  targets: ReadonlySet<number>,
): number | undefined {
  let offset = 0;
  for (let at = slot - 1; at >= 0 && slot - at <= REACH; at--) {
    // Who jumps behind this instruction brings another r2.
    if (targets.has(at + 1)) return undefined;
    const insn = insns[at]!;
    switch (insn.kind) {
      case 'wide':
      case 'store':
        continue;
      case 'load':
      case 'loadImm64':
      case 'movsx':
        if (insn.dst === 2) return undefined;
        continue;
      case 'alu':
        if (insn.dst !== 2) continue;
        if (insn.width !== 64) return undefined;
        if (insn.op === 'mov' && insn.src === 10) return offset;
        if (insn.op !== 'add' || insn.src !== undefined) return undefined;
        offset += insn.imm;
        continue;
      default:
        return undefined;
    }
  }
  return undefined;
}

export interface KeyStore {
  readonly slot: number;
  /** Its lower 32 bits are the key. */
  readonly store: Store;
}

/** @param offset of the key from r10, as `keyOffset` gives it */
export function keyStore(
  insns: readonly Instruction[],
  call: number,
  targets: ReadonlySet<number>,
  offset: number,
): KeyStore | undefined {
  for (let slot = call - 1; slot >= 0 && call - slot <= REACH; slot--) {
    if (targets.has(slot + 1)) return undefined;
    const insn = insns[slot]!;
    switch (insn.kind) {
      case 'wide':
      case 'load':
      case 'loadImm64':
      case 'movsx':
      case 'alu':
        continue;
      case 'store':
        if (insn.dst !== 10) return undefined;
        if (insn.offset === offset && insn.size >= 4) return { slot, store: insn };
        if (insn.offset < offset + 4 && offset < insn.offset + insn.size) return undefined;
        continue;
      default:
        return undefined;
    }
  }
  return undefined;
}
