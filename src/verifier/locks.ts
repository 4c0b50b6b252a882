/**
 * Spin locks in map values: one at a time, nothing called while it is held, given back before the program ends.
 *
 * The lock that is held is an entry of `State.references`, so that states which hold different locks are never merged. Which
 * lock it is the id of the map value tells: a lookup gives each result an id, which is kept for values that hold a lock even
 * after the null check. Values whose address is a constant of the program have id 0: there the map is enough.
 */
import { specialFields } from '../maps/special-fields.ts';
import type { MapSpec } from '../object/spec.ts';
import type { Analysis } from './analysis.ts';
import type { RegisterState } from './registers.ts';
import { constantValue, isConstant } from './scalar.ts';

const LOCK = 'bpf_spin_lock';

function lockOffset(a: Analysis, map: MapSpec): number | undefined {
  return specialFields(map, a.program.btf).find(field => field.name === LOCK)?.offset;
}

export function hasLock(a: Analysis, map: MapSpec): boolean {
  return lockOffset(a, map) !== undefined;
}

function refuse(a: Analysis, text: string, hint?: string): never {
  return a.fail('bad_lock_use', text, 'EINVAL', hint);
}

/** bpf_spin_lock (`take`) or bpf_spin_unlock with a map value in register `number`. */
export function useLock(a: Analysis, number: number, r: RegisterState, take: boolean): void {
  const map = r.map!;
  if (!isConstant(r.value))
    refuse(
      a,
      `R${number} doesn't have constant offset. ${LOCK} has to be at the constant offset`,
      'Pass the address of the lock as the lookup and the type give it.',
    );
  if (map.btfValueId === undefined)
    refuse(a, `map '${map.name}' has to have BTF in order to use ${LOCK}`, 'Declare the map with __type(value, ...).');
  const at = lockOffset(a, map);
  if (at === undefined)
    refuse(a, `map '${map.name}' has no valid ${LOCK}`, 'Put a struct bpf_spin_lock into the type of the values.');
  const offset = r.offset + Number(BigInt.asIntN(64, constantValue(r.value)));
  if (offset !== at)
    refuse(
      a,
      `off ${offset} doesn't point to 'struct ${LOCK}' that is at ${at}`,
      'Pass the address of the lock, not of what it guards.',
    );
  const held = a.state.references.find(reference => reference.lock !== undefined);
  if (take) {
    if (held !== undefined)
      refuse(a, `Locking two ${LOCK}s are not allowed`, `Give back the lock that instruction ${held.insn} took first.`);
    a.state.references = [...a.state.references, { id: r.id, insn: a.insn, lock: map }];
    return;
  }
  if (held === undefined) refuse(a, `${LOCK.replace('_lock', '')}_unlock without taking a lock`);
  if (held.id !== r.id || held.lock !== map) refuse(a, `${LOCK.replace('_lock', '')}_unlock of different lock`);
  a.state.references = a.state.references.filter(reference => reference !== held);
}

/** Refuses a call of a helper or a global function while a lock is held. */
export function checkNoLockAtCall(a: Analysis, kind: 'helper' | 'global'): void {
  if (!holdsLock(a)) return;
  refuse(
    a,
    kind === 'helper'
      ? 'function calls are not allowed while holding a lock'
      : 'global function calls are not allowed while holding a lock,\nuse static function instead',
    'Do the call before the lock is taken or after it was given back.',
  );
}

/** @param what in the kernel's words */
export function checkNoLock(a: Analysis, what: string): void {
  if (holdsLock(a))
    refuse(a, `${what} cannot be used inside ${LOCK}-ed region`, 'Call bpf_spin_unlock first, on this path too.');
}

function holdsLock(a: Analysis): boolean {
  return a.state.references.some(reference => reference.lock !== undefined);
}
