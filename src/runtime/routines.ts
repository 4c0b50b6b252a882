/** Every trusted routine that a backend may be asked for. */
import { HELPER_ROUTINES } from '../helpers/routines.ts';
import type { Routine } from '../isa/routine.ts';
import { MAP_ROUTINES } from '../maps/routines/index.ts';
import { BATCH_ROUTINES } from './batch.ts';
import { MISS_ROUTINES } from './tail-call-misses.ts';

export const ROUTINES: readonly Routine[] = [...MAP_ROUTINES, ...HELPER_ROUTINES, ...BATCH_ROUTINES, ...MISS_ROUTINES];
