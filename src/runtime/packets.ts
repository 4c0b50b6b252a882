/**
 * Packets in the arena, for one thread: frames to run in, descriptors, and the way back.
 *
 * Two shapes. `loadFrames` gives every packet a frame of its own, so that each outcome can be read afterwards.
 * `loadInputs` keeps pristine inputs side by side and one frame that the routine refills before each run, so that a
 * capture can be replayed many times at memory speed.
 */
import { describe } from '../arguments.ts';
import type { Arena } from '../memory/arena.ts';
import { Descriptor } from './batch.ts';
import { RuntimeError } from './errors.ts';
import { Socket } from './sockets.ts';

/** A packet as a program receives it. */
export interface Packet {
  /** From the first byte of the Ethernet header (raw programs: the memory). 0 to 262144 bytes, raw: up to 16 MiB. */
  readonly data: Uint8Array;
  /** Interface it came in on, u32; default 1. */
  readonly ifindex?: number;
  /** u32; default 0. */
  readonly rxQueue?: number;
  /** skb mark, u32; default 0. */
  readonly mark?: number;
  /** Programs with a `struct __sk_buff`: the socket it belongs to, one of `Runtime.sockets` that was not deleted; default none. */
  readonly socket?: Socket;
}

/** Where a packet was sent by bpf_redirect() and its kin. */
export type RedirectRecord =
  | { readonly kind: 'interface'; readonly ifindex: number; readonly flags: bigint }
  /** The other end of the interface, in another network namespace (bpf_redirect_peer). */
  | { readonly kind: 'peer'; readonly ifindex: number }
  /** A neighbour on the interface (bpf_redirect_neigh); without a next hop the one that the packet's destination has. */
  | { readonly kind: 'neighbour'; readonly ifindex: number; readonly nextHop: NextHop | undefined }
  /** `map`: name of the map (devmap, cpumap, xskmap). */
  | { readonly kind: 'map'; readonly map: string; readonly key: number; readonly flags: bigint };

/** struct bpf_redir_neigh, as the program gave it. */
export interface NextHop {
  /** AF_INET (2) or AF_INET6 (10); the kernel drops packets for any other. */
  readonly family: number;
  /** 16 bytes; of an IPv4 address the first four. */
  readonly address: Uint8Array;
}

export interface PacketOutcome {
  /** r0; the low 32 bits unless the program is raw. */
  readonly returnValue: bigint;
  /** The packet after the run, a copy. */
  readonly data: Uint8Array;
  /** Bytes that xdp_adjust_meta put in front of it. */
  readonly metadata: Uint8Array;
  readonly mark: number;
  readonly redirect: RedirectRecord | undefined;
  /** Calls of clone_redirect. */
  readonly clones: number;
}

const HEADROOM = 256;
/** The kernel's room for skb_shared_info behind an XDP frame. */
const TAILROOM = 320;
const PAGE = 4096;
/** The largest frame that capture tools write; larger than any wire's, as captures of segmentation offload are. */
const MAX_PACKET = 262_144;
const MAX_RAW = 16 << 20;
const SPILL = 64;
const NO_BYTES = new Uint8Array(0);

export interface LoadedPackets {
  /** Address of the first descriptor. */
  readonly descriptors: bigint;
  readonly count: number;
  readonly bytes: number;
}

function frameBytes(length: number): number {
  const needed = HEADROOM + length + TAILROOM;
  return needed <= PAGE ? PAGE : Math.ceil(needed / 64) * 64;
}

function checked(packet: Packet, index: number, raw: boolean, arena: Arena): Packet {
  const limit = raw ? MAX_RAW : MAX_PACKET;
  if (!(packet.data instanceof Uint8Array) || packet.data.length > limit) {
    const came = packet.data instanceof Uint8Array ? `${packet.data.length} bytes` : typeof packet.data;
    throw new RuntimeError(
      'bad_argument',
      `packet ${index}: expected a Uint8Array of at most ${limit} bytes, got ${came}`,
      {
        packet: index,
        limit,
      },
    );
  }
  for (const field of ['ifindex', 'rxQueue', 'mark'] as const) {
    const value = packet[field];
    if (value !== undefined && (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)) {
      throw new RuntimeError(
        'bad_argument',
        `packet ${index}: ${field} must be an integer from 0 to 4294967295, got ${describe(value)}`,
        {
          packet: index,
          field,
        },
      );
    }
  }
  if (packet.socket !== undefined && !(packet.socket instanceof Socket && packet.socket.isIn(arena))) {
    throw new RuntimeError('bad_argument', `packet ${index}: its socket was deleted, or belongs to another runtime`, {
      packet: index,
    });
  }
  return packet;
}

/** A block of arena memory that grows; what it held is lost when it does. */
class GrowingBlock {
  readonly #arena: Arena;
  #size = 0;
  offset = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** @returns the offset of at least `size` bytes. */
  room(size: number): number {
    if (this.#size < size) {
      this.free();
      const grown = Math.max(size, PAGE);
      this.offset = this.#arena.allocate(grown, 64);
      this.#size = grown;
    }
    return this.offset;
  }

  free(): void {
    if (this.#size > 0) this.#arena.free(this.offset);
    this.#size = 0;
  }
}

export class PacketMemory {
  readonly #arena: Arena;
  readonly #raw: boolean;
  readonly #descriptors: GrowingBlock;
  readonly #frames: GrowingBlock;
  readonly #inputs: GrowingBlock;
  readonly #sockets: Socket[] = [];

  /** @param raw packets are plain memory, which may be longer than a frame */
  constructor(arena: Arena, raw: boolean) {
    this.#arena = arena;
    this.#raw = raw;
    this.#descriptors = new GrowingBlock(arena);
    this.#frames = new GrowingBlock(arena);
    this.#inputs = new GrowingBlock(arena);
  }

  /** Copies each packet into a frame of its own. */
  loadFrames(packets: readonly Packet[]): LoadedPackets {
    this.#letGo();
    let total = 0;
    let bytes = 0;
    for (const [index, packet] of packets.entries()) {
      total += frameBytes(checked(packet, index, this.#raw, this.#arena).data.length);
      bytes += packet.data.length;
    }
    const descriptors = this.#descriptors.room(packets.length * Descriptor.size);
    let frame = this.#frames.room(total);
    for (const [index, packet] of packets.entries()) {
      const size = frameBytes(packet.data.length);
      this.#arena.bytes.set(packet.data, frame + HEADROOM);
      this.#describe(descriptors + index * Descriptor.size, packet, 0n, frame, size);
      frame += size;
    }
    return { descriptors: this.#arena.address(descriptors), count: packets.length, bytes };
  }

  /** Copies the packets side by side; all run in one frame. */
  loadInputs(packets: readonly Packet[]): LoadedPackets {
    this.#letGo();
    let total = SPILL;
    let bytes = 0;
    let longest = 0;
    for (const [index, packet] of packets.entries()) {
      const { length } = checked(packet, index, this.#raw, this.#arena).data;
      total += Math.ceil(length / 8) * 8;
      bytes += length;
      longest = Math.max(longest, length);
    }
    const descriptors = this.#descriptors.room(packets.length * Descriptor.size);
    const size = frameBytes(longest);
    const frame = this.#frames.room(size + SPILL);
    let input = this.#inputs.room(total);
    for (const [index, packet] of packets.entries()) {
      this.#arena.bytes.set(packet.data, input);
      this.#describe(descriptors + index * Descriptor.size, packet, this.#arena.address(input), frame, size);
      input += Math.ceil(packet.data.length / 8) * 8;
    }
    return { descriptors: this.#arena.address(descriptors), count: packets.length, bytes };
  }

  /**
   * What became of packet `index` of the last `loadFrames`.
   * @param mapName of the map object at an address
   */
  outcome(index: number, mapName: (address: bigint) => string): PacketOutcome {
    const { view, bytes } = this.#arena;
    const at = this.#descriptors.offset + index * Descriptor.size;
    const frame = this.#arena.offset(view.getBigUint64(at + Descriptor.frame, true), 1);
    const start = frame + view.getUint32(at + Descriptor.outOffset, true);
    const metaLength = view.getUint32(at + Descriptor.metaLength, true);
    const kind = view.getUint32(at + Descriptor.redirectKind, true);
    const flags = view.getBigUint64(at + Descriptor.redirectFlags, true);
    const ifindex = view.getUint32(at + Descriptor.redirectIfindex, true);
    let redirect: RedirectRecord | undefined;
    if (kind === 1) redirect = { kind: 'interface', ifindex, flags };
    if (kind === 3) redirect = { kind: 'peer', ifindex };
    if (kind === 4) {
      const family = view.getUint32(at + Descriptor.redirectKey, true);
      const halves = [view.getBigUint64(at + Descriptor.redirectMap, true), flags];
      const address = new Uint8Array(BigUint64Array.from(halves).buffer);
      redirect = { kind: 'neighbour', ifindex, nextHop: family === 0 ? undefined : { family, address } };
    }
    if (kind === 2) {
      const map = mapName(view.getBigUint64(at + Descriptor.redirectMap, true));
      redirect = { kind: 'map', map, key: view.getUint32(at + Descriptor.redirectKey, true), flags };
    }
    return {
      returnValue: view.getBigUint64(at + Descriptor.result, true),
      data: bytes.slice(start, start + view.getUint32(at + Descriptor.outLength, true)),
      metadata: metaLength === 0 ? NO_BYTES : bytes.slice(start - metaLength, start),
      mark: view.getUint32(at + Descriptor.mark, true),
      redirect,
      clones: view.getUint32(at + Descriptor.cloneCount, true),
    };
  }

  free(): void {
    this.#letGo();
    this.#descriptors.free();
    this.#frames.free();
    this.#inputs.free();
  }

  /** A socket stays in memory for as long as a descriptor names it. */
  #hold(socket: Socket): bigint {
    socket.retain();
    this.#sockets.push(socket);
    return socket.address;
  }

  /** The descriptors are about to be written anew, or given back: no run uses them. */
  #letGo(): void {
    for (const socket of this.#sockets.splice(0)) socket.release();
  }

  #describe(at: number, packet: Packet, input: bigint, frame: number, frameSize: number): void {
    const { view } = this.#arena;
    view.setBigUint64(at + Descriptor.input, input, true);
    view.setBigUint64(at + Descriptor.frame, this.#arena.address(frame), true);
    view.setUint32(at + Descriptor.length, packet.data.length, true);
    view.setUint32(at + Descriptor.headroom, HEADROOM, true);
    view.setUint32(at + Descriptor.frameSize, frameSize, true);
    view.setUint32(at + Descriptor.ifindex, packet.ifindex ?? 1, true);
    view.setUint32(at + Descriptor.rxQueue, packet.rxQueue ?? 0, true);
    view.setUint32(at + Descriptor.mark, packet.mark ?? 0, true);
    view.setBigUint64(at + Descriptor.socket, packet.socket === undefined ? 0n : this.#hold(packet.socket), true);
  }
}
