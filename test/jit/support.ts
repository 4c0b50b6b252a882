/** Small `Lowered` programs for the tests. */
import { assemble } from '../../src/isa/assembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import type { Lowered, PokeDescriptor, TailCallIndex, UsedMap } from '../../src/lowering/lowered.ts';
import type { SubprogramFacts } from '../../src/verifier/facts.ts';

export interface ProgramOptions {
  readonly name?: string;
  readonly usedMaps?: readonly UsedMap[];
  readonly pokeTable?: readonly PokeDescriptor[];
  /** Stack of each function, default 512. */
  readonly stackDepth?: number;
  /** What was proved of the index of each tail call, in order. */
  readonly indices?: readonly TailCallIndex[];
  /** Start slots of functions used as callbacks. */
  readonly callbacks?: readonly number[];
}

/** Functions start where something calls or names them; tail calls are reachable where the call graph says so. */
export function lowered(code: string | readonly Instruction[], options: ProgramOptions = {}): Lowered {
  const insns = typeof code === 'string' ? assemble(code, { internal: true }) : code;
  const name = options.name ?? 'test';
  const starts = new Set([0]);
  const calls: [from: number, to: number][] = [];
  insns.forEach((insn, slot) => {
    if (insn.kind === 'callSubprogram') calls.push([slot, slot + 1 + insn.offset]);
    else if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') {
      starts.add(slot + 1 + insn.reference.offset);
    }
  });
  for (const [, to] of calls) starts.add(to);
  const sorted = [...starts].sort((a, b) => a - b);
  const functions = sorted.map((start, i) => ({ start, end: sorted[i + 1] ?? insns.length }));
  const reaches = (start: number, seen = new Set<number>()): boolean => {
    if (seen.has(start)) return false;
    seen.add(start);
    const { end } = functions.find(f => f.start === start)!;
    return (
      insns.slice(start, end).some(insn => insn.kind === 'tailCall') ||
      calls.some(([from, to]) => from >= start && from < end && reaches(to, seen))
    );
  };
  const subprograms = functions.map(
    ({ start, end }, index): SubprogramFacts => ({
      name: index === 0 ? name : `${name}_${index}`,
      start,
      end,
      stackDepth: options.stackDepth ?? 512,
      hasTailCall: insns.slice(start, end).some(insn => insn.kind === 'tailCall'),
      tailCallReachable: reaches(start),
      isCallback: options.callbacks?.includes(start) ?? false,
    }),
  );
  return {
    name,
    type: 'raw',
    insns,
    origin: Int32Array.from(insns, (_, slot) => slot),
    usedMaps: options.usedMaps ?? [],
    pokeTable: options.pokeTable ?? [],
    tailCallIndices: new Map(
      insns
        .flatMap((insn, slot) => (insn.kind === 'tailCall' ? [slot] : []))
        .flatMap((slot, i) => (options.indices?.[i] ? [[slot, options.indices[i]] as const] : [])),
    ),
    subprograms,
  };
}
