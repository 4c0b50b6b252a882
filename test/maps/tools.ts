import { KernelError } from '../../src/kernel/errors.ts';
import { MapError } from '../../src/maps/errors.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import type { Platform } from './platform.ts';

export function spec(fields: Partial<MapSpec> & Pick<MapSpec, 'type'>): MapSpec {
  return { name: 'm', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, contents: [], ...fields };
}

export function key32(value: number): Uint8Array {
  return Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
}

/** The errno with which `action` fails on one of our maps or of the kernel's, undefined where it succeeds. */
export function failure(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof MapError) return error.errno;
    if (error instanceof KernelError && error.errno !== undefined) return error.errno;
    throw error;
  }
}

/** Puts bytes into the arena, for routines called as a program would. */
export function stageBytes(platform: Platform, bytes: Uint8Array): bigint {
  const offset = platform.arena.allocate(bytes.length);
  platform.arena.bytes.set(bytes, offset);
  return platform.arena.address(offset);
}
