import type { BpfMap } from '../maps/map.ts';
import type { Collection } from '../object/spec.ts';
import { RuntimeError } from './errors.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import type { Program } from './program.ts';
import { newMisses, type PredictedMiss, type TailCallGraph, tailCallGraph } from './tail-call-graph.ts';

/** A slot to be. */
export interface SlotChange {
  readonly map: string;
  readonly index: number;
  readonly program: Program | undefined;
}

/** Maps and programs of one object, by name. */
export class LoadedObject {
  readonly collection: Collection;
  readonly programs: ReadonlyMap<string, Program>;
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** The prog arrays among `maps`, as slots. */
  readonly progArrays: ReadonlyMap<string, ProgArraySlots>;
  readonly #dispose: () => void;
  #disposed = false;

  /** Objects are made by `Runtime.load`. */
  constructor(
    collection: Collection,
    programs: ReadonlyMap<string, Program>,
    maps: ReadonlyMap<string, BpfMap>,
    progArrays: ReadonlyMap<string, ProgArraySlots>,
    dispose: () => void,
  ) {
    this.collection = collection;
    this.programs = programs;
    this.maps = maps;
    this.progArrays = progArrays;
    this.#dispose = dispose;
  }

  /** @throws RuntimeError `no_such_program` that lists the names there are */
  program(name: string): Program {
    const program = this.programs.get(name);
    if (program) return program;
    const names = [...this.programs.keys()];
    throw new RuntimeError(
      'no_such_program',
      `no program is named ${name}; the object has ${names.join(', ') || 'none'}`,
      { name, names },
    );
  }

  /** @throws RuntimeError `no_such_map` that lists the names there are */
  map(name: string): BpfMap {
    const map = this.maps.get(name);
    if (map) return map;
    const names = [...this.maps.keys()];
    throw new RuntimeError('no_such_map', `no map is named ${name}; the object has ${names.join(', ') || 'none'}`, {
      name,
      names,
    });
  }

  /** @throws RuntimeError `no_such_map` where there is no prog array of that name */
  progArray(name: string): ProgArraySlots {
    const slots = this.progArrays.get(name);
    if (slots) return slots;
    const names = [...this.progArrays.keys()];
    throw new RuntimeError(
      'no_such_map',
      `no prog array is named ${name}; the object has ${names.join(', ') || 'none'}`,
      { name, names },
    );
  }

  /**
   * Which of its programs can tail-call which, with what its slots hold now. Programs of other objects in its slots take part;
   * the arrays they name are taken for this object's of the same names.
   */
  tailCallGraph(options: { readonly entries?: readonly string[] } = {}): TailCallGraph {
    return this.#graph([], options.entries);
  }

  /**
   * Sites that could find a slot empty after these changes but not now, or are in programs that cannot be reached now; for a
   * look before a transaction.
   * @param changes in order; `program` undefined empties the slot
   * @throws RuntimeError `no_such_map`
   */
  missesAfter(changes: readonly SlotChange[]): PredictedMiss[] {
    return newMisses(this.#graph([]), this.#graph(changes));
  }

  #graph(changes: readonly SlotChange[], entries?: readonly string[]): TailCallGraph {
    const slots = new Map([...this.progArrays].map(([name, array]) => [name, new Map(array.entries())]));
    for (const { map, index, program } of changes) {
      this.progArray(map);
      if (program) slots.get(map)!.set(index, program);
      else slots.get(map)!.delete(index);
    }
    const programs = new Set(this.programs.values());
    for (const array of slots.values()) for (const program of array.values()) programs.add(program);
    const own = new Set(this.programs.values());
    const name = (program: Program) => (own.has(program) ? program.name : `${program.name}#${program.id}`);
    return tailCallGraph({
      programs: [...programs].map(program => {
        const { verified } = program;
        return { ...verified, program: { ...verified.program, name: name(program) } };
      }),
      maps: new Map([...this.maps].map(([mapName, { spec }]) => [mapName, { ...spec, name: mapName }])),
      slots: new Map([...slots].map(([map, array]) => [map, new Map([...array].map(([i, p]) => [i, name(p)]))])),
      ...(entries && { entries }),
    });
  }

  /** Disposes its programs, empties its prog arrays, and frees its maps once nothing can reach them. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#dispose();
  }
}
