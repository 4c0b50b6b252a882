/** Constants: which of them fit into an instruction, and how the others are built. */

/**
 * The 13-bit field N:immr:imms of a logical instruction's mask, or undefined where there is none. A mask is an element
 * of 2, 4, ... 64 bits, repeated; an element is a rotated run of ones, neither empty nor full.
 * @param value taken modulo 2^width
 */
export function bitmaskImmediate(width: 32 | 64, value: bigint): number | undefined {
  const mask = BigInt.asUintN(width, value);
  if (mask === 0n || mask === (1n << BigInt(width)) - 1n) return undefined;
  let size = width as number;
  let element = mask;
  while (size > 2) {
    const half = size / 2;
    const low = BigInt.asUintN(half, element);
    if (element >> BigInt(half) !== low) break;
    size = half;
    element = low;
  }
  // Bit i of `starts` is set where a run of ones starts: where bit i is set and the one below, around the corner, is not.
  const below = BigInt.asUintN(size, (element << 1n) | (element >> BigInt(size - 1)));
  const starts = element & ~below;
  if ((starts & (starts - 1n)) !== 0n) return undefined;
  const start = starts.toString(2).length - 1;
  let ones = 0;
  for (let rest = element; rest !== 0n; rest &= rest - 1n) ones++;
  const immr = (size - start) % size;
  const imms = ((-2 * size) & 0x3f) | (ones - 1);
  return ((size === 64 ? 1 : 0) << 12) | (immr << 6) | imms;
}

/** One step of building a constant; the first is not `movk`. */
export interface ConstantStep {
  readonly op: 'movz' | 'movn' | 'movk';
  /** 16 bits. */
  readonly chunk: number;
  /** 0, 16, 32, 48 */
  readonly shift: number;
}

/** The fewest move-wide instructions that make `value` (taken modulo 2^width). */
export function constantSteps(width: 32 | 64, value: bigint): ConstantStep[] {
  const chunks: number[] = [];
  for (let shift = 0; shift < width; shift += 16) chunks.push(Number((value >> BigInt(shift)) & 0xffffn));
  const count = (filler: number): number => chunks.filter(chunk => chunk === filler).length;
  const inverted = count(0xffff) > count(0);
  const filler = inverted ? 0xffff : 0;
  const steps: ConstantStep[] = [];
  chunks.forEach((chunk, i) => {
    if (chunk === filler) return;
    const first = steps.length === 0;
    steps.push({
      op: !first ? 'movk' : inverted ? 'movn' : 'movz',
      chunk: first && inverted ? chunk ^ 0xffff : chunk,
      shift: 16 * i,
    });
  });
  if (steps.length === 0) steps.push({ op: inverted ? 'movn' : 'movz', chunk: 0, shift: 0 });
  return steps;
}

/** The mask that a 13-bit field N:immr:imms stands for. */
export function bitmaskValue(width: 32 | 64, field: number): bigint {
  const imms = field & 0x3f;
  const lengths = ((field >> 12) << 6) | (~imms & 0x3f);
  const size = 1 << (31 - Math.clz32(lengths));
  const rotation = BigInt((field >> 6) & (size - 1));
  const run = (1n << BigInt((imms & (size - 1)) + 1)) - 1n;
  const element = BigInt.asUintN(size, (run >> rotation) | (run << (BigInt(size) - rotation)));
  let mask = 0n;
  for (let at = 0; at < width; at += size) mask |= element << BigInt(at);
  return mask;
}
