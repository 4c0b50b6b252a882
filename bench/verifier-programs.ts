/**
 * What the verifier's benchmark verifies: generated programs of each shape at several sizes, and real objects.
 *
 * The generated ones are sched_cls programs in assembly, so that the kernel takes them too. Each starts with numbers that
 * nothing is known of (fields of the context), and keeps them alive in the ways its shape is about.
 */
import { assemble, type Instruction } from '../src/core.ts';

export type Shape = 'alu' | 'stack' | 'branchy' | 'ladder' | 'loop';

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

/** Sixteen instructions: unknown numbers, bounded ones, constants; both widths. */
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

/** Sixteen instructions: spills and fills of all widths, of pointers, of constants; data bytes. */
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

const repeat = (block: readonly string[], insns: number): string[] => {
  const room = insns - PROLOGUE.length - EPILOGUE.length;
  return Array.from({ length: room }, (_, i) => block[i % block.length]!);
};

/** Each test is of a number just loaded, and both ways meet at once. */
function branchy(insns: number): string[] {
  const lines: string[] = [];
  const room = insns - PROLOGUE.length - EPILOGUE.length;
  for (let i = 0; lines.length + 6 <= room; i++)
    lines.push(
      `r2 = *(u32 *)(r6 + ${4 * (i % 4)})`,
      `if r2 > ${(i * 37) % 1000} goto +2`,
      'r3 += 1',
      'r3 &= 4095',
      'r4 += r2',
      'r4 &= 255',
    );
  return lines;
}

/** One number is compared with one limit after the other, and a counter tells how it went. */
function ladder(insns: number): string[] {
  const lines: string[] = [];
  const room = insns - PROLOGUE.length - EPILOGUE.length;
  for (let i = 0; lines.length + 4 <= room; i++)
    lines.push(`if r2 > ${(i * 37) % 1000} goto +1`, 'r3 += 1', 'r3 &= 4095', 'r0 += 1');
  return lines;
}

/** `insns` processed: eight a round. */
function loop(insns: number): string[] {
  const rounds = Math.floor((insns - PROLOGUE.length - EPILOGUE.length - 1) / 8);
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

/** @param insns instructions; of `loop` those that are processed */
export function generate(shape: Shape, insns: number): Instruction[] {
  const body = {
    alu: () => repeat(ALU, insns),
    stack: () => repeat(STACK, insns),
    branchy: () => branchy(insns),
    ladder: () => ladder(insns),
    loop: () => loop(insns),
  }[shape]();
  return assemble([...PROLOGUE, ...body, ...EPILOGUE].join('\n'));
}
