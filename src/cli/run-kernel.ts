/** `switchyard run --backend kernel`: the same capture through the same program, run by the kernel one packet a call. */
import { type Collection, type KernelObject, type KernelProgram, type KernelRun, loadIntoKernel } from '../index.ts';
import { UsageError } from './errors.ts';
import type { ReplaySummary, RunOptions } from './run.ts';
import { Progress } from './terminal.ts';

export interface KernelReplay {
  readonly object: KernelObject;
  readonly program: KernelProgram;
  readonly result: ReplaySummary;
  /** Of the last pass, in the order of the packets; empty without `--output`. */
  readonly results: readonly KernelRun[];
}

/** The caller disposes of the object. @throws KernelError, UsageError */
export function replayInKernel(
  collection: Collection,
  programs: readonly string[],
  packets: readonly Uint8Array[],
  options: RunOptions,
): KernelReplay {
  if (options.workers > 1) {
    throw new UsageError('bad_usage', 'the kernel is given one packet at a time; leave out --workers or --backend', {
      workers: options.workers,
    });
  }
  const object = loadIntoKernel(collection, { programs });
  try {
    const program = object.program(options.program);
    for (const { map, index, program: name } of options.set ?? []) {
      object.progArray(map).set(index, object.program(name));
    }
    const { repeat = 1 } = options;
    const progress = new Progress(packets.length * repeat, 'packets');
    const verdicts: Record<string, number> = {};
    const result = { packets: 0, bytes: 0, verdicts, elapsedNs: 0 };
    const results: KernelRun[] = [];
    for (let pass = 1; pass <= repeat; pass++) {
      for (const packet of packets) {
        const run = program.run(packet);
        verdicts[run.verdict] = (verdicts[run.verdict] ?? 0) + 1;
        result.elapsedNs += run.durationNs;
        result.bytes += packet.length;
        progress.update(++result.packets);
        if (pass === repeat && options.output !== undefined) results.push(run);
      }
    }
    progress.end();
    return { object, program, result, results };
  } catch (error) {
    object.dispose();
    throw error;
  }
}
