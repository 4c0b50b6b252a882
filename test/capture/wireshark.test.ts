/** Wireshark's tools as the judge: what they convert is read here, what is written here they read. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type Capture, readCapture, writeCapture } from '../../src/capture/capture.ts';
import { requireTool } from '../tools.ts';
import { frame, pcap, richPcapng } from './build.ts';

const tshark = requireTool('tshark');
const editcap = requireTool('editcap');
const MIXED = fileURLToPath(new URL('../../../shared/captures/mixed.pcap', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'capture-'));
afterAll(() => rmSync(directory, { recursive: true }));

const SMALL = pcap(
  true,
  false,
  [1, 2, 3].map(i => ({ seconds: 1_700_000_000 + i, fraction: 1000 * i, data: frame(60 + i, i) })),
);
const sources: [string, () => Uint8Array][] = [['a small capture', () => SMALL]];
if (existsSync(MIXED)) sources.push(['../shared/captures/mixed.pcap', () => new Uint8Array(readFileSync(MIXED))]);

/** Time, lengths, interface and bytes of each packet as tshark sees them. */
function tsharkPackets(file: Uint8Array): string[] {
  const path = join(directory, 'in');
  writeFileSync(path, file);
  const fields = ['frame.time_epoch', 'frame.cap_len', 'frame.len', 'frame.interface_id'].flatMap(f => ['-e', f]);
  const text = execFileSync(tshark!, ['-r', path, '-T', 'fields', ...fields], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  // It lists a block of unknown type as an empty frame.
  return text
    .trimEnd()
    .split('\n')
    .filter(line => line.split('\t')[1] !== '0');
}

function ownPackets(capture: Capture): string[] {
  return capture.packets.map(({ timestampNs, data, originalLength, interfaceIndex }) => {
    const fraction = (timestampNs % 1_000_000_000n).toString().padStart(9, '0');
    return [`${timestampNs / 1_000_000_000n}.${fraction}`, data.length, originalLength, interfaceIndex].join('\t');
  });
}

function converted(format: string, file: Uint8Array): Uint8Array {
  const [from, to] = [join(directory, 'from'), join(directory, 'to')];
  writeFileSync(from, file);
  execFileSync(editcap!, ['-F', format, from, to], { stdio: 'ignore' });
  return new Uint8Array(readFileSync(to));
}

describe.skipIf(tshark === undefined || editcap === undefined)('against tshark and editcap', () => {
  describe.each(sources)('%s', (_, load) => {
    test.each(['pcap', 'nsecpcap', 'pcapng'])('as %s: read as tshark reads it, written byte for byte', format => {
      const file = converted(format, load());
      const capture = readCapture(file);
      expect(capture.format).toBe(format === 'pcapng' ? 'pcapng' : 'pcap');
      expect(capture.packets.length).toBeGreaterThan(0);
      expect(Buffer.compare(writeCapture(capture), file)).toBe(0);
      if (load() === SMALL) expect(tsharkPackets(file).map(withInterface)).toEqual(ownPackets(capture));
    });
  });

  test('a file of two sections, both byte orders and all packet blocks, as made here and as written', () => {
    const file = richPcapng();
    const capture = readCapture(file);
    for (const bytes of [file, writeCapture(capture)]) {
      const theirs = tsharkPackets(bytes).map(line => line.split('\t').slice(1, 3));
      expect(theirs).toEqual(capture.packets.map(p => [String(p.data.length), String(p.originalLength)]));
    }
    const times = tsharkPackets(writeCapture(capture)).map(line => line.split('\t')[0]);
    expect(times).toEqual(tsharkPackets(file).map(line => line.split('\t')[0]));
  });
});

/** tshark names no interface in a pcap. */
function withInterface(line: string): string {
  const fields = line.split('\t');
  return [...fields.slice(0, 3), fields[3] || '0'].join('\t');
}
