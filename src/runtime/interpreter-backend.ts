/** Runs lowered programs in the interpreter, on the control thread. Works in a browser. */

import type { Services } from '../helpers/services.ts';
import { Interpreter, type RunOptions } from '../interpreter/interpreter.ts';
import { type LinkedProgram, linkRoutine } from '../interpreter/linked-program.ts';
import type { Routine } from '../isa/routine.ts';
import type { Lowered } from '../lowering/lowered.ts';
import type { Arena } from '../memory/arena.ts';
import { ProgramObject, RunContext, RuntimeState } from '../memory/layout.ts';
import type { Backend, Installed, MapAddresses } from './backend.ts';
import { Batch, Descriptor, HISTOGRAM, PacketKind } from './batch.ts';
import type { ContextBlock, Contexts } from './contexts.ts';
import { RuntimeError, serviceFailed } from './errors.ts';

export class InterpreterBackend implements Backend {
  readonly name = 'interpreter';
  readonly cachedTargets = false;
  readonly tailCallModes = [];
  readonly tailCallPresets = undefined;
  readonly missStub = 0n;
  readonly pokes = false;
  readonly threads = false;
  readonly codeUsage = 0;
  readonly #arena: Arena;
  readonly #contexts: Contexts;
  readonly #services: Services;
  readonly #interpreter: Interpreter;
  readonly #texts: ReadonlyMap<string, Routine>;
  readonly #routines = new Map<string, LinkedProgram>();
  readonly #programs = new Map<number, LinkedProgram>();
  readonly #runOptions: RunOptions;

  /** @param runOptions of the programs' runs, not of those of trusted routines that stand around them */
  constructor(
    arena: Arena,
    contexts: Contexts,
    routines: readonly Routine[],
    services: Services,
    runOptions: RunOptions = {},
  ) {
    this.#runOptions = runOptions;
    this.#arena = arena;
    this.#contexts = contexts;
    this.#services = services;
    this.#texts = new Map(routines.map(routine => [routine.name, routine]));
    this.#interpreter = new Interpreter({
      arena,
      runContext: arena.address(contexts.blocks[0]!.offset),
      routine: name => this.#routine(name),
      service: name => {
        const service = services[name];
        if (!service) throw new RuntimeError('missing_symbol', `no service is named ${name}`, { service: name });
        return (a, b, c, d, e) => {
          try {
            return service(a, b, c, d, e);
          } catch (error) {
            throw serviceFailed(error);
          }
        };
      },
      programById: id => this.#programs.get(id),
    });
  }

  synchronise(): void {}

  call(routine: string, ...args: bigint[]): bigint {
    return this.#interpreter.run(this.#routine(routine), args);
  }

  #routine(name: string): LinkedProgram {
    let routine = this.#routines.get(name);
    if (!routine) {
      const text = this.#texts.get(name);
      if (!text) throw new RuntimeError('missing_symbol', `no trusted routine is named ${name}`, { routine: name });
      routine = linkRoutine(text);
      this.#routines.set(name, routine);
    }
    return routine;
  }

  install(lowered: Lowered, maps: readonly MapAddresses[], id: number): Installed {
    this.#programs.set(id, {
      lowered,
      mapAddresses: maps.map(map => map.address),
      mapValueAddresses: maps.map(map => map.valuesAddress),
      id,
    });
    return {
      entry: 0n,
      target: 0n,
      code: undefined,
      readMemory: () => new Uint8Array(0),
      patch() {},
      clear() {},
      copy: (copyMaps, copyId) => this.install(lowered, copyMaps, copyId),
      free: () => this.#programs.delete(id),
    };
  }

  /** What the routine `replay` does on other backends, around the same `packet_begin` and `packet_end`. */
  runBatch(context: ContextBlock): boolean {
    const { view } = this.#arena;
    const epoch = context.offset + RunContext.epoch;
    const kind = view.getUint32(context.batch + Batch.kind, true);
    const packetContext = view.getBigUint64(context.batch + Batch.context, true);
    const first = view.getBigUint64(context.batch + Batch.descriptors, true);
    const count = view.getUint32(context.batch + Batch.count, true);
    const object = this.#arena.offset(view.getBigUint64(context.batch + Batch.program, true), ProgramObject.size);
    const nested = view.getBigUint64(epoch, true);
    this.#stamp(context.batch + Batch.started);
    try {
      for (let pass = view.getUint32(context.batch + Batch.repeat, true); pass > 0; pass--) {
        for (let i = 0; i < count; i++) {
          if (view.getUint32(this.#contexts.state + RuntimeState.stop, true) !== 0) return true;
          if (view.getUint32(context.batch + Batch.stop, true) !== 0) return true;
          const now = view.getBigUint64(this.#contexts.state + RuntimeState.epoch, true);
          view.setBigUint64(epoch, now, true);
          const program = this.#programs.get(
            Number(view.getBigUint64(object + ProgramObject.entries + 8 * Number(now & 1n), true)),
          )!;
          const descriptor = first + BigInt(i * Descriptor.size);
          const r1 = this.call('packet_begin', descriptor, BigInt(kind), packetContext);
          const r2 = kind === PacketKind.raw ? view.getBigUint64(context.offset + RunContext.rawSize, true) : 0n;
          const r0 = this.#interpreter.run(program, [r1, r2], this.#runOptions);
          this.call('packet_end', descriptor, BigInt(kind), packetContext, r0);
          this.#count(context.batch, kind === PacketKind.raw ? r0 : BigInt.asUintN(32, r0));
        }
      }
      return false;
    } finally {
      view.setBigUint64(epoch, nested, true);
      this.#stamp(context.batch + Batch.ended);
    }
  }

  runBatchAsync(): Promise<boolean> {
    return Promise.reject(
      new RuntimeError(
        'unsupported_platform',
        'the interpreter runs on the control thread only; use workers: 1 or backend "native"',
      ),
    );
  }

  /** Writes the monotonic time as a struct timespec, as the routine does by clock_gettime. */
  #stamp(offset: number): void {
    this.#services.clock_gettime(1n, this.#arena.address(offset), 0n, 0n, 0n);
  }

  #count(batch: number, r0: bigint): void {
    const { view } = this.#arena;
    let slot: number = HISTOGRAM.other;
    if (r0 < BigInt(HISTOGRAM.values)) slot = Number(r0);
    else if (BigInt.asUintN(32, r0) === 0xffff_ffffn) slot = HISTOGRAM.unspec;
    for (const offset of [batch + Batch.done, batch + Batch.histogram + slot * 8]) {
      view.setBigUint64(offset, view.getBigUint64(offset, true) + 1n, true);
    }
  }
}
