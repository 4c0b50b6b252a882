/**
 * Arrays of targets: devmap, cpumap, xskmap, perf event array. Only user space changes them; programs redirect through
 * them. An entry is one 8-byte word, replaced by one store; its lower half (interface, queue size, socket or event number)
 * is not 0 while the entry is set.
 *
 * Nothing here stands behind the numbers: interfaces need not exist, and sockets and perf events are named by any
 * number the embedding application chooses, where the kernel wants a file descriptor. What was stored is what lookups give, but
 * for sockets and perf events, which the kernel does not show: `entries` does.
 */
import { describe } from '../arguments.ts';
import { MapHeader } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { Access, allocateMap, checkKey, checkParts, checkValue, type MapEnv } from './env.ts';
import { type Errno, MapError, type MapErrorCode } from './errors.ts';
import type { BpfMap } from './map.ts';
import { UpdateFlag } from './map.ts';

const ENTRY = 8;
/** Longest queue of a cpumap entry, packets (the kernel's limit). */
const QUEUE_MAX = 16384;
/** Types without lookups by user space, and the errno that bpf(2) answers. */
const UNREADABLE: Partial<Record<MapSpec['type'], Errno>> = { xskmap: 'EOPNOTSUPP', perf_event_array: 'ENOTSUPP' };

export class TargetArray implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress = 0n;
  readonly #bytes: number;
  readonly #env: MapEnv;
  readonly #offset: number;
  protected readonly access: Access;

  constructor(spec: MapSpec, env: MapEnv) {
    checkParts(env);
    this.spec = spec;
    this.id = env.id;
    this.#env = env;
    this.access = new Access(spec, env);
    // Perf event arrays: a word more for each entry, see perf-event-array.ts.
    this.#bytes = MapHeader.size + spec.maxEntries * ENTRY * (spec.type === 'perf_event_array' ? 2 : 1);
    this.#offset = allocateMap(spec, env, this.#bytes);
    env.arena.view.setUint32(this.#offset + MapHeader.stride, ENTRY, true);
    this.address = env.arena.address(this.#offset);
  }

  get memoryUsage(): number {
    return this.#bytes;
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    this.access.read();
    const index = this.#index(key);
    const errno = UNREADABLE[this.spec.type];
    if (errno !== undefined)
      this.#fail(
        'invalid_operation',
        errno,
        'its entries are not looked up by user space; entries() lists what was set',
      );
    return this.#read(index);
  }

  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    this.access.write();
    const index = this.#index(key);
    checkValue(this.spec, this.spec.valueSize, value);
    const perf = this.spec.type === 'perf_event_array';
    if (!Number.isInteger(flags) || flags < 0 || flags > (perf ? UpdateFlag.any : UpdateFlag.exist)) {
      this.#fail('invalid_operation', 'EINVAL', `unknown update flags ${describe(flags)}`);
    }
    if (index >= this.spec.maxEntries) {
      this.#fail('index_out_of_range', 'E2BIG', `index ${index} is not below max_entries, ${this.spec.maxEntries}`);
    }
    const word = wordOf(value);
    const target = Number(word & 0xffff_ffffn);
    if (target === 0 && (perf || this.spec.type === 'xskmap'))
      this.#fail('invalid_operation', 'EBADF', `a ${perf ? 'perf event' : 'socket'} has a number other than 0`);
    if (this.spec.type === 'xskmap') this.#checkPresence(index, word, flags);
    else if (flags === UpdateFlag.noExist) {
      this.#fail('key_exists', 'EEXIST', 'every entry of an array exists already');
    }
    if (this.spec.type === 'cpumap' && target > QUEUE_MAX) {
      this.#fail('invalid_operation', 'EOVERFLOW', `a queue holds at most ${QUEUE_MAX} packets, not ${target}`);
    }
    // The upper half is a program to run at the target, which Switchyard does not do.
    if (this.spec.type === 'devmap') checkDevice(this.spec, value);
    this.#store(index, target === 0 ? 0n : word);
  }

  delete(key: Uint8Array): void {
    this.access.write();
    const index = this.#index(key);
    const perf = this.spec.type === 'perf_event_array';
    if (index >= this.spec.maxEntries) {
      this.#fail(
        'index_out_of_range',
        perf ? 'E2BIG' : 'EINVAL',
        `index ${index} is not below max_entries, ${this.spec.maxEntries}`,
      );
    }
    if (perf && this.#read(index) === undefined) this.#fail('no_such_key', 'ENOENT', `entry ${index} is empty`);
    this.#store(index, 0n);
  }

  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    this.access.read();
    const index = key === undefined ? this.spec.maxEntries : this.#index(key);
    if (index >= this.spec.maxEntries) return keyOf(0);
    return index === this.spec.maxEntries - 1 ? undefined : keyOf(index + 1);
  }

  /** The entries that are set, in ascending order. */
  *entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    this.access.read();
    for (let index = 0; index < this.spec.maxEntries; index++) {
      const value = this.#read(index);
      if (value !== undefined) yield [keyOf(index), value];
      this.access.alive();
    }
  }

  freeze(): void {
    this.access.freeze();
  }

  dispose(): void {
    if (this.access.dispose()) this.#env.arena.free(this.#offset);
  }

  #index(key: Uint8Array): number {
    checkKey(this.spec, key);
    return new DataView(key.buffer, key.byteOffset).getUint32(0, true);
  }

  #word(index: number): number {
    return (this.#offset + MapHeader.size) / ENTRY + index;
  }

  #read(index: number): Uint8Array | undefined {
    if (index >= this.spec.maxEntries) return undefined;
    const word = Atomics.load(this.#env.arena.u64, this.#word(index));
    if (word === 0n) return undefined;
    return new Uint8Array(BigUint64Array.of(word).buffer, 0, this.spec.valueSize);
  }

  #store(index: number, word: bigint): void {
    Atomics.store(this.#env.arena.u64, this.#word(index), word);
  }

  #checkPresence(index: number, word: bigint, flags: number): void {
    const before = Atomics.load(this.#env.arena.u64, this.#word(index));
    // The kernel looks at the flags only where the entry would change.
    if (before === word) return;
    if (before !== 0n && flags === UpdateFlag.noExist) this.#fail('key_exists', 'EEXIST', `entry ${index} is set`);
    if (before === 0n && flags === UpdateFlag.exist) this.#fail('no_such_key', 'ENOENT', `entry ${index} is empty`);
  }

  #fail(code: MapErrorCode, errno: Errno, why: string): never {
    throw new MapError(code, errno, `map ${this.spec.name} (${this.spec.type}): ${why}`, {
      map: this.spec.name,
      type: this.spec.type,
    });
  }
}

/**
 * A devmap entry is an interface and, in 8-byte values, a program to run there, which Switchyard does not do.
 * @throws MapError `invalid_operation` where it names a program
 */
export function checkDevice(spec: MapSpec, value: Uint8Array): void {
  const program = Number(BigInt.asIntN(32, wordOf(value) >> 32n));
  if (program > 0) {
    throw new MapError(
      'invalid_operation',
      'EINVAL',
      `map ${spec.name} (${spec.type}): programs on devmap entries are not supported; the entry names program ${program}`,
      { map: spec.name, program },
    );
  }
}

/** Up to 8 bytes as one little-endian number. */
function wordOf(value: Uint8Array): bigint {
  const word = new Uint8Array(8);
  word.set(value);
  return new DataView(word.buffer).getBigUint64(0, true);
}

function keyOf(index: number): Uint8Array {
  return Uint8Array.of(index, index >>> 8, index >>> 16, index >>> 24);
}
