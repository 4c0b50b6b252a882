/** Calls and addresses of kernel functions (`.ksyms`): from C to a run, here and in the running kernel. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { ObjectError } from '../../src/object/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { kernelMissing } from '../kernel/support.ts';
import { COMPILERS } from './support.ts';

const noKernel = kernelMissing() !== undefined;
const PACKET = new Uint8Array(64);
const RESULTS: readonly (readonly [string, bigint])[] = [
  ['strong', 4n],
  ['weak_there', 2n],
  ['weak_absent', 3n],
];

function thrown(what: () => unknown): unknown {
  try {
    what();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** A copy in which the first (or each) `from` is `to`, of the same length. */
function replaced(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const copy = Buffer.from(bytes);
  let at = copy.indexOf(from);
  if (at < 0) throw new Error(`no ${from}`);
  for (; at >= 0; at = copy.indexOf(from, at + 1)) copy.write(to, at, 'latin1');
  return new Uint8Array(copy);
}

describe.each(COMPILERS)('compiled by $label', ({ compile }) => {
  const bytes = new Uint8Array(readFileSync(compile('ksyms')));

  test('calls and addresses keep the name', () => {
    const { programs } = parseObject(bytes);
    expect(programs.get('strong')!.insns).toContainEqual({
      kind: 'callKfunc',
      btfId: 0,
      module: 0,
      name: 'bpf_strlen',
    });
    const references = programs.get('weak_absent')!.insns.flatMap(i => (i.kind === 'loadImm64' ? [i.reference] : []));
    expect(references).toContainEqual({ type: 'kfunc', name: 'bpf_absent_function' });
  });

  test.each(['native', 'interpreter'] as const)('they run on backend %s', async backend => {
    if (backend === 'native' && !nativeSupported()) return;
    const runtime = createRuntime({ backend, arenaSize: 1 << 22 });
    try {
      for (const [name, result] of RESULTS) {
        const object = runtime.load(bytes, { programs: [name] });
        expect([name, object.program(name).run(PACKET).returnValue]).toEqual([name, result]);
      }
    } finally {
      await runtime.dispose();
    }
  });

  test('a call of what is not there is refused by name', async () => {
    const runtime = createRuntime({ backend: 'interpreter', arenaSize: 1 << 22 });
    const error = thrown(() => runtime.load(bytes, { programs: ['unguarded'] }));
    await runtime.dispose();
    expect(error).toBeInstanceOf(VerifierError);
    expect(error).toMatchObject({
      code: 'unknown_kfunc',
      text: 'calling kernel function bpf_absent_function is not allowed',
      hint: 'Switchyard does not provide the kernel function bpf_absent_function.',
    });
  });

  test.skipIf(noKernel)('the kernel gives the same', () => {
    for (const [name, result] of RESULTS) {
      const object = loadIntoKernel(bytes, { programs: [name] });
      expect([name, BigInt(object.program(name).run(PACKET).returnValue)]).toEqual([name, result]);
      object.dispose();
    }
    const error = thrown(() => loadIntoKernel(bytes, { programs: ['unguarded'] }));
    expect(error).toBeInstanceOf(KernelError);
    expect(error).toMatchObject({ code: 'program_refused' });
  });

  test('without the section that lists them, they are undefined', () => {
    const error = thrown(() => parseObject(replaced(bytes, '.ksyms\0', '.ksymz\0')));
    expect(error).toBeInstanceOf(ObjectError);
    expect(error).toMatchObject({ code: 'undefined_symbol' });
  });

  test('what the types call otherwise is undefined', () => {
    // The string of the symbol table and that of the types differ now: only the first is changed.
    const copy = Buffer.from(bytes);
    const last = copy.lastIndexOf('bpf_strlen\0');
    expect(last).toBeGreaterThan(copy.indexOf('bpf_strlen\0'));
    copy.write('bpf_strlan', last, 'latin1');
    expect(thrown(() => parseObject(new Uint8Array(copy)))).toMatchObject({ code: 'undefined_symbol' });
  });
});
