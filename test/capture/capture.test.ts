import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Capture, CaptureError, readCapture, writeCapture } from '../../src/capture/capture.ts';
import {
  block,
  enhancedPacket,
  frame,
  interfaceBlock,
  obsoletePacket,
  option,
  pcap,
  richPcapng,
  sectionHeader,
  simplePacket,
} from './build.ts';

const MIXED = fileURLToPath(new URL('../../../shared/captures/mixed.pcap', import.meta.url));

function problem(action: () => unknown): CaptureError {
  try {
    action();
  } catch (error) {
    if (error instanceof CaptureError) return error;
    throw error;
  }
  throw new Error('expected a CaptureError');
}

const bytesOf = (...blocks: number[][]): Uint8Array => Uint8Array.from(blocks.flat());

describe('pcap', () => {
  const records = [
    { seconds: 1_700_000_000, fraction: 123_456, data: frame(60, 1) },
    { seconds: 0xffffffff, fraction: 999_999, data: frame(1, 2), originalLength: 9000 },
    { seconds: 0, fraction: 0, data: [] },
  ];

  test.each([
    ['little', 'micro'],
    ['big', 'micro'],
    ['little', 'nano'],
    ['big', 'nano'],
  ] as const)('%s-endian, %sseconds: read, and written byte for byte', (byteOrder, unit) => {
    const file = pcap(byteOrder === 'little', unit === 'nano', records);
    const capture = readCapture(file);
    const scale = unit === 'nano' ? 1n : 1000n;
    expect(capture).toMatchObject({
      format: 'pcap',
      byteOrder,
      interfaces: [{ linkType: 1, snapLength: 262144, ticksPerSecond: 1_000_000_000n / scale }],
    });
    expect(capture.packets.map(p => [p.timestampNs, [...p.data], p.originalLength, p.interfaceIndex])).toEqual(
      records.map(r => [
        BigInt(r.seconds) * 1_000_000_000n + BigInt(r.fraction) * scale,
        r.data,
        r.originalLength ?? r.data.length,
        0,
      ]),
    );
    expect(writeCapture(capture)).toEqual(file);
  });

  test('header fields without a use come out again', () => {
    const file = pcap(true, false, records, 0x54000001);
    file.set([3, 0], 6);
    file.set([1, 2, 3, 4, 5, 6, 7, 8], 8);
    const capture = readCapture(file);
    expect(capture.interfaces[0]!.linkType).toBe(1);
    expect(writeCapture(capture)).toEqual(file);
  });

  test('a fraction of more than a second counts, and comes out again', () => {
    const file = pcap(true, false, [{ seconds: 0xffffffff, fraction: 4_000_000_001, data: frame(60, 1) }]);
    const capture = readCapture(file);
    expect(capture.packets[0]!.timestampNs).toBe(4_294_967_295_000_000_000n + 4_000_000_001_000n);
    expect(writeCapture(capture)).toEqual(file);
  });

  test('views at any place in a larger buffer', () => {
    const file = pcap(true, false, records);
    const larger = new Uint8Array(file.length + 7);
    larger.set(file, 3);
    expect(readCapture(larger.subarray(3, 3 + file.length))).toEqual(readCapture(file));
  });

  test('changed packets', () => {
    const capture = readCapture(pcap(true, false, records));
    const changed = {
      ...capture,
      packets: [{ ...capture.packets[0]!, data: Uint8Array.of(1, 2, 3), originalLength: 3 }],
    };
    expect(readCapture(writeCapture(changed)).packets[0]).toMatchObject({
      data: Uint8Array.of(1, 2, 3),
      originalLength: 3,
    });
  });

  test('made from nothing but the required fields', () => {
    const made: Capture = {
      format: 'pcap',
      byteOrder: 'big',
      interfaces: [{ linkType: 1, snapLength: 262144, ticksPerSecond: 1_000_000n }],
      packets: [
        { timestampNs: 5_000_001_999n, data: Uint8Array.from(frame(20, 1)), originalLength: 20, interfaceIndex: 0 },
      ],
    };
    expect(writeCapture(made)).toEqual(pcap(false, false, [{ seconds: 5, fraction: 1, data: frame(20, 1) }]));
  });

  test.skipIf(!existsSync(MIXED))('the shared capture of 3,413 frames (../shared/captures/mixed.pcap)', () => {
    const file = new Uint8Array(readFileSync(MIXED));
    const capture = readCapture(file);
    expect(capture.packets).toHaveLength(3413);
    expect(Buffer.compare(writeCapture(capture), file)).toBe(0);
  });
});

describe('pcapng', () => {
  test('sections in both byte orders, resolutions, offsets and all kinds of packet blocks', () => {
    const capture = readCapture(richPcapng());
    expect(capture.sections!.map(s => s.byteOrder)).toEqual(['little', 'big']);
    expect(capture.interfaces.map(i => [i.section, i.snapLength, i.ticksPerSecond, i.timestampOffset])).toEqual([
      [0, 64, 1_000_000n, 0n],
      [0, 0, 1_000_000_000n, 0n],
      [1, 0, 1n << 20n, -5n],
    ]);
    expect(capture.packets.map(p => [p.timestampNs, p.interfaceIndex, p.data.length, p.originalLength])).toEqual([
      [1_700_000_000_123_456_000n, 0, 60, 60],
      [1_700_000_001_123_456_789n, 1, 61, 61],
      [0n, 0, 64, 100],
      [1_700_000_002_000_000_001n, 1, 62, 62],
      [1_699_999_998_000_000_000n, 2, 63, 63],
    ]);
    expect(capture.packets.map(p => [...p.data])).toEqual([60, 61, 64, 62, 63].map((n, i) => frame(n, i + 1)));
  });

  test('written and read again it is the same capture', () => {
    const capture = readCapture(richPcapng());
    expect(readCapture(writeCapture(capture))).toEqual(capture);
  });

  test('a file of headers, interfaces and enhanced and simple packets comes out byte for byte', () => {
    for (const little of [true, false]) {
      const end = option(little, 0, []);
      const file = bytesOf(
        sectionHeader(little, [...option(little, 4, [...new TextEncoder().encode('dumper')]), ...end]),
        interfaceBlock(little, 68, [...option(little, 9, [6]), ...option(little, 2, [0x65]), ...end]),
        enhancedPacket(little, 0, 5n, frame(33, 1), [...option(little, 2, [1, 0, 0, 0]), ...end]),
        simplePacket(little, 70, frame(68, 1)),
      );
      expect(writeCapture(readCapture(file))).toEqual(file);
    }
  });

  test.each([0, 1, 3, 6, 9, 0x80 | 1, 0x80 | 10, 0x80 | 20, 0x80 | 29])(
    'resolution code %i: every tick survives reading and writing',
    code => {
      const ticks = [0n, 1n, 2n, 3n, 999n, 1000n, 123_456_789n, (1n << 33n) + 7n, (1n << 40n) - 1n];
      const file = bytesOf(
        sectionHeader(true),
        interfaceBlock(true, 0, [...option(true, 9, [code]), ...option(true, 0, [])]),
        ...ticks.map(t => enhancedPacket(true, 0, t, frame(20, 1))),
      );
      expect(writeCapture(readCapture(file))).toEqual(file);
    },
  );

  test('a simple packet that no longer fits the block becomes an enhanced one', () => {
    const capture = readCapture(
      bytesOf(sectionHeader(true), interfaceBlock(true, 64), simplePacket(true, 70, frame(64, 1))),
    );
    const shorter = { ...capture, packets: [{ ...capture.packets[0]!, data: Uint8Array.of(1), timestampNs: 1000n }] };
    expect(readCapture(writeCapture(shorter)).packets).toEqual([
      { timestampNs: 1000n, data: Uint8Array.of(1), originalLength: 70, interfaceIndex: 0 },
    ]);
  });

  test('a section without packets, a file without interfaces', () => {
    const file = bytesOf(sectionHeader(true));
    expect(readCapture(file)).toMatchObject({ interfaces: [], packets: [] });
    expect(writeCapture(readCapture(file))).toEqual(file);
  });

  test('made from nothing but the required fields', () => {
    const made: Capture = {
      format: 'pcapng',
      byteOrder: 'little',
      interfaces: [{ linkType: 1, snapLength: 0, ticksPerSecond: 1_000_000_000n }],
      packets: [{ timestampNs: 7n, data: Uint8Array.from(frame(20, 1)), originalLength: 20, interfaceIndex: 0 }],
    };
    expect(writeCapture(made)).toEqual(
      bytesOf(
        sectionHeader(true),
        interfaceBlock(true, 0, [...option(true, 9, [9]), ...option(true, 0, [])]),
        enhancedPacket(true, 0, 7n, frame(20, 1)),
      ),
    );
  });
});

describe('what is refused, and where', () => {
  const good = pcap(true, false, [{ seconds: 1, fraction: 2, data: frame(60, 1) }]);
  const start = [...sectionHeader(true), ...interfaceBlock(true)];
  const patched = (file: Uint8Array, offset: number, ...bytes: number[]): Uint8Array => {
    const copy = file.slice();
    copy.set(bytes, offset);
    return copy;
  };
  const packet = bytesOf(start, enhancedPacket(true, 0, 1n, frame(60, 1)));
  const cases: [what: string, file: Uint8Array, code: string, offset: number][] = [
    ['an empty file', new Uint8Array(), 'truncated', 0],
    ['text', new TextEncoder().encode('hello, world'), 'bad_magic', 0],
    ['a compressed file', Uint8Array.of(0x1f, 0x8b, 8, 0), 'bad_magic', 0],
    ['half a pcap header', good.subarray(0, 20), 'truncated', 20],
    ['pcap 3.0', patched(good, 4, 3, 0, 0, 0), 'unsupported_version', 4],
    ['half a record header', good.subarray(0, 30), 'truncated', 24],
    ['a record longer than the file', good.subarray(0, 90), 'truncated', 24],
    ['an absurd captured length', patched(good, 32, 0xff, 0xff, 0xff, 0xff), 'bad_length', 24],
    ['half a section header', packet.subarray(0, 10), 'truncated', 0],
    ['a wrong byte-order magic', patched(packet, 8, 0), 'bad_magic', 8],
    ['pcapng 2.0', patched(packet, 12, 2), 'unsupported_version', 12],
    ['a block length below 12', patched(packet, 32, 8), 'bad_length', 28],
    ['a block length that is no multiple of 4', patched(packet, 32, 21), 'bad_length', 28],
    ['lengths that differ', patched(packet, 28 + 16, 24), 'bad_length', 28],
    ['a block longer than the file', packet.subarray(0, packet.length - 4), 'truncated', 48],
    ['an interface block without content', bytesOf(sectionHeader(true), block(true, 1, [])), 'bad_length', 28],
    [
      'a packet without an interface',
      bytesOf(sectionHeader(true), enhancedPacket(true, 0, 1n, [1])),
      'bad_interface',
      28,
    ],
    [
      'a simple packet without an interface',
      bytesOf(sectionHeader(true), simplePacket(true, 1, [1])),
      'bad_interface',
      28,
    ],
    [
      'an interface of the section before',
      bytesOf(start, sectionHeader(true), obsoletePacket(true, 0, 1n, [1])),
      'bad_interface',
      76,
    ],
    ['a packet longer than its block', patched(packet, 48 + 20, 65), 'bad_length', 48],
    ['a simple packet longer than its block', bytesOf(start, simplePacket(true, 9, [1])), 'bad_length', 48],
    [
      'an option longer than its block',
      bytesOf(sectionHeader(true), interfaceBlock(true, 0, [9, 0, 5, 0, 1, 0, 0, 0])),
      'bad_option',
      44,
    ],
    [
      'a resolution of two bytes',
      bytesOf(sectionHeader(true), interfaceBlock(true, 0, option(true, 9, [6, 6]))),
      'bad_option',
      28,
    ],
    [
      'a time offset of four bytes',
      bytesOf(sectionHeader(true), interfaceBlock(true, 0, option(true, 14, [0, 0, 0, 0]))),
      'bad_option',
      28,
    ],
  ];
  test.each(cases)('%s', (_, file, code, offset) => {
    const error = problem(() => readCapture(file));
    expect([error.code, error.details.offset]).toEqual([code, offset]);
    expect(error.message).toMatch(/[;:] /);
  });

  test('cut anywhere, a file is truncated or ends between records', () => {
    for (const file of [good, packet, richPcapng()]) {
      const whole = readCapture(file).packets.length;
      for (let length = 0; length < file.length; length++) {
        try {
          expect(readCapture(file.subarray(0, length)).packets.length).toBeLessThanOrEqual(whole);
        } catch (error) {
          expect((error as CaptureError).code).toBe('truncated');
        }
      }
    }
  });

  test('what a format cannot hold is refused on writing', () => {
    const [old, next] = [readCapture(good), readCapture(packet)];
    const withPacket = (capture: Capture, change: object): Capture => ({
      ...capture,
      packets: [{ ...capture.packets[0]!, ...change }],
    });
    const withInterface = (capture: Capture, change: object): Capture => ({
      ...capture,
      interfaces: [{ ...capture.interfaces[0]!, ...change }],
    });
    const refused: [Capture, string][] = [
      [withPacket(old, { timestampNs: -1n }), 'unrepresentable'],
      [withPacket(old, { timestampNs: 1n << 63n }), 'unrepresentable'],
      [withPacket(old, { originalLength: -1 }), 'unrepresentable'],
      [withPacket(old, { originalLength: 1.5 }), 'unrepresentable'],
      [withPacket(old, { interfaceIndex: 1 }), 'bad_interface'],
      [withInterface(old, { ticksPerSecond: 1000n }), 'unrepresentable'],
      [{ ...old, interfaces: [] }, 'unrepresentable'],
      [{ ...old, interfaces: [old.interfaces[0]!, old.interfaces[0]!] }, 'unrepresentable'],
      [withPacket(next, { interfaceIndex: -1 }), 'bad_interface'],
      [withPacket(next, { timestampNs: -1n }), 'unrepresentable'],
      [withInterface(next, { ticksPerSecond: 7n }), 'unrepresentable'],
      [withInterface(next, { ticksPerSecond: 0n }), 'unrepresentable'],
      [withInterface(next, { linkType: 65536 }), 'unrepresentable'],
      [withInterface(next, { snapLength: -1 }), 'unrepresentable'],
      [withInterface(next, { section: 4 }), 'bad_interface'],
      [withInterface(next, { options: [{ code: 0, value: Uint8Array.of(1) }] }), 'unrepresentable'],
      [withPacket(next, { options: [{ code: 1, value: new Uint8Array(65536) }] }), 'unrepresentable'],
      [withInterface(old, { linkType: 0x04000000 }), 'unrepresentable'],
    ];
    for (const [capture, code] of refused) expect(problem(() => writeCapture(capture)).code).toBe(code);
  });
});

describe('20,000 mutations each: a capture or a CaptureError, and what was read can be written', () => {
  const files: [string, Uint8Array][] = [
    [
      'pcap',
      pcap(
        true,
        false,
        [1, 2, 3, 4].map(i => ({ seconds: i, fraction: i, data: frame(10 * i, i) })),
      ),
    ],
    ['pcapng', richPcapng()],
  ];
  test.each(files)('%s', (_, file) => {
    let state = 12345;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return (state >>> 8) % below;
    };
    const interesting = [0, 1, 3, 4, 0x7f, 0x80, 0xfe, 0xff];
    let read = 0;
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      let mutant = file.slice();
      for (let changes = 1 + random(4); changes > 0; changes--) {
        const at = random(mutant.length);
        switch (random(5)) {
          case 0:
            mutant[at] = random(256);
            break;
          case 1:
            mutant[at] = interesting[random(interesting.length)]!;
            break;
          case 2:
            mutant[at]! ^= 1 << random(8);
            break;
          case 3:
            mutant = mutant.slice(0, Math.max(1, at));
            break;
          default:
            mutant.copyWithin(at, random(mutant.length), random(mutant.length));
        }
      }
      try {
        const capture = readCapture(mutant);
        read++;
        const again = readCapture(writeCapture(capture));
        expect(again.packets.length).toBe(capture.packets.length);
        for (const [i, p] of capture.packets.entries()) {
          const q = again.packets[i]!;
          if (Buffer.compare(p.data, q.data) !== 0 || p.originalLength !== q.originalLength)
            throw new Error(`packet ${i}`);
        }
      } catch (error) {
        if (!(error instanceof CaptureError)) throw error;
        refused++;
      }
    }
    expect(read).toBeGreaterThan(1000);
    expect(refused).toBeGreaterThan(1000);
  });
});
