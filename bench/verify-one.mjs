// The child of verifier.ts: verifies one program of an object, or a file of instructions, once cold and then warm, in a process of its
// own. Arguments: file, name of the program or "" for instructions, milliseconds to spend warm. Prints JSON.
import { readFileSync } from 'node:fs';
import { decode, parseObject, VerifierError, verifyProgram } from '../dist/index.js';

const [file, name, budget] = process.argv.slice(2);
const bytes = readFileSync(file);
const collection = name === '' ? undefined : parseObject(bytes);
const program = collection?.programs.get(name) ?? {
  name: 'bench',
  section: 'tc',
  type: 'sched_cls',
  attachType: undefined,
  xdpFrags: false,
  insns: decode(bytes),
  subprograms: [],
  lines: [],
  license: 'GPL',
  btf: undefined,
};
const maps = collection?.maps ?? new Map();

const MIB = 1 << 20;
const before = process.resourceUsage().maxRSS / 1024;
let processed = 0;
let states = 0;
let error;

function once() {
  const start = performance.now();
  try {
    const verified = verifyProgram(program, maps);
    processed = verified.insnsProcessed;
    states = verified.statesExplored;
  } catch (cause) {
    if (!(cause instanceof VerifierError)) throw cause;
    processed = cause.insnsProcessed;
    error = cause.code;
  }
  return performance.now() - start;
}

const coldMs = once();
const peakMiB = process.resourceUsage().maxRSS / 1024;
const heapMiB = process.memoryUsage().heapUsed / MIB;
const warm = [];
const end = performance.now() + Number(budget);
// What is compiled last says what the rate is: the first half of the runs only warms up.
do warm.push(once());
while (warm.length < 4 || (performance.now() < end && warm.length < 2000));
const settled = warm.slice(warm.length >> 1).sort((a, b) => a - b);
const warmMs = settled[settled.length >> 1];
console.log(
  JSON.stringify({
    insns: program.insns.length,
    processed,
    states,
    error,
    coldMs,
    warmMs,
    warmBestMs: settled[0],
    beforeMiB: before,
    peakMiB,
    heapMiB,
  }),
);
