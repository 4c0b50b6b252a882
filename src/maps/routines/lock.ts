/**
 * Spin locks in map values, and updates that take them (BPF_F_LOCK).
 *
 * The word is 0 where the lock is free and 1 where it is taken. Who waits reads it until it looks free, and only then tries
 * to take it, so that waiting writes nothing. Holders never sleep: the verifier sees to it that a program calls nothing and
 * ends no run while it holds one, and routines copy one value.
 *
 * `MapHeader.lockPlace` says where the lock of a value is. Every update leaves the lock's own bytes alone (`copyValue`), as
 * the kernel's does: somebody may hold it.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader } from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { UpdateFlag } from '../map.ts';
import { UPDATE_LOCK } from '../uapi.ts';
import { copyValue, fail } from './text.ts';

/** Copies the value at r8 to the one at r9, of the map in r6, with the lock of the latter taken. */
const COPY_LOCKED = `
  r7 = *(u32 *)(r6 + ${MapHeader.lockPlace})
  r7 -= 1
  r7 += r9
  r1 = r7
  call routine bpf_spin_lock
  r1 = r6
  r3 = r8
  ${copyValue('value', 'r9', 'r3', 'r5', 'r4')}
  r1 = r7
  call routine bpf_spin_unlock
  r0 = 0
  exit`;

export const LOCK_ROUTINES: readonly Routine[] = [
  {
    name: 'bpf_spin_lock',
    text: `
again:
  w0 = *(u32 *)(r1 + 0)
  if w0 != 0 goto again
  w2 = 1
  w0 = cmpxchg32_32(r1 + 0, w0, w2)
  if w0 != 0 goto again
  exit`,
  },
  {
    name: 'bpf_spin_unlock',
    text: `
  w2 = 0
  store_release((u32 *)(r1 + 0), w2)
  r0 = 0
  exit`,
  },
  {
    // With the index itself in r2: array_update found it and the flags to be good, and BPF_F_LOCK among the latter.
    name: 'array_update_locked',
    text: `
  r4 = *(u32 *)(r1 + ${MapHeader.lockPlace})
  if r4 == 0 goto invalid
  r6 = r1
  r8 = r3
  r9 = *(u32 *)(r1 + ${MapHeader.stride})
  r9 *= r2
  r2 = *(u64 *)(r1 + ${MapHeader.values})
  r9 += r2
  ${COPY_LOCKED}
  ${fail('invalid', 'EINVAL')}`,
  },
  {
    // An element that is there is changed in place, as the kernel does it; a new one cannot be locked by anybody yet.
    name: 'hash_update_locked',
    text: `
  r5 = r4
  r5 &= ${~UPDATE_LOCK}
  if r5 > ${UpdateFlag.exist} goto invalid
  r4 = *(u32 *)(r1 + ${MapHeader.lockPlace})
  if r4 == 0 goto invalid
  r6 = r1
  r7 = r2
  r8 = r3
  *(u64 *)(r10 - 8) = r5
again:
  r1 = r6
  r2 = r7
  call routine hash_lookup
  r9 = r0
  r4 = *(u64 *)(r10 - 8)
  if r9 != 0 goto found
  if r4 == ${UpdateFlag.exist} goto missing
  r1 = r6
  r2 = r7
  r3 = r8
  r4 = ${UpdateFlag.noExist}
  call routine hash_update
  r4 = *(u64 *)(r10 - 8)
  if r4 == ${UpdateFlag.noExist} goto done
  if r0 == -${ERRNO.EEXIST} goto again
done:
  exit
found:
  if r4 == ${UpdateFlag.noExist} goto exists
  ${COPY_LOCKED}
  ${fail('invalid', 'EINVAL')}
  ${fail('exists', 'EEXIST')}
  ${fail('missing', 'ENOENT')}`,
  },
];
