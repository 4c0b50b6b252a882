/**
 * The BPF programs of the kernel's own tests (tools/testing/selftests/bpf/progs) and samples (samples/bpf) as objects: compiled
 * from the sources that Debian packs as linux-source-6.1, with libbpf's headers and the types of the running kernel. Nothing of them is
 * kept in the project; the objects are cached under node_modules, by what they were made from.
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { requireTool } from '../tools.ts';

const SOURCE = '/usr/src/linux-source-6.1.tar.xz';
const TOP = 'linux-source-6.1';
const SELFTESTS = 'tools/testing/selftests/bpf';
export const KERNEL_TYPES = '/sys/kernel/btf/vmlinux';
const CACHE = join(import.meta.dirname, '../../node_modules/.cache/kernel-programs');
const PARALLEL = 2;
/** A section of a program type of ours. Other sources are not compiled. */
const OURS =
  /SEC\("\??(?:tc|tcx|classifier|action|xdp|xdp\.frags|xdp_devmap|xdp_cpumap|socket|socket_filter|cgroup_skb|cgroup\/skb|netkit)[^a-z"]?[^"]*"\)/;

/** The older compiler gets every so many of the sources only, to save time. */
const VARIANTS = [
  { compiler: 'clang-14', cpu: 'v3', step: 4 },
  { compiler: 'clang-22', cpu: 'v4', step: 1 },
] as const;

/** What samples take from headers of the kernel's own. */
const SAMPLES_HEADER = `#include <linux/types.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <string.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
#define likely(x) (x)
#define unlikely(x) (x)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define htons __builtin_bswap16
#define ntohs __builtin_bswap16
#define htonl __builtin_bswap32
#define ntohl __builtin_bswap32
#define __force
#define __packed __attribute__((packed))
struct vlan_hdr {
  __be16 h_vlan_TCI;
  __be16 h_vlan_encapsulated_proto;
};
`;

interface KernelProgramsObject {
  /** Name of the source file, without what it ends with. */
  readonly source: string;
  /** e.g. "clang-22 v4" */
  readonly variant: string;
  readonly path: string;
}

export interface KernelPrograms {
  /** Sources with programs of our types. */
  readonly sources: readonly string[];
  readonly objects: readonly KernelProgramsObject[];
  /** By source: the compiler's first error, of sources that no longer compile with this kernel's types. */
  readonly broken: ReadonlyMap<string, string>;
}

/** @returns why they can't be built here; undefined where they can. Throws instead in CI. */
export function kernelProgramsMissing(): string | undefined {
  for (const tool of ['bpftool', 'tar', 'xz', ...VARIANTS.map(({ compiler }) => compiler)])
    if (requireTool(tool) === undefined) return `${tool} is not installed`;
  if (existsSync(SOURCE)) return existsSync(KERNEL_TYPES) ? undefined : 'the running kernel has no BTF';
  if (process.env.CI) throw new Error(`${SOURCE} is missing; the package is linux-source-6.1`);
  return `${SOURCE} is missing`;
}

/** Some 20 s where nothing is cached. */
export async function buildKernelPrograms(): Promise<KernelPrograms> {
  const directory = join(CACHE, cacheKey());
  if (!existsSync(directory)) {
    mkdirSync(CACHE, { recursive: true });
    // Another process may be at the same.
    const draft = mkdtempSync(`${directory}.`);
    await compileInto(draft);
    if (existsSync(directory)) rmSync(draft, { recursive: true });
    else renameSync(draft, directory);
  }
  const files = readdirSync(directory);
  const objects: KernelProgramsObject[] = [];
  const broken = new Map<string, string>();
  for (const file of files.sort()) {
    const [source = '', variant = '', ending = ''] = file.split('@');
    const path = join(directory, file);
    if (ending === 'o') objects.push({ source, variant, path });
    else broken.set(source, /error: (.*)/.exec(readFileSync(path, 'utf8'))?.[1] ?? 'unknown');
  }
  return { sources: [...new Set(files.map(file => file.split('@')[0]!))], objects, broken };
}

function cacheKey(): string {
  const hash = createHash('sha256');
  const { size, mtimeMs } = statSync(SOURCE);
  hash.update(`${size} ${mtimeMs}`);
  for (const { compiler } of VARIANTS) hash.update(execFileSync(compiler, ['--version']));
  for (const file of [KERNEL_TYPES, import.meta.filename]) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 24);
}

async function compileInto(output: string): Promise<void> {
  const unpacked = mkdtempSync(join(tmpdir(), 'kernel-programs-'));
  try {
    const members = [`${SELFTESTS}/*.h`, `${SELFTESTS}/progs/*.[ch]`, 'samples/bpf/*.[ch]', 'tools/include/uapi/*'];
    execFileSync('tar', ['-xJf', SOURCE, '-C', unpacked, '--wildcards', ...members.map(member => `${TOP}/${member}`)]);
    const types = execFileSync(requireTool('bpftool')!, ['btf', 'dump', 'file', KERNEL_TYPES, 'format', 'c'], {
      maxBuffer: 1 << 28,
    });
    await writeFile(join(unpacked, 'vmlinux.h'), types);
    await writeFile(join(unpacked, 'samples.h'), SAMPLES_HEADER);
    // The samples' name for what is installed.
    mkdirSync(join(unpacked, 'uapi'));
    symlinkSync('/usr/include/linux', join(unpacked, 'uapi/linux'));
    const tree = join(unpacked, TOP);
    const sources = [join(tree, SELFTESTS, 'progs'), join(tree, 'samples/bpf')]
      .flatMap(directory => readdirSync(directory).map(name => join(directory, name)))
      .filter(path => path.endsWith('.c') && OURS.test(readFileSync(path, 'utf8')));
    const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
    const flags = [
      ...['-target', 'bpf', '-O2', '-g', '-w', '-fno-jump-tables', '-D__TARGET_ARCH_x86'],
      ...[unpacked, join(tree, SELFTESTS), join(tree, 'tools/include/uapi'), `/usr/include/${machine}-linux-gnu`].map(
        include => `-I${include}`,
      ),
    ];
    const waiting = sources
      .flatMap((path, i) => VARIANTS.filter(({ step }) => i % step === 0).map(variant => ({ path, ...variant })))
      .values();
    const work = async (): Promise<void> => {
      for (const { path, compiler, cpu } of waiting) {
        const object = join(output, `${basename(path, '.c')}@${compiler} ${cpu}@`);
        try {
          const before = path.endsWith('_kern.c') && path.includes('/samples/') ? ['-include', 'samples.h'] : [];
          await promisify(execFile)(compiler, [...flags, ...before, `-mcpu=${cpu}`, '-c', path, '-o', `${object}o`]);
        } catch (error) {
          await writeFile(`${object}error`, String((error as { stderr?: string }).stderr));
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, work));
  } finally {
    rmSync(unpacked, { recursive: true, force: true });
  }
}
