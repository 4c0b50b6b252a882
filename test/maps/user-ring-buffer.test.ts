/** User ring buffers: verdicts and results beside the kernel's, whose ring is mapped here and written as libbpf does. */
import koffi from 'koffi';
import { afterAll, describe, expect, it } from 'vitest';
import { createRuntime, loadIntoKernel } from '../../src/index.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import type { UserRingBuffer } from '../../src/maps/user-ring-buffer.ts';
import { RingbufLayout } from '../../src/memory/layout.ts';
import type { Collection } from '../../src/object/spec.ts';
import { clang, compile } from '../clang.ts';
import { mapDescriptor } from '../kernel/memory.ts';
import { kernelMissing } from '../kernel/support.ts';
import { expectKernelsVerdict } from '../verifier/judged.ts';
import { createPlatform } from './platform.ts';
import { expectNoKeys, failure, generator, OPERATIONS, OPERATIONS_TIMEOUT, same, spec } from './tools.ts';

const SIZE = 4096;
const [BUSY, DISCARDED] = [0x8000_0000, 0x4000_0000];
/** Refusals whose words differ, though the cause is the same. */
const OTHER_WORDS: Readonly<Record<string, string>> = { bad_lookup: 'invalid zero-sized read' };

/** The two positions and the data, of the kernel's ring or ours. */
interface Ring {
  readonly consumer: () => bigint;
  readonly producer: () => bigint;
  readonly publish: (to: bigint) => void;
  /** Bytes from the offset of a position on; both go on behind the end. */
  readonly data: (position: bigint) => DataView;
}

function kernelRing(fd: number): Ring {
  const consumer = new BigUint64Array(mapDescriptor(fd, 4096, 0, 'read'));
  const rest = mapDescriptor(fd, 4096 + 2 * SIZE, 4096);
  const producer = new BigUint64Array(rest, 0, 1);
  return {
    consumer: () => Atomics.load(consumer, 0),
    producer: () => Atomics.load(producer, 0),
    publish: to => {
      Atomics.store(producer, 0, to);
    },
    data: position => new DataView(rest, 4096 + (Number(position) % SIZE)),
  };
}

function put(ring: Ring, head: number, data: Uint8Array): void {
  const at = ring.producer();
  const view = ring.data(at);
  view.setUint32(0, head, true);
  view.setUint32(4, 0, true);
  for (const [i, byte] of data.entries()) view.setUint8(8 + i, byte);
  ring.publish(at + BigInt((data.length + 15) & ~7));
}

describe.skipIf(clang === undefined)('programs', () => {
  const collection: Collection =
    clang === undefined ? (undefined as never) : compile(new URL('user-ringbuf.c', import.meta.url));
  const names = clang === undefined ? [] : [...collection.programs.keys()];
  const good = names.filter(name => !name.startsWith('bad_'));
  const runtime = createRuntime({ arenaSize: 32 << 20 });
  afterAll(() => runtime.dispose());

  it('there are good and bad ones', () => {
    expect([good.length, names.length]).toEqual([9, 24]);
  });

  it.each(names)('%s', name => expectKernelsVerdict(collection, name, OTHER_WORDS));

  it.each(runtime.backends)('a drain makes room for who waits for it (%s)', async backend => {
    const object = runtime.load(collection, { programs: ['drain'], backend });
    const ring = object.userRingBuffer('ring');
    ring.write(new Uint8Array(SIZE - 8));
    const waiting = ring.writeWhenRoom(Uint8Array.of(5));
    const packet = new Uint8Array(64);
    expect(Number(object.program('drain').run(packet).returnValue) & 0xff).toBe(1);
    await waiting;
    expect(ring.pending).toBe(16);
    object.dispose();
  });

  describe.skipIf(kernelMissing() !== undefined)('beside the kernel', () => {
    it.each(runtime.backends)(
      '%s',
      backend => {
        const theirs = loadIntoKernel(collection, { programs: good });
        const ours = runtime.load(collection, { programs: good, backend });
        const mine = ours.userRingBuffer('ring');
        const theirRing = kernelRing((theirs.map('ring') as { fd: number }).fd);
        const packet = new Uint8Array(64);
        const next = generator(0x5eed);
        const outcomes = new Map<string, number>();
        const run = (name: string): void => {
          const [a, b] = [ours, theirs].map(of =>
            Number(BigInt.asIntN(32, BigInt(of.program(name).run(packet).returnValue))),
          );
          const key = `${name} ${b! < 0 && b! > -600 ? b : 'counts'}`;
          outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
          same(a, b, name);
          same(mine.pending, Number(theirRing.producer() - theirRing.consumer()), name);
        };
        const held: [submit: () => void, at: bigint, head: number][] = [];
        // Runs of xdp programs take the kernel milliseconds.
        const cheap = good.filter(name => name !== 'drain_xdp');
        const most = backend === 'interpreter' ? Math.min(OPERATIONS, 40_000) : OPERATIONS;
        for (let operations = 0; operations < most; operations++) {
          for (let n = next(5); n > 0; n--) {
            operations++;
            const length = next(30) === 0 ? next(3000) : next(40);
            const data = Uint8Array.from({ length }, () => (next(60) === 0 ? 255 : next(250)));
            if (failure(() => mine.write(new Uint8Array(0))) === 'ENOSPC') break;
            put(theirRing, 0, new Uint8Array(0));
            if (((length + 15) & ~7) > SIZE - mine.pending) {
              expect(failure(() => mine.write(data))).toBe('ENOSPC');
              continue;
            }
            const record = mine.reserve(length);
            record.bytes.set(data);
            const at = theirRing.producer();
            const kind = next(8);
            if (kind === 0) record.discard();
            else if (kind > 1) record.submit();
            else held.push([record.submit, at, length]);
            put(theirRing, kind === 0 ? length | DISCARDED : kind > 1 ? length : length | BUSY, data);
          }
          packet[20] = [0, 0, 1, 2, 3, 4][next(6)]!;
          run(next(100) === 0 ? 'drain_xdp' : cheap[next(cheap.length)]!);
          if (next(3) === 0)
            for (const [submit, at, length] of held.splice(0)) {
              submit();
              theirRing.data(at).setUint32(0, length, true);
            }
        }
        expect([...outcomes.keys()].sort()).toEqual(
          expect.arrayContaining([...good.map(name => `${name} counts`), 'drain -22', 'nested -16']),
        );
        ours.dispose();
        theirs.dispose();
      },
      OPERATIONS_TIMEOUT * 3,
    );

    it.each(runtime.backends)('heads that a producer gets wrong (%s)', backend => {
      const results = new Set<number>();
      for (const [head, published] of [
        [16, 16],
        [16, 20],
        [4096, 4104],
        [4089, 8192],
        [0x1000000, 0x1000008],
        [0x3fffffff, 0x40000008],
        [0x3fffffff, 0x3fffffff],
        [0xffffffff, 0x40000008],
        [16 | 0x8000_0000, 16],
        [0xc000_0010, 24],
        [0x4000_0010, 24],
      ] as const) {
        const theirs = loadIntoKernel(collection, { programs: ['drain'] });
        const ours = runtime.load(collection, { programs: ['drain'], backend });
        const theirRing = kernelRing((theirs.map('ring') as { fd: number }).fd);
        const { address } = ours.userRingBuffer('ring');
        const mine = new DataView(koffi.view(address, RingbufLayout.data + 2 * SIZE) as ArrayBuffer);
        theirRing.data(0n).setUint32(0, head, true);
        theirRing.publish(BigInt(published));
        mine.setUint32(RingbufLayout.data, head, true);
        mine.setBigUint64(RingbufLayout.producer, BigInt(published), true);
        const [a, b] = [ours, theirs].map(of => Number(of.program('drain').run(new Uint8Array(64)).returnValue) | 0);
        expect([head, published, a]).toEqual([head, published, b]);
        results.add(b!);
        ours.dispose();
        theirs.dispose();
      }
      expect([...results].sort()).toEqual(expect.arrayContaining([-22, -7, 0]));
    });
  });
});

describe('by itself', () => {
  const make = (): UserRingBuffer =>
    createMap(spec({ type: 'user_ringbuf', keySize: 0, valueSize: 0, maxEntries: SIZE }), {
      ...createPlatform(),
      id: 1,
    }) as UserRingBuffer;

  it('says what does not fit, and what never will', async () => {
    const ring = make();
    expect(failure(() => ring.reserve(SIZE - 7))).toBe('E2BIG');
    for (const size of [-1, 1.5, Number.NaN]) expect(failure(() => ring.reserve(size))).toBe('E2BIG');
    const record = ring.reserve(SIZE - 8);
    expect(failure(() => ring.write(new Uint8Array(1)))).toBe('ENOSPC');
    record.submit();
    expect(failure(record.submit)).toBe('EINVAL');
    expect(failure(record.discard)).toBe('EINVAL');
    expectNoKeys(ring);
    const none = new Uint8Array(0);
    const waiting = ring.writeWhenRoom(none);
    const aborted = ring.writeWhenRoom(none, { signal: AbortSignal.abort(new Error('mine')) });
    await expect(aborted).rejects.toThrow('mine');
    ring.dispose();
    await expect(waiting).rejects.toMatchObject({ code: 'disposed' });
    expect(failure(() => ring.reserve(1))).toBe('EBADF');
  });

  it.skipIf(kernelMissing() !== undefined)('sizes and flags as in the kernel', () => {
    for (const maxEntries of [0, 1, 2048, 4096, 4097, 8192, 12288])
      for (const [keySize, valueSize] of [
        [0, 0],
        [4, 0],
        [0, 4],
      ] as const)
        for (let bit = 0; bit < 20; bit++) {
          const given = spec({ type: 'user_ringbuf', keySize, valueSize, maxEntries, flags: (1 << bit) & ~1 });
          const ours = failure(() => createMap(given, { ...createPlatform(), id: 1 }).dispose());
          expect([given, ours]).toEqual([given, failure(() => new KernelMap(given).dispose())]);
        }
  });
});
