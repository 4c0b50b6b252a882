/**
 * Random programs through the verifier, then on every backend: the same result, or a bug. Some also in the running
 * kernel, which must agree with the verdict and with the result.
 *
 * SEED=n starts at another place, PROGRAMS=n runs more; a failure names its seed: `randomProgram(seed)` gives the program again.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assemble, createRuntime, programFromInstructions, type Runtime, VerifierError } from '../../src/index.ts';
import { mapSpec, PLATFORMS } from '../runtime/build.ts';
import { openKernel } from './kernel.ts';
import { contents } from './observe.ts';
import { randomBytes } from './packets.ts';
import { PACKET_BYTES, randomProgram, VALUE_BYTES } from './random-programs.ts';

const FIRST = Number(process.env.SEED ?? 1);
const PROGRAMS = Number(process.env.PROGRAMS ?? 2500);
const IN_KERNEL = Math.ceil(PROGRAMS / 5);
const PACKETS = 3;
const SPARE_BYTES = 40;
const MAPS = new Map([['values', mapSpec({ name: 'values', type: 'array', valueSize: VALUE_BYTES, maxEntries: 2 })]]);

let runtime: Runtime;
beforeAll(() => {
  runtime = createRuntime({ arenaSize: 64 << 20, codeSize: 16 << 20 });
});
afterAll(() => runtime.dispose());

function collectionOf(seed: number) {
  const spec = programFromInstructions({ name: 'random', type: 'xdp', insns: assemble(randomProgram(seed)) });
  return { programs: new Map([['random', spec]]), maps: MAPS, license: 'GPL', btf: undefined };
}

function packetsOf(seed: number): Uint8Array[] {
  const random = randomBytes(seed * 31 + 17);
  const packets = Array.from({ length: PACKETS }, (_, index) =>
    Uint8Array.from(random(PACKET_BYTES + ((seed + index * 13) % SPARE_BYTES))),
  );
  // Numbers at the borders of their types are rare among random ones.
  packets.push(
    new Uint8Array(PACKET_BYTES),
    Uint8Array.from({ length: PACKET_BYTES }, (_, i) => (i & 7 ? 0xff : seed & 0x80)),
  );
  return packets;
}

interface Outcome {
  readonly returnValue: bigint;
  readonly bytes: string;
  readonly maps: readonly string[];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Undefined where the verifier refuses. */
function runOn(platform: string, seed: number): Outcome[] | undefined {
  const options = PLATFORMS[platform]!;
  try {
    const object = runtime.load(collectionOf(seed), options);
    try {
      const program = object.program('random');
      expect(program.code !== undefined).toBe(options.backend === 'native');
      return packetsOf(seed).map(packet => {
        const { returnValue, data } = program.run(packet);
        return { returnValue, bytes: hex(data), maps: contents(object.maps).values! };
      });
    } finally {
      object.dispose();
    }
  } catch (error) {
    if (error instanceof VerifierError) return undefined;
    throw new Error(`seed ${seed}, ${platform}`, { cause: error });
  }
}

const NATIVE = 'x86-64, cached targets';

test(`${PROGRAMS} random programs from seed ${FIRST} on: backends agree`, () => {
  let refused = 0;
  for (let seed = FIRST; seed < FIRST + PROGRAMS; seed++) {
    const interpreted = runOn('interpreter', seed);
    if (interpreted === undefined) refused++;
    else expect(runOn(NATIVE, seed), `seed ${seed}`).toEqual(interpreted);
  }
  // Nearly all: else the generator tests the verifier's refusals.
  expect(refused).toBeLessThan(PROGRAMS / 20);
});

const kernel = openKernel();

describe.skipIf(kernel === undefined)('in the kernel', () => {
  test(`${IN_KERNEL} random programs from seed ${FIRST} on: the same verdict and the same results`, () => {
    for (let seed = FIRST; seed < FIRST + IN_KERNEL; seed++) {
      const ours = runOn(NATIVE, seed);
      const loaded = kernel!.loadProgram(collectionOf(seed).programs.get('random')!, MAPS);
      if (typeof loaded === 'string') {
        expect(ours, `seed ${seed}: the kernel refuses: ${loaded.slice(-500)}`).toBeUndefined();
        continue;
      }
      try {
        const theirs = packetsOf(seed).map(packet => {
          const { returnValue, bytes } = loaded.run('random', packet);
          return { returnValue, bytes: hex(bytes), maps: loaded.contents().values! };
        });
        expect(ours, `seed ${seed}`).toEqual(theirs);
      } finally {
        loaded.close();
      }
    }
  });
});
