import { check, describe } from '../arguments.ts';
import type { BpfMap } from '../maps/map.ts';
import { PerfEventArray } from '../maps/perf-event-array.ts';
import { BloomFilter, QueueMap } from '../maps/pushed-map.ts';
import { RingBuffer } from '../maps/ring-buffer.ts';
import { type TypedMap, type TypedMapContext, typedMap } from '../maps/typed-map.ts';
import { UserRingBuffer } from '../maps/user-ring-buffer.ts';
import { btfCodec } from '../object/btf-codec.ts';
import { type GlobalVariable, globalVariable } from '../object/globals.ts';
import type { Collection } from '../object/spec.ts';
import { RuntimeError } from './errors.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import { Program } from './program.ts';
import { graphAfter, preflight, type Scene } from './slot-graph.ts';
import type { PredictedMiss, TailCallGraph } from './tail-call-graph.ts';

/** A slot to be. */
export interface SlotChange {
  readonly map: string;
  readonly index: number;
  readonly program: Program | undefined;
}

/** What an object can ask of its runtime. */
interface Surroundings extends Omit<TypedMapContext, 'btf'> {
  /** Overwrites bytes of the value of an array of one entry, in place. */
  readonly poke?: (map: BpfMap, offset: number, bytes: Uint8Array) => void;
}

/** A global variable of a loaded object: what the programs see. */
export interface LoadedGlobal<T = unknown, Input = T> extends GlobalVariable {
  get(): T;
  /** @throws ObjectError where the value does not fit; MapError `not_permitted` for constants */
  set(value: Input): void;
}

const graphOptions = check.options({ entries: check.arrayOf(check.string) });
const changeList = check.arrayOf(
  check.record({
    map: check.string,
    index: check.u32,
    program: check.optional(check.instanceOf(Program, 'a program')),
  }),
);
/** In messages: what came may be no name at all. */
const nameOf = (name: unknown): string => (typeof name === 'string' ? name : describe(name));

/** Maps and programs of one object, by name. */
export class LoadedObject {
  readonly collection: Collection;
  readonly programs: ReadonlyMap<string, Program>;
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** The prog arrays among `maps`, as slots. */
  readonly progArrays: ReadonlyMap<string, ProgArraySlots>;
  readonly #dispose: () => void;
  readonly #others: Surroundings;
  #disposed = false;

  /** Objects are made by `Runtime.load`. */
  constructor(
    collection: Collection,
    programs: ReadonlyMap<string, Program>,
    maps: ReadonlyMap<string, BpfMap>,
    progArrays: ReadonlyMap<string, ProgArraySlots>,
    dispose: () => void,
    others: Surroundings = {},
  ) {
    this.collection = collection;
    this.programs = programs;
    this.maps = maps;
    this.progArrays = progArrays;
    this.#dispose = dispose;
    this.#others = others;
  }

  /** @throws RuntimeError `no_such_program` that lists the names there are */
  program(name: string): Program {
    const program = this.programs.get(name);
    if (program) return program;
    const names = [...this.programs.keys()];
    throw new RuntimeError(
      'no_such_program',
      `no program is named ${nameOf(name)}; the object has ${names.join(', ') || 'none'}`,
      { name, names },
    );
  }

  /** @throws RuntimeError `no_such_map` that lists the names there are */
  map(name: string): BpfMap {
    const map = this.maps.get(name);
    if (map) return map;
    const names = [...this.maps.keys()];
    throw new RuntimeError(
      'no_such_map',
      `no map is named ${nameOf(name)}; the object has ${names.join(', ') || 'none'}`,
      {
        name,
        names,
      },
    );
  }

  /**
   * A map whose keys and values are plain objects by its BTF (`maps/typed-map.ts`); `map(name)` has the bytes.
   * @typeParam K, V as `switchyard codegen` writes them; nothing checks them here
   * @throws RuntimeError `no_such_map`; MapError `invalid_operation` for maps without keys; ObjectError where its BTF is wrong
   */
  typedMap<K = unknown, V = unknown, KeyInput = K, ValueInput = V>(name: string): TypedMap<K, V, KeyInput, ValueInput> {
    return typedMap(this.map(name), { btf: this.collection.btf, ...this.#others });
  }

  /**
   * A global variable that is not static.
   * @throws ObjectError `unknown_field` that lists the names there are
   */
  global<T = unknown, Input = T>(name: string): LoadedGlobal<T, Input> {
    const variable = globalVariable(this.collection, name);
    const codec = btfCodec<T>(this.collection.btf!, variable.btfTypeId);
    const map = this.map(variable.map);
    const key = new Uint8Array(4);
    return {
      ...variable,
      get: () => {
        const { offset } = variable;
        return codec.decode(map.lookup(key)!.slice(offset, offset + codec.size));
      },
      set: value => {
        const section = map.lookup(key)!;
        codec.encodeInto(value, section, variable.offset);
        // Constants: the map says why not. Others: only the variable's own bytes, as programs change those around it meanwhile.
        if (variable.constant) map.update(key, section);
        else this.#others.poke?.(map, variable.offset, section.slice(variable.offset, variable.offset + codec.size));
      },
    };
  }

  /** @throws RuntimeError `no_such_map` where there is no ring buffer of that name; so do the next */
  ringBuffer(name: string): RingBuffer {
    return this.#mapOf(name, RingBuffer, 'ring buffer');
  }

  /** What programs drain: `write(bytes)` or `reserve(size)`. */
  userRingBuffer(name: string): UserRingBuffer {
    return this.#mapOf(name, UserRingBuffer, 'user ring buffer');
  }

  /** A queue or stack. */
  queue(name: string): QueueMap {
    return this.#mapOf(name, QueueMap, 'queue or stack');
  }

  perfEventArray(name: string): PerfEventArray {
    return this.#mapOf(name, PerfEventArray, 'perf event array');
  }

  bloomFilter(name: string): BloomFilter {
    return this.#mapOf(name, BloomFilter, 'bloom filter');
  }

  #mapOf<Class extends BpfMap>(name: string, type: abstract new (...args: never[]) => Class, what: string): Class {
    const map = this.map(name);
    if (map instanceof type) return map;
    throw new RuntimeError('no_such_map', `map ${name} is no ${what}, but a map of type ${map.spec.type}`, {
      name,
      type: map.spec.type,
    });
  }

  /** @throws RuntimeError `no_such_map` where there is no prog array of that name */
  progArray(name: string): ProgArraySlots {
    const slots = this.progArrays.get(name);
    if (slots) return slots;
    const names = [...this.progArrays.keys()];
    throw new RuntimeError(
      'no_such_map',
      `no prog array is named ${nameOf(name)}; the object has ${names.join(', ') || 'none'}`,
      { name, names },
    );
  }

  /**
   * Which of its programs can tail-call which, with what its slots hold now. Programs and arrays of other objects that its slots
   * lead to take part, as `name#id`.
   * @param options.entries names of programs that runs start in; default: those that no slot holds, or all where each is in one
   * @throws RuntimeError `no_such_program`
   */
  tailCallGraph(options: { readonly entries?: readonly string[] } = {}): TailCallGraph {
    graphOptions(options, 'options');
    return graphAfter(
      this.#scene(),
      [],
      options.entries?.map(name => this.program(name)),
    );
  }

  /**
   * The look before a transaction, for one object: tail calls that could find a slot empty after these changes, though none
   * that can be reached now over the same slots could. `Runtime.preflight` does it for all objects of a runtime.
   * @param changes in order; `program` undefined empties the slot
   * @throws RuntimeError `no_such_map`
   */
  missesAfter(changes: readonly SlotChange[]): readonly PredictedMiss[] {
    changeList(changes, 'changes');
    const edits = changes.map(({ map, index, program }) => ({ array: this.progArray(map), index, program }));
    return preflight(this.#scene(), edits).newMisses;
  }

  #scene(): Scene {
    const own = new Set(this.programs.values());
    const names = new Map([...this.progArrays].map(([name, array]) => [array, name]));
    return {
      programs: own,
      arrays: names.keys(),
      programName: program => (own.has(program) ? program.name : `${program.name}#${program.id}`),
      arrayName: array => names.get(array) ?? `${array.name}#${array.map.id}`,
    };
  }

  /** Disposes its programs, empties its prog arrays, and frees its maps once nothing can reach them. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#dispose();
  }
}
