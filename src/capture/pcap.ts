/** The classic format: a 24-byte file header, then records of a 16-byte header and the packet. */
import type { Capture, CapturePacket } from './capture.ts';
import { checkInterface, checkPacket, PACKET_BYTES_LIMIT, ticksOf } from './common.ts';
import { CaptureError } from './errors.ts';

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
const LINK_TYPE_BITS = 0x03ffffff;
const MICROSECOND_TICKS = 1_000_000n;
const NANOSECOND_TICKS = 1_000_000_000n;

function magicOf(bytes: Uint8Array, littleEndian: boolean): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, littleEndian);
}

/** `bytes` has at least 4 bytes. */
export function isPcap(bytes: Uint8Array): boolean {
  return [true, false].some(order => {
    const magic = magicOf(bytes, order);
    return magic === MAGIC_MICROSECONDS || magic === MAGIC_NANOSECONDS;
  });
}

/** A file for which `isPcap` holds. */
export function readPcap(bytes: Uint8Array): Capture {
  if (bytes.length < FILE_HEADER_BYTES) {
    throw new CaptureError(
      'truncated',
      `a pcap file has a header of ${FILE_HEADER_BYTES} bytes, this one ends after ${bytes.length}; check that it was copied completely`,
      { offset: bytes.length, length: bytes.length },
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const first = magicOf(bytes, true);
  const little = first === MAGIC_MICROSECONDS || first === MAGIC_NANOSECONDS;
  const nanoseconds = magicOf(bytes, little) === MAGIC_NANOSECONDS;
  const versionMajor = view.getUint16(4, little);
  const versionMinor = view.getUint16(6, little);
  if (versionMajor !== 2 || versionMinor < 3 || versionMinor > 4) {
    throw new CaptureError(
      'unsupported_version',
      `expected pcap version 2.3 or 2.4 at offset 4, found ${versionMajor}.${versionMinor}; convert the file with "editcap -F pcap"`,
      { offset: 4, versionMajor, versionMinor },
    );
  }
  const link = view.getUint32(20, little);
  const packets: CapturePacket[] = [];
  let offset = FILE_HEADER_BYTES;
  while (offset < bytes.length) {
    if (offset + RECORD_HEADER_BYTES > bytes.length)
      throw truncatedRecord(offset, packets.length, bytes.length, 'header');
    const capturedLength = view.getUint32(offset + 8, little);
    if (capturedLength > PACKET_BYTES_LIMIT) {
      throw new CaptureError(
        'bad_length',
        `the record at offset ${offset} (packet ${packets.length + 1}) claims ${capturedLength} captured bytes, more than any packet has; the file is damaged from there on`,
        { offset, packet: packets.length + 1, capturedLength },
      );
    }
    const start = offset + RECORD_HEADER_BYTES;
    if (start + capturedLength > bytes.length)
      throw truncatedRecord(offset, packets.length, bytes.length, 'packet', capturedLength);
    const seconds = view.getUint32(offset, little);
    const fraction = view.getUint32(offset + 4, little);
    const secondsInFraction = Math.floor(fraction / (nanoseconds ? 1e9 : 1e6));
    packets.push({
      timestampNs: BigInt(seconds) * NANOSECOND_TICKS + BigInt(nanoseconds ? fraction : fraction * 1000),
      data: bytes.subarray(start, start + capturedLength),
      originalLength: view.getUint32(offset + 12, little),
      interfaceIndex: 0,
      ...(secondsInFraction > 0 ? { secondsInFraction } : {}),
    });
    offset = start + capturedLength;
  }
  return {
    format: 'pcap',
    byteOrder: little ? 'little' : 'big',
    interfaces: [
      {
        linkType: link & LINK_TYPE_BITS,
        snapLength: view.getUint32(16, little),
        ticksPerSecond: nanoseconds ? NANOSECOND_TICKS : MICROSECOND_TICKS,
      },
    ],
    packets,
    pcapHeader: {
      versionMajor,
      versionMinor,
      timeZone: view.getInt32(8, little),
      accuracy: view.getUint32(12, little),
      linkTypeFlags: link >>> 26,
    },
  };
}

function truncatedRecord(
  offset: number,
  before: number,
  length: number,
  part: string,
  expected?: number,
): CaptureError {
  const claim = expected === undefined ? '' : ` of ${expected} bytes`;
  return new CaptureError(
    'truncated',
    `the file ends at ${length}, within the ${part}${claim} of the record at offset ${offset} (packet ${before + 1}); cut the file at that offset to use the ${before} packets before it`,
    { offset, packet: before + 1, length },
  );
}

/** @throws CaptureError (unrepresentable, bad_interface). */
export function writePcap(capture: Capture): Uint8Array {
  const iface = capture.interfaces[0];
  if (iface === undefined || capture.interfaces.length !== 1) {
    throw new CaptureError(
      'unrepresentable',
      `a pcap file has exactly one interface, this capture has ${capture.interfaces.length}; write it as pcapng`,
      { interfaces: capture.interfaces.length },
    );
  }
  if (iface.ticksPerSecond !== MICROSECOND_TICKS && iface.ticksPerSecond !== NANOSECOND_TICKS) {
    throw new CaptureError(
      'unrepresentable',
      `a pcap file counts 10^6 or 10^9 ticks per second, not ${iface.ticksPerSecond}; write the capture as pcapng`,
      { ticksPerSecond: iface.ticksPerSecond },
    );
  }
  checkInterface(iface, 0, LINK_TYPE_BITS);
  const header = capture.pcapHeader;
  const little = capture.byteOrder === 'little';
  const nanoseconds = iface.ticksPerSecond === NANOSECOND_TICKS;
  const size = capture.packets.reduce((sum, { data }) => sum + RECORD_HEADER_BYTES + data.length, FILE_HEADER_BYTES);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nanoseconds ? MAGIC_NANOSECONDS : MAGIC_MICROSECONDS, little);
  view.setUint16(4, header?.versionMajor ?? 2, little);
  view.setUint16(6, header?.versionMinor ?? 4, little);
  view.setInt32(8, header?.timeZone ?? 0, little);
  view.setUint32(12, header?.accuracy ?? 0, little);
  view.setUint32(16, iface.snapLength, little);
  view.setUint32(20, (iface.linkType | ((header?.linkTypeFlags ?? 0) << 26)) >>> 0, little);
  let offset = FILE_HEADER_BYTES;
  for (const [i, packet] of capture.packets.entries()) {
    checkPacket(packet, i, 1);
    const ticks = ticksOf(packet, i, iface);
    const inFraction = BigInt(packet.secondsInFraction ?? 0);
    const seconds = ticks / iface.ticksPerSecond - inFraction;
    const fraction = (ticks % iface.ticksPerSecond) + inFraction * iface.ticksPerSecond;
    if (seconds < 0n || seconds > 0xffffffffn || fraction > 0xffffffffn) {
      throw new CaptureError(
        'unrepresentable',
        `packet ${i + 1} has time ${packet.timestampNs} ns, but a pcap file holds 1970 to 2106; write the capture as pcapng`,
        { packet: i + 1, timestampNs: packet.timestampNs },
      );
    }
    view.setUint32(offset, Number(seconds), little);
    view.setUint32(offset + 4, Number(fraction), little);
    view.setUint32(offset + 8, packet.data.length, little);
    view.setUint32(offset + 12, packet.originalLength, little);
    bytes.set(packet.data, offset + RECORD_HEADER_BYTES);
    offset += RECORD_HEADER_BYTES + packet.data.length;
  }
  return bytes;
}
