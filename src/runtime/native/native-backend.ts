/**
 * Runs lowered programs as machine code.
 *
 * Each run context has an entry trampoline that switches to its BPF stack; trusted routines and service thunks lie in
 * the same code region as the programs, so that all calls between them are near.
 */
import koffi from 'koffi';
import type { Services } from '../../helpers/services.ts';
import type { Routine } from '../../isa/routine.ts';
import type { Code, CompileOptions, Machine, Relocation, TailCallMode } from '../../jit/shared/code.ts';
import { applyRelocation } from '../../jit/shared/relocate.ts';
import type { TailCallPresets } from '../../jit/shared/tail-call-choices.ts';
import type { Lowered } from '../../lowering/lowered.ts';
import { lowerRoutine } from '../../lowering/routine.ts';
import type { BpfMap } from '../../maps/map.ts';
import type { Arena } from '../../memory/arena.ts';
import { RunContext } from '../../memory/layout.ts';
import type { Backend, Installed, MapAddresses } from '../backend.ts';
import type { ContextBlock, Contexts } from '../contexts.ts';
import { RuntimeError, serviceFailed } from '../errors.ts';
import type { CodeMemory } from './code-memory.ts';
import { libcSymbol } from './libc.ts';

interface NativeCall {
  (): void;
  async(done: (error: Error | null) => void): void;
}

/** koffi keeps every type for the life of the process: one of each. Without names, since a process may have two copies of this package. */
const ENTRY = koffi.proto('void', []);
const SERVICE = koffi.pointer(koffi.proto('int64_t', ['int64_t', 'int64_t', 'int64_t', 'int64_t', 'int64_t']));

/** Services that are libc functions of the same signature: called directly, without going through JS. */
const LIBC_SERVICES: ReadonlySet<string> = new Set(['clock_gettime']);

export class NativeBackend implements Backend {
  readonly name = 'native';
  readonly cachedTargets = true;
  readonly tailCallModes: readonly TailCallMode[];
  readonly tailCallPresets: TailCallPresets;
  readonly missStub: bigint;
  /** Only where other threads can be made to drop instruction bytes they fetched before a patch. */
  readonly pokes: boolean;
  readonly threads = true;
  readonly #arena: Arena;
  readonly #memory: CodeMemory;
  readonly #machine: Machine;
  readonly #routines: ReadonlyMap<string, Routine>;
  readonly #control: ContextBlock;
  readonly #entries: NativeCall[];
  /** Code addresses by name. */
  readonly #symbols: Readonly<Record<'routine' | 'service', Map<string, bigint>>> = {
    routine: new Map(),
    service: new Map(),
  };
  readonly #callbacks: bigint[] = [];
  /** What a host function threw: anything at all, so it is wrapped. */
  #failure: { readonly cause: unknown } | undefined;
  #closed = false;

  constructor(
    arena: Arena,
    memory: CodeMemory,
    machine: Machine,
    contexts: Contexts,
    routines: readonly Routine[],
    services: Services,
  ) {
    this.#arena = arena;
    this.#memory = memory;
    this.#machine = machine;
    this.pokes = memory.synchronise();
    this.#routines = new Map(routines.map(routine => [routine.name, routine]));
    this.#control = contexts.blocks[0]!;
    this.tailCallModes = machine.tailCallModes;
    this.tailCallPresets = machine.tailCallPresets;
    this.missStub = this.#place(machine.missStub());
    this.#entries = contexts.blocks.map(block => {
      const address = this.#place(machine.entryTrampoline(arena.address(block.offset)));
      return koffi.decode(address, ENTRY) as NativeCall;
    });
    for (const [name, service] of Object.entries(services)) if (service) this.#addService(name, service);
  }

  get codeUsage(): number {
    return this.#memory.used;
  }

  synchronise(): void {
    this.#memory.synchronise();
  }

  call(routine: string, ...args: bigint[]): bigint {
    this.#request(this.#control, this.#symbol('routine', routine), args);
    this.#entries[0]!();
    this.#rethrow();
    return this.#arena.view.getBigUint64(this.#control.offset + RunContext.entryResult, true);
  }

  install(lowered: Lowered, maps: readonly BpfMap[], _id: number, options: Omit<CompileOptions, 'kind'>): Installed {
    return this.#installCode(this.#machine.compile(lowered, { ...options, kind: 'program' }), maps);
  }

  #installCode(code: Code, maps: readonly MapAddresses[]): Installed {
    const offset = this.#memory.allocate(code.bytes.length);
    try {
      this.#memory.write(offset, this.#relocate(code, offset, maps));
    } catch (error) {
      this.#memory.free(offset);
      throw error;
    }
    // Whoever is led to this code must not have fetched what lay there before.
    this.#memory.synchronise();
    const entry = this.#memory.address(offset);
    return {
      entry,
      target: entry + BigInt(code.tailCallPrologueOffset),
      code,
      readMemory: () => this.#memory.read(offset, code.bytes.length),
      ...this.#patcher(code, offset),
      copy: copyMaps => this.#installCode(code, copyMaps),
      free: () => this.#memory.free(offset),
    };
  }

  runBatch(context: ContextBlock): boolean {
    this.#requestReplay(context);
    this.#entries[context.index]!();
    this.#rethrow();
    return this.#stopped(context);
  }

  runBatchAsync(context: ContextBlock): Promise<boolean> {
    this.#requestReplay(context);
    return new Promise((resolve, reject) => {
      this.#entries[context.index]!.async(error => {
        if (error) reject(error);
        else {
          try {
            this.#rethrow();
            resolve(this.#stopped(context));
          } catch (failure) {
            reject(failure);
          }
        }
      });
    });
  }

  /** The one or two instructions of each direct call site, see `PokeSite`. */
  #patcher(code: Code, offset: number): Pick<Installed, 'patch' | 'clear'> {
    const address = (position: number) => this.#memory.address(offset + position);
    const write = (position: number, bytes: Uint8Array, idle: boolean) => {
      if (idle) this.#memory.write(offset + position, bytes);
      else this.#memory.patch(offset + position, bytes);
    };
    const sites = new Map(
      code.pokeSites.map(site => [site.poke, { ...site, open: false, targetAddress: address(site.target) }]),
    );
    return {
      patch: (poke, target, idle = false) => {
        const site = sites.get(poke);
        if (!site) return;
        const { bypass } = site;
        if (bypass === undefined) {
          write(site.target, this.#machine.jump(site.targetAddress, target ?? address(site.out)), idle);
          return;
        }
        if (target === undefined) {
          write(bypass, this.#machine.jump(address(bypass), address(site.out)), idle);
          site.open = false;
          return;
        }
        write(site.target, this.#machine.jump(site.targetAddress, target), idle);
        if (site.open) return;
        // A run that passes the bypass must find the jump behind it, also where its thread fetched those bytes before.
        if (!idle) this.#memory.synchronise();
        write(bypass, this.#machine.nop(), idle);
        site.open = true;
      },
      clear: poke => {
        const site = sites.get(poke);
        if (site && site.bypass !== undefined && !site.open) write(site.target, this.#machine.trap(), false);
      },
    };
  }

  /** Unregisters the callbacks. Nothing may run. */
  close(): void {
    this.#closed = true;
    for (const callback of this.#callbacks.splice(0)) koffi.unregister(callback);
  }

  #requestReplay(context: ContextBlock): void {
    this.#request(context, this.#symbol('routine', 'replay'), [this.#arena.address(context.batch)]);
  }

  /** Everything that enters machine code goes through here. @throws RuntimeError `disposed` where there is none any more */
  #request(context: ContextBlock, target: bigint, args: readonly bigint[]): void {
    if (this.#closed) throw new RuntimeError('disposed', 'this runtime was disposed; create another one');
    const { view } = this.#arena;
    view.setBigUint64(context.offset + RunContext.entryTarget, target, true);
    for (let i = 0; i < args.length; i++) {
      view.setBigUint64(context.offset + RunContext.entryArguments + i * 8, args[i]!, true);
    }
  }

  #stopped(context: ContextBlock): boolean {
    return this.#arena.view.getBigUint64(context.offset + RunContext.entryResult, true) !== 0n;
  }

  /** An exception must not unwind through machine code: it is kept, and thrown when the run is over. */
  #rethrow(): void {
    const failure = this.#failure;
    if (failure === undefined) return;
    this.#failure = undefined;
    throw serviceFailed(failure.cause);
  }

  #addService(name: string, service: (...args: [bigint, bigint, bigint, bigint, bigint]) => bigint): void {
    let address: bigint;
    if (LIBC_SERVICES.has(name)) address = libcSymbol(name);
    else {
      const callback = koffi.register((...args: (number | bigint)[]) => {
        try {
          const [a, b, c, d, e] = args.map(arg => BigInt.asUintN(64, BigInt(arg)));
          return BigInt.asIntN(64, service(a!, b!, c!, d!, e!));
        } catch (error) {
          this.#failure ??= { cause: error };
          return -14n;
        }
      }, SERVICE);
      this.#callbacks.push(callback as unknown as bigint);
      address = BigInt(koffi.address(callback));
    }
    this.#symbols.service.set(name, this.#place(this.#machine.serviceThunk(address)));
  }

  /** Compiles a routine when something first refers to it, with those it refers to itself. */
  #addRoutine(name: string): bigint | undefined {
    const routine = this.#routines.get(name);
    if (routine === undefined) return undefined;
    const code = this.#machine.compile(lowerRoutine(routine), { kind: 'routine', tailCallMode: 'cached' });
    const offset = this.#memory.allocate(code.bytes.length);
    const address = this.#memory.address(offset);
    // Before its relocations are resolved: routines may call each other in circles.
    this.#symbols.routine.set(name, address);
    this.#memory.write(offset, this.#relocate(code, offset, []));
    return address;
  }

  #place(bytes: Uint8Array): bigint {
    const offset = this.#memory.allocate(bytes.length);
    this.#memory.write(offset, bytes);
    return this.#memory.address(offset);
  }

  #symbol(kind: 'routine' | 'service', name: string): bigint {
    const address = this.#symbols[kind].get(name) ?? (kind === 'routine' ? this.#addRoutine(name) : undefined);
    if (address === undefined) {
      throw new RuntimeError('missing_symbol', `no ${kind} is named ${name}`, { kind, name });
    }
    return address;
  }

  #relocate(code: Code, offset: number, maps: readonly MapAddresses[]): Uint8Array {
    const bytes = code.bytes.slice();
    const view = new DataView(bytes.buffer);
    const base = this.#memory.address(offset);
    for (const relocation of code.relocations) {
      applyRelocation(view, relocation, base, this.#target(relocation, base, maps));
    }
    return bytes;
  }

  #target({ target }: Relocation, base: bigint, maps: readonly MapAddresses[]): bigint {
    switch (target.kind) {
      case 'self':
        return base;
      case 'routine':
      case 'service':
        return this.#symbol(target.kind, target.name);
      case 'map':
        return maps[target.index]!.address;
      case 'mapValue':
        return maps[target.index]!.valuesAddress;
    }
  }
}
