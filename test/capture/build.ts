/** Captures made byte by byte, independently of the writers. */

export type Bytes = readonly number[];

class Builder {
  readonly #little: boolean;
  readonly bytes: number[] = [];

  constructor(little: boolean) {
    this.#little = little;
  }

  number(value: bigint | number, size: number): this {
    const digits = Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
    this.bytes.push(...(this.#little ? digits : digits.reverse()));
    return this;
  }

  u16(value: number): this {
    return this.number(value, 2);
  }

  u32(...values: number[]): this {
    for (const value of values) this.number(value, 4);
    return this;
  }

  raw(bytes: Iterable<number>): this {
    this.bytes.push(...bytes);
    return this;
  }

  padded(bytes: Iterable<number>): this {
    this.raw(bytes);
    while (this.bytes.length % 4 !== 0) this.bytes.push(0);
    return this;
  }
}

/** An Ethernet frame of `length` bytes that differs by `seed`. */
export function frame(length: number, seed: number): number[] {
  const bytes = Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
  // An ethertype for experiments.
  if (length >= 14) [bytes[12], bytes[13]] = [0x88, 0xb5];
  return bytes;
}

export interface Record {
  readonly seconds: number;
  readonly fraction: number;
  readonly data: Bytes;
  readonly originalLength?: number;
}

export function pcap(little: boolean, nanoseconds: boolean, records: readonly Record[], linkType = 1): Uint8Array {
  const file = new Builder(little);
  file
    .u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4)
    .u16(2)
    .u16(4)
    .u32(0, 0, 262144, linkType);
  for (const { seconds, fraction, data, originalLength } of records) {
    file.u32(seconds, fraction, data.length, originalLength ?? data.length).raw(data);
  }
  return Uint8Array.from(file.bytes);
}

export function option(little: boolean, code: number, value: Bytes): number[] {
  return new Builder(little).u16(code).u16(value.length).padded(value).bytes;
}

export function block(little: boolean, type: number, body: Bytes): number[] {
  const length = body.length + 12;
  return new Builder(little).u32(type, length).raw(body).u32(length).bytes;
}

export function sectionHeader(little: boolean, options: Bytes = []): number[] {
  const body = new Builder(little).u32(0x1a2b3c4d).u16(1).u16(0).number(-1n, 8).raw(options);
  return block(little, 0x0a0d0d0a, body.bytes);
}

export function interfaceBlock(little: boolean, snapLength = 0, options: Bytes = [], linkType = 1): number[] {
  return block(little, 1, new Builder(little).u16(linkType).u16(0).u32(snapLength).raw(options).bytes);
}

export function enhancedPacket(
  little: boolean,
  iface: number,
  ticks: bigint,
  data: Bytes,
  options: Bytes = [],
): number[] {
  const body = new Builder(little)
    .u32(iface, Number(ticks >> 32n), Number(ticks & 0xffffffffn), data.length, data.length)
    .padded(data)
    .raw(options);
  return block(little, 6, body.bytes);
}

export function obsoletePacket(little: boolean, iface: number, ticks: bigint, data: Bytes): number[] {
  const body = new Builder(little)
    .u16(iface)
    .u16(3)
    .u32(Number(ticks >> 32n), Number(ticks & 0xffffffffn), data.length, data.length)
    .padded(data);
  return block(little, 2, body.bytes);
}

export function simplePacket(little: boolean, originalLength: number, data: Bytes): number[] {
  return block(little, 3, new Builder(little).u32(originalLength).padded(data).bytes);
}

/** A file with all that the reader knows, in both byte orders. */
export function richPcapng(): Uint8Array {
  const comment = (little: boolean, text: string): number[] => [
    ...option(little, 1, [...new TextEncoder().encode(text)]),
    ...option(little, 0, []),
  ];
  return Uint8Array.from([
    ...sectionHeader(true, comment(true, 'first')),
    ...interfaceBlock(true, 64, option(true, 2, [0x65, 0x74, 0x68, 0x30])),
    ...interfaceBlock(true, 0, [...option(true, 9, [9]), ...option(true, 0, [])]),
    ...enhancedPacket(true, 0, 1_700_000_000_123_456n, frame(60, 1)),
    ...enhancedPacket(true, 1, 1_700_000_001_123_456_789n, frame(61, 2), comment(true, 'odd length')),
    ...simplePacket(true, 100, frame(64, 3)),
    ...obsoletePacket(true, 1, 1_700_000_002_000_000_001n, frame(62, 4)),
    ...block(true, 5, new Builder(true).u32(0, 0, 0).bytes),
    ...block(true, 0x0bad, [1, 2, 3, 4]),
    ...sectionHeader(false),
    ...interfaceBlock(false, 0, [
      ...option(false, 9, [0x80 | 20]),
      ...option(false, 14, new Builder(false).number(-5n, 8).bytes),
    ]),
    ...enhancedPacket(false, 0, 1_700_000_003n << 20n, frame(63, 5)),
  ]);
}
