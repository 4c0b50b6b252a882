/**
 * Types and loader for router.bpf.o. Written by `switchyard codegen`; do not change it, run that again.
 */
import { readFileSync } from 'node:fs';
import {
  type LoadOptions,
  parseObject,
  type Runtime,
  type TypedMap,
  TypedObject,
  withGlobals,
} from '../../src/index.ts';

/** `struct flow`, 40 bytes. */
export interface Flow {
  /** `__u8[16]`: offset 0, 16 bytes */
  source: number[];
  /** `__u8[16]`: offset 16, 16 bytes */
  destination: number[];
  /** `__u16`: offset 32, 2 bytes, unsigned */
  source_port: number;
  /** `__u16`: offset 34, 2 bytes, unsigned */
  destination_port: number;
  /** `__u8`: offset 36, 1 byte, unsigned */
  protocol: number;
  /** `__u8[3]`: offset 37, 3 bytes */
  pad: number[];
}

/** `struct flow`, 40 bytes. */
export interface FlowInput {
  /** `__u8[16]`: offset 0, 16 bytes */
  source: ArrayLike<number>;
  /** `__u8[16]`: offset 16, 16 bytes */
  destination: ArrayLike<number>;
  /** `__u16`: offset 32, 2 bytes, unsigned */
  source_port: number;
  /** `__u16`: offset 34, 2 bytes, unsigned */
  destination_port: number;
  /** `__u8`: offset 36, 1 byte, unsigned */
  protocol: number;
  /** `__u8[3]`: offset 37, 3 bytes */
  pad: ArrayLike<number>;
}

/** `struct packet_state`, 80 bytes. */
export interface PacketState {
  /** `__u32`: offset 0, 4 bytes, unsigned */
  l3_offset: number;
  /** `__u32`: offset 4, 4 bytes, unsigned */
  l4_offset: number;
  /** `__u32`: offset 8, 4 bytes, unsigned */
  l4_length: number;
  /** `__u32`: offset 12, 4 bytes, unsigned */
  tags: number;
  /** `__u16[2]`: offset 16, 4 bytes */
  vlan: number[];
  /** `__u8`: offset 20, 1 byte, unsigned */
  version: number;
  /** `__u8`: offset 21, 1 byte, unsigned */
  local: number;
  /** `__u8`: offset 22, 1 byte, unsigned */
  own: number;
  /** `__u8`: offset 23, 1 byte, unsigned */
  pad: number;
  /** `__be32[4]`: offset 24, 16 bytes */
  destination: number[];
  /** `struct flow`: offset 40, 40 bytes */
  flow: Flow;
}

/** `struct packet_state`, 80 bytes. */
export interface PacketStateInput {
  /** `__u32`: offset 0, 4 bytes, unsigned */
  l3_offset: number;
  /** `__u32`: offset 4, 4 bytes, unsigned */
  l4_offset: number;
  /** `__u32`: offset 8, 4 bytes, unsigned */
  l4_length: number;
  /** `__u32`: offset 12, 4 bytes, unsigned */
  tags: number;
  /** `__u16[2]`: offset 16, 4 bytes */
  vlan: ArrayLike<number>;
  /** `__u8`: offset 20, 1 byte, unsigned */
  version: number;
  /** `__u8`: offset 21, 1 byte, unsigned */
  local: number;
  /** `__u8`: offset 22, 1 byte, unsigned */
  own: number;
  /** `__u8`: offset 23, 1 byte, unsigned */
  pad: number;
  /** `__be32[4]`: offset 24, 16 bytes */
  destination: ArrayLike<number>;
  /** `struct flow`: offset 40, 40 bytes */
  flow: FlowInput;
}

/** `enum protocol`: a name, or a number that has none. */
export const Protocol = {
  ETHERNET: 0,
  VLAN: 1,
  QINQ: 2,
  ARP: 3,
  IPV4: 4,
  IPV6: 5,
  TCP: 6,
  UDP: 7,
  ICMP: 8,
  ICMPV6: 9,
  OTHER: 10,
  PROTOCOLS: 11,
} as const;
export type Protocol = keyof typeof Protocol | number;

/** `struct counter`, 16 bytes. */
export interface Counter {
  /** `__u64`: offset 0, 8 bytes, unsigned */
  packets: bigint;
  /** `__u64`: offset 8, 8 bytes, unsigned */
  bytes: bigint;
}

/** Maps with keys, by name. */
export interface RouterMaps {
  /** percpu_array, 1 entry; key 4 bytes, value 80 bytes */
  readonly scratch: TypedMap<number, PacketState[], number, readonly PacketStateInput[]>;
  /** percpu_array, 11 entries; key 4 bytes, value 16 bytes */
  readonly counters: TypedMap<Protocol, Counter[]>;
  /** hash, 4096 entries; key 40 bytes, value 16 bytes */
  readonly flows: TypedMap<Flow, Counter, FlowInput, Counter>;
}

/** Global variables, as they are read. */
export interface RouterGlobals {
  /** in .rodata at 0: fixed once loaded */
  readonly router_mac: number[];
  /** in .rodata at 8: fixed once loaded */
  readonly router_ipv4: number;
  /** in .rodata at 12: fixed once loaded */
  readonly router_ipv6: number[];
  /** in .bss at 0 */
  readonly missed_stages: bigint;
  /** in .bss at 8 */
  readonly drops: bigint[];
}

/** Global variables, as they are set. */
export interface RouterGlobalsInput {
  /** in .rodata at 0: fixed once loaded */
  readonly router_mac: ArrayLike<number>;
  /** in .rodata at 8: fixed once loaded */
  readonly router_ipv4: number;
  /** in .rodata at 12: fixed once loaded */
  readonly router_ipv6: ArrayLike<number>;
  /** in .bss at 0 */
  readonly missed_stages: bigint;
  /** in .bss at 8 */
  readonly drops: readonly bigint[];
}

export interface RouterShape {
  readonly programs: 'stage_vlan' | 'stage_arp' | 'stage_ipv4' | 'stage_ipv6' | 'stage_tcp' | 'stage_udp' | 'stage_icmp' | 'stage_icmpv6' | 'router' | 'policy_no_new_tcp';
  readonly progArrays: 'stages' | 'untagged_policy' | 'tagged_policy';
  readonly maps: RouterMaps;
  readonly globals: RouterGlobals;
  readonly globalInputs: RouterGlobalsInput;
}

export interface RouterLoadOptions extends LoadOptions {
  /** Initial values of global variables: those not named have the object's. */
  readonly globals?: Partial<RouterGlobalsInput>;
}

export class Router extends TypedObject<RouterShape> {}

/** Loads the object into a runtime, all or nothing. Errors as `Runtime.load`; ObjectError for values that do not fit. */
export function loadRouter(runtime: Runtime, options: RouterLoadOptions = {}): Router {
  const { globals = {}, ...loadOptions } = options;
  const { targetBtf } = loadOptions;
  const collection = parseObject(routerObject(), { ...(targetBtf && { targetBtf }) });
  return new Router(runtime.load(withGlobals(collection, { ...globals }), loadOptions));
}

/** The bytes of the object file. */
export function routerObject(): Uint8Array {
  return readFileSync(new URL('./router.bpf.o', import.meta.url));
}
