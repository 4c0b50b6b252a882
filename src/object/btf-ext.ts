/**
 * `.BTF.ext`: which function, source line and CO-RE relocation belongs to which instruction of which section.
 * Instruction offsets are slots within the section.
 *
 * Source: the kernel's Documentation/bpf/btf.rst, section ".BTF.ext".
 */
import type { Btf } from './btf.ts';
import { ObjectError } from './errors.ts';
import type { LineInfo } from './spec.ts';

interface FunctionInfo {
  readonly insn: number;
  /** BTF id of the FUNC. */
  readonly btfId: number;
}

export type CoreRelocationKind = (typeof CORE_KINDS)[number];
const CORE_KINDS = [
  'field_byte_offset',
  'field_byte_size',
  'field_exists',
  'field_signed',
  'field_lshift_u64',
  'field_rshift_u64',
  'type_id_local',
  'type_id_target',
  'type_exists',
  'type_size',
  'enumval_exists',
  'enumval_value',
  'type_matches',
] as const;

export interface CoreRelocation {
  readonly insn: number;
  /** Root type in the object's BTF. */
  readonly typeId: number;
  /** e.g. "0:1:2". */
  readonly access: string;
  readonly kind: CoreRelocationKind;
}

interface SectionInfo {
  /** Each sorted by insn, but for CO-RE relocations, which keep the order of the file. */
  readonly functions: readonly FunctionInfo[];
  readonly lines: readonly LineInfo[];
  readonly coreRelocations: readonly CoreRelocation[];
}

/** By section name. */
export type BtfExt = ReadonlyMap<string, SectionInfo>;

const MAGIC = 0xeb9f;
const SLOT_BYTES = 8;

function bad(message: string, details: Readonly<Record<string, unknown>> = {}): ObjectError {
  return new ObjectError('bad_btf_ext', message, { section: '.BTF.ext', ...details });
}

/** @throws ObjectError `bad_btf_ext`, or `bad_btf` for references into `btf` that do not exist. */
export function parseBtfExt(bytes: Uint8Array, btf: Btf): BtfExt {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 24) throw bad(`.BTF.ext has ${bytes.length} bytes, fewer than its header of 24`);
  if (view.getUint16(0, true) !== MAGIC || bytes[2] !== 1)
    throw bad('.BTF.ext does not start with magic 0xeb9f, version 1');
  const headerBytes = view.getUint32(4, true);
  if (headerBytes < 24 || headerBytes > bytes.length) throw bad(`.BTF.ext states a header of ${headerBytes} bytes`);

  const sections = new Map<
    string,
    { functions: FunctionInfo[]; lines: LineInfo[]; coreRelocations: CoreRelocation[] }
  >();
  const of = (name: string) => {
    let section = sections.get(name);
    if (section === undefined) {
      section = { functions: [], lines: [], coreRelocations: [] };
      sections.set(name, section);
    }
    return section;
  };
  const table = (what: string, field: number, minimum: number, add: (section: string, at: number) => void): void => {
    // The fields for CO-RE came later; a short header means that there are none.
    if (field + 8 > headerBytes) return;
    const start = headerBytes + view.getUint32(field, true);
    const length = view.getUint32(field + 4, true);
    if (length !== 0) readTable(view, btf, { what, start, length, minimum }, add);
  };
  const slot = (at: number, what: string): number => {
    const offset = view.getUint32(at, true);
    if (offset % SLOT_BYTES !== 0)
      throw bad(`${what} at instruction offset ${offset}, which is no multiple of 8`, { offset });
    return offset / SLOT_BYTES;
  };

  table('function info', 8, 8, (section, at) => {
    const btfId = view.getUint32(at + 4, true);
    if (btf.kind(btfId) !== 'func') throw bad(`function info names BTF type ${btfId}, which is no function`);
    of(section).functions.push({ insn: slot(at, 'function info'), btfId });
  });
  table('line info', 16, 16, (section, at) => {
    const position = view.getUint32(at + 12, true);
    of(section).lines.push({
      insn: slot(at, 'line info'),
      file: btf.string(view.getUint32(at + 4, true)),
      line: position >>> 10,
      column: position & 0x3ff,
      text: btf.string(view.getUint32(at + 8, true)).trim(),
    });
  });
  table('CO-RE relocation', 24, 16, (section, at) => {
    const number = view.getUint32(at + 12, true);
    const kind = CORE_KINDS[number];
    if (kind === undefined) throw bad(`CO-RE relocation of kind ${number}; known are 0 to ${CORE_KINDS.length - 1}`);
    const typeId = view.getUint32(at + 4, true);
    btf.kind(typeId);
    const access = btf.string(view.getUint32(at + 8, true));
    of(section).coreRelocations.push({ insn: slot(at, 'CO-RE relocation'), typeId, access, kind });
  });
  for (const section of sections.values()) {
    section.functions.sort((a, b) => a.insn - b.insn);
    section.lines.sort((a, b) => a.insn - b.insn);
  }
  return sections;
}

interface Table {
  readonly what: string;
  readonly start: number;
  readonly length: number;
  /** Smallest record that holds what is read; larger ones come from newer compilers. */
  readonly minimum: number;
}

/** Record size, then per section: name offset, record count, records. */
function readTable(view: DataView, btf: Btf, table: Table, add: (section: string, at: number) => void): void {
  const end = table.start + table.length;
  if (end > view.byteLength || table.length < 4) {
    throw bad(`${table.what} (${table.length} bytes at ${table.start}) ends past .BTF.ext's ${view.byteLength} bytes`);
  }
  const recordBytes = view.getUint32(table.start, true);
  if (recordBytes < table.minimum || recordBytes % 4 !== 0)
    throw bad(`${table.what} has records of ${recordBytes} bytes`);
  let at = table.start + 4;
  while (at < end) {
    if (at + 8 > end) throw bad(`${table.what} ends inside a section header`);
    const section = btf.string(view.getUint32(at, true));
    const count = view.getUint32(at + 4, true);
    at += 8;
    if (count === 0 || at + count * recordBytes > end) {
      throw bad(
        `${table.what} of section ${section} has ${count} records of ${recordBytes} bytes, but ${end - at} bytes are left`,
      );
    }
    for (let i = 0; i < count; i++, at += recordBytes) add(section, at);
  }
}
