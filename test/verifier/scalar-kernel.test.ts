/**
 * Random straight-line programs through the running kernel's verifier: after each instruction our scalar must be at least as
 * sharp as the kernel's, and must print as the kernel prints it.
 */
import { describe, expect, test } from 'vitest';
import type { AluOp, JumpOp, Width } from '../../src/isa/instruction.ts';
import {
  alu,
  byteswap,
  compare,
  constant,
  contains,
  formatScalar,
  movsx,
  refine,
  UNKNOWN,
} from '../../src/verifier/scalar.ts';
import { Scalar, Wide } from '../../src/verifier/scalar-value.ts';
import { judgeCode, kernelMissing } from '../kernel/support.ts';

const ALU_CODES: readonly [AluOp, number, number][] = [
  ['add', 0x0, 0],
  ['sub', 0x1, 0],
  ['mul', 0x2, 0],
  ['div', 0x3, 0],
  ['sdiv', 0x3, 1],
  ['or', 0x4, 0],
  ['and', 0x5, 0],
  ['lsh', 0x6, 0],
  ['rsh', 0x7, 0],
  ['neg', 0x8, 0],
  ['mod', 0x9, 0],
  ['smod', 0x9, 1],
  ['xor', 0xa, 0],
  ['arsh', 0xc, 0],
];
const JUMP_CODES: readonly [JumpOp, number][] = [
  ['eq', 0x1],
  ['gt', 0x2],
  ['ge', 0x3],
  ['set', 0x4],
  ['ne', 0x5],
  ['sgt', 0x6],
  ['sge', 0x7],
  ['lt', 0xa],
  ['le', 0xb],
  ['slt', 0xc],
  ['sle', 0xd],
];
const REGISTERS = [6, 7, 8, 9];

function slot(opcode: number, dst: number, src: number, offset: number, imm: number): bigint {
  return BigInt.asUintN(
    64,
    BigInt(opcode) | (BigInt(dst | (src << 4)) << 8n) | (BigInt(offset & 0xffff) << 16n) | (BigInt(imm >>> 0) << 32n),
  );
}

/** mulberry32: a seed names a program for good. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** What one instruction does to our registers; false where it can't fall through. */
type Step = (registers: Scalar[]) => boolean;

interface Instruction {
  readonly step: Step;
  /** The registers whose state it may change. */
  readonly touched: readonly number[];
  /** Set for `and` and `or`. */
  readonly op?: 'and' | 'or';
}

interface Program {
  readonly slots: readonly bigint[];
  readonly steps: ReadonlyMap<number, Instruction>;
}

/** 0 or -1, in the low half or the whole. */
function isMask(s: Scalar): boolean {
  return (s.smin >= -1n && s.smax <= 0n) || (s.s32min >= -1 && s.s32max <= 0);
}

function immediate(pick: (below: number) => number): number {
  const edges = [0, 1, 2, 3, 7, 8, 15, 16, 255, 256, 0xffff, 0x7fffffff, -1, -2, -8, -256, -0x80000000, 0x1000000];
  return pick(4) === 0 ? pick(0xffffffff) | 0 : edges[pick(edges.length)]!;
}

function makeProgram(seed: number, length: number): Program {
  const pick = random(seed);
  const slots: bigint[] = [];
  const steps = new Map<number, Instruction>();
  const emit = (code: bigint, touched: readonly number[], step: Step, op?: AluOp): void => {
    steps.set(slots.length, op === 'and' || op === 'or' ? { step, touched, op } : { step, touched });
    slots.push(code);
  };
  for (const register of REGISTERS) {
    slots.push(slot(0x85, 0, 0, 0, 7));
    slots.push(slot(0xbf, register, 0, 0, 0));
  }
  const jumps: number[] = [];
  while (slots.length < length) {
    const dst = REGISTERS[pick(REGISTERS.length)]!;
    const src = REGISTERS[pick(REGISTERS.length)]!;
    const width: Width = pick(2) === 0 ? 32 : 64;
    const useRegister = pick(3) === 0 && src !== dst;
    const imm = immediate(pick);
    const operand = (registers: Scalar[]): Scalar => (useRegister ? registers[src]! : constant(BigInt(imm)));
    const kind = pick(20);
    if (kind === 0) {
      // A fresh unknown, so that not everything becomes constant.
      slots.push(slot(0x85, 0, 0, 0, 7));
      emit(slot(0xbf, dst, 0, 0, 0), [], registers => {
        registers[dst] = UNKNOWN;
        return true;
      });
    } else if (kind === 1) {
      const from = ([8, 16, 32] as const)[pick(width === 64 ? 3 : 2)]!;
      // From the register itself: the kernel links equal registers, which is not about scalars.
      emit(slot(width === 64 ? 0xbf : 0xbc, dst, dst, from, 0), [dst], registers => {
        registers[dst] = movsx(width, from, registers[dst]!);
        return true;
      });
    } else if (kind === 2) {
      const size = ([16, 32, 64] as const)[pick(3)]!;
      const [order, opcode] = (
        [
          ['le', 0xd4],
          ['be', 0xdc],
          ['swap', 0xd7],
        ] as const
      )[pick(3)]!;
      emit(slot(opcode, dst, 0, 0, size), [dst], registers => {
        registers[dst] = byteswap(order, size, registers[dst]!);
        return true;
      });
    } else if (kind < 14) {
      const [op, code, offset] = ALU_CODES[pick(ALU_CODES.length)]!;
      const shift = op === 'lsh' || op === 'rsh' || op === 'arsh';
      const divides = op === 'div' || op === 'sdiv' || op === 'mod' || op === 'smod';
      if (!useRegister && divides && imm === 0) continue;
      const value = shift ? pick(width) : imm;
      const right = (registers: Scalar[]): Scalar => (useRegister ? registers[src]! : constant(BigInt(value)));
      const fromRegister = useRegister && op !== 'neg';
      const opcode = (code << 4) | (fromRegister ? 8 : 0) | (width === 64 ? 7 : 4);
      emit(
        slot(opcode, dst, fromRegister ? src : 0, offset, fromRegister || op === 'neg' ? 0 : value),
        [dst],
        registers => {
          registers[dst] = alu(op, width, registers[dst]!, right(registers));
          return true;
        },
        op,
      );
    } else {
      const [op, code] = JUMP_CODES[pick(JUMP_CODES.length)]!;
      jumps.push(slots.length);
      const opcode = (code << 4) | (useRegister ? 8 : 0) | (width === 64 ? 5 : 6);
      emit(
        slot(opcode, dst, useRegister ? src : 0, 0, useRegister ? 0 : imm),
        useRegister ? [dst, src] : [dst],
        registers => {
          if (compare(op, width, registers[dst]!, operand(registers)) === true) return false;
          const refined = refine(op, width, registers[dst]!, operand(registers), false);
          if (refined === undefined) return false;
          registers[dst] = refined.a;
          if (useRegister) registers[src] = refined.b;
          return true;
        },
      );
    }
  }
  const end = slots.length;
  for (const at of jumps) slots[at] = slots[at]! | (BigInt(end - at - 1) << 16n);
  slots.push(slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0));
  return { slots, steps };
}

/** The registers that the log shows after each instruction on the first path, as text without `scalar(...)` and ids. */
function statesOnFirstPath(log: string): Map<number, Map<number, string>> {
  const states = new Map<number, Map<number, string>>();
  for (const line of log.split('\n')) {
    if (/^from \d+ to/.test(line)) break;
    const match = /^(\d+): \([0-9a-f]{2}\) .*?(?:; (R\d.*))?$/.exec(line);
    if (match === null) continue;
    const registers = new Map<number, string>();
    for (const [, register, text, inner] of (match[2] ?? '').matchAll(
      /R(\d+)(?:_w)?=P?((?:scalar\(((?:[^()]|\([^)]*\))*)\))|-?[0-9a-fx]+)/g,
    )) {
      registers.set(Number(register), inner === undefined ? text! : inner.replace(/^id=[^,]*,?/, ''));
    }
    states.set(Number(match[1]), registers);
  }
  return states;
}

/** A scalar from the kernel's text. */
function parseScalar(text: string): Scalar {
  if (/^-?\d+$|^0x[0-9a-f]+$/.test(text)) return constant(BigInt(text));
  const bounds = new Map<string, bigint>();
  let tnum = UNKNOWN.tnum;
  for (const part of text.split(',').filter(Boolean)) {
    const names = part.split('=');
    const value = names.pop()!;
    if (names[0] === 'var_off') {
      const [, v, m] = /\((\w+); (\w+)\)/.exec(value)!;
      tnum = { value: BigInt(v!), mask: BigInt(m!) };
    } else {
      for (const name of names) bounds.set(name, BigInt(value));
    }
  }
  const of = (name: string, fallback: bigint): bigint => bounds.get(name) ?? fallback;
  // As the kernel has them, the 64-bit parts are stated by themselves however small they are.
  const wide = new Wide(
    tnum,
    of('umin', UNKNOWN.umin),
    of('umax', UNKNOWN.umax),
    BigInt.asIntN(64, of('smin', UNKNOWN.smin)),
    BigInt.asIntN(64, of('smax', UNKNOWN.smax)),
  );
  return new Scalar(
    Number(tnum.value & 0xffffffffn),
    Number(tnum.mask & 0xffffffffn),
    Number(of('umin32', 0n)),
    Number(of('umax32', 0xffffffffn)),
    Number(BigInt.asIntN(32, of('smin32', -0x80000000n))),
    Number(BigInt.asIntN(32, of('smax32', 0x7fffffffn))),
    wide,
  );
}

describe.skipIf(kernelMissing() !== undefined)('against the running kernel', () => {
  test('at least as sharp after each instruction, and printed alike', () => {
    let compared = 0;
    let sharper = 0;
    const weaker: string[] = [];
    const SEEDS = Number(process.env.SCALAR_SEEDS ?? 150);
    for (let seed = 1; seed <= SEEDS; seed++) {
      const program = makeProgram(seed, 120);
      const { log } = judgeCode(new Uint8Array(BigUint64Array.from(program.slots).buffer), { logLevel: 2 });
      expect(log, `seed ${seed}`).toMatch(/processed \d+ insns/);
      const states = statesOnFirstPath(log);
      const ours: Scalar[] = Array.from({ length: 11 }, () => UNKNOWN);
      for (const [at, { step, touched, op }] of program.steps) {
        const kernel = states.get(at);
        // The kernel proved that the jump before this is always taken.
        if (kernel === undefined) break;
        // The kernel follows both values of an all-or-nothing mask by themselves; that is the walk's business, not the domain's.
        if (op !== undefined && touched.some(register => isMask(ours[register]!))) break;
        const before = touched.map(register => formatScalar(ours[register]!)).join(' / ');
        const falls = step(ours);
        if (!falls) break;
        const jumped = !states.has(at + 1);
        if (jumped) weaker.push(`seed ${seed} slot ${at}: the kernel knows that it jumps: ${before}`);
        for (const register of touched) {
          const text = kernel.get(register);
          if (text === undefined) continue;
          const theirs = parseScalar(text);
          expect(formatScalar(theirs)).toBe(text);
          compared++;
          const own = ours[register]!;
          const line = log.split('\n').find(l => l.startsWith(`${at}: (`));
          if (!contains(theirs, own))
            weaker.push(`seed ${seed}: ${line}\n     ours: ${formatScalar(own)}\n   before: ${before}`);
          else if (formatScalar(own) !== text) sharper++;
        }
      }
    }
    expect(weaker.join('\n')).toBe('');
    expect(compared).toBeGreaterThan(10 * SEEDS);
    expect(sharper).toBeGreaterThan(0);
  });
});
