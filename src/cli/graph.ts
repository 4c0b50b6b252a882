/** `switchyard graph`: which programs can tail-call which. */
import {
  type Collection,
  SwitchyardError,
  type TailCallGraph,
  type TailCallGraphSite,
  tailCallGraph,
  type Verified,
  verifyProgram,
} from '../core.ts';
import { errorJson, UsageError } from './errors.ts';
import { findProgram, mentionUnsupported, readObject } from './files.ts';
import { graphDot, graphSvg } from './graph-drawing.ts';
import type { SlotAssignment } from './options.ts';
import { bold, column, dim } from './terminal.ts';

export interface GraphOptions {
  readonly program?: string;
  readonly set?: readonly SlotAssignment[];
  readonly dot?: boolean;
  readonly svg?: boolean;
  readonly btf?: string;
  readonly json?: boolean;
}

export function graph(path: string, options: GraphOptions): void {
  const forms = [options.dot, options.svg, options.json].filter(form => form === true);
  if (forms.length > 1) {
    throw new UsageError('bad_usage', 'give one of --dot, --svg and --json', { forms: forms.length });
  }
  const collection = readObject(path, options.btf);
  mentionUnsupported(collection);
  if (options.program !== undefined) findProgram(collection, options.program);
  const programs: Verified[] = [];
  const rejected: { name: string; error: { code: string; message: string } }[] = [];
  for (const spec of collection.programs.values()) {
    try {
      programs.push(verifyProgram(spec, collection.maps));
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      rejected.push({ name: spec.name, error: errorJson(error) });
    }
  }
  const slots = contents(collection, options.set ?? []);
  const entries = options.program === undefined ? {} : { entries: [options.program] };
  const drawn = tailCallGraph({ programs, maps: collection.maps, slots, ...entries });
  if (options.json) console.log(JSON.stringify({ ...asJson(drawn), rejected }));
  else if (options.dot) process.stdout.write(graphDot(drawn));
  else if (options.svg) process.stdout.write(graphSvg(drawn));
  else print(path, drawn);
  if (options.json) return;
  for (const { name, error } of rejected) {
    console.error(`switchyard: ${name} was rejected, its tail calls are not known: ${error.message.split('\n')[0]}`);
  }
}

function contents(collection: Collection, set: readonly SlotAssignment[]): Map<string, Map<number, string>> {
  const slots = new Map<string, Map<number, string>>();
  for (const { name, type, contents: entries } of collection.maps.values()) {
    if (type !== 'prog_array') continue;
    slots.set(
      name,
      new Map(entries.flatMap(entry => ('program' in entry ? [[entry.key, entry.program] as const] : []))),
    );
  }
  for (const { map, index, program } of set) {
    findProgram(collection, program);
    const array = slots.get(map);
    const maxEntries = collection.maps.get(map)?.maxEntries ?? 0;
    if (!array || index >= maxEntries) {
      throw new UsageError(
        'bad_usage',
        array
          ? `--set ${map}[${index}]: prog array ${map} has slots 0 to ${maxEntries - 1}`
          : `--set ${map}[${index}]: no prog array is named ${map}; the object has ${[...slots.keys()].join(', ') || 'none'}`,
        { map, index },
      );
    }
    array.set(index, program);
  }
  return slots;
}

function asJson(drawn: TailCallGraph): object {
  const sites = drawn.sites.map(({ line, ...site }) => ({
    ...site,
    file: line?.file ?? null,
    line: line?.line ?? null,
    source: line?.text.trim() ?? null,
  }));
  return { ...drawn, sites };
}

/** The slots a site can name: `jmp[3]`, `jmp[0..7]`, `jmp[*]`. */
function reach({ maps, indexMin, indexMax }: TailCallGraphSite): string {
  const index = indexMin === indexMax ? `${indexMin}` : indexMax === 0xffff_ffff ? '*' : `${indexMin}..${indexMax}`;
  return `${maps.join(' or ')}[${index}]`;
}

const slotsText = ({ map, from, to }: { map: string; from: number; to: number }) =>
  `${map}[${from === to ? from : `${from}..${to}`}]`;

function print(path: string, drawn: TailCallGraph): void {
  const { programs, arrays, sites, cycles, unreachable, emptyReachable } = drawn;
  console.log(bold(path));
  const width = Math.max(0, ...programs.map(({ name }) => name.length));
  console.log(`programs (${programs.length})`);
  for (const { name, entry, reachable } of programs) {
    console.log(`  ${column(name, width)}  ${entry ? 'entry' : reachable ? 'reachable' : 'unreachable'}`);
    for (const site of sites) {
      if (site.program !== name) continue;
      const { insn, line, targets, empty, outOfRange } = site;
      console.log(`    insn ${insn}: ${reach(site)}${line ? dim(`  ${line.file}:${line.line}`) : ''}`);
      for (const { map, index, program } of targets) console.log(`      ${map}[${index}] -> ${program}`);
      for (const range of empty) console.log(`      ${slotsText(range)} -> empty`);
      if (outOfRange) console.log('      beyond the array -> falls through');
    }
  }
  console.log(`prog arrays (${arrays.length})`);
  for (const { name, maxEntries, slots } of arrays)
    console.log(`  ${name}: ${slots.length} of ${maxEntries} slots filled`);
  const chain = drawn.longestChain.join(' -> ');
  const hops = `${Math.max(0, drawn.longestChain.length - 1)} tail calls${drawn.endless ? ', round a cycle as many as the limit allows' : ''}`;
  console.log(`longest chain (${hops})\n  ${chain}`);
  console.log(`cycles (${cycles.length})`);
  for (const cycle of cycles) console.log(`  ${[...cycle, cycle[0]].join(' -> ')}`);
  console.log(`unreachable programs (${unreachable.length})`);
  for (const name of unreachable) console.log(`  ${name}`);
  console.log(`empty slots that can be reached (${emptyReachable.length})`);
  for (const range of emptyReachable) {
    console.log(`  ${slotsText(range)} from ${range.sites.map(({ program, insn }) => `${program}:${insn}`).join(' ')}`);
  }
}
