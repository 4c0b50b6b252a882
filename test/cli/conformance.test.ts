/** The plugin of bpf_conformance as a process. All cases of the suite run in test/runtime/conformance.test.ts. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { assemble, encode } from '../../src/core.ts';
import { conformance } from './support.ts';

/** As the suite's runner writes bytes: pairs of digits, each with spaces behind it. */
function spaced(bytes: Uint8Array): string {
  return [...bytes].map(byte => `${byte.toString(16).padStart(2, '0')}  `).join('');
}

function program(text: string): Uint8Array {
  return encode(assemble(text));
}

/** Beside the checkout; every process costs a good part of a second, so only some of the cases run here. */
const SUITE = new URL('../../../shared/suites/conformance.json', import.meta.url);
const EVERY = 27;
const hasSuite = existsSync(SUITE);
if (!hasSuite && process.env.CI) throw new Error('the conformance suite must be there in CI');

interface Case {
  readonly name: string;
  readonly raw: readonly string[];
  readonly mem: string;
  readonly result: string;
}

const FIRST_WORD = program('r0 = *(u32 *)(r1 + 0)\nexit');
const memory = Uint8Array.of(0x78, 0x56, 0x34, 0x12);

describe.each([[[]], [['--interpret']]])('switchyard-conformance %j', flags => {
  test.each<[what: string, code: Uint8Array, memory: string, r0: string]>([
    ['no memory', program('r0 = 42\nexit'), '', '2a'],
    ['64 bits, unsigned', program('r0 = -1\nexit'), '', 'ffffffffffffffff'],
    ['memory', FIRST_WORD, spaced(memory), '12345678'],
    ['memory without spaces', FIRST_WORD, '78563412', '12345678'],
    ['size in r2', program('r0 = r2\nexit'), '00 01 02', '3'],
    ['no memory: r1 and r2 are 0', program('r0 = r1\nr0 |= r2\nexit'), '', '0'],
    ['a subprogram', program('r1 = 20\ncall double\nr0 += 2\nexit\ndouble:\nr0 = r1\nr0 += r1\nexit'), '', '2a'],
  ])('%s', async (_, code, hex, r0) => {
    // The runner always gives two arguments; the second holds the plugin's options.
    const ended = await conformance(`${spaced(code)}\n`, hex, flags.join(' '));
    expect(ended).toMatchObject({ code: 0, stdout: `${r0}\n`, stderr: '' });
  });

  test.each([
    ['is refused by the verifier', spaced(FIRST_WORD), 'invalid mem access'],
    ['has an unknown opcode', 'ff00000000000000', 'opcode'],
    ['ends within an instruction', 'b700000', 'hex'],
    ['is empty', '', ''],
  ])('a program that %s', async (_, hex, text) => {
    const { code, stdout, stderr } = await conformance(hex, ...flags);
    expect(code).toBeGreaterThan(0);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^switchyard: /);
    expect(stderr).toContain(text);
  });
});

test('exit code 2 for what is no program: digits, flags', async () => {
  expect(await conformance('b7 zz')).toMatchObject({ code: 2, stdout: '' });
  expect(await conformance('', '0x1g')).toMatchObject({ code: 2, stdout: '' });
  expect(await conformance('', '--frobnicate')).toMatchObject({ code: 2, stdout: '' });
});

test('--help, --program', async () => {
  const { code, stdout } = await conformance('', '--help');
  expect(code).toBe(0);
  expect(stdout).toContain('Example:');
  const answer = await conformance('', '--program', spaced(program('r0 = 7\nexit')));
  expect(answer).toMatchObject({ code: 0, stdout: '7\n' });
});

describe.skipIf(!hasSuite)('cases of the suite', () => {
  const { tests }: { tests: Case[] } = hasSuite ? JSON.parse(readFileSync(SUITE, 'utf8')) : { tests: [] };
  const sample = tests.filter(({ raw }, i) => i % EVERY === 0 && !raw.some(insn => insn.startsWith('8d')));

  test('are enough', () => expect(sample.length).toBeGreaterThan(10));

  test.each(sample.map((each, i) => ({ ...each, flags: i % 2 === 0 ? [] : ['--interpret'] })))(
    '$name $flags',
    async ({ raw, mem, result, flags }) => {
      const { code, stdout } = await conformance(
        spaced(Buffer.from(raw.join(''), 'hex')),
        spaced(Buffer.from(mem, 'hex')),
        ...flags,
      );
      expect([code, BigInt(`0x${stdout.trim()}`)]).toEqual([0, BigInt(result)]);
    },
  );
});
