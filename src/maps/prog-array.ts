/**
 * Prog arrays: the maps that bpf_tail_call jumps through.
 *
 * Layout: a MapHeader, then N addresses of program objects (what dynamic call sites, the interpreter and lookups
 * read), then, where the backend has a tail-call prologue offset, N *cached targets*: the address a tail call jumps to. For an
 * empty slot that is 0, or the backend's *miss stub* where the array's owner has call sites that don't look for 0. A call site that knows the array reads its target at `slots + (N + index) * 8`, with N an immediate.
 *
 * Invariants:
 * - Each word is replaced by one atomic exchange, so no reader ever sees a torn one. Between the two exchanges of a
 *   slot a reader may find the new program in one half and the old target in the other: both are whole, and the old one
 *   stays callable until its grace period has ended (the runtime's part).
 * - Both exchanges and all listeners (which patch the direct jumps) happen in one uninterrupted turn of the control
 *   thread, which is the only writer: that is the critical section.
 * - The exchanges are sequentially consistent, so what a slot leads to (program object, code) was stored before it. A call
 *   site's reads are ordered on every processor: object and code address by the address read before. The instructions at a
 *   target are another matter: the backend makes all threads drop what they fetched before it gives an entry out
 *   (native-backend.ts, `#installCode`). A site that reads a cached target therefore needs no barrier, on arm64 either.
 * - `maxEntries` never changes, since compiled code embeds it.
 */
import { describe } from '../arguments.ts';
import { MapHeader, ProgArrayLayout } from '../memory/layout.ts';
import type { MapSpec, ProgramType } from '../object/spec.ts';
import { checkSpec } from './check.ts';
import { Access, allocateMap, checkKey, type MapEnv } from './env.ts';
import { MapError } from './errors.ts';
import type { BpfMap } from './map.ts';

/** The traits of a program that all programs around one prog array must share, since they run in each other's context. */
export interface OwnerTraits {
  readonly type: ProgramType;
  /** "x64", "interpreter" ...: compiled and interpreted programs can't tail-call each other. */
  readonly backend: string;
  readonly attachType: string | undefined;
  readonly xdpFrags: boolean;
  /**
   * Compiled programs: where frames and the tail call count are kept. Tail calls compiled as before the series or as in it
   * agree in that ("own"), those of mode 'fast' differ ("common").
   */
  readonly tailCallFrames?: 'own' | 'common';
  /** Those of mode 'fast': whether their call sites look for empty slots, or such slots must lead to the miss stub. */
  readonly emptySlots?: 'test' | 'stub';
  /** Tail calls that one run may make; the program that a run starts in decides. Default 33. */
  readonly maxTailCalls?: number;
}

export interface ProgArrayEntry {
  /** Program id, u32, not 0. */
  readonly id: number;
  /** Address of its ProgramObject, not 0. */
  readonly objectAddress: bigint;
  /** Where a tail call enters its code. Ignored by arrays without cached targets. */
  readonly target: bigint;
  readonly traits: OwnerTraits;
}

/** What a slot stores. */
export type SlotWords = Pick<ProgArrayEntry, 'objectAddress' | 'target'>;

/** Told of every change of a slot, after both words have been stored. */
export type SlotListener = (
  index: number,
  before: ProgArrayEntry | undefined,
  after: ProgArrayEntry | undefined,
) => void;

export class ProgArray implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress = 0n;
  readonly cachedTargets: boolean;
  readonly #env: MapEnv;
  readonly #bytes: number;
  /** Arena offsets of the map object and, where there is one, of its second side. */
  readonly #offsets: number[];
  readonly #entries: (ProgArrayEntry | undefined)[];
  readonly #access: Access;
  #manager: SlotListener | undefined;
  readonly #listeners = new Set<SlotListener>();
  #owner: OwnerTraits | undefined;
  /** Cached target of empty slots. */
  #emptyTarget = 0n;

  constructor(spec: MapSpec, env: MapEnv) {
    checkSpec(spec);
    this.spec = spec;
    this.id = env.id;
    this.cachedTargets = env.cachedTargets === true;
    this.#env = env;
    this.#access = new Access(spec, env);
    this.#bytes = ProgArrayLayout.ptrs + spec.maxEntries * (this.cachedTargets ? 16 : 8);
    this.#offsets = [this.#allocate()];
    this.address = this.sideAddress(0);
    this.#entries = [];
  }

  #allocate(): number {
    const offset = allocateMap(this.spec, this.#env, this.#bytes);
    this.#env.arena.view.setUint32(offset + MapHeader.stride, 8, true);
    if (this.#emptyTarget !== 0n) this.#fillEmpty(offset);
    return offset;
  }

  /** All slots of a side are empty. */
  #fillEmpty(offset: number): void {
    const { maxEntries } = this.spec;
    const first = (offset + ProgArrayLayout.ptrs) / 8 + maxEntries;
    this.#env.arena.u64.fill(this.#emptyTarget, first, first + maxEntries);
  }

  get memoryUsage(): number {
    return this.#bytes * this.#offsets.length;
  }

  /** Whoever is given the changes of slots stores them himself, by `write`; else they are stored in side 0 at once. */
  manage(change: SlotListener): void {
    this.#manager = change;
  }

  /** Allocates a second map object for the same array, its slots empty. @throws MapError `out_of_memory` */
  addSide(): void {
    this.#offsets.push(this.#allocate());
  }

  /** Frees what `addSide` allocated. */
  dropSide(): void {
    this.#env.arena.free(this.#offsets.pop()!);
  }

  /** Address of the map object of a side; side 0 is `address`. */
  sideAddress(side: number): bigint {
    return this.#env.arena.address(this.#offsets[side]!);
  }

  /**
   * Stores both words of a slot of one side, each by an atomic exchange.
   * @param filled whether the slot holds something now
   * @param idle nobody reads that side: plain stores will do
   */
  write(side: number, index: number, entry: SlotWords | undefined, filled: boolean, idle = false): void {
    const { i32, u64 } = this.#env.arena;
    const offset = this.#offsets[side]!;
    const word = (offset + ProgArrayLayout.ptrs) / 8 + index;
    const objectAddress = entry === undefined ? 0n : entry.objectAddress;
    const target = entry === undefined ? this.#emptyTarget : entry.target;
    if (idle) {
      u64[word] = objectAddress;
      if (this.cachedTargets) u64[word + this.spec.maxEntries] = target;
    } else {
      Atomics.exchange(u64, word, objectAddress);
      if (this.cachedTargets) Atomics.exchange(u64, word + this.spec.maxEntries, target);
    }
    const change = (entry === undefined ? 0 : 1) - (filled ? 1 : 0);
    if (change !== 0) Atomics.add(i32, (offset + MapHeader.count) / 4, change);
  }

  /** Fixed by the first program that is put in or calls through the array. */
  get owner(): OwnerTraits | undefined {
    return this.#owner;
  }

  /**
   * Checks a program against the owner, and makes it the owner where there is none. For programs that are put in (done by `set`)
   * and programs that call through the array (done when they are loaded).
   * @throws MapError `owner_mismatch` (EINVAL) naming the difference
   */
  claim(traits: OwnerTraits): void {
    this.#access.alive();
    this.#checkOwner(traits);
    if (this.#owner) return;
    if (traits.emptySlots === 'stub') {
      const { missStub = 0n } = this.#env;
      if (!this.cachedTargets || missStub === 0n) {
        throw new MapError(
          'invalid_operation',
          'EINVAL',
          `prog array ${this.spec.name} was made without the miss stub that its empty slots have to lead to`,
          { map: this.spec.name },
        );
      }
      // No program calls through an array that has no owner, so nobody reads it yet, and all slots are empty.
      this.#emptyTarget = missStub;
      for (const offset of this.#offsets) this.#fillEmpty(offset);
    }
    this.#owner = { ...traits };
  }

  #checkOwner(traits: OwnerTraits, other?: OwnerTraits): void {
    const owner = this.#owner ?? other;
    const differences = owner === undefined ? [] : differencesOf(traits, owner);
    if (owner === undefined && traits.tailCallFrames !== undefined && !this.cachedTargets) {
      differences.push(`its backend is ${traits.backend}, the array was made for programs without tail-call entries`);
    }
    if (differences.length > 0) {
      throw new MapError(
        'owner_mismatch',
        'EINVAL',
        `the program does not match the owner of prog array ${this.spec.name}: ${differences.join('; ')}`,
        { map: this.spec.name, owner, traits },
      );
    }
  }

  /**
   * Puts a program in a slot, at any time, whatever the slot holds.
   * @returns what the slot held
   * @throws MapError `index_out_of_range` (E2BIG), `owner_mismatch` (EINVAL), `not_permitted`
   */
  set(index: number, entry: ProgArrayEntry): ProgArrayEntry | undefined {
    this.check(index, entry);
    this.claim(entry.traits);
    return this.#store(index, entry);
  }

  /**
   * Throws what `set` would throw, and changes nothing.
   * @param owner instead of the array's owner, where that has none yet
   */
  check(index: number, entry: ProgArrayEntry, owner?: OwnerTraits): void {
    this.checkChange(index);
    // Before the addresses: an interpreted program has no tail-call entry, but that is not what is wrong with it.
    this.#checkOwner(entry.traits, owner);
    if (entry.objectAddress === 0n || (this.cachedTargets && entry.target === 0n)) {
      throw new MapError(
        'invalid_operation',
        'EINVAL',
        `slot ${index} of prog array ${this.spec.name} can't hold program ${entry.id}: its ${
          entry.objectAddress === 0n ? 'program object' : 'tail-call entry'
        } has address 0`,
        { map: this.spec.name, index, id: entry.id },
      );
    }
  }

  /** Throws what any change of the slot would throw. */
  checkChange(index: number): void {
    this.#access.write();
    this.#checkIndex(index);
  }

  /**
   * Empties a slot.
   * @returns what it held
   * @throws MapError `index_out_of_range` (E2BIG), `no_such_key` (ENOENT) where it was empty
   */
  remove(index: number): ProgArrayEntry {
    this.#access.write();
    this.#checkIndex(index);
    const before = this.#entries[index];
    if (before === undefined) throw this.emptySlot(index);
    this.#store(index, undefined);
    return before;
  }

  /** What removing from an empty slot throws. */
  emptySlot(index: number): MapError {
    return new MapError('no_such_key', 'ENOENT', `slot ${index} of prog array ${this.spec.name} is empty`, {
      map: this.spec.name,
      index,
    });
  }

  /** Id of the program in a slot. An index out of range gives undefined, as an empty slot does. */
  get(index: number): number | undefined {
    this.#access.alive();
    return this.#entries[index]?.id;
  }

  /** @returns what unsubscribes */
  subscribe(listener: SlotListener): () => void {
    this.#access.alive();
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    this.#access.read();
    checkKey(this.spec, key);
    const id = this.#entries[toIndex(key)]?.id;
    return id === undefined ? undefined : fromU32(id);
  }

  update(key: Uint8Array, _value: Uint8Array, _flags = 0): void {
    this.#access.write();
    checkKey(this.spec, key);
    throw new MapError(
      'needs_program',
      'EBADF',
      `slot ${toIndex(key)} of prog array ${this.spec.name} can't be set by bytes: ` +
        'set it by program, through the slots of the runtime',
      { map: this.spec.name, index: toIndex(key) },
    );
  }

  delete(key: Uint8Array): void {
    this.#access.write();
    checkKey(this.spec, key);
    this.remove(toIndex(key));
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    this.#access.read();
    if (key === undefined) return fromU32(0);
    checkKey(this.spec, key);
    const index = toIndex(key);
    if (index >= this.spec.maxEntries) return fromU32(0);
    return index === this.spec.maxEntries - 1 ? undefined : fromU32(index + 1);
  }

  /** The populated slots, in ascending order. */
  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    this.#access.read();
    for (let index = 0; index < this.spec.maxEntries; index++) {
      const id = this.#entries[index]?.id;
      if (id !== undefined) yield [fromU32(index), fromU32(id)];
      this.#access.alive();
    }
  }

  freeze(): void {
    this.#access.freeze();
  }

  dispose(): void {
    if (!this.#access.dispose()) return;
    this.#entries.length = 0;
    this.#listeners.clear();
    for (const offset of this.#offsets) this.#env.arena.free(offset);
  }

  #checkIndex(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.spec.maxEntries) {
      throw new MapError(
        'index_out_of_range',
        'E2BIG',
        `prog array ${this.spec.name} has slots 0 to ${this.spec.maxEntries - 1}, not ${describe(index)}`,
        { map: this.spec.name, index, maxEntries: this.spec.maxEntries },
      );
    }
  }

  #store(index: number, entry: ProgArrayEntry | undefined): ProgArrayEntry | undefined {
    const before = this.#entries[index];
    this.#entries[index] = entry;
    if (this.#manager) this.#manager(index, before, entry);
    else this.write(0, index, entry, before !== undefined);
    // A listener that fails must not keep the others from patching their sites.
    let failure: { error: unknown } | undefined;
    for (const listener of this.#listeners) {
      try {
        listener(index, before, entry);
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
    return before;
  }
}

/** What a program's traits and the owner's differ in. */
function differencesOf(traits: OwnerTraits, owner: OwnerTraits): string[] {
  const differences: string[] = [];
  const compare = (what: string, theirs: unknown, ours: unknown): void => {
    if (theirs !== ours) differences.push(`${what} is ${theirs ?? 'none'}, the array's is ${ours ?? 'none'}`);
  };
  compare('its type', traits.type, owner.type);
  compare('its backend', traits.backend, owner.backend);
  compare('its attach type', traits.attachType, owner.attachType);
  compare('its support for XDP fragments', traits.xdpFrags, owner.xdpFrags);
  compare('its tail-call mode', modeOf(traits), modeOf(owner));
  if (traits.tailCallFrames === owner.tailCallFrames) {
    compare('its choice of emptySlots', quoted(traits.emptySlots), quoted(owner.emptySlots));
  }
  compare('its maxTailCalls', traits.maxTailCalls ?? 33, owner.maxTailCalls ?? 33);
  return differences;
}

function modeOf({ tailCallFrames }: OwnerTraits): string | undefined {
  if (tailCallFrames === undefined) return undefined;
  return tailCallFrames === 'common' ? "'fast'" : "'baseline' or 'cached'";
}

function quoted(choice: string | undefined): string | undefined {
  return choice === undefined ? undefined : `'${choice}'`;
}

function toIndex(key: Uint8Array): number {
  return (key[0]! | (key[1]! << 8) | (key[2]! << 16) | (key[3]! << 24)) >>> 0;
}

function fromU32(value: number): Uint8Array {
  return Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
}
