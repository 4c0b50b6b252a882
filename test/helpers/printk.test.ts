import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { formatTrace } from '../../src/helpers/printk.ts';
import { openScratch } from '../kernel/scratch.ts';
import { HelperMachine } from './platform.ts';

const OUT = 512;
const kernel = openScratch(OUT);
afterAll(() => kernel?.dispose());
const nothing = { readString: () => undefined, readBytes: () => undefined };

/** What bpf_snprintf, which shares its formats with bpf_trace_printk, makes of it; undefined where it refuses. */
function kernelText(format: string, values: readonly bigint[]): string | undefined {
  const map = kernel!.constant(Buffer.from(`${format}\0`, 'latin1'));
  const program = `
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map_fd[${kernel!.mapFd}] ll
    call 1
    if r0 != 0 goto found
    exit
  found:
    r1 = r0
    r2 = ${OUT}
    r3 = map_fd_value[${map}]+0 ll
${values.map((value, i) => `    r4 = ${value} ll\n    *(u64 *)(r10 - ${32 - 8 * i}) = r4`).join('\n')}
    r4 = r10
    r4 += -32
    r5 = ${8 * values.length}
    call 165
    r0 = 0
    exit`;
  const refused = kernel!.refusal('sched_cls', program);
  if (refused !== undefined) {
    expect(refused).toMatch(/Invalid format string/);
    return undefined;
  }
  const { value } = kernel!.run('sched_cls', program, new Uint8Array(64));
  return Buffer.from(value.subarray(0, value.indexOf(0))).toString('latin1');
}

const piece = fc.oneof(
  fc.constantFrom('packet ', '%%', '\n', '!', 'é', ' x=', ', '),
  fc
    .tuple(
      fc.constantFrom('', '', '0', '-', '+', ' ', '0-', '+0', ' 0'),
      fc.constantFrom('', '', '1', '5', '12', '20'),
      fc.constantFrom('', 'l', 'll'),
      fc.constantFrom('d', 'i', 'u', 'x', 'X'),
    )
    .map(parts => `%${parts.join('')}`),
  fc.constantFrom('%px', '%20px', '%c', '%5c', '%-3c|', '%pI4', '%pi6', '%pI6 '),
  fc.constantFrom('%', '%f', '%lld', '%hd', '%lc', '%.3d', '%*d', '%px7', '%#x', '%n', '%p9'),
);
const value = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(0n, 1n, 65n, 255n, 0xffff_ffffn, 0x8000_0000n, 1n << 63n),
);

describe('trace formats', () => {
  test.skipIf(kernel === undefined)('as the kernel formats them', () => {
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 5 }), fc.tuple(value, value, value), (pieces, values) => {
        const format = pieces.join('');
        const conversions = formatTrace(format, values, nothing);
        // The kernel checks that a format uses all its values here; bpf_trace_printk does not mind.
        const used = (format.replaceAll('%%', '').match(/%/g) ?? []).length;
        const expected = kernelText(format, values.slice(0, Math.min(used, 3)));
        expect(conversions?.split('\0', 1)[0]).toBe(expected);
      }),
      { numRuns: 150 },
    );
  });

  test('strings, addresses and pointers', () => {
    const machine = new HelperMachine();
    const name = machine.bytes(Buffer.from('eth0\0'), 512);
    const ipv4 = machine.bytes(Uint8Array.of(192, 0, 2, 1), 576);
    const ipv6 = machine.bytes(Uint8Array.from([0x20, 1, 0xd, 0xb8, ...new Array(11).fill(0), 1]), 640);
    const print = (format: string, ...values: (bigint | number)[]): bigint => {
      const bytes = Buffer.from(`${format}\0`);
      return machine.call('bpf_trace_printk', machine.bytes(bytes), bytes.length, ...values);
    };
    expect(print('%s from %pI4 %d\n', name, ipv4, -1)).toBe(23n);
    expect(print('%pi4 %pI6 %pi6', ipv4, ipv6, ipv6)).toBe(88n);
    expect(print('%8s|%-8s|%s', name, name, 12345)).toBe(18n);
    expect(print('%p %px', 0x7f00_0000_1000n, 10)).toBe(33n);
    expect(print('日本 %c', 0x41)).toBe(8n);
    expect(print('100%%')).toBe(4n);
    expect(machine.lines).toEqual([
      'eth0 from 192.0.2.1 -1',
      '192.000.002.001 2001:0db8:0000:0000:0000:0000:0000:0001 20010db8000000000000000000000001',
      '    eth0|eth0    |',
      '00007f0000001000 000000000000000a',
      '日本 A',
      '100%',
    ]);
    expect(print('%d %d %d %d', 1, 2, 3)).toBe(-22n);
    expect(print('%s%d', name, 1)).toBe(11n - 6n);
    expect(print('%sx', name)).toBe(-22n);
    expect(print('\x01')).toBe(-22n);
  });

  test('a format without NUL, a long line, memory that is not there', () => {
    const machine = new HelperMachine();
    expect(machine.call('bpf_trace_printk', machine.bytes(Buffer.from('abc')), 3)).toBe(-22n);
    expect(machine.call('bpf_trace_printk', 4096, 3)).toBe(-14n);
    const long = Buffer.from('%1000d%1000d\0');
    expect(machine.call('bpf_trace_printk', machine.bytes(long), long.length, 1, 2)).toBe(2000n);
    expect(machine.lines.map(line => line.length)).toEqual([1023]);
  });
});
