#!/usr/bin/env node
/** The command `switchyard`. Each subcommand lives in a file of its own; this one only defines words and flags. */
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { disasm } from './disasm.ts';
import { EXIT_USAGE, report } from './errors.ts';
import { inspect } from './inspect.ts';
import { integer, slotAssignment } from './options.ts';
import { run } from './run.ts';
import { verifyCommand } from './verify.ts';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const BTF = [
  '--btf <file>',
  "BTF for CO-RE relocations (default: the running kernel's, if the object needs it)",
] as const;
const JSON_FLAG = ['--json', 'print JSON for machines'] as const;

/** Runs an action and reports its error; `--json` decides in which form. */
function guarded<T extends unknown[]>(action: (...args: T) => void | Promise<void>): (...args: T) => Promise<void> {
  return async (...args) => {
    const options = args.find(arg => typeof arg === 'object' && arg !== null && !Array.isArray(arg)) as
      | { json?: boolean }
      | undefined;
    try {
      await action(...args);
    } catch (error) {
      report(error, options?.json === true);
    }
  };
}

const program = new Command('switchyard')
  .description('Verify BPF objects, compile them, run them natively on packet captures, without a kernel.')
  .version(version)
  .showHelpAfterError('(add --help for usage)')
  .exitOverride();

program
  .command('run')
  .description('run a program over a packet capture and show verdicts and maps')
  .argument('<object>', 'BPF ELF object')
  .requiredOption('--program <name>', 'program to enter')
  .requiredOption('--input <capture>', 'pcap or pcapng file')
  .option('--output <capture>', 'write the packets that left the program, in the format of the input')
  .option('--set <map[index]=program>', 'put a program into a prog array first (repeatable)', slotAssignment)
  .option('--repeat <n>', 'run the capture n times', integer(1, 0xffff_ffff), 1)
  .option('--workers <n>', 'native threads that share the packets', integer(1, 128), 1)
  .option('--backend <name>', 'native or interpreter', 'native')
  .option(...BTF)
  .option(...JSON_FLAG)
  .addHelpText(
    'after',
    '\nExample:\n  switchyard run examples/router/router.bpf.o --program router --input examples/router/capture.pcap',
  )
  .action(guarded(run));

program
  .command('verify')
  .description('verify programs; exit 1 if one is rejected')
  .argument('<object...>', 'BPF ELF objects')
  .option('--program <name>', 'only this program')
  .option('--log', "print the verifier's log")
  .option(...BTF)
  .option(...JSON_FLAG)
  .addHelpText('after', '\nExample:\n  switchyard verify examples/router/router.bpf.o --program stage_ipv4 --log')
  .action(guarded(verifyCommand));

program
  .command('inspect')
  .description('show programs, maps and every tail call site')
  .argument('<object>', 'BPF ELF object')
  .option(...BTF)
  .option(...JSON_FLAG)
  .addHelpText('after', '\nExample:\n  switchyard inspect examples/router/router.bpf.o')
  .action(guarded(inspect));

program
  .command('disasm')
  .description('list a program as BPF or as x86-64 code')
  .argument('<object>', 'BPF ELF object')
  .requiredOption('--program <name>', 'program to list')
  .option('--stage <stage>', 'object, lowered or native', 'object')
  .option('--tail-call-mode <mode>', 'native: baseline (before the series) or cached', 'cached')
  .option(...BTF)
  .option(...JSON_FLAG)
  .addHelpText('after', '\nExample:\n  switchyard disasm examples/router/router.bpf.o --program router --stage native')
  .action(guarded(disasm));

for (const command of program.commands) command.exitOverride().showHelpAfterError('(add --help for usage)');

try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its message; help and version end with code 0.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  else report(error, false);
}
