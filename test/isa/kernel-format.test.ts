import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { formatKernel } from '../../src/isa/kernel-format.ts';
import { judgeCode, kernelMissing } from '../kernel/support.ts';
import { wireProgram } from './arbitrary.ts';

const NAMES: Readonly<Record<number, string>> = { 1: 'bpf_map_lookup_elem', 5: 'bpf_ktime_get_ns' };
const helperName = (helper: number): string | undefined => NAMES[helper];

describe('formatKernel', () => {
  test.each([
    ['r0 = 0', '(b7) r0 = 0'],
    ['r2 = r10', '(bf) r2 = r10'],
    ['call 1', '(85) call bpf_map_lookup_elem#1'],
    ['call 9999', '(85) call unknown#9999'],
    ['call +3', '(85) call pc+3'],
    ['call kfunc[12 bpf_foo]', '(85) call bpf_foo#12'],
    ['*(u32 *)(r10 - 4) = w1', '(63) *(u32 *)(r10 -4) = r1'],
    ['if r0 == 0 goto +1', '(15) if r0 == 0x0 goto pc+1'],
    ['r1 = 0xffff888100000000 ll', '(18) r1 = 0xffff888100000000'],
    ['r1 = map[counters] ll', '(18) r1 = map[counters]'],
    ['r1 = addr_space_cast(r2, 0, 1)', '(bf) r1 = addr_space_cast(r2, 0, 1)'],
    ['tail_call 5', 'tail_call 0x5'],
  ])('%s', (text, want) => {
    expect(formatKernel(assemble(text, { internal: true })[0]!, helperName)).toBe(want);
  });
});

describe.skipIf(kernelMissing() !== undefined)('against the running kernel (needs the right to load programs)', () => {
  /**
   * Makes a program that the kernel lists before it looks closer: jumps go forward to an instruction, nothing follows a
   * goto's own place, and calls and references that it would resolve first are left out.
   */
  function listable(insns: readonly Instruction[]): Instruction[] {
    const kept = insns.filter(
      ({ kind }, at) =>
        !['callKfunc', 'callSubprogram', 'exit', 'addrSpaceCast'].includes(kind) &&
        !isReference(insns[at]!) &&
        !(kind === 'wide' && isReference(insns[at - 1]!)),
    );
    kept.push({ kind: 'alu', op: 'mov', width: 64, dst: 0, src: undefined, imm: 0 }, { kind: 'exit' });
    return kept.map((insn, at) => {
      switch (insn.kind) {
        case 'jump':
        case 'mayGoto': {
          const distance = Math.min(Math.abs(insn.offset), kept.length - 2 - at);
          return { ...insn, offset: kept[at + 1 + distance]!.kind === 'wide' ? 0 : distance };
        }
        case 'goto':
          return { ...insn, offset: 0 };
        case 'callHelper':
          return { ...insn, helper: [1, 5, 100_000, -5][insn.helper & 3]! };
        default:
          return insn;
      }
    });
  }
  const isReference = (insn: Instruction): boolean => insn.kind === 'loadImm64' && insn.reference !== undefined;

  test('every line of its listing', { timeout: 60_000 }, () => {
    let lines = 0;
    const kinds = new Set<string>();
    fc.assert(
      fc.property(wireProgram, program => {
        const insns = listable(program);
        const { log } = judgeCode(encode(insns), { logLevel: 2 });
        // "      4: 01.3456789 (b7) r1 = 5", the middle column being the live registers.
        const listed = [...log.matchAll(/^ +(\d+): [.\d]{10} (.*?)\s*$/gm)];
        expect(listed.length, log).toBe(insns.filter(({ kind }) => kind !== 'wide').length);
        for (const [, slot, text] of listed) {
          const insn = insns[Number(slot)]!;
          expect(formatKernel(insn, helperName)).toBe(text);
          kinds.add(insn.kind);
          lines++;
        }
      }),
      { numRuns: 400 },
    );
    expect(lines).toBeGreaterThan(2000);
    expect([...kinds].sort()).toEqual(
      ['alu', 'atomic', 'byteswap', 'callHelper', 'exit', 'goto', 'jump', 'load', 'loadImm64', 'mayGoto', 'movsx']
        .concat(['packetLoad', 'store'])
        .sort(),
    );
  });
});
