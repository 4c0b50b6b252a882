/**
 * The same random helper calls as whole programs, through all rooms (assembled, verified, lowered, compiled) and in the
 * kernel: native code against native code.
 */
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { assemble, type Collection, createRuntime, programFromInstructions } from '../../src/index.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { openScratch } from '../kernel/scratch.ts';
import {
  type Call,
  FIELDS,
  loadText,
  MAX_CALLS,
  offset,
  outcome,
  packets,
  programText,
  skbCalls,
  VALUE,
  xdpCalls,
} from './calls.ts';

const kernel = openScratch(VALUE);
afterAll(() => kernel?.dispose());
const NO_MEMORY = -12n;

function collection(type: 'sched_cls' | 'xdp', text: string): Collection {
  const program = programFromInstructions({ name: 'calls', type, insns: assemble(text) });
  return {
    programs: new Map([['calls', program]]),
    maps: new Map([
      [
        'values',
        { name: 'values', type: 'array', keySize: 4, valueSize: VALUE, maxEntries: 1, flags: 0, contents: [] } as const,
      ],
    ]),
    license: 'GPL',
    btf: undefined,
  };
}

/** Loads, runs once, unloads. */
async function runHere(backend: 'native' | 'interpreter', type: 'sched_cls' | 'xdp', text: string, input: Uint8Array) {
  const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
  try {
    const object = runtime.load(collection(type, text));
    const { data, metadata } = object.program('calls').run(input);
    const value = object.map('values').lookup(new Uint8Array(4))!;
    return { value, packet: Uint8Array.from([...metadata, ...data]) };
  } finally {
    await runtime.dispose();
  }
}

const skbSequence = fc
  .array(fc.oneof(...skbCalls), { minLength: 1, maxLength: MAX_CALLS })
  // Longer packets than a frame holds are an error of ours only; skb_adjust_room may move bytes behind the packet there.
  .filter(calls => !calls.some(({ name }) => /change_tail|adjust_room/.test(name)));
const roomy = fc
  .oneof(skbCalls[6]!, skbCalls[7]!)
  .filter(({ args }) => args[1]!.kind === 'number' && BigInt.asIntN(32, args[1]!.value) < 2000n);
const xdpSequence = fc.array(
  fc.oneof(...xdpCalls).filter(({ name, args }) => {
    // What growth uncovers is undefined in front, and the kernel's test frames have less room at the end.
    const by = args[1]?.kind === 'number' ? BigInt.asIntN(32, args[1].value) : 0n;
    return (name !== 'xdp_adjust_head' || by >= 0n) && (name !== 'xdp_adjust_tail' || by <= 64n);
  }),
  { minLength: 1, maxLength: MAX_CALLS },
);

describe.skipIf(kernel === undefined).each(['native', 'interpreter'] as const)('programs on backend %s', backend => {
  const usable = backend === 'interpreter' || nativeSupported();
  const compare = async (type: 'sched_cls' | 'xdp', calls: readonly Call[], input: Uint8Array): Promise<void> => {
    const fields = type === 'xdp' ? [] : FIELDS;
    const theirs = kernel!.run(type, programText(calls, fields, `map_fd[${kernel!.mapFd}]`), input);
    const ours = await runHere(backend, type, programText(calls, fields, 'map[values]'), input);
    const result = outcome(ours, calls.length);
    fc.pre(type === 'xdp' || !result.results.includes(NO_MEMORY));
    expect(result).toEqual(outcome(theirs, calls.length));
  };

  test.skipIf(!usable)('skb helpers', async () => {
    await fc.assert(
      fc.asyncProperty(skbSequence, packets, (calls, input) => compare('sched_cls', calls, input)),
      { numRuns: 20 },
    );
    await fc.assert(
      fc.asyncProperty(roomy, packets, (call, input) => compare('sched_cls', [call], input)),
      { numRuns: 20 },
    );
  });

  test.skipIf(!usable)('xdp helpers', async () => {
    await fc.assert(
      fc.asyncProperty(xdpSequence, packets, (calls, input) => compare('xdp', calls, input)),
      { numRuns: 20 },
    );
  });

  test.skipIf(!usable)('legacy packet loads', async () => {
    const size = fc.constantFrom(1 as const, 2 as const, 4 as const);
    const base = fc.constantFrom(0, -0x100000, -0x200000);
    await fc.assert(
      fc.asyncProperty(packets, base, offset, size, async (input, start, at, width) => {
        const from = Math.max(-0x8000_0000, Math.min(start + at, 0x7fff_ffff));
        const theirs = kernel!.run('sched_cls', loadText(from, width, `map_fd[${kernel!.mapFd}]`), input);
        const ours = await runHere(backend, 'sched_cls', loadText(from, width, 'map[values]'), input);
        expect(outcome(ours, 2)).toEqual(outcome(theirs, 2));
      }),
      { numRuns: 15 },
    );
  });
});
