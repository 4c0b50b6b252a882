/** The running kernel's own functions by name: kfunc calls carry their ids in the kernel's BTF. */
import { readFileSync } from 'node:fs';
import { parseBtf } from '../object/btf.ts';
import { KernelError } from './errors.ts';

export const KERNEL_BTF = '/sys/kernel/btf/vmlinux';

/** As libbpf leaves a call of a weak function that does not exist: an unknown helper, fatal only where it is reached. */
export const MISSING_KFUNC = 2002000000;

let functions: ReadonlyMap<string, number> | undefined;

/** All functions of the kernel's BTF, read once. Those of modules are not among them. */
function kernelFunctions(): ReadonlyMap<string, number> {
  if (functions !== undefined) return functions;
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(KERNEL_BTF);
  } catch (cause) {
    throw new KernelError(
      'unsupported_program',
      `calls of kernel functions need the kernel's types, but ${KERNEL_BTF} cannot be read: build the kernel with CONFIG_DEBUG_INFO_BTF`,
      { file: KERNEL_BTF },
      { cause },
    );
  }
  const btf = parseBtf(bytes);
  const found = new Map<string, number>();
  for (let id = 1; id < btf.size; id++) if (btf.kind(id) === 'func') found.set(btf.name(id), id);
  functions = found;
  return found;
}

/**
 * @returns id of the function in the kernel's BTF; undefined where this kernel has no such function
 * @throws KernelError `unsupported_program` where the kernel shows no types
 */
export function kernelFunctionId(name: string): number | undefined {
  return kernelFunctions().get(name);
}
