/** What the kernel's tables, and mutations of them, found here; verdicts and counts are those of Linux 6.18. */
import { describe, expect, test } from 'vitest';
import { VerifierError } from '../../src/verifier/errors.ts';
import { accepted, attempt, program } from './support.ts';

const REFUSED: readonly { name: string; text: string; words: string }[] = [
  {
    name: 'a shift by as much as the width gives nothing to rely on',
    text: `
      *(u64 *)(r10 - 8) = 0
      r2 = r10
      r2 += -8
      r1 = map[hash] ll
      call 1
      if r0 == 0 goto out
      r2 = 32
      r1 = 1
      w1 <<= w2
      r1 &= 0xffff
      r0 += r1
      r0 = *(u8 *)(r0 + 0)
      out:
      r0 = 0
      exit`,
    words: 'R0 max value is outside of the allowed memory range',
  },
  {
    name: 'numbers that helpers write are aligned',
    text: `
      *(u64 *)(r10 - 8) = 0x303036
      *(u64 *)(r10 - 16) = 0
      *(u64 *)(r10 - 24) = 0
      r1 = r10
      r1 += -8
      r2 = 4
      r3 = 0
      r4 = r10
      r4 += -20
      call 106
      r0 = 0
      exit`,
    words: 'misaligned stack access off 0+-20+0 size 8',
  },
  {
    name: 'an atomic that loads over its base',
    text: `
      *(u64 *)(r10 - 8) = 16
      r2 = r10
      r2 = atomic_fetch_or((u64 *)(r2 - 8), r2)
      r0 = 0
      exit`,
    words: 'misaligned access off (0x0; 0xffffffffffffffff)+0+-8 size 8',
  },
];

describe('refused', () => {
  test.each(REFUSED)('$name', ({ text, words }) => {
    const result = attempt(program('xdp', text));
    expect(result).toBeInstanceOf(VerifierError);
    expect((result as VerifierError).text.split('\n').at(-1)).toBe(words);
  });
});

test('access to packets is aligned where strict alignment is asked for', () => {
  const spec = program(
    'xdp',
    `r2 = *(u32 *)(r1 + 0)
     r3 = *(u32 *)(r1 + 4)
     r4 = r2
     r4 += 8
     if r4 > r3 goto out
     r0 = *(u32 *)(r2 + 4)
     out:
     r0 = 0
     exit`,
  );
  expect(accepted(attempt(spec))).toBe(true);
  const strict = attempt(spec, { strictAlignment: true });
  expect((strict as VerifierError).text).toBe('misaligned packet access off 2+0+0+4 size 4');
});

test('states are stored at calls and at the functions they lead to', () => {
  const nested = `call f\nexit\nf: r6 = r1\n${'call 7\nif r0 == 5 goto +2\nr1 = r10\n*(u64 *)(r1 - 8) = r6\n'.repeat(200)}`;
  const result = attempt(program('sched_cls', `${nested}r0 = 0\nexit`));
  if (!accepted(result)) throw result;
  expect([result.insnsProcessed, result.statesExplored]).toEqual([1702, 200]);
});
