/** A program specification by hand: from assembled or decoded instructions instead of an object file. */
import { check } from '../arguments.ts';
import type { Instruction } from '../isa/instruction.ts';
import { anyInstructions } from './check.ts';
import { PROGRAM_TYPES, type ProgramSpec, type ProgramType, type SubprogramSpec } from './spec.ts';

export interface ProgramFromInstructions {
  readonly name: string;
  readonly type: ProgramType;
  readonly insns: readonly Instruction[];
  /** Default "GPL". */
  readonly license?: string;
  readonly attachType?: string;
}

const inputShape = check.record({
  name: check.string,
  type: check.oneOf(...PROGRAM_TYPES),
  insns: anyInstructions,
  license: check.optional(check.string),
  attachType: check.optional(check.string),
});

/** Subprograms start where a call or a function reference leads; all are static. */
export function programFromInstructions(input: ProgramFromInstructions): ProgramSpec {
  inputShape(input, 'input');
  const starts = new Set([0]);
  for (const [slot, insn] of input.insns.entries()) {
    if (insn.kind === 'callSubprogram') starts.add(slot + 1 + insn.offset);
    if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') starts.add(slot + 1 + insn.reference.offset);
  }
  const subprograms: SubprogramSpec[] = [...starts]
    .filter(start => start >= 0 && start < Math.max(1, input.insns.length))
    .sort((a, b) => a - b)
    .map(start => ({
      name: start === 0 ? input.name : `subprogram_${start}`,
      start,
      linkage: 'static',
      btfId: undefined,
    }));
  return {
    name: input.name,
    section: input.type,
    type: input.type,
    attachType: input.attachType,
    xdpFrags: false,
    insns: input.insns,
    subprograms,
    lines: [],
    license: input.license ?? 'GPL',
    btf: undefined,
  };
}
