/**
 * Direct access to locks and timers in map values: refused where a byte of the field is touched, in the kernel's words; compared
 * with the running kernel where it can be asked.
 */
import { release } from 'node:os';
import { afterAll, describe, expect, test } from 'vitest';
import { HELPERS } from '../../src/helpers/table.ts';
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import type { MapSpec, ProgramType } from '../../src/object/spec.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import { verify } from '../../src/verifier/verify.ts';
import { openKernelJudge } from '../kernel-tables/kernel.ts';
import { fixupMap, VALUE_BTF } from '../kernel-tables/maps.ts';
import { BtfBuilder } from '../object/btf-builder.ts';

const CGROUP_SKB = 8;
const judge = release().startsWith('6.18.') ? openKernelJudge() : undefined;
afterAll(() => judge?.dispose());

const MAP_SLOT = 3;
const text = (access: string): string => `
  *(u32 *)(r10 - 4) = 0
  r2 = r10
  r2 += -4
  r1 = MAP ll
  call 1
  if r0 == 0 goto out
  ${access}
  out:
  r0 = 0
  exit`;

function refusal(map: MapSpec, btf: Btf, access: string, type: ProgramType = 'cgroup_skb'): string | undefined {
  const insns = assemble(text(access).replace('MAP', `map[${map.name}]`));
  const program = { ...programFromInstructions({ name: 'test', type, insns }), btf };
  try {
    verify(program, { maps: new Map([[map.name, map]]), helpers: HELPERS });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.text;
    throw error;
  }
}

interface Row {
  readonly map: MapSpec;
  readonly name: string;
  readonly start: number;
  readonly end: number;
}
const ROWS: readonly Row[] = [
  { map: fixupMap('map_spin_lock')!, name: 'bpf_spin_lock', start: 4, end: 8 },
  { map: fixupMap('map_timer')!, name: 'bpf_timer', start: 0, end: 16 },
];

describe.each(ROWS)('$name', ({ map, name, start, end }) => {
  test.each([1, 2, 4, 8])('access of %i bytes', size => {
    for (let at = 0; at + size <= map.valueSize; at++) {
      for (const access of [
        `r1 = *(u${8 * size} *)(r0 + ${at})`,
        `r1 = 1\n*(u${8 * size} *)(r0 + ${at}) = r1`,
        `*(u${8 * size} *)(r0 + ${at}) = 1`,
      ]) {
        const touches = at < end && at + size > start;
        const expected = touches ? `${name} cannot be accessed directly by load/store` : undefined;
        expect(refusal(map, parseBtf(VALUE_BTF), access), access).toBe(expected);
        const code = encode(assemble(text(access).replace('MAP', 'map_fd[0]')));
        const load = { code, maps: new Map([[MAP_SLOT, map]]), kernelType: CGROUP_SKB, attachType: 0, loadFlags: 0 };
        if (judge) expect(judge.refusal(load), access).toBe(expected);
      }
    }
  });
});

test('socket filters may not even name a map with a lock', () => {
  const text = refusal(fixupMap('map_spin_lock')!, parseBtf(VALUE_BTF), 'r1 = *(u32 *)(r0 + 0)', 'socket_filter');
  expect(text).toBe('socket filter progs cannot use bpf_spin_lock yet');
});

describe('where fields hide', () => {
  const builder = new BtfBuilder();
  const int = builder.int('int', 4, true);
  const lock = builder.struct('bpf_spin_lock', 4, [{ name: 'val', type: int, bitOffset: 0 }]);
  const inner = builder.struct('inner', 8, [
    { name: 'a', type: int, bitOffset: 0 },
    { name: 'lock', type: lock, bitOffset: 32 },
  ]);
  const [ARRAY, PTR, TYPEDEF, VAR, DATASEC, TYPE_TAG] = [3, 2, 8, 14, 15, 18];
  const pair = builder.add(ARRAY, '', 0, 0, [inner, int, 2]);
  const alias = builder.add(TYPEDEF, 'alias_t', 0, pair);
  const outer = builder.struct('outer', 24, [
    { name: 'first', type: int, bitOffset: 0 },
    { name: 'pairs', type: alias, bitOffset: 64 },
  ]);
  const tagged = builder.add(TYPE_TAG, 'kptr', 0, inner);
  const pointer = builder.add(PTR, '', 0, tagged);
  const owner = builder.struct('owner', 16, [
    { name: 'n', type: int, bitOffset: 0 },
    { name: 'object', type: pointer, bitOffset: 64 },
  ]);
  const variable = builder.add(VAR, 'global_lock', 0, lock, [1]);
  const section = builder.add(DATASEC, '.data', 1, 8, [variable, 4, 4]);
  const self = builder.struct('self', 8, [{ name: 'again', type: 12, bitOffset: 0 }]);
  const btf = parseBtf(builder.bytes());
  const spec = (btfValueId: number, valueSize: number): MapSpec => ({
    name: 'map',
    type: 'array',
    keySize: 4,
    valueSize,
    maxEntries: 1,
    flags: 0,
    contents: [],
    btfValueId,
  });
  const words = (map: MapSpec, at: number): string | undefined => refusal(map, btf, `r1 = *(u32 *)(r0 + ${at})`);
  const forbidden = 'bpf_spin_lock cannot be accessed directly by load/store';

  test('in arrays of structures behind typedefs', () => {
    const map = spec(outer, 24);
    expect([0, 4, 8, 12, 16, 20].map(at => words(map, at))).toEqual([
      undefined,
      undefined,
      undefined,
      forbidden,
      undefined,
      forbidden,
    ]);
  });
  test('in global data', () => {
    const map = spec(section, 8);
    expect([words(map, 0), words(map, 4)]).toEqual([undefined, forbidden]);
  });
  test('pointers to kernel objects are refused by name', () => {
    const map = spec(owner, 16);
    expect([words(map, 0), words(map, 8)]).toEqual([undefined, 'kptr in a map value is not supported']);
  });
  test('a variable offset that may reach one', () => {
    const access = `r1 = *(u32 *)(r0 + 0)\nr1 &= 4\nr0 += r1\nr1 = *(u32 *)(r0 + 0)`;
    expect(refusal(spec(section, 8), btf, access)).toBe(forbidden);
  });
  test('types that contain themselves, ids of other BTF, sizes that do not fit', () => {
    expect(self).toBe(12);
    expect([words(spec(self, 8), 0), words(spec(999, 8), 4), words(spec(section, 12), 4)]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
