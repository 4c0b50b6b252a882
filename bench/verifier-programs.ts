/**
 * What the verifier's benchmark verifies: generated programs of each shape at several sizes.
 *
 * They are sched_cls programs in assembly, so that the kernel takes them too. Each starts with numbers of which nothing is known
 * (fields of the context), and keeps them alive in the ways its shape is about. A shape says how its programs grow: by
 * instructions, or by rounds of a loop, which are processed instructions only.
 */
import { assemble, type Instruction } from '../src/core.ts';

/** What is to be seen of a shape: straight code, or paths that part, meet, and are pruned. */
export type Shape = 'alu' | 'stack' | 'branchy' | 'ladder' | 'loop' | 'search';

/** What there is. */
export const SHAPES: readonly Shape[] = ['alu', 'stack', 'branchy', 'ladder', 'loop', 'search'];

const PROLOGUE = [
  'r6 = r1',
  'r2 = *(u32 *)(r6 + 0)',
  'r3 = *(u32 *)(r6 + 8)',
  'r4 = r2',
  'r4 &= 255',
  'r5 = 7',
  'r0 = 0',
];
const EPILOGUE = ['r0 = 0', 'exit'];
const ROUND_THE_BODY = PROLOGUE.length + EPILOGUE.length;

/** Unknown numbers, bounded ones, constants; both widths. */
const ALU = [
  'r3 += r2',
  'r4 += 3',
  'r4 &= 1023',
  'r5 += 1',
  'w7 = w3',
  'w7 ^= 21845',
  'r8 = r4',
  'r8 <<= 4',
  'r8 |= r4',
  'r2 >>= 1',
  'r2 += r5',
  'w2 += w4',
  'r3 ^= r8',
  'r9 = r3',
  'r9 -= r4',
  'r5 &= 65535',
];

/** Spills and fills of all widths, of numbers, pointers and constants; data bytes. */
const STACK = [
  '*(u64 *)(r10 - 8) = r2',
  'r7 = *(u64 *)(r10 - 8)',
  '*(u32 *)(r10 - 16) = r4',
  'r8 = *(u32 *)(r10 - 16)',
  '*(u64 *)(r10 - 24) = r6',
  'r9 = *(u64 *)(r10 - 24)',
  '*(u64 *)(r10 - 32) = 17',
  'r5 = *(u64 *)(r10 - 32)',
  '*(u8 *)(r10 - 39) = r4',
  '*(u8 *)(r10 - 38) = r4',
  'r3 = *(u8 *)(r10 - 39)',
  '*(u16 *)(r10 - 48) = r3',
  'r3 = *(u16 *)(r10 - 48)',
  '*(u64 *)(r10 - 56) = r7',
  '*(u64 *)(r10 - 64) = r8',
  'r2 = *(u64 *)(r10 - 56)',
];

/** Both verifiers refuse a path from which more than 8192 others wait. */
const MAX_OPEN_BRANCHES = 8000;

function straight(block: readonly string[], insns: number): string[] {
  return Array.from({ length: Math.max(0, insns - ROUND_THE_BODY) }, (_, i) => block[i % block.length]!);
}

/**
 * Each test is of a number just loaded, and both ways meet at once; in large programs straight code lies between. (Tests that are
 * decided would leave dead code, which the kernel takes out of the program in time that is not linear.)
 */
function branchy(processed: number): string[] {
  const lines: string[] = [];
  // The other way of a test is walked until it meets a stored state: three quarters of the instructions twice.
  const room = processed / 1.75 - ROUND_THE_BODY;
  const blocks = Math.min(Math.floor(room / 6), MAX_OPEN_BRANCHES);
  const block = Math.floor(room / blocks);
  for (let i = 0; i < blocks; i++) {
    lines.push(`r2 = *(u32 *)(r6 + ${4 * (i % 4)})`, `if r2 > ${(i * 37) % 1000} goto +2`, 'r3 += 1', 'r3 &= 4095');
    for (let k = 4; k < block; k++) lines.push(ALU[k % ALU.length]!);
  }
  return lines;
}

/** One number is compared with one limit after the other, and a counter tells how it went: paths do not meet. */
function ladder(processed: number): string[] {
  const lines: string[] = [];
  // Both verifiers process about this many instructions for `steps` steps.
  const steps = Math.round(Math.sqrt(processed / 1.7));
  for (let i = 0; i < steps; i++) lines.push(`if r2 > ${(i * 37) % 1000} goto +1`, 'r3 += 1', 'r3 &= 4095', 'r0 += 1');
  return lines;
}

/** A loop whose end only its counter decides. */
function loop(processed: number): string[] {
  const rounds = Math.floor((processed - ROUND_THE_BODY) / 8);
  return [
    'r7 = 0',
    'r3 += r2',
    'r4 += 3',
    'r4 &= 1023',
    '*(u64 *)(r10 - 8) = r4',
    'r8 = *(u64 *)(r10 - 8)',
    'r3 ^= r8',
    'r7 += 1',
    `if r7 < ${rounds} goto -8`,
  ];
}

/** A loop with a branch in it that the input decides. */
function search(processed: number): string[] {
  // Rounds are short while both verifiers can take so many open tests, then so long that a state is stored in each; the other way of
  // the test is walked for about a round.
  const short = processed <= 18 * MAX_OPEN_BRANCHES;
  const rounds = Math.floor((processed - ROUND_THE_BODY) / (short ? 18 : 220));
  const body = short ? [] : straight(ALU, 100 + ROUND_THE_BODY);
  return [
    'r0 = 0',
    ...body,
    'r2 = *(u32 *)(r6 + 0)',
    'r3 += r2',
    'if r2 > 100 goto +1',
    'r4 += 1',
    'r4 &= 1023',
    'r5 ^= r4',
    'r0 += 1',
    `if r0 < ${rounds} goto -${body.length + 8}`,
  ];
}

const BODIES: Readonly<Record<Shape, (size: number) => string[]>> = {
  alu: size => straight(ALU, size),
  stack: size => straight(STACK, size),
  branchy,
  ladder,
  loop,
  search,
};

/** @param size about how many instructions shall be processed */
export function generate(shape: Shape, size: number): Instruction[] {
  return assemble([...PROLOGUE, ...BODIES[shape](size), ...EPILOGUE].join('\n'));
}
