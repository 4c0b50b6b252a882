/**
 * The runtime: loads objects, owns their memory, and runs their programs.
 *
 * `load` is the whole road of the house: parse, make maps, verify, lower, compile, install, fill in the maps' initial
 * contents. One runtime has one arena and one control thread (the one that made it); programs of several objects may
 * share maps and prog arrays within it.
 */

import { check, describe } from '../arguments.ts';
import { usesIteratorMemory } from '../helpers/kfuncs.ts';
import { createServices } from '../helpers/services.ts';
import type { TailCallMode } from '../jit/shared/code.ts';
import { checkOverrides, chooseTailCalls, type TailCallOverrides } from '../jit/shared/tail-call-choices.ts';
import { createMap } from '../maps/create.ts';
import type { BpfMap } from '../maps/map.ts';
import { MapOfMaps } from '../maps/map-of-maps.ts';
import { type OwnerTraits, ProgArray } from '../maps/prog-array.ts';
import { ProgramObject, RunContext, RuntimeState } from '../memory/layout.ts';
import type { Btf } from '../object/btf.ts';
import { collectionSpec } from '../object/check.ts';
import { parseObject } from '../object/parse.ts';
import { selectPrograms } from '../object/select-programs.ts';
import type { Collection, MapSpec, ProgramSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import type { Backend, BackendName, Installed, MapAddresses } from './backend.ts';
import { type ContextBlock, type Contexts, createContexts, provideIteratorMemory } from './contexts.ts';
import { RuntimeError } from './errors.ts';
import {
  Generations,
  type PreflightOptions,
  type Transaction,
  type TransactionChanges,
  type TransactionOptions,
} from './generations.ts';
import { GracePeriods, type Side } from './grace-period.ts';
import type { Host } from './host.ts';
import { LoadedObject } from './loaded-object.ts';
import { ProgArraySlots } from './prog-array-slots.ts';
import { Program } from './program.ts';
import { Routes } from './routes.ts';
import { ROUTINES } from './routines.ts';
import type { RuntimeServices } from './run-services.ts';
import { type Preflight, plainScene, preflight } from './slot-graph.ts';
import { SocketTable } from './sockets.ts';
import { lowerProgram, type VerifyProgramOptions, verifyMembers, verifyProgram } from './stages.ts';
import { MissCounts } from './tail-call-misses.ts';

export interface RuntimeOptions {
  /** CPU numbers, that is threads that can run programs at once, the calling one included: 1 to 256. Default 5. */
  readonly cpus?: number;
  /** Receives each line that bpf_trace_printk prints; default: dropped. */
  readonly onTrace?: (line: string) => void;
}

export interface LoadOptions extends VerifyProgramOptions {
  /** Default: the host's first, natively compiled where that exists. */
  readonly backend?: BackendName;
  /** Programs to load, with all that their prog arrays initially hold; default: all. */
  readonly programs?: readonly string[];
  /** Maps to use instead of the object's own, by name: those of another loaded object. */
  readonly maps?: ReadonlyMap<string, BpfMap>;
  /** BTF of the kernel that CO-RE relocations are resolved against. */
  readonly targetBtf?: Uint8Array | Btf;
  /**
   * How tail calls are compiled; default "fast" where the machine has it, else "cached". A prog array holds either "fast"
   * programs or others. Without effect on interpreted programs.
   */
  readonly tailCallMode?: TailCallMode;
  /**
   * Choices that mode "fast" leaves open, other than its own: `rangeCheck`, `emptySlots`. Programs that differ in `emptySlots` can't
   * share a prog array. Without effect on interpreted programs.
   */
  readonly tailCallChoices?: TailCallOverrides;
  /** Most tail calls in a run that starts in these programs, 1 to 2^20; default 33. Another number needs mode "fast". */
  readonly maxTailCalls?: number;
  /** Patch direct jumps where the verifier proved map and index; default true. */
  readonly pokes?: boolean;
  /** Count tail calls that fall through (`Program.tailCallMisses`); default true. A hop that succeeds does not pay for it. */
  readonly countMisses?: boolean;
  /** Count tail calls that succeed too, by slot (`Program.tailCallHits`), at a price for each; default false. Needs `countMisses`. */
  readonly countHits?: boolean;
  /** For checks of the verifier: branches of which it found one side dead stay, and lead to an exit there. */
  readonly keepDeadBranches?: boolean;
}

interface SharedMap {
  /** Objects and programs that use the map: it is freed with the last. */
  references: number;
  /** Objects among them: a prog array is emptied with the last, as the kernel does when the last file descriptor closes. */
  objects: number;
  /** Maps of maps: the inner maps put in, each kept alive by one reference. */
  readonly inner: BpfMap[];
}

const hostShape = check.record({ arena: check.record({ size: check.natural }), createBackends: check.callable });
const runtimeOptions = check.options({ cpus: check.number, onTrace: check.callable });
const mapShape = check.record({ spec: check.record({ name: check.string }) });
const loadOptions = check.options({
  ...verifyMembers,
  backend: check.string,
  programs: check.arrayOf(check.string),
  maps: check.mapOf(mapShape),
  tailCallMode: check.string,
  tailCallChoices: check.options({}),
  maxTailCalls: check.integer(1, 2 ** 20),
  pokes: check.boolean,
  countMisses: check.boolean,
  countHits: check.boolean,
  keepDeadBranches: check.boolean,
});

export class Runtime {
  /** The sockets that programs find; empty at first. */
  readonly sockets: SocketTable;
  /** What fib_lookup and check_mtu look at; empty at first. */
  readonly routes: Routes;
  readonly #host: Host;
  readonly #contexts: Contexts;
  readonly #backends: readonly Backend[];
  readonly #services: RuntimeServices;
  readonly #misses: MissCounts;
  readonly #generations: Generations;
  readonly #programs = new Map<number, Program>();
  readonly #maps = new Map<BpfMap, SharedMap>();
  readonly #slots = new Map<BpfMap, ProgArraySlots>();
  readonly #objects = new Set<LoadedObject>();
  readonly #free: ContextBlock[];
  /** CPU numbers in use by runs. */
  readonly #numbers = new Set<number>();
  readonly #cpus: number;
  #running = 0;
  #inControlRun = false;
  #nextId = 1;
  #disposed: Promise<void> | undefined;

  /** Use `createRuntime` of the package's entry point; this takes the host it stands on. */
  constructor(host: Host, options: RuntimeOptions = {}) {
    hostShape(host, 'host');
    runtimeOptions(options, 'options');
    const cpus = options.cpus ?? 5;
    if (!Number.isInteger(cpus) || cpus < 1 || cpus > 256) {
      throw new RuntimeError('bad_argument', `cpus must be an integer from 1 to 256, got ${describe(cpus)}`, { cpus });
    }
    this.#cpus = cpus;
    this.#host = host;
    const { arena } = host;
    this.#contexts = createContexts(arena, cpus, () => host.seed());
    this.#free = this.#contexts.blocks.slice(1).reverse();
    const services = createServices({
      arena,
      now: id => host.clock(id),
      pidTgid: () => host.pidTgid(),
      onTrace: options.onTrace ?? (() => {}),
    });
    this.#backends = host.createBackends(this.#contexts, ROUTINES, services);
    this.#misses = new MissCounts({ arena, cpus, routines: this.#backends[0]! }, () => this.#nextId++);
    const synchronise = () => {
      for (const backend of this.#backends) backend.synchronise();
    };
    const gracePeriods = new GracePeriods(
      arena,
      this.#contexts.state,
      this.#contexts.blocks.map(block => block.offset),
      synchronise,
    );
    this.#generations = new Generations(
      gracePeriods,
      synchronise,
      () => this.#double(),
      (edits, { entries }) => {
        for (const entry of entries ?? []) {
          if (this.#programs.get(entry?.id) === entry) continue;
          throw new RuntimeError('bad_argument', 'entries must be programs of this runtime that are still loaded');
        }
        const scene = plainScene([...this.#programs.values()], [...this.#slots.values()]);
        return preflight(scene, edits.slots, edits.entries, entries);
      },
    );
    this.sockets = new SocketTable(arena, {
      gracePeriods,
      state: this.#contexts.state,
      alive: () => this.#alive(),
      mapEnv: () => ({ arena, cpus, routines: this.#backends[0]!, id: this.#nextId++ }),
    });
    this.routes = new Routes(arena, {
      gracePeriods,
      state: this.#contexts.state,
      alive: () => this.#alive(),
      mapEnv: () => ({ arena, cpus, routines: this.#backends[0]!, id: this.#nextId++ }),
    });
    this.#services = {
      arena,
      gracePeriods,
      now: () => host.now(),
      mapName: address => [...this.#maps.keys()].find(map => map.address === address)?.spec.name ?? '',
      withControlContext: use => this.#withControlContext(use),
      leaseContexts: count => this.#lease(count),
      returnContexts: contexts => this.#return(contexts),
    };
  }

  /** The backends that programs can be loaded for; the first is the default. */
  get backends(): readonly BackendName[] {
    return this.#backends.map(backend => backend.name);
  }

  /** Width of per-CPU values. */
  get cpus(): number {
    return this.#cpus;
  }

  /** Bytes of the arena in use. */
  get memoryUsage(): number {
    return this.#host.arena.allocated;
  }

  /** Bytes of machine code in use, trusted routines included. */
  get codeUsage(): number {
    return this.#backends.reduce((sum, backend) => sum + backend.codeUsage, 0);
  }

  /**
   * Loads an object: all or nothing.
   * @param input the bytes of an ELF object, or a collection made by `parseObject` or by hand
   * @throws ObjectError, VerifierError, MapError, LoweringError, RuntimeError
   */
  load(input: Uint8Array | Collection, options: LoadOptions = {}): LoadedObject {
    this.#alive();
    loadOptions(options, 'options');
    if (input instanceof Uint8Array) check.bytes(input, 'input');
    else collectionSpec(input, 'input');
    const collection =
      input instanceof Uint8Array
        ? parseObject(input, options.targetBtf !== undefined ? { targetBtf: options.targetBtf } : {})
        : input;
    const backend = this.#backend(options.backend);
    const specs = selectPrograms(collection, options.programs, noSuchProgram);
    const verified = specs.map(spec => this.#verify(spec, collection, options));
    if (specs.some(usesIteratorMemory)) provideIteratorMemory(this.#host.arena, this.#contexts);
    const undo: (() => void)[] = [];
    try {
      const maps = this.#makeMaps(collection, backend, options, undo);
      const programs = new Map<string, Program>();
      for (const facts of verified) {
        const program = this.#install(facts, maps, backend, options);
        programs.set(program.name, program);
        undo.push(() => program.dispose());
      }
      const progArrays = new Map<string, ProgArraySlots>();
      for (const [name, map] of maps) {
        const slots = this.#slots.get(map);
        if (slots) progArrays.set(name, slots);
      }
      for (const [name, spec] of collection.maps) {
        if (options.maps?.has(name)) continue;
        fillSlots(spec, progArrays, programs, options.programs !== undefined);
        this.#fillInner(spec, maps);
      }
      const dispose = () => {
        this.#objects.delete(object);
        for (const program of programs.values()) program.dispose();
        for (const map of maps.values()) this.#letGoOfMap(map);
      };
      const object = new LoadedObject(collection, programs, maps, progArrays, dispose, {
        mapById: id => [...this.#maps.keys()].find(map => map.id === id),
        poke: (map, offset, bytes) => {
          const { arena } = this.#host;
          arena.bytes.set(bytes, arena.offset(map.valuesAddress + BigInt(offset), bytes.length));
        },
        putInner: (outer, key, inner, flags) => this.#putInner(outer as BpfMap, key, inner as BpfMap, flags),
      });
      this.#objects.add(object);
      return object;
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  /**
   * Changes any number of slots of any of its prog arrays at once: every run sees either all of them as before or all of
   * them as after, from its entry to its exit, however many tail calls it makes. The first transaction of a runtime gives
   * every prog array and every program that calls through one a second copy, which takes longer.
   * @param change records the changes; they are checked and made when it returns
   * @throws what `ProgArraySlots.set` and `delete` throw, what `change` throws, RuntimeError `would_miss` where it is strict; then
   *   nothing is changed
   */
  transaction(change: (changes: TransactionChanges) => void, options: TransactionOptions = {}): Transaction {
    this.#alive();
    return this.#generations.transaction(change, options);
  }

  /**
   * What a transaction would do, without doing it: which tail calls could find a slot empty after it (from the verifier's facts
   * and the slots of all prog arrays), and which of those it would bring. Programs and arrays of the same name are
   * told apart as `name#id`.
   * @throws as `transaction` does
   */
  preflight(change: (changes: TransactionChanges) => void, options: PreflightOptions = {}): Preflight {
    this.#alive();
    return this.#generations.preflight(change, options);
  }

  /** Resolves when everything replaced or disposed so far has been freed. */
  settled(): Promise<void> {
    this.#generations.settle();
    return this.#services.gracePeriods.settled();
  }

  /** Stops all runs, then frees everything. Later use of anything of this runtime throws `disposed`. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#shutDown();
    return this.#disposed;
  }

  async #shutDown(): Promise<void> {
    this.stop();
    while (this.#running > 0) await new Promise(resolve => setTimeout(resolve, 1));
    for (const object of [...this.#objects]) object.dispose();
    await this.settled();
    this.#host.close();
  }

  /** Asks every run to end at its next packet; the runtime can only be disposed after that. */
  stop(): void {
    Atomics.store(this.#host.arena.i32, (this.#contexts.state + RuntimeState.stop) / 4, 1);
  }

  #alive(): void {
    if (this.#disposed) throw new RuntimeError('disposed', 'this runtime was disposed; create another one');
  }

  #backend(name: BackendName | undefined): Backend {
    const backend = name === undefined ? this.#backends[0] : this.#backends.find(candidate => candidate.name === name);
    if (backend) return backend;
    const names = this.backends;
    throw new RuntimeError(
      'unsupported_platform',
      `backend ${name} is not available here; this runtime has ${names.join(', ')}`,
      { backend: name, names },
    );
  }

  #verify(spec: ProgramSpec, collection: Collection, options: LoadOptions): Verified {
    const maps = new Map(collection.maps);
    for (const [name, map] of options.maps ?? []) maps.set(name, { ...map.spec, name });
    return verifyProgram(spec, maps, options);
  }

  #makeMaps(collection: Collection, backend: Backend, options: LoadOptions, undo: (() => void)[]): Map<string, BpfMap> {
    const maps = new Map<string, BpfMap>();
    for (const [name, spec] of collection.maps) {
      let map = options.maps?.get(name);
      if (map && !this.#maps.has(map)) {
        throw new RuntimeError(
          'no_such_map',
          `the replacement for map ${name} does not belong to this runtime, or was freed`,
          { map: name },
        );
      }
      if (!map) {
        const shared: SharedMap = { references: 0, objects: 0, inner: [] };
        map = createMap(sized(spec, this.#cpus), {
          arena: this.#host.arena,
          cpus: this.#cpus,
          routines: this.#backends[0]!,
          id: this.#nextId++,
          cachedTargets: backend.cachedTargets,
          missStub: backend.missStub,
          btf: collection.btf,
          inUse: () => shared.references > 0,
        });
        this.#maps.set(map, shared);
        if (map instanceof ProgArray) this.#slots.set(map, new ProgArraySlots(map, this.#generations, this.#programs));
      }
      const held = map;
      this.#maps.get(held)!.objects++;
      this.#retainMap(held);
      undo.push(() => this.#letGoOfMap(held));
      maps.set(name, held);
    }
    return maps;
  }

  #install(verified: Verified, maps: ReadonlyMap<string, BpfMap>, backend: Backend, options: LoadOptions): Program {
    const specs = new Map([...maps].map(([name, map]) => [name, map.spec]));
    const pokes = backend.pokes && options.pokes !== false;
    const { countMisses, countHits, keepDeadBranches } = options;
    const lowered = lowerProgram(verified, specs, pokes, countMisses !== false, countHits, keepDeadBranches);
    const used = lowered.usedMaps.slice(0, lowered.missTable).map(({ name }) => {
      const map = maps.get(name);
      if (!map)
        throw new RuntimeError(
          'no_such_map',
          `program ${lowered.name} uses map ${name}, which the object does not define`,
          { map: name },
        );
      return map;
    });
    const spec = verified.program;
    const tailCallMode = this.#tailCallMode(backend, options);
    // Interpreted programs have no use for choices, but what is no choice is refused for them too.
    if (options.tailCallChoices) checkOverrides(options.tailCallChoices);
    const choices =
      tailCallMode && backend.tailCallPresets
        ? chooseTailCalls(backend.tailCallPresets, tailCallMode, options.tailCallChoices)
        : undefined;
    const traits: OwnerTraits = {
      type: spec.type,
      backend: backend.name,
      attachType: spec.attachType,
      xdpFrags: spec.xdpFrags,
      ...(choices && { tailCallFrames: choices.frames }),
      ...(choices?.frames === 'common' && { emptySlots: choices.emptySlots }),
      ...(options.maxTailCalls === undefined ? {} : { maxTailCalls: options.maxTailCalls }),
    };
    const progArrays = new Map<string, ProgArraySlots>();
    for (const name of new Set(verified.facts.tailCalls.flatMap(site => site.maps))) {
      const slots = this.#slots.get(maps.get(name)!);
      if (!slots) continue;
      slots.map.claim(traits);
      progArrays.set(name, slots);
    }
    const id = this.#nextId++;
    const misses =
      lowered.missTable === undefined ? undefined : this.#misses.open(id, verified, maps, options.countHits === true);
    let installed: Installed;
    try {
      installed = backend.install(lowered, misses ? [...used, misses.records] : used, id, {
        tailCallMode: tailCallMode ?? 'cached',
        ...(options.tailCallChoices && tailCallMode && { tailCallChoices: options.tailCallChoices }),
        pokes: options.pokes !== false,
        ...(options.maxTailCalls === undefined ? {} : { maxTailCalls: options.maxTailCalls }),
      });
    } catch (error) {
      misses?.free();
      throw error;
    }
    const object = this.#makeProgramObject(installed, id);
    for (const map of used) this.#retainMap(map);
    const addSites = (code: Installed, side: Side): (() => void)[] => {
      const removals: (() => void)[] = [];
      if (!backend.pokes || options.pokes === false) return removals;
      for (const [poke, descriptor] of lowered.pokeTable.entries()) {
        const slots = this.#slots.get(used[descriptor.map]!);
        if (slots) removals.push(slots.addSite(descriptor.key, { installed: code, poke }, side));
      }
      return removals;
    };
    const makeSide = () => {
      const addresses: MapAddresses[] = used.map(map =>
        map instanceof ProgArray ? { address: map.sideAddress(1), valuesAddress: 0n } : map,
      );
      const copyId = this.#nextId++;
      const sideArrays = [...maps].map(
        ([name, map]) =>
          [name, { id: map.id, address: map instanceof ProgArray ? map.sideAddress(1) : map.address }] as const,
      );
      const copyMisses = misses && this.#misses.open(copyId, verified, new Map(sideArrays), options.countHits === true);
      if (copyMisses) addresses.push(copyMisses.records);
      let copy: Installed | undefined;
      let copyObject: number;
      try {
        copy = installed.copy(addresses, copyId);
        copyObject = this.#makeProgramObject(copy, copyId);
      } catch (error) {
        copy?.free();
        copyMisses?.free();
        throw error;
      }
      const sites = addSites(copy, 1);
      return {
        installed: copy,
        misses: copyMisses,
        object: copyObject,
        remove: () => {
          copyMisses?.free();
          for (const remove of sites) remove();
        },
      };
    };
    const removals = addSites(installed, 0);
    const program = new Program({
      id,
      object,
      verified,
      lowered,
      progArrays,
      backend,
      installed,
      traits,
      services: this.#services,
      misses,
      makeSide: used.some(map => map instanceof ProgArray) ? makeSide : undefined,
      onFree: () => {
        misses?.free();
        for (const remove of removals) remove();
        this.#generations.forget(program);
        this.#programs.delete(id);
        for (const map of used) this.#releaseMap(map);
      },
    });
    this.#programs.set(id, program);
    try {
      if (this.#generations.doubled) program.addSide();
    } catch (error) {
      program.dispose();
      throw error;
    }
    return program;
  }

  #makeProgramObject(installed: Installed, id: number): number {
    const { arena } = this.#host;
    const object = arena.allocate(ProgramObject.size, 64);
    arena.view.setBigUint64(object + ProgramObject.bpfFunc, installed.entry, true);
    arena.view.setUint32(object + ProgramObject.id, id, true);
    arena.view.setUint32(object + ProgramObject.alive, 1, true);
    const entry = installed.code ? installed.entry : BigInt(id);
    for (const side of [0, 8]) arena.view.setBigUint64(object + ProgramObject.entries + side, entry, true);
    return object;
  }

  /** Gives all prog arrays and programs their second sides, as the first transaction needs them; or none. */
  #double(): void {
    try {
      for (const slots of this.#slots.values()) slots.addSide();
      for (const program of this.#programs.values()) program.addSide();
    } catch (error) {
      for (const program of this.#programs.values()) program.dropSide();
      for (const slots of this.#slots.values()) slots.dropSide();
      throw error;
    }
  }

  /** @returns undefined where nothing is compiled */
  #tailCallMode(backend: Backend, options: LoadOptions): TailCallMode | undefined {
    const { tailCallMode, maxTailCalls = 33 } = options;
    const modes = backend.tailCallModes;
    if (tailCallMode !== undefined && modes.length > 0 && !modes.includes(tailCallMode)) {
      throw new RuntimeError(
        'unsupported_platform',
        `tail-call mode ${tailCallMode} is not available here; this backend has ${modes.join(', ')}`,
        { tailCallMode, modes },
      );
    }
    const mode = modes.length === 0 ? undefined : (tailCallMode ?? modes.at(-1));
    if (maxTailCalls !== 33 && mode !== 'fast') {
      throw new RuntimeError(
        'bad_argument',
        `maxTailCalls ${maxTailCalls} needs native code with tailCallMode "fast"; elsewhere a run has 33 tail calls`,
        { maxTailCalls },
      );
    }
    return mode;
  }

  /** Puts the maps that an object declares to be in a map of maps into it. */
  #fillInner(spec: MapSpec, maps: ReadonlyMap<string, BpfMap>): void {
    const outer = maps.get(spec.name)!;
    for (const entry of spec.contents) {
      if (!('map' in entry)) continue;
      const inner = maps.get(entry.map);
      if (!(outer instanceof MapOfMaps) || !inner) {
        throw new RuntimeError(
          'bad_initial_contents',
          `${spec.name}[${entry.key}] is declared to hold map ${entry.map}, which ${inner ? `a map of type ${spec.type} cannot hold` : 'the object does not define'}`,
          { map: spec.name, key: entry.key, inner: entry.map },
        );
      }
      const key = new Uint8Array(spec.keySize);
      new DataView(key.buffer).setUint32(0, entry.key, true);
      this.#putInner(outer, key, inner, 0);
    }
  }

  /** An inner map lives as long as the outer, even where it is taken out before: programs may have looked it up. */
  #putInner(outer: BpfMap, key: Uint8Array, inner: BpfMap, flags: number): void {
    const shared = this.#maps.get(outer);
    if (!(outer instanceof MapOfMaps) || !shared || !this.#maps.has(inner)) {
      throw new RuntimeError('no_such_map', `map ${inner.spec.name} does not belong to this runtime, or was freed`, {
        map: inner.spec.name,
      });
    }
    outer.set(key, inner, flags);
    if (shared.inner.includes(inner)) return;
    this.#retainMap(inner);
    shared.inner.push(inner);
  }

  #retainMap(map: BpfMap): void {
    this.#maps.get(map)!.references++;
  }

  /** An object gives its map up; programs in flight may still use it. */
  #letGoOfMap(map: BpfMap): void {
    const shared = this.#maps.get(map)!;
    if (--shared.objects === 0) this.#slots.get(map)?.clear();
    this.#services.gracePeriods.retire(() => this.#releaseMap(map));
  }

  #releaseMap(map: BpfMap): void {
    const shared = this.#maps.get(map);
    if (!shared || --shared.references > 0) return;
    for (const inner of shared.inner) this.#releaseMap(inner);
    const slots = this.#slots.get(map);
    if (slots) this.#generations.forget(slots);
    this.#slots.delete(map);
    this.#maps.delete(map);
    map.dispose();
  }

  #withControlContext<T>(use: (context: ContextBlock) => T): T {
    this.#outsideRuns();
    this.#inControlRun = true;
    const [control] = this.#contexts.blocks as [ContextBlock];
    const number = this.#takeNumber() ?? this.#cpus - 1;
    this.#setCpu(control, number);
    try {
      return use(control);
    } finally {
      this.#setCpu(control, this.#cpus - 1);
      this.#numbers.delete(number);
      this.#inControlRun = false;
    }
  }

  /** @throws RuntimeError `busy` in a host function that a run on this thread calls */
  #outsideRuns(): void {
    this.#alive();
    if (this.#inControlRun) {
      throw new RuntimeError('busy', 'a run is going on on this thread; a host function must not start another one');
    }
  }

  #lease(count: number): readonly ContextBlock[] {
    this.#outsideRuns();
    if (count > this.#free.length) {
      throw new RuntimeError(
        'busy',
        `${count} threads were asked for, ${this.#free.length} of ${this.#cpus - 1} are free; create the runtime with more cpus or wait for runs to end`,
        { asked: count, free: this.#free.length, cpus: this.#cpus },
      );
    }
    const contexts = this.#free.splice(-count).reverse();
    this.#running += count;
    // There are as many numbers below the control thread's own as there are contexts to lease.
    for (const context of contexts) this.#setCpu(context, this.#takeNumber()!);
    return contexts;
  }

  #return(contexts: readonly ContextBlock[]): void {
    const { view } = this.#host.arena;
    for (const context of contexts) this.#numbers.delete(view.getUint32(context.offset + RunContext.cpu, true));
    this.#running -= contexts.length;
    this.#free.push(...[...contexts].reverse());
  }

  /** The lowest CPU number that nobody runs with; undefined where only the control thread's own is left. */
  #takeNumber(): number | undefined {
    for (let number = 0; number < this.#cpus - 1; number++) {
      if (this.#numbers.has(number)) continue;
      this.#numbers.add(number);
      return number;
    }
    return undefined;
  }

  #setCpu(context: ContextBlock, number: number): void {
    this.#host.arena.view.setUint32(context.offset + RunContext.cpu, number, true);
  }
}

/** A perf event array that does not say how large it is, as an inner map too, has an entry per CPU, as libbpf makes it. */
function sized(spec: MapSpec, cpus: number): MapSpec {
  if (spec.inner !== undefined) return { ...spec, inner: sized(spec.inner, cpus) };
  return spec.type === 'perf_event_array' && spec.maxEntries === 0 ? { ...spec, maxEntries: cpus } : spec;
}

function noSuchProgram(name: string, names: readonly string[]): never {
  throw new RuntimeError(
    'no_such_program',
    `no program is named ${name}; the object has ${names.join(', ') || 'none'}`,
    { name, names },
  );
}

/** Puts the programs that an object declares to be in a prog array into it. */
function fillSlots(
  spec: MapSpec,
  progArrays: ReadonlyMap<string, ProgArraySlots>,
  programs: ReadonlyMap<string, Program>,
  partial: boolean,
): void {
  for (const entry of spec.contents) {
    if ('program' in entry) {
      const slots = progArrays.get(spec.name);
      const program = programs.get(entry.program);
      if (!program && partial) continue;
      if (!slots || !program) {
        throw new RuntimeError(
          'bad_initial_contents',
          `${spec.name}[${entry.key}] is declared to hold program ${entry.program}, which ${slots ? 'the object does not define' : `a map of type ${spec.type} cannot hold`}`,
          { map: spec.name, key: entry.key, program: entry.program },
        );
      }
      slots.set(entry.key, program);
    }
  }
}
