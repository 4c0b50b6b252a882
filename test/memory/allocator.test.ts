import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Allocator } from '../../src/memory/allocator.ts';
import { MemoryError } from '../../src/memory/errors.ts';

const code = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (error instanceof MemoryError) return error.code;
    throw error;
  }
  return 'none';
};

const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('allocate' as const),
      size: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 40_000 })),
      align: fc.constantFrom(8, 16, 64, 128, 4096, 65536),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('free' as const), which: fc.nat() }) },
);

describe('allocator', () => {
  test('agrees with a list of live ranges, whatever the sequence', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120 }), operations => {
        const start = 65536;
        const end = start + 400_000;
        const allocator = new Allocator(start, end);
        const live: { offset: number; size: number }[] = [];
        for (const step of operations) {
          if (step.kind === 'allocate') {
            let offset: number;
            try {
              offset = allocator.allocate(step.size, step.align);
            } catch (error) {
              expect(error).toMatchObject({ code: 'out_of_memory' });
              // It may only give up where no gap fits: 16 bytes of grain, aligned.
              const taken = live.toSorted((a, b) => a.offset - b.offset);
              let gapStart = start;
              for (const next of [...taken, { offset: end, size: 0 }]) {
                const aligned = Math.ceil(gapStart / step.align) * step.align;
                expect(aligned + Math.ceil(step.size / 16) * 16 > next.offset).toBe(true);
                gapStart = Math.ceil((next.offset + next.size) / 16) * 16;
              }
              continue;
            }
            expect(offset % step.align).toBe(0);
            expect(offset).toBeGreaterThanOrEqual(start);
            expect(offset + step.size).toBeLessThanOrEqual(end);
            for (const other of live) {
              expect(offset + step.size <= other.offset || other.offset + other.size <= offset).toBe(true);
            }
            live.push({ offset, size: step.size });
          } else if (live.length > 0) {
            const [gone] = live.splice(step.which % live.length, 1);
            expect(allocator.free(gone!.offset)).toBe(gone!.size);
            expect(code(() => allocator.free(gone!.offset))).toBe('bad_free');
          }
          allocator.check();
          expect(allocator.allocated).toBe(live.reduce((sum, block) => sum + block.size, 0));
        }
        for (const block of live) allocator.free(block.offset);
        allocator.check();
        expect(allocator.allocated).toBe(0);
        expect(allocator.largestFree()).toBe(400_000);
      }),
      { numRuns: 150 },
    );
  });

  test('uses the last byte', () => {
    const allocator = new Allocator(65536, 65536 + 1024);
    expect(allocator.allocate(1024)).toBe(65536);
    expect(code(() => allocator.allocate(1))).toBe('out_of_memory');
    allocator.free(65536);
    const blocks = Array.from({ length: 64 }, () => allocator.allocate(16));
    expect(new Set(blocks).size).toBe(64);
    expect(code(() => allocator.allocate(1))).toBe('out_of_memory');
  });

  test('spans far beyond 4 GiB', () => {
    const allocator = new Allocator(65536, 2 ** 44);
    const a = allocator.allocate(2 ** 40 + 1);
    const b = allocator.allocate(5, 65536);
    expect(b).toBeGreaterThan(a + 2 ** 40);
    allocator.check();
    allocator.free(a);
    allocator.free(b);
    allocator.check();
    expect(allocator.largestFree()).toBe(2 ** 44 - 65536);
  });

  test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60])('refuses size %s', size => {
    expect(code(() => new Allocator(0, 65536).allocate(size))).toBe('bad_argument');
  });

  test.each([0, 3, -8, 131072, 8.5, Number.NaN])('refuses alignment %s', align => {
    expect(code(() => new Allocator(0, 65536).allocate(8, align))).toBe('bad_argument');
  });

  test.each([Number.MAX_SAFE_INTEGER, 2 ** 52, 65537])('size %s is out of memory, not a crash', size => {
    expect(code(() => new Allocator(0, 65536).allocate(size, 65536))).toBe('out_of_memory');
  });
});
