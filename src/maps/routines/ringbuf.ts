/**
 * Ring buffer: many producers, one consumer (ring-buffer.ts). Semantics, record heads and positions are the kernel's
 * (Documentation/bpf/ringbuf.rst).
 *
 * Problem: a program gets a reserved record as one piece of memory, also where it begins near the end of the ring. The kernel
 * maps the ring's pages twice in a row. Strategy here: the ring has room for twice its size, and each record begins in the first
 * half. One that crosses the middle goes on behind it, where no other can be: records are disjoint modulo the size, so
 * the bytes at the ring's start that it stands for are nobody else's until it is consumed. Nothing needs copying, and no
 * memory needs mapping; of the second half only the pages that such records touched are ever held.
 *
 * Invariants:
 * 1. consumer <= pending <= producer, and the producer is less than the size ahead of both others.
 * 2. Behind each position from the consumer's to the producer's that begins a record lies a complete head, made before the
 *    producer's position went past it. Its busy bit is cleared by the exchange that commits it.
 * 3. Producers reserve under the lock; between reserving and committing they hold none. The consumer takes none.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RingbufLayout, RingbufRecord } from '../../memory/layout.ts';
import { ERRNO } from '../errors.ts';
import { copyBytes, fail, lockMap, unlockMap } from './text.ts';

const PAGE_SHIFT = Math.log2(RingbufLayout.data);
/** Longest record, bytes: what is left of the length's 32 bits. */
const RECORD_MAX = 0x3fff_ffff;

const WakeupFlag = { no: 1, force: 2 } as const;
const Query = { available: 0, size: 1, consumer: 2, producer: 3 } as const;

/** `length` = bytes of the ring that a record of as many data takes. */
const withHead = (length: string): string => `
  ${length} += ${RingbufRecord.size + 7}
  ${length} &= -8`;

/** r0 = head of a new record of r2 bytes in map r1, busy; or to `none`, and counted. Keeps r1, r2. Changes all others. */
const claim = (none: string): string => `
  r0 = 0
  if r2 > ${RECORD_MAX} goto drop
  r3 = r2
  ${withHead('r3')}
  r4 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  if r3 > r4 goto drop
  r6 = load_acquire((u64 *)(r1 + ${RingbufLayout.consumer}))
  ${lockMap('r1', RingbufLayout.lock)}
  r7 = *(u64 *)(r1 + ${RingbufLayout.producer})
  r8 = *(u64 *)(r1 + ${RingbufLayout.pending})
  r9 = *(u32 *)(r1 + ${MapHeader.mask})
committed:
  if r8 >= r7 goto settled
  r4 = r8
  r4 &= r9
  r4 += r1
  r4 += ${RingbufLayout.data}
  w5 = load_acquire((u32 *)(r4 + ${RingbufRecord.length}))
  r4 = r5
  r4 >>= 31
  if r4 != 0 goto settled
  r5 &= ${RECORD_MAX}
  ${withHead('r5')}
  r8 += r5
  goto committed
settled:
  *(u64 *)(r1 + ${RingbufLayout.pending}) = r8
  r0 = r7
  r0 += r3
  r4 = r0
  r4 -= r6
  if r4 > r9 goto full
  r4 = r0
  r4 -= r8
  if r4 > r9 goto full
  r4 = r7
  r4 &= r9
  r4 += r1
  r4 += ${RingbufLayout.data}
  r5 = r4
  r5 -= r1
  r5 >>= ${PAGE_SHIFT}
  *(u32 *)(r4 + ${RingbufRecord.page}) = w5
  r5 = r2
  w5 |= ${RingbufRecord.busy | 0}
  *(u32 *)(r4 + ${RingbufRecord.length}) = w5
  store_release((u64 *)(r1 + ${RingbufLayout.producer}), r0)
  ${unlockMap('r1', RingbufLayout.lock)}
  r0 = r4
  goto claimed
full:
  ${unlockMap('r1', RingbufLayout.lock)}
drop:
  r5 = 1
  lock *(u64 *)(r1 + ${RingbufLayout.dropped}) += r5
  goto ${none}
claimed:`;

/** Commits the record with head r1, with wakeup flags r2: the consumer is woken where it waits for this very record. */
const commit = (discard: boolean): string => `
  w3 = *(u32 *)(r1 + ${RingbufRecord.page})
  r3 <<= ${PAGE_SHIFT}
  r4 = r1
  r4 &= ${-RingbufLayout.data}
  r4 -= r3
  w5 = *(u32 *)(r1 + ${RingbufRecord.length})
  w5 ^= ${RingbufRecord.busy | 0}
  ${discard ? `w5 |= ${RingbufRecord.discarded}` : ''}
  w5 = xchg32_32(r1 + ${RingbufRecord.length}, w5)
  r3 = r2
  r3 &= ${WakeupFlag.force}
  if r3 != 0 goto wake
  r2 &= ${WakeupFlag.no}
  if r2 != 0 goto done
  r3 = load_acquire((u64 *)(r4 + ${RingbufLayout.consumer}))
  w5 = *(u32 *)(r4 + ${MapHeader.mask})
  r3 &= r5
  r3 += r4
  r3 += ${RingbufLayout.data}
  if r3 != r1 goto done
wake:
  r5 = 1
  lock *(u64 *)(r4 + ${RingbufLayout.wakeups}) += r5
done:
  r0 = 0
  exit`;

export const RINGBUF_ROUTINES: readonly Routine[] = [
  {
    // (map, size, flags): address of the data, or 0
    name: 'bpf_ringbuf_reserve',
    text: `
  if r3 != 0 goto none
  ${claim('none')}
  r0 += ${RingbufRecord.size}
  exit
none:
  r0 = 0
  exit`,
  },
  { name: 'bpf_ringbuf_submit', text: `  r1 += -${RingbufRecord.size}\n${commit(false)}` },
  { name: 'bpf_ringbuf_discard', text: `  r1 += -${RingbufRecord.size}\n${commit(true)}` },
  {
    // (map, data, size, flags)
    name: 'bpf_ringbuf_output',
    text: `
  r5 = r4
  r5 &= ${~(WakeupFlag.no | WakeupFlag.force)}
  if r5 != 0 goto invalid
  *(u64 *)(r10 - 8) = r2
  *(u64 *)(r10 - 16) = r4
  r2 = r3
  ${claim('none')}
  r3 = r0
  r3 += ${RingbufRecord.size}
  r4 = *(u64 *)(r10 - 8)
  ${copyBytes('copy', 'r3', 'r4', 'r2', 'r5')}
  r1 = r0
  r2 = *(u64 *)(r10 - 16)
  ${commit(false)}
none:
  r0 = -${ERRNO.EAGAIN}
  exit
  ${fail('invalid', 'EINVAL')}`,
  },
  {
    // (map, what)
    name: 'bpf_ringbuf_query',
    text: `
  if r2 == ${Query.available} goto available
  if r2 == ${Query.size} goto size
  if r2 == ${Query.consumer} goto consumer
  if r2 == ${Query.producer} goto producer
  r0 = 0
  exit
available:
  r3 = load_acquire((u64 *)(r1 + ${RingbufLayout.consumer}))
  r0 = load_acquire((u64 *)(r1 + ${RingbufLayout.producer}))
  r0 -= r3
  exit
size:
  r0 = *(u32 *)(r1 + ${MapHeader.maxEntries})
  exit
consumer:
  r0 = load_acquire((u64 *)(r1 + ${RingbufLayout.consumer}))
  exit
producer:
  r0 = load_acquire((u64 *)(r1 + ${RingbufLayout.producer}))
  exit`,
  },
];
