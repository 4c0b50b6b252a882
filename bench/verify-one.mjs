// The child of verifier.ts: verifies one program of an object, or a file of instructions, once cold and then warm, in a process of its
// own. Arguments: file, name of the program or "" for instructions, milliseconds to spend warm. Prints JSON.
import { readFileSync } from 'node:fs';
import { decode, parseObject, VerifierError, verifyProgram } from '../dist/index.js';

/** Repetitions: as many as the budget has room for, within these; up to so many budgets for the least. */
const LEAST_RUNS = 60;
const MOST_RUNS = 4000;
const MORE_TIME = 4;

const [file, name, budgetMs] = process.argv.slice(2);
const budget = Number(budgetMs);
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
const warmCpu = [];
const start = performance.now();
// What is compiled last says what the rate is: the first half of the runs only warms up. Few runs would not be enough for that, so
// that slow ones get more time.
const goesOn = spent => spent < budget || (warm.length < LEAST_RUNS && spent < MORE_TIME * budget);
do {
  const before = process.cpuUsage();
  warm.push(once());
  const { user, system } = process.cpuUsage(before);
  warmCpu.push((user + system) / 1000);
} while (warm.length < 4 || (warm.length < MOST_RUNS && goesOn(performance.now() - start)));
const later = times => times.slice(times.length >> 1).sort((a, b) => a - b);
const settled = later(warm);
const warmMs = settled[settled.length >> 1];
const settledCpu = later(warmCpu);
console.log(
  JSON.stringify({
    insns: program.insns.length,
    processed,
    states,
    error,
    coldMs,
    warmMs,
    warmBestMs: settled[0],
    warmCpuMs: settledCpu[settledCpu.length >> 1],
    repetitions: warm.length,
    beforeMiB: before,
    peakMiB,
    heapMiB,
  }),
);
