/** What a refusal tells, and that no program, however broken, gets anything but a typed answer. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decode, encode } from '../../src/isa/codec.ts';
import { IsaError } from '../../src/isa/errors.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { openJudge } from '../kernel/support.ts';
import { CASES } from './cases.ts';
import { accepted, attempt, MAP_BTF, MAPS, program } from './support.ts';

describe('a refusal', () => {
  const lines = [
    { insn: 0, file: '/src/dir/filter.c', line: 7, column: 1, text: '  int x = ctx->len;' },
    { insn: 1, file: '/src/dir/filter.c', line: 9, column: 1, text: '  return *p;' },
  ];
  const refused = attempt(program('socket_filter', 'r2 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r2 + 0)\nexit', { lines }));

  it('carries code, place, state, words and advice', () => {
    if (accepted(refused)) throw new Error('accepted');
    expect(refused).toMatchObject({ code: 'invalid_memory_access', insn: 1, errno: 'EACCES', insnsProcessed: 2 });
    expect(refused.line).toMatchObject({ line: 9 });
    expect(refused.state).toContain('R2=scalar(');
    const [first, second] = refused.message.split('\n');
    expect(first).toBe("R2 invalid mem access 'scalar' (insn 1, /src/dir/filter.c:9)");
    expect(second!.length).toBeGreaterThan(10);
    expect(refused.log).toContain("R2 invalid mem access 'scalar'");
  });

  const LOOKUP = '*(u64 *)(r10 - 8) = 0\nr2 = r10\nr2 += -8\nr1 = map[hash] ll\ncall bpf_map_lookup_elem\n';
  it.each([
    [`${LOOKUP}r0 = *(u64 *)(r0 + 0)\nexit`, 'Compare R0 with NULL before it is followed.'],
    [`${LOOKUP}r1 = r0\ncall bpf_map_lookup_elem\nr0 = 0\nexit`, 'Compare R1 with NULL before the call.'],
    ['r2 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r2 + 0)\nexit', /^R2 holds a number there: /],
    ['r1 = 5\nr2 = r10\ncall bpf_map_lookup_elem\nr0 = 0\nexit', /^R1 holds a number there; pass a pointer/],
    ['r2 = r1\nr1 = map[hash] ll\ncall bpf_map_lookup_elem\nr0 = 0\nexit', /^Copy what R2 leads to onto the stack/],
    ['r0 = 4\nr0 /= 0\nexit', 'Divide by anything but the constant 0.'],
    ['*(u64 *)(r10 - 8) = r1\nr0 = *(u32 *)(r10 - 8)\nexit', /^Store pointers on the stack, .* as 8 bytes/],
    ['call f\nexit\nf: r0 = r10\nexit', /^Return a number: /],
  ])('ends with advice for its cause: %#', (text, advice) => {
    const result = attempt(program('socket_filter', text));
    if (accepted(result)) throw new Error('accepted');
    expect(result.message.split('\n').at(-1)).toMatch(advice);
  });

  it('of whatever cause ends with a line of advice', () => {
    for (const c of CASES) {
      const result = attempt(program(c.type, c.text, { attachType: c.attachType, license: c.license }));
      if (accepted(result)) continue;
      expect(result.message, c.name).toBe(`${result.message.slice(0, -result.hint.length - 1)}\n${result.hint}`);
      expect(result.hint, c.name).toMatch(/^[A-Z]\w*\b.{10,}\.$|^(r|bpf_)\w+ .+\.$/);
    }
  });

  it('comes instead of memory without bounds, for a large function that is called from everywhere', () => {
    const called = (calls: number) =>
      [
        'r6 = 0',
        ...Array.from({ length: calls }, () => ['r1 = 0', 'call large']).flat(),
        'r0 = 0',
        'exit',
        'large:',
        '*(u64 *)(r10 - 8) = r1',
        'r0 = *(u64 *)(r10 - 8)',
        'if r1 == 0 goto end',
        ...Array.from({ length: 32_000 }, () => 'r0 = 1'),
        'end:',
        'exit',
      ].join('\n');
    expect(accepted(attempt(program('socket_filter', called(20))))).toBe(true);
    expect(attempt(program('socket_filter', called(450)))).toMatchObject({ code: 'too_complex', errno: 'E2BIG' });
  });

  it('shows the path at log level 1', () => {
    const result = attempt(program('socket_filter', 'r2 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r2 + 0)\nexit', { lines }), {
      logLevel: 1,
    });
    if (accepted(result)) throw new Error('accepted');
    expect(result.log.split('\n').slice(0, 3)).toEqual([
      '0: R1=ctx() R10=fp0',
      '; int x = ctx->len; @ filter.c:7',
      '0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))',
    ]);
    expect(result.log.trimEnd().split('\n').at(-1)).toMatch(
      /^processed 2 insns \(limit 1000000\) max_states_per_insn 0 /,
    );
  });
});

/** Lines of instructions; addresses of maps and the kernel's precision marks do not compare. */
function comparable(log: string): string[] {
  return log
    .split('\n')
    .filter(line => /^\d+: \(|^from /.test(line))
    .map(line =>
      line
        .replace(/\(18\) (r\d) = (0x[0-9a-f]+|map\S*)/, '(18) $1 = ADDRESS')
        .replace(/map=\w+,/g, '')
        .replace(/=Pscalar/g, '=scalar')
        .replace(/=P(-?[0-9])/g, '=$1')
        .replace(/id=\d+/g, 'id=N')
        .replace(/\s+/g, ' ')
        .replace(/ ;.*$/, tail => (/call|id=N/.test(line) ? '' : tail))
        .trim(),
    );
}

describe('the log at level 2 reads like the kernel\u2019s', () => {
  const names = [
    'returns a constant',
    'bounded loop',
    'stack write and read',
    'packet read (xdp)',
    'value with masked index',
    'two lookups, one check',
    'packet with variable offset (xdp)',
    'lookup with null check',
  ];
  it.each(names)('%s', name => {
    const judge = openJudge(MAPS, { programs: new Map(), btf: MAP_BTF });
    if (judge === undefined) return;
    const c = CASES.find(candidate => candidate.name === name)!;
    const spec = program(c.type, c.text);
    const result = attempt(spec, { logLevel: 2 });
    const insns = (log: string) => comparable(log).map(line => line.replace(/ ;.*/, ''));
    expect(insns(result.log)).toEqual(insns(judge.judge(spec, 2).log));
    judge.dispose();
  });
});

/** Damage that keeps the shape of an instruction list. */
const mutation = fc.tuple(fc.nat(), fc.nat({ max: 7 }), fc.nat({ max: 255 }));

describe('broken programs', () => {
  const good = CASES.map(c => ({ c, bytes: undefined as Uint8Array | undefined }));
  const bytesOf = (index: number): { type: (typeof CASES)[number]['type']; insns: readonly Instruction[] } => {
    const { c } = good[index % good.length]!;
    return { type: c.type, insns: program(c.type, c.text).insns };
  };
  it('mutated instructions give a typed answer', () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(mutation, { minLength: 1, maxLength: 4 }), (index, mutations) => {
        const { type, insns } = bytesOf(index);
        // Map names have no encoding: such instructions are kept as they are.
        const plain = insns.map(i =>
          i.kind === 'loadImm64' && i.reference !== undefined ? { ...i, reference: undefined } : i,
        );
        const bytes = encode(plain);
        for (const [slot, byte, value] of mutations) bytes[(slot % insns.length) * 8 + byte] = value;
        let decoded: Instruction[];
        try {
          decoded = decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(IsaError);
          return;
        }
        const restored = decoded.map((i, slot) => {
          const before = insns[slot]!;
          return before.kind === 'loadImm64' && i.kind === 'loadImm64' ? { ...i, reference: before.reference } : i;
        });
        attempt(program(type, 'exit', { insns: restored }), { maxInsns: 2000 });
      }),
      { numRuns: 2000 },
    );
  });
});
