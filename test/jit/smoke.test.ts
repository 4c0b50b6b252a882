import { describe, expect, test } from 'vitest';
import { compile } from '../../src/jit/x64/compile.ts';
import { Native, nativeAvailable } from './native.ts';
import { lowered } from './support.ts';

const PROGRAM = { kind: 'program', tailCallMode: 'cached' } as const;

describe.skipIf(!nativeAvailable)('compiled code runs', () => {
  test('three instructions', () => {
    const native = new Native();
    const code = compile(lowered('r0 = r1\nr0 += 41\nexit'), PROGRAM);
    expect(native.call(native.install(code), 1n)).toBe(42n);
  });
});
