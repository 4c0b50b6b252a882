import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Btf, type BtfComposite, parseBtf } from '../../src/object/btf.ts';
import { decodeValue } from '../../src/object/btf-codec.ts';
import { elfSection } from '../../src/object/elf.ts';
import { ObjectError } from '../../src/object/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import { typeName } from '../../src/object/type-name.ts';
import { requireTool } from '../tools.ts';
import { BtfBuilder } from './btf-builder.ts';
import { COMPILERS, FIXTURES, fixture, readObject } from './support.ts';

/** The form in which bpftool prints a type. */
function asBpftool(btf: Btf, id: number): Record<string, unknown> {
  const type = btf.type(id);
  const name = 'name' in type && type.name !== '' ? type.name : '(anon)';
  const head = { id, kind: type.kind.toUpperCase(), name };
  switch (type.kind) {
    case 'int': {
      const encoding = type.signed ? 'SIGNED' : type.char ? 'CHAR' : type.bool ? 'BOOL' : '(none)';
      return { ...head, size: type.size, bits_offset: type.offset, nr_bits: type.bits, encoding };
    }
    case 'ptr':
    case 'typedef':
    case 'const':
    case 'volatile':
    case 'restrict':
    case 'type_tag':
      return { ...head, type_id: type.type };
    case 'array':
      return { ...head, type_id: type.type, index_type_id: type.indexType, nr_elems: type.length };
    case 'struct':
    case 'union':
      return {
        ...head,
        size: type.size,
        vlen: type.members.length,
        members: type.members.map(member => ({
          name: member.name || '(anon)',
          type_id: member.type,
          bits_offset: member.bitOffset,
          ...(member.bitSize > 0 ? { bitfield_size: member.bitSize } : {}),
        })),
      };
    case 'enum':
    case 'enum64':
      return {
        ...head,
        encoding: type.signed ? 'SIGNED' : 'UNSIGNED',
        size: type.size,
        vlen: type.values.length,
        values: type.values.map(({ name: value, value: val }) => ({ name: value, val: enumValue(val) })),
      };
    case 'fwd':
      return { ...head, fwd_kind: type.forwards };
    case 'func':
      return { ...head, type_id: type.type, linkage: type.linkage };
    case 'func_proto': {
      const params = type.params.map(param => ({ name: param.name || '(anon)', type_id: param.type }));
      if (type.variadic) params.push({ name: '(anon)', type_id: 0 });
      return { ...head, ret_type_id: type.returnType, vlen: params.length, params };
    }
    case 'var':
      return { ...head, type_id: type.type, linkage: type.linkage };
    case 'datasec':
      return {
        ...head,
        size: type.size,
        vlen: type.variables.length,
        vars: type.variables.map(({ type: type_id, offset, size }) => ({ type_id, offset, size })),
      };
    case 'float':
      return { ...head, size: type.size };
    case 'decl_tag':
      return { ...head, type_id: type.type, component_idx: type.component };
    case 'void':
      return head;
  }
}

/** bpftool 7.1 prints unsigned 32-bit enum values from 2^31 on sign-extended to 64 bits; later ones do not. */
function enumValue(value: bigint): number {
  return Number(value >= 2n ** 64n - 2n ** 31n ? BigInt.asUintN(32, value) : value);
}

function compareWithBpftool(bpftool: string, path: string, btf: Btf): number {
  const json = execFileSync(bpftool, ['-j', 'btf', 'dump', 'file', path], { maxBuffer: 1 << 29 }).toString();
  const exact = json.replace(/"val":(\d{16,})/g, (_, digits) => `"val":${enumValue(BigInt(digits))}`);
  const { types } = JSON.parse(exact) as { types: { id: number }[] };
  let compared = 0;
  for (const type of types) {
    // One string comparison is cheap; the readable one is for what differs.
    const ours = asBpftool(btf, type.id);
    if (JSON.stringify(ours) !== JSON.stringify(type)) expect(ours).toEqual(type);
    compared++;
  }
  expect(compared).toBe(btf.size - 1);
  return compared;
}

const bpftool = requireTool('bpftool');
const VMLINUX = '/sys/kernel/btf/vmlinux';

describe.skipIf(bpftool === undefined)('against bpftool btf dump', () => {
  test.for(['pipeline', 'core', 'core-target', 'externs', 'values'])('fixture %s', name => {
    const btf = parseBtf(elfSection(fixture(name), '.BTF')!);
    expect(compareWithBpftool(bpftool!, join(FIXTURES, `${name}.o`), btf)).toBeGreaterThan(5);
  });

  test.for(COMPILERS)('all objects by $label', ({ compile }) => {
    for (const name of ['pipeline', 'core', 'values', 'kinds']) {
      const path = compile(name);
      compareWithBpftool(bpftool!, path, parseBtf(elfSection(readObject(path), '.BTF')!));
    }
  });

  test.skipIf(!existsSync(VMLINUX))('all types of the running kernel', () => {
    const btf = parseBtf(readObject(VMLINUX));
    expect(compareWithBpftool(bpftool!, VMLINUX, btf)).toBeGreaterThan(10_000);
  });
});

describe('values', () => {
  const { btf, maps } = parseObject(fixture('values'));
  const data = maps.get('.data')!;
  const entry = data.contents[0]!;
  const bytes = 'value' in entry ? entry.value : new Uint8Array();

  test('a data section shows what its C source says', () => {
    expect(decodeValue(btf!, data.btfValueId!, bytes)).toEqual({
      sample: {
        byte: 200,
        small: -2,
        number: -100000,
        big: -5000000000n,
        huge: 18446744073709551615n,
        yes: true,
        text: 'hello',
        raw: [1, 2, 3, -1],
        mac: [0, 1, 2, 0xaa, 0xbb, 0xff],
        color: 'BLUE',
        unnamed: 4,
        word: 0x01020304,
        bytes: [4, 3, 2, 1],
        at: [
          { x: 1, y: -1 },
          { x: 2, y: -2 },
        ],
        low: 5,
        middle: -7,
        high: 0xabcdef,
        pointer: 0n,
        function: 0n,
        grid: [
          [1, 2, 3],
          [4, 5, 6],
        ],
        rows: 0n,
        ratio: 0.75,
      },
    });
  });

  test('too few bytes are an error, and types without values are too', () => {
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeValue(btf!, data.btfValueId!, bytes.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'bad_value' }),
      );
    }
    const fn = btf!.find('read', 'func')!;
    expect(() => decodeValue(btf!, fn, bytes)).toThrow(expect.objectContaining({ code: 'bad_value' }));
  });

  test('types in C notation', () => {
    const struct = btf!.type(btf!.find('sample', 'struct')!) as BtfComposite;
    const names = Object.fromEntries(struct.members.map(member => [member.name, typeName(btf!, member.type)]));
    expect(names).toMatchObject({
      byte: 'unsigned char',
      huge: 'unsigned long long',
      yes: 'flag',
      text: 'char[8]',
      color: 'enum color',
      '': 'union {...}',
      at: 'struct {...}[2]',
      pointer: 'const char *const',
      function: 'handler',
      grid: 'int[2][3]',
      rows: 'int (*)[4]',
    });
    const handler = btf!.resolve(btf!.find('handler', 'typedef')!);
    expect(typeName(btf!, handler)).toBe('int (*)(void *, const char *, ...)');
    expect(typeName(btf!, btf!.find('read', 'func')!)).toBe('int read(void *)');
    expect(typeName(btf!, btf!.find('sample', 'var')!)).toBe('struct sample sample');
    expect(typeName(btf!, 0)).toBe('void');
  });

  test('a member called __proto__ is a member like others', () => {
    const builder = new BtfBuilder();
    const int = builder.int('int', 4, true);
    const id = builder.struct('s', 4, [{ name: '__proto__', type: int, bitOffset: 0 }]);
    const value = decodeValue(parseBtf(builder.bytes()), id, Uint8Array.of(7, 0, 0, 0));
    expect(Object.entries(value as object)).toEqual([['__proto__', 7]]);
  });
});

describe('malformed BTF', () => {
  const bad = expect.objectContaining({ name: 'ObjectError', code: 'bad_btf' });

  test('cycles of typedefs and arrays end', () => {
    const builder = new BtfBuilder();
    builder.add(8, 'a', 0, 2);
    builder.add(8, 'b', 0, 1);
    builder.add(3, '', 0, 0, [4, 0, 1]);
    builder.add(10, '', 0, 3);
    builder.add(2, '', 0, 5);
    const btf = parseBtf(builder.bytes());
    expect(() => btf.resolve(1)).toThrow(bad);
    expect(() => btf.sizeOf(1)).toThrow(bad);
    expect(() => btf.sizeOf(3)).toThrow(bad);
    expect(() => typeName(btf, 5)).toThrow(bad);
    expect(btf.sizeOf(5)).toBe(8);
    expect(() => decodeValue(btf, 3, new Uint8Array(8))).toThrow(ObjectError);
  });

  test('types that would unfold without end are given up', () => {
    const builder = new BtfBuilder();
    for (let id = 1; id <= 30; id++) {
      builder.struct(`s${id}`, 4, [
        { name: 'a', type: id + 1, bitOffset: 0 },
        { name: 'b', type: id + 1, bitOffset: 0 },
        { name: '', type: id + 1, bitOffset: 0 },
      ]);
    }
    builder.int('int', 4);
    const params = [0, 33, 0, 33, 0, 33];
    for (let id = 32; id <= 60; id++)
      builder.add(
        13,
        '',
        3,
        0,
        params.map(word => (word === 0 ? 0 : id + 1)),
      );
    builder.int('int', 4);
    const btf = parseBtf(builder.bytes());
    expect(() => decodeValue(btf, 1, new Uint8Array(4))).toThrow(ObjectError);
    expect(() => typeName(btf, 32)).toThrow(ObjectError);
  });

  test.for([
    ['an empty file', () => new Uint8Array()],
    ['another magic number', () => change(0, 0)],
    ['big-endian', () => change(0, 0xeb, 1, 0x9f)],
    ['another version', () => change(2, 9)],
    ['a header longer than the file', () => change(4, 0xff, 5, 0xff)],
    ['types past the end', () => change(13, 0xff)],
    ['strings past the end', () => change(21, 0xff)],
    ['strings inside the types', () => change(16, 4)],
    ['an unknown kind', () => change(24 + 7, 20)],
    ['kind 0', () => change(24 + 7, 0)],
    ['a name past the strings', () => change(25, 0x40)],
    ['a member of a type that does not exist', () => change(24 + 16 + 12 + 4, 99)],
    ['strings that do not end in NUL', () => change(-1, 65)],
  ] as const)('%s', ([, make]) => {
    expect(() => parseBtf(make())).toThrow(bad);
  });

  test('ids and offsets out of range', () => {
    const btf = parseBtf(small());
    expect(() => btf.type(99)).toThrow(bad);
    expect(() => btf.kind(-1)).toThrow(bad);
    expect(() => btf.string(1000)).toThrow(bad);
  });
});

function small(): Uint8Array {
  const builder = new BtfBuilder();
  const int = builder.int('int', 4);
  builder.struct('s', 4, [{ name: 'a', type: int, bitOffset: 0 }]);
  return builder.bytes();
}

/** Pairs of offset and new byte; negative offsets count from the end. */
function change(...edits: number[]): Uint8Array {
  const bytes = small();
  for (let i = 0; i < edits.length; i += 2) bytes[edits[i]! < 0 ? bytes.length + edits[i]! : edits[i]!] = edits[i + 1]!;
  return bytes;
}
