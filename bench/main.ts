/**
 * Benchmarks: `npm run bench -- [NAME...] [--quick] [--json]`. Without a name all run. `--quick` takes few rounds: it shows
 * that everything starts, its figures mean little.
 *
 * Method for all: rounds of the variants in turn, medians over rounds; these machines are noisy, so quote the ratios
 * of one run, not absolutes of two.
 */

import { choices } from './choices.ts';
import { maps } from './maps.ts';
import type { BenchOptions } from './measure.ts';
import { router } from './router.ts';
import { startup } from './startup.ts';
import { tailcall } from './tailcall.ts';
import { transaction } from './transaction.ts';
import { verifier } from './verifier.ts';

const BENCHMARKS: Record<string, (options: BenchOptions) => Promise<void>> = {
  startup,
  router,
  tailcall,
  transaction,
  choices,
  verifier,
  maps,
};

const args = process.argv.slice(2);
const names = args.filter(arg => !arg.startsWith('--'));
const flags = args.filter(arg => arg.startsWith('--'));
const unknown = [
  ...names.filter(name => !(name in BENCHMARKS)),
  ...flags.filter(flag => flag !== '--quick' && flag !== '--json'),
];
if (unknown.length > 0) {
  console.error(
    `unknown: ${unknown.join(' ')}; benchmarks are ${Object.keys(BENCHMARKS).join(', ')}, flags --quick and --json`,
  );
  process.exitCode = 2;
} else {
  const options = { quick: flags.includes('--quick'), json: flags.includes('--json') };
  for (const [name, benchmark] of Object.entries(BENCHMARKS)) {
    if (names.length === 0 || names.includes(name)) await benchmark(options);
  }
}
