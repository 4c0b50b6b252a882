/** Why Switchyard lacks helpers that the kernel allows to programs of its types: for the documentation, and so that none is forgotten. */

const OBJECTS = 'they work on sockets, tasks and events of the kernel, which do not exist here';
const CGROUPS = 'there are no cgroups here';
const FOREIGN = 'they read memory of the kernel or of processes, which programs here cannot see';
const KERNEL_TYPES = "they need the kernel's own types and variables";

const REASONS: Readonly<Record<string, readonly string[]>> = {
  [OBJECTS]: [
    ...[
      'get_current_task',
      'get_current_task_btf',
      'task_pt_regs',
      'get_task_stack',
      'find_vma',
      'get_branch_snapshot',
    ],
    ...['task_storage_get', 'task_storage_delete', 'send_signal', 'send_signal_thread', 'get_ns_current_pid_tgid'],
    ...[
      'perf_event_read',
      'perf_event_read_value',
      'get_netns_cookie',
      'sk_assign',
      'sk_storage_get',
      'sk_storage_delete',
    ],
    ...['tcp6_sock', 'tcp_sock', 'tcp_timewait_sock', 'tcp_request_sock', 'udp6_sock', 'unix_sock', 'mptcp_sock'].map(
      type => `skc_to_${type}`,
    ),
  ],
  [CGROUPS]: [
    ...['get_cgroup_classid', 'skb_cgroup_classid', 'skb_under_cgroup', 'current_task_under_cgroup', 'skb_cgroup_id'],
    ...['skb_ancestor_cgroup_id', 'get_current_cgroup_id', 'get_current_ancestor_cgroup_id', 'sk_cgroup_id'],
    ...['sk_ancestor_cgroup_id', 'get_local_storage', 'cgrp_storage_get', 'cgrp_storage_delete'],
  ],
  [FOREIGN]: [
    ...['probe_read_user', 'probe_read_kernel', 'probe_read_user_str', 'probe_read_kernel_str'],
    ...['copy_from_user', 'copy_from_user_task'],
  ],
  [KERNEL_TYPES]: ['per_cpu_ptr', 'this_cpu_ptr', 'snprintf_btf', 'kptr_xchg'],
  'timers are not supported: nothing runs between packets that they could interrupt': [
    ...['timer_init', 'timer_set_callback', 'timer_start', 'timer_cancel'],
  ],
  'a packet here has no tunnel and no security association': [
    ...['skb_get_tunnel_key', 'skb_set_tunnel_key', 'skb_get_tunnel_opt', 'skb_set_tunnel_opt', 'skb_get_xfrm_state'],
  ],
  'redirects are recorded, not done: there is no neighbour or peer to hand a packet to': [
    ...['redirect_neigh', 'redirect_peer'],
  ],
  "the secrets of SYN cookies are the kernel's own": [
    ...['tcp_check_syncookie', 'tcp_gen_syncookie', 'tcp_raw_gen_syncookie_ipv4', 'tcp_raw_gen_syncookie_ipv6'],
    ...['tcp_raw_check_syncookie_ipv4', 'tcp_raw_check_syncookie_ipv6'],
  ],
  'not written yet': [...['skb_change_proto', 'skb_ecn_set_ce', 'skb_set_tstamp']],
};

/** Helpers that the program types here may call in Linux 6.18 and Switchyard lacks, by name: why. */
export const REFUSED_HELPERS: ReadonlyMap<string, string> = new Map(
  Object.entries(REASONS).flatMap(([reason, names]) => names.map(name => [name, reason] as const)),
);
