/** Words and flags: help, exit code 2 for what the caller got wrong, errors as text and as JSON. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CAPTURE, PROGRAMS, ROOT, ROUTER, scratch, switchyard } from './support.ts';

const run = ['run', ROUTER, '--program', 'router', '--input', CAPTURE];
const compile = ['compile', ROUTER, '-o', join(scratch, 'never')];
const garbage = join(scratch, 'garbage');
writeFileSync(garbage, Buffer.alloc(4096, 'switchyard '));
const empty = join(scratch, 'empty');
writeFileSync(empty, '');

describe('help', () => {
  test('of the whole lists the commands', async () => {
    const { code, stdout, stderr } = await switchyard('--help');
    expect(code).toBe(0);
    expect(stderr).toBe('');
    for (const name of ['run', 'verify', 'inspect', 'disasm', 'compile']) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
  });

  test.each(['run', 'verify', 'inspect', 'disasm'])('of %s has an example that works', async name => {
    const { code, stdout } = await switchyard(name, '--help');
    expect(code).toBe(0);
    const example = /^Example:\n {2}switchyard (.*)$/m.exec(stdout)?.[1];
    expect(example).toBeDefined();
    const shown = await switchyard(...example!.split(' '));
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    expect(shown.stdout).not.toBe('');
  });

  test.each(['graph', 'compile', 'codegen', ...['list', 'dump', 'get', 'set', 'delete'].map(name => `map ${name}`)])(
    'of %s has an example',
    async name => {
      const { code, stdout } = await switchyard(...name.split(' '), '--help');
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`^Example:\\n {2}switchyard ${name} .*-`, 'm'));
    },
  );

  test('without a command goes to standard error', async () => {
    const { code, stdout, stderr } = await switchyard();
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: switchyard');
  });

  test('--version', async () => {
    const { code, stdout } = await switchyard('--version');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('exit code 2', () => {
  test.each<[what: string, args: string[], code: string, text: RegExp]>([
    ['unknown command', ['frobnicate'], 'bad_usage', /unknown command 'frobnicate'/],
    ['unknown flag', [...run, '--frobnicate'], 'bad_usage', /unknown option '--frobnicate'/],
    ['flag without its value', [...run, '--repeat'], 'bad_usage', /argument missing/],
    ['no object', ['inspect'], 'bad_usage', /missing required argument 'object'/],
    ['two objects', ['inspect', ROUTER, ROUTER], 'bad_usage', /too many arguments/],
    ['no --program', ['run', ROUTER, '--input', CAPTURE], 'bad_usage', /--program <name>' not specified/],
    ['no --input', ['run', ROUTER, '--program', 'router'], 'bad_usage', /--input <capture>' not specified/],
    ['workers 0', [...run, '--workers', '0'], 'bad_usage', /integer from 1 to 128/],
    ['repeat 1e3', [...run, '--repeat', '1e3'], 'bad_usage', /integer from 1 to 4294967295/],
    [
      'hits in the kernel',
      [...run, '--backend', 'kernel', '--hits'],
      'bad_usage',
      /the kernel has no choice of --hits/,
    ],
    [
      'tail-call mode in the kernel',
      [...run, '--backend', 'kernel', '--tail-call-mode', 'fast'],
      'bad_usage',
      /no choice of/,
    ],
    [
      'choice of empty slots in the kernel',
      [...run, '--backend', 'kernel', '--empty-slots', 'test'],
      'bad_usage',
      /no choice of --empty-slots/,
    ],
    ['unknown choice', [...run, '--empty-slots', 'x'], 'bad_usage', /stub, test/],
    [
      'choice that a mode does not leave open',
      [...run, '--tail-call-mode', 'cached', '--empty-slots', 'stub'],
      'bad_choice',
      /emptySlots is 'test' in tail-call mode 'cached'/,
    ],
    ['limit 0', [...run, '--max-tail-calls', '0'], 'bad_usage', /integer from 1 to 1048576/],
    [
      'limit without mode fast',
      [...run, '--max-tail-calls', '40', '--tail-call-mode', 'cached'],
      'bad_argument',
      /needs native code with tailCallMode "fast"/,
    ],
    ['unknown backend', [...run, '--backend', 'x'], 'bad_usage', /native, interpreter/],
    [
      'unknown stage',
      ['disasm', ROUTER, '--program', 'router', '--stage', 'x'],
      'bad_usage',
      /object, lowered, native/,
    ],
    ['interpreter on two threads', [...run, '--backend', 'interpreter', '--workers', '2'], 'bad_usage', /one thread/],
    ['--set without brackets', [...run, '--set', 'stages=router'], 'bad_usage', /MAP\[INDEX\]=PROGRAM/],
    ['--set without program', [...run, '--set', 'stages[0]='], 'bad_usage', /MAP\[INDEX\]=PROGRAM/],
    ['--set, index no number', [...run, '--set', 'stages[-1]=router'], 'bad_usage', /MAP\[INDEX\]=PROGRAM/],
    ['--set, index beyond 32 bits', [...run, '--set', 'stages[4294967296]=router'], 'bad_usage', /below 4294967296/],
    ['--set, index out of range', [...run, '--set', 'stages[8]=router'], 'index_out_of_range', /slots 0 to 7, not 8/],
    ['--set, unknown map', [...run, '--set', 'nope[0]=router'], 'no_such_map', /nope.*stages/],
    ['--set, no prog array', [...run, '--set', 'flows[0]=router'], 'no_such_map', /flows.*stages/],
    ['--set, unknown program', [...run, '--set', 'stages[0]=nope'], 'no_such_program', /nope.*stage_udp/],
    ['unknown program to run', ['run', ROUTER, '--program', 'x', '--input', CAPTURE], 'no_such_program', /stage_udp/],
    ['unknown program to list', ['disasm', ROUTER, '--program', 'x'], 'no_such_program', /stage_udp/],
    ['compile: no --arch', ['compile', ROUTER, '-o', scratch], 'bad_usage', /--arch <arch>' not specified/],
    ['compile: unknown machine', [...compile, '--arch', 'riscv'], 'bad_usage', /x64, arm64/],
    ['compile: no directory', ['compile', ROUTER, '--arch', 'x64'], 'bad_usage', /--output <directory>' not specified/],
    ['compile: --atomics on x64', [...compile, '--arch', 'x64', '--atomics', 'lse'], 'bad_usage', /--arch arm64/],
    ['compile: unknown mode', [...compile, '--tail-call-mode', 'x'], 'bad_usage', /baseline, cached, fast/],
    [
      'compile: choice without mode fast',
      [...compile, '--arch', 'x64', '--tail-call-mode', 'baseline', '--range-check', 'proved'],
      'bad_choice',
      /rangeCheck is 'always'/,
    ],
    ['compile: unknown program', [...compile, '--arch', 'x64', '--program', 'x'], 'no_such_program', /stage_udp/],
    ['compile: no ELF file', ['compile', garbage, '--arch', 'x64', '-o', scratch], 'bad_elf', /expected an ELF file/],
    ['unknown program to verify', ['verify', ROUTER, '--program', 'x'], 'no_such_program', /router\.bpf\.o/],
    ['missing object', ['inspect', 'no/such.o'], 'unreadable_file', /no\/such\.o.*ENOENT/],
    ['object is a directory', ['inspect', ROOT], 'unreadable_file', /EISDIR/],
    ['object is no ELF file', ['inspect', garbage], 'bad_elf', /expected an ELF file/],
    ['object is empty', ['inspect', empty], 'bad_elf', /ELF/],
    ['missing capture', ['run', ROUTER, '--program', 'router', '--input', 'no.pcap'], 'unreadable_file', /no\.pcap/],
    ['capture is none', ['run', ROUTER, '--program', 'router', '--input', garbage], 'bad_magic', /pcap or pcapng/],
    ['capture is empty', ['run', ROUTER, '--program', 'router', '--input', empty], 'truncated', /0 bytes/],
    ['BTF that is none and not needed', ['inspect', ROUTER, '--btf', 'package.json'], 'bad_btf', /BTF/],
    ['missing BTF', ['inspect', ROUTER, '--btf', 'no.btf'], 'unreadable_file', /no\.btf/],
    [
      'output where no directory can be made',
      ['compile', ROUTER, '--arch', 'x64', '-o', '/proc/x/y'],
      'unwritable_file',
      /\/proc\/x/,
    ],
    ['output nowhere', [...run, '--output', 'no/such/out.pcap'], 'unwritable_file', /no\/such\/out\.pcap/],
  ])('%s', async (_, args, errorCode, text) => {
    const [name = '', ...rest] = args;
    const { code, stdout, stderr } = await switchyard(name, '--json', ...rest);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^switchyard: /);
    expect(stderr).toMatch(text);
    expect(stderr).not.toMatch(/^\s+at /m);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(1);
    const { error } = JSON.parse(lines[0]!);
    expect(error.code).toBe(errorCode);
    expect(error.message).toMatch(text);
  });

  test('without --json, standard output stays empty', async () => {
    for (const args of [
      ['inspect', 'no/such.o'],
      [...run, '--workers', '0'],
    ]) {
      const { code, stdout, stderr } = await switchyard(...args);
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^switchyard: /);
    }
  });

  test.skipIf(!PROGRAMS)('a program of a type that is not run', async () => {
    const { code, stderr } = await switchyard('run', PROGRAMS!, '--program', 'probe', '--input', CAPTURE);
    expect(code).toBe(2);
    expect(stderr).toMatch(/probe .*is of type kprobe/);
  });
});

describe('the other end of the pipe', () => {
  test.each([
    [['run', ROUTER, '--program', 'router', '--input', CAPTURE]],
    [['verify', '--log', ROUTER]],
    [['disasm', ROUTER, '--program', 'stage_ipv4', '--stage', 'native']],
  ])('closed early: %j ends without a word', async args => {
    const child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...args]);
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', text => (stderr += text));
    const code = await new Promise(resolve => child.on('close', resolve));
    expect([code, stderr]).toEqual([0, '']);
  });

  test('is no terminal: no colour, no progress', async () => {
    const { stdout, stderr } = await switchyard(...run);
    expect(stdout).not.toContain('\u001b');
    expect(stderr).toBe('');
  });
});

test('an interrupt ends a run that would take hours', async () => {
  const child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...run, '--repeat', '4294967295']);
  let stdout = '';
  child.stdout.on('data', text => (stdout += text));
  await new Promise(resolve => setTimeout(resolve, 1500));
  expect(child.exitCode).toBeNull();
  child.kill('SIGINT');
  const signal = await new Promise(resolve => child.on('close', (_, name) => resolve(name)));
  expect([signal, stdout]).toEqual(['SIGINT', '']);
});
