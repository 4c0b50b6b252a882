/** Helpers of XDP programs: moving the start, the end and the metadata of a packet in its frame, and copying. */
import type { Routine } from '../../isa/routine.ts';
import { XdpContext } from '../../memory/layout.ts';
import { Errno, ETHERNET_HEADER } from './shared.ts';

/** Metadata is at most what one byte counts, and a multiple of 4. */
const MAX_METADATA = 255;

/** The metadata stays in front of the packet, so it moves with its start. Metadata above data means: unsupported. */
const adjustHead: Routine = {
  name: 'bpf_xdp_adjust_head',
  text: `
  r6 = r1
  r7 = (s32)r2
  r1 = *(u64 *)(r6 + ${XdpContext.data})
  r2 = *(u64 *)(r6 + ${XdpContext.dataMeta})
  r3 = r1
  r3 -= r2
  if r2 <= r1 goto has_metadata
  r3 = 0
has_metadata:
  r1 += r7
  r4 = *(u64 *)(r6 + ${XdpContext.hardStart})
  r4 += r3
  if r1 < r4 goto invalid
  r4 = *(u64 *)(r6 + ${XdpContext.dataEnd})
  r4 -= ${ETHERNET_HEADER}
  if r1 > r4 goto invalid
  *(u64 *)(r6 + ${XdpContext.data}) = r1
  r1 = r2
  r1 += r7
  *(u64 *)(r6 + ${XdpContext.dataMeta}) = r1
  if r3 == 0 goto done
  call routine memory_move
done:
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

const adjustTail: Routine = {
  name: 'bpf_xdp_adjust_tail',
  text: `
  r2 = (s32)r2
  r3 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r4 = r3
  r4 += r2
  r5 = *(u64 *)(r1 + ${XdpContext.hardEnd})
  if r4 > r5 goto invalid
  r5 = *(u64 *)(r1 + ${XdpContext.data})
  r5 += ${ETHERNET_HEADER}
  if r4 < r5 goto invalid
  *(u64 *)(r1 + ${XdpContext.dataEnd}) = r4
  if r2 s<= 0 goto done
  r1 = r3
  call routine memory_zero
done:
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

const adjustMeta: Routine = {
  name: 'bpf_xdp_adjust_meta',
  text: `
  r2 = (s32)r2
  r3 = *(u64 *)(r1 + ${XdpContext.data})
  r4 = *(u64 *)(r1 + ${XdpContext.dataMeta})
  if r4 > r3 goto unsupported
  r4 += r2
  r5 = *(u64 *)(r1 + ${XdpContext.hardStart})
  if r4 < r5 goto invalid
  if r4 > r3 goto invalid
  r3 -= r4
  if r3 > ${MAX_METADATA} goto denied
  r3 &= 3
  if r3 != 0 goto denied
  *(u64 *)(r1 + ${XdpContext.dataMeta}) = r4
  r0 = 0
  exit
unsupported:
  r0 = ${Errno.ENOTSUPP}
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
denied:
  r0 = ${Errno.EACCES}
  exit
`,
};

/** xdp_range(xdp, offset, length): address of the bytes, or an error below zero. */
const range: Routine = {
  name: 'xdp_range',
  text: `
  w2 = w2
  if r2 > 0xffff goto fault
  if r3 > 0xffff goto fault
  r0 = *(u64 *)(r1 + ${XdpContext.data})
  r4 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r0 += r2
  r3 += r0
  if r3 <= r4 goto done
  r0 = ${Errno.EINVAL}
done:
  exit
fault:
  r0 = ${Errno.EFAULT}
  exit
`,
};

/** Copies between the packet and memory; `out` of the packet or into it. */
function copyRoutine(name: string, out: boolean): Routine {
  return {
    name,
    text: `
  w4 = w4
  r6 = r3
  r7 = r4
  r3 = r4
  call routine xdp_range
  if r0 s< 0 goto done
  r1 = ${out ? 'r6' : 'r0'}
  r2 = ${out ? 'r0' : 'r6'}
  r3 = r7
  call routine memory_copy
  r0 = 0
done:
  exit
`,
  };
}

const length: Routine = {
  name: 'bpf_xdp_get_buff_len',
  text: `
  r0 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r1 = *(u64 *)(r1 + ${XdpContext.data})
  r0 -= r1
  exit
`,
};

/** kfunc(xdp, length): the first bytes in one piece, as all are. Results of kernel functions are 32 bits wide. */
const pullData: Routine = {
  name: 'kfunc_bpf_xdp_pull_data',
  text: `
  w2 = w2
  r3 = *(u64 *)(r1 + ${XdpContext.dataEnd})
  r4 = *(u64 *)(r1 + ${XdpContext.data})
  r3 -= r4
  r0 = 0
  if r2 <= r3 goto done
  w0 = ${Errno.EINVAL}
done:
  exit
`,
};

/** No network card, no metadata. */
const unsupported = (name: string): Routine => ({ name, text: `\n  w0 = ${Errno.EOPNOTSUPP}\n  exit\n` });

export const XDP_ROUTINES: readonly Routine[] = [
  pullData,
  unsupported('kfunc_bpf_xdp_metadata_rx_timestamp'),
  unsupported('kfunc_bpf_xdp_metadata_rx_hash'),
  unsupported('kfunc_bpf_xdp_metadata_rx_vlan_tag'),
  adjustHead,
  adjustTail,
  adjustMeta,
  range,
  copyRoutine('bpf_xdp_load_bytes', true),
  copyRoutine('bpf_xdp_store_bytes', false),
  length,
];
