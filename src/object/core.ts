import type { Btf } from './btf.ts';
import type { BtfExt } from './btf-ext.ts';
import { ObjectError } from './errors.ts';
import type { ObjectFunction } from './functions.ts';

export class CoreRelocator {
  readonly #ext: BtfExt;

  constructor(ext: BtfExt, _local: Btf | undefined, _target: (() => Btf) | undefined) {
    this.#ext = ext;
  }

  relocate(fn: ObjectFunction, _code: Uint8Array): void {
    for (const relocation of this.#ext.get(fn.section.name)?.coreRelocations ?? []) {
      if (relocation.insn < fn.start || relocation.insn >= fn.start + fn.length) continue;
      throw new ObjectError('core_target_missing', `function ${fn.name} has CO-RE relocations`, { symbol: fn.name });
    }
  }
}
