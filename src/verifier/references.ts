/**
 * References: what a program got from a helper and must give back before it ends.
 *
 * Problem: a reserved ring buffer record or a socket that is never given back is lost to everybody; one that is used after
 * it was given back may be somebody else's. Strategy (the kernel's): the call that acquires makes a reference with an
 * id of its own, which the path's state lists (`State.references`) and every pointer derived from the result carries
 * (`RegisterState.reference`). The call that releases takes the id off the list and makes all pointers with it plain numbers, in
 * registers and stack slots of all frames. A null check that finds the result null ends the reference too.
 *
 * Invariants: a pointer's `reference` is 0 or on the list. A state covers another only if their lists match one to one, so
 * paths that hold different references are never merged (`prune.ts`).
 */
import type { MapSpec } from '../object/spec.ts';
import type { Analysis } from './analysis.ts';
import { formatTnum } from './format.ts';
import { checkNoLock } from './locks.ts';
import { kindName, type RegisterState } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';
import type { State } from './state.ts';

export interface Reference {
  /** Positive, and what `RegisterState.reference` holds; but see `lock`. */
  readonly id: number;
  /** Slot of the call that acquired it. */
  readonly insn: number;
  /** A spin lock that is held (`locks.ts`): the map of the value that it is in, whose id `id` is then. */
  readonly lock?: MapSpec;
}

/**
 * The current instruction acquires something. @returns the reference's id
 * @param pointer it comes as an or-null result; else it lies on the stack
 */
export function acquireReference(a: Analysis, pointer = true): number {
  // The kernel numbers the or-null result first: ids in the log then are the kernel's.
  if (pointer) a.newId();
  const id = a.newId();
  a.state.references = [...a.state.references, { id, insn: a.insn }];
  return id;
}

/** Takes a reference off the list, and leaves the pointers alone. @returns whether it was there */
export function dropReference(state: State, id: number): boolean {
  const left = state.references.filter(reference => reference.id !== id || reference.lock !== undefined);
  if (left.length === state.references.length) return false;
  state.references = left;
  return true;
}

/** Ends a reference: nothing that carries it is a pointer any more. @returns whether it was held */
export function releaseReference(a: Analysis, state: State, id: number): boolean {
  if (!dropReference(state, id)) return false;
  state.mapRegisters(r => (r.reference === id ? a.forgotten : r));
  return true;
}

/** May register `number` be given to a helper that ends the reference? It must be what the acquiring call returned, unmoved. */
export function checkReleased(a: Analysis, number: number, r: RegisterState): void {
  if (r.offset !== 0)
    a.fail(
      'invalid_argument',
      `R${number} must have zero offset when passed to release func or trusted arg to kfunc`,
      'EINVAL',
      'Keep the pointer as the acquiring helper returned it.',
    );
  if (!isConstant(r.value) || constantValue(r.value) !== 0n)
    a.fail('invalid_argument', `variable ${kindName(r)} access var_off=${formatTnum(r.value.tnum)} disallowed`);
  if (r.reference === 0)
    a.fail(
      'invalid_argument',
      `R${number} must be referenced when passed to release function`,
      'EINVAL',
      'Release only what the program acquired.',
    );
}

/**
 * Refuses what must not happen while something is held: the program's end, a tail call, a legacy packet load.
 * @param what in the kernel's words
 */
export function checkNothingHeld(a: Analysis, what: string): void {
  const inner = a.state.frames.length > 1;
  const returns = inner && a.insns[a.insn]!.kind === 'exit';
  // Below the first frame all is still the callers' to give back.
  const held = inner ? [] : a.state.references.filter(({ lock }) => lock === undefined);
  if (!returns) checkNoLock(a, what);
  if (held.length === 0) {
    if (!returns) checkNoRegion(a, what);
    return;
  }
  const lines = held.map(({ id, insn }) => `Unreleased reference id=${id} alloc_insn=${insn}`);
  a.fail(
    'unreleased_reference',
    `${lines.join('\n')}\n${what} would lead to reference leak`,
    'EINVAL',
    `Give back what instruction ${held[0]!.insn} acquired, on this path too.`,
  );
}

/** Regions that bpf_rcu_read_lock and bpf_preempt_disable begin must be left. */
function checkNoRegion(a: Analysis, what: string): void {
  const { rcuDepth, preemptDepth } = a.state;
  const region = rcuDepth > 0 ? 'bpf_rcu_read_lock-ed' : preemptDepth > 0 ? 'bpf_preempt_disable-ed' : undefined;
  if (region !== undefined)
    a.fail(
      'unreleased_reference',
      `${what} cannot be used inside ${region} region`,
      'EINVAL',
      'Leave the region first, on this path too.',
    );
}
