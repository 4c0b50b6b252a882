/**
 * Why does our verifier accept what the kernel refuses? A difference is explained only if our verifier knows more at the very place:
 *
 * - **dead**: along each path on which the kernel may have come to the instruction there is a way that our verifier, in
 *   none of the states in which it walks that path, goes.
 * - **narrower**: in each state of ours in which that path ends, a number that decides the refusal (an index, what is
 *   added to a pointer) has narrower bounds or more known bits than the kernel prints.
 * - **far**: with no path pruned, our verifier refuses with the same words at the same place: what moves a pointer too far
 *   is not looked at where a number that is less known stood for it.
 * - **callback**: "No program to jit": the kernel removes a callback that never runs, and stumbles over its address.
 *
 * Whether that knowledge is right is not asked here: runs on many numbers are held against it (`Judge.sample`).
 */
import type { Collection } from '../src/index.ts';
import { KernelError } from '../src/kernel/errors.ts';
import { loadIntoKernel } from '../src/kernel/load.ts';
import { refusalText } from '../src/kernel/program.ts';
import { verifyProgram } from '../src/runtime/stages.ts';
import { VerifierError } from '../src/verifier/errors.ts';
import { kindName, type RegisterState } from '../src/verifier/registers.ts';
import type { State } from '../src/verifier/state.ts';
import { collectionOf, type Subject } from './judge.ts';
import { type KernelPaths, type KernelRegister, type Known, readLog } from './kernel-log.ts';
import { Walked } from './walked.ts';

export type Explanation = 'dead' | 'narrower' | 'far' | 'callback';

/** Refusals that depend on how much is known of a number. */
const ABOUT_NUMBERS =
  /(max|min) value is outside|unbounded (memory|min value)|misaligned|variable-offset|math between|invalid access to|is negative|be out of bounds|should have been in/;
const TOO_FAR = /pointer offset -?\d+ is not allowed|math between|be out of bounds/;

/**
 * @param subject accepted here, refused by the kernel
 * @returns undefined where nothing explains it
 */
export function explain(subject: Subject): Explanation | undefined {
  const collection = collectionOf(subject);
  const log = kernelLog(collection);
  if (log === undefined) return undefined;
  const printed = printOperand(subject, log);
  return printed === undefined ? explainLog(collection, log) : explainLog(printed.collection, printed.log);
}

/**
 * The kernel does not print numbers that only a link changed. So what is added to a pointer is stored first, where nothing else is: then
 * it is.
 */
function printOperand(subject: Subject, log: string): { collection: Collection; log: string } | undefined {
  const paths = readLog(log);
  const operand = /^\(\w\w\) r\d+ [+-]= (r\d+)$/.exec(paths?.text ?? '')?.[1];
  if (paths === undefined || operand === undefined) return undefined;
  const refused = paths.visits.at(-1)!.insn;
  const lines = subject.text.split('\n');
  let slot = 0;
  const at = lines.findIndex(line => {
    if (/^\w+:$/.test(line)) return false;
    slot += / ll$/.test(line) ? 2 : 1;
    return slot > refused;
  });
  const text = lines.toSpliced(at, 0, `*(u64 *)(r10 - 248) = ${operand}`).join('\n');
  const collection = collectionOf({ ...subject, text });
  const again = kernelLog(collection);
  // Where that changes which paths are walked, or what is too deep, it has to do without.
  if (again === undefined || readLog(again)?.visits.at(-1)?.insn !== refused + 1) return undefined;
  return { collection, log: again };
}

/** @param log the kernel's, at level 2 */
export function explainLog(collection: Collection, log: string): Explanation | undefined {
  const refusal = refusalText(log);
  if (/^verifier bug: No program to jit at insn \d+/.test(refusal))
    return namesIdleCallback(collection) ? 'callback' : undefined;
  const paths = readLog(log);
  if (paths === undefined) return undefined;
  const refused = paths.visits.at(-1)!.insn;
  const exact = Walked.of(collection, 'all', refused);
  if (exact instanceof VerifierError && TOO_FAR.test(refusal) && exact.text === refusal && exact.insn === refused)
    return 'far';
  const walked = exact instanceof Walked ? exact : Walked.of(collection, 'marked', refused);
  if (!(walked instanceof Walked)) return undefined;
  const ends = follow(paths, walked);
  if (ends.size === 0) return 'dead';
  if (!ABOUT_NUMBERS.test(refusal)) return undefined;
  const deciding = decidingRegisters(refusal, paths.text);
  const narrower = [...ends].every(end => {
    const state = walked.state(end);
    return deciding.some(r => knowsMore(state, r, paths.registers.get(r)));
  });
  return narrower ? 'narrower' : undefined;
}

function kernelLog(collection: Collection): string | undefined {
  try {
    loadIntoKernel(collection, { logLevel: 2 }).dispose();
    return undefined;
  } catch (error) {
    if (error instanceof KernelError && error.code === 'program_refused') return String(error.details.log);
    throw error;
  }
}

/** Is there a callback that is named, and never walked? */
function namesIdleCallback({ programs, maps }: Collection): boolean {
  const program = programs.get('fuzz')!;
  const { reachable } = verifyProgram(program, maps).facts;
  return program.insns.some(
    (insn, at) =>
      insn.kind === 'loadImm64' &&
      insn.reference?.type === 'function' &&
      reachable[at + 1 + insn.reference.offset] !== 1,
  );
}

/** @returns our states in which the kernel's last path, or one that it may have been, ends */
function follow({ visits }: KernelPaths, walked: Walked): ReadonlySet<number> {
  const reached: Set<number>[] = [];
  for (const { insn, before } of visits) {
    const here = new Set<number>(reached.length === 0 ? [0] : []);
    for (const earlier of before)
      for (const visit of reached[earlier]!) for (const next of walked.after(visit, insn)) here.add(next);
    reached.push(here);
  }
  return reached.at(-1)!;
}

/** Those that the refusal names; else what the instruction computes with. */
function decidingRegisters(refusal: string, text: string): number[] {
  const numbers = (matches: Iterable<RegExpMatchArray>): number[] => [...matches].map(match => Number(match[1]));
  const named = numbers(refusal.matchAll(/\bR(\d+)\b/g));
  if (named.length > 0) return named;
  if (/ call /.test(text)) return [1, 2, 3, 4, 5];
  const pointer = /\*\([us]\d+ \*\)\(r(\d+)/.exec(text);
  if (pointer !== null) return [Number(pointer[1])];
  return numbers(text.matchAll(/\b[rw](\d+)\b/g));
}

/** Of a register that is of the same kind. */
function knowsMore(state: State, r: number, kernel: KernelRegister | undefined): boolean {
  const ours = state.registers[r]!;
  if (kernel === undefined || kindName(ours) !== kernel.kind) return false;
  const known = knownOf(ours);
  if (BigInt(ours.offset) !== kernel.offset && ours.kind !== 'scalar')
    return known.mask === 0n && kernel.known.mask !== 0n;
  if (BigInt(ours.range) > kernel.range) return true;
  const theirs = kernel.known;
  return (
    known.smin > theirs.smin ||
    known.smax < theirs.smax ||
    known.umin > theirs.umin ||
    known.umax < theirs.umax ||
    known.smin32 > theirs.smin32 ||
    known.smax32 < theirs.smax32 ||
    known.umin32 > theirs.umin32 ||
    known.umax32 < theirs.umax32 ||
    (theirs.mask & ~known.mask) !== 0n
  );
}

function knownOf({ value: s }: RegisterState): Known {
  const { value, mask } = s.tnum;
  return {
    ...{ smin: s.smin, smax: s.smax, umin: s.umin, umax: s.umax },
    ...{ smin32: BigInt(s.s32min), smax32: BigInt(s.s32max), umin32: BigInt(s.u32min), umax32: BigInt(s.u32max) },
    ...{ value, mask },
  };
}
