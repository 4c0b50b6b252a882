/**
 * `run --watch` as a user has it: a process that replays without end, and a file that changes under it. Nothing here waits for a
 * time to pass: each step waits for what the command says, however slow the machine is.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from 'vitest';
import { requireTool } from '../tools.ts';
import { CAPTURE, ROOT, ROUTER, scratch, switchyard } from './support.ts';

const clang = requireTool('clang-14', 'clang-22', 'clang');
const SOURCE = join(ROOT, 'test/cli/watched.bpf.c');
const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
const FLAGS = ['-target', 'bpf', '-O2', '-g', `-I/usr/include/${machine}-linux-gnu`];

/** biome-ignore lint/suspicious/noExplicitAny: whatever the command prints */
type Printed = Record<string, any>;

/** The bytes of a build. */
function compile(...defines: string[]): Buffer {
  const object = join(scratch, 'compiled.bpf.o');
  execFileSync(clang!, [...FLAGS, ...defines.map(define => `-D${define}`), '-c', SOURCE, '-o', object]);
  return readFileSync(object);
}

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

class Watched {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<number | null>;
  stderr = '';

  constructor(object: string, ...args: string[]) {
    const command = ['run', object, '--program', 'entry', '--input', CAPTURE, '--watch', '--json', ...args];
    this.#child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...command], { cwd: ROOT });
    running.add(this.#child);
    this.#ended = new Promise(resolve => this.#child.on('close', resolve));
    this.#child.stderr!.setEncoding('utf8').on('data', text => (this.stderr += text));
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** The next thing it says, which must be of this kind. */
  async next(event?: string): Promise<Printed> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`it ended instead of "${event}": ${this.stderr}`);
    const line = JSON.parse(value) as Printed;
    if (event !== undefined) expect(line).toMatchObject({ event });
    return line;
  }

  /** The build it tells of has taken over, and runs are on it. */
  async build(number: number): Promise<Printed> {
    const line = await this.next('took_over');
    expect(line).toMatchObject({ build: number });
    expect(await this.next('settled')).toEqual({ event: 'settled', build: number });
    return line;
  }

  /** Interrupts it. @returns the summary */
  async end(signal: NodeJS.Signals | undefined = 'SIGINT'): Promise<Printed> {
    if (signal) this.#child.kill(signal);
    const { value } = await this.#lines.next();
    expect(await this.#ended).toBe(0);
    expect((await this.#lines.next()).done).toBe(true);
    running.delete(this.#child);
    return JSON.parse(value) as Printed;
  }
}

let files = 0;
const newFile = (bytes: Buffer) => {
  const path = join(scratch, `watched${++files}.bpf.o`);
  writeFileSync(path, bytes);
  return path;
};
const replace = (path: string, bytes: Buffer) => {
  writeFileSync(`${path}.new`, bytes);
  renameSync(`${path}.new`, path);
};

describe.skipIf(!clang)('the object changes', () => {
  test.each(['native', 'interpreter'])('new builds take over, broken ones do not: %s', async backend => {
    const [one, two, three] = [1, 2, 3].map(version => compile(`VERSION=${version}`));
    const object = newFile(one!);
    const watched = new Watched(object, '--backend', backend);
    expect(await watched.next('watching')).toMatchObject({ object, sources: [] });

    replace(object, two!);
    const second = await watched.build(2);
    expect(second).toMatchObject({ keptMaps: ['seen', 'own'], newMaps: [], mayMiss: [] });
    expect(second.commitUs).toBeGreaterThan(0);

    // What the verifier rejects; what is no object; half of one; then nothing at all.
    replace(object, compile('VERSION=3', 'UNCHECKED'));
    expect(await watched.next('refused')).toMatchObject({ error: { code: 'packet_out_of_bounds' } });
    writeFileSync(object, 'switchyard');
    expect(await watched.next('refused')).toMatchObject({ error: { code: 'bad_elf' } });
    writeFileSync(object, three!.subarray(0, three!.length >> 1));
    expect(await watched.next('refused')).toMatchObject({ error: { code: expect.any(String) } });
    rmSync(object);
    expect(await watched.next('refused')).toMatchObject({ error: { code: 'unreadable_file' } });

    replace(object, three!);
    expect(await watched.build(3)).toMatchObject({ keptMaps: ['seen', 'own'] });
    // The interpreter settles between its turns; by the time that this was looked at there were some more.
    writeFileSync(object, 'switchyard');
    await watched.next('refused');
    const { verdicts, packets, maps, builds, tailCallMisses } = await watched.end();
    expect(Object.keys(verdicts).sort()).toEqual(['XDP_DROP', 'XDP_PASS', 'XDP_TX']);
    expect(builds).toBe(3);
    expect(tailCallMisses).toEqual([]);
    // Each build counted in the same map.
    expect(maps.seen).toEqual([{ key: 0, value: packets }]);
    expect(watched.stderr).toMatch(/build 2 of .* took over/);
    expect(watched.stderr).toMatch(/build 2 goes on/);
    expect(watched.stderr).not.toMatch(/^\s+at /m);
  });

  test('a file that is written in pieces', async () => {
    const object = newFile(compile('VERSION=1'));
    const two = compile('VERSION=2');
    const watched = new Watched(object);
    await watched.next('watching');
    // A compiler that is slower than the looks at the file.
    writeFileSync(object, '');
    const PIECE = 64;
    for (let at = 0; at < two.length; at += PIECE) {
      appendFileSync(object, two.subarray(at, at + PIECE));
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    // Where this test is slower than the command is patient, that says what it thinks of the half.
    let line = await watched.next();
    while (line.event === 'refused') line = await watched.next();
    expect(line).toMatchObject({ event: 'took_over', build: 2 });
    await watched.next('settled');
    await watched.end('SIGTERM');
  });

  test('maps that are not alike are made anew, with the reason', async () => {
    const object = newFile(compile('VERSION=1'));
    const watched = new Watched(object);
    await watched.next('watching');
    replace(object, compile('VERSION=2', 'ENTRIES=6'));
    expect(await watched.build(2)).toMatchObject({
      keptMaps: ['seen'],
      newMaps: [{ map: 'own', reason: 'its max_entries was 4 and is 6' }],
    });
    const { packets, maps } = await watched.end();
    expect(maps.seen).toEqual([{ key: 0, value: packets }]);
    expect(maps.own).toHaveLength(6);
    expect(maps.own[0].value).toBeLessThan(packets);
  });

  test('tail calls that could newly fall through are named, with --strict they keep a build out', async () => {
    const empty = compile('VERSION=2', 'SLOT=0');
    const site = { program: 'entry', map: 'jumps', from: 1, to: 1, line: expect.any(Number) };
    const object = newFile(compile('VERSION=1'));
    const watched = new Watched(object);
    await watched.next('watching');
    replace(object, empty);
    expect(await watched.build(2)).toMatchObject({ mayMiss: [site] });
    replace(object, compile('VERSION=3'));
    await watched.build(3);
    // Misses of builds that are gone.
    const { verdicts, tailCallMisses } = await watched.end();
    expect(tailCallMisses).toHaveLength(1);
    expect(tailCallMisses[0]).toMatchObject({ program: 'entry', map: 'jumps', index: 1, cause: 'empty' });
    expect(tailCallMisses[0].count).toBe(verdicts.XDP_ABORTED);

    replace(object, compile('VERSION=1'));
    const strict = new Watched(object, '--strict');
    await strict.next('watching');
    replace(object, empty);
    const { error } = await strict.next('refused');
    expect(error.code).toBe('would_miss');
    expect(error.message).toMatch(/jumps\[1\] is empty, from entry, insn \d+ \(.*watched\.bpf\.c:\d+: .*bpf_tail_call/);
    expect(Object.keys((await strict.end()).verdicts)).toEqual(['XDP_DROP']);
  });

  test('a program that is gone, and one of another type', async () => {
    const object = newFile(compile('VERSION=1'));
    const watched = new Watched(object);
    await watched.next('watching');
    replace(object, readFileSync(ROUTER));
    expect(await watched.next('refused')).toMatchObject({ error: { code: 'no_such_program' } });
    const text = readFileSync(SOURCE, 'utf8').replaceAll('SEC("xdp")', 'SEC("tc")').replaceAll('xdp_md', '__sk_buff');
    const source = join(scratch, 'tc.bpf.c');
    writeFileSync(source, text);
    const other = join(scratch, 'tc.bpf.o');
    execFileSync(clang!, [...FLAGS, '-DVERSION=2', '-c', source, '-o', other]);
    replace(object, readFileSync(other));
    expect(await watched.next('refused')).toMatchObject({ error: { message: expect.stringMatching(/type xdp, not/) } });
    await watched.end();
  });

  test('as often as --repeat says', async () => {
    const object = newFile(compile('VERSION=1'));
    const watched = new Watched(object, '--repeat', '3');
    await watched.next('watching');
    const { packets, builds } = await watched.end(undefined);
    expect(builds).toBe(1);
    expect(packets % 3).toBe(0);
  });
});

describe.skipIf(!clang)('--build', () => {
  const setUp = (version: number) => {
    const source = join(scratch, `source${++files}.bpf.c`);
    const write = (text: string) => writeFileSync(source, text);
    const text = (number: number) => `#define VERSION ${number}\n${readFileSync(SOURCE, 'utf8')}`;
    write(text(version));
    const object = source.replace(/c$/, 'o');
    const command = `${clang} ${FLAGS.join(' ')} -c ${source} -o ${object}`;
    return { source, object, command, write, text };
  };

  test('runs when a source of the object changes', async () => {
    const { source, object, command, write, text } = setUp(1);
    // There is no object yet.
    const watched = new Watched(object, '--build', command);
    await watched.next('building');
    const { sources } = await watched.next('watching');
    expect(sources).toContain(source);

    write(text(2));
    await watched.next('building');
    await watched.build(2);
    write(`${text(3)}\nthis is not C`);
    await watched.next('building');
    expect(await watched.next('build_failed')).toMatchObject({ exitCode: 1, signal: null });
    expect(watched.stderr).toContain('this is not C');
    write(text(3));
    await watched.next('building');
    await watched.build(3);
    expect(Object.keys((await watched.end()).verdicts).sort()).toEqual(['XDP_DROP', 'XDP_PASS', 'XDP_TX']);
  });

  test('takes the sources that are named, directories too; an interrupt ends the command', async () => {
    const { object, source, command } = setUp(1);
    execFileSync('sh', ['-c', command]);
    const pid = join(scratch, 'builder.pid');
    const directory = join(scratch, 'include');
    execFileSync('mkdir', ['-p', join(directory, 'deep')]);
    const watched = new Watched(
      object,
      '--build',
      `echo $$ > ${pid}.new; mv ${pid}.new ${pid}; sleep 1000`,
      '--source',
      directory,
    );
    expect(await watched.next('watching')).toMatchObject({ sources: [directory] });
    expect(existsSync(source)).toBe(true);
    writeFileSync(join(directory, 'deep/new.h'), '');
    await watched.next('building');
    while (!existsSync(pid)) await new Promise(resolve => setTimeout(resolve, 20));
    const builder = Number(readFileSync(pid, 'utf8'));
    expect(() => process.kill(builder, 0)).not.toThrow();
    await watched.end();
    // It may take a moment to be reaped.
    const alive = () => {
      try {
        process.kill(builder, 0);
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${builder}/status`, 'utf8'));
      } catch {
        return false;
      }
    };
    while (alive()) await new Promise(resolve => setTimeout(resolve, 20));
  });

  test('that fails at the start', async () => {
    const { code, stderr } = await switchyard(
      'run',
      join(scratch, 'none.o'),
      '--program',
      'entry',
      '--input',
      CAPTURE,
      '--build',
      'exit 3',
    );
    expect(code).toBe(2);
    expect(stderr).toMatch(/exit code 3/);
    expect(stderr).toMatch(/could not be built/);
  });
});

test.each<[args: string[], text: RegExp]>([
  [['--backend', 'kernel'], /leave out --watch/],
  [['--backend', 'interpreter', '--workers', '2'], /one thread/],
  [['--output', join(scratch, 'out.pcap')], /leave out --output/],
  [['--source', '.'], /add --build/],
])('what --watch does not go with: %j', async (args, text) => {
  const { code, stdout, stderr } = await switchyard(
    'run',
    ROUTER,
    '--program',
    'router',
    '--input',
    CAPTURE,
    '--watch',
    ...args,
  );
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(text);
});
