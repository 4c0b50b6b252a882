/**
 * Calls of the program's own functions, callbacks, and exits.
 *
 * A static function is interpreted anew at each call, in a frame of its own. A global one is verified once by itself
 * (see `global-functions.ts`), so a call of it checks the arguments and forgets what it may have changed. A callback is
 * entered from its helper's call site any number of times: one path skips it, another runs it and comes back to
 * the call site, where comparison with the state before the iteration ends the loop.
 */
import type { CallSubprogram } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { checkGlobalCall } from './global-functions.ts';
import { forgetCallerSaved, forgetPackets } from './helper-call.ts';
import { needRegister } from './precision.ts';
import { PRECISE_ITERATIONS, previousEntry, widenChanged } from './prune.ts';
import { checkNothingHeld } from './references.ts';
import { kindName, type RegisterState, register, UNINITIALIZED, UNKNOWN_SCALAR, ZERO_SCALAR } from './registers.ts';
import { isZero, range } from './scalar.ts';
import { Frame, MAX_FRAMES } from './state.ts';
import { refuseLeak } from './unprivileged.ts';

const NOT_INLINED = -1;

const GONE = 'Return a number: the stack of a function is gone once it has returned.';

function checkDepth(a: Analysis, subprogram: number): void {
  const { frames } = a.state;
  if (frames.length < MAX_FRAMES) return;
  const recursive = frames.some(frame => frame.subprogram === subprogram);
  a.fail(
    recursive ? 'recursion' : 'too_many_frames',
    `the call stack of ${frames.length + 1} frames is too deep`,
    'E2BIG',
  );
}

/** @returns the slot to go on at. */
export function executeSubprogramCall(a: Analysis, i: CallSubprogram): number {
  const target = a.insn + 1 + i.offset;
  const index = a.cfg.subprogramOf[target]!;
  const subprogram = a.cfg.subprograms[index]!;
  checkDepth(a, index);
  if (subprogram.linkage === 'global') {
    checkGlobalCall(a, index);
    return a.insn + 1;
  }
  const caller = a.state.frame;
  const chain = caller.chain.enter(a.insn, subprogram.start, subprogram.end);
  const frame = Frame.enter(a.insn, index, false, chain);
  for (let r = 1; r <= 5; r++) frame.registers[r] = caller.registers[r]!;
  forgetCallerSaved(a);
  a.log.frames('caller:', a.state);
  a.state.frames.push(frame);
  a.log.frames('callee:', a.state);
  a.log.touchAll();
  return subprogram.start;
}

/** Registers that a callback starts with. */
function callbackArguments(a: Analysis, name: string, caller: Frame): (RegisterState | undefined)[] {
  // bpf_loop(iterations, callback, context, flags) calls callback(index, context).
  if (name === 'loop') return [UNKNOWN_SCALAR, caller.registers[3]!];
  // bpf_user_ringbuf_drain(map, callback, context, flags) calls callback(dynptr, context).
  if (name === 'user_ringbuf_drain') return [register('constDynptr', { id: a.newId() }), caller.registers[3]!];
  // bpf_for_each_map_elem(map, callback, context, flags) calls callback(map, key, value, context).
  const map = caller.registers[1]!;
  const element = { map: map.map!, mapUid: map.mapUid };
  return [map, register('mapKey', element), register('mapValue', element), caller.registers[3]!];
}

/** Queues a path that runs the callback once and comes back to this call. */
export function enterCallback(a: Analysis, name: string, subprogram: number): void {
  a.facts.callbacks.add(subprogram);
  const caller = a.state.frame;
  const iterations = caller.registers[1]!;
  if (name === 'loop') {
    noteFlags(a, subprogram);
    needRegister(a, 1);
  }
  if (iterations.kind === 'scalar' && BigInt(caller.callbackDepth) >= iterations.value.umax) {
    leaveCallbackLoop(a, caller);
    if (a.log.level === 2) a.log.write(`frame${a.state.frames.length - 1} bpf_loop iteration limit reached`);
    return;
  }
  checkDepth(a, subprogram);
  const { start, end } = a.cfg.subprograms[subprogram]!;
  const state = a.push(start, a.insn, true);
  state.callbackUnrollDepth++;
  state.frame.callbackDepth++;
  const frame = Frame.enter(a.insn, subprogram, true, caller.chain.enter(a.insn, start, end));
  callbackArguments(a, name, caller).forEach((value, index) => {
    frame.registers[index + 1] = value ?? UNINITIALIZED;
  });
  state.frames.push(frame);
  a.log.touchAll();
  leaveCallbackLoop(a, caller);
}

/** The kernel may put the loop in place of its call if that always has the same callback and no flags. So it relies on the flags. */
function noteFlags(a: Analysis, subprogram: number): void {
  const before = a.inlinedLoops.get(a.insn);
  if (before === NOT_INLINED) return;
  const { kind, value } = a.state.registers[4]!;
  const without = kind === 'scalar' && isZero(value);
  if (without) needRegister(a, 4);
  a.inlinedLoops.set(a.insn, without && (before ?? subprogram) === subprogram ? subprogram : NOT_INLINED);
}

/** The path goes on behind the call. */
function leaveCallbackLoop(a: Analysis, caller: Frame): void {
  caller.callbackDepth = 0;
  caller.callbackLoop = ++a.callbackLoops;
}

/**
 * Leaves the innermost frame.
 * @returns the slot to go on at; -1 where the path ends.
 */
export function executeExit(a: Analysis): number {
  const { state } = a;
  checkNothingHeld(a, 'BPF_EXIT instruction in main prog');
  if (state.frames.length === 1) {
    checkReturn(a);
    return -1;
  }
  return leaveFrame(a);
}

/**
 * A tail call in a function. Where it succeeds, the target returns anything to the function's caller, and may have moved the packet.
 * @returns the slot to go on at
 */
export function returnFromTarget(a: Analysis): number {
  // Where it does not, the path goes on behind it.
  a.push(a.insn + 1, a.insn);
  forgetPackets(a);
  return leaveEarly(a, UNKNOWN_SCALAR);
}

/**
 * A load from the packet in a function: where it misses the packet it ends the function, with 0.
 * @returns the slot to go on at
 */
export function returnFromMiss(a: Analysis): number {
  a.push(a.insn + 1, a.insn);
  const next = leaveEarly(a, ZERO_SCALAR);
  a.log.touchRegister(6);
  return next;
}

function leaveEarly(a: Analysis, result: RegisterState): number {
  a.state.registers[0] = result;
  const next = leaveFrame(a);
  a.log.touchRegister(0);
  return next;
}

function leaveFrame(a: Analysis): number {
  const { state } = a;
  a.stackLiveness.update(state);
  const callee = state.frame;
  const result = callee.registers[0]!;
  if (result.kind === 'stack')
    a.fail('invalid_return_value', 'cannot return stack pointer to the caller', 'EINVAL', GONE);
  if (callee.isCallback) {
    needRegister(a, 0);
    a.history.noteCallback();
    checkCallbackReturn(a, result);
    a.log.frames('returning from callee:', state);
    state.frames.pop();
    a.log.frames(`to caller at ${callee.callSite}:`, state);
    widenLoop(a, callee.callSite);
    return callee.callSite;
  }
  a.log.frames('returning from callee:', state);
  state.frames.pop();
  state.registers[0] = result;
  a.log.frames(`to caller at ${callee.callSite + 1}:`, state);
  return callee.callSite + 1;
}

/**
 * Before the next iteration, what the last one changed becomes unknown, so that iterations converge. What something relied on stays
 * as it is for as long as walking each iteration may come to an end.
 */
function widenLoop(a: Analysis, callSite: number): void {
  const { state } = a;
  const before = previousEntry(state, callSite, state.parent);
  if (before === undefined) return;
  const { callbackDepth, registers } = state.frame;
  const bounded = registers[1]!.kind === 'scalar' && registers[1]!.value.umax < a.maxInsns;
  const affordable = callbackDepth <= PRECISE_ITERATIONS || (bounded && a.insnsProcessed < a.maxInsns / 2);
  widenChanged(before, state, affordable && a.options.checking?.precision !== 'all');
}

function outside(name: string, where: string, r: RegisterState, min: bigint, max: bigint): string {
  const { smin, smax } = r.value;
  let known = '';
  if (smin > -(1n << 63n)) known += ` smin=${smin}`;
  if (smax < (1n << 63n) - 1n) known += ` smax=${smax}`;
  return `${where} the register ${name} has${known === '' ? ' unknown scalar value' : known} should have been in [${min}, ${max}]`;
}

function checkCallbackReturn(a: Analysis, result: RegisterState): void {
  if (result.kind === 'uninitialized') a.fail('uninitialized_register', 'R0 !read_ok');
  if (result.kind !== 'scalar') a.fail('invalid_return_value', 'R0 not a scalar value');
  if (result.value.smin < 0n || result.value.smax > 1n)
    a.fail('invalid_return_value', outside('R0', 'At callback return', result, 0n, 1n), 'EINVAL');
}

/** What the program type allows in r0 at the end. */
function checkReturn(a: Analysis): void {
  const result = a.read(0);
  refuseLeak(a, result, 'R0 leaks addr as return value');
  if (a.root > 0) {
    if (result.kind !== 'scalar')
      a.fail(
        'invalid_return_value',
        `At subprogram exit the register R0 is not a scalar value (${kindName(result)})`,
        'EINVAL',
      );
    return;
  }
  if (a.program.type === 'raw' && result.kind !== 'scalar')
    a.fail(
      'invalid_return_value',
      `At program exit the register R0 is not a known value (${kindName(result)})`,
      'EINVAL',
    );
  if (a.program.type !== 'cgroup_skb') return;
  needRegister(a, 0);
  if (result.kind !== 'scalar')
    a.fail(
      'invalid_return_value',
      `At program exit the register R0 is not a known value (${kindName(result)})`,
      'EINVAL',
    );
  const max = a.program.attachType === 'cgroup_inet_egress' ? 3n : 1n;
  const { umin, umax } = range(0n, max);
  if (result.value.smin < umin || result.value.smax > umax)
    a.fail('invalid_return_value', outside('R0', 'At program exit', result, 0n, max), 'EINVAL');
}
