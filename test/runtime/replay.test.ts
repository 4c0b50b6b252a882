/** Replays of more packets than fit an argument list, on several threads. */
import { expect, test } from 'vitest';
import { assemble, createRuntime, programFromInstructions } from '../../src/index.ts';

test('a result for each of very many packets, in order', async () => {
  const runtime = createRuntime();
  try {
    const insns = assemble('r0 = 0\nif r2 == 0 goto end\nr0 = *(u8 *)(r1 + 0)\nend:\nexit');
    const program = programFromInstructions({ name: 'first', type: 'raw', insns });
    const collection = { programs: new Map([['first', program]]), maps: new Map(), license: 'GPL', btf: undefined };
    const packets = Array.from({ length: 150_001 }, (_, i) => Uint8Array.of(i % 251));
    const workers = runtime.backends.includes('native') ? 2 : 1;
    const first = runtime.load(collection, { memorySize: { min: 1, max: 1 } }).program('first');
    const { results, packets: count } = await first.replayAsync(packets, { keep: true, workers });
    expect(count).toBe(packets.length);
    expect(results?.findIndex(({ returnValue }, i) => returnValue !== BigInt(i % 251))).toBe(-1);
    expect(results).toHaveLength(packets.length);
  } finally {
    await runtime.dispose();
  }
});
