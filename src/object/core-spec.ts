/**
 * CO-RE access specifications: a root type and a path of indexes ("0:1:2"), first as the compiler wrote it for the
 * object's types, then the same path found by name in a type of the target.
 */
import type { Btf, BtfMember } from './btf.ts';
import { isFlexibleArray } from './btf.ts';
import type { CoreRelocation, CoreRelocationKind } from './btf-ext.ts';
import { type Comparison, essentialName } from './core-types.ts';
import { ObjectError } from './errors.ts';

const MAX_PATH = 64;

interface Accessor {
  /** The composite that has the member, or the type of the array's elements. */
  readonly type: number;
  /** Index of the member, value or element. */
  readonly index: number;
  /** Name of the member or value; undefined for array elements. */
  readonly name: string | undefined;
}

export interface AccessSpec {
  readonly btf: Btf;
  readonly root: number;
  /** Named members and array elements; steps through anonymous members are left out. */
  readonly path: readonly Accessor[];
  readonly bitOffset: number;
}

export function isFieldKind(kind: CoreRelocationKind): boolean {
  return kind.startsWith('field_');
}
export function isEnumKind(kind: CoreRelocationKind): boolean {
  return kind.startsWith('enumval_');
}

function bad(relocation: CoreRelocation, why: string): ObjectError {
  return new ObjectError(
    'bad_core_relocation',
    `CO-RE relocation of instruction ${relocation.insn} (${relocation.kind}, type ${relocation.typeId}, access "${relocation.access}"): ${why}`,
    { relocation: relocation.kind, insn: relocation.insn },
  );
}

/** @throws ObjectError `bad_core_relocation`, `bad_btf`. */
export function parseSpec(btf: Btf, relocation: CoreRelocation): AccessSpec {
  const { kind, access, typeId } = relocation;
  if (!isFieldKind(kind) && !isEnumKind(kind)) {
    if (access !== '0') throw bad(relocation, 'the access of a type should be "0"');
    return { btf, root: typeId, path: [], bitOffset: 0 };
  }
  const indexes = access.split(':');
  if (indexes.length > MAX_PATH || !indexes.every(index => /^\d{1,9}$/.test(index))) {
    throw bad(relocation, `the access should be at most ${MAX_PATH} numbers`);
  }
  const [first = 0, ...rest] = indexes.map(Number);
  let id = btf.resolve(typeId);
  if (isEnumKind(kind)) {
    const type = btf.type(id);
    const value = type.kind === 'enum' || type.kind === 'enum64' ? type.values[first] : undefined;
    if (value === undefined || rest.length > 0) throw bad(relocation, 'it names no value of an enum');
    return { btf, root: typeId, path: [{ type: id, index: first, name: value.name }], bitOffset: 0 };
  }
  const path: Accessor[] = [{ type: id, index: first, name: undefined }];
  let bitOffset = first * btf.sizeOf(id) * 8;
  for (const index of rest) {
    id = btf.resolve(id);
    const type = btf.type(id);
    if (type.kind === 'struct' || type.kind === 'union') {
      const member = type.members[index];
      if (member === undefined) throw bad(relocation, `${type.kind} ${type.name} has no member ${index}`);
      bitOffset += member.bitOffset;
      if (member.name !== '') path.push({ type: id, index, name: member.name });
      id = member.type;
    } else if (type.kind === 'array') {
      if (index >= type.length && !endsInFlexibleArray(btf, path.at(-1), type.length)) {
        throw bad(relocation, `an array of ${type.length} has no element ${index}`);
      }
      id = btf.resolve(type.type);
      path.push({ type: id, index, name: undefined });
      bitOffset += index * btf.sizeOf(id) * 8;
    } else {
      throw bad(relocation, `${type.kind} has no members`);
    }
  }
  return { btf, root: typeId, path, bitOffset };
}

/** Whether the array reached through `accessor` may be longer than it says. */
function endsInFlexibleArray(btf: Btf, accessor: Accessor | undefined, length: number): boolean {
  if (accessor?.name === undefined) return false;
  const type = btf.type(accessor.type);
  return (type.kind === 'struct' || type.kind === 'union') && isFlexibleArray(type, accessor.index, length);
}

/**
 * The same access in a type of the target, or undefined where that type does not have it.
 * @throws ObjectError `bad_core_relocation` where types nest too deep.
 */
export function matchSpec(
  local: AccessSpec,
  relocation: CoreRelocation,
  target: Btf,
  root: number,
  comparison: Comparison,
): AccessSpec | undefined {
  const found = { btf: target, root, path: [] as Accessor[], bitOffset: 0 };
  if (relocation.kind === 'type_matches') return comparison.typesMatch(local.root, root) ? found : undefined;
  if (isEnumKind(relocation.kind)) return matchEnumValue(local, found);
  if (!isFieldKind(relocation.kind)) return comparison.typesCompatible(local.root, root) ? found : undefined;
  let id = target.resolve(root);
  for (const [i, accessor] of local.path.entries()) {
    id = target.resolve(id);
    if (accessor.name !== undefined) {
      const step = findMember(local.btf, accessor, target, id, comparison, 0);
      if (step === undefined) return undefined;
      found.path.push(step.accessor);
      found.bitOffset += step.bitOffset;
      id = step.member.type;
      continue;
    }
    // The first index counts whole objects of the root type; later ones elements of an array.
    if (i > 0) {
      const array = target.type(id);
      if (array.kind !== 'array') return undefined;
      if (accessor.index >= array.length && !endsInFlexibleArray(target, found.path.at(-1), array.length))
        return undefined;
      id = target.resolve(array.type);
    }
    found.path.push({ type: id, index: accessor.index, name: undefined });
    if (accessor.index > 0) found.bitOffset += accessor.index * target.sizeOf(id) * 8;
  }
  return found;
}

function matchEnumValue(
  local: AccessSpec,
  found: { btf: Btf; root: number; path: Accessor[]; bitOffset: number },
): AccessSpec | undefined {
  const id = found.btf.resolve(found.root);
  const type = found.btf.type(id);
  if (type.kind !== 'enum' && type.kind !== 'enum64') return undefined;
  const wanted = essentialName(local.path[0]?.name ?? '');
  const index = type.values.findIndex(value => essentialName(value.name) === wanted);
  const value = type.values[index];
  if (value === undefined) return undefined;
  found.path.push({ type: id, index, name: value.name });
  return found;
}

interface FoundMember {
  readonly accessor: Accessor;
  readonly member: BtfMember;
  readonly bitOffset: number;
}

/** A member of that name, anonymous structs and unions searched through, with a compatible type. */
function findMember(
  localBtf: Btf,
  local: Accessor,
  target: Btf,
  targetId: number,
  comparison: Comparison,
  depth: number,
): FoundMember | undefined {
  const id = target.resolve(targetId);
  const type = target.type(id);
  const ours = localBtf.type(local.type);
  if ((type.kind !== 'struct' && type.kind !== 'union') || (ours.kind !== 'struct' && ours.kind !== 'union'))
    return undefined;
  const localType = ours.members[local.index]?.type ?? 0;
  for (const [index, member] of type.members.entries()) {
    comparison.step(depth);
    if (member.name === '') {
      const inner = findMember(localBtf, local, target, member.type, comparison, depth + 1);
      if (inner !== undefined) return { ...inner, bitOffset: inner.bitOffset + member.bitOffset };
    } else if (member.name === local.name) {
      if (!comparison.fieldsCompatible(localType, member.type)) return undefined;
      return { accessor: { type: id, index, name: member.name }, member, bitOffset: member.bitOffset };
    }
  }
  return undefined;
}
