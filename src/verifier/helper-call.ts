/**
 * Calls of helpers: arguments against the helper's signature, what the call does to registers and memory, and what it
 * returns. The kernel's `check_helper_call`.
 */
import type { CallHelper, Register } from '../isa/instruction.ts';
import { MAP_TYPE } from '../maps/uapi.ts';
import type { MapSpec, MapType } from '../object/spec.ts';
import type { Analysis } from './analysis.ts';
import { enterCallback, returnFromTarget } from './calls.ts';
import { checkDynptrHelper, type DynptrUse, dataOf, releaseDynptr, useDynptr } from './dynptr.ts';
import { checkNoLockAtCall, hasLock, useLock } from './locks.ts';
import {
  BPF_F_RDONLY_PROG,
  checkAlignment,
  checkContextPointer,
  checkMapKeyAccess,
  checkMapValueAccess,
  checkMemoryAccess,
  checkPacketAccess,
  checkRawAccess,
  isFrozenData,
} from './memory-access.ts';
import { needRegister } from './precision.ts';
import { acquireReference, checkNothingHeld, checkReleased, releaseReference } from './references.ts';
import {
  isPacketPointer,
  isSocket,
  kindName,
  type RegisterState,
  register,
  scalarRegister,
  UNINITIALIZED,
  UNKNOWN_SCALAR,
} from './registers.ts';
import { constantValue, isConstant, signedRange } from './scalar.ts';
import type { ArgumentType, HelperSignature } from './signature.ts';
import { clobberStack, constantOnStack, readStackRange, stackBounds } from './stack.ts';
import type { State } from './state.ts';
import { helperPermitted, refuseLeak } from './unprivileged.ts';

export const GPL_LICENSES: ReadonlySet<string> = new Set([
  'GPL',
  'GPL v2',
  'GPL and additional rights',
  'Dual BSD/GPL',
  'Dual MIT/GPL',
  'Dual MPL/GPL',
]);

/** Helpers that accept pointers into the packet as memory arguments (`pkt_access` in the kernel's prototypes). */
const PACKET_ACCESS: ReadonlySet<string> = new Set([
  'map_lookup_elem',
  'map_update_elem',
  'map_delete_elem',
  'map_push_elem',
  'map_pop_elem',
  'map_peek_elem',
  'map_lookup_percpu_elem',
  'csum_diff',
  'sk_lookup_tcp',
  'sk_lookup_udp',
  'skc_lookup_tcp',
  'tcp_check_syncookie',
  'tcp_gen_syncookie',
]);

/** The one helper that may be called while a lock is held. */
const SPIN_UNLOCK = 94;

/** Largest size argument. */
const MAX_SIZE = 1n << 29n;
const MEMORY_TYPES = 'fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_';

const SOCKETS = 'sock_common, sock, tcp_sock, xdp_sock';
const RELEASABLE_SOCKETS = `${SOCKETS}, ptr_, trusted_ptr_`;

/** What the arguments told, for the result and the facts. */
interface Call {
  readonly signature: HelperSignature;
  map: MapSpec | undefined;
  mapUid: number;
  constantKey: number | undefined;
  callback: number | undefined;
  /** The reference that an argument carries, 0 for none; `released`: the call ends it. */
  reference: number;
  released: boolean;
  /** Bytes that the call allocates. */
  allocation: number;
  dynptr: DynptrUse | undefined;
  /** The call gives back what is behind `dynptr`. */
  endsDynptr: boolean;
  /** The constant string, one char per byte. */
  text: string;
  /** Stack memory that the helper writes. */
  readonly writes: { readonly frame: number; readonly offset: number; readonly size: number }[];
}

function signatureOf(a: Analysis, helper: number): HelperSignature {
  const signature = a.options.helpers.get(helper);
  const refused = signature ?? a.options.refusedHelper?.(helper);
  if (refused === undefined)
    return a.fail('unknown_helper', `invalid func unknown#${helper}`, 'EINVAL', `There is no helper number ${helper}.`);
  const notAllowed = `program of this type cannot use helper bpf_${refused.name}#${helper}`;
  if ('reason' in refused && refused.reason !== undefined)
    a.fail(
      'unknown_helper',
      notAllowed,
      'EINVAL',
      `Switchyard does not provide bpf_${refused.name}: ${refused.reason}.`,
    );
  if (!signature?.programTypes.includes(a.program.type) || !helperPermitted(a, signature.name))
    return a.fail(
      'helper_not_allowed',
      notAllowed,
      'EINVAL',
      `Programs of type ${a.program.type} may not call bpf_${refused.name}.`,
    );
  if (signature.gplOnly === true && a.program.type !== 'raw' && !GPL_LICENSES.has(a.program.license))
    a.fail(
      'helper_not_allowed',
      'cannot call GPL-restricted function from non-GPL compatible program',
      'EINVAL',
      `bpf_${signature.name} needs a GPL-compatible licence; the program's is "${a.program.license}".`,
    );
  return signature;
}

/** The signature as the program's type has it. */
function formOf(signature: HelperSignature, a: Analysis): HelperSignature {
  const { variant } = signature;
  return variant?.programTypes.includes(a.program.type) === true ? { ...signature, args: variant.args } : signature;
}

export function runsCallback(signature: HelperSignature | undefined): boolean {
  return signature?.args.some(argument => argument.type === 'callback') === true;
}

/** Checks the call at the current instruction and applies its effects. */
export function executeHelperCall(a: Analysis, i: CallHelper): number {
  if (i.helper !== SPIN_UNLOCK) checkNoLockAtCall(a, 'helper');
  const signature = formOf(signatureOf(a, i.helper), a);
  if (signature.args.length > 5)
    a.fail('bad_option', `helper ${signature.name} has more than five arguments`, 'EINVAL');
  const call: Call = {
    signature,
    map: undefined,
    mapUid: 0,
    constantKey: undefined,
    callback: undefined,
    reference: 0,
    released: false,
    allocation: 0,
    dynptr: undefined,
    endsDynptr: false,
    text: '',
    writes: [],
  };
  signature.args.forEach((argument, index) => {
    checkArgument(a, call, argument, (index + 1) as Register, signature.args[index - 1]);
  });
  if (signature.checkFormat) checkFormat(a, call, signature.checkFormat);
  for (const write of call.writes) clobberStack(a, write.frame, write.offset, write.size, 'helper');
  checkDynptrHelper(a, signature.name, call.dynptr);
  if (call.endsDynptr) releaseDynptr(a, call.dynptr!);
  if (call.released && !releaseReference(a, a.state, call.reference))
    a.fail(
      'invalid_argument',
      `func bpf_${signature.name}#${signature.id} reference has not been acquired before`,
      'EINVAL',
    );
  if (signature.name === 'get_local_storage') {
    if (!isNull(a.state.registers[2]!))
      a.fail('invalid_argument', "get_local_storage() doesn't support non-zero flags", 'EINVAL');
    needRegister(a, 2);
  }
  if (signature.name === 'tail_call') checkNothingHeld(a, 'tail_call');
  if (signature.name === 'tail_call') noteTailCall(a, call);
  else
    a.facts.noteHelperCall(
      a.insn,
      i.helper,
      call.map !== undefined && call.mapUid === 0 ? call.map.name : undefined,
      call.constantKey,
    );
  if (call.callback !== undefined) enterCallback(a, signature.name, call.callback);
  if (signature.changesPacket === true) {
    a.facts.changesPacket = true;
    // A tail call that comes back has done nothing; one that does not is another path (see noteTailCall).
    if (signature.name !== 'tail_call') forgetPackets(a);
  }
  forgetCallerSaved(a);
  returnValue(a, call);
  return signature.name === 'tail_call' && a.state.frames.length > 1 ? returnFromTarget(a) : a.insn + 1;
}

/** r0 to r5 do not survive calls. */
export function forgetCallerSaved(a: Analysis): void {
  for (let r = 0; r <= 5; r++) a.state.registers[r] = UNINITIALIZED;
}

/** The packet may have moved: no pointer into it is good any more, in any frame. */
export function forgetPackets(a: Analysis, state: State = a.state): void {
  state.mapRegisters(r => (isPacketPointer(r) || r.kind === 'packetEnd' || r.packetSlice ? a.forgotten : r));
}

function returnValue(a: Analysis, call: Call): void {
  const { returns } = call.signature;
  let result: RegisterState;
  switch (returns.type) {
    case 'scalar':
      result = UNKNOWN_SCALAR;
      break;
    case 'boundedScalar':
      result = scalarRegister(signedRange(returns.min, returns.max));
      break;
    case 'void':
    case 'none':
      return;
    case 'mapValue':
      result = register('mapValue', { map: call.map!, mapUid: call.mapUid, id: hasLock(a, call.map!) ? a.newId() : 0 });
      break;
    case 'mapValueOrNull':
      result = lookupResult(a, call);
      break;
    case 'socketOrNull': {
      const id = returns.acquire === true ? acquireReference(a) : a.newId();
      const reference = returns.acquire === true ? id : returns.cast === true ? call.reference : 0;
      result = register(returns.of, { nullable: true, id, reference });
      break;
    }
    case 'allocatedMemoryOrNull': {
      const id = acquireReference(a);
      result = register('ringbufMemory', { size: call.allocation, nullable: true, id, reference: id });
      break;
    }
    case 'dynptrSliceOrNull':
      result = dataOf(a, call.dynptr!, call.allocation);
      break;
  }
  a.write(0, result);
}

function lookupResult(a: Analysis, call: Call): RegisterState {
  const map = call.map;
  if (map === undefined) return a.fail('invalid_argument', `bpf_${call.signature.name} has no map argument`, 'EINVAL');
  if (map.type === 'array_of_maps' || map.type === 'hash_of_maps') {
    if (map.inner === undefined)
      a.fail(
        'incompatible_map',
        `map ${map.name} has no inner map definition`,
        'EINVAL',
        'Declare the inner map of a map-in-map.',
      );
    const id = a.newId();
    return register('map', { map: map.inner, mapUid: id, nullable: true, id });
  }
  // A struct bpf_xdp_sock in the kernel; all that programs may read of it is its queue number.
  if (map.type === 'xskmap')
    return register('mapValue', { map: readOnly(map), mapUid: call.mapUid, nullable: true, id: a.newId() });
  if (map.type === 'sockmap' || map.type === 'sockhash')
    a.fail('unsupported', `lookup in map type ${map.type} gives a socket, which is not supported`, 'EOPNOTSUPP');
  const certain =
    (map.type === 'array' || map.type === 'percpu_array') &&
    call.constantKey !== undefined &&
    call.constantKey < map.maxEntries;
  return register('mapValue', {
    map,
    mapUid: call.mapUid,
    nullable: !certain,
    id: certain && !hasLock(a, map) ? 0 : a.newId(),
  });
}

/** One read-only view per map, since states are compared by identity. */
const readOnlyViews = new WeakMap<MapSpec, MapSpec>();

function readOnly(map: MapSpec): MapSpec {
  const view = readOnlyViews.get(map) ?? { ...map, flags: map.flags | BPF_F_RDONLY_PROG };
  readOnlyViews.set(map, view);
  return view;
}

function noteTailCall(a: Analysis, call: Call): void {
  const map = call.map!;
  if (call.mapUid !== 0 || !a.options.maps.has(map.name))
    a.fail('unsupported', 'tail call through a prog array found by lookup is not supported', 'EOPNOTSUPP');
  const index = a.state.registers[3]!;
  const known = index.kind === 'scalar';
  const fits32 = known && index.value.umax <= 0xffffffffn;
  const [min, max] = known ? [index.value.u32min, index.value.u32max] : [0, 0xffffffff];
  a.facts.noteTailCall(a.insn, map.name, min, max, fits32);
  needRegister(a, 3);
  if (a.state.frame.isCallback) a.fail('unsupported', 'tail call in a callback is not supported', 'EOPNOTSUPP');
}

function mismatch(a: Analysis, number: number, r: RegisterState, expected: string): never {
  const kind = kindName(r);
  let hint = expected.includes('fp')
    ? `Copy what R${number} leads to onto the stack, and pass that address.`
    : `Pass ${expected} in R${number}.`;
  if (r.nullable) hint = `Compare R${number} with NULL before the call.`;
  else if (r.kind === 'scalar') hint = `R${number} holds a number there; pass a pointer of a kind that is expected.`;
  return a.fail('invalid_argument', `R${number} type=${kind} expected=${expected}`, 'EACCES', hint);
}

const isNull = (r: RegisterState): boolean =>
  r.kind === 'scalar' && isConstant(r.value) && constantValue(r.value) === 0n;

function checkArgument(
  a: Analysis,
  call: Call,
  argument: ArgumentType,
  number: Register,
  before: ArgumentType | undefined,
): void {
  const r = a.read(number);
  if (argument.type === 'scalar') {
    refuseLeak(a, r, `R${number} leaks addr into helper function`);
    return;
  }
  checkArgumentKind(a, call, argument, number, r, before);
  if (r.reference !== 0 && call.reference !== 0)
    a.fail(
      'invalid_argument',
      `more than one arg with ref_obj_id R${number} ${r.reference} ${call.reference}`,
      'EACCES',
      'Pass at most one pointer that must be released.',
    );
  if (r.reference !== 0) call.reference = r.reference;
}

function checkArgumentKind(
  a: Analysis,
  call: Call,
  argument: Exclude<ArgumentType, { type: 'scalar' }>,
  number: Register,
  r: RegisterState,
  before: ArgumentType | undefined,
): void {
  switch (argument.type) {
    case 'constScalar':
      if (r.kind !== 'scalar') mismatch(a, number, r, 'scalar');
      if (!isConstant(r.value)) a.fail('invalid_argument', `R${number} is not a known constant'`);
      needRegister(a, number);
      return;
    case 'context':
      checkContextArgument(a, number, r);
      return;
    case 'map':
      checkMap(a, call, argument.maps, number, r);
      return;
    case 'mapKey':
    case 'mapValue': {
      const map = call.map;
      if (map === undefined) {
        a.fail('invalid_argument', `invalid map_ptr to access map->${argument.type === 'mapKey' ? 'key' : 'value'}`);
      }
      if (r.readOnly) mismatch(a, number, r, MEMORY_TYPES);
      checkHelperMemory(a, call, number, r, argument.type === 'mapKey' ? map.keySize : map.valueSize, 'read');
      if (argument.type === 'mapKey') call.constantKey = constantKey(a, map, r);
      return;
    }
    case 'uninitializedMapValue': {
      const map = call.map;
      if (map === undefined) a.fail('invalid_argument', 'invalid map_ptr to access map->value');
      // A bloom filter is asked for the value that is there.
      checkHelperMemory(a, call, number, r, map.valueSize, map.type === 'bloom_filter' ? 'read' : 'write');
      return;
    }
    case 'fixedMemory':
      if (argument.access !== 'write') checkHelperMemory(a, call, number, r, argument.size, 'read');
      if (argument.access !== 'read') checkHelperMemory(a, call, number, r, argument.size, 'write');
      checkAlignment(a, r, { offset: 0, size: argument.size, strict: true });
      return;
    case 'memory':
      if (argument.nullable === true && isNull(r)) {
        needRegister(a, number);
        return;
      }
      checkMemoryPointer(a, call, number, r);
      return;
    case 'size':
      if (before?.type !== 'memory')
        a.fail('bad_option', `helper ${call.signature.name}: a size must follow a memory argument`, 'EINVAL');
      checkSize(a, call, number, r, before, argument.zeroAllowed);
      return;
    case 'constString':
      call.text = checkConstantString(a, number, r);
      return;
    case 'spinLock':
      if (r.kind !== 'mapValue' || r.nullable) mismatch(a, number, r, 'map_value, ptr_');
      useLock(a, number, r, argument.lock);
      return;
    case 'allocationSize':
      if (r.kind !== 'scalar') mismatch(a, number, r, 'scalar');
      if (!isConstant(r.value)) a.fail('invalid_argument', `R${number} is not a known constant'`);
      needRegister(a, number);
      call.allocation = Number(BigInt.asUintN(32, constantValue(r.value)));
      return;
    case 'socket':
      if (!isSocket(r) || r.nullable) mismatch(a, number, r, argument.release === true ? RELEASABLE_SOCKETS : SOCKETS);
      if (argument.release !== true) return;
      checkReleased(a, number, r);
      call.released = true;
      return;
    case 'ringbufRecord':
      if (r.kind !== 'ringbufMemory' || r.nullable) mismatch(a, number, r, 'ringbuf_mem');
      checkReleased(a, number, r);
      call.released = true;
      return;
    case 'dynptr':
      if (r.kind !== 'stack' && r.kind !== 'constDynptr') mismatch(a, number, r, 'fp, dynptr_ptr');
      call.dynptr = useDynptr(a, number, argument);
      call.endsDynptr ||= argument.release === true;
      return;
    case 'callback':
      if (r.kind !== 'callback') mismatch(a, number, r, 'func');
      call.callback = r.subprogram;
      return;
    case 'callbackContext':
      if (r.kind !== 'stack' && !isNull(r)) mismatch(a, number, r, 'fp');
      needRegister(a, number);
      return;
  }
}

function checkContextArgument(a: Analysis, number: number, r: RegisterState): void {
  if (a.program.type === 'raw') {
    needRegister(a, number);
    const start =
      r.kind === 'raw' && r.offset === 0 && r.id === 0 && isConstant(r.value) && constantValue(r.value) === 0n;
    if (!start && !(isNull(r) && a.options.memorySize?.max === 0))
      a.fail(
        'invalid_argument',
        `R${number} type=${kindName(r)} expected=raw`,
        'EACCES',
        'Pass r1 as the program got it.',
      );
    return;
  }
  if (r.kind !== 'context') mismatch(a, number, r, 'ctx');
  checkContextPointer(a, number, r);
}

function checkMap(
  a: Analysis,
  call: Call,
  maps: readonly MapType[] | undefined,
  number: number,
  r: RegisterState,
): void {
  if (r.kind !== 'map' || r.nullable) mismatch(a, number, r, 'map_ptr');
  const map = r.map!;
  if (maps !== undefined && !maps.includes(map.type)) {
    if (call.signature.name === 'for_each_map_elem')
      a.fail(
        'incompatible_map',
        'callback function not allowed for map',
        'ENOTSUPP',
        `Map ${map.name} is of type ${map.type}; maps of types ${maps.join(', ')} can be walked.`,
      );
    a.fail(
      'incompatible_map',
      call.signature.name === 'tail_call'
        ? 'expected prog array map for tail call'
        : `cannot pass map_type ${MAP_TYPE[map.type]} into func bpf_${call.signature.name}#${call.signature.id}`,
      'EINVAL',
      `Map ${map.name} is of type ${map.type}; bpf_${call.signature.name} takes ${maps.join(', ')}.`,
    );
  }
  call.map = map;
  call.mapUid = r.mapUid;
}

/** A key on the stack that is known, for arrays: lookups with it cannot fail if it is in range. */
function constantKey(a: Analysis, map: MapSpec, r: RegisterState): number | undefined {
  if (map.keySize !== 4 || r.kind !== 'stack' || !isConstant(r.value)) return undefined;
  return constantOnStack(a, r.frame, r.offset + Number(BigInt.asIntN(64, constantValue(r.value))), 4);
}

function checkMemoryPointer(a: Analysis, call: Call, number: number, r: RegisterState): void {
  const memory =
    !r.nullable &&
    (r.kind === 'stack' ||
      r.kind === 'mapValue' ||
      r.kind === 'packet' ||
      r.kind === 'packetMeta' ||
      r.kind === 'memory' ||
      r.kind === 'ringbufMemory' ||
      r.kind === 'mapKey' ||
      r.kind === 'raw');
  if (!memory) mismatch(a, number, r, MEMORY_TYPES);
  if (isPacketPointer(r) && (!PACKET_ACCESS.has(call.signature.name) || a.program.type === 'socket_filter'))
    a.fail(
      'invalid_argument',
      'helper access to the packet is not allowed',
      'EACCES',
      'Copy the bytes to the stack first.',
    );
}

function checkSize(
  a: Analysis,
  call: Call,
  number: number,
  r: RegisterState,
  memory: Extract<ArgumentType, { type: 'memory' }>,
  zeroAllowed: boolean,
): void {
  if (r.kind !== 'scalar') mismatch(a, number, r, 'scalar');
  if (r.value.smin < 0n)
    a.fail('invalid_argument', `R${number} min value is negative, either use unsigned or 'var &= const'`);
  if (r.value.umin === 0n && !zeroAllowed)
    a.fail('invalid_argument', `R${number} invalid zero-sized read: u64=[${r.value.umin},${r.value.umax}]`);
  if (r.value.umax >= MAX_SIZE)
    a.fail(
      'invalid_argument',
      `R${number} unbounded memory access, use 'var &= const' or 'if (var < const)'`,
      'EACCES',
      'Bound the size before the call.',
    );
  const pointer = a.state.registers[number - 1]!;
  const size = Number(r.value.umax);
  needRegister(a, number);
  needRegister(a, number - 1);
  if (isNull(pointer)) {
    if (size === 0 && zeroAllowed && memory.nullable === true) return;
    mismatch(a, number - 1, pointer, 'fp');
  }
  checkHelperMemory(a, call, number - 1, pointer, size, memory.access);
}

/** May the helper read or write up to `size` bytes at the pointer? */
function checkHelperMemory(
  a: Analysis,
  call: Call,
  number: number,
  r: RegisterState,
  size: number,
  access: 'read' | 'write',
): void {
  checkMemoryPointer(a, call, number, r);
  switch (r.kind) {
    case 'stack': {
      const [low, high] = stackBounds(a, number, r, 0, size, access);
      // What is written need not have been data before: how much of it the helper fills may vary.
      if (access === 'read') readStackRange(a, r.frame, low, high, size, number, true);
      if (access === 'write') call.writes.push({ frame: r.frame, offset: low, size: high - low + size });
      return;
    }
    case 'mapValue':
      checkMapValueAccess(a, number, r, 0, size, access);
      return;
    case 'mapKey':
      if (access === 'write') a.fail('invalid_argument', `R${number} cannot write into ${kindName(r)}`);
      checkMapKeyAccess(a, number, r, 0, size);
      return;
    case 'packet':
    case 'packetMeta':
      if (access === 'write' && a.program.type === 'cgroup_skb')
        a.fail('invalid_argument', 'helper access to the packet is not allowed');
      checkPacketAccess(a, number, r, 0, size);
      return;
    case 'raw':
      checkRawAccess(a, number, r, 0, size);
      return;
    default:
      if (access === 'write' && r.readOnly) mismatch(a, number, r, MEMORY_TYPES);
      checkMemoryAccess(a, number, r, 0, size);
  }
}

const IN_RODATA = 'Pass the address of a constant text: in .rodata, or another frozen map that programs cannot write.';

function checkConstantString(a: Analysis, number: number, r: RegisterState): string {
  if (r.kind !== 'mapValue' || r.nullable) mismatch(a, number, r, 'map_value');
  if (!isFrozenData(r)) a.fail('invalid_argument', `R${number} does not point to a readonly map'`, 'EACCES', IN_RODATA);
  if (!isConstant(r.value)) a.fail('invalid_argument', `R${number} is not a constant address'`, 'EACCES', IN_RODATA);
  const map = r.map!;
  checkMapValueAccess(a, number, r, 0, 1, 'read');
  const entry = map.contents.find(content => content.key === 0);
  const start = r.offset + Number(constantValue(r.value));
  const bytes = entry !== undefined && 'value' in entry ? entry.value : new Uint8Array(map.valueSize);
  const end = bytes.indexOf(0, start);
  if (end < 0) a.fail('invalid_argument', 'string is not zero-terminated', 'EINVAL', 'End the text with a zero byte.');
  return Array.from(bytes.subarray(start, end), byte => String.fromCharCode(byte)).join('');
}

/** The format of bpf_snprintf against the number of its values, as known from the size's fixed bits. */
function checkFormat(a: Analysis, call: Call, check: (format: string, values: number) => boolean): void {
  const size = a.state.registers[5]!;
  const bytes = size.kind === 'scalar' ? size.value.tnum.value : 0n;
  if (bytes % 8n !== 0n) a.fail('invalid_argument', `R5 is not a multiple of 8: ${bytes}`, 'EINVAL');
  if (!check(call.text, Number(bytes / 8n))) a.fail('invalid_argument', 'Invalid format string', 'EINVAL');
}
