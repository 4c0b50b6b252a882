/** Why Switchyard lacks helpers that the kernel allows to programs of its types: for refusals and for the documentation. */
import type { RefusedHelper } from '../verifier/signature.ts';
import { helperName } from './names.ts';

const TASKS = 'they work on tasks of the kernel, which do not exist here';
const CGROUPS = 'there are no cgroups here';
const NAMESPACES = 'there are no namespaces here';
const FOREIGN = 'they read memory of the kernel or of processes, which programs here cannot see';
const KERNEL_TYPES = "they give or take the kernel's own structures and variables, which do not exist here";
const STORAGE =
  'what they store belongs to a socket of the kernel and goes with it; of sockets that the caller supplies the cookie is a key to any hash';

const REASONS: Readonly<Record<string, readonly string[]>> = {
  [TASKS]: [
    ...['get_task_stack', 'find_vma', 'task_storage_get', 'task_storage_delete', 'send_signal', 'send_signal_thread'],
    ...['current_task_under_cgroup'],
  ],
  [CGROUPS]: [
    ...['skb_cgroup_classid', 'skb_under_cgroup', 'skb_cgroup_id', 'skb_ancestor_cgroup_id', 'sk_cgroup_id'],
    ...['get_current_cgroup_id', 'get_current_ancestor_cgroup_id', 'sk_ancestor_cgroup_id'],
    ...['cgrp_storage_get', 'cgrp_storage_delete'],
  ],
  [NAMESPACES]: ['get_netns_cookie', 'get_ns_current_pid_tgid'],
  [FOREIGN]: [
    ...['probe_read_user', 'probe_read_kernel', 'probe_read_user_str', 'probe_read_kernel_str'],
    ...['copy_from_user', 'copy_from_user_task'],
  ],
  [KERNEL_TYPES]: [
    ...['per_cpu_ptr', 'this_cpu_ptr', 'snprintf_btf', 'get_current_task', 'get_current_task_btf', 'task_pt_regs'],
    ...['tcp6_sock', 'tcp_sock', 'tcp_timewait_sock', 'tcp_request_sock', 'udp6_sock', 'unix_sock', 'mptcp_sock'].map(
      type => `skc_to_${type}`,
    ),
  ],
  'it moves objects of the kernel, or made by bpf_obj_new, into maps: there are neither here': ['kptr_xchg'],
  [STORAGE]: ['sk_storage_get', 'sk_storage_delete'],
  'a packet here is delivered to nobody, so neither to the socket that a program chooses': ['sk_assign'],
  'there are no counters of the processor that a perf event here could stand for': [
    ...['perf_event_read', 'perf_event_read_value', 'get_branch_snapshot'],
  ],
  'timers are not supported: nothing runs between packets that they could interrupt': [
    ...['timer_init', 'timer_set_callback', 'timer_start', 'timer_cancel'],
  ],
  'a packet here has no tunnel and no security association': [
    ...['skb_get_tunnel_key', 'skb_set_tunnel_key', 'skb_get_tunnel_opt', 'skb_set_tunnel_opt', 'skb_get_xfrm_state'],
  ],
  "the secrets of SYN cookies are the kernel's own, and so are the connections that it makes of them": [
    ...['tcp_check_syncookie', 'tcp_gen_syncookie', 'tcp_raw_gen_syncookie_ipv4', 'tcp_raw_gen_syncookie_ipv6'],
    ...['tcp_raw_check_syncookie_ipv4', 'tcp_raw_check_syncookie_ipv6'],
  ],
};

/** Helpers that the program types here may call in Linux 6.18 and Switchyard lacks, by name: why. */
export const REFUSED_HELPERS: ReadonlyMap<string, string> = new Map(
  Object.entries(REASONS).flatMap(([reason, names]) => names.map(name => [name, reason] as const)),
);

/** @returns undefined where the kernel has no helper of that number either */
export function refusedHelper(helper: number): RefusedHelper | undefined {
  const name = helperName(helper);
  return name === undefined ? undefined : { name, reason: REFUSED_HELPERS.get(name) };
}
