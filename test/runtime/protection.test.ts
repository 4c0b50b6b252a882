/** Code is never writable where it runs, and native threads never keep a process from ending. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { timeLimit } from '../tools.ts';
import { collection, withRuntime } from './build.ts';

test('no address is writable and executable; code runs from a mapping without write access', () =>
  withRuntime(runtime => {
    const object = runtime.load(collection({ programs: { main: 'r0 = 2\n exit' } }));
    expect(object.program('main').run(new Uint8Array(64)).verdict).toBe('XDP_PASS');
    const { address } = object.program('main').code!;
    const mappings = readFileSync('/proc/self/maps', 'utf8')
      .trim()
      .split('\n')
      .map(line => {
        const [, from, to, permissions, rest] = /^([0-9a-f]+)-([0-9a-f]+) (\S+) (.*)$/.exec(line)!;
        return { from: BigInt(`0x${from}`), to: BigInt(`0x${to}`), permissions: permissions!, rest: rest! };
      });
    const [code] = mappings.filter(({ from, to }) => from <= address && address < to);
    expect(code?.permissions).toMatch(/^r-x/);
    const ours = mappings.filter(({ rest }) => rest.includes('switchyard-code'));
    expect(ours.length).toBeGreaterThanOrEqual(2);
    expect(ours.filter(({ permissions }) => permissions.includes('w') && permissions.includes('x'))).toEqual([]);
  }));

for (const ending of ['process.exit(7)', 'process.exitCode = 7; throw new Error("the end")']) {
  test(`a process ends though its threads would run for ever: ${ending}`, { timeout: timeLimit(60_000) }, async () => {
    const script = `
      import { assemble, createRuntime, programFromInstructions } from './dist/index.js';
      const program = programFromInstructions({ name: 'main', type: 'raw', insns: assemble('r0 = 0\\n exit') });
      const runtime = createRuntime();
      const object = runtime.load({ programs: new Map([['main', program]]), maps: new Map(), license: 'GPL', btf: undefined });
      void object.program('main').replayAsync([new Uint8Array(8)], { repeat: 0xffffffff, workers: 1 });
      void object.program('main').replayAsync([new Uint8Array(8)], { repeat: 0xffffffff, workers: 1 });
      setTimeout(() => { ${ending} }, 50);
    `;
    const run = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      timeout: timeLimit(30_000),
    });
    // A killed child has code null; one that ended by itself has the code it asked for (1 or 7 after an exception).
    const threw = ending.includes('throw');
    await expect(run).rejects.toSatisfy(
      ({ code, killed, stderr }: { code: number | null; killed: boolean; stderr: string }) =>
        !killed && (threw ? (code === 1 || code === 7) && stderr.includes('Error: the end') : code === 7),
    );
  });
}
