/** Programs that call the general helpers, through all rooms on each backend; and services under bad arguments. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createServices } from '../../src/helpers/services.ts';
import { assemble, type Collection, createRuntime, programFromInstructions } from '../../src/index.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';

const VALUE = 64;
const BACKENDS = ['interpreter', ...(nativeSupported() ? ['native'] : [])] as const;

function collection(text: string, strings = ''): Collection {
  const program = programFromInstructions({ name: 'test', type: 'xdp', insns: assemble(text) });
  const array = (name: string, size: number): MapSpec => ({
    name,
    type: 'array',
    keySize: 4,
    valueSize: size,
    maxEntries: 1,
    flags: 0,
    contents: [],
  });
  const bytes = new TextEncoder().encode(strings.padEnd(VALUE, '\0'));
  return {
    programs: new Map([['test', program]]),
    maps: new Map([
      ['values', array('values', VALUE)],
      [
        '.rodata',
        {
          ...array('.rodata', VALUE),
          flags: 128,
          frozen: true,
          dataSection: '.rodata',
          contents: [{ key: 0, value: bytes }],
        },
      ],
    ]),
    license: 'GPL',
    btf: undefined,
  };
}

/** r7 = the value of map `values`, then `body`, which leaves its results there. */
const program = (body: string, after = ''): string => `
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map[values] ll
    call 1
    if r0 != 0 goto found
    exit
  found:
    r7 = r0
    ${body}
    r0 = 2
    exit
    ${after}`;
const store = (helper: number, at: number): string => `call ${helper}\n*(u64 *)(r7 + ${at}) = r0`;

describe.each(BACKENDS)('on backend %s', backend => {
  async function run(text: string, strings = ''): Promise<{ words: bigint[]; lines: string[] }> {
    const lines: string[] = [];
    const runtime = createRuntime({
      backend: backend as 'native',
      arenaSize: 1 << 21,
      onTrace: line => lines.push(line),
    });
    try {
      const object = runtime.load(collection(text, strings));
      expect(object.program('test').run(new Uint8Array(60)).verdict).toBe('XDP_PASS');
      const value = object.map('values').lookup(new Uint8Array(4))!;
      return { words: [...new BigInt64Array(value.slice().buffer)], lines };
    } finally {
      await runtime.dispose();
    }
  }

  test('clocks rise, random numbers differ, the rest is in range', async () => {
    const { words } = await run(
      program(
        [store(5, 0), store(5, 8), store(125, 16), store(7, 24), store(7, 32), store(8, 40), store(14, 48)].join('\n'),
      ),
    );
    const [first, second, boot, random, other, cpu, pidTgid] = words as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    expect(first > 0n && second >= first && boot > 0n).toBe(true);
    expect(random).not.toBe(other);
    expect([random >> 32n, other >> 32n]).toEqual([0n, 0n]);
    expect(cpu).toBe(0n);
    if (backend === 'native') expect(pidTgid >> 32n).toBe(BigInt(process.pid));
  });

  test('loop calls a subprogram back', async () => {
    const { words } = await run(
      program(
        `*(u64 *)(r10 - 16) = 0
         r1 = 1000
         r2 = func[add] ll
         r3 = r10
         r3 += -16
         r4 = 0
         ${store(181, 0)}
         r1 = *(u64 *)(r10 - 16)
         *(u64 *)(r7 + 8) = r1`,
        `add:
         r3 = *(u64 *)(r2 + 0)
         r3 += r1
         *(u64 *)(r2 + 0) = r3
         r0 = 0
         if r1 != 99 goto more
         r0 = 1
       more:
         exit`,
      ),
    );
    expect(words.slice(0, 2)).toEqual([100n, 4950n]);
  });

  test('trace_printk and strncmp read strings in read-only data', async () => {
    const { words, lines } = await run(
      program(
        `r1 = map_value[.rodata]+0 ll
         r2 = 13
         r3 = 7
         r4 = 65
         ${store(6, 0)}
         r1 = ${Buffer.from('eth0\0\0\0\0').readBigUInt64LE()} ll
         *(u64 *)(r10 - 16) = r1
         r1 = r10
         r1 += -16
         r2 = 8
         r3 = map_value[.rodata]+16 ll
         ${store(182, 8)}
         r1 = r10
         r1 += -16
         r2 = 8
         r3 = map_value[.rodata]+24 ll
         ${store(182, 16)}`,
      ),
      'port %d, %c.\0\0\0\0eth0\0\0\0\0eth1\0',
    );
    expect(words[0]).toBe(10n);
    expect(lines).toEqual(['port 7, A.']);
    expect(words.slice(1, 3)).toEqual([0n, -1n]);
  });
});

test('services answer any arguments with a u64', () => {
  const arena = createArena(new ArrayBuffer(1 << 17), 0x10_0000n);
  const services = createServices({ arena, now: () => 1n, pidTgid: () => 1n, onTrace() {} });
  const word = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.bigInt({ min: 0x10_0000n - 64n, max: 0x12_0040n }),
    fc.bigInt({ min: 0n, max: 600n }),
  );
  fc.assert(
    fc.property(fc.constantFrom(...Object.keys(services)), fc.tuple(word, word, word, word, word), (name, args) => {
      const result = services[name]!(...args);
      expect(result === BigInt.asUintN(64, result)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});
