/**
 * User ring buffer: one producer (user-ring-buffer.ts), programs that drain it, one at a time. Layout, record heads and what
 * crosses the middle are as in ringbuf.ts, with the roles changed: here the lock is held by whoever drains, and nobody
 * waits for it. Source: kernel/bpf/ringbuf.c's rules for what a producer wrote; heads are not trusted.
 */
import type { Routine } from '../../isa/routine.ts';
import {
  Dynptr,
  DynptrType,
  MapHeader,
  RingbufLayout,
  RingbufRecord,
  RunContext,
  RuntimeState,
} from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { fail, unlockMap } from './text.ts';

/** Most records, discarded ones included, that a call goes over: BPF_MAX_USER_RINGBUF_SAMPLES. */
const SAMPLES_MAX = 128 * 1024;
const SIZE_MASK = RingbufRecord.discarded - 1;
const DYNPTR_KIND_SHIFT = 28;

const WakeupFlag = { no: 1, force: 2 } as const;

/** Places on the routine's stack. */
const FLAGS = 8;
const DISCARDED = 16;
const AFTER = 24;
const DYNPTR = 40;

/** (map, callback, callback_context, flags): callback(dynptr, context) for each record until it gives 1; how many it got */
const drain: Routine = {
  name: 'bpf_user_ringbuf_drain',
  text: `
  r5 = r4
  r5 &= ${~(WakeupFlag.no | WakeupFlag.force)}
  if r5 != 0 goto invalid
  w5 = 1
  w5 = xchg32_32(r1 + ${RingbufLayout.lock}, w5)
  if w5 != 0 goto busy
  r6 = r1
  r7 = r2
  r8 = r3
  r9 = 0
  *(u64 *)(r10 - ${FLAGS}) = r4
  *(u64 *)(r10 - ${DISCARDED}) = 0
next:
  if r9 >= ${SAMPLES_MAX} goto visited
  r1 = run_context
  r1 = *(u64 *)(r1 + ${RunContext.runtime})
  r1 = *(u32 *)(r1 + ${RuntimeState.stop})
  if r1 != 0 goto visited
  r1 = load_acquire((u64 *)(r6 + ${RingbufLayout.producer}))
  r0 = r1
  r0 &= 7
  if r0 != 0 goto malformed
  r2 = load_acquire((u64 *)(r6 + ${RingbufLayout.consumer}))
  if r2 >= r1 goto visited
  r3 = *(u32 *)(r6 + ${MapHeader.mask})
  r3 &= r2
  r3 += r6
  r3 += ${RingbufLayout.data}
  w4 = load_acquire((u32 *)(r3 + ${RingbufRecord.length}))
  r5 = r4
  r5 &= ${SIZE_MASK}
  r0 = r5
  r0 += ${RingbufRecord.size + 7}
  r0 &= -8
  r1 -= r2
  if r0 > r1 goto malformed
  r1 = *(u32 *)(r6 + ${MapHeader.maxEntries})
  if r0 > r1 goto too_big
  if r5 > ${Dynptr.sizeMax} goto too_big
  r0 += r2
  r1 = r4
  r1 &= ${RingbufRecord.discarded}
  if r1 == 0 goto kept
  store_release((u64 *)(r6 + ${RingbufLayout.consumer}), r0)
  r1 = *(u64 *)(r10 - ${DISCARDED})
  r1 += 1
  *(u64 *)(r10 - ${DISCARDED}) = r1
  r9 += 1
  goto next
kept:
  r4 >>= 31
  if r4 != 0 goto visited
  *(u64 *)(r10 - ${AFTER}) = r0
  r3 += ${RingbufRecord.size}
  *(u64 *)(r10 - ${DYNPTR - Dynptr.data}) = r3
  w5 |= ${DynptrType.local << DYNPTR_KIND_SHIFT}
  *(u32 *)(r10 - ${DYNPTR - Dynptr.size}) = r5
  *(u32 *)(r10 - ${DYNPTR - Dynptr.offset}) = 0
  r1 = r10
  r1 += -${DYNPTR}
  r2 = r8
  r3 = 0
  r4 = 0
  r5 = 0
  callx r7
  r1 = *(u64 *)(r10 - ${AFTER})
  store_release((u64 *)(r6 + ${RingbufLayout.consumer}), r1)
  r9 += 1
  if r0 == 0 goto next
visited:
  r0 = r9
  r1 = *(u64 *)(r10 - ${DISCARDED})
  r0 -= r1
end:
  ${unlockMap('r6', RingbufLayout.lock)}
  r1 = *(u64 *)(r10 - ${FLAGS})
  r2 = r1
  r2 &= ${WakeupFlag.force}
  if r2 != 0 goto wake
  r1 &= ${WakeupFlag.no}
  if r1 != 0 goto done
  if r9 == 0 goto done
wake:
  r5 = 1
  lock *(u64 *)(r6 + ${RingbufLayout.wakeups}) += r5
done:
  exit
malformed:
  r0 = -${ERRNO.EINVAL}
  goto end
too_big:
  r0 = -${ERRNO.E2BIG}
  goto end
  ${fail('busy', 'EBUSY')}
  ${fail('invalid', 'EINVAL')}`,
};

export const USER_RINGBUF_ROUTINES: readonly Routine[] = [drain];
