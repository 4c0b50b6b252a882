/**
 * Loads, stores and atomics: may the access be made through this pointer, and what does a load give?
 *
 * Each kind of memory has one function here. An access is proved for every value that the pointer's variable part can
 * have. Refusals use the kernel's words (`check_mem_access`).
 */
import type { Register, Size } from '../isa/instruction.ts';
import { specialFields } from '../maps/special-fields.ts';
import type { Analysis } from './analysis.ts';
import { contextAccess, needsBpf } from './context.ts';
import type { VerifierErrorCode } from './errors.ts';
import type { MemoryKind } from './facts.ts';
import { formatTnum } from './format.ts';
import { accessStructure } from './kernel-structures.ts';
import {
  isPacketPointer,
  kindName,
  type RegisterState,
  register,
  scalarRegister,
  UNKNOWN_SCALAR,
} from './registers.ts';
import { constant, constantValue, fits, isConstant, isZero, signExtend, truncate } from './scalar.ts';
import { checkSocketAccess } from './sockets.ts';
import { readStack, readStackRange, stackBounds, writeAtomically, writeStack, writeStackRange } from './stack.ts';
import { refuseLeak } from './unprivileged.ts';

/** Largest variable part of an offset that is looked at at all. */
const MAX_VARIABLE_OFFSET = 1n << 29n;
const MAX_PACKET_OFFSET = 0xffffn;

/** Map creation flags of the uapi. */
export const BPF_F_RDONLY_PROG = 1 << 7;
const BPF_F_WRONLY_PROG = 1 << 8;

export interface Access {
  readonly register: number;
  /** Of the instruction. */
  readonly offset: number;
  readonly size: Size;
  readonly type: 'read' | 'write';
  readonly signed?: boolean;
  /** What is written, and the register it comes from, if any. */
  readonly value?: RegisterState;
  readonly valueRegister?: Register | undefined;
  /** By an atomic operation: a number that nothing is known of is written. */
  readonly unknown?: boolean;
  /** Atomics need natural alignment whatever the memory. */
  readonly strict?: boolean;
  /** Made on behalf of a helper: facts about the instruction's own memory operand are not touched. */
  readonly indirect?: boolean;
}

interface AccessResult {
  /** For reads. */
  readonly loaded: RegisterState;
  /** For writes: the source register afterwards (a spilled scalar gets an id). */
  readonly source: RegisterState | undefined;
}

/** What a pointer that is stored there becomes known to, in the kernel's words. */
const LEAKS_INTO: Readonly<Record<string, string>> = {
  mapValue: 'map',
  context: 'ctx',
  packet: 'packet',
  packetMeta: 'packet',
};

/** Bytes by which packets are taken to start off alignment where it matters: the kernel's NET_IP_ALIGN. */
const PACKET_START = 2;
const MEMORY_NAMES: Readonly<Partial<Record<RegisterState['kind'], string>>> = {
  stack: 'stack ',
  mapValue: 'value ',
  context: 'context ',
  socket: 'sock ',
  sockCommon: 'sock_common ',
  tcpSocket: 'tcp_sock ',
};

/**
 * The kernel's `check_ptr_alignment` on a machine that allows unaligned access: only the stack, atomics and some memory
 * that helpers write are strict, unless all shall be.
 */
export function checkAlignment(
  a: Analysis,
  pointer: RegisterState,
  access: Pick<Access, 'offset' | 'size' | 'strict'>,
): void {
  const strict = access.strict === true || a.options.strictAlignment === true || pointer.kind === 'stack';
  if (access.size === 1 || !strict) return;
  const packet = isPacketPointer(pointer);
  const start = packet ? PACKET_START : 0;
  if (isZero(pointer.value) && ((start + pointer.offset + access.offset) & (access.size - 1)) === 0) return;
  const low = pointer.value.tnum.value + BigInt(start + pointer.offset + access.offset);
  const unaligned = ((BigInt.asUintN(64, low) | pointer.value.tnum.mask) & BigInt(access.size - 1)) !== 0n;
  if (!unaligned) return;
  const what = packet ? 'packet ' : (MEMORY_NAMES[pointer.kind] ?? '');
  const sum = `${packet ? `${start}+` : ''}${formatTnum(pointer.value.tnum)}+${pointer.offset}+${access.offset}`;
  a.fail('misaligned_access', `misaligned ${what}access off ${sum} size ${access.size}`);
}

function note(a: Analysis, access: Access, kind: MemoryKind): void {
  if (access.indirect === true) return;
  if (!a.facts.noteMemory(a.insn, kind))
    a.fail('conflicting_access', 'same insn cannot be used with different pointers', 'EINVAL');
}

/** [offset, offset + size) for all values of the variable part lies in [0, limit). `outside` words the refusal. */
function checkRegion(
  a: Analysis,
  register: number,
  pointer: RegisterState,
  offset: number,
  size: number,
  limit: number,
  code: VerifierErrorCode,
  outside: (offset: number) => string,
): void {
  const { smin, umax } = pointer.value;
  const low = smin + BigInt(offset);
  if (smin < 0n && low < 0n)
    a.fail(
      code,
      `R${register} min value is negative, either use unsigned index or do a if (index >=0) check.`,
      'EACCES',
      'Compare the index as unsigned, or mask it, before it is added to the pointer.',
    );
  if (low < 0n || low + BigInt(size) > BigInt(limit))
    a.fail(code, `${outside(Number(low))}\nR${register} min value is outside of the allowed memory range`);
  if (umax >= MAX_VARIABLE_OFFSET)
    a.fail(code, `R${register} unbounded memory access, make sure to bounds check any such access`);
  const high = umax + BigInt(offset);
  if (high + BigInt(size) > BigInt(limit))
    a.fail(code, `${outside(Number(high))}\nR${register} max value is outside of the allowed memory range`);
}

export function checkMapValueAccess(
  a: Analysis,
  register: number,
  pointer: RegisterState,
  offset: number,
  size: number,
  type: 'read' | 'write',
): void {
  const map = pointer.map!;
  if (type === 'write' && ((map.flags & BPF_F_RDONLY_PROG) !== 0 || isReadOnlyData(pointer)))
    a.fail(
      'invalid_memory_access',
      `write into map forbidden, value_size=${map.valueSize} off=${pointer.offset + offset} size=${size}`,
      'EACCES',
      'The map is read-only to programs: write to a map without BPF_F_RDONLY_PROG, or to .data or .bss.',
    );
  if (type === 'read' && (map.flags & BPF_F_WRONLY_PROG) !== 0)
    a.fail(
      'invalid_memory_access',
      `read from map forbidden, value_size=${map.valueSize} off=${pointer.offset + offset} size=${size}`,
      'EACCES',
      'The map is write-only to programs.',
    );
  checkRegion(
    a,
    register,
    pointer,
    pointer.offset + offset,
    size,
    map.valueSize,
    'map_value_out_of_bounds',
    at => `invalid access to map value, value_size=${map.valueSize} off=${at} size=${size}`,
  );
  checkSpecialFields(a, pointer, offset, size);
}

function checkSpecialFields(a: Analysis, pointer: RegisterState, offset: number, size: number): void {
  for (const field of specialFields(pointer.map!, a.program.btf)) {
    const start = pointer.value.smin + BigInt(pointer.offset + offset);
    const end = pointer.value.umax + BigInt(pointer.offset + offset + size);
    if (start >= BigInt(field.offset + field.size) || end <= BigInt(field.offset)) continue;
    if (field.name === 'kptr')
      a.fail('unsupported', 'kptr in a map value is not supported', 'EOPNOTSUPP', 'There are no kernel objects here.');
    a.fail(
      'invalid_memory_access',
      `${field.name} cannot be accessed directly by load/store`,
      'EACCES',
      `Access the fields beside the ${field.name} one by one.`,
    );
  }
}

function isReadOnlyData(pointer: RegisterState): boolean {
  return pointer.map?.dataSection?.startsWith('.rodata') === true;
}

/** Does the pointer lead into a map whose contents are fixed for good? */
export function isFrozenData(pointer: RegisterState): boolean {
  const map = pointer.map;
  if (map === undefined || map.type !== 'array' || map.maxEntries !== 1 || map.frozen !== true) return false;
  return (map.flags & BPF_F_RDONLY_PROG) !== 0 || isReadOnlyData(pointer);
}

/** Contents of a frozen read-only map at a known offset: the value is a constant of the program. */
function frozenConstant(pointer: RegisterState, offset: number, size: Size): bigint | undefined {
  const map = pointer.map!;
  if (!isFrozenData(pointer) || !isConstant(pointer.value)) return undefined;
  const entry = map.contents.find(content => content.key === 0);
  if (entry === undefined || !('value' in entry)) return undefined;
  const start = Number(constantValue(pointer.value)) + pointer.offset + offset;
  if (start < 0 || start + size > entry.value.length) return undefined;
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(entry.value[start + i]!);
  return value;
}

export function packetWritable(a: Analysis): boolean {
  const type = a.program.type;
  return type === 'xdp' || type === 'sched_cls' || type === 'sched_act';
}

export function checkPacketAccess(
  a: Analysis,
  register: number,
  pointer: RegisterState,
  offset: number,
  size: number,
): void {
  const at = pointer.offset + offset;
  if (pointer.value.smin < 0n)
    a.fail(
      'packet_out_of_bounds',
      `R${register} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  const inside = at >= 0 && at + size <= pointer.range;
  if (!inside || pointer.value.umax > MAX_PACKET_OFFSET)
    a.fail(
      'packet_out_of_bounds',
      `invalid access to packet, off=${at} size=${size}, R${register}(id=${pointer.id},off=${at},r=${pointer.range})\n` +
        `R${register} offset is outside of the packet`,
    );
}

/** Raw memory: proved by the size that comparisons with r2 gave, or by a comparison of this very pointer. */
export function checkRawAccess(
  a: Analysis,
  register: number,
  pointer: RegisterState,
  offset: number,
  size: number,
): void {
  const at = pointer.offset + offset;
  const { smin, umax } = pointer.value;
  const low = BigInt(at) + smin;
  if (low < 0n)
    a.fail(
      'memory_out_of_bounds',
      `R${register} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  if (umax < MAX_VARIABLE_OFFSET && BigInt(at + size) + umax <= BigInt(a.state.rawSize)) return;
  if (pointer.id !== 0 && at >= 0 && at + size <= pointer.range) return;
  a.fail(
    'memory_out_of_bounds',
    `invalid access to memory, mem_size=${a.state.rawSize} off=${at} size=${size}\n` +
      `R${register} ${umax >= MAX_VARIABLE_OFFSET ? 'unbounded memory access, make sure to bounds check any such access' : 'max value is outside of the allowed memory range'}`,
    'EACCES',
    'Compare the size in r2 (or the pointer with r1 + r2) before the access.',
  );
}

/** A context pointer may only be used unmodified. */
export function checkContextPointer(a: Analysis, number: number, pointer: RegisterState): void {
  if (pointer.offset < 0)
    a.fail('invalid_context_access', `negative offset ctx ptr R${number} off=${pointer.offset} disallowed`);
  if (pointer.offset !== 0)
    a.fail('invalid_context_access', `dereference of modified ctx ptr R${number} off=${pointer.offset} disallowed`);
  if (!isConstant(pointer.value) || constantValue(pointer.value) !== 0n)
    a.fail('invalid_context_access', `variable ctx access var_off=${formatTnum(pointer.value.tnum)} disallowed`);
}

function accessContext(a: Analysis, pointer: RegisterState, access: Access): RegisterState {
  checkContextPointer(a, access.register, pointer);
  const { program } = a;
  const write = access.type === 'write';
  const result = contextAccess(
    program.type,
    program.attachType,
    access.offset,
    access.size,
    write,
    access.signed === true,
  );
  const byBpf = a.withoutBpf && program.type === 'cgroup_skb' && needsBpf(access.offset, write);
  if (!result.allowed || byBpf) {
    a.fail('invalid_context_access', `invalid bpf_context access off=${access.offset} size=${access.size}`);
  }
  note(a, access, 'context');
  if (!a.facts.noteContextOffset(a.insn, access.offset))
    a.fail('conflicting_access', 'same insn cannot be used with different pointers', 'EINVAL');
  if (result.value === 'scalar') return UNKNOWN_SCALAR;
  const nullable = result.value === 'sockCommon';
  return register(result.value, { nullable, id: nullable ? a.newId() : 0 });
}

function accessStack(a: Analysis, pointer: RegisterState, access: Access): AccessResult {
  const { size } = access;
  const [low, high] = stackBounds(a, access.register, pointer, access.offset, size, access.type);
  note(a, access, 'stack');
  if (access.type === 'write') {
    const value = access.value ?? UNKNOWN_SCALAR;
    if (low === high && access.unknown === true) {
      writeAtomically(a, pointer.frame, low, size);
      return { loaded: UNKNOWN_SCALAR, source: undefined };
    }
    if (low === high)
      return { loaded: UNKNOWN_SCALAR, source: writeStack(a, pointer.frame, low, size, value, access.valueRegister) };
    writeStackRange(a, pointer.frame, low, high, size, value, access.valueRegister);
    return { loaded: UNKNOWN_SCALAR, source: undefined };
  }
  const loaded =
    low === high
      ? readStack(a, pointer.frame, low, size)
      : readStackRange(a, pointer.frame, low, high, size, access.register, false);
  return { loaded, source: undefined };
}

/** Checks one access of at most eight bytes and gives what it loads (before sign extension: see `load`). */
export function accessMemory(a: Analysis, access: Access): AccessResult {
  const pointer = a.state.registers[access.register]!;
  const { register: number, offset, size, type } = access;
  checkAlignment(a, pointer, access);
  let loaded = UNKNOWN_SCALAR;
  const kind = pointer.nullable ? 'none' : pointer.kind;
  if (type === 'write' && access.value !== undefined && kind !== 'stack')
    refuseLeak(a, access.value, `R${access.valueRegister ?? 0} leaks addr into ${LEAKS_INTO[kind] ?? 'mem'}`);
  switch (kind) {
    case 'context':
      loaded = accessContext(a, pointer, access);
      break;
    case 'stack': {
      const result = accessStack(a, pointer, access);
      return { loaded: convert(result.loaded, access), source: result.source };
    }
    case 'mapValue': {
      checkMapValueAccess(a, number, pointer, offset, size, type);
      note(a, access, 'mapValue');
      const known = type === 'read' ? frozenConstant(pointer, offset, size) : undefined;
      if (known !== undefined) loaded = scalarRegister(constant(known));
      break;
    }
    case 'packet':
    case 'packetMeta':
      if (type === 'write' && !packetWritable(a))
        a.fail(
          'invalid_memory_access',
          'cannot write into packet',
          'EACCES',
          'Programs of this type may only read packets.',
        );
      checkPacketAccess(a, number, pointer, offset, size);
      note(a, access, pointer.kind === 'packet' ? 'packet' : 'packetMeta');
      break;
    case 'raw':
      checkRawAccess(a, number, pointer, offset, size);
      note(a, access, 'raw');
      break;
    case 'mapKey':
      if (type === 'write')
        a.fail(
          'invalid_memory_access',
          `write to change key R${number} not allowed`,
          'EACCES',
          'Delete the element and insert another one.',
        );
      checkMapKeyAccess(a, number, pointer, offset, size);
      note(a, access, 'memory');
      break;
    case 'socket':
    case 'sockCommon':
    case 'tcpSocket':
      checkSocketAccess(a, number, pointer, offset, size, type);
      note(a, access, kind);
      break;
    case 'memory':
    case 'ringbufMemory':
      if (type === 'write') checkWritableMemory(a, number, pointer);
      checkMemoryAccess(a, number, pointer, offset, size);
      note(a, access, 'memory');
      break;
    case 'arena':
      // Lowering confines it to the arena, wherever it points.
      note(a, access, 'arena');
      break;
    case 'untrustedStructure':
      loaded = accessStructure(a, number, pointer, offset, size, type);
      note(a, access, 'untrustedStructure');
      break;
    case 'untrustedMemory':
      if (type === 'write')
        a.fail(
          'invalid_memory_access',
          `R${number} cannot write into ${kindName(pointer)}`,
          'EACCES',
          'Memory behind a cast or untrusted pointer can only be read.',
        );
      // Lowering makes it a load that looks whether there is memory.
      note(a, access, 'untrusted');
      break;
    default: {
      let hint: string | undefined;
      if (pointer.nullable) hint = `Compare R${number} with NULL before it is followed.`;
      else if (pointer.kind === 'scalar')
        hint = `R${number} holds a number there: what is loaded from maps and packets is one, and a pointer into a packet that has moved.`;
      a.fail('invalid_memory_access', `R${number} invalid mem access '${kindName(pointer)}'`, 'EACCES', hint);
    }
  }
  return { loaded: convert(loaded, access), source: undefined };
}

export function checkWritableMemory(a: Analysis, number: number, pointer: RegisterState): void {
  if (pointer.readOnly)
    a.fail(
      'invalid_memory_access',
      `R${number} cannot write into ${kindName(pointer)}`,
      'EACCES',
      'The memory is read-only to programs; ask for a writable slice, or write through the dynptr.',
    );
}

export function checkMapKeyAccess(
  a: Analysis,
  number: number,
  pointer: RegisterState,
  offset: number,
  size: number,
): void {
  const { keySize } = pointer.map!;
  checkRegion(
    a,
    number,
    pointer,
    pointer.offset + offset,
    size,
    keySize,
    'memory_out_of_bounds',
    at => `invalid access to map key, key_size=${keySize} off=${at} size=${size}`,
  );
}

export function checkMemoryAccess(
  a: Analysis,
  number: number,
  pointer: RegisterState,
  offset: number,
  size: number,
): void {
  checkRegion(
    a,
    number,
    pointer,
    pointer.offset + offset,
    size,
    pointer.size,
    'memory_out_of_bounds',
    at => `invalid access to memory, mem_size=${pointer.size} off=${at} size=${size}`,
  );
}

function convert(loaded: RegisterState, access: Access): RegisterState {
  if (access.type === 'write' || loaded.kind !== 'scalar' || access.size === 8) return loaded;
  if (access.signed === true) return scalarRegister(signExtend(loaded.value, access.size));
  return fits(loaded.value, access.size) ? loaded : scalarRegister(truncate(loaded.value, access.size));
}
