/**
 * Global functions: verified once, from their BTF types, whatever the callers pass; so callers are checked against the
 * types and need not be verified with the body. The kernel's `btf_check_func_arg_match`; what they take: `global-arguments.ts`.
 */

import type { Register } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { useDynptr } from './dynptr.ts';
import { type GlobalArgument, globalArguments } from './global-arguments.ts';
import { forgetCallerSaved, forgetPackets } from './helper-call.ts';
import { structurePointer } from './kernel-structures.ts';
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
import { kindName, type RegisterState, register, UNKNOWN_SCALAR, UNTRUSTED_MEMORY, withFields } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';
import { clobberStack, readStackRange, stackBounds } from './stack.ts';

/** Registers r1.. that the function's own verification starts with. */
export function initialArguments(a: Analysis, index: number): RegisterState[] {
  return globalArguments(a, index).map(argument => {
    if (argument.type === 'scalar' || argument.type === 'arena') return UNKNOWN_SCALAR;
    if (argument.type === 'dynptr') return register('constDynptr', { id: a.newId() });
    if (argument.type === 'untrusted')
      return argument.structure === 0 ? UNTRUSTED_MEMORY : structurePointer(a.program.targetBtf!, argument.structure);
    if (argument.type === 'context') return register(a.program.type === 'raw' ? 'raw' : 'context');
    const { size, nullable } = argument;
    return register('memory', { size, nullable, id: nullable ? a.newId() : 0 });
  });
}

/** Checks a call of a global function and applies what it may do. */
export function checkGlobalCall(a: Analysis, index: number): void {
  const subprogram = a.cfg.subprograms[index]!;
  a.trailer = `Caller passes invalid args into func#${index} ('${subprogram.name}')`;
  globalArguments(a, index).forEach((argument, position) => {
    checkArgument(a, (position + 1) as Register, argument);
  });
  a.trailer = '';
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
        a.fail('invalid_argument', `arg#${number - 1} expects pointer to ctx`, 'EINVAL');
      checkContextPointer(a, number, r);
      return;
    case 'dynptr':
      useDynptr(a, number, argument);
      return;
    case 'untrusted':
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
  // One that may be null may be passed on as such, if it is good for what it points to.
  checkReadWrite(a, number, r.nullable ? withFields(r, { nullable: false }) : r, size);
}

/** May a function read and write `size` bytes at the pointer? What lies on the stack is unknown afterwards. */
export function checkReadWrite(a: Analysis, number: number, r: RegisterState, size: number): void {
  switch (r.nullable ? 'none' : r.kind) {
    case 'stack': {
      const [low, high] = stackBounds(a, number, r, 0, size, 'read');
      readStackRange(a, r.frame, low, high, size, number, true);
      clobberStack(a, r.frame, low, high - low + size, 'function');
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
