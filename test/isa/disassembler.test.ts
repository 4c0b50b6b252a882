import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';
import { disassemble, formatInstruction } from '../../src/isa/disassembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { anyProgram, wireProgram } from './arbitrary.ts';
import { hasLlvm, llvmAssemble, llvmDisassemble } from './llvm.ts';

const listing = (insns: readonly Instruction[]): string[] => disassemble(insns).map(({ text }) => text);

describe('disassemble', () => {
  test('assembles to the same instructions', () => {
    fc.assert(
      fc.property(anyProgram, program => {
        expect(assemble(listing(program).join('\n'), { internal: true })).toEqual(program);
      }),
      { numRuns: 500 },
    );
  });

  test('lists a loadImm64 once, at its first slot', () => {
    const program = assemble('r0 = 1\nr1 = map[counters] ll\nr2 = -2 ll\nexit');
    expect(disassemble(program)).toEqual([
      { slot: 0, text: 'r0 = 0x1' },
      { slot: 1, text: 'r1 = map[counters] ll' },
      { slot: 3, text: 'r2 = -0x2 ll' },
      { slot: 5, text: 'exit' },
    ]);
  });

  test('names helpers where it can', () => {
    const helperName = (helper: number) => (helper === 1 ? 'bpf_map_lookup_elem' : undefined);
    const program = assemble('call 1\ncall 2');
    const named = disassemble(program, { helperName }).map(({ text }) => text);
    expect(named).toEqual(['call bpf_map_lookup_elem', 'call 0x2']);
    expect(assemble(named.join('\n'), { helpers: { bpf_map_lookup_elem: 1 } })).toEqual(program);
  });

  const internal: [string, Instruction][] = [
    ['tail_call 0x80000001', { kind: 'tailCall', imm: 0x80000001 }],
    ['r2 = run_context', { kind: 'runContext', dst: 2 }],
    ['load_fence', { kind: 'loadFence' }],
    ['call routine bpf_map_lookup_elem', { kind: 'callRoutine', routine: 'bpf_map_lookup_elem' }],
    ['call service clock', { kind: 'callService', service: 'clock' }],
    ['callx ax', { kind: 'callIndirect', register: 11 }],
    ['call kfunc[12@3 bpf_foo]', { kind: 'callKfunc', btfId: 12, module: 3, name: 'bpf_foo' }],
    ['wax = *(u32 *)(ax - 0x4)', { kind: 'load', size: 4, signed: false, dst: 11, src: 11, offset: -4 }],
    [
      'r1 = map_value_address[2]+0x10 ll',
      { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'mapValueAddress', index: 2, offset: 16 } },
    ],
    ['r1 = map["a b"] ll', { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'map', map: 'a b' } }],
  ];
  test.each(internal)('%s', (text, insn) => {
    expect(formatInstruction(insn)).toBe(text);
  });
});

describe.skipIf(!hasLlvm)('against LLVM (needs llvm-mc and llvm-objdump)', () => {
  /** What LLVM has no text for, or text that loses something. */
  const isBeyondLlvm = (insn: Instruction): boolean =>
    insn.kind === 'callKfunc' ||
    insn.kind === 'callSubprogram' ||
    (insn.kind === 'callHelper' && insn.helper < 0) ||
    (insn.kind === 'packetLoad' && insn.src !== undefined && insn.imm !== 0) ||
    (insn.kind === 'loadImm64' && insn.reference !== undefined);
  const sample = fc
    .sample(wireProgram, { numRuns: 800, seed: 22 })
    .flat()
    .filter((insn, at, all) => !isBeyondLlvm(insn) && !(insn.kind === 'wide' && isBeyondLlvm(all[at - 1]!)));
  const bytes = encode(sample);

  test('the text of llvm-objdump, line by line, which assembles to the same bytes', () => {
    const theirs = llvmDisassemble(bytes);
    expect(theirs.length).toBeGreaterThan(2000);
    expect(listing(sample)).toEqual(theirs);
    expect(assemble(theirs.join('\n'))).toEqual(sample);
  });

  test('llvm-mc assembles our text to the same bytes', () => {
    const lines = disassemble(sample);
    const theirs = llvmAssemble(lines.map(({ text }) => text));
    const hex = Buffer.from(bytes).toString('hex');
    lines.forEach(({ slot, text }, index) => {
      // llvm-mc takes numbers for gotol only as far as goto goes.
      const insn = sample[slot]!;
      if (insn.kind === 'goto' && Math.abs(insn.offset) > 0x7fff) return;
      const slots = insn.kind === 'loadImm64' ? 2 : 1;
      expect(theirs[index], text).toBe(hex.slice(slot * 16, (slot + slots) * 16));
    });
  });
});
