/**
 * What the verifier knows of each helper: the kernel's number, arguments, result, and the program types that may
 * call it. Numbers are those of uapi bpf.h; the program types are those that Linux 6.18 accepts (found by loading a
 * probe of each pair of program type and helper). `raw`, which the kernel lacks, gets what every type gets.
 */
import type { MapType, ProgramType } from '../object/spec.ts';
import type { ArgumentType, HelperSignature, HelperTable, ReturnType } from '../verifier/signature.ts';
import { isFormat } from './printk.ts';

const TC: readonly ProgramType[] = ['sched_cls', 'sched_act'];
const XDP: readonly ProgramType[] = ['xdp'];
const TC_XDP: readonly ProgramType[] = [...TC, ...XDP];
const SKB: readonly ProgramType[] = ['socket_filter', ...TC, 'cgroup_skb'];
const NET: readonly ProgramType[] = [...SKB, ...XDP];
const ALL: readonly ProgramType[] = [...NET, 'raw'];

const context: ArgumentType = { type: 'context' };
const scalar: ArgumentType = { type: 'scalar' };
const mapKey: ArgumentType = { type: 'mapKey' };
const mapValue: ArgumentType = { type: 'mapValue' };
const uninitializedMapValue: ArgumentType = { type: 'uninitializedMapValue' };
const size: ArgumentType = { type: 'size', zeroAllowed: false };
const sizeOrZero: ArgumentType = { type: 'size', zeroAllowed: true };
const read: ArgumentType = { type: 'memory', access: 'read' };
const readOrNull: ArgumentType = { type: 'memory', access: 'read', nullable: true };
const write: ArgumentType = { type: 'memory', access: 'write' };
const writeOrNull: ArgumentType = { type: 'memory', access: 'write', nullable: true };
const constString: ArgumentType = { type: 'constString' };
const long: ArgumentType = { type: 'fixedMemory', access: 'write', size: 8 };
const map = (maps: readonly MapType[]): ArgumentType => ({ type: 'map', maps });

const number: ReturnType = { type: 'scalar' };
const between = (min: bigint, max: bigint): ReturnType => ({ type: 'boundedScalar', min, max });

const STORES: readonly MapType[] = [
  'array',
  'percpu_array',
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
];
const PER_CPU: readonly MapType[] = ['percpu_array', 'percpu_hash', 'lru_percpu_hash'];
const ITERATED: readonly MapType[] = STORES.filter(type => type !== 'lpm_trie');
const REDIRECT_MAPS: readonly MapType[] = ['devmap', 'devmap_hash', 'cpumap', 'xskmap'];
const LOOKED_UP: readonly MapType[] = [
  ...STORES,
  'array_of_maps',
  'hash_of_maps',
  'devmap',
  'devmap_hash',
  'xskmap',
  'sockmap',
  'sockhash',
];

type Traits = Pick<HelperSignature, 'gplOnly' | 'changesPacket' | 'checkFormat' | 'variant'>;

const helper = (
  id: number,
  name: string,
  programTypes: readonly ProgramType[],
  args: readonly ArgumentType[],
  returns: ReturnType = number,
  traits: Traits = {},
): HelperSignature => ({ id, name, args, returns, programTypes, ...traits });

const movesPacket: Traits = { changesPacket: true };

const MAP_HELPERS = [
  helper(1, 'map_lookup_elem', ALL, [map(LOOKED_UP), mapKey], { type: 'mapValueOrNull' }),
  helper(2, 'map_update_elem', ALL, [map(STORES), mapKey, mapValue, scalar]),
  helper(3, 'map_delete_elem', ALL, [map(STORES), mapKey]),
  helper(87, 'map_push_elem', ALL, [map(['queue', 'stack', 'bloom_filter']), mapValue, scalar]),
  helper(88, 'map_pop_elem', ALL, [map(['queue', 'stack']), uninitializedMapValue]),
  helper(89, 'map_peek_elem', ALL, [map(['queue', 'stack', 'bloom_filter']), uninitializedMapValue]),
  helper(195, 'map_lookup_percpu_elem', ALL, [map(PER_CPU), mapKey, scalar], { type: 'mapValueOrNull' }),
  // The program that follows may move the packet, and it returns to the caller's caller in a subprogram.
  helper(12, 'tail_call', ALL, [context, map(['prog_array']), scalar], { type: 'none' }, movesPacket),
];

const GENERAL_HELPERS = [
  helper(5, 'ktime_get_ns', ALL, []),
  // The format's values travel in r3-r5, as many as it names; the kernel checks only the format.
  helper(6, 'trace_printk', ALL, [read, size], number, { gplOnly: true }),
  helper(7, 'get_prandom_u32', ALL, []),
  helper(8, 'get_smp_processor_id', ALL, [], between(0n, 8191n)),
  helper(14, 'get_current_pid_tgid', ALL, []),
  helper(15, 'get_current_uid_gid', ALL, []),
  helper(16, 'get_current_comm', ALL, [write, size]),
  helper(42, 'get_numa_node_id', ALL, []),
  helper(105, 'strtol', ALL, [read, size, scalar, long]),
  helper(106, 'strtoul', ALL, [read, size, scalar, long]),
  helper(118, 'jiffies64', ALL, []),
  helper(125, 'ktime_get_boot_ns', ALL, []),
  helper(160, 'ktime_get_coarse_ns', NET, []),
  helper(165, 'snprintf', ALL, [writeOrNull, sizeOrZero, constString, readOrNull, sizeOrZero], number, {
    gplOnly: true,
    checkFormat: isFormat,
  }),
  helper(177, 'trace_vprintk', ALL, [read, size, readOrNull, sizeOrZero], number, { gplOnly: true }),
  helper(81, 'get_local_storage', ['cgroup_skb'], [map(['cgroup_storage', 'percpu_cgroup_storage']), scalar], {
    type: 'mapValue',
  }),
  helper(164, 'for_each_map_elem', ALL, [map(ITERATED), { type: 'callback' }, { type: 'callbackContext' }, scalar]),
  helper(181, 'loop', ALL, [scalar, { type: 'callback' }, { type: 'callbackContext' }, scalar]),
  helper(182, 'strncmp', ALL, [read, size, constString]),
  helper(208, 'ktime_get_tai_ns', ALL, []),
];

const CHECKSUM_HELPERS = [
  helper(10, 'l3_csum_replace', TC, [context, scalar, scalar, scalar, scalar], number, movesPacket),
  helper(11, 'l4_csum_replace', TC, [context, scalar, scalar, scalar, scalar], number, movesPacket),
  helper(28, 'csum_diff', TC_XDP, [readOrNull, sizeOrZero, readOrNull, sizeOrZero, scalar]),
  helper(40, 'csum_update', TC, [context, scalar]),
  helper(135, 'csum_level', TC, [context, scalar]),
];

const SKB_HELPERS = [
  helper(9, 'skb_store_bytes', TC, [context, scalar, read, size, scalar], number, movesPacket),
  helper(18, 'skb_vlan_push', TC, [context, scalar, scalar], number, movesPacket),
  helper(19, 'skb_vlan_pop', TC, [context], number, movesPacket),
  helper(24, 'get_route_realm', TC, [context]),
  helper(26, 'skb_load_bytes', SKB, [context, scalar, write, size]),
  helper(31, 'skb_change_proto', TC, [context, scalar, scalar], number, movesPacket),
  helper(32, 'skb_change_type', TC, [context, scalar]),
  helper(34, 'get_hash_recalc', TC, [context]),
  helper(38, 'skb_change_tail', TC, [context, scalar, scalar], number, movesPacket),
  helper(39, 'skb_pull_data', TC, [context, scalar], number, movesPacket),
  helper(41, 'set_hash_invalid', TC, [context]),
  helper(43, 'skb_change_head', TC, [context, scalar, scalar], number, movesPacket),
  helper(48, 'set_hash', TC, [context, scalar]),
  helper(50, 'skb_adjust_room', TC, [context, scalar, scalar, scalar], number, movesPacket),
  helper(68, 'skb_load_bytes_relative', SKB, [context, scalar, write, size, scalar]),
  helper(97, 'skb_ecn_set_ce', [...TC, 'cgroup_skb'], [context]),
  helper(192, 'skb_set_tstamp', TC, [context, scalar, scalar]),
];

const XDP_HELPERS = [
  helper(44, 'xdp_adjust_head', XDP, [context, scalar], number, movesPacket),
  helper(54, 'xdp_adjust_meta', XDP, [context, scalar], number, movesPacket),
  helper(65, 'xdp_adjust_tail', XDP, [context, scalar], number, movesPacket),
  helper(188, 'xdp_get_buff_len', XDP, [context]),
  helper(189, 'xdp_load_bytes', XDP, [context, scalar, write, size]),
  helper(190, 'xdp_store_bytes', XDP, [context, scalar, read, size]),
];

const ringbuf = map(['ringbuf']);
const RINGBUF_HELPERS = [
  helper(130, 'ringbuf_output', ALL, [ringbuf, read, sizeOrZero, scalar]),
  helper(131, 'ringbuf_reserve', ALL, [ringbuf, { type: 'allocationSize' }, scalar], { type: 'allocatedMemoryOrNull' }),
  helper(132, 'ringbuf_submit', ALL, [{ type: 'ringbufRecord' }, scalar], { type: 'void' }),
  helper(133, 'ringbuf_discard', ALL, [{ type: 'ringbufRecord' }, scalar], { type: 'void' }),
  helper(134, 'ringbuf_query', ALL, [ringbuf, scalar]),
  helper(209, 'user_ringbuf_drain', ALL, [
    map(['user_ringbuf']),
    { type: 'callback' },
    { type: 'callbackContext' },
    scalar,
  ]),
];

const dynptr: ArgumentType = { type: 'dynptr' };
const newDynptr: ArgumentType = { type: 'dynptr', construct: 'local' };

const DYNPTR_HELPERS = [
  helper(198, 'ringbuf_reserve_dynptr', ALL, [ringbuf, scalar, scalar, { type: 'dynptr', construct: 'ringbuf' }]),
  helper(199, 'ringbuf_submit_dynptr', ALL, [{ type: 'dynptr', only: 'ringbuf', release: true }, scalar], {
    type: 'void',
  }),
  helper(200, 'ringbuf_discard_dynptr', ALL, [{ type: 'dynptr', only: 'ringbuf', release: true }, scalar], {
    type: 'void',
  }),
  helper(197, 'dynptr_from_mem', ALL, [write, sizeOrZero, scalar, newDynptr]),
  helper(201, 'dynptr_read', ALL, [write, sizeOrZero, dynptr, scalar, scalar]),
  helper(202, 'dynptr_write', ALL, [dynptr, scalar, read, sizeOrZero, scalar]),
  helper(203, 'dynptr_data', ALL, [dynptr, scalar, { type: 'allocationSize' }], { type: 'dynptrSliceOrNull' }),
];

const PERF_EVENT_HELPERS = [
  helper(25, 'perf_event_output', NET, [context, map(['perf_event_array']), scalar, read, sizeOrZero], number, {
    gplOnly: true,
  }),
];

const REDIRECT_HELPERS = [
  helper(13, 'clone_redirect', TC, [context, scalar, scalar], number, movesPacket),
  helper(23, 'redirect', TC_XDP, [scalar, scalar]),
  helper(152, 'redirect_neigh', TC, [scalar, readOrNull, sizeOrZero, scalar]),
  helper(155, 'redirect_peer', TC, [scalar, scalar]),
  helper(51, 'redirect_map', XDP, [map(REDIRECT_MAPS), scalar, scalar]),
];

const LOCK_HELPERS = [
  helper(93, 'spin_lock', ALL, [{ type: 'spinLock', lock: true }], { type: 'void' }),
  helper(94, 'spin_unlock', ALL, [{ type: 'spinLock', lock: false }], { type: 'void' }),
];

const socket: ArgumentType = { type: 'socket' };
/** ctx, tuple, its size, network namespace, flags */
const TUPLE: readonly ArgumentType[] = [context, read, sizeOrZero, scalar, scalar];
const SOCKETS: readonly ProgramType[] = [...TC, 'cgroup_skb'];
const found = (of: 'socket' | 'sockCommon'): ReturnType => ({ type: 'socketOrNull', of, acquire: true });
const cast = (of: 'socket' | 'tcpSocket'): ReturnType => ({ type: 'socketOrNull', of, cast: true });

const SOCKET_HELPERS = [
  helper(17, 'get_cgroup_classid', ALL, [context], number, {
    variant: { programTypes: ALL.filter(type => !TC.includes(type)), args: [] },
  }),
  helper(46, 'get_socket_cookie', SKB, [context]),
  helper(47, 'get_socket_uid', SKB, [context]),
  helper(84, 'sk_lookup_tcp', [...SOCKETS, 'xdp'], TUPLE, found('socket')),
  helper(85, 'sk_lookup_udp', [...SOCKETS, 'xdp'], TUPLE, found('socket')),
  helper(86, 'sk_release', [...SOCKETS, 'xdp'], [{ type: 'socket', release: true }]),
  helper(95, 'sk_fullsock', SOCKETS, [socket], cast('socket')),
  helper(96, 'tcp_sock', SOCKETS, [socket], cast('tcpSocket')),
  helper(98, 'get_listener_sock', SOCKETS, [socket], { type: 'socketOrNull', of: 'socket' }),
  helper(99, 'skc_lookup_tcp', [...SOCKETS, 'xdp'], TUPLE, found('sockCommon')),
];

const ROUTE_HELPERS = [
  helper(69, 'fib_lookup', TC_XDP, [context, write, size, scalar], number, { gplOnly: true }),
  helper(
    163,
    'check_mtu',
    TC_XDP,
    [context, scalar, { type: 'fixedMemory', access: 'readWrite', size: 4 }, scalar, scalar],
    number,
    {
      gplOnly: true,
    },
  ),
];

/** Every helper that Switchyard has, by its number. */
export const HELPERS: HelperTable = new Map(
  [
    ...MAP_HELPERS,
    ...GENERAL_HELPERS,
    ...CHECKSUM_HELPERS,
    ...SKB_HELPERS,
    ...XDP_HELPERS,
    ...RINGBUF_HELPERS,
    ...PERF_EVENT_HELPERS,
    ...DYNPTR_HELPERS,
    ...REDIRECT_HELPERS,
    ...ROUTE_HELPERS,
    ...LOCK_HELPERS,
    ...SOCKET_HELPERS,
  ].map(signature => [signature.id, signature]),
);

/** Map types whose operations have routines of their own; others go through the dispatching ones. */
const SPECIALISED: ReadonlySet<MapType> = new Set([
  ...(['array', 'percpu_array', 'hash', 'percpu_hash', 'queue', 'stack', 'bloom_filter'] as const),
]);
const MAP_OPERATIONS: ReadonlyMap<number, string> = new Map([
  [1, 'lookup'],
  [2, 'update'],
  [3, 'delete'],
  [87, 'push'],
  [88, 'pop'],
  [89, 'peek'],
]);
const TAIL_CALL = 12;
/** Of the packet's socket in programs of traffic control, of the thread in others. */
const CGROUP_CLASSID = 17;
/** Helpers whose routine for xdp differs from that for skbs. */
const BY_CONTEXT: ReadonlySet<number> = new Set([23, 25, 69, 84, 85, 99, 163]);

/**
 * Name of the trusted routine that a call of helper `helperId` becomes. bpf_redirect and bpf_perf_event_output have one for
 * xdp and one for skbs.
 *
 * @param mapType type of the map argument where it is the same on all paths.
 * @returns undefined for bpf_tail_call (an instruction of its own) and for a helper that is not in `HELPERS`.
 */
export function helperRoutine(
  helperId: number,
  mapType: MapType | undefined,
  programType: ProgramType,
): string | undefined {
  const signature = HELPERS.get(helperId);
  if (signature === undefined || helperId === TAIL_CALL) return undefined;
  if (BY_CONTEXT.has(helperId) && programType === 'xdp') return `bpf_xdp_${signature.name}`;
  if (helperId === CGROUP_CLASSID && !TC.includes(programType)) return `bpf_${signature.name}_curr`;
  const operation = MAP_OPERATIONS.get(helperId);
  if (operation !== undefined && mapType !== undefined && SPECIALISED.has(mapType)) return `${mapType}_${operation}`;
  return `bpf_${signature.name}`;
}
