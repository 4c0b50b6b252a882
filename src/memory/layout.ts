/**
 * Where things lie in the arena: byte offsets of the structures that compiled programs, trusted routines, the
 * interpreter and JS share. All little-endian. Pointers are 8 bytes and hold real addresses.
 */

/** Shared by all threads of one Runtime. */
export const RuntimeState = {
  /** u64: current epoch, starts at 2, raised by the control thread only. Its lowest bit is the side that runs start on (runtime/generations.ts). */
  epoch: 0,
  /** u32: non-zero asks every run to stop at the next packet boundary (and bpf_loop at the next iteration). */
  stop: 8,
  /** u32: number of CPUs, that is of run contexts: the width of per-CPU values. */
  cpus: 12,
  /** u64: CLOCK_REALTIME-independent base for tests: if non-zero, ktime helpers return it. */
  fixedTime: 16,
  /** u64 each: lowest address of the arena, and the one past its last byte. Text functions and untrusted loads read nothing outside. */
  arenaStart: 24,
  arenaEnd: 32,
  /** u64: address of the hash map of sockets by SocketKey; 0 where there are none. */
  sockets: 40,
  /** u64: address of the RouteTables; 0 where there are none. */
  routes: 48,
  size: 64,
} as const;

/** What fib_lookup and check_mtu look at: maps, by the addresses of their objects (u64 each). */
export const RouteTables = {
  /** hash: u32 interface -> Device */
  devices: 0,
  /** hash: Neighbour -> 6 bytes of MAC address, padded to 8 */
  neighbours: 8,
  /** lpm_trie each: u32 table, then the destination -> Route */
  ipv4: 16,
  ipv6: 24,
  size: 32,
} as const;

export const Device = {
  /** u32 */
  mtu: 0,
  /** u32: bit 0 forwards IPv4, bit 1 IPv6. */
  forwarding: 4,
  mac: 8,
  size: 16,
} as const;

/** u32 interface, u32 family (2 or 10), 16 bytes of address (IPv4: the first 4, then zeros). */
export const Neighbour = { ifindex: 0, family: 4, address: 8, size: 24 } as const;

export const Route = {
  /** u32: 0 unicast, else the BPF_FIB_LKUP_RET_* that a lookup answers. */
  result: 0,
  ifindex: 4,
  metric: 8,
  /** u32: 0 for the device's. */
  mtu: 12,
  /** u32: family of the gateway, 0 for none. */
  gatewayFamily: 16,
  /** u32: bit 0: a source address is known; bit 1: it needs an encapsulation. */
  flags: 20,
  gateway: 24,
  source: 40,
  size: 56,
} as const;

/**
 * One per thread that runs programs; its number is the program's CPU number. Compiled code keeps its address in a
 * machine register for the whole run (x86-64: r12).
 */
export const RunContext = {
  /** u64: host stack pointer saved at entry; service calls run on it. */
  hostStack: 0,
  /** u64: epoch this thread announced at its last packet boundary; 0 while it runs nothing. */
  epoch: 8,
  /** u64: address of RuntimeState. */
  runtime: 16,
  /** u32 */
  cpu: 24,
  /** u32 */
  numaNode: 28,
  /** u64: xorshift state of get_prandom_u32, never zero. */
  random: 32,
  /** u64: highest address of the BPF stack of this thread (exclusive), 16-byte aligned. */
  stackTop: 40,
  /** u64: address of the program context (XdpContext, SkbContext or raw memory) of the run in progress. */
  context: 48,
  /** u64: size of the raw memory of the run in progress, bytes. */
  rawSize: 56,
  /** Entry request: what the entry trampoline calls. u64 code address, then five u64 arguments, then the u64 result. */
  entryTarget: 64,
  entryArguments: 72,
  entryResult: 112,
  /** u32 each: what bpf_redirect* recorded. kind 0 none, 1 interface, 2 map entry, 3 peer, 4 neighbour (helpers/routines/redirect.ts). */
  redirectKind: 128,
  redirectIfindex: 132,
  /** u64: address of the map object. */
  redirectMap: 136,
  /** u32 */
  redirectKey: 144,
  /** u64 */
  redirectFlags: 152,
  /** u32: clone_redirect calls recorded in this run, and the last eight targets as {u32 ifindex, u32 flags}. */
  cloneCount: 160,
  cloneRecords: 168,
  /** u64 ×2: pid_tgid and current time slice scratch for services. */
  pidTgid: 232,
  /** u64: address of the IteratorMemory; 0 until a program is loaded that needs it. */
  iteratorMemory: 248,
  /** Scratch for services and routines, 256 bytes. */
  scratch: 256,
  scratchSize: 256,
  size: 512,
} as const;

/**
 * Where `bpf_iter_bits` keeps what it goes through if that is more than one word: blocks that iterators take and give back. There
 * are as many as iterators have room on a program's stack.
 */
export const IteratorMemory = {
  /** u64: bit i is set while block i is taken. */
  taken: 0,
  blocks: 64,
  /** Bytes of a block: 511 words fit. */
  blockSize: 4096,
  count: 32,
  size: 64 + 32 * 4096,
} as const;

/** What an xdp program's r1 points to. */
export const XdpContext = {
  data: 0,
  dataEnd: 8,
  dataMeta: 16,
  /** u64: lowest address the packet may grow down to (headroom start). */
  hardStart: 24,
  /** u64: address past the last byte the packet may grow to. */
  hardEnd: 32,
  ingressIfindex: 40,
  rxQueueIndex: 44,
  egressIfindex: 48,
  size: 64,
} as const;

/**
 * What an skb program's r1 points to: the pointers, then a copy of the uapi `struct __sk_buff` (192 bytes) whose
 * fields keep their uapi offsets behind `uapi`. `len` and the like are read from the copy; data, data_end and
 * data_meta come from the pointers.
 */
export const SkbContext = {
  data: 0,
  dataEnd: 8,
  dataMeta: 16,
  hardStart: 24,
  hardEnd: 32,
  /** u64: address of the MAC header (equals data at tc; at cgroup_skb data is the network header). */
  macHeader: 40,
  /** u32 */
  vlanProto: 48,
  /** i32: the network header is at macHeader + 14 + this. 0 for Ethernet; moved by skb_change_head and VLAN helpers. */
  networkShift: 52,
  /** u32, `SkbState` bits. */
  state: 56,
  /** u32: 0 where no checksum was verified (CHECKSUM_NONE), else csum_level + 1 (CHECKSUM_UNNECESSARY). */
  checksumLevel: 60,
  uapi: 64,
  size: 256,
} as const;

export const SkbState = {
  /** The hash field holds a hash, even where it is 0. */
  hashValid: 1,
  /** skb_adjust_room has added an outer header: no second one, no change of the tail. */
  encapsulated: 2,
} as const;

/** uapi `struct xdp_md` and `struct __sk_buff` offsets that more than one room needs. */
export const XdpMd = {
  data: 0,
  dataEnd: 4,
  dataMeta: 8,
  ingressIfindex: 12,
  rxQueueIndex: 16,
  egressIfindex: 20,
  size: 24,
} as const;
export const SkBuff = {
  len: 0,
  pktType: 4,
  mark: 8,
  queueMapping: 12,
  protocol: 16,
  vlanPresent: 20,
  vlanTci: 24,
  vlanProto: 28,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  tcIndex: 44,
  cb: 48,
  hash: 68,
  tcClassid: 72,
  data: 76,
  dataEnd: 80,
  napiId: 84,
  family: 88,
  remoteIp4: 92,
  localIp4: 96,
  remoteIp6: 100,
  localIp6: 116,
  remotePort: 132,
  localPort: 136,
  dataMeta: 140,
  flowKeys: 144,
  tstamp: 152,
  wireLen: 160,
  gsoSegs: 164,
  sk: 168,
  gsoSize: 176,
  tstampType: 180,
  hwtstamp: 184,
  size: 192,
} as const;

/** uapi `struct bpf_sock`: what programs see of a socket. Addresses and dstPort in network byte order. */
export const BpfSock = {
  boundDevIf: 0,
  family: 4,
  type: 8,
  protocol: 12,
  mark: 16,
  priority: 20,
  srcIp4: 24,
  srcIp6: 28,
  /** u32, host byte order. */
  srcPort: 44,
  /** u16; two zero bytes follow. */
  dstPort: 48,
  dstIp4: 52,
  dstIp6: 56,
  state: 72,
  /** i32: -1 where there is none. */
  rxQueueMapping: 76,
  size: 80,
} as const;

/** uapi `struct bpf_tcp_sock`. u32 but for bytesReceived and bytesAcked. */
export const BpfTcpSock = {
  sndCwnd: 0,
  srttUs: 4,
  rttMin: 8,
  sndSsthresh: 12,
  rcvNxt: 16,
  sndNxt: 20,
  sndUna: 24,
  mssCache: 28,
  ecnFlags: 32,
  rateDelivered: 36,
  rateIntervalUs: 40,
  packetsOut: 44,
  retransOut: 48,
  totalRetrans: 52,
  segsIn: 56,
  dataSegsIn: 60,
  segsOut: 64,
  dataSegsOut: 68,
  lostOut: 72,
  sackedOut: 76,
  /** u64 */
  bytesReceived: 80,
  /** u64 */
  bytesAcked: 88,
  dsackDups: 96,
  delivered: 100,
  deliveredCe: 104,
  icskRetransmits: 108,
  size: 112,
} as const;

/**
 * A socket that the caller of the runtime supplied. In front of each structure that programs get pointers to lies the
 * address of the whole, so that helpers find it from either.
 */
export const Socket = {
  /** u64: address of this. */
  base: 0,
  sock: 8,
  /** u64: the same. */
  tcpBase: 88,
  tcp: 96,
  /** u64 */
  cookie: 208,
  /** u64: request sockets: address of the listening Socket. */
  listener: 216,
  uid: 224,
  classId: 228,
  /** u32: 1 if it is a full socket, no request and not in TIME_WAIT. */
  full: 232,
  /** What __sk_buff.family to .local_port of a packet of the socket hold. */
  skb: 240,
  size: 296,
} as const;

/** Key of the table of sockets (a hash map whose values are addresses): what looks for one knows of its packets. */
export const SocketKey = {
  /** u32: IPPROTO_TCP or IPPROTO_UDP */
  protocol: 0,
  /** u32: AF_INET or AF_INET6 */
  family: 4,
  /** 16 bytes each, network byte order; remote ones are zero for sockets that take packets from anyone. */
  remoteAddress: 8,
  localAddress: 24,
  /** u16 each, network byte order */
  remotePort: 40,
  localPort: 42,
  size: 48,
} as const;

/** Head of every map object; what a `mapAddress` points to. Type-specific fields follow at `size`. */
export const MapHeader = {
  /** u32: kernel's BPF_MAP_TYPE_* number. */
  type: 0,
  keySize: 4,
  valueSize: 8,
  /** u32. Fixed when the map is made: compiled code embeds it. */
  maxEntries: 12,
  flags: 16,
  id: 20,
  /** u64: address of the first value (array-like maps) or of the type's own storage. */
  values: 24,
  /** u32: distance in bytes between elements; value size rounded up to 8 for arrays. */
  stride: 32,
  /** u32: spin lock of the whole map, for the types that need one. */
  lock: 36,
  /** u32: live elements of arrays and prog arrays. Hashes keep no count: every insertion on every CPU would write it. */
  count: 40,
  /** u32: index mask of arrays (power of two minus one). */
  mask: 44,
  /** u64: per-CPU types: distance in bytes between the value of one CPU and the same entry's value of the next; else 0. */
  cpuStride: 48,
  /** u32: per-CPU types: number of CPUs. */
  cpus: 56,
  /** u32: offset of the spin lock in each value, plus 1; 0 where values have none. */
  lockPlace: 60,
  size: 64,
} as const;

/**
 * Hash and per-CPU hash, from MapHeader.size on: what readers need, then on a cache line of its own what insertions and
 * deletions write. See maps/routines/hash.ts. The spare elements' addresses (u64 per CPU) follow at `size`.
 */
export const HashLayout = {
  /** u64: address of the buckets, MapHeader.mask + 1 of them: HashBucket, then maybe a home: room for an element. */
  buckets: 64,
  /** u64: mixed into each hash; 0 with BPF_F_ZERO_SEED. */
  seed: 72,
  /** u32: distance from an element to its (first) value, or (per-CPU) to the address of the first CPU's value. */
  valueOffset: 80,
  /** u32: number of elements in the pool, and of numbers. They lie at MapHeader.values, MapHeader.stride bytes apart. */
  pool: 84,
  /** u64: per-CPU: address of the first element's value of the first CPU; else 0. */
  perCpuValues: 88,
  /** u64: LPM trie: address of the table of prefix lengths, {u32 next, u32 count} for each (maps/routines/lpm-trie.ts). */
  prefixes: 96,
  /** u64: MapHeader.mask times bucketStride: of a hash shifted left by 4 it makes the distance of the bucket from the first. */
  bucketMask: 104,
  /** u32: distance between buckets, a power of two: HashBucket.size where they have no homes. */
  bucketStride: 112,
  /** u32: sum of the distances from an element to its two values; 0 where there is one. */
  bothValues: 116,
  /** u64: bits 0-31 the first free element's number (from 1; 0: none), bits 32-63 a tag that changes with every change. */
  freeList: 128,
  /** u32: elements taken from the pool so far; those beyond have never been used and are on no list. */
  used: 136,
  /** u32: LRU types: where the search for an element to evict goes on. */
  hand: 140,
  size: 192,
} as const;

export const HashBucket = {
  /** u64: address of the first element; 0 where there is none. */
  first: 0,
  /** u32: the writers' spin lock (odd: taken) and the readers' sequence number: one up when taken and when released. */
  sequence: 8,
  size: 16,
} as const;

export const HashElement = {
  /** u64: address of the next element, 0 at the end. Must be at 0, as HashBucket.first is. */
  next: 0,
  /** u32 */
  hash: 8,
  /** u32: from 1; 0 in a home that holds nothing; in the pool, while its number is free, the next free one. */
  number: 12,
  /** u32: distance from the element to the value that counts: HashLayout.valueOffset, or bothValues less that. */
  current: 16,
  /** u32: LRU types: how often the hand passes before it evicts the element. */
  referenced: 20,
  /** Key, padded to 8 bytes, then the value. */
  key: 24,
} as const;

/** Queue and stack: a ring of max_entries values behind `size`. All under MapHeader.lock. */
export const QueueLayout = {
  /** u32: where the next value goes. */
  head: 64,
  /** u32: values held; the newest lies before `head`. */
  held: 68,
  size: 128,
} as const;

/** Bloom filter: the bits lie behind `size`; MapHeader.mask is their number less one. */
export const BloomLayout = {
  /** u32: bits that a value sets. */
  hashes: 64,
  /** u64: as of hashes. */
  seed: HashLayout.seed,
  size: 128,
} as const;

/**
 * Ring buffer: a page for what follows, then room for twice max_entries bytes (maps/routines/ringbuf.ts). The object lies at
 * a multiple of `data`. Positions count bytes since the map was made; MapHeader.mask makes offsets of them.
 */
export const RingbufLayout = {
  /** u64: up to where the consumer has read. */
  consumer: 128,
  /** u64: up to where producers have reserved. */
  producer: 192,
  /** u64: up to where all records were committed when a producer last looked. */
  pending: 200,
  /** u32: the producers' lock; of a user ring buffer, taken by whoever drains it. */
  lock: 208,
  /** u64: records that did not fit. */
  dropped: 256,
  /** u64: one up whenever a sleeping consumer is to wake up. */
  wakeups: 264,
  /** The first record; the size of the page before it. */
  data: 4096,
} as const;

/** Head of a record in a ring buffer, as the kernel's: the data follow, each record takes a multiple of 8 bytes. */
export const RingbufRecord = {
  /** u32: bytes of data, and the two bits below. */
  length: 0,
  /** u32: pages from the start of the map to the head's. */
  page: 4,
  size: 8,
  /** Bit 31: not committed. Bit 30: to be passed over. */
  busy: 0x8000_0000,
  discarded: 0x4000_0000,
} as const;

/**
 * What one CPU has output to a perf event array: one producer, one consumer. As in a ring buffer each record begins in the first
 * half of the data, which have room for twice `mask + 1` bytes. The array has a table of these buffers' addresses behind its entries.
 */
export const PerfBuffer = {
  /** u64: up to where the producer has written; the consumer's is on a line of its own. */
  head: 0,
  /** u64: size less one, bytes; a power of two less one. */
  mask: 8,
  /** u64: records that did not fit, in all, and since the last that did. */
  lost: 16,
  lostSince: 24,
  tail: 64,
  data: 128,
} as const;

/** Head of a record there: the data follow, then the bytes of the packet, then padding to a multiple of 8. */
export const PerfRecord = {
  /** u32 each */
  dataLength: 0,
  contextLength: 4,
  /** u64: records lost since the one before. */
  lost: 8,
  size: 16,
} as const;

/** A prog array is a MapHeader followed by 2 N slots (N where the backend has no cached targets). */
export const ProgArrayLayout = { ptrs: MapHeader.size } as const;

/** A program object: what `ptrs[i]` of a prog array points to. */
export const ProgramObject = {
  /** u64: address of the first instruction of its code; 0 for interpreted programs. */
  bpfFunc: 0,
  /** u32 */
  id: 8,
  /** u32: 1 while alive, 0 once disposed. */
  alive: 12,
  /** u64 ×2: where a run enters, by the lowest bit of the epoch it starts in; for interpreted programs, the id of the one it enters. */
  entries: 16,
  size: 64,
} as const;

/** A dynptr on a program's stack: memory with its bounds. The kernel's struct bpf_dynptr_kern. */
export const Dynptr = {
  /** u64: address of the memory, or of the packet's context; 0: the null dynptr. */
  data: 0,
  /** u32: bits 0-23 size in bytes, bits 28-30 kind (`DynptrType`), bit 31 read-only. */
  size: 8,
  /** u32: where it begins, from the memory's start. */
  offset: 12,
  /** Largest size. */
  sizeMax: 0xffffff,
} as const;

export const DynptrType = { local: 1, ringbuf: 2, skb: 3, xdp: 4 } as const;
