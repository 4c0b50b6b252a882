/** Which maps a new build may take over from the old one. Clang makes the objects, with BTF. */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { type Collection, mapDifference, parseObject } from '../../src/core.ts';
import { requireTool } from '../tools.ts';

const clang = requireTool('clang-14', 'clang-22', 'clang');

interface Parts {
  readonly type?: number;
  readonly entries?: number;
  readonly flags?: number;
  readonly value?: string;
  readonly globals?: string;
}

const HASH = 1;
const ARRAY = 2;

function build({ type = HASH, entries = 8, flags = 0, value = 'int a; int b;', globals = '' }: Parts): Collection {
  const source = `
    typedef unsigned int u32;
    enum color { RED, GREEN };
    struct value { ${value} };
    struct { int (*type)[${type}]; u32 *key; struct value *value; int (*max_entries)[${entries}]; int (*map_flags)[${flags}]; }
      map __attribute__((section(".maps"), used));
    ${globals}
    __attribute__((section("xdp"), used)) int program(void *ctx) { return 0; }
    char _license[] __attribute__((section("license"), used)) = "GPL";`;
  const bytes = execFileSync(clang!, ['-target', 'bpf', '-O1', '-g', '-x', 'c', '-c', '-o', '-', '-'], {
    input: source,
  });
  return parseObject(new Uint8Array(bytes));
}

const difference = (a: Parts, b: Parts, name = 'map') => mapDifference(name, build(a), build(b));

test.skipIf(!clang)('alike', () => {
  expect(difference({}, {})).toBeUndefined();
  // What a typedef or a qualifier is called does not change what is in memory, nor does what a pointer points to.
  expect(difference({ value: 'u32 a;' }, { value: 'unsigned int a;' })).toBeUndefined();
  expect(difference({ value: 'const u32 a;' }, { value: 'volatile u32 a;' })).toBeUndefined();
  expect(difference({ value: 'int *a;' }, { value: 'struct value *a;' })).toBeUndefined();
});

test.skipIf(!clang).each<[what: string, a: Parts, b: Parts, reason: RegExp]>([
  ['type', {}, { type: ARRAY }, /its type was hash and is array/],
  ['size', {}, { entries: 9 }, /its max_entries was 8 and is 9/],
  ['flags', {}, { flags: 1 }, /its map_flags was 0 and is 1/],
  ['value size', {}, { value: 'int a;' }, /its value_size was 8 and is 4/],
  ['order of members', {}, { value: 'int b; int a;' }, /type of its values/],
  ['name of a member', {}, { value: 'int a; int c;' }, /type of its values/],
  ['signedness', {}, { value: 'int a; u32 b;' }, /type of its values/],
  ['kind', {}, { value: 'int a; float b;' }, /type of its values/],
  ['bit-fields', { value: 'int a : 3; int b : 5;' }, { value: 'int a : 5; int b : 3;' }, /type of its values/],
  ['array', { value: 'int a[2];' }, { value: 'short a[4];' }, /type of its values/],
  ['nested', { value: 'struct { int x; } a;' }, { value: 'struct { int y; } a;' }, /type of its values/],
  ['enum', { value: 'enum color a;' }, { value: 'enum { RED2, GREEN2 } a;' }, /type of its values/],
])('%s differs', (_, a, b, reason) => {
  expect(difference(a, b)).toMatch(reason);
});

test.skipIf(!clang)('global variables: kept unless layout or first values differ', () => {
  const globals = (text: string): Parts => ({ globals: `${text} int *use(void) { return &x; }` });
  expect(difference(globals('int x = 5;'), globals('int x = 5;'), '.data')).toBeUndefined();
  expect(difference(globals('int x = 5;'), globals('int x = 6;'), '.data')).toMatch(/what it holds at first/);
  expect(difference(globals('int x;'), globals('int x;'), '.bss')).toBeUndefined();
  expect(difference(globals('int x, y;'), globals('int x, z;'), '.bss')).toMatch(/type of its values/);
});

test.skipIf(!clang)('not there', () => {
  expect(difference({}, {}, 'other')).toMatch(/not there/);
  expect(mapDifference('.bss', build({}), build({ globals: 'int x;' }))).toMatch(/was not there/);
});
