/**
 * The interpretation itself: one path at a time, instruction by instruction, until all paths have ended. The kernel's
 * `do_check`.
 */
import type {
  AddrSpaceCast,
  Atomic,
  CallHelper,
  Load,
  LoadImm64,
  PacketLoad,
  Register,
  Size,
  Store,
} from '../isa/instruction.ts';
import { ARENA_PAGE } from '../maps/arena-map.ts';
import type { MapSpec } from '../object/spec.ts';
import { executeAlu, executeByteSwap, executeMovSx } from './alu.ts';
import type { Analysis, CheckingOptions } from './analysis.ts';
import { executeJump } from './branches.ts';
import { executeExit, executeSubprogramCall, returnFromMiss } from './calls.ts';
import { executeHelperCall, forgetCallerSaved } from './helper-call.ts';
import { executeKfuncCall } from './kfunc-call.ts';
import { accessMemory, checkContextPointer } from './memory-access.ts';
import { traceKey } from './precision.ts';
import { arrive, finishPath, PRECISE_ITERATIONS, previousEntry, widenChanged } from './prune.ts';
import { checkNothingHeld } from './references.ts';
import {
  isSocket,
  kindName,
  type RegisterState,
  register,
  scalarRegister,
  UNKNOWN_SCALAR,
  ZERO_SCALAR,
} from './registers.ts';
import { constant, constantOfInt, truncate } from './scalar.ts';
import { WRONG_GUESS } from './speculation.ts';
import type { State } from './state.ts';
import { Explored } from './stored-states.ts';
import { checkAtomicOnStack, refuseLeak } from './unprivileged.ts';

/** Offsets into a map value from here on are refused before the map is looked at. */
const MAX_VALUE_OFFSET = 1 << 29;

/** Walks everything that `state` at slot `start` leads to. */
export function interpret(a: Analysis, start: number, state: State): void {
  a.explored = new Explored(a.insns.length);
  a.history.length = 0;
  a.history.remarkable = 0;
  a.backEdges.length = 0;
  a.waiting.clear();
  a.state = state;
  a.facts = a.realFacts;
  a.insn = start;
  a.start = start;
  a.previousInsn = -1;
  a.log.initial(start, state);
  let fresh = false;
  for (;;) {
    if (++a.insnsProcessed > a.maxInsns)
      a.fail('too_complex', `BPF program is too large. Processed ${a.insnsProcessed} insn`, 'E2BIG');
    let next: number;
    if (a.cfg.prunePoint[a.insn] === 1 && arrive(a) === 'covered') {
      a.log.safe(fresh, a.previousInsn, a.insn, a.state.speculative);
      if (!a.state.speculative) a.options.checking?.onCovered?.(a.insn, a.state, a.previousInsn);
      next = -1;
    } else {
      if (fresh) a.log.branch(a.previousInsn, a.insn, a.state);
      fresh = false;
      a.log.instruction(a.insn, a.state);
      if (a.options.checking !== undefined && !a.state.speculative) check(a, a.options.checking);
      a.facts.reachable[a.insn] = 1;
      a.history.push(a.insn, a.state.frames.length - 1, a.cfg.jumpPoint[a.insn] === 1);
      const depth = a.state.frames.length;
      next = a.state.speculative ? guess(a) : step(a);
      // Back in the caller, or at a callback's helper.
      if (next >= 0 && a.state.frames.length < depth && a.insns[a.insn]!.kind === 'exit') fresh = true;
    }
    if (next >= 0) {
      a.previousInsn = a.insn;
      a.insn = next;
      continue;
    }
    finishPath(a);
    const waiting = a.waiting.pop();
    // Behind the last path nobody asks, but who looks at the analysis itself.
    if (waiting !== undefined || a.log.level === 2 || a.options.checking !== undefined) a.stackLiveness.update(a.state);
    // Who checks the verifier asks what mattered to the paths from a state, not what others did at the same place later on.
    if (a.finished.length > 0) for (const checkpoint of a.finished.splice(0)) checkpoint.keepLive();
    if (waiting === undefined) {
      a.log.walked();
      return;
    }
    a.state = waiting.state;
    a.facts = a.state.speculative ? a.speculativeFacts : a.realFacts;
    a.insn = waiting.insn;
    a.previousInsn = waiting.from;
    a.history.length = waiting.historyLength;
    a.history.remarkable = waiting.remarkable;
    if (waiting.callback) a.history.noteCallback();
    a.log.finishPath(waiting.logPosition);
    fresh = true;
  }
}

function check(a: Analysis, checking: CheckingOptions): void {
  const { parent } = a.state;
  const stored = parent !== undefined && parent.insn === a.insn && parent.position === a.history.length;
  checking.onState(a.insn, a.state, a.live[a.insn]!, stored, a.previousInsn);
}

/** As `step`, on a path that is only guessed: where it would be refused it ends. */
function guess(a: Analysis): number {
  const { insn } = a;
  if (a.barriers.has(insn)) return -1;
  a.executing = true;
  try {
    const next = step(a);
    return a.barriersAfter.has(insn) ? -1 : next;
  } catch (error) {
    if (error !== WRONG_GUESS) throw error;
    a.stackLiveness.end(a.state);
    a.barriers.add(insn);
    return -1;
  } finally {
    a.executing = false;
  }
}

/** Executes the current instruction. @returns the slot to go on at; -1 where the path ends. */
function step(a: Analysis): number {
  const i = a.insns[a.insn]!;
  const next = a.insn + 1;
  switch (i.kind) {
    case 'alu':
      executeAlu(a, i);
      return next;
    case 'movsx':
      executeMovSx(a, i);
      return next;
    case 'byteswap':
      executeByteSwap(a, i);
      return next;
    case 'loadImm64':
      a.facts.reachable[next] = 1;
      executeLoadImm64(a, i);
      return next + 1;
    case 'load':
      executeLoad(a, i);
      return next;
    case 'store':
      a.stackLiveness.begin(a.insn);
      executeStore(a, i);
      a.stackLiveness.end(a.state);
      return next;
    case 'atomic':
      a.stackLiveness.begin(a.insn);
      executeAtomic(a, i);
      a.stackLiveness.end(a.state);
      return next;
    case 'packetLoad':
      executePacketLoad(a, i);
      return a.state.frames.length > 1 ? returnFromMiss(a) : next;
    case 'jump':
      a.jumpsProcessed++;
      return executeJump(a, i);
    case 'goto':
      a.jumpsProcessed++;
      return next + i.offset;
    case 'mayGoto':
      a.jumpsProcessed++;
      return executeMayGoto(a, next + i.offset);
    case 'callHelper':
      a.jumpsProcessed++;
      return callHelper(a, i);
    case 'callSubprogram':
      a.jumpsProcessed++;
      return executeSubprogramCall(a, i);
    case 'exit':
      a.jumpsProcessed++;
      return executeExit(a);
    case 'callKfunc':
      a.jumpsProcessed++;
      a.stackLiveness.begin(a.insn);
      executeKfuncCall(a, i);
      a.stackLiveness.end(a.state);
      return next;
    case 'addrSpaceCast':
      executeAddrSpaceCast(a, i);
      return next;
    default:
      return a.fail(
        'invalid_instruction',
        `unknown opcode ${i.kind}`,
        'EINVAL',
        'Internal instructions may not appear in programs.',
      );
  }
}

function callHelper(a: Analysis, i: CallHelper): number {
  a.stackLiveness.begin(a.insn);
  const next = executeHelperCall(a, i);
  a.stackLiveness.end(a.state);
  return next;
}

/** Both ways are possible at any time; what the loop changes becomes unknown when it is entered again. */
function executeMayGoto(a: Analysis, target: number): number {
  // The state at this very arrival was stored just now: the one before it is what the loop came from.
  const before = previousEntry(a.state, a.insn, a.state.parent?.parent);
  const body = a.push(a.insn + 1, a.insn);
  body.mayGotoDepth++;
  body.frame.mayGotos++;
  if (before !== undefined) widenChanged(before, body, body.mayGotoDepth <= PRECISE_ITERATIONS);
  return target;
}

function executeLoadImm64(a: Analysis, i: LoadImm64): void {
  const { reference } = i;
  if (reference === undefined) {
    a.write(i.dst, scalarRegister(constant(BigInt.asUintN(64, i.value))));
    return;
  }
  switch (reference.type) {
    case 'map':
      a.write(i.dst, register('map', { map: a.options.maps.get(reference.map)! }));
      return;
    case 'mapValue': {
      const map = a.options.maps.get(reference.map)!;
      if (map.type === 'arena') {
        checkArenaOffset(a, map, reference.offset);
        // An address as user space has it: to be cast before it is followed.
        a.write(i.dst, UNKNOWN_SCALAR);
        return;
      }
      if (map.type !== 'array' || map.maxEntries !== 1)
        a.fail(
          'incompatible_map',
          map.type === 'array'
            ? `invalid access to map value pointer, value_size=${map.valueSize} off=${reference.offset}`
            : 'no direct value access support for this map type',
          map.type === 'array' ? 'ENOTSUPP' : 'EINVAL',
          `Map ${map.name} is not an array of one element.`,
        );
      if (reference.offset >= MAX_VALUE_OFFSET)
        a.fail('map_value_out_of_bounds', `direct value offset of ${reference.offset} is not allowed`, 'EINVAL');
      if (reference.offset < 0 || reference.offset >= map.valueSize)
        a.fail(
          'map_value_out_of_bounds',
          `invalid access to map value pointer, value_size=${map.valueSize} off=${reference.offset}`,
          'EINVAL',
        );
      a.write(i.dst, register('mapValue', { map, offset: reference.offset }));
      return;
    }
    case 'function': {
      const target = a.insn + 1 + reference.offset;
      const subprogram = a.cfg.subprogramOf[target]!;
      if (a.cfg.subprograms[subprogram]!.linkage !== 'static')
        a.fail('invalid_argument', 'callback function not static', 'EINVAL');
      a.write(i.dst, register('callback', { subprogram }));
      return;
    }
    case 'kfunc':
      // The address of a function is good for nothing but to be compared with null: no byte of it can be read.
      a.write(
        i.dst,
        a.options.kfuncs?.has(reference.name) === true ? register('memory', { readOnly: true }) : ZERO_SCALAR,
      );
      return;
    case 'mapFd':
    case 'mapFdValue':
      a.fail(
        'unknown_map',
        `fd ${reference.fd} is not pointing to valid bpf_map`,
        'EBADF',
        'Name the map in the program: file descriptors have no meaning here.',
      );
      break;
    default:
      a.fail(
        'unsupported',
        `ld_imm64 of ${reference.type} is not supported`,
        'EINVAL',
        'Ids and indexes of the kernel have no meaning here.',
      );
  }
}

function executeLoad(a: Analysis, i: Load): void {
  a.read(i.src);
  a.checkWritable(i.dst);
  const { loaded } = accessMemory(a, {
    register: i.src,
    offset: i.offset,
    size: i.size,
    type: 'read',
    signed: i.signed,
  });
  a.write(i.dst, loaded);
}

function executeStore(a: Analysis, i: Store): void {
  const value = i.src === undefined ? scalarRegister(constantOfInt(i.imm)) : a.read(i.src);
  a.read(i.dst);
  const lookup = i.src === undefined ? undefined : a.keys.lookupOf(a.insn);
  if (lookup !== undefined) noteKey(a, lookup, i.src!, value);
  const { source } = accessMemory(a, {
    register: i.dst,
    offset: i.offset,
    size: i.size,
    type: 'write',
    value,
    valueRegister: i.src,
  });
  if (i.src !== undefined && source !== undefined && i.src !== 10) a.state.registers[i.src] = source;
}

/** The register goes to where the lookup reads its key. */
function noteKey(a: Analysis, lookup: number, register: Register, key: RegisterState): void {
  if (key.kind !== 'scalar') a.keys.forget(lookup);
  else if (a.keys.note(lookup, key.value.u32min, key.value.u32max)) traceKey(a, register, lookup);
}

function executeAtomic(a: Analysis, i: Atomic): void {
  const base = i.op === 'loadAcquire' ? i.src : i.dst;
  const pointer = a.read(base);
  const other = i.op === 'loadAcquire' ? undefined : a.read(i.src);
  if (i.op === 'cmpxchg') refuseLeak(a, a.read(0), 'R0 leaks addr into mem');
  if (other !== undefined) refuseLeak(a, other, `R${i.src} leaks addr into mem`);
  const narrow = i.op === 'loadAcquire' || i.op === 'storeRelease';
  if (!narrow && i.size < 4) a.fail('invalid_instruction', `invalid atomic operand size ${i.size}`, 'EINVAL');
  if (pointer.kind === 'context' || isSocket(pointer) || pointer.kind === 'packet' || pointer.kind === 'packetMeta')
    a.fail(
      'invalid_memory_access',
      `BPF_ATOMIC ${i.op === 'loadAcquire' ? 'loads from' : 'stores into'} R${base} ${kindName(pointer)} is not allowed`,
      'EACCES',
      'Atomic operations work on the stack, map values and plain memory.',
    );
  const access = { register: base, offset: i.offset, size: i.size, strict: true } as const;
  if (i.op === 'loadAcquire') {
    a.checkWritable(i.dst);
    a.write(i.dst, accessMemory(a, { ...access, type: 'read' }).loaded);
    return;
  }
  if (i.op === 'storeRelease') {
    const { source } = accessMemory(a, { ...access, type: 'write', value: other!, valueRegister: i.src });
    if (source !== undefined && i.src !== 10) a.state.registers[i.src] = source;
    return;
  }
  const result = i.op === 'cmpxchg' ? 0 : i.src;
  if (i.fetch) a.checkWritable(result);
  checkAtomicOnStack(a, pointer, i.offset);
  const { loaded } = accessMemory(a, { ...access, type: 'read' });
  // Where the old value replaces the base, the kernel looks for the memory that is written at the old value, and refuses.
  if (i.fetch && result === base) a.write(result, numberOf(i.size));
  accessMemory(a, { ...access, type: 'write', unknown: true, value: numberOf(i.size) });
  if (i.fetch) a.write(result, loaded);
}

/** What an atomic operation leaves in memory: a number of its size. */
const numberOf = (size: Size): RegisterState => scalarRegister(truncate(UNKNOWN_SCALAR.value, size));

function executePacketLoad(a: Analysis, i: PacketLoad): void {
  const { type } = a.program;
  if (type !== 'socket_filter' && type !== 'sched_cls' && type !== 'sched_act')
    a.fail('invalid_instruction', 'BPF_LD_[ABS|IND] instructions not allowed for this program type', 'EINVAL');
  if (a.state.frame.isCallback)
    a.fail(
      'unsupported',
      'BPF_LD_[ABS|IND] in a callback is not supported',
      'EINVAL',
      'Call a function that reads the packet, or bpf_skb_load_bytes.',
    );
  checkNothingHeld(a, 'BPF_LD_[ABS|IND]');
  const context = a.read(6);
  if (context.kind !== 'context')
    a.fail('invalid_argument', 'at the time of BPF_LD_ABS|IND R6 != pointer to skb', 'EINVAL');
  checkContextPointer(a, 6, context);
  if (i.src !== undefined) a.read(i.src);
  forgetCallerSaved(a);
  a.write(0, UNKNOWN_SCALAR);
}

function checkArenaOffset(a: Analysis, map: MapSpec, offset: number): void {
  const size = map.maxEntries * ARENA_PAGE;
  if (offset < 0 || offset > size)
    a.fail(
      'map_value_out_of_bounds',
      `invalid access to map value pointer, value_size=${map.valueSize} off=${offset}`,
      'ERANGE',
      `Arena ${map.name} has ${size} bytes.`,
    );
}

/** To address space 0 a value becomes a pointer that may be followed, whatever it is; to space 1 it is a number. */
function executeAddrSpaceCast(a: Analysis, i: AddrSpaceCast): void {
  a.read(i.src);
  a.checkWritable(i.dst);
  if (a.arena === undefined)
    a.fail(
      'invalid_instruction',
      'addr_space_cast insn can only be used in a program that has an associated arena',
      'EINVAL',
      'Use the arena map in the program: take its address, or declare a variable in address space 1.',
    );
  a.write(i.dst, i.toSpace === 0 ? register('arena') : UNKNOWN_SCALAR);
}
