/** Assembly in, assembly out: what the tests of the passes are written in. */
import { assemble } from '../../src/isa/assembler.ts';
import { disassemble } from '../../src/isa/disassembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { type LowerOptions, lower } from '../../src/lowering/lower.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import type { MapSpec, MapType, ProgramType } from '../../src/object/spec.ts';
import type { Facts, SubprogramFacts, Verified } from '../../src/verifier/facts.ts';

export interface Setup extends Partial<Omit<Facts, 'contextOffset' | 'reachable'>> {
  readonly type?: ProgramType;
  /** Slots that no path reaches. */
  readonly dead?: readonly number[];
  /** Context accesses: offset in the uapi structure by slot. */
  readonly context?: Readonly<Record<number, number>>;
  readonly maps?: readonly MapSpec[];
  readonly options?: Partial<LowerOptions>;
}

export function map(name: string, type: MapType, maxEntries = 8, valueSize = 4): MapSpec {
  return { name, type, keySize: 4, valueSize, maxEntries, flags: 0, contents: [] };
}

function verified(insns: readonly Instruction[], setup: Setup = {}): Verified {
  const { type = 'xdp', dead = [], context = {}, maps = [], options: _, ...facts } = setup;
  const contextEntries = Object.entries(context).map(([slot, offset]) => [Number(slot), offset] as const);
  const reachable = new Uint8Array(insns.length).fill(1);
  for (const slot of dead) reachable[slot] = 0;
  return {
    program: {
      name: 'test',
      section: type,
      type,
      attachType: undefined,
      xdpFrags: false,
      insns,
      subprograms: [],
      lines: [],
      license: 'GPL',
      btf: undefined,
    },
    facts: {
      reachable,
      usedMaps: maps.map(m => m.name),
      memoryKind: new Map(contextEntries.map(([slot]) => [slot, 'context' as const])),
      contextOffset: new Map(contextEntries),
      tailCalls: [],
      helperCalls: [],
      subprograms: subprogramsOf(insns),
      stackDepth: 0,
      changesPacket: false,
      ...facts,
    },
    insnsProcessed: 0,
    statesExplored: 0,
    peakStates: 0,
    log: '',
  };
}

function subprogramsOf(insns: readonly Instruction[]): SubprogramFacts[] {
  const starts = new Set([0]);
  insns.forEach((insn, slot) => {
    if (insn.kind === 'callSubprogram') starts.add(slot + 1 + insn.offset);
    if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') starts.add(slot + 1 + insn.reference.offset);
  });
  const sorted = [...starts].sort((a, b) => a - b);
  return sorted.map((start, i) => ({
    name: `f${i}`,
    start,
    end: sorted[i + 1] ?? insns.length,
    stackDepth: 0,
    hasTailCall: false,
    tailCallReachable: false,
    isCallback: false,
  }));
}

/** Lowers assembly text with made-up facts. */
export function lowerText(text: string, setup: Setup = {}): Lowered {
  const insns = assemble(text);
  return lower(verified(insns, setup), {
    maps: new Map((setup.maps ?? []).map(m => [m.name, m])),
    helperRoutine: (helper, mapType) => `helper_${helper}${mapType === undefined ? '' : `_${mapType}`}`,
    ...setup.options,
  });
}

/** As text, each instruction on a line: a failing comparison is then readable. */
export function textOf(insns: readonly Instruction[]): string[] {
  return disassemble(insns).map(line => line.text);
}

/** The same text as `textOf` gives, for what a test wants. */
export function wanted(text: string): string[] {
  return textOf(assemble(text, { internal: true }));
}
