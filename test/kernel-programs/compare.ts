/** One object of the kernel's programs: verdicts and logs beside the running kernel's, and what runs give. */
import {
  type Collection,
  type KernelObject,
  type LoadedObject,
  loadIntoKernel,
  type ProgramSpec,
  parseObject,
  type RunResult,
  type Runtime,
  SwitchyardError,
  VerifierError,
  verifyProgram,
} from '../../src/index.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import type { KernelJudge } from '../../src/kernel/judge.ts';
import type { Btf } from '../../src/object/btf.ts';
import { comparable, lines, type MapContents } from '../corpus/observe.ts';
import { comparableLines } from '../verifier/log-diff.ts';

/** Entries of a map that are compared; larger ones are left out. */
const LARGEST_MAP = 4096;
/** Instructions processed, up to which logs are compared: they are what takes time. */
const LARGEST_WALK = 3000;
/** Attach types whose programs the kernel refuses to run on their own. */
const NOT_RUN: ReadonlySet<string | undefined> = new Set(['xdp_devmap', 'xdp_cpumap']);
export interface Verdict {
  readonly accepted: boolean;
  readonly insnsProcessed: number;
  readonly log: readonly string[];
  /** Of a refusal by us. */
  readonly error?: VerifierError;
}

/** @throws SwitchyardError where the object cannot be read */
export function parseKernelProgram(bytes: Uint8Array, targetBtf: Btf): Collection {
  return parseObject(bytes, { skipUnsupported: true, targetBtf });
}

export function ourVerdict(spec: ProgramSpec, { maps }: Collection): Verdict {
  const walk = (logLevel: 0 | 2): Verdict => {
    try {
      const { insnsProcessed, log } = verifyProgram(spec, maps, { logLevel });
      return { accepted: true, insnsProcessed, log: comparableLines(log) };
    } catch (error) {
      if (!(error instanceof VerifierError)) throw error;
      const { insnsProcessed, log } = error;
      return { accepted: false, insnsProcessed, log: comparableLines(log), error };
    }
  };
  const first = walk(0);
  return first.insnsProcessed > LARGEST_WALK ? { ...first, log: [] } : walk(2);
}

/** @param ours what we say of it: where the two agree, the log is as long as ours */
export function kernelVerdict(spec: ProgramSpec, judge: KernelJudge, ours: Verdict): Verdict {
  const first = judge.judge(spec, 0);
  const again = first.accepted === ours.accepted && first.insnsProcessed <= LARGEST_WALK && ours.log.length > 0;
  const { accepted, insnsProcessed, log } = again ? judge.judge(spec, 2) : first;
  return { accepted, insnsProcessed, log: comparableLines(log) };
}

/** The last line before the statistics. */
export const lastWords = (log: readonly string[]): string =>
  log.findLast(line => !/^processed \d+ insns/.test(line)) ?? '';

/** The programs named, and what their maps hold of them. */
export function restricted(collection: Collection, names: ReadonlySet<string>): Collection {
  const programs = new Map([...collection.programs].filter(([name]) => names.has(name)));
  const maps = new Map(
    [...collection.maps].map(([name, spec]) => [
      name,
      { ...spec, contents: spec.contents.filter(entry => !('program' in entry) || names.has(entry.program)) },
    ]),
  );
  const { unsupported: _, ...rest } = collection;
  return { ...rest, programs, maps };
}

interface Seen {
  readonly steps: readonly string[];
  readonly maps: MapContents;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** An outcome in one line: what the kernel shows of it. */
function outcome(result: Pick<RunResult, 'returnValue' | 'metadata' | 'data' | 'mark'>, xdp: boolean): string {
  const { returnValue, metadata, data, mark } = result;
  return `${returnValue} ${xdp ? '' : `mark ${mark} `}${hex(metadata)}|${hex(data)}`;
}

type Loaded = LoadedObject | KernelObject;

function observe(object: Loaded, packets: readonly Uint8Array[]): Seen {
  const steps: string[] = [];
  for (const program of object.programs.values()) {
    if (NOT_RUN.has(program.spec.attachType)) continue;
    for (const [i, packet] of packets.entries()) {
      const before = `${program.name}, packet ${i}: `;
      try {
        steps.push(before + outcome(program.run(packet), program.type === 'xdp'));
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        steps.push(`${before}${error.message}`);
      }
    }
  }
  return { steps, maps: mapContents(object) };
}

function mapContents(object: Loaded): MapContents {
  const result: Record<string, string[]> = {};
  for (const [name, map] of object.maps) {
    if (!comparable(map.spec) || map.spec.maxEntries > LARGEST_MAP) continue;
    try {
      result[name] = lines(map.spec, map.entries());
    } catch (error) {
      // Maps that cannot be walked through.
      if (!(error instanceof SwitchyardError)) throw error;
    }
  }
  return result;
}

export interface RunDifference {
  readonly what: string;
  readonly kernel: string | undefined;
  readonly ours: string | undefined;
  readonly backend: 'interpreter' | 'native';
}

/**
 * Runs every program on every packet, on each backend and in the kernel.
 * @returns the first difference of each program, and of each map
 */
export function compareRuns(collection: Collection, runtime: Runtime, packets: readonly Uint8Array[]): RunDifference[] {
  let kernel: KernelObject;
  try {
    kernel = loadIntoKernel(collection);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return [{ what: 'load', kernel: error.message, ours: undefined, backend: 'native' }];
  }
  try {
    const theirs = observe(kernel, packets);
    return (['interpreter', 'native'] as const).flatMap(backend => {
      let object: LoadedObject;
      try {
        object = runtime.load(collection, { backend });
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        return [{ what: 'load', kernel: undefined, ours: error.message, backend }];
      }
      try {
        return differences(observe(object, packets), theirs, backend);
      } finally {
        object.dispose();
      }
    });
  } finally {
    kernel.dispose();
  }
}

function differences(ours: Seen, theirs: Seen, backend: RunDifference['backend']): RunDifference[] {
  const found = new Map<string, RunDifference>();
  for (const [i, step] of theirs.steps.entries()) {
    const what = step.slice(0, step.indexOf(','));
    if (ours.steps[i] !== step && !found.has(what))
      found.set(what, { what, kernel: step, ours: ours.steps[i], backend });
  }
  for (const [name, kernel] of Object.entries(theirs.maps)) {
    const here = ours.maps[name]?.join('\n');
    if (here !== kernel.join('\n'))
      found.set(`map ${name}`, { what: `map ${name}`, kernel: kernel.join('\n'), ours: here, backend });
  }
  return [...found.values()];
}
