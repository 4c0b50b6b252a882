/** Whether a map of one build of an object can serve the next build, contents and all. */
import { check } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { mapsOfCollection } from './check.ts';
import type { Collection, InitialEntry, MapSpec } from './spec.ts';

/** Deeper or larger types are taken to differ: only BTF that is no compiler's work nests so. */
const MAX_DEPTH = 64;
const MAX_PARTS = 100_000;

/**
 * What keeps the map `name` of `old` from being used by `next`: a part of a sentence, such as "its value_size was 8 and is 16".
 * Compared are what it is made of (type, sizes, flags), the types of its keys and values where both have BTF (names and
 * offsets of members; what pointers point to doesn't count), and what the objects declare it to hold at first.
 * @returns undefined where nothing differs
 */
export function mapDifference(name: string, old: Collection, next: Collection): string | undefined {
  check.string(name, 'name');
  mapsOfCollection(old, 'old');
  mapsOfCollection(next, 'next');
  const [before, after] = [old.maps.get(name), next.maps.get(name)];
  if (!before || !after) return after ? 'it was not there' : 'it is not there any more';
  const shape = shapeDifference(before, after);
  if (shape !== undefined) return shape;
  if (!sameTypes(old.btf, before.btfKeyId, next.btf, after.btfKeyId)) return 'the type of its keys differs';
  if (!sameTypes(old.btf, before.btfValueId, next.btf, after.btfValueId)) return 'the type of its values differs';
  const equal =
    before.contents.length === after.contents.length &&
    before.contents.every((entry, i) => sameEntry(entry, after.contents[i]!));
  return equal ? undefined : 'what it holds at first differs';
}

function shapeDifference(before: MapSpec, after: MapSpec): string | undefined {
  const parts: [name: string, before: unknown, after: unknown][] = [
    ['type', before.type, after.type],
    ['key_size', before.keySize, after.keySize],
    ['value_size', before.valueSize, after.valueSize],
    ['max_entries', before.maxEntries, after.maxEntries],
    ['map_flags', before.flags, after.flags],
    ['map_extra', before.mapExtra ?? 0n, after.mapExtra ?? 0n],
    ['numa_node', before.numaNode ?? 0, after.numaNode ?? 0],
    ['read-only', before.frozen === true, after.frozen === true],
  ];
  for (const [name, a, b] of parts) if (a !== b) return `its ${name} was ${a} and is ${b}`;
  if (!before.inner || !after.inner) return before.inner || after.inner ? 'its inner maps differ' : undefined;
  return shapeDifference(before.inner, after.inner) === undefined ? undefined : 'its inner maps differ';
}

function sameEntry(a: InitialEntry, b: InitialEntry): boolean {
  if (a.key !== b.key) return false;
  if ('program' in a) return 'program' in b && a.program === b.program;
  if ('map' in a) return 'map' in b && a.map === b.map;
  return 'value' in b && a.value.length === b.value.length && a.value.every((byte, i) => byte === b.value[i]);
}

/** Nothing is known of types without BTF. */
function sameTypes(oldBtf: Btf | undefined, oldId: number | undefined, btf: Btf | undefined, id: number | undefined) {
  if (!oldBtf || !btf || oldId === undefined || id === undefined) return true;
  let parts = 0;
  const all = <T>(a: readonly T[], b: readonly T[], same: (a: T, b: T) => boolean): boolean =>
    a.length === b.length && a.every((each, i) => same(each, b[i]!));
  const same = (left: number, right: number, depth: number): boolean => {
    if (depth > MAX_DEPTH || ++parts > MAX_PARTS) return false;
    const [a, b] = [oldBtf.resolved(left), btf.resolved(right)];
    if (a.kind === 'int' && b.kind === 'int') {
      return (['size', 'bits', 'offset', 'signed', 'char', 'bool'] as const).every(field => a[field] === b[field]);
    }
    if (a.kind === 'float' && b.kind === 'float') return a.size === b.size;
    if (a.kind === 'array' && b.kind === 'array') return a.length === b.length && same(a.type, b.type, depth + 1);
    if (a.kind === 'var' && b.kind === 'var') return a.name === b.name && same(a.type, b.type, depth + 1);
    if ((a.kind === 'struct' || a.kind === 'union') && (b.kind === 'struct' || b.kind === 'union')) {
      if (a.kind !== b.kind || a.name !== b.name || a.size !== b.size) return false;
      return all(
        a.members,
        b.members,
        (x, y) =>
          x.name === y.name &&
          x.bitOffset === y.bitOffset &&
          x.bitSize === y.bitSize &&
          same(x.type, y.type, depth + 1),
      );
    }
    if ((a.kind === 'enum' || a.kind === 'enum64') && (b.kind === 'enum' || b.kind === 'enum64')) {
      return a.size === b.size && all(a.values, b.values, (x, y) => x.name === y.name && x.value === y.value);
    }
    if (a.kind === 'datasec' && b.kind === 'datasec') {
      return all(
        a.variables,
        b.variables,
        (x, y) => x.offset === y.offset && x.size === y.size && same(x.type, y.type, depth + 1),
      );
    }
    return a.kind === b.kind;
  };
  return same(oldId, id, 0);
}
