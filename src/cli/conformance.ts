#!/usr/bin/env node
/**
 * The plugin of the public bpf_conformance suite: a program as hex on standard input, its memory as hex in the
 * argument, r0 as hex on standard output. The program gets the memory's address in r1 and its size in r2 (0 and 0
 * without memory).
 */
import { readFileSync } from 'node:fs';
import { createRuntime, decode, programFromInstructions } from '../index.ts';
import { EXIT_USAGE, report, UsageError } from './errors.ts';

const HELP = `Usage: switchyard-conformance [--interpret] [MEMORY_HEX] < PROGRAM_HEX

Runs one BPF program and prints r0 as hex: the plugin protocol of bpf_conformance.

  MEMORY_HEX    memory the program gets in r1, its size in r2; may be empty
  --interpret   interpreter instead of x86-64 code
  --help        this text

Exit code: 0, 1 where the program is refused or fails, 2 for bad usage or input.

Example:
  echo "b7000000 2a000000 95000000 00000000" | switchyard-conformance
`;

function fromHex(text: string, what: string): Uint8Array {
  const digits = text.replace(/\s+/g, '').replace(/^0x/i, '');
  const bad = /[^0-9a-f]/i.exec(digits);
  if (bad || digits.length % 2 !== 0) {
    const came = bad ? `character ${JSON.stringify(bad[0])} at ${bad.index}` : `${digits.length} digits`;
    throw new UsageError('bad_usage', `expected ${what} as pairs of hex digits, got ${came}`, { what });
  }
  return Uint8Array.from(digits.match(/../g) ?? [], pair => Number.parseInt(pair, 16));
}

async function main(args: readonly string[]): Promise<void> {
  const flags = args.filter(arg => arg.startsWith('--'));
  const words = args.filter(arg => !arg.startsWith('--'));
  if (flags.includes('--help')) {
    process.stdout.write(HELP);
    return;
  }
  const unknown = flags.find(flag => flag !== '--interpret');
  if (unknown !== undefined || words.length > 1) {
    throw new UsageError('bad_usage', `unexpected argument ${unknown ?? words[1]}\n${HELP}`);
  }
  const memory = fromHex(words[0] ?? '', 'memory');
  const insns = decode(fromHex(readFileSync(0, 'latin1'), 'a program'));
  const backend = flags.includes('--interpret') ? 'interpreter' : 'native';
  const runtime = createRuntime({ backend, cpus: 1 });
  try {
    const program = programFromInstructions({ name: 'conformance', type: 'raw', insns });
    const collection = {
      programs: new Map([[program.name, program]]),
      maps: new Map(),
      license: 'GPL',
      btf: undefined,
      unsupported: [],
    };
    const object = runtime.load(collection, { backend, memorySize: { min: memory.length, max: memory.length } });
    const { returnValue } = object.program('conformance').run(memory);
    console.log(returnValue.toString(16));
  } finally {
    await runtime.dispose();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  report(error, false);
  // A program that does not decode is refused, as one that does not verify.
  if (process.exitCode === EXIT_USAGE && !(error instanceof UsageError)) process.exitCode = 1;
}
