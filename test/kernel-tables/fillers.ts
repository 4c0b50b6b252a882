/**
 * The programs of the tables that are too long to write down. Each is made by a function that the table names; these
 * make the same shapes.
 */
import type { Instruction, JumpOp, Register } from '../../src/isa/instruction.ts';

interface Filled {
  readonly insns: readonly Instruction[];
  /** What it returns. */
  readonly retval: number;
}

const PRANDOM = 7;
const VLAN_PUSH = 18;
const VLAN_POP = 19;

const set = (dst: Register, imm: number, width: 32 | 64 = 64): Instruction => ({
  kind: 'alu',
  op: 'mov',
  width,
  dst,
  src: undefined,
  imm,
});
const copy = (dst: Register, src: Register): Instruction => ({ kind: 'alu', op: 'mov', width: 64, dst, src, imm: 0 });
const xor = (dst: Register, src: Register): Instruction => ({ kind: 'alu', op: 'xor', width: 64, dst, src, imm: 0 });
const call = (helper: number): Instruction => ({ kind: 'callHelper', helper });
const callFunction = (offset: number): Instruction => ({ kind: 'callSubprogram', offset });
const jump = (op: JumpOp, imm: number, offset: number, width: 32 | 64 = 64): Instruction => ({
  kind: 'jump',
  op,
  width,
  dst: 0,
  src: undefined,
  imm,
  offset,
});
const goto = (offset: number): Instruction => ({ kind: 'goto', offset, long: false });
const loadPacketByte = (at: number): Instruction => ({ kind: 'packetLoad', size: 1, src: undefined, imm: at });
const EXIT: Instruction = { kind: 'exit' };

/** Reproducible numbers, many of them near powers of two. */
class Values {
  #state = 0x9e3779b97f4a7c15n;

  next(): bigint {
    this.#state = BigInt.asUintN(64, this.#state * 6364136223846793005n + 1442695040888963407n);
    const mixed = this.#state ^ (this.#state >> 29n);
    const power = 1n << (mixed & 63n);
    const shapes = [mixed, power, power - 1n, -power, mixed & 0xffn, mixed & 0xffff_ffffn];
    return BigInt.asUintN(64, shapes[Number((mixed >> 8n) % 6n)]!);
  }

  nextImm(): number {
    return Number(BigInt.asIntN(32, this.next()));
  }
}

/** Five times: a VLAN tag pushed 51 times and popped 51 times, the packet's first byte compared before each. */
function vlanPushPop(): Filled {
  const count = 51;
  const length = (1 << 15) - count * 60;
  const insns: Instruction[] = [copy(6, 1)];
  const orFail = (op: JumpOp, imm: number, width: 32 | 64): void => {
    insns.push(jump(op, imm, length - insns.length - 3, width));
  };
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < count; i++) {
      insns.push(loadPacketByte(0));
      orFail('ne', 0x34, 32);
      insns.push(copy(1, 6), set(2, 1), set(3, 2), call(VLAN_PUSH));
      orFail('ne', 0, 64);
    }
    for (let i = 0; i < count; i++) {
      insns.push(loadPacketByte(0));
      orFail('ne', 0x34, 32);
      insns.push(copy(1, 6), call(VLAN_POP));
      orFail('ne', 0, 64);
    }
  }
  while (insns.length < length - 3) insns.push(set(0, 0xbef));
  insns.push(goto(1), set(0, 0, 32), EXIT);
  return { insns, retval: 0xbef };
}

function jumpAroundPacketLoads(retval: number): Filled {
  const length = Math.floor((1 << 15) / 7);
  const insns: Instruction[] = [copy(6, 1), loadPacketByte(0), jump('eq', 10, length - 4)];
  while (insns.length < length - 1) insns.push(loadPacketByte(1));
  insns.push(EXIT);
  return { insns, retval };
}

/** The exclusive or of many 64-bit constants, folded to 32 bits. */
function constants(slots: number): Filled {
  const values = new Values();
  const insns: Instruction[] = [set(0, 0, 32)];
  let sum = 0n;
  while (insns.length < slots) {
    const value = values.next();
    sum ^= value;
    insns.push({ kind: 'loadImm64', dst: 1, value, reference: undefined }, { kind: 'wide' }, xor(0, 1));
  }
  insns.push(copy(1, 0), { kind: 'alu', op: 'rsh', width: 64, dst: 1, src: undefined, imm: 32 }, xor(0, 1), EXIT);
  return { insns, retval: Number((sum ^ (sum >> 32n)) & 0xffff_ffffn) };
}

/** 8,192 branches around stores to the stack, then constants up to nearly a million instructions; in the eighth frame if `depth` is 7. */
function scale(depth: 0 | 7): Filled {
  const values = new Values();
  const branches = 8192;
  const insns: Instruction[] = [];
  for (let i = 0; i < depth; i++) insns.push(callFunction(1), EXIT);
  insns.push(copy(6, 1));
  for (let i = 1; i <= branches; i++) {
    insns.push(call(PRANDOM), jump('eq', values.nextImm(), 2), copy(1, 10), {
      kind: 'store',
      size: 8,
      dst: 1,
      offset: -8 * ((i % (64 - 4 * depth)) + 1),
      src: 6,
      imm: 0,
    });
  }
  while (insns.length < 1_000_000 - branches * 4) insns.push(set(0, 42));
  insns.push(EXIT);
  return { insns, retval: 42 };
}

/** Forward branches that cross each other, each to a jump of its own. */
function crossingJumps(): Instruction[] {
  const half = 128;
  const branches = Array.from({ length: half }, (_, i) => jump('eq', i + 1, half));
  const jumps = Array.from({ length: half }, (_, i) => goto(half - i - 1));
  return [call(PRANDOM), ...branches, ...jumps, set(0, 1), EXIT];
}

/** 2,048 branches into chains of jumps, 16 to a chain. */
function chainedJumps(): Instruction[] {
  const half = 2048;
  const branches = Array.from({ length: half }, (_, i) => jump('eq', i + 1, half));
  const insns = [call(PRANDOM), ...branches, goto(half)];
  while (insns.length <= 2 * half + 1) insns.push(goto(15 - ((insns.length - half - 2) % 16)));
  return [...insns.slice(0, 2 * half + 2), set(0, 2), EXIT];
}

function torturousJumps(variant: number): Filled {
  if (variant === 1) return { insns: crossingJumps(), retval: 1 };
  if (variant === 2) return { insns: chainedJumps(), retval: 2 };
  const first = crossingJumps();
  const store: Instruction = { kind: 'store', size: 1, dst: 10, offset: -32, src: undefined, imm: 0 };
  return {
    insns: [callFunction(4), callFunction(first.length + 3), store, set(0, 3), EXIT, ...first, ...chainedJumps()],
    retval: 3,
  };
}

const FILLERS: Readonly<Record<string, (parameter: number) => Filled>> = {
  bpf_fill_ld_abs_vlan_push_pop: vlanPushPop,
  bpf_fill_jump_around_ld_abs: jumpAroundPacketLoads,
  bpf_fill_rand_ld_dw: constants,
  bpf_fill_scale: variant => scale(variant === 1 ? 0 : 7),
  bpf_fill_torturous_jumps: torturousJumps,
};

/** @param parameter the table's retval, which tells a filler its variant */
export function fill(name: string, parameter: number): Filled | undefined {
  return FILLERS[name]?.(parameter);
}
