/**
 * Control-flow checks that need no abstract state, made before interpretation: jump targets, subprogram borders,
 * unreachable instructions, and where states are worth storing.
 *
 * Invariants handed on: every jump stays inside its subprogram and never lands on the second slot of a loadImm64;
 * every subprogram ends in exit or an unconditional jump; every instruction can be reached from slot 0 through
 * jumps, falls, calls and function references. So interpretation needs no bounds checks on the instruction index.
 */
import type { Instruction } from '../isa/instruction.ts';
import type { SubprogramSpec } from '../object/spec.ts';
import type { Errno, VerifierErrorCode } from './errors.ts';

interface Subprogram {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly linkage: 'static' | 'global';
  readonly btfId: number | undefined;
}

export interface Cfg {
  readonly subprograms: readonly Subprogram[];
  /** By slot: index of its subprogram. */
  readonly subprogramOf: Int16Array;
  /** By slot: 1 where states are compared and may be stored. */
  readonly prunePoint: Uint8Array;
  /** By slot: 1 where paths come otherwise than from the instruction before. */
  readonly jumpPoint: Uint8Array;
  /** By slot: 1 where a state is always stored (loops that converge by comparison). */
  readonly forcedCheckpoint: Uint8Array;
}

/** Called on the first violation; does not return. */
export type Refuse = (code: VerifierErrorCode, text: string, errno: Errno, insn?: number) => never;

/** Slot that control falls to from `insn`, after a call too; -1 where it never does. */
export function fallsTo(instruction: Instruction, insn: number): number {
  switch (instruction.kind) {
    case 'exit':
    case 'goto':
      return -1;
    case 'loadImm64':
      return insn + 2;
    default:
      return insn + 1;
  }
}

/** Slot that `insn` may jump to within its function; -1 where it is no jump. */
export function jumpsTo(instruction: Instruction, insn: number): number {
  return instruction.kind === 'jump' || instruction.kind === 'goto' || instruction.kind === 'mayGoto'
    ? insn + 1 + instruction.offset
    : -1;
}

/** Subprogram a call or function reference leads to, as a slot; -1 for other instructions. */
function calledSlot(instruction: Instruction, insn: number): number {
  if (instruction.kind === 'callSubprogram') return insn + 1 + instruction.offset;
  if (instruction.kind === 'loadImm64' && instruction.reference?.type === 'function')
    return insn + 1 + instruction.reference.offset;
  return -1;
}

/** Slots of calls, and of 64-bit immediates: what names functions, helpers and maps. For passes that look for those only. */
export function findCalls(insns: readonly Instruction[]): number[] {
  const calls: number[] = [];
  for (let insn = 0; insn < insns.length; insn++) {
    const { kind } = insns[insn]!;
    if (kind === 'callHelper' || kind === 'callKfunc' || kind === 'callSubprogram' || kind === 'loadImm64')
      calls.push(insn);
  }
  return calls;
}

/** Cuts the program into functions: what the object declares and what calls lead to. */
export function findSubprograms(
  insns: readonly Instruction[],
  calls: readonly number[],
  declared: readonly SubprogramSpec[],
  refuse: Refuse,
): Subprogram[] {
  const starts = new Map<number, SubprogramSpec | undefined>([[0, undefined]]);
  for (const spec of declared) {
    if (!Number.isInteger(spec.start) || spec.start < 0 || spec.start >= insns.length)
      refuse('bad_program', `subprogram ${spec.name} starts outside the program`, 'EINVAL', spec.start);
    starts.set(spec.start, spec);
  }
  for (const insn of calls) {
    const instruction = insns[insn]!;
    if (instruction.kind !== 'callSubprogram' && instruction.kind !== 'loadImm64') continue;
    const target = calledSlot(instruction, insn);
    if (instruction.kind === 'loadImm64' && instruction.reference?.type !== 'function') continue;
    if (!Number.isInteger(target) || target < 0 || target >= insns.length)
      refuse('jump_out_of_range', 'call to invalid destination', 'EINVAL', insn);
    if (!starts.has(target)) starts.set(target, undefined);
  }
  const sorted = [...starts.entries()].sort((a, b) => a[0] - b[0]);
  return sorted.map(([start, spec], index) => ({
    name: spec?.name ?? (index === 0 ? 'main' : `subprogram_${start}`),
    start,
    end: sorted[index + 1]?.[0] ?? insns.length,
    linkage: index === 0 ? 'static' : (spec?.linkage ?? 'static'),
    btfId: spec?.btfId,
  }));
}

function checkBorders(insns: readonly Instruction[], subprogram: Subprogram, refuse: Refuse): void {
  for (let insn = subprogram.start; insn < subprogram.end; insn++) {
    const instruction = insns[insn]!;
    if (instruction.kind === 'loadImm64') {
      if (insns[insn + 1]?.kind !== 'wide' || insn + 1 >= subprogram.end)
        refuse('invalid_instruction', 'invalid bpf_ld_imm64 insn', 'EINVAL', insn);
      continue;
    }
    if (instruction.kind === 'wide' && (insn === subprogram.start || insns[insn - 1]?.kind !== 'loadImm64'))
      refuse('invalid_instruction', 'invalid bpf_ld_imm64 insn', 'EINVAL', insn);
    if (instruction.kind !== 'jump' && instruction.kind !== 'goto' && instruction.kind !== 'mayGoto') continue;
    const target = insn + 1 + instruction.offset;
    if (!Number.isInteger(target) || target < subprogram.start || target >= subprogram.end)
      refuse('jump_out_of_range', `jump out of range from insn ${insn} to ${target}`, 'EINVAL', insn);
    if (insns[target]!.kind === 'wide')
      refuse('jump_out_of_range', `jump into the middle of ldimm64 insn ${target - 1}`, 'EINVAL', insn);
  }
  const last = insns[subprogram.end - 1]!;
  if (last.kind !== 'exit' && last.kind !== 'goto')
    refuse('falls_off_end', 'last insn is not an exit or jmp', 'EINVAL', subprogram.end - 1);
}

/** Marks what slot 0 leads to, through calls too. */
function reach(insns: readonly Instruction[]): Uint8Array {
  const seen = new Uint8Array(insns.length);
  const work = [0];
  while (work.length > 0) {
    // Straight on as far as it goes.
    for (let insn = work.pop()!; insn >= 0 && seen[insn] === 0; ) {
      seen[insn] = 1;
      const instruction = insns[insn]!;
      if (instruction.kind === 'loadImm64') seen[insn + 1] = 1;
      const called = calledSlot(instruction, insn);
      if (called >= 0) work.push(called);
      const target = jumpsTo(instruction, insn);
      if (target >= 0) work.push(target);
      insn = fallsTo(instruction, insn);
    }
  }
  return seen;
}

/**
 * @param callsCallback tells whether a helper runs a callback (its call site is then a loop head).
 * @param turnsLoop tells the same of a kernel function that an iterator loop turns at.
 */
export function checkControlFlow(
  insns: readonly Instruction[],
  subprograms: readonly Subprogram[],
  callsCallback: (helper: number) => boolean,
  turnsLoop: (name: string | undefined) => boolean,
  refuse: Refuse,
): Cfg {
  for (const subprogram of subprograms) {
    if (insns[subprogram.start]!.kind === 'wide')
      refuse(
        'jump_out_of_range',
        `jump into the middle of ldimm64 insn ${subprogram.start}`,
        'EINVAL',
        subprogram.start,
      );
    checkBorders(insns, subprogram, refuse);
  }
  const seen = reach(insns);
  const unreachable = seen.indexOf(0);
  if (unreachable >= 0) refuse('unreachable_instruction', `unreachable insn ${unreachable}`, 'EINVAL', unreachable);

  const subprogramOf = new Int16Array(insns.length);
  subprograms.forEach((subprogram, index) => {
    subprogramOf.fill(index, subprogram.start, subprogram.end);
  });
  const prunePoint = new Uint8Array(insns.length);
  const jumpPoint = new Uint8Array(insns.length);
  const forcedCheckpoint = new Uint8Array(insns.length);
  const meet = (insn: number): void => {
    prunePoint[insn] = 1;
    jumpPoint[insn] = 1;
  };
  for (let insn = 0; insn < insns.length; insn++) {
    const instruction = insns[insn]!;
    switch (instruction.kind) {
      case 'jump':
        prunePoint[insn] = 1;
        meet(insn + 1 + instruction.offset);
        break;
      case 'goto':
        meet(insn + 1 + instruction.offset);
        break;
      case 'mayGoto':
        prunePoint[insn] = 1;
        forcedCheckpoint[insn] = 1;
        meet(insn + 1 + instruction.offset);
        break;
      case 'callSubprogram':
        prunePoint[insn] = 1;
        meet(insn + 1);
        meet(insn + 1 + instruction.offset);
        break;
      case 'callHelper':
        meet(insn + 1);
        if (callsCallback(instruction.helper)) {
          meet(insn);
          forcedCheckpoint[insn] = 1;
        }
        break;
      case 'loadImm64':
        if (instruction.reference?.type !== 'function') break;
        prunePoint[insn] = 1;
        meet(insn + 2);
        meet(insn + 1 + instruction.reference.offset);
        break;
      case 'callKfunc':
        meet(insn + 1);
        if (turnsLoop(instruction.name)) {
          prunePoint[insn] = 1;
          forcedCheckpoint[insn] = 1;
        }
        break;
    }
  }
  return { subprograms, subprogramOf, prunePoint, jumpPoint, forcedCheckpoint };
}
