/**
 * The sockets that programs can find: a table that the caller fills, since a packet in user space belongs to none.
 *
 * Each socket lies in the arena as the structures that programs read (`memory/layout.ts`, Socket), so that a load of a member
 * is a plain load. The table is a hash map of our own, by protocol, addresses and ports: lookups take no lock, and sockets may
 * come and go while programs run. A table that is full is replaced by one of twice the size. What leaves is freed when every
 * run that could see it has ended.
 */
import { check, describe } from '../arguments.ts';
import { createMap } from '../maps/create.ts';
import type { MapEnv } from '../maps/env.ts';
import type { BpfMap } from '../maps/map.ts';
import type { Arena } from '../memory/arena.ts';
import { BpfSock, BpfTcpSock, Socket as Layout, RuntimeState, SkBuff, SocketKey } from '../memory/layout.ts';
import { RuntimeError } from './errors.ts';
import type { GracePeriods } from './grace-period.ts';
import { parseAddress } from './ip-address.ts';

export interface SocketAddress {
  /** IPv4 in dotted form, or IPv6; "0.0.0.0" and "::" for any, as a local address. */
  readonly address: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** Members of uapi `struct bpf_tcp_sock`: u32, but u64 for the two of type bigint. Default 0. */
export type TcpMembers = Partial<
  Record<Exclude<keyof typeof BpfTcpSock, 'size' | 'bytesReceived' | 'bytesAcked'>, number> & {
    bytesReceived: bigint;
    bytesAcked: bigint;
  }
>;

export interface SocketOptions {
  /** Default "tcp". */
  readonly protocol?: 'tcp' | 'udp';
  /** Without one the socket is in no table: only packets that name it (`Packet.socket`) lead to it. */
  readonly local?: SocketAddress;
  /** Peer. Without one the socket takes packets from anyone: of TCP, it listens. */
  readonly remote?: SocketAddress;
  /** IPv6 at any address: leave IPv4 packets alone; default false, as in Linux. */
  readonly v6Only?: boolean;
  /** `request`: a connection that is being made, of `listener`; `timewait`: one that is being closed. Default `full`. */
  readonly kind?: 'full' | 'request' | 'timewait';
  /** Of a `request`. */
  readonly listener?: Socket;
  /** TCP_ESTABLISHED (1) to TCP_NEW_SYN_RECV (12). Default: by the above. */
  readonly state?: number;
  /** u32 each, default 0. */
  readonly mark?: number;
  readonly priority?: number;
  readonly uid?: number;
  readonly classId?: number;
  /** Interface that it is bound to, u32: packets of others do not find it. Default 0, any. */
  readonly boundDevice?: number;
  /** i32; default -1, none. */
  readonly rxQueueMapping?: number;
  /** u64; default: a number of its own. */
  readonly cookie?: bigint;
  /** TCP only. */
  readonly tcp?: TcpMembers;
}

const Family = { unspecified: 0, ipv4: 2, ipv6: 10 } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
/** SOCK_STREAM and SOCK_DGRAM */
const TYPE = { tcp: 1, udp: 2 } as const;
const State = { established: 1, timeWait: 6, close: 7, listen: 10, newSynReceived: 12 } as const;
const FIRST_TABLE = 64;
const U32 = 0xffff_ffff;

interface Endpoint {
  /** 4 or 16 bytes; none: any. */
  readonly bytes: Uint8Array;
  readonly port: number;
}

const NOWHERE: Endpoint = { bytes: new Uint8Array(0), port: 0 };

function bad(name: string, expected: string, value: unknown): never {
  throw new RuntimeError(
    'bad_argument',
    `socket: ${name} must be ${expected}, got ${typeof value === 'string' ? value : describe(value)}`,
    {
      field: name,
    },
  );
}

function integer(name: string, value: number, min: number, max: number): number {
  return Number.isInteger(value) && value >= min && value <= max
    ? value
    : bad(name, `an integer from ${min} to ${max}`, value);
}

function u64(name: string, value: bigint): bigint {
  return typeof value === 'bigint' && BigInt.asUintN(64, value) === value ? value : bad(name, 'a u64 bigint', value);
}

function endpoint(name: string, given: SocketAddress | undefined): Endpoint {
  if (given === undefined) return NOWHERE;
  const bytes = typeof given?.address === 'string' ? parseAddress(given.address) : undefined;
  if (bytes === undefined) bad(`${name}.address`, 'an IPv4 or IPv6 address', given?.address);
  return { bytes, port: integer(`${name}.port`, given.port, 0, 0xffff) };
}

/** One socket. Made by `SocketTable.add`. */
export class Socket {
  /** Of `bpf_get_socket_cookie`. */
  readonly cookie: bigint;
  /** @internal Arena offset. */
  readonly offset: number;
  /** @internal Keys under which it is in the table. */
  readonly keys: readonly Uint8Array[];
  readonly #table: SocketTable;
  readonly #arena: Arena;
  readonly #listener: Socket | undefined;
  /** One for the handle, one for each packet in the arena and each request that names it. */
  #references = 1;
  #deleted = false;

  constructor(table: SocketTable, arena: Arena, options: SocketOptions, cookie: bigint) {
    this.#table = table;
    this.#arena = arena;
    this.cookie = u64('cookie', options.cookie ?? cookie);
    const { listener } = options;
    const kind = options.kind ?? 'full';
    if (!['full', 'request', 'timewait'].includes(kind)) bad('kind', 'full, request or timewait', kind);
    if (listener !== undefined && kind !== 'request') bad('listener', 'absent but for a request', listener);
    if (listener !== undefined && !table.owns(listener)) bad('listener', 'a socket of this table', listener);
    const image = build(options, this.cookie);
    this.keys = keysOf(options);
    this.offset = arena.allocate(Layout.size, 64);
    const address = arena.address(this.offset);
    image.setBigUint64(Layout.base, address, true);
    image.setBigUint64(Layout.tcpBase, address, true);
    image.setBigUint64(Layout.listener, listener?.address ?? 0n, true);
    arena.bytes.set(new Uint8Array(image.buffer), this.offset);
    this.#listener = listener;
    listener?.retain();
  }

  /** @internal Of the whole. */
  get address(): bigint {
    return this.#arena.address(this.offset);
  }

  get deleted(): boolean {
    return this.#deleted;
  }

  /**
   * Takes it out of the table: later lookups do not find it. Programs that have it may go on reading it.
   * @throws RuntimeError `disposed`
   */
  delete(): void {
    if (this.#deleted) return;
    this.#table.remove(this);
    this.#deleted = true;
  }

  /** @internal */
  isIn(arena: Arena): boolean {
    return this.#arena === arena && !this.#deleted;
  }

  /** @internal */
  retain(): void {
    this.#references++;
  }

  /** @internal No run can reach it through that holder any more. */
  release(): void {
    if (--this.#references > 0) return;
    this.#arena.free(this.offset);
    this.#listener?.release();
  }
}

/** The bytes of the structures, without addresses in the arena. */
function build(options: SocketOptions, cookie: bigint): DataView {
  const image = new DataView(new ArrayBuffer(Layout.size));
  const set = (at: number, value: number): void => image.setUint32(at, value, true);
  const field = (name: 'mark' | 'priority' | 'uid' | 'classId' | 'boundDevice'): number =>
    integer(name, options[name] ?? 0, 0, U32);
  const protocol = options.protocol ?? 'tcp';
  if (protocol !== 'tcp' && protocol !== 'udp') bad('protocol', 'tcp or udp', protocol);
  const kind = options.kind ?? 'full';
  const local = endpoint('local', options.local);
  const remote = endpoint('remote', options.remote);
  if (options.local === undefined && options.remote !== undefined) bad('local', 'given where remote is', undefined);
  if (remote.bytes.length > 0 && remote.bytes.length !== local.bytes.length)
    bad('remote', 'of the same family as local', options.remote?.address);
  const family = local.bytes.length === 4 ? Family.ipv4 : local.bytes.length === 16 ? Family.ipv6 : Family.unspecified;
  const sock = Layout.sock;
  set(sock + BpfSock.boundDevIf, field('boundDevice'));
  set(sock + BpfSock.family, family);
  set(sock + BpfSock.type, TYPE[protocol]);
  set(sock + BpfSock.protocol, PROTOCOL[protocol]);
  set(sock + BpfSock.mark, field('mark'));
  set(sock + BpfSock.priority, field('priority'));
  const bytes = new Uint8Array(image.buffer);
  const v4 = family === Family.ipv4;
  bytes.set(local.bytes, sock + (v4 ? BpfSock.srcIp4 : BpfSock.srcIp6));
  bytes.set(remote.bytes, sock + (v4 ? BpfSock.dstIp4 : BpfSock.dstIp6));
  set(sock + BpfSock.srcPort, local.port);
  image.setUint16(sock + BpfSock.dstPort, remote.port, false);
  set(sock + BpfSock.state, integer('state', options.state ?? defaultState(options), 1, 13));
  image.setInt32(
    sock + BpfSock.rxQueueMapping,
    integer('rxQueueMapping', options.rxQueueMapping ?? -1, -(2 ** 31), 2 ** 31 - 1),
    true,
  );
  for (const [name, value] of Object.entries(options.tcp ?? {})) {
    const at = Layout.tcp + (BpfTcpSock as Readonly<Record<string, number>>)[name]!;
    if (Number.isNaN(at) || name === 'size') bad(`tcp.${name}`, 'a member of struct bpf_tcp_sock', value);
    if (name === 'bytesReceived' || name === 'bytesAcked')
      image.setBigUint64(at, u64(`tcp.${name}`, value as bigint), true);
    else set(at, integer(`tcp.${name}`, value as number, 0, U32));
  }
  image.setBigUint64(Layout.cookie, cookie, true);
  set(Layout.uid, field('uid'));
  set(Layout.classId, field('classId'));
  set(Layout.full, kind === 'full' ? 1 : 0);
  const skb = (member: number): number => Layout.skb + member - SkBuff.family;
  set(skb(SkBuff.family), family);
  bytes.set(remote.bytes, skb(v4 ? SkBuff.remoteIp4 : SkBuff.remoteIp6));
  bytes.set(local.bytes, skb(v4 ? SkBuff.localIp4 : SkBuff.localIp6));
  // The upper half, in network byte order; the local port is a number.
  image.setUint16(skb(SkBuff.remotePort) + 2, remote.port, false);
  set(skb(SkBuff.localPort), local.port);
  return image;
}

function defaultState({ kind, remote, protocol }: SocketOptions): number {
  if (kind === 'request') return State.newSynReceived;
  if (kind === 'timewait') return State.timeWait;
  if (remote !== undefined) return State.established;
  return protocol === 'udp' ? State.close : State.listen;
}

function keysOf(options: SocketOptions): Uint8Array[] {
  if (options.local === undefined) return [];
  const local = endpoint('local', options.local);
  const remote = endpoint('remote', options.remote);
  const key = (family: number, address: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(SocketKey.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(SocketKey.protocol, PROTOCOL[options.protocol ?? 'tcp'], true);
    view.setUint32(SocketKey.family, family, true);
    bytes.set(remote.bytes, SocketKey.remoteAddress);
    bytes.set(address, SocketKey.localAddress);
    view.setUint16(SocketKey.remotePort, remote.port, false);
    view.setUint16(SocketKey.localPort, local.port, false);
    return bytes;
  };
  if (local.bytes.length === 4) return [key(Family.ipv4, local.bytes)];
  const both = options.remote === undefined && options.v6Only !== true && local.bytes.every(byte => byte === 0);
  const own = key(Family.ipv6, local.bytes);
  return both ? [own, key(Family.ipv4, NOWHERE.bytes)] : [own];
}

/** What a table of sockets needs of its runtime. */
interface TableEnv {
  readonly gracePeriods: GracePeriods;
  /** Arena offset of the RuntimeState. */
  readonly state: number;
  /** @throws RuntimeError `disposed` */
  readonly alive: () => void;
  /** For a map of its own, with an id of its own. */
  readonly mapEnv: () => MapEnv;
}

const socketOptions = check.options({
  protocol: check.string,
  kind: check.string,
  v6Only: check.boolean,
  state: check.number,
  mark: check.number,
  priority: check.number,
  uid: check.number,
  classId: check.number,
  boundDevice: check.number,
  rxQueueMapping: check.number,
  cookie: check.bigint,
  tcp: check.options({}),
});

export class SocketTable {
  readonly #env: TableEnv;
  readonly #arena: Arena;
  readonly #sockets = new Set<Socket>();
  #map: BpfMap | undefined;
  #entries = 0;
  #lastCookie = 0n;

  /** A runtime has one: `Runtime.sockets`. */
  constructor(arena: Arena, env: TableEnv) {
    this.#arena = arena;
    this.#env = env;
  }

  /** Sockets in the table and outside it that were not deleted. */
  get size(): number {
    return this.#sockets.size;
  }

  /**
   * Makes a socket and puts it into the table; programs find it from then on, also in runs that are under way.
   * @throws RuntimeError `bad_argument`: a member out of range, or an address that another socket has; MemoryError
   */
  add(options: SocketOptions): Socket {
    this.#env.alive();
    socketOptions(options, 'options');
    const socket = new Socket(this, this.#arena, options, ++this.#lastCookie);
    const value = new Uint8Array(8);
    new DataView(value.buffer).setBigUint64(0, socket.address, true);
    const done: Uint8Array[] = [];
    try {
      for (const key of socket.keys) {
        const map = this.#room();
        if (map.lookup(key) !== undefined)
          throw new RuntimeError('bad_argument', 'socket: another one has the same protocol, addresses and ports', {
            local: options.local,
            remote: options.remote,
          });
        map.update(key, value);
        this.#entries++;
        done.push(key);
      }
    } catch (error) {
      for (const key of done) this.#forget(key);
      this.#env.gracePeriods.retire(() => socket.release());
      throw error;
    }
    this.#sockets.add(socket);
    return socket;
  }

  /** @internal */
  owns(socket: Socket): boolean {
    return this.#sockets.has(socket);
  }

  /** @internal */
  remove(socket: Socket): void {
    this.#env.alive();
    this.#sockets.delete(socket);
    for (const key of socket.keys) this.#forget(key);
    this.#env.gracePeriods.retire(() => socket.release());
  }

  #forget(key: Uint8Array): void {
    this.#map?.delete(key);
    this.#entries--;
  }

  /** The map, with room for one more entry. */
  #room(): BpfMap {
    const old = this.#map;
    if (old !== undefined && this.#entries < old.spec.maxEntries) return old;
    const maxEntries = old === undefined ? FIRST_TABLE : 2 * old.spec.maxEntries;
    const map = createMap(
      { name: 'sockets', type: 'hash', keySize: SocketKey.size, valueSize: 8, maxEntries, flags: 0, contents: [] },
      this.#env.mapEnv(),
    );
    for (const [key, value] of old?.entries() ?? []) map.update(key, value);
    this.#arena.view.setBigUint64(this.#env.state + RuntimeState.sockets, map.address, true);
    this.#map = map;
    if (old !== undefined) this.#env.gracePeriods.retire(() => old.dispose());
    return map;
  }
}
