/** Pieces of assembler text that several map routines share. */
import { ERRNO, type Errno } from '../errors.ts';

/** Statements that leave with an error: `label:` and r0 = -errno. */
export function fail(label: string, errno: Errno): string {
  return `
${label}:
  r0 = -${ERRNO[errno]}
  exit`;
}

/**
 * Copies `size` bytes from `source` to `target`, registers all, 8 at a time and then the tail. Words that are
 * aligned in both are copied whole, so that another thread never sees half of a counter. Leaves all four registers undefined.
 * @param name makes the labels unique within the routine
 */
export function copyBytes(name: string, target: string, source: string, size: string, temporary: string): string {
  const step = (bytes: number, type: string, skip: string): string => `
  if ${size} < ${bytes} goto ${name}_${skip}
  ${temporary} = *(${type} *)(${source} + 0)
  *(${type} *)(${target} + 0) = ${temporary}
  ${source} += ${bytes}
  ${target} += ${bytes}
  ${size} -= ${bytes}`;
  return `
${name}_8:${step(8, 'u64', '4')}
  goto ${name}_8
${name}_4:${step(4, 'u32', '2')}
${name}_2:${step(2, 'u16', '1')}
${name}_1:
  if ${size} == 0 goto ${name}_end
  ${temporary} = *(u8 *)(${source} + 0)
  *(u8 *)(${target} + 0) = ${temporary}
${name}_end:`;
}
