/** `switchyard run`: a program over a capture. */
import {
  type Capture,
  createRuntime,
  type LoadedObject,
  type Program,
  type ReplayResult,
  type RunResult,
  writeCapture,
} from '../index.ts';
import { UsageError } from './errors.ts';
import { readCaptureFile, readObject, writeBytes } from './files.ts';
import { dumpMap, mapText } from './maps.ts';
import { oneOf, type SlotAssignment } from './options.ts';
import { bold, column, Progress } from './terminal.ts';

export interface RunOptions {
  readonly program: string;
  readonly input: string;
  readonly output?: string;
  readonly set?: readonly SlotAssignment[];
  readonly repeat: number;
  readonly workers: number;
  readonly backend: string;
  readonly btf?: string;
  readonly json?: boolean;
}

const LINKTYPE_ETHERNET = 1;
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
  const backend = oneOf('--backend', options.backend, ['native', 'interpreter'] as const);
  const collection = readObject(path, options.btf);
  const capture = readCaptureFile(options.input);
  const packets = capture.packets.map(({ data }) => data);
  const printed: string[] = [];
  const runtime = createRuntime({ backend, cpus: options.workers + 1, onTrace: line => printed.push(line) });
  try {
    const object = runtime.load(collection, { backend });
    const program = object.program(options.program);
    if (program.type !== 'raw') checkLinkTypes(capture, options.input);
    for (const { map, index, program: name } of options.set ?? [])
      object.progArray(map).set(index, object.program(name));
    const progress = new Progress(packets.length * options.repeat, 'packets');
    const result = await program.replayAsync(packets, {
      repeat: options.repeat,
      workers: options.workers,
      keep: options.output !== undefined,
      onProgress: progress.update,
    });
    progress.end();
    if (options.output !== undefined) writeOutput(options.output, capture, result.results!);
    if (options.json) console.log(JSON.stringify(asJson(object, program, result)));
    else print(object, program, result, printed);
  } finally {
    await runtime.dispose();
  }
}

function checkLinkTypes(capture: Capture, path: string): void {
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
function writeOutput(path: string, capture: Capture, results: readonly RunResult[]): void {
  const packets = capture.packets.flatMap((packet, i) => {
    const result = results[i]!;
    if (DROPPED.has(result.verdict)) return [];
    const cut = packet.originalLength - packet.data.length;
    return [{ ...packet, data: result.data, originalLength: result.data.length + cut }];
  });
  writeBytes(path, writeCapture({ ...capture, packets }));
}

function asJson(object: LoadedObject, program: Program, result: ReplayResult): unknown {
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

function nsPerPacket(result: ReplayResult): number {
  return result.packets === 0 ? 0 : Math.round((result.elapsedNs / result.packets) * 100) / 100;
}

function print(object: LoadedObject, program: Program, result: ReplayResult, printed: readonly string[]): void {
  console.log(
    `${bold(program.name)} (${program.type}, ${program.backend}): ${result.packets} packets, ${result.bytes} bytes, ${nsPerPacket(result)} ns per packet`,
  );
  const width = Math.max(0, ...Object.keys(result.verdicts).map(name => name.length));
  for (const [name, count] of Object.entries(result.verdicts).sort(([, a], [, b]) => b - a)) {
    console.log(`  ${column(name, width)}  ${count}`);
  }
  for (const name of object.maps.keys()) for (const line of mapText(object, name)) console.log(line);
  if (printed.length > 0) {
    console.log(bold('bpf_trace_printk'));
    for (const line of printed.slice(0, 20)) console.log(`  ${line}`);
    if (printed.length > 20) console.log(`  ... ${printed.length - 20} more lines`);
  }
}
