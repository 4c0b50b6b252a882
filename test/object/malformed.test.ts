import { describe, expect, test } from 'vitest';
import { SwitchyardError } from '../../src/errors.ts';
import { decodeValue } from '../../src/object/btf-codec.ts';
import { ObjectError, type ObjectErrorCode } from '../../src/object/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import { fixture } from './support.ts';

/** mulberry32: the same mutations on every machine. */
function random(seed: number): (limit: number) => number {
  let state = seed;
  return limit => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

const EXTREMES = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 63n,
  2n ** 64n - 1n,
];

function mutate(original: Uint8Array, pick: (limit: number) => number): Uint8Array {
  let bytes = original.slice();
  for (let edits = 1 + pick(4); edits > 0; edits--) {
    const at = pick(bytes.length);
    switch (pick(6)) {
      case 0:
        bytes[at] = pick(256);
        break;
      case 1:
        bytes[at] = bytes[at]! ^ (1 << pick(8));
        break;
      case 2: {
        const size = [1, 2, 4, 8][pick(4)]!;
        let value = EXTREMES[pick(EXTREMES.length)]!;
        // Most fields are aligned; hit them whole.
        for (let i = at & -size; i < (at & -size) + size && i < bytes.length; i++, value >>= 8n) {
          bytes[i] = Number(value & 0xffn);
        }
        break;
      }
      case 3:
        bytes.copyWithin(pick(bytes.length), at, at + pick(64));
        break;
      case 4:
        bytes.fill(0, at, at + pick(64));
        break;
      default:
        // Cut rarely: it is refused at once, the section table being at the end.
        if (pick(8) === 0) bytes = bytes.slice(0, Math.max(1, at));
        else bytes[at] = (bytes[at]! + 1) & 0xff;
    }
  }
  return bytes;
}

/** Mutates and parses; counts of each error code, and of collections under ''. */
function survey(name: string, rounds: number, seed: number, targetBtf?: Uint8Array): Map<string, number> {
  const original = fixture(name);
  const pick = random(seed);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const bytes = mutate(original, pick);
    let outcome = '';
    try {
      const { maps, btf } = parseObject(bytes, targetBtf === undefined ? {} : { targetBtf });
      for (const map of maps.values()) {
        if (btf === undefined || map.btfValueId === undefined || map.valueSize > 4096) continue;
        decodeValue(btf, map.btfValueId, new Uint8Array(map.valueSize));
      }
    } catch (error) {
      if (!(error instanceof SwitchyardError))
        throw new Error(`round ${round} of ${name}, seed ${seed}`, { cause: error });
      outcome = error.code;
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

describe('20,000 random mutations end in a typed error or a collection', () => {
  test.for([
    ['pipeline', 9000],
    ['values', 4000],
    ['legacy', 2000],
    ['legacy-plain', 1000],
    ['externs', 1000],
  ] as const)('%s', ([name, rounds]) => {
    const outcomes = survey(name, rounds, 1);
    // Both ends of the scale must be met, or the mutations say nothing.
    expect(outcomes.get('')).toBeGreaterThan(rounds / 20);
    expect(outcomes.get('bad_elf')).toBeGreaterThan(rounds / 100);
    expect(outcomes.size).toBeGreaterThan(4);
  });

  test('core, with a good target', () => {
    const outcomes = survey('core', 3000, 2, fixture('core-target'));
    expect(outcomes.get('')).toBeGreaterThan(150);
    expect(outcomes.has('bad_core_relocation')).toBe(true);
  });

  test('a good object with a mutated target', () => {
    const object = fixture('core');
    const original = fixture('core-target');
    const pick = random(3);
    let good = 0;
    for (let round = 0; round < 1000; round++) {
      try {
        parseObject(object, { targetBtf: mutate(original, pick) });
        good++;
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw new Error(`round ${round}`, { cause: error });
      }
    }
    expect(good).toBeGreaterThan(50);
    expect(good).toBeLessThan(950);
  });

  test('every prefix of an object', () => {
    const original = fixture('values');
    for (let length = 0; length < original.length; length++) {
      expect(() => parseObject(original.subarray(0, length))).toThrow(ObjectError);
    }
  });
});

// Offsets in the file: ELF header fields, and section headers by index.
const HEADER = { sections: 40, sectionSize: 58, sectionCount: 60, namesIndex: 62 };
interface Editor {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Offset of the header of the first section of that name. */
  header(name: string): number;
  /** File offset of the section's bytes. */
  data(name: string): number;
  symbol(name: string): number;
}

function edit(name: string): Editor {
  const bytes = fixture(name);
  const view = new DataView(bytes.buffer);
  const table = Number(view.getBigUint64(HEADER.sections, true));
  const headerAt = (index: number): number => table + index * 64;
  const dataAt = (header: number): number => Number(view.getBigUint64(header + 24, true));
  const text = (at: number): string => {
    let end = at;
    while (bytes[end] !== 0) end++;
    return new TextDecoder().decode(bytes.subarray(at, end));
  };
  const header = (wanted: string): number => {
    const names = dataAt(headerAt(view.getUint16(HEADER.namesIndex, true)));
    for (let i = 1; i < view.getUint16(HEADER.sectionCount, true); i++) {
      if (text(names + view.getUint32(headerAt(i), true)) === wanted) return headerAt(i);
    }
    throw new Error(`no section ${wanted}`);
  };
  const data = (wanted: string): number => dataAt(header(wanted));
  return {
    bytes,
    view,
    header,
    data,
    symbol(wanted) {
      const symtab = header('.symtab');
      const strings = dataAt(headerAt(view.getUint32(symtab + 40, true)));
      const start = dataAt(symtab);
      const end = start + Number(view.getBigUint64(symtab + 32, true));
      for (let at = start; at < end; at += 24) if (text(strings + view.getUint32(at, true)) === wanted) return at;
      throw new Error(`no symbol ${wanted}`);
    },
  };
}

function codeOf(bytes: Uint8Array): string {
  try {
    parseObject(bytes);
  } catch (error) {
    if (error instanceof ObjectError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('each structural lie is refused by its name', () => {
  const cases: readonly (readonly [string, string, ObjectErrorCode, (editor: Editor) => void])[] = [
    ['32-bit ELF', 'values', 'bad_elf', ({ bytes }) => void (bytes[4] = 1)],
    ['big-endian ELF', 'values', 'bad_elf', ({ bytes }) => void (bytes[5] = 2)],
    ['another machine', 'values', 'bad_elf', ({ view }) => view.setUint16(18, 62, true)],
    ['an executable', 'values', 'bad_elf', ({ view }) => view.setUint16(16, 2, true)],
    ['no sections', 'values', 'bad_elf', ({ view }) => view.setUint16(HEADER.sectionCount, 0, true)],
    ['more sections than bytes', 'values', 'bad_elf', ({ view }) => view.setUint16(HEADER.sectionCount, 0xff00, true)],
    ['odd section headers', 'values', 'bad_elf', ({ view }) => view.setUint16(HEADER.sectionSize, 40, true)],
    ['names in no section', 'values', 'bad_elf', ({ view }) => view.setUint16(HEADER.namesIndex, 0xffff, true)],
    [
      'a section past the end',
      'values',
      'bad_elf',
      ({ view, header }) => view.setBigUint64(header('.data') + 32, 1n << 40n, true),
    ],
    [
      'a section offset past 2^53',
      'values',
      'bad_elf',
      ({ view, header }) => view.setBigUint64(header('.data') + 24, 1n << 60n, true),
    ],
    [
      'overlapping sections',
      'values',
      'bad_elf',
      ({ view, header, data }) => view.setBigUint64(header('.data') + 24, BigInt(data('socket')), true),
    ],
    [
      'symbols of another size',
      'values',
      'bad_elf',
      ({ view, header }) => view.setBigUint64(header('.symtab') + 56, 16n, true),
    ],
    [
      'symbol names elsewhere',
      'values',
      'bad_elf',
      ({ view, header }) => view.setUint32(header('.symtab') + 40, 2, true),
    ],
    [
      'relocations of nothing',
      'values',
      'bad_elf',
      ({ view, header }) => view.setUint32(header('.relsocket') + 44, 999, true),
    ],
    [
      'a symbol in no section',
      'values',
      'bad_symbol',
      ({ view, symbol }) => view.setUint16(symbol('sample') + 6, 500, true),
    ],
    [
      'a function past its section',
      'values',
      'bad_symbol',
      ({ view, symbol }) => view.setBigUint64(symbol('read') + 16, 4096n, true),
    ],
    [
      'a function between slots',
      'values',
      'bad_symbol',
      ({ view, symbol }) => view.setBigUint64(symbol('read') + 8, 4n, true),
    ],
    [
      'a relocation past its section',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setBigUint64(data('.relsocket'), 64n, true),
    ],
    [
      'a relocation inside a slot',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setBigUint64(data('.relsocket'), 4n, true),
    ],
    [
      'a relocation of no symbol',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setUint32(data('.relsocket') + 12, 99, true),
    ],
    [
      'an unknown relocation',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setUint32(data('.relsocket') + 8, 77, true),
    ],
    [
      'a data relocation in code',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setUint32(data('.relsocket') + 8, 3, true),
    ],
    [
      'a relocation of exit',
      'values',
      'bad_relocation',
      ({ view, data }) => view.setBigUint64(data('.relsocket'), 24n, true),
    ],
    [
      'code of half a slot',
      'values',
      'bad_program_section',
      ({ view, header }) => view.setBigUint64(header('socket') + 32, 28n, true),
    ],
    ['an unknown opcode', 'values', 'bad_instruction', ({ bytes, data }) => void (bytes[data('socket') + 24] = 0xff)],
    [
      'a map of no type',
      'legacy-plain',
      'unsupported_map_type',
      ({ view, data }) => view.setUint32(data('maps'), 99, true),
    ],
    [
      'two definitions that overlap',
      'legacy-plain',
      'bad_map_definition',
      ({ view, symbol }) => view.setBigUint64(symbol('second') + 8, 4n, true),
    ],
  ];

  test.for(cases)('%s', ([, name, code, change]) => {
    const editor = edit(name);
    expect(codeOf(editor.bytes)).toBe('accepted');
    change(editor);
    expect(codeOf(editor.bytes)).toBe(code);
  });

  test('a symbol that nothing defines', () => {
    const editor = edit('values');
    editor.view.setUint16(editor.symbol('sample') + 6, 0, true);
    expect(() => parseObject(editor.bytes)).toThrow(
      expect.objectContaining({ code: 'undefined_symbol', details: { section: 'socket', symbol: 'sample' } }),
    );
  });

  test('a strong kernel symbol', () => {
    const editor = edit('externs');
    const at = editor.symbol('absent_symbol') + 4;
    editor.bytes[at] = 0x10 | (editor.bytes[at]! & 15);
    expect(() => parseObject(editor.bytes)).toThrow(
      expect.objectContaining({
        code: 'unsupported_extern',
        details: expect.objectContaining({ symbol: 'absent_symbol', section: 'xdp' }),
      }),
    );
  });

  test('a program of another type, by name; or left out and listed', () => {
    const editor = edit('values');
    // Section names share one table; "socket" is the tail of ".relsocket".
    const names = new TextDecoder('latin1').decode(editor.bytes).indexOf('.relsocket\0') + 4;
    editor.bytes.set(new TextEncoder().encode('kprobe'), names);
    expect(() => parseObject(editor.bytes)).toThrow(
      expect.objectContaining({
        code: 'unsupported_program_type',
        details: expect.objectContaining({ section: 'kprobe', symbol: 'read', kernelType: 'kprobe' }),
      }),
    );
    const { programs, maps, unsupported } = parseObject(editor.bytes, { skipUnsupported: true });
    expect(programs.size).toBe(0);
    expect(maps.size).toBe(1);
    expect(unsupported).toEqual([{ name: 'read', section: 'kprobe', kernelType: 'kprobe' }]);
    editor.bytes.set(new TextEncoder().encode('kettle'), names);
    expect(() => parseObject(editor.bytes)).toThrow(expect.objectContaining({ code: 'unknown_program_section' }));
  });
});
