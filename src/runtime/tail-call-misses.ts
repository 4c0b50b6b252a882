/**
 * Tail calls that fell through, counted by call site, array, index and cause.
 *
 * Problem: a miss leaves no trace, and the hop that succeeds must not pay for finding it. An index may come from a packet, so
 * there can be 2^32 of them at each site.
 * Strategy: lowering puts a call of `tail_call_miss` where a failed call falls through (passes/count-misses.ts). The routine
 * finds the cause by looking at array and index once more, and counts in a hash that all programs of a runtime share. Once
 * that is full, what would be a new entry is counted without its index, in the site's own record: no miss is lost.
 * Invariants: entries are only removed when no run can be in their program any more, so a count that is being raised stays
 * where it is; `reset` exchanges counts for zero.
 *
 * Cause: an index out of range is 'range'; else an empty slot is 'empty', whether or not the limit was reached too; else 'limit'.
 * That is the same on every backend, in whatever order it checks. A slot that is filled in the instant between the call
 * and its counting makes an 'empty' a 'limit'.
 */
import type { Routine } from '../isa/routine.ts';
import { MISS_RECORD_BYTES, TAIL_CALL_MISS } from '../lowering/passes/count-misses.ts';
import { createMap } from '../maps/create.ts';
import type { MapEnv } from '../maps/env.ts';
import { type BpfMap, UpdateFlag } from '../maps/map.ts';
import type { Arena } from '../memory/arena.ts';
import { HashElement, HashLayout, MapHeader, ProgArrayLayout } from '../memory/layout.ts';
import type { LineInfo } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import { lineAt } from './stages.ts';

const CAUSES = ['range', 'empty', 'limit'] as const;
/** Why a tail call fell through: index out of range, slot empty, or too many tail calls in one run. */
export type TailCallMissCause = (typeof CAUSES)[number];

/** Calls of one site that fell through with the same index for the same reason. */
export interface TailCallMiss {
  /** Slot of the call in the object's program. */
  readonly insn: number;
  readonly line: LineInfo | undefined;
  /** Name of the prog array; undefined where several reach the site and there were too many entries to tell them apart. */
  readonly map: string | undefined;
  /** As u32; undefined for all those together for which there was no room. */
  readonly index: number | undefined;
  readonly cause: TailCallMissCause;
  readonly count: number;
}

/** Entries of all programs of a runtime. */
const MAX_ENTRIES = 1024;

/** Key of the hash; the value is the count, u64. */
const Key = { program: 0, site: 4, map: 8, index: 12, cause: 16, size: 24 } as const;
/** One for each site. */
const Record = {
  /** u64: address of the hash. */
  counts: 0,
  /** u64: the one array, where its one index is known too; else 0: both are in registers. */
  map: 8,
  /** u32 */
  index: 16,
  /** The first eight bytes of keys. */
  key: 24,
  /** u64 for each cause. */
  overflow: 32,
} as const;

/** Below r10. */
const KEY_DEPTH = Key.size;
const ZERO_DEPTH = KEY_DEPTH + 8;

const LOOK_UP = `
  r1 = *(u64 *)(r6 + ${Record.counts})
  r2 = r10
  r2 += -${KEY_DEPTH}
  call routine hash_lookup
  if r0 != 0 goto count`;

export const MISS_ROUTINES: readonly Routine[] = [
  {
    name: TAIL_CALL_MISS,
    text: `
  r6 = r5
  r4 = *(u64 *)(r6 + ${Record.map})
  if r4 == 0 goto known
  r2 = r4
  r3 = *(u32 *)(r6 + ${Record.index})
known:
  w3 = w3
  r7 = ${CAUSES.indexOf('range')}
  r4 = *(u32 *)(r2 + ${MapHeader.maxEntries})
  if r3 >= r4 goto caused
  r7 = ${CAUSES.indexOf('empty')}
  r4 = r3
  r4 <<= 3
  r4 += r2
  r4 = *(u64 *)(r4 + ${ProgArrayLayout.ptrs})
  if r4 == 0 goto caused
  r7 = ${CAUSES.indexOf('limit')}
caused:
  r4 = *(u64 *)(r6 + ${Record.key})
  *(u64 *)(r10 - ${KEY_DEPTH}) = r4
  r4 = *(u32 *)(r2 + ${MapHeader.id})
  *(u32 *)(r10 - ${KEY_DEPTH - Key.map}) = r4
  *(u32 *)(r10 - ${KEY_DEPTH - Key.index}) = r3
  *(u64 *)(r10 - ${KEY_DEPTH - Key.cause}) = r7
  ${LOOK_UP}
  *(u64 *)(r10 - ${ZERO_DEPTH}) = 0
  r1 = *(u64 *)(r6 + ${Record.counts})
  r2 = r10
  r2 += -${KEY_DEPTH}
  r3 = r10
  r3 += -${ZERO_DEPTH}
  r4 = ${UpdateFlag.noExist}
  call routine hash_update                        ; another thread may have been faster, or the hash is full
  ${LOOK_UP}
  r0 = r7
  r0 <<= 3
  r0 += r6
  r0 += ${Record.overflow}
count:
  r1 = 1
  lock *(u64 *)(r0 + 0) += r1
  exit
`,
  },
];

/** The hash that all programs of a runtime count in; there while a program is that counts. */
export class MissCounts {
  readonly #env: Omit<MapEnv, 'id'>;
  readonly #nextId: () => number;
  #hash: BpfMap | undefined;
  #users = 0;

  constructor(env: Omit<MapEnv, 'id'>, nextId: () => number) {
    this.#env = env;
    this.#nextId = nextId;
  }

  /** @param arrays the prog arrays of the program, by name */
  open(program: number, verified: Verified, arrays: ReadonlyMap<string, BpfMap>): ProgramMisses {
    this.#hash ??= createMap(
      {
        name: 'tail call misses',
        type: 'hash',
        keySize: Key.size,
        valueSize: 8,
        maxEntries: MAX_ENTRIES,
        flags: 0,
        contents: [],
      },
      { ...this.#env, id: this.#nextId() },
    );
    const hash = this.#hash;
    const { tailCalls } = verified.facts;
    this.#users++;
    try {
      const records = createMap(
        {
          name: 'tail call sites',
          type: 'array',
          keySize: 4,
          valueSize: MISS_RECORD_BYTES,
          maxEntries: tailCalls.length,
          flags: 0,
          contents: [],
        },
        { ...this.#env, id: this.#nextId() },
      );
      return new ProgramMisses(this.#env.arena, program, verified, arrays, hash, records, () => {
        records.dispose();
        this.#close();
      });
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  #close(): void {
    if (--this.#users > 0) return;
    this.#hash?.dispose();
    this.#hash = undefined;
  }
}

/** The misses of one program. */
export class ProgramMisses {
  /** What compiled code refers to as the last of its used maps. */
  readonly records: BpfMap;
  readonly #arena: Arena;
  readonly #program: number;
  readonly #verified: Verified;
  readonly #arrays: ReadonlyMap<number, string>;
  readonly #hash: BpfMap;
  readonly #onFree: () => void;

  constructor(
    arena: Arena,
    program: number,
    verified: Verified,
    arrays: ReadonlyMap<string, BpfMap>,
    hash: BpfMap,
    records: BpfMap,
    onFree: () => void,
  ) {
    this.#arena = arena;
    this.#program = program;
    this.#verified = verified;
    this.#arrays = new Map([...arrays].map(([name, map]) => [map.id, name]));
    this.#hash = hash;
    this.records = records;
    this.#onFree = onFree;
    const { view } = arena;
    for (const [number, { maps, index }] of verified.facts.tailCalls.entries()) {
      const record = this.#record(number);
      view.setBigUint64(record + Record.counts, hash.address, true);
      if (maps.length === 1 && index !== undefined) {
        view.setBigUint64(record + Record.map, arrays.get(maps[0]!)!.address, true);
        view.setUint32(record + Record.index, index, true);
      }
      view.setUint32(record + Record.key + Key.program, program, true);
      view.setUint32(record + Record.key + Key.site, number, true);
    }
  }

  /** By site, then by count, most first. */
  read(): TailCallMiss[] {
    return this.#collect(word => Atomics.load(this.#arena.u64, word));
  }

  /** Starts anew from zero. A miss that is being counted meanwhile is in what this returns, or counts from now on. */
  reset(): TailCallMiss[] {
    return this.#collect(word => Atomics.exchange(this.#arena.u64, word, 0n));
  }

  /** Nothing may run that counts here. */
  free(): void {
    for (const { key, word } of this.#entries()) {
      // The element may come back under another key, and be read before its new value is in it.
      Atomics.store(this.#arena.u64, word, 0n);
      this.#hash.delete(this.#arena.bytes.slice(key, key + Key.size));
    }
    this.#onFree();
  }

  #record(site: number): number {
    return this.#arena.offset(this.records.valuesAddress, MISS_RECORD_BYTES) + site * MISS_RECORD_BYTES;
  }

  /** @param take reads the count at a word of the arena */
  #collect(take: (word: number) => bigint): TailCallMiss[] {
    const { tailCalls } = this.#verified.facts;
    const found: (Omit<TailCallMiss, 'insn' | 'line'> & { readonly site: number })[] = [];
    const { view } = this.#arena;
    for (const { key, word } of this.#entries()) {
      // First the count: once it is not zero the key is complete.
      const count = Number(take(word));
      if (count === 0) continue;
      found.push({
        site: view.getUint32(key + Key.site, true),
        map: this.#arrays.get(view.getUint32(key + Key.map, true)),
        index: view.getUint32(key + Key.index, true),
        cause: CAUSES[view.getUint32(key + Key.cause, true)]!,
        count,
      });
    }
    for (const [site, { maps }] of tailCalls.entries()) {
      for (const [number, cause] of CAUSES.entries()) {
        const count = Number(take((this.#record(site) + Record.overflow) / 8 + number));
        found.push({ site, map: maps.length === 1 ? maps[0] : undefined, index: undefined, cause, count });
      }
    }
    return found
      .filter(({ count }) => count > 0)
      .sort((a, b) => a.site - b.site || b.count - a.count || (a.index ?? 2 ** 32) - (b.index ?? 2 ** 32))
      .map(({ site, ...miss }) => {
        const { insn } = tailCalls[site]!;
        return { insn, line: lineAt(this.#verified.program.lines, insn), ...miss };
      });
  }

  /**
   * This program's entries in the hash: offset of the key, and the word of the arena that holds the count. Read from the pool
   * of elements, in which none is given back while the program lives: unlike a walk by keys this needs no routine, so it
   * may be done at any time.
   */
  #entries(): { readonly key: number; readonly word: number }[] {
    const { view } = this.#arena;
    const hash = this.#arena.offset(this.#hash.address, HashLayout.size);
    const stride = view.getUint32(hash + MapHeader.stride, true);
    const valueOffset = view.getUint32(hash + HashLayout.valueOffset, true);
    const first = this.#arena.offset(view.getBigUint64(hash + MapHeader.values, true), stride);
    const used = view.getUint32(hash + HashLayout.used, true);
    const entries: { key: number; word: number }[] = [];
    for (let element = 0; element < used; element++) {
      const key = first + element * stride + HashElement.key;
      if (view.getUint32(key + Key.program, true) !== this.#program) continue;
      entries.push({ key, word: (first + element * stride + valueOffset) / 8 });
    }
    return entries;
  }
}
