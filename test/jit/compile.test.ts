/** What the compiler promises about its output as a whole, and what it refuses. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SwitchyardError } from '../../src/errors.ts';
import type { Instruction, Register } from '../../src/isa/instruction.ts';
import type { Code, CompileOptions, TailCallMode } from '../../src/jit/shared/code.ts';
import { CompileError } from '../../src/jit/shared/errors.ts';
import type { TailCallOverrides } from '../../src/jit/shared/tail-call-choices.ts';
import { compile } from '../../src/jit/x64/compile.ts';
import { x64Machine } from '../../src/jit/x64/machine.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { Computer, nativePlatform } from './computer.ts';
import { disassemble } from './disassemble.ts';
import { lowered, type ProgramOptions } from './support.ts';

const PROGRAM: CompileOptions = { kind: 'program', tailCallMode: 'cached' };
const build = (text: string | readonly Instruction[], options: ProgramOptions = {}): Code => {
  return compile(lowered(text, options), PROGRAM);
};

describe('the tail-call entry', () => {
  const USED = { usedMaps: [{ name: 'm', maxEntries: 4 }], pokeTable: [{ insn: 0, map: 0, key: 0 }] };
  const texts: [name: string, text: string, options: ProgramOptions][] = [
    ['plain', 'r0 = 0\nexit', {}],
    ['no stack', 'r0 = 0\nexit', { stackDepth: 0 }],
    ['saved registers', 'r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\nr0 = 0\nexit', {}],
    ['dynamic site', `tail_call ${packTailCall({ usedMap: 0, dynamic: true, poke: undefined })}\nr0 = 0\nexit`, USED],
    ['direct site', `tail_call ${packTailCall({ usedMap: 0, dynamic: false, poke: 0 })}\nr0 = 0\nexit`, USED],
    ['subprograms', 'call f\nexit\nf:\nr0 = 0\nexit', {}],
    ['site in a subprogram', 'call f\nexit\nf:\ntail_call 0\nr0 = 0\nexit', USED],
  ];
  test.each(texts)('%s', (_, text, options) => {
    const code = build(text, options);
    const lines = disassemble(code.bytes);
    const entry = lines.findIndex(line => line.offset === code.tailCallPrologueOffset);
    // Right behind the frame link, as the bytes have it.
    expect(lines[entry - 1]!.text).toBe('mov rbp, rsp');
    expect(lines[entry - 2]!.text).toBe('push rbp');
    expect(lines.slice(0, entry).map(line => line.bytes.length)).toEqual([5, 3, 1, 3]);
  });

  test('the loader can tell whether a first entry resets the count', () => {
    const reset = (text: string): string => disassemble(build(text, USED).bytes)[1]!.text;
    expect(reset('tail_call 0\nr0 = 0\nexit')).toBe('xor rax, rax');
    expect(reset('r0 = 0\nexit')).toBe('nop dword [rax]');
  });
});

describe('branches', () => {
  /** Random functions of jumps over fillers of various lengths. */
  const register = fc.integer({ min: 0, max: 9 }) as fc.Arbitrary<Register>;
  const step = fc.record({ filler: fc.nat({ max: 12 }), register, target: fc.nat(), conditional: fc.boolean() });

  function program(steps: readonly { filler: number; register: Register; target: number; conditional: boolean }[]) {
    const insns: Instruction[] = [];
    const jumps: number[] = [];
    for (const { filler, register, conditional } of steps) {
      for (let i = 0; i < filler; i++) {
        insns.push({ kind: 'alu', op: 'add', width: 64, dst: register, src: undefined, imm: 1 << (4 * (i % 7)) });
      }
      jumps.push(insns.length);
      insns.push(
        conditional
          ? { kind: 'jump', op: 'eq', width: 64, dst: register, src: undefined, imm: 0, offset: 0 }
          : { kind: 'goto', offset: 0, long: false },
      );
    }
    insns.push({ kind: 'exit' });
    steps.forEach(({ target }, i) => {
      const slot = jumps[i]!;
      const offset = (target % insns.length) - slot - 1;
      insns[slot] = { ...(insns[slot] as Extract<Instruction, { kind: 'goto' | 'jump' }>), offset };
    });
    return { insns, jumps };
  }

  test('go to the slot they name', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 80 }), steps => {
        const { insns, jumps } = program(steps);
        const code = build(insns);
        const lines = disassemble(code.bytes);
        const boundaries = new Set(lines.map(line => line.offset));
        for (let slot = 0; slot < insns.length; slot++) {
          expect(boundaries.has(code.insnOffsets[slot]!)).toBe(true);
        }
        expect(code.insnOffsets[insns.length]).toBe(code.bytes.length);
        for (const slot of jumps) {
          const insn = insns[slot] as Extract<Instruction, { kind: 'goto' | 'jump' }>;
          if (insn.kind === 'goto' && insn.offset === 0) continue;
          const end = code.insnOffsets[slot + 1]!;
          const branch = lines.filter(line => line.offset < end).at(-1)!;
          const target = code.insnOffsets[slot + 1 + insn.offset]!;
          expect(branch.text).toBe(`${insn.kind === 'goto' ? 'jmp' : 'je'} 0x${target.toString(16)}`);
          const short = branch.bytes.length === 2;
          const distance = target - (branch.offset + 2);
          expect(short).toBe(distance >= -128 && distance <= 127);
        }
      }),
      { numRuns: 100 },
    );
  });

  test.skipIf(!nativePlatform.available)('a program of 100,000 instructions runs', () => {
    const computer = new Computer(nativePlatform);
    // Jumps from the first to the last instruction and back into the middle.
    const adds = 'r0 += 3\n'.repeat(50_000);
    const text = `r0 = 0\ngotol end\nmiddle:\n${adds}exit\n${adds}end:\nr0 += 1\ngotol middle`;
    expect(computer.call(computer.install(build(text)))).toBe(150_001n);
  });
});

describe('what is refused', () => {
  const exit: Instruction = { kind: 'exit' };
  const refused: [name: string, insns: Instruction[], code: string][] = [
    ['helper calls', [{ kind: 'callHelper', helper: 1 }, exit], 'unsupported_instruction'],
    ['kfuncs', [{ kind: 'callKfunc', btfId: 1, module: 0 }, exit], 'unsupported_instruction'],
    ['may_goto', [{ kind: 'mayGoto', offset: 0 }, exit], 'unsupported_instruction'],
    ['packet loads', [{ kind: 'packetLoad', size: 4, src: undefined, imm: 0 }, exit], 'unsupported_instruction'],
    ['arenas', [{ kind: 'addrSpaceCast', dst: 1, src: 1, toSpace: 0, fromSpace: 1 }, exit], 'unsupported_instruction'],
    ['a wide marker alone', [{ kind: 'wide' }, exit], 'unsupported_instruction'],
    [
      'maps by name',
      [{ kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'map', map: 'm' } }, { kind: 'wide' }, exit],
      'unsupported_instruction',
    ],
    [
      'atomics of two bytes',
      [{ kind: 'atomic', op: 'add', fetch: false, size: 2, dst: 1, src: 2, offset: 0 }, exit],
      'unsupported_instruction',
    ],
    ['jumps out of the program', [{ kind: 'goto', offset: 5, long: false }, exit], 'bad_target'],
    ['jumps before it', [{ kind: 'goto', offset: -2, long: false }, exit], 'bad_target'],
    [
      'jumps into a wide constant',
      [
        { kind: 'goto', offset: 1, long: false },
        { kind: 'loadImm64', dst: 1, value: 0n, reference: undefined },
        { kind: 'wide' },
        exit,
      ],
      'bad_target',
    ],
    ['falling off the end', [{ kind: 'alu', op: 'mov', width: 64, dst: 0, src: undefined, imm: 0 }], 'bad_input'],
    ['nothing', [], 'bad_input'],
    ['tail calls through unknown maps', [{ kind: 'tailCall', imm: 3 }, exit], 'bad_input'],
    ['unknown pokes', [{ kind: 'tailCall', imm: 0x10000 }, exit], 'bad_input'],
  ];
  test.each(refused)('%s', (name, insns, code) => {
    const usedMaps = name === 'unknown pokes' ? [{ name: 'm', maxEntries: 1 }] : [];
    const run = (): Code => compile({ ...lowered([exit]), insns, subprograms: [], usedMaps }, PROGRAM);
    expect(run).toThrow(CompileError);
    expect(run).toThrow(expect.objectContaining({ code }));
  });

  test('jumps and calls across functions, and tail calls in routines', () => {
    const base = lowered('call f\nexit\nf:\nr0 = 0\nexit');
    const [main, f] = base.subprograms;
    const goto = (offset: number): Instruction => ({ kind: 'goto', offset, long: false });
    const broken: Lowered[] = [
      { ...base, insns: [goto(1), ...base.insns.slice(1)] },
      { ...base, insns: [{ kind: 'callSubprogram', offset: 2 }, ...base.insns.slice(1)] },
      { ...base, subprograms: [main!] },
      { ...base, subprograms: [main!, { ...f!, start: 3 }] },
      { ...base, subprograms: [{ ...main!, end: 3 }, f!] },
      { ...base, subprograms: [main!, { ...f!, tailCallReachable: true }] },
      { ...base, subprograms: [{ ...main!, stackDepth: -8 }, f!] },
      { ...base, subprograms: [{ ...main!, stackDepth: 1e9 }, f!] },
    ];
    for (const program of broken) expect(() => compile(program, PROGRAM)).toThrow(CompileError);
    const tail = lowered('tail_call 0\nexit', { usedMaps: [{ name: 'm', maxEntries: 1 }] });
    expect(() => compile(tail, { ...PROGRAM, kind: 'routine' })).toThrow(CompileError);
  });

  test('any sequence of instructions gives code that decodes, or a typed error', () => {
    const register = fc.integer({ min: 0, max: 11 }) as fc.Arbitrary<Register>;
    const small = fc.integer({ min: -6, max: 6 });
    const imm = fc.integer({ min: -0x80000000, max: 0x7fffffff });
    const size = fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const);
    const width = fc.constantFrom(32 as const, 64 as const);
    const k = <T extends string>(value: T): fc.Arbitrary<T> => fc.constant(value);
    const insn: fc.Arbitrary<Instruction> = fc.oneof(
      fc.record({
        kind: k('alu'),
        op: fc.constantFrom('add', 'div', 'smod', 'lsh', 'neg', 'mov', 'mul') as fc.Arbitrary<'add'>,
        width,
        dst: register,
        src: fc.option(register, { nil: undefined }),
        imm,
      }),
      fc.record({ kind: k('load'), size, signed: fc.boolean(), dst: register, src: register, offset: small }),
      fc.record({ kind: k('goto'), offset: small, long: fc.boolean() }),
      fc.record({ kind: k('callSubprogram'), offset: small }),
      fc.record({ kind: k('loadImm64'), dst: register, value: fc.bigInt(), reference: fc.constant(undefined) }),
      fc.record({ kind: k('wide') }),
      fc.record({ kind: k('tailCall'), imm: fc.nat() }),
      fc.record({
        kind: k('atomic'),
        op: fc.constantFrom('add', 'or', 'xchg', 'cmpxchg', 'loadAcquire') as fc.Arbitrary<'add'>,
        fetch: fc.boolean(),
        size,
        dst: register,
        src: register,
        offset: small,
      }),
      fc.record({ kind: k('callIndirect'), register }),
      fc.record({ kind: k('exit') }),
    );
    let compiled = 0;
    fc.assert(
      fc.property(fc.array(insn, { minLength: 1, maxLength: 12 }), insns => {
        const program: Lowered = { ...lowered([exit]), insns: [...insns, exit], subprograms: [] };
        let code: Code;
        try {
          code = compile(program, PROGRAM);
        } catch (error) {
          expect(error).toBeInstanceOf(SwitchyardError);
          return;
        }
        compiled++;
        expect(disassemble(code.bytes).some(line => line.text.includes('(bad)'))).toBe(false);
      }),
      { numRuns: 1000 },
    );
    expect(compiled).toBeGreaterThan(50);
  });
});

describe("mode 'fast'", () => {
  const USED = { usedMaps: [{ name: 'm', maxEntries: 4 }] };
  const fast = (text: string, options: ProgramOptions = {}, rest: Partial<CompileOptions> = {}): Code =>
    compile(lowered(text, { ...USED, ...options }), { kind: 'program', tailCallMode: 'fast', ...rest });
  const nested = 'call f\nexit\nf:\ntail_call 0\nr0 = 0\nexit';

  const siteOf = (code: Code): string[] => {
    const [site] = code.tailCalls;
    const lines = disassemble(code.bytes).filter(({ offset }) => offset >= site!.start && offset < site!.end);
    return lines.map(({ text }) => text);
  };

  test.each(['stub', 'test'] as const)('a hop writes no memory, and reads its target only: %s', emptySlots => {
    const lines = siteOf(fast('tail_call 0\nr0 = 0\nexit', {}, { tailCallChoices: { emptySlots } }));
    expect(lines.filter(text => text.includes('[') && !text.startsWith('lea'))).toHaveLength(1);
    expect(lines.filter(text => /push|pop|rsp|rbp/.test(text))).toEqual([]);
  });

  test('where empty slots lead to the stub a hop jumps through its slot and never looks at it', () => {
    const branches = (imm: number, emptySlots: 'stub' | 'test', max?: number) => {
      const indices = max === undefined ? [] : [{ max, narrow: true }];
      const lines = siteOf(fast(`tail_call ${imm}\nr0 = 0\nexit`, { indices }, { tailCallChoices: { emptySlots } }));
      return [lines.at(-1)!, lines.filter(text => text.startsWith('j')).length] as const;
    };
    const dynamic = packTailCall({ usedMap: 0, dynamic: true, poke: undefined });
    // Range, limit and jump; range and limit together; range known.
    expect(branches(dynamic, 'stub')).toEqual(['jmp qword [rsi+rcx*8+0x40]', 3]);
    expect(branches(0, 'stub')).toEqual(['jmp rcx', 2]);
    expect(branches(0, 'stub', 3)).toEqual(['jmp qword [rsi+rdx*8+0x60]', 2]);
    expect(branches(dynamic, 'test')).toEqual(['jmp rcx', 3]);
    expect(branches(0, 'test')).toEqual(['jmp rcx', 3]);
    expect(branches(0, 'test', 3)).toEqual(['jmp rcx', 2]);
  });

  test('choices can be made apart from mode fast only', () => {
    const compiled = (tailCallMode: TailCallMode, tailCallChoices: TailCallOverrides) => () =>
      fast('tail_call 0\nr0 = 0\nexit', {}, { tailCallMode, tailCallChoices });
    const refused = expect.objectContaining({ code: 'bad_choice' });
    for (const mode of ['baseline', 'cached'] as const) {
      expect(compiled(mode, { emptySlots: 'stub' })).toThrow(refused);
      expect(compiled(mode, { rangeCheck: 'proved' })).toThrow(refused);
      expect(compiled(mode, { emptySlots: 'test', rangeCheck: 'always' })().bytes).toEqual(compiled(mode, {})().bytes);
    }
    expect(compiled('fast', { emptySlots: 'x' as 'stub' })).toThrow(refused);
    expect(compiled('fast', { count: 'memory' } as TailCallOverrides)).toThrow(refused);
    const { emptySlots, rangeCheck } = x64Machine.tailCallPresets.fast;
    expect(compiled('fast', { emptySlots, rangeCheck })().bytes).toEqual(compiled('fast', {})().bytes);
  });

  test('every program has its tail-call entry at the start of a cache line', () => {
    for (const text of ['r0 = 0\nexit', 'r6 = 1\nr0 = 0\nexit', nested]) {
      expect(fast(text, { stackDepth: 64 }).tailCallPrologueOffset).toBe(64);
    }
  });

  test.each<[string, () => Code]>([
    ['a stack above 512 bytes', () => fast('r0 = 0\nexit', { stackDepth: 520 })],
    ['the same in a subprogram with a tail call', () => fast(nested, { stackDepth: 520 })],
    ['routines', () => fast('r0 = 0\nexit', {}, { kind: 'routine' })],
    ['a limit of 0', () => fast('r0 = 0\nexit', {}, { maxTailCalls: 0 })],
    ['a limit beyond 2^20', () => fast('r0 = 0\nexit', {}, { maxTailCalls: 2 ** 20 + 1 })],
    ['a limit above 33 with tail calls in subprograms', () => fast(nested, {}, { maxTailCalls: 34 })],
    ['another limit in another mode', () => fast('r0 = 0\nexit', {}, { tailCallMode: 'cached', maxTailCalls: 34 })],
  ])('refuses %s', (_, action) => {
    expect(action).toThrow(expect.objectContaining({ code: 'bad_input' }));
  });

  test('direct sites load neither map nor index; what lies before those loads stays', () => {
    const direct = packTailCall({ usedMap: 0, dynamic: false, poke: 0 });
    const code = (body: string): Code =>
      fast(`${body}\ntail_call ${direct}\nr0 = 0\nexit`, { pokeTable: [{ insn: 0, map: 0, key: 1 }] });
    const bare = code('r1 = r2').bytes.length;
    expect(code('r1 = r2\nr2 = map_address[0] ll\nr3 = 1').bytes.length).toBe(bare);
    expect(code('r1 = r2\nr2 = map_address[0] ll\nr3 = 1').relocations).toEqual([]);
    expect(code('r2 = map_address[0] ll\nr3 = 1\nr1 = r2').bytes.length).toBeGreaterThan(bare);
    expect(code('r3 = 1\nr2 = map_address[0] ll\nr4 = r3').relocations).toHaveLength(1);
  });
});
