/**
 * Array and per-CPU array. Elements lie `stride` bytes apart from `values` on; in a per-CPU array each CPU has such a run
 * of elements of its own, `cpuStride` bytes after the one before, a multiple of the cache line, so that counting CPUs do
 * not share lines.
 *
 * Arguments and results as of the kernel's operations: map, pointer to key, pointer to value, flags; a value's address or 0, 0 or -errno.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RunContext } from '../../memory/layout.ts';
import { UpdateFlag } from '../map.ts';
import { UPDATE_LOCK } from '../uapi.ts';
import { copyBytes, copyValue, fail } from './text.ts';

/** r0 = address of element r2 of map r1 (of the first CPU). Changes r2. */
const ELEMENT = `
  r0 = *(u32 *)(r1 + ${MapHeader.stride})
  r0 *= r2
  r2 = *(u64 *)(r1 + ${MapHeader.values})
  r0 += r2`;

/** r2 = index from the key at r2; leaves to `miss` where it is out of range. Changes r0. */
const index = (miss: string): string => `
  r2 = *(u32 *)(r2 + 0)
  r0 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r2 >= r0 goto ${miss}`;

/** Checks the flags in r4 and the index in the order of the kernel: EINVAL, E2BIG, EEXIST; goes to `locked` with BPF_F_LOCK. Changes r0, r2 and r5. */
const checkUpdate = (locked: string): string => `
  r5 = r4
  r5 &= ${~UPDATE_LOCK}
  if r5 > ${UpdateFlag.exist} goto invalid
  ${index('range')}
  r5 = r4
  r5 &= ${UpdateFlag.noExist}
  if r5 != 0 goto exists
  r4 &= ${UPDATE_LOCK}
  if r4 != 0 goto ${locked}`;

const UPDATE_ERRORS = fail('invalid', 'EINVAL') + fail('range', 'E2BIG') + fail('exists', 'EEXIST');

/** Adds the offset of CPU `cpu` (a register) to r0. Changes it and r2. */
const atCpu = (cpu: string): string => `
  r2 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  ${cpu} *= r2
  r0 += ${cpu}`;

const thisCpu = (register: string): string => `
  ${register} = run_context
  ${register} = *(u32 *)(${register} + ${RunContext.cpu})`;

const MISS = `
miss:
  r0 = 0
  exit`;

const deletion = fail('invalid', 'EINVAL');

/** The key after *r2 in ascending order; the first where r2 is null or *r2 is out of range. */
const NEXT_KEY = `
  r4 = 0
  if r2 == 0 goto store
  r5 = *(u32 *)(r2 + 0)
  r0 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r5 >= r0 goto store
  r5 += 1
  if r5 == r0 goto end
  r4 = r5
store:
  *(u32 *)(r3 + 0) = r4
  r0 = 0
  exit
${fail('end', 'ENOENT')}`;

export const ARRAY_ROUTINES: readonly Routine[] = [
  {
    name: 'array_lookup',
    text: `
  ${index('miss')}
  ${ELEMENT}
  exit
  ${MISS}`,
  },
  {
    name: 'array_update',
    text: `
  ${checkUpdate('locked')}
  ${ELEMENT}
  ${copyValue('copy', 'r0', 'r3', 'r5', 'r4')}
  r0 = 0
  exit
locked:
  call routine array_update_locked
  exit
  ${UPDATE_ERRORS}`,
  },
  { name: 'array_delete', text: deletion },
  { name: 'array_next_key', text: NEXT_KEY },

  {
    name: 'percpu_array_lookup',
    text: `
  ${index('miss')}
  ${ELEMENT}
  ${thisCpu('r3')}
  ${atCpu('r3')}
  exit
  ${MISS}`,
  },
  {
    // The value of CPU r3, 0 where there is no such CPU.
    name: 'percpu_array_lookup_percpu',
    text: `
  r4 = *(u32 *)(r1 + ${MapHeader.cpus})
  if r3 >= r4 goto miss
  ${index('miss')}
  ${ELEMENT}
  ${atCpu('r3')}
  exit
  ${MISS}`,
  },
  {
    name: 'percpu_array_update',
    text: `
  ${checkUpdate('invalid')}
  ${ELEMENT}
  ${thisCpu('r5')}
  ${atCpu('r5')}
  r5 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('copy', 'r0', 'r3', 'r5', 'r4')}
  r0 = 0
  exit
  ${UPDATE_ERRORS}`,
  },
  {
    // All CPUs' values at once, from r3 on, each rounded up to 8 bytes.
    name: 'percpu_array_update_percpu',
    text: `
  ${checkUpdate('invalid')}
  ${ELEMENT}
  r6 = r0
  r7 = r3
  r8 = *(u32 *)(r1 + ${MapHeader.cpus})
cpu:
  r2 = r6
  r3 = r7
  r5 = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${copyBytes('copy', 'r2', 'r3', 'r5', 'r4')}
  r0 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  r6 += r0
  r0 = *(u32 *)(r1 + ${MapHeader.stride})
  r7 += r0
  r8 -= 1
  if r8 != 0 goto cpu
  r0 = 0
  exit
  ${UPDATE_ERRORS}`,
  },
  { name: 'percpu_array_delete', text: deletion },
  { name: 'percpu_array_next_key', text: NEXT_KEY },
];
