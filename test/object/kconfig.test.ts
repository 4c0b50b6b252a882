/** `extern ... __kconfig`: values of a configuration, beside what libbpf (in bpftool) makes of the running kernel's. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRuntime } from '../../src/index.ts';
import { ObjectError } from '../../src/object/errors.ts';
import { Kconfig } from '../../src/object/kconfig.ts';
import { parseObject } from '../../src/object/parse.ts';
import { clang } from '../clang.ts';
import { openKernel } from '../corpus/kernel.ts';

const PACKED = '/proc/config.gz';
const PLAIN = `/boot/config-${release()}`;

function runningConfiguration(): string | undefined {
  if (existsSync(PLAIN)) return readFileSync(PLAIN, 'utf8');
  return existsSync(PACKED) ? gunzipSync(readFileSync(PACKED)).toString('utf8') : undefined;
}

const SMALL = `#
# Linux/x86 6.18.0 Kernel Configuration
CONFIG_HZ=1000
CONFIG_BPF_SYSCALL=y
CONFIG_NET=y
CONFIG_INET=m
# CONFIG_MODULES is not set
CONFIG_DEFAULT_HOSTNAME="(none)"
`;

describe.skipIf(clang === undefined)('configuration values', () => {
  let directory: string;
  let file: string;
  let bytes: Uint8Array;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'switchyard-kconfig-'));
    file = join(directory, 'kconfig.o');
    const source = join(import.meta.dirname, 'kconfig.c');
    const headers = `-I/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
    execFileSync(clang!, ['-O2', '-g', '-target', 'bpf', headers, '-c', source, '-o', file], { stdio: 'pipe' });
    bytes = new Uint8Array(readFileSync(file));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  async function results(kconfig: string): Promise<Record<string, number>> {
    const runtime = createRuntime();
    try {
      const object = runtime.load(parseObject(bytes, { kconfig }), { backend: 'interpreter' });
      const runs = [...object.programs.values()].map(program => [
        program.name,
        Number(program.run(new Uint8Array(60)).returnValue),
      ]);
      return Object.fromEntries(runs);
    } finally {
      await runtime.dispose();
    }
  }

  test('of every kind, as the text says', async () => {
    expect(await results(SMALL)).toEqual({
      number: 1000,
      tristate: 11,
      boolean: 20,
      character: 'm'.charCodeAt(0),
      // Cut off to fit, with a 0 at the end.
      text: '('.charCodeAt(0) << 8,
      absent: 30,
      version: 0x0612,
    });
  });

  test('as libbpf gives them to the running kernel', async context => {
    const kernel = openKernel();
    const kconfig = runningConfiguration();
    if (kernel === undefined || kconfig === undefined) return context.skip();
    const loaded = kernel.load(file, parseObject(bytes, { kconfig }));
    if (typeof loaded === 'string') throw new Error(loaded);
    const { version: _, ...ours } = await results(kconfig);
    const theirs = Object.keys(ours).map(name => [name, Number(loaded.run(name, new Uint8Array(60)).returnValue)]);
    loaded.close();
    expect(ours).toEqual(Object.fromEntries(theirs));
  });

  const refusal = (kconfig?: string): { code: string; message: string } => {
    try {
      parseObject(bytes, kconfig === undefined ? {} : { kconfig });
    } catch (error) {
      if (error instanceof ObjectError) return { code: error.code, message: error.message };
      throw error;
    }
    throw new Error('not refused');
  };

  test('1 and 0 are booleans, too', async () => {
    expect(await results(SMALL.replace('CONFIG_NET=y', 'CONFIG_NET=1'))).toMatchObject({ boolean: 20 });
    expect(await results(SMALL.replace('CONFIG_NET=y', 'CONFIG_NET=0'))).toMatchObject({ boolean: 21 });
  });

  test('missing ones are refused by name', () => {
    expect(refusal()).toMatchObject({
      code: 'kconfig_missing',
      message: expect.stringMatching(/CONFIG_HZ; give a configuration/),
    });
    expect(refusal(SMALL.replace(/CONFIG_NET.*/, ''))).toMatchObject({
      code: 'unsupported_extern',
      message: expect.stringMatching(/CONFIG_NET; the configuration that was given does not set it/),
    });
  });

  test.each([
    ['CONFIG_HZ', '"text"', /is no array of char/],
    ['CONFIG_HZ', 'y', /must be bool/],
    ['CONFIG_HZ', '99999999999999999999999', /has 64 bits, unsigned/],
    ['CONFIG_HZ', '-1', /has 64 bits, unsigned/],
    ['CONFIG_HZ', '1 000', /can hold numbers/],
    ['CONFIG_HZ', '', /can hold numbers/],
    ['CONFIG_NET', 'm', /must be bool/],
    ['CONFIG_NET', '2', /is bool/],
    ['CONFIG_INET', '0x1ff', /has 8 bits/],
    ['CONFIG_DEFAULT_HOSTNAME', '7', /is no integer/],
  ])('%s=%s does not fit', (name, value, message) => {
    const text = SMALL.replace(new RegExp(`${name}=.*`), `${name}=${value}`);
    expect(refusal(text)).toMatchObject({ code: 'bad_value', message: expect.stringMatching(message) });
  });
});

test('any text is a configuration, possibly of nothing', () => {
  for (const text of ['', '\0\n=\nCONFIG_', 'CONFIG_=1', ' CONFIG_HZ=1', 'CONFIG_A=1'.repeat(10_000)]) {
    expect(new Kconfig(text).given).toBe(true);
  }
});
