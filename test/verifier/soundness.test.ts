/** Everything that is accepted and can be run is run once, each instruction's concrete state held against the verifier's. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  assemble,
  type Collection,
  type Program,
  type ProgramSpec,
  parseObject,
  programFromInstructions,
  SwitchyardError,
} from '../../src/index.ts';
import { type CorpusObject, corpusObjects } from '../corpus/compile.ts';
import { fewPackets, randomBytes } from '../corpus/packets.ts';
import { PACKET_BYTES, randomProgram, VALUE_BYTES } from '../corpus/random-programs.ts';
import { prepare, collection as tableCollection } from '../kernel-tables/compare.ts';
import { extractTables } from '../kernel-tables/extract.ts';
import { mapSpec } from '../runtime/build.ts';
import { timeLimit } from '../tools.ts';
import { CASES } from './cases.ts';
import { type Court, claimsOf, openCourt, type Precision, Unsound } from './soundness.ts';
import { MAPS, program } from './support.ts';

const PRECISIONS: readonly Precision[] = ['all', 'marked'];
/** Bytes. */
const MAX_CODE = 8000;
/** BPF_F_STRICT_ALIGNMENT */
const STRICT_ALIGNMENT = 1;
const RANDOM_PROGRAMS = Number(process.env.PROGRAMS ?? 100);

let court: Court;
beforeAll(() => {
  court = openCourt();
});
afterAll(() => court.runtime.dispose());

/** @returns whether it was run and every program watched, in both ways; false where it is refused or too large */
function trial(collection: Collection, packets: (program: Program) => readonly Uint8Array[], options = {}): boolean {
  let complete = true;
  for (const precision of PRECISIONS) {
    let object: ReturnType<typeof court.runtime.load>;
    try {
      object = court.runtime.load(collection, { ...options, keepDeadBranches: true });
    } catch (error) {
      if (error instanceof SwitchyardError) return false;
      throw error;
    }
    try {
      complete = court.try(object, collection.maps, precision, options) && complete;
      for (const each of object.programs.values())
        for (const packet of packets(each)) court.witness.watch(() => each.run(packet));
    } finally {
      object.dispose();
      court.witness.forget();
    }
  }
  return complete;
}

const one = (spec: ProgramSpec, maps: Collection['maps']): Collection => ({
  programs: new Map([[spec.name, spec]]),
  maps,
  license: spec.license,
  btf: spec.btf,
});

function packetsOf(seed: number): Uint8Array[] {
  const random = randomBytes(seed * 31 + 17);
  return [
    ...[0, 13].map(more => Uint8Array.from(random(PACKET_BYTES + more))),
    new Uint8Array(PACKET_BYTES),
    Uint8Array.from({ length: PACKET_BYTES }, (_, i) => (i & 7 ? 0xff : seed & 0x80)),
  ];
}

describe('the check can fail', () => {
  const LOOKUP = '*(u32 *)(r10 - 4) = 0\nr1 = map[array] ll\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto out\n';
  const maps = new Map([...MAPS].filter(([name]) => name === 'array'));
  /** Runs one program with the claims that were made of another. */
  const confuse = (type: 'xdp' | 'socket_filter', real: string, claimed: string, precision: Precision): void => {
    const object = court.runtime.load(one(program(type, real), maps));
    try {
      const { lowered } = object.program('test');
      court.witness.expect(lowered, claimsOf(program(type, claimed), maps, precision)!);
      court.witness.watch(() => object.program('test').run(new Uint8Array(64)));
    } finally {
      object.dispose();
      court.witness.forget();
    }
  };
  const PACKET = 'r2 = *(u32 *)(r1 + 0)\nr3 = *(u32 *)(r1 + 4)\n';
  const WRONG: Readonly<Record<string, readonly ['xdp' | 'socket_filter', string, string]>> = {
    'a number': ['socket_filter', 'r0 = 5\nexit', 'r0 = 6\nexit'],
    'a spilled number': [
      'socket_filter',
      'r1 = 5\n*(u64 *)(r10 - 8) = r1\ngoto a\na: r0 = *(u64 *)(r10 - 8)\nr0 = 0\nexit',
      'r1 = 6\n*(u64 *)(r10 - 8) = r1\ngoto a\na: r0 = *(u64 *)(r10 - 8)\nr0 = 0\nexit',
    ],
    'an offset into the stack': [
      'socket_filter',
      'r2 = r10\nr2 += -8\n*(u8 *)(r2 + 0) = 1\nr0 = 0\nexit',
      'r2 = r10\nr2 += -16\n*(u8 *)(r2 + 0) = 1\nr0 = 0\nexit',
    ],
    'an offset into a map value': [
      'socket_filter',
      `${LOOKUP}r0 += 4\nr1 = *(u8 *)(r0 + 0)\nout: r0 = 0\nexit`,
      `${LOOKUP}r0 += 5\nr1 = *(u8 *)(r0 + 0)\nout: r0 = 0\nexit`,
    ],
    'a packet range': [
      'xdp',
      `${PACKET}r4 = r2\nr4 += 64\nif r4 > r3 goto out\nr0 = *(u8 *)(r2 + 0)\nout: r0 = 0\nexit`,
      `${PACKET}r4 = r2\nr4 += 65\nif r4 > r3 goto out\nr0 = *(u8 *)(r2 + 0)\nout: r0 = 0\nexit`,
    ],
    'a kind': [
      'socket_filter',
      'r0 = 0\nr2 = r1\nr0 = *(u32 *)(r2 + 0)\nexit',
      'r0 = 0\nr2 = r10\nr0 = *(u32 *)(r2 - 8)\nexit',
    ],
  };
  test.each(Object.entries(WRONG))('%s', (_, [type, real, claimed]) => {
    expect(() => confuse(type, real, claimed, 'all')).toThrow(Unsound);
    expect(() => confuse(type, real, real, 'all')).not.toThrow();
  });
  test('numbers that a pruned path may change are left out, those that matter are not', () => {
    const decides = (n: number): string => `r2 = ${n}\ngoto a\na: if r2 > 9 goto b\nr0 = 1\nb: r0 = 0\nexit`;
    expect(() => confuse('socket_filter', decides(5), decides(6), 'marked')).toThrow(Unsound);
    const idle = (n: number): string => `r2 = ${n}\ngoto a\na: r0 = r2\nr0 = 0\nexit`;
    expect(() => confuse('socket_filter', idle(5), idle(6), 'marked')).not.toThrow();
  });
});

describe('with all numbers precise', () => {
  /** The paths differ in r4, which moves nothing; and in what was added to r3, which a number that is unlinked stands for. */
  const text = (added: number): string => `r7 = *(u32 *)(r1 + 0)
    r3 = *(u32 *)(r1 + 12)
    r2 = *(u32 *)(r1 + 8)
    r4 = 1
    if r2 > r7 goto add
    goto move
    add: r4 = r3
    w3 += ${added}
    r4 = 2
    move: r5 = r7
    r5 += r3
    r0 = r4
    exit`;
  test('a path on which a pointer moves too far is no fault of pruning', () => {
    const spec = program('xdp', text(-1415348814));
    expect(claimsOf(spec, MAPS, 'marked')).toBeDefined();
    expect(claimsOf(spec, MAPS, 'all')).toBeUndefined();
  });
  test('one on which it moves a little is watched', () => {
    expect(claimsOf(program('xdp', text(8)), MAPS, 'all')).toBeDefined();
  });
});

describe('accepted programs stay within what was claimed', () => {
  test('those of cases.txt', () => {
    let run = 0;
    for (const c of CASES) {
      const spec = program(c.type, c.text, { attachType: c.attachType, license: c.license });
      const used = new Map(
        [...MAPS].filter(([name]) => c.text.includes(`map[${name}]`) || c.text.includes(`map_value[${name}]`)),
      );
      if (trial(one(spec, used), () => [new Uint8Array(14), ...packetsOf(run)])) run++;
    }
    expect(run).toBeGreaterThan(100);
  });

  test(`${RANDOM_PROGRAMS} random ones`, () => {
    const maps = new Map([
      ['values', mapSpec({ name: 'values', type: 'array', valueSize: VALUE_BYTES, maxEntries: 2 })],
    ]);
    let run = 0;
    for (let seed = 1; seed <= RANDOM_PROGRAMS; seed++) {
      const spec = programFromInstructions({ name: 'random', type: 'xdp', insns: assemble(randomProgram(seed)) });
      if (trial(one(spec, maps), () => packetsOf(seed))) run++;
    }
    expect(run).toBeGreaterThan(RANDOM_PROGRAMS * 0.9);
  });
});

const { objects, compile, remove } = corpusObjects();
// One compiler: the others' programs are much the same.
const labels = [...new Set(objects.map(({ variant }) => variant.label))];
const corpus = objects.filter(({ variant }) => variant.label === labels.at(-1));

describe.skipIf(corpus.length === 0)('programs of the corpus', () => {
  beforeAll(() => compile(corpus), timeLimit(120_000));
  afterAll(remove);
  let watched = 0;
  const name = ({ source, variant }: CorpusObject): string => `${source}, ${variant.label}`;
  test.each(corpus.map(object => [name(object), object] as const))('%s', (_, object) => {
    const collection = parseObject(new Uint8Array(readFileSync(object.file)));
    if (trial(collection, () => fewPackets())) watched++;
  });
  test('nearly all of them were watched', () => expect(watched).toBeGreaterThan(corpus.length * 0.7));
});

const tables = extractTables() ?? [];
describe.skipIf(tables.length === 0)("the kernel's tables", () => {
  test('accepted programs', () => {
    let run = 0;
    for (const each of tables) {
      const subject = prepare(each);
      // Programs of tens of thousands of instructions are made to test the verifier's limits, not its numbers.
      if (!('code' in subject) || subject.runs.length === 0 || subject.code.length > MAX_CODE) continue;
      const options = { strictAlignment: (subject.loadFlags & STRICT_ALIGNMENT) !== 0 };
      let made: Collection;
      try {
        made = tableCollection(subject);
      } catch (error) {
        if (error instanceof SwitchyardError) continue;
        throw error;
      }
      if (trial(made, () => subject.runs.map(({ data }) => data), options)) run++;
    }
    expect(run).toBeGreaterThan(200);
  });
});
