/**
 * Calls of kernel functions (kfuncs): arguments against the function's signature, what the call does to registers and
 * stack, and what it returns. The kernel's `check_kfunc_call`.
 */
import type { CallKfunc } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { cloneDynptr, type DynptrUse, sliceOf, useDynptr } from './dynptr.ts';
import { checkReadWrite } from './global-functions.ts';
import { forgetCallerSaved, forgetPackets } from './helper-call.ts';
import { type IteratorUse, splitAtNext, useIterator } from './iterators.ts';
import { castTo } from './kernel-structures.ts';
import type { KfuncArgument, KfuncSignature } from './kfunc-signature.ts';
import { checkNoLockAtCall } from './locks.ts';
import { checkContextPointer, packetWritable } from './memory-access.ts';
import { needRegister } from './precision.ts';
import { kindName, type RegisterState, register, UNKNOWN_SCALAR } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';

/** Largest buffer. */
const MAX_SIZE = 1n << 29n;

/** What the arguments told. */
interface Call {
  readonly signature: KfuncSignature;
  iterator: IteratorUse | undefined;
  dynptr: DynptrUse | undefined;
  size: number;
  /** What a cast gives. */
  cast: RegisterState | undefined;
}

function signatureOf(a: Analysis, i: CallKfunc): KfuncSignature {
  const name = i.name ?? `#${i.btfId}`;
  const signature = a.options.kfuncs?.get(name);
  const text = `calling kernel function ${name} is not allowed`;
  if (signature === undefined) {
    const reason = a.options.refusedKfuncs?.get(name);
    const why = reason === undefined ? '' : `: ${reason}`;
    return a.fail('unknown_kfunc', text, 'EACCES', `Switchyard does not provide the kernel function ${name}${why}.`);
  }
  if (!signature.programTypes.includes(a.program.type))
    a.fail('helper_not_allowed', text, 'EACCES', `Programs of type ${a.program.type} may not call ${name}.`);
  return signature;
}

/** Checks the call at the current instruction and applies its effects. */
export function executeKfuncCall(a: Analysis, i: CallKfunc): void {
  const signature = signatureOf(a, i);
  if (!signature.args.some(({ type }) => type === 'iterator')) checkNoLockAtCall(a, 'helper');
  const call: Call = { signature, iterator: undefined, dynptr: undefined, size: 0, cast: undefined };
  if (signature.returns.type === 'slice') checkSliceAllowed(a, signature.returns.writable);
  signature.args.forEach((argument, index) => {
    checkArgument(a, call, argument, index + 1);
  });
  enterRegion(a, signature);
  if (signature.changesPacket === true) {
    a.facts.changesPacket = true;
    forgetPackets(a);
  }
  forgetCallerSaved(a);
  a.log.touchRegister(0);
  returnValue(a, call);
}

function returnValue(a: Analysis, call: Call): void {
  const { returns } = call.signature;
  switch (returns.type) {
    case 'scalar':
      a.write(0, UNKNOWN_SCALAR);
      return;
    case 'void':
      return;
    case 'element': {
      const use = call.iterator!;
      const element = register('memory', {
        size: returns.size,
        readOnly: true,
        nullable: true,
        id: a.newId(),
        reference: use.iterator.reference,
      });
      splitAtNext(a, use, element);
      return;
    }
    case 'cast':
      a.write(0, call.cast!);
      return;
    case 'slice':
      a.write(0, sliceOf(a, call.dynptr!, call.size, returns.writable));
  }
}

function checkArgument(a: Analysis, call: Call, argument: KfuncArgument, number: number): void {
  const r = a.state.registers[number]!;
  a.log.touchRegister(number);
  switch (argument.type) {
    case 'scalar':
      checkScalar(a, number, r);
      return;
    case 'constSize':
      checkScalar(a, number, r);
      call.size = constantOf(a, number, r);
      return;
    case 'context':
      if (r.kind !== 'context')
        a.fail('invalid_argument', `arg#${number - 1} expected pointer to ctx, but got ${kindName(r)}`, 'EINVAL');
      checkContextPointer(a, number, r);
      return;
    case 'iterator':
      call.iterator = useIterator(a, number, argument);
      return;
    case 'dynptr':
      call.dynptr = useDynptr(a, number, argument);
      return;
    case 'dynptrClone':
      cloneDynptr(a, number, call.dynptr!);
      return;
    case 'buffer':
      checkBuffer(a, call, number, r, argument);
      return;
    case 'bufferSize':
      return;
    case 'fixedMemory':
      if (!isNull(r)) checkReadWrite(a, number, r, argument.size);
      else needRegister(a, number);
      return;
    case 'unsafeText':
    case 'anything':
      // The kernel does not look at what is cast; here a register that nothing was written to may differ by backend.
      if (r.kind === 'uninitialized') a.fail('uninitialized_register', `R${number} !read_ok`);
      return;
    case 'typeId':
      checkScalar(a, number, r);
      call.cast = castTo(a, call.signature.name, constantOf(a, number, r));
  }
}

function checkScalar(a: Analysis, number: number, r: RegisterState): void {
  if (r.kind !== 'scalar') a.fail('invalid_argument', `R${number} is not a scalar`, 'EINVAL');
}

function constantOf(a: Analysis, number: number, r: RegisterState): number {
  if (!isConstant(r.value)) a.fail('invalid_argument', `R${number} must be a known constant`, 'EINVAL');
  needRegister(a, number);
  return Number(BigInt.asUintN(32, constantValue(r.value)));
}

const isNull = (r: RegisterState): boolean =>
  r.kind === 'scalar' && isConstant(r.value) && constantValue(r.value) === 0n;

/** A buffer and, in the register behind it, its size. */
function checkBuffer(
  a: Analysis,
  call: Call,
  number: number,
  r: RegisterState,
  argument: Extract<KfuncArgument, { readonly type: 'buffer' }>,
): void {
  const size = a.state.registers[number + 1]!;
  a.log.touchRegister(number + 1);
  if (argument.optional === true && isNull(r)) {
    needRegister(a, number);
  } else {
    a.trailer = `arg#${number - 1} arg#${number} memory, len pair leads to invalid memory access`;
    checkSized(a, number, r, size);
    a.trailer = '';
  }
  if (argument.constant !== true) return;
  checkScalar(a, number + 1, size);
  call.size = constantOf(a, number + 1, size);
}

function checkSized(a: Analysis, number: number, r: RegisterState, size: RegisterState): void {
  const name = `R${number + 1}`;
  if (size.kind !== 'scalar') a.fail('invalid_argument', `${name} type=${kindName(size)} expected=scalar`);
  if (size.value.smin < 0n)
    a.fail('invalid_argument', `${name} min value is negative, either use unsigned or 'var &= const'`);
  if (size.value.umax >= MAX_SIZE)
    a.fail(
      'invalid_argument',
      `${name} unbounded memory access, use 'var &= const' or 'if (var < const)'`,
      'EACCES',
      'Bound the size before the call.',
    );
  needRegister(a, number + 1);
  const bytes = Number(size.value.umax);
  if (isNull(r) && bytes === 0) return;
  checkReadWrite(a, number, r, bytes);
}

function checkSliceAllowed(a: Analysis, writable: boolean): void {
  if (writable && !packetWritable(a))
    a.fail('invalid_argument', 'the prog does not allow writes to packet data', 'EINVAL', 'Use bpf_dynptr_slice.');
}

function enterRegion(a: Analysis, { name, region }: KfuncSignature): void {
  const { state } = a;
  switch (region) {
    case 'rcuLock':
      if (state.rcuDepth > 0) a.fail('invalid_argument', `nested rcu read lock (kernel function ${name})`, 'EINVAL');
      state.rcuDepth++;
      return;
    case 'rcuUnlock':
      if (state.rcuDepth === 0)
        a.fail('invalid_argument', `unmatched rcu read unlock (kernel function ${name})`, 'EINVAL');
      state.rcuDepth--;
      return;
    case 'preemptDisable':
      state.preemptDepth++;
      return;
    case 'preemptEnable':
      if (state.preemptDepth === 0)
        a.fail('invalid_argument', `unmatched attempt to enable preemption (kernel function ${name})`, 'EINVAL');
      state.preemptDepth--;
      return;
    default:
  }
}
