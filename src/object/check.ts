/**
 * Specifications that somebody put together by hand, or changed: a `Collection` needs no object file. What `parseObject` made is
 * known, and not looked at again.
 */
import { type Check, check } from '../arguments.ts';
import { instructions } from '../isa/check.ts';
import { Btf } from './btf.ts';
import { MAP_TYPES, PROGRAM_TYPES } from './spec.ts';

const { arrayOf, boolean, bytes, bigint, integer, mapOf, natural, oneOf, optional, record, string, u32 } = check;

const made = new WeakSet<object>();

/** Made by the object loader. @returns the same */
export function asMade<T extends object>(specification: T): T {
  made.add(specification);
  return specification;
}

function unlessMade(look: Check): Check {
  return (value, name) => {
    if (typeof value !== 'object' || value === null || !made.has(value)) look(value, name);
  };
}

export const isBtf: Check = check.instanceOf(Btf, 'BTF as parseBtf gives it');

const entry: Check = (value, name) => {
  record({ key: u32 })(value, name);
  const contents = value as { program?: unknown; map?: unknown; value?: unknown };
  if ('program' in contents) string(contents.program, `${name}.program`);
  else if ('map' in contents) string(contents.map, `${name}.map`);
  else bytes(contents.value, `${name}.value`);
};

const mapMembers = {
  name: string,
  keySize: u32,
  valueSize: u32,
  maxEntries: u32,
  flags: u32,
  mapExtra: optional(bigint),
  numaNode: optional(integer(-(2 ** 31), 2 ** 32 - 1)),
  pinning: optional(oneOf('none', 'by_name')),
  btfKeyId: optional(natural),
  btfValueId: optional(natural),
  contents: arrayOf(entry),
  dataSection: optional(string),
  frozen: optional(boolean),
};
/** Inner maps are no maps of maps, so there is no more below. */
const mapType = oneOf(...MAP_TYPES);
const map: Check = unlessMade(
  record({ ...mapMembers, type: mapType, inner: optional(record({ ...mapMembers, type: mapType })) }),
);

export const mapSpecs: Check = mapOf(map);
/** For the kernel, which may have other types, and whose room says what numbers it takes. */
export const anyMap: Check = record({
  name: string,
  type: string,
  contents: arrayOf(record({ key: check.number })),
  inner: optional(record({ name: string, type: string })),
});
export const anyMaps: Check = mapOf(anyMap);

/** Instructions as such: what they are is looked at by whoever encodes them. */
export const anyInstructions: Check = arrayOf(record({ kind: string }));

const program = (insns: Check, type: Check): Check =>
  unlessMade(
    record({
      name: string,
      section: string,
      type,
      attachType: optional(string),
      xdpFrags: boolean,
      insns,
      subprograms: arrayOf(
        record({ name: string, start: natural, linkage: oneOf('static', 'global'), btfId: optional(natural) }),
      ),
      lines: arrayOf(record({ insn: natural, file: string, line: natural, column: natural, text: string })),
      license: string,
      btf: optional(isBtf),
      targetBtf: optional(isBtf),
    }),
  );

const collection = (each: Check, maps: Check): Check =>
  unlessMade(record({ programs: mapOf(each), maps, license: string, btf: optional(isBtf) }));

export const programSpec: Check = program(instructions, oneOf(...PROGRAM_TYPES));
export const collectionSpec: Check = collection(programSpec, mapSpecs);
/** For the kernel, which is given bytes and judges them itself. */
export const encodableProgram: Check = program(anyInstructions, string);
export const encodableCollection: Check = collection(encodableProgram, anyMaps);

/** What is looked up in a collection for its maps' types and contents. */
export const mapsOfCollection: Check = unlessMade(record({ maps: mapSpecs, btf: optional(isBtf) }));
