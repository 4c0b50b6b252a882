/**
 * Random programs on the interpreter, x86-64 and emulated arm64 (with and without LSE): r0 and memory must agree.
 * SWITCHYARD_DIFFERENTIAL=100000 runs more than the default; SWITCHYARD_SEED starts elsewhere.
 */
import { describe, expect, test } from 'vitest';
import { formatInstruction } from '../../src/isa/disassembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { machine } from '../interpreter/support.ts';
import { Computer, x64Platform } from '../jit/computer.ts';
import type { Platform } from '../jit/processor.ts';
import { lowered } from '../jit/support.ts';
import { arm64Platform, arm64v80Platform } from '../jit-arm64/emulator.ts';
import { BLOCK_BYTES, Random, randomProgram } from './random-program.ts';

const PROGRAMS = Number(process.env.SWITCHYARD_DIFFERENTIAL ?? 1000);
const FIRST_SEED = Number(process.env.SWITCHYARD_SEED ?? 1);

type Run = (insns: readonly Instruction[], contents: Uint8Array) => { result: bigint; memory: Uint8Array };

function interpreted(): Run {
  const { arena, interpreter } = machine();
  const block = arena.allocate(BLOCK_BYTES, 8);
  return (insns, contents) => {
    arena.bytes.set(contents, block);
    const program = { lowered: lowered(insns), mapAddresses: [], mapValueAddresses: [], id: 1 };
    const result = interpreter.run(program, [arena.address(block)]);
    return { result, memory: arena.bytes.slice(block, block + BLOCK_BYTES) };
  };
}

function compiled(platform: Platform): Run {
  const computer = new Computer(platform);
  const block = computer.allocate(BLOCK_BYTES);
  const at = computer.offset(block);
  const release = computer.mark();
  return (insns, contents) => {
    release();
    computer.data.set(contents, at);
    const result = computer.call(computer.install(computer.compile(lowered(insns))), block);
    return { result, memory: computer.data.slice(at, at + BLOCK_BYTES) };
  };
}

describe('random programs', () => {
  test.each([x64Platform, arm64Platform, arm64v80Platform].filter(platform => platform.available))(
    'interpreter and $name agree',
    platform => {
      const expected = interpreted();
      const actual = compiled(platform);
      const results = new Set<bigint>();
      for (let seed = FIRST_SEED; seed < FIRST_SEED + PROGRAMS; seed++) {
        const insns = randomProgram(seed);
        const random = new Random(-seed);
        const contents = Uint8Array.from({ length: BLOCK_BYTES }, () => (random.oneIn(4) ? 0 : random.next()));
        const want = expected(insns, contents);
        const got = actual(insns, contents);
        results.add(want.result);
        if (want.result === got.result && Buffer.compare(want.memory, got.memory) === 0) continue;
        const text = insns.map((insn, slot) => `${slot}: ${insn.kind === 'wide' ? '' : formatInstruction(insn)}`);
        expect({ seed, ...got, text }).toEqual({ seed, ...want, text });
      }
      // The programs do something.
      expect(results.size).toBeGreaterThan(PROGRAMS / 2);
    },
    3_600_000,
  );
});
