/** `switchyard inspect`: what an object holds, and each of its tail call sites. */
import {
  type Collection,
  lowerProgram,
  type MapSpec,
  type ProgramSpec,
  SwitchyardError,
  tailCallSites,
  verifyProgram,
} from '../core.ts';
import { errorJson } from './errors.ts';
import { readObject, unsupportedError } from './files.ts';
import { bold, column, dim, red } from './terminal.ts';

export interface InspectOptions {
  readonly btf?: string;
  readonly json?: boolean;
}

interface ProgramInfo {
  readonly name: string;
  readonly section: string;
  /** Of the kernel's types; null where the section name stands for none. */
  readonly type: string | null;
  readonly attachType: string | null;
  /** Slots; null for programs that were left out. */
  readonly insns: number | null;
  readonly subprograms: readonly string[];
  readonly license: string;
  readonly accepted: boolean;
  readonly error: { readonly code: string; readonly message: string } | null;
}

interface SiteInfo {
  readonly program: string;
  readonly insn: number;
  /** Source line number; null without line information. */
  readonly line: number | null;
  readonly file: string | null;
  readonly source: string | null;
  /** The prog array; null where several reach the site (`maps` names them). */
  readonly map: string | null;
  readonly maps: readonly string[];
  readonly index: number | null;
  readonly kind: string;
}

export function inspect(path: string, options: InspectOptions): void {
  const collection = readObject(path, options.btf);
  const programs: ProgramInfo[] = [];
  const tailCalls: SiteInfo[] = [];
  for (const spec of collection.programs.values()) {
    let error: unknown;
    try {
      tailCalls.push(...sites(spec, collection));
    } catch (rejection) {
      if (!(rejection instanceof SwitchyardError)) throw rejection;
      error = rejection;
    }
    programs.push({
      name: spec.name,
      section: spec.section,
      type: spec.type,
      attachType: spec.attachType ?? null,
      insns: spec.insns.length,
      subprograms: spec.subprograms.slice(1).map(({ name }) => name),
      license: spec.license,
      accepted: error === undefined,
      error: error === undefined ? null : errorJson(error),
    });
  }
  for (const leftOut of collection.unsupported ?? []) {
    programs.push({
      name: leftOut.name,
      section: leftOut.section,
      type: leftOut.kernelType ?? null,
      attachType: null,
      insns: null,
      subprograms: [],
      license: collection.license,
      accepted: false,
      error: errorJson(unsupportedError(leftOut)),
    });
  }
  const maps = [...collection.maps.values()].map(mapInfo);
  if (options.json) console.log(JSON.stringify({ programs, maps, tailCalls }));
  else print(path, programs, maps, tailCalls);
}

function sites(spec: ProgramSpec, collection: Collection): SiteInfo[] {
  const verified = verifyProgram(spec, collection.maps);
  const lowered = lowerProgram(verified, collection.maps, true);
  return tailCallSites(verified, lowered).map(site => {
    const { line } = site;
    return {
      program: spec.name,
      insn: site.insn,
      line: line?.line ?? null,
      file: line?.file ?? null,
      source: line?.text.trim() ?? null,
      map: site.maps.length === 1 ? site.maps[0]! : null,
      maps: site.maps,
      index: site.index ?? null,
      kind: site.kind,
    };
  });
}

function mapInfo(spec: MapSpec) {
  return {
    name: spec.name,
    type: spec.type,
    keySize: spec.keySize,
    valueSize: spec.valueSize,
    maxEntries: spec.maxEntries,
    flags: spec.flags,
    contents: spec.contents.flatMap((entry): { key: number; program?: string; map?: string }[] =>
      'value' in entry ? [] : [entry],
    ),
  };
}

function print(
  path: string,
  programs: readonly ProgramInfo[],
  maps: readonly ReturnType<typeof mapInfo>[],
  calls: readonly SiteInfo[],
): void {
  console.log(bold(path));
  console.log(`programs (${programs.length})`);
  const width = Math.max(0, ...programs.map(({ name }) => name.length), ...maps.map(({ name }) => name.length));
  for (const { name, section, type, insns, subprograms, error } of programs) {
    const more = subprograms.length > 0 ? `, subprograms ${subprograms.join(' ')}` : '';
    const size = insns === null ? '' : `, ${insns} instructions`;
    console.log(`  ${column(name, width)}  ${type ?? 'unknown type'}, section ${section}${size}${more}`);
    if (error) {
      const what = insns === null ? 'left out' : 'rejected';
      console.log(`  ${' '.repeat(width)}  ${red(what)}: ${error.message.split('\n')[0]}`);
    }
  }
  console.log(`maps (${maps.length})`);
  for (const { name, type, keySize, valueSize, maxEntries, contents } of maps) {
    console.log(`  ${column(name, width)}  ${type}, key ${keySize}, value ${valueSize}, ${maxEntries} entries`);
    for (const entry of contents) {
      console.log(dim(`  ${' '.repeat(width)}    [${entry.key}] = ${entry.program ?? entry.map}`));
    }
  }
  console.log(`tail calls (${calls.length})`);
  for (const { program, insn, line, file, source, maps: names, index, kind } of calls) {
    const place = `${names.join(' or ')}[${index ?? '*'}]`;
    console.log(
      `  ${column(program, width)}  insn ${insn}: ${kind} ${place}${line === null ? '' : dim(`  ${file}:${line} ${source}`)}`,
    );
  }
}
