/** Reads of the kernel's structures through bpf_rdonly_cast: random types, offsets and sizes, judged by the running kernel. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { KERNEL_BTF } from '../../src/kernel/kfuncs.ts';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import { ObjectError } from '../../src/object/errors.ts';
import type { ProgramSpec } from '../../src/object/spec.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { clang, compile } from '../clang.ts';
import { openJudge } from '../kernel/support.ts';
import { BtfBuilder } from '../object/btf-builder.ts';
import { attempt, program } from './support.ts';

const judge = openJudge(new Map());
afterAll(() => judge?.dispose());

const withTypes = (targetBtf: Btf, text: string): ProgramSpec => program('xdp', text, { targetBtf });
const cast = (id: number): string => `r2 = ${id}\ncall kfunc[0 bpf_rdonly_cast]`;

/** Both verdicts, each with the last words of a refusal. */
function verdicts(spec: ProgramSpec): [ours: string, theirs: string] {
  const ours = attempt(spec);
  const { accepted, log } = judge!.judge(spec, 1);
  const lines = log.split('\n').filter(line => line !== '' && !line.startsWith('processed '));
  return [ours instanceof VerifierError ? ours.text : 'accepted', accepted ? 'accepted' : lines.at(-1)!];
}

describe.skipIf(judge === undefined)("the running kernel's structures", () => {
  const btf = judge === undefined ? (undefined as never) : parseBtf(readFileSync(KERNEL_BTF));
  const composites: number[] = [];
  for (let id = 1; judge !== undefined && id < btf.size; id++) {
    const kind = btf.kind(id);
    if (kind === 'struct' || kind === 'union') composites.push(id);
  }
  const sizes = [1, 2, 4, 8] as const;
  const access = fc.tuple(fc.nat(), fc.nat(), fc.constantFrom(...sizes, 8), fc.boolean());

  test('fields, holes, bit-fields, arrays, unions and what lies behind the end', () => {
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        fc.nat({ max: composites.length - 1 }),
        fc.array(access, { minLength: 1, maxLength: 4 }),
        (n, accesses) => {
          const id = composites[n]!;
          const lines = accesses.map(([at, , size, aligned], i) => {
            const { size: bytes } = btf.type(id) as { size: number };
            const offset = at % Math.min((i === 0 ? bytes : 256) + 10, 32000);
            return `r0 = *(u${8 * size} *)(r0 + ${aligned ? offset - (offset % size) : offset})`;
          });
          const [ours, theirs] = verdicts(withTypes(btf, `${cast(id)}\n${lines.join('\n')}\nexit`));
          expect(ours, `type ${id}: ${lines.join('; ')}`).toBe(theirs);
          if (ours === 'accepted') accepted++;
          else refused++;
        },
      ),
      { numRuns: 1000 },
    );
    expect(accepted).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(20);
  });

  const skb = judge === undefined ? 0 : composites.find(id => btf.name(id) === 'sk_buff')!;
  test.each<[string, string]>([
    ['a chain of pointers', 'r1 = *(u64 *)(r0 + 16)\nr1 = *(u64 *)(r1 + 0)\nr0 = 0'],
    ['moved by a constant', 'r0 += 8\nr1 = *(u64 *)(r0 + 8)\nr0 = 0'],
    ['before its start', 'r0 += -8\nr1 = *(u64 *)(r0 + 0)'],
    ['moved by what is not known', 'r6 = *(u32 *)(r10 - 8)\nr6 &= 7\nr0 += r6\nr1 = *(u64 *)(r0 + 0)'],
    ['multiplied', 'r0 *= 4'],
    ['written', '*(u64 *)(r0 + 8) = 1'],
    ['an atomic', 'r1 = 1\nlock *(u64 *)(r0 + 8) += r1'],
    ['a load-acquire', 'w0 = load_acquire((u32 *)(r0 + 112))'],
    ['a load-acquire of a pointer', 'r0 = load_acquire((u64 *)(r0 + 16))\nr0 = *(u64 *)(r0 + 0)'],
    ['null or not', 'if r0 == 0 goto out\nr1 = *(u64 *)(r0 + 16)\nout: r0 = 0'],
    ['a text', 'r1 = r0\ncall kfunc[0 bpf_strlen]'],
    ['cast again', `r1 = r0\n${cast(0)}\nr0 = *(u8 *)(r0 + 5)`],
    ['the stack on another path', 'if r0 == 0 goto read\nr0 = r10\nr0 += -8\nread: r0 = *(u64 *)(r0 + 0)\nr0 = 0'],
    [
      'memory of no type on another path',
      `r6 = r0\nif r0 == 0 goto read\nr1 = r0\n${cast(0)}\nr6 = r0\nread: r0 = *(u64 *)(r6 + 16)\nr0 = 0`,
    ],
    ['the difference of two', 'r1 = r0\nr1 -= r0\nr0 = r1'],
    ['from the stack', '*(u64 *)(r10 - 8) = r0\nr1 = *(u64 *)(r10 - 8)\nr0 = *(u64 *)(r1 + 16)'],
  ])('%s', (_, text) => {
    const start = '*(u64 *)(r10 - 8) = 0';
    const [ours, theirs] = verdicts(withTypes(btf, `${start}\n${cast(skb)}\n${text}\nexit`));
    expect(ours).toBe(theirs);
  });

  test.each([1, 10_000_000])('type %i is no structure', id => {
    const [ours, theirs] = verdicts(withTypes(btf, `${cast(id)}\nr0 = 0\nexit`));
    expect(ours).toBe(theirs);
    expect(ours).not.toBe('accepted');
  });
});

describe.skipIf(judge === undefined || clang === undefined)('in C', () => {
  const source = new URL('kernel-structures.c', import.meta.url);

  test('results are the kernel\u2019s', async () => {
    const collection = compile(source, { targetBtf: readFileSync(KERNEL_BTF) });
    const programs = ['packet', 'list'];
    const theirs = loadIntoKernel(collection, { programs });
    const runtime = createRuntime();
    const bytes = Uint8Array.from({ length: 60 }, (_, i) => 3 * i + 1);
    try {
      const expected = programs.map(name => BigInt.asUintN(32, theirs.program(name).run(bytes).returnValue));
      expect(expected[1]).toBe(32n);
      for (const backend of runtime.backends) {
        const ours = runtime.load(collection, { programs, backend });
        const got = programs.map(name => BigInt.asUintN(32, ours.program(name).run(bytes).returnValue));
        expect([backend, got]).toEqual([backend, expected]);
      }
      expect(() => runtime.load(collection, { programs: ['bad_beyond'] })).toThrow('access beyond struct ethhdr');
      expect(() => loadIntoKernel(collection, { programs: ['bad_beyond'] })).toThrow('access beyond struct ethhdr');
    } finally {
      theirs.dispose();
      await runtime.dispose();
    }
  });
});

test('without types of a kernel, casts to its structures are refused', () => {
  const refusal = attempt(program('xdp', `${cast(5)}\nr0 = 0\nexit`));
  expect(refusal).toBeInstanceOf(VerifierError);
  expect((refusal as VerifierError).code).toBe('unsupported');
});

test('structures within themselves without end are refused', () => {
  const types = new BtfBuilder();
  const self = types.struct('self', 8, [{ name: 'again', type: 1, bitOffset: 0 }]);
  const refusal = attempt(withTypes(parseBtf(types.bytes()), `${cast(self)}\nr0 = *(u64 *)(r0 + 0)\nexit`));
  expect((refusal as VerifierError).code).toBe('too_complex');
});

test('types that are corrupt are refused, or read as they stand', () => {
  const types = new BtfBuilder();
  const int = types.int('int', 4, true);
  const members = ['a', 'b'].map((name, i) => ({ name, type: int, bitOffset: 32 * i }));
  const inner = types.struct('inner', 16, [...members, { name: 'self', type: 2, bitOffset: 64 }]);
  types.struct('outer', 64, [
    { name: 'inner', type: inner, bitOffset: 0 },
    { name: 'x', type: int, bitOffset: 256 },
  ]);
  const good = types.bytes();
  const change = fc.tuple(
    fc.integer({ min: 24, max: good.length - 1 }),
    fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 255 })),
  );
  let walked = 0;
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 4 }),
      fc.nat({ max: 70 }),
      fc.constantFrom(8, 16, 32, 64),
      (changes, id, offset, bits) => {
        const bytes = good.slice();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          attempt(withTypes(parseBtf(bytes), `${cast(id)}\nr0 = *(u${bits} *)(r0 + ${offset})\nexit`));
          walked++;
        } catch (error) {
          if (!(error instanceof ObjectError)) throw error;
        }
      },
    ),
    { numRuns: 500 },
  );
  expect(walked).toBeGreaterThan(50);
});
