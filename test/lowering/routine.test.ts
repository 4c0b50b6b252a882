import { describe, expect, test } from 'vitest';
import { lowerRoutine } from '../../src/lowering/routine.ts';

describe('lowerRoutine', () => {
  test.each([
    { name: 'no stack', text: 'r0 = 1\nexit', depth: 0 },
    { name: 'store', text: '*(u64 *)(r10 - 8) = r1\nexit', depth: 8 },
    { name: 'rounded up', text: '*(u8 *)(r10 - 9) = r1\nexit', depth: 16 },
    { name: 'load', text: 'r1 = *(u32 *)(r10 - 20)\nexit', depth: 24 },
    { name: 'address taken', text: 'r1 = r10\nr1 += -64\ncall routine x\nexit', depth: 64 },
    { name: 'through the address', text: 'r1 = r10\nr1 += -64\n*(u64 *)(r1 - 8) = r2\nexit', depth: 72 },
    {
      name: 'an index into a named area',
      text: 'r1 = r10\nr1 += -64\nr1 += r2\n*(u8 *)(r1 + 0) = r3\nexit',
      depth: 64,
    },
    { name: 'register reused', text: 'r1 = r10\nr1 = 5\nr1 += -64\nexit', depth: 0 },
  ])('frame size: $name', ({ text, depth }) => {
    expect(lowerRoutine({ name: 'r', text }).subprograms).toMatchObject([{ start: 0, stackDepth: depth }]);
  });

  test.each([
    ['a subtraction', 'r1 = r10\nr1 -= 64\ncall routine x\nexit'],
    ['a register added to the frame pointer', 'r1 = r10\nr2 = -8\nr1 += r2\ncall routine x\nexit'],
    ['added to a register', 'r1 = -8\nr1 += r10\ncall routine x\nexit'],
    ['other arithmetic', 'r1 = r10\nr1 &= -64\ncall routine x\nexit'],
    ['32 bits', 'r1 = r10\nw1 += -8\nexit'],
    ['32 bits of it', 'w1 = w10\nexit'],
    ['sign extension', 'r1 = r10\nr1 = (s32)r1\nexit'],
    ['the frame pointer itself', 'r10 += -8\nexit'],
    ['in an inner function', 'call inner\nexit\ninner:\nr1 = r10\nr1 -= 8\nexit'],
  ])('stack addresses made otherwise are refused: %s', (_, text) => {
    expect(() => lowerRoutine({ name: 'r', text })).toThrow(
      expect.objectContaining({ code: 'stack_address', message: expect.stringContaining('routine r, instruction') }),
    );
  });

  test('what a call left in a register is no stack address', () => {
    expect(() => lowerRoutine({ name: 'r', text: 'r1 = r10\ncall routine x\nr1 -= 8\nr0 &= 7\nexit' })).not.toThrow();
  });

  test('functions of a routine have their own frames', () => {
    const text = '*(u64 *)(r10 - 8) = r1\ncall inner\nexit\ninner:\n*(u64 *)(r10 - 32) = r1\nexit';
    expect(lowerRoutine({ name: 'r', text }).subprograms).toMatchObject([
      { start: 0, end: 3, stackDepth: 8 },
      { start: 3, end: 5, stackDepth: 32 },
    ]);
  });
});
