/**
 * The bpf_conformance suite, compiled. Reads ../shared/suites/conformance.json, which lies beside the checkout; skipped
 * where it is absent. Cases with helpers or callx are the runtime's business.
 */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decode } from '../../../src/isa/codec.ts';
import { IsaError } from '../../../src/isa/errors.ts';
import type { Instruction } from '../../../src/isa/instruction.ts';
import { Computer } from '../computer.ts';
import type { Platform } from '../processor.ts';
import { lowered } from '../support.ts';

interface Case {
  readonly name: string;
  readonly raw: readonly string[];
  readonly mem: string;
  readonly result?: string;
  readonly [field: string]: unknown;
}

const SUITE = new URL('../../../../shared/suites/conformance.json', import.meta.url);
const cases: Case[] = existsSync(SUITE) ? JSON.parse(readFileSync(SUITE, 'utf8')).tests : [];

/** LLVM's indirect call, which Linux refuses and so does the codec. */
const CALLX = 0x8d;
const notRaw = (insn: Instruction): boolean => insn.kind === 'callHelper' || insn.kind === 'callKfunc';

export function conformanceSuite(platform: Platform): void {
  describe.skipIf(cases.length === 0 || !platform.available)('bpf_conformance, compiled', () => {
    const computer = new Computer(platform);
    const memory = computer.allocate(4096);
    let ran = 0;
    for (const item of cases) {
      test(item.name, context => {
        if (item.result === undefined) return context.skip();
        let insns: Instruction[];
        try {
          insns = decode(Uint8Array.from(Buffer.from(item.raw.join(''), 'hex')));
        } catch (error) {
          if (error instanceof IsaError && error.details.opcode === CALLX) return context.skip();
          throw error;
        }
        if (insns.some(notRaw)) return context.skip();
        const bytes = Buffer.from(item.mem, 'hex');
        computer.data.set(bytes, computer.offset(memory));
        const code = computer.compile(lowered(insns));
        const release = computer.mark();
        const args = bytes.length === 0 ? [0n, 0n] : [memory, BigInt(bytes.length)];
        expect(computer.call(computer.install(code), ...args)).toBe(BigInt(item.result));
        release();
        ran++;
      });
    }
    test('most of the suite ran', () => {
      expect(ran).toBeGreaterThan(300);
    });
  });
}
