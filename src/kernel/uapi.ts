/** Numbers of include/uapi/linux/bpf.h that programs need. Those of map types are in maps/uapi.ts. */
import type { ProgramType } from '../object/spec.ts';

/** enum bpf_prog_type */
export const PROGRAM_TYPE: Readonly<Record<Exclude<ProgramType, 'raw'>, number>> = {
  socket_filter: 1,
  sched_cls: 3,
  sched_act: 4,
  xdp: 6,
  cgroup_skb: 8,
};

/** enum bpf_attach_type, by the names that `ProgramSpec.attachType` has. */
export const ATTACH_TYPE: Readonly<Record<string, number>> = {
  cgroup_inet_ingress: 0,
  cgroup_inet_egress: 1,
  xdp_devmap: 33,
  xdp_cpumap: 35,
  xdp: 37,
  tcx_ingress: 46,
  tcx_egress: 47,
  netkit_primary: 54,
  netkit_peer: 55,
};

/** prog_flags */
export const ProgramFlag = {
  strictAlignment: 1 << 0,
  xdpHasFrags: 1 << 5,
} as const;

/** struct bpf_prog_info */
export const ProgramInfo = {
  size: 232,
  type: 0,
  id: 4,
  tag: 8,
  jitedLength: 16,
  xlatedLength: 20,
  jitedInsns: 24,
  xlatedInsns: 32,
  loadTime: 40,
  uid: 48,
  mapCount: 52,
  mapIds: 56,
  name: 64,
  gplCompatible: 84,
  functionCount: 104,
  lengthCount: 108,
  functionAddresses: 112,
  functionLengths: 120,
  btfId: 128,
  lineCount: 148,
  lines: 152,
  lineBytes: 172,
  runTime: 192,
  runCount: 200,
  verifiedInsns: 216,
} as const;

/** struct bpf_map_info */
export const MapInfo = {
  size: 88,
  type: 0,
  id: 4,
  keySize: 8,
  valueSize: 12,
  maxEntries: 16,
  flags: 20,
  name: 24,
  btfId: 64,
  mapExtra: 80,
} as const;

/** struct bpf_btf_info */
export const BtfInfo = { size: 32, bytes: 8, id: 12 } as const;

/** BPF_OBJ_NAME_LEN, with the zero at the end. */
export const NAME_BYTES = 16;

/** BPF_TAG_SIZE */
export const TAG_BYTES = 8;
