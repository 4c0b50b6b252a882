/** Runtimes in worker threads, with the built package: a thread that is told to terminate while native code runs ends. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';

const BUILT = pathToFileURL(join(import.meta.dirname, '../../dist/index.js')).href;

/** Hours of work, unless it is interrupted. */
const HOURS = `
  import(${JSON.stringify(BUILT)}).then(async ({ assemble, createRuntime, programFromInstructions }) => {
    const runtime = createRuntime();
    const program = programFromInstructions({ name: 'p', type: 'xdp', insns: assemble('r0 = 2\\nexit') });
    const loaded = runtime.load({ programs: new Map([['p', program]]), maps: new Map(), license: 'GPL', btf: undefined });
    const packets = Array.from({ length: 1000 }, () => new Uint8Array(64));
    const { parentPort, workerData } = require('node:worker_threads');
    parentPort.postMessage(loaded.program('p').run(packets[0]).verdict);
    if (workerData === 'replay') loaded.program('p').replay(packets, { repeat: 4e9 });
    else await loaded.program('p').replayAsync(packets, { repeat: 4e9, workers: 2 });
  });`;

test.each(['replay', 'replayAsync'])('terminate during %s', async how => {
  const worker = new Worker(HOURS, { eval: true, workerData: how });
  const verdict = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  expect(verdict).toBe('XDP_PASS');
  await new Promise(resolve => {
    setTimeout(resolve, 50);
  });
  expect(await worker.terminate()).toBe(1);
});
