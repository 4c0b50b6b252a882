/** Arguments of global functions: contexts, dynptrs, memory and their tags, in C; verdicts, words and results beside the kernel's. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { KERNEL_BTF } from '../../src/kernel/kfuncs.ts';
import type { Collection } from '../../src/object/spec.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { clang, compile } from '../clang.ts';
import { kernelMissing, openJudge } from '../kernel/support.ts';
import { accepted, attempt } from './support.ts';

/** The kernel accepts these. */
const REFUSED_HERE: Readonly<Record<string, string>> = {
  nonnull_given_null: 'the kernel lets a constant 0 through to a function that then reads at address 0',
  dynptr_of_packet_that_changes:
    'the kernel takes the dynptr for one of plain memory, so that its slice outlives the packet that it was part of',
  trusted_structure_of_the_kernel: 'there are no structures of the kernel here',
};
describe.skipIf(clang === undefined)('arguments of global functions', () => {
  const source = new URL('global-arguments.c', import.meta.url);
  const targetBtf = existsSync(KERNEL_BTF) ? { targetBtf: readFileSync(KERNEL_BTF) } : {};
  const collection: Collection = clang === undefined ? (undefined as never) : compile(source, targetBtf);
  const names = clang === undefined ? [] : [...collection.programs.keys()];
  const good = names.filter(name => accepted(attempt(collection.programs.get(name)!, { maps: collection.maps })));
  const judge = clang === undefined ? undefined : openJudge(collection.maps, collection);

  it.skipIf(judge === undefined)('there are good and bad ones', () => {
    expect([good.length, names.length]).toEqual([17, 54]);
  });

  it.skipIf(judge === undefined).each(names)('%s', name => {
    const spec = collection.programs.get(name)!;
    const ours = attempt(spec, { maps: collection.maps });
    const theirs = judge!.judge(spec, 1);
    if (name in REFUSED_HERE) expect([theirs.accepted, accepted(ours)]).toEqual([true, false]);
    else expect([theirs.accepted, theirs.log]).toEqual([accepted(ours), theirs.log]);
    if (!(ours instanceof VerifierError)) return;
    if (name in REFUSED_HERE) expect(theirs.log).not.toContain(ours.text);
    else expect(theirs.log).toContain(ours.text);
    expect(ours.hint).not.toBe('');
  });

  it('structures of the kernel are refused where its types are not known', () => {
    for (const name of ['untrusted_structure_of_the_kernel', 'trusted_structure_of_the_kernel']) {
      const { targetBtf: _, ...spec } = collection.programs.get(name)!;
      const ours = attempt(spec, { maps: collection.maps });
      expect(ours instanceof VerifierError && ours.code).toBe('unsupported');
    }
  });

  it.each(['native', 'interpreter'] as const)('results are the kernel\u2019s (%s)', async backend => {
    if (kernelMissing() !== undefined) return;
    const runtime = createRuntime();
    const theirs = loadIntoKernel(collection, { programs: good });
    try {
      if (!runtime.backends.includes(backend)) return;
      const ours = runtime.load(collection, { programs: good, backend });
      const packet = Uint8Array.from({ length: 64 }, (_, i) => i);
      const results = (of: (name: string) => bigint | number) =>
        good.map(name => [name, Number(BigInt.asUintN(32, BigInt(of(name))))]);
      expect(results(name => ours.program(name).run(packet).returnValue)).toEqual(
        results(name => theirs.program(name).run(packet).returnValue),
      );
    } finally {
      theirs.dispose();
      await runtime.dispose();
    }
  });
});
