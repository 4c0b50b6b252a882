/** Files in and out, with errors that say what to do. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Capture, type Collection, parseObject, readCapture } from '../index.ts';
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

/** The kernel's own BTF, where it is and CO-RE needs it. */
const RUNNING_KERNEL_BTF = '/sys/kernel/btf/vmlinux';

/** @param btf path of the BTF that CO-RE relocations are resolved against; default: the running kernel's, if it is readable */
export function readObject(path: string, btf?: string): Collection {
  const bytes = readBytes(path, 'object');
  if (btf !== undefined) return parseObject(bytes, { targetBtf: readBytes(btf, 'BTF file') });
  try {
    return parseObject(bytes);
  } catch (error) {
    if ((error as { code?: string }).code !== 'core_target_missing') throw error;
    let target: Uint8Array;
    try {
      target = readBytes(RUNNING_KERNEL_BTF, "the running kernel's BTF");
    } catch {
      throw error;
    }
    return parseObject(bytes, { targetBtf: target });
  }
}

export function readCaptureFile(path: string): Capture {
  return readCapture(readBytes(path, 'capture'));
}
