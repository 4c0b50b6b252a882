/**
 * Which bytes of the context structure a program may touch, by program type: uapi `struct xdp_md` and
 * `struct __sk_buff` as Linux 6.18 lets programs of these types see them (`*_is_valid_access` in net/core/filter.c).
 */

import { SkBuff, XdpMd } from '../memory/layout.ts';
import type { ProgramType } from '../object/spec.ts';
import type { RegisterKind } from './registers.ts';

/** What a load gives: a number, one of the packet pointers, or a socket that may be missing. */
type ContextValue = Extract<RegisterKind, 'scalar' | 'packet' | 'packetMeta' | 'packetEnd' | 'sockCommon'>;

type ContextAccess = { readonly allowed: true; readonly value: ContextValue } | { readonly allowed: false };

const REFUSED: ContextAccess = { allowed: false };
const SCALAR: ContextAccess = { allowed: true, value: 'scalar' };

/** A range of bytes [start, end) of a structure. */
type Bytes = readonly [start: number, end: number];

const word = (offset: number): Bytes => [offset, offset + 4];
const within = (offset: number, ranges: readonly Bytes[]): boolean =>
  ranges.some(([start, end]) => offset >= start && offset < end);

const CB: Bytes = [SkBuff.cb, SkBuff.cb + 20];
const TSTAMP: Bytes = [SkBuff.tstamp, SkBuff.tstamp + 8];
const HWTSTAMP: Bytes = [SkBuff.hwtstamp, SkBuff.hwtstamp + 8];
const SOCKET_FIELDS: Bytes = [SkBuff.family, SkBuff.localPort + 4];

interface SkbRules {
  readonly hidden: readonly Bytes[];
  /** Start offsets of a write must lie here. */
  readonly writable: readonly Bytes[];
  readonly tstampType: boolean;
}

const TC_RULES: SkbRules = {
  hidden: [SOCKET_FIELDS],
  writable: [
    word(SkBuff.mark),
    word(SkBuff.tcIndex),
    word(SkBuff.priority),
    word(SkBuff.tcClassid),
    CB,
    TSTAMP,
    word(SkBuff.queueMapping),
  ],
  tstampType: true,
};

const SKB_RULES: Readonly<Partial<Record<ProgramType, SkbRules>>> = {
  socket_filter: {
    hidden: [
      word(SkBuff.tcClassid),
      word(SkBuff.data),
      word(SkBuff.dataMeta),
      word(SkBuff.dataEnd),
      SOCKET_FIELDS,
      TSTAMP,
      word(SkBuff.wireLen),
      HWTSTAMP,
    ],
    writable: [CB],
    tstampType: false,
  },
  sched_cls: TC_RULES,
  sched_act: TC_RULES,
  cgroup_skb: {
    hidden: [word(SkBuff.tcClassid), word(SkBuff.dataMeta), word(SkBuff.wireLen)],
    writable: [word(SkBuff.mark), word(SkBuff.priority), CB, TSTAMP],
    tstampType: false,
  },
};

const PACKET_POINTERS: ReadonlyMap<number, ContextValue> = new Map([
  [SkBuff.data, 'packet'],
  [SkBuff.dataEnd, 'packetEnd'],
  [SkBuff.dataMeta, 'packetMeta'],
]);

/** Fields that are read and written whole. */
const WHOLE_WORDS: readonly Bytes[] = [
  [SkBuff.remoteIp4, SkBuff.localPort - 4],
  word(SkBuff.data),
  word(SkBuff.dataMeta),
  word(SkBuff.dataEnd),
];

function skbAccess(rules: SkbRules, offset: number, size: number, write: boolean, signed: boolean): ContextAccess {
  if (within(offset, rules.hidden)) return REFUSED;
  if (write && !within(offset, rules.writable) && !(rules.tstampType && offset === SkBuff.tstampType)) return REFUSED;
  if (offset === SkBuff.tstampType) {
    // Writes go through the same field list as reads, where this byte is not listed.
    return rules.tstampType && !write && size === 1 ? SCALAR : REFUSED;
  }
  if (within(offset, [CB])) return offset + size <= CB[1] ? SCALAR : REFUSED;
  const pointer = PACKET_POINTERS.get(offset);
  if (pointer !== undefined) return size === 4 && !signed && !write ? { allowed: true, value: pointer } : REFUSED;
  if (within(offset, WHOLE_WORDS)) return size === 4 ? SCALAR : REFUSED;
  if (within(offset, [[SkBuff.flowKeys, SkBuff.flowKeys + 8]])) return REFUSED;
  if (within(offset, [HWTSTAMP])) return !write && size === 8 ? SCALAR : REFUSED;
  if (within(offset, [TSTAMP])) return size === 8 ? SCALAR : REFUSED;
  if (within(offset, [[SkBuff.sk, SkBuff.sk + 8]]))
    return !write && size === 8 ? { allowed: true, value: 'sockCommon' } : REFUSED;
  if (offset > SkBuff.tstampType && offset < SkBuff.hwtstamp) return REFUSED;
  if (write) return size === 4 ? SCALAR : REFUSED;
  return size <= 4 ? SCALAR : REFUSED;
}

function xdpAccess(
  attachType: string | undefined,
  offset: number,
  size: number,
  write: boolean,
  signed: boolean,
): ContextAccess {
  if (write || size !== 4) return REFUSED;
  switch (offset) {
    case XdpMd.egressIfindex:
      return attachType === 'xdp_devmap' ? SCALAR : REFUSED;
    case XdpMd.data:
      return signed ? REFUSED : { allowed: true, value: 'packet' };
    case XdpMd.dataEnd:
      return signed ? REFUSED : { allowed: true, value: 'packetEnd' };
    case XdpMd.dataMeta:
      return signed ? REFUSED : { allowed: true, value: 'packetMeta' };
    default:
      return SCALAR;
  }
}

/** May a cgroup_skb program of a user with CAP_BPF only access what is at `offset`? */
export function needsBpf(offset: number, write: boolean): boolean {
  return within(offset, write ? [TSTAMP] : [word(SkBuff.data), word(SkBuff.dataEnd)]);
}

/**
 * @param offset byte offset in the uapi structure
 * @param size bytes
 * @param signed sign-extending load
 */
export function contextAccess(
  type: ProgramType,
  attachType: string | undefined,
  offset: number,
  size: number,
  write: boolean,
  signed: boolean,
): ContextAccess {
  const end = type === 'xdp' ? XdpMd.size : SkBuff.size;
  if (offset < 0 || offset >= end || offset % size !== 0) return REFUSED;
  if (type === 'xdp') return xdpAccess(attachType, offset, size, write, signed);
  const rules = SKB_RULES[type];
  return rules === undefined ? REFUSED : skbAccess(rules, offset, size, write, signed);
}
