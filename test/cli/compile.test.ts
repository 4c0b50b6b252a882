/**
 * `switchyard compile`: what it writes is the same wherever and whenever it runs, and GNU binutils read it as it is meant:
 * objdump's instructions are those of the listing, and ld puts the same addresses into the code as our own linker.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compileCollection, parseObject, symbolName } from '../../src/index.ts';
import { applyRelocation } from '../../src/jit/shared/relocate.ts';
import { requireTool } from '../tools.ts';
import { PROGRAMS, ROOT, ROUTER, scratch, switchyard } from './support.ts';

type Arch = 'x64' | 'arm64';
const ARCHS: readonly Arch[] = ['x64', 'arm64'];

const tools = (prefix: string) => {
  const [objdump, readelf, ld, objcopy, nm, as] = ['objdump', 'readelf', 'ld', 'objcopy', 'nm', 'as'].map(name =>
    requireTool(`${prefix}-linux-gnu-${name}`),
  );
  return objdump && readelf && ld && objcopy && nm && as ? { objdump, readelf, ld, objcopy, nm, as } : undefined;
};
const BINUTILS = { x64: tools('x86_64'), arm64: tools('aarch64') };

/** Files of a directory and below it, by name. */
function filesOf(directory: string): Map<string, Buffer> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  return new Map(
    names
      .filter(name => /\.(bin|json|lst|o)$/.test(name))
      .map(name => [name, readFileSync(join(directory, name))] as const),
  );
}

const compiled: Partial<Record<Arch, Promise<string>>> = {};
/** The router, compiled for a machine, once. */
function router(arch: Arch): Promise<string> {
  const make = async () => {
    const directory = join(scratch, `router-${arch}`);
    const ended = await switchyard('compile', ROUTER, '--arch', arch, '--output', directory);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    return directory;
  };
  return (compiled[arch] ??= make());
}

describe.each(ARCHS)('%s', arch => {
  test('four files for each program and each routine it needs', async () => {
    const files = filesOf(await router(arch));
    const { programs, routines } = compileCollection(parseObject(readFileSync(ROUTER)), { arch });
    expect(programs.map(({ name }) => name)).toContain('stage_ipv4');
    expect(routines.map(({ name }) => name)).toContain('hash_update');
    const paths = [...programs.map(({ name }) => name), ...routines.map(({ name }) => `routines/${name}`)];
    expect([...files.keys()].sort()).toEqual(
      paths.flatMap(path => ['.bin', '.json', '.lst', '.o'].map(extension => path + extension)).sort(),
    );
    for (const unit of programs) {
      expect(new Uint8Array(files.get(`${unit.name}.bin`)!)).toEqual(unit.code.bytes);
      expect(new Uint8Array(files.get(`${unit.name}.o`)!)).toEqual(unit.objectFile);
    }
    // Whatever a relocation names is a map, a service, or there.
    for (const [name, bytes] of files) {
      if (!name.endsWith('.json')) continue;
      for (const { symbol } of JSON.parse(bytes.toString()).relocations) {
        if (/^(map|values|service)\./.test(symbol)) continue;
        expect(symbol).toMatch(/^routine\./);
        expect(files.has(`routines/${symbol.slice('routine.'.length)}.o`)).toBe(true);
      }
    }
  });

  test('the same bytes from another process, directory and environment', async () => {
    const files = filesOf(await router(arch));
    const elsewhere = join(scratch, `elsewhere-${arch}`);
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, 'renamed.o'), readFileSync(ROUTER));
    const { status } = spawnSync(
      process.execPath,
      [join(ROOT, 'dist/cli/main.js'), 'compile', 'renamed.o', '-o', 'a/b', '--arch', arch, '--json'],
      { cwd: elsewhere, env: { TZ: 'Asia/Kathmandu', LC_ALL: 'tr_TR.UTF-8', FORCE_COLOR: '1', HOME: '/' } },
    );
    expect(status).toBe(0);
    const again = filesOf(join(elsewhere, 'a/b'));
    expect([...again.keys()]).toEqual([...files.keys()]);
    for (const [name, bytes] of again) expect(bytes.equals(files.get(name)!), name).toBe(true);
    for (const bytes of files.values()) expect(bytes.includes(ROOT)).toBe(false);
  });

  test('JSON says all that a loader needs', async () => {
    const files = filesOf(await router(arch));
    const description = JSON.parse(files.get('stage_ipv4.json')!.toString());
    expect(description).toMatchObject({ format: 1, kind: 'program', name: 'stage_ipv4', type: 'xdp', arch });
    expect(description.bytes).toBe(files.get('stage_ipv4.bin')!.length);
    expect(description.functions[0]).toMatchObject({ name: 'stage_ipv4', start: 0 });
    expect(description.functions.at(-1).end).toBe(description.bytes);
    expect(description.maps).toContainEqual(
      expect.objectContaining({ name: 'stages', type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 8 }),
    );
    expect(description.tailCalls.map(({ kind }: { kind: string }) => kind)).toContain('direct');
    expect(description.pokeSites).toContainEqual(expect.objectContaining({ map: 'stages', index: 4 }));
    const routine = JSON.parse(files.get('routines/hash_lookup.json')!.toString());
    expect(routine).toMatchObject({ kind: 'routine', name: 'hash_lookup', arch });
    expect(routine).not.toHaveProperty('tailCallEntry');
  });

  test.skipIf(!BINUTILS[arch])('readelf: sections, symbols, relocations, and nothing to complain about', async () => {
    const directory = await router(arch);
    for (const name of filesOf(directory).keys()) {
      if (!name.endsWith('.o')) continue;
      const { status, stdout, stderr } = spawnSync(BINUTILS[arch]!.readelf, ['-Wa', join(directory, name)], {
        encoding: 'utf8',
      });
      expect([status, stderr]).toEqual([0, '']);
      expect(stdout).not.toMatch(/warning|error|corrupt|<unknown>|unrecognized/i);
    }
    const text = (name: string) =>
      execFileSync(BINUTILS[arch]!.readelf, ['-Wa', join(directory, name)], { encoding: 'utf8' });
    const { functions, relocations } = JSON.parse(readFileSync(join(directory, 'stage_arp.json'), 'utf8'));
    for (const { name, start, end } of functions) {
      const value = start.toString(16).padStart(16, '0');
      expect(text('stage_arp.o')).toMatch(
        new RegExp(`${value} +${end - start} FUNC +(LOCAL|GLOBAL) +DEFAULT +1 ${name}$`, 'm'),
      );
    }
    for (const { offset, symbol } of relocations) {
      const at = offset.toString(16).padStart(16, '0');
      expect(text('stage_arp.o')).toMatch(new RegExp(`^${at} .* ${symbol.replaceAll('.', '\\.')} [+-]`, 'm'));
    }
  });

  test.skipIf(!BINUTILS[arch])('objdump shows the instructions of the listing', async () => {
    const directory = await router(arch);
    let compared = 0;
    for (const name of filesOf(directory).keys()) {
      if (!name.endsWith('.o')) continue;
      const args = ['-dwz', '--no-show-raw-insn', ...(arch === 'x64' ? ['-M', 'intel'] : []), join(directory, name)];
      const dump = execFileSync(BINUTILS[arch]!.objdump, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
      const ours = instructions(readFileSync(join(directory, name.replace(/\.o$/, '.lst')), 'utf8'));
      const theirs = instructions(dump);
      expect(ours.length).toBeGreaterThan(3);
      if (arch === 'x64') expect(ours.map(intelText)).toEqual(theirs.map(intelText));
      else expect(assembled(ours)).toEqual(new Uint8Array(readFileSync(join(directory, name.replace(/\.o$/, '.bin')))));
      expect(ours.map(({ at }) => at)).toEqual(theirs.map(({ at }) => at));
      compared += ours.length;
    }
    expect(compared).toBeGreaterThan(2000);
  });

  test.skipIf(!BINUTILS[arch])('GNU ld writes the addresses that our linker writes', async () => {
    const directory = await router(arch);
    const { programs, routines } = compileCollection(parseObject(readFileSync(ROUTER)), { arch });
    const units = [...programs, ...routines];
    // Anything that 48 bits hold; code and services near each other.
    const address = new Map<string, bigint>();
    for (const { code, lowered } of units) {
      for (const { target } of code.relocations) {
        const name = symbolName(target, lowered.usedMaps);
        if (name === undefined || target.kind === 'routine') continue;
        const place = target.kind === 'service' ? 0x7f12_3000_0000n : 0x7abc_dead_0000n;
        if (!address.has(name)) address.set(name, place + BigInt(address.size) * 0x11_0040n);
      }
    }
    const { ld, nm, objcopy } = BINUTILS[arch]!;
    const image = join(directory, 'image');
    const objects = [...filesOf(directory).keys()].filter(name => name.endsWith('.o'));
    const linked = spawnSync(
      ld,
      [
        ...[...address].map(([name, value]) => `--defsym=${name}=0x${value.toString(16)}`),
        '--fatal-warnings',
        '-Ttext=0x7f1234500000',
        '-e',
        'router',
        '-o',
        image,
        ...objects,
      ],
      { cwd: directory, encoding: 'utf8' },
    );
    expect([linked.status, linked.stderr]).toEqual([0, '']);
    const symbols = execFileSync(nm, [image], { encoding: 'utf8' });
    for (const [, hex, name] of symbols.matchAll(/^([0-9a-f]+) T (\S+)$/gm)) address.set(name!, BigInt(`0x${hex}`));
    execFileSync(objcopy, ['-O', 'binary', '-j', '.text', image, `${image}.bin`]);
    const bytes = readFileSync(`${image}.bin`);
    let fields = 0;
    for (const { kind, name, code, lowered } of units) {
      const base = address.get(kind === 'routine' ? `routine.${name}` : name)!;
      const expected = code.bytes.slice();
      for (const relocation of code.relocations) {
        const symbol = symbolName(relocation.target, lowered.usedMaps);
        const target = symbol === undefined ? base : address.get(symbol)!;
        applyRelocation(new DataView(expected.buffer), relocation, base, target);
        fields++;
      }
      expect(base % 64n).toBe(0n);
      const at = Number(base - 0x7f1234500000n);
      expect(Buffer.compare(bytes.subarray(at, at + expected.length), expected), name).toBe(0);
    }
    expect(fields).toBeGreaterThan(100);
  });
});

interface Listed {
  readonly at: number;
  readonly text: string;
}

/** The instructions of a listing or of objdump's output. */
function instructions(listing: string): Listed[] {
  return [...listing.matchAll(/^ *([0-9a-f]+):\s+(.*)$/gm)].map(([, hex, text]) => ({
    at: Number.parseInt(hex!, 16),
    text: text!.replace(/ {2};.*|<.*|#.*\/\/.*/, '').trim(),
  }));
}

/** GNU's and iced's spelling of Intel's syntax, brought together. */
function intelText({ at, text }: Listed): string {
  const plain = text
    .toLowerCase()
    .replace(/\s+/g, ' ')
    .replace(/\b(byte|word|dword|qword) ptr /g, '')
    .replace(/\b(short|near ptr) /g, '')
    .replace(/\b(?:0x)?([0-9][0-9a-f]*)h\b/g, (_, hex) => `0x${hex}`)
    .replace(/^movabs /, 'mov ')
    .replace(/^(j\w+|call) ([0-9a-f]+)$/, (_, name, hex) => `${name} 0x${hex}`)
    .replace(/\b0x0+(?=[0-9a-f])/g, '0x')
    .replace(/\*1(?=[+\]-])/g, '')
    .replace(/\b\d+\b/g, decimal => `0x${Number(decimal).toString(16)}`)
    .replace(/\+0x0\]/, ']')
    .replace(/^imul (\w+),\1,/, 'imul $1,');
  return `${at.toString(16)}: ${plain}`;
}

/** What GNU as makes of an arm64 listing. Branches are listed with the address they lead to. */
function assembled(listing: readonly Listed[]): Uint8Array {
  const source = join(scratch, 'listing.s');
  const lines = listing.map(({ text, at }) =>
    text.replace(/^(b|bl|b\.\w+|cbn?z \w+,) ?0x([0-9a-f]+)$/, (_, branch, target) => {
      return `${branch} . + (${Number.parseInt(target, 16) - at})`;
    }),
  );
  writeFileSync(source, `.arch armv8.1-a\n${lines.join('\n')}\n`);
  const { as, objcopy } = BINUTILS.arm64!;
  execFileSync(as, [source, '-o', `${source}.o`]);
  execFileSync(objcopy, ['-O', 'binary', '-j', '.text', `${source}.o`, `${source}.bin`]);
  return new Uint8Array(readFileSync(`${source}.bin`));
}

describe('options', () => {
  test('the example of --help works', async () => {
    const { stdout } = await switchyard('compile', '--help');
    const example = /^Example:\n {2}switchyard (.*)$/m.exec(stdout)![1]!.replace(/-o \S+/, `-o ${scratch}/example`);
    expect(await switchyard(...example.split(' '))).toMatchObject({ code: 0, stderr: '' });
    expect(filesOf(join(scratch, 'example')).size).toBeGreaterThan(10);
  });

  test('--program: only these, with their routines', async () => {
    const directory = join(scratch, 'two');
    const words = ['--program', 'stage_arp', '--program', 'router'];
    const { code, stdout } = await switchyard('compile', ROUTER, '--arch', 'x64', '-o', directory, '--json', ...words);
    expect(code).toBe(0);
    const summary = JSON.parse(stdout);
    expect(summary).toMatchObject({ directory, arch: 'x64', tailCallMode: 'fast' });
    expect(summary.programs.map(({ name }: { name: string }) => name).sort()).toEqual(['router', 'stage_arp']);
    for (const { bytes, files } of [...summary.programs, ...summary.routines]) {
      expect(readFileSync(join(directory, files[0])).length).toBe(bytes);
    }
  });

  test.each([
    ['--tail-call-mode', 'baseline'],
    ['--tail-call-mode', 'cached'],
    ['--atomics', 'exclusive'],
    ['--no-pokes'],
    ['--empty-slots', 'stub'],
  ])('%s %s makes other code', async (...words) => {
    const directory = join(scratch, words.join(''));
    expect((await switchyard('compile', ROUTER, '--arch', 'arm64', '-o', directory, ...words)).code).toBe(0);
    const usual = filesOf(await router('arm64'));
    expect([...filesOf(directory)].some(([name, bytes]) => !bytes.equals(usual.get(name)!))).toBe(true);
    const { pokeSites, atomics, tailCallMode, emptySlots, missStub } = JSON.parse(
      readFileSync(join(directory, 'stage_tcp.json'), 'utf8'),
    );
    expect(atomics).toBe(words[0] === '--atomics' ? 'exclusive' : 'lse');
    expect(tailCallMode).toBe(words[0] === '--tail-call-mode' ? words[1] : 'fast');
    // add x26, x26, #1; br x12
    const stub = words[0] === '--empty-slots';
    expect([emptySlots, missStub]).toEqual(stub ? ['stub', '5a07009180011fd6'] : ['test', null]);
    if (words[0] === '--no-pokes') expect(pokeSites).toEqual([]);
  });

  test('a directory that cannot be made', async () => {
    const file = join(scratch, 'file');
    writeFileSync(file, '');
    const ended = await switchyard('compile', ROUTER, '--arch', 'x64', '-o', join(file, 'x'), '--json');
    expect(ended.code).toBe(2);
    expect(JSON.parse(ended.stdout).error.code).toBe('unwritable_file');
  });

  test.skipIf(!PROGRAMS)('one program that is rejected: nothing is written', async () => {
    const directory = join(scratch, 'rejected');
    const { code, stdout } = await switchyard('compile', PROGRAMS!, '--arch', 'arm64', '-o', directory, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error.code).toBe('packet_out_of_bounds');
    expect(() => readdirSync(directory)).toThrow(/ENOENT/);
  });
});
