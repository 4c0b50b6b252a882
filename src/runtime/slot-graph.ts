/**
 * The graph of programs as they are loaded, and what changes of slots would do to it.
 *
 * Names are not enough here: two builds of one program have the same name, and an array may have another name in each object
 * that uses it. So each program's facts are read with the arrays that its own names stand for; what needs telling apart
 * is then called `name#id`.
 */
import { RuntimeError } from './errors.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import type { Program } from './program.ts';
import { misses, newMisses, type PredictedMiss, type TailCallGraph, tailCallGraph } from './tail-call-graph.ts';

/** A slot to be; `program` undefined empties it. */
export interface SlotEdit {
  readonly array: ProgArraySlots;
  readonly index: number;
  readonly program: Program | undefined;
}

/** What a graph is drawn of, besides what hangs on it: the contents of the arrays, the arrays of the contents. */
export interface Scene {
  readonly programs: Iterable<Program>;
  readonly arrays: Iterable<ProgArraySlots>;
  programName(program: Program): string;
  arrayName(array: ProgArraySlots): string;
}

/** What commits could break: see `Runtime.preflight`. */
export interface Preflight {
  /** Tail calls that could find a slot empty after the commit. */
  readonly misses: readonly PredictedMiss[];
  /** Those among them that the commit brings: no tail call that can be reached now over the same slots could find them empty. */
  readonly newMisses: readonly PredictedMiss[];
}

/** A scene whose programs and arrays are named as they name themselves, with `#id` where two have the same name. */
export function plainScene(programs: readonly Program[], arrays: readonly ProgArraySlots[]): Scene {
  const namer = <T>(all: readonly T[], name: (each: T) => string, id: (each: T) => number) => {
    const counts = new Map<string, number>();
    for (const each of all) counts.set(name(each), (counts.get(name(each)) ?? 0) + 1);
    return (each: T) => (counts.get(name(each)) === 1 ? name(each) : `${name(each)}#${id(each)}`);
  };
  const programName = (program: Program) => program.name;
  const arrayName = (array: ProgArraySlots) => array.name;
  return {
    programs,
    arrays,
    programName: namer(programs, programName, ({ id }) => id),
    arrayName: namer(arrays, arrayName, ({ map }) => map.id),
  };
}

/** @param entries programs that runs start in; default: see `tailCallGraph` */
export function graphAfter(scene: Scene, edits: readonly SlotEdit[], entries?: readonly Program[]): TailCallGraph {
  const slots = new Map<ProgArraySlots, Map<number, Program>>();
  const programs = new Set([...scene.programs, ...(entries ?? [])]);
  const contents = (array: ProgArraySlots) => {
    let held = slots.get(array);
    if (held) return held;
    held = new Map(array.entries());
    for (const { array: changed, index, program } of edits) {
      if (changed !== array) continue;
      if (program) held.set(index, program);
      else held.delete(index);
    }
    slots.set(array, held);
    for (const program of held.values()) programs.add(program);
    return held;
  };
  for (const array of scene.arrays) contents(array);
  // A set's walk meets what is added on the way.
  for (const { progArrays } of programs) for (const array of progArrays.values()) contents(array);
  return tailCallGraph({
    programs: [...programs].map(program => {
      const { verified } = program;
      const rename = (name: string) => {
        const array = program.progArrays.get(name);
        return array ? scene.arrayName(array) : name;
      };
      const tailCalls = verified.facts.tailCalls.map(site => ({ ...site, maps: site.maps.map(rename) }));
      return {
        ...verified,
        program: { ...verified.program, name: scene.programName(program) },
        facts: { ...verified.facts, tailCalls },
      };
    }),
    maps: new Map(
      [...slots.keys()].map(array => {
        const name = scene.arrayName(array);
        return [name, { ...array.map.spec, name }];
      }),
    ),
    slots: new Map(
      [...slots].map(([array, held]) => [
        scene.arrayName(array),
        new Map([...held].map(([index, program]) => [index, scene.programName(program)])),
      ]),
    ),
    ...(entries && { entries: entries.map(program => scene.programName(program)) }),
  });
}

/**
 * @param replaced programs whose runs are to enter others
 * @param entries default: programs that were run, or were never in a slot nor take part in the edits
 */
export function preflight(
  scene: Scene,
  edits: readonly SlotEdit[],
  replaced: ReadonlyMap<Program, Program> = new Map(),
  entries?: readonly Program[],
): Preflight {
  const edited = new Set([...edits.map(({ program }) => program), ...replaced.values()]);
  const starts = entries ?? [...scene.programs].filter(each => each.wasRun || (each.startsRuns && !edited.has(each)));
  const replacing = new Map([...replaced].map(([program, next]) => [next, program]));
  const [now, then] = [
    starts.map(program => (replacing.get(program) ?? program).entered),
    starts.map(program => replaced.get(program) ?? program.entered),
  ].map(programs => (programs.length > 0 ? [...new Set(programs)] : undefined));
  const after = graphAfter(scene, edits, then);
  return { misses: misses(after), newMisses: newMisses(graphAfter(scene, [], now), after) };
}

/** @throws RuntimeError `would_miss` naming `sites`, if there are any */
export function refuseMisses(sites: readonly PredictedMiss[]): void {
  if (sites.length === 0) return;
  const shown = sites.slice(0, 8).map(({ program, insn, line, map, from, to }) => {
    const where = line ? `${line.file}:${line.line}: ${line.text.trim()}` : 'no line information';
    return `\n  ${map}[${from === to ? from : `${from}..${to}`}] from ${program}, insn ${insn} (${where})`;
  });
  const more = sites.length > shown.length ? `\n  and ${sites.length - shown.length} more` : '';
  throw new RuntimeError(
    'would_miss',
    `the strict transaction was refused and nothing was changed, since tail calls could find slots empty after it; fill these slots too, or name the programs that runs start in with "entries":${shown.join('')}${more}`,
    { sites },
  );
}
