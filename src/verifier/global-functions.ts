/**
 * Global functions: verified once, from their BTF types, whatever the callers pass; so callers are checked against the
 * types and need not be verified with the body. The kernel's `btf_prepare_func_args` and `btf_check_func_arg_match`.
 */

import type { Register } from '../isa/instruction.ts';
import type { Btf } from '../object/btf.ts';
import type { Analysis } from './analysis.ts';
import { forgetCallerSaved, forgetPackets } from './helper-call.ts';
import { checkNoLockAtCall } from './locks.ts';
import {
  checkContextPointer,
  checkMapValueAccess,
  checkMemoryAccess,
  checkPacketAccess,
  checkRawAccess,
  checkWritableMemory,
} from './memory-access.ts';
import { needRegister } from './precision.ts';
import { kindName, type RegisterState, register, UNKNOWN_SCALAR } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';
import { clobberStack, readStackRange, stackBounds } from './stack.ts';

type GlobalArgument =
  | { readonly type: 'scalar' }
  | { readonly type: 'context' }
  /** An arena pointer, or a number to be cast to one. */
  | { readonly type: 'arena' }
  /** Readable and writable memory of `size` bytes, or null where `nullable`. */
  | { readonly type: 'memory'; readonly size: number; readonly nullable: boolean };

/** Structure that a context pointer points to in C. */
const CONTEXT_STRUCTURES: Readonly<Record<string, string>> = { xdp: 'xdp_md' };

/** Tags that the function's arguments carry (`__arg_nonnull` and the like). */
function argumentTags(btf: Btf, functionId: number): string[][] {
  const tags: string[][] = [[], [], [], [], []];
  for (let id = 1; id < btf.size; id++) {
    if (btf.kind(id) !== 'decl_tag') continue;
    const tag = btf.type(id);
    if (tag.kind === 'decl_tag' && tag.type === functionId && tag.component >= 0) tags[tag.component]?.push(tag.name);
  }
  return tags;
}

function isScalar(btf: Btf, id: number): boolean {
  const { kind } = btf.resolved(id);
  return kind === 'int' || kind === 'enum' || kind === 'enum64';
}

/** What the function of subprogram `index` takes, from BTF. Refuses types that are not supported. */
function globalArguments(a: Analysis, index: number): GlobalArgument[] {
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
  if (!isScalar(btf, prototype.returnType))
    a.fail(
      'unsupported',
      `Global function ${subprogram.name}() doesn't return scalar. Only those are supported.`,
      'EINVAL',
      'Return an integer, or make the function static.',
    );
  const tags = argumentTags(btf, subprogram.btfId);
  return prototype.params.map((param, position) =>
    globalArgument(a, btf, subprogram.name, param.type, position, tags[position]!),
  );
}

function globalArgument(
  a: Analysis,
  btf: Btf,
  name: string,
  id: number,
  position: number,
  tags: readonly string[],
): GlobalArgument {
  const type = btf.resolved(id);
  if (type.kind !== 'ptr') {
    if (isScalar(btf, id)) return { type: 'scalar' };
    return a.fail('unsupported', `Arg#${position} type ${type.kind} in ${name}() is not supported yet.`, 'EINVAL');
  }
  if (tags.includes('arg:arena')) return { type: 'arena' };
  if (tags.includes('arg:ctx')) return { type: 'context' };
  const unknown = tags.find(tag => tag.startsWith('arg:') && tag !== 'arg:nonnull' && tag !== 'arg:nullable');
  if (unknown !== undefined)
    return a.fail('unsupported', `Arg#${position} tag ${unknown} in ${name}() is not supported`, 'EOPNOTSUPP');
  const pointed = btf.resolved(type.type);
  if (pointed.kind === 'struct' && pointed.name === (CONTEXT_STRUCTURES[a.program.type] ?? '__sk_buff'))
    return { type: 'context' };
  if (pointed.kind === 'void' || pointed.kind === 'fwd' || pointed.kind === 'func_proto')
    return a.fail(
      'unsupported',
      `arg#${position} reference type('${pointed.kind}') size cannot be determined`,
      'EINVAL',
    );
  return { type: 'memory', size: btf.sizeOf(type.type), nullable: !tags.includes('arg:nonnull') };
}

/** Registers r1.. that the function's own verification starts with. */
export function initialArguments(a: Analysis, index: number): RegisterState[] {
  return globalArguments(a, index).map(argument => {
    if (argument.type === 'scalar' || argument.type === 'arena') return UNKNOWN_SCALAR;
    if (argument.type === 'context') return register(a.program.type === 'raw' ? 'raw' : 'context');
    const { size, nullable } = argument;
    return register('memory', { size, nullable, id: nullable ? a.newId() : 0 });
  });
}

/** Checks a call of a global function and applies what it may do. */
export function checkGlobalCall(a: Analysis, index: number): void {
  const subprogram = a.cfg.subprograms[index]!;
  globalArguments(a, index).forEach((argument, position) => {
    checkArgument(a, (position + 1) as Register, argument);
  });
  checkNoLockAtCall(a, 'global');
  if (a.log.level > 0) a.log.write(`Func#${index} ('${subprogram.name}') is global and assumed valid.`);
  a.reachedGlobals.add(index);
  if (a.packetChangers.has(index)) forgetPackets(a);
  forgetCallerSaved(a);
  a.write(0, UNKNOWN_SCALAR);
}

function checkArgument(a: Analysis, number: Register, argument: GlobalArgument): void {
  const r = a.read(number);
  switch (argument.type) {
    case 'scalar':
      if (r.kind !== 'scalar') a.fail('invalid_argument', `R${number} is not a scalar`, 'EINVAL');
      return;
    case 'arena':
      if (r.kind !== 'scalar' && r.kind !== 'arena')
        a.fail('invalid_argument', `R${number} is not a pointer to arena or scalar.`, 'EINVAL');
      return;
    case 'context':
      if (r.kind !== (a.program.type === 'raw' ? 'raw' : 'context'))
        a.fail('invalid_argument', `R${number} expected pointer to ctx, but got ${kindName(r)}`, 'EINVAL');
      checkContextPointer(a, number, r);
      return;
    case 'memory':
      checkMemory(a, number, r, argument.size, argument.nullable);
  }
}

function checkMemory(a: Analysis, number: number, r: RegisterState, size: number, nullable: boolean): void {
  const isNull = r.kind === 'scalar' && isConstant(r.value) && constantValue(r.value) === 0n;
  if ((isNull || r.nullable) && !nullable)
    a.fail(
      'invalid_argument',
      `arg#${number - 1} is expected to be non-NULL`,
      'EINVAL',
      'Check the pointer for NULL before the call.',
    );
  if (isNull) {
    needRegister(a, number);
    return;
  }
  checkReadWrite(a, number, r, size);
}

/** May a function read and write `size` bytes at the pointer? What lies on the stack is unknown afterwards. */
export function checkReadWrite(a: Analysis, number: number, r: RegisterState, size: number): void {
  switch (r.nullable ? 'none' : r.kind) {
    case 'stack': {
      const [low, high] = stackBounds(a, number, r, 0, size, 'read');
      readStackRange(a, r.frame, low, high, size, number, true);
      clobberStack(a, r.frame, low, high - low + size);
      return;
    }
    case 'mapValue':
      checkMapValueAccess(a, number, r, 0, size, 'read');
      checkMapValueAccess(a, number, r, 0, size, 'write');
      return;
    case 'memory':
    case 'ringbufMemory':
      checkMemoryAccess(a, number, r, 0, size);
      checkWritableMemory(a, number, r);
      return;
    case 'packet':
    case 'packetMeta':
      if (a.program.type !== 'xdp' && a.program.type !== 'sched_cls' && a.program.type !== 'sched_act')
        a.fail('invalid_argument', 'cannot write into packet');
      checkPacketAccess(a, number, r, 0, size);
      return;
    case 'raw':
      checkRawAccess(a, number, r, 0, size);
      return;
    default:
      a.fail('invalid_argument', `R${number} type=${kindName(r)} expected=fp`);
  }
}
