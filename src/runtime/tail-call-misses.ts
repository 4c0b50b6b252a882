/**
 * Tail calls that fell through, counted by call site, array, index and cause.
 *
 * Problem: a miss leaves no trace, and the hop that succeeds must not pay for finding it. An index may come from a packet, so
 * there can be 2^32 of them at each site.
 * Strategy: lowering puts a call of `tail_call_miss` where a failed call falls through (passes/count-misses.ts). The routine
 * finds the cause by looking at array and index once more. Where the verifier proved that few indices reach the site, each
 * has its own cells, per CPU, so that a miss that happens with every packet (a stage that may be left out) stays cheap. Other
 * sites count in a hash that all programs of a runtime share. Once that is full, what would be a new entry is counted without
 * its index, in the site's own record: no miss is lost.
 * Invariants: only the thread of a CPU writes its cells, so they are raised without atomics and never written by JS: `reset`
 * remembers what it took. Elsewhere counts are raised atomically, and `reset` exchanges them for zero; entries of the hash are
 * only removed when no run can be in their program any more, so a count that is being raised stays where it is.
 *
 * Hits, where they are asked for: each attempt counts as one in front of the call, and the miss takes it back.
 *
 * Cause: an index out of range is 'range'; else an empty slot is 'empty', whether or not the limit was reached too; else 'limit'.
 * That is the same on every backend, in whatever order it checks. A slot that is filled in the instant between the call
 * and its counting makes an 'empty' a 'limit'.
 */
import type { Routine } from '../isa/routine.ts';
import { MISS_RECORD_BYTES, TAIL_CALL_HIT, TAIL_CALL_MISS } from '../lowering/passes/count-misses.ts';
import { createMap } from '../maps/create.ts';
import { LINE, type MapEnv, roundUp } from '../maps/env.ts';
import { type BpfMap, UpdateFlag } from '../maps/map.ts';
import { MapFlag } from '../maps/uapi.ts';
import type { Arena } from '../memory/arena.ts';
import { HashElement, HashLayout, MapHeader, ProgArrayLayout, RunContext } from '../memory/layout.ts';
import type { LineInfo } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import { lineAt } from './stages.ts';

const CAUSES = ['range', 'empty', 'limit'] as const;
/** Why a tail call fell through: index out of range, slot empty, or too many tail calls in one run. */
export type TailCallMissCause = (typeof CAUSES)[number];

/** What is counted of a site, an array and an index. */
const COUNTERS = [...CAUSES, 'hit'] as const;
type Counter = (typeof COUNTERS)[number];
const HIT = COUNTERS.indexOf('hit');

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

/** Calls of one site that led to the program in the same slot. */
export type TailCallHit = Omit<TailCallMiss, 'cause'>;

/** Entries of all programs of a runtime. */
const MAX_ENTRIES = 1024;
/** A site has cells of its own if it has at most so many pairs of array and index, times CPUs. */
const MAX_CELLS = 640;

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
  /** u64 for each counter. */
  overflow: 32,
  /** u64: address of the first CPU's groups, of which there is one for each array and a last one with address 0. */
  groups: 64,
  /** u32: least index that has cells, number of indices; 0 where the site has none. */
  min: 72,
  span: 76,
  /** u32: bytes from group to group, and from CPU to CPU. */
  groupStride: 80,
  cpuStride: 84,
  /** u32: 1 where hits are counted too. */
  hits: 88,
} as const;

/** Cells of one array: its address, then for each index a u64 for each counter. */
const Group = { map: 0, cells: 8 } as const;
const CELL_BYTES = 8 * COUNTERS.length;

/** Below r10. */
const KEY_DEPTH = Key.size;
const ZERO_DEPTH = KEY_DEPTH + 8;

const LOOK_UP = `
  r1 = *(u64 *)(r6 + ${Record.counts})
  r2 = r10
  r2 += -${KEY_DEPTH}
  call routine hash_lookup
  if r0 != 0 goto count`;

/** Adds r4 to counter r0 of array r2 and index r3 (upper half zero) at the site of record r5, and returns. */
const COUNT = `
  r1 = *(u32 *)(r5 + ${Record.min})
  w3 -= w1
  r1 = *(u32 *)(r5 + ${Record.span})
  if r3 >= r1 goto hash
  ax = run_context
  ax = *(u32 *)(ax + ${RunContext.cpu})
  r1 = *(u32 *)(r5 + ${Record.cpuStride})
  ax *= r1
  r1 = *(u64 *)(r5 + ${Record.groups})
  r1 += ax
search:
  ax = *(u64 *)(r1 + ${Group.map})
  if ax == r2 goto found
  if ax == 0 goto hash
  ax = *(u32 *)(r5 + ${Record.groupStride})
  r1 += ax
  goto search
found:
  r3 *= ${CELL_BYTES}
  r0 <<= 3
  r1 += r3
  r1 += r0
  r0 = *(u64 *)(r1 + ${Group.cells})
  r0 += r4
  *(u64 *)(r1 + ${Group.cells}) = r0
  exit
hash:
  r1 = *(u32 *)(r5 + ${Record.min})
  w3 += w1
  r1 = r0
  call routine tail_call_count_in_hash
  exit`;

export const MISS_ROUTINES: readonly Routine[] = [
  {
    name: TAIL_CALL_MISS,
    text: `
  r4 = *(u64 *)(r5 + ${Record.map})
  if r4 == 0 goto known
  r2 = r4
  r3 = *(u32 *)(r5 + ${Record.index})
known:
  w3 = w3
  r0 = ${CAUSES.indexOf('range')}
  r4 = *(u32 *)(r2 + ${MapHeader.maxEntries})
  if r3 >= r4 goto caused
  r0 = ${CAUSES.indexOf('empty')}
  r4 = r3
  r4 <<= 3
  r4 += r2
  r4 = *(u64 *)(r4 + ${ProgArrayLayout.ptrs})
  if r4 == 0 goto caused
  r0 = ${CAUSES.indexOf('limit')}
caused:
  r1 = *(u32 *)(r5 + ${Record.hits})
  if r1 != 0 goto attempted
  r4 = 1
  ${COUNT}
attempted:
  r1 = r0
  call routine tail_call_miss_of_attempt
  exit
`,
  },
  {
    // r1 counter, r4 what is added to it, the rest as above.
    name: 'tail_call_count',
    text: `
  w3 = w3
  r0 = r1
  ${COUNT}`,
  },
  {
    // With counted hits: the attempt was no hit. r1 cause.
    name: 'tail_call_miss_of_attempt',
    text: `
  r6 = r1
  r7 = r2
  r8 = r3
  r9 = r5
  r1 = ${HIT}
  r4 = -1
  call routine tail_call_count
  r1 = r6
  r2 = r7
  r3 = r8
  r5 = r9
  r4 = 1
  call routine tail_call_count
  exit
`,
  },
  {
    // In front of the call: keeps its arguments, r1-r3.
    name: TAIL_CALL_HIT,
    text: `
  r6 = r1
  r7 = r2
  r8 = r3
  r4 = *(u64 *)(r5 + ${Record.map})
  if r4 == 0 goto known
  r2 = r4
  r3 = *(u32 *)(r5 + ${Record.index})
known:
  r1 = ${HIT}
  r4 = 1
  call routine tail_call_count
  r1 = r6
  r2 = r7
  r3 = r8
  exit
`,
  },
  {
    // As tail_call_count.
    name: 'tail_call_count_in_hash',
    text: `
  r6 = r5
  r7 = r1
  r8 = r4
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
  lock *(u64 *)(r0 + 0) += r8
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
  open(
    program: number,
    verified: Verified,
    arrays: ReadonlyMap<string, Pick<BpfMap, 'id' | 'address'>>,
    countHits: boolean,
  ): ProgramMisses {
    this.#hash ??= createMap(
      {
        name: 'tail call misses',
        type: 'hash',
        keySize: Key.size,
        valueSize: 8,
        maxEntries: MAX_ENTRIES,
        // All elements are in the pool, where #entries reads them.
        flags: MapFlag.noPrealloc,
        contents: [],
      },
      { ...this.#env, id: this.#nextId() },
    );
    const hash = this.#hash;
    const { tailCalls } = verified.facts;
    this.#users++;
    let records: BpfMap | undefined;
    try {
      records = createMap(
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
      const own = records;
      return new ProgramMisses(this.#env, program, verified, arrays, hash, own, countHits, () => {
        own.dispose();
        this.#close();
      });
    } catch (error) {
      records?.dispose();
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

/** Where calls of one site through one array with one index fall through for one cause. */
interface Cell {
  readonly site: number;
  readonly map: string;
  readonly index: number;
  readonly cause: Counter;
  /** From the first byte of the CPU's cells. */
  readonly offset: number;
  /** Count at the last reset. */
  taken: number;
}

type Row = Omit<TailCallMiss, 'cause'> & { readonly cause: Counter };

function isMiss(counter: Counter): counter is TailCallMissCause {
  return counter !== 'hit';
}

function isMissRow(row: Row): row is TailCallMiss {
  return isMiss(row.cause);
}

/** The misses of one program. */
export class ProgramMisses {
  /** What compiled code refers to as the last of its used maps. */
  readonly records: BpfMap;
  readonly #arena: Arena;
  readonly #cpus: number;
  readonly #program: number;
  readonly #verified: Verified;
  readonly #arrays: ReadonlyMap<number, string>;
  readonly #hash: BpfMap;
  readonly #onFree: () => void;
  readonly #cells: Cell[] = [];
  readonly #cellBlock: number | undefined;
  readonly #cellStride: number;

  constructor(
    { arena, cpus }: Omit<MapEnv, 'id'>,
    program: number,
    verified: Verified,
    arrays: ReadonlyMap<string, Pick<BpfMap, 'id' | 'address'>>,
    hash: BpfMap,
    records: BpfMap,
    countHits: boolean,
    onFree: () => void,
  ) {
    this.#arena = arena;
    this.#cpus = cpus;
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
      view.setUint32(record + Record.hits, countHits ? 1 : 0, true);
    }
    const plan = this.#planCells(cpus);
    this.#cellStride = roundUp(plan, LINE);
    if (plan === 0) return;
    const block = arena.allocate(cpus * this.#cellStride, LINE);
    arena.bytes.fill(0, block, block + cpus * this.#cellStride);
    this.#cellBlock = block;
    this.#layOutCells(block, cpus, arrays);
  }

  /** By site, then by count, most first. */
  read(): TailCallMiss[] {
    return this.#collect(word => Atomics.load(this.#arena.u64, word), false, isMiss).filter(isMissRow);
  }

  /** Starts anew from zero. A miss that is being counted meanwhile is in what this returns, or counts from now on. */
  reset(): TailCallMiss[] {
    return this.#collect(word => Atomics.exchange(this.#arena.u64, word, 0n), true, isMiss).filter(isMissRow);
  }

  /** In the same order. */
  hits(): TailCallHit[] {
    const rows = this.#collect(
      word => Atomics.load(this.#arena.u64, word),
      false,
      counter => counter === 'hit',
    );
    return rows.map(({ cause: _, ...hit }) => hit);
  }

  /** Nothing may run that counts here. */
  free(): void {
    if (this.#cellBlock !== undefined) this.#arena.free(this.#cellBlock);
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

  /** Bytes of the groups of the sites of which each possible index gets cells. */
  #planCells(cpus: number): number {
    let bytes = 0;
    for (const [site, { maps, indexMin, indexMax }] of this.#verified.facts.tailCalls.entries()) {
      const span = indexMax - indexMin + 1;
      if (maps.length * span * cpus > MAX_CELLS) continue;
      const groupStride = Group.cells + span * CELL_BYTES;
      const record = this.#record(site);
      const { view } = this.#arena;
      view.setUint32(record + Record.min, indexMin, true);
      view.setUint32(record + Record.span, span, true);
      view.setUint32(record + Record.groupStride, groupStride, true);
      for (const [number, map] of maps.entries()) {
        for (let index = indexMin; index <= indexMax; index++) {
          for (const [cause, name] of COUNTERS.entries()) {
            const offset = bytes + number * groupStride + Group.cells + (index - indexMin) * CELL_BYTES + cause * 8;
            this.#cells.push({ site, map, index, cause: name, offset, taken: 0 });
          }
        }
      }
      bytes += maps.length * groupStride + 8;
    }
    return bytes;
  }

  #layOutCells(block: number, cpus: number, arrays: ReadonlyMap<string, Pick<BpfMap, 'id' | 'address'>>): void {
    const { view } = this.#arena;
    let offset = 0;
    for (const [site, { maps }] of this.#verified.facts.tailCalls.entries()) {
      const record = this.#record(site);
      if (view.getUint32(record + Record.span, true) === 0) continue;
      view.setBigUint64(record + Record.groups, this.#arena.address(block + offset), true);
      view.setUint32(record + Record.cpuStride, this.#cellStride, true);
      for (const map of maps) {
        for (let cpu = 0; cpu < cpus; cpu++) {
          view.setBigUint64(block + cpu * this.#cellStride + offset + Group.map, arrays.get(map)!.address, true);
        }
        offset += view.getUint32(record + Record.groupStride, true);
      }
      offset += 8;
    }
  }

  /** Sum over the CPUs since the last reset. */
  #cell(cell: Cell, reset: boolean): number {
    let sum = 0;
    for (let cpu = 0; cpu < this.#cpus; cpu++) {
      sum += Number(this.#arena.u64[(this.#cellBlock! + cpu * this.#cellStride + cell.offset) / 8]!);
    }
    const count = sum - cell.taken;
    if (reset) cell.taken = sum;
    return count;
  }

  /** @param take reads the count at a word of the arena */
  #collect(take: (word: number) => bigint, reset: boolean, wanted: (counter: Counter) => boolean): Row[] {
    const { tailCalls } = this.#verified.facts;
    const found: (Omit<Row, 'insn' | 'line'> & { readonly site: number })[] = [];
    for (const cell of this.#cells) {
      const { site, map, index, cause } = cell;
      if (!wanted(cause)) continue;
      found.push({ site, map, index, cause, count: this.#cell(cell, reset) });
    }
    const { view } = this.#arena;
    for (const { key, word } of this.#entries()) {
      // First the count: once it is not zero the key is complete.
      if (Atomics.load(this.#arena.u64, word) === 0n) continue;
      const cause = COUNTERS[view.getUint32(key + Key.cause, true)]!;
      if (!wanted(cause)) continue;
      const count = Number(take(word));
      found.push({
        site: view.getUint32(key + Key.site, true),
        map: this.#arrays.get(view.getUint32(key + Key.map, true)),
        index: view.getUint32(key + Key.index, true),
        cause,
        count,
      });
    }
    for (const [site, { maps }] of tailCalls.entries()) {
      for (const [number, cause] of COUNTERS.entries()) {
        if (!wanted(cause)) continue;
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

/** Counts of the same site, array, index and cause on both sides of transactions (generations.ts), in the order of `read`. */
export function addCounts<T extends TailCallHit & { readonly cause?: TailCallMissCause }>(
  first: readonly T[],
  second: readonly T[],
): T[] {
  const sums = new Map<string, T>();
  for (const row of [...first, ...second]) {
    const key = `${row.insn} ${row.map} ${row.index} ${row.cause}`;
    sums.set(key, { ...row, count: row.count + (sums.get(key)?.count ?? 0) });
  }
  return [...sums.values()].sort(
    (a, b) => a.insn - b.insn || b.count - a.count || (a.index ?? 2 ** 32) - (b.index ?? 2 ** 32),
  );
}
