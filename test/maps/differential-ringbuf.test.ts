/** Ring buffers: the same program fills ours and the running kernel's, whose pages are mapped here and read as libbpf reads them. */
import { afterAll, describe, expect, test } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { mapDescriptor } from '../kernel/memory.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection } from '../runtime/build.ts';
import { generator, OPERATIONS, OPERATIONS_TIMEOUT, same } from './tools.ts';

const SIZE = 4096;
const RESERVED = [
  0, 1, 8, 9, 64, 1000, 2039, 2040, 4079, 4080, 4081, 4088, 4089, 9000, 0x3fffffff, 0x40000000,
] as const;
/** What the first byte of a packet asks for. */
const Operation = { output: 0, query: 1, submit: 2, discard: 2 + RESERVED.length, count: 2 + 2 * RESERVED.length };

/** Packet: operation, size or query, flags, then what is put into the record. */
function programText(): string {
  const lines = [
    'r2 = *(u32 *)(r1 + 4)',
    'r1 = *(u32 *)(r1 + 0)',
    'r3 = r1',
    'r3 += 80',
    'if r3 > r2 goto bad',
    'r6 = r1',
    'r7 = *(u8 *)(r6 + 0)',
    'r8 = *(u8 *)(r6 + 2)',
    ...Array.from({ length: 8 }, (_, i) => [
      `r3 = *(u64 *)(r6 + ${8 + 8 * i})`,
      `*(u64 *)(r10 - ${64 - 8 * i}) = r3`,
    ]).flat(),
    `if r7 == ${Operation.query} goto query`,
    `if r7 == ${Operation.output} goto output`,
  ];
  for (const [base, end] of [
    [Operation.submit, 132],
    [Operation.discard, 133],
  ] as const) {
    for (const [i, size] of RESERVED.entries()) {
      lines.push(
        `if r7 != ${base + i} goto not_${base + i}`,
        'r1 = map[ring] ll',
        `r2 = ${size}`,
        'r3 = 0',
        'call 131',
        'if r0 == 0 goto bad',
        'r3 = *(u64 *)(r10 - 64)',
        ...(size >= 8 ? ['*(u64 *)(r0 + 0) = r3'] : []),
        ...(size > 0 && size < 32768 ? [`*(u8 *)(r0 + ${size - 1}) = r3`] : []),
        'r1 = r0',
        'r2 = r8',
        `call ${end}`,
        'r0 = 0',
        'exit',
        `not_${base + i}:`,
      );
    }
  }
  lines.push(
    'goto bad',
    'query:',
    'r2 = *(u8 *)(r6 + 1)',
    'r1 = map[ring] ll',
    'call 134',
    'exit',
    'output:',
    'r3 = *(u8 *)(r6 + 1)',
    'if r3 > 64 goto bad',
    'r1 = map[ring] ll',
    'r2 = r10',
    'r2 += -64',
    'r4 = r8',
    'call 130',
    'exit',
    'bad:',
    'r0 = 0x7fff',
    'exit',
  );
  return lines.join('\n');
}

/** The kernel's ring, mapped: a page with the consumer's position, one with the producer's, the data twice. */
class MappedRing {
  readonly #consumer: BigUint64Array;
  readonly #producer: BigUint64Array;
  readonly #data: DataView;

  constructor(fd: number) {
    this.#consumer = new BigUint64Array(mapDescriptor(fd, 4096));
    const rest = mapDescriptor(fd, 4096 + 2 * SIZE, 4096, 'read');
    this.#producer = new BigUint64Array(rest, 0, 1);
    this.#data = new DataView(rest, 4096);
  }

  drain(visit: (record: Uint8Array) => void, limit: number): void {
    let position = Atomics.load(this.#consumer, 0);
    for (let count = 0; count < limit && position < Atomics.load(this.#producer, 0); ) {
      const at = Number(position) % SIZE;
      const head = this.#data.getUint32(at, true);
      const size = head & 0x3fffffff;
      if ((head & 0x40000000) === 0) {
        visit(new Uint8Array(this.#data.buffer, this.#data.byteOffset + at + 8, size));
        count++;
      }
      position += BigInt((size + 15) & ~7);
      Atomics.store(this.#consumer, 0, position);
    }
  }
}

describe.skipIf(kernelMissing() !== undefined)('ring buffers against the running kernel', () => {
  const runtime = createRuntime({ arenaSize: 32 << 20 });
  afterAll(() => runtime.dispose());

  test.each(runtime.backends)(
    '%s',
    async backend => {
      const parts = collection({
        programs: { p: programText() },
        maps: [{ name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: SIZE }],
      });
      const ours = runtime.load(parts, { backend });
      const theirs = loadIntoKernel(parts);
      const ring = ours.ringBuffer('ring');
      const mapped = new MappedRing((theirs.map('ring') as { fd: number }).fd);
      const programs = [ours.program('p'), theirs.program('p')] as const;
      const next = generator(0xabcdef);
      const outcomes = new Map<string, number>();
      const packet = new Uint8Array(80);
      // A record's first word and its last byte: the rest of a reserved one is whatever lay there.
      const collect = (drain: (visit: (record: Uint8Array) => void, limit: number) => void, limit: number): string => {
        const records: string[] = [];
        drain(record => {
          const shown = record.length <= 64 ? record : [...record.subarray(0, 8), record.at(-1)];
          records.push(
            `${record.length}:${RESERVED.includes(record.length as 64) ? [...shown.slice(0, 8), record.length > 8 ? shown.at(-1) : 0] : shown}`,
          );
        }, limit);
        return records.join(' ');
      };
      const operations = backend === 'interpreter' ? Math.min(OPERATIONS, 40_000) : OPERATIONS;
      for (let step = 0; step < operations; step++) {
        const large = next(20) === 0;
        packet[0] = large ? next(Operation.count) : [0, 0, 0, 1, 2 + next(5), Operation.discard + next(5)][next(6)]!;
        // Sizes that a reserved record may also have would be compared in part only.
        packet[1] = packet[0] === Operation.output ? [2, 3, 7, 10, 16, 33, 63, 65][next(8)]! : next(6);
        packet[2] = [0, 0, 1, 2, 3, 4][next(6)]!;
        for (let i = 8; i < 72; i += 1 + next(8)) packet[i] = next(256);
        const [mine, kernel] = programs.map(program => Number(program.run(packet).returnValue) >>> 0);
        const name = packet[0] < 2 ? packet[0] : packet[0] < Operation.discard ? 'submit' : 'discard';
        const key = packet[0] === Operation.query ? 'query' : `${name} ${kernel}`;
        outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
        same(mine, kernel, step, packet.slice(0, 3));
        if (next(3) === 0) {
          const limit = next(10) === 0 ? 1000 : 1 + next(6);
          const [read, expected] = [
            collect((visit, most) => ring.drain(visit, most), limit),
            collect((visit, most) => mapped.drain(visit, most), limit),
          ];
          same(read, expected, step, limit);
        }
      }
      expect([...outcomes.keys()].sort()).toEqual(
        expect.arrayContaining([
          '0 0',
          `0 ${-11 >>> 0}`,
          `0 ${-22 >>> 0}`,
          'discard 0',
          'query',
          'submit 0',
          'submit 32767',
        ]),
      );
      ours.dispose();
      theirs.dispose();
    },
    OPERATIONS_TIMEOUT * 3,
  );
});
