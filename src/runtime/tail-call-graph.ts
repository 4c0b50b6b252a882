/**
 * Which programs can tail-call which: the verifier's facts (arrays and index range of each site) laid over what the slots
 * hold. Nothing is run; what an index really will be is not known, so the graph shows what can happen, not what will.
 */
import { check, withForeign } from '../arguments.ts';
import { mapSpecs } from '../object/check.ts';
import type { LineInfo, MapSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import { RuntimeError } from './errors.ts';
import { isOurs, lineAt } from './stages.ts';

/** Slots `from` to `to` of a prog array, inclusive. */
export interface SlotRange {
  readonly map: string;
  readonly from: number;
  readonly to: number;
}

export interface TailCallGraphSite {
  readonly program: string;
  /** Slot of the call in the object's program. */
  readonly insn: number;
  readonly line: LineInfo | undefined;
  /** Prog arrays that reach it. */
  readonly maps: readonly string[];
  /** Range of the index as u32, inclusive. */
  readonly indexMin: number;
  readonly indexMax: number;
  /** Filled slots it can reach. */
  readonly targets: readonly { readonly map: string; readonly index: number; readonly program: string }[];
  /** Empty slots it can reach: it would fall through. */
  readonly empty: readonly SlotRange[];
  /** Some index may lie beyond one of the arrays. */
  readonly outOfRange: boolean;
}

export interface TailCallGraph {
  readonly programs: readonly {
    readonly name: string;
    /** Where runs start. */
    readonly entry: boolean;
    /** From an entry, itself included. */
    readonly reachable: boolean;
  }[];
  readonly arrays: readonly {
    readonly name: string;
    readonly maxEntries: number;
    /** Filled slots, ascending. */
    readonly slots: readonly { readonly index: number; readonly program: string }[];
  }[];
  readonly sites: readonly TailCallGraphSite[];
  /** Programs of a longest chain of tail calls from an entry; where there are circles, one that goes round none. */
  readonly longestChain: readonly string[];
  /** A chain can go on until the limit of tail calls. */
  readonly endless: boolean;
  /** One for each set of programs that can reach each other; the first program is not repeated at the end. */
  readonly cycles: readonly (readonly string[])[];
  readonly unreachable: readonly string[];
  /** Slots that sites of reachable programs can find empty, each range with those sites. */
  readonly emptyReachable: readonly (SlotRange & { readonly sites: readonly { program: string; insn: number }[] })[];
}

export interface TailCallGraphInput {
  readonly programs: readonly Verified[];
  readonly maps: ReadonlyMap<string, MapSpec>;
  /** Filled slots: by prog array, by index, the program's name. */
  readonly slots: ReadonlyMap<string, ReadonlyMap<number, string>>;
  /** Programs that runs start in; default: those that no slot holds, or all where each is in one. */
  readonly entries?: readonly string[];
}

const inputShape = check.record({
  programs: check.array,
  maps: mapSpecs,
  slots: check.mapOf(check.mapOf(check.string, check.u32)),
  entries: check.optional(check.arrayOf(check.string)),
});
const graphShape = check.record({ programs: check.array, sites: check.array });

/**
 * Draws up the graph. Programs in slots that are not among `programs` are there, without sites.
 * @throws RuntimeError `no_such_program` for an entry that is not there
 */
export function tailCallGraph(input: TailCallGraphInput): TailCallGraph {
  inputShape(input, 'input');
  return withForeign('input', input.programs.every(isOurs), () => draw(input));
}

function draw(input: TailCallGraphInput): TailCallGraph {
  const { programs, maps, slots } = input;
  const arrays = [...maps.values()]
    .filter(({ type }) => type === 'prog_array')
    .map(({ name, maxEntries }) => ({
      name,
      maxEntries,
      slots: [...(slots.get(name) ?? [])]
        .map(([index, program]) => ({ index, program }))
        .sort((a, b) => a.index - b.index),
    }));
  const byName = new Map(arrays.map(array => [array.name, array]));
  const sites = programs.flatMap(({ program, facts }) =>
    facts.tailCalls.map((site): TailCallGraphSite => {
      const { insn, indexMin, indexMax } = site;
      const targets: { map: string; index: number; program: string }[] = [];
      const empty: SlotRange[] = [];
      let outOfRange = false;
      for (const map of site.maps) {
        const array = byName.get(map);
        if (!array) continue;
        const last = Math.min(indexMax, array.maxEntries - 1);
        if (indexMax > last) outOfRange = true;
        let next = indexMin;
        for (const { index, program: target } of array.slots) {
          if (index < indexMin || index > last) continue;
          if (index > next) empty.push({ map, from: next, to: index - 1 });
          targets.push({ map, index, program: target });
          next = index + 1;
        }
        if (next <= last) empty.push({ map, from: next, to: last });
      }
      const line = lineAt(program.lines, insn);
      return { program: program.name, insn, line, maps: site.maps, indexMin, indexMax, targets, empty, outOfRange };
    }),
  );

  const held = new Set(arrays.flatMap(array => array.slots.map(({ program }) => program)));
  const names = [...new Set([...programs.map(({ program }) => program.name), ...held])];
  const free = names.filter(name => !held.has(name));
  const entries = new Set(input.entries ?? (free.length > 0 ? free : names));
  const successors = new Map(names.map(name => [name, new Set<string>()]));
  for (const name of entries) {
    if (successors.has(name)) continue;
    throw new RuntimeError('no_such_program', `no program is named ${name}; there are ${names.join(', ') || 'none'}`, {
      name,
      names,
    });
  }
  for (const { program, targets } of sites) for (const target of targets) successors.get(program)!.add(target.program);

  const reachable = new Set(postorder([...entries], successors));
  const cycles = findCycles(names, successors);
  return {
    programs: names.map(name => ({ name, entry: entries.has(name), reachable: reachable.has(name) })),
    arrays,
    sites,
    longestChain: longestChain([...entries], successors),
    endless: cycles.some(([first]) => reachable.has(first!)),
    cycles,
    unreachable: names.filter(name => !reachable.has(name)),
    emptyReachable: gatherEmpty(sites.filter(({ program }) => reachable.has(program))),
  };
}

function gatherEmpty(sites: readonly TailCallGraphSite[]): TailCallGraph['emptyReachable'] {
  const ranges = new Map<string, SlotRange & { sites: { program: string; insn: number }[] }>();
  for (const { program, insn, empty } of sites) {
    for (const range of empty) {
      const key = `${range.from} ${range.to} ${range.map}`;
      const known = ranges.get(key) ?? { ...range, sites: [] };
      ranges.set(key, known);
      known.sites.push({ program, insn });
    }
  }
  return [...ranges.values()].sort((a, b) => (a.map < b.map ? -1 : a.map > b.map ? 1 : a.from - b.from || a.to - b.to));
}

type Successors = ReadonlyMap<string, ReadonlySet<string>>;

/** What can be reached from `starts`, each after all that it can reach but for circles. */
function postorder(starts: readonly string[], successors: Successors): string[] {
  const seen = new Set<string>();
  const order: string[] = [];
  for (const start of starts) {
    if (seen.has(start)) continue;
    seen.add(start);
    const stack = [{ name: start, next: (successors.get(start) ?? new Set())[Symbol.iterator]() }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const { done, value } = top.next.next();
      if (done) {
        order.push(top.name);
        stack.pop();
      } else if (!seen.has(value)) {
        seen.add(value);
        stack.push({ name: value, next: (successors.get(value) ?? new Set())[Symbol.iterator]() });
      }
    }
  }
  return order;
}

/** A shortest way from one program to another that leads over at least one tail call, inside `within`. */
function wayTo(from: string, to: ReadonlySet<string>, successors: Successors, within: ReadonlySet<string>): string[] {
  const before = new Map<string, string>();
  const queue = [from];
  for (const name of queue) {
    for (const next of successors.get(name) ?? []) {
      if (to.has(next)) {
        const way = [next];
        for (let at: string | undefined = name; at !== undefined; at = at === from ? undefined : before.get(at))
          way.push(at);
        return way.reverse();
      }
      if (!within.has(next) || before.has(next) || next === from) continue;
      before.set(next, name);
      queue.push(next);
    }
  }
  return [];
}

/** Kosaraju's strongly connected components, and a circle through the first program of each. */
function findCycles(names: readonly string[], successors: Successors): string[][] {
  const predecessors = new Map(names.map(name => [name, new Set<string>()]));
  for (const [from, targets] of successors) for (const to of targets) predecessors.get(to)!.add(from);
  const assigned = new Set<string>();
  const cycles: string[][] = [];
  for (const root of postorder(names, successors).reverse()) {
    if (assigned.has(root)) continue;
    const component = new Set([root]);
    for (const name of component) {
      assigned.add(name);
      for (const before of predecessors.get(name)!) if (!assigned.has(before)) component.add(before);
    }
    const first = names.find(name => component.has(name))!;
    if (component.size > 1 || successors.get(first)!.has(first)) {
      cycles.push(wayTo(first, new Set([first]), successors, component).slice(0, -1));
    }
  }
  return cycles.sort((a, b) => names.indexOf(a[0]!) - names.indexOf(b[0]!));
}

/** Over the tail calls that close no circle on the way from the entries. */
function longestChain(entries: readonly string[], successors: Successors): string[] {
  const next = new Map<string, { length: number; program: string | undefined }>();
  for (const name of postorder(entries, successors)) {
    let best: { length: number; program: string | undefined } = { length: 0, program: undefined };
    for (const program of successors.get(name) ?? []) {
      const known = next.get(program);
      if (known !== undefined && known.length + 1 > best.length) best = { length: known.length + 1, program };
    }
    next.set(name, best);
  }
  const chain: string[] = [];
  const [start] = [...entries].sort((a, b) => next.get(b)!.length - next.get(a)!.length);
  for (let name = start; name !== undefined; name = next.get(name)?.program) chain.push(name);
  return chain;
}

/** Slots that a site could find empty, and so fall through. */
export interface PredictedMiss extends SlotRange {
  readonly program: string;
  /** Slot of the call in the object's program. */
  readonly insn: number;
  readonly line: LineInfo | undefined;
}

/** What could find slots empty, in programs that can be reached. */
export function misses(graph: TailCallGraph): PredictedMiss[] {
  return reachableSites(graph).flatMap(({ program, insn, line, empty }) =>
    empty.map(range => ({ program, insn, line, ...range })),
  );
}

/**
 * What `after` lets find slots empty and `before` did not. A site in a program that was replaced is the same as one of the
 * program that came in its place if the same arrays and indices reach both.
 */
export function newMisses(before: TailCallGraph, after: TailCallGraph): PredictedMiss[] {
  graphShape(before, 'before');
  graphShape(after, 'after');
  return withForeign('before or after', false, () => broughtBy(before, after));
}

function broughtBy(before: TailCallGraph, after: TailCallGraph): PredictedMiss[] {
  const reach = ({ maps, indexMin, indexMax }: TailCallGraphSite) => `${indexMin} ${indexMax} ${maps.join(' ')}`;
  const known = new Map(reachableSites(before).map(site => [reach(site), site.empty]));
  return reachableSites(after).flatMap(site =>
    site.empty
      .flatMap(range => subtract(range, known.get(reach(site)) ?? []))
      .map(range => ({ program: site.program, insn: site.insn, line: site.line, ...range })),
  );
}

function reachableSites({ programs, sites }: TailCallGraph): TailCallGraphSite[] {
  const reachable = new Set(programs.filter(program => program.reachable).map(({ name }) => name));
  return sites.filter(({ program }) => reachable.has(program));
}

function subtract(range: SlotRange, others: readonly SlotRange[]): SlotRange[] {
  let rest = [range];
  for (const { map, from, to } of others) {
    if (map !== range.map) continue;
    rest = rest.flatMap(part => [
      ...(part.from < from ? [{ map, from: part.from, to: Math.min(part.to, from - 1) }] : []),
      ...(part.to > to ? [{ map, from: Math.max(part.from, to + 1), to: part.to }] : []),
    ]);
  }
  return rest.filter(({ from, to }) => from <= to);
}
