/**
 * Packet captures in and out: pcap (micro- and nanosecond, both byte orders) and pcapng.
 *
 * Reading keeps what writing needs to give the same format back: a pcap whose packets are unchanged comes out byte for
 * byte, a pcapng keeps its sections, interfaces, time resolutions, options and packets. Blocks of a pcapng that are not about packets (name
 * resolution, statistics, secrets, custom) are dropped.
 *
 * Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
 */
import { check, withForeign } from '../arguments.ts';
import { CaptureError } from './errors.ts';
import { isPcap, readPcap, writePcap } from './pcap.ts';
import { isPcapng, readPcapng, writePcapng } from './pcapng.ts';

export { CaptureError } from './errors.ts';

export type ByteOrder = 'little' | 'big';

/** A pcapng option: code and value without padding; integers in the byte order of the section. */
export interface CaptureOption {
  readonly code: number;
  readonly value: Uint8Array;
}

/** Where packets were captured. A pcap has exactly one. */
export interface CaptureInterface {
  /** LINKTYPE_ value; 1 is Ethernet. */
  readonly linkType: number;
  /** Bytes kept of a packet at most; 0 in a pcapng: no limit. */
  readonly snapLength: number;
  /** Time resolution: a power of 10 or (pcapng only) of 2. A pcap has 10^6 or 10^9. */
  readonly ticksPerSecond: bigint;
  /** pcapng: seconds that timestamps in the file are short of the real time; default 0. */
  readonly timestampOffset?: bigint;
  /** pcapng: index into `Capture.sections`; default 0. */
  readonly section?: number;
  /** pcapng: options of the interface description; on writing, resolution and offset come from the fields above. */
  readonly options?: readonly CaptureOption[];
}

export interface CapturePacket {
  /** Since 1970-01-01 UTC; what the file has beyond nanoseconds is cut off. 0 where the file has no time (simple packet block). */
  readonly timestampNs: bigint;
  /** The bytes captured, a view of the input. */
  readonly data: Uint8Array;
  /** Length on the wire, in bytes. */
  readonly originalLength: number;
  /** Index into `Capture.interfaces`. */
  readonly interfaceIndex: number;
  /** pcapng: options of the packet (comments, flags). */
  readonly options?: readonly CaptureOption[];
  /** pcap: whole seconds that the file has in its fraction field, against the format but seen in the wild; written there again. */
  readonly secondsInFraction?: number;
  /** pcapng: a simple packet block, which has no time; written as one again if it still can be. */
  readonly simple?: true;
}

/** Fields of a pcap file header that mean little but are kept. */
interface PcapHeader {
  readonly versionMajor: number;
  readonly versionMinor: number;
  /** Seconds, int32. */
  readonly timeZone: number;
  readonly accuracy: number;
  /** Upper six bits of the link type field (FCS length). */
  readonly linkTypeFlags: number;
}

export interface CaptureSection {
  readonly byteOrder: ByteOrder;
  readonly versionMinor: number;
  readonly options: readonly CaptureOption[];
}

export interface Capture {
  readonly format: 'pcap' | 'pcapng';
  /** For a pcapng that of the first section, and used on writing only if `sections` is missing. */
  readonly byteOrder: ByteOrder;
  readonly interfaces: readonly CaptureInterface[];
  /** In the order of the file. */
  readonly packets: readonly CapturePacket[];
  /** pcap; default: version 2.4, the rest 0. */
  readonly pcapHeader?: PcapHeader;
  /** pcapng; default: one section without options. Packets are written section by section. */
  readonly sections?: readonly CaptureSection[];
}

/** What a packet lacks would be written as zeros. */
const captureShape = check.record({
  format: check.oneOf('pcap', 'pcapng'),
  byteOrder: check.oneOf('little', 'big'),
  interfaces: check.arrayOf(
    check.record({ linkType: check.number, snapLength: check.number, ticksPerSecond: check.bigint }),
  ),
  packets: check.arrayOf(
    check.record({
      timestampNs: check.bigint,
      data: check.bytes,
      originalLength: check.number,
      interfaceIndex: check.number,
      secondsInFraction: check.optional(check.number),
    }),
  ),
});

/**
 * Reads a whole capture file.
 *
 * @throws CaptureError for everything that isn't a well-formed pcap or pcapng.
 */
export function readCapture(bytes: Uint8Array): Capture {
  check.bytes(bytes, 'bytes');
  if (bytes.length < 4) {
    throw new CaptureError(
      'truncated',
      `a capture begins with a 4-byte magic number, this file has ${bytes.length} bytes; check that it was copied completely`,
      { offset: 0, length: bytes.length },
    );
  }
  if (isPcapng(bytes)) return readPcapng(bytes);
  if (isPcap(bytes)) return readPcap(bytes);
  const magic = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  throw new CaptureError(
    'bad_magic',
    `expected a pcap or pcapng file, but it begins with ${hex(magic)} (as little-endian number); ${adviceFor(magic)}`,
    { offset: 0, magic },
  );
}

function adviceFor(magic: number): string {
  if ((magic & 0xffff) === 0x8b1f || magic === 0xfd2fb528) return 'it is compressed: decompress it first';
  if (magic === 0xa1b2cd34 || magic === 0x34cdb2a1) {
    return 'this is a modified pcap variant: convert it with "editcap -F pcap"';
  }
  return 'if it is a capture of another format, convert it with "editcap -F pcap"';
}

/**
 * The file for `capture`, in its format.
 *
 * @throws CaptureError (unrepresentable, bad_interface) for what the format can't hold.
 */
export function writeCapture(capture: Capture): Uint8Array {
  captureShape(capture, 'capture');
  return withForeign('capture', false, () => (capture.format === 'pcap' ? writePcap(capture) : writePcapng(capture)));
}

function hex(n: number): string {
  return `0x${n.toString(16).padStart(8, '0')}`;
}
