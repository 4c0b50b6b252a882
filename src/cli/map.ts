/** `switchyard map`: maps of a run that goes on (`--control`), or of one that has ended (`--snapshot`). */
import { ask } from './control.ts';
import { UsageError } from './errors.ts';
import { answer, type MapRequest } from './map-commands.ts';
import { openSnapshot } from './snapshot.ts';

export interface MapOptions {
  readonly control?: string;
  readonly snapshot?: string;
  readonly json?: boolean;
}

export async function map(request: MapRequest, options: MapOptions): Promise<void> {
  const { control, snapshot } = options;
  if ((control === undefined) === (snapshot === undefined)) {
    throw new UsageError(
      'bad_usage',
      'say whose maps: --control <path> of a run with --control, or --snapshot <file> of one with --save-maps',
    );
  }
  const { json, text } = control === undefined ? inSnapshot(snapshot!, request) : await ask(control, request);
  if (options.json) console.log(JSON.stringify(json));
  else for (const line of text) console.log(line);
}

function inSnapshot(path: string, request: MapRequest) {
  const object = openSnapshot(path);
  const result = answer({ object, cpus: 0 }, request);
  if (request.command === 'set' || request.command === 'delete') object.save();
  return result;
}
