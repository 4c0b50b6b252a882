/** What r0 means, by program type. */
import type { ProgramType } from '../object/spec.ts';
import { HISTOGRAM } from './batch.ts';

const TC = [
  'TC_ACT_OK',
  'TC_ACT_RECLASSIFY',
  'TC_ACT_SHOT',
  'TC_ACT_PIPE',
  'TC_ACT_STOLEN',
  'TC_ACT_QUEUED',
  'TC_ACT_REPEAT',
  'TC_ACT_REDIRECT',
  'TC_ACT_TRAP',
];
const NAMES: Record<ProgramType, readonly string[]> = {
  xdp: ['XDP_ABORTED', 'XDP_DROP', 'XDP_PASS', 'XDP_TX', 'XDP_REDIRECT'],
  sched_cls: TC,
  sched_act: TC,
  // cgroup_skb: bit 0 lets the packet pass, bit 1 signals congestion (egress only).
  cgroup_skb: ['DROP', 'PASS', 'DROP_CN', 'PASS_CN'],
  socket_filter: ['DROP'],
  raw: [],
};

/** A name of the uapi where there is one; "PASS" for any length a socket filter keeps; else the number. */
export function verdictName(type: ProgramType, returnValue: bigint): string {
  const name = NAMES[type][Number(BigInt.asUintN(32, returnValue))];
  if (type === 'raw') return returnValue.toString();
  if (name !== undefined) return name;
  if (type === 'socket_filter') return 'PASS';
  const value = BigInt.asIntN(32, returnValue);
  if (value === -1n && NAMES[type] === TC) return 'TC_ACT_UNSPEC';
  return value.toString();
}

/** Adds a batch's histogram to `into`, by verdict name. Values from 16 up share the name "other" (a socket filter's: "PASS"). */
export function addHistogram(type: ProgramType, counts: readonly bigint[], into: Record<string, number>): void {
  for (const [slot, count] of counts.entries()) {
    if (count === 0n) continue;
    let name = type === 'socket_filter' ? 'PASS' : 'other';
    if (slot < HISTOGRAM.values) name = verdictName(type, BigInt(slot));
    else if (slot === HISTOGRAM.unspec && type !== 'raw') name = verdictName(type, -1n);
    into[name] = (into[name] ?? 0) + Number(count);
  }
}
