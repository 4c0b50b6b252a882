/** What ring buffers of both directions share: positions instead of entries, so none of the operations on those. */
import { RingbufLayout } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { Access, checkParts, type MapEnv } from './env.ts';
import { MapError } from './errors.ts';
import type { BpfMap } from './map.ts';
import type { MapObject } from './routine-map.ts';

export abstract class Ring implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  readonly valuesAddress = 0n;
  readonly memoryUsage: number;
  protected readonly env: MapEnv;
  protected readonly access: Access;
  /** Where it starts in the arena. */
  protected readonly offset: number;
  protected disposed = false;
  readonly #blocks: readonly number[];

  constructor(spec: MapSpec, env: MapEnv, object: MapObject) {
    checkParts(env);
    this.spec = spec;
    this.id = env.id;
    this.env = env;
    this.access = new Access(spec, env);
    this.offset = object.offset;
    this.#blocks = object.blocks;
    this.address = env.arena.address(object.offset);
    this.memoryUsage = object.bytes;
  }

  /** For people: what the map is, and how it is used instead. */
  protected abstract readonly words: { readonly kind: string; readonly use: string };

  lookup(_key: Uint8Array): Uint8Array | undefined {
    return this.#unsupported('looked up');
  }

  update(_key: Uint8Array, _value: Uint8Array, _flags = 0): void {
    this.access.write();
    this.#unsupported('updated');
  }

  delete(_key: Uint8Array): void {
    this.access.write();
    this.#unsupported('deleted');
  }

  nextKey(_key: Uint8Array | undefined): Uint8Array | undefined {
    return this.#unsupported('gone through');
  }

  entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    return this.#unsupported('gone through');
  }

  freeze(): void {
    this.access.freeze();
  }

  dispose(): void {
    if (!this.access.dispose()) return;
    this.disposed = true;
    for (const block of this.#blocks) this.env.arena.free(block);
  }

  /** A field of `RingbufLayout`, u64. */
  protected load(field: number): bigint {
    return Atomics.load(this.env.arena.u64, (this.offset + field) / 8);
  }

  /** Bytes between the two positions. */
  protected filled(): number {
    this.access.alive();
    return Number(this.load(RingbufLayout.producer) - this.load(RingbufLayout.consumer));
  }

  #unsupported(what: string): never {
    this.access.alive();
    const { kind, use } = this.words;
    throw new MapError(
      'invalid_operation',
      'ENOTSUPP',
      `${kind} ${this.spec.name} has no entries that could be ${what}: ${use}`,
      {
        map: this.spec.name,
      },
    );
  }
}
