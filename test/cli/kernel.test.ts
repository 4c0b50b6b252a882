/** The commands with the running kernel behind them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compare } from '../../src/cli/against-kernel.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import type { KernelJudge } from '../../src/kernel/judge.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection } from '../runtime/build.ts';
import { requireTool } from '../tools.ts';
import { CAPTURE, ROOT, ROUTER, scratch, switchyard } from './support.ts';

const clang = requireTool('clang-14', 'clang-22', 'clang');
/** An object whose program hands a struct with padding to a helper; undefined without clang. */
const PADDING =
  clang &&
  compile(
    clang,
    'padding',
    `struct { int (*type)[1]; int (*max_entries)[4]; int (*key_size)[16]; int (*value_size)[8]; } table
       __attribute__((section(".maps"), used));
     static void *(*lookup)(void *map, const void *key) = (void *)1;
     __attribute__((section("xdp"), used)) int padded(void *ctx) {
       volatile struct { char small; long large; } key;
       key.small = 1;
       key.large = 2;
       return lookup(&table, (const void *)&key) ? 2 : 1;
     }
     char gpl[] __attribute__((section("license"))) = "GPL";`,
  );
/** One program of each kind: ours only, both, neither; and a ring buffer without a size, which the kernel refuses. */
const MIXED =
  clang &&
  compile(
    clang,
    'mixed',
    `struct { int (*type)[27]; } ring __attribute__((section(".maps"), used));
     __attribute__((section("raw"), used)) int ours(void *buffer) { return 0; }
     __attribute__((section("xdp"), used)) int both(void *ctx) { return 2; }
     __attribute__((section("kprobe/x"), used)) int neither(void *ctx) { return 0; }
     char gpl[] __attribute__((section("license"))) = "GPL";`,
  );

/** Its program passes packets where CONFIG_HZ is one of the kernel's choices. */
const CONFIGURED =
  clang &&
  compile(
    clang,
    'configured',
    `extern int CONFIG_HZ __attribute__((section(".kconfig")));
     __attribute__((section("xdp"), used)) int hz(void *ctx) { return CONFIG_HZ >= 100 && CONFIG_HZ <= 1000 ? 2 : 1; }
     char gpl[] __attribute__((section("license"))) = "GPL";`,
  );

function compile(compiler: string, name: string, text: string): string {
  const source = join(scratch, `${name}.c`);
  const object = join(scratch, `${name}.o`);
  writeFileSync(source, text);
  execFileSync(compiler, ['-target', 'bpf', '-O2', '-g', '-c', source, '-o', object]);
  return object;
}

const run = ['run', ROUTER, '--program', 'router', '--input', CAPTURE];

describe.skipIf(kernelMissing() !== undefined)('with the running kernel', () => {
  test('run --backend kernel gives the verdicts and counters of our own run', async () => {
    const json = async (...args: string[]) => JSON.parse((await switchyard(...run, '--json', ...args)).stdout);
    const [kernel, ours] = [await json('--backend', 'kernel'), await json('--backend', 'interpreter')];
    expect(kernel).toMatchObject({ backend: 'kernel', packets: ours.packets, bytes: ours.bytes });
    expect(kernel.verdicts).toEqual(ours.verdicts);
    expect(kernel.maps.flows).toEqual(ours.maps.flows);
    expect(kernel.maps.stages).toEqual(ours.maps.stages);
    expect(Object.keys(kernel.maps)).toEqual(Object.keys(ours.maps));
  });

  test('run --set fills slots of the kernel, and text is printed as for our own', async () => {
    const set = ['--set', 'untagged_policy[0]=policy_no_new_tcp'];
    const [kernel, ours] = [
      await switchyard(...run, ...set, '--backend', 'kernel'),
      await switchyard(...run, ...set, '--backend', 'interpreter'),
    ];
    expect(kernel).toMatchObject({ code: 0, stderr: '' });
    const verdicts = (text: string) => text.split('\n').filter(line => /^ {2}XDP_/.test(line));
    expect(verdicts(kernel.stdout).length).toBeGreaterThan(1);
    expect(verdicts(kernel.stdout)).toEqual(verdicts(ours.stdout));
  });

  test('workers are not for the kernel', async () => {
    const { code, stderr } = await switchyard(...run, '--backend', 'kernel', '--workers', '2');
    expect(code).toBe(2);
    expect(stderr).toContain('one packet at a time');
  });

  test('verify --against kernel: both verdicts, as text and as JSON', async () => {
    const text = await switchyard('verify', ROUTER, '--program', 'router', '--against', 'kernel');
    expect(text).toMatchObject({ code: 0, stderr: '' });
    expect(text.stdout).toMatch(/router \(xdp\) accepted, \d+ .*\n {2}kernel: accepted, \d+ instructions processed\n$/);
    const { stdout } = await switchyard('verify', ROUTER, '--program', 'router', '--against', 'kernel', '--json');
    const { kernel } = JSON.parse(stdout);
    expect(kernel).toMatchObject({ accepted: true, agrees: true, error: null });
    expect(kernel.insnsProcessed).toBeGreaterThan(0);
  });

  test.skipIf(process.arch !== 'x64')('disasm --stage native --backend kernel lists whole functions', async () => {
    const args = ['disasm', ROUTER, '--program', 'router', '--backend', 'kernel'];
    const { code, stdout, stderr } = await switchyard(...args, '--stage', 'native');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^router:\n/);
    expect(stdout).not.toContain('(bad)');
    expect(stdout).toMatch(/^ +[0-9a-f]+: push rbp$/m);
    expect(stdout.trimEnd().split('\n').length).toBeGreaterThan(50);
    const wrong = await switchyard(...args, '--stage', 'object');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('needs --stage lowered or native');
  });

  test('disasm --stage lowered --backend kernel lists what its verifier made of a program, beside its source', async () => {
    const args = ['disasm', ROUTER, '--program', 'stage_vlan', '--stage', 'lowered', '--backend', 'kernel'];
    const { code, stdout, stderr } = await switchyard(...args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^stage_vlan:\n; int stage_vlan\(struct xdp_md \*ctx\) @ .*router\.bpf\.c:\d+\n +0: /);
    // The context's fields become those of the kernel's structure; the lookup in an array is a few instructions; maps keep names.
    expect(stdout).toMatch(/^ +\d+: r\d = \*\(u64 \*\)\(r\d \+ 0x\d+\)$/m);
    expect(stdout).toMatch(/^ +\d+: r1 = map\[scratch\] ll$/m);
    expect(stdout).toMatch(/^ +\d+: tail_call$/m);
    expect(stdout).not.toMatch(/: bytes /);
    const json = JSON.parse((await switchyard(...args, '--json')).stdout);
    expect(json).toMatchObject({ program: 'stage_vlan', stage: 'lowered' });
    const { instructions } = json as { instructions: { at: number; line: number | null }[] };
    expect(instructions.length).toBeGreaterThan(80);
    expect(instructions.filter(({ line }) => line !== null).length).toBeGreaterThan(20);
    // Slots follow each other, with a gap behind each 64-bit load.
    instructions.slice(1).forEach(({ at }, i) => {
      expect([1, 2]).toContain(at - instructions[i]!.at);
    });
  });

  test.skipIf(!PADDING)(
    'verify --against kernel: where the verdicts differ, both logs at the instruction in question',
    async () => {
      // The kernel lets privileged programs read stack that was never written; asked to refuse that, we differ.
      const args = ['verify', PADDING!, '--against', 'kernel', '--uninitialized-stack', 'refuse'];
      const { code, stdout } = await switchyard(...args);
      expect(code).toBe(1);
      const [, insn] = /\(differs\)\n {2}switchyard's log at instruction (\d+):\n/.exec(stdout)!;
      expect(stdout).toMatch(/ rejected: .*invalid (indirect )?read from stack/);
      expect(stdout).toMatch(/^ {2}kernel: accepted, \d+ instructions processed \(differs\)$/m);
      const [ours, kernel] = stdout.split(/ {2}kernel's log at instruction \d+:\n/) as [string, string];
      const line = new RegExp(`^ {4}${insn}: \\([0-9a-f]{2}\\) `, 'm');
      expect(ours).toMatch(line);
      expect(ours).toMatch(/invalid (indirect )?read from stack/);
      expect(kernel).toMatch(line);
      expect(kernel).not.toMatch(/invalid/);
      const json = JSON.parse((await switchyard(...args, '--json')).stdout);
      expect(json).toMatchObject({ accepted: false, kernel: { accepted: true, agrees: false, error: null } });
      expect(json.kernel.difference.insn).toBe(Number(insn));
      expect(await switchyard('verify', PADDING!, '--against', 'kernel')).toMatchObject({ code: 0 });
    },
  );

  test.skipIf(!MIXED)(
    'verify --against kernel: maps that it refuses, and programs that only one of us has',
    async () => {
      const { code, stdout } = await switchyard('verify', MIXED!, ROUTER, '--against', 'kernel');
      expect(code).toBe(1);
      expect(stdout).toMatch(
        /both \(xdp\) accepted.*\n {2}kernel: rejected: .*refused map ring .*\(EINVAL\) \(differs\)\n/,
      );
      for (const name of ['ours', 'neither'])
        expect(stdout).toMatch(new RegExp(`${name} \\(.*\\n  kernel: not asked, `));
      // The next object has its turn.
      expect(stdout).toMatch(/router \(xdp\) accepted.*\n {2}kernel: accepted/);
      const json = (await switchyard('verify', MIXED!, '--against', 'kernel', '--json')).stdout.trim().split('\n');
      const kernels = Object.fromEntries(
        json.map(line => JSON.parse(line)).map(({ program, kernel }) => [program, kernel]),
      );
      expect(kernels).toMatchObject({
        ours: null,
        neither: null,
        both: { accepted: false, agrees: false, error: { code: 'map_refused' } },
      });
    },
  );

  const setpriv = requireTool('setpriv');
  const root = process.getuid?.() === 0;
  test.skipIf(!setpriv || !root).each([
    ['run', ...run.slice(1), '--backend', 'kernel'],
    ['verify', ROUTER, '--against', 'kernel'],
    ['disasm', ROUTER, '--program', 'router', '--stage', 'native', '--backend', 'kernel'],
  ])('%s without the capabilities says so, and fails with 1', (...args) => {
    const script = join(ROOT, 'dist/cli/main.js');
    const flags = ['--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
    const { status, stdout, stderr } = spawnSync(setpriv!, [...flags, process.execPath, script, ...args, '--json'], {
      encoding: 'utf8',
    });
    expect([status, JSON.parse(stdout).error.code]).toEqual([1, 'not_permitted']);
    expect(stderr).toMatch(/^switchyard: the kernel did not permit .* \(EPERM\): .*CAP_BPF/);
  });
});

describe('where the verdicts differ', () => {
  const spec = collection({ programs: { main: 'r0 = 1\nr0 += 1\nexit' } });
  const main = spec.programs.get('main')!;
  const judge = (accepted: boolean, log: string) =>
    ({
      judge: () => ({
        accepted,
        insnsProcessed: 3,
        log,
        error: accepted ? undefined : new KernelError('program_refused', 'no', { log }),
      }),
    }) as unknown as KernelJudge;

  test('both logs are shown around the instruction that one refused', () => {
    const log = '0: R1=ctx() R10=fp0\n0: (b7) r0 = 1 ; R0_w=1\n1: (07) r0 += 1\nmath is hard\nprocessed 2 insns\n';
    const { agrees, difference } = compare(judge(false, log), main, spec, true);
    expect(agrees).toBe(false);
    expect(difference!.insn).toBe(1);
    expect(difference!.kernel).toContain('1: (07) r0 += 1\nmath is hard');
    expect(difference!.ours).toMatch(/^1: \(07\) r0 \+= 1 .*R0/m);
  });

  test('also if the kernel is the one that accepts', () => {
    const refused = collection({ programs: { main: 'r0 = 1\nr0 = r5\nexit' } });
    const log = '0: (b7) r0 = 1\n1: (bf) r0 = r5 ; R0_w=7\n2: (95) exit\nprocessed 3 insns\n';
    const { difference } = compare(judge(true, log), refused.programs.get('main')!, refused, false);
    expect(difference).toMatchObject({ insn: 1 });
    expect(difference!.kernel).toContain('1: (bf) r0 = r5 ; R0_w=7');
    expect(difference!.ours).toContain('R5 !read_ok');
  });

  test('a log without the instruction says so', () => {
    const { difference } = compare(judge(false, 'back-edge from insn 0 to 0\nprocessed 0 insns\n'), main, spec, true);
    expect(difference).toMatchObject({ insn: null, kernel: expect.stringContaining('back-edge') });
    expect(difference!.ours).toBe('(the instruction is not in this log)');
  });

  test('nothing is shown where they agree', () => {
    expect(compare(judge(true, ''), main, spec, true)).toEqual({
      accepted: true,
      insnsProcessed: 3,
      error: null,
      agrees: true,
    });
  });
});

const configuration = ['/proc/config.gz', `/boot/config-${release()}`].some(path => existsSync(path));

test.skipIf(!CONFIGURED || !configuration)("configuration values are the running kernel's", async () => {
  const { code, stdout } = await switchyard('run', CONFIGURED!, '--program', 'hz', '--input', CAPTURE, '--json');
  expect(code).toBe(0);
  expect(Object.keys((JSON.parse(stdout) as { verdicts: Record<string, number> }).verdicts)).toEqual(['XDP_PASS']);
});
