/**
 * The block format: sections of blocks `type, length, body, length`, padded to 4 bytes.
 *
 * A section header fixes the byte order; interfaces are numbered anew in each section. Here interfaces are numbered
 * over the whole file, and an interface knows its section, so that a packet needs one index only.
 */
import type { ByteOrder, Capture, CaptureInterface, CaptureOption, CapturePacket, CaptureSection } from './capture.ts';
import { checkInterface, checkPacket, nanosecondsOf, PACKET_BYTES_LIMIT, ticksOf } from './common.ts';
import { CaptureError } from './errors.ts';

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

const OPTION_END = 0;
const OPTION_RESOLUTION = 9;
const OPTION_TIME_OFFSET = 14;

const BLOCK_OVERHEAD = 12;
const DEFAULT_TICKS = 1_000_000n;

/** `bytes` has at least 4 bytes. The type of a section header reads the same in both byte orders. */
export function isPcapng(bytes: Uint8Array): boolean {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) === SECTION_HEADER;
}

/** One block: `offset` in the file, body from `start` to `end`. */
interface Block {
  readonly type: number;
  readonly offset: number;
  readonly start: number;
  readonly end: number;
}

/** A file for which `isPcapng` holds. */
export function readPcapng(bytes: Uint8Array): Capture {
  return new Reader(bytes).read();
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #sections: CaptureSection[] = [];
  readonly #interfaces: CaptureInterface[] = [];
  readonly #packets: CapturePacket[] = [];
  /** Number of interfaces before this section. */
  #firstInterface = 0;
  #little = true;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  read(): Capture {
    for (let offset = 0; offset < this.#bytes.length; ) {
      const block = this.#block(offset);
      this.#readBlock(block);
      offset = block.end + 4;
    }
    return {
      format: 'pcapng',
      byteOrder: this.#sections[0]!.byteOrder,
      interfaces: this.#interfaces,
      packets: this.#packets,
      sections: this.#sections,
    };
  }

  #block(offset: number): Block {
    const size = this.#bytes.length;
    if (offset + BLOCK_OVERHEAD > size) throw this.#truncated(offset, BLOCK_OVERHEAD);
    const type = this.#view.getUint32(offset, this.#little);
    if (type === SECTION_HEADER) this.#readByteOrder(offset);
    const length = this.#view.getUint32(offset + 4, this.#little);
    if (length < BLOCK_OVERHEAD || length % 4 !== 0) {
      throw new CaptureError(
        'bad_length',
        `the block at offset ${offset} has length ${length}; expected a multiple of 4 and at least ${BLOCK_OVERHEAD}; the file is damaged from there on`,
        { offset, length },
      );
    }
    if (offset + length > size) throw this.#truncated(offset, length);
    const end = offset + length - 4;
    const repeated = this.#view.getUint32(end, this.#little);
    if (repeated !== length) {
      throw new CaptureError(
        'bad_length',
        `the block at offset ${offset} begins with length ${length} but ends with ${repeated} at offset ${end}; the file is damaged there`,
        { offset, length, repeated },
      );
    }
    return { type, offset, start: offset + 8, end };
  }

  #truncated(offset: number, length: number): CaptureError {
    return new CaptureError(
      'truncated',
      `the block at offset ${offset} needs ${length} bytes, the file ends at ${this.#bytes.length}; cut the file at that offset to use the ${this.#packets.length} packets before it`,
      { offset, length, packets: this.#packets.length },
    );
  }

  #readByteOrder(offset: number): void {
    const magic = this.#view.getUint32(offset + 8, true);
    if (magic === BYTE_ORDER_MAGIC) this.#little = true;
    else if (this.#view.getUint32(offset + 8, false) === BYTE_ORDER_MAGIC) this.#little = false;
    else {
      throw new CaptureError(
        'bad_magic',
        `the section header at offset ${offset} has byte-order magic 0x${magic.toString(16)}; expected 0x1a2b3c4d in either byte order; the file is damaged there`,
        { offset: offset + 8, magic },
      );
    }
  }

  #readBlock(block: Block): void {
    // All other types are not about packets, or not known: the format asks readers to skip them.
    if (block.type === SECTION_HEADER) this.#readSection(block);
    else if (block.type === INTERFACE_DESCRIPTION) this.#readInterface(block);
    else if (block.type === ENHANCED_PACKET) this.#readEnhancedPacket(block);
    else if (block.type === SIMPLE_PACKET) this.#readSimplePacket(block);
    else if (block.type === PACKET) this.#readObsoletePacket(block);
  }

  #needBody(block: Block, bytes: number): void {
    if (block.end - block.start >= bytes) return;
    throw new CaptureError(
      'bad_length',
      `the block of type ${block.type} at offset ${block.offset} has ${block.end - block.start} bytes of content, its fixed part alone has ${bytes}; the file is damaged there`,
      { offset: block.offset, type: block.type, content: block.end - block.start, needed: bytes },
    );
  }

  #readSection(block: Block): void {
    this.#needBody(block, 16);
    const major = this.#view.getUint16(block.start + 4, this.#little);
    const minor = this.#view.getUint16(block.start + 6, this.#little);
    // Version 1.2 was written by mistake for 1.0 and means the same.
    if (major !== 1 || (minor !== 0 && minor !== 2)) {
      throw new CaptureError(
        'unsupported_version',
        `the section at offset ${block.offset} has pcapng version ${major}.${minor}, this reader knows 1.0; convert the file with "editcap -F pcapng"`,
        { offset: block.start + 4, versionMajor: major, versionMinor: minor },
      );
    }
    this.#firstInterface = this.#interfaces.length;
    this.#sections.push({
      byteOrder: this.#little ? 'little' : 'big',
      versionMinor: minor,
      options: this.#options(block, block.start + 16),
    });
  }

  #readInterface(block: Block): void {
    this.#needBody(block, 8);
    const options = this.#options(block, block.start + 8);
    this.#interfaces.push({
      linkType: this.#view.getUint16(block.start, this.#little),
      snapLength: this.#view.getUint32(block.start + 4, this.#little),
      ticksPerSecond: this.#resolution(block, options),
      timestampOffset: this.#timestampOffset(block, options),
      section: this.#sections.length - 1,
      options,
    });
  }

  #resolution(block: Block, options: readonly CaptureOption[]): bigint {
    const value = sizedOption(block, options, OPTION_RESOLUTION, 'if_tsresol', 1);
    if (value === undefined) return DEFAULT_TICKS;
    const exponent = BigInt(value[0]! & 0x7f);
    return value[0]! & 0x80 ? 2n ** exponent : 10n ** exponent;
  }

  #timestampOffset(block: Block, options: readonly CaptureOption[]): bigint {
    const value = sizedOption(block, options, OPTION_TIME_OFFSET, 'if_tsoffset', 8);
    if (value === undefined) return 0n;
    return new DataView(value.buffer, value.byteOffset).getBigInt64(0, this.#little);
  }

  #readEnhancedPacket(block: Block): void {
    this.#needBody(block, 20);
    this.#readTimedPacket(block, this.#view.getUint32(block.start, this.#little));
  }

  /** The obsolete packet block: as the enhanced one, but with a drop count in half of the interface number. */
  #readObsoletePacket(block: Block): void {
    this.#needBody(block, 20);
    this.#readTimedPacket(block, this.#view.getUint16(block.start, this.#little));
  }

  #readTimedPacket(block: Block, interfaceNumber: number): void {
    const { start } = block;
    const interfaceIndex = this.#interfaceIndex(block, interfaceNumber);
    const { ticksPerSecond, timestampOffset } = this.#interfaces[interfaceIndex]!;
    const high = this.#view.getUint32(start + 4, this.#little);
    const low = this.#view.getUint32(start + 8, this.#little);
    const ticks = (BigInt(high) << 32n) | BigInt(low);
    const capturedLength = this.#view.getUint32(start + 12, this.#little);
    const padded = Math.ceil(capturedLength / 4) * 4;
    if (start + 20 + padded > block.end) throw this.#packetTooLong(block, capturedLength);
    const options = this.#options(block, start + 20 + padded);
    this.#push(block, {
      timestampNs: nanosecondsOf(ticks, ticksPerSecond, timestampOffset ?? 0n),
      data: this.#bytes.subarray(start + 20, start + 20 + capturedLength),
      originalLength: this.#view.getUint32(start + 16, this.#little),
      interfaceIndex,
      ...(options.length > 0 ? { options } : {}),
    });
  }

  #readSimplePacket(block: Block): void {
    this.#needBody(block, 4);
    const interfaceIndex = this.#interfaceIndex(block, 0);
    const { snapLength } = this.#interfaces[interfaceIndex]!;
    const originalLength = this.#view.getUint32(block.start, this.#little);
    const capturedLength = snapLength === 0 ? originalLength : Math.min(snapLength, originalLength);
    if (block.start + 4 + capturedLength > block.end) throw this.#packetTooLong(block, capturedLength);
    this.#push(block, {
      timestampNs: 0n,
      data: this.#bytes.subarray(block.start + 4, block.start + 4 + capturedLength),
      originalLength,
      interfaceIndex,
      simple: true,
    });
  }

  #push(block: Block, packet: CapturePacket): void {
    if (packet.data.length > PACKET_BYTES_LIMIT) throw this.#packetTooLong(block, packet.data.length);
    this.#packets.push(packet);
  }

  #packetTooLong(block: Block, capturedLength: number): CaptureError {
    return new CaptureError(
      'bad_length',
      `the packet block at offset ${block.offset} (packet ${this.#packets.length + 1}) claims ${capturedLength} captured bytes, which its ${block.end - block.start} bytes of content can't hold or no packet has; the file is damaged there`,
      { offset: block.offset, packet: this.#packets.length + 1, capturedLength },
    );
  }

  #interfaceIndex(block: Block, number: number): number {
    const index = this.#firstInterface + number;
    if (index < this.#interfaces.length) return index;
    throw new CaptureError(
      'bad_interface',
      `the packet block at offset ${block.offset} is of interface ${number}, its section has described ${this.#interfaces.length - this.#firstInterface} before it; the file is damaged or its interface blocks were removed`,
      { offset: block.offset, interface: number, described: this.#interfaces.length - this.#firstInterface },
    );
  }

  /** The options from `from` to the end of the block, without the end mark. */
  #options(block: Block, from: number): CaptureOption[] {
    const options: CaptureOption[] = [];
    for (let offset = from; offset + 4 <= block.end; ) {
      const code = this.#view.getUint16(offset, this.#little);
      const length = this.#view.getUint16(offset + 2, this.#little);
      if (code === OPTION_END) break;
      const start = offset + 4;
      if (start + length > block.end) {
        throw new CaptureError(
          'bad_option',
          `option ${code} at offset ${offset} has ${length} bytes, but its block ends at ${block.end}; the file is damaged there`,
          { offset, option: code, length, blockEnd: block.end },
        );
      }
      options.push({ code, value: this.#bytes.subarray(start, start + length) });
      offset = start + Math.ceil(length / 4) * 4;
    }
    return options;
  }
}

/** The value of an option of fixed size, undefined if it is not there. */
function sizedOption(
  block: Block,
  options: readonly CaptureOption[],
  code: number,
  name: string,
  size: number,
): Uint8Array | undefined {
  const value = options.find(option => option.code === code)?.value;
  if (value === undefined || value.length === size) return value;
  throw new CaptureError(
    'bad_option',
    `option ${name} of the interface at offset ${block.offset} has ${value.length} bytes, expected ${size}; the file is damaged there`,
    { offset: block.offset, option: code, length: value.length, expected: size },
  );
}

/** @throws CaptureError (unrepresentable, bad_interface). */
export function writePcapng(capture: Capture): Uint8Array {
  const sections = capture.sections ?? [{ byteOrder: capture.byteOrder, versionMinor: 0, options: [] }];
  // Number of each interface within its section.
  const numbers: number[] = [];
  const counts = sections.map(() => 0);
  for (const [i, iface] of capture.interfaces.entries()) {
    const section = iface.section ?? 0;
    if (sections[section] === undefined) {
      throw new CaptureError(
        'bad_interface',
        `interface ${i} is in section ${section}, the capture has ${sections.length}; give it an index into \`sections\``,
        { interface: i, section, sections: sections.length },
      );
    }
    checkInterface(iface, i, 0xffff);
    numbers.push(counts[section]!++);
  }
  const interfacesOf: CaptureInterface[][] = sections.map(() => []);
  for (const iface of capture.interfaces) interfacesOf[iface.section ?? 0]!.push(iface);
  const packetsOf: number[][] = sections.map(() => []);
  for (const [i, packet] of capture.packets.entries()) {
    checkPacket(packet, i, capture.interfaces.length);
    packetsOf[capture.interfaces[packet.interfaceIndex]!.section ?? 0]!.push(i);
  }
  const blocks = new BlockWriter();
  for (const [s, section] of sections.entries()) {
    blocks.order(section.byteOrder);
    writeSection(blocks, section);
    for (const iface of interfacesOf[s]!) writeInterface(blocks, iface);
    for (const i of packetsOf[s]!) {
      const packet = capture.packets[i]!;
      writePacket(blocks, packet, i, capture.interfaces[packet.interfaceIndex]!, numbers[packet.interfaceIndex]!);
    }
  }
  return blocks.finish();
}

function writeSection(blocks: BlockWriter, section: CaptureSection): void {
  blocks.begin(SECTION_HEADER, 16 + optionsBytes(section.options));
  blocks.u32(BYTE_ORDER_MAGIC);
  blocks.u16(1);
  blocks.u16(section.versionMinor);
  // The length of the section is left open, as the format allows.
  blocks.u32(0xffffffff);
  blocks.u32(0xffffffff);
  blocks.options(section.options);
  blocks.end();
}

function writeInterface(blocks: BlockWriter, iface: CaptureInterface): void {
  const options = [...(iface.options ?? [])];
  const place = (code: number, value: Uint8Array, needed: boolean): void => {
    const at = options.findIndex(option => option.code === code);
    if (at >= 0) options[at] = { code, value };
    else if (needed) options.push({ code, value });
  };
  place(OPTION_RESOLUTION, Uint8Array.of(resolutionCode(iface.ticksPerSecond)), iface.ticksPerSecond !== DEFAULT_TICKS);
  const offset = iface.timestampOffset ?? 0n;
  place(OPTION_TIME_OFFSET, blocks.int64(offset), offset !== 0n);
  blocks.begin(INTERFACE_DESCRIPTION, 8 + optionsBytes(options));
  blocks.u16(iface.linkType);
  blocks.u16(0);
  blocks.u32(iface.snapLength);
  blocks.options(options);
  blocks.end();
}

/** Codes of `if_tsresol` by ticks per second. */
const RESOLUTION_CODES = new Map<bigint, number>(
  Array.from({ length: 128 }, (_, exponent) => [
    [2n ** BigInt(exponent), 0x80 | exponent] as const,
    [10n ** BigInt(exponent), exponent] as const,
  ]).flat(),
);

function resolutionCode(ticksPerSecond: bigint): number {
  const code = RESOLUTION_CODES.get(ticksPerSecond);
  if (code !== undefined) return code;
  throw new CaptureError(
    'unrepresentable',
    `a pcapng interface counts a power of 10 or of 2 ticks per second, not ${ticksPerSecond}; change the resolution`,
    { ticksPerSecond },
  );
}

function writePacket(
  blocks: BlockWriter,
  packet: CapturePacket,
  index: number,
  iface: CaptureInterface,
  number: number,
): void {
  const { data, originalLength } = packet;
  const padded = Math.ceil(data.length / 4) * 4;
  const kept = iface.snapLength === 0 ? originalLength : Math.min(iface.snapLength, originalLength);
  // A simple block says nothing of time, interface and captured length: it only fits where those follow from the rest.
  if (packet.simple && packet.timestampNs === 0n && number === 0 && data.length === kept && !packet.options?.length) {
    blocks.begin(SIMPLE_PACKET, 4 + padded);
    blocks.u32(originalLength);
    blocks.padded(data);
    blocks.end();
    return;
  }
  const options = packet.options ?? [];
  const ticks = ticksOf(packet, index, iface);
  blocks.begin(ENHANCED_PACKET, 20 + padded + optionsBytes(options));
  blocks.u32(number);
  blocks.u32(Number(ticks >> 32n));
  blocks.u32(Number(ticks & 0xffffffffn));
  blocks.u32(data.length);
  blocks.u32(originalLength);
  blocks.padded(data);
  blocks.options(options);
  blocks.end();
}

/** Size of an option list with its end mark; nothing for an empty list. */
function optionsBytes(options: readonly CaptureOption[]): number {
  if (options.length === 0) return 0;
  let size = 4;
  for (const { code, value } of options) {
    if (!Number.isInteger(code) || code <= 0 || code > 0xffff || value.length > 0xffff) {
      throw new CaptureError(
        'unrepresentable',
        `option ${code} has ${value.length} bytes; expected a code from 1 to 65535 and at most 65535 bytes`,
        { option: code, length: value.length },
      );
    }
    size += 4 + Math.ceil(value.length / 4) * 4;
  }
  return size;
}

/** Grows by doubling; a block is begun with the size of its content. */
class BlockWriter {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #offset = 0;
  #length = 0;
  #little = true;

  order(byteOrder: ByteOrder): void {
    this.#little = byteOrder === 'little';
  }

  begin(type: number, content: number): void {
    this.#length = BLOCK_OVERHEAD + content;
    const needed = this.#offset + this.#length;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.#offset));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.u32(type);
    this.u32(this.#length);
  }

  end(): void {
    this.u32(this.#length);
  }

  u16(value: number): void {
    this.#view.setUint16(this.#offset, value, this.#little);
    this.#offset += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.#offset, value, this.#little);
    this.#offset += 4;
  }

  int64(value: bigint): Uint8Array {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, value, this.#little);
    return bytes;
  }

  padded(data: Uint8Array): void {
    this.#bytes.set(data, this.#offset);
    this.#offset += Math.ceil(data.length / 4) * 4;
  }

  options(options: readonly CaptureOption[]): void {
    if (options.length === 0) return;
    for (const { code, value } of options) {
      this.u16(code);
      this.u16(value.length);
      this.padded(value);
    }
    this.u32(OPTION_END);
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#offset);
  }
}
