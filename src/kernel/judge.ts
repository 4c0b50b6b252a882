/** The kernel's verifier as the judge of single programs: loaded, heard, closed again; nothing runs. */
import { check } from '../arguments.ts';
import { anyMaps, encodableProgram, isBtf } from '../object/check.ts';
import type { Collection, ProgramSpec } from '../object/spec.ts';
import { type KernelBtf, tryLoadBtf } from './btf.ts';
import { KernelError } from './errors.ts';
import { loadKernelProgram, makeMaps, needCollection } from './load.ts';
import type { KernelMap } from './map.ts';

export interface KernelVerdict {
  readonly accepted: boolean;
  /** Instructions processed, also on the way to a refusal where the log says so. */
  readonly insnsProcessed: number;
  /** At the level asked for; of a refused program at level 1 at least. */
  readonly log: string;
  /** Time that the kernel's verifier took, microseconds by its own clock; undefined unless level 4 was asked for. */
  readonly verificationUs: number | undefined;
  /** Of a refusal. */
  readonly error: KernelError | undefined;
}

function verificationTime(log: string): number | undefined {
  const time = /^verification time (\d+) usec/m.exec(log)?.[1];
  return time === undefined ? undefined : Number(time);
}

const judged = check.record({ programs: check.mapOf(encodableProgram), maps: anyMaps, btf: check.optional(isBtf) });

/** Holds the maps and types of one collection, which programs are judged against. */
export class KernelJudge {
  readonly #maps: ReadonlyMap<string, KernelMap>;
  readonly #btf: KernelBtf | undefined;

  /** @throws KernelError `map_refused`, `not_permitted` and the like */
  constructor(collection: Pick<Collection, 'programs' | 'maps' | 'btf'>) {
    needCollection(collection);
    judged(collection, 'collection');
    this.#btf = tryLoadBtf(collection.btf, collection.programs.values());
    try {
      this.#maps = makeMaps(collection.maps, this.#btf);
    } catch (error) {
      this.#btf?.dispose();
      throw error;
    }
  }

  /**
   * @param program one of the collection, or any other that uses its maps and has no types of its own
   * @param logLevel 4: statistics only, with the verifier's time
   * @throws KernelError whatever is not the verifier's verdict: `not_permitted`, `unsupported_program`, `no_such_map` ...
   */
  judge(program: ProgramSpec, logLevel: 0 | 1 | 2 | 4 = 0): KernelVerdict {
    encodableProgram(program, 'program');
    check.oneOf(0, 1, 2, 4)(logLevel, 'logLevel');
    try {
      const loaded = loadKernelProgram(program, this.#maps, { logLevel, btf: program.btf && this.#btf });
      const { insnsProcessed, log } = loaded;
      loaded.dispose();
      return { accepted: true, insnsProcessed, log, verificationUs: verificationTime(log), error: undefined };
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'program_refused') throw error;
      const processed = /^processed (\d+) insns/m.exec(error.log)?.[1];
      return {
        accepted: false,
        insnsProcessed: Number(processed ?? 0),
        log: error.log,
        verificationUs: verificationTime(error.log),
        error,
      };
    }
  }

  dispose(): void {
    for (const map of this.#maps.values()) map.dispose();
    this.#btf?.dispose();
  }
}
