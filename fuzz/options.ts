/** The fuzzer's command line. Whatever it does not know ends the process with code 2: a mistyped seed must not look like a clean run. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { integer } from '../src/cli/options.ts';

const MAX_MINUTES = 10_000;
const MAX_SEED = 2 ** 52;
const EXIT_USAGE = 2;

export interface FuzzOptions {
  /** 0: one program. */
  readonly minutes: number;
  /** Of the first program. */
  readonly seed: number;
}

function minutes(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > MAX_MINUTES)
    throw new InvalidArgumentError(`expected a number from 0 to ${MAX_MINUTES}.`);
  return value;
}

/** @param args what follows the script's name */
export function fuzzOptions(args: readonly string[]): FuzzOptions {
  const command = new Command('npm run fuzz --')
    .description(
      'Random programs through our verifier and the kernel’s; what is accepted runs. Exit code 1 if anything is wrong.',
    )
    .option('--minutes <n>', 'how long; 0: one program', minutes, 1)
    .option('--seed <n>', 'number of the first program (default: of the clock)', integer(0, MAX_SEED))
    .allowExcessArguments(false)
    .showHelpAfterError('(add --help for usage)')
    .exitOverride();
  try {
    command.parse(args, { from: 'user' });
  } catch (error) {
    // Commander has printed its message, or the help.
    if (!(error instanceof CommanderError)) throw error;
    process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE);
  }
  return { seed: Date.now() % 1e9, ...command.opts<Partial<FuzzOptions> & { readonly minutes: number }>() };
}
