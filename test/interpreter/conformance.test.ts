/**
 * The bpf_conformance suite on the interpreter. Reads ../shared/suites/conformance.json, which lies beside the
 * checkout; skipped where it is absent.
 */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decode } from '../../src/isa/codec.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { linked, machine } from './support.ts';

interface Case {
  readonly name: string;
  readonly raw: readonly string[];
  readonly mem: string;
  readonly result: string;
  readonly groups: readonly string[];
  /** Memory after the run. */
  readonly mem_out?: string;
}

const SUITE = new URL('../../../shared/suites/conformance.json', import.meta.url);
const cases: Case[] = existsSync(SUITE) ? JSON.parse(readFileSync(SUITE, 'utf8')).tests : [];

describe.skipIf(cases.length === 0)('bpf_conformance', () => {
  const { arena, interpreter } = machine();
  const block = arena.allocate(4096);

  for (const item of cases) {
    test(item.name, context => {
      const bytes = Uint8Array.from(Buffer.from(item.raw.join(''), 'hex'));
      // Opcode 8d, CALLX, is not in Linux; the codec refuses it.
      if (item.groups.includes('callx')) return context.skip();
      const insns: Instruction[] = decode(bytes);
      if (insns.some(i => i.kind === 'callHelper' || i.kind === 'callKfunc')) {
        return context.skip();
      }
      const memory = Uint8Array.from(Buffer.from(item.mem, 'hex'));
      arena.bytes.set(memory, block);
      const args = memory.length === 0 ? [0n, 0n] : [arena.address(block), BigInt(memory.length)];
      expect(interpreter.run(linked(insns), args)).toBe(BigInt(item.result));
      if (item.mem_out !== undefined) {
        expect(Buffer.from(arena.bytes.slice(block, block + memory.length)).toString('hex')).toBe(item.mem_out);
      }
    });
  }
});
