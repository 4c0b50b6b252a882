/** Pieces of assembler text that several map routines share. */
import { MapHeader } from '../../memory/layout.ts';
import { ERRNO, type Errno } from '../errors.ts';

/** sizeof(struct bpf_spin_lock) */
const LOCK_BYTES = 4;

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

/** Takes the lock of the whole map in `map` (a register). Changes r5. @param at the lock's offset */
export function lockMap(map: string, at: number = MapHeader.lock): string {
  return `
lock_map:
  w5 = *(u32 *)(${map} + ${at})
  if w5 != 0 goto lock_map
  w5 = 1
  w5 = xchg32_32(${map} + ${at}, w5)
  if w5 != 0 goto lock_map`;
}

/** Changes r5. */
export function unlockMap(map: string, at: number = MapHeader.lock): string {
  return `
  w5 = 0
  store_release((u32 *)(${map} + ${at}), w5)`;
}

/** Clears `size` bytes from `target` on, registers both, and leaves both undefined. */
export function clearBytes(name: string, target: string, size: string): string {
  return `
${name}_8:
  if ${size} < 8 goto ${name}_1
  *(u64 *)(${target} + 0) = 0
  ${target} += 8
  ${size} -= 8
  goto ${name}_8
${name}_1:
  if ${size} == 0 goto ${name}_end
  *(u8 *)(${target} + 0) = 0
  ${target} += 1
  ${size} -= 1
  goto ${name}_1
${name}_end:`;
}

/**
 * Copies a value of the map in r1, all but the spin lock in it, if it has one: a u32 at an
 * offset that 4 divides. Words behind it are copied whole too. Registers as for `copyBytes`, all left undefined;
 * r1 stays.
 */
export function copyValue(name: string, target: string, source: string, size: string, temporary: string): string {
  return `
  ${size} = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${temporary} = *(u32 *)(r1 + ${MapHeader.lockPlace})
  if ${temporary} == 0 goto ${name}_8
  ${size} = ${temporary}
  ${size} -= 1
  ${copyBytes(`${name}_before`, target, source, size, temporary)}
  ${source} += ${LOCK_BYTES}
  ${target} += ${LOCK_BYTES}
  ${size} = *(u32 *)(r1 + ${MapHeader.valueSize})
  ${temporary} = *(u32 *)(r1 + ${MapHeader.lockPlace})
  ${size} -= ${temporary}
  ${size} -= ${LOCK_BYTES - 1}
  if ${temporary} & 4 goto ${name}_8
  if ${size} < 4 goto ${name}_8
  ${temporary} = *(u32 *)(${source} + 0)
  *(u32 *)(${target} + 0) = ${temporary}
  ${source} += 4
  ${target} += 4
  ${size} -= 4
  ${copyBytes(name, target, source, size, temporary)}`;
}
