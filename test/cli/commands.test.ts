/** What the commands say of objects and captures: verdicts, shapes of the JSON, exit codes 0 and 1, files written. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCapture, writeCapture } from '../../src/core.ts';
import { CAPTURE, PROGRAMS, ROUTER, scratch, switchyard } from './support.ts';

/** The commands compile. */
const NATIVE = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
const capture = readCapture(new Uint8Array(readFileSync(CAPTURE)));

function write(name: string, bytes: Uint8Array): string {
  const path = join(scratch, name);
  writeFileSync(path, bytes);
  return path;
}

async function runJson(object: string, program: string, ...more: string[]) {
  const { code, stdout } = await switchyard('run', object, '--json', '--program', program, '--input', CAPTURE, ...more);
  expect(code).toBe(0);
  expect(stdout.endsWith('\n')).toBe(true);
  return JSON.parse(stdout);
}

/** Sum of a per-CPU entry's field over the CPUs. */
function total(entry: { values: { value: Record<string, number> }[] }, field: string): number {
  return entry.values.reduce((sum, { value }) => sum + value[field]!, 0);
}

describe('run', () => {
  test('JSON', async () => {
    const result = await runJson(ROUTER, 'router');
    const keys = ['program', 'backend', 'packets', 'bytes', 'verdicts', 'nsPerPacket', 'maps', 'tailCallMisses'];
    expect(Object.keys(result)).toEqual(keys);
    expect(result).toMatchObject({
      program: 'router',
      backend: process.arch === 'x64' ? 'native' : 'interpreter',
      packets: capture.packets.length,
      bytes: capture.packets.reduce((sum, { data }) => sum + data.length, 0),
    });
    const verdicts: number[] = Object.values(result.verdicts);
    expect(verdicts.reduce((sum, count) => sum + count, 0)).toBe(capture.packets.length);
    expect(result.nsPerPacket).toBeGreaterThan(0);
    expect(result.maps.stages).toContainEqual({ key: 5, value: 'stage_udp' });
    // Nobody has put a policy in.
    expect(result.tailCallMisses).toContainEqual({
      program: 'stage_tcp',
      insn: expect.any(Number),
      file: './router.bpf.c',
      line: 307,
      source: expect.stringContaining('bpf_tail_call(ctx, '),
      map: 'untagged_policy',
      index: 0,
      cause: 'empty',
      count: 16,
    });
    const [ethernet] = result.maps.counters;
    expect(ethernet.key).toBe('ETHERNET');
    expect(total(ethernet, 'packets')).toBe(capture.packets.length);
  });

  test('--hits: tail calls that succeeded, by site and slot; what does not hop misses', async () => {
    const { tailCallHits, tailCallMisses } = await runJson(ROUTER, 'router', '--hits');
    const sum = (rows: { program: string; count: number }[], program: string) =>
      rows.filter(row => row.program === program).reduce((total, { count }) => total + count, 0);
    // Every frame with an EtherType that has a stage is handed on once.
    expect(sum(tailCallHits, 'router')).toBeGreaterThan(0);
    expect(tailCallHits).toContainEqual({
      program: 'stage_ipv4',
      insn: expect.any(Number),
      file: './router.bpf.c',
      line: 462,
      source: 'tail_call_constant(ctx, stages, STAGE_TCP);',
      map: 'stages',
      index: 4,
      count: expect.any(Number),
    });
    expect(tailCallHits.every((row: object) => !('cause' in row))).toBe(true);
    // With a limit of one, what was handed on twice misses by the limit instead.
    const limited = await runJson(ROUTER, 'router', '--hits', ...(NATIVE ? ['--max-tail-calls', '1'] : []));
    expect(sum(limited.tailCallHits, 'router')).toBe(sum(tailCallHits, 'router'));
    if (NATIVE) {
      expect(sum(limited.tailCallHits, 'stage_ipv4')).toBe(0);
      const refused = limited.tailCallMisses.filter(({ cause }: { cause: string }) => cause === 'limit');
      expect(sum(limited.tailCallHits, 'stage_vlan')).toBe(0);
      expect(sum(refused, 'stage_vlan')).toBeGreaterThan(0);
    }
    const { stdout } = await switchyard('run', ROUTER, '--program', 'router', '--input', CAPTURE, '--hits');
    expect(stdout).toMatch(/^tail calls that succeeded$/m);
    expect(stdout).toMatch(/^ {2}\d+ +stages\[4\] +stage_ipv4 +insn \d+ +\.\/router\.bpf\.c:462 tail_call_constant/m);
    expect(tailCallMisses.length).toBeGreaterThan(0);
  });

  test.runIf(NATIVE)('every tail-call mode and choice gives the same verdicts and misses', async () => {
    const modes = await Promise.all(
      [
        ['--tail-call-mode', 'baseline'],
        ['--tail-call-mode', 'cached'],
        ['--tail-call-mode', 'fast'],
        ['--empty-slots', 'stub'],
        ['--empty-slots', 'test', '--range-check', 'always'],
      ].map(words => runJson(ROUTER, 'router', ...words)),
    );
    const [one, ...others] = modes.map(({ verdicts, tailCallMisses }) => ({ verdicts, tailCallMisses }));
    for (const other of others) expect(other).toEqual(one);
  });

  test('text has the same verdicts and counters', async () => {
    const { verdicts } = await runJson(ROUTER, 'router');
    const { code, stdout, stderr } = await switchyard('run', ROUTER, '--program', 'router', '--input', CAPTURE);
    expect([code, stderr]).toEqual([0, '']);
    for (const [name, count] of Object.entries(verdicts))
      expect(stdout).toMatch(new RegExp(`^ {2}${name} +${count}$`, 'm'));
    expect(stdout).toMatch(new RegExp(`^ {2}ETHERNET: \\{packets: ${capture.packets.length}, bytes: \\d+\\}$`, 'm'));
    expect(stdout).toMatch(/^ {2}5: stage_udp$/m);
    // A flow's addresses are arrays of bytes.
    expect(stdout).toMatch(/^ {2}\{source: 0{20}ffff[0-9a-f]{8}, destination: [0-9a-f]{32}, .*\}: \{packets: \d+, /m);
    expect(stdout).toMatch(/^\.rodata \(array, read-only, \d+ bytes\)$/m);
    expect(stdout).toMatch(/^tail calls that fell through$/m);
    expect(stdout).toMatch(
      /^ {2}16 +empty +untagged_policy\[0\] +stage_tcp +insn \d+ +\.\/router\.bpf\.c:307 bpf_tail_call/m,
    );
  });

  test('both backends, more threads and more than packets agree', async () => {
    const one = await runJson(ROUTER, 'router');
    const counters = (result: typeof one) =>
      result.maps.counters.map((entry: Parameters<typeof total>[0] & { key: string }) => [
        entry.key,
        total(entry, 'packets'),
        total(entry, 'bytes'),
      ]);
    for (const more of [
      ['--backend', 'interpreter'],
      ['--workers', '2'],
      ['--workers', '128'],
    ]) {
      const other = await runJson(ROUTER, 'router', ...more);
      expect(other.verdicts).toEqual(one.verdicts);
      expect(counters(other)).toEqual(counters(one));
      expect(other.maps['.bss']).toEqual(one.maps['.bss']);
      expect(other.tailCallMisses).toEqual(one.tailCallMisses);
    }
  });

  test('--repeat', async () => {
    const once = await runJson(ROUTER, 'router');
    const { packets, bytes, verdicts } = await runJson(ROUTER, 'router', '--repeat', '1000', '--workers', '2');
    expect(packets).toBe(once.packets * 1000);
    expect(bytes).toBe(once.bytes * 1000);
    for (const [name, count] of Object.entries(once.verdicts)) expect(verdicts[name]).toBe(Number(count) * 1000);
  });

  test.each([
    ['pcap, little-endian, microseconds', 'pcap', 'little', 1_000_000n],
    ['pcap, big-endian, microseconds', 'pcap', 'big', 1_000_000n],
    ['pcap, little-endian, nanoseconds', 'pcap', 'little', 1_000_000_000n],
    ['pcap, big-endian, nanoseconds', 'pcap', 'big', 1_000_000_000n],
    ['pcapng, little-endian', 'pcapng', 'little', 1_000_000n],
    ['pcapng, big-endian, nanoseconds', 'pcapng', 'big', 1_000_000_000n],
  ] as const)('%s comes out as it went in', async (_, format, byteOrder, ticksPerSecond) => {
    const interfaces = [{ ...capture.interfaces[0]!, ticksPerSecond }];
    const { pcapHeader: __, ...plain } = capture;
    const input = write('in', writeCapture({ ...plain, format, byteOrder, interfaces }));
    const output = join(scratch, 'out');
    const { code, stdout } = await switchyard(
      ...['run', ROUTER, '--program', 'router', '--input', input, '--output', output, '--json'],
    );
    expect(code).toBe(0);
    const { verdicts } = JSON.parse(stdout);
    const written = readCapture(new Uint8Array(readFileSync(output)));
    expect(written).toMatchObject({ format, byteOrder, interfaces: [{ linkType: 1, ticksPerSecond }] });
    expect(written.packets).toHaveLength(capture.packets.length - verdicts.XDP_DROP);
    const times = new Set(capture.packets.map(({ timestampNs }) => timestampNs));
    for (const { timestampNs } of written.packets) expect(times).toContain(timestampNs);
  });

  test('an empty capture', async () => {
    const { pcapHeader: _, ...plain } = capture;
    const bytes = writeCapture({ ...plain, packets: [] });
    const output = join(scratch, 'nothing');
    const args = ['--input', write('empty', bytes), '--output', output, '--json', '--workers', '2'];
    const { code, stdout } = await switchyard('run', ROUTER, '--program', 'router', ...args);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ packets: 0, bytes: 0, verdicts: {}, nsPerPacket: 0 });
    expect(Buffer.from(readFileSync(output)).equals(bytes)).toBe(true);
  });

  test('frames that are no Ethernet frames', async () => {
    const { pcapHeader: _, ...plain } = capture;
    const input = write(
      'raw-ip',
      writeCapture({ ...plain, interfaces: [{ ...capture.interfaces[0]!, linkType: 101 }] }),
    );
    const { code, stderr } = await switchyard('run', ROUTER, '--program', 'router', '--input', input);
    expect(code).toBe(2);
    expect(stderr).toMatch(/link type 101/);
  });
});

describe.skipIf(!PROGRAMS)('run, programs of other kinds', () => {
  const object = PROGRAMS!;

  test('--set fills the slot that the program jumps through; the last word counts', async () => {
    const packets = capture.packets.length;
    expect((await runJson(object, 'entry')).verdicts).toEqual({ XDP_PASS: packets });
    const set = ['--set', 'jumps[1]=longer', '--set', 'jumps[0]=longer', '--set', 'jumps[1]=drop'];
    const { verdicts, maps } = await runJson(object, 'entry', ...set);
    expect(verdicts).toEqual({ XDP_DROP: packets });
    expect(maps.jumps).toEqual([
      { key: 0, value: 'longer' },
      { key: 1, value: 'drop' },
    ]);
    expect(maps['.bss']).toEqual([{ key: 0, value: { seen: packets } }]);
  });

  test('a program that does not fit the slot is refused', async () => {
    const args = ['--program', 'entry', '--input', CAPTURE, '--set', 'jumps[1]=large', '--json'];
    const { code, stdout } = await switchyard('run', object, ...args);
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error.code).toBe('owner_mismatch');
  });

  test('a program that the verifier rejects', async () => {
    const { code, stdout, stderr } = await switchyard(
      ...['run', object, '--program', 'unchecked', '--input', CAPTURE, '--json'],
    );
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error.code).toBe('packet_out_of_bounds');
    expect(stderr).toMatch(/programs\.bpf\.c:\d+/);
  });

  test('packets grow', async () => {
    const output = join(scratch, 'longer.pcap');
    const { verdicts } = await runJson(object, 'longer', '--output', output);
    expect(verdicts).toEqual({ XDP_TX: capture.packets.length });
    const written = readCapture(new Uint8Array(readFileSync(output)));
    expect(written.packets.map(({ data }) => data.length)).toEqual(capture.packets.map(({ data }) => data.length + 1));
    expect(written.packets.map(({ data }) => Buffer.from(data.subarray(1)).toString('hex'))).toEqual(
      capture.packets.map(({ data }) => Buffer.from(data).toString('hex')),
    );
  });

  test('packets grow beyond the length that the capture is cut to', async () => {
    const packets = capture.packets.map(packet => ({ ...packet, data: packet.data.subarray(0, 60) }));
    const interfaces = [{ ...capture.interfaces[0]!, snapLength: 60 }];
    const input = write('cut.pcap', writeCapture({ ...capture, packets, interfaces }));
    const output = join(scratch, 'longer-cut.pcap');
    const args = ['--program', 'longer', '--input', input, '--output', output];
    expect((await switchyard('run', object, ...args)).code).toBe(0);
    const written = readCapture(new Uint8Array(readFileSync(output)));
    expect(written.interfaces[0]!.snapLength).toBe(61);
    expect(written.packets.map(({ data }) => data.length)).toEqual(packets.map(({ data }) => data.length + 1));
    expect(written.packets.map(each => each.originalLength - each.data.length)).toEqual(
      packets.map(each => each.originalLength - each.data.length),
    );
  });

  test('sched_cls and raw', async () => {
    const large = capture.packets.filter(({ data }) => data.length > 60).length;
    expect((await runJson(object, 'large')).verdicts).toEqual({
      TC_ACT_OK: capture.packets.length - large,
      TC_ACT_SHOT: large,
    });
    const zeros = capture.packets.filter(({ data }) => data[0] === 0).length;
    expect((await runJson(object, 'first_byte')).verdicts['0']).toBe(zeros);
  });

  test('bpf_printk, and what was left out of the object', async () => {
    const { code, stdout, stderr } = await switchyard('run', object, '--program', 'chatty', '--input', CAPTURE);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^bpf_trace_printk\n {2}rx queue 0$/m);
    expect(stderr).toMatch(/left out.*probe \(kprobe\), unnamed \(section nonsense\)/);
  });
});

describe('verify', () => {
  test('accepted: exit code 0, one line a program', async () => {
    const { code, stdout, stderr } = await switchyard('verify', ROUTER, '--json');
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(['object', 'program', 'type', 'accepted', 'insnsProcessed', 'error']);
      expect(line).toMatchObject({ object: ROUTER, type: 'xdp', accepted: true, error: null });
      expect(line.insnsProcessed).toBeGreaterThan(10);
    }
    expect(lines.map(({ program }) => program)).toContain('router');
  });

  test.skipIf(!PROGRAMS)('rejected and unsupported programs are reported beside the others', async () => {
    const { code, stdout } = await switchyard('verify', PROGRAMS!, '--json');
    expect(code).toBe(1);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    const find = (name: string) => lines.find(({ program }) => program === name);
    expect(find('entry')).toMatchObject({ type: 'xdp', accepted: true, error: null });
    expect(find('unchecked')).toMatchObject({ accepted: false, error: { code: 'packet_out_of_bounds' } });
    expect(find('unchecked').insnsProcessed).toBe(2);
    expect(find('probe')).toMatchObject({
      type: 'kprobe',
      accepted: false,
      error: { code: 'unsupported_program_type' },
    });
    expect(find('unnamed')).toMatchObject({ type: null, accepted: false, error: { code: 'unknown_program_section' } });
    expect(lines).toHaveLength(9);
  });

  test('--log', async () => {
    const args = ['verify', ROUTER, '--program', 'router', '--log'];
    const text = await switchyard(...args);
    expect(text.stdout).toMatch(/^0: R1=ctx\(\) R10=fp0$/m);
    expect(text.stdout).toMatch(/^processed \d+ insns/m);
    const { stdout } = await switchyard(...args, '--json');
    expect(text.stdout).toContain(JSON.parse(stdout).log.trimEnd());
  });

  test('--log-level 1 shows of an accepted program the statistics only', async () => {
    const { stdout } = await switchyard('verify', ROUTER, '--program', 'stage_arp', '--log-level', '1');
    expect(stdout).toMatch(/^processed \d+ insns/);
  });

  test('--unprivileged refuses by the rules for users without capabilities', async () => {
    const { code, stdout } = await switchyard('verify', ROUTER, '--program', 'stage_arp', '--unprivileged', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ accepted: false, error: { code: 'not_permitted' } });
  });

  test('files that cannot be read do not hide the others', async () => {
    const { code, stdout, stderr } = await switchyard('verify', 'no.o', ROUTER, '--program', 'router', '--json');
    expect(code).toBe(2);
    expect(stderr).toMatch(/^switchyard: cannot read object no\.o/);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line)),
    ).toMatchObject([
      { object: 'no.o', program: null, type: null, accepted: false, error: { code: 'unreadable_file' } },
      { object: ROUTER, program: 'router', accepted: true },
    ]);
  });
});

describe('inspect', () => {
  test('JSON', async () => {
    const { code, stdout } = await switchyard('inspect', ROUTER, '--json');
    expect(code).toBe(0);
    const { programs, maps, tailCalls, ...rest } = JSON.parse(stdout);
    expect(rest).toEqual({});
    expect(programs).toContainEqual(
      expect.objectContaining({
        name: 'router',
        type: 'xdp',
        section: 'xdp',
        license: 'Dual BSD/GPL',
        accepted: true,
        error: null,
      }),
    );
    expect(maps).toContainEqual(expect.objectContaining({ name: 'stages', type: 'prog_array', maxEntries: 8 }));
    expect(tailCalls).toContainEqual(
      expect.objectContaining({
        program: 'router',
        map: 'stages',
        index: null,
        kind: 'static',
        line: expect.any(Number),
      }),
    );
    expect(tailCalls).toContainEqual(
      expect.objectContaining({ program: 'stage_ipv4', map: 'stages', index: 4, kind: 'direct' }),
    );
    expect(tailCalls).toContainEqual(
      expect.objectContaining({ map: null, maps: ['tagged_policy', 'untagged_policy'], kind: 'dynamic' }),
    );
  });

  test.skipIf(!PROGRAMS)('names what the verifier rejects and what is not run', async () => {
    const { code, stdout } = await switchyard('inspect', PROGRAMS!);
    expect(code).toBe(0);
    expect(stdout).toMatch(/probe +kprobe, section kprobe\/vfs_read\n +left out: /);
    expect(stdout).toMatch(/unnamed +unknown type, section nonsense\n +left out: /);
    expect(stdout).toMatch(/unchecked +xdp, .*\n +rejected: /);
    expect(stdout).toMatch(/entry +insn 7: direct jumps\[1\] .*programs\.bpf\.c:\d+ bpf_tail_call/);
  });
});

describe('disasm', () => {
  const disasm = ['disasm', ROUTER, '--program', 'router'];

  test.each([
    ['object', /^ +\d+: w\d = \*\(u32 \*\)\(r\d \+ 0x4\)$/m],
    ['lowered', /^ +\d+: r\d = \*\(u64 \*\)\(r\d \+ 0x8\)$/m],
    ['native', /^ +[0-9a-f]+: push rbp/m],
  ])('--stage %s', async (stage, pattern) => {
    const { code, stdout } = await switchyard(...disasm, '--stage', stage);
    expect(code).toBe(0);
    expect(stdout).toMatch(pattern);
    expect(stdout).toMatch(/^; .* @ .*router\.bpf\.c:\d+$/m);
  });

  test('JSON', async () => {
    const { stdout } = await switchyard(...disasm, '--json');
    const { program, stage, instructions } = JSON.parse(stdout);
    expect([program, stage]).toEqual(['router', 'object']);
    expect(Object.keys(instructions[0])).toEqual(['at', 'origin', 'text', 'line']);
    expect(instructions[0]).toMatchObject({ at: 0, origin: 0, line: expect.any(Number) });
  });

  test.each([
    [
      'x64',
      /^ +0: nop .*\n +5: push rbp$/m,
      /patched: jmp to the program in stages\[4\]$/m,
      /call [0-9A-F]+h {2}; hash_lookup$/m,
    ],
    [
      'arm64',
      /^ +0: movz x26, #33, lsl #0\n/m,
      /patched: b to the program in stages\[4\]$/m,
      /bl 0x[0-9a-f]+ {2}; hash_lookup$/m,
    ],
  ])('--arch %s works whatever this machine is', async (arch, entry, site, call) => {
    const args = ['disasm', ROUTER, '--program', 'stage_ipv4', '--stage', 'native', '--arch', arch];
    const { code, stdout, stderr } = await switchyard(...args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(entry);
    expect(stdout).toMatch(site);
    expect(stdout).toMatch(call);
    expect(stdout).toMatch(/^; .* @ .*router\.bpf\.c:\d+$/m);
    const json = JSON.parse((await switchyard(...args, '--json')).stdout);
    expect([json.program, json.stage]).toEqual(['stage_ipv4', 'native']);
    // Every byte is listed once: offsets rise, and by four on arm64.
    const offsets: number[] = json.instructions.map(({ at }: { at: number }) => at);
    const steps = offsets.slice(1).map((at, i) => at - offsets[i]!);
    expect(steps.every(step => (arch === 'arm64' ? step === 4 : step >= 1 && step <= 15))).toBe(true);
    expect(json.instructions.some(({ text }: { text: string }) => /^(\.word|\(bad\))/.test(text))).toBe(false);
  });

  test('a call site before and after the series', async () => {
    const sites = ['--stage', 'native', '--tail-call-mode'];
    const baseline = await switchyard(...disasm, ...sites, 'baseline');
    const cached = await switchyard(...disasm, ...sites, 'cached');
    expect(cached.code).toBe(0);
    expect(cached.stdout.split('\n').length).toBeLessThan(baseline.stdout.split('\n').length);
  });

  test('choices apart from the mode show in the listing', async () => {
    const dynamic = ['disasm', ROUTER, '--program', 'stage_vlan', '--stage', 'native'];
    const listings = await Promise.all(
      [[], ['--empty-slots', 'stub', '--range-check', 'proved'], ['--empty-slots', 'test']].map(async words => {
        const { code, stdout } = await switchyard(...dynamic, ...words);
        expect(code).toBe(0);
        return stdout;
      }),
    );
    expect(listings[1]).toBe(listings[0]);
    expect(listings[2]).not.toBe(listings[0]);
  });
});
