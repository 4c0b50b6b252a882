/**
 * The routing table that fib_lookup and check_mtu look at: interfaces, routes and neighbours that the caller supplies, where the
 * kernel has its own. A table is replaced as a whole: programs that run meanwhile see the old one or the new one, and the old one
 * is freed when every run that could see it has ended.
 */
import { describe } from '../arguments.ts';
import { createMap } from '../maps/create.ts';
import type { MapEnv } from '../maps/env.ts';
import type { BpfMap } from '../maps/map.ts';
import type { Arena } from '../memory/arena.ts';
import { Device, Neighbour as NeighbourKey, RouteTables, Route as RouteValue, RuntimeState } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { RuntimeError } from './errors.ts';
import type { GracePeriods } from './grace-period.ts';
import { parseAddress } from './ip-address.ts';

export interface Interface {
  /** 1 to 2^32 - 1. */
  readonly ifindex: number;
  /** "00:00:5e:00:53:01"; default all zero. */
  readonly mac?: string;
  /** Bytes, 1 to 2^31 - 1; default 1500. */
  readonly mtu?: number;
  /** Forwards packets that come in here; default true. */
  readonly forwarding?: boolean;
  /** Its own addresses: the first of a family is the source of routes that name none. */
  readonly addresses?: readonly string[];
}

export interface Route {
  /** "192.0.2.0/24", "2001:db8::/32"; an address alone is a host's route. */
  readonly destination: string;
  /** ifindex that packets leave by. Unicast routes need one, others have none. */
  readonly interface?: number;
  /** Address of the next hop; without one the destination is a neighbour. IPv4 routes may go by an IPv6 address. */
  readonly gateway?: string;
  /** What is not unicast is not forwarded. Default "unicast". */
  readonly type?: 'unicast' | 'local' | 'broadcast' | 'multicast' | 'blackhole' | 'unreachable' | 'prohibit';
  /** u32, default 0. */
  readonly metric?: number;
  /** Bytes; default the interface's. (Of IPv4 routes the kernel heeds only a locked one.) */
  readonly mtu?: number;
  /** Preferred source address. */
  readonly source?: string;
  /**
   * 1 to 2^32 - 1; default 254, the main table, but 255 for local, broadcast and multicast. These two are looked at; others with
   * BPF_FIB_LOOKUP_DIRECT and BPF_FIB_LOOKUP_TBID only.
   */
  readonly table?: number;
  /** Packets need an encapsulation, which lookups don't handle. Default false. */
  readonly encapsulated?: boolean;
}

export interface Neighbour {
  readonly interface: number;
  readonly address: string;
  readonly mac: string;
}

export interface RouteTable {
  readonly interfaces: readonly Interface[];
  readonly routes?: readonly Route[];
  readonly neighbours?: readonly Neighbour[];
}

export interface RoutesEnvironment {
  readonly gracePeriods: GracePeriods;
  /** Offset of the RuntimeState. */
  readonly state: number;
  /** @throws RuntimeError `disposed` */
  alive(): void;
  mapEnv(): MapEnv;
}

const MAIN_TABLE = 254;
const LOCAL_TABLE = 255;
/** Both of them together. */
const RULES = 0;
const DEFAULT_MTU = 1500;
const NOT_FORWARDED = 4;
const RESULTS = {
  unicast: 0,
  blackhole: 1,
  unreachable: 2,
  prohibit: 3,
  local: 4,
  broadcast: 4,
  multicast: 4,
} as const;
const FAMILY = { 4: 2, 16: 10 } as const;
const U32 = 0xffff_ffff;

function bad(what: string, expected: string, got: unknown): never {
  throw new RuntimeError(
    'bad_argument',
    `routing table: ${what} must be ${expected}, got ${typeof got === 'string' ? got : describe(got)}`,
    {
      what,
      got,
    },
  );
}

function integer(what: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    bad(what, `a whole number from ${min} to ${max}`, value);
  }
  return value;
}

/** Tables often come from files: a member that nobody reads is a mistake in them. */
const MEMBERS = {
  interfaces: ['ifindex', 'mac', 'mtu', 'forwarding', 'addresses'],
  routes: ['destination', 'interface', 'gateway', 'type', 'metric', 'mtu', 'source', 'table', 'encapsulated'],
  neighbours: ['interface', 'address', 'mac'],
} as const satisfies { [Name in keyof RouteTable]-?: readonly (keyof NonNullable<RouteTable[Name]>[number])[] };

function checkMembers(what: string, value: object, members: readonly string[]): void {
  const unknown = Object.keys(value).find(name => !members.includes(name));
  if (unknown !== undefined) bad(what, `an object of ${members.join(', ')}`, `one with ${unknown}`);
}

function list<Name extends keyof RouteTable>(name: Name, table: RouteTable): NonNullable<RouteTable[Name]> {
  const value: unknown = table[name] ?? (name === 'interfaces' ? undefined : []);
  if (!Array.isArray(value)) return bad(name, 'a list', value);
  for (const [i, item] of value.entries()) {
    if (typeof item !== 'object' || item === null) bad(`${name}[${i}]`, 'an object', item);
    checkMembers(`${name}[${i}]`, item, MEMBERS[name]);
  }
  return value as unknown as NonNullable<RouteTable[Name]>;
}

function boolean(what: string, value: unknown, byDefault: boolean): boolean {
  if (value === undefined) return byDefault;
  return typeof value === 'boolean' ? value : bad(what, 'true or false', value);
}

function address(what: string, text: unknown): Uint8Array {
  const bytes = typeof text === 'string' ? parseAddress(text) : undefined;
  return bytes ?? bad(what, 'an IPv4 or IPv6 address', text);
}

function mac(what: string, text: unknown): Uint8Array {
  if (typeof text !== 'string' || !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    bad(what, 'a MAC address like 00:00:5e:00:53:01', text);
  }
  return Uint8Array.from(text.split(':'), part => Number.parseInt(part, 16));
}

function prefix(what: string, text: unknown): { readonly bytes: Uint8Array; readonly length: number } {
  const [host, length, ...more] = typeof text === 'string' ? text.split('/') : [''];
  const bytes = parseAddress(host!);
  const bits = bytes === undefined ? 0 : 8 * bytes.length;
  const value = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (bytes === undefined || more.length > 0 || value < 0 || value > bits) {
    return bad(what, 'an address, or a prefix like 192.0.2.0/24', text);
  }
  return { bytes, length: value };
}

/** The bytes of an address with the bits behind its prefix cleared. */
function masked(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, length - 8 * i))));
}

type Entries = (readonly [key: Uint8Array, value: Uint8Array])[];

/** The contents of the four maps. */
function compile(table: RouteTable): Record<keyof Omit<typeof RouteTables, 'size'>, Entries> {
  if (typeof table !== 'object' || table === null) bad('it', 'an object with interfaces, routes and neighbours', table);
  checkMembers('it', table, Object.keys(MEMBERS));
  const devices = new Map<number, Interface>();
  const result = { devices: [] as Entries, neighbours: [] as Entries, ipv4: [] as Entries, ipv6: [] as Entries };
  for (const [i, item] of list('interfaces', table).entries()) {
    const what = `interfaces[${i}]`;
    const ifindex = integer(`${what}.ifindex`, item.ifindex, 1, U32);
    if (devices.has(ifindex)) bad(`${what}.ifindex`, 'one that no other interface has', ifindex);
    devices.set(ifindex, item);
    const value = new DataView(new ArrayBuffer(Device.size));
    value.setUint32(Device.mtu, integer(`${what}.mtu`, item.mtu ?? DEFAULT_MTU, 1, 0x7fff_ffff), true);
    value.setUint32(Device.forwarding, boolean(`${what}.forwarding`, item.forwarding, true) ? 3 : 0, true);
    const bytes = new Uint8Array(value.buffer);
    if (item.mac !== undefined) bytes.set(mac(`${what}.mac`, item.mac), Device.mac);
    const { addresses = [] } = item;
    if (!Array.isArray(addresses)) bad(`${what}.addresses`, 'a list', addresses);
    for (const [n, own] of addresses.entries()) address(`${what}.addresses[${n}]`, own);
    result.devices.push([word(ifindex), bytes]);
  }
  const known = (what: string, ifindex: unknown): number => {
    const number = integer(what, ifindex, 1, U32);
    return devices.has(number) ? number : bad(what, 'an interface of the table', number);
  };
  const routes = { ipv4: new Map<string, Entries[number]>(), ipv6: new Map<string, Entries[number]>() };
  const tableOf = (route: Route): unknown =>
    route.table ?? (RESULTS[route.type ?? 'unicast'] === NOT_FORWARDED ? LOCAL_TABLE : MAIN_TABLE);
  const items = list('routes', table).map((item, i) => ({ item, what: `routes[${i}]` }));
  // Those of the local table last: they win.
  items.sort((a, b) => Number(tableOf(a.item) === LOCAL_TABLE) - Number(tableOf(b.item) === LOCAL_TABLE));
  for (const { item, what } of items) {
    const { bytes, length } = prefix(`${what}.destination`, item.destination);
    const value = routeValue(what, item, bytes.length as 4 | 16, devices, known);
    const number = integer(`${what}.table`, tableOf(item), 1, U32);
    const ordinary = number === MAIN_TABLE || number === LOCAL_TABLE;
    // For IPv4 the kernel keeps the two in one until it is given rules of another kind.
    const among = ordinary && bytes.length === 4 ? [MAIN_TABLE, LOCAL_TABLE] : [number];
    for (const each of ordinary ? [...among, RULES] : among) {
      const key = new Uint8Array(8 + bytes.length);
      const view = new DataView(key.buffer);
      view.setUint32(0, 32 + length, true);
      view.setUint32(4, each, true);
      key.set(masked(bytes, length), 8);
      routes[bytes.length === 4 ? 'ipv4' : 'ipv6'].set(key.join(), [key, value]);
    }
  }
  result.ipv4.push(...routes.ipv4.values());
  result.ipv6.push(...routes.ipv6.values());
  for (const [i, item] of list('neighbours', table).entries()) {
    const what = `neighbours[${i}]`;
    const bytes = address(`${what}.address`, item.address);
    const key = new Uint8Array(NeighbourKey.size);
    const view = new DataView(key.buffer);
    view.setUint32(NeighbourKey.ifindex, known(`${what}.interface`, item.interface), true);
    view.setUint32(NeighbourKey.family, FAMILY[bytes.length as 4 | 16], true);
    key.set(bytes, NeighbourKey.address);
    result.neighbours.push([key, Uint8Array.from([...mac(`${what}.mac`, item.mac), 0, 0])]);
  }
  return result;
}

function routeValue(
  what: string,
  route: Route,
  family: 4 | 16,
  devices: ReadonlyMap<number, Interface>,
  known: (what: string, ifindex: unknown) => number,
): Uint8Array {
  const { type = 'unicast' } = route;
  if (!Object.hasOwn(RESULTS, type)) bad(`${what}.type`, `one of ${Object.keys(RESULTS).join(', ')}`, type);
  const value = new DataView(new ArrayBuffer(RouteValue.size));
  const bytes = new Uint8Array(value.buffer);
  value.setUint32(RouteValue.result, RESULTS[type], true);
  value.setUint32(RouteValue.metric, integer(`${what}.metric`, route.metric ?? 0, 0, U32), true);
  value.setUint32(RouteValue.mtu, integer(`${what}.mtu`, route.mtu ?? 0, 0, 0x7fff_ffff), true);
  let flags = boolean(`${what}.encapsulated`, route.encapsulated, false) ? 2 : 0;
  if (type === 'unicast') {
    const ifindex = known(`${what}.interface`, route.interface);
    value.setUint32(RouteValue.ifindex, ifindex, true);
    const own = (devices.get(ifindex)!.addresses ?? []).find(text => parseAddress(text)?.length === family);
    const source = route.source ?? own;
    if (source !== undefined) {
      const sourceBytes = address(`${what}.source`, source);
      if (sourceBytes.length !== family) bad(`${what}.source`, 'of the same family as the destination', source);
      bytes.set(sourceBytes, RouteValue.source);
      flags |= 1;
    }
  }
  value.setUint32(RouteValue.flags, flags, true);
  if (route.gateway !== undefined) {
    const gateway = address(`${what}.gateway`, route.gateway);
    if (family === 16 && gateway.length === 4) bad(`${what}.gateway`, 'an IPv6 address', route.gateway);
    value.setUint32(RouteValue.gatewayFamily, FAMILY[gateway.length as 4 | 16], true);
    bytes.set(gateway, RouteValue.gateway);
  }
  return bytes;
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

const SPECS = {
  devices: { type: 'hash', keySize: 4, valueSize: Device.size, flags: 0 },
  neighbours: { type: 'hash', keySize: NeighbourKey.size, valueSize: 8, flags: 0 },
  ipv4: { type: 'lpm_trie', keySize: 12, valueSize: RouteValue.size, flags: 1 },
  ipv6: { type: 'lpm_trie', keySize: 24, valueSize: RouteValue.size, flags: 1 },
} as const satisfies Record<string, Pick<MapSpec, 'type' | 'keySize' | 'valueSize' | 'flags'>>;

export class Routes {
  readonly #arena: Arena;
  readonly #env: RoutesEnvironment;
  #free: (() => void) | undefined;

  /** `Runtime.routes`. */
  constructor(arena: Arena, env: RoutesEnvironment) {
    this.#arena = arena;
    this.#env = env;
  }

  /**
   * Replaces the table, or removes it. Without one no interface exists: lookups answer ENODEV.
   * @throws RuntimeError `bad_argument` that names the member, `disposed`; MapError `out_of_memory`. Then nothing has changed.
   */
  set(table: RouteTable | undefined): void {
    this.#env.alive();
    const before = this.#free;
    const maps: BpfMap[] = [];
    let block = 0;
    if (table !== undefined) {
      const contents = compile(table);
      try {
        block = this.#arena.allocate(RouteTables.size, 64);
        for (const name of Object.keys(SPECS) as (keyof typeof SPECS)[]) {
          const entries = contents[name];
          const spec = {
            name: `routes ${name}`,
            contents: [],
            maxEntries: Math.max(1, entries.length),
            ...SPECS[name],
          };
          const map = createMap(spec, this.#env.mapEnv());
          maps.push(map);
          for (const [key, value] of entries) map.update(key, value);
          this.#arena.view.setBigUint64(block + RouteTables[name], map.address, true);
        }
      } catch (error) {
        for (const map of maps) map.dispose();
        if (block !== 0) this.#arena.free(block);
        throw error;
      }
    }
    const field = (this.#env.state + RuntimeState.routes) / 8;
    Atomics.store(this.#arena.u64, field, block === 0 ? 0n : this.#arena.address(block));
    this.#free =
      table &&
      (() => {
        for (const map of maps) map.dispose();
        this.#arena.free(block);
      });
    if (before) this.#env.gracePeriods.retire(before);
  }
}
