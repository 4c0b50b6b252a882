/** All that the runtime needs of x86-64, behind the interface every machine has. */
import type { Machine } from '../shared/code.ts';
import { compile, TAIL_CALL_PRESETS } from './compile.ts';
import { missStub } from './fast.ts';
import { jumpBytes, nopBytes, trapBytes } from './patch.ts';
import { entryTrampoline, serviceThunk } from './trampoline.ts';

export const x64Machine: Machine = {
  arch: 'x64',
  tailCallModes: ['baseline', 'cached', 'fast'],
  tailCallPresets: TAIL_CALL_PRESETS,
  compile,
  missStub,
  entryTrampoline,
  serviceThunk,
  jump: jumpBytes,
  nop: nopBytes,
  trap: trapBytes,
  // int3
  trapByte: 0xcc,
};
