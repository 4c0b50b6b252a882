/** The running kernel's verdict on programs of the tables. Nothing is attached or run. */
import { KernelBtf } from '../../src/kernel/btf.ts';
import { kernelFunctionId, MISSING_KFUNC } from '../../src/kernel/kfuncs.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { refusalText } from '../../src/kernel/program.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { judgeCode, kernelMissing } from '../kernel/support.ts';
import { VALUE_BTF } from './maps.ts';

/** A program to load: its code in wire format, by slot the maps whose descriptors and the kernel functions whose ids go there, numbers of uapi bpf.h. */
interface Load {
  readonly code: Uint8Array;
  readonly maps: ReadonlyMap<number, MapSpec>;
  readonly kfuncs?: ReadonlyMap<number, string>;
  readonly kernelType: number;
  readonly attachType: number;
  readonly loadFlags: number;
}

export interface KernelJudge {
  accepts(program: Load): boolean;
  /** The log's last words on a program that is refused, undefined for one that is accepted. */
  refusal(program: Load): string | undefined;
  dispose(): void;
}

/**
 * @param type number of a program type that must be permitted
 * @returns undefined where the kernel lets us load nothing; throws instead in CI.
 */
export function openKernelJudge(type?: number): KernelJudge | undefined {
  if (kernelMissing(type) !== undefined) return undefined;
  const btf = new KernelBtf(VALUE_BTF);
  const made = new Map<string, KernelMap>();
  // A prog array belongs to the first program that uses it, and takes only its like after that.
  const create = (spec: MapSpec, type: number): KernelMap => {
    const key = spec.type === 'prog_array' ? `${spec.name} of type ${type}` : spec.name;
    const map = made.get(key) ?? new KernelMap(spec, btf);
    made.set(key, map);
    return map;
  };
  const judge = ({ code, maps, kfuncs, kernelType, attachType, loadFlags }: Load) => {
    const program = new Uint8Array(code);
    const view = new DataView(program.buffer);
    for (const [slot, spec] of maps) view.setInt32(slot * 8 + 4, create(spec, kernelType).fd, true);
    for (const [slot, name] of kfuncs ?? []) {
      const id = kernelFunctionId(name);
      // As libbpf leaves calls of what a kernel lacks: helpers with a number that there is not.
      if (id === undefined) view.setUint8(slot * 8 + 1, 0);
      view.setInt32(slot * 8 + 4, id ?? MISSING_KFUNC, true);
    }
    return judgeCode(program, { type: kernelType, attachType, flags: loadFlags });
  };
  return {
    accepts: program => judge(program).accepted,
    refusal(program) {
      const { accepted, log, errno } = judge(program);
      return accepted ? undefined : refusalText(log) || `${errno}`;
    },
    dispose() {
      for (const map of made.values()) map.dispose();
      btf.dispose();
    },
  };
}
