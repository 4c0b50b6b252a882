/** An object whose programs, maps and global variables have types: the base of the classes that `switchyard codegen` writes. */
import { check } from '../arguments.ts';
import type { TypedMap } from '../maps/typed-map.ts';
import { type LoadedGlobal, LoadedObject } from './loaded-object.ts';
import type { ProgArraySlots } from './prog-array-slots.ts';
import type { Program } from './program.ts';

/** Names and types of what is in an object. */
interface ObjectShape {
  /** Names of programs, as a union. */
  readonly programs: string;
  /** Names of prog arrays. */
  readonly progArrays: string;
  // biome-ignore lint/suspicious/noExplicitAny: maps of any types
  readonly maps: object & Record<keyof any, any>;
  readonly globals: object;
  readonly globalInputs: object;
}

export class TypedObject<Shape extends { [K in keyof ObjectShape]: unknown }> {
  /** The object without types: maps without keys, raw bytes, all of `LoadedObject`. */
  readonly object: LoadedObject;
  readonly #maps = new Map<string, TypedMap>();

  constructor(object: LoadedObject) {
    check.instanceOf(LoadedObject, 'a loaded object')(object, 'object');
    this.object = object;
  }

  /** @throws RuntimeError `no_such_program` where it was not loaded */
  program(name: Shape['programs'] & string): Program {
    return this.object.program(name);
  }

  /** The same one for each call. */
  map<Name extends keyof Shape['maps'] & string>(name: Name): Shape['maps'][Name] {
    const map = this.#maps.get(name) ?? this.object.typedMap(name);
    this.#maps.set(name, map);
    return map as Shape['maps'][Name];
  }

  progArray(name: Shape['progArrays'] & string): ProgArraySlots {
    return this.object.progArray(name);
  }

  global<Name extends keyof Shape['globals'] & keyof Shape['globalInputs'] & string>(
    name: Name,
  ): LoadedGlobal<Shape['globals'][Name], Shape['globalInputs'][Name]> {
    return this.object.global(name);
  }

  /** @see LoadedObject.dispose */
  dispose(): void {
    this.object.dispose();
  }
}
