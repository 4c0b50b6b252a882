/** BTF types as people read them: in C's notation. */
import type { Btf } from './btf.ts';
import { ObjectError } from './errors.ts';

const MAX_DEPTH = 64;
const MAX_NAME_NODES = 1000;

/**
 * A type in C's notation: `struct foo *`, `char[16]`, `int (*)(void *, __u32)`. Functions and variables with their name.
 * @throws ObjectError `bad_btf` where there is no such type or it nests too deep.
 */
export function typeName(btf: Btf, id: number): string {
  let nodes = 0;
  /** C declarations wrap around the declared name: `inner` is what has been written so far. */
  const declare = (at: number, inner: string, depth: number): string => {
    if (depth > MAX_DEPTH || ++nodes > MAX_NAME_NODES) {
      throw new ObjectError('bad_btf', `BTF type ${id} nests too deep to be named`, { type: id });
    }
    const type = btf.type(at);
    const around = (base: string): string =>
      inner === '' || inner.startsWith('[') ? base + inner : `${base} ${inner}`;
    // A star binds less than the brackets and parentheses that follow it.
    const suffixed = (suffix: string): string => (inner.startsWith('*') ? `(${inner})${suffix}` : inner + suffix);
    switch (type.kind) {
      case 'void':
        return around('void');
      case 'ptr':
        return declare(type.type, `*${inner}`, depth + 1);
      case 'array':
        return declare(type.type, suffixed(`[${type.length}]`), depth + 1);
      case 'func_proto': {
        const params = type.params.map(param => declare(param.type, '', depth + 1));
        if (type.variadic) params.push('...');
        return declare(type.returnType, suffixed(`(${params.length === 0 ? 'void' : params.join(', ')})`), depth + 1);
      }
      case 'const':
      case 'volatile':
      case 'restrict':
        // Qualifiers of a pointer stand behind its star, all others before the type.
        if (btf.kind(type.type) === 'ptr') {
          return declare(type.type, inner === '' ? type.kind : `${type.kind} ${inner}`, depth + 1);
        }
        return `${type.kind} ${declare(type.type, inner, depth + 1)}`;
      case 'struct':
      case 'union':
      case 'enum':
      case 'enum64':
        return around(`${type.kind === 'enum64' ? 'enum' : type.kind} ${type.name === '' ? '{...}' : type.name}`);
      case 'fwd':
        return around(`${type.forwards} ${type.name}`);
      case 'func':
      case 'var':
        return declare(type.type, type.name, depth + 1);
      case 'type_tag':
      case 'decl_tag':
        return declare(type.type, inner, depth + 1);
      default:
        return around(type.name);
    }
  };
  return declare(id, '', 0);
}
