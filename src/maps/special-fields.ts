/**
 * Fields of map values that belong to the kernel: locks, timers, lists and the like. Programs may touch them only through
 * helpers. Linux finds them by the names of their BTF types (`btf_parse_fields`); so does this.
 */
import type { Btf } from '../object/btf.ts';
import type { MapSpec, SpecialField } from '../object/spec.ts';

export const SPIN_LOCK = 'bpf_spin_lock';

const STRUCTURES: ReadonlySet<string> = new Set([
  SPIN_LOCK,
  'bpf_res_spin_lock',
  'bpf_timer',
  'bpf_wq',
  'bpf_task_work',
  'bpf_list_head',
  'bpf_rb_root',
  'bpf_refcount',
]);
/** Tags of pointers that a map owns. */
const POINTER_TAGS: ReadonlySet<string> = new Set(['kptr', 'kptr_untrusted', 'percpu_kptr', 'uptr']);
const POINTER_BYTES = 8;
const NONE: readonly SpecialField[] = [];

const found = new WeakMap<MapSpec, readonly SpecialField[]>();

/**
 * @param btf of the object that declares the map
 * @throws ObjectError `bad_btf`
 */
export function specialFields(map: MapSpec, btf: Btf | undefined): readonly SpecialField[] {
  if (map.specialFields !== undefined) return map.specialFields;
  const type = map.btfValueId;
  if (btf === undefined || type === undefined) return NONE;
  const before = found.get(map);
  if (before !== undefined) return before;
  // A map of another object carries ids of that object's BTF.
  const ours = type < btf.size && btf.sizeOf(type) === map.valueSize;
  const fields = ours ? fieldsOf(btf, type, new Map()) : NONE;
  found.set(map, fields);
  return fields;
}

/** Offsets relative to the type. A type that contains itself has no more fields than those found so far. */
function fieldsOf(btf: Btf, id: number, known: Map<number, readonly SpecialField[]>): readonly SpecialField[] {
  const before = known.get(id);
  if (before !== undefined) return before;
  known.set(id, NONE);
  const fields = findFields(btf, id, known);
  known.set(id, fields);
  return fields;
}

function findFields(btf: Btf, id: number, known: Map<number, readonly SpecialField[]>): readonly SpecialField[] {
  const type = btf.resolved(id);
  const within = (member: number, offset: number): SpecialField[] =>
    fieldsOf(btf, member, known).map(field => ({ ...field, offset: field.offset + offset }));
  switch (type.kind) {
    case 'struct':
    case 'union':
      return type.members.flatMap(member => {
        const inner = btf.resolved(member.type);
        const offset = member.bitOffset / 8;
        if (inner.kind === 'struct' && STRUCTURES.has(inner.name))
          return [{ offset, size: inner.size, name: inner.name }];
        return within(member.type, offset);
      });
    case 'datasec':
      return type.variables.flatMap(variable => {
        const declared = btf.type(variable.type);
        return declared.kind === 'var' ? elements(btf, declared.type, 1, variable.offset, known) : [];
      });
    case 'array':
      return elements(btf, type.type, type.length, 0, known);
    case 'ptr': {
      const target = btf.type(type.type);
      const owned = target.kind === 'type_tag' && POINTER_TAGS.has(target.name);
      return owned ? [{ offset: 0, size: POINTER_BYTES, name: 'kptr' }] : NONE;
    }
    default:
      return NONE;
  }
}

/** `count` values of a type, one behind the other, which may be such a structure itself. */
function elements(
  btf: Btf,
  id: number,
  count: number,
  offset: number,
  known: Map<number, readonly SpecialField[]>,
): SpecialField[] {
  const type = btf.resolved(id);
  const special = type.kind === 'struct' && STRUCTURES.has(type.name);
  const fields = special ? [{ offset: 0, size: type.size, name: type.name }] : fieldsOf(btf, id, known);
  const size = fields.length === 0 ? 0 : btf.sizeOf(id);
  const all: SpecialField[] = [];
  for (let i = 0; i < count && size > 0; i++)
    for (const field of fields) all.push({ ...field, offset: offset + i * size + field.offset });
  return all;
}
