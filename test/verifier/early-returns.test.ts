/** Functions that end early, at a load that misses the packet or a tail call: verdicts, words and results beside the kernel's. */
import { describe, expect, it } from 'vitest';
import { createRuntime, type KernelObject, type LoadedObject, loadIntoKernel } from '../../src/index.ts';
import type { Collection } from '../../src/object/spec.ts';
import { clang, compile } from '../clang.ts';
import { kernelMissing } from '../kernel/support.ts';
import { expectKernelsVerdict } from './judged.ts';
import { accepted, attempt, MAPS, program } from './support.ts';

const TARGET = 77;

/** One path has 5000 on its stack, the other 1, when `sub` is called to write 7 there; what is there then is an offset. */
const overwritten = (sub: string): string => `r6 = r1
*(u64 *)(r10 - 24) = 0
call bpf_get_prandom_u32
if r0 != 0 goto far
*(u64 *)(r10 - 24) = 1
goto join
far: *(u64 *)(r10 - 24) = 5000
join: r1 = r10
r1 += -24
r2 = r6
call sub
r1 = *(u64 *)(r10 - 24)
r2 = r10
r2 += -8
*(u64 *)(r10 - 8) = 0
r2 += r1
r0 = *(u8 *)(r2 + 0)
exit
sub: ${sub}
r0 = 0
exit`;
const HOP = 'r2 = map[progs] ll\nr3 = 0\ncall bpf_tail_call\n';

describe('what a function writes for its caller counts only where it cannot end before', () => {
  const verdict = (sub: string) => attempt(program('sched_cls', overwritten(sub)), { maps: MAPS });
  const FAR = /^invalid read from stack R2 off=4992 size=1/;
  it('a write before a tail call is always made', () => {
    expect(accepted(verdict(`*(u64 *)(r1 + 0) = 7\nr1 = r2\n${HOP}`))).toBe(true);
  });
  // Linux 6.18 counts it as made, and accepts that.
  it('a write behind a tail call is not made where that succeeds', () => {
    expect(verdict(`r7 = r1\nr1 = r2\n${HOP}*(u64 *)(r7 + 0) = 7`)).toMatchObject({
      message: expect.stringMatching(FAR),
    });
  });
  it('a write behind a load is not made where that misses the packet', () => {
    expect(verdict('r7 = r1\nr6 = r2\nr0 = *(u8 *)skb[0]\n*(u64 *)(r7 + 0) = 7')).toMatchObject({
      message: expect.stringMatching(FAR),
    });
  });
});

/** By program: its results on packets that hold all, some and none of what it reads. */
function results(object: LoadedObject | KernelObject, names: readonly string[]): Record<string, number[]> {
  const packets = [14, 21, 40, 64, 100].map(length => Uint8Array.from({ length }, (_, i) => 3 * i));
  return Object.fromEntries(
    names.map(name => [name, packets.map(packet => Number(object.program(name).run(packet).returnValue))]),
  );
}

describe.skipIf(clang === undefined)('functions that end early', () => {
  const collection: Collection =
    clang === undefined ? (undefined as never) : compile(new URL('early-returns.c', import.meta.url));
  const names = clang === undefined ? [] : [...collection.programs.keys()];
  const good = names.filter(name => !name.startsWith('bad_'));

  it('there are good and bad ones', () => expect([good.length, names.length]).toEqual([8, 12]));

  it.each(names)('%s', name => expectKernelsVerdict(collection, name));

  it('a refusal says which function it is about', async () => {
    const runtime = createRuntime({ backend: 'interpreter' });
    expect(() => runtime.load(collection, { programs: ['bad_void_hop'] })).toThrow(/Let hop_silently return an int/);
    await runtime.dispose();
  });

  it.each(['native', 'interpreter'] as const)(
    'results are the kernel’s, with empty and filled slots (%s)',
    async backend => {
      const runtime = createRuntime();
      if (!runtime.backends.includes(backend)) return void (await runtime.dispose());
      const ours = runtime.load(collection, { programs: good, backend });
      const empty = results(ours, good);
      expect(empty.from_static).toEqual([1, 161, 161, 161, 161]);
      expect(empty.after_hop).toEqual([6, 6, 6, 6, 6]);
      for (const slot of [0, 1]) ours.progArray('targets').set(slot, ours.program('target'));
      const filled = results(ours, good);
      expect(filled.after_hop?.[0]).toBe(TARGET + 1);
      if (kernelMissing() !== undefined) return void (await runtime.dispose());
      const theirs = loadIntoKernel(collection, { programs: good });
      try {
        expect(results(theirs, good)).toEqual(empty);
        for (const slot of [0, 1]) theirs.progArray('targets').set(slot, theirs.program('target'));
        expect(results(theirs, good)).toEqual(filled);
      } finally {
        theirs.dispose();
        await runtime.dispose();
      }
    },
  );
});
