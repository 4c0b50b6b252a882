/**
 * CO-RE ("compile once, run everywhere"): the compiler recorded which fields, types and enum values the code depends
 * on; here the numbers in the instructions are replaced by those of the target's types.
 *
 * The algorithm is libbpf's. For each relocation:
 *  1. candidates: target types of the same kind whose name is the same without flavors (`x___old` is `x`);
 *  2. the access path is looked up by name in each; those without it drop out, also for later relocations of that type;
 *  3. the wanted value is computed for all that are left, which must agree;
 *  4. with none left, "exists" and "size" are 0, and whatever else needs a value poisons the instruction: it becomes a
 *     call of a helper that does not exist, which is fine as long as no path reaches it.
 */
import type { Btf } from './btf.ts';
import type { BtfExt, CoreRelocation } from './btf-ext.ts';
import { patch } from './core-patch.ts';
import { type AccessSpec, isEnumKind, isFieldKind, matchSpec, parseSpec } from './core-spec.ts';
import { Comparison, essentialName, kindsCompatible } from './core-types.ts';
import { ObjectError } from './errors.ts';
import type { ObjectFunction } from './functions.ts';

/** What a relocation comes to on one side. */
interface Resolved {
  /** u64. */
  readonly value: bigint;
  /** Bytes that a load or store of the field accesses; 0 where that is not known (bit-fields) or not asked for. */
  readonly size: number;
  /** The type those bytes have. */
  readonly type: number;
  /** The compiler's value in the instruction is expected to be the one computed here. */
  readonly validate: boolean;
}

/** What is to be done to one instruction. */
export type CorePatch =
  | { readonly poison: true }
  | {
      readonly poison: false;
      readonly before: bigint;
      readonly after: bigint;
      readonly validate: boolean;
      readonly sizeBefore: number;
      readonly sizeAfter: number;
      /** The sizes differ, and the types do not allow loading the other size instead. */
      readonly sizesClash: boolean;
    };

export class CoreRelocator {
  readonly #ext: BtfExt;
  readonly #local: Btf | undefined;
  readonly #target: Btf | undefined;
  #comparison: Comparison | undefined;
  /** By type id of the object. */
  readonly #candidates = new Map<number, readonly number[]>();

  constructor(ext: BtfExt, local: Btf | undefined, target: Btf | undefined) {
    this.#ext = ext;
    this.#local = local;
    this.#target = target;
  }

  /**
   * Applies the relocations of a function to its code, in place.
   * @throws ObjectError `core_target_missing`, `core_ambiguous`, `bad_core_relocation`, `bad_btf`.
   */
  relocate(fn: ObjectFunction, code: Uint8Array): void {
    const local = this.#local;
    if (local === undefined) return;
    for (const relocation of this.#ext.get(fn.section.name)?.coreRelocations ?? []) {
      if (relocation.insn < fn.start || relocation.insn >= fn.start + fn.length) continue;
      try {
        patch(code, relocation.insn - fn.start, this.#resolve(local, relocation, fn));
      } catch (error) {
        if (!(error instanceof ObjectError) || error.details.symbol !== undefined) throw error;
        throw new ObjectError(
          error.code,
          `function ${fn.name}, instruction ${relocation.insn} of ${fn.section.name}: ${error.message}`,
          { ...error.details, section: fn.section.name, symbol: fn.name, offset: relocation.insn * 8 },
          { cause: error },
        );
      }
    }
  }

  #resolve(local: Btf, relocation: CoreRelocation, fn: ObjectFunction): CorePatch {
    const spec = parseSpec(local, relocation);
    if (relocation.kind === 'type_id_local') {
      const value = BigInt(spec.root);
      return {
        poison: false,
        before: value,
        after: value,
        validate: false,
        sizeBefore: 0,
        sizeAfter: 0,
        sizesClash: false,
      };
    }
    const name = local.name(relocation.typeId);
    if (name === '') {
      throw new ObjectError(
        'bad_core_relocation',
        `a relocation against an anonymous ${local.kind(relocation.typeId)} cannot be resolved`,
      );
    }
    const target = this.#targetBtf(relocation, name, fn);
    const comparison = (this.#comparison ??= new Comparison(local, target));
    const before = resolveValue(relocation, spec);
    let best: { readonly id: number; readonly spec: AccessSpec; readonly patch: CorePatch } | undefined;
    const left: number[] = [];
    for (const id of this.#find(local, target, relocation.typeId)) {
      const match = matchSpec(spec, relocation, target, id, comparison);
      if (match === undefined) continue;
      const candidate = makePatch(local, target, before, resolveValue(relocation, match));
      if (best !== undefined && (best.spec.bitOffset !== match.bitOffset || !samePatch(best.patch, candidate))) {
        throw new ObjectError(
          'core_ambiguous',
          `${relocation.kind} of ${name}: target types ${best.id} and ${id} both fit, but disagree`,
          { type: name, candidates: [best.id, id] },
        );
      }
      best ??= { id, spec: match, patch: candidate };
      left.push(id);
    }
    if (left.length > 0) this.#candidates.set(relocation.typeId, left);
    return best?.patch ?? makePatch(local, target, before, resolveValue(relocation, undefined));
  }

  #targetBtf(relocation: CoreRelocation, name: string, fn: ObjectFunction): Btf {
    if (this.#target !== undefined) return this.#target;
    throw new ObjectError(
      'core_target_missing',
      `function ${fn.name} (section ${fn.section.name}) depends on the layout of ${this.#local?.kind(relocation.typeId)} ${name} in the kernel it will see (CO-RE). Pass that kernel's types as targetBtf, for instance the contents of /sys/kernel/btf/vmlinux`,
      { section: fn.section.name, symbol: fn.name, offset: relocation.insn * 8, type: name },
    );
  }

  #find(local: Btf, target: Btf, typeId: number): readonly number[] {
    let ids = this.#candidates.get(typeId);
    if (ids === undefined) {
      const wanted = essentialName(local.name(typeId));
      const kind = local.kind(typeId);
      ids = target.findByPrefix(
        wanted,
        (name, id) => kindsCompatible(kind, target.kind(id)) && essentialName(name) === wanted,
      );
      this.#candidates.set(typeId, ids);
    }
    return ids;
  }
}

/** Undefined asks for poison. `spec` is undefined where the target has nothing that fits. */
function resolveValue(relocation: CoreRelocation, spec: AccessSpec | undefined): Resolved | undefined {
  if (isFieldKind(relocation.kind)) return resolveField(relocation, spec);
  if (isEnumKind(relocation.kind)) return resolveEnumValue(relocation, spec);
  switch (relocation.kind) {
    case 'type_exists':
    case 'type_matches':
      return plain(spec === undefined ? 0n : 1n);
    case 'type_size':
      return plain(spec === undefined ? 0n : BigInt(spec.btf.sizeOf(spec.root)));
    default:
      // type_id_target: ids change when objects are linked, so what the compiler wrote says nothing.
      return { ...plain(spec === undefined ? 0n : BigInt(spec.root)), validate: false };
  }
}

function plain(value: bigint): Resolved {
  return { value: BigInt.asUintN(64, value), size: 0, type: 0, validate: true };
}

function resolveEnumValue(relocation: CoreRelocation, spec: AccessSpec | undefined): Resolved | undefined {
  if (relocation.kind === 'enumval_exists') return plain(spec === undefined ? 0n : 1n);
  const accessor = spec?.path[0];
  if (spec === undefined || accessor === undefined) return undefined;
  const type = spec.btf.type(accessor.type);
  const value = type.kind === 'enum' || type.kind === 'enum64' ? type.values[accessor.index] : undefined;
  if (value === undefined) return undefined;
  // Older compilers do not say that an enum is signed; libbpf takes all 32-bit values as signed, so that -1 stays -1.
  return plain(type.kind === 'enum' ? BigInt.asIntN(32, value.value) : value.value);
}

function resolveField({ kind }: CoreRelocation, spec: AccessSpec | undefined): Resolved | undefined {
  if (kind === 'field_exists') return plain(spec === undefined ? 0n : 1n);
  const last = spec?.path.at(-1);
  if (spec === undefined || last === undefined) return undefined;
  const { btf, bitOffset } = spec;
  if (last.name === undefined) {
    if (kind === 'field_byte_size') return plain(BigInt(btf.sizeOf(last.type)));
    if (kind !== 'field_byte_offset') {
      throw new ObjectError('bad_core_relocation', `${kind} can only be asked of a member, not of an array element`);
    }
    const size = btf.sizeOf(elementOf(btf, last.type));
    return { ...plain(BigInt(Math.floor(bitOffset / 8))), size, type: last.type };
  }
  const composite = btf.type(last.type);
  if (composite.kind !== 'struct' && composite.kind !== 'union') return undefined;
  const member = composite.members[last.index]!;
  const typeId = btf.resolve(member.type);
  const type = btf.type(typeId);
  const isBitfield = member.bitSize > 0;
  let byteSize = btf.sizeOf(typeId);
  let byteOffset = Math.floor(bitOffset / 8);
  let bitSize = byteSize * 8;
  if (isBitfield) {
    bitSize = member.bitSize;
    ({ byteSize, byteOffset } = bitfieldBytes(byteSize, bitOffset, bitSize));
  }
  // For bit-fields the compiler may have chosen other bytes than we do.
  const result = (value: number): Resolved => ({ ...plain(BigInt(value)), validate: !isBitfield });
  switch (kind) {
    case 'field_byte_offset': {
      if (isBitfield) return result(byteOffset);
      const element = elementOf(btf, typeId);
      return { ...result(byteOffset), size: btf.sizeOf(element), type: element };
    }
    case 'field_byte_size':
      return result(byteSize);
    case 'field_signed': {
      const signed = (type.kind === 'int' || type.kind === 'enum' || type.kind === 'enum64') && type.signed;
      return plain(signed ? 1n : 0n);
    }
    case 'field_lshift_u64':
      return result((64 - (bitOffset + bitSize - byteOffset * 8)) >>> 0);
    default:
      return plain(BigInt((64 - bitSize) >>> 0));
  }
}

/** The naturally aligned bytes that hold a whole bit-field: the declared type's, or twice as many until it fits. */
function bitfieldBytes(declared: number, bitOffset: number, bitSize: number): { byteSize: number; byteOffset: number } {
  for (let byteSize = declared; byteSize >= 1 && byteSize <= 8; byteSize *= 2) {
    const byteOffset = Math.floor(bitOffset / 8 / byteSize) * byteSize;
    if (bitOffset + bitSize - byteOffset * 8 <= byteSize * 8) return { byteSize, byteOffset };
  }
  throw new ObjectError(
    'bad_core_relocation',
    `a bit-field of ${bitSize} bits at bit ${bitOffset} fits no load of up to 8 bytes`,
  );
}

/** What an array holds, through all its dimensions. */
function elementOf(btf: Btf, id: number): number {
  let at = btf.resolve(id);
  for (let depth = 0; depth < 64; depth++) {
    const type = btf.type(at);
    if (type.kind !== 'array') return at;
    at = btf.resolve(type.type);
  }
  throw new ObjectError('bad_btf', `BTF type ${id} nests arrays more than 64 deep`, { type: id });
}

function makePatch(local: Btf, target: Btf, before: Resolved | undefined, after: Resolved | undefined): CorePatch {
  if (before === undefined || after === undefined) return { poison: true };
  return {
    poison: false,
    before: before.value,
    after: after.value,
    validate: before.validate,
    sizeBefore: before.size,
    sizeAfter: after.size,
    sizesClash: before.size !== after.size && !mayResize(local, before.type, target, after.type),
  };
}

/** Pointers (a kernel's may be narrower than BPF's) and unsigned integers may be loaded with the target's size. */
function mayResize(local: Btf, before: number, target: Btf, after: number): boolean {
  const ours = local.resolved(before);
  const theirs = target.resolved(after);
  if (ours.kind === 'ptr' && theirs.kind === 'ptr') return true;
  return ours.kind === 'int' && theirs.kind === 'int' && !ours.signed && !theirs.signed;
}

function samePatch(a: CorePatch, b: CorePatch): boolean {
  return a.poison === b.poison && (a.poison || b.poison || a.after === b.after);
}
