/** perf_event_output and its consumer: against the running kernel's perf buffers, and filled by threads. */
import koffi from 'koffi';
import { describe, expect, test } from 'vitest';
import { createRuntime, type KernelObject, type LoadedObject, loadIntoKernel } from '../../src/index.ts';
import { possibleCpus } from '../../src/kernel/map.ts';
import type { PerfReader, PerfSample } from '../../src/maps/perf-event-array.ts';
import { mapDescriptor } from '../kernel/memory.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection, withRuntime } from '../runtime/build.ts';
import { failure, generator, key32, OPERATIONS, OPERATIONS_TIMEOUT, same } from './tools.ts';

/** Packet: u64 flags, u8 size; then whatever. Outputs `size` bytes of the stack, which are the packet's bytes 16 to 79. */
const OUTPUT = `
  r2 = *(u32 *)(r1 + 80)
  r3 = *(u32 *)(r1 + 76)
  r6 = r1
  r7 = r3
  r3 += 80
  if r3 > r2 goto bad
  ${Array.from({ length: 8 }, (_, i) => `r3 = *(u64 *)(r7 + ${16 + 8 * i})\n  *(u64 *)(r10 - ${64 - 8 * i}) = r3`).join('\n  ')}
  r1 = r6
  r2 = map[events] ll
  r3 = *(u64 *)(r7 + 0)
  r4 = r10
  r4 += -64
  r5 = *(u8 *)(r7 + 8)
  if r5 > 64 goto bad
  call 25
  exit
bad:
  r0 = 0x7fff
  exit`;
const XDP_OUTPUT = OUTPUT.replace('(r1 + 80)', '(r1 + 4)').replace('(r1 + 76)', '(r1 + 0)');

const parts = (type: 'xdp' | 'sched_cls', maxEntries: number) =>
  collection({
    type,
    programs: { p: type === 'xdp' ? XDP_OUTPUT : OUTPUT },
    maps: [{ name: 'events', type: 'perf_event_array', maxEntries }],
  });

function packetOf(flags: bigint, size: number, length = 96): Uint8Array {
  const packet = Uint8Array.from({ length }, (_, i) => i * 3);
  const view = new DataView(packet.buffer);
  view.setBigUint64(0, flags, true);
  view.setUint8(8, size);
  return packet;
}

const CURRENT = 0xffff_ffffn;
const run = (object: LoadedObject | KernelObject, packet: Uint8Array): number =>
  Number(object.program('p').run(packet).returnValue) | 0;

/** A software event of each CPU, attached to the kernel's map; one page of samples each. */
class KernelEvents {
  readonly #rings: { readonly control: DataView; readonly words: BigUint64Array; readonly data: Uint8Array }[] = [];

  constructor(map: { update(key: Uint8Array, value: Uint8Array): void }, cpus: number, pages: number) {
    const libc = koffi.load('libc.so.6');
    const syscall = libc.func(
      'int64_t syscall(int64_t number, void *attr, int64_t pid, int64_t cpu, int64_t group, int64_t flags)',
    );
    const ioctl = libc.func('int ioctl(int fd, int64_t request, int64_t argument)');
    for (let cpu = 0; cpu < cpus; cpu++) {
      const attr = new DataView(new ArrayBuffer(120));
      attr.setUint32(0, 1, true);
      attr.setUint32(4, 120, true);
      attr.setBigUint64(8, 10n, true);
      attr.setBigUint64(16, 1n, true);
      attr.setBigUint64(24, 1n << 10n, true);
      const fd = Number(syscall(process.arch === 'arm64' ? 241 : 298, new Uint8Array(attr.buffer), -1, cpu, -1, 8));
      if (fd < 0) throw new Error(`no perf event on CPU ${cpu}`);
      const buffer = mapDescriptor(fd, 4096 * (1 + pages));
      ioctl(fd, 0x2400, 0);
      this.#rings.push({
        control: new DataView(buffer, 0, 4096),
        words: new BigUint64Array(buffer, 1024, 2),
        data: new Uint8Array(buffer, 4096),
      });
      map.update(key32(cpu), key32(fd));
    }
  }

  /** All samples, and how many the kernel says were lost. */
  drain(): { samples: Uint8Array[]; lost: number } {
    const samples: Uint8Array[] = [];
    let lost = 0;
    for (const { words, data } of this.#rings) {
      const head = Atomics.load(words, 0);
      let tail = words[1]!;
      const take = (at: bigint, length: number): Uint8Array =>
        Uint8Array.from({ length }, (_, i) => data[Number(at + BigInt(i)) % data.length]!);
      while (tail < head) {
        const header = new DataView(take(tail, 8).buffer);
        const size = header.getUint16(6, true);
        const body = take(tail + 8n, size - 8);
        const view = new DataView(body.buffer);
        if (header.getUint32(0, true) === 9) samples.push(body.subarray(4, 4 + view.getUint32(0, true)));
        else if (header.getUint32(0, true) === 2) lost += Number(view.getBigUint64(8, true));
        tail += BigInt(size);
      }
      Atomics.store(words, 1, tail);
    }
    return { samples, lost };
  }
}

describe.skipIf(kernelMissing() !== undefined)('perf_event_output against the running kernel', () => {
  test.each(['xdp', 'sched_cls'] as const)(
    '%s',
    async type => {
      const cpus = possibleCpus();
      const runtime = createRuntime({ arenaSize: 32 << 20, cpus });
      const both = parts(type, cpus + 1);
      const theirs = loadIntoKernel(both);
      const ours = runtime.backends.map(backend => runtime.load(both, { backend }));
      const next = generator(3);
      const seen = new Set<number>();
      let events: KernelEvents | undefined;
      let readers: PerfReader[] = [];
      for (let step = 0; step < OPERATIONS / 5; step++) {
        // First nobody is attached.
        if (step === 200) {
          events = new KernelEvents(theirs.map('events'), cpus, 16);
          readers = ours.map(object => object.perfEventArray('events').attach());
        }
        const length = 96 + next(40);
        const index = [CURRENT, CURRENT, CURRENT, CURRENT, BigInt(cpus), BigInt(cpus + 1), 1n << 31n][next(7)]!;
        const context = [0, 0, next(length + 1), length + 1, 0xfffff][next(5)]!;
        const high = next(20) === 0 ? 1n << BigInt(52 + next(12)) : 0n;
        const packet = packetOf(high | (BigInt(context) << 32n) | index, next(66), length);
        const expected = run(theirs, packet);
        seen.add(expected);
        const { samples = [], lost = 0 } = events?.drain() ?? {};
        same(lost, 0);
        for (const [i, object] of ours.entries()) {
          same(run(object, packet), expected, step, i);
          const mine: PerfSample[] = [];
          readers[i]?.drain(sample =>
            mine.push({ ...sample, data: sample.data.slice(), context: sample.context.slice() }),
          );
          same(mine.length, samples.length, step);
          for (const [n, { data, context: bytes }] of mine.entries()) {
            // The kernel's are padded to what perf records take.
            same(Uint8Array.from([...data, ...bytes]), samples[n]!.subarray(0, data.length + bytes.length), step);
            same(samples[n]!.length, Math.ceil((data.length + bytes.length + 4) / 8) * 8 - 4, step);
          }
        }
      }
      // Nothing, wrong flags, no such packet bytes, nobody attached, out of range, too large a size.
      expect([...seen].sort((a, b) => a - b)).toEqual([-22, -14, -7, -2, 0, 0x7fff]);
      theirs.dispose();
      await runtime.dispose();
    },
    OPERATIONS_TIMEOUT,
  );

  test('an entry of another CPU', () => {
    const runtime = createRuntime({ cpus: 3 });
    const object = runtime.load(parts('xdp', 3));
    const reader = object.perfEventArray('events').attach();
    // Runs on this thread have the lowest number. The kernel: EOPNOTSUPP, "not on this CPU".
    expect([0n, 1n, 2n, 3n].map(cpu => run(object, packetOf(cpu, 8)))).toEqual([0, -95, -95, -7]);
    expect(reader.drain(({ cpu }) => expect(cpu).toBe(0))).toBe(1);
    return runtime.dispose();
  });
});

test('samples that do not fit are counted, where they are missing', async () => {
  await withRuntime(runtime => {
    for (const backend of runtime.backends) {
      const object = runtime.load(parts('xdp', 0), { backend });
      const events = object.perfEventArray('events');
      const reader = events.attach({ size: 4096 });
      const packet = packetOf(CURRENT | (96n << 32n), 64);
      const results = Array.from({ length: 30 }, () => run(object, packet));
      // Each takes 16 + 64 + 96 bytes.
      expect(results.filter(result => result === 0).length).toBe(23);
      expect(results.filter(result => result === -28).length).toBe(7);
      expect(reader.lost).toBe(7);
      expect(reader.drain(sample => expect(sample.lost).toBe(0), 20)).toBe(20);
      expect(run(object, packet)).toBe(0);
      const lost: number[] = [];
      expect(reader.drain(sample => lost.push(sample.lost))).toBe(4);
      expect(lost).toEqual([0, 0, 0, 7]);
      object.dispose();
    }
  });
});

test('attach, close, attach again; wrong use is a MapError', async () => {
  await withRuntime(async runtime => {
    const object = runtime.load(parts('xdp', 2));
    const events = object.perfEventArray('events');
    const packet = packetOf(CURRENT, 8);
    const reader = events.attach();
    expect(failure(() => events.attach())).toBe('EBUSY');
    expect(run(object, packet)).toBe(0);
    expect(failure(() => reader.drain(() => reader.drain(() => {})))).toBe('EBUSY');
    const loop = (async () => {
      const seen: number[] = [];
      for await (const sample of reader) seen.push(sample.data.length);
      return seen;
    })();
    await new Promise(resolve => setTimeout(resolve, 20));
    expect(run(object, packet)).toBe(0);
    await new Promise(resolve => setTimeout(resolve, 40));
    reader.close();
    expect(await loop).toEqual([8, 8]);
    expect(run(object, packet)).toBe(-2);
    expect(failure(() => reader.drain(() => {}))).toBe('EBADF');
    for (const size of [0, 4095, 6000, 2 ** 31, Number.NaN])
      expect(failure(() => events.attach({ size }))).toBe('EINVAL');
    expect(failure(() => events.attach({ size: 1 << 29 }))).toBe('ENOMEM');
    events.attach();
    expect(run(object, packet)).toBe(0);
    object.dispose();
    await runtime.settled();
    expect(failure(() => events.attach())).toBe('EBADF');
  });
});

test('threads: each CPU has samples of its own, in order, and none is lost uncounted', async () => {
  const runtime = createRuntime({ cpus: 3 });
  if (!runtime.backends.includes('native')) return;
  const object = runtime.load(
    collection({
      programs: {
        p: `
  r6 = r1
  r1 = map[counters] ll
  *(u32 *)(r10 - 4) = 0
  r2 = r10
  r2 += -4
  call 1
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 + 0)
  r1 += 1
  *(u64 *)(r0 + 0) = r1
  *(u64 *)(r10 - 16) = r1
  *(u64 *)(r10 - 24) = r1
  r1 = r6
  r2 = map[events] ll
  r3 = ${CURRENT | (32n << 32n)} ll
  r4 = r10
  r4 += -24
  r5 = 16
  call 25
out:
  r0 = 2
  exit`,
      },
      maps: [
        { name: 'events', type: 'perf_event_array', maxEntries: 3 },
        { name: 'counters', type: 'percpu_array', valueSize: 8 },
      ],
    }),
  );
  const reader = object.perfEventArray('events').attach({ size: 1 << 16 });
  const end = new AbortController();
  const packets = Array.from({ length: 64 }, (_, i) => ({ data: new Uint8Array(64).fill(i) }));
  const repeat = 2000;
  const replay = object.program('p').replayAsync(packets, { workers: 2, repeat });
  void replay.finally(() => end.abort());
  const last = [0n, 0n, 0n];
  let [delivered, lost, wrong] = [0, 0, 0];
  const see = ({ cpu, data, context, lost: before }: PerfSample): void => {
    const [first, second] = new BigUint64Array(data.slice().buffer);
    delivered++;
    lost += before;
    if (first !== second || first! !== last[cpu]! + 1n + BigInt(before)) wrong++;
    if (context.length !== 32 || context.some(byte => byte !== context[0])) wrong++;
    last[cpu] = first!;
  };
  for await (const sample of reader.samples({ signal: end.signal })) see(sample);
  await replay;
  reader.drain(see);
  const counted = new BigUint64Array(object.map('counters').lookup(new Uint8Array(4))!.buffer);
  expect(wrong).toBe(0);
  expect(delivered + reader.lost).toBe(Number(counted.reduce((sum, count) => sum + count, 0n)));
  expect(reader.lost).toBeGreaterThanOrEqual(lost);
  expect(delivered).toBeGreaterThan(1000);
  await runtime.dispose();
});
