/**
 * What an ELF section's name says of the programs in it.
 *
 * The names are libbpf's (`SEC()` of the program, see the kernel's Documentation/bpf/libbpf/program_types.rst) plus
 * `raw`. libbpf 1.x wants them exact; older libbpf, cilium/ebpf, aya and iproute2 users append things (`xdp/name`,
 * `classifier_ingress`, `socket1`), so a suffix is taken too where it starts with no letter.
 */
import type { ProgramType } from './spec.ts';

export interface ProgramKind {
  readonly type: ProgramType;
  readonly attachType: string | undefined;
  readonly xdpFrags: boolean;
}

export type SectionMeaning =
  | { readonly supported: true; readonly kind: ProgramKind }
  /** A program type of the kernel that Switchyard does not run. */
  | { readonly supported: false; readonly kernelType: string }
  | undefined;

function kind(type: ProgramType, attachType?: string, xdpFrags = false): ProgramKind {
  return { type, attachType, xdpFrags };
}

/** Longest name first where one starts with another. */
const SUPPORTED: readonly (readonly [name: string, kind: ProgramKind])[] = [
  ['socket_filter', kind('socket_filter')],
  ['socket', kind('socket_filter')],
  ['tcx/ingress', kind('sched_cls', 'tcx_ingress')],
  ['tcx/egress', kind('sched_cls', 'tcx_egress')],
  ['tc/ingress', kind('sched_cls', 'tcx_ingress')],
  ['tc/egress', kind('sched_cls', 'tcx_egress')],
  ['netkit/primary', kind('sched_cls', 'netkit_primary')],
  ['netkit/peer', kind('sched_cls', 'netkit_peer')],
  ['tc', kind('sched_cls')],
  ['classifier', kind('sched_cls')],
  ['action', kind('sched_act')],
  ['xdp.frags/devmap', kind('xdp', 'xdp_devmap', true)],
  ['xdp.frags/cpumap', kind('xdp', 'xdp_cpumap', true)],
  ['xdp.frags', kind('xdp', 'xdp', true)],
  ['xdp/devmap', kind('xdp', 'xdp_devmap')],
  ['xdp_devmap', kind('xdp', 'xdp_devmap')],
  ['xdp/cpumap', kind('xdp', 'xdp_cpumap')],
  ['xdp_cpumap', kind('xdp', 'xdp_cpumap')],
  ['xdp', kind('xdp', 'xdp')],
  ['cgroup_skb/ingress', kind('cgroup_skb', 'cgroup_inet_ingress')],
  ['cgroup_skb/egress', kind('cgroup_skb', 'cgroup_inet_egress')],
  ['cgroup/skb', kind('cgroup_skb')],
  ['cgroup_skb', kind('cgroup_skb')],
  ['raw', kind('raw')],
];

/** The kernel's other program types by libbpf's section names. */
const OTHERS: readonly (readonly [name: string, kernelType: string])[] = [
  ['raw_tracepoint.w', 'raw_tracepoint_writable'],
  ['raw_tracepoint', 'raw_tracepoint'],
  ['raw_tp.w', 'raw_tracepoint_writable'],
  ['raw_tp', 'raw_tracepoint'],
  ['sk_reuseport', 'sk_reuseport'],
  ['kprobe', 'kprobe'],
  ['kretprobe', 'kprobe'],
  ['uprobe', 'kprobe'],
  ['uretprobe', 'kprobe'],
  ['ksyscall', 'kprobe'],
  ['kretsyscall', 'kprobe'],
  ['usdt', 'kprobe'],
  ['tracepoint', 'tracepoint'],
  ['tp_btf', 'tracing'],
  ['tp', 'tracepoint'],
  ['fentry', 'tracing'],
  ['fexit', 'tracing'],
  ['fmod_ret', 'tracing'],
  ['fsession', 'tracing'],
  ['iter', 'tracing'],
  ['freplace', 'ext'],
  ['lsm_cgroup', 'lsm'],
  ['lsm', 'lsm'],
  ['syscall', 'syscall'],
  ['perf_event', 'perf_event'],
  ['lwt_in', 'lwt_in'],
  ['lwt_out', 'lwt_out'],
  ['lwt_xmit', 'lwt_xmit'],
  ['lwt_seg6local', 'lwt_seg6local'],
  ['sockops', 'sock_ops'],
  ['sk_skb', 'sk_skb'],
  ['sk_msg', 'sk_msg'],
  ['sk_lookup', 'sk_lookup'],
  ['lirc_mode2', 'lirc_mode2'],
  ['flow_dissector', 'flow_dissector'],
  ['cgroup/dev', 'cgroup_device'],
  ['cgroup/sysctl', 'cgroup_sysctl'],
  ['cgroup/getsockopt', 'cgroup_sockopt'],
  ['cgroup/setsockopt', 'cgroup_sockopt'],
  ['cgroup/sock', 'cgroup_sock'],
  ['cgroup/post_bind', 'cgroup_sock'],
  ['cgroup/bind', 'cgroup_sock_addr'],
  ['cgroup/connect', 'cgroup_sock_addr'],
  ['cgroup/sendmsg', 'cgroup_sock_addr'],
  ['cgroup/recvmsg', 'cgroup_sock_addr'],
  ['cgroup/getpeername', 'cgroup_sock_addr'],
  ['cgroup/getsockname', 'cgroup_sock_addr'],
  ['struct_ops', 'struct_ops'],
  ['netfilter', 'netfilter'],
];

/** @param name a section name; libbpf's leading `?` ("do not load by default") is ignored. */
export function programSection(name: string): SectionMeaning {
  const plain = name.startsWith('?') ? name.slice(1) : name;
  // Exact names first: "raw" is ours, "raw_tp" the kernel's.
  const exact = SUPPORTED.find(([prefix]) => plain === prefix);
  if (exact !== undefined) return { supported: true, kind: exact[1] };
  const other = OTHERS.find(([prefix]) => plain === prefix || hasSuffix(plain, prefix));
  if (other !== undefined) return { supported: false, kernelType: other[1] };
  const loose = SUPPORTED.find(([prefix]) => hasSuffix(plain, prefix));
  return loose === undefined ? undefined : { supported: true, kind: loose[1] };
}

function hasSuffix(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^[^a-z]/.test(name.slice(prefix.length));
}

/** iproute2's `id/index`: the program belongs in slot `index` of the prog array with that id; its type is its callers'. */
export function tailSection(name: string): { readonly map: number; readonly key: number } | undefined {
  const match = /^(\d{1,9})\/(\d{1,9})$/.exec(name);
  return match === null ? undefined : { map: Number(match[1]), key: Number(match[2]) };
}
