/** Values of BTF types as JavaScript values: both ways, beside bpftool, and what is refused. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadIntoKernel } from '../../src/kernel/load.ts';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import { btfCodec } from '../../src/object/btf-codec.ts';
import type { BtfValue } from '../../src/object/btf-scalars.ts';
import { ObjectError } from '../../src/object/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import { kernelMissing } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';
import { BtfBuilder } from './btf-builder.ts';
import { fixture } from './support.ts';

const collection = parseObject(fixture('typed'));
const btf = collection.btf!;
const codecOf = (map: string, what: 'btfKeyId' | 'btfValueId' = 'btfValueId') =>
  btfCodec(btf, collection.maps.get(map)![what]!);

/** xorshift32: the same bytes on every machine. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Bytes among which small numbers, texts and -1 are more frequent than among random ones. */
function someBytes(size: number, next: (below: number) => number): Uint8Array {
  const bytes = Uint8Array.from({ length: size }, () => next(256));
  for (let runs = next(12); runs > 0; runs--) {
    const start = next(size);
    const fill = [0, 0, 0, 0xff, 0x41, 7][next(6)]!;
    bytes.fill(fill, start, start + next(16));
  }
  return bytes;
}

const missing = kernelMissing();
const bpftool = requireTool('bpftool');

describe.skipIf(missing !== undefined || bpftool === undefined)('as bpftool shows the same bytes and types', () => {
  interface Shown {
    readonly formatted: { readonly key: unknown; readonly value: unknown; readonly values?: { value: unknown }[] };
  }
  /** bpftool's numbers may be larger than JavaScript's. */
  const dump = (id: number): Shown[] => {
    const text = execFileSync(bpftool!, ['-j', 'map', 'dump', 'id', String(id)], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    return JSON.parse(text.replace(/([:[,])(-?\d+)(?=[,\]}])/g, '$1"\ue000$2"')) as Shown[];
  };

  /** bpftool knows no names for anonymous members, shows bit-fields as raw bits in hex and enums without name as int. */
  const expectSame = (ours: unknown, theirs: unknown, path: string): void => {
    if (typeof theirs === 'object' && theirs !== null && !Array.isArray(theirs)) {
      for (const [name, value] of Object.entries(theirs)) {
        if (name === '' || name === '(anon)') expectSame(ours, value, path);
        else expectSame((ours as Record<string, unknown>)[name], value, `${path}.${name}`);
      }
      return;
    }
    if (Array.isArray(theirs)) {
      // What ours shows as text and bpftool as numbers: not terminated by NUL.
      const list =
        typeof ours === 'string'
          ? [...Buffer.from(ours), ...new Array<number>(theirs.length).fill(0)]
              .slice(0, theirs.length)
              .map(byte => (byte << 24) >> 24)
          : (ours as unknown[]);
      expect([path, list.length]).toEqual([path, theirs.length]);
      for (const [i, value] of theirs.entries()) expectSame(list[i], value, `${path}[${i}]`);
      return;
    }
    if (typeof theirs === 'string' && theirs.startsWith('0x')) {
      const bits = bitFields.get(path.split('.').at(-1)!)!;
      const raw = typeof ours === 'string' ? levels.get(ours)! : BigInt(ours as number);
      expect([path, BigInt.asUintN(bits, raw)]).toEqual([path, BigInt(theirs)]);
      return;
    }
    if (typeof theirs === 'string' && theirs.startsWith('\ue000')) {
      const number = BigInt(theirs.slice(1));
      const own = BigInt(ours as number);
      // Whose compiler did not say which enums are signed: all are to bpftool, none to us.
      if (own === number + 2n ** 32n) expect(path).toMatch(/color|level|^value$/);
      else expect([path, own]).toEqual([path, number]);
      return;
    }
    if (typeof theirs === 'string' && Array.isArray(ours)) {
      // bpftool stops at the first NUL, whatever follows it; for us that is no text.
      expect([path, String.fromCharCode(...ours.slice(0, ours.indexOf(0)))]).toEqual([path, theirs]);
      return;
    }
    expect([path, ours]).toEqual([path, theirs]);
  };
  const unquoted = (byte: number): number => (byte === 0x5c || byte === 0x22 ? 0x41 : byte);
  const bitFields = new Map([
    ['low', 3],
    ['middle', 29],
    ['negative', 5],
    ['wide', 40],
    ['wide_negative', 44],
    ['tiny', 3],
    ['flag', 1],
  ]);
  const levels = new Map([
    ['BELOW', -3n],
    ['LEVEL', 0n],
    ['ABOVE', 3n],
  ]);

  test.each(['table', 'per_cpu', 'levels'])('map %s: random bytes decoded', name => {
    const object = loadIntoKernel(collection, { programs: [] });
    try {
      const map = object.map(name);
      const next = generator(0x51ab1e);
      const entries = map.spec.maxEntries / 2;
      for (let i = 0; i < entries; i++) {
        const stride = Math.ceil(map.spec.valueSize / 8) * 8;
        const value = map.valueBytes > stride ? someBytes(stride, next) : someBytes(map.spec.valueSize, next);
        map.update(
          someBytes(map.spec.keySize, next).map(unquoted),
          // Backslashes and quotes, which bpftool writes as they are, would be no JSON.
          Uint8Array.from({ length: map.valueBytes }, (_, i) => value[i % stride]!).map(unquoted),
        );
      }
      const [keys, values] = [codecOf(name, 'btfKeyId'), codecOf(name)];
      const theirs = dump(map.id);
      const ours = [...map.entries()];
      expect(theirs).toHaveLength(ours.length);
      expect(ours.length).toBeGreaterThan(entries / 4);
      for (const [i, [key, value]] of ours.entries()) {
        const { formatted } = theirs[i]!;
        expectSame(keys.decode(key), formatted.key, 'key');
        if (!formatted.values) expectSame(values.decode(value), formatted.value, 'value');
        for (const [cpu, each] of (formatted.values ?? []).entries()) {
          expectSame(values.decode(value, 8 * cpu), each.value, `value.${cpu}`);
        }
      }
    } finally {
      object.dispose();
    }
  });

  test('values encoded', () => {
    const object = loadIntoKernel(collection, { programs: [] });
    try {
      const key = codecOf('table', 'btfKeyId').encode({ name: 'abc', id: 9, color: 'GREEN' });
      object.map('table').update(key, codecOf('table').encode(EVERYTHING as never));
      const [shown] = dump(object.map('table').id);
      expectSame({ name: 'abc', id: 9, color: 'GREEN' }, shown!.formatted.key, 'key');
      // All members, as they are read.
      expectSame(READ, shown!.formatted.value, 'value');
    } finally {
      object.dispose();
    }
  });
});

const EVERYTHING = {
  byte: 255,
  small: -128,
  half: 65535,
  shorter: -32768,
  word: 0xffff_ffff,
  number: -0x8000_0000,
  huge: 0xffff_ffff_ffff_ffffn,
  big: -(2n ** 63n),
  yes: true,
  letter: 65,
  text: 'exactly 12 b',
  lines: ['one', ''],
  mac: Uint8Array.of(0, 1, 2, 3, 4, 255),
  raw: Int8Array.of(-1, 0, 1),
  color: 'BLUE',
  level: 'BELOW',
  colors: [3, 'RED'],
  hits: 4_000_000_000,
  at: [
    { x: -1, y: 2 },
    { x: 3, y: -4 },
  ],
  grid: [
    [1, 2, 3],
    [-1, -2, -3],
  ],
  low: 7,
  middle: 0x1fffffff,
  negative: -16,
  wide: 2n ** 40n - 1n,
  wide_negative: -(2n ** 43n),
  tiny: 'BELOW',
  flag: true,
  pointer: 0xffff_8880_0000_0001n,
  inside: -5,
  either: 0x04030201,
  peer: { v4: { address: 0x0a000001, port: 443 } },
  nested: [
    {
      deep: 1,
      points: [
        { x: 1, y: 2 },
        { x: 3, y: 4 },
      ],
    },
    {
      deep: 2,
      points: [
        { x: 5, y: 6 },
        { x: 7, y: 8 },
      ],
    },
  ],
};
const READ = {
  ...EVERYTHING,
  mac: [0, 1, 2, 3, 4, 255],
  raw: [-1, 0, 1],
  bytes: [1, 2, 3, 4],
  peer: { v4: { address: 0x0a000001, port: 443 }, whole: (443n << 32n) | 0x0a000001n },
};

describe('round trips', () => {
  test('a value comes back, with every member of its unions', () => {
    const codec = codecOf('table');
    const bytes = codec.encode(EVERYTHING as never);
    expect(bytes).toHaveLength(192);
    expect(codec.decode(bytes)).toEqual(READ);
    expect(codec.encode(codec.decode(bytes))).toEqual(bytes);
    // Other places, and what lay there before.
    const dirty = new Uint8Array(300).fill(0xa5);
    codec.encodeInto(EVERYTHING, dirty, 50);
    expect(dirty.subarray(50, 242)).toEqual(bytes);
    expect([dirty[49], dirty[242]]).toEqual([0xa5, 0xa5]);
    expect(codec.decode(dirty, 50)).toEqual(READ);
    // Numbers are taken for bigints, bigints for numbers.
    expect(codec.decode(codec.encode({ ...EVERYTHING, huge: 5, word: 6n } as never))).toMatchObject({
      huge: 5n,
      word: 6,
    });
    expect(btfCodec(btf, collection.maps.get('table')!.btfValueId!)).toBe(codec);
  });

  test('random bytes: equal values have equal bytes, and different ones different', () => {
    const codec = codecOf('table');
    const next = generator(99);
    let same = 0;
    for (let round = 0; round < 3000; round++) {
      const bytes = someBytes(codec.size, next);
      const value = codec.decode(bytes);
      const again = codec.encode(value);
      expect(codec.decode(again)).toEqual(value);
      const bit = next(codec.size * 8);
      const flipped = Uint8Array.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const other = codec.decode(flipped);
      const unchanged = Buffer.compare(codec.encode(other), again) === 0;
      expect([bit, unchanged]).toEqual([bit, JSON.stringify(other, plain) === JSON.stringify(value, plain)]);
      if (unchanged) same++;
    }
    // Padding, and bools.
    expect(same).toBeGreaterThan(20);
    expect(same).toBeLessThan(800);
  });

  test('floats, as near as they come', () => {
    const codec = codecOf('floats');
    const value = { f: 0.5, d: 0.1, many: [Number.POSITIVE_INFINITY, -0] };
    expect(codec.decode(codec.encode(value))).toEqual(value);
    expect(codec.decode(codec.encode({ ...value, f: 0.1 }))).toMatchObject({ f: Math.fround(0.1) });
    expect(codec.decode(codec.encode({ ...value, f: Number.NaN }))).toMatchObject({ f: Number.NaN });
    expect(refusal(() => codec.encode({ ...value, f: 1e300 }))).toMatchObject({ code: 'value_out_of_range' });
  });

  test('random types', () => {
    fc.assert(
      fc.property(TYPES, fc.integer({ min: 1, max: 0x7fffffff }), (shape, seed) => {
        // A bool that lies in a NaN's payload can't be told from it.
        fc.pre(!['bool', 'float', 'union'].every(kind => JSON.stringify(shape).includes(kind)));
        const builder = new BtfBuilder();
        const id = build(builder, shape).id;
        const types = parseBtf(builder.bytes());
        const codec = btfCodec(types, id);
        expect(codec.size).toBe(types.sizeOf(id));
        const bytes = someBytes(codec.size, generator(seed));
        const value = codec.decode(bytes);
        const again = codec.encode(value);
        expect(codec.decode(again)).toEqual(value);
        expect(codec.encode(codec.decode(again))).toEqual(again);
      }),
      { numRuns: 1000 },
    );
  });
});

const plain = (_name: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);

function refusal(run: () => unknown): ObjectError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ObjectError);
    return error as ObjectError;
  }
  throw new Error('nothing was thrown');
}

describe('what a type cannot hold', () => {
  const refused = (change: Record<string, unknown>) =>
    refusal(() => codecOf('table').encode({ ...EVERYTHING, ...change } as never));

  test.each([
    [{ byte: 256 }, 'value_out_of_range', 'byte'],
    [{ byte: -1 }, 'value_out_of_range', 'byte'],
    [{ byte: 1.5 }, 'value_out_of_range', 'byte'],
    [{ byte: Number.NaN }, 'value_out_of_range', 'byte'],
    [{ byte: 256n }, 'value_out_of_range', 'byte'],
    [{ byte: '1' }, 'wrong_value_type', 'byte'],
    [{ byte: true }, 'wrong_value_type', 'byte'],
    [{ byte: null }, 'wrong_value_type', 'byte'],
    [{ byte: undefined }, 'missing_field', 'byte'],
    [{ small: 128 }, 'value_out_of_range', 'small'],
    [{ huge: 2n ** 64n }, 'value_out_of_range', 'huge'],
    [{ huge: -1 }, 'value_out_of_range', 'huge'],
    [{ huge: 2 ** 53 }, 'value_out_of_range', 'huge'],
    [{ huge: '1' }, 'wrong_value_type', 'huge'],
    [{ big: 2n ** 63n }, 'value_out_of_range', 'big'],
    [{ yes: 2 }, 'wrong_value_type', 'yes'],
    [{ yes: 'true' }, 'wrong_value_type', 'yes'],
    [{ text: 'more than 12 bytes' }, 'value_out_of_range', 'text'],
    [{ text: 'ä'.repeat(7) }, 'value_out_of_range', 'text'],
    [{ text: 'a\0b' }, 'value_out_of_range', 'text'],
    [{ text: '\ud800' }, 'value_out_of_range', 'text'],
    [{ text: [1, 2] }, 'value_out_of_range', 'text'],
    [{ text: 5 }, 'wrong_value_type', 'text'],
    [{ lines: ['a', 'too long'] }, 'value_out_of_range', 'lines[1]'],
    [{ mac: [1, 2, 3, 4, 5] }, 'value_out_of_range', 'mac'],
    [{ mac: [1, 2, 3, 4, 5, 256] }, 'value_out_of_range', 'mac[5]'],
    [{ mac: '00:01:02:03:04:05' }, 'wrong_value_type', 'mac'],
    [{ mac: new DataView(new ArrayBuffer(6)) }, 'wrong_value_type', 'mac'],
    [{ color: 'PINK' }, 'wrong_value_type', 'color'],
    [{ color: -1 }, 'value_out_of_range', 'color'],
    [{ colors: ['RED', 'PINK'] }, 'wrong_value_type', 'colors[1]'],
    [{ at: [{ x: 1, y: 2 }, { x: 1 }] }, 'missing_field', 'at[1].y'],
    [{ at: [{ x: 1, y: 2 }, 5] }, 'wrong_value_type', 'at[1]'],
    [{ at: [{ x: 1, y: 2 }, [1, 2]] }, 'wrong_value_type', 'at[1]'],
    [
      {
        at: [
          { x: 1, y: 2 },
          { x: 1, y: 2, z: 3 },
        ],
      },
      'unknown_field',
      'at[1].z',
    ],
    [{ grid: [[1, 2, 3], [1]] }, 'value_out_of_range', 'grid[1]'],
    [{ low: 8 }, 'value_out_of_range', 'low'],
    [{ negative: 16 }, 'value_out_of_range', 'negative'],
    [{ wide: 2n ** 40n }, 'value_out_of_range', 'wide'],
    [{ tiny: 4 }, 'value_out_of_range', 'tiny'],
    [{ flag: 5 }, 'wrong_value_type', 'flag'],
    [{ pointer: -1n }, 'value_out_of_range', 'pointer'],
    [{ either: undefined }, 'missing_field', ''],
    [{ bytes: [9, 9, 9, 9] }, 'conflicting_members', ''],
    [{ peer: {} }, 'missing_field', 'peer'],
    [{ peer: { whole: 1n, v4: { address: 2, port: 0 } } }, 'conflicting_members', 'peer'],
    [{ peer: { whole: 1n, other: 1 } }, 'unknown_field', 'peer.other'],
    [{ unknown: 1 }, 'unknown_field', 'unknown'],
    [{ constructor: 1 }, 'unknown_field', 'constructor'],
  ])('%o', (change, code, path) => {
    const error = refused(change);
    expect({ code: error.code, path: error.details.path }).toEqual({ code, path });
    expect(error.message).toContain(path);
  });

  test.each([undefined, null, 5, 'x', [], new Uint8Array(192), () => {}])('%s for a struct', value => {
    expect(refusal(() => codecOf('table').encode(value as never)).code).toBe('wrong_value_type');
  });

  test('fields are not found on prototypes', () => {
    const builder = new BtfBuilder();
    const int = builder.int('int', 4, true);
    const id = builder.struct('s', 12, [
      { name: '__proto__', type: int, bitOffset: 0 },
      { name: 'toString', type: int, bitOffset: 32 },
      { name: 'constructor', type: int, bitOffset: 64 },
    ]);
    const codec = btfCodec(parseBtf(builder.bytes()), id);
    const value = codec.decode(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0));
    expect(Object.entries(value as object)).toEqual([
      ['__proto__', 1],
      ['toString', 2],
      ['constructor', 3],
    ]);
    expect(codec.encode(value)).toEqual(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0));
    expect(refusal(() => codec.encode({})).details.path).toBe('__proto__');
    expect(refusal(() => codec.encode(JSON.parse('{"__proto__": 1}') as never)).details.path).toBe('toString');
  });

  test('the lock in a value may be left out', () => {
    const builder = new BtfBuilder();
    const int = builder.int('int', 4);
    const lock = builder.struct('bpf_spin_lock', 4, [{ name: 'val', type: int, bitOffset: 0 }]);
    const id = builder.struct('s', 8, [
      { name: 'lock', type: lock, bitOffset: 0 },
      { name: 'count', type: int, bitOffset: 32 },
    ]);
    const codec = btfCodec(parseBtf(builder.bytes()), id);
    expect(codec.encode({ count: 3 })).toEqual(Uint8Array.of(0, 0, 0, 0, 3, 0, 0, 0));
  });

  test('too few bytes', () => {
    const codec = codecOf('floats');
    for (const bytes of [new Uint8Array(0), new Uint8Array(23)]) {
      expect(refusal(() => codec.decode(bytes)).code).toBe('bad_value');
      expect(refusal(() => codec.encodeInto({ f: 0, d: 0, many: [0, 0] }, bytes)).code).toBe('bad_value');
    }
    expect(refusal(() => codec.decode(new Uint8Array(24), 1)).code).toBe('bad_value');
    expect(refusal(() => codec.decode(new Uint8Array(24), -1)).code).toBe('bad_value');
  });

  test.each<[string, (builder: BtfBuilder) => number]>([
    ['a function', builder => builder.add(13, '', 0, 0)],
    ['a struct that is only declared', builder => builder.add(7, 's', 0, 0)],
    ['a struct that contains itself', builder => builder.struct('s', 8, [{ name: 'a', type: 1, bitOffset: 0 }])],
    [
      'a member outside its struct',
      builder => {
        const int = builder.int('int', 4);
        return builder.struct('s', 4, [{ name: 'a', type: int, bitOffset: 8 }]);
      },
    ],
    [
      'a member inside a byte',
      builder => {
        const int = builder.int('int', 1);
        return builder.struct('s', 4, [{ name: 'a', type: int, bitOffset: 3 }]);
      },
    ],
    ['an integer of 200 bytes', builder => builder.int('int', 200)],
    ['an integer with more bits than bytes', builder => builder.add(1, 'int', 0, 4, [64])],
  ])('%s has no codec', (_name, make) => {
    const builder = new BtfBuilder();
    const id = make(builder);
    expect(refusal(() => btfCodec(parseBtf(builder.bytes()), id)).code).toBe('bad_value');
  });
});

// ------------------------------------------------------------------------------------------------------- random types

type Shape =
  | { readonly kind: 'int'; readonly size: number; readonly signed: boolean }
  | { readonly kind: 'bool' }
  | { readonly kind: 'char' }
  | { readonly kind: 'float'; readonly size: number }
  | { readonly kind: 'pointer' }
  | { readonly kind: 'enum'; readonly values: readonly number[] }
  | { readonly kind: 'array'; readonly of: Shape; readonly length: number }
  | { readonly kind: 'struct' | 'union'; readonly members: readonly Shape[]; readonly anonymous: boolean }
  | { readonly kind: 'bits'; readonly widths: readonly number[]; readonly signed: boolean };

const TYPES: fc.Arbitrary<Shape> = fc.letrec<{ type: Shape }>(tie => ({
  type: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.record({
      kind: fc.constant('int' as const),
      size: fc.constantFrom(1, 2, 4, 8, 16),
      signed: fc.boolean(),
    }),
    fc.constant({ kind: 'bool' as const }),
    fc.constant({ kind: 'char' as const }),
    fc.record({ kind: fc.constant('float' as const), size: fc.constantFrom(4, 8, 16) }),
    fc.constant({ kind: 'pointer' as const }),
    fc.record({
      kind: fc.constant('enum' as const),
      values: fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 4 }),
    }),
    fc.record({
      kind: fc.constant('bits' as const),
      widths: fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 5 }),
      signed: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('array' as const), of: tie('type'), length: fc.integer({ min: 0, max: 4 }) }),
    fc.record({
      kind: fc.constantFrom('struct' as const, 'union' as const),
      members: fc.array(tie('type'), { minLength: 1, maxLength: 4 }),
      anonymous: fc.boolean(),
    }),
  ),
})).type;

let names = 0;

/** Adds a shape to the BTF; members lie one behind the other, with a byte of padding between. */
function build(builder: BtfBuilder, shape: Shape): { id: number; size: number } {
  switch (shape.kind) {
    case 'int':
      return { id: builder.int('int', shape.size, shape.signed), size: shape.size };
    case 'bool':
      return { id: builder.add(1, '_Bool', 0, 1, [(4 << 24) | 8]), size: 1 };
    case 'char':
      return { id: builder.int('char', 1, true), size: 1 };
    case 'float':
      return { id: builder.add(16, 'float', 0, shape.size), size: shape.size };
    case 'pointer':
      return { id: builder.add(2, '', 0, 0), size: 8 };
    case 'enum': {
      const tail = shape.values.flatMap((value, i) => [builder.string(`E${i}`), value]);
      return { id: builder.add(6, 'e', shape.values.length, 4, tail), size: 4 };
    }
    case 'array': {
      const of = build(builder, shape.of);
      const id = builder.add(3, '', 0, 0, [of.id, of.id, shape.length]);
      return { id, size: of.size * shape.length };
    }
    case 'bits': {
      const int = builder.int('int', 8, shape.signed);
      let at = 0;
      const tail = shape.widths.flatMap(width => {
        const member = [builder.string(`b${names++}`), int, (width << 24) | at];
        at += width;
        return member;
      });
      const size = Math.ceil(at / 8);
      return { id: builder.add(4, 's', shape.widths.length, size, tail, true), size };
    }
    default: {
      let size = 0;
      const members = shape.members.map(member => {
        const built = build(builder, member);
        const bitOffset = shape.kind === 'struct' ? 8 * size : 0;
        size = shape.kind === 'struct' ? size + built.size + 1 : Math.max(size, built.size);
        const isComposite = member.kind === 'struct' || member.kind === 'union' || member.kind === 'bits';
        const name = isComposite && shape.anonymous ? '' : `m${names++}`;
        return [builder.string(name), built.id, bitOffset];
      });
      const kind = shape.kind === 'struct' ? 4 : 5;
      return { id: builder.add(kind, 's', members.length, size, members.flat()), size };
    }
  }
}

test('values have types of their own', () => {
  const value: BtfValue = btfCodec<{ address: number; port: number }>(
    btf as Btf,
    collection.maps.get('per_cpu')!.btfValueId!,
  ).decode(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
  expect(value).toEqual({ address: 1, port: 2 });
});
