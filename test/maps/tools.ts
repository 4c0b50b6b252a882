import { expect } from 'vitest';
import { KernelError } from '../../src/kernel/errors.ts';
import { MapError } from '../../src/maps/errors.ts';
import type { BpfMap } from '../../src/maps/map.ts';
import type { MapSpec } from '../../src/object/spec.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { createNativePlatform, createPlatform, type Platform } from './platform.ts';

export function spec(fields: Partial<MapSpec> & Pick<MapSpec, 'type'>): MapSpec {
  return { name: 'm', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, contents: [], ...fields };
}

export function key32(value: number): Uint8Array {
  return Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
}

/** The errno with which `action` fails on one of our maps or of the kernel's, undefined where it succeeds. */
export function failure(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof MapError) return error.errno;
    if (error instanceof KernelError && error.errno !== undefined) return error.errno;
    throw error;
  }
}

/** Puts bytes into the arena, for routines called as a program would. */
export function stageBytes(platform: Platform, bytes: Uint8Array): bigint {
  const offset = platform.arena.allocate(bytes.length);
  platform.arena.bytes.set(bytes, offset);
  return platform.arena.address(offset);
}

/** Operations for each map type in comparisons with the kernel; docs/maps.md says when a million of each were made. */
export const OPERATIONS = Number(process.env.SWITCHYARD_MAP_OPERATIONS ?? 20_000);

/** A million operations are for native code; the default suits the interpreter, which finds more mistakes. */
export const createComparedPlatform = (size: number, cpus: number): Platform =>
  OPERATIONS > 100_000 && nativeSupported() ? createNativePlatform(size, cpus) : createPlatform(size, cpus);

/** Time for that many, ms. */
export const OPERATIONS_TIMEOUT = 30_000 + OPERATIONS;

/** Small deterministic generator (xorshift32), so that a failure can be repeated. */
export function generator(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** `expect` that costs little where it holds. */
export function same(ours: unknown, theirs: unknown, ...at: readonly unknown[]): void {
  if (ours === theirs) return;
  if (ours instanceof Uint8Array && theirs instanceof Uint8Array && Buffer.compare(ours, theirs) === 0) return;
  expect([...at, ours]).toEqual([...at, theirs]);
}

type Walked = Pick<BpfMap, 'nextKey'>;

/** Walks both by nextKey: the same set of keys, each once. */
export function compareKeys(ours: Walked, theirs: Walked): void {
  const walk = (next: (key: Uint8Array | undefined) => Uint8Array | string | undefined): string[] => {
    const keys: string[] = [];
    for (let key = next(undefined); key instanceof Uint8Array; key = next(key)) keys.push(key.join());
    return keys.sort();
  };
  expect(walk(key => ours.nextKey(key))).toEqual(walk(key => theirs.nextKey(key)));
}

/** What a lookup gives, or the errno with which it fails; absent is ENOENT. */
function found(lookup: () => Uint8Array | undefined): Uint8Array | string {
  let value: Uint8Array | undefined;
  const errno = failure(() => {
    value = lookup();
  });
  return errno ?? value ?? 'ENOENT';
}

/** What all that go by keys say of a map that has none. */
export function expectNoKeys(map: BpfMap): void {
  const none = new Uint8Array(0);
  for (const use of [
    () => map.lookup(none),
    () => map.update(none, none),
    () => map.delete(none),
    () => map.nextKey(undefined),
    () => map.entries(),
  ])
    expect(failure(use)).toBe('ENOTSUPP');
}

/** Does the same to our map and to the kernel's, and keeps the kinds of outcome, so that a test can tell that each was met. */
export class Outcomes {
  readonly #seen = new Set<string>();

  /** Both change their map: with the same errno, or without one. */
  change(operation: string, theirs: () => unknown, ours: () => unknown, ...at: readonly unknown[]): void {
    same(failure(ours), this.note(operation, failure(theirs)), operation, ...at);
  }

  /** Both read: the same bytes or the same errno, where absent is ENOENT. */
  read(
    operation: string,
    theirs: () => Uint8Array | undefined,
    ours: () => Uint8Array | undefined,
    ...at: readonly unknown[]
  ): void {
    same(found(ours), this.note(operation, found(theirs)), operation, ...at);
  }

  /** @returns the outcome itself */
  note<T>(operation: string, outcome: T): T {
    this.#seen.add(`${operation} ${outcome instanceof Uint8Array ? 'value' : (outcome ?? 'done')}`);
    return outcome;
  }

  get names(): readonly string[] {
    return [...this.#seen].sort();
  }
}
