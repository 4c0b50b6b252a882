/**
 * Objects that nobody here wrote: every plain XDP program of Debian's xdp-tools package loads and gives the same results
 * on all backends.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseObject, readCapture } from '../../src/index.ts';
import { PLATFORMS, withRuntime } from './build.ts';

const DIRECTORY = '/usr/lib/x86_64-linux-gnu/bpf';
const installed = existsSync(DIRECTORY);
if (!installed && process.env.CI) throw new Error('the xdp-tools package must be installed in CI');
const objects = installed ? readdirSync(DIRECTORY).filter(name => name.endsWith('.o')) : [];
/** CO-RE relocations of xdpdump's tracing programs need it; absent on kernels without BTF. */
const BTF = '/sys/kernel/btf/vmlinux';

/** Not programs of a type that Switchyard runs: they trace the kernel. */
const NOT_XDP = new Set(['xdpdump_bpf.o']);

const CAPTURE = new URL('../../examples/router/capture.pcap', import.meta.url);

describe.skipIf(!installed)('xdp-tools', () => {
  test('there are objects to test', () => {
    expect(objects.filter(name => !NOT_XDP.has(name)).length).toBeGreaterThanOrEqual(13);
  });

  for (const name of objects) {
    test(name, () =>
      withRuntime(runtime => {
        const bytes = new Uint8Array(readFileSync(`${DIRECTORY}/${name}`));
        const options = existsSync(BTF) ? { targetBtf: new Uint8Array(readFileSync(BTF)) } : {};
        const collection = parseObject(bytes, { ...options, skipUnsupported: true });
        if (NOT_XDP.has(name)) {
          expect(collection.programs.size).toBe(0);
          expect(collection.unsupported?.length).toBeGreaterThan(0);
          return;
        }
        const packets = readCapture(new Uint8Array(readFileSync(CAPTURE))).packets.map(({ data }) => data);
        let reference: unknown;
        for (const platform of Object.values(PLATFORMS)) {
          const object = runtime.load(collection, platform);
          const outcome = [...object.programs.values()].map(program => {
            expect(program.code !== undefined).toBe(platform.backend === 'native');
            const { results } = program.replay(packets, { keep: true });
            return results!.map(({ verdict, data, redirect }) => ({ verdict, data, redirect }));
          });
          reference ??= outcome;
          expect(outcome).toEqual(reference);
          object.dispose();
        }
      }),
    );
  }
});
