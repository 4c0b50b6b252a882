import { expect, test } from 'vitest';
import { programSection } from '../../src/object/sections.ts';

test.for([
  ['socket', 'socket_filter', undefined, false],
  ['socket/0', 'socket_filter', undefined, false],
  ['socket1', 'socket_filter', undefined, false],
  ['socket_filter', 'socket_filter', undefined, false],
  ['tc', 'sched_cls', undefined, false],
  ['tc/ingress', 'sched_cls', 'tcx_ingress', false],
  ['tcx/egress', 'sched_cls', 'tcx_egress', false],
  ['netkit/primary', 'sched_cls', 'netkit_primary', false],
  ['netkit/peer', 'sched_cls', 'netkit_peer', false],
  ['classifier', 'sched_cls', undefined, false],
  ['classifier/name', 'sched_cls', undefined, false],
  ['classifier_tc1', 'sched_cls', undefined, false],
  ['action', 'sched_act', undefined, false],
  ['xdp', 'xdp', 'xdp', false],
  ['?xdp', 'xdp', 'xdp', false],
  ['xdp/name', 'xdp', 'xdp', false],
  ['xdp_pass', 'xdp', 'xdp', false],
  ['xdp1', 'xdp', 'xdp', false],
  ['xdp.frags', 'xdp', 'xdp', true],
  ['xdp.frags/devmap', 'xdp', 'xdp_devmap', true],
  ['xdp.frags/cpumap', 'xdp', 'xdp_cpumap', true],
  ['xdp.frags/name', 'xdp', 'xdp', true],
  ['xdp/devmap', 'xdp', 'xdp_devmap', false],
  ['xdp/cpumap', 'xdp', 'xdp_cpumap', false],
  ['xdp_devmap/egress', 'xdp', 'xdp_devmap', false],
  ['cgroup_skb/ingress', 'cgroup_skb', 'cgroup_inet_ingress', false],
  ['cgroup_skb/egress', 'cgroup_skb', 'cgroup_inet_egress', false],
  ['cgroup/skb', 'cgroup_skb', undefined, false],
  ['cgroup_skb', 'cgroup_skb', undefined, false],
  ['raw', 'raw', undefined, false],
  ['raw/sum', 'raw', undefined, false],
] as const)('%s', ([name, type, attachType, xdpFrags]) => {
  expect(programSection(name)).toEqual({ supported: true, kind: { type, attachType, xdpFrags } });
});

test.for([
  ['kprobe/do_sys_open', 'kprobe'],
  ['kprobe.multi/x', 'kprobe'],
  ['raw_tp/sys_enter', 'raw_tracepoint'],
  ['raw_tracepoint.w/x', 'raw_tracepoint_writable'],
  ['tp_btf/x', 'tracing'],
  ['fentry/x', 'tracing'],
  ['freplace/x', 'ext'],
  ['cgroup/sock_create', 'cgroup_sock'],
  ['cgroup/bind4', 'cgroup_sock_addr'],
  ['sk_skb/stream_parser', 'sk_skb'],
  ['struct_ops/x', 'struct_ops'],
  ['struct_ops.s/x', 'struct_ops'],
] as const)('%s is a program of the kernel only', ([name, kernelType]) => {
  expect(programSection(name)).toEqual({ supported: false, kernelType });
});

test.for(['tcp_thing', 'xdpcap', 'rawish', 'my_section', '', 'prog'])('%s means nothing', name => {
  expect(programSection(name)).toBeUndefined();
});
