/** Files in and out, with errors that say what to do. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type Capture, type Collection, type ProgramSpec, parseObject, RuntimeError, readCapture } from '../core.ts';
import { UsageError } from './errors.ts';

export function readBytes(path: string, what: string): Uint8Array {
  try {
    const bytes = readFileSync(path);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (cause) {
    throw new UsageError(
      'unreadable_file',
      `cannot read ${what} ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    );
  }
}

export function writeBytes(path: string, bytes: Uint8Array): void {
  try {
    writeFileSync(path, bytes);
  } catch (cause) {
    throw new UsageError('unwritable_file', `cannot write ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** From the first that is missing on. Node's own `recursive` never ends where the file system says ENOENT to all, as /proc does. */
function makeOneByOne(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(path) !== path) makeOneByOne(dirname(path));
  mkdirSync(path);
}

/** Makes a directory, and those above it, where there is none. */
export function makeDirectory(path: string): void {
  try {
    makeOneByOne(resolve(path));
  } catch (cause) {
    throw new UsageError('unwritable_file', `cannot make ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** The kernel's own BTF, where it is and CO-RE needs it. */
const RUNNING_KERNEL_BTF = '/sys/kernel/btf/vmlinux';

/**
 * Programs of types that Switchyard does not run are left out and listed in `unsupported`.
 * @param btf path of the BTF that CO-RE relocations are resolved against; default: the running kernel's, if it is readable
 */
export function readObject(path: string, btf?: string): Collection {
  return parseBytes(readBytes(path, 'object'), btf);
}

/** The same for bytes that were read already. Configuration values (`__kconfig`) are those of the running kernel. */
export function parseBytes(bytes: Uint8Array, btf?: string): Collection {
  let options: Parameters<typeof parseObject>[1] = { skipUnsupported: true };
  if (btf !== undefined) options = { ...options, targetBtf: readBytes(btf, 'BTF file') };
  for (;;) {
    try {
      return parseObject(bytes, options);
    } catch (error) {
      const { code } = error as { code?: string };
      try {
        if (code === 'core_target_missing')
          options = { ...options, targetBtf: readBytes(RUNNING_KERNEL_BTF, "the running kernel's BTF") };
        else if (code === 'kconfig_missing') options = { ...options, kconfig: runningConfiguration() };
        else throw error;
      } catch {
        throw error;
      }
    }
  }
}

/** Where libbpf looks, too. @throws where there is none */
function runningConfiguration(): string {
  try {
    return readFileSync(`/boot/config-${release()}`, 'utf8');
  } catch {
    return gunzipSync(readFileSync('/proc/config.gz')).toString('utf8');
  }
}

/** Why a program was left out of a collection. */
export function unsupportedError({ name, section, kernelType }: NonNullable<Collection['unsupported']>[number]) {
  return kernelType === undefined
    ? new UsageError(
        'unknown_program_section',
        `program ${name}: the section name ${section} stands for no program type; use "xdp", "tc", "socket", "cgroup_skb/ingress", "raw" or the like`,
        { program: name, section },
      )
    : new UsageError(
        'unsupported_program_type',
        `program ${name} (section ${section}) is of type ${kernelType}, which Switchyard does not run`,
        { program: name, section, kernelType },
      );
}

/** Names on standard error what was left out. */
export function mentionUnsupported({ unsupported = [] }: Collection): void {
  if (unsupported.length === 0) return;
  const names = unsupported.map(({ name, section, kernelType }) => `${name} (${kernelType ?? `section ${section}`})`);
  console.error(`switchyard: left out, of types that Switchyard does not run: ${names.join(', ')}`);
}

/** @throws RuntimeError `no_such_program`, UsageError `unsupported_program_type`, `unknown_program_section` */
export function findProgram(collection: Collection, name: string): ProgramSpec {
  const spec = collection.programs.get(name);
  if (spec) return spec;
  const leftOut = collection.unsupported?.find(program => program.name === name);
  if (leftOut) throw unsupportedError(leftOut);
  const names = [...collection.programs.keys()];
  throw new RuntimeError(
    'no_such_program',
    `no program is named ${name}; the object has ${names.join(', ') || 'none'}`,
    { name, names },
  );
}

export function readCaptureFile(path: string): Capture {
  return readCapture(readBytes(path, 'capture'));
}
