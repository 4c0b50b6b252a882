// The child of denied.test.ts: has bpf(2) fail with an errno, or leaves it alone, uses the package's API, and prints how each call
// ended, as JSON. Arguments: the built package, an object, the errno's number or 0.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

const [dist, file, errno] = process.argv.slice(2);
const { KernelJudge, loadIntoKernel, parseObject } = await import(dist);

const BPF = { x64: 321, arm64: 280 }[process.arch];
const ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 }[process.arch];
const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x0005_0000;
const SECCOMP_RET_ALLOW = 0x7fff_0000;

/** A filter of classic BPF: of the own architecture, the system call bpf(2) gives the errno. */
function inject(number) {
  const insns = [
    [0x20, 0, 0, 4],
    [0x15, 0, 3, ARCH],
    [0x20, 0, 0, 0],
    [0x15, 0, 1, BPF],
    [0x06, 0, 0, SECCOMP_RET_ERRNO | number],
    [0x06, 0, 0, SECCOMP_RET_ALLOW],
  ];
  const code = Buffer.from(new ArrayBuffer(8 * insns.length));
  for (const [i, [opcode, yes, no, k]] of insns.entries()) {
    code.writeUInt16LE(opcode, 8 * i);
    code.writeUInt8(yes, 8 * i + 2);
    code.writeUInt8(no, 8 * i + 3);
    code.writeUInt32LE(k, 8 * i + 4);
  }
  const program = Buffer.from(new ArrayBuffer(16));
  program.writeUInt16LE(insns.length, 0);
  program.writeBigUInt64LE(BigInt(koffi.address(code)), 8);
  const prctl = koffi.load('libc.so.6').func('int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)');
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error('no_new_privs was refused');
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, BigInt(koffi.address(program)), 0, 0) !== 0)
    throw new Error(`the seccomp filter was refused: errno ${koffi.errno()}`);
}

const collection = parseObject(readFileSync(file));
const loaded = errno === '0' ? undefined : loadIntoKernel(collection);
if (errno !== '0') inject(Number(errno));

const outcomes = {};
function attempt(name, use) {
  try {
    use();
    outcomes[name] = { code: 'ok' };
  } catch (error) {
    outcomes[name] = { type: error.constructor.name, code: error.code, errno: error.errno, message: error.message };
  }
}

attempt('load', () => loadIntoKernel(collection).dispose());
attempt('judge', () => {
  const judge = new KernelJudge(collection);
  judge.judge([...collection.programs.values()][0]);
  judge.dispose();
});
// What was loaded while it could be.
if (loaded !== undefined) {
  const program = [...loaded.programs.values()][0];
  const map = [...loaded.maps.values()].find(({ spec }) => spec.type === 'hash');
  const key = new Uint8Array(map.spec.keySize);
  attempt('run', () => program.run(new Uint8Array(64)));
  attempt('information', () => program.id);
  attempt('translated', () => program.xlated());
  attempt('machine code', () => program.jited());
  attempt('lookup', () => map.lookup(key));
  attempt('update', () => map.update(key, new Uint8Array(map.valueBytes)));
  attempt('delete', () => map.delete(key));
  attempt('iterate', () => [...map.entries()]);
  attempt('batch', () => map.lookupBatch(1));
  attempt('freeze', () => map.freeze());
  attempt('dispose', () => loaded.dispose());
}
console.log(JSON.stringify(outcomes));
