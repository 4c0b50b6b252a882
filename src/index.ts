/**
 * Switchyard for Node: everything in `core.ts`, a runtime that runs programs natively, and the running kernel as a
 * second target for the same objects.
 *
 * ```ts
 * const runtime = createRuntime();
 * const router = runtime.load(readFileSync('router.bpf.o'));
 * const { verdict, data } = router.program('router').run(frame);
 * router.progArray('stages').set(3, router.program('stage_udp'));
 * ```
 */

import { check, describe } from './arguments.ts';
import { RuntimeError } from './runtime/errors.ts';
import { createBufferHost } from './runtime/host.ts';
import { createNativeHost, nativeSupported } from './runtime/native/host.ts';
import { Runtime, type RuntimeOptions } from './runtime/runtime.ts';

export * from './core.ts';
export { KernelBtf, type KernelBtfInfo } from './kernel/btf.ts';
export { KernelError } from './kernel/errors.ts';
export { KernelJudge, type KernelVerdict } from './kernel/judge.ts';
export { type KernelLoadOptions, type KernelObject, loadIntoKernel } from './kernel/load.ts';
export { type KernelBatch, KernelMap, type KernelMapInfo } from './kernel/map.ts';
export type { KernelProgArray } from './kernel/prog-array.ts';
export type { JitedFunction, KernelProgram, KernelProgramInfo, KernelRun, KernelRunOptions } from './kernel/program.ts';
export {
  kernelFunctions,
  listTranslated,
  type TranslatedInstruction,
  type TranslatedNames,
} from './kernel/translated.ts';

export interface CreateRuntimeOptions extends RuntimeOptions {
  /** "native" where this machine has a compiler, else "interpreter"; with "interpreter" nothing native is set up. */
  readonly backend?: 'native' | 'interpreter';
  /** Bytes of address space for contexts, stacks, packets and maps: 1 MiB to 4 GiB; default 256 MiB. */
  readonly arenaSize?: number;
  /** Bytes of address space for machine code: 64 KiB to 1 GiB; default 64 MiB. */
  readonly codeSize?: number;
}

const GRANULE = 65536;
const createOptions = check.options({
  backend: check.oneOf('native', 'interpreter'),
  arenaSize: check.number,
  codeSize: check.number,
});

function size(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RuntimeError(
      'bad_argument',
      `${name} must be an integer from ${min} to ${max} bytes, got ${describe(value)}`,
      {
        [name]: value,
      },
    );
  }
  return Math.ceil(value / GRANULE) * GRANULE;
}

/**
 * Makes a runtime on this machine.
 * @throws RuntimeError `bad_argument`, `unsupported_platform` where backend "native" is asked for in vain, `os_refused`
 */
export function createRuntime(options: CreateRuntimeOptions = {}): Runtime {
  createOptions(options, 'options');
  const arenaSize = size('arenaSize', options.arenaSize ?? 256 << 20, 1 << 20, 2 ** 32);
  const codeSize = size('codeSize', options.codeSize ?? 64 << 20, 1 << 16, 2 ** 30);
  const native = options.backend === 'native' || (options.backend === undefined && nativeSupported());
  const host = native ? createNativeHost(arenaSize, codeSize) : createBufferHost(arenaSize);
  try {
    return new Runtime(host, options);
  } catch (error) {
    host.close();
    throw error;
  }
}
