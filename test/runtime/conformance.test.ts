/**
 * The public bpf_conformance cases through verifier, lowering and every backend. The assembled cases lie beside the
 * checkout (`../shared/suites/conformance.json`); without them this is skipped, but not in CI.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { decode, type LoadOptions, programFromInstructions, SwitchyardError } from '../../src/index.ts';
import { PLATFORMS, withRuntime } from './build.ts';

const FILE = new URL('../../../shared/suites/conformance.json', import.meta.url);

interface Case {
  readonly name: string;
  readonly raw: readonly string[];
  readonly mem: string;
  readonly mem_out?: string;
  readonly result: string;
}

interface Suite {
  readonly tests: readonly Case[];
  readonly negative: readonly { name: string; raw?: readonly string[] }[];
}

const present = existsSync(FILE);
if (!present && process.env.CI) throw new Error('the conformance suite must be there in CI');
const suite: Suite = present ? JSON.parse(readFileSync(FILE, 'utf8')) : { tests: [], negative: [] };

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

function load(raw: readonly string[], memory: Uint8Array, options: LoadOptions) {
  return withRuntime(runtime => {
    const program = programFromInstructions({ name: 'case', type: 'raw', insns: decode(bytes(raw.join(''))) });
    const object = runtime.load(
      { programs: new Map([['case', program]]), maps: new Map(), license: 'GPL', btf: undefined },
      { ...options, memorySize: { min: memory.length, max: memory.length } },
    );
    const { returnValue, data } = object.program('case').run(memory);
    return { returnValue, data };
  });
}

/** Left out: an instruction that neither RFC 9669's base groups nor Linux have. */
const usesCallx = (raw: readonly string[]) => raw.some(insn => insn.startsWith('8d'));

describe.skipIf(!present)('bpf_conformance', () => {
  let agreed = 0;
  let cases = 0;

  for (const platform of ['interpreter', 'x86-64, cached targets']) {
    const options = PLATFORMS[platform]!;
    for (const { name, raw, mem, mem_out: after, result } of suite.tests) {
      if (usesCallx(raw)) continue;
      test(`${name} (${platform})`, async () => {
        cases++;
        const { returnValue, data } = await load(raw, bytes(mem), options);
        expect(returnValue).toBe(BigInt(result));
        if (after !== undefined) expect(Buffer.from(data).toString('hex')).toBe(after);
        agreed++;
      });
    }
    for (const { name, raw } of suite.negative) {
      if (raw === undefined) continue;
      test(`${name} is refused (${platform})`, async () => {
        cases++;
        await expect(load(raw, new Uint8Array(0), options)).rejects.toBeInstanceOf(SwitchyardError);
        agreed++;
      });
    }
  }

  afterAll(() => {
    console.log(
      `bpf_conformance: ${agreed} of ${cases} cases agree (${((100 * agreed) / cases).toFixed(1)} %), callx left out`,
    );
  });
});
