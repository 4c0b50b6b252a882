/** All that the runtime needs of x86-64, behind the interface every machine has. */
import type { Machine } from '../shared/code.ts';
import { compile } from './compile.ts';
import { TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { jumpBytes, nopBytes, trapBytes } from './patch.ts';
import { entryTrampoline, serviceThunk } from './trampoline.ts';

export const x64Machine: Machine = {
  arch: 'x64',
  tailCallPrologueOffset: TAIL_CALL_PROLOGUE_OFFSET,
  compile,
  entryTrampoline,
  serviceThunk,
  jump: jumpBytes,
  nop: nopBytes,
  trap: trapBytes,
};
