/**
 * perf_event_output: checks as the kernel makes them, and its answer where no event is attached to the entry. Nothing
 * can be attached yet, so nothing is ever delivered.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RunContext, XdpContext } from '../../memory/layout.ts';
import { Errno, Skb } from './shared.ts';

/** Index in the low half of the flags; all ones: this CPU. */
const CURRENT_CPU = 0xffff_ffff;
/** Bits 32-51: bytes of the packet to append. */
const CONTEXT_LENGTH_BITS = 20;

/** @param length text that sets r0 to the length of the packet whose context is in r1 */
function perfEventOutput(name: string, length: string): Routine {
  return {
    name,
    text: `
  r4 = r3
  r4 >>= ${32 + CONTEXT_LENGTH_BITS}
  if r4 != 0 goto invalid
${length}
  r4 = r3
  r4 >>= 32
  if r4 > r0 goto fault
  w3 = w3
  if w3 != ${CURRENT_CPU} goto index
  r3 = run_context
  r3 = *(u32 *)(r3 + ${RunContext.cpu})
index:
  r4 = *(u32 *)(r2 + ${MapHeader.maxEntries})
  if r3 >= r4 goto range
  r0 = ${Errno.ENOENT}
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
range:
  r0 = ${Errno.E2BIG}
  exit
`,
  };
}

export const PERF_EVENT_ROUTINES: readonly Routine[] = [
  perfEventOutput('bpf_perf_event_output', `  r0 = *(u32 *)(r1 + ${Skb.len})`),
  perfEventOutput(
    'bpf_xdp_perf_event_output',
    `  r0 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r4 = *(u64 *)(r1 + ${XdpContext.data})
  r0 -= r4`,
  ),
];
