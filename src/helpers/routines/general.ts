/** Helpers that have nothing to do with packets: time, random numbers, identity, strings, loops. */
import type { Routine } from '../../isa/routine.ts';
import { RunContext, RuntimeState } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

/** Linux clock numbers (clock_gettime). */
const Clock = { monotonic: 1, monotonicCoarse: 6, boottime: 7, tai: 11 } as const;

const NANOSECONDS = 1_000_000_000;
/** The kernel's usual CONFIG_HZ, and its tick counter's start: five minutes before 32 bits wrap. */
const HZ = 250;
const INITIAL_JIFFIES = 2 ** 32 - 300 * HZ;

/** A helper that reads a clock. A fixed time, where the runtime has one, stands in for every clock. */
function clockRoutine(name: string, clock: number): Routine {
  return {
    name,
    text: `
  r6 = run_context
  r1 = *(u64 *)(r6 + ${RunContext.runtime})
  r0 = *(u64 *)(r1 + ${RuntimeState.fixedTime})
  if r0 != 0 goto done
  r1 = ${clock}
  r2 = r6
  r2 += ${RunContext.scratch}                     ; struct timespec
  call service clock_gettime
  r0 = *(u64 *)(r6 + ${RunContext.scratch})
  r0 *= ${NANOSECONDS}
  r1 = *(u64 *)(r6 + ${RunContext.scratch + 8})
  r0 += r1
done:
  exit
`,
  };
}

const jiffies: Routine = {
  name: 'bpf_jiffies64',
  text: `
  call routine bpf_ktime_get_ns
  r0 /= ${NANOSECONDS / HZ}
  r1 = ${INITIAL_JIFFIES} ll
  r0 += r1
  exit
`,
};

/** Marsaglia's xorshift64 with shifts 13, 7, 17; the upper half of the state is the better one. */
const prandom: Routine = {
  name: 'bpf_get_prandom_u32',
  text: `
  r1 = run_context
  r0 = *(u64 *)(r1 + ${RunContext.random})
  r2 = r0
  r2 <<= 13
  r0 ^= r2
  r2 = r0
  r2 >>= 7
  r0 ^= r2
  r2 = r0
  r2 <<= 17
  r0 ^= r2
  *(u64 *)(r1 + ${RunContext.random}) = r0
  r0 >>= 32
  exit
`,
};

const processorId: Routine = {
  name: 'bpf_get_smp_processor_id',
  text: `
  r0 = run_context
  r0 = *(u32 *)(r0 + ${RunContext.cpu})
  exit
`,
};

const numaNode: Routine = {
  name: 'bpf_get_numa_node_id',
  text: `
  r0 = run_context
  r0 = *(u32 *)(r0 + ${RunContext.numaNode})
  exit
`,
};

/** Asked of the host once per thread. */
const pidTgid: Routine = {
  name: 'bpf_get_current_pid_tgid',
  text: `
  r6 = run_context
  r0 = *(u64 *)(r6 + ${RunContext.pidTgid})
  if r0 != 0 goto done
  call service get_current_pid_tgid
  *(u64 *)(r6 + ${RunContext.pidTgid}) = r0
done:
  exit
`,
};

/** A helper that is rare, or all about text: its body is a service of the same arguments. */
function serviceRoutine(name: string): Routine {
  return { name: `bpf_${name}`, text: `\n  call service ${name}\n  exit\n` };
}

/** strncmp(s1, s1_size, s2): -1, 0 or 1, as the kernel's strncmp gives. */
const strncmp: Routine = {
  name: 'bpf_strncmp',
  text: `
  w2 = w2
  r0 = 0
next:
  if r2 == 0 goto done
  r4 = *(u8 *)(r1 + 0)
  r5 = *(u8 *)(r3 + 0)
  if r4 != r5 goto differ
  if r4 == 0 goto done
  r1 += 1
  r3 += 1
  r2 -= 1
  goto next
differ:
  r0 = 1
  if r4 > r5 goto done
  r0 = -1
done:
  exit
`,
};

const MAX_LOOPS = 1 << 23;

/** loop(count, callback, callback_context, flags): callback(index, context) until it returns non-zero. */
const loop: Routine = {
  name: 'bpf_loop',
  text: `
  w1 = w1
  if r4 != 0 goto invalid
  if r1 > ${MAX_LOOPS} goto too_many
  r6 = 0
  r7 = r1
  r8 = r2
  r9 = r3
next:
  if r6 >= r7 goto done
  r1 = run_context
  r1 = *(u64 *)(r1 + ${RunContext.runtime})
  r1 = *(u32 *)(r1 + ${RuntimeState.stop})
  if r1 != 0 goto done
  r1 = r6
  r2 = r9
  r3 = 0
  r4 = 0
  r5 = 0
  callx r8
  r6 += 1
  if r0 == 0 goto next
done:
  r0 = r6
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
too_many:
  r0 = ${Errno.E2BIG}
  exit
`,
};

export const GENERAL_ROUTINES: readonly Routine[] = [
  clockRoutine('bpf_ktime_get_ns', Clock.monotonic),
  clockRoutine('bpf_ktime_get_boot_ns', Clock.boottime),
  clockRoutine('bpf_ktime_get_coarse_ns', Clock.monotonicCoarse),
  clockRoutine('bpf_ktime_get_tai_ns', Clock.tai),
  jiffies,
  prandom,
  processorId,
  numaNode,
  pidTgid,
  serviceRoutine('trace_printk'),
  serviceRoutine('trace_vprintk'),
  serviceRoutine('snprintf'),
  serviceRoutine('get_current_uid_gid'),
  serviceRoutine('get_current_comm'),
  serviceRoutine('strtol'),
  serviceRoutine('strtoul'),
  strncmp,
  loop,
  { name: 'kfunc_bpf_rdonly_cast', text: '\n  r0 = r1\n  exit\n' },
];
