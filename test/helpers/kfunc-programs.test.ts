/** Kernel functions on every backend: text functions with random texts beside the kernel's, records behind dynptrs. */
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { createRuntime, RingBuffer } from '../../src/index.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { openScratch } from '../kernel/scratch.ts';
import { collection } from '../runtime/build.ts';

const SECOND = 32;
const RESULTS = 64;
const VALUE = 128;
const kernel = openScratch(VALUE);
afterAll(() => kernel?.dispose());

type Argument = 'first' | 'second' | 'byte' | 'int' | 'count';
const FUNCTIONS: readonly (readonly [string, ...Argument[]])[] = [
  ['strcmp', 'first', 'second'],
  ['strcasecmp', 'first', 'second'],
  ['strchr', 'first', 'byte'],
  ['strchrnul', 'first', 'byte'],
  ['strnchr', 'first', 'count', 'byte'],
  ['strrchr', 'first', 'int'],
  ['strlen', 'first'],
  ['strnlen', 'first', 'count'],
  ['strspn', 'first', 'second'],
  ['strcspn', 'first', 'second'],
  ['strstr', 'first', 'second'],
  ['strnstr', 'first', 'second', 'count'],
];

interface Texts {
  readonly first: Uint8Array;
  readonly second: Uint8Array;
  readonly byte: number;
  readonly int: number;
  readonly count: number;
}

/** Puts the texts into the map's value and the 32-bit results behind them. @param value how the program names its map */
function program(texts: Texts, value: string): string {
  const store = (bytes: Uint8Array, at: number): string[] =>
    Array.from(bytes, (byte, i) => `*(u8 *)(r6 + ${at + i}) = ${byte}`);
  const argument: Record<Argument, readonly string[]> = {
    first: ['RX = r6'],
    second: ['RX = r6', `RX += ${SECOND}`],
    byte: [`RX = ${texts.byte}`],
    int: [`RX = ${texts.int}`],
    count: [`RX = ${texts.count}`],
  };
  return [
    `r6 = ${value} ll`,
    ...store(texts.first, 0),
    ...store(texts.second, SECOND),
    ...FUNCTIONS.flatMap(([name, ...args], i) => [
      ...args.flatMap((kind, a) => argument[kind].map(line => line.replace('RX', `r${a + 1}`))),
      `call kfunc[0 bpf_${name}]`,
      `*(u32 *)(r6 + ${RESULTS + 4 * i}) = r0`,
    ]),
    'r0 = 0',
    'exit',
  ].join('\n');
}

// Few letters, so that texts have something in common; some on both sides of the border of signed bytes and of case.
const letter = fc.constantFrom(97, 98, 65, 66, 0xe4, 0xc4, 0xd7, 0xf7, 0x5b, 0x7b);
const text = fc.array(letter, { maxLength: 12 }).map(bytes => Uint8Array.from([...bytes, 0]));
const texts: fc.Arbitrary<Texts> = fc.record({
  first: text,
  second: fc.oneof(
    text,
    fc.array(letter, { maxLength: 2 }).map(bytes => Uint8Array.from([...bytes, 0])),
  ),
  byte: fc.oneof(letter, fc.constantFrom(0, 0x161, -1)),
  int: fc.oneof(letter, fc.constantFrom(0, 0x161, -1, -28)),
  count: fc.oneof(fc.nat({ max: 14 }), fc.constantFrom(65536, 0x7fff_ffff, -1)),
});

describe.each(['interpreter', 'native'] as const)('on backend %s', backend => {
  const usable = backend === 'interpreter' || nativeSupported();
  const maps = [{ name: 'value', type: 'array', valueSize: VALUE } as const];

  test.skipIf(kernel === undefined || !usable)('text functions give what the kernel gives', async () => {
    await fc.assert(
      fc.asyncProperty(texts, async input => {
        const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
        try {
          const object = runtime.load(collection({ programs: { p: program(input, 'map_value[value]+0') }, maps }));
          object.program('p').run(new Uint8Array(64));
          const ours = object.map('value').lookup(new Uint8Array(4))!;
          const theirs = kernel!.run('xdp', program(input, `map_fd_value[${kernel!.mapFd}]+0`), new Uint8Array(64));
          expect(ours).toEqual(theirs.value);
        } finally {
          await runtime.dispose();
        }
      }),
      { numRuns: 25 },
    );
  });

  test.skipIf(!usable)('texts without an end, and addresses that are none', async () => {
    const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
    const long = { name: 'value', type: 'array', valueSize: 70_000 } as const;
    const programs = {
      endless: 'r1 = map_value[value]+0 ll\ncall kfunc[0 bpf_strlen]\nexit',
      nowhere: 'r1 = 5\ncall kfunc[0 bpf_strlen]\nexit',
      kernel: 'r1 = -4096\ncall kfunc[0 bpf_strlen]\nexit',
    };
    const object = runtime.load(collection({ programs, maps: [long] }));
    object.map('value').update(new Uint8Array(4), new Uint8Array(70_000).fill(97));
    const result = (name: string): number =>
      Number(BigInt.asIntN(32, object.program(name).run(new Uint8Array(64)).returnValue));
    expect([result('endless'), result('nowhere'), result('kernel')]).toEqual([-7, -34, -34]);
    await runtime.dispose();
  });

  test.skipIf(!usable)('loads through casts end with the memory', async () => {
    const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
    // Text functions tell inside from outside (ERANGE), so that a search finds the last address inside.
    const search = (sign: 1 | -1): string[] =>
      Array.from({ length: 22 }, (_, i) => {
        const step = sign * (1 << (21 - i));
        const next = `outside${i}`;
        return `r8 = r6\nr8 += ${step}\nr1 = r8\ncall kfunc[0 bpf_strlen]\nw0 = w0\nif w0 == -34 goto ${next}\nr6 = r8\n${next}: r1 = 0`;
      });
    const edge = (sign: 1 | -1, ...loads: string[]): string =>
      [
        'r1 = map_value[value]+0 ll\nr2 = 0\ncall kfunc[0 bpf_rdonly_cast]\nr6 = r0',
        ...search(sign),
        'r0 = 0',
        ...loads.flatMap(load => [`r1 = ${load}`, 'r0 |= r1']),
        'exit',
      ].join('\n');
    // At an edge, and one byte on: outside, or not aligned.
    const ACQUIRE = 'load_acquire((u64 *)(r6 + 0))\nr0 |= r1\nr6 += 1\nr1 = load_acquire((u64 *)(r6 + 0))';
    const programs = {
      above: edge(1, '*(u64 *)(r6 - 6)', '*(u32 *)(r6 + 0)', '*(u8 *)(r6 + 1)', ACQUIRE),
      below: edge(-1, '*(u64 *)(r6 - 8)', '*(u64 *)(r6 - 1)', '*(s8 *)(r6 - 1)', ACQUIRE),
      inside: edge(1, '*(u64 *)(r6 - 7)', '*(u8 *)(r6 + 0)'),
    };
    const object = runtime.load(collection({ programs, maps }));
    const result = (name: string): bigint => object.program(name).run(new Uint8Array(64)).returnValue;
    expect([result('above'), result('below')]).toEqual([0n, 0n]);
    expect(() => result('inside')).not.toThrow();
    await runtime.dispose();
  });

  test.skipIf(!usable)('iterators count', async () => {
    const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
    const sum = (from: number, to: number): string =>
      `r6 = 0\nr1 = r10\nr1 += -8\nr2 = ${from}\nr3 = ${to}\ncall kfunc[0 bpf_iter_num_new]\nloop: r1 = r10\nr1 += -8\n` +
      'call kfunc[0 bpf_iter_num_next]\nif r0 == 0 goto out\nr1 = *(s32 *)(r0 + 0)\nr6 += r1\nr6 += 1000\ngoto loop\n' +
      'out: r1 = r10\nr1 += -8\ncall kfunc[0 bpf_iter_num_destroy]\nr0 = r6\nexit';
    const programs = {
      up: sum(0, 5),
      below: sum(-3, 2),
      none: sum(5, 5),
      wrong: sum(5, 4),
      many: sum(-8388607, 2),
      edge: sum(2147483645, 2147483647),
    };
    const object = runtime.load(collection({ programs }));
    const results = Object.keys(programs).map(name =>
      Number(BigInt.asIntN(32, object.program(name).run(new Uint8Array(64)).returnValue)),
    );
    expect(results).toEqual([5010, 4995, 0, 0, 0, 1995]);
    await runtime.dispose();
  });

  test.skipIf(!usable)('iterators over bits: as many at once as the stack has room for, again and again', async () => {
    const runtime = createRuntime({ backend, arenaSize: 1 << 22 });
    const places = Array.from({ length: 31 }, (_, i) => -512 + 16 * i);
    const at = (place: number): string => `r1 = r10\nr1 += ${place}`;
    const code = [
      'r6 = map_value[value]+0 ll\nr7 = 0\n*(u64 *)(r6 + 8) = 1\n*(u64 *)(r6 + 16) = 2',
      ...places.map(place => `${at(place)}\nr2 = r6\nr3 = 3\ncall kfunc[0 bpf_iter_bits_new]\nw0 = w0\nr7 += r0`),
      // All have copies of their own.
      '*(u64 *)(r6 + 8) = 0',
      ...places.flatMap((place, i) => [
        `${at(place)}\ncall kfunc[0 bpf_iter_bits_next]\nif r0 == 0 goto none${i}\nr0 = *(u32 *)(r0 + 0)\nr7 += r0`,
        `none${i}: ${at(place)}\ncall kfunc[0 bpf_iter_bits_destroy]`,
      ]),
      'r0 = r7\nexit',
    ].join('\n');
    const object = runtime.load(collection({ programs: { p: code }, maps }));
    const sums = Array.from({ length: 5 }, () => object.program('p').run(new Uint8Array(64)).returnValue);
    expect(sums).toEqual(sums.map(() => 31n * 64n));
    await runtime.dispose();
  });

  test.skipIf(!usable)('a record that is filled through its dynptr reaches the consumer', async () => {
    const runtime = createRuntime({ backend, arenaSize: 1 << 21 });
    const code = [
      'r2 = 0\nr3 = r10\nr3 += -16\ncall kfunc[0 bpf_dynptr_from_xdp]',
      'r1 = r10\nr1 += -16\ncall kfunc[0 bpf_dynptr_size]\nr6 = r0',
      'r1 = map[ring] ll\nr2 = r6\nr3 = 0\nr4 = r10\nr4 += -32\ncall 198',
      'r1 = r10\nr1 += -32\nr2 = 0\nr3 = r10\nr3 += -16\nr4 = 0\nr5 = r6\ncall kfunc[0 bpf_dynptr_copy]',
      'r1 = r10\nr1 += -32\nr2 = 2\nr3 = 3\nr4 = 7\ncall kfunc[0 bpf_dynptr_memset]\nr7 = r0',
      'r1 = r10\nr1 += -32\nr2 = 0\ncall 199\nr0 = r7\nexit',
    ].join('\n');
    const ring = { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 } as const;
    const object = runtime.load(collection({ programs: { p: code }, maps: [ring] }));
    const packet = Uint8Array.from({ length: 70 }, (_, i) => i);
    expect(object.program('p').run(packet).returnValue).toBe(0n);
    const map = object.map('ring');
    if (!(map instanceof RingBuffer)) throw new Error('no ring buffer');
    expect(map.read()).toEqual(packet.map((byte, i) => (i >= 2 && i < 5 ? 7 : byte)));
    expect(map.read()).toBeUndefined();
    await runtime.dispose();
  });
});
