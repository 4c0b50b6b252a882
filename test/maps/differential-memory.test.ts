/** What is more than keys and values: arenas and cgroup storages beside the running kernel's, and what no ring or arena can do. */
import { closeSync, mkdirSync, openSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type ArenaMap, createRuntime, loadIntoKernel } from '../../src/index.ts';
import { assemble } from '../../src/isa/assembler.ts';
import { Attr } from '../../src/kernel/bpf.ts';
import { loadKernelProgram } from '../../src/kernel/load.ts';
import { KernelMap, possibleCpus } from '../../src/kernel/map.ts';
import { createMap } from '../../src/maps/create.ts';
import type { BpfMap } from '../../src/maps/map.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import { clang, compile } from '../clang.ts';
import { kernelMissing } from '../kernel/support.ts';
import { createPlatform } from './platform.ts';
import {
  createComparedPlatform,
  failure,
  generator,
  OPERATIONS,
  OPERATIONS_TIMEOUT,
  Outcomes,
  same,
  spec,
} from './tools.ts';

const missing = kernelMissing();
const PAGE = 4096;

describe.skipIf(missing !== undefined || clang === undefined)('arenas against the running kernel', () => {
  const PAGES = 3;
  const PER_PACKET = 8;
  const KINDS = 17;
  const EXCHANGE_32 = 14;
  const collection =
    clang === undefined ? (undefined as never) : compile(new URL('arena-operations.c', import.meta.url), { cpu: 'v4' });
  const runtime = createRuntime({ arenaSize: 32 << 20 });
  afterAll(() => runtime.dispose());

  test.each(runtime.backends)(
    'loads, stores and atomics of programs, and of user space (%s)',
    backend => {
      const ours = runtime.load(collection, { backend });
      const theirs = loadIntoKernel(collection);
      const mine = ours.map('arena') as ArenaMap;
      const arena = theirs.map('arena');
      const [memory, theirMemory] = [mine.memory, arena.memory];
      // A page that nobody has touched is not there: a program's writes to it would be lost.
      for (let page = 0; page < PAGES; page++) theirMemory[page * PAGE] = memory[page * PAGE] = 0;
      const next = generator(0xa7e4a);
      const outcomes = new Outcomes();
      const packet = new Uint8Array(16 * PER_PACKET);
      const view = new DataView(packet.buffer);
      const most = backend === 'interpreter' ? Math.min(OPERATIONS, 40_000) : OPERATIONS;
      for (let step = 0; step < most; step += PER_PACKET + 1) {
        for (let at = 0; at < packet.length; at += 16) {
          const kind = next(KINDS);
          const offset = next(10) === 0 ? PAGES * PAGE - 8 + next(PAGE) : next(3) === 0 ? next(64) : next(PAGES * PAGE);
          view.setUint32(at, kind, true);
          view.setUint32(at + 4, offset, true);
          for (let i = 8; i < 16; i++) packet[at + i] = next(4) === 0 ? 0 : next(256);
          // Outside, the kernel leaves the upper half of the register that gets a 4-byte result; to the verifier it is 0.
          if (kind === EXCHANGE_32) view.setUint32(at + 12, 0, true);
          outcomes.note(`${kind}`, offset > PAGES * PAGE - 8 ? 'outside' : 'inside');
        }
        const [a, b] = [ours, theirs].map(of => Number(of.program('operate').run(packet).returnValue) | 0);
        same(a, b, step, packet);
        const at = next(PAGES * PAGE);
        memory[at] = theirMemory[at] = next(256);
        if (next(200) === 0) same(memory.slice(), theirMemory.slice(), step);
      }
      expect(outcomes.names.length).toBe(2 * KINDS);
      same(memory.slice(), theirMemory.slice());
      ours.dispose();
      theirs.dispose();
    },
    OPERATIONS_TIMEOUT * 3,
  );
});

describe.skipIf(missing !== undefined)(
  'what user space can do with rings and arenas, against the running kernel',
  () => {
    test.each([
      spec({ type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: PAGE }),
      spec({ type: 'user_ringbuf', keySize: 0, valueSize: 0, maxEntries: PAGE }),
      spec({ type: 'arena', keySize: 0, valueSize: 0, flags: 1 << 10 }),
    ])('$type', { timeout: OPERATIONS_TIMEOUT }, given => {
      const theirs = new KernelMap(given);
      const ours = createMap(given, { ...createPlatform(1 << 20), id: 1 });
      const empty = new Uint8Array(0);
      const actions: readonly ((map: BpfMap | KernelMap) => unknown)[] = [
        map => map.lookup(empty),
        map => map.update(empty, empty),
        map => map.update(empty, empty, 1),
        map => map.delete(empty),
        map => map.nextKey(undefined),
        map => map.nextKey(empty),
      ];
      const next = generator(3);
      for (let step = 0; step < OPERATIONS / 10; step++) {
        const chosen = next(actions.length);
        same(
          failure(() => actions[chosen]!(ours)),
          failure(() => actions[chosen]!(theirs)),
          step,
          chosen,
        );
      }
      expect(failure(() => ours.freeze())).toBe(failure(() => theirs.freeze()));
      theirs.dispose();
      ours.dispose();
    });
  },
);

const CGROUPS = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find(path => {
  try {
    return statSync(join(path, 'cgroup.subtree_control')).isFile();
  } catch {
    return false;
  }
});
if (process.env.CI && missing === undefined && CGROUPS === undefined) throw new Error('no cgroup2 is mounted');
const ATTACH = 8;

/** A new cgroup without processes, with a program attached that has a storage in `map`. @returns its key's first 8 bytes */
function attachStorage(map: KernelMap): { readonly cgroup: bigint; dispose(): void } {
  const path = join(CGROUPS!, `switchyard-test-${process.pid}-${map.id}`);
  const text = `r1 = map_fd[${map.fd}] ll\nr2 = 0\ncall 81\nr0 = 1\nexit`;
  const program = loadKernelProgram(
    programFromInstructions({ name: 'p', type: 'cgroup_skb', insns: assemble(text) }),
    new Map(),
  );
  mkdirSync(path);
  const fd = openSync(path, 'r');
  const { errno } = new Attr().u32(0, fd).u32(4, program.fd).u32(8, 0).call(ATTACH);
  closeSync(fd);
  const dispose = (): void => {
    program.dispose();
    rmdirSync(path);
  };
  if (errno !== undefined) {
    dispose();
    throw new Error(`a program can't be attached to ${path}: ${errno}`);
  }
  return { cgroup: statSync(path, { bigint: true }).ino, dispose };
}

describe.skipIf(missing !== undefined || CGROUPS === undefined)('cgroup storages against the running kernel', () => {
  const cpus = missing === undefined ? possibleCpus() : 1;

  test.each([
    ['cgroup_storage', 16, 13],
    ['cgroup_storage', 8, 8],
    ['percpu_cgroup_storage', 16, 8],
    ['percpu_cgroup_storage', 8, 24],
  ] as const)('%s with keys of %i bytes', { timeout: OPERATIONS_TIMEOUT }, (type, keySize, valueSize) => {
    const platform = createComparedPlatform(1 << 20, cpus);
    const given = spec({ type, keySize, valueSize, maxEntries: 0 });
    const theirs = new KernelMap(given);
    const storage = attachStorage(theirs);
    const ours = createMap(given, { ...platform, id: 1 });
    try {
      const next = generator(keySize + valueSize);
      const outcomes = new Outcomes();
      /** The storage's key, that of another attach type or cgroup, and padding that counts for nothing; in ours the cgroup is 0. */
      const keys = [0, 1, 2, 3, 4].map(kind =>
        [0n, storage.cgroup].map(cgroup => {
          const key = new Uint8Array(keySize);
          const view = new DataView(key.buffer);
          view.setBigUint64(0, kind === 1 ? cgroup + 1n : cgroup, true);
          if (keySize > 8 && kind === 2) key[8] = 1;
          if (keySize > 12 && kind === 3) key[12] = 77;
          return key;
        }),
      );
      /** Ours in the kernel's words. */
      const translated = (key: Uint8Array | undefined): Uint8Array | undefined => {
        if (key === undefined) return undefined;
        const copy = key.slice();
        new DataView(copy.buffer).setBigUint64(0, storage.cgroup, true);
        return copy;
      };
      for (let step = 0; step < OPERATIONS / 2; step++) {
        const [mine, kernel] = keys[next(keys.length)] as [Uint8Array, Uint8Array];
        const operation = next(10);
        if (operation < 4) {
          const value = Uint8Array.from({ length: theirs.valueBytes }, () => next(256));
          const flags = [0, 0, 0, 2, 1, 3, 4, 8, 2 ** 35][next(9)]!;
          outcomes.change(
            'update',
            () => theirs.update(kernel, value, flags),
            () => ours.update(mine, value, flags),
            step,
            mine,
            flags,
          );
        } else if (operation < 8) {
          outcomes.read(
            'lookup',
            () => theirs.lookup(kernel),
            () => ours.lookup(mine),
            step,
            mine,
          );
        } else if (operation < 9) {
          outcomes.change(
            'delete',
            () => theirs.delete(kernel),
            () => ours.delete(mine),
            step,
            mine,
          );
        } else {
          const first = next(2) === 0;
          outcomes.read(
            'next',
            () => theirs.nextKey(first ? undefined : kernel),
            () => translated(ours.nextKey(first ? undefined : mine)),
            step,
            mine,
          );
        }
      }
      expect(outcomes.names).toEqual([
        ...['delete EINVAL', 'lookup ENOENT', 'lookup value', 'next ENOENT', 'next value'],
        ...['update EINVAL', 'update ENOENT', 'update done'],
      ]);
    } finally {
      storage.dispose();
      theirs.dispose();
      ours.dispose();
    }
  });
});
