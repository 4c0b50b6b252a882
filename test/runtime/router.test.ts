/**
 * The router example over its own capture and, where it lies beside the checkout (in CI it must), over a capture of 3,413
 * real frames: every backend and mode agrees on every verdict, every output byte and every map value.
 */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type LoadedObject, type RunResult, readCapture } from '../../src/index.ts';
import { timeLimit } from '../tools.ts';
import { PLATFORMS, withRuntime } from './build.ts';

const read = (path: string) => new Uint8Array(readFileSync(new URL(path, import.meta.url)));
const OBJECT = read('../../examples/router/router.bpf.o');
const MIXED = '../../../shared/captures/mixed.pcap';
const mixed = existsSync(new URL(MIXED, import.meta.url));
if (!mixed && process.env.CI) throw new Error('the capture of real frames must be there in CI');

/** Contents of all maps but the slots of prog arrays and per-CPU scratch memory. */
function contents(object: LoadedObject): Record<string, string[]> {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return Object.fromEntries(
    [...object.maps]
      .filter(([name]) => !object.progArrays.has(name) && name !== 'scratch')
      .map(([name, map]) => [name, [...map.entries()].map(([key, value]) => `${hex(key)} ${hex(value)}`).sort()]),
  );
}

function summary({ verdict, data, redirect }: RunResult): string {
  return `${verdict} ${Buffer.from(data).toString('hex')} ${redirect ? JSON.stringify(redirect, (_, v) => (typeof v === 'bigint' ? v.toString() : v)) : ''}`;
}

describe('the router example', () => {
  for (const [name, file, least] of [
    ['its own capture', '../../examples/router/capture.pcap', 50],
    ['real frames', MIXED, 3413],
  ] as const) {
    test.skipIf(file === MIXED && !mixed)(`${name}: all backends agree`, { timeout: timeLimit(120_000) }, () =>
      withRuntime(runtime => {
        const packets = readCapture(read(file)).packets.map(({ data }) => data);
        expect(packets.length).toBeGreaterThanOrEqual(least);
        let reference: { results: string[]; maps: Record<string, string[]> } | undefined;
        for (const options of Object.values(PLATFORMS)) {
          const object = runtime.load(OBJECT, options);
          const program = object.program('router');
          expect(program.code !== undefined).toBe(options.backend === 'native');
          const replay = program.replay(packets, { keep: true });
          const outcome = { results: replay.results!.map(summary), maps: contents(object) };
          expect(replay.packets).toBe(packets.length);
          expect(Object.values(replay.verdicts).reduce((a, b) => a + b, 0)).toBe(packets.length);
          reference ??= outcome;
          expect(outcome).toEqual(reference);
          object.dispose();
        }
        // The example does something with these packets: several verdicts, changed bytes.
        const verdicts = new Set(reference!.results.map(result => result.split(' ')[0]));
        expect(verdicts.size).toBeGreaterThan(2);
      }),
    );
  }

  test.skipIf(!mixed)('two workers give the totals of one', () =>
    withRuntime(async runtime => {
      const packets = readCapture(read(MIXED)).packets.map(({ data }) => data);
      const total = (object: LoadedObject) => {
        const sums: Record<string, bigint> = {};
        for (const [key, value] of object.map('counters').entries()) {
          const words = new BigUint64Array(value.slice().buffer);
          for (let i = 0; i < words.length; i++) {
            const field = `${key[0]}.${i % 2 === 0 ? 'packets' : 'bytes'}`;
            sums[field] = (sums[field] ?? 0n) + words[i]!;
          }
        }
        return sums;
      };
      const one = runtime.load(OBJECT);
      const two = runtime.load(OBJECT);
      const single = await one.program('router').replayAsync(packets, { workers: 1, repeat: 3 });
      const double = await two.program('router').replayAsync(packets, { workers: 2, repeat: 3 });
      expect(double.packets).toBe(single.packets);
      expect(double.bytes).toBe(single.bytes);
      expect(double.verdicts).toEqual(single.verdicts);
      expect(total(two)).toEqual(total(one));
      expect(contents(two).flows).toEqual(contents(one).flows);
    }),
  );

  test('a stage that is taken out is missed, and comes back', () =>
    withRuntime(runtime => {
      const object = runtime.load(OBJECT);
      const stages = object.progArray('stages');
      const packets = readCapture(read('../../examples/router/capture.pcap')).packets.map(({ data }) => data);
      const before = object.program('router').replay(packets).verdicts;
      const [[index, program] = []] = stages.entries().filter(([, { name }]) => name === 'stage_arp');
      stages.delete(index!);
      expect(object.program('router').replay(packets).verdicts).not.toEqual(before);
      stages.set(index!, program!);
      expect(object.program('router').replay(packets).verdicts).toEqual(before);
    }));
});
