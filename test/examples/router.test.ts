/** The router example: its files are what their sources make, and it does on each backend what it does in the kernel. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCapture } from '../../examples/router/make-capture.ts';
import { createRuntime, type LoadedObject, readCapture } from '../../src/index.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { requireTool } from '../tools.ts';

const path = (name: string): string => fileURLToPath(new URL(`../../examples/router/${name}`, import.meta.url));
const OBJECT = path('router.bpf.o');
const frames = readCapture(readFileSync(path('capture.pcap'))).packets.map(packet => packet.data);
const VERDICTS = ['XDP_ABORTED', 'XDP_DROP', 'XDP_PASS', 'XDP_TX', 'XDP_REDIRECT'];
const MAPS = ['counters', 'flows'] as const;

interface Outcome {
  /** Of each frame: verdict, then the frame as it came out, hexadecimal. */
  readonly frames: readonly string[];
  /** By map and key (hexadecimal): packets and bytes over all CPUs. */
  readonly maps: Readonly<Record<string, Readonly<Record<string, readonly bigint[]>>>>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Sums {u64 packets, u64 bytes} of all CPUs. */
function sums(values: readonly Uint8Array[]): bigint[] {
  const total = [0n, 0n];
  for (const value of values) {
    for (let at = 0; at < value.length; at += 8) {
      total[(at / 8) % 2]! += Buffer.from(value).readBigUInt64LE(at);
    }
  }
  return total;
}

const directory = mkdtempSync(join(tmpdir(), 'switchyard-router-'));
const pins = `/sys/fs/bpf/switchyard-test-${process.pid}`;
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

const bpftool = requireTool('bpftool');
const kernelUsable = (() => {
  const usable = bpftool !== undefined && process.getuid?.() === 0;
  if (!usable && process.env.CI) throw new Error('the comparison with the kernel needs bpftool and root');
  return usable;
})();

/** Loads the object into the kernel, attaches it nowhere, and hands it each frame by BPF_PROG_TEST_RUN. */
function runInKernel(): Outcome {
  const tool = (...args: string[]) =>
    execFileSync(bpftool!, ['-j', ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const [input, output] = [join(directory, 'in'), join(directory, 'out')];
  try {
    tool('prog', 'loadall', OBJECT, pins, 'pinmaps', `${pins}-maps`);
    const results = frames.map(frame => {
      writeFileSync(input, frame);
      const answer = tool('prog', 'run', 'pinned', `${pins}/router`, 'data_in', input, 'data_out', output);
      const { retval } = JSON.parse(answer) as { retval: number };
      return `${VERDICTS[retval]} ${hex(readFileSync(output))}`;
    });
    const bytes = (list: readonly string[]) => Uint8Array.from(list, Number);
    const maps = MAPS.map(name => {
      const entries = JSON.parse(tool('map', 'dump', 'pinned', `${pins}-maps/${name}`)) as {
        key: string[];
        value?: string[];
        values?: { value: string[] }[];
      }[];
      const contents = entries.map(({ key, value, values }) => {
        const all = values?.map(one => one.value) ?? [value!];
        return [hex(bytes(key)), sums(all.map(bytes))];
      });
      return [name, Object.fromEntries(contents)];
    });
    return { frames: results, maps: Object.fromEntries(maps) };
  } finally {
    rmSync(pins, { recursive: true, force: true });
    rmSync(`${pins}-maps`, { recursive: true, force: true });
  }
}

function outcomeOf(object: LoadedObject): Outcome {
  const router = object.program('router');
  const results = frames.map(frame => {
    const { verdict, data } = router.run(frame);
    return `${verdict} ${hex(data)}`;
  });
  const maps = MAPS.map(name => {
    const entries = [...object.map(name).entries()];
    return [name, Object.fromEntries(entries.map(([key, value]) => [hex(key), sums([value])]))];
  });
  return { frames: results, maps: Object.fromEntries(maps) };
}

describe('the router example', () => {
  test('capture.pcap is what make-capture.ts writes', () => {
    expect(hex(readFileSync(path('capture.pcap')))).toBe(hex(makeCapture()));
    expect(frames).toHaveLength(84);
  });

  const clang = requireTool('clang-14') && requireTool('llvm-strip-14');
  test.skipIf(clang === undefined)('router.bpf.o is what build.sh makes', () => {
    const built = join(directory, 'router.bpf.o');
    execFileSync(path('build.sh'), [built]);
    expect(readFileSync(built).equals(readFileSync(OBJECT))).toBe(true);
  });

  describe('runs', () => {
    const ours: Record<string, Outcome> = {};
    beforeAll(async () => {
      for (const backend of ['interpreter', 'native'] as const) {
        if (backend === 'native' && !nativeSupported()) continue;
        const runtime = createRuntime({ backend });
        ours[backend] = outcomeOf(runtime.load(readFileSync(OBJECT)));
        await runtime.dispose();
      }
    });

    test('to every verdict but XDP_ABORTED', () => {
      const counts = Object.fromEntries(VERDICTS.map(verdict => [verdict, 0]));
      for (const frame of ours.interpreter!.frames) counts[frame.split(' ')[0]!]!++;
      expect(counts).toEqual({ XDP_ABORTED: 0, XDP_DROP: 27, XDP_PASS: 13, XDP_TX: 19, XDP_REDIRECT: 25 });
    });

    test('natively as in the interpreter', () => {
      if (ours.native) expect(ours.native).toEqual(ours.interpreter);
    });

    test.skipIf(!kernelUsable)('as in the kernel: verdicts, frames, counters and flows', () => {
      const kernel = runInKernel();
      expect(ours.interpreter!.frames).toEqual(kernel.frames);
      expect(ours.interpreter!.maps).toEqual(kernel.maps);
    });

    test('with a policy put in a slot', async () => {
      const runtime = createRuntime({ backend: 'interpreter' });
      const object = runtime.load(readFileSync(OBJECT));
      const router = object.program('router');
      const drops = () => frames.filter(frame => router.run(frame).verdict === 'XDP_DROP').length;
      const before = drops();
      object.progArray('untagged_policy').set(0, object.program('policy_no_new_tcp'));
      // Two conversations of two SYNs each, and two more in IPv6; the tagged ones pass the other array.
      expect(drops() - before).toBe(6);
      object.progArray('untagged_policy').delete(0);
      expect(drops()).toBe(before);
      await runtime.dispose();
    });
  });
});
