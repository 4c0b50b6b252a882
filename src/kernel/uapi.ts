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
  id: 4,
  jitedLength: 16,
  xlatedLength: 20,
  jitedInsns: 24,
  xlatedInsns: 32,
  loadTime: 40,
  functionCount: 104,
  lengthCount: 108,
  functionAddresses: 112,
  functionLengths: 120,
  lineCount: 148,
  lines: 152,
  lineBytes: 172,
  verifiedInsns: 216,
} as const;

/** struct bpf_map_info */
export const MapInfo = { size: 88, id: 4 } as const;
