/**
 * What the kernel refuses to programs of users without CAP_PERFMON (pointers must not leak, and must stay within their
 * object also where the processor speculates: see `speculation.ts`), and of those without CAP_BPF in addition (no functions, no
 * loops, less memory of numbers).
 *
 * Source: kernel/bpf/verifier.c of Linux 6.18: `allow_ptr_leaks`, `bypass_spec_v1` (`sanitize_ptr_alu`), `bpf_capable`.
 */
import type { Alu, Instruction, Register } from '../isa/instruction.ts';
import { specialFields } from '../maps/special-fields.ts';
import type { ProgramSpec } from '../object/spec.ts';
import type { Analysis } from './analysis.ts';
import { jumpsTo, type Refuse } from './cfg.ts';
import { findLoops } from './control-loops.ts';
import { formatTnum } from './format.ts';
import { isPointer, type RegisterState } from './registers.ts';
import { isConstant } from './scalar.ts';
import { guessUnmoved } from './speculation.ts';
import { STACK_BYTES } from './state.ts';

/** Largest program without CAP_BPF, in slots. */
const MAX_UNPRIVILEGED_SLOTS = 4096;

/** Program types that may be loaded without CAP_BPF. `raw` ones have no kernel to ask. */
const UNPRIVILEGED_TYPES: ReadonlySet<string> = new Set(['socket_filter', 'cgroup_skb', 'raw']);

/** Helpers that need CAP_BPF, or CAP_PERFMON where the second says so (`bpf_base_func_proto`). */
const NEEDS_BPF: ReadonlySet<string> = new Set(
  (
    'spin_lock spin_unlock jiffies64 per_cpu_ptr this_cpu_ptr timer_init timer_set_callback timer_start timer_cancel kptr_xchg ' +
    'for_each_map_elem loop user_ringbuf_drain ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr ' +
    'dynptr_from_mem dynptr_read dynptr_write dynptr_data'
  ).split(' '),
);
const NEEDS_PERFMON: ReadonlySet<string> = new Set(
  (
    'trace_printk trace_vprintk snprintf snprintf_btf get_current_task get_current_task_btf probe_read_user probe_read_kernel ' +
    'probe_read_user_str probe_read_kernel_str task_pt_regs perf_event_read_value skc_to_tcp_sock skc_to_tcp6_sock ' +
    'skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock skc_to_mptcp_sock'
  ).split(' '),
);

const SANITATION = 'pointer arithmetic with it prohibited for !root';

/** May the program call the helper? `name`: without bpf_. */
export function helperPermitted(a: Analysis, name: string): boolean {
  return !(a.withoutBpf && NEEDS_BPF.has(name)) && !(a.leaksRefused && NEEDS_PERFMON.has(name));
}

/** Refuses where a pointer's address would become visible. */
export function refuseLeak(a: Analysis, r: RegisterState, text: string): void {
  if (a.leaksRefused && isPointer(r)) a.fail('pointer_leak', text);
}

/** A spilled pointer must be written over as a whole, or its pieces could be read. */
export function checkCorruption(a: Analysis, spilled: RegisterState | undefined, size: number): void {
  if (a.leaksRefused && size !== 8 && spilled !== undefined && isPointer(spilled))
    a.fail('pointer_leak', 'attempt to corrupt spilled pointer on stack');
}

/** An offset on the stack that only the run knows. */
export function checkStackVariable(a: Analysis, number: number, r: RegisterState, indirect: boolean): void {
  if (a.leaksRefused && !isConstant(r.value))
    a.fail(
      'pointer_leak',
      `R${number}${indirect ? ' indirect' : ''} variable offset stack access prohibited for !root, var_off=${formatTnum(r.value.tnum)}`,
    );
}

/** An atomic operation on a spilled pointer would make a number of it. */
export function checkAtomicOnStack(a: Analysis, pointer: RegisterState, offset: number): void {
  if (!a.leaksRefused || pointer.kind !== 'stack' || !isConstant(pointer.value)) return;
  const at = pointer.offset + Number(BigInt.asIntN(64, pointer.value.tnum.value)) + offset;
  const spilled = a.state.frames[pointer.frame]!.slots[(-at - 1) >> 3]?.spilled;
  if (spilled !== undefined && isPointer(spilled)) a.fail('pointer_leak', `leaking pointer from stack off ${at}`);
}

/** What the arithmetic at an instruction must be limited to; different limits on different paths can't be. */
export interface Sanitation {
  state: number;
  limit: number;
}

const NEGATIVE = 1;
const IMMEDIATE = 2;
const FROM_SOURCE = 4;
const FROM_TARGET = 8;
const NON_POINTER = 16;

function update(a: Analysis, i: Alu, state: number, limit: number): Sanitation {
  const known = a.sanitations.get(a.insn);
  if (known !== undefined && (known.state !== state || known.limit !== limit)) refusePaths(a, i);
  const sanitation = known ?? { state, limit };
  a.sanitations.set(a.insn, sanitation);
  return sanitation;
}

function refusePaths(a: Analysis, i: Alu): never {
  return refuse(a, i, `tried to ${i.op} from different maps, paths or scalars`);
}

function refuse(a: Analysis, i: Alu, what: string): never {
  return a.fail('pointer_leak', `R${i.dst} ${what}, ${SANITATION}`);
}

const needed = (a: Analysis, i: Alu): boolean =>
  a.leaksRefused &&
  i.src !== undefined &&
  i.width === 64 &&
  (i.op === 'add' || i.op === 'sub') &&
  !a.barriers.has(a.insn);

/** Numbers only. */
export function sanitizeScalar(a: Analysis, i: Alu): void {
  if (!a.leaksRefused || i.src === undefined || a.barriers.has(a.insn)) return;
  if (i.op === 'add' || i.op === 'sub') update(a, i, NON_POINTER, 0);
}

/** How far the pointer is from the end that it moves to. */
function limitOf(a: Analysis, i: Alu, pointer: RegisterState, left: boolean, fromTarget = true): number {
  let max: number;
  let limit: number;
  if (pointer.kind === 'stack') {
    max = STACK_BYTES + (left ? 1 : 0);
    limit = -(Number(BigInt.asIntN(64, pointer.value.tnum.value)) + pointer.offset);
  } else if (pointer.kind === 'mapValue') {
    max = pointer.map!.valueSize;
    limit = Number(left ? pointer.value.smin : pointer.value.umax) + pointer.offset;
  } else {
    const number = fromTarget ? i.dst : i.src;
    return a.fail('pointer_leak', `R${number} has pointer with unsupported alu operation, ${SANITATION}`);
  }
  if (limit >>> 0 >= max) refuse(a, i, `tried to ${i.op} beyond pointer bounds`);
  return limit >>> 0;
}

/** Before the move. @returns what `sanitizeMoved` wants, undefined where nothing needs to be limited */
export function sanitizePointer(
  a: Analysis,
  i: Alu,
  pointer: RegisterState,
  amount: RegisterState,
  pointerIsTarget: boolean,
): { readonly left: boolean; readonly state: number; readonly limit: number } | undefined {
  if (!needed(a, i)) return undefined;
  const { value } = amount;
  if (a.state.speculative) {
    if (!isConstant(value)) guessUnmoved(a, i.dst, pointer);
    return undefined;
  }
  const negative = value.smin < 0n;
  const constant = isConstant(value);
  if (!constant && negative !== value.smax < 0n) {
    const number = pointerIsTarget ? i.src : i.dst;
    a.fail('pointer_leak', `R${number} has unknown scalar with mixed signed bounds, ${SANITATION}`);
  }
  const left = (i.op === 'add') === negative;
  const limit = limitOf(a, i, pointer, left, pointerIsTarget);
  const state = (negative ? NEGATIVE : 0) | (constant ? IMMEDIATE : 0) | (pointerIsTarget ? FROM_SOURCE : FROM_TARGET);
  if (!constant) {
    a.limitsExplored = true;
    guessUnmoved(a, i.dst, pointer);
  }
  return { left, state, limit };
}

/** After the move: it must have stayed within the object, and the window is what it moved by. */
export function sanitizeMoved(
  a: Analysis,
  i: Alu,
  moved: RegisterState,
  before: ReturnType<typeof sanitizePointer>,
): void {
  if (!a.leaksRefused) return;
  checkMoved(a, i.dst, moved);
  if (before === undefined) return;
  update(a, i, before.state, Math.abs(before.limit - limitOf(a, i, moved, before.left)));
}

function checkMoved(a: Analysis, number: Register, moved: RegisterState): void {
  if (moved.kind === 'stack') {
    const at = moved.offset + Number(BigInt.asIntN(64, moved.value.tnum.value));
    if (!isConstant(moved.value))
      a.fail(
        'pointer_leak',
        `R${number} variable stack access prohibited for !root, var_off=${formatTnum(moved.value.tnum)} off=${at}`,
      );
    if (at >= 0 || at < -STACK_BYTES)
      a.fail('pointer_leak', `R${number} stack pointer arithmetic goes out of range, prohibited for !root; off=${at}`);
    return;
  }
  if (moved.kind !== 'mapValue') return;
  const { smin, umax } = moved.value;
  const low = smin + BigInt(moved.offset);
  const high = umax + BigInt(moved.offset) + 1n;
  const special = specialFields(moved.map!, a.program.btf).some(
    field => low < BigInt(field.offset + field.size) && high > BigInt(field.offset),
  );
  if (special || low < 0n || umax >= 1n << 29n || high > BigInt(moved.map!.valueSize))
    a.fail('pointer_leak', `R${number} pointer arithmetic of map value goes out of range, prohibited for !root`);
}

/** Comparing pointers tells of addresses, unless they are the bounds of a packet. */
export function refuseComparison(a: Analysis, r: RegisterState, number: number): void {
  if (a.leaksRefused && isPointer(r)) a.fail('pointer_leak', `R${number} pointer comparison prohibited`);
}

/** Tail calls are limited by masks of one map. */
export function checkTailCalls(a: Analysis): void {
  if (!a.leaksRefused) return;
  const guessed = new Map(a.speculativeFacts.tailCalls.map(({ insn, maps }) => [insn, maps]));
  for (const { insn, maps } of a.realFacts.tailCalls) {
    if (new Set([...maps, ...(guessed.get(insn) ?? [])]).size < 2) continue;
    a.insn = insn;
    a.fail('pointer_leak', 'tail_call abusing map_ptr', 'EINVAL');
  }
}

/** What the kernel refuses to users without CAP_BPF before it looks at single instructions. */
export function checkUnprivileged(program: ProgramSpec, refuse: Refuse): void {
  const { type, insns } = program;
  if (!UNPRIVILEGED_TYPES.has(type)) refuse('not_permitted', `programs of type ${type} need CAP_BPF`, 'EPERM');
  if (insns.length > MAX_UNPRIVILEGED_SLOTS)
    refuse(
      'not_permitted',
      `the program has ${insns.length} instructions, without CAP_BPF at most ${MAX_UNPRIVILEGED_SLOTS} are allowed`,
      'E2BIG',
    );
  const call = insns.findIndex(
    i =>
      i.kind === 'callSubprogram' ||
      i.kind === 'callKfunc' ||
      (i.kind === 'loadImm64' && i.reference?.type === 'function'),
  );
  if (call >= 0)
    refuse(
      'not_permitted',
      'loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN',
      'EPERM',
      call,
    );
}

/** A jump back to where the program has come from. */
export function backEdge(insns: readonly Instruction[]): readonly [from: number, to: number] | undefined {
  const loops = findLoops(insns);
  const from = insns.findIndex((i, insn) => {
    const to = jumpsTo(i, insn);
    return to >= 0 && to <= insn && loops[insn] !== 0 && loops[insn] === loops[to];
  });
  return from < 0 ? undefined : [from, jumpsTo(insns[from]!, from)];
}
