/** The slots of a prog array in the kernel, under the names that Switchyard's own have. */
import { describe } from '../arguments.ts';
import { kindOf } from './check.ts';
import { KernelError } from './errors.ts';
import { type KernelMap, keyBytes } from './map.ts';
import { KernelProgram } from './program.ts';

export class KernelProgArray {
  /** The map underneath: reading a slot's bytes gives the program's id. */
  readonly map: KernelMap;
  readonly #programs: () => Iterable<KernelProgram>;

  /** @param programs those that a slot's id is looked for among */
  constructor(map: KernelMap, programs: () => Iterable<KernelProgram>) {
    this.map = map;
    this.#programs = programs;
  }

  get name(): string {
    return this.map.spec.name;
  }

  /** Number of slots, fixed. */
  get maxEntries(): number {
    return this.map.spec.maxEntries;
  }

  /** Filled slots in ascending order. Programs that nobody here has loaded are left out. */
  entries(): [index: number, program: KernelProgram][] {
    const filled: [number, KernelProgram][] = [];
    for (const [key] of this.map.entries()) {
      const index = new DataView(key.buffer).getUint32(0, true);
      const program = this.get(index);
      if (program) filled.push([index, program]);
    }
    return filled;
  }

  get(index: number): KernelProgram | undefined {
    const value = this.map.lookup(this.#key(index));
    if (value === undefined) return undefined;
    const id = new DataView(value.buffer).getUint32(0, true);
    for (const program of this.#programs()) if (!program.disposed && program.id === id) return program;
    return undefined;
  }

  /**
   * Puts a program into a slot, replacing what is there.
   * @param index 0 to maxEntries - 1
   * @throws KernelError `map_access_failed`: E2BIG for an index out of range, EINVAL where the program does not match
   *   the array's owner; `disposed`
   */
  set(index: number, program: KernelProgram): void {
    if (!(program instanceof KernelProgram))
      throw new KernelError('bad_argument', `${this.name}: a slot takes a KernelProgram, got ${kindOf(program)}`, {
        map: this.name,
      });
    const value = new Uint8Array(4);
    new DataView(value.buffer).setUint32(0, program.fd, true);
    this.map.update(this.#key(index), value);
  }

  /** Empties a slot. @throws KernelError `map_access_failed`: E2BIG, or ENOENT where the slot is empty */
  delete(index: number): void {
    this.map.delete(this.#key(index));
  }

  /** Empties every slot. */
  clear(): void {
    for (const [key] of this.map.entries()) this.map.delete(key);
  }

  #key(index: number): Uint8Array {
    if (Number.isInteger(index) && index >= 0 && index <= 0xffff_ffff) return keyBytes(this.map.spec, index);
    throw new KernelError(
      'bad_argument',
      `${this.name}: an index is an unsigned 32-bit number, not ${describe(index)}`,
      {
        map: this.name,
        index,
      },
    );
  }
}
