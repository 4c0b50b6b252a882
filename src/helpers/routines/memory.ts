/** Copying and clearing. These are the loops that every packet helper spends its time in. */
import type { Routine } from '../../isa/routine.ts';

/**
 * memory_copy(to, from, length): ascending, so also right for overlapping ranges with to <= from.
 * Eight bytes at a time, then the rest by halves: an 8-byte load never crosses the end of the range.
 */
const memoryCopy: Routine = {
  name: 'memory_copy',
  text: `
words:
  if r3 < 8 goto tail
  r4 = *(u64 *)(r2 + 0)
  *(u64 *)(r1 + 0) = r4
  r1 += 8
  r2 += 8
  r3 -= 8
  goto words
tail:
  if r3 < 4 goto tail2
  r4 = *(u32 *)(r2 + 0)
  *(u32 *)(r1 + 0) = r4
  r1 += 4
  r2 += 4
  r3 -= 4
tail2:
  if r3 < 2 goto tail1
  r4 = *(u16 *)(r2 + 0)
  *(u16 *)(r1 + 0) = r4
  r1 += 2
  r2 += 2
  r3 -= 2
tail1:
  if r3 == 0 goto done
  r4 = *(u8 *)(r2 + 0)
  *(u8 *)(r1 + 0) = r4
done:
  exit
`,
};

/** memory_move(to, from, length): any overlap. */
const memoryMove: Routine = {
  name: 'memory_move',
  text: `
  if r1 > r2 goto descending
  call routine memory_copy
  exit
descending:
  r1 += r3
  r2 += r3
words:
  if r3 < 8 goto bytes
  r1 -= 8
  r2 -= 8
  r3 -= 8
  r4 = *(u64 *)(r2 + 0)
  *(u64 *)(r1 + 0) = r4
  goto words
bytes:
  if r3 == 0 goto done
  r1 -= 1
  r2 -= 1
  r3 -= 1
  r4 = *(u8 *)(r2 + 0)
  *(u8 *)(r1 + 0) = r4
  goto bytes
done:
  exit
`,
};

/** memory_zero(at, length) */
const memoryZero: Routine = {
  name: 'memory_zero',
  text: `
words:
  if r2 < 8 goto bytes
  *(u64 *)(r1 + 0) = 0
  r1 += 8
  r2 -= 8
  goto words
bytes:
  if r2 == 0 goto done
  *(u8 *)(r1 + 0) = 0
  r1 += 1
  r2 -= 1
  goto bytes
done:
  exit
`,
};

export const MEMORY_ROUTINES: readonly Routine[] = [memoryCopy, memoryMove, memoryZero];
