/** File descriptors that the kernel's arrays of targets take: AF_XDP sockets and perf events. */
import koffi from 'koffi';
import { closeFd } from '../../src/kernel/bpf.ts';

const AF_XDP = 44;
const SOCK_RAW = 3;
const PERF_EVENT_OPEN = 298;
/** struct perf_event_attr, its first version. */
const ATTR_BYTES = 64;
const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_BPF_OUTPUT = 10;
/** Where `type`, `size` and `config` lie in it. */
const [TYPE, SIZE, CONFIG] = [0, 4, 8];

type Descriptors = { readonly fds: readonly number[]; dispose(): void };

function descriptors(count: number, open: () => number | bigint, what: string): Descriptors {
  const fds: number[] = [];
  const dispose = (): void => {
    for (const fd of fds.splice(0)) closeFd(fd);
  };
  for (let i = 0; i < count; i++) {
    const fd = Number(open());
    if (fd < 0) {
      dispose();
      throw new Error(`the kernel opens no ${what}: errno ${koffi.errno()}`);
    }
    fds.push(fd);
  }
  return { fds, dispose };
}

export function openXdpSockets(count: number): Descriptors {
  const socket = koffi.load('libc.so.6').func('int socket(int domain, int type, int protocol)');
  return descriptors(count, () => socket(AF_XDP, SOCK_RAW, 0), 'AF_XDP sockets');
}

/** Events for bpf_perf_event_output on CPU 0. */
export function openPerfEvents(count: number): Descriptors {
  const syscall = koffi
    .load('libc.so.6')
    .func('int64_t syscall(int64_t number, void *attr, int64_t pid, int64_t cpu, int64_t group, int64_t flags)');
  const attr = new Uint8Array(new ArrayBuffer(ATTR_BYTES));
  const view = new DataView(attr.buffer);
  view.setUint32(TYPE, PERF_TYPE_SOFTWARE, true);
  view.setUint32(SIZE, ATTR_BYTES, true);
  view.setUint32(CONFIG, PERF_COUNT_SW_BPF_OUTPUT, true);
  return descriptors(count, () => syscall(PERF_EVENT_OPEN, attr, -1, 0, -1, 0), 'perf events');
}
