/** What a map needs from its surroundings, and the parts that all map classes share. */
import { check, describe } from '../arguments.ts';
import type { Arena } from '../memory/arena.ts';
import { MemoryError } from '../memory/errors.ts';
import { MapHeader } from '../memory/layout.ts';
import type { Btf } from '../object/btf.ts';
import type { MapSpec } from '../object/spec.ts';
import { MapError } from './errors.ts';
import { isPerCpu } from './families.ts';
import type { RoutineCaller } from './map.ts';
import { SPIN_LOCK } from './special-fields.ts';
import { MAP_TYPE, MapFlag, UPDATE_LOCK } from './uapi.ts';

export interface MapEnv {
  readonly arena: Arena;
  /**
   * Number of CPUs, at least 1: the width of per-CPU values. Each RunContext.cpu is below it, and no two threads that use
   * maps at once have the same: a hash keeps a spare element per CPU that only one thread may touch.
   */
  readonly cpus: number;
  readonly routines: RoutineCaller;
  /** Id of the new map, u32, not 0. */
  readonly id: number;
  /** Types that the specification's `btfValueId` is one of: they say where values hold a lock. */
  readonly btf?: Btf | undefined;
  /** Prog arrays: the backend's programs have tail-call entries, so the array gets a second half of cached targets. Default false. */
  readonly cachedTargets?: boolean;
  /** Prog arrays: address of what their empty slots lead to where the programs' choice of `emptySlots` is 'stub'. Default: there is none. */
  readonly missStub?: bigint;
  /** Programs or other maps still use the map, so `dispose` is refused. Default: nobody does. */
  readonly inUse?: () => boolean;
}

export const roundUp = (n: number, unit: number): number => Math.ceil(n / unit) * unit;

/** Cache line, bytes. */
export const LINE = 64;

/**
 * Allocates a map object and fills in its header. `values` may be set later by the caller.
 * @param size bytes of the whole object, header included
 * @param align a power of two, at least 64
 * @returns its offset, a multiple of `align`
 * @throws MapError `out_of_memory`
 */
export function allocateMap(spec: MapSpec, env: MapEnv, size: number, align: number = LINE): number {
  const { arena } = env;
  let offset: number;
  try {
    offset = arena.allocate(size, align);
  } catch (error) {
    if (!(error instanceof MemoryError)) throw error;
    throw new MapError(
      'out_of_memory',
      'ENOMEM',
      `map ${spec.name} needs ${size} bytes: ${error.message}`,
      { map: spec.name, size },
      { cause: error },
    );
  }
  const { view } = arena;
  view.setUint32(offset + MapHeader.type, MAP_TYPE[spec.type], true);
  view.setUint32(offset + MapHeader.keySize, spec.keySize, true);
  view.setUint32(offset + MapHeader.valueSize, spec.valueSize, true);
  view.setUint32(offset + MapHeader.maxEntries, spec.maxEntries, true);
  view.setUint32(offset + MapHeader.flags, spec.flags, true);
  view.setUint32(offset + MapHeader.id, env.id, true);
  const lock = lockOffset(spec);
  view.setUint32(offset + MapHeader.lockPlace, lock === undefined ? 0 : lock + 1, true);
  view.setBigUint64(offset + MapHeader.values, arena.address(offset + MapHeader.size), true);
  return offset;
}

/** Where each value's spin lock lies; undefined where values have none. */
export function lockOffset(spec: MapSpec): number | undefined {
  return spec.specialFields?.find(field => field.name === SPIN_LOCK)?.offset;
}

const partsShape = check.record({ arena: check.record({}), routines: check.record({}) });

/** Maps are made by the runtime that loads an object. @throws ArgumentError where someone else tries */
export function checkParts(env: MapEnv): void {
  partsShape(env, 'env');
}

/** What user space may do with a map: its access flags, frozen, disposed. */
export class Access {
  readonly #spec: MapSpec;
  readonly #inUse: MapEnv['inUse'];
  #frozen = false;
  #disposed = false;

  constructor(spec: MapSpec, env: Pick<MapEnv, 'inUse'>) {
    this.#spec = spec;
    this.#inUse = env.inUse;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** @throws MapError EPERM where user space may not write anyway, as in the kernel */
  freeze(): void {
    this.write();
    this.#frozen = true;
  }

  /** @throws MapError `busy` while programs could reach the memory */
  unused(): void {
    if (!this.#inUse?.()) return;
    const { name } = this.#spec;
    throw new MapError(
      'busy',
      'EBUSY',
      `map ${name} is still used: it is freed with the last of the objects that were loaded with it; dispose of those`,
      { map: name },
    );
  }

  /**
   * @returns false where it had been called before
   * @throws as `unused`
   */
  dispose(): boolean {
    if (this.#disposed) return false;
    this.unused();
    this.#disposed = true;
    return true;
  }

  alive(): void {
    if (this.#disposed) {
      throw new MapError('disposed', 'EBADF', `map ${this.#spec.name} has been disposed of`, { map: this.#spec.name });
    }
  }

  read(): void {
    this.alive();
    if ((this.#spec.flags & MapFlag.wronly) !== 0) {
      throw new MapError(
        'not_permitted',
        'EPERM',
        `map ${this.#spec.name} was created with BPF_F_WRONLY: user space can't read it`,
        { map: this.#spec.name },
      );
    }
  }

  write(): void {
    this.alive();
    if (this.#frozen || (this.#spec.flags & MapFlag.rdonly) !== 0) {
      throw new MapError(
        'not_permitted',
        'EPERM',
        `map ${this.#spec.name} is ${this.#frozen ? 'frozen' : 'created with BPF_F_RDONLY'}: user space can't change it`,
        { map: this.#spec.name, frozen: this.#frozen },
      );
    }
  }
}

export function checkKey(spec: MapSpec, key: Uint8Array): void {
  if (!(key instanceof Uint8Array) || key.length !== spec.keySize) {
    throw badSize('bad_key_size', spec, 'keys', spec.keySize, key);
  }
}

/** @param bytes that a value has; per-CPU: those of all CPUs */
export function checkValue(spec: MapSpec, bytes: number, value: Uint8Array): void {
  if (!(value instanceof Uint8Array) || value.length !== bytes) {
    throw badSize('bad_value_size', spec, 'values', bytes, value);
  }
}

function badSize(code: 'bad_key_size' | 'bad_value_size', spec: MapSpec, what: string, expected: number, got: unknown) {
  const actual = got instanceof Uint8Array ? got.length : undefined;
  const found = actual === undefined ? `and they are Uint8Arrays, not ${describe(got)}` : `not ${actual}`;
  const one = roundUp(spec.valueSize, 8);
  const each = isPerCpu(spec.type) && what === 'values' ? ` (${expected / one} CPUs of ${one})` : '';
  return new MapError(code, 'EINVAL', `map ${spec.name} has ${what} of ${expected} bytes${each}, ${found}`, {
    map: spec.name,
    expected,
    actual,
  });
}

/** The function that is given records. @throws MapError EINVAL */
export function checkVisitor(map: string, visit: unknown, limit: unknown): void {
  if (typeof visit !== 'function' || typeof limit !== 'number' || Number.isNaN(limit) || limit < 0) {
    const what = typeof visit === 'function' ? 'limit must be a number from 0 on' : 'visit must be a function';
    throw new MapError(
      'invalid_operation',
      'EINVAL',
      `${map}: ${what}, not ${describe(typeof visit === 'function' ? limit : visit)}`,
      { map },
    );
  }
}

const loopOptions = check.options({ signal: check.abortSignal });

/** Options of a loop over records. @throws ArgumentError */
export function checkLoop(options: { readonly signal?: AbortSignal }): void {
  loopOptions(options, 'options');
}

/** Flags of an operation, from JS. @throws MapError EINVAL unless a whole number from 0 to 2^53 - 1 */
export function checkFlags(flags: number): void {
  if (!Number.isSafeInteger(flags) || flags < 0) {
    throw new MapError('invalid_operation', 'EINVAL', `flags must be 0 to 2^53 - 1, not ${describe(flags)}`, { flags });
  }
}

/** @param flags of a lookup: 0, or BPF_F_LOCK where values hold a lock */
export function checkLookupFlags(spec: MapSpec, flags: number): void {
  if (flags === 0 || (flags === UPDATE_LOCK && lockOffset(spec) !== undefined)) return;
  const why = flags === UPDATE_LOCK ? 'its values hold no spin lock' : `flags must be 0 or ${UPDATE_LOCK} (BPF_F_LOCK)`;
  throw new MapError(
    'invalid_operation',
    'EINVAL',
    `lookup in map ${spec.name} with flags ${describe(flags)}: ${why}`,
    {
      map: spec.name,
      flags,
    },
  );
}
