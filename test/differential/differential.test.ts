/**
 * Random programs on the interpreter, this machine's compiler and emulated arm64 (with and without LSE): r0 and memory must
 * agree, and what the programs executed must include every instruction and every outcome of a tail call, many times.
 *
 * CI runs 100,000 cases. SWITCHYARD_DIFFERENTIAL=n runs n of them (below 1000 too few to count), SWITCHYARD_SEED=n starts at another place; a failure names its seed
 * (`runBatch(seed, 1)` runs it again).
 */
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { Instruction } from '../../src/isa/instruction.ts';
import { nativePlatform } from '../jit/computer.ts';
import { emulatorAvailable } from '../unicorn.ts';
import type { BatchResult } from './batch.ts';

const CASES = Number(process.env.SWITCHYARD_DIFFERENTIAL ?? (process.env.CI ? 100_000 : 2000));
const FIRST_SEED = Number(process.env.SWITCHYARD_SEED ?? 1);
/** Cases that share a process and an emulator. */
const BATCH = Math.min(5000, Math.ceil(CASES / availableParallelism()));
/** A name is executed at least once in this many cases. */
const RARITY = 50;

const run = promisify(execFile);

async function batch(first: number, count: number): Promise<BatchResult> {
  const main = join(import.meta.dirname, 'main.ts');
  const { stdout } = await run(process.execPath, ['--import', 'tsx', main, `${first}`, `${count}`], {
    maxBuffer: 1 << 26,
  });
  return JSON.parse(stdout);
}

function product(...lists: readonly (readonly (string | number)[])[]): string[] {
  return lists.reduce<string[]>((all, list) => all.flatMap(a => list.map(b => `${a} ${b}`.trim())), ['']);
}

const OPERANDS = ['imm', 'reg'];
const WIDTHS = [32, 64];
const SIZES = [1, 2, 4, 8];
/** Whether a backend meets instructions of a kind. A new kind needs a word here, and then in the generator. */
const KINDS: Readonly<Record<Instruction['kind'], 'executed' | 'marker' | 'lowered away'>> = {
  alu: 'executed',
  movsx: 'executed',
  byteswap: 'executed',
  loadImm64: 'executed',
  wide: 'marker',
  load: 'executed',
  store: 'executed',
  atomic: 'executed',
  jump: 'executed',
  goto: 'executed',
  callSubprogram: 'executed',
  callRoutine: 'executed',
  callService: 'executed',
  callIndirect: 'executed',
  exit: 'executed',
  tailCall: 'executed',
  runContext: 'executed',
  aluAddress: 'executed',
  loadFence: 'executed',
  addrSpaceCast: 'lowered away',
  packetLoad: 'lowered away',
  mayGoto: 'lowered away',
  callHelper: 'lowered away',
  callKfunc: 'lowered away',
};
/** Everything that a lowered program or a routine can be made of. */
const EXPECTED = [
  ...product('add sub mul div sdiv mod smod or and xor lsh rsh arsh mov'.split(' '), WIDTHS, OPERANDS),
  ...product(['neg'], WIDTHS),
  ...product(['movsx 32 from'], [8, 16]),
  ...product(['movsx 64 from'], [8, 16, 32]),
  ...product(['le', 'be', 'swap'], [16, 32, 64]),
  ...product(['load', 'storeRelease', 'loadAcquire'], SIZES),
  ...product(['load signed'], [1, 2, 4]),
  ...product(['store'], SIZES, OPERANDS),
  ...product(['load from', 'store to'], ['stack', 'memory']),
  ...product(['add', 'or', 'and', 'xor'], ['', 'fetch'], [4, 8]),
  ...product(['xchg', 'cmpxchg'], ['fetch'], [4, 8]),
  ...product(['jump'], 'eq ne gt ge lt le sgt sge slt sle set'.split(' '), WIDTHS, OPERANDS),
  ...['jump back', 'goto', 'gotol', 'goto back'],
  ...['loadImm64', 'loadImm64 mapAddress', 'loadImm64 function'],
  ...product(['aluAddress'], ['add', 'sub'], WIDTHS),
  ...product(['tail call'], ['direct', 'static', 'dynamic'], ['taken', 'taken in a subprogram', 'empty', 'limit']),
  ...product(['tail call'], ['static', 'dynamic'], ['range']),
];

test(`${CASES} random cases`, { timeout: 3_600_000 }, async () => {
  const starts = Array.from({ length: Math.ceil(CASES / BATCH) }, (_, i) => i * BATCH);
  const done: BatchResult[] = [];
  const worker = async (): Promise<void> => {
    for (let start = starts.shift(); start !== undefined; start = starts.shift()) {
      const result = await batch(FIRST_SEED + start, Math.min(BATCH, CASES - start));
      expect(result.failure).toBeUndefined();
      done.push(result);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));

  expect(done.reduce((sum, { programs }) => sum + programs, 0)).toBe(CASES);
  for (const { platforms, programs, results } of done) {
    expect(platforms).toEqual([
      ...(nativePlatform.available ? [nativePlatform.name] : []),
      ...(emulatorAvailable ? ['arm64, emulated, lse', 'arm64, emulated, exclusive'] : []),
    ]);
    // The programs do something.
    expect(results).toBeGreaterThan(programs / 2);
  }
  const executed = new Map<string, number>();
  for (const result of done) {
    for (const [name, count] of Object.entries(result.executed)) executed.set(name, (executed.get(name) ?? 0) + count);
  }
  if (CASES < 1000) return;
  const kinds = Object.keys(KINDS).filter(kind => KINDS[kind as Instruction['kind']] === 'executed');
  expect(kinds.filter(kind => !executed.has(`kind ${kind}`))).toEqual([]);
  for (const kind of kinds) executed.delete(`kind ${kind}`);
  expect([...executed.keys()].sort()).toEqual([...EXPECTED].sort());
  const rare = EXPECTED.filter(name => executed.get(name)! < CASES / RARITY);
  expect(rare).toEqual([]);
});
