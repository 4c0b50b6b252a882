/**
 * The command `switchyard`. This file only defines words and flags; each subcommand lives in a file of its own, loaded
 * when it is called, so that help and usage errors come at once.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { integer, names, slotAssignment } from './options.ts';
import { watchOutput } from './terminal.ts';

const EXIT_USAGE = 2;
const EXAMPLE = 'examples/router/router.bpf.o';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** Runs an action and reports its error; `--json` decides in which form. */
async function guarded(json: boolean | undefined, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    const { report } = await import('./errors.ts');
    report(error, json === true);
  }
}

const program = new Command('switchyard')
  .description('Verify BPF objects, compile them, run them natively on packet captures, without a kernel.')
  .version(version);

/** A subcommand with what all have: an example, the same words for errors. */
function command(name: string, description: string, example: string): Command {
  return program
    .command(name)
    .description(description)
    .addHelpText('after', `\nExample:\n  switchyard ${name} ${example}`);
}

function commonOptions(subcommand: Command): Command {
  return subcommand
    .option('--btf <file>', "BTF for CO-RE relocations (default: the running kernel's, if the object needs it)")
    .option('--json', 'print JSON for machines');
}

function tailCallModeOption(where: string): Option {
  return new Option(
    '--tail-call-mode <mode>',
    `${where}as compilers did before, with cached targets, or the cheapest hop (default)`,
  ).choices(['baseline', 'cached', 'fast']);
}

/** How tail calls are compiled. */
function tailCallOptions(subcommand: Command, where: string): Command {
  return subcommand
    .addOption(tailCallModeOption(where))
    .addOption(
      new Option(
        '--empty-slots <choice>',
        `${where}mode fast: empty slots lead to a stub, or each hop tests its slot`,
      ).choices(['stub', 'test']),
    )
    .addOption(
      new Option(
        '--range-check <choice>',
        `${where}mode fast: no check of an index that was proved (default), or always`,
      ).choices(['proved', 'always']),
    );
}

commonOptions(
  tailCallOptions(
    command(
      'run',
      'run a program over a packet capture and show verdicts and maps',
      `${EXAMPLE} --program router --input examples/router/capture.pcap`,
    ),
    'tail calls: ',
  )
    .argument('<object>', 'BPF ELF object')
    .requiredOption('--program <name>', 'program to enter')
    .requiredOption('--input <capture>', 'pcap or pcapng file')
    .option('--output <capture>', 'write the packets that left the program, in the format of the input')
    .option('--set <map[index]=program>', 'put a program into a prog array first (repeatable)', slotAssignment)
    .option(
      '--repeat <n>',
      'run the capture n times (default: 1; with --watch: until interrupted)',
      integer(1, 0xffff_ffff),
    )
    .option('--workers <n>', 'native threads that share the packets', integer(1, 128), 1)
    .addOption(
      new Option(
        '--backend <name>',
        'x86-64 code, interpreter, or the running kernel (default: native where there is a compiler)',
      ).choices(['native', 'interpreter', 'kernel']),
    )
    .option('--max-tail-calls <n>', 'tail calls that a packet may make (default: 33)', integer(1, 1 << 20))
    .option('--hits', 'count tail calls that succeed too, by slot; costs 2 to 10 ns each')
    .option('--save-maps <file>', 'write what the maps hold after the run, for `switchyard map` and --load-maps')
    .option('--load-maps <file>', 'start with what --save-maps wrote')
    .option('--routes <file>', 'interfaces, routes and neighbours that fib_lookup and check_mtu look at (JSON)')
    .option('--sockets <file>', 'sockets that sk_lookup_tcp, sk_lookup_udp and skc_lookup_tcp find (JSON)')
    .option('--control <socket>', 'while it runs, let `switchyard map` reach its maps through this unix socket')
    .option('--watch', 'replay over and over; whenever the object changes, the new build takes over under the replay')
    .addOption(
      new Option('--build <command>', 'with --watch: run this when a source file changes').implies({ watch: true }),
    )
    .addOption(
      new Option(
        '--source <path>',
        'with --build: a source file or directory (repeatable; default: those the object names)',
      )
        .argParser((path: string, before: readonly string[] = []) => [...before, path])
        .implies({ watch: true }),
    )
    .addOption(
      new Option('--strict', 'with --watch: refuse a build whose tail calls could newly fall through').implies({
        watch: true,
      }),
    ),
).action((path, options) =>
  guarded(options.json, async () =>
    options.watch ? (await import('./watch.ts')).watch(path, options) : (await import('./run.ts')).run(path, options),
  ),
);

commonOptions(
  command('verify', 'verify programs; exit code 1 if one is rejected', `${EXAMPLE} --program stage_ipv4 --log`)
    .argument('<object...>', 'BPF ELF objects')
    .option('--program <name>', 'only this program')
    .option('--log', "print the verifier's log")
    .addOption(
      new Option('--log-level <level>', '1: the path that was refused; 2 (default): everything')
        .choices(['1', '2'])
        .implies({ log: true }),
    )
    .option('--unprivileged', 'by the rules for users without CAP_BPF and CAP_PERFMON')
    .addOption(
      new Option(
        '--uninitialized-stack <rule>',
        'reads of stack bytes that were never written (default: allow, as the kernel does; unprivileged: refuse)',
      ).choices(['refuse', 'allow']),
    )
    .addOption(
      new Option(
        '--against <judge>',
        'both verdicts, ours and that of the running kernel; where they differ, both logs',
      ).choices(['kernel']),
    ),
).action((paths, options) => guarded(options.json, async () => (await import('./verify.ts')).verify(paths, options)));

commonOptions(
  command('inspect', 'show programs, maps and every tail call site', EXAMPLE).argument('<object>', 'BPF ELF object'),
).action((path, options) => guarded(options.json, async () => (await import('./inspect.ts')).inspect(path, options)));

commonOptions(
  command('graph', 'show which programs can tail-call which', `${EXAMPLE} --svg > router.svg`)
    .argument('<object>', 'BPF ELF object')
    .option('--program <name>', 'program that runs start in (default: all that are in no slot)')
    .option('--set <map[index]=program>', 'put a program into a prog array first (repeatable)', slotAssignment)
    .option('--dot', 'for Graphviz')
    .option('--svg', 'as a picture'),
).action((path, options) => guarded(options.json, async () => (await import('./graph.ts')).graph(path, options)));

commonOptions(
  tailCallOptions(
    command('disasm', 'list a program as BPF or as machine code', `${EXAMPLE} --program router --stage native`),
    'native: ',
  )
    .argument('<object>', 'BPF ELF object')
    .requiredOption('--program <name>', 'program to list')
    .addOption(
      new Option('--stage <stage>', 'how far the program has come')
        .choices(['object', 'lowered', 'native'])
        .default('object'),
    )
    .addOption(
      new Option('--arch <arch>', 'native: for which machine (whatever this one is)')
        .choices(['x64', 'arm64'])
        .default('x64'),
    )
    .addOption(
      new Option('--backend <name>', "lowered, native: our work, or the running kernel's")
        .choices(['native', 'kernel'])
        .default('native'),
    ),
).action((path, options) => guarded(options.json, async () => (await import('./disasm.ts')).disasm(path, options)));

commonOptions(
  tailCallOptions(
    command(
      'compile',
      'compile programs ahead of time: code, relocations, listing and ELF file of each',
      `${EXAMPLE} --arch arm64 -o router-arm64`,
    ),
    'tail calls: ',
  )
    .argument('<object>', 'BPF ELF object')
    .requiredOption('-o, --output <directory>', 'where the files are written; made if missing')
    .addOption(
      new Option('--arch <arch>', 'for which machine (whatever this one is)')
        .choices(['x64', 'arm64'])
        .makeOptionMandatory(),
    )
    .option('--program <name>', 'only this program (repeatable; default: all)', names)
    .addOption(
      new Option(
        '--atomics <dialect>',
        "arm64: Armv8.1's atomic instructions (default), or loops that Armv8.0 has",
      ).choices(['lse', 'exclusive']),
    )
    .option('--no-pokes', 'no sites that are patched: tail calls to known slots read them as others do'),
).action((path, options) => guarded(options.json, async () => (await import('./compile.ts')).compile(path, options)));

commonOptions(
  command(
    'codegen',
    'write a TypeScript module: types of maps and globals, typed loader',
    `${EXAMPLE} -o router.bpf.ts`,
  )
    .argument('<object>', 'BPF ELF object')
    .option('-o, --output <file>', 'where to write it (default: standard output)')
    .option('--name <name>', "of the class (default: made of the file's)")
    .option('--import <module>', 'where the module finds this package', 'switchyard')
    .option('--beside', 'read the object from beside the module, instead of having its bytes in it'),
).action((path, options) => guarded(options.json, async () => (await import('./codegen.ts')).codegen(path, options)));

const map = program
  .command('map')
  .description('look at and change maps of a run: of one that goes on, or of what one has saved')
  .addHelpText(
    'after',
    `
Keys and values are JSON by the map's BTF, words and numbers without quotes, or bytes: {"address": 1, "port": 80}, TCP, 7, hex:0a000001

Example:
  switchyard run ${EXAMPLE} --program router --input examples/router/capture.pcap --save-maps maps.json
  switchyard map dump counters --snapshot maps.json`,
  );
for (const [name, words, description, example] of [
  ['list', [], 'names, types and sizes', '--snapshot maps.json'],
  ['dump', ['map'], 'all entries of a map', 'counters --snapshot maps.json'],
  [
    'get',
    ['map', 'key'],
    'the value of a key; exit code 1 if there is none',
    'counters TCP --control /tmp/router.sock',
  ],
  [
    'set',
    ['map', 'key', 'value'],
    'insert or change an entry; of a prog array by the name of a program',
    'stages 4 stage_tcp --control /tmp/router.sock',
  ],
  ['delete', ['map', 'key'], 'delete an entry', 'stages 4 --control /tmp/router.sock'],
] as const) {
  const each = map
    .command(name)
    .description(description)
    .addHelpText('after', `\nExample:\n  switchyard map ${name} ${example}`);
  for (const word of words) each.argument(`<${word}>`);
  if (name === 'set') {
    each.addOption(
      new Option('--mode <mode>', 'only a new key, or only one that is there').choices(['any', 'noExist', 'exist']),
    );
  }
  each
    .option('--control <socket>', 'of the run that was started with this --control')
    .option('--snapshot <file>', 'of the file that --save-maps wrote')
    .option('--json', 'print JSON for machines')
    .action(async function (this: Command) {
      const options = this.opts<{ control?: string; snapshot?: string; json?: boolean; mode?: 'any' }>();
      const request = Object.fromEntries(words.map((word, i) => [word, this.args[i]!]));
      const { mode } = options;
      await guarded(options.json, async () =>
        (await import('./map.ts')).map({ command: name, ...request, ...(mode && { mode }) }, options),
      );
    });
}

for (const each of [program, ...program.commands, ...map.commands]) {
  each
    .exitOverride()
    .showHelpAfterError(`(add --help for usage)`)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, 'switchyard:')) });
}

watchOutput();
try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Commander has printed its message on standard error; help and version end with code 0.
  if (error.exitCode !== 0) {
    process.exitCode = EXIT_USAGE;
    if (process.argv.includes('--json')) {
      const message = error.message.replace(/^error: /, '');
      console.log(JSON.stringify({ error: { code: 'bad_usage', message } }));
    }
  }
}
