/**
 * The whole road with programs that clang made: every program of `programs/`, by every clang and instruction set, on
 * every backend and in the running kernel. Verdict, bytes, metadata, mark and maps must agree after every packet.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createRuntime,
  type LoadedObject,
  loadIntoKernel,
  type Program,
  parseObject,
  type RunResult,
  type Runtime,
  readCapture,
} from '../../src/index.ts';
import { PLATFORMS } from '../runtime/build.ts';
import { timeLimit } from '../tools.ts';
import { type CorpusObject, corpusObjects } from './compile.ts';
import { openKernel } from './kernel.ts';
import { contents, type MapContents } from './observe.ts';
import { fewPackets, manyPackets } from './packets.ts';

const CAPTURE = new URL('../../../shared/captures/mixed.pcap', import.meta.url);
const CAPTURE_STEP = 17;
/** Maps are compared after each of the few packets, and after every so many of the others. */
const MAPS_EVERY = 16;

const { objects, compile, remove } = corpusObjects();
const kernel = openKernel();
let runtime: Runtime;

beforeAll(async () => {
  await compile();
  runtime = createRuntime({ arenaSize: 64 << 20, codeSize: 16 << 20 });
}, timeLimit(120_000));

afterAll(async () => {
  await runtime.dispose();
  remove();
});

/** A run's outcome without what depends on addresses. */
function outcome({ verdict, returnValue, data, metadata, mark, redirect, clones }: RunResult) {
  const target = redirect?.kind === 'map' ? { ...redirect, mapAddress: 0n } : redirect;
  const bytes = Buffer.concat([metadata, data]).toString('hex');
  return { verdict, returnValue, metadata: metadata.length, bytes, mark, redirect: target, clones };
}

interface Step {
  readonly program: string;
  readonly packet: number;
  readonly outcome: ReturnType<typeof outcome>;
  readonly maps: MapContents | undefined;
}

function steps(object: LoadedObject, packets: readonly Uint8Array[], mapsEvery: number): Step[] {
  const result: Step[] = [];
  for (const [packet, data] of packets.entries()) {
    for (const program of object.programs.values()) {
      result.push({
        program: program.name,
        packet,
        outcome: outcome(program.run(data)),
        maps: packet % mapsEvery === 0 || packet === packets.length - 1 ? contents(object.maps) : undefined,
      });
    }
  }
  return result;
}

function onPlatforms(bytes: Uint8Array, packets: readonly Uint8Array[], mapsEvery: number): Step[] {
  let expected: Step[] | undefined;
  for (const [platform, options] of Object.entries(PLATFORMS)) {
    const object = runtime.load(bytes, options);
    try {
      for (const program of object.programs.values()) expectNative(program, options.backend === 'native');
      const got = steps(object, packets, mapsEvery);
      if (expected === undefined) expected = got;
      else
        for (const [index, step] of got.entries())
          expect(step, `${platform}, packet ${step.packet}`).toEqual(expected[index]);
    } finally {
      object.dispose();
    }
  }
  return expected!;
}

function expectNative(program: Program, native: boolean): void {
  expect(program.code !== undefined && program.code.length > 0).toBe(native);
}

function readFile(object: CorpusObject): Uint8Array {
  return new Uint8Array(readFileSync(object.file));
}

describe.each(objects.map(object => ({ name: `${object.source}, ${object.variant.label}`, object })))(
  '$name',
  ({ object }) => {
    test('every backend gives the same', () => {
      const seen = onPlatforms(readFile(object), manyPackets(), MAPS_EVERY);
      // A program that gives one verdict whatever comes has tested nothing.
      expect(new Set(seen.map(step => step.outcome.bytes + step.outcome.verdict)).size).toBeGreaterThan(3);
    });

    test.skipIf(kernel === undefined || object.source === 'memory')('the kernel takes it as we load it', () => {
      const loaded = loadIntoKernel(parseObject(readFile(object)));
      expect(loaded.programs.size).toBeGreaterThan(0);
      loaded.dispose();
    });

    // The kernel has no raw programs.
    test.skipIf(kernel === undefined || object.source === 'memory')('the kernel takes it, and gives the same', () => {
      const bytes = readFile(object);
      const loaded = kernel!.load(object.file, parseObject(bytes));
      if (typeof loaded === 'string') throw new Error(`the kernel refuses ${object.file}:\n${loaded}`);
      try {
        if (!object.variant.runInKernel) return;
        for (const { program, packet, outcome, maps: ours } of onPlatforms(bytes, fewPackets(), 1)) {
          const { returnValue, bytes: after, mark } = loaded.run(program, fewPackets()[packet]!);
          const place = `${program}, packet ${packet}`;
          expect(outcome.returnValue, place).toBe(returnValue);
          expect(outcome.bytes, place).toBe(Buffer.from(after).toString('hex'));
          if (mark !== undefined) expect(outcome.mark, place).toBe(mark);
          expect(ours, place).toEqual(loaded.contents());
        }
      } finally {
        loaded.close();
      }
    });
  },
);

/** Frames that nobody here made; they lie beside the checkout. */
const captured = existsSync(CAPTURE)
  ? readCapture(new Uint8Array(readFileSync(CAPTURE))).packets.filter((_, index) => index % CAPTURE_STEP === 0)
  : [];

describe.skipIf(captured.length === 0)('captured frames', () => {
  const newest = objects.filter(({ variant }) => variant.label === objects.at(-1)?.variant.label);
  test.each(newest.map(object => ({ name: object.source, object })))('$name', ({ object }) => {
    const frames = captured.map(({ data }) => data);
    onPlatforms(readFile(object), frames, frames.length);
  });
});
