/**
 * When CO-RE takes two types, one of the object and one of the target, for the same: by kind and structure for
 * `type_exists` and the like (`typesCompatible`), by members too for `type_matches` (`typesMatch`), loosely for the
 * type of a field (`fieldsCompatible`).
 *
 * Invariant: no walk is deeper than 32, and all walks of one `Comparison` together take at most a million steps, so
 * cyclic or maliciously shared types end in an error.
 */
import type { Btf, BtfComposite, BtfKind, BtfType } from './btf.ts';
import { ObjectError } from './errors.ts';

const MAX_DEPTH = 32;
const MAX_STEPS = 1_000_000;

/** The part of a name before its flavor: `task_struct___old` and `task_struct` mean the same kernel type. */
export function essentialName(name: string): string {
  // A separator is exactly three underscores with something else on both sides; the last one counts.
  for (let i = name.length - 5; i >= 0; i--) {
    if (name[i] !== '_' && name.startsWith('___', i + 1) && name[i + 4] !== '_') return name.slice(0, i + 1);
  }
  return name;
}

const isEnum = (kind: BtfKind): boolean => kind === 'enum' || kind === 'enum64';

export function kindsCompatible(local: BtfKind, target: BtfKind): boolean {
  return local === target || (isEnum(local) && isEnum(target));
}

function isComposite(type: BtfType): type is BtfComposite {
  return type.kind === 'struct' || type.kind === 'union';
}

export class Comparison {
  readonly #local: Btf;
  readonly #target: Btf;
  #steps = 0;

  constructor(local: Btf, target: Btf) {
    this.#local = local;
    this.#target = target;
  }

  /** Types of a field on both sides: composites and numbers among themselves, enums by name, arrays by element. */
  fieldsCompatible(localId: number, targetId: number): boolean {
    let local = this.#local.resolved(localId);
    let target = this.#target.resolved(targetId);
    for (let depth = 0; ; depth++) {
      this.step(depth);
      if (isComposite(local) && isComposite(target)) return true;
      if (!kindsCompatible(local.kind, target.kind)) return false;
      switch (local.kind) {
        case 'ptr':
        case 'float':
          return true;
        case 'fwd':
        case 'enum':
        case 'enum64': {
          const ours = essentialName(local.name);
          const theirs = essentialName('name' in target ? target.name : '');
          return ours === '' || theirs === '' || ours === theirs;
        }
        case 'int':
          return target.kind === 'int' && local.offset === 0 && target.offset === 0;
        case 'array':
          if (target.kind !== 'array') return false;
          local = this.#local.resolved(local.type);
          target = this.#target.resolved(target.type);
          continue;
        default:
          return false;
      }
    }
  }

  /** Kinds agree all the way through pointers, arrays and prototypes; sizes and members do not matter. */
  typesCompatible(localId: number, targetId: number, depth = 0): boolean {
    // Only where the walk starts do typedefs count as themselves.
    if (depth === 0 && !kindsCompatible(this.#local.kind(localId), this.#target.kind(targetId))) return false;
    let local = this.#local.resolved(localId);
    let target = this.#target.resolved(targetId);
    for (let at = depth; ; at++) {
      this.step(at);
      if (!kindsCompatible(local.kind, target.kind)) return false;
      switch (local.kind) {
        case 'void':
        case 'struct':
        case 'union':
        case 'enum':
        case 'enum64':
        case 'fwd':
          return true;
        case 'int':
          return target.kind === 'int' && local.offset === 0 && target.offset === 0;
        case 'ptr':
        case 'array':
          if (target.kind !== 'ptr' && target.kind !== 'array') return false;
          local = this.#local.resolved(local.type);
          target = this.#target.resolved(target.type);
          continue;
        case 'func_proto': {
          if (target.kind !== 'func_proto' || !this.#sameArity(local, target)) return false;
          const theirs = target.params;
          if (!local.params.every((param, i) => this.typesCompatible(param.type, theirs[i]!.type, at + 1)))
            return false;
          local = this.#local.resolved(local.returnType);
          target = this.#target.resolved(target.returnType);
          continue;
        }
        default:
          return false;
      }
    }
  }

  /** Names agree, and the target has every member or value that the object's type has, with matching types. */
  typesMatch(localId: number, targetId: number, behindPointer = false, depth = 0): boolean {
    let local = this.#local.resolved(localId);
    let target = this.#target.resolved(targetId);
    let viaPointer = behindPointer;
    for (let at = depth; ; at++) {
      this.step(at);
      if (!namesMatch(nameOf(local), nameOf(target))) return false;
      switch (local.kind) {
        case 'void':
          return target.kind === 'void';
        case 'fwd':
          if (target.kind === 'fwd') return local.forwards === target.forwards;
          return viaPointer && target.kind === local.forwards;
        case 'enum':
        case 'enum64': {
          if (target.kind !== 'enum' && target.kind !== 'enum64') return false;
          const names = new Set(target.values.map(value => essentialName(value.name)));
          return local.values.every(value => names.has(essentialName(value.name)));
        }
        case 'struct':
        case 'union':
          if (viaPointer) return target.kind === 'fwd' ? target.forwards === local.kind : target.kind === local.kind;
          return target.kind === local.kind && this.#membersMatch(local, target, at + 1);
        case 'int':
          return target.kind === 'int' && local.bits === target.bits && local.signed === target.signed;
        case 'ptr':
          if (target.kind !== 'ptr') return false;
          viaPointer = true;
          local = this.#local.resolved(local.type);
          target = this.#target.resolved(target.type);
          continue;
        case 'array':
          if (target.kind !== 'array' || local.length !== target.length) return false;
          local = this.#local.resolved(local.type);
          target = this.#target.resolved(target.type);
          continue;
        case 'func_proto': {
          if (target.kind !== 'func_proto' || !this.#sameArity(local, target)) return false;
          const theirs = target.params;
          const via = viaPointer;
          if (!local.params.every((param, i) => this.typesMatch(param.type, theirs[i]!.type, via, at + 1)))
            return false;
          local = this.#local.resolved(local.returnType);
          target = this.#target.resolved(target.returnType);
          continue;
        }
        default:
          return false;
      }
    }
  }

  #membersMatch(local: BtfComposite, target: BtfType, depth: number): boolean {
    if (!isComposite(target) || local.members.length > target.members.length) return false;
    return local.members.every(ours =>
      target.members.some(theirs => {
        this.step(depth);
        return namesMatch(ours.name, theirs.name) && this.typesMatch(ours.type, theirs.type, false, depth);
      }),
    );
  }

  #sameArity(
    local: Extract<BtfType, { kind: 'func_proto' }>,
    target: Extract<BtfType, { kind: 'func_proto' }>,
  ): boolean {
    return local.params.length === target.params.length && local.variadic === target.variadic;
  }

  /** Counts one step of any walk over the types. @throws ObjectError `bad_core_relocation` past the limits. */
  step(depth: number): void {
    if (depth > MAX_DEPTH || ++this.#steps > MAX_STEPS) {
      throw new ObjectError('bad_core_relocation', `types nest deeper than ${MAX_DEPTH} or are too many to compare`);
    }
  }
}

function nameOf(type: BtfType): string {
  return 'name' in type ? type.name : '';
}

function namesMatch(local: string, target: string): boolean {
  return essentialName(local) === essentialName(target);
}
