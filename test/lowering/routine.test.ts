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
    { name: 'register reused', text: 'r1 = r10\nr1 = 5\nr1 += -64\nexit', depth: 0 },
  ])('frame size: $name', ({ text, depth }) => {
    expect(lowerRoutine({ name: 'r', text }).subprograms).toMatchObject([{ start: 0, stackDepth: depth }]);
  });

  test('functions of a routine have their own frames', () => {
    const text = '*(u64 *)(r10 - 8) = r1\ncall inner\nexit\ninner:\n*(u64 *)(r10 - 32) = r1\nexit';
    expect(lowerRoutine({ name: 'r', text }).subprograms).toMatchObject([
      { start: 0, end: 3, stackDepth: 8 },
      { start: 3, end: 5, stackDepth: 32 },
    ]);
  });
});
