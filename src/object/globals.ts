/**
 * Global variables of an object by name: what `.data*`, `.rodata*` and `.bss*` hold, typed by BTF. Before an object is loaded its
 * constants can be set, as `bpftool gen skeleton` offers it; the verifier then knows them.
 */
import { check, describe } from '../arguments.ts';
import { btfCodec } from './btf-codec.ts';
import { mapsOfCollection } from './check.ts';
import { ObjectError } from './errors.ts';
import type { Collection, MapSpec } from './spec.ts';

export interface GlobalVariable {
  readonly name: string;
  /** The map that holds it: a data section, one entry. */
  readonly map: string;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly btfTypeId: number;
  /** In `.rodata*`: fixed once the object is loaded. */
  readonly constant: boolean;
}

/** All but static ones, which have no name outside their file. In the order of the sections. */
export function globalVariables(collection: Pick<Collection, 'maps' | 'btf'>): Map<string, GlobalVariable> {
  mapsOfCollection(collection, 'collection');
  const { maps, btf } = collection;
  const found = new Map<string, GlobalVariable>();
  for (const [map, { dataSection, btfValueId, frozen }] of maps) {
    if (!btf || dataSection === undefined || btfValueId === undefined) continue;
    const section = btf.resolved(btfValueId);
    if (section.kind !== 'datasec') continue;
    for (const { type: btfTypeId, offset } of section.variables) {
      const variable = btf.type(btfTypeId);
      if (variable.kind !== 'var' || variable.linkage === 'static') continue;
      found.set(variable.name, { name: variable.name, map, offset, btfTypeId, constant: frozen === true });
    }
  }
  return found;
}

/** @throws ObjectError `unknown_field` that lists the names there are */
export function globalVariable(collection: Pick<Collection, 'maps' | 'btf'>, name: string): GlobalVariable {
  const all = globalVariables(collection);
  const found = all.get(name);
  if (found) return found;
  throw new ObjectError(
    'unknown_field',
    `no global variable is named ${typeof name === 'string' ? name : describe(name)}; the object has ${[...all.keys()].join(', ') || 'none with BTF'}`,
    { symbol: name },
  );
}

/**
 * The object with other initial values of global variables.
 * @param values by name; the others stay as they are
 * @throws ObjectError `unknown_field` for a name that no variable has, and as `BtfCodec.encode`
 */
export function withGlobals(collection: Collection, values: Readonly<Record<string, unknown>>): Collection {
  mapsOfCollection(collection, 'collection');
  check.record({})(values, 'values');
  const sections = new Map<string, Uint8Array>();
  for (const [name, value] of Object.entries(values)) {
    const { map, offset, btfTypeId } = globalVariable(collection, name);
    const spec = collection.maps.get(map)!;
    const bytes = sections.get(map) ?? initialBytes(spec);
    sections.set(map, bytes);
    try {
      btfCodec(collection.btf!, btfTypeId).encodeInto(value, bytes, offset);
    } catch (error) {
      if (!(error instanceof ObjectError)) throw error;
      throw new ObjectError(error.code, `global variable ${name}: ${error.message}`, {
        ...error.details,
        symbol: name,
      });
    }
  }
  const maps = new Map(collection.maps);
  for (const [name, value] of sections) maps.set(name, { ...maps.get(name)!, contents: [{ key: 0, value }] });
  return { ...collection, maps };
}

/** A copy; sections without bytes in the file are zero. */
function initialBytes({ contents, valueSize }: MapSpec): Uint8Array {
  const bytes = new Uint8Array(valueSize);
  for (const entry of contents) if ('value' in entry) bytes.set(entry.value);
  return bytes;
}
