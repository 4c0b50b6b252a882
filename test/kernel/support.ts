/** The running kernel for tests of every room: whether it may be used, and the shortest ways to use it. */

import { closeFd } from '../../src/kernel/bpf.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { KernelJudge } from '../../src/kernel/judge.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { type CodeToLoad, loadCode } from '../../src/kernel/program.ts';
import { PROGRAM_TYPE } from '../../src/kernel/uapi.ts';
import type { Collection, MapSpec } from '../../src/object/spec.ts';

/** `r0 = 0; exit` */
const SMALLEST = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

export function mapSpec(parts: Partial<MapSpec> = {}): MapSpec {
  return { name: 'm', type: 'array', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, contents: [], ...parts };
}

/**
 * Why bpf(2) can't be used here, for tests to be skipped with; undefined where it can.
 * @param type number of a program type that must be permitted
 * @throws Error in CI on Linux and x86-64, where comparisons with the kernel must run
 */
export function kernelMissing(type: number = PROGRAM_TYPE.sched_cls): string | undefined {
  try {
    new KernelMap(mapSpec()).dispose();
    closeFd(loadCode({ type, code: SMALLEST }).fd);
    return undefined;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (process.env.CI && process.platform === 'linux' && process.arch === 'x64') throw error;
    console.warn(`not compared with the kernel: ${error.message}`);
    return error.message;
  }
}

/** The kernel's word on a program in wire format, a socket filter unless told otherwise. Nothing is left behind. */
export function judgeCode(
  code: Uint8Array,
  options: Partial<CodeToLoad> = {},
): { readonly accepted: boolean; readonly log: string; readonly errno: string | undefined } {
  try {
    const { fd, log } = loadCode({ type: PROGRAM_TYPE.socket_filter, code, ...options });
    closeFd(fd);
    return { accepted: true, log, errno: undefined };
  } catch (error) {
    if (!(error instanceof KernelError) || error.code !== 'program_refused') throw error;
    return { accepted: false, log: error.log, errno: error.errno };
  }
}

/** The kernel's verifier for programs that use these maps; undefined where the kernel does not let us. */
export function openJudge(
  maps: ReadonlyMap<string, MapSpec>,
  { programs, btf }: Pick<Collection, 'programs' | 'btf'> = { programs: new Map(), btf: undefined },
): KernelJudge | undefined {
  return kernelMissing() === undefined ? new KernelJudge({ programs, maps, btf }) : undefined;
}
