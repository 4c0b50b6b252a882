/** Programs of type `raw`: memory in r1, its size in r2. */
import { describe, expect, it } from 'vitest';
import { accepted, attempt, program } from './support.ts';

const TABLE: readonly (readonly [name: string, ok: boolean, text: string])[] = [
  ['returns', true, 'r0 = r2\nexit'],
  ['unchecked access', false, 'r0 = *(u8 *)(r1 + 0)\nexit'],
  ['checked size', true, 'r0 = 0\nif r2 < 8 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit'],
  ['checked size, 32 bits', true, 'r0 = 0\nif w2 < 8 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit'],
  ['checked size, one byte too far', false, 'r0 = 0\nif r2 < 8 goto out\nr0 = *(u64 *)(r1 + 1)\nout: exit'],
  ['checked size in the wrong direction', false, 'r0 = 0\nif r2 > 8 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit'],
  ['write', true, 'r0 = 0\nif r2 <= 7 goto out\n*(u64 *)(r1 + 0) = r2\nout: exit'],
  ['size is copied, then compared', true, 'r0 = 0\nr6 = r2\nif r6 < 4 goto out\nr0 = *(u32 *)(r1 + 0)\nout: exit'],
  ['size less a constant', true, 'r0 = 0\nr2 += -10\nif r2 s< 4 goto out\nr0 = *(u32 *)(r1 + 10)\nout: exit'],
  ['size less a constant, unsigned', false, 'r0 = 0\nr2 += -10\nif r2 < 4 goto out\nr0 = *(u32 *)(r1 + 10)\nout: exit'],
  [
    'another number is compared',
    false,
    'r0 = 0\nr6 = r2\nr6 *= 2\nif r6 < 8 goto out\nr0 = *(u32 *)(r1 + 0)\nout: exit',
  ],
  [
    'size is spilled and filled',
    true,
    'r0 = 0\n*(u64 *)(r10 - 8) = r2\nr3 = *(u64 *)(r10 - 8)\nif r3 < 4 goto out\nr0 = *(u32 *)(r1 + 0)\nout: exit',
  ],
  [
    'end pointer',
    true,
    'r0 = 0\nr3 = r1\nr3 += r2\nr4 = r1\nr4 += 8\nif r4 > r3 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit',
  ],
  [
    'end pointer, one too far',
    false,
    'r0 = 0\nr3 = r1\nr3 += r2\nr4 = r1\nr4 += 8\nif r4 > r3 goto out\nr0 = *(u64 *)(r1 + 1)\nout: exit',
  ],
  [
    'end pointer less a constant',
    true,
    'r0 = 0\nr3 = r1\nr3 += r2\nr3 -= 8\nif r1 > r3 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit',
  ],
  ['dereferences the end', false, 'r3 = r1\nr3 += r2\nr0 = *(u8 *)(r3 + 0)\nexit'],
  [
    'variable offset within the proved size',
    true,
    'r0 = 0\nif r2 < 16 goto out\nr3 = *(u8 *)(r1 + 0)\nr3 &= 7\nr1 += r3\nr0 = *(u64 *)(r1 + 1)\nout: exit',
  ],
  [
    'variable offset outside',
    false,
    'r0 = 0\nif r2 < 16 goto out\nr3 = *(u8 *)(r1 + 0)\nr3 &= 15\nr1 += r3\nr0 = *(u64 *)(r1 + 8)\nout: exit',
  ],
  [
    'variable offset compared with the end',
    true,
    'r0 = 0\nif r2 < 1 goto out\nr5 = r1\nr5 += r2\nr3 = *(u8 *)(r1 + 0)\nr1 += r3\nr4 = r1\nr4 += 4\nif r4 > r5 goto out\nr0 = *(u32 *)(r1 + 0)\nout: exit',
  ],
  ['before the start', false, 'r0 = 0\nif r2 < 16 goto out\nr1 += 4\nr0 = *(u64 *)(r1 - 8)\nout: exit'],
  ['shift amounts are masked', true, 'r0 = 1\nr0 <<= 65\nw0 >>= 33\nexit'],
  ['division by a constant zero', true, 'r0 = 1\nr0 /= 0\nexit'],
  ['returns a pointer', false, 'r0 = r1\nexit'],
  ['tail call', true, 'r3 = 0\nr2 = map[progs] ll\ncall bpf_tail_call\nr0 = 0\nexit'],
  ['tail call with moved memory', false, 'r1 += 1\nr3 = 0\nr2 = map[progs] ll\ncall bpf_tail_call\nr0 = 0\nexit'],
  [
    'a path that is pruned must not prove the size for another',
    false,
    'r0 = 0\nr6 = r2\nr7 = *(u8 *)(r10 - 1)\nif r7 == 0 goto a\nr6 = 100\na: if r7 == 1 goto b\nr7 = 3\nb: if r6 < 8 goto out\nr0 = *(u64 *)(r1 + 0)\nout: exit',
  ],
];

describe('raw programs', () => {
  it.each(TABLE)('%s', (_name, ok, text) => {
    const result = attempt(program('raw', text), { uninitializedStack: 'allow' });
    expect(accepted(result), accepted(result) ? '' : result.message).toBe(ok);
  });

  it('takes a known size from the options', () => {
    const read = program('raw', 'r0 = *(u64 *)(r1 + 8)\nexit');
    expect(accepted(attempt(read, { memorySize: { min: 16, max: 16 } }))).toBe(true);
    expect(accepted(attempt(read, { memorySize: { min: 15, max: 15 } }))).toBe(false);
    expect(accepted(attempt(read, { memorySize: { min: 16, max: 64 } }))).toBe(true);
  });

  it('makes r1 null where there is no memory', () => {
    const none = { memorySize: { min: 0, max: 0 } };
    expect(accepted(attempt(program('raw', 'r0 = r1\nr0 += r2\nexit'), none))).toBe(true);
    expect(accepted(attempt(program('raw', 'r0 = *(u8 *)(r1 + 0)\nexit'), none))).toBe(false);
  });

  it.each([
    { min: -1, max: 4 },
    { min: 5, max: 4 },
    { min: 0.5, max: 4 },
    { min: 0, max: 2 ** 32 },
    { min: Number.NaN, max: 4 },
  ])('refuses sizes %j', memorySize => {
    const result = attempt(program('raw', 'r0 = 0\nexit'), { memorySize });
    expect(accepted(result) ? undefined : result.code).toBe('bad_option');
  });
});
