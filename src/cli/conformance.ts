/**
 * The plugin of the public bpf_conformance suite (https://github.com/Alan-Jowett/bpf_conformance): a program as hex on
 * standard input, its memory as hex in the argument, r0 as hex on standard output. The program gets the memory's
 * address in r1 and its size in r2 (0 and 0 without memory).
 *
 * The suite's runner writes bytes as pairs of digits with spaces between and always gives two arguments, the memory and
 * the plugin's options, either of which may be empty.
 */
import { readFileSync } from 'node:fs';
import { createRuntime, decode, programFromInstructions } from '../index.ts';
import { EXIT_FAILED, EXIT_USAGE, report, UsageError } from './errors.ts';
import { watchOutput } from './terminal.ts';

const HELP = `Usage: switchyard-conformance [--interpret] [MEMORY_HEX] < PROGRAM_HEX

Runs one BPF program and prints r0 as hex: the plugin protocol of bpf_conformance.

  MEMORY_HEX       memory the program gets in r1, its size in r2; may be empty
  --program <hex>  the program, instead of standard input
  --interpret      interpreter instead of x86-64 code
  --help           this text

Exit code: 0, 1 where the program is refused or fails, 2 for bad usage or input.

Example:
  echo "b7000000 2a000000 95000000 00000000" | switchyard-conformance
`;

/** @param hex pairs of digits; white space between pairs does not count, a digit on its own is a byte */
function fromHex(hex: string, what: string): Uint8Array {
  const bytes: number[] = [];
  for (const word of hex.split(/\s+/)) {
    const digits = word.replace(/^0x/i, '');
    if (!/^[0-9a-f]*$/i.test(digits) || (digits.length > 1 && digits.length % 2 !== 0)) {
      throw new UsageError('bad_usage', `expected ${what} as pairs of hex digits, got ${JSON.stringify(clip(word))}`, {
        what,
      });
    }
    for (const pair of digits.match(/..?/g) ?? []) bytes.push(Number.parseInt(pair, 16));
  }
  return Uint8Array.from(bytes);
}

function standardInput(): string {
  try {
    return readFileSync(0, 'latin1');
  } catch (cause) {
    const message = `cannot read standard input: ${(cause as Error).message}`;
    throw new UsageError('unreadable_file', message, {}, { cause });
  }
}

function clip(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}

async function main(args: readonly string[]): Promise<void> {
  const words: string[] = [];
  let hex: string | undefined;
  let interpret = false;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--help') {
      process.stdout.write(HELP);
      return;
    }
    if (arg === '--interpret') interpret = true;
    else if (arg === '--program' && i + 1 < args.length) hex = args[++i];
    else if (arg.startsWith('-')) throw new UsageError('bad_usage', `unexpected argument ${arg}\n${HELP}`);
    else words.push(arg);
  }
  const memory = fromHex(words.join(' '), 'memory');
  const insns = decode(fromHex(hex ?? standardInput(), 'a program'));
  const runtime = createRuntime({ ...(interpret && { backend: 'interpreter' }), cpus: 1 });
  try {
    const program = programFromInstructions({ name: 'conformance', type: 'raw', insns });
    const object = runtime.load(
      { programs: new Map([[program.name, program]]), maps: new Map(), license: 'GPL', btf: undefined },
      { memorySize: { min: memory.length, max: memory.length } },
    );
    const { returnValue } = object.program(program.name).run(memory);
    console.log(returnValue.toString(16));
  } finally {
    await runtime.dispose();
  }
}

watchOutput();
try {
  await main(process.argv.slice(2));
} catch (error) {
  report(error, false);
  // A program that does not decode is refused, as one that does not verify.
  if (process.exitCode === EXIT_USAGE && !(error instanceof UsageError)) process.exitCode = EXIT_FAILED;
}
