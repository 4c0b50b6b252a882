/**
 * Generated modules: used, compiled under `strict`, and each field's name, place, size and sign compared with what clang makes of
 * the C that bpftool makes of the same BTF.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadRouter, Protocol, routerObject } from '../../examples/router/router.bpf.ts';
import { createRuntime, readCapture } from '../../src/index.ts';
import { parseBtf } from '../../src/object/btf.ts';
import { TypeScriptTypes } from '../../src/object/typescript.ts';
import { BtfBuilder } from '../object/btf-builder.ts';
import { FIXTURES } from '../object/support.ts';
import { requireTool } from '../tools.ts';
import { CAPTURE, ROOT, ROUTER, scratch, switchyard } from './support.ts';

const MODULE = join(ROOT, 'examples/router/router.bpf.ts');
const TYPED = join(FIXTURES, 'typed.o');
const router = ['codegen', ROUTER, '--beside', '--import', '../../src/index.ts'];

test("the router's module is what the command writes", async () => {
  const { code, stdout, stderr } = await switchyard(...router);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  if (process.env.UPDATE_GOLDEN) writeFileSync(MODULE, stdout);
  expect(stdout).toBe(readFileSync(MODULE, 'utf8'));
  expect((await switchyard(...router)).stdout).toBe(stdout);
});

describe("the router's module", () => {
  const packets = readCapture(readFileSync(CAPTURE)).packets.map(({ data }) => data);

  test('maps, programs, prog arrays and globals', async () => {
    const runtime = createRuntime();
    const object = loadRouter(runtime);
    const { verdicts } = object.program('router').replay(packets);
    expect(Object.values(verdicts).reduce((a, b) => a + b, 0)).toBe(packets.length);
    const counters = object.map('counters');
    const count = (protocol: Protocol): bigint => counters.get(protocol)!.reduce((sum, each) => sum + each.packets, 0n);
    expect(count('IPV4') + count('IPV6') + count('ARP')).toBeGreaterThan(0n);
    expect(count(Protocol.TCP)).toBe(count('TCP'));
    // The same as the bytes say.
    const raw = object.object.map('counters').lookup(Uint8Array.of(Protocol.TCP, 0, 0, 0))!;
    const words = new BigUint64Array(raw.buffer);
    expect(count('TCP')).toBe(words.filter((_, i) => i % 2 === 0).reduce((a, b) => a + b, 0n));
    const flows = object.map('flows');
    const seen = [...flows];
    expect(seen.length).toBeGreaterThan(0);
    const [key, value] = seen[0]!;
    expect(flows.get(key)).toEqual(value);
    flows.set({ ...key, source: new Uint8Array(16) }, { packets: 1n, bytes: 60n }, 'noExist');
    expect([...flows].length).toBe(seen.length + 1);
    expect(object.progArray('stages').entries()).toHaveLength(8);
    expect(object.global('missed_stages').get()).toBe(0n);
    expect(object.map('flows')).toBe(flows);
    object.dispose();
    await runtime.dispose();
  });

  test('constants are set before the object is loaded', async () => {
    const runtime = createRuntime();
    const plain = loadRouter(runtime);
    const mac = plain.global('router_mac').get();
    expect(mac).toHaveLength(6);
    const other = loadRouter(runtime, { globals: { router_mac: [2, 0, 0, 0, 0, 9] } });
    expect(other.global('router_mac').get()).toEqual([2, 0, 0, 0, 0, 9]);
    expect(other.global('router_ipv4').get()).toBe(plain.global('router_ipv4').get());
    const frames = (object: typeof plain) =>
      object
        .program('router')
        .replay(packets, { keep: true })
        .results!.map(({ data }) => Buffer.from(data).toString('hex'));
    const [before, after] = [frames(plain), frames(other)];
    // It routes by that address: what it sends bears it.
    const sender = (frame: string): string => frame.slice(12, 24);
    expect(before.some(frame => sender(frame) === Buffer.from(mac).toString('hex'))).toBe(true);
    expect(after.some(frame => sender(frame) === '020000000009')).toBe(true);
    await runtime.dispose();
  });

  test('has the object', async () => {
    const bytes = readFileSync(ROUTER);
    expect(Buffer.compare(routerObject(), bytes)).toBe(0);
    const path = join(scratch, 'embedded.ts');
    const { code } = await switchyard('codegen', ROUTER, '-o', path, '--import', join(ROOT, 'src/index.ts'));
    expect(code).toBe(0);
    const embedded = (await import(path)) as { routerObject(): Uint8Array };
    expect(Buffer.compare(embedded.routerObject(), bytes)).toBe(0);
  });
});

const USE = `
import { createRuntime } from '${ROOT}/src/index.ts';
import { type EverythingInput, loadTyped } from './typed.ts';
const object = loadTyped(createRuntime(), { globals: { limit: 5, banner: 'x', upstream: { address: 1, port: 2 } } });
const table = object.map('table');
const key = { name: 'abc', id: 1, color: 'RED' } as const;
const value = table.get(key);
if (value !== undefined) {
  const huge: bigint = value.huge;
  const text: string | number[] = value.text;
  table.set(key, { ...value, huge: huge + 1n, text, mac: Uint8Array.of(1, 2, 3, 4, 5, 6) }, 'exist');
  const { whole, ...peer } = value.peer;
  const { either, ...rest } = value;
  const input: EverythingInput = { ...rest, peer };
  table.set(key, input);
  const deep: number = value.nested[0]!.points[0]!.x + value.low;
  console.log(whole, either, deep);
  // @ts-expect-error a bigint
  table.set(key, { ...value, huge: 1 });
  // @ts-expect-error no such name
  table.set(key, { ...value, color: 'PINK' });
  // @ts-expect-error the union's members are both missing
  table.set(key, { ...rest, bytes: undefined });
}
// @ts-expect-error color is missing
table.get({ name: 'abc', id: 1 });
// @ts-expect-error no such map
object.map('tables');
// @ts-expect-error no such global
object.global('limits');
// @ts-expect-error no such global
loadTyped(createRuntime(), { globals: { hidden: 1 } });
// @ts-expect-error no such program
object.program('counts');
const endpoints: { address: number; port: number }[] = object.map('per_cpu').get(1) ?? [];
const x: number | undefined = object.map('outer').get(0)?.get(1)?.x;
const floats: number[] = object.map('floats').get(0)!.many;
const level: 'BELOW' | 'LEVEL' | 'ABOVE' | number | undefined = object.map('levels').get(1n);
const total: bigint = object.global('total').get();
console.log(endpoints, x, floats, level, total);
`;

test('a module compiles under strict, and right and wrong uses of it are told apart', async () => {
  const path = join(scratch, 'typed.ts');
  const { code } = await switchyard('codegen', TYPED, '-o', path, '--import', join(ROOT, 'src/index.ts'));
  expect(code).toBe(0);
  writeFileSync(join(scratch, 'use.ts'), USE);
  const config = JSON.parse(readFileSync(join(ROOT, 'tsconfig.json'), 'utf8'));
  delete config.compilerOptions.rewriteRelativeImportExtensions;
  config.compilerOptions.allowImportingTsExtensions = true;
  writeFileSync(join(scratch, 'package.json'), '{"type": "module"}');
  config.compilerOptions.typeRoots = [join(ROOT, 'node_modules/@types')];
  writeFileSync(
    join(scratch, 'tsconfig.json'),
    JSON.stringify({ ...config, include: [path, join(scratch, 'use.ts')] }),
  );
  const { stdout, status } = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', scratch], { encoding: 'utf8' });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

// ---------------------------------------------------------------------------------------------------- fields against C

interface GeneratedField {
  /** C's name of the struct. */
  readonly struct: string;
  /** Path from the struct, as C writes it. */
  readonly path: string;
  /** Bytes, or bits of a bit-field, from the start of the innermost struct that is written out. */
  readonly offset: number;
  readonly bits: boolean;
  readonly size: number;
  readonly sign: string | undefined;
  readonly type: string;
}

/** The fields of every interface, from the module's text. */
function generatedFields(text: string): { fields: GeneratedField[]; sizes: Map<string, number> } {
  const fields: GeneratedField[] = [];
  const sizes = new Map<string, number>();
  let struct = '';
  let path: string[] = [];
  let note: RegExpExecArray | null = null;
  for (const line of text.split('\n')) {
    const head = /^\/\*\* `((?:struct|union) \w+|\w+)`, (\d+) bytes?\. \*\/$/.exec(line);
    if (head) {
      struct = head[1]!;
      sizes.set(struct, Number(head[2]));
      continue;
    }
    const found = /^ +\/\*\* `(.*)`: (offset|bit) (\d+), (\d+) (?:byte|bit)s?(?:, (signed|unsigned))? \*\/$/.exec(line);
    if (found) {
      note = found;
      continue;
    }
    const field = /^ +(\w+)\??: (.*)$/.exec(line);
    if (field && note) {
      const [, type = '', unit, offset, size, sign] = note;
      const [, name = '', rest = ''] = field;
      fields.push({
        struct,
        path: [...path, name].join('.'),
        offset: Number(offset),
        bits: unit === 'bit',
        size: Number(size),
        sign,
        type,
      });
      note = null;
      if (rest.endsWith('{')) path = [...path, type.endsWith(']') ? `${name}[0]` : name];
    } else if (/^ +\}+.*;$/.test(line)) path = path.slice(0, -1);
    else if (/^export interface \w+Maps/.test(line)) break;
  }
  return { fields, sizes };
}

const bpftool = requireTool('bpftool');
const compiler = requireTool('clang-14', 'clang-22', 'clang', 'cc');

describe.skipIf(bpftool === undefined || compiler === undefined)('fields as C has them', () => {
  test.each([
    ['router', ROUTER, 25],
    ['typed', TYPED, 60],
  ])('%s', async (name, object, least) => {
    const { stdout } = await switchyard('codegen', object);
    const { fields, sizes } = generatedFields(stdout);
    expect(fields.length).toBeGreaterThan(least);
    const header = execFileSync(bpftool!, ['btf', 'dump', 'file', object, 'format', 'c'], { encoding: 'utf8' });
    writeFileSync(join(scratch, `${name}.h`), header);
    const lines = fields.map(({ struct, path, bits, sign, offset }) => {
      const base = path.includes('.') ? path.slice(0, path.lastIndexOf('.')) : '';
      // Of a bit-field C tells neither place nor size: they are where ones appear.
      if (bits) {
        return `{ ${struct} v; memset(&v, 0, sizeof v); v.${path} = -1; print_bits(&v, sizeof v); printf(" %s\\n", ${sign ? `v.${path} < 0 ? "signed" : "unsigned"` : '"-"'}); }`;
      }
      const start = base === '' ? '0' : `(size_t)&((${struct} *)0)->${base}`;
      const signed = sign ? `(__typeof__(((${struct} *)0)->${path}))-1 < 0 ? "signed" : "unsigned"` : '"-"';
      return `printf("%zu %zu %s\\n", (size_t)&((${struct} *)0)->${path} - ${start}, sizeof(((${struct} *)0)->${path}), ${signed}); /* ${offset} */`;
    });
    const program = `
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "${name}.h"
static void print_bits(const void *v, size_t size) {
  size_t first = 0, count = 0;
  for (size_t i = 0; i < 8 * size; i++)
    if (((const unsigned char *)v)[i / 8] >> (i % 8) & 1) { if (!count++) first = i; }
  printf("%zu %zu", first, count);
}
int main(void) {
${lines.join('\n')}
${[...sizes.keys()].map(struct => `printf("%zu\\n", sizeof(${struct}));`).join('\n')}
}
`;
    writeFileSync(join(scratch, `${name}.c`), program);
    const binary = join(scratch, name);
    execFileSync(compiler!, ['-w', join(scratch, `${name}.c`), '-o', binary]);
    const told = execFileSync(binary, { encoding: 'utf8' }).trimEnd().split('\n');
    const ours = fields.map(({ offset, size, sign }) => `${offset} ${size} ${sign ?? '-'}`);
    expect(told).toEqual([...ours, ...[...sizes.values()].map(String)]);
    // And none is missing: all members that the C of these structs has, but for those of the types that the module does not need.
    for (const struct of sizes.keys()) {
      const body = new RegExp(`(?:typedef )?${struct} \\{\\n([\\s\\S]*?)\\n\\}`).exec(header)?.[1] ?? '';
      const names = [...body.matchAll(/^\t[^\t].*?\b\**([A-Za-z_]\w*)(?:\[\d+\])*(?: ?: ?\d+)?;$/gm)].map(
        ([, member]) => member,
      );
      const have = new Set(fields.filter(field => field.struct === struct).map(field => field.path));
      expect(names.filter(member => !have.has(member!))).toEqual([]);
    }
  });

  test.each([
    ['router', ROUTER],
    ['typed', TYPED],
  ])('enums of %s', async (_, object) => {
    const { stdout } = await switchyard('codegen', object);
    const header = execFileSync(bpftool!, ['btf', 'dump', 'file', object, 'format', 'c'], { encoding: 'utf8' });
    expect(stdout).toMatch(/export const \w+ = \{/);
    for (const [, name, tag] of [...stdout.matchAll(/export const (\w+) = \{/g)].map(([, name]) => [
      '',
      name!,
      name!.toLowerCase(),
    ])) {
      const ours = [
        ...new RegExp(`export const ${name} = \\{([^}]*)\\}`).exec(stdout)![1]!.matchAll(/(\w+): (-?\d+)/g),
      ];
      const theirs = [...new RegExp(`enum ${tag} \\{([^}]*)\\}`).exec(header)![1]!.matchAll(/(\w+) = (-?\d+)/g)];
      expect(ours.map(([, each, value]) => [each, Number(value) | 0])).toEqual(
        theirs.map(([, each, value]) => [each, Number(value) | 0]),
      );
    }
  });
});

test('names from the BTF stay names', () => {
  const builder = new BtfBuilder();
  const int = builder.int('int */ evil', 4);
  const id = builder.struct('Map */ process.exit() /*', 12, [
    { name: 'a: 1 }; evil(); {', type: int, bitOffset: 0 },
    { name: '*/ evil', type: int, bitOffset: 32 },
    { name: 'new\nline', type: int, bitOffset: 64 },
  ]);
  const other = builder.struct('Map', 4, [{ name: 'x', type: int, bitOffset: 0 }]);
  const types = new TypeScriptTypes(parseBtf(builder.bytes()));
  expect(types.text(id).read).toBe('MapProcessExit');
  expect(types.text(other).read).toBe('Map2');
  expect(types.declarations.join('\n')).toMatchInlineSnapshot(`
    "/** \`struct Map * / process.exit() /*\`, 12 bytes. */
    export interface MapProcessExit {
      /** \`int * / evil\`: offset 0, 4 bytes, unsigned */
      "a: 1 }; evil(); {": number;
      /** \`int * / evil\`: offset 4, 4 bytes, unsigned */
      "*/ evil": number;
      /** \`int * / evil\`: offset 8, 4 bytes, unsigned */
      "new\\nline": number;
    }

    /** \`struct Map\`, 4 bytes. */
    export interface Map2 {
      /** \`int * / evil\`: offset 0, 4 bytes, unsigned */
      x: number;
    }
    "
  `);
});

test('what there is none of is refused', async () => {
  expect(await switchyard('codegen', join(scratch, 'nothing.o'))).toMatchObject({ code: 2, stdout: '' });
  expect(await switchyard('codegen', ROUTER, '-o', '/nonexistent/x.ts')).toMatchObject({ code: 2 });
  expect(await switchyard('codegen')).toMatchObject({ code: 2 });
});
