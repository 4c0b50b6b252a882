import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';
import { disassemble } from '../../src/isa/disassembler.ts';
import { IsaError } from '../../src/isa/errors.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { anyProgram } from './arbitrary.ts';
import { hasLlvm, llvmAssemble } from './llvm.ts';

function refusal(run: () => unknown): IsaError | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof IsaError) return error;
    throw error;
  }
}

/** Texts that LLVM takes as well. */
const LLVM_TEXTS = [
  'r0 = 1',
  'r0 = -1',
  'r0 = 0xffffffff',
  'w0 = 0x80000000',
  'w1 += w2',
  'r1 -= 0x10',
  'r2 *= r3',
  'r0 s/= r1',
  'w1 s%= 3',
  'r1 <<= 63',
  'r1 s>>= r2',
  'w1 >>= 31',
  'r0 = -r0',
  'w9 = -w9',
  'r0 = (s8)r1',
  'w0 = (s16)w1',
  'r0 = (s32)r1',
  'r0 = be16 r0',
  'r0 = le64 r0',
  'r0 = bswap32 r0',
  'r0 = *(u64 *)(r1 + 4)',
  'r0 = *(u32 *)(r1 - 4)',
  'w0 = *(u8 *)(r1 + 0)',
  'r0 = *(s16 *)(r1 + 2)',
  '*(u8 *)(r1 - 1) = w2',
  '*(u16 *)(r1 + 0x7fff) = r2',
  '*(u64 *)(r10 - 8) = r2',
  '*(u32 *)(r10 - 4) = 7',
  '*(u64 *)(r10 - 32768) = -7',
  'lock *(u64 *)(r1 + 0) += r2',
  'lock *(u32 *)(r1 + 0) ^= w2',
  'r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)',
  'w2 = atomic_fetch_or((u32 *)(r1 + 8), w2)',
  'r2 = xchg_64(r1 + 0, r2)',
  'w2 = xchg32_32(r1 + 0, w2)',
  'r0 = cmpxchg_64(r1 + 0, r0, r2)',
  'w0 = cmpxchg32_32(r1 + 0, w0, w2)',
  'w2 = load_acquire((u16 *)(r1 + 0))',
  'r2 = load_acquire((u64 *)(r1 - 8))',
  'store_release((u8 *)(r1 + 0), w2)',
  'store_release((u64 *)(r1 + 0), r2)',
  'if r1 s> 5 goto +3',
  'if r1 == 0xffffffff goto +3',
  'if w1 & 7 goto -3',
  'if w1 != w2 goto +0',
  'goto +2',
  'gotol -2',
  'may_goto +2',
  'call 12',
  'exit',
  'r1 = 5 ll',
  'r1 = -5 ll',
  'r1 = 0xffffffffffffffff ll',
  'r0 = *(u8 *)skb[14]',
  'r0 = *(u16 *)skb[r1]',
  'r1 = addr_space_cast(r2, 0, 1)',
];

describe("LLVM's syntax", () => {
  test.skipIf(!hasLlvm)('assembles to the same bytes (needs llvm-mc)', () => {
    const theirs = llvmAssemble(LLVM_TEXTS);
    LLVM_TEXTS.forEach((text, i) => {
      expect(Buffer.from(encode(assemble(text))).toString('hex'), text).toBe(theirs[i]);
    });
  });

  test('white space between tokens does not matter', () => {
    for (const text of LLVM_TEXTS) {
      const tight = text.replace(/ ?([-+*/%|&^=!<>(),[\]]+) ?/g, '$1');
      const wide = `\t ${text.replace(/([(),[\]])/g, ' $1 ')}\t`;
      expect(assemble(wide), wide).toEqual(assemble(text));
      // An operator that begins with s needs the space before it.
      if (!/ s[<>/%]/.test(text)) expect(assemble(tight), tight).toEqual(assemble(text));
    }
  });
});

describe('labels', () => {
  test('jumps and calls in both directions', () => {
    const program = assemble(`
      start:
        if r1 == 0 goto done
        r2 = func[callback] ll   # two slots
        call callback
        may_goto start
        gotol far
      done: exit
      callback: far: r0 = 0
        goto start
    `);
    expect(program).toEqual([
      { kind: 'jump', op: 'eq', width: 64, dst: 1, src: undefined, imm: 0, offset: 5 },
      { kind: 'loadImm64', dst: 2, value: 0n, reference: { type: 'function', offset: 5 } },
      { kind: 'wide' },
      { kind: 'callSubprogram', offset: 3 },
      { kind: 'mayGoto', offset: -5 },
      { kind: 'goto', offset: 1, long: true },
      { kind: 'exit' },
      { kind: 'alu', op: 'mov', width: 64, dst: 0, src: undefined, imm: 0 },
      { kind: 'goto', offset: -9, long: false },
    ]);
  });

  test('may stand at the end of the program', () => {
    expect(assemble('goto end\nend:')).toEqual([{ kind: 'goto', offset: 0, long: false }]);
  });

  test('may be named like an instruction or a register', () => {
    expect(assemble('exit: goto exit\nr1: goto r1')).toEqual([
      { kind: 'goto', offset: -1, long: false },
      { kind: 'goto', offset: -1, long: false },
    ]);
  });

  test('reach as far as the offset goes and no farther', () => {
    const body = (count: number): string => 'exit\n'.repeat(count);
    expect(assemble(`goto end\n${body(0x7fff)}end:`)[0]).toEqual({ kind: 'goto', offset: 0x7fff, long: false });
    const error = refusal(() => assemble(`goto end\n${body(0x8000)}end:`));
    expect(error?.code).toBe('out_of_range');
    expect(error?.details).toMatchObject({ line: 1, column: 6 });
    expect(assemble(`gotol end\n${body(0x8000)}end:`)[0]).toEqual({ kind: 'goto', offset: 0x8000, long: true });
  });
});

describe('what LLVM does not have', () => {
  const own: [string, Instruction][] = [
    ['call +3', { kind: 'callSubprogram', offset: 3 }],
    ['call kfunc[7]', { kind: 'callKfunc', btfId: 7, module: 0 }],
    ['call kfunc[7@2 bpf_foo]', { kind: 'callKfunc', btfId: 7, module: 2, name: 'bpf_foo' }],
    ['call bpf_ktime_get_ns', { kind: 'callHelper', helper: 5 }],
    ['r0 = *(u16 *)skb[r1 - 2]', { kind: 'packetLoad', size: 2, src: 1, imm: -2 }],
    ['r1 = map[.rodata] ll', { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'map', map: '.rodata' } }],
    [
      'r1 = map_value[.bss]+8 ll',
      { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'mapValue', map: '.bss', offset: 8 } },
    ],
    ['r1 = map_fd[3] ll', { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'mapFd', fd: 3 } }],
    ['r1 = btf_id[5, 9] ll', { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'btfId', id: 5, fd: 9 } }],
    ['*(u32 *)(r1) = 1', { kind: 'store', size: 4, dst: 1, offset: 0, src: undefined, imm: 1 }],
  ];
  test.each(own)('%s', (text, want) => {
    expect(assemble(text, { helpers: { bpf_ktime_get_ns: 5 } })[0]).toEqual(want);
  });

  test.each([
    'tail_call 5',
    'load_fence',
    'r2 = run_context',
    'call routine x',
    'call service x',
    'callx r3',
    'ax = 1',
    'r1 += ax',
  ])('%s is of the internal dialect', text => {
    expect(assemble(text, { internal: true })).toHaveLength(1);
    expect(refusal(() => assemble(text))?.message).toContain('internal dialect');
  });
});

describe('comments', () => {
  test('of all four kinds', () => {
    const program = assemble(`
      # one
      r0 = 1 // two
      /* three
         exit */ r0 = 2 /* four */
      ; five
      r0 = 3 ; not an instruction
      r0 = 4;
      r0 /* in the middle */ = 5
    `);
    expect(program.map(insn => (insn.kind === 'alu' ? insn.imm : undefined))).toEqual([1, 2, 3, 4, 5]);
  });

  test('an instruction behind ";" is refused, because LLVM would run it', () => {
    const error = refusal(() => assemble('r0 = 0\nr1 = 1; exit\n'));
    expect(error?.code).toBe('assembly_syntax');
    expect(error?.details).toMatchObject({ line: 2 });
    expect(refusal(() => assemble('goto +0 ; r1 = 1; exit'))?.code).toBe('assembly_syntax');
  });
});

describe('malformed text', () => {
  const malformed: { text: string; code: string; at: [number, number]; says: string }[] = [
    { text: 'r12 = 4', code: 'assembly_syntax', at: [1, 1], says: 'expected an instruction or a label, found "r12"' },
    { text: '\n  bogus', code: 'assembly_syntax', at: [2, 3], says: 'found "bogus"' },
    { text: 'r0 =', code: 'assembly_syntax', at: [1, 5], says: 'found end of line' },
    { text: 'r0 = r1 r2', code: 'assembly_syntax', at: [1, 9], says: 'expected the end of the line' },
    { text: 'r0 = w1', code: 'assembly_syntax', at: [1, 6], says: 'expected a register r0 to r10, found "w1"' },
    { text: 'r0 = -r1', code: 'assembly_syntax', at: [1, 7], says: 'the destination register again' },
    { text: 'w0 = (s32)w1', code: 'assembly_syntax', at: [1, 7], says: 'needs a 64-bit destination' },
    { text: 'w0 = 5 ll', code: 'assembly_syntax', at: [1, 6], says: 'needs a 64-bit destination' },
    { text: 'r0 = *(s64 *)(r1 + 0)', code: 'assembly_syntax', at: [1, 8], says: 'u8 to u64, s8, s16 or s32' },
    { text: 'w0 = *(u64 *)(r1 + 0)', code: 'assembly_syntax', at: [1, 8], says: 'needs a 64-bit destination' },
    { text: '*(s8 *)(r1 + 0) = 1', code: 'assembly_syntax', at: [1, 3], says: 'an unsigned type' },
    { text: 'lock *(u8 *)(r1 + 0) += w1', code: 'assembly_syntax', at: [1, 22], says: 'u32 and u64 only' },
    { text: 'r1 = xchg32_32(r2 + 0, r1)', code: 'assembly_syntax', at: [1, 6], says: 'needs a 32-bit destination' },
    { text: 'r1 = cmpxchg_64(r2, r1, r3)', code: 'assembly_syntax', at: [1, 6], says: 'compares with r0' },
    { text: 'r0 = 0x1ffffffff', code: 'out_of_range', at: [1, 6], says: 'from -2147483648 to 4294967295' },
    { text: 'r0 += -2147483649', code: 'out_of_range', at: [1, 7], says: 'out of range' },
    { text: 'r0 = 0x10000000000000000 ll', code: 'out_of_range', at: [1, 6], says: 'out of range' },
    { text: 'r0 = *(u8 *)(r1 + 32768)', code: 'out_of_range', at: [1, 17], says: 'an offset from -32768 to 32767' },
    { text: 'goto +32768', code: 'out_of_range', at: [1, 6], says: 'out of range' },
    { text: 'goto nowhere', code: 'unknown_label', at: [1, 6], says: 'no label nowhere' },
    { text: 'call bpf_nothing', code: 'unknown_label', at: [1, 6], says: 'no helper given by that name' },
    { text: 'a:\na: exit', code: 'duplicate_label', at: [2, 1], says: 'already names' },
    { text: 'r1 = map[x]', code: 'assembly_syntax', at: [1, 12], says: 'expected "ll"' },
    { text: 'r1 = map["\\x"] ll', code: 'assembly_syntax', at: [1, 10], says: 'a JSON string' },
    { text: 'r1 = symbol ll', code: 'assembly_syntax', at: [1, 6], says: 'a reference such as map[NAME]' },
    { text: 'callx r3', code: 'assembly_syntax', at: [1, 1], says: 'internal dialect' },
    { text: 'r1 = @', code: 'assembly_syntax', at: [1, 6], says: 'found "@"' },
    { text: 'exit\nr1 = ~r2', code: 'assembly_syntax', at: [2, 6], says: '"~r2" starts nothing known' },
    { text: 'exit /* never closed', code: 'assembly_syntax', at: [1, 6], says: 'this comment is not closed' },
    { text: 'r0 = 010', code: 'assembly_syntax', at: [1, 6], says: 'LLVM reads as octal' },
    { text: '1: exit', code: 'assembly_syntax', at: [1, 1], says: 'an instruction or a label' },
    { text: 'if r1 + 2 goto +1', code: 'assembly_syntax', at: [1, 7], says: 'a comparison' },
  ];
  test.each(malformed)('$text', ({ text, code, at: [line, column], says }) => {
    const error = refusal(() => assemble(text));
    expect(error?.message).toContain(says);
    expect(error?.message).toContain(`line ${line}, column ${column}: `);
    expect(error?.code).toBe(code);
    expect(error?.details).toMatchObject({ line, column });
    expect(error?.details).toHaveProperty('expected');
  });

  /** A small generator of numbers from 0 to 2^32-1, so that the mutations are the same everywhere (mulberry32). */
  function random(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return (z ^ (z >>> 14)) >>> 0;
    };
  }

  /** 20,000 lines, each some instruction's text with one to four changes. Seed 0x5eed. */
  function mutants(): string[] {
    const next = random(0x5eed);
    const pick = <T>(list: readonly T[]): T => list[next() % list.length]!;
    const texts = [
      ...LLVM_TEXTS,
      ...fc.sample(anyProgram, { numRuns: 60, seed: 0x5eed }).flatMap(program => disassemble(program).map(l => l.text)),
    ];
    const pieces = ['r1', 'w1', 'r10', 'r11', 'ax', 'ax:', '0x', '-', '+', '*', '(', ')', '[', ']', '=', 's', 's>', ',']
      .concat([
        '&',
        '/*',
        '*/',
        '//',
        '#',
        '"',
        '\\',
        'll',
        'goto',
        'lock',
        'u64',
        '99999999999999999999',
        '\u0000',
        '~',
      ])
      .concat([':', '@', '.', '$', '\u{1f600}', '__proto__', 'constructor', 'toString', ' ']);
    const changes: ((text: string, at: number) => string)[] = [
      (text, at) => text.slice(0, at) + text.slice(at + 1),
      (text, at) => text.slice(0, at) + pick(pieces) + text.slice(at),
      (text, at) => text.slice(0, at) + pick(pieces) + text.slice(at + 1),
      (text, at) => text.slice(0, at) + String.fromCharCode(32 + (next() % 95)) + text.slice(at + 1),
      (text, at) => text.slice(0, at) + pick(texts).slice(at),
      text => {
        const words = text.split(' ');
        words[next() % words.length] = pick(pick(texts).split(' '));
        return words.join(' ');
      },
    ];
    return Array.from({ length: 20_000 }, () => {
      let text = pick(texts);
      for (let n = 1 + (next() % 4); n > 0; n--) text = pick(changes)(text, next() % (text.length + 1));
      return text.replaceAll('\n', ' ');
    });
  }

  test('20,000 mutations of valid lines: a typed error, or an instruction that the disassembler says again', () => {
    let accepted = 0;
    for (const text of mutants()) {
      let insns: Instruction[] = [];
      const error = refusal(() => {
        insns = assemble(text, { internal: true });
      });
      if (error !== undefined) {
        expect(error.details, text).toMatchObject({ line: 1, column: expect.any(Number) });
        continue;
      }
      const again = disassemble(insns)
        .map(line => line.text)
        .join('\n');
      expect(assemble(again, { internal: true }), text).toEqual(insns);
      accepted++;
    }
    expect(accepted).toBeGreaterThan(1000);
    expect(accepted).toBeLessThan(19_000);
  });

  test.skipIf(!hasLlvm)('a mutation that both accept means the same to LLVM (needs llvm-mc)', () => {
    // `call +3` is a subprogram here and helper 3 there.
    // Semicolons are comments here and separators there; a line without an instruction has no encoding to compare.
    const candidates = mutants().filter(
      text => !/[;\0]/.test(text) && refusal(() => encode(assemble(text))) === undefined,
    );
    const lines = [...new Set(candidates)].filter(text => {
      const [insn] = assemble(text);
      return insn !== undefined && insn.kind !== 'callSubprogram' && !text.includes(':');
    });
    const theirs = llvmAssemble(lines);
    let compared = 0;
    lines.forEach((text, index) => {
      if (theirs[index] === undefined) return;
      expect(Buffer.from(encode(assemble(text))).toString('hex'), text).toBe(theirs[index]);
      compared++;
    });
    expect(compared).toBeGreaterThan(500);
  });

  test('a long line and deep nonsense take time in proportion', () => {
    expect(refusal(() => assemble(`r0 = ${'('.repeat(200_000)}`))?.code).toBe('assembly_syntax');
    expect(refusal(() => assemble(`r0 = ${'9'.repeat(100_000)}`))?.code).toBe('out_of_range');
    expect(assemble('; '.repeat(100_000))).toEqual([]);
    expect(assemble(`exit ; ${'x; '.repeat(100_000)}`)).toHaveLength(1);
  });
});
