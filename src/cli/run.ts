/** `switchyard run`: a program over a capture. */
import {
  type BpfMap,
  type Capture,
  type Collection,
  createRuntime,
  type LoadedObject,
  type ReplayResult,
  type RunResult,
  type Runtime,
  writeCapture,
} from '../index.ts';
import { UsageError } from './errors.ts';
import { findProgram, mentionUnsupported, readCaptureFile, readObject, writeBytes } from './files.ts';
import { mapText } from './map-text.ts';
import { dumpMap, type Held } from './maps.ts';
import { type HitRow, hitText, type MissRow, missText, tailCallHits, tailCallMisses } from './misses.ts';
import { type SlotAssignment, type TailCallOptions, tailCallSettings } from './options.ts';
import { replayInKernel } from './run-kernel.ts';
import { checkRunMaps, openRunMaps, type RunMapsOptions } from './run-maps.ts';
import { saveMaps } from './snapshot.ts';
import { fillTables, type TableOptions } from './tables.ts';
import { bold, column, Progress } from './terminal.ts';

export interface RunOptions extends RunMapsOptions, TailCallOptions, TableOptions {
  readonly program: string;
  readonly input: string;
  readonly output?: string;
  readonly set?: readonly SlotAssignment[];
  /** Default 1; with `--watch` until interrupted. */
  readonly repeat?: number;
  readonly workers: number;
  readonly backend?: 'native' | 'interpreter' | 'kernel';
  readonly maxTailCalls?: number;
  /** Count tail calls that succeed, too. */
  readonly hits?: boolean;
  readonly btf?: string;
  readonly json?: boolean;
}

/** What tail calls did; `misses` undefined where nobody counts them: in the kernel. */
export interface TailCallCounts {
  readonly misses: readonly MissRow[] | undefined;
  readonly hits: readonly HitRow[];
}

/** What is printed of a replay, wherever it ran. */
export type ReplaySummary = Pick<ReplayResult, 'packets' | 'bytes' | 'verdicts' | 'elapsedNs'>;
type Ran = Readonly<Record<'name' | 'type' | 'backend', string>>;

const LINKTYPE_ETHERNET = 1;
const ARENA_BASE = 64 << 20;
const ARENA_PER_WORKER = 64 << 20;
/** Hash buckets, links, rounding, in bytes; more than any map type takes. */
const ELEMENT_OVERHEAD = 128;
/** Lines of bpf_trace_printk that are shown. */
const SHOWN_LINES = 20;
/** Verdicts after which no packet leaves the program. */
const DROPPED = new Set([
  'XDP_ABORTED',
  'XDP_DROP',
  'TC_ACT_SHOT',
  'TC_ACT_STOLEN',
  'TC_ACT_QUEUED',
  'TC_ACT_TRAP',
  'DROP',
  'DROP_CN',
]);

export async function run(path: string, options: RunOptions): Promise<void> {
  const { backend, set = [] } = options;
  checkRunMaps(options);
  if (backend === 'interpreter' && options.workers > 1) {
    throw new UsageError('bad_usage', 'the interpreter runs on one thread; leave out --workers or --backend', {
      workers: options.workers,
    });
  }
  const collection = readObject(path, options.btf);
  mentionUnsupported(collection);
  // Only what can run is loaded: a program elsewhere in the object that the verifier rejects is not in the way.
  const programs = [options.program, ...set.map(({ program }) => program)];
  for (const name of programs) findProgram(collection, name);
  const { type } = findProgram(collection, options.program);
  const capture = readCaptureFile(options.input);
  for (const table of ['routes', 'sockets'] as const)
    if (backend === 'kernel' && options[table] !== undefined)
      throw new UsageError(
        'bad_usage',
        `the kernel looks at its own ${table}; leave out --${table} or --backend kernel`,
      );
  const packets = capture.packets.map(({ data }) => data);
  if (type !== 'raw') checkLinkTypes(capture, options.input);
  if (backend === 'kernel') {
    checkKernelOptions(options);
    const { object, program, result, results } = replayInKernel(collection, programs, packets, options);
    try {
      if (options.output !== undefined) writeOutput(options.output, capture, results);
      if (options.saveMaps !== undefined) saveMaps(options.saveMaps, object);
      show(object, program, result, options, { misses: undefined, hits: [] });
    } finally {
      object.dispose();
    }
    return;
  }
  const trace = new TraceLines();
  const runtime = createRuntime({
    ...(backend && { backend }),
    cpus: options.workers + 1,
    arenaSize: arenaSize(collection, options.workers),
    onTrace: trace.add,
  });
  try {
    fillTables(runtime, options);
    const object = loadPrograms(runtime, collection, options);
    const program = object.program(options.program);
    const maps = await openRunMaps(options, () => object);
    const { repeat = 1 } = options;
    const progress = new Progress(packets.length * repeat, 'packets');
    const result = await program
      .replayAsync(packets, {
        repeat,
        workers: options.workers,
        keep: options.output !== undefined,
        onProgress: progress.update,
      })
      .finally(maps.close);
    progress.end();
    maps.save();
    if (options.output !== undefined) writeOutput(options.output, capture, result.results!);
    show(object, program, result, options, { misses: tailCallMisses(object), hits: tailCallHits(object) });
    trace.print(options.json === true);
  } finally {
    await runtime.dispose();
  }
}

/** The kernel compiles and counts as it likes. */
function checkKernelOptions({ tailCallMode, emptySlots, rangeCheck, maxTailCalls, hits }: RunOptions): void {
  const given = {
    '--tail-call-mode': tailCallMode,
    '--empty-slots': emptySlots,
    '--range-check': rangeCheck,
    '--max-tail-calls': maxTailCalls,
    '--hits': hits,
  };
  for (const [option, value] of Object.entries(given)) {
    if (value === undefined) continue;
    throw new UsageError('bad_usage', `the kernel has no choice of ${option}; leave it out, or --backend`, { option });
  }
}

/** Loads what `--program` and `--set` name, with all that lies in the slots of their prog arrays. */
export function loadPrograms(
  runtime: Runtime,
  collection: Collection,
  options: RunOptions,
  maps?: ReadonlyMap<string, BpfMap>,
): LoadedObject {
  const { program, set = [], maxTailCalls, hits } = options;
  const programs = [program, ...set.map(({ program: name }) => name)];
  const object = runtime.load(collection, {
    programs,
    ...(maps && { maps }),
    ...tailCallSettings(options),
    ...(maxTailCalls !== undefined && { maxTailCalls }),
    ...(hits && { countHits: true }),
  });
  try {
    for (const { map, index, program: name } of set) object.progArray(map).set(index, object.program(name));
    return object;
  } catch (error) {
    object.dispose();
    throw error;
  }
}

/** Address space for an object's maps and for the packets that each thread has in hand at a time. */
export function arenaSize({ maps }: Collection, workers: number): number {
  let bytes = ARENA_BASE + workers * ARENA_PER_WORKER;
  for (const { type, keySize, valueSize, maxEntries } of maps.values()) {
    const values = type.includes('percpu') ? workers + 1 : 1;
    bytes += maxEntries * (keySize + (valueSize + 8) * values + ELEMENT_OVERHEAD);
  }
  return Math.min(bytes, 2 ** 32);
}

export function checkLinkTypes(capture: Capture, path: string): void {
  for (const [index, { linkType }] of capture.interfaces.entries()) {
    if (linkType === LINKTYPE_ETHERNET) continue;
    if (!capture.packets.some(packet => packet.interfaceIndex === index)) continue;
    throw new UsageError(
      'bad_usage',
      `${path} has frames of link type ${linkType}, programs of this kind need Ethernet (link type 1); convert the capture first`,
      { path, linkType },
    );
  }
}

/** Writes what left the program, in the format the capture came in. */
function writeOutput(path: string, capture: Capture, results: readonly Pick<RunResult, 'verdict' | 'data'>[]): void {
  const packets = capture.packets.flatMap((packet, i) => {
    const result = results[i]!;
    if (DROPPED.has(result.verdict)) return [];
    const cut = packet.originalLength - packet.data.length;
    return [{ ...packet, data: result.data, originalLength: result.data.length + cut }];
  });
  // Packets may have grown beyond what the capture was limited to.
  const interfaces = capture.interfaces.map((each, index) => {
    if (each.snapLength === 0) return each;
    const lengths = packets.map(({ interfaceIndex, data }) => (interfaceIndex === index ? data.length : 0));
    return { ...each, snapLength: lengths.reduce((a, b) => Math.max(a, b), each.snapLength) };
  });
  writeBytes(path, writeCapture({ ...capture, interfaces, packets }));
}

/** @param more for the JSON */
export function show(
  object: Held,
  program: Ran,
  result: ReplaySummary,
  { json, hits: hitsAsked }: RunOptions,
  { misses, hits }: TailCallCounts,
  more: object = {},
): void {
  if (json) {
    const counts = { tailCallMisses: misses ?? null, ...(hitsAsked && { tailCallHits: hits }) };
    console.log(JSON.stringify({ ...asJson(object, program, result), ...counts, ...more }));
    return;
  }
  print(object, program, result);
  for (const line of [...missText(misses ?? []), ...hitText(hits)]) console.log(line);
}

function asJson(object: Held, program: Ran, result: ReplaySummary): object {
  return {
    program: program.name,
    backend: program.backend,
    packets: result.packets,
    bytes: result.bytes,
    verdicts: result.verdicts,
    nsPerPacket: nsPerPacket(result),
    maps: Object.fromEntries([...object.maps.keys()].map(name => [name, dumpMap(object, name)])),
  };
}

function nsPerPacket(result: ReplaySummary): number {
  return result.packets === 0 ? 0 : Math.round((result.elapsedNs / result.packets) * 100) / 100;
}

function print(object: Held, program: Ran, result: ReplaySummary): void {
  console.log(
    `${bold(program.name)} (${program.type}, ${program.backend}): ${result.packets} packets, ${result.bytes} bytes, ${nsPerPacket(result)} ns per packet`,
  );
  const width = Math.max(0, ...Object.keys(result.verdicts).map(name => name.length));
  for (const [name, count] of Object.entries(result.verdicts).sort(([, a], [, b]) => b - a)) {
    console.log(`  ${column(name, width)}  ${count}`);
  }
  for (const name of object.maps.keys()) for (const line of mapText(object, name)) console.log(line);
}

/** The first lines that programs printed, and how many there were. */
export class TraceLines {
  #lines = 0;
  readonly #first: string[] = [];

  readonly add = (line: string): void => {
    if (this.#lines++ < SHOWN_LINES) this.#first.push(line);
  };

  /** Part of the text, beside the JSON. */
  print(aside: boolean): void {
    if (this.#lines === 0) return;
    const write = aside ? console.error : console.log;
    write(aside ? 'bpf_trace_printk' : bold('bpf_trace_printk'));
    for (const line of this.#first) write(`  ${line}`);
    if (this.#lines > this.#first.length) write(`  ... ${this.#lines - this.#first.length} more lines`);
  }
}
