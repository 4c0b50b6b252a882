/**
 * perf_event_output: copies data and the start of the packet into the buffer of this CPU (maps/perf-event-array.ts), in the order
 * of the kernel's checks. A CPU number is one thread's at a time, so a buffer has one producer and needs no lock.
 */
import type { Routine } from '../../isa/routine.ts';
import { copyBytes } from '../../maps/routines/text.ts';
import { MapHeader, PerfBuffer, PerfRecord, RunContext, SkbContext, XdpContext } from '../../memory/layout.ts';
import { Errno, Skb } from './shared.ts';

/** Index in the low half of the flags; all ones: this CPU. */
const CURRENT_CPU = 0xffff_ffff;
/** Bits 32-51: bytes of the packet to append. */
const CONTEXT_LENGTH_BITS = 20;

const fail = (label: string, errno: keyof typeof Errno): string => `
${label}:
  r0 = ${Errno[errno]}
  exit`;

/**
 * (context, map, flags, data, size)
 * @param data field of the context that points to the packet
 * @param length text that sets r0 to the length of the packet whose context is in r1; may change r6
 */
function perfEventOutput(name: string, data: number, length: string): Routine {
  return {
    name,
    text: `
  r9 = r3
  r9 >>= ${32 + CONTEXT_LENGTH_BITS}
  if r9 != 0 goto invalid
${length}
  r9 = r3
  r9 >>= 32
  if r9 > r0 goto fault
  w3 = w3
  r6 = run_context
  r6 = *(u32 *)(r6 + ${RunContext.cpu})
  if w3 != ${CURRENT_CPU} goto index
  r3 = r6
index:
  r7 = *(u32 *)(r2 + ${MapHeader.maxEntries})
  if r3 >= r7 goto range
  r7 += r3
  r7 <<= 3
  r0 = *(u64 *)(r2 + ${MapHeader.values})
  r7 += r0
  r8 = load_acquire((u64 *)(r7 + 0))
  if r8 == 0 goto detached
  if r3 != r6 goto elsewhere
  w5 = w5
  r2 = r5
  r2 += r9
  r2 += ${PerfRecord.size + 7}
  r2 &= -8
  r6 = *(u64 *)(r8 + ${PerfBuffer.head})
  r7 = *(u64 *)(r8 + ${PerfBuffer.mask})
  r2 += r6                                        ; the new head
  r0 = load_acquire((u64 *)(r8 + ${PerfBuffer.tail}))
  r3 = r2
  r3 -= r0
  if r3 > r7 goto lost
  r6 &= r7
  r6 += r8
  r6 += ${PerfBuffer.data}
  *(u32 *)(r6 + ${PerfRecord.dataLength}) = w5
  *(u32 *)(r6 + ${PerfRecord.contextLength}) = w9
  r0 = *(u64 *)(r8 + ${PerfBuffer.lostSince})
  *(u64 *)(r6 + ${PerfRecord.lost}) = r0
  r0 = 0
  *(u64 *)(r8 + ${PerfBuffer.lostSince}) = r0
  r6 += ${PerfRecord.size}
  r3 = r6
  r3 += r5
  ${copyBytes('data', 'r6', 'r4', 'r5', 'r0')}
  r4 = *(u64 *)(r1 + ${data})
  ${copyBytes('packet', 'r3', 'r4', 'r9', 'r0')}
  store_release((u64 *)(r8 + ${PerfBuffer.head}), r2)
  r0 = 0
  exit
lost:
  r0 = *(u64 *)(r8 + ${PerfBuffer.lost})
  r0 += 1
  *(u64 *)(r8 + ${PerfBuffer.lost}) = r0
  r0 = *(u64 *)(r8 + ${PerfBuffer.lostSince})
  r0 += 1
  *(u64 *)(r8 + ${PerfBuffer.lostSince}) = r0
  ${fail('full', 'ENOSPC')}
  ${fail('invalid', 'EINVAL')}
  ${fail('fault', 'EFAULT')}
  ${fail('range', 'E2BIG')}
  ${fail('detached', 'ENOENT')}
  ${fail('elsewhere', 'EOPNOTSUPP')}
`,
  };
}

export const PERF_EVENT_ROUTINES: readonly Routine[] = [
  perfEventOutput('bpf_perf_event_output', SkbContext.data, `  r0 = *(u32 *)(r1 + ${Skb.len})`),
  perfEventOutput(
    'bpf_xdp_perf_event_output',
    XdpContext.data,
    `  r0 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r6 = *(u64 *)(r1 + ${XdpContext.data})
  r0 -= r6`,
  ),
];
