/** All that the runtime needs of arm64, behind the interface every machine has. */
import type { Machine } from '../shared/code.ts';
import { compile, TAIL_CALL_MODES, TAIL_CALL_PRESETS } from './compile.ts';
import type { AtomicsDialect } from './emit-atomic.ts';
import { missStub } from './emit-tail-call.ts';
import { jumpBytes, nopBytes, trapBytes } from './patch.ts';
import { entryTrampoline, serviceThunk } from './trampoline.ts';

/** @param atomics "lse" needs Armv8.1; "exclusive" runs on every processor. */
export function arm64Machine(atomics: AtomicsDialect): Machine {
  return {
    arch: 'arm64',
    tailCallModes: TAIL_CALL_MODES,
    tailCallPresets: TAIL_CALL_PRESETS,
    compile: (lowered, options) => compile(lowered, options, atomics),
    entryTrampoline,
    missStub,
    serviceThunk,
    jump: jumpBytes,
    nop: nopBytes,
    trap: trapBytes,
    // udf #0
    trapByte: 0,
  };
}
