/**
 * Inlined lookups in arrays on every backend, and on the running kernel where it can be asked: the same results whatever the
 * verifier found out about the key. What it found out, and that lowering used it, is looked at beside.
 */
import { describe, expect, test } from 'vitest';
import { HELPERS, helperRoutine } from '../../src/helpers/table.ts';
import { type Collection, loadIntoKernel } from '../../src/index.ts';
import { disassemble } from '../../src/isa/disassembler.ts';
import { lower } from '../../src/lowering/lower.ts';
import { verify } from '../../src/verifier/verify.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection, PLATFORMS, withRuntime } from './build.ts';

const BACKENDS = Object.entries(PLATFORMS).filter(([name]) => /^interpreter|fast$|before/.test(name));

const ENTRIES = 8;

interface Case {
  readonly name: string;
  /** The first byte of the packet is in r6, the second in r7, null goes to `miss`; r0 is the element. */
  readonly body: string;
  readonly keyMax?: number | undefined;
  readonly constantKey?: number | undefined;
  /** Functions behind the program. */
  readonly functions?: string;
}

const LOOKUP = `
  r2 = r10
  r2 += -4
  r1 = map[array] ll
  call 1`;
const CHECKED = `${LOOKUP}
  if r0 == 0 goto miss`;

const cases: readonly Case[] = [
  { name: 'masked to the size', body: `r1 = r6\nr1 &= 7\n*(u32 *)(r10 - 4) = r1${CHECKED}`, keyMax: 7 },
  { name: 'masked to more', body: `r1 = r6\nr1 &= 15\n*(u32 *)(r10 - 4) = r1${CHECKED}` },
  { name: 'limited by a branch', body: `if r6 > 6 goto miss\n*(u32 *)(r10 - 4) = r6${CHECKED}`, keyMax: 6 },
  { name: 'limited by a branch to one too many', body: `if r6 > 8 goto miss\n*(u32 *)(r10 - 4) = r6${CHECKED}` },
  { name: 'not at all', body: `*(u32 *)(r10 - 4) = r6${CHECKED}` },
  {
    name: 'an upper half that the key has not',
    body: `r1 = r6\nr1 &= 7\nr2 = 1\nr2 <<= 40\nr1 |= r2\n*(u32 *)(r10 - 4) = r1${CHECKED}`,
    keyMax: 7,
  },
  { name: 'negative', body: `r1 = r6\nr1 &= 3\nr1 -= 2\n*(u32 *)(r10 - 4) = r1${CHECKED}` },
  { name: 'a constant', body: `r1 = 5\n*(u32 *)(r10 - 4) = r1${CHECKED}`, keyMax: 5, constantKey: 5 },
  { name: 'a constant out of range', body: `r1 = 8\n*(u32 *)(r10 - 4) = r1${CHECKED}` },
  { name: 'a constant that is stored as such', body: `*(u32 *)(r10 - 4) = 3${CHECKED}` },
  {
    name: 'zero, far from the call',
    body: `*(u32 *)(r10 - 4) = 0\nif r6 > 3 goto on\nr7 += 1\non:${CHECKED}`,
    constantKey: 0,
  },
  {
    name: 'two constants, on two paths',
    body: `r1 = 2\nif r6 > 3 goto on\nr1 = 6\non: *(u32 *)(r10 - 4) = r1${CHECKED}`,
    // Both reach the store; the second is pruned there, and not covered by the first.
    keyMax: undefined,
  },
  {
    name: 'a range on one path only',
    body: `r1 = r6\nif r7 > 3 goto on\nr1 &= 7\non: *(u32 *)(r10 - 4) = r1${CHECKED}`,
  },
  {
    name: 'a path that is pruned, with a key out of range',
    body: `r8 = 1\nif r6 > 3 goto on\nr8 = 9\non: r7 += 1\nr7 += 1\nr7 += 1\nr7 += 1\nr7 += 1\nr7 += 1\nr7 += 1\nr7 += 1\nif r7 > 100 goto over\nr7 = 0\nover: *(u32 *)(r10 - 4) = r8${CHECKED}`,
  },
  {
    name: 'a path that is pruned, with a key in the range of the first',
    body: `r8 = r7\nr8 &= 7\nif r6 <= 3 goto narrow\ngoto on\nnarrow: r8 &= 1\non: *(u32 *)(r10 - 4) = r8${CHECKED}`,
    keyMax: 7,
  },
  {
    name: 'the same key on two paths that are pruned into each other',
    body: `r8 = 4\nif r6 > 3 goto on\nr8 = 4\nr7 += 1\non: *(u32 *)(r10 - 4) = r8${CHECKED}`,
    keyMax: 4,
    constantKey: 4,
  },
  {
    name: 'limited through a copy, on a path without the copy too',
    body: `r8 = r6\nr1 = r6\nif r7 > 3 goto on\nr8 = r7\non: if r1 > 7 goto miss\n*(u32 *)(r10 - 4) = r8${CHECKED}`,
  },
  {
    name: 'limited through a spilled copy',
    body: `*(u64 *)(r10 - 16) = r6\nif r6 > 7 goto miss\nr6 = 0\nr1 = *(u64 *)(r10 - 16)\n*(u32 *)(r10 - 4) = r1${CHECKED}`,
    keyMax: 7,
  },
  {
    name: 'a spilled key, on a path that is pruned with another',
    body: `r1 = 1\nif r6 > 3 goto on\nr1 = 20\non: *(u64 *)(r10 - 16) = r1\nr1 = 0\nif r7 > 3 goto over\nr7 = 1\nover: r1 = *(u64 *)(r10 - 16)\n*(u32 *)(r10 - 4) = r1${CHECKED}`,
  },
  {
    name: 'a counter of a loop',
    body: `r8 = 0\nloop: *(u32 *)(r10 - 4) = r8${CHECKED}\nr8 += 1\nif r8 < 8 goto loop`,
    keyMax: 7,
  },
  {
    name: 'a counter that leaves the array',
    body: `r8 = 0\nr9 = 0\nloop: *(u32 *)(r10 - 4) = r8${LOOKUP}\nif r0 == 0 goto on\nr9 = r0\non: r8 += 1\nif r8 < 10 goto loop\nr0 = r9\nif r0 == 0 goto miss`,
  },
  {
    name: 'a number that a loop adds to and nobody looks at',
    body: `r8 = 0\nr9 = 0\nloop: r8 += r6\nr9 += 1\nif r9 < 3 goto loop\n*(u32 *)(r10 - 4) = r8${CHECKED}`,
  },
  {
    name: 'in a function, for two callers',
    body: `r1 = 2\ncall find\nr8 = r0\nr1 = 7\ncall find\nr8 += r0\n*(u64 *)(r10 - 8) = r8\nr0 = r10\nr0 += -8`,
    functions: `find: *(u32 *)(r10 - 4) = r1${LOOKUP}\nif r0 == 0 goto none\nr0 = *(u64 *)(r0 + 0)\nexit\nnone: r0 = 77\nexit`,
    keyMax: 7,
  },
  {
    name: 'in a callback',
    body: `r1 = r6\nr1 &= 7\nr1 += 1\nr2 = func[body] ll\nr3 = r10\nr3 += -8\n*(u64 *)(r10 - 8) = r6\nr4 = 0\ncall 181\nr0 = r10\nr0 += -8`,
    functions: `body: r1 &= 7\n*(u32 *)(r10 - 4) = r1${LOOKUP}\nr0 = 0\nexit`,
    // Its range is known by the text, but not to whoever may not rely on ranges in loops that converge.
    keyMax: undefined,
  },
  {
    name: 'without a check for null right behind',
    body: `r1 = r6\nr1 &= 15\n*(u32 *)(r10 - 4) = r1${LOOKUP}\nr8 = r0\nif r8 == 0 goto miss`,
  },
  {
    name: 'in range, without a check for null right behind',
    body: `r1 = r6\nr1 &= 7\n*(u32 *)(r10 - 4) = r1${LOOKUP}\nr8 = r0\nif r8 == 0 goto miss`,
    keyMax: 7,
  },
];

const PACKETS = [0, 1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 200, 255].flatMap(first =>
  [0, 3, 4, 7, 9, 255].map(second => {
    const packet = new Uint8Array(64);
    packet.set([first, second]);
    return packet;
  }),
);

const TYPES = ['array', 'percpu_array'] as const;
const SIZES = [8, 24, 64];

function build({ body, functions = '' }: Case, type: (typeof TYPES)[number], valueSize: number): Collection {
  return collection({
    programs: {
      main: `
        r2 = *(u32 *)(r1 + 0)
        r3 = *(u32 *)(r1 + 4)
        r4 = r2
        r4 += 2
        if r4 > r3 goto miss
        r6 = *(u8 *)(r2 + 0)
        r7 = *(u8 *)(r2 + 1)
        ${body}
        r0 = *(u64 *)(r0 + 0)
        exit
        miss: r0 = 1
        exit
        ${functions}`,
    },
    maps: [{ name: 'array', type, keySize: 4, valueSize, maxEntries: ENTRIES }],
  });
}

interface Loaded {
  map(name: string): {
    lookup(key: Uint8Array): Uint8Array | undefined;
    update(key: Uint8Array, value: Uint8Array): void;
  };
  program(name: string): { run(packet: Uint8Array): { returnValue: number | bigint } };
}

/** Fills the array, on all CPUs alike, and runs the program on all packets. */
function results(object: Loaded): number[] {
  const map = object.map('array');
  for (let key = 0; key < ENTRIES; key++) {
    const bytes = new Uint8Array(Uint32Array.of(key).buffer);
    const words = new BigUint64Array(map.lookup(bytes)!.length / 8).fill(BigInt(1000 + 10 * key));
    map.update(bytes, new Uint8Array(words.buffer));
  }
  return PACKETS.map(packet => Number(object.program('main').run(packet).returnValue));
}

const kernel = kernelMissing() === undefined;

function kernelResults(input: Collection): number[] {
  const object = loadIntoKernel(input);
  try {
    return results(object as Loaded);
  } finally {
    object.dispose();
  }
}

describe.each(TYPES)('%s', type => {
  test.each(cases)('key: $name', one =>
    withRuntime(async runtime => {
      for (const valueSize of SIZES) {
        const input = build(one, type, valueSize);
        let expected = kernel ? kernelResults(input) : undefined;
        for (const [platform, options] of BACKENDS) {
          const object = runtime.load(input, options);
          const ours = results(object as Loaded);
          expected ??= ours;
          expect({ platform, valueSize, results: ours }).toEqual({ platform, valueSize, results: expected });
          await object.dispose();
        }
      }
    }),
  );

  test.each(cases)('what is known of the key: $name', ({ keyMax, constantKey, ...one }) => {
    const input = build(one as Case, type, 8);
    const verified = verify(input.programs.get('main')!, { maps: input.maps, helpers: HELPERS });
    const fact = verified.facts.helperCalls.find(({ helper }) => helper === 1)!;
    expect({ keyMax: fact.keyMax, constantKey: fact.constantKey }).toEqual({ keyMax, constantKey });
    const { insns } = lower(verified, { maps: input.maps, helperRoutine });
    const text = disassemble(insns).map(line => line.text);
    const known = constantKey ?? keyMax ?? (/stored as such/.test(one.name) ? 3 : undefined);
    // No comparison with max_entries, and none with null where it was right behind the call.
    expect(text.some(line => / >= 0x8 /.test(line))).toBe(known === undefined || known >= ENTRIES);
    expect(text.some(line => line.includes('call routine'))).toBe(/callback/.test(one.name));
  });
});

test('a per-CPU lookup finds the value of the CPU that it runs on', async () => {
  const keys = ['w1 = 5', 'r1 = r7\nr1 &= 7', 'r1 = r7'];
  const programs = keys.map(
    (key, i) =>
      [
        `p${i}`,
        `r6 = r1\nr7 = 5\n${key}\n*(u32 *)(r10 - 4) = r1${LOOKUP}\nif r0 == 0 goto miss\nr0 = *(u64 *)(r0 + 0)\nexit\nmiss: r0 = 1\nexit`,
      ] as const,
  );
  const input = collection({
    programs: { ...Object.fromEntries(programs), cpu: 'call 8\nexit' },
    maps: [{ name: 'array', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: ENTRIES }],
  });
  for (const [, options] of BACKENDS) {
    await withRuntime(runtime => {
      const object = runtime.load(input, options);
      const map = object.map('array');
      const key = new Uint8Array(Uint32Array.of(5).buffer);
      const cpus = map.lookup(key)!.length / 8;
      expect(cpus).toBeGreaterThan(1);
      map.update(key, new Uint8Array(BigUint64Array.from({ length: cpus }, (_, cpu) => BigInt(7000 + cpu)).buffer));
      const cpu = Number(object.program('cpu').run(new Uint8Array(64)).returnValue);
      for (const [name] of programs)
        expect(Number(object.program(name).run(new Uint8Array(64)).returnValue)).toBe(7000 + cpu);
    });
  }
});
