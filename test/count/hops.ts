/**
 * What a tail call costs, counted: instructions, and those among them that read or write memory, from the tail-call entry
 * of one program to that of the next, in the code that the compilers really make, run on emulated processors. The
 * programs of a chain keep their context in a callee-saved register, as programs with anything to do must, and use no
 * stack. One hop is the difference between chains of different length, divided by it.
 */

import type { TailCallMode } from '../../src/jit/shared/code.ts';
import { chooseTailCalls, type TailCallOverrides } from '../../src/jit/shared/tail-call-choices.ts';
import { x64Machine } from '../../src/jit/x64/machine.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { Computer } from '../jit/computer.ts';
import type { Processor } from '../jit/processor.ts';
import { TestProgArray } from '../jit/prog-array.ts';
import { lowered } from '../jit/support.ts';
import { Arm64Processor } from '../jit-arm64/emulator.ts';
import { Arch, Engine, Mode } from '../unicorn.ts';

const ARCHS = ['x64', 'arm64'] as const;
const SITES = ['direct', 'static', 'dynamic'] as const;
/** Modes, and 'fast' as it is with a choice other than its own. */
const MODES = ['baseline', 'cached', 'fast', 'fast, slots tested', 'fast, index proved'] as const;

export interface HopCount {
  readonly arch: (typeof ARCHS)[number];
  readonly site: (typeof SITES)[number];
  readonly mode: (typeof MODES)[number];
  readonly instructions: number;
  /** Instructions that read memory, and that write it; one that does both counts twice. */
  readonly loads: number;
  readonly stores: number;
}

// x86.h
const RSP = 44;
const RIP = 41;
const GATE = 0x10000n;
const STACK = 0x100000n;
const STACK_BYTES = 1 << 16;

/** x86-64 under emulation, on any host. Calls no host functions. */
class EmulatedX64 implements Processor {
  readonly machine = x64Machine;
  readonly engine = new Engine(Arch.x86, Mode.x64);

  constructor() {
    this.engine.map(GATE, 4096);
    this.engine.map(STACK, STACK_BYTES);
  }
  map(address: bigint, bytes: number): void {
    this.engine.mapHost(address, bytes);
  }
  entry(address: bigint): () => void {
    return () => {
      const stack = STACK + BigInt(STACK_BYTES - 64);
      this.engine.write(stack, BigUint64Array.of(GATE));
      this.engine.set(RSP, stack);
      this.engine.run(address, GATE, RIP);
    };
  }
  codeChanged(address: bigint, bytes: number): void {
    this.engine.dropTranslations(address, address + BigInt(bytes));
  }
  hostFunction(): bigint {
    throw new Error('not needed here');
  }
  close(): void {
    this.engine.close();
  }
}

const SHORT = 10;
const LONG = 30;
const SLOTS = 64;

function countSite(arch: HopCount['arch'], site: HopCount['site'], mode: HopCount['mode']): HopCount {
  const tailCallMode = mode.split(',')[0] as TailCallMode;
  const tailCallChoices: TailCallOverrides = mode === 'fast, slots tested' ? { emptySlots: 'test' } : {};
  const processor = arch === 'x64' ? new EmulatedX64() : new Arm64Processor('lse');
  const computer = new Computer({
    name: arch,
    machine: processor.machine,
    available: true,
    slowdown: 1,
    create: () => processor,
  });
  const { machine } = computer;
  const { emptySlots } = chooseTailCalls(machine.tailCallPresets, tailCallMode, tailCallChoices);
  const array = new TestProgArray(computer, SLOTS, emptySlots);
  const load = (text: string, key: number): { entry: bigint; offset: number } => {
    const program = lowered(text, {
      stackDepth: 0,
      indices: mode === 'fast, index proved' ? [{ max: SLOTS - 1, narrow: true }] : [],
      usedMaps: [{ name: 'jump_table', maxEntries: SLOTS }],
      pokeTable: [{ insn: 0, map: 0, key }],
    });
    const code = machine.compile(program, { kind: 'program', tailCallMode, tailCallChoices });
    const entry = computer.install(code, [array.address]);
    array.addSites(code, entry, [key]);
    return { entry, offset: code.tailCallPrologueOffset };
  };
  const imm = packTailCall({ usedMap: 0, dynamic: site === 'dynamic', poke: site === 'direct' ? 0 : undefined });
  const put = (slot: number, text: string, key: number): bigint => {
    const { entry, offset } = load(text, key);
    array.set(slot, entry, offset);
    return entry;
  };
  put(0, 'r6 = r1\nr0 = 42\nexit', 0);
  const entries = Array.from({ length: LONG }, (_, i) =>
    put(i + 1, `r6 = r1\nr2 = map_address[0] ll\nr3 = ${i}\ntail_call ${imm}\nr0 = r6\nexit`, i),
  );
  const count = { instructions: 0, loads: 0, stores: 0 };
  let loaded = false;
  let stored = false;
  processor.engine.observe({
    instruction() {
      count.instructions++;
      loaded = false;
      stored = false;
    },
    load() {
      if (!loaded) count.loads++;
      loaded = true;
    },
    store() {
      if (!stored) count.stores++;
      stored = true;
    },
  });
  const run = (hops: number): typeof count => {
    Object.assign(count, { instructions: 0, loads: 0, stores: 0 });
    if (computer.call(entries[hops - 1]!, 7n) !== 42n) throw new Error(`${arch} ${site} ${mode}: the chain was broken`);
    return { ...count };
  };
  const short = run(SHORT);
  const long = run(LONG);
  computer.close();
  const perHop = (of: keyof typeof count): number => (long[of] - short[of]) / (LONG - SHORT);
  return { arch, site, mode, instructions: perHop('instructions'), loads: perHop('loads'), stores: perHop('stores') };
}

export function countHops(): HopCount[] {
  return ARCHS.flatMap(arch =>
    SITES.flatMap(site =>
      // A direct site reads no slot; only a static one may rely on what was proved.
      MODES.filter(
        mode => !(site === 'direct' && mode.includes(',')) && !(site === 'dynamic' && mode.endsWith('proved')),
      ).map(mode => countSite(arch, site, mode)),
    ),
  );
}
