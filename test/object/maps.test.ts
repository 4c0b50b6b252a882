import { expect, test } from 'vitest';
import { parseObject } from '../../src/object/parse.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { COMPILERS, fixture, readObject } from './support.ts';

const spec = { flags: 0, pinning: 'none', contents: [] } as const;

function checkPipeline(maps: ReadonlyMap<string, MapSpec>): void {
  expect(maps.get('flows')).toMatchObject({
    ...spec,
    type: 'hash',
    keySize: 7,
    valueSize: 16,
    maxEntries: 1024,
    flags: 1,
  });
  expect(maps.get('pinned')).toMatchObject({
    ...spec,
    type: 'lru_hash',
    keySize: 8,
    valueSize: 16,
    maxEntries: 2,
    pinning: 'by_name',
    mapExtra: 0n,
  });
  const inner = { ...spec, type: 'array', keySize: 4, valueSize: 8, maxEntries: 16 };
  expect(maps.get('table_a')).toMatchObject(inner);
  expect(maps.get('tables')).toMatchObject({
    ...spec,
    type: 'array_of_maps',
    keySize: 4,
    valueSize: 4,
    maxEntries: 4,
    inner: { ...inner, name: 'tables.inner' },
    contents: [
      { key: 0, map: 'table_a' },
      { key: 3, map: 'table_b' },
    ],
  });
  expect(maps.get('stages')).toMatchObject({
    ...spec,
    type: 'prog_array',
    keySize: 4,
    valueSize: 4,
    maxEntries: 8,
    contents: [
      { key: 1, program: 'stage_one' },
      { key: 5, program: 'stage_two' },
    ],
  });
  // BPF_F_MMAPABLE where a variable is not static, BPF_F_RDONLY_PROG for constants: libbpf printed 0x480 and 0x400.
  const data = { type: 'array', keySize: 4, maxEntries: 1, frozen: false, flags: 0x400 };
  expect(maps.get('.data')).toMatchObject({
    ...data,
    dataSection: '.data',
    valueSize: 8,
    contents: [{ key: 0, value: Uint8Array.of(40, 0, 0, 0, 3, 0, 0, 0) }],
  });
  expect(maps.get('.data.custom')).toMatchObject({ ...data, contents: [{ key: 0, value: Uint8Array.of(9, 0, 0, 0) }] });
  expect(maps.get('.bss')).toMatchObject({ ...data, dataSection: '.bss', valueSize: 8, contents: [] });
  expect(maps.get('.rodata')).toMatchObject({ ...data, flags: 0x480, frozen: true });
}

test('BTF-defined maps and data sections of the committed object', () => {
  const { maps, btf } = parseObject(fixture('pipeline'));
  checkPipeline(maps);
  expect(maps.get('.rodata.str1.1')).toBeUndefined();
  expect(btf!.name(maps.get('flows')!.btfKeyId!)).toBe('key');
  expect(btf!.name(maps.get('flows')!.btfValueId!)).toBe('counters');
  expect(btf!.type(maps.get('.data')!.btfValueId!)).toMatchObject({ kind: 'datasec', name: '.data', size: 8 });
});

test.for(COMPILERS)('the same by $label', ({ compile }) => {
  checkPipeline(parseObject(readObject(compile('pipeline'))).maps);
});

test('iproute2 definitions: pinning, inner maps and tail-call targets by id and index', () => {
  const { maps, programs, license, btf } = parseObject(fixture('legacy'));
  const inner = { ...spec, name: 'inner', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 10 };
  expect([...maps.values()]).toEqual([
    { ...spec, name: 'counters', type: 'percpu_array', keySize: 4, valueSize: 16, maxEntries: 256, pinning: 'by_name' },
    inner,
    {
      ...spec,
      name: 'outer',
      type: 'array_of_maps',
      keySize: 4,
      valueSize: 4,
      maxEntries: 5,
      inner,
      contents: [{ key: 2, map: 'inner' }],
    },
    {
      ...spec,
      name: 'calls',
      type: 'prog_array',
      keySize: 4,
      valueSize: 4,
      maxEntries: 8,
      contents: [{ key: 5, program: 'tail_five' }],
    },
  ]);
  expect(programs.get('tail_five')).toMatchObject({ type: 'sched_cls', section: '2/5' });
  expect(license).toBe('Dual MIT/GPL');
  expect(btf).toBeUndefined();
  expect(programs.get('count')).toMatchObject({ type: 'sched_cls', section: 'classifier/ingress', lines: [] });
});

test('definitions of 20 bytes', () => {
  const { maps, programs, license } = parseObject(fixture('legacy-plain'));
  expect([...maps.values()]).toEqual([
    { ...spec, name: 'first', type: 'array', keySize: 4, valueSize: 8, maxEntries: 3 },
    { ...spec, name: 'second', type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 6 },
  ]);
  expect(license).toBe('');
  expect(programs.get('filter')!.insns).toContainEqual(
    expect.objectContaining({ kind: 'loadImm64', reference: { type: 'map', map: 'second' } }),
  );
});
