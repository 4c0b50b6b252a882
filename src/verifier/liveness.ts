/**
 * Which registers are live before each instruction: a backward data-flow analysis inside each function.
 *
 * A register that is not live cannot influence what follows, so two states that differ only in dead registers are
 * the same to pruning. Calls are taken to read all argument registers that they could; that only keeps more live.
 * Stack slots are tracked while interpreting instead (see `stack-liveness.ts`), since pointers to them travel.
 */
import type { CallHelper, CallKfunc, Instruction } from '../isa/instruction.ts';
import { type Cfg, fallsTo, jumpsTo } from './cfg.ts';

/** How many argument registers a call may read. */
type ArgumentCount = (call: CallHelper | CallKfunc) => number;

const ARGUMENTS = 0b111110;
const CALLER_SAVED = 0b111111;
const ALL = 0x3ff;

const bit = (r: number | undefined): number => (r === undefined ? 0 : 1 << r);

/** Registers that an instruction reads, as a set. */
function uses(i: Instruction, argumentCount: ArgumentCount): number {
  switch (i.kind) {
    case 'alu':
      return i.op === 'mov' ? bit(i.src) : bit(i.src) | (1 << i.dst);
    case 'movsx':
    case 'addrSpaceCast':
    case 'load':
      return 1 << i.src;
    case 'byteswap':
      return 1 << i.dst;
    case 'store':
    case 'jump':
      return bit(i.src) | (1 << i.dst);
    case 'atomic':
      if (i.op === 'loadAcquire') return 1 << i.src;
      return bit(i.src) | (1 << i.dst) | (i.op === 'cmpxchg' ? 1 : 0);
    case 'packetLoad':
      // The kernel takes it to read everything.
      return ALL;
    case 'callHelper':
    case 'callKfunc':
      return ((1 << argumentCount(i)) - 1) << 1;
    case 'callSubprogram':
      return ARGUMENTS;
    case 'exit':
      return 1;
    default:
      return 0;
  }
}

/** Registers that an instruction overwrites, as a set. */
function definitions(i: Instruction): number {
  switch (i.kind) {
    case 'alu':
    case 'movsx':
    case 'addrSpaceCast':
    case 'byteswap':
    case 'loadImm64':
    case 'load':
      return 1 << i.dst;
    case 'atomic':
      if (i.op === 'loadAcquire') return 1 << i.dst;
      if (i.op === 'cmpxchg') return 1;
      return i.fetch ? bit(i.src) : 0;
    case 'callHelper':
    case 'callSubprogram':
    case 'callKfunc':
      return CALLER_SAVED;
    default:
      return 0;
  }
}

/** By slot: set of registers live before the instruction. */
export function liveRegisters(insns: readonly Instruction[], cfg: Cfg, argumentCount: ArgumentCount): Uint16Array {
  const live = new Uint16Array(insns.length);
  // Backward sweeps until nothing changes: a sweep settles all straight code, so loops nest few sweeps deep.
  for (const { start, end } of cfg.subprograms) {
    let changed = true;
    while (changed) {
      changed = false;
      let jumpsBack = false;
      for (let insn = end - 1; insn >= start; insn--) {
        const instruction = insns[insn]!;
        if (instruction.kind === 'wide') continue;
        const next = fallsTo(instruction, insn);
        const target = jumpsTo(instruction, insn);
        const out = (next < 0 ? 0 : live[next]!) | (target < 0 ? 0 : live[target]!);
        if (target >= 0 && target <= insn) jumpsBack = true;
        const now = uses(instruction, argumentCount) | (out & ~definitions(instruction));
        if (now !== live[insn]) {
          live[insn] = now;
          changed = true;
        }
      }
      if (!jumpsBack) break;
    }
  }
  return live;
}
