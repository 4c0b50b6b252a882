/** What both formats check and convert. */
import type { CaptureInterface, CapturePacket } from './capture.ts';
import { CaptureError } from './errors.ts';

/** No link layer makes larger packets (the largest, USB and D-Bus, stop at 128 MiB). */
export const PACKET_BYTES_LIMIT = 128 * 1024 * 1024;

const NS_PER_SECOND = 1_000_000_000n;

/** What a file can't hold is refused before it is written. */
export function checkPacket(packet: CapturePacket, index: number, interfaces: number): void {
  const { interfaceIndex, originalLength, data } = packet;
  if (!Number.isInteger(interfaceIndex) || interfaceIndex < 0 || interfaceIndex >= interfaces) {
    throw new CaptureError(
      'bad_interface',
      `packet ${index + 1} is of interface ${interfaceIndex}, the capture has ${interfaces}; give it an index into \`interfaces\``,
      { packet: index + 1, interfaceIndex, interfaces },
    );
  }
  if (!Number.isInteger(originalLength) || originalLength < 0 || originalLength > 0xffffffff) {
    throw new CaptureError(
      'unrepresentable',
      `packet ${index + 1} has original length ${originalLength}; expected an integer from 0 to 2^32 - 1`,
      { packet: index + 1, originalLength },
    );
  }
  if (data.length > PACKET_BYTES_LIMIT) {
    throw new CaptureError(
      'unrepresentable',
      `packet ${index + 1} has ${data.length} bytes, readers accept at most ${PACKET_BYTES_LIMIT}; cut it`,
      { packet: index + 1, length: data.length },
    );
  }
}

export function checkInterface(iface: CaptureInterface, index: number, linkTypeMax: number): void {
  for (const [name, value, max] of [
    ['linkType', iface.linkType, linkTypeMax],
    ['snapLength', iface.snapLength, 0xffffffff],
  ] as const) {
    if (Number.isInteger(value) && value >= 0 && value <= max) continue;
    throw new CaptureError(
      'unrepresentable',
      `interface ${index} has ${name} ${value}; expected an integer from 0 to ${max}`,
      { interface: index, [name]: value },
    );
  }
}

/** A file's time as nanoseconds since 1970, rounded down. */
export function nanosecondsOf(ticks: bigint, ticksPerSecond: bigint, timestampOffset: bigint): bigint {
  return (ticks * NS_PER_SECOND) / ticksPerSecond + timestampOffset * NS_PER_SECOND;
}

/**
 * The inverse of `nanosecondsOf` for every resolution down to nanoseconds.
 *
 * @throws CaptureError (unrepresentable) outside u64.
 */
export function ticksOf(packet: CapturePacket, index: number, iface: CaptureInterface): bigint {
  const since = packet.timestampNs - (iface.timestampOffset ?? 0n) * NS_PER_SECOND;
  const scaled = since * iface.ticksPerSecond;
  // A tick that is not a whole number of nanoseconds was rounded down on reading, so it is the next one up from there.
  const wholeTicks = NS_PER_SECOND % iface.ticksPerSecond === 0n;
  const ticks = (wholeTicks ? scaled : scaled + NS_PER_SECOND - 1n) / NS_PER_SECOND;
  if (since < 0n || ticks > 0xffffffffffffffffn) {
    throw new CaptureError(
      'unrepresentable',
      `packet ${index + 1} has time ${packet.timestampNs} ns, which does not fit into 64 bits of ${iface.ticksPerSecond} ticks per second; change the time or the interface's resolution`,
      { packet: index + 1, timestampNs: packet.timestampNs },
    );
  }
  return ticks;
}
