/**
 * For the arm64 Node under qemu-user. qemu 7.2 keeps translated code when memory is rewritten through another mapping,
 * cache maintenance notwithstanding (ic ivau does nothing there). It drops it when pages become writable. So cache
 * maintenance is replaced by that here, and only here: hardware does what the architecture says.
 */
import koffi from 'koffi';

const PAGE = 4096n;
const PROT_READ_EXECUTE = 5;
const PROT_ALL = 7;

if (process.arch === 'arm64' && process.env.SWITCHYARD_QEMU) {
  const mprotect = koffi.load('libc.so.6').func('int mprotect(int64_t address, size_t length, int protection)');
  const load = koffi.load;
  const dropTranslations = (begin: bigint, end: bigint): void => {
    const start = begin & ~(PAGE - 1n);
    const length = ((end + PAGE - 1n) & ~(PAGE - 1n)) - start;
    mprotect(start, length, PROT_ALL);
    mprotect(start, length, PROT_READ_EXECUTE);
  };
  koffi.load = ((path: string, ...rest: []) =>
    path === 'libgcc_s.so.1' ? { func: () => dropTranslations } : load(path, ...rest)) as unknown as typeof koffi.load;
}
