/** Golden files of arm64, disassembled by GNU objdump. `# atomics: exclusive` compiles for Armv8.0. */
import { describe } from 'vitest';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import { interleave } from '../jit/listing.ts';
import { goldenSuite } from '../jit/suites/golden.ts';
import { dump, OBJDUMP } from './objdump.ts';

describe.skipIf(!OBJDUMP)('arm64', () => {
  goldenSuite(
    settings => arm64Machine(settings.get('atomics') === 'exclusive' ? 'exclusive' : 'lse'),
    new URL('./golden/', import.meta.url),
    (code, bpf) => interleave(code, bpf, dump(code.bytes)),
  );
});
