/**
 * A whole object into the kernel: what libbpf does for C programs, short of attaching anything.
 *
 * Types first (an extra: the kernel may refuse them), then maps, then programs with the maps' descriptors in place of
 * their names, then what needs both: initial slots and inner maps. All or nothing; nothing is pinned, so everything is
 * gone with the object, or with the process.
 */
import { readFileSync } from 'node:fs';
import { check, describe } from '../arguments.ts';
import { encode } from '../isa/codec.ts';
import { IsaError } from '../isa/errors.ts';
import type { Instruction } from '../isa/instruction.ts';
import { encodableCollection } from '../object/check.ts';
import { ObjectError } from '../object/errors.ts';
import { parseObject } from '../object/parse.ts';
import { selectPrograms } from '../object/select-programs.ts';
import type { Collection, MapSpec, ProgramSpec } from '../object/spec.ts';
import { debugInfo, type KernelBtf, plainFunctions, tryLoadBtf } from './btf.ts';
import { kindOf } from './check.ts';
import { KernelError } from './errors.ts';
import { KERNEL_BTF, kernelFunctionId, MISSING_KFUNC } from './kfuncs.ts';
import { KernelMap, keyBytes, possibleCpus } from './map.ts';
import { KernelProgArray } from './prog-array.ts';
import { KernelProgram, loadCode, programTypeNumber } from './program.ts';
import { ATTACH_TYPE, ProgramFlag } from './uapi.ts';

export interface KernelLoadOptions {
  /** Programs to load, with all that the prog arrays they use initially hold; default: all. */
  readonly programs?: readonly string[];
  /** Detail of the log that accepted programs keep; default 0, none. */
  readonly logLevel?: 0 | 1 | 2;
  /** Maps to use instead of the object's own, by name; they stay the caller's. */
  readonly maps?: ReadonlyMap<string, KernelMap>;
}

/** Maps and programs of one object, by name. */
export class KernelObject {
  readonly collection: Collection;
  readonly programs: ReadonlyMap<string, KernelProgram>;
  readonly maps: ReadonlyMap<string, KernelMap>;
  /** The prog arrays among `maps`, as slots. */
  readonly progArrays: ReadonlyMap<string, KernelProgArray>;
  readonly #dispose: () => void;

  /** Objects are made by `loadIntoKernel`. */
  constructor(
    collection: Collection,
    programs: ReadonlyMap<string, KernelProgram>,
    maps: ReadonlyMap<string, KernelMap>,
    progArrays: ReadonlyMap<string, KernelProgArray>,
    dispose: () => void,
  ) {
    this.collection = collection;
    this.programs = programs;
    this.maps = maps;
    this.progArrays = progArrays;
    this.#dispose = dispose;
  }

  /** @throws KernelError `no_such_program` that lists the names there are */
  program(name: string): KernelProgram {
    return named(this.programs, name, 'no_such_program', 'program');
  }

  /** @throws KernelError `no_such_map` that lists the names there are */
  map(name: string): KernelMap {
    return named(this.maps, name, 'no_such_map', 'map');
  }

  /** @throws KernelError `no_such_map` where there is no prog array of that name */
  progArray(name: string): KernelProgArray {
    return named(this.progArrays, name, 'no_such_map', 'prog array');
  }

  /** Closes every descriptor. Later use of anything of this object throws `disposed`. */
  dispose(): void {
    this.#dispose();
  }
}

/** @throws KernelError `bad_argument` */
export function needCollection<T extends Pick<Collection, 'programs' | 'maps'>>(value: T): T {
  const given = value as Partial<T> | null | undefined;
  if (given?.programs instanceof Map && given.maps instanceof Map) return value;
  throw new KernelError(
    'bad_argument',
    `an object is the bytes of an ELF file (Uint8Array), or what parseObject made of them; got ${kindOf(value)}`,
  );
}

/** @throws KernelError `bad_argument` */
function needLogLevel(level: number | undefined): void {
  if (level === undefined || level === 0 || level === 1 || level === 2 || level === 4) return;
  throw new KernelError('bad_argument', `logLevel is 0, 1 or 2, got ${level}`);
}

function named<T>(all: ReadonlyMap<string, T>, name: string, code: 'no_such_program' | 'no_such_map', what: string): T {
  const found = all.get(name);
  if (found !== undefined) return found;
  const names = [...all.keys()];
  throw new KernelError(
    code,
    `no ${what} is named ${typeof name === 'string' ? name : describe(name)}; the object has ${names.join(', ') || 'none'}`,
    {
      name,
      names,
    },
  );
}

function noSuchProgram(name: string, names: readonly string[]): never {
  throw new KernelError(
    'no_such_program',
    `no program is named ${typeof name === 'string' ? name : describe(name)}; the object has ${names.join(', ') || 'none'}`,
    { name, names },
  );
}

const loadOptions = check.options({
  programs: check.arrayOf(check.string),
  maps: check.mapOf(check.instanceOf(KernelMap, 'a map in the kernel')),
  logLevel: check.number,
});

/**
 * Loads an object into the running kernel. Nothing is attached or pinned; programs run only when `run` is called.
 * @param input the bytes of an ELF object, whose CO-RE relocations are resolved against the running kernel, or a collection
 * @throws KernelError `program_refused`, `map_refused`, `not_permitted`, `lockdown`, `memlock`, `no_bpf` ...; ObjectError
 */
export function loadIntoKernel(input: Uint8Array | Collection, options: KernelLoadOptions = {}): KernelObject {
  const collection = input instanceof Uint8Array ? parse(input) : needCollection(input);
  encodableCollection(collection, 'input');
  loadOptions(options, 'options');
  needLogLevel(options.logLevel);
  const specs = selectPrograms(collection, options.programs, noSuchProgram);
  const undo: (() => void)[] = [];
  const dispose = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  try {
    const btf = tryLoadBtf(collection.btf, specs);
    if (btf) undo.push(() => btf.dispose());
    const own = new Map([...collection.maps].filter(([name]) => !options.maps?.has(name)));
    const made = makeMaps(own, btf);
    for (const map of made.values()) undo.push(() => map.dispose());
    // In the order of the object.
    const maps = new Map([...collection.maps.keys()].map(name => [name, made.get(name) ?? options.maps!.get(name)!]));
    const programs = new Map<string, KernelProgram>();
    for (const spec of specs) {
      const program = loadKernelProgram(spec, maps, { logLevel: options.logLevel ?? 0, btf });
      undo.push(() => program.dispose());
      programs.set(spec.name, program);
    }
    const progArrays = new Map<string, KernelProgArray>();
    for (const [name, map] of maps) {
      if (map.spec.type === 'prog_array') progArrays.set(name, new KernelProgArray(map, () => programs.values()));
    }
    for (const [name, spec] of collection.maps) {
      if (!options.maps?.has(name)) fill(spec, maps, progArrays, programs, options.programs !== undefined);
    }
    return new KernelObject(collection, programs, maps, progArrays, dispose);
  } catch (error) {
    dispose();
    throw error;
  }
}

/**
 * Makes maps, all or none; the entries that name programs or maps are left out.
 * @throws KernelError as the constructor of KernelMap
 */
export function makeMaps(specs: ReadonlyMap<string, MapSpec>, btf: KernelBtf | undefined): Map<string, KernelMap> {
  const maps = new Map<string, KernelMap>();
  try {
    for (const [name, spec] of specs) maps.set(name, new KernelMap(sized(spec), btf));
  } catch (error) {
    for (const map of maps.values()) map.dispose();
    throw error;
  }
  return maps;
}

/** A perf event array that does not say how large it is, as an inner map too, has an entry per CPU, as libbpf makes it. */
function sized(spec: MapSpec): MapSpec {
  if (spec.inner !== undefined) return { ...spec, inner: sized(spec.inner) };
  return spec.type === 'perf_event_array' && spec.maxEntries === 0 ? { ...spec, maxEntries: possibleCpus() } : spec;
}

/** The kernel's BTF is several MB, so it is read only for objects that need it. */
function parse(bytes: Uint8Array): Collection {
  try {
    return parseObject(bytes);
  } catch (error) {
    if (!(error instanceof ObjectError) || error.code !== 'core_target_missing') throw error;
    let targetBtf: Uint8Array;
    try {
      targetBtf = readFileSync(KERNEL_BTF);
    } catch {
      throw error;
    }
    return parseObject(bytes, { targetBtf });
  }
}

export interface KernelProgramOptions {
  /** Detail of the log of a program that is accepted; default 0, none; 4: statistics only. */
  readonly logLevel?: 0 | 1 | 2 | 4;
  /** The types of the program's functions; without them, subprograms count as static ones that return int. */
  readonly btf?: KernelBtf | undefined;
}

/**
 * Loads one program.
 * @param maps those it refers to, by name
 * @throws KernelError `program_refused` with the verifier's log, `unsupported_program`, `no_such_map`, `not_permitted` ...
 */
export function loadKernelProgram(
  spec: ProgramSpec,
  maps: ReadonlyMap<string, KernelMap>,
  options: KernelProgramOptions = {},
): KernelProgram {
  needLogLevel(options.logLevel);
  const type = programTypeNumber(spec);
  const request = {
    type,
    code: wireCode(spec, maps),
    name: spec.name,
    license: spec.license,
    attachType: ATTACH_TYPE[spec.attachType ?? ''] ?? 0,
    flags: spec.xdpFrags ? ProgramFlag.xdpHasFrags : 0,
    logLevel: options.logLevel ?? 0,
  };
  const debug = options.btf && debugInfo(options.btf, spec);
  if (debug || spec.subprograms.length < 2) return new KernelProgram(spec, loadCode({ ...request, debug }));
  const made = plainFunctions(spec);
  try {
    return new KernelProgram(spec, loadCode({ ...request, debug: made }));
  } finally {
    // The program holds on to its types.
    made.btf.dispose();
  }
}

/** A call or address of a kernel function by name, with its id in this kernel. */
function resolveKfunc(insn: Instruction): Instruction {
  if (insn.kind === 'callKfunc') {
    if (insn.name === undefined || insn.btfId !== 0) return insn;
    const btfId = kernelFunctionId(insn.name);
    return btfId === undefined ? { kind: 'callHelper', helper: MISSING_KFUNC } : { ...insn, btfId };
  }
  if (insn.kind !== 'loadImm64' || insn.reference?.type !== 'kfunc') return insn;
  const id = kernelFunctionId(insn.reference.name);
  return { ...insn, value: 0n, reference: id === undefined ? undefined : { type: 'btfId', id, fd: 0 } };
}

/** The instructions in wire format, descriptors and ids in place of names. */
function wireCode(spec: ProgramSpec, maps: ReadonlyMap<string, KernelMap>): Uint8Array {
  const fd = (name: string): number => named(maps, name, 'no_such_map', 'map').fd;
  const insns = spec.insns.map(resolveKfunc).map((insn): Instruction => {
    if (insn.kind !== 'loadImm64') return insn;
    const { reference } = insn;
    if (reference?.type === 'map') return { ...insn, reference: { type: 'mapFd', fd: fd(reference.map) } };
    if (reference?.type !== 'mapValue') return insn;
    return { ...insn, reference: { type: 'mapFdValue', fd: fd(reference.map), offset: reference.offset } };
  });
  try {
    return encode(insns);
  } catch (cause) {
    if (!(cause instanceof IsaError)) throw cause;
    throw new KernelError(
      'unsupported_program',
      `program ${spec.name} has no wire format: ${cause.message}`,
      { program: spec.name },
      { cause },
    );
  }
}

/** Initial contents that name programs and maps. @param partial programs that were not asked for stay out of the slots */
function fill(
  spec: MapSpec,
  maps: ReadonlyMap<string, KernelMap>,
  progArrays: ReadonlyMap<string, KernelProgArray>,
  programs: ReadonlyMap<string, KernelProgram>,
  partial: boolean,
): void {
  for (const entry of spec.contents) {
    if ('program' in entry) {
      const slots = progArrays.get(spec.name);
      const program = programs.get(entry.program);
      if (!program && partial) continue;
      if (!slots || !program) throw badContents(spec, entry.key, `program ${entry.program}`, slots !== undefined);
      slots.set(entry.key, program);
    } else if ('map' in entry) {
      const inner = maps.get(entry.map);
      if (!inner) throw badContents(spec, entry.key, `map ${entry.map}`, true);
      const value = new Uint8Array(4);
      new DataView(value.buffer).setUint32(0, inner.fd, true);
      maps.get(spec.name)!.update(keyBytes(spec, entry.key), value);
    }
  }
}

function badContents(spec: MapSpec, key: number, what: string, fits: boolean): KernelError {
  const why = fits ? 'the object does not define' : `a map of type ${spec.type} cannot hold`;
  return new KernelError('bad_initial_contents', `${spec.name}[${key}] is declared to hold ${what}, which ${why}`, {
    map: spec.name,
    key,
  });
}
