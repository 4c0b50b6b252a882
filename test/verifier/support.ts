/** Programs and maps for the verifier's tests. */
import { KFUNCS } from '../../src/helpers/kfuncs.ts';
import { refusedHelper } from '../../src/helpers/refused.ts';
import { HELPERS } from '../../src/helpers/table.ts';
import { assemble } from '../../src/isa/assembler.ts';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import type { MapSpec, MapType, ProgramSpec, ProgramType } from '../../src/object/spec.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import type { Verified } from '../../src/verifier/facts.ts';
import { type VerifyOptions, verify } from '../../src/verifier/verify.ts';
import { BtfBuilder } from '../object/btf-builder.ts';

const types = new BtfBuilder();
const int = types.int('int', 4, true);
const long = types.int('unsigned long', 8);
const spinLock = types.struct('bpf_spin_lock', 4, [{ name: 'val', type: int, bitOffset: 0 }]);
const guarded = types.struct('guarded', 16, [
  { name: 'count', type: int, bitOffset: 0 },
  { name: 'lock', type: spinLock, bitOffset: 32 },
  { name: 'sum', type: long, bitOffset: 64 },
]);
const pair = types.struct('pair', 16, [
  { name: 'first', type: long, bitOffset: 0 },
  { name: 'second', type: long, bitOffset: 64 },
]);

/** Types of the maps whose values hold a lock, for the kernel. */
export const MAP_BTF: Btf = parseBtf(types.bytes());
const GUARDED: Partial<MapSpec> = {
  btfKeyId: int,
  btfValueId: guarded,
  specialFields: [{ offset: 4, size: 4, name: 'bpf_spin_lock' }],
};

function map(
  name: string,
  type: MapType,
  keySize: number,
  valueSize: number,
  maxEntries: number,
  more: Partial<MapSpec> = {},
): MapSpec {
  return { name, type, keySize, valueSize, maxEntries, flags: 0, contents: [], ...more };
}

const INNER = map('inner', 'array', 4, 16, 1);
const CONSTANTS = new Uint8Array([1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 0x61, 0x62, 0, 0, 0, 0, 0, 0x80]);

/** The maps that every test program may name. */
export const MAPS: ReadonlyMap<string, MapSpec> = new Map(
  [
    map('array', 'array', 4, 48, 4),
    map('one', 'array', 4, 16, 1),
    map('hash', 'hash', 8, 16, 8),
    map('percpu', 'percpu_array', 4, 8, 2),
    map('progs', 'prog_array', 4, 4, 4),
    map('others', 'prog_array', 4, 4, 8),
    map('outer', 'array_of_maps', 4, 4, 2, { inner: INNER }),
    map('devices', 'devmap', 4, 4, 4),
    map('readonly', 'array', 4, 16, 1, { flags: 1 << 7, frozen: true, contents: [{ key: 0, value: CONSTANTS }] }),
    map('locked', 'hash', 8, 16, 8, { ...GUARDED, btfKeyId: long }),
    map('locked_array', 'array', 4, 16, 4, GUARDED),
    map('locked_one', 'array', 4, 16, 1, GUARDED),
    map('unlocked', 'hash', 8, 16, 8, { btfKeyId: long, btfValueId: pair }),
    map('storage', 'cgroup_storage', 16, 16, 0),
    map('storage2', 'cgroup_storage', 16, 16, 0),
    map('ring', 'ringbuf', 0, 0, 4096),
    map('arena', 'arena', 0, 0, 4, { flags: 1 << 10 }),
    map('arena2', 'arena', 0, 0, 4, { flags: 1 << 10 }),
    map('writeonly', 'array', 4, 16, 1, { flags: 1 << 8 }),
  ].map(spec => [spec.name, spec]),
);

const NAMES: Readonly<Record<string, number>> = Object.fromEntries(
  [...HELPERS.values()].map(signature => [`bpf_${signature.name}`, signature.id]),
);

export function program(type: ProgramType, text: string, more: Partial<ProgramSpec> = {}): ProgramSpec {
  return {
    name: 'test',
    section: type,
    type,
    attachType: undefined,
    xdpFrags: false,
    insns: assemble(text, { helpers: NAMES }),
    subprograms: [],
    lines: [],
    license: 'GPL',
    btf: undefined,
    ...more,
  };
}

export const OPTIONS: VerifyOptions = { maps: MAPS, helpers: HELPERS, refusedHelper, kfuncs: KFUNCS };

/** The facts of an accepted program, or the refusal; anything else that is thrown is a bug. */
export function attempt(spec: ProgramSpec, options: Partial<VerifyOptions> = {}): Verified | VerifierError {
  try {
    return verify(spec, { ...OPTIONS, ...options });
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

export function accepted(result: Verified | VerifierError): result is Verified {
  return !(result instanceof VerifierError);
}
