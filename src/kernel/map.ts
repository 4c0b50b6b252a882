/** A map in the kernel, with the operations that user space has on it. */

import { readFileSync } from 'node:fs';
import { describe, isBytes } from '../arguments.ts';
import { ARENA_PAGE } from '../maps/arena-map.ts';
import type { BpfMap } from '../maps/map.ts';
import { MAP_TYPE } from '../maps/uapi.ts';
import { anyMap } from '../object/check.ts';
import type { MapSpec } from '../object/spec.ts';
import { mapShared } from '../runtime/native/libc.ts';
import { Attr, Command, closeFd, fixed, fixedCopy, type Outcome, refusal } from './bpf.ts';
import type { KernelBtf } from './btf.ts';
import { flagBits, kindOf, MAX_U32, needBytes } from './check.ts';
import { KernelError } from './errors.ts';
import { objectInfo, text } from './info.ts';
import { notPermitted } from './permission.ts';
import { MapInfo, NAME_BYTES } from './uapi.ts';

/** What Switchyard's own maps offer too. */
type Shared = Pick<
  BpfMap,
  'spec' | 'id' | 'lookup' | 'update' | 'delete' | 'nextKey' | 'entries' | 'freeze' | 'dispose'
>;

/** Types that the kernel makes without type information. */
const UNTYPED: ReadonlySet<MapSpec['type']> = new Set([
  'perf_event_array',
  'cgroup_array',
  'stack_trace',
  'array_of_maps',
  'hash_of_maps',
  'devmap',
  'devmap_hash',
  'cpumap',
  'xskmap',
  'sockmap',
  'sockhash',
  'queue',
  'stack',
]);

let cpus: number | undefined;

/** CPUs that per-CPU values have room for: those that could be plugged in. */
export function possibleCpus(): number {
  if (cpus !== undefined) return cpus;
  const path = '/sys/devices/system/cpu/possible';
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KernelError(
      'unsupported_platform',
      `cannot read ${path}, which says how large per-CPU values are`,
      {},
      { cause },
    );
  }
  // "0-7", or "0-3,8-11": the kernel counts to the highest number.
  cpus = Number(/(\d+)\s*$/.exec(text)?.[1] ?? 0) + 1;
  return cpus;
}

/** Bytes of a value as user space sees it. */
function valueBytes(spec: MapSpec): number {
  return spec.type.includes('percpu') ? Math.ceil(spec.valueSize / 8) * 8 * possibleCpus() : spec.valueSize;
}

/** BPF_MAP_CREATE. The caller closes the descriptor. */
function createFd(spec: MapSpec, btf: KernelBtf | undefined): number {
  for (const field of ['keySize', 'valueSize', 'maxEntries', 'flags', 'numaNode'] as const) {
    const value = spec[field] ?? 0;
    if (!Number.isInteger(value) || value < 0 || value > MAX_U32) {
      throw new KernelError(
        'bad_argument',
        `map ${spec.name}: ${field} must be an unsigned 32-bit number, not ${value}`,
        {
          map: spec.name,
          field,
        },
      );
    }
  }
  const type = Object.hasOwn(MAP_TYPE, spec.type) ? MAP_TYPE[spec.type] : undefined;
  if (type === undefined) {
    throw new KernelError('bad_argument', `map ${spec.name}: there is no map type ${spec.type}`, { map: spec.name });
  }
  const inner = spec.inner === undefined ? undefined : createFd(spec.inner, btf);
  const create = (types: KernelBtf | undefined): Outcome => {
    const attr = new Attr()
      .u32(0, type)
      .u32(4, spec.keySize)
      .u32(8, spec.valueSize)
      .u32(12, spec.maxEntries)
      .u32(16, spec.flags)
      .u32(20, inner ?? 0)
      .u32(24, spec.numaNode ?? 0)
      .name(28, spec.name)
      // Of an arena: the address at which to map it. It is mapped wherever there is room, since several may want the same.
      .u64(64, spec.type === 'arena' ? 0n : BigInt.asUintN(64, spec.mapExtra ?? 0n));
    if (types)
      attr
        .u32(48, types.fd)
        .u32(52, spec.btfKeyId ?? 0)
        .u32(56, spec.btfValueId ?? 0);
    return attr.call(Command.mapCreate);
  };
  try {
    const typed = btf !== undefined && spec.btfValueId !== undefined && !UNTYPED.has(spec.type);
    let outcome = create(typed ? btf : undefined);
    // As libbpf: types that do not suit the kernel are left out. Where they are needed (locks), the verifier says so.
    if (outcome.value < 0 && typed && outcome.errno !== 'EPERM') outcome = create(undefined);
    if (outcome.value < 0) {
      const { name, keySize, valueSize, maxEntries, flags } = spec;
      throw refusal(
        'map_refused',
        `map ${name} (${spec.type}, key ${keySize} and value ${valueSize} bytes, ${maxEntries} entries, flags 0x${flags.toString(16)})`,
        outcome,
        { map: name, type: spec.type, keySize, valueSize, maxEntries, flags },
      );
    }
    return outcome.value;
  } finally {
    if (inner !== undefined) closeFd(inner);
  }
}

/** Tells an EPERM that is about one map from one that is about all of bpf(2): is a map of the plainest kind made? */
function mapsPermitted(): boolean {
  const { value } = new Attr().u32(0, MAP_TYPE.array).u32(4, 4).u32(8, 4).u32(12, 1).call(Command.mapCreate);
  if (value >= 0) closeFd(value);
  return value >= 0;
}

/** Part of struct bpf_map_info. */
export interface KernelMapInfo {
  readonly id: number;
  /** Number of enum bpf_map_type. */
  readonly type: number;
  /** Up to 15 characters. */
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** Id of the types that it was made with; 0 without. */
  readonly btfId: number;
  readonly mapExtra: bigint;
}

/** Some elements of a map, read by one call. */
export interface KernelBatch {
  readonly entries: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
  /** Where to go on; undefined at the end of the map. */
  readonly cursor: Uint8Array | undefined;
}

/** Offset in union bpf_attr of the number of elements, in and out. */
const BATCH_COUNT = 32;
/** Cursors of hashes are numbers of buckets, those of others keys. */
const LEAST_CURSOR = 4;
/** Of keys, and of values: what is allocated for one call. */
const MAX_BATCH_BYTES = 1 << 30;

function joined(parts: readonly Uint8Array[], each: number): Uint8Array {
  const all = fixed(each * parts.length);
  for (const [i, part] of parts.entries()) all.set(part, each * i);
  return all;
}

/** Owns one file descriptor. */
export class KernelMap implements Shared {
  readonly spec: MapSpec;
  /** Bytes of a value in `lookup` and `update`; per-CPU types: of all possible CPUs' values, each rounded up to 8. */
  readonly valueBytes: number;
  readonly #fd: number;
  #id: number | undefined;
  #mapping: ReturnType<typeof mapShared> | undefined;
  #disposed = false;

  /**
   * Makes a map with the values that its specification declares; frozen, if it says so. Entries that name programs or
   * maps are left to the caller, who knows them.
   * @param btf the types that `btfKeyId` and `btfValueId` are of
   * @param existing descriptor of a map that somebody else made as `spec` says; it is taken over, its contents are left
   * @throws KernelError `map_refused`, `not_permitted` and the like, `bad_argument`
   */
  constructor(spec: MapSpec, btf?: KernelBtf, existing?: number) {
    anyMap(spec, 'spec');
    this.spec = spec;
    this.valueBytes = valueBytes(spec);
    this.#fd = existing ?? createFd(spec, btf);
    if (existing !== undefined) return;
    try {
      if (spec.type === 'arena') {
        this.#mapping = mapShared(this.#fd, spec.maxEntries * ARENA_PAGE, `arena ${spec.name}`);
        for (const entry of spec.contents) if ('value' in entry) this.memory.set(entry.value);
        return;
      }
      for (const entry of spec.contents) if ('value' in entry) this.update(keyBytes(spec, entry.key), entry.value);
      if (spec.frozen === true) this.freeze();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** The file descriptor, for as long as the map is not disposed. */
  get fd(): number {
    if (!this.#disposed) return this.#fd;
    throw new KernelError('disposed', `map ${this.spec.name} was disposed; create it again`, { map: this.spec.name });
  }

  /** The kernel's id of the map. */
  get id(): number {
    this.#id ??= objectInfo(this.fd, MapInfo.size, `map ${this.spec.name}`).getUint32(MapInfo.id, true);
    return this.#id;
  }

  /** What the kernel says of the map. @throws KernelError `info_failed` */
  info(): KernelMapInfo {
    const info = objectInfo(this.fd, MapInfo.size, `map ${this.spec.name}`);
    const u32 = (offset: number): number => info.getUint32(offset, true);
    return {
      id: u32(MapInfo.id),
      type: u32(MapInfo.type),
      name: text(info, MapInfo.name, NAME_BYTES),
      keySize: u32(MapInfo.keySize),
      valueSize: u32(MapInfo.valueSize),
      maxEntries: u32(MapInfo.maxEntries),
      flags: u32(MapInfo.flags),
      btfId: u32(MapInfo.btfId),
      mapExtra: info.getBigUint64(MapInfo.mapExtra, true),
    };
  }

  /**
   * The memory of an arena, shared with programs; a page is there once it has been touched. Offset 0 is at
   * `memoryAddress`, as pointers in the arena hold it. Empty for other types.
   */
  get memory(): Uint8Array {
    return new Uint8Array(this.#mapping?.buffer ?? new ArrayBuffer(0));
  }

  get memoryAddress(): bigint {
    return this.#mapping?.address ?? 0n;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /**
   * @param flags 0 or BPF_F_LOCK (4)
   * @returns a copy of the value, undefined where there is no such key. Arrays of programs and of maps give ids.
   * @throws KernelError `map_access_failed`, `bad_argument` for a key of the wrong size, `disposed`
   */
  lookup(key: Uint8Array, flags = 0): Uint8Array | undefined {
    const value = fixed(this.valueBytes);
    const outcome = this.#element(Command.mapLookup, this.#key(key), value, flags);
    if (outcome.value >= 0) return value;
    if (outcome.errno === 'ENOENT') return undefined;
    throw this.#failed('lookup', outcome);
  }

  /**
   * @param value `valueBytes` bytes. What holds programs or maps takes a file descriptor (u32) here.
   * @param flags BPF_ANY (0), BPF_NOEXIST (1), BPF_EXIST (2), BPF_F_LOCK (4)
   */
  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    const outcome = this.#element(Command.mapUpdate, this.#key(key), this.#value(value), flags);
    if (outcome.value < 0) throw this.#failed('update', outcome);
  }

  /** @throws KernelError `map_access_failed`, with errno ENOENT where there is no such key */
  delete(key: Uint8Array): void {
    const outcome = this.#element(Command.mapDelete, this.#key(key), undefined, 0);
    if (outcome.value < 0) throw this.#failed('delete', outcome);
  }

  /** The key after `key` in the kernel's order; the first for undefined or an unknown key; undefined at the end. */
  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    const next = fixed(this.spec.keySize);
    const before = key === undefined ? undefined : this.#key(key);
    const outcome = this.#element(Command.mapNextKey, before, next, 0);
    if (outcome.value >= 0) return next;
    if (outcome.errno === 'ENOENT') return undefined;
    throw this.#failed('iteration', outcome);
  }

  /** All entries; those that vanish while one looks are left out. Without end only if keys are added as fast as read. */
  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    for (let key = this.nextKey(undefined); key !== undefined; key = this.nextKey(key)) {
      const value = this.lookup(key);
      if (value !== undefined) yield [key, value];
    }
  }

  /**
   * BPF_MAP_LOOKUP_BATCH: up to `count` elements by one call, in the kernel's order.
   * @param count 1 or more; hashes need room for a whole bucket
   * @param after the cursor of the batch before; undefined for the first
   * @returns the cursor to go on with; undefined at the end of the map
   * @throws KernelError `map_access_failed`: ENOSPC where a bucket has more than `count` elements, ENOTSUPP for types
   *   that have no batches; `bad_argument`, `disposed`
   */
  lookupBatch(count: number, after?: Uint8Array, flags = 0): KernelBatch {
    return this.#readBatch(Command.mapLookupBatch, 'lookup of a batch', count, after, flags);
  }

  /** BPF_MAP_LOOKUP_AND_DELETE_BATCH, for hashes: as `lookupBatch`, and what is given is in the map no more. */
  lookupAndDeleteBatch(count: number, after?: Uint8Array, flags = 0): KernelBatch {
    return this.#readBatch(Command.mapLookupAndDeleteBatch, 'lookup and deletion of a batch', count, after, flags);
  }

  /**
   * BPF_MAP_UPDATE_BATCH: one after the other, up to the first that fails.
   * @returns how many were done: all
   * @throws KernelError `map_access_failed` with `details.done`; `bad_argument`, `disposed`
   */
  updateBatch(entries: Iterable<readonly [key: Uint8Array, value: Uint8Array]>, flags = 0): number {
    const all = this.#listed(entries);
    const keys = joined(
      all.map(entry => this.#key(entry?.[0])),
      this.spec.keySize,
    );
    const values = joined(
      all.map(entry => this.#value(entry[1])),
      this.valueBytes,
    );
    return this.#writeBatch(Command.mapUpdateBatch, 'update of a batch', all.length, keys, values, flags);
  }

  /** BPF_MAP_DELETE_BATCH, as `updateBatch`; a key that is not there is an error. */
  deleteBatch(keys: Iterable<Uint8Array>, flags = 0): number {
    const all = this.#listed(keys).map(key => this.#key(key));
    const bytes = joined(all, this.spec.keySize);
    return this.#writeBatch(Command.mapDeleteBatch, 'deletion of a batch', all.length, bytes, undefined, flags);
  }

  #readBatch(command: number, what: string, count: number, after: Uint8Array | undefined, flags: number): KernelBatch {
    const { keySize } = this.spec;
    const { valueBytes } = this;
    if (!Number.isInteger(count) || count < 1 || count * Math.max(keySize, valueBytes) > MAX_BATCH_BYTES) {
      throw new KernelError(
        'bad_argument',
        `map ${this.spec.name}: a batch has 1 element or more, and at most ${MAX_BATCH_BYTES} bytes of keys or values; got ${describe(count)}`,
        { map: this.spec.name, count },
      );
    }
    const cursorBytes = Math.max(keySize, LEAST_CURSOR);
    if (after !== undefined && needBytes(after, `map ${this.spec.name}: a cursor`).length !== cursorBytes) {
      throw new KernelError('bad_argument', `map ${this.spec.name}: a cursor is what the batch before gave`, {
        map: this.spec.name,
      });
    }
    const keys = fixed(keySize * count);
    const values = fixed(valueBytes * count);
    const cursor = fixed(cursorBytes);
    const attr = this.#batch(keys, values, count, flags)
      .pointer(0, after && fixedCopy(after))
      .pointer(8, cursor);
    const outcome = attr.call(command);
    const ended = outcome.errno === 'ENOENT';
    if (outcome.value < 0 && !ended) throw this.#failed(what, outcome);
    const entries = Array.from({ length: attr.read(BATCH_COUNT) }, (_, i): [Uint8Array, Uint8Array] => [
      keys.slice(keySize * i, keySize * (i + 1)),
      values.slice(valueBytes * i, valueBytes * (i + 1)),
    ]);
    return { entries, cursor: ended ? undefined : cursor };
  }

  #writeBatch(
    command: number,
    what: string,
    count: number,
    keys: Uint8Array,
    values: Uint8Array | undefined,
    flags: number,
  ): number {
    const { fd } = this;
    if (count === 0) return 0;
    // The kernel leaves the count as it was where it does not get as far as the first.
    const attr = this.#batch(keys, values, count, flags, fd);
    const outcome = attr.call(command);
    const done = attr.read(BATCH_COUNT);
    if (outcome.value >= 0) return done;
    throw this.#failed(what, outcome, { done: done < count ? done : 0 });
  }

  /** The batch part of union bpf_attr. */
  #batch(keys: Uint8Array, values: Uint8Array | undefined, count: number, flags: number, fd = this.fd): Attr {
    return new Attr()
      .pointer(16, keys)
      .pointer(24, values)
      .u32(BATCH_COUNT, count)
      .u32(36, fd)
      .u64(40, flagBits(flags, this.spec.name));
  }

  #listed<T>(values: Iterable<T>): T[] {
    const unusable = values instanceof Uint8Array && !isBytes(values);
    if (!unusable && typeof (values as Partial<Iterable<T>> | null | undefined)?.[Symbol.iterator] === 'function')
      return [...values];
    throw new KernelError('bad_argument', `map ${this.spec.name}: a batch must be iterable, got ${kindOf(values)}`, {
      map: this.spec.name,
    });
  }

  /** Queues and stacks: takes the next value out; undefined where there is none. @throws KernelError `map_access_failed` */
  pop(): Uint8Array | undefined {
    return this.#unkeyed(Command.mapLookupAndDelete, 'pop', fixed(this.valueBytes));
  }

  /**
   * Queues and stacks: the next value; undefined where there is none. Bloom filters: `value` where it may have been pushed.
   * @throws KernelError `map_access_failed`
   */
  peek(value?: Uint8Array): Uint8Array | undefined {
    const buffer = value === undefined ? fixed(this.valueBytes) : this.#value(value);
    return this.#unkeyed(Command.mapLookup, 'peek', buffer);
  }

  #unkeyed(command: number, what: string, value: Uint8Array): Uint8Array | undefined {
    const outcome = this.#element(command, undefined, value, 0);
    if (outcome.value >= 0) return value;
    if (outcome.errno === 'ENOENT') return undefined;
    throw this.#failed(what, outcome);
  }

  /** BPF_MAP_FREEZE: no more changes from user space. */
  freeze(): void {
    const outcome = new Attr().u32(0, this.fd).call(Command.mapFreeze);
    if (outcome.value < 0) throw this.#failed('freeze', outcome);
  }

  /** Closes the descriptor: the map is gone once no program uses it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#mapping?.discard();
    closeFd(this.#fd);
  }

  #key(key: Uint8Array): Uint8Array {
    needBytes(key, `map ${this.spec.name}: a key`);
    if (key.length === this.spec.keySize) return fixedCopy(key);
    throw new KernelError(
      'bad_argument',
      `map ${this.spec.name}: a key has ${this.spec.keySize} bytes, got ${key.length}`,
      { map: this.spec.name, expected: this.spec.keySize, got: key.length },
    );
  }

  #value(value: Uint8Array): Uint8Array {
    needBytes(value, `map ${this.spec.name}: a value`);
    if (value.length === this.valueBytes) return fixedCopy(value);
    throw new KernelError(
      'bad_argument',
      `map ${this.spec.name}: a value has ${this.valueBytes} bytes, got ${value.length}`,
      { map: this.spec.name, expected: this.valueBytes, got: value.length },
    );
  }

  #element(command: number, key: Uint8Array | undefined, value: Uint8Array | undefined, flags: number): Outcome {
    return new Attr()
      .u32(0, this.fd)
      .pointer(8, key)
      .pointer(16, value)
      .u64(24, flagBits(flags, this.spec.name))
      .call(command);
  }

  #failed(what: string, { errno = '' }: Outcome, facts = {}): KernelError {
    const { name, type } = this.spec;
    const refused = errno === 'EPERM';
    if (refused && !mapsPermitted()) return notPermitted(`${what} in map ${name} (${type})`);
    const why = refused ? '; the map is frozen, or its flags keep user space out' : '';
    return new KernelError('map_access_failed', `${what} in map ${name} (${type}) failed (${errno})${why}`, {
      map: name,
      operation: what,
      errno,
      ...facts,
    });
  }
}

/** The key of an initial entry: a number, little-endian, as long as the map's keys. */
export function keyBytes(spec: MapSpec, key: number): Uint8Array {
  const limit = 2 ** (8 * Math.min(4, spec.keySize));
  if (!Number.isInteger(key) || key < 0 || key >= limit) {
    throw new KernelError(
      'bad_argument',
      `initial entry of map ${spec.name}: the key must be a whole number from 0 to ${limit - 1}, not ${key}`,
      { map: spec.name, key },
    );
  }
  return Uint8Array.from({ length: spec.keySize }, (_, i) => (i < 4 ? (key >>> (8 * i)) & 0xff : 0));
}
