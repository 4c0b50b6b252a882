/** What `run` does about maps beside showing them: `--load-maps` before the replay, `--control` during it, `--save-maps` after. */
import type { LoadedObject } from '../core.ts';
import { listen } from './control.ts';
import { UsageError } from './errors.ts';
import { loadMaps, saveMaps } from './snapshot.ts';

export interface RunMapsOptions {
  readonly loadMaps?: string;
  readonly saveMaps?: string;
  readonly control?: string;
  readonly workers: number;
  readonly backend?: string;
}

/** @throws UsageError where the kernel runs the program */
export function checkRunMaps({ loadMaps: load, control, backend }: RunMapsOptions): void {
  if (backend !== 'kernel' || (load === undefined && control === undefined)) return;
  throw new UsageError('bad_usage', 'maps in the kernel are reached with bpftool; leave out --load-maps and --control');
}

/**
 * @param object the one that runs now
 * @returns what to call when the replay has ended, `save` where it went well
 * @throws UsageError `bad_snapshot`, `no_control`; MapError
 */
export async function openRunMaps(
  options: RunMapsOptions,
  object: () => LoadedObject,
): Promise<{ save(): void; close(): void }> {
  const cpus = options.workers + 1;
  if (options.loadMaps !== undefined) {
    const left = loadMaps(options.loadMaps, object(), cpus);
    if (left.length > 0) console.error(`switchyard: not loaded from ${options.loadMaps}: ${left.join(', ')}`);
  }
  const { control } = options;
  const server =
    control === undefined ? undefined : await listen(control, () => ({ object: object(), loaded: object(), cpus }));
  return {
    save: () => {
      if (options.saveMaps !== undefined) saveMaps(options.saveMaps, object());
    },
    close: () => server?.close(),
  };
}
