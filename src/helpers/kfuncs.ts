/**
 * What the verifier knows of each kernel function (kfunc) that Switchyard has: arguments, result and the program types
 * that Linux 6.18 registers it for (found by loading a probe of each pair). Names are all that identifies them: their
 * numbers are those of one kernel's BTF. `raw`, which the kernel lacks, gets what every type gets.
 */
import type { ProgramSpec, ProgramType } from '../object/spec.ts';
import type { KfuncArgument, KfuncResult, KfuncSignature, KfuncTable } from '../verifier/kfunc-signature.ts';

const TC: readonly ProgramType[] = ['sched_cls', 'sched_act'];
const SKB: readonly ProgramType[] = ['socket_filter', ...TC, 'cgroup_skb'];
const XDP: readonly ProgramType[] = ['xdp'];
const ALL: readonly ProgramType[] = [...SKB, ...XDP, 'raw'];

const scalar: KfuncArgument = { type: 'scalar' };
const context: KfuncArgument = { type: 'context' };
const dynptr: KfuncArgument = { type: 'dynptr' };
const text: KfuncArgument = { type: 'unsafeText' };
const number: KfuncResult = { type: 'scalar' };
const nothing: KfuncResult = { type: 'void' };

const kfunc = (
  name: string,
  args: readonly KfuncArgument[],
  returns: KfuncResult = number,
  programTypes: readonly ProgramType[] = ALL,
): KfuncSignature => ({ name, args, returns, programTypes });

type IteratorUse = 'new' | 'next' | 'destroy';
const num = (use: IteratorUse): KfuncArgument => ({ type: 'iterator', of: 'num', slots: 1, use });
const bits = (use: IteratorUse): KfuncArgument => ({ type: 'iterator', of: 'bits', slots: 2, use });

const ITERATORS = [
  kfunc('bpf_iter_num_new', [num('new'), scalar, scalar]),
  kfunc('bpf_iter_num_next', [num('next')], { type: 'element', size: 4 }),
  kfunc('bpf_iter_num_destroy', [num('destroy')], nothing),
  kfunc('bpf_iter_bits_new', [bits('new'), { type: 'anything' }, scalar]),
  kfunc('bpf_iter_bits_next', [bits('next')], { type: 'element', size: 4 }),
  kfunc('bpf_iter_bits_destroy', [bits('destroy')], nothing),
];

const sliceBuffer: KfuncArgument = { type: 'buffer', optional: true, constant: true };
const slice = (name: string, writable: boolean): KfuncSignature =>
  kfunc(name, [dynptr, scalar, sliceBuffer, { type: 'bufferSize' }], { type: 'slice', writable });

const DYNPTRS = [
  kfunc('bpf_dynptr_from_skb', [context, scalar, { type: 'dynptr', construct: 'skb' }], number, SKB),
  kfunc('bpf_dynptr_from_xdp', [context, scalar, { type: 'dynptr', construct: 'xdp' }], number, XDP),
  slice('bpf_dynptr_slice', false),
  slice('bpf_dynptr_slice_rdwr', true),
  kfunc('bpf_dynptr_adjust', [dynptr, scalar, scalar]),
  kfunc('bpf_dynptr_is_null', [dynptr]),
  kfunc('bpf_dynptr_is_rdonly', [dynptr]),
  kfunc('bpf_dynptr_size', [dynptr]),
  kfunc('bpf_dynptr_clone', [dynptr, { type: 'dynptrClone' }]),
  kfunc('bpf_dynptr_copy', [dynptr, scalar, dynptr, scalar, scalar]),
  kfunc('bpf_dynptr_memset', [dynptr, scalar, scalar, scalar]),
];

const REGIONS: readonly KfuncSignature[] = [
  { ...kfunc('bpf_rcu_read_lock', [], nothing), region: 'rcuLock' },
  { ...kfunc('bpf_rcu_read_unlock', [], nothing), region: 'rcuUnlock' },
  { ...kfunc('bpf_preempt_disable', [], nothing), region: 'preemptDisable' },
  { ...kfunc('bpf_preempt_enable', [], nothing), region: 'preemptEnable' },
];

const out = (size: number): KfuncArgument => ({ type: 'fixedMemory', size });

/** What a network card knows of a frame: there is none behind the frames here. The kernel asks for a program bound to a device. */
const XDP_ONLY: readonly KfuncSignature[] = [
  kfunc('bpf_xdp_metadata_rx_timestamp', [context, out(8)], number, XDP),
  kfunc('bpf_xdp_metadata_rx_hash', [context, out(4), out(4)], number, XDP),
  kfunc('bpf_xdp_metadata_rx_vlan_tag', [context, out(2), out(2)], number, XDP),
  { ...kfunc('bpf_xdp_pull_data', [context, scalar], number, XDP), changesPacket: true },
];

const STRINGS = [
  kfunc('bpf_strcmp', [text, text]),
  kfunc('bpf_strcasecmp', [text, text]),
  kfunc('bpf_strchr', [text, scalar]),
  kfunc('bpf_strchrnul', [text, scalar]),
  kfunc('bpf_strnchr', [text, scalar, scalar]),
  kfunc('bpf_strrchr', [text, scalar]),
  kfunc('bpf_strlen', [text]),
  kfunc('bpf_strnlen', [text, scalar]),
  kfunc('bpf_strspn', [text, text]),
  kfunc('bpf_strcspn', [text, text]),
  kfunc('bpf_strstr', [text, text]),
  kfunc('bpf_strnstr', [text, text, scalar]),
];

/** Addresses seen as others; the loads through them find out whether there is anything. */
const CASTS = [kfunc('bpf_rdonly_cast', [{ type: 'anything' }, { type: 'typeId' }], { type: 'cast' })];

/** Every kernel function that Switchyard has, by its name. */
export const KFUNCS: KfuncTable = new Map(
  [...ITERATORS, ...DYNPTRS, ...REGIONS, ...XDP_ONLY, ...STRINGS, ...CASTS].map(signature => [
    signature.name,
    signature,
  ]),
);

/** Does the program call what needs `IteratorMemory`? */
export function usesIteratorMemory({ insns }: Pick<ProgramSpec, 'insns'>): boolean {
  return insns.some(insn => insn.kind === 'callKfunc' && insn.name === 'bpf_iter_bits_new');
}

/** Program types that may write packets. */
const WRITABLE: readonly ProgramType[] = [...TC, ...XDP];
/** Calls that leave nothing to do: the regions exist for the kernel's scheduler and memory reclamation. */
const NO_CODE: ReadonlySet<string> = new Set(REGIONS.map(({ name }) => name));

/**
 * Name of the trusted routine that a call becomes; empty where the call does nothing.
 * @returns undefined for a function that is not in `KFUNCS`
 */
export function kfuncRoutine(name: string, programType: ProgramType): string | undefined {
  if (!KFUNCS.has(name)) return undefined;
  if (name === 'bpf_dynptr_from_skb' && !WRITABLE.includes(programType)) return 'skb_dynptr_read_only';
  return NO_CODE.has(name) ? '' : `kfunc_${name}`;
}

const OBJECTS = 'it works on objects of the kernel, which do not exist here';
const ALLOCATED = 'objects that programs allocate are not supported';
const SLEEPABLE = 'only programs that may sleep can call it; those of packets may not';
const FOREIGN = 'it reads memory of the kernel or of processes, which programs here cannot see';

const REASONS: Readonly<Record<string, readonly string[]>> = {
  [OBJECTS]: [
    ...['acquire', 'ancestor', 'from_id', 'read_xattr', 'release'].map(name => `bpf_cgroup_${name}`),
    ...['acquire', 'from_pid', 'from_vpid', 'get_cgroup1', 'release', 'under_cgroup'].map(name => `bpf_task_${name}`),
    ...['change_status', 'change_timeout', 'insert_entry', 'release', 'set_nat_info', 'set_status', 'set_timeout'].map(
      name => `bpf_ct_${name}`,
    ),
    ...['bpf_skb_ct_alloc', 'bpf_skb_ct_lookup', 'bpf_xdp_ct_alloc', 'bpf_xdp_ct_lookup'],
    ...['bpf_key_put', 'bpf_lookup_system_key', 'bpf_lookup_user_key'],
    ...['bpf_crypto_decrypt', 'bpf_crypto_encrypt', 'bpf_get_kmem_cache', 'bpf_send_signal_task'],
    ...['bpf_sk_assign_tcp_reqsk', 'bpf_sock_addr_set_sun_path', 'bpf_sock_ops_enable_tx_tstamp'],
    ...['bpf_xdp_get_xfrm_state', 'bpf_xdp_xfrm_state_release', 'bpf_dynptr_from_skb_meta'],
    ...['css', 'css_task', 'task', 'task_vma', 'kmem_cache', 'dmabuf'].flatMap(type =>
      ['new', 'next', 'destroy'].map(use => `bpf_iter_${type}_${use}`),
    ),
  ],
  [ALLOCATED]: [
    ...['bpf_obj_new_impl', 'bpf_obj_drop_impl', 'bpf_percpu_obj_new_impl', 'bpf_percpu_obj_drop_impl'],
    ...['bpf_refcount_acquire_impl', 'bpf_rbtree_add_impl'],
    ...['first', 'left', 'remove', 'right', 'root'].map(name => `bpf_rbtree_${name}`),
    ...['back', 'front', 'pop_back', 'pop_front', 'push_back_impl', 'push_front_impl'].map(name => `bpf_list_${name}`),
  ],
  [SLEEPABLE]: [
    ...['bpf_arena_alloc_pages', 'bpf_arena_free_pages', 'bpf_arena_reserve_pages'],
    ...['dynptr', 'str', 'str_dynptr', 'task_dynptr', 'task_str', 'task_str_dynptr'].map(
      name => `bpf_copy_from_user_${name}`,
    ),
  ],
  [FOREIGN]: [
    ...['kernel', 'user'].flatMap(from => [`bpf_probe_read_${from}_dynptr`, `bpf_probe_read_${from}_str_dynptr`]),
  ],
  "it gives the kernel's own structure behind the context (struct xdp_buff, struct sk_buff), which there is none of here":
    ['bpf_cast_to_kern_ctx'],
  'hashes keep no count here, which every insertion on every thread would have to write': ['bpf_map_sum_elem_count'],
  "it is there for the kernel's own tests": [
    ...['bpf_kfunc_call_memb_release', 'bpf_kfunc_call_test_release', 'bpf_modify_return_test_tp'],
  ],
  "compilers call it where they found that the program's behaviour is undefined, often for an uninitialised variable": [
    '__bpf_trap',
  ],
  'exceptions are not supported': ['bpf_throw'],
  'there are no work queues here': [
    ...['bpf_wq_init', 'bpf_wq_set_callback_impl', 'bpf_wq_start'],
    ...['bpf_task_work_schedule_resume_impl', 'bpf_task_work_schedule_signal_impl'],
  ],
  'of locks only bpf_spin_lock is supported': [
    ...['lock', 'lock_irqsave', 'unlock', 'unlock_irqrestore'].map(name => `bpf_res_spin_${name}`),
  ],
  'there are no interrupts here': ['bpf_local_irq_save', 'bpf_local_irq_restore'],
  'there are no streams here': ['bpf_stream_vprintk_impl'],
};

/** Kernel functions that the program types here may call in Linux 6.18 and Switchyard lacks, by name: why. */
export const REFUSED_KFUNCS: ReadonlyMap<string, string> = new Map(
  Object.entries(REASONS).flatMap(([reason, names]) => names.map(name => [name, reason] as const)),
);
