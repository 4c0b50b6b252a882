import type { BpfMap } from '../maps/map.ts';
import type { Collection } from '../object/spec.ts';
import { RuntimeError } from './errors.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import type { Program } from './program.ts';

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

  /** Disposes its programs, empties its prog arrays, and frees its maps once nothing can reach them. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#dispose();
  }
}
