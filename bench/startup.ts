/**
 * Time from the start of a fresh process until the router is loaded (parsed, verified, compiled, installed) and has
 * judged its first packet: the whole process, as the parent sees it, of the built package.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BenchOptions, median, ROUTER_CAPTURE, ROUTER_OBJECT } from './measure.ts';

const LIMIT_MS = 400;

export async function startup(options: BenchOptions): Promise<void> {
  const child = fileURLToPath(new URL('first-packet.mjs', import.meta.url));
  const args = [child, fileURLToPath(ROUTER_OBJECT), fileURLToPath(ROUTER_CAPTURE)];
  const whole: number[] = [];
  const inside: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < (options.quick ? 2 : 15); round++) {
    let start = performance.now();
    const { stdout, status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    whole.push(performance.now() - start);
    if (status !== 0) throw new Error(`first-packet.mjs failed: ${stderr}`);
    inside.push(Number(stdout));
    start = performance.now();
    spawnSync(process.execPath, ['-e', '0']);
    bare.push(performance.now() - start);
  }
  const row = {
    wholeProcessMs: median(whole),
    importLoadAndFirstPacketMs: median(inside),
    bareNodeMs: median(bare),
    limitMs: LIMIT_MS,
  };
  if (options.json) console.log(JSON.stringify({ benchmark: 'startup', ...row }));
  else {
    console.log(`startup: router loaded and first packet judged, fresh process, median of ${whole.length}`);
    console.log(`  whole process          ${row.wholeProcessMs.toFixed(1)} ms (limit ${LIMIT_MS} ms)`);
    console.log(`  import to first packet ${row.importLoadAndFirstPacketMs.toFixed(1)} ms`);
    console.log(`  node that does nothing ${row.bareNodeMs.toFixed(1)} ms`);
  }
}
