/**
 * Reads through pointers to structures of the kernel that bpf_rdonly_cast made: what lies at an offset by the kernel's BTF.
 *
 * Nothing about such a pointer is trusted, so no read can do harm (see `lowering/passes/untrusted.ts`). Types only say
 * whether there is a field, and what a pointer in it points to. The kernel's `check_ptr_to_btf_access` and `btf_struct_walk`.
 */
import type { Btf, BtfComposite, BtfMember, BtfType } from '../object/btf.ts';
import type { Analysis } from './analysis.ts';
import { formatTnum } from './format.ts';
import { type RegisterState, register, UNKNOWN_SCALAR, UNTRUSTED_MEMORY } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';

/** Structures within structures; the kernel's own nest less deep. */
const MAX_DEPTH = 64;

const named = (type: BtfComposite): string => type.name || '(anon)';

export function isComposite(type: BtfType): type is BtfComposite {
  return type.kind === 'struct' || type.kind === 'union';
}

/** An untrusted pointer to the structure of that id. */
export function structurePointer(btf: Btf, id: number): RegisterState {
  const type = btf.type(id);
  return register('untrustedStructure', { structure: { id, name: isComposite(type) ? named(type) : '' } });
}

/** What bpf_rdonly_cast gives for a type id of the kernel that the program was made for. */
export function castTo(a: Analysis, name: string, id: number): RegisterState {
  if (id === 0) return UNTRUSTED_MEMORY;
  const btf = a.program.targetBtf;
  if (btf === undefined)
    return a.fail(
      'unsupported',
      `kernel function ${name} to type ID ${id} needs the types of a kernel`,
      'EOPNOTSUPP',
      'Load the object with the BTF that its type IDs are from (targetBtf), or cast to void (type ID 0).',
    );
  if (id >= btf.size)
    return a.fail(
      'invalid_argument',
      `Unknown type ID ${id} passed to kfunc ${name}`,
      'EINVAL',
      'Cast to a structure.',
    );
  if (!isComposite(btf.type(id)))
    return a.fail(
      'invalid_argument',
      `kfunc ${name} type ID argument must be of a struct or void`,
      'EINVAL',
      'Cast to a structure, or to void (type ID 0).',
    );
  return structurePointer(btf, id);
}

/** Checks a read or write of `size` bytes. @returns what a read gives */
export function accessStructure(
  a: Analysis,
  number: number,
  pointer: RegisterState,
  offset: number,
  size: number,
  type: 'read' | 'write',
): RegisterState {
  const at = pointer.offset + offset;
  const { id, name } = pointer.structure!;
  const who = `R${number} is ptr_${name}`;
  if (at < 0) a.fail('invalid_memory_access', `${who} invalid negative access: off=${at}`, 'EACCES');
  if (!isConstant(pointer.value) || constantValue(pointer.value) !== 0n) {
    const variable = formatTnum(pointer.value.tnum);
    a.fail('invalid_memory_access', `${who} invalid variable offset: off=${at}, var_off=${variable}`, 'EACCES');
  }
  if (type === 'write')
    a.fail(
      'invalid_memory_access',
      'only read is supported',
      'EACCES',
      'Structures that were cast to can only be read.',
    );
  const btf = a.program.targetBtf!;
  const start = btf.type(id);
  return isComposite(start) ? new Walk(a, btf, size).from(start, at) : UNKNOWN_SCALAR;
}

class Walk {
  readonly #a: Analysis;
  readonly #btf: Btf;
  readonly #size: number;
  /** The way led through a union of several members: from there on, numbers may be read beyond a member's end. */
  #inUnion = false;

  constructor(a: Analysis, btf: Btf, size: number) {
    this.#a = a;
    this.#btf = btf;
    this.#size = size;
  }

  from(start: BtfComposite, offset: number): RegisterState {
    let type = start;
    let at = offset;
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (type.kind === 'union' && type.members.length !== 1) this.#inUnion = true;
      const next = at + this.#size > type.size ? this.#behind(type, at) : this.#within(type, at);
      if (!('type' in next)) return next;
      ({ type, at } = next);
    }
    return this.#a.fail('too_complex', `struct ${named(start)} nests more than ${MAX_DEPTH} structures`, 'E2BIG');
  }

  #refuse(text: string): never {
    return this.#a.fail(
      'invalid_memory_access',
      text,
      'EACCES',
      'Read one field at a time, with its size, or cast to void and read what you like.',
    );
  }

  /** Behind the end there may be elements of an array that has no length. */
  #behind(type: BtfComposite, at: number): RegisterState | { type: BtfComposite; at: number } {
    const last = type.members.at(-1);
    const array = last && this.#btf.resolved(last.type);
    const start = last === undefined ? 0 : last.bitOffset >>> 3;
    if (array?.kind === 'array' && array.length === 0 && at >= start) {
      const element = this.#btf.resolved(array.type);
      if (element.kind === 'int') return UNKNOWN_SCALAR;
      if (isComposite(element) && element.size > 0) return { type: element, at: (at - start) % element.size };
    }
    return this.#refuse(`access beyond struct ${named(type)} at off ${at} size ${this.#size}`);
  }

  #within(type: BtfComposite, at: number): RegisterState | { type: BtfComposite; at: number } {
    const end = at + this.#size;
    for (const member of type.members) {
      const start = member.bitOffset >>> 3;
      if (end <= start) break;
      if (member.bitSize > 0) {
        // A bit-field is read whole, or not at all.
        if (at <= start && (member.bitOffset + member.bitSize + 7) >>> 3 <= end) return UNKNOWN_SCALAR;
        continue;
      }
      if (at < start) break;
      const found = this.#member(type, member, start, at);
      if (found !== undefined) return found;
    }
    return this.#a.fail('invalid_memory_access', `struct ${named(type)} doesn't have field at offset ${at}`, 'EINVAL');
  }

  /** @returns undefined where the member ends before `at` */
  #member(
    type: BtfComposite,
    member: BtfMember,
    start: number,
    at: number,
  ): RegisterState | { type: BtfComposite; at: number } | undefined {
    const btf = this.#btf;
    const size = btf.sizeOf(member.type);
    if (at >= start + size) return undefined;
    let id = btf.resolve(member.type);
    let from = start;
    let element = btf.type(id);
    while (element.kind === 'array') {
      id = btf.resolve(element.type);
      element = btf.type(id);
    }
    const elementSize = btf.sizeOf(id);
    if (elementSize < size) from += Math.floor((at - start) / elementSize) * elementSize;
    if (isComposite(element)) return { type: element, at: at - from };
    if (element.kind === 'ptr') {
      if (elementSize !== this.#size || at !== from)
        this.#refuse(
          `cannot access ptr member ${member.name || '(anon)'} with moff ${from} in struct ${named(type)} with off ${at} size ${this.#size}`,
        );
      const pointed = btf.resolve(element.type);
      return isComposite(btf.type(pointed)) ? structurePointer(btf, pointed) : UNTRUSTED_MEMORY;
    }
    if (at + this.#size > start + size && !this.#inUnion)
      this.#refuse(
        `access beyond the end of member ${member.name || '(anon)'} (mend:${start + size}) in struct ${named(type)} with off ${at} size ${this.#size}`,
      );
    return UNKNOWN_SCALAR;
  }
}
