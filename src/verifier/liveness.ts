/**
 * Which registers are live before each instruction: a backward data-flow analysis inside each function.
 *
 * A register that is not live cannot influence what follows, so two states that differ only in dead registers are
 * the same to pruning. Calls are taken to read all argument registers that they could; that only keeps more live.
 * Stack slots are tracked while interpreting instead (see `prune.ts`), since pointers to them travel.
 */
import type { Instruction } from '../isa/instruction.ts';
import { type Cfg, successors } from './cfg.ts';

const ARGUMENTS = 0b111110;
const CALLER_SAVED = 0b111111;

const bit = (r: number | undefined): number => (r === undefined ? 0 : 1 << r);

/** Sets of registers that an instruction reads and overwrites. */
function usesAndDefinitions(i: Instruction, argumentCount: (helper: number) => number): [number, number] {
  switch (i.kind) {
    case 'alu':
      if (i.op === 'mov') return [bit(i.src), bit(i.dst)];
      return [bit(i.src) | bit(i.dst), bit(i.dst)];
    case 'movsx':
    case 'addrSpaceCast':
      return [bit(i.src), bit(i.dst)];
    case 'byteswap':
      return [bit(i.dst), bit(i.dst)];
    case 'loadImm64':
      return [0, bit(i.dst)];
    case 'load':
      return [bit(i.src), bit(i.dst)];
    case 'store':
      return [bit(i.src) | bit(i.dst), 0];
    case 'atomic':
      if (i.op === 'loadAcquire') return [bit(i.src), bit(i.dst)];
      if (i.op === 'cmpxchg') return [bit(i.src) | bit(i.dst) | 1, 1];
      return [bit(i.src) | bit(i.dst), i.fetch ? bit(i.src) : 0];
    case 'packetLoad':
      return [bit(i.src) | bit(6), CALLER_SAVED];
    case 'jump':
      return [bit(i.src) | bit(i.dst), 0];
    case 'callHelper':
      return [((1 << argumentCount(i.helper)) - 1) << 1, CALLER_SAVED];
    case 'callSubprogram':
    case 'callKfunc':
      return [ARGUMENTS, CALLER_SAVED];
    case 'exit':
      return [1, 0];
    default:
      return [0, 0];
  }
}

/** By slot: set of registers live before the instruction. */
export function liveRegisters(
  insns: readonly Instruction[],
  cfg: Cfg,
  argumentCount: (helper: number) => number,
): Uint16Array {
  const live = new Uint16Array(insns.length);
  const uses = new Uint16Array(insns.length);
  const kept = new Uint16Array(insns.length);
  const next: number[][] = [];
  for (let insn = 0; insn < insns.length; insn++) {
    const [use, definition] = usesAndDefinitions(insns[insn]!, argumentCount);
    uses[insn] = use;
    kept[insn] = ~definition & 0xffff;
    next.push(insns[insn]!.kind === 'wide' ? [] : successors(insns, insn));
  }
  // Backward sweeps until nothing changes: a sweep settles all straight code, so loops nest few sweeps deep.
  for (const { start, end } of cfg.subprograms) {
    let changed = true;
    while (changed) {
      changed = false;
      for (let insn = end - 1; insn >= start; insn--) {
        let out = 0;
        for (const successor of next[insn]!) out |= live[successor]!;
        const now = uses[insn]! | (out & kept[insn]!);
        if (now !== live[insn]) {
          live[insn] = now;
          changed = true;
        }
      }
    }
  }
  return live;
}
