/**
 * The router example per core: its capture replayed natively on one thread, beside the interpreter. Each packet is
 * copied into its frame before the run, as a driver would hand over a fresh one.
 */
import { readFileSync } from 'node:fs';
import { createRuntime, readCapture } from '../src/index.ts';
import { type BenchOptions, median, ROUTER_CAPTURE, ROUTER_OBJECT } from './measure.ts';

export async function router(options: BenchOptions): Promise<void> {
  const packets = readCapture(new Uint8Array(readFileSync(ROUTER_CAPTURE))).packets.map(({ data }) => data);
  const object = new Uint8Array(readFileSync(ROUTER_OBJECT));
  const runtime = createRuntime();
  const variants = {
    native: {
      program: runtime.load(object, { backend: 'native' }).program('router'),
      repeat: options.quick ? 100 : 20_000,
    },
    'native, before the series': {
      program: runtime.load(object, { backend: 'native', tailCallMode: 'baseline', pokes: false }).program('router'),
      repeat: options.quick ? 100 : 20_000,
    },
    interpreter: {
      program: runtime.load(object, { backend: 'interpreter' }).program('router'),
      repeat: options.quick ? 1 : 10,
    },
  };
  const times: Record<string, number[]> = {};
  for (let round = 0; round < (options.quick ? 2 : 9); round++) {
    for (const [name, { program, repeat }] of Object.entries(variants)) {
      const { elapsedNs, packets: runs } = program.replay(packets, { repeat });
      (times[name] ??= []).push(elapsedNs / runs);
    }
  }
  await runtime.dispose();
  const rows = Object.entries(times).map(([variant, ns]) => ({
    variant,
    nsPerPacket: median(ns),
    packetsPerSecond: Math.round(1e9 / median(ns)),
  }));
  if (options.json) console.log(JSON.stringify({ benchmark: 'router', rows }));
  else {
    console.log(`router: ${packets.length} packets of its capture, one core, median of ${times.native!.length} rounds`);
    for (const { variant, nsPerPacket, packetsPerSecond } of rows) {
      console.log(
        `  ${variant.padEnd(26)} ${nsPerPacket.toFixed(1).padStart(9)} ns per packet  ${(packetsPerSecond / 1e6).toFixed(2).padStart(7)} M packets/s`,
      );
    }
  }
}
