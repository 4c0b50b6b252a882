/**
 * Maps without keys: queue, stack and bloom filter. The generic operations do what bpf(2) does on them: an update pushes, a
 * lookup looks at the next value, and both take an empty key.
 */
import type { MapSpec } from '../object/spec.ts';
import { Access, checkFlags, checkKey, checkParts, checkValue, type MapEnv, roundUp } from './env.ts';
import { type Errno, errnoName, MapError, type MapErrorCode } from './errors.ts';
import type { BpfMap } from './map.ts';
import type { MapObject } from './routine-map.ts';

abstract class PushedMap implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress = 0n;
  readonly #env: MapEnv;
  readonly #object: MapObject;
  protected readonly access: Access;
  /** Block for one value, made at first use; 0 before. */
  #staging = 0;

  constructor(spec: MapSpec, env: MapEnv, object: MapObject) {
    checkParts(env);
    this.spec = spec;
    this.id = env.id;
    this.#env = env;
    this.#object = object;
    this.access = new Access(spec, env);
    this.address = env.arena.address(object.offset);
  }

  get memoryUsage(): number {
    return this.#object.bytes + (this.#staging === 0 ? 0 : roundUp(this.spec.valueSize, 8));
  }

  /**
   * @param value `spec.valueSize` bytes
   * @throws MapError EINVAL for other flags than the type takes; queue and stack: E2BIG where they are full
   */
  push(value: Uint8Array, flags = 0): void {
    this.access.write();
    checkFlags(flags);
    checkValue(this.spec, this.spec.valueSize, value);
    const address = this.stage(value);
    this.check(this.call('push', address, BigInt(flags)), 'push');
  }

  abstract lookup(key: Uint8Array): Uint8Array | undefined;

  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    checkKey(this.spec, key);
    this.push(value, flags);
  }

  delete(key: Uint8Array): void {
    this.access.write();
    checkKey(this.spec, key);
    this.check(-22n, 'delete');
  }

  nextKey(_key: Uint8Array | undefined): Uint8Array | undefined {
    this.access.read();
    return this.fail('invalid_operation', 'EINVAL', 'it has no keys');
  }

  entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    this.access.read();
    return this.fail('invalid_operation', 'EINVAL', 'it has no keys to go through');
  }

  freeze(): void {
    this.access.freeze();
  }

  dispose(): void {
    if (!this.access.dispose()) return;
    for (const block of this.#object.blocks) this.#env.arena.free(block);
    if (this.#staging !== 0) this.#env.arena.free(this.#staging);
  }

  /** Copies a value, or room for one, to where routines can reach it. */
  protected stage(value?: Uint8Array): bigint {
    const { arena } = this.#env;
    const { valueSize } = this.spec;
    if (this.#staging === 0) this.#staging = arena.allocate(roundUp(valueSize, 8));
    if (value !== undefined) arena.bytes.set(value, this.#staging);
    return arena.address(this.#staging);
  }

  protected staged(): Uint8Array {
    return this.#env.arena.bytes.slice(this.#staging, this.#staging + this.spec.valueSize);
  }

  protected call(operation: 'push' | 'pop' | 'peek', value: bigint, flags = 0n): bigint {
    const result = this.#env.routines.call(`${this.spec.type}_${operation}`, this.address, value, flags);
    return BigInt.asIntN(64, result);
  }

  /** @throws MapError for -errno */
  protected check(result: bigint, operation: string): void {
    if (result === 0n) return;
    const errno = errnoName(result);
    const { maxEntries } = this.spec;
    if (errno === 'E2BIG') {
      this.fail(
        'map_full',
        errno,
        `it holds max_entries values, ${maxEntries}: pop some, or push with flags BPF_EXIST`,
      );
    }
    this.fail('invalid_operation', errno, operation === 'push' ? 'unknown flags' : `it has no operation ${operation}`);
  }

  protected fail(code: MapErrorCode, errno: Errno, why: string): never {
    throw new MapError(code, errno, `map ${this.spec.name} (${this.spec.type}): ${why}`, {
      map: this.spec.name,
      type: this.spec.type,
    });
  }
}

/** Queue (first in, first out) or stack (last in, first out) of values of one size. */
export class QueueMap extends PushedMap {
  /** Takes the next value out; undefined where the map is empty. */
  pop(): Uint8Array | undefined {
    this.access.read();
    this.access.write();
    return this.#next('pop');
  }

  /** The value that `pop` would give; undefined where the map is empty. */
  peek(): Uint8Array | undefined {
    this.access.read();
    return this.#next('peek');
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    checkKey(this.spec, key);
    return this.peek();
  }

  #next(operation: 'pop' | 'peek'): Uint8Array | undefined {
    return this.call(operation, this.stage()) === 0n ? this.staged() : undefined;
  }
}

/** Bloom filter: says of a value that it may have been pushed, or that it certainly has not. */
export class BloomFilter extends PushedMap {
  /** @returns false where the value was never pushed; true where it was, or (rarely) was not */
  peek(value: Uint8Array): boolean {
    this.access.read();
    checkValue(this.spec, this.spec.valueSize, value);
    return this.call('peek', this.stage(value)) === 0n;
  }

  lookup(_key: Uint8Array): Uint8Array | undefined {
    this.access.read();
    return this.fail('invalid_operation', 'EINVAL', 'what is looked up is a value: use peek');
  }

  override nextKey(_key: Uint8Array | undefined): Uint8Array | undefined {
    this.access.read();
    return this.fail('invalid_operation', 'EOPNOTSUPP', 'it has no keys');
  }

  override delete(_key: Uint8Array): void {
    this.access.write();
    this.fail('invalid_operation', 'EOPNOTSUPP', 'what was pushed stays');
  }
}
