/** snprintf and trace_vprintk as programs call them: the same objects here and in the running kernel. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Collection, createRuntime, loadIntoKernel } from '../../src/index.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection } from '../runtime/build.ts';

const OUT = 64;

const format = fc
  .array(
    fc.oneof(
      fc.constantFrom('packet ', '%%', '\n', '!', 'é', ' x=', '%d', '%5u', '%-8x|', '%lld', '%#x', '%c', '%pI4', '%+d'),
      fc.constantFrom(
        '%llu',
        '%016llx',
        '%s',
        '%pks',
        '%px',
        '%',
        '%f',
        '%lX',
        'a long piece of text that fills it up ',
      ),
    ),
    { minLength: 1, maxLength: 6 },
  )
  .map(pieces => pieces.join(''));

/** Program: r0 = snprintf(...); result and text go to the map `out`. */
function parts(text: string, values: readonly bigint[], size: number, bytes: number): Collection {
  return collection({
    programs: {
      p: `
  *(u32 *)(r10 - 4) = 0
  r2 = r10
  r2 += -4
  r1 = map[out] ll
  call 1
  if r0 == 0 goto gone
  r6 = r0
${values.map((value, i) => `  r1 = ${value} ll\n  *(u64 *)(r10 - ${128 - 8 * i}) = r1`).join('\n')}
  r1 = r6
  r1 += 8
  r2 = ${size}
  r3 = map_value[format]+0 ll
  r4 = r10
  r4 += -128
  r5 = ${bytes}
  call 165
  *(u64 *)(r6 + 0) = r0
gone:
  r0 = 2
  exit`,
    },
    maps: [
      { name: 'out', type: 'array', valueSize: 8 + OUT },
      {
        name: 'format',
        type: 'array',
        valueSize: 512,
        flags: 1 << 7,
        frozen: true,
        contents: [
          { key: 0, value: new Uint8Array([...Buffer.from(`${text}\0`), ...new Array(512)]).subarray(0, 512) },
        ],
      },
    ],
  });
}

test.skipIf(kernelMissing() !== undefined)('snprintf gives what the kernel gives', async () => {
  const runtime = createRuntime();
  const seen = new Set<string>();
  const value = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.constantFrom(0n, 1n, 65n, 0xffff_ffffn));
  fc.assert(
    fc.property(
      format,
      fc.array(value, { minLength: 12, maxLength: 12 }),
      fc.constantFrom(0, 1, 10, OUT),
      fc.nat(4),
      (text, values, size, more) => {
        // As many values as conversions, mostly; and once in a while an odd size of them.
        const used = (text.replaceAll('%%', '').match(/%/g) ?? []).length;
        const bytes = [8 * used, 8 * used, 8 * used + 8, Math.max(0, 8 * used - 8), 8 * used + 4][more]!;
        const object = parts(text, values.slice(0, 12), size, bytes);
        const attempt = (load: () => Uint8Array): Uint8Array | string => {
          try {
            return load();
          } catch (error) {
            if (error instanceof VerifierError || error instanceof KernelError) return 'refused';
            throw error;
          }
        };
        const packet = new Uint8Array(64);
        const expected = attempt(() => {
          const theirs = loadIntoKernel(object);
          try {
            theirs.program('p').run(packet);
            return theirs.map('out').lookup(new Uint8Array(4))!;
          } finally {
            theirs.dispose();
          }
        });
        seen.add(typeof expected);
        // Behind the end of the buffer the kernel leaves some conversions out, and gives their values to others.
        const long = typeof expected !== 'string' && (size < OUT || expected[0]! > OUT);
        if (long && /%p[Ik]/.test(text)) return;
        // Strings at random addresses are empty in both.
        for (const backend of runtime.backends) {
          const mine = attempt(() => {
            const ours = runtime.load(object, { backend });
            try {
              ours.program('p').run(packet);
              return ours.map('out').lookup(new Uint8Array(4))!;
            } finally {
              ours.dispose();
            }
          });
          expect([text, size, bytes, mine]).toEqual([text, size, bytes, expected]);
        }
      },
    ),
    { numRuns: 200 },
  );
  expect(seen.size).toBe(2);
  await runtime.dispose();
});

test('trace_vprintk prints more than three values', async () => {
  const lines: string[] = [];
  const runtime = createRuntime({ onTrace: line => lines.push(line) });
  const words = 'a=%d b=%d c=%d d=%s\0';
  const text = Buffer.from(words.padEnd(24, '\0'));
  const view = new DataView(text.buffer, text.byteOffset);
  for (const backend of runtime.backends) {
    for (const [size, bytes, expected] of [
      [words.length, 32, 'a=1 b=2 c=3 d=a=%d b=%d c=%d d=%s'.length],
      [words.length, 24, -22],
      [words.length - 1, 32, -22],
      [words.length, 30, -22],
    ] as const) {
      const object = runtime.load(
        collection({
          programs: {
            p: `
  ${[0, 1, 2].map(i => `r1 = ${view.getBigUint64(8 * i, true)} ll\n  *(u64 *)(r10 - ${24 - 8 * i}) = r1`).join('\n  ')}
  ${[1, 2, 3].map(i => `r1 = ${i}\n  *(u64 *)(r10 - ${64 - 8 * i}) = r1`).join('\n  ')}
  r1 = r10
  r1 += -24
  *(u64 *)(r10 - 32) = r1
  r2 = ${size}
  r3 = r10
  r3 += -56
  r4 = ${bytes}
  call 177
  exit`,
          },
        }),
        { backend },
      );
      expect(Number(object.program('p').run(new Uint8Array(64)).returnValue) | 0).toBe(expected);
      object.dispose();
    }
  }
  expect(new Set(lines)).toEqual(new Set(['a=1 b=2 c=3 d=a=%d b=%d c=%d d=%s']));
  expect(lines.length).toBe(runtime.backends.length);
  await runtime.dispose();
});
