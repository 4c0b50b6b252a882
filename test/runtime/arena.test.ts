/** Arena maps: the same object on every backend and in the running kernel, with TypeScript as the other side. */
import { describe, expect, test } from 'vitest';
import { ArenaMap, type Collection } from '../../src/index.ts';
import { loadIntoKernel } from '../../src/kernel/load.ts';
import { clang, compile } from '../clang.ts';
import { kernelMissing } from '../kernel/support.ts';
import { PLATFORMS, withRuntime } from './build.ts';

/** What a side must offer; pointers are made from its own base address. */
interface Side {
  readonly memory: Uint8Array;
  readonly base: bigint;
  setHead(pointer: bigint): void;
  run(program: string): bigint;
}

const PACKET = new Uint8Array(64).fill(7);
/** Offsets in the arena: variables lie at its start, nodes in the second page. */
const NODES = 4096;

/** Runs everything on one side. @returns results, then the arena with pointers as offsets from its start */
function observe({ memory, base, setHead, run }: Side): { results: bigint[]; memory: Uint8Array } {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  // A list through the arena, last node first, with a hole between them.
  let next = 0n;
  for (let i = 0; i < 20; i++) {
    const at = NODES + i * 48;
    view.setBigUint64(at, next, true);
    view.setBigInt64(at + 8, BigInt(i * i), true);
    next = base + BigInt(at);
  }
  setHead(next);
  const results = ['list', 'wild', 'arithmetic', 'global', 'list', 'wild', 'arithmetic', 'global'].map(run);
  const bytes = memory.slice();
  const pointers = new DataView(bytes.buffer);
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const value = pointers.getBigUint64(at, true);
    if (value >= base && value < base + BigInt(bytes.length)) pointers.setBigUint64(at, value - base, true);
  }
  return { results, memory: bytes };
}

const little = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const ZERO = new Uint8Array(4);

function ours(object: Collection, options: (typeof PLATFORMS)[string]): Promise<ReturnType<typeof observe>> {
  return withRuntime(async runtime => {
    const loaded = await runtime.load(object, options);
    const arena = loaded.map('arena');
    if (!(arena instanceof ArenaMap)) throw new Error('not an arena');
    const result = observe({
      memory: arena.memory,
      base: arena.valuesAddress,
      setHead: pointer => loaded.map('.bss').update(ZERO, little(pointer)),
      run: name => loaded.program(name).run({ data: PACKET }).returnValue,
    });
    for (const program of loaded.programs.values())
      expect(program.code !== undefined).toBe(options.backend === 'native');
    return result;
  });
}

describe.skipIf(clang === undefined)('arena', () => {
  const arena =
    clang === undefined ? (undefined as never) : compile(new URL('arena.bpf.c', import.meta.url), { cpu: 'v4' });

  test.each(Object.keys(PLATFORMS).filter(name => name !== 'interpreter'))('interpreter and %s agree', async name => {
    const reference = await ours(arena, PLATFORMS.interpreter!);
    expect(await ours(arena, PLATFORMS[name]!)).toEqual(reference);
    expect(reference.results[0]).toBe(BigInt((5 + 2470) & 0xff));
  });

  test.skipIf(kernelMissing() !== undefined)('the running kernel agrees', async () => {
    const object = loadIntoKernel(arena);
    try {
      const theirs = object.map('arena');
      // A page that nobody has touched is not there: a program's writes to it would be lost.
      for (let page = 0; page < theirs.memory.length; page += 4096) theirs.memory[page + 4095] = 0;
      const kernel = observe({
        memory: theirs.memory,
        base: theirs.memoryAddress,
        setHead: pointer => object.map('.bss').update(ZERO, little(pointer)),
        run: name => BigInt(object.program(name).run({ data: PACKET }).returnValue),
      });
      expect(await ours(arena, PLATFORMS.interpreter!)).toEqual(kernel);
    } finally {
      object.dispose();
    }
  });
});
