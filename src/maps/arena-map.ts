/**
 * Arena map: memory that programs and TypeScript share, with pointers in it that both can follow.
 *
 * A program sees 64-bit pointers whose lower halves tell where in the arena they point; before an access it casts them
 * (addr_space_cast), and the access itself is confined to the arena by what lowering makes of it (lowering/passes/arena.ts).
 * Here such a pointer is the real address of the byte, so that no translation is needed. The kernel asks the same of
 * the addresses (kernel/bpf/arena.c): all of them share their upper 32 bits.
 *
 * All pages are there from the start and hold zeros, as after a loader that has touched each; the address that
 * `map_extra` asks for is not used, since the memory must lie where programs can reach it.
 */
import { MapHeader } from '../memory/layout.ts';
import type { MapSpec } from '../object/spec.ts';
import { Access, allocateMap, checkParts, type MapEnv, roundUp } from './env.ts';
import { type Errno, MapError } from './errors.ts';
import type { BpfMap } from './map.ts';

/** Bytes of a page: what `max_entries` counts. */
export const ARENA_PAGE = 4096;
/** Behind the last page: where reads (writes) beyond the arena go. Each as wide as the widest access. */
export const ARENA_READ_HOLE = 0;
export const ARENA_WRITE_HOLE = 8;
const HOLES = 16;

const HALF = 1n << 32n;

export class ArenaMap implements BpfMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly address: bigint;
  /** Address of the first byte, as pointers in the arena hold it. */
  readonly valuesAddress: bigint;
  readonly memoryUsage: number;
  readonly #env: MapEnv;
  readonly #offset: number;
  readonly #start: number;
  readonly #access: Access;

  constructor(spec: MapSpec, env: MapEnv) {
    checkParts(env);
    this.spec = spec;
    this.id = env.id;
    this.#env = env;
    this.#access = new Access(spec, env);
    const size = spec.maxEntries * ARENA_PAGE;
    this.memoryUsage = MapHeader.size + ARENA_PAGE + size + HOLES;
    this.#offset = this.#allocate(size);
    this.#start = this.#firstPage(this.#offset);
    this.address = env.arena.address(this.#offset);
    this.valuesAddress = env.arena.address(this.#start);
    env.arena.view.setBigUint64(this.#offset + MapHeader.values, this.valuesAddress, true);
    for (const entry of spec.contents) if ('value' in entry) env.arena.bytes.set(entry.value, this.#start);
  }

  /**
   * The memory itself: `max_entries` pages, shared with running programs. Offset 0 is what `valuesAddress` points to.
   * @throws MapError `disposed`; a view taken before dispose() must not be used after it.
   */
  get memory(): Uint8Array {
    this.#access.alive();
    return this.#env.arena.bytes.subarray(this.#start, this.#start + this.spec.maxEntries * ARENA_PAGE);
  }

  lookup(): never {
    return this.#refuse('EINVAL', 'looked up');
  }

  update(): never {
    return this.#refuse('EOPNOTSUPP', 'updated');
  }

  delete(): never {
    return this.#refuse('EOPNOTSUPP', 'deleted');
  }

  nextKey(): never {
    return this.#refuse('EOPNOTSUPP', 'listed');
  }

  /** None: an arena has no keys. */
  entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]> {
    this.#access.alive();
    return new Map<Uint8Array, Uint8Array>().entries();
  }

  /** @throws MapError `busy`: its memory is always mapped for writing, and the kernel freezes no map that is */
  freeze(): void {
    this.#access.alive();
    throw new MapError(
      'busy',
      'EBUSY',
      `map ${this.spec.name} is an arena, whose memory TypeScript may write: it can't be frozen`,
      {
        map: this.spec.name,
      },
    );
  }

  dispose(): void {
    if (this.#access.dispose()) this.#env.arena.free(this.#offset);
  }

  #firstPage(offset: number): number {
    const { arena } = this.#env;
    const after = arena.address(offset + MapHeader.size);
    return offset + MapHeader.size + ((ARENA_PAGE - Number(after % BigInt(ARENA_PAGE))) % ARENA_PAGE);
  }

  /** A block whose pages do not lie across a multiple of 4 GiB. */
  #allocate(size: number): number {
    const { arena } = this.#env;
    const crosses = (offset: number): boolean => {
      const first = arena.address(this.#firstPage(offset));
      return first / HALF !== (first + BigInt(size - 1)) / HALF;
    };
    const first = allocateMap(this.spec, this.#env, this.memoryUsage);
    if (!crosses(first)) return first;
    try {
      const second = allocateMap(this.spec, this.#env, this.memoryUsage);
      if (!crosses(second)) return second;
      arena.free(second);
    } finally {
      arena.free(first);
    }
    throw new MapError(
      'out_of_memory',
      'ENOMEM',
      `map ${this.spec.name} needs ${roundUp(size, ARENA_PAGE)} bytes that no multiple of 4 GiB divides, and there are none left`,
      { map: this.spec.name, size },
    );
  }

  #refuse(errno: Errno, what: string): never {
    this.#access.alive();
    throw new MapError(
      'invalid_operation',
      errno,
      `map ${this.spec.name} is an arena: it has no entries that could be ${what}; use its memory`,
      { map: this.spec.name, type: this.spec.type },
    );
  }
}
