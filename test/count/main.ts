/** `npm run count`: the table of hops.ts; with --json as one line for machines. */
import { emulatorAvailable } from '../unicorn.ts';
import { countHops } from './hops.ts';

if (!emulatorAvailable) {
  console.error('counting needs libunicorn2 (Debian: apt-get install libunicorn2)');
  process.exit(1);
}
const counts = countHops();
if (process.argv.includes('--json')) console.log(JSON.stringify(counts));
else {
  console.log('| machine | site | mode | instructions | loads | stores |\n| --- | --- | --- | --- | --- | --- |');
  for (const { arch, site, mode, instructions, loads, stores } of counts) {
    console.log(`| ${arch} | ${site} | ${mode} | ${instructions} | ${loads} | ${stores} |`);
  }
}
