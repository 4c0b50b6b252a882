/**
 * Which bytes of a socket a program may read: uapi `struct bpf_sock` and `struct bpf_tcp_sock` as Linux 6.18 has them
 * (`bpf_sock_is_valid_access` and its like in net/core/filter.c). Nothing may be written.
 *
 * Three kinds of pointer lead to a socket: a whole one (`socket`), one of which only what all kinds of socket share is known
 * to exist (`sockCommon`), and the TCP part of one (`tcpSocket`). What the helpers make of each other's results, and which of
 * them must be released, is in their signatures.
 */
import { BpfSock, BpfTcpSock } from '../memory/layout.ts';
import type { Analysis } from './analysis.ts';
import { kindName, type RegisterState } from './registers.ts';

/** Members that may be read in parts of four bytes: from their start only, */
const NARROW: readonly number[] = [
  BpfSock.state,
  BpfSock.family,
  BpfSock.type,
  BpfSock.protocol,
  BpfSock.srcPort,
  BpfSock.rxQueueMapping,
];
/** or at any offset: [start, end). */
const NARROW_ANYWHERE: readonly (readonly [number, number])[] = [
  [BpfSock.srcIp4, BpfSock.srcPort],
  [BpfSock.dstIp4, BpfSock.state],
];
const DST_PORT_BYTES = 2;
/** The only members of eight bytes. */
const TCP_LONGS: readonly number[] = [BpfTcpSock.bytesReceived, BpfTcpSock.bytesAcked];

function sockReadable(offset: number, size: number): boolean {
  if (offset >= BpfSock.size) return false;
  if (NARROW.includes(offset) || NARROW_ANYWHERE.some(([start, end]) => offset >= start && offset < end))
    return size <= 4;
  const inPort = offset - BpfSock.dstPort;
  // All four bytes at once for old programs: the upper two are zero.
  if (inPort >= 0 && inPort < DST_PORT_BYTES) return size === 4 || size <= DST_PORT_BYTES;
  if (inPort >= DST_PORT_BYTES && offset < BpfSock.dstIp4) return false;
  return size === 4;
}

function readable(kind: RegisterState['kind'], offset: number, size: number): boolean {
  if (offset < 0 || offset % size !== 0) return false;
  // Half a long passes the kernel's check, to be refused when the access is translated.
  if (kind === 'tcpSocket')
    return offset < BpfTcpSock.size && !TCP_LONGS.includes(offset - 4) && size === (TCP_LONGS.includes(offset) ? 8 : 4);
  // The members that only whole sockets have.
  if (kind === 'sockCommon' && offset >= BpfSock.type && offset < BpfSock.srcIp4) return false;
  return sockReadable(offset, size);
}

/** Refuses all but reads of members. */
export function checkSocketAccess(
  a: Analysis,
  number: number,
  r: RegisterState,
  offset: number,
  size: number,
  type: 'read' | 'write',
): void {
  const name = kindName(r);
  if (type === 'write')
    a.fail('invalid_memory_access', `R${number} cannot write into ${name}`, 'EACCES', 'Sockets are read-only.');
  if (!readable(r.kind, r.offset + offset, size))
    a.fail(
      'invalid_memory_access',
      `R${number} invalid ${name} access off=${r.offset + offset} size=${size}`,
      'EACCES',
      'Read whole members of the structure; bpf_sk_fullsock() and bpf_tcp_sock() give access to more of them.',
    );
}
