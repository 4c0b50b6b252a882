/**
 * What global functions take: their arguments' BTF types and declaration tags (`__arg_ctx`, `__arg_nonnull` ...) as
 * kinds of arguments. The kernel's `btf_prepare_func_args`.
 */
import type { Btf, BtfType } from '../object/btf.ts';
import type { Analysis } from './analysis.ts';
import { isComposite } from './kernel-structures.ts';

export type GlobalArgument =
  | { readonly type: 'scalar' }
  | { readonly type: 'context' }
  /** An arena pointer, or a number to be cast to one. */
  | { readonly type: 'arena' }
  /** A dynptr of whatever kind, which the function may use but not end. */
  | { readonly type: 'dynptr' }
  /**
   * Any address or number; the function reads through it, and gets 0 where there is nothing. `structure`: id of the kernel's
   * structure that it is said to be; 0 for none.
   */
  | { readonly type: 'untrusted'; readonly structure: number }
  /** Readable and writable memory of `size` bytes, or null where `nullable`. */
  | { readonly type: 'memory'; readonly size: number; readonly nullable: boolean };

/** Structure that a context pointer points to in C. */
const CONTEXT_STRUCTURES: Readonly<Record<string, string>> = { xdp: 'xdp_md' };

const TAGS = ['ctx', 'trusted', 'untrusted', 'nonnull', 'nullable', 'arena'] as const;
type Tag = (typeof TAGS)[number];

/** What the arguments of a function are tagged with, less "arg:". */
function argumentTags(btf: Btf, functionId: number): string[][] {
  const tags: string[][] = [[], [], [], [], []];
  for (let id = 1; id < btf.size; id++) {
    if (btf.kind(id) !== 'decl_tag') continue;
    const tag = btf.type(id);
    if (tag.kind !== 'decl_tag' || tag.type !== functionId || tag.component < 0) continue;
    if (tag.name.startsWith('arg:')) tags[tag.component]?.push(tag.name.slice('arg:'.length));
  }
  return tags;
}

function isScalar(type: BtfType): boolean {
  return type.kind === 'int' || type.kind === 'enum' || type.kind === 'enum64';
}

/**
 * What the function of subprogram `index` takes.
 * Refuses types and tags that are not supported, and combinations of tags that make no sense.
 */
export function globalArguments(a: Analysis, index: number): GlobalArgument[] {
  const subprogram = a.cfg.subprograms[index]!;
  const { btf } = a.program;
  if (btf === undefined || subprogram.btfId === undefined)
    a.fail(
      'bad_program',
      `global function ${subprogram.name} has no BTF`,
      'EINVAL',
      'Compile with -g, or make the function static.',
    );
  const type = btf.type(subprogram.btfId);
  const prototype = type.kind === 'func' ? btf.type(type.type) : undefined;
  if (prototype?.kind !== 'func_proto')
    a.fail('bad_program', `BTF type ${subprogram.btfId} of ${subprogram.name} is not a function`, 'EINVAL');
  if (prototype.params.length > 5)
    a.fail(
      'bad_program',
      `Global function ${subprogram.name}() with ${prototype.params.length} > 5 args. Buggy compiler.`,
      'EINVAL',
    );
  if (!isScalar(btf.resolved(prototype.returnType)))
    a.fail(
      'unsupported',
      `Global function ${subprogram.name}() doesn't return scalar. Only those are supported.`,
      'EINVAL',
      'Return an integer, or make the function static.',
    );
  const tags = argumentTags(btf, subprogram.btfId);
  return prototype.params.map((param, position) =>
    new ArgumentReader(a, btf, subprogram.name, position, tags[position]!).read(param.type),
  );
}

class ArgumentReader {
  readonly #a: Analysis;
  readonly #btf: Btf;
  readonly #function: string;
  readonly #position: number;
  readonly #tags: ReadonlySet<Tag>;

  constructor(a: Analysis, btf: Btf, name: string, position: number, tags: readonly string[]) {
    this.#a = a;
    this.#btf = btf;
    this.#function = name;
    this.#position = position;
    const unknown = tags.find(tag => !TAGS.some(known => known === tag));
    if (unknown !== undefined)
      a.fail(
        'bad_program',
        `arg#${position} has unsupported set of tags`,
        'EOPNOTSUPP',
        `Of ${name}()'s argument the tag "arg:${unknown}" is unknown: there are ${TAGS.join(', ')}.`,
      );
    this.#tags = new Set(tags as Tag[]);
  }

  read(id: number): GlobalArgument {
    const type = this.#btf.resolved(id);
    if (type.kind !== 'ptr') return this.#number(type);
    const pointed = this.#btf.resolved(type.type);
    if (this.#tags.has('ctx') || this.#isContext(pointed)) {
      this.#allow(['ctx']);
      if (this.#tags.has('ctx')) this.#checkContext(pointed);
      return { type: 'context' };
    }
    if (pointed.kind === 'struct' && (pointed.name === 'bpf_dynptr' || pointed.name === 'bpf_dynptr_kern')) {
      this.#allow([]);
      return { type: 'dynptr' };
    }
    if (this.#tags.has('trusted')) {
      if (this.#tags.has('nonnull')) this.#refuseCombination();
      this.#structure(pointed);
      return this.#a.fail(
        'unsupported',
        `arg#${this.#position} of ${this.#function}() is a trusted pointer to a structure of the kernel, which is not supported`,
        'EOPNOTSUPP',
        'There are no structures of the kernel here; what may be anything can be tagged untrusted.',
      );
    }
    if (this.#tags.has('untrusted')) {
      this.#alone('untrusted');
      if (pointed.kind === 'void' || isScalar(pointed)) return { type: 'untrusted', structure: 0 };
      return { type: 'untrusted', structure: this.#structure(pointed) };
    }
    if (this.#tags.has('arena')) {
      this.#alone('arena');
      return { type: 'arena' };
    }
    return this.#memory(type.type, pointed);
  }

  #number(type: BtfType): GlobalArgument {
    if (this.#tags.size > 0)
      this.#refuse(`arg#${this.#position} has pointer tag, but is not a pointer type`, 'Tag pointers only.');
    if (isScalar(type)) return { type: 'scalar' };
    return this.#a.fail(
      'unsupported',
      `Arg#${this.#position} type ${kindName(type)} in ${this.#function}() is not supported yet.`,
      'EINVAL',
      'Pass a pointer to it.',
    );
  }

  #memory(id: number, pointed: BtfType): GlobalArgument {
    if (this.#tags.has('nullable')) this.#refuseCombination();
    if (pointed.kind === 'void' || pointed.kind === 'fwd' || pointed.kind === 'func_proto') {
      const name = pointed.kind === 'fwd' ? pointed.name : '';
      this.#refuse(
        `arg#${this.#position} reference type('${kindName(pointed)} ${name}') size cannot be determined: -22`,
        'Point to a complete type.',
      );
    }
    return { type: 'memory', size: this.#btf.sizeOf(id), nullable: !this.#tags.has('nonnull') };
  }

  /** The name of the structure behind the program type's context; a raw program's has none. */
  get #context(): string | undefined {
    const { type } = this.#a.program;
    return type === 'raw' ? undefined : (CONTEXT_STRUCTURES[type] ?? '__sk_buff');
  }

  #isContext(pointed: BtfType): boolean {
    return pointed.kind === 'struct' && pointed.name === this.#context;
  }

  #checkContext(pointed: BtfType): void {
    if (pointed.kind === 'void' || this.#isContext(pointed)) return;
    if (this.#context === undefined)
      this.#refuse(`arg#${this.#position} should be void pointer`, 'The context of a raw program has no type.');
    this.#refuse(
      `arg#${this.#position} should be \`struct ${this.#context} *\``,
      `That is the context of ${this.#a.program.type} programs; a void pointer will do, too.`,
    );
  }

  #allow(tags: readonly Tag[]): void {
    for (const tag of this.#tags) if (!tags.includes(tag)) this.#refuseCombination();
  }

  #alone(tag: Tag): void {
    if (this.#tags.size > 1)
      this.#refuse(
        `arg#${this.#position} ${tag} cannot be combined with any other tags`,
        'Take the other tags away: such a pointer may be null, and is read only with care.',
      );
  }

  #refuseCombination(): never {
    return this.#refuse(
      `arg#${this.#position} has invalid combination of tags`,
      'Memory is nullable unless it is tagged nonnull; contexts and dynptrs never are.',
    );
  }

  /** The id of the kernel's structure of the same name. */
  #structure(pointed: BtfType): number {
    const { targetBtf } = this.#a.program;
    if (targetBtf === undefined)
      return this.#a.fail(
        'unsupported',
        `arg#${this.#position} of ${this.#function}() is a pointer to a structure of the kernel, whose types are not known`,
        'EOPNOTSUPP',
        'Load the object with the BTF of the kernel that is meant (targetBtf).',
      );
    const name = 'name' in pointed ? pointed.name : '';
    const essential = name.replace(/___[^_].*$/, '');
    const ids = isComposite(pointed) && essential !== '' ? targetBtf.findAll(essential, pointed.kind) : [];
    if (ids.length === 1) return ids[0]!;
    return this.#refuse(
      `arg#${this.#position} reference type('${kindName(pointed)} ${name}') ${ids.length === 0 ? 'has no matches' : 'is ambiguous'}`,
      'Name a structure that the kernel has, once.',
    );
  }

  #refuse(text: string, hint: string): never {
    return this.#a.fail('bad_program', text, 'EINVAL', hint);
  }
}

/** As the kernel prints it. */
function kindName(type: BtfType): string {
  return type.kind === 'void' ? 'UNKNOWN' : type.kind.toUpperCase();
}
