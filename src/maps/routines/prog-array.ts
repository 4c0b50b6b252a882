/** Programs see a prog array through bpf_tail_call only. The kernel's verifier refuses all else; these answer as its operations would. */
import type { Routine } from '../../isa/routine.ts';
import { fail } from './text.ts';

export const PROG_ARRAY_ROUTINES: readonly Routine[] = [
  {
    name: 'prog_array_lookup',
    // No value to point to. (The kernel's operation gives an error pointer, which a program can't tell from a value.)
    text: `
  r0 = 0
  exit`,
  },
  { name: 'prog_array_update', text: fail('unsupported', 'EOPNOTSUPP') },
  { name: 'prog_array_delete', text: fail('unsupported', 'EOPNOTSUPP') },
];
