/** A lowered program with its maps' addresses: what the interpreter runs. */

import type { Routine } from '../isa/routine.ts';
import type { Lowered } from '../lowering/lowered.ts';
import { lowerRoutine } from '../lowering/routine.ts';

export interface LinkedProgram {
  readonly lowered: Lowered;
  /** Address of each map object, by index into `lowered.usedMaps`. */
  readonly mapAddresses: readonly bigint[];
  /** Address of each map's first value, likewise; 0 for types without direct value access. */
  readonly mapValueAddresses: readonly bigint[];
  /** u32, unique among the programs of one environment. Routines have 0 and can have no callbacks of their own. */
  readonly id: number;
}

/** @throws AsmError where the routine's text is malformed. */
export function linkRoutine(routine: Routine): LinkedProgram {
  return { lowered: lowerRoutine(routine), mapAddresses: [], mapValueAddresses: [], id: 0 };
}
