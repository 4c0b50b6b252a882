/**
 * The maps that the tables' programs are loaded with, by the name of the fixup that asks for one. Sizes, flags and contents are
 * those that the kernel's own test program uses.
 */
import { MapFlag } from '../../src/maps/uapi.ts';
import type { InitialEntry, MapSpec, MapType } from '../../src/object/spec.ts';
import { BtfBuilder } from '../object/btf-builder.ts';

const INT = 4;
const LONG = 8;
const TEST_VALUE = 48;
const CGROUP_STORAGE_KEY = 16;

/** Type ids in `VALUE_BTF`, as keys and values of the maps that need them. */
const { bytes: valueBtf, ids } = buildValueBtf();

/** BTF of the maps whose values hold a spin lock or a timer. */
export const VALUE_BTF = valueBtf;

function buildValueBtf(): { bytes: Uint8Array; ids: Readonly<Record<'int' | 'locked' | 'timed', number>> } {
  const btf = new BtfBuilder();
  const int = btf.int('int', 4, true);
  const lock = btf.struct('bpf_spin_lock', 4, [{ name: 'val', type: int, bitOffset: 0 }]);
  const locked = btf.struct('val', 8, [
    { name: 'cnt', type: int, bitOffset: 0 },
    { name: 'l', type: lock, bitOffset: 32 },
  ]);
  const timer = btf.struct('bpf_timer', 16, []);
  const timed = btf.struct('timer', 16, [{ name: 't', type: timer, bitOffset: 0 }]);
  return { bytes: btf.bytes(), ids: { int, locked, timed } };
}

/** `index` 28 (the offset of foo[6]) and foo[6] 0xabcdef12, cut to the map's value. */
function testValue(size: number): Uint8Array {
  const value = new Uint8Array(TEST_VALUE);
  const view = new DataView(value.buffer);
  view.setUint32(0, 7 * INT, true);
  view.setUint32(4 + 6 * INT, 0xabcdef12, true);
  return value.slice(0, size);
}

function map(
  type: MapType,
  keySize: number,
  valueSize: number,
  maxEntries: number,
  more: Partial<MapSpec> = {},
): Omit<MapSpec, 'name'> {
  return { type, keySize, valueSize, maxEntries, flags: 0, contents: [], ...more };
}

const hash = (valueSize: number) => map('hash', LONG, valueSize, 1, { flags: MapFlag.noPrealloc });
const filledArray = (valueSize: number, flags = 0) =>
  map('array', INT, valueSize, 1, { flags, contents: [{ key: 0, value: testValue(valueSize) }] });
const programs = (maxEntries: number, entries: readonly InitialEntry[]) =>
  map('prog_array', INT, INT, maxEntries, { contents: entries });

/** Names of the programs in prog arrays: two return a constant, `LOOP` tail-calls index 1 of its own array. */
export const SIMPLE_42 = 'returns_42';
export const SIMPLE_24 = 'returns_24';
export const LOOP = 'loops';

const MAPS: Readonly<Record<string, Omit<MapSpec, 'name'>>> = {
  map_hash_8b: hash(LONG),
  map_hash_48b: hash(TEST_VALUE),
  map_hash_16b: hash(2 * LONG),
  map_array_48b: filledArray(TEST_VALUE),
  map_array_ro: filledArray(TEST_VALUE, MapFlag.rdonlyProg),
  map_array_wo: filledArray(TEST_VALUE, MapFlag.wronlyProg),
  map_array_small: filledArray(1),
  prog1: programs(4, [
    { key: 0, program: SIMPLE_42 },
    { key: 1, program: LOOP },
    { key: 2, program: SIMPLE_24 },
  ]),
  prog2: programs(8, [
    { key: 7, program: SIMPLE_42 },
    { key: 1, program: LOOP },
    { key: 2, program: SIMPLE_24 },
  ]),
  map_in_map: map('array_of_maps', INT, INT, 1, { inner: { name: 'inner', ...map('array', INT, INT, 1) } }),
  map_sockmap: map('sockmap', INT, INT, 1),
  map_sockhash: map('sockhash', INT, INT, 1),
  map_xskmap: map('xskmap', INT, INT, 1),
  map_stacktrace: map('stack_trace', INT, LONG, 1),
  map_event_output: map('perf_event_array', INT, INT, 1),
  map_reuseport_array: map('reuseport_sockarray', INT, LONG, 1),
  map_ringbuf: map('ringbuf', 0, 0, 4096),
  cgroup_storage: map('cgroup_storage', CGROUP_STORAGE_KEY, 64, 0),
  percpu_cgroup_storage: map('percpu_cgroup_storage', CGROUP_STORAGE_KEY, 64, 0),
  map_spin_lock: map('array', INT, 8, 1, { btfKeyId: ids.int, btfValueId: ids.locked }),
  sk_storage_map: map('sk_storage', INT, 8, 0, {
    flags: MapFlag.noPrealloc,
    btfKeyId: ids.int,
    btfValueId: ids.locked,
  }),
  map_timer: map('array', INT, 16, 1, { btfKeyId: ids.int, btfValueId: ids.timed }),
};

/** The map of a fixup; undefined for those with kernel pointers in their values. */
export function fixupMap(kind: string): MapSpec | undefined {
  const spec = MAPS[kind];
  return spec === undefined ? undefined : { name: kind, ...spec };
}
