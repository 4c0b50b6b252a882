/** Memory of the kernel's maps and perf events, mapped as libbpf maps it. */
import koffi from 'koffi';

const MAP_SHARED = 1;
const PROT_READ = 1;
const PROT_READ_WRITE = 3;

/**
 * @param length bytes
 * @param offset bytes, of a page's beginning
 * @throws Error where the kernel refuses
 */
export function mapDescriptor(fd: number, length: number, offset = 0, access: 'read' | 'write' = 'write'): ArrayBuffer {
  const mmap = koffi
    .load('libc.so.6')
    .func('int64_t mmap(int64_t address, size_t length, int protection, int flags, int fd, int64_t offset)');
  const protection = access === 'read' ? PROT_READ : PROT_READ_WRITE;
  const address = BigInt(mmap(0, length, protection, MAP_SHARED, fd, offset));
  if (address === -1n) throw new Error(`descriptor ${fd} cannot be mapped: errno ${koffi.errno()}`);
  return koffi.view(address, length) as ArrayBuffer;
}
