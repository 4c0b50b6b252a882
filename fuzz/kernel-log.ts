/**
 * The kernel's log at level 2, read as the paths that it walked, down to the instruction that it refused.
 *
 * It says where a path branched off (`from X to Y`), but not at which of several visits of X: all of them count then. What it
 * says of registers is kept by frame; a register that only a link changed is not printed.
 */

/** What is known of a number, or of the variable part of a pointer. 64-bit halves first. */
export interface Known {
  readonly smin: bigint;
  readonly smax: bigint;
  readonly umin: bigint;
  readonly umax: bigint;
  readonly smin32: bigint;
  readonly smax32: bigint;
  readonly umin32: bigint;
  readonly umax32: bigint;
  readonly value: bigint;
  readonly mask: bigint;
}

export interface KernelRegister {
  /** As printed: `scalar`, `fp`, `map_value` ... */
  readonly kind: string;
  /** Fixed part of a pointer's offset. */
  readonly offset: bigint;
  /** Bytes of the packet that were proved; 0 for all else. */
  readonly range: bigint;
  readonly known: Known;
}

interface KernelVisit {
  readonly insn: number;
  /** Visits that it may have followed. */
  readonly before: readonly number[];
}

export interface KernelPaths {
  readonly visits: readonly KernelVisit[];
  /** Of the last instruction: as printed, and the registers before it. */
  readonly text: string;
  readonly registers: ReadonlyMap<number, KernelRegister>;
}

const U64_MAX = (1n << 64n) - 1n;
const NOTHING: Known = {
  smin: -(1n << 63n),
  smax: (1n << 63n) - 1n,
  umin: 0n,
  umax: U64_MAX,
  smin32: -(1n << 31n),
  smax32: (1n << 31n) - 1n,
  umin32: 0n,
  umax32: (1n << 32n) - 1n,
  value: 0n,
  mask: U64_MAX,
};

function constant(value: bigint): Known {
  const [unsigned, low] = [BigInt.asUintN(64, value), BigInt.asUintN(32, value)];
  const [signed, lowSigned] = [BigInt.asIntN(64, value), BigInt.asIntN(32, value)];
  return {
    ...{ smin: signed, smax: signed, umin: unsigned, umax: unsigned },
    ...{ smin32: lowSigned, smax32: lowSigned, umin32: low, umax32: low },
    ...{ value: unsigned, mask: 0n },
  };
}

const number = (text: string): bigint => (text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text));

/** `smin=smin32=0,smax=7,var_off=(0x0; 0x7)`; undefined where nothing of that kind is there. */
function rangesOf(attributes: string): Known | undefined {
  const known = { ...NOTHING };
  let any = false;
  for (const [, names, text] of attributes.matchAll(/((?:[su](?:min|max)(?:32)?=)+)(-?\w+)/g)) {
    any = true;
    for (const name of names!.split('=').slice(0, -1) as (keyof Known)[]) {
      const width = name.endsWith('32') ? 32 : 64;
      const value = number(text!);
      known[name] = name.startsWith('s') ? BigInt.asIntN(width, value) : BigInt.asUintN(width, value);
    }
  }
  const bits = /var_off=\((\w+); (\w+)\)/.exec(attributes);
  if (bits === null) return any ? known : undefined;
  return { ...known, value: number(bits[1]!), mask: number(bits[2]!) };
}

/** @returns undefined where the text is of no known form */
export function parseRegister(text: string): KernelRegister | undefined {
  const plain = text.replace(/^P/, '');
  if (/^-?(0x[0-9a-f]+|\d+)$/.test(plain))
    return { kind: 'scalar', offset: 0n, range: 0n, known: constant(number(plain)) };
  const stack = /^fp(?:\[\d+\])?(-?(?:0x[0-9a-f]+|\d+))$/.exec(plain);
  if (stack !== null) return { kind: 'fp', offset: number(stack[1]!), range: 0n, known: constant(0n) };
  const match = /^([a-z_]+)(?:\[\d+\])?\((.*)\)$/.exec(plain);
  if (match === null) return undefined;
  const [, kind, attributes] = match as unknown as [string, string, string];
  const field = (name: string): bigint => {
    const found = new RegExp(`(?:^|,)${name}=(-?\\w+)`).exec(attributes);
    return found === null ? 0n : BigInt.asIntN(64, number(found[1]!));
  };
  const known = rangesOf(attributes) ?? (kind === 'scalar' ? NOTHING : constant(field('imm')));
  return { kind, offset: field('off'), range: field('r'), known };
}

const REGISTER = /\bR(\d+)(?:_\w+)?=((?:[^ (]|\((?:[^()]|\([^()]*\))*\))+)/g;

/** @returns undefined where no instruction was walked, or the log does not begin with the first one: of a long log the end is kept */
export function readLog(log: string): KernelPaths | undefined {
  const visits: KernelVisit[] = [];
  const visitsOf = new Map<number, number[]>();
  /** Registers by frame, as last printed. */
  const frames: Map<number, KernelRegister>[] = [new Map()];
  let frame = 0;
  /** The visits that the next instruction follows. */
  let before: readonly number[] = [];
  let text = '';
  let registers: ReadonlyMap<number, KernelRegister> = new Map();
  const note = (printed: string, all: boolean): void => {
    const named = /^\s*frame(\d+):/.exec(printed);
    if (named !== null) frame = Number(named[1]);
    else if (all) frame = 0;
    if (all || frames[frame] === undefined) frames[frame] = new Map();
    for (const [, register, value] of printed.matchAll(REGISTER)) {
      const parsed = parseRegister(value!);
      if (parsed === undefined) frames[frame]!.delete(Number(register));
      else frames[frame]!.set(Number(register), parsed);
    }
  };
  let wholeFollows = false;
  for (const line of log.split('\n')) {
    if (wholeFollows) {
      note(line, true);
      wholeFollows = false;
      continue;
    }
    const instruction = /^(\d+): (\([0-9a-f]{2}\) .*?)(?:\s+; (.*))?$/.exec(line);
    if (instruction !== null) {
      const insn = Number(instruction[1]);
      const here = visits.length;
      if ((before.length === 0) !== (here === 0 && insn === 0)) return undefined;
      visits.push({ insn, before });
      const others = visitsOf.get(insn);
      if (others === undefined) visitsOf.set(insn, [here]);
      else others.push(here);
      before = [here];
      text = instruction[2]!;
      registers = new Map(frames[frame]);
      if (instruction[3] !== undefined) note(instruction[3], false);
      continue;
    }
    const branch = /^from (\d+) to \d+(?: \(speculative execution\))?:(.*)$/.exec(line);
    if (branch !== null) {
      const last = visits.at(-1);
      before = last?.insn === Number(branch[1]) ? [visits.length - 1] : [...(visitsOf.get(Number(branch[1])) ?? [])];
      if (!branch[2]!.startsWith(' safe')) note(branch[2]!, true);
      continue;
    }
    if (/^(caller|callee|to caller at \d+):$/.test(line)) wholeFollows = true;
    else if (/^\d+: (frame\d+: )?R\d/.test(line)) note(line.replace(/^\d+:/, ''), false);
  }
  return visits.length === 0 ? undefined : { visits, text, registers };
}
