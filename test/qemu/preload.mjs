/**
 * Loaded first by every arm64 Node that runs under qemu-user (scripts/test-arm64.sh), also by those that tests start.
 *
 * qemu 7.2 keeps translated code when memory is rewritten through another mapping, cache maintenance notwithstanding (ic
 * ivau does nothing there). It drops it when pages become writable. So cache maintenance is replaced by that here, and
 * only here: hardware does what the architecture says.
 */
import koffi from 'koffi';

const PAGE = 4096n;
const PROT_READ_EXECUTE = 5;
const PROT_ALL = 7;

// Without binfmt_misc the kernel can't start an arm64 program: whoever starts Node again takes the way that started this one.
process.execPath = process.env.SWITCHYARD_ARM64_NODE;

const mprotect = koffi.load('libc.so.6').func('int mprotect(int64_t address, size_t length, int protection)');
const load = koffi.load;
function dropTranslations(begin, end) {
  const start = begin & ~(PAGE - 1n);
  const length = ((end + PAGE - 1n) & ~(PAGE - 1n)) - start;
  mprotect(start, length, PROT_ALL);
  mprotect(start, length, PROT_READ_EXECUTE);
}
koffi.load = (path, ...rest) => (path === 'libgcc_s.so.1' ? { func: () => dropTranslations } : load(path, ...rest));
