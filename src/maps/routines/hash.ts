/** The operations of hash and per-CPU hash. How they work, and why that is safe: hash-parts.ts. */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RunContext } from '../../memory/layout.ts';
import { UpdateFlag } from '../map.ts';
import {
  atCpu,
  bucketOf,
  CLEAR_ALL_CPUS,
  COPY_ALL_CPUS,
  COPY_THIS_CPU,
  COPY_VALUE,
  DELETE,
  FILL_KEY,
  findLocked,
  HASH,
  LINK,
  LOOKUP,
  lock,
  MISS,
  NEXT_KEY,
  place,
  REPLACE,
  replaceValue,
  SPARE,
  take,
  UNLOCK,
  unlockAndFail,
} from './hash-parts.ts';
import { fail } from './text.ts';

/** Start of both kinds of update: hash on the stack, value in r6, flags in r7, bucket r9 locked, element looked for. */
const UPDATE_HEAD = `
  if r4 > ${UpdateFlag.exist} goto invalid
  r6 = r3
  r7 = r4
  ${HASH}
  *(u64 *)(r10 - 8) = r0
  ${bucketOf('r9')}
  ${lock('lock')}
  ${findLocked('absent')}
  if r7 == ${UpdateFlag.noExist} goto exists`;

const UPDATE_ERRORS =
  fail('invalid', 'EINVAL') +
  unlockAndFail('exists', 'EEXIST') +
  unlockAndFail('missing', 'ENOENT') +
  unlockAndFail('full', 'E2BIG');

const DONE = `
  ${UNLOCK}
  r0 = 0
  exit`;

/** @param fillKey text that completes element r3 from the key at r2; as FILL_KEY, it may change r0, r2, r4, r5, ax */
export const hashUpdate = (fillKey: string): string => `
  if r4 > ${UpdateFlag.exist} goto locked
  ${UPDATE_HEAD}
  *(u64 *)(r10 - 16) = r3
  ${replaceValue('spare')}
  ${DONE}
spare:
  ${SPARE}
  r3 = *(u64 *)(r0 + 0)
  goto fill
absent:
  if r7 == ${UpdateFlag.exist} goto missing
  ${take('full')}
  ${place(false)}
  r8 = 0
fill:
  ${fillKey}
  ${COPY_VALUE}
  if r8 == 0 goto insert
  ${REPLACE}
  ${DONE}
insert:
  ${LINK}
  ${DONE}
locked:
  call routine hash_update_locked
  exit
  ${UPDATE_ERRORS}`;

const perCpuUpdate = (prepare: string, copy: string): string => `
  ${UPDATE_HEAD}
  goto copy
absent:
  if r7 == ${UpdateFlag.exist} goto missing
  ${take('full')}
  ${place(true)}
  r8 = 0
  ${FILL_KEY}
  ${prepare}
copy:
  ${copy}
  if r8 != 0 goto done
  ${LINK}
done:
  ${DONE}
  ${UPDATE_ERRORS}`;

export const HASH_ROUTINES: readonly Routine[] = [
  { name: 'hash_lookup', text: `${LOOKUP}\n  exit\n${MISS}` },
  { name: 'hash_update', text: hashUpdate(FILL_KEY) },
  { name: 'hash_delete', text: DELETE },
  { name: 'hash_next_key', text: NEXT_KEY },
  {
    name: 'percpu_hash_lookup',
    text: `
  ${LOOKUP}
  r0 = *(u64 *)(r0 + 0)
  r2 = run_context
  r2 = *(u32 *)(r2 + ${RunContext.cpu})
  ${atCpu('r2')}
  exit
  ${MISS}`,
  },
  {
    // The value of CPU r3, 0 where there is no such CPU.
    name: 'percpu_hash_lookup_percpu',
    text: `
  r4 = *(u32 *)(r1 + ${MapHeader.cpus})
  if r3 >= r4 goto miss
  r6 = r3
  ${LOOKUP}
  r0 = *(u64 *)(r0 + 0)
  ${atCpu('r6')}
  exit
  ${MISS}`,
  },
  { name: 'percpu_hash_update', text: perCpuUpdate(CLEAR_ALL_CPUS, COPY_THIS_CPU) },
  // All CPUs' values at once, each rounded up to 8 bytes.
  { name: 'percpu_hash_update_percpu', text: perCpuUpdate('', COPY_ALL_CPUS) },
  { name: 'percpu_hash_delete', text: DELETE },
  { name: 'percpu_hash_next_key', text: NEXT_KEY },
];
