/**
 * Programs that do one map operation many times, and the same without it: what an operation costs is the difference. They are
 * ordinary tc programs, for us and for the kernel. Keys are random (xorshift64, whose state lives in a map from run to run, so that
 * caches and branch predictors do not learn them), and the same for both. The next key waits for the result of an operation, so
 * that operations do not overlap: what is measured is how long one takes. Only lookups that nobody waits for, with constant keys for
 * one, are done several in a turn: what is measured is how many get done.
 */
import { assemble, type Collection, type MapSpec, type MapType, programFromInstructions } from '../src/index.ts';

/** Operations in a run. */
export const OPERATIONS = 64;
/** Where key and value are, below r10. The key is built in 64 bytes; shorter ones are their beginning. */
const KEY = 72;
const VALUE = 136;

export interface MapCase {
  /** As the issue names it. */
  readonly operation: string;
  readonly type: MapType;
  readonly keySize: number;
  /** In the map while it is measured. */
  readonly entries: number;
  /** Room in the map, where it is more. */
  readonly maxEntries?: number;
  readonly valueSize?: number;
  readonly flags?: number;
  /**
   * Assembler text. The map is `map[subject]`; r6 is random, r8 `entries` less one unless it is changed, r1-r5 are free, labels are
   * unique once `loop` is.
   */
  readonly body: string;
  /** Text after the key's first word was made in r1, from the random number; default: an index below `entries`. */
  readonly key?: string;
  /**
   * Keys that are written to the map beforehand. Those of arrays are there anyway, but memory that was never written is not: all of it may
   * be one page of zeros, or a large one.
   */
  readonly fill?: (index: number) => Uint8Array;
  /** How often `body` does the operation; default once. */
  readonly times?: number;
  /** The ring is emptied from time to time. */
  readonly ring?: boolean;
}

const call = (helper: number): string => `
  r1 = map[subject] ll
  r2 = r10
  r2 += -${KEY}
  call ${helper}`;

const value = (flags: number): string => `
  r3 = r10
  r3 += -${VALUE}
  r4 = ${flags}`;

/** Reads the value that was found, as every program would. */
const LOOKUP = `${call(1)}
  if r0 == 0 goto next
  r0 = *(u64 *)(r0 + 0)`;
const COUNT = `${call(1)}
  if r0 == 0 goto next
  r1 = *(u64 *)(r0 + 0)
  r1 += 1
  *(u64 *)(r0 + 0) = r1
  r0 = r1`;
const UPDATE = `
  r1 = map[subject] ll
  r2 = r10
  r2 += -${KEY}
  ${value(0)}
  call 2`;

const INDEX_32 = (entries: number): string => `
  r1 = r6
  r1 &= ${entries - 1}
  *(u32 *)(r10 - ${KEY}) = w1`;

/** The same to whoever only reads the program: the mask, in r8, comes from a map. */
const UNKNOWN_INDEX_32 = `
  r1 = r6
  r1 &= r8
  *(u32 *)(r10 - ${KEY}) = w1`;

/** Independent lookups in a turn, with keys that `key` stores. What they find is added up in r8. */
const BESIDE = 16;
const beside = (key: (i: number) => string, found: string): string =>
  Array.from({ length: BESIDE }, (_, i) => `${key(i)}${call(1)}\n  if r0 == 0 goto out${found}`).join('');
/** As compilers write `__u32 key = 7`. */
const constantKey = (i: number): string => `
  r1 = ${i}
  *(u32 *)(r10 - ${KEY}) = r1`;
const maskedKey =
  (entries: number) =>
  (i: number): string =>
    `
  r1 = r6
  r1 >>= ${3 * i}
  r1 &= ${entries - 1}
  *(u32 *)(r10 - ${KEY}) = r1`;
const ADD_UP = `
  r0 = *(u64 *)(r0 + 0)
  r8 += r0`;
const COUNT_UP = `
  r1 = *(u64 *)(r0 + 0)
  r1 += 1
  *(u64 *)(r0 + 0) = r1
  r0 = r1`;

const indexBytes = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);

function hashKey(keySize: number, mask: number, offset = 0): string {
  const stores = [0, ...(keySize > 8 ? [keySize - 8] : [])].map(at => `*(u64 *)(r10 - ${KEY - at}) = r1`);
  return `
  r1 = r6
  r1 &= ${mask}
  ${offset > 0 ? `r1 |= ${offset}` : ''}
  ${stores.join('\n  ')}`;
}

function hashBytes(keySize: number): (index: number) => Uint8Array {
  return index => {
    const words = new BigUint64Array(keySize / 8);
    words[0] = BigInt(index);
    words[words.length - 1] = BigInt(index);
    return new Uint8Array(words.buffer);
  };
}

/** Prefix lengths of the routes of the Internet, about: how many of a thousand. */
const LENGTHS: readonly (readonly [length: number, perMille: number])[] = [
  [24, 600],
  [22, 120],
  [23, 110],
  [21, 52],
  [20, 45],
  [19, 27],
  [18, 14],
  [16, 13],
  [17, 9],
  [32, 5],
  [14, 3],
  [12, 1],
  [8, 1],
];
const SPREAD = 0x9e3779b1;

/** The prefix of a route: its address is spread over the whole space, each once. */
function route(index: number): Uint8Array {
  const place = index % 1000;
  let below = 0;
  const [length = 24] = LENGTHS.find(([, perMille]) => place < (below += perMille)) ?? [];
  const address = (Math.imul(index, SPREAD) << 8) >>> 0;
  const key = new Uint8Array(8);
  const view = new DataView(key.buffer);
  view.setUint32(0, length, true);
  view.setUint32(4, length === 32 ? address : (address >>> (32 - length)) << (32 - length), false);
  return key;
}

/** An address below a route that is there: most lookups of a router find one. */
const lpmKey = (entries: number): string => `
  r1 = r6
  r1 >>= 20
  r1 &= ${entries - 1}
  r2 = ${SPREAD} ll
  r1 *= r2
  r1 <<= 8
  r2 = r6
  r2 &= 255
  r1 |= r2
  r1 = be32 r1
  *(u32 *)(r10 - ${KEY - 4}) = w1
  r1 = 32
  *(u32 *)(r10 - ${KEY}) = w1`;

export function mapCases(quick: boolean): MapCase[] {
  const sizes = quick ? [1 << 10, 1 << 16] : [1 << 10, 1 << 16, 1 << 20];
  const cases: MapCase[] = [];
  for (const entries of sizes) {
    const index = { keySize: 4, entries, fill: indexBytes, key: INDEX_32(entries) };
    cases.push({ operation: 'array lookup', type: 'array', ...index, body: LOOKUP });
    cases.push({
      operation: 'array lookup, unknown key',
      type: 'array',
      ...index,
      key: UNKNOWN_INDEX_32,
      body: LOOKUP,
    });
    cases.push({ operation: 'per-CPU', type: 'percpu_array', ...index, body: COUNT });
    cases.push({
      operation: 'per-CPU, unknown key',
      type: 'percpu_array',
      ...index,
      key: UNKNOWN_INDEX_32,
      body: COUNT,
    });
    if (entries === sizes[0]) {
      const many = { ...index, key: '', times: BESIDE };
      const lookup = { ...many, operation: 'array lookup, constant key', type: 'array' } as const;
      cases.push(
        { ...lookup, body: beside(constantKey, ADD_UP) },
        { ...lookup, operation: 'array lookup, independent', body: beside(maskedKey(entries), ADD_UP) },
        { ...lookup, operation: 'per-CPU, constant key', type: 'percpu_array', body: beside(constantKey, COUNT_UP) },
      );
    }
    for (const keySize of [8, 64]) {
      const hash = { keySize, entries, fill: hashBytes(keySize), key: hashKey(keySize, entries - 1) };
      const absent = hashKey(keySize, entries - 1, entries);
      cases.push(
        { operation: 'hash lookup', type: 'hash', ...hash, body: LOOKUP },
        { operation: 'update', type: 'hash', ...hash, body: UPDATE },
        {
          operation: 'insert + delete',
          type: 'hash',
          ...hash,
          maxEntries: entries + 64,
          key: absent,
          body: `${UPDATE}${call(3)}`,
        },
        { operation: 'per-CPU hash', type: 'percpu_hash', ...hash, body: COUNT },
        { operation: 'LRU', type: 'lru_hash', ...hash, maxEntries: 2 * entries, body: LOOKUP },
        {
          operation: 'LRU update with eviction',
          type: 'lru_hash',
          ...hash,
          // Eight times as many keys as there is room for.
          key: hashKey(keySize, 8 * entries - 1),
          body: UPDATE,
        },
      );
    }
    const lpm = { keySize: 8, entries, fill: route, flags: 1, key: lpmKey(entries) };
    cases.push({ operation: 'LPM', type: 'lpm_trie', ...lpm, body: LOOKUP });
  }
  const record = `
  r1 = map[subject] ll
  r2 = r10
  r2 += -${VALUE}
  r3 = 64
  r4 = 1
  call 130`;
  const ring = { keySize: 0, valueSize: 0, entries: 64 << 20, fill: undefined as never, key: hashKey(8, 1023) };
  cases.push({ operation: 'ring buffer output', type: 'ringbuf', ...ring, ring: true, body: record });
  return cases;
}

/** What is measured with the operation, and without. */
export function programsOf(measured: MapCase): Collection {
  const { type, keySize, valueSize = 8, entries, flags = 0 } = measured;
  const program = (name: string, body: string) => {
    const text = `
  r1 = 0
  ${Array.from({ length: 16 }, (_, word) => `*(u64 *)(r10 - ${VALUE - 8 * word}) = r1`).join('\n  ')}
  *(u64 *)(r10 - 8) = r1
  r1 = map[state] ll
  r2 = r10
  r2 += -8
  call 1
  if r0 == 0 goto out
  r9 = r0
  r6 = *(u64 *)(r9 + 0)
  r8 = *(u64 *)(r9 + 8)
  r7 = ${OPERATIONS}
loop:
  r1 = r6
  r1 <<= 13
  r6 ^= r1
  r1 = r6
  r1 >>= 7
  r6 ^= r1
  r1 = r6
  r1 <<= 17
  r6 ^= r1
  ${measured.key}
  ${body}
next:
  r0 &= 0
  r6 ^= r0
  r7 -= 1
  if r7 != 0 goto loop
  *(u64 *)(r9 + 0) = r6
out:
  r0 = 0
  exit`;
    return programFromInstructions({ name, type: 'sched_cls', insns: assemble(text) });
  };
  const maps: MapSpec[] = [
    { name: 'subject', type, keySize, valueSize, maxEntries: measured.maxEntries ?? entries, flags, contents: [] },
    {
      name: 'state',
      type: 'array',
      keySize: 4,
      valueSize: 16,
      maxEntries: 1,
      flags: 0,
      contents: [{ key: 0, value: new Uint8Array(BigUint64Array.of(0x2545f4914f6cdd1dn, BigInt(entries - 1)).buffer) }],
    },
  ];
  return {
    programs: new Map(
      [program('with', measured.body), program('without', 'r0 = r6')].map(spec => [spec.name, spec] as const),
    ),
    maps: new Map(maps.map(spec => [spec.name, spec])),
    license: 'GPL',
    btf: undefined,
  };
}
